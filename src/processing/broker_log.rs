//! The engine's log on the broker in this process.

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
};

use bytes::Bytes;
use riverlog_storage::{
    Append, Catalog, Change, EpochCheck, ReadError, Topic, WriteError, WriteSet, record::decode_all,
};
use tokio::runtime::Handle;

use super::{
    error::JobError,
    job::Job,
    log::{Commit, CommitDone, Ends, Fetched, JobLog, Log, LogError, PartitionId, Subscription, TopicInfo, Wake},
    processor::Processor,
    runtime::{JobHandle, spawn_on},
};
pub(super) use crate::broker::topics::job_state_topic;
use crate::broker::{Broker, BrokerError, BrokerOptions, append::build_batches, coordinator::JobOffset, topic_config};

/// Batches of a state log may be as large as a write set; the engine keeps them far smaller.
const STATE_MAX_MESSAGE_BYTES: usize = 64 << 20;
/// What a snapshot has replaced leaves the disk by whole segments. Those of the default size would keep a gigabyte of it.
const STATE_SEGMENT_BYTES: usize = 16 << 20;
/// How often a start is tried again when another instance of the job starts at the same moment.
const START_ATTEMPTS: usize = 8;

/// Runs a job on the broker in this process. To be called within a tokio runtime.
pub fn spawn<P: Processor>(broker: &Arc<Broker>, job: Job<P>) -> Result<JobHandle, JobError> {
    let runtime = Handle::try_current().map_err(|_| JobError::Failed {
        job: job.name().to_owned(),
        reason: "it must be started within a tokio runtime".into(),
    })?;
    let clock = broker.storage().clock();
    spawn_on(
        Arc::new(BrokerLog {
            broker: Arc::clone(broker),
            runtime,
        }),
        job,
        clock,
    )
}

/// See the [module](self). Its blocking calls must not be made on a thread of the runtime.
pub struct BrokerLog {
    broker: Arc<Broker>,
    runtime: Handle,
}

/// The name of the durable epoch that fences a job.
pub(super) fn epoch_name(job: &str) -> String {
    format!("job/{job}")
}

/// What the engine knows of a topic.
pub(super) fn topic_info(topic: &Topic, options: &BrokerOptions) -> TopicInfo {
    TopicInfo {
        name: topic.name.clone(),
        id: topic.id,
        partitions: topic.partitions.clone(),
        max_batch_bytes: topic_config::max_message_bytes(topic, options),
    }
}

/// An epoch as one write set, without its offsets.
pub(super) fn epoch_write_set(
    catalog: &Catalog,
    options: &BrokerOptions,
    commit: Commit,
) -> Result<WriteSet, LogError> {
    let mut write_set = WriteSet::default();
    write_set.epochs.push(EpochCheck {
        name: epoch_name(&commit.job),
        epoch: commit.log.incarnation,
    });
    let state = (commit.log.state, commit.state);
    for (log, records) in commit.outputs.into_iter().chain([state]) {
        let gone = || LogError::Unavailable("a topic that the job writes was deleted".into());
        let (topic, _) = catalog.log(log).ok_or_else(gone)?;
        let log_append_time = topic_config::log_append_time(topic);
        let max_bytes = topic_config::max_message_bytes(topic, options);
        let batches = build_batches(records, max_bytes).map_err(broker_error)?.into_iter();
        write_set.appends.extend(batches.map(|batches| Append {
            log,
            batches,
            log_append_time,
        }));
    }
    if let Some(offset) = commit.state_start {
        let log = commit.log.state;
        write_set.changes.push(Change::MoveLogStart { log, offset });
    }
    Ok(write_set)
}

/// The records below `to` of what a read from `from` gave.
pub(super) fn fetched(data: &Bytes, from: i64, to: i64, options: &BrokerOptions) -> Result<Fetched, LogError> {
    let decoded = decode_all(data, from, options.max_decompressed_bytes);
    let mut decoded = decoded.map_err(|error| LogError::Failed(format!("records at offset {from}: {error}")))?;
    decoded.records.retain(|record| record.offset < to);
    Ok(Fetched {
        records: decoded.records,
        next_offset: decoded.next_offset.min(to),
        bytes: data.len().max(decoded.decompressed_bytes),
    })
}

impl BrokerLog {
    fn info(&self, topic: &Topic) -> TopicInfo {
        topic_info(topic, self.broker.options())
    }
}

impl Log for BrokerLog {
    fn topic(&self, name: &str) -> Option<TopicInfo> {
        self.broker.catalog().topic(name).map(|topic| self.info(topic))
    }

    fn ensure_topic(
        &self,
        name: &str,
        partitions: Option<u32>,
        configs: &BTreeMap<String, String>,
    ) -> Result<TopicInfo, LogError> {
        if let Some(topic) = self.topic(name) {
            return Ok(topic);
        }
        let created = self
            .runtime
            .block_on(self.broker.create_topic(name, partitions, configs.clone(), false));
        match created {
            Ok(topic) => Ok(self.info(&topic)),
            // Somebody else was faster.
            Err(BrokerError::TopicExists(_)) => self
                .topic(name)
                .ok_or_else(|| LogError::Unavailable(format!("topic '{name}' comes and goes"))),
            Err(error) => Err(broker_error(error)),
        }
    }

    fn ends(&self, partitions: &[PartitionId]) -> Vec<Option<Ends>> {
        // Jobs read committed data. Without transactions by clients the high watermark is the last stable offset.
        let ends = self.broker.storage().all_ends(partitions);
        ends.into_iter()
            .map(|ends| {
                ends.map(|ends| Ends {
                    start: ends.start,
                    end: ends.high_watermark,
                })
            })
            .collect()
    }

    fn read(&self, partition: PartitionId, from: i64, to: i64, max_bytes: usize) -> Result<Fetched, LogError> {
        let read = self.broker.storage().read(partition, from, max_bytes);
        fetched(&read.map_err(read_error)?.data, from, to, self.broker.options())
            .map_err(|error| LogError::Failed(format!("log {partition}: {error}")))
    }

    fn start_job(&self, job: &str) -> Result<JobLog, LogError> {
        let configs = BTreeMap::from([
            ("retention.ms".to_owned(), "-1".to_owned()),
            ("retention.bytes".to_owned(), "-1".to_owned()),
            ("max.message.bytes".to_owned(), STATE_MAX_MESSAGE_BYTES.to_string()),
            ("segment.bytes".to_owned(), STATE_SEGMENT_BYTES.to_string()),
        ]);
        // From here on the group of this name is the job's: no client commits to it, joins it or deletes it.
        let state = self.ensure_topic(&job_state_topic(job), Some(1), &configs)?;
        let state = state.partitions.first().copied();
        let state = state.ok_or_else(|| LogError::Failed("the topic of the job's state has no partition".into()))?;
        let prepared = self.runtime.block_on(self.broker.groups().prepare_for_job(job));
        prepared.map_err(|error| LogError::Unavailable(error.to_string()))?;
        let name = epoch_name(job);
        for _ in 0..START_ATTEMPTS {
            let incarnation = self.broker.catalog().epoch(&name).unwrap_or(0) + 1;
            let change = Change::SetEpoch {
                name: name.clone(),
                epoch: incarnation,
            };
            let write_set = WriteSet {
                changes: vec![change],
                ..WriteSet::default()
            };
            match self.broker.storage().submit_wait(write_set) {
                Ok(_) => return Ok(JobLog { state, incarnation }),
                // Another instance starts too. Whoever comes last has the job.
                Err(WriteError::StaleEpoch { .. }) => {}
                Err(error) => return Err(write_error(error)),
            }
        }
        Err(LogError::Fenced(format!(
            "{START_ATTEMPTS} other instances started at the same time"
        )))
    }

    fn commit(&self, commit: Commit, done: CommitDone) {
        let (group, offsets) = (commit.job.clone(), commit.offsets.clone());
        let write_set = match epoch_write_set(&self.broker.catalog(), self.broker.options(), commit) {
            Ok(write_set) => write_set,
            Err(error) => return done(Err(error)),
        };
        if offsets.is_empty() {
            let answer = move |result: Result<_, WriteError>| done(result.map(drop).map_err(write_error));
            return self.broker.storage().submit(write_set, answer);
        }
        let broker = Arc::clone(&self.broker);
        self.runtime.spawn(async move {
            let offsets: Vec<JobOffset> = offsets
                .into_iter()
                .map(|read| JobOffset {
                    topic: read.topic.into(),
                    topic_id: read.topic_id,
                    partition: i32::try_from(read.partition).unwrap_or(i32::MAX),
                    offset: read.offset,
                })
                .collect();
            // The coordinator adds the offsets to the write set, and serves them once it is published.
            let result = broker.groups().commit_in(&group, &offsets, write_set).await;
            done(result.map(drop).map_err(broker_error));
        });
    }

    fn subscribe(&self, partitions: &[PartitionId], wake: &Arc<Wake>) -> Subscription {
        let watch = self.broker.watch(partitions);
        let wake: Weak<Wake> = Arc::downgrade(wake);
        let forward = async move {
            loop {
                watch.changed().await;
                let Some(wake) = wake.upgrade() else { return };
                wake.notify();
            }
        };
        Box::new(AbortOnDrop(self.runtime.spawn(forward)))
    }
}

struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn broker_error(error: BrokerError) -> LogError {
    match error {
        BrokerError::Write(error) => write_error(error),
        error => LogError::Failed(error.to_string()),
    }
}

pub(super) fn write_error(error: WriteError) -> LogError {
    match &error {
        WriteError::StaleEpoch { .. } => LogError::Fenced(error.to_string()),
        // Space may be made, a partition repaired, a deleted output topic is created again by the next start.
        WriteError::NoSpace { .. } | WriteError::Fenced { .. } | WriteError::UnknownLog(_) => {
            LogError::Unavailable(error.to_string())
        }
        _ => LogError::Failed(error.to_string()),
    }
}

pub(super) fn read_error(error: ReadError) -> LogError {
    match &error {
        ReadError::Damaged { retriable: false, .. } => LogError::Failed(error.to_string()),
        // The range may have been deleted between planning and reading: the next start says so clearly.
        _ => LogError::Unavailable(error.to_string()),
    }
}
