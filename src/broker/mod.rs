//! The broker: topics, partitions and everything that a protocol handler may ask for. No sockets in here.
//!
//! - [`topics`]: names, creation, deletion, configs.
//! - [`append`]: writing batches and records. - [`offsets`]: finding offsets by time.
//! - [`watch`]: waiting for new data. - [`topic_config`]: the topic configs that exist.
//! - [`coordinator`]: consumer groups and their offsets. - [`broker_config`]: the broker's own settings.
//! - [`error`]: what can go wrong.

pub mod append;
pub mod broker_config;
mod commit_here;
pub mod coordinator;
pub mod error;
pub mod offsets;
mod producer_ids;
pub mod topic_config;
pub mod topics;
pub mod watch;

use std::sync::Arc;

use riverlog_storage::{Catalog, LogId, Receipt, Storage, WriteError, WriteSet};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

pub use append::PendingAppend;
pub use coordinator::{GroupCoordinator, GroupOptions};
pub use error::BrokerError;
/// Kafka's default partitioner. It is the client's, so that records sent and records written in-process land alike.
pub use riverlog_client::partitioner;
pub use watch::LogWatch;

use commit_here::CommitHere;
use producer_ids::ProducerIds;
use watch::Watchers;

/// What the operator decides about a broker. Sizes are in bytes.
#[derive(Clone, Debug)]
pub struct BrokerOptions {
    /// The node id told to clients.
    pub node_id: i32,
    /// Whether a Metadata request may create the topics it names.
    pub auto_create_topics: bool,
    /// Partitions of a topic whose creator does not say.
    pub default_partitions: u32,
    /// Accept replication factors above the broker count (there is one broker), instead of refusing them as Kafka does.
    pub lenient_replication_factor: bool,
    /// The default of the topic config `max.message.bytes`.
    pub max_message_bytes: usize,
    /// A batch that decompresses to more is refused.
    pub max_decompressed_bytes: usize,
    /// Partitions of `__consumer_offsets`.
    pub offsets_topic_partitions: u32,
    /// Partitions of all topics together.
    pub max_partitions: usize,
    /// What one Fetch response may hold, whatever the client asks for.
    pub max_fetch_bytes: usize,
    /// Consumer groups.
    pub groups: GroupOptions,
}

impl Default for BrokerOptions {
    fn default() -> Self {
        Self {
            node_id: 1,
            auto_create_topics: true,
            default_partitions: 1,
            lenient_replication_factor: false,
            max_message_bytes: 1024 * 1024 + 12,
            max_decompressed_bytes: 128 * 1024 * 1024,
            offsets_topic_partitions: 50,
            max_partitions: 100_000,
            max_fetch_bytes: 55 * 1024 * 1024,
            groups: GroupOptions::default(),
        }
    }
}

/// One broker on one data directory.
pub struct Broker {
    storage: Storage,
    options: BrokerOptions,
    watchers: Arc<Watchers>,
    producer_ids: ProducerIds,
    commit_here: Arc<CommitHere>,
    groups: GroupCoordinator,
    /// Where the next keyless records go, for topics with several partitions.
    next_partition: std::sync::atomic::AtomicU32,
}

impl Broker {
    /// Starts the broker on an opened storage.
    pub async fn open(storage: Storage, options: BrokerOptions) -> Result<Arc<Broker>, BrokerError> {
        let watchers = Arc::new(Watchers::default());
        let hook = Arc::clone(&watchers);
        storage.on_publish(move |published| {
            if published.catalog_changed {
                // A deleted topic's logs publish nothing any more; whoever waits for them must look again.
                hook.wake_all();
            } else {
                hook.wake(&published.logs);
            }
        });
        let groups = GroupCoordinator::open(storage.clone(), options.groups, options.offsets_topic_partitions).await?;
        Ok(Arc::new(Broker {
            groups,
            storage,
            options,
            watchers,
            producer_ids: ProducerIds::default(),
            commit_here: Arc::new(CommitHere::new(Handle::current())),
            next_partition: std::sync::atomic::AtomicU32::new(0),
        }))
    }

    /// The storage below.
    pub fn storage(&self) -> &Storage {
        &self.storage
    }

    /// The coordinator of consumer groups.
    pub fn groups(&self) -> &GroupCoordinator {
        &self.groups
    }

    /// The published catalog: an immutable snapshot.
    pub fn catalog(&self) -> Arc<Catalog> {
        self.storage.catalog()
    }

    /// What the operator decided.
    pub fn options(&self) -> &BrokerOptions {
        &self.options
    }

    /// Hands a write set to storage at once and returns a handle to wait for it. The order of calls is the order of sequencing.
    pub fn start_write(&self, write_set: WriteSet) -> PendingWrite {
        let (done, pending) = PendingWrite::new();
        self.storage.submit(write_set, done);
        pending
    }

    /// As [`Self::start_write`], for a small write set whose client sends nothing more until it is answered. If the disk is quick, it
    /// is committed on a thread of the runtime, which waits for the disk: at once if nobody else writes, nor did lately, and
    /// otherwise with what others have sent by then.
    pub fn start_write_here(&self, write_set: WriteSet) -> PendingWrite {
        let (done, pending) = PendingWrite::new();
        let (storage, here) = (&self.storage, &self.commit_here);
        let may_wait = here.may_wait(storage.last_sync());
        if may_wait && storage.is_quiet() {
            here.run(|| storage.submit_here(write_set, done));
        } else if !may_wait || !here.may_gather() {
            storage.submit(write_set, done);
        } else if storage.gather(write_set, done) {
            here.commit_soon(storage);
        }
        pending
    }

    /// Writes a write set and waits until it is durable and published.
    pub async fn write(&self, write_set: WriteSet) -> Result<Receipt, BrokerError> {
        self.start_write(write_set).wait().await
    }

    /// Watches logs. Create the watch, then read, then await the watch: nothing published in between is missed.
    pub fn watch(&self, logs: &[LogId]) -> LogWatch {
        self.watchers.watch(logs)
    }

    /// A producer id never given out before.
    pub async fn next_producer_id(&self) -> Result<i64, BrokerError> {
        self.producer_ids.next(self).await
    }
}

/// A submitted write set.
#[derive(Debug)]
pub struct PendingWrite(oneshot::Receiver<Result<Receipt, WriteError>>);

impl PendingWrite {
    /// What is to be called with the outcome, and who waits for that.
    fn new() -> (impl FnOnce(Result<Receipt, WriteError>) + Send + 'static, Self) {
        let (sender, receiver) = oneshot::channel();
        let done = move |outcome| {
            // The receiver may be gone: its client left. The write stands.
            let _ = sender.send(outcome);
        };
        (done, Self(receiver))
    }

    /// Waits until the write is durable and published, or refused.
    pub async fn wait(self) -> Result<Receipt, BrokerError> {
        match self.0.await {
            Ok(result) => result.map_err(BrokerError::Write),
            Err(_) => Err(BrokerError::Abandoned),
        }
    }
}
