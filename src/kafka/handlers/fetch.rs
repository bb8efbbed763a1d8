//! Fetch: whole batches from partitions, waiting for new ones if there are too few.
//!
//! Fetch sessions are refused by answering with session id 0, which every client understands: each request then names all
//! of its partitions. There are no transactions yet, so the last stable offset is the high watermark.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::{EpochEndOffset, FetchableTopicResponse, PartitionData};
use kafka_protocol::messages::{FetchRequest, FetchResponse};
use riverlog_storage::batch::BatchHeader;
use riverlog_storage::{LogEnds, LogId, ReadError, Topic};
use tokio::time::{Instant, timeout_at};

use super::Partition;
use crate::broker::{Broker, BrokerError, topic_config};
use crate::kafka::fetch_response::{InParts, TOPIC_IDS};
use crate::kafka::gate::Gate;
use crate::kafka::{Context, HandlerError};

const READ_COMMITTED: i8 = 1;
/// Nobody needs to wait longer without asking again.
const LONGEST_WAIT: Duration = Duration::from_secs(300);
/// A reader that wants more than there is looks again after this pause at the earliest, however often somebody writes.
const REREAD_PAUSE: Duration = Duration::from_millis(2);
/// Clients whose limit is smaller than the topic's by less than this (librdkafka's is, by 12 bytes) spare themselves a second
/// lookup in every partition.
const READ_IN_VAIN_BYTES: usize = 64 * 1024;

/// Reads; if that is less than the client's minimum, waits for more until its time is over.
pub(in crate::kafka) async fn handle(
    ctx: &Context,
    version: i16,
    request: FetchRequest,
) -> Result<InParts, HandlerError> {
    if request.session_id != 0 && request.session_epoch > 0 {
        let code = ResponseError::FetchSessionIdNotFound.code();
        return Ok(InParts(FetchResponse::default().with_error_code(code)));
    }
    let plan = Arc::new(Plan::new(ctx, version, &request));
    let wait = Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0)).min(LONGEST_WAIT);
    let deadline = Instant::now() + wait;
    let mut result = read(ctx, &plan).await?;
    if !plan.is_enough(&result) && !wait.is_zero() {
        let watch = ctx.broker.watch(&plan.logs());
        // While it waits, be it for memory, it holds nothing: others may need that, and what comes is read anew.
        drop(result);
        let mut is_last = false;
        loop {
            // At first because of what was published before there was a watch.
            result = read(ctx, &plan).await?;
            if is_last || plan.is_enough(&result) {
                break;
            }
            drop(result);
            ctx.hold_until_sent(None);
            is_last = tokio::select! {
                changed = timeout_at(deadline, watch.changed()) => changed.is_err(),
                () = ctx.token.requested() => true,
            };
            if !is_last && plan.min_bytes > 1 {
                tokio::time::sleep_until(deadline.min(Instant::now() + REREAD_PAUSE)).await;
            }
        }
    }
    ctx.gate.metrics().kafka.bytes_out.inc_by(result.bytes as u64);
    Ok(InParts(plan.answer(result)))
}

/// What the request asks for, resolved once.
struct Plan {
    topics: Vec<(FetchTopic, Vec<Wanted>)>,
    min_bytes: usize,
    max_bytes: usize,
    read_committed: bool,
}

/// One partition of the request.
struct Wanted {
    asked: FetchPartition,
    target: Result<(Arc<Topic>, LogId), ResponseError>,
}

/// What one pass over the partitions found.
#[derive(Default)]
struct Outcome {
    /// In the plan's order.
    partitions: Vec<Read>,
    bytes: usize,
    /// Something that the client should learn at once.
    urgent: bool,
}

enum Read {
    Data(LogEnds, Bytes),
    Diverged(LogEnds, (i32, i64)),
    Error(ResponseError, Option<(i64, i64)>),
}

impl Plan {
    fn new(ctx: &Context, version: i16, request: &FetchRequest) -> Self {
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
                ctx.broker.topic_by_id(topic.topic_id)
            } else {
                ctx.broker.topic(&topic.topic)
            };
            let found = found.map_err(|error| error.response_error())?;
            let partition = Partition::find(&ctx.broker, &found, partition.partition, partition.current_leader_epoch)?;
            Ok((found, partition.log))
        };
        // One that is named again is not read again.
        let mut named = HashSet::new();
        let mut wanted = |topic: &FetchTopic| -> Vec<Wanted> {
            let is_new = |asked: &&FetchPartition| named.insert((topic.topic.clone(), topic.topic_id, asked.partition));
            let of = |asked: &FetchPartition| Wanted {
                target: resolve(topic, asked),
                asked: asked.clone(),
            };
            topic.partitions.iter().filter(is_new).map(of).collect()
        };
        let max_bytes = usize::try_from(request.max_bytes)
            .unwrap_or(0)
            .min(ctx.broker.options().max_fetch_bytes);
        Self {
            topics: request
                .topics
                .iter()
                .map(|topic| (topic.clone(), wanted(topic)))
                .collect(),
            // More than the most that is given never comes.
            min_bytes: usize::try_from(request.min_bytes).unwrap_or(0).min(max_bytes),
            max_bytes,
            read_committed: request.isolation_level == READ_COMMITTED,
        }
    }

    fn partitions(&self) -> impl Iterator<Item = &Wanted> {
        self.topics.iter().flat_map(|(_, partitions)| partitions)
    }

    fn logs(&self) -> Vec<LogId> {
        self.partitions()
            .filter_map(|wanted| wanted.target.as_ref().ok())
            .map(|(_, log)| *log)
            .collect()
    }

    fn is_enough(&self, outcome: &Outcome) -> bool {
        outcome.urgent
            || outcome.bytes >= self.min_bytes
            || outcome.partitions.is_empty()
            || (outcome.bytes > 0 && self.readable_bytes(outcome) >= self.min_bytes)
    }

    /// What there is to read for the client within its limits. As in Kafka, that includes the part of a batch which a limit cuts off,
    /// though nothing of it is sent: to wait for more would be in vain. So it would be where memory was too short for more.
    fn readable_bytes(&self, outcome: &Outcome) -> usize {
        let of = |(wanted, read): (&Wanted, &Read)| match read {
            Read::Data(ends, records) if next_offset(wanted, records) < ends.high_watermark => {
                limit_of(&wanted.asked).max(records.len())
            }
            Read::Data(_, records) => records.len(),
            Read::Diverged(..) | Read::Error(..) => 0,
        };
        let readable = self.partitions().zip(&outcome.partitions).map(of);
        readable.fold(0, usize::saturating_add).min(self.max_bytes)
    }

    /// How much a pass may read at most, which is nothing while every position is at the end of its log.
    fn expected_bytes(&self, broker: &Broker) -> usize {
        let behind = |wanted: &&Wanted| {
            let Ok((_, log)) = &wanted.target else { return false };
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

    fn answer(&self, outcome: Outcome) -> FetchResponse {
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

/// One pass over all partitions, within the memory budget, on a thread that may block.
async fn read(ctx: &Context, plan: &Arc<Plan>) -> Result<Outcome, HandlerError> {
    let expected = plan.expected_bytes(&ctx.broker);
    if expected == 0 {
        // What is published in the meantime is for the next pass, which has memory and a turn.
        return Ok(read_all(&ctx.broker, &ctx.gate, plan, 0, false));
    }
    // That of an earlier pass is given back, like what it had read.
    ctx.hold_until_sent(None);
    let (mut room, mut permit) = ctx.gate.admit_part_of_response(expected).await;
    let is_short = room < expected;
    loop {
        let turn = ctx.gate.turn_to_read().await;
        let (broker, gate, task_plan) = (Arc::clone(&ctx.broker), Arc::clone(&ctx.gate), Arc::clone(plan));
        let reading = tokio::task::spawn_blocking(move || {
            // The turn and the memory are taken until it is done, also if its client is gone before that.
            let _turn = turn;
            (read_all(&broker, &gate, &task_plan, room, is_short), permit)
        });
        let (outcome, admitted) = reading
            .await
            .map_err(|error| HandlerError::Close(format!("the read ended early: {error}")))?;
        if outcome.bytes > room {
            // A first batch that is larger than its share: it is read when there is room for it.
            room = outcome.bytes;
            drop((outcome, admitted));
            permit = ctx.gate.admit_response(room).await;
            continue;
        }
        if let Some(mut permit) = admitted {
            // Only what was read is kept until it is sent.
            ctx.hold_until_sent(permit.split(outcome.bytes.div_ceil(1024).min(permit.num_permits())));
        }
        return Ok(outcome);
    }
}

/// Reads from all partitions, together no more than there is room for, but for a first batch that is larger. If memory is
/// short, that one is not read either; only its size is told. Without any room there are no batches.
fn read_all(broker: &Broker, gate: &Gate, plan: &Plan, room: usize, is_short: bool) -> Outcome {
    let mut outcome = Outcome::default();
    let max_bytes = plan.max_bytes.min(room);
    for wanted in plan.partitions() {
        if is_short && outcome.bytes == 0 {
            let first_bytes = first_batch_bytes(broker, wanted);
            if first_bytes > room {
                outcome.bytes = first_bytes;
                break;
            }
        }
        // The first batch is given even if it is larger than all limits, or its reader would never get past it.
        let rest = max_bytes.saturating_sub(outcome.bytes);
        let read = read_one(broker, gate, wanted, rest, room > 0 && outcome.bytes == 0);
        match &read {
            Read::Data(_, records) => outcome.bytes += records.len(),
            Read::Diverged(..) | Read::Error(..) => outcome.urgent = true,
        }
        outcome.partitions.push(read);
    }
    outcome
}

/// What the first batch to be read takes; zero if there is none, or it cannot be read.
fn first_batch_bytes(broker: &Broker, wanted: &Wanted) -> usize {
    let size = |log| broker.storage().batch_size(log, wanted.asked.fetch_offset).ok();
    wanted.target.as_ref().ok().and_then(|(_, log)| size(*log)).unwrap_or(0)
}

fn read_one(broker: &Broker, gate: &Gate, wanted: &Wanted, room: usize, at_least_one: bool) -> Read {
    let asked = &wanted.asked;
    let (topic, log) = match &wanted.target {
        Ok((topic, log)) => (topic, *log),
        Err(error) => return Read::Error(*error, None),
    };
    // Looked up again in every pass: a leader epoch or a deletion may have come in between.
    let ends = match Partition::find(broker, topic, asked.partition, asked.current_leader_epoch) {
        Ok(partition) => partition.ends,
        Err(error) => return Read::Error(error, None),
    };
    if !(ends.start..=ends.high_watermark).contains(&asked.fetch_offset) {
        return Read::Error(ResponseError::OffsetOutOfRange, Some((ends.start, ends.high_watermark)));
    }
    if asked.last_fetched_epoch >= 0 {
        match broker.storage().epoch_end(log, asked.last_fetched_epoch) {
            None => {
                return Read::Error(ResponseError::OffsetOutOfRange, Some((ends.start, ends.high_watermark)));
            }
            Some((epoch, end)) if epoch < asked.last_fetched_epoch || end < asked.fetch_offset => {
                return Read::Diverged(ends, (epoch, end));
            }
            Some(_) => {}
        }
    }
    let limit = limit_of(asked).min(room);
    // Storage gives one batch even if it is too large. What would not be sent shall not be read, unless it is read in vain so
    // rarely that asking each time costs more.
    let may_be_too_large = limit + READ_IN_VAIN_BYTES < topic_config::max_message_bytes(topic, broker.options());
    let is_too_large = !at_least_one && (limit == 0 || may_be_too_large && first_batch_bytes(broker, wanted) > limit);
    if asked.fetch_offset == ends.high_watermark || is_too_large {
        return Read::Data(ends, Bytes::new());
    }
    match broker
        .storage()
        .read_with(log, asked.fetch_offset, limit, gate.read_buffers())
    {
        Ok(fetched) => {
            let ends = LogEnds {
                start: fetched.log_start,
                high_watermark: fetched.high_watermark,
                ..ends
            };
            // Only the first of a response may be larger. (The topic's limit may have been lowered.)
            let fits = at_least_one || fetched.data.len() <= limit;
            Read::Data(ends, if fits { fetched.data } else { Bytes::new() })
        }
        Err(error) => failed(gate, log, error),
    }
}

fn failed(gate: &Gate, log: LogId, error: ReadError) -> Read {
    let range = match &error {
        ReadError::OffsetOutOfRange { start, end, .. } => Some((*start, *end)),
        ReadError::Io { .. } | ReadError::Damaged { retriable: true, .. } => {
            if let Some(count) = gate.one_more_failed_read() {
                tracing::warn!(log, %error, count, "a fetch failed");
            }
            None
        }
        // The storage tells of fences, and of damage that stays, when it finds them.
        ReadError::UnknownLog(_) | ReadError::Fenced { .. } | ReadError::Damaged { .. } => None,
    };
    Read::Error(BrokerError::Read(error).response_error(), range)
}

/// Behind what was read.
fn next_offset(wanted: &Wanted, records: &Bytes) -> i64 {
    let (mut next, mut rest) = (wanted.asked.fetch_offset, records.as_ref());
    while let Ok(header) = BatchHeader::parse(rest) {
        next = header.last_offset().saturating_add(1);
        rest = rest.get(header.size_bytes()..).unwrap_or_default();
    }
    next
}

fn limit_of(asked: &FetchPartition) -> usize {
    usize::try_from(asked.partition_max_bytes).unwrap_or(0)
}
