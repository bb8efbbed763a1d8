//! Reads partitions that the caller names, from offsets that the caller knows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::error::{ParseResponseErrorCode, ResponseError};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::{BrokerId, FetchRequest, FetchResponse};
use riverlog_storage::batch::BatchHeader;
use riverlog_storage::record::StoredRecord;
use tokio::task::JoinSet;
use tokio::time::Instant;
use uuid::Uuid;

use crate::client::{Client, Retry, topic_name};
use crate::error::Error;
use crate::record_set::{self, Aborted, Isolation};

/// How to read.
#[derive(Clone, Copy, Debug)]
pub struct ConsumerOptions {
    /// How long the broker may wait for records before it answers with none.
    pub max_wait: Duration,
    /// About as much is asked for at once.
    pub max_bytes: i32,
    /// Which records are seen.
    pub isolation: Isolation,
    /// How long failures that may pass are tried again before they are told.
    pub retry_timeout: Duration,
}

impl Default for ConsumerOptions {
    fn default() -> Self {
        Self {
            max_wait: Duration::from_millis(500),
            max_bytes: 8 * 1024 * 1024,
            isolation: Isolation::default(),
            retry_timeout: Duration::from_secs(30),
        }
    }
}

/// What one partition gave.
#[derive(Clone, Debug)]
pub struct FetchedRecords {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The records, in order of offset. May be empty although the position moved on.
    pub records: Vec<StoredRecord>,
    /// The headers of the batches that they came in.
    pub batches: Vec<BatchHeader>,
    /// Where this consumer goes on.
    pub next_offset: i64,
    /// The first offset that is not readable yet.
    pub end_offset: i64,
    /// Where the partition starts.
    pub log_start: i64,
}

/// A reader. Positions live here and nowhere else.
#[derive(Debug)]
pub struct Consumer {
    client: Client,
    channel: u32,
    options: ConsumerOptions,
    positions: BTreeMap<(String, i32), i64>,
    fetches: JoinSet<Fetched>,
    /// The nodes that have a fetch of ours at the moment, with the partitions that it asks for.
    asked: Vec<i32>,
    ready: Vec<FetchedRecords>,
    /// The incarnation of each topic that reading began with: another one has other records at the same offsets.
    began_with: BTreeMap<String, Uuid>,
    failing: Option<Failing>,
}

/// Failures, one behind the other.
#[derive(Debug)]
struct Failing {
    since: Instant,
    retry: Retry,
}

/// A topic that was there and that the brokers have not known for so long is not a broker that has only just started.
const GONE_AFTER: Duration = Duration::from_secs(2);

/// A partition, and the offset to read from.
type Asked = ((String, i32), i64);

#[derive(Debug)]
struct Fetched {
    node: i32,
    positions: Vec<Asked>,
    response: Result<FetchResponse, Error>,
}

impl Consumer {
    /// A reader of these partitions, from these offsets on.
    pub fn new(
        client: &Client,
        positions: impl IntoIterator<Item = ((String, i32), i64)>,
        options: ConsumerOptions,
    ) -> Self {
        Self {
            client: client.clone(),
            channel: client.new_channel(),
            options,
            positions: positions.into_iter().collect(),
            fetches: JoinSet::new(),
            asked: Vec::new(),
            ready: Vec::new(),
            began_with: BTreeMap::new(),
            failing: None,
        }
    }

    /// Where the next record of a partition is read.
    pub fn position(&self, topic: &str, partition: i32) -> Option<i64> {
        self.positions.get(&(topic.to_owned(), partition)).copied()
    }

    /// Stops reading a partition.
    pub fn remove(&mut self, topic: &str, partition: i32) {
        self.positions.remove(&(topic.to_owned(), partition));
    }

    /// The next records, or nothing if none came within the waiting time. Failures that may pass are
    /// tried again; a position outside of the log is told.
    pub async fn poll(&mut self) -> Result<Option<FetchedRecords>, Error> {
        loop {
            if let Some(records) = self.ready.pop() {
                // Removed, or moved, since it was asked for.
                let key = (records.topic.clone(), records.partition);
                if let Some(position) = self.positions.get_mut(&key) {
                    *position = records.next_offset;
                    return Ok(Some(records));
                }
                continue;
            }
            if self.positions.is_empty() {
                return Ok(None);
            }
            let outcome = match self.ask().await {
                Ok(()) => self.receive().await,
                Err(error) => Err(error),
            };
            match outcome {
                Ok(true) => self.failing = None,
                Ok(false) => {
                    self.failing = None;
                    return Ok(None);
                }
                Err(error) => {
                    for (topic, _) in self.positions.keys() {
                        self.client.forget_topic(topic);
                    }
                    if let Error::OffsetOutOfRange { topic, .. } = &error {
                        // Of another incarnation of the topic, perhaps.
                        self.check_topic(topic).await?;
                    }
                    let retry_timeout = self.options.retry_timeout;
                    let failing = self.failing.get_or_insert_with(|| Failing {
                        since: Instant::now(),
                        retry: Retry::new(retry_timeout),
                    });
                    failing.retry.pause(error).await?;
                }
            }
        }
    }

    /// Sends a fetch to every leader that has none of ours.
    async fn ask(&mut self) -> Result<(), Error> {
        let mut by_leader: BTreeMap<i32, Vec<Asked>> = BTreeMap::new();
        let topics: BTreeSet<String> = self.positions.keys().map(|(topic, _)| topic.clone()).collect();
        for topic in &topics {
            self.check_topic(topic).await?;
        }
        for ((topic, partition), position) in &self.positions {
            let leader = self.client.leader(topic, *partition).await?;
            if !self.asked.contains(&leader) {
                let asked = ((topic.clone(), *partition), *position);
                by_leader.entry(leader).or_default().push(asked);
            }
        }
        for (node, positions) in by_leader {
            let connection = self.client.connection(node, self.channel).await?;
            let request = self.request(&positions);
            let max_wait = self.options.max_wait;
            self.asked.push(node);
            self.fetches.spawn(async move {
                Fetched {
                    node,
                    positions,
                    response: connection.call(&request, max_wait).await,
                }
            });
        }
        Ok(())
    }

    /// Makes sure that the topic is the one that reading began with.
    async fn check_topic(&mut self, topic: &str) -> Result<(), Error> {
        let began_with = self.began_with.get(topic).copied();
        let failing_long = self.failing.as_ref().is_some_and(|f| f.since.elapsed() >= GONE_AFTER);
        let gone = |created_again| Error::TopicGone {
            topic: topic.to_owned(),
            created_again,
        };
        match (self.client.known_topic(topic).await, began_with) {
            (Ok(now), None) => {
                self.began_with.insert(topic.to_owned(), now.id);
                Ok(())
            }
            (Ok(now), Some(id)) if now.id != id => Err(gone(true)),
            (Ok(_), Some(_)) => Ok(()),
            (Err(error), Some(_)) if failing_long && error.code() == Some(ResponseError::UnknownTopicOrPartition) => {
                Err(gone(false))
            }
            (Err(error), _) => Err(error),
        }
    }

    fn request(&self, positions: &[Asked]) -> FetchRequest {
        let mut topics: Vec<FetchTopic> = Vec::new();
        for ((topic, partition), position) in positions {
            let at = FetchPartition::default()
                .with_partition(*partition)
                .with_current_leader_epoch(-1)
                .with_fetch_offset(*position)
                .with_last_fetched_epoch(-1)
                .with_log_start_offset(-1)
                .with_partition_max_bytes(self.options.max_bytes);
            match topics.last_mut().filter(|last| &*last.topic == topic.as_str()) {
                Some(last) => last.partitions.push(at),
                None => topics.push(
                    FetchTopic::default()
                        .with_topic(topic_name(topic))
                        .with_partitions(vec![at]),
                ),
            }
        }
        let max_wait_ms = self.options.max_wait.as_millis();
        FetchRequest::default()
            .with_replica_id(BrokerId(-1))
            .with_max_wait_ms(i32::try_from(max_wait_ms).unwrap_or(i32::MAX))
            .with_min_bytes(1)
            .with_max_bytes(self.options.max_bytes)
            .with_isolation_level(self.options.isolation as i8)
            .with_session_id(0)
            .with_session_epoch(-1)
            .with_topics(topics)
    }

    /// Takes one response; whether it moved anything.
    async fn receive(&mut self) -> Result<bool, Error> {
        let Some(joined) = self.fetches.join_next().await else {
            return Ok(false);
        };
        let fetched = joined.map_err(|e| Error::Invalid(format!("a fetch ended early: {e}")))?;
        self.asked.retain(|node| *node != fetched.node);
        let response = fetched.response?;
        if let Some(code) = response.error_code.err() {
            return Err(Error::refused("fetch", code, None));
        }
        // Decoding is work for a processor, not for the thread that drives the sockets.
        let positions: Arc<[_]> = fetched.positions.into();
        let decoded = tokio::task::spawn_blocking(move || decode_response(response, &positions));
        let decoded = decoded
            .await
            .map_err(|e| Error::Invalid(format!("decoding ended early: {e}")))?;
        let mut failure = None;
        let before = self.ready.len();
        for partition in decoded {
            match partition {
                Ok(Some(records)) => self.ready.push(records),
                Ok(None) => {}
                Err(error) => failure = Some(error),
            }
        }
        match failure {
            // What did arrive is given out first; the failed partition is asked for again.
            Some(error) if self.ready.len() == before => Err(error),
            _ => Ok(self.ready.len() > before),
        }
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.client.close_channel(self.channel);
    }
}

fn decode_response(response: FetchResponse, asked: &[Asked]) -> Vec<Result<Option<FetchedRecords>, Error>> {
    let mut decoded = Vec::new();
    for topic in response.responses {
        for data in topic.partitions {
            // Only what was asked for; nobody else's records.
            let wanted = asked
                .iter()
                .find(|((name, index), _)| name.as_str() == &**topic.topic && *index == data.partition_index);
            if let Some(((name, _), position)) = wanted {
                decoded.push(decode_partition(name, *position, data));
            }
        }
    }
    decoded
}

fn decode_partition(topic: &str, position: i64, data: PartitionData) -> Result<Option<FetchedRecords>, Error> {
    let partition = data.partition_index;
    let subject = format!("{topic}/{partition}");
    match data.error_code.err() {
        None => {}
        Some(ResponseError::OffsetOutOfRange) => {
            return Err(Error::OffsetOutOfRange {
                topic: topic.to_owned(),
                partition,
                offset: position,
                log_start: data.log_start_offset,
                end: data.high_watermark,
            });
        }
        Some(code @ (ResponseError::KafkaStorageError | ResponseError::CorruptMessage)) => {
            return Err(Error::Unreadable {
                topic: topic.to_owned(),
                partition,
                offset: position,
                code,
            });
        }
        Some(code) => return Err(Error::refused(subject, code, None)),
    }
    let aborted = data.aborted_transactions.unwrap_or_default();
    let aborted = aborted.into_iter().map(|transaction| Aborted {
        producer_id: transaction.producer_id.0,
        first_offset: transaction.first_offset,
    });
    let bytes: Bytes = data.records.unwrap_or_default();
    let decoded = record_set::decode(&subject, &bytes, position, aborted.collect())?;
    if decoded.next_offset == position {
        return Ok(None);
    }
    Ok(Some(FetchedRecords {
        topic: topic.to_owned(),
        partition,
        records: decoded.records,
        batches: decoded.batches,
        next_offset: decoded.next_offset,
        end_offset: data.last_stable_offset.max(0).min(data.high_watermark.max(0)),
        log_start: data.log_start_offset,
    }))
}
