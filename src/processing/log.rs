//! The one small trait between the engine and a log: read partitions, commit an epoch.
//!
//! [`BrokerLog`](super::BrokerLog) implements it on the broker in this process, [`MemoryLog`](super::testing::MemoryLog) in
//! memory for tests. An Apache Kafka cluster, with transactions for [`Log::commit`], can stand behind it too.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use parking_lot::{Condvar, Mutex};
use riverlog_storage::record::{Record, StoredRecord};
use uuid::Uuid;

/// One partition of one incarnation of a topic.
pub type PartitionId = u64;

/// A topic as the engine needs to know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicInfo {
    /// Its name.
    pub name: String,
    /// Its incarnation: a topic deleted and created again has another one.
    pub id: Uuid,
    /// Its partitions, by number.
    pub partitions: Vec<PartitionId>,
    /// A record whose batch would be larger than this is refused by the topic.
    pub max_batch_bytes: usize,
}

/// What of a partition can be read: from `start`, inclusive, to `end`, exclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// The first offset that is still there.
    pub start: i64,
    /// The end of what is committed.
    pub end: i64,
}

/// Records that were read.
#[derive(Clone, Debug, Default)]
pub struct Fetched {
    /// The records, by offset.
    pub records: Vec<StoredRecord>,
    /// Where to read on. May be past the last record, over offsets that hold none.
    pub next_offset: i64,
    /// How much was read: as stored, or in memory if that is more.
    pub bytes: usize,
}

/// The right to commit a job's epochs: later starts of the same job take it away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobLog {
    /// The partition that holds the job's state; nothing else is in it.
    pub state: PartitionId,
    /// Which start of the job this is.
    pub incarnation: u64,
}

/// Everything that one epoch changes: written all or not at all, and only by the job's current incarnation.
#[derive(Clone, Debug)]
pub struct Commit {
    /// The job, whose name is also its consumer group's.
    pub job: String,
    /// Who commits.
    pub log: JobLog,
    /// Output records by partition, in order.
    pub outputs: Vec<(PartitionId, Vec<Record>)>,
    /// How far the inputs are read. For the tools that show lag; the truth is in the state.
    pub offsets: Vec<Consumed>,
    /// Records for the state partition.
    pub state: Vec<Record>,
    /// State records before this offset are no longer needed.
    pub state_start: Option<i64>,
}

/// How far an input partition is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consumed {
    /// Its topic.
    pub topic: String,
    /// The topic's incarnation.
    pub topic_id: Uuid,
    /// Its number.
    pub partition: u32,
    /// Up to here, exclusive.
    pub offset: i64,
}

/// Called once, when the commit is durable or refused.
pub type CommitDone = Box<dyn FnOnce(Result<(), LogError>) + Send>;

/// Dropping it ends the subscription.
pub type Subscription = Box<dyn std::any::Any + Send>;

/// See the [module](self).
pub trait Log: Send + Sync + 'static {
    /// Looks a topic up.
    fn topic(&self, name: &str) -> Option<TopicInfo>;

    /// Looks a topic up, and creates it if it is not there. May block.
    fn ensure_topic(
        &self,
        name: &str,
        partitions: Option<u32>,
        configs: &BTreeMap<String, String>,
    ) -> Result<TopicInfo, LogError>;

    /// The ends of several partitions in one consistent view; `None` for those that do not exist any more.
    fn ends(&self, partitions: &[PartitionId]) -> Vec<Option<Ends>>;

    /// Reads about `max_bytes`, at least one batch, of the records in `from..to`.
    fn read(&self, partition: PartitionId, from: i64, to: i64, max_bytes: usize) -> Result<Fetched, LogError>;

    /// Makes the caller the only one who can commit for this job. Durable when it returns.
    fn start_job(&self, job: &str) -> Result<JobLog, LogError>;

    /// Commits. Must not block. The engine has one commit in flight and waits for its answer before the next.
    fn commit(&self, commit: Commit, done: CommitDone);

    /// Has `wake` notified whenever one of these partitions grows, until the subscription is dropped.
    fn subscribe(&self, partitions: &[PartitionId], wake: &Arc<Wake>) -> Subscription;
}

/// Why the log did not do it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// A later start of the same job has taken over.
    #[error("another instance of the job has taken over ({0})")]
    Fenced(String),
    /// It may work later: the disk is full, a partition is fenced for repair.
    #[error("{0}")]
    Unavailable(String),
    /// It will not work.
    #[error("{0}")]
    Failed(String),
}

/// A flag that a thread can wait for: something happened, look again.
#[derive(Debug, Default)]
pub struct Wake {
    happened: Mutex<bool>,
    changed: Condvar,
}

impl Wake {
    /// Something happened.
    pub fn notify(&self) {
        *self.happened.lock() = true;
        self.changed.notify_all();
    }

    /// Waits until something has happened since the last call, or the time is up.
    pub fn wait(&self, at_most: Option<Duration>) {
        let mut happened = self.happened.lock();
        if !*happened {
            match at_most {
                Some(at_most) => {
                    self.changed.wait_for(&mut happened, at_most);
                }
                None => self.changed.wait(&mut happened),
            }
        }
        *happened = false;
    }
}
