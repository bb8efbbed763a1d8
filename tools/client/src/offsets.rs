//! Which offset a partition has at its ends, or at a time.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::{BrokerId, ListOffsetsRequest};

use crate::admin::{check, first};
use crate::client::{Client, Target, topic_name};
use crate::error::Error;
use crate::record_set::Isolation;

/// A place in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetAt {
    /// The first record that is there.
    Earliest,
    /// Behind the last record.
    Latest,
    /// The first record at or after this time, in milliseconds since the Unix epoch.
    Time(i64),
    /// The record with the largest timestamp.
    MaxTimestamp,
}

impl OffsetAt {
    fn wire(self) -> i64 {
        match self {
            Self::Earliest => -2,
            Self::Latest => -1,
            Self::MaxTimestamp => -3,
            // Negative numbers have other meanings on the wire; no record is older than the epoch.
            Self::Time(ms) => ms.max(0),
        }
    }
}

/// What was found. For [`OffsetAt::Earliest`] and [`OffsetAt::Latest`] the timestamp is -1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoundOffset {
    /// The offset.
    pub offset: i64,
    /// The timestamp of the record there.
    pub timestamp_ms: i64,
}

impl Client {
    /// The offset at the place, or none if no record is that young.
    pub async fn offset(
        &self,
        topic: &str,
        partition: i32,
        at: OffsetAt,
        isolation: Isolation,
    ) -> Result<Option<FoundOffset>, Error> {
        let asked = ListOffsetsPartition::default()
            .with_partition_index(partition)
            .with_current_leader_epoch(-1)
            .with_timestamp(at.wire());
        let request = ListOffsetsRequest::default()
            .with_replica_id(BrokerId(-1))
            .with_isolation_level(isolation as i8)
            .with_topics(vec![
                ListOffsetsTopic::default()
                    .with_name(topic_name(topic))
                    .with_partitions(vec![asked]),
            ]);
        let subject = format!("{topic}/{partition}");
        let mut retry = self.retry();
        loop {
            let attempt = async {
                let leader = self.leader(topic, partition).await?;
                let response = self.call(Target::Node(leader), &request).await?;
                let found = first(first(response.topics, &subject)?.partitions, &subject)?;
                check(&subject, found.error_code, None)?;
                Ok(found)
            };
            match attempt.await {
                Ok(found) if found.offset < 0 => return Ok(None),
                Ok(found) => {
                    return Ok(Some(FoundOffset {
                        offset: found.offset,
                        timestamp_ms: found.timestamp,
                    }));
                }
                Err(error @ Error::Connect { .. }) if retry.is_first() => return Err(error),
                Err(error) => {
                    self.forget_topic(topic);
                    retry.pause(error).await?;
                }
            }
        }
    }

    /// The offset behind the last record of each partition that consumers may read.
    pub async fn ends(
        &self,
        partitions: impl IntoIterator<Item = (String, i32)>,
    ) -> Result<BTreeMap<(String, i32), i64>, Error> {
        let mut ends = BTreeMap::new();
        for key in partitions {
            if let Entry::Vacant(entry) = ends.entry(key) {
                let (topic, partition) = entry.key().clone();
                let end = self
                    .offset(&topic, partition, OffsetAt::Latest, Isolation::ReadCommitted)
                    .await?;
                entry.insert(end.map_or(0, |found| found.offset));
            }
        }
        Ok(ends)
    }
}
