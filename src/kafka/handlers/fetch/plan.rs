//! What a Fetch asks for, when it has enough of it, and how that is answered.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::{EpochEndOffset, FetchableTopicResponse, PartitionData};
use kafka_protocol::messages::{FetchRequest, FetchResponse};
use riverlog_storage::batch::BatchHeader;
use riverlog_storage::{LogEnds, LogId, Topic};

use super::super::Partition;
use crate::broker::Broker;
use crate::kafka::Context;
use crate::kafka::fetch_response::TOPIC_IDS;

const READ_COMMITTED: i8 = 1;

/// What the request asks for, resolved once.
pub(super) struct Plan {
    topics: Vec<(FetchTopic, Vec<Wanted>)>,
    pub(super) min_bytes: usize,
    pub(super) max_bytes: usize,
    read_committed: bool,
}

/// One partition of the request.
#[derive(Clone)]
pub(super) struct Wanted {
    pub(super) asked: FetchPartition,
    pub(super) target: Result<(Arc<Topic>, LogId), ResponseError>,
    /// The client has as much of it as it takes at once.
    pub(super) is_full: bool,
}

/// What one pass over the partitions found.
#[derive(Default)]
pub(super) struct Outcome {
    /// In the plan's order.
    pub(super) partitions: Vec<Read>,
    pub(super) bytes: usize,
    /// Something that the client should learn at once.
    pub(super) urgent: bool,
}

pub(super) enum Read {
    Data(LogEnds, Bytes),
    Diverged(LogEnds, (i32, i64)),
    Error(ResponseError, Option<(i64, i64)>),
}

impl Plan {
    pub(super) fn new(ctx: &Context, version: i16, request: &FetchRequest) -> Self {
        let replica = if version >= 15 {
            request.replica_state.replica_id
        } else {
            request.replica_id
        };
        let resolve = |topic: &FetchTopic, partition: &FetchPartition| {
            if replica.0 >= 0 {
                // There are no followers here that could fetch.
                return Err(ResponseError::InvalidRequest);
            }
            let found = if version >= TOPIC_IDS {
                ctx.session.broker.topic_by_id(topic.topic_id)
            } else {
                ctx.session.broker.topic(&topic.topic)
            };
            let found = found.map_err(|error| error.response_error())?;
            let partition = Partition::find(
                &ctx.session.broker,
                &found,
                partition.partition,
                partition.current_leader_epoch,
            )?;
            Ok((found, partition.log))
        };
        // One that is named again is not read again.
        let mut named = HashSet::new();
        let mut wanted = |topic: &FetchTopic| -> Vec<Wanted> {
            let is_new = |asked: &&FetchPartition| named.insert((topic.topic.clone(), topic.topic_id, asked.partition));
            let of = |asked: &FetchPartition| Wanted {
                target: resolve(topic, asked),
                asked: asked.clone(),
                is_full: false,
            };
            topic.partitions.iter().filter(is_new).map(of).collect()
        };
        let max_bytes = usize::try_from(request.max_bytes)
            .unwrap_or(0)
            .min(ctx.session.broker.options().max_fetch_bytes);
        Self {
            topics: request
                .topics
                .iter()
                .map(|topic| (topic.clone().with_partitions(Vec::new()), wanted(topic)))
                .collect(),
            // More than the most that is given never comes.
            min_bytes: usize::try_from(request.min_bytes).unwrap_or(0).min(max_bytes),
            max_bytes,
            read_committed: request.isolation_level == READ_COMMITTED,
        }
    }

    pub(super) fn partitions(&self) -> impl Iterator<Item = &Wanted> {
        self.topics.iter().flat_map(|(_, partitions)| partitions)
    }

    pub(super) fn logs(&self) -> Vec<LogId> {
        self.partitions()
            .filter_map(|wanted| wanted.target.as_ref().ok())
            .map(|(_, log)| *log)
            .collect()
    }

    /// True if it is what the client waits for, or if there will not be more for it however long it waits.
    pub(super) fn is_enough(&self, outcome: &Outcome) -> bool {
        outcome.urgent
            || outcome.bytes >= self.min_bytes
            || self.readable_bytes(outcome) >= self.min_bytes
            || self
                .with_reads(outcome)
                .all(|(wanted, read)| is_cut_off(outcome, wanted, read))
    }

    /// What there is to read for the client within its limits. As in Kafka, that includes the part of a batch which a limit cuts off,
    /// though nothing of it is sent: to wait for more would be in vain. So it would be where memory was too short for more.
    fn readable_bytes(&self, outcome: &Outcome) -> usize {
        let of = |(wanted, read): (&Wanted, &Read)| match is_cut_off(outcome, wanted, read) {
            true if !wanted.is_full => limit_of(&wanted.asked).max(read.bytes()),
            _ => read.bytes(),
        };
        self.with_reads(outcome)
            .map(of)
            .fold(0, usize::saturating_add)
            .min(self.max_bytes)
    }

    /// What is still missing, behind what was read: the same if that was nothing. It is only asked how much there is of it.
    pub(super) fn behind(self: &Arc<Self>, outcome: &Outcome) -> Arc<Self> {
        if outcome.bytes == 0 {
            return Arc::clone(self);
        }
        let readable_bytes = self.readable_bytes(outcome);
        let rest = |(wanted, read): (&Wanted, &Read)| {
            let mut rest = wanted.clone();
            rest.asked.fetch_offset = next_offset(wanted, read);
            let left_bytes = limit_of(&wanted.asked).saturating_sub(read.bytes());
            rest.asked.partition_max_bytes = i32::try_from(left_bytes).unwrap_or(i32::MAX);
            // Nothing that was read can diverge any more, and the client does not know the epoch of what comes.
            rest.asked.last_fetched_epoch = -1;
            rest.is_full = is_cut_off(outcome, wanted, read);
            rest
        };
        let mut reads = outcome.partitions.iter();
        let topics = self.topics.iter().map(|(topic, partitions)| {
            let partitions = partitions.iter().zip(reads.by_ref()).map(rest);
            (topic.clone(), partitions.collect())
        });
        Arc::new(Self {
            topics: topics.collect(),
            min_bytes: self.min_bytes.saturating_sub(readable_bytes),
            max_bytes: self.max_bytes.saturating_sub(readable_bytes),
            read_committed: self.read_committed,
        })
    }

    fn with_reads<'a>(&'a self, outcome: &'a Outcome) -> impl Iterator<Item = (&'a Wanted, &'a Read)> {
        self.partitions().zip(&outcome.partitions)
    }

    /// How much a pass may read at most, which is nothing while every position is at the end of its log.
    pub(super) fn expected_bytes(&self, broker: &Broker) -> usize {
        let behind = |wanted: &&Wanted| {
            let (Ok((_, log)), false) = (&wanted.target, wanted.is_full) else {
                return false;
            };
            broker
                .storage()
                .ends(*log)
                .is_some_and(|ends| ends.high_watermark != wanted.asked.fetch_offset)
        };
        let asked = self
            .partitions()
            .filter(behind)
            .map(|wanted| limit_of(&wanted.asked).max(1));
        asked.fold(0, usize::saturating_add).min(self.max_bytes.max(1))
    }

    pub(super) fn answer(&self, outcome: Outcome) -> FetchResponse {
        let mut reads = outcome.partitions.into_iter();
        let topics = self.topics.iter().map(|(topic, partitions)| {
            let partitions = partitions.iter().zip(reads.by_ref());
            FetchableTopicResponse::default()
                .with_topic(topic.topic.clone())
                .with_topic_id(topic.topic_id)
                .with_partitions(
                    partitions
                        .map(|(wanted, read)| self.answer_partition(wanted, read))
                        .collect(),
                )
        });
        FetchResponse::default().with_responses(topics.collect())
    }

    fn answer_partition(&self, wanted: &Wanted, read: Read) -> PartitionData {
        let mut answer = PartitionData::default()
            .with_partition_index(wanted.asked.partition)
            .with_high_watermark(-1)
            .with_records(Some(Bytes::new()))
            .with_aborted_transactions(None);
        let ends = match read {
            Read::Data(ends, records) => {
                answer.records = Some(records);
                ends
            }
            Read::Diverged(ends, (epoch, end_offset)) => {
                answer.diverging_epoch = EpochEndOffset::default().with_epoch(epoch).with_end_offset(end_offset);
                ends
            }
            Read::Error(error, range) => {
                // Where the log begins and ends helps a client that asked for an offset outside of it.
                let (start, end) = range.unwrap_or((-1, -1));
                return answer
                    .with_error_code(error.code())
                    .with_log_start_offset(start)
                    .with_high_watermark(end)
                    .with_last_stable_offset(end);
            }
        };
        answer
            .with_high_watermark(ends.high_watermark)
            .with_last_stable_offset(ends.high_watermark)
            .with_log_start_offset(ends.start)
            .with_aborted_transactions(self.read_committed.then(Vec::new))
    }
}

impl Read {
    fn bytes(&self) -> usize {
        match self {
            Self::Data(_, records) => records.len(),
            Self::Diverged(..) | Self::Error(..) => 0,
        }
    }
}

/// The client does not take more of it at once. (If nothing at all was read, there was not to be anything.)
fn is_cut_off(outcome: &Outcome, wanted: &Wanted, read: &Read) -> bool {
    let Read::Data(ends, records) = read else { return false };
    let is_more_there = next_offset(wanted, read) < ends.high_watermark;
    let is_limit_reached = records.len() >= limit_of(&wanted.asked);
    wanted.is_full || (outcome.bytes > 0 && (is_more_there || is_limit_reached))
}

/// Behind what was read.
fn next_offset(wanted: &Wanted, read: &Read) -> i64 {
    let mut next = wanted.asked.fetch_offset;
    let Read::Data(_, records) = read else { return next };
    let mut rest = records.as_ref();
    while let Ok(header) = BatchHeader::parse(rest) {
        next = header.last_offset().saturating_add(1);
        rest = rest.get(header.size_bytes()..).unwrap_or_default();
    }
    next
}

pub(super) fn limit_of(asked: &FetchPartition) -> usize {
    usize::try_from(asked.partition_max_bytes).unwrap_or(0)
}
