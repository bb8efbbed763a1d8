//! Writing to partitions: batches as clients sent them, and records of our own (HTTP, jobs, the command line).

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use riverlog_storage::batch::{BatchBuilder, BatchError, CheckedBatches};
use riverlog_storage::record::Record;
use riverlog_storage::{Append, Appended, Topic, WriteSet};

use super::partitioner::partition_for_key;
use super::topic_config;
use super::{Broker, BrokerError, PendingWrite};

/// Records of our own are put into batches of about this size; the client's batches stay as they are.
const BATCH_TARGET_BYTES: usize = 256 * 1024;

/// More than this takes longer to write than threads take to wake each other.
const SMALL_BYTES: usize = 16 * 1024;

/// Where a record landed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The partition.
    pub partition: u32,
    /// The offset in it.
    pub offset: i64,
}

/// An append that storage has sequenced or is about to.
#[derive(Debug)]
pub struct PendingAppend(PendingWrite);

impl PendingAppend {
    /// Waits until the batches are durable and published, or refused.
    pub async fn wait(self) -> Result<Appended, BrokerError> {
        let receipt = self.0.wait().await?;
        receipt.appends.into_iter().next().ok_or(BrokerError::Abandoned)
    }
}

impl Broker {
    /// Submits batches to one partition at once; the order of calls is the order in the log. If the client
    /// waits for the answer before it sends more, a small append is committed on a thread of the runtime: see [`Broker::start_write_here`].
    pub fn start_append(
        &self,
        topic: &Topic,
        partition: u32,
        batches: CheckedBatches,
        client_waits: bool,
    ) -> Result<PendingAppend, BrokerError> {
        let commit_here = client_waits && batches.size_bytes() <= SMALL_BYTES;
        let write_set = WriteSet {
            appends: vec![self.append_of(topic, partition, batches)?],
            ..WriteSet::default()
        };
        Ok(PendingAppend(match commit_here {
            true => self.start_write_here(write_set),
            false => self.start_write(write_set),
        }))
    }

    /// Appends batches to one partition and waits until they are durable and published.
    pub async fn append(
        &self,
        topic: &Topic,
        partition: u32,
        batches: CheckedBatches,
    ) -> Result<Appended, BrokerError> {
        let client_waits = false;
        self.start_append(topic, partition, batches, client_waits)?.wait().await
    }

    /// As [`Broker::publish`], with one choice of partition for all records.
    pub async fn append_records(
        &self,
        topic: &Topic,
        partition: Option<u32>,
        records: Vec<Record>,
    ) -> Result<Vec<Position>, BrokerError> {
        self.publish(topic, records.into_iter().map(|record| (partition, record)).collect())
            .await
    }

    /// Appends records of our own, each to the partition given or, without one, by its key as Kafka's default partitioner
    /// would; records without a key go together to one partition that changes from call to call.
    /// All in one write set: all or nothing. Answers with the place of each record, in the order given.
    pub async fn publish(
        &self,
        topic: &Topic,
        records: Vec<(Option<u32>, Record)>,
    ) -> Result<Vec<Position>, BrokerError> {
        let count = records.len();
        let mut groups = self.partition_records(topic, records);
        let mut write_set = WriteSet::default();
        let max_bytes = topic_config::max_message_bytes(topic, &self.options);
        for (partition, group) in &mut groups {
            for batch in build_batches(std::mem::take(&mut group.records), max_bytes)? {
                write_set.appends.push(self.append_of(topic, *partition, batch)?);
            }
        }
        if write_set.appends.is_empty() {
            return Ok(Vec::new());
        }
        let receipt = self.write(write_set).await?;
        let mut positions = Vec::with_capacity(count);
        let mut appended = receipt.appends.iter();
        for (partition, group) in &groups {
            let mut indexes = group.indexes.iter();
            while indexes.len() > 0 {
                let batch = appended.next().ok_or(BrokerError::Abandoned)?;
                for (offset, index) in (batch.first_offset..=batch.last_offset).zip(&mut indexes) {
                    positions.push((
                        *index,
                        Position {
                            partition: *partition,
                            offset,
                        },
                    ));
                }
            }
        }
        positions.sort_unstable_by_key(|(index, _)| *index);
        Ok(positions.into_iter().map(|(_, position)| position).collect())
    }

    fn append_of(&self, topic: &Topic, partition: u32, batches: CheckedBatches) -> Result<Append, BrokerError> {
        let log = super::topics::log_of(topic, i64::from(partition))?;
        Ok(Append {
            log,
            batches,
            log_append_time: topic_config::log_append_time(topic),
        })
    }

    fn partition_records(&self, topic: &Topic, records: Vec<(Option<u32>, Record)>) -> BTreeMap<u32, Group> {
        let count = u32::try_from(topic.partitions.len()).unwrap_or(u32::MAX).max(1);
        let keyless = self.next_partition.fetch_add(1, Ordering::Relaxed) % count;
        let mut groups: BTreeMap<u32, Group> = BTreeMap::new();
        for (index, (partition, record)) in records.into_iter().enumerate() {
            let by_key = || record.key.as_ref().map_or(keyless, |key| partition_for_key(key, count));
            let group = groups.entry(partition.unwrap_or_else(by_key)).or_default();
            group.indexes.push(index);
            group.records.push(record);
        }
        groups
    }
}

/// The records of one call that go to one partition, with their places in the call.
#[derive(Default)]
struct Group {
    indexes: Vec<usize>,
    records: Vec<Record>,
}

pub(crate) fn build_batches(records: Vec<Record>, max_bytes: usize) -> Result<Vec<CheckedBatches>, BrokerError> {
    let mut batches = Vec::new();
    let mut builder = BatchBuilder::new();
    let mut held = 0;
    for record in records {
        if held > 0 && builder.size_bytes() + record_bound(&record) > BATCH_TARGET_BYTES.min(max_bytes) {
            batches.push(std::mem::replace(&mut builder, BatchBuilder::new()).build()?);
            held = 0;
        }
        builder.push(record);
        held += 1;
    }
    if held > 0 {
        batches.push(builder.build()?);
    }
    match batches.iter().find(|batch| batch.size_bytes() > max_bytes) {
        Some(batch) => Err(BrokerError::Batch(BatchError::TooLarge {
            size_bytes: batch.size_bytes(),
            max_bytes,
        })),
        None => Ok(batches),
    }
}

/// What a record takes in a batch, at most.
fn record_bound(record: &Record) -> usize {
    const FIELDS: usize = 40;
    let headers: usize = record
        .headers
        .iter()
        .map(|(name, value)| name.len() + value.as_ref().map_or(0, |value| value.len()) + 10)
        .sum();
    FIELDS
        + record.key.as_ref().map_or(0, |key| key.len())
        + record.value.as_ref().map_or(0, |value| value.len())
        + headers
}
