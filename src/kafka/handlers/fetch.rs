//! Fetch: whole batches from partitions, waiting for new ones if there are too few.
//!
//! Fetch sessions are refused by answering with session id 0, which every client understands: each request then names all
//! of its partitions. There are no transactions yet, so the last stable offset is the high watermark.

mod plan;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::{FetchRequest, FetchResponse};
use riverlog_storage::{LogEnds, LogId, Reach, ReadError};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout_at};

use self::plan::{Outcome, Plan, Read, Wanted, limit_of};
use super::Partition;
use crate::broker::{Broker, BrokerError, topic_config};
use crate::kafka::fetch_response::InParts;
use crate::kafka::gate::Gate;
use crate::kafka::{Context, HandlerError};

/// Nobody needs to wait longer without asking again.
const LONGEST_WAIT: Duration = Duration::from_secs(300);
/// A reader that wants more than there is looks again after this pause at the earliest, however often somebody writes.
const REREAD_PAUSE: Duration = Duration::from_millis(2);
/// Clients whose limit is smaller than the topic's by less than this (librdkafka's is, by 12 bytes) spare themselves a second
/// lookup in every partition.
const READ_IN_VAIN_BYTES: usize = 64 * 1024;
/// So much is read here if it is in memory: by another thread it takes a fifth more CPU time, and connections that share this
/// one wait for some two milliseconds at most.
const HERE_BYTES: usize = 4 << 20;
/// Of so many partitions.
const HERE_PARTITIONS: usize = 64;

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
        let watch = ctx.session.broker.watch(&plan.logs());
        let mut rest = plan.behind(&result);
        // While it waits, be it for memory, it holds nothing: others may need that.
        drop(result);
        result = loop {
            // Only what is new: who waits for much must not cost more with all that comes. At first it is what was published
            // before there was a watch.
            let more = read(ctx, &rest).await?;
            if rest.is_enough(&more) {
                if Arc::ptr_eq(&rest, &plan) {
                    break more;
                }
                drop(more);
                break read(ctx, &plan).await?;
            }
            rest = rest.behind(&more);
            drop(more);
            ctx.hold_until_sent(None);
            let changed = tokio::select! {
                changed = timeout_at(deadline, watch.changed()) => changed.is_ok(),
                () = ctx.session.token.requested() => false,
            };
            if !changed || Instant::now() >= deadline {
                break read(ctx, &plan).await?;
            }
            if plan.min_bytes > 1 {
                tokio::time::sleep_until(deadline.min(Instant::now() + REREAD_PAUSE)).await;
            }
        };
    }
    ctx.session.gate.metrics().kafka.bytes_out.inc_by(result.bytes as u64);
    Ok(InParts(plan.answer(result)))
}

/// One pass over all partitions, within the memory budget: here, or on a thread that may block.
async fn read(ctx: &Context, plan: &Arc<Plan>) -> Result<Outcome, HandlerError> {
    let (broker, gate) = (&ctx.session.broker, &ctx.session.gate);
    let expected = plan.expected_bytes(broker);
    if expected == 0 {
        // What is published in the meantime is for the next pass, which has memory and a turn. So nothing is read.
        return Ok(read_all(broker, gate, plan, 0, false, Reach::PageCache).unwrap_or_default());
    }
    // That of an earlier pass is given back, like what it had read.
    ctx.hold_until_sent(None);
    let (mut room, mut permit) = gate.admit_part_of_response(expected).await;
    let is_short = room < expected;
    let are_few = plan.partitions().nth(HERE_PARTITIONS).is_none();
    let is_quick = room <= HERE_BYTES && are_few && !is_short;
    let mut here = is_quick.then(|| read_all(broker, gate, plan, room, false, Reach::PageCache));
    loop {
        let (outcome, admitted) = match here.take().flatten() {
            Some(outcome) => (outcome, permit),
            None => read_elsewhere(ctx, plan, room, is_short, permit).await?,
        };
        if outcome.bytes > room {
            // A first batch that is larger than its share: it is read when there is room for it.
            room = outcome.bytes;
            drop((outcome, admitted));
            permit = gate.admit_response(room).await;
            continue;
        }
        if let Some(mut permit) = admitted {
            // Only what was read is kept until it is sent.
            ctx.hold_until_sent(permit.split(outcome.bytes.div_ceil(1024).min(permit.num_permits())));
        }
        return Ok(outcome);
    }
}

/// Reads all on a thread that may block, when it is this request's turn.
async fn read_elsewhere(
    ctx: &Context,
    plan: &Arc<Plan>,
    room: usize,
    is_short: bool,
    permit: Option<OwnedSemaphorePermit>,
) -> Result<(Outcome, Option<OwnedSemaphorePermit>), HandlerError> {
    let turn = ctx.session.gate.turn_to_read().await;
    let (broker, gate) = (Arc::clone(&ctx.session.broker), Arc::clone(&ctx.session.gate));
    let plan = Arc::clone(plan);
    let reading = tokio::task::spawn_blocking(move || {
        // The turn and the memory are taken until it is done, also if its client is gone before that.
        let _turn = turn;
        let outcome = read_all(&broker, &gate, &plan, room, is_short, Reach::Disk);
        (outcome.unwrap_or_default(), permit)
    });
    let read = reading.await;
    read.map_err(|error| HandlerError::Close(format!("the read ended early: {error}")))
}

/// Reads from all partitions, together no more than there is room for, but for a first batch that is larger. If memory is
/// short, that one is not read either; only its size is told. Without any room there are no batches. None if it would have to
/// go further than it may.
fn read_all(broker: &Broker, gate: &Gate, plan: &Plan, room: usize, is_short: bool, reach: Reach) -> Option<Outcome> {
    let mut outcome = Outcome::default();
    let max_bytes = plan.max_bytes.min(room);
    for wanted in plan.partitions() {
        if is_short && outcome.bytes == 0 {
            let first_bytes = first_batch_bytes(broker, wanted, reach)?;
            if first_bytes > room {
                outcome.bytes = first_bytes;
                break;
            }
        }
        // The first batch is given even if it is larger than all limits, or its reader would never get past it.
        let rest = max_bytes.saturating_sub(outcome.bytes);
        let read = read_one(broker, gate, wanted, rest, room > 0 && outcome.bytes == 0, reach)?;
        match &read {
            Read::Data(_, records) => outcome.bytes += records.len(),
            Read::Diverged(..) | Read::Error(..) => outcome.urgent = true,
        }
        outcome.partitions.push(read);
    }
    Some(outcome)
}

/// What the first batch to be read takes; zero if there is none, or it cannot be read.
fn first_batch_bytes(broker: &Broker, wanted: &Wanted, reach: Reach) -> Option<usize> {
    let Ok((_, log)) = &wanted.target else { return Some(0) };
    match broker.storage().batch_size(*log, wanted.asked.fetch_offset, reach) {
        Err(error) if reach == Reach::PageCache && error.is_not_cached() => None,
        size => Some(size.unwrap_or(0)),
    }
}

fn read_one(
    broker: &Broker,
    gate: &Gate,
    wanted: &Wanted,
    room: usize,
    at_least_one: bool,
    reach: Reach,
) -> Option<Read> {
    let asked = &wanted.asked;
    let (topic, log) = match &wanted.target {
        Ok((topic, log)) => (topic, *log),
        Err(error) => return Some(Read::Error(*error, None)),
    };
    // Looked up again in every pass: a leader epoch or a deletion may have come in between.
    let ends = match Partition::find(broker, topic, asked.partition, asked.current_leader_epoch) {
        Ok(partition) => partition.ends,
        Err(error) => return Some(Read::Error(error, None)),
    };
    if !(ends.start..=ends.high_watermark).contains(&asked.fetch_offset) {
        return Some(Read::Error(
            ResponseError::OffsetOutOfRange,
            Some((ends.start, ends.high_watermark)),
        ));
    }
    if asked.last_fetched_epoch >= 0 {
        match broker.storage().epoch_end(log, asked.last_fetched_epoch) {
            None => {
                return Some(Read::Error(
                    ResponseError::OffsetOutOfRange,
                    Some((ends.start, ends.high_watermark)),
                ));
            }
            Some((epoch, end)) if epoch < asked.last_fetched_epoch || end < asked.fetch_offset => {
                return Some(Read::Diverged(ends, (epoch, end)));
            }
            Some(_) => {}
        }
    }
    let limit = limit_of(asked).min(room);
    // Storage gives one batch even if it is too large. What would not be sent shall not be read, unless it is read in vain so
    // rarely that asking each time costs more.
    let may_be_too_large = limit + READ_IN_VAIN_BYTES < topic_config::max_message_bytes(topic, broker.options());
    let is_too_large =
        !at_least_one && (limit == 0 || may_be_too_large && first_batch_bytes(broker, wanted, reach)? > limit);
    if asked.fetch_offset == ends.high_watermark || wanted.is_full || is_too_large {
        return Some(Read::Data(ends, Bytes::new()));
    }
    match broker
        .storage()
        .read_with(log, asked.fetch_offset, limit, gate.read_buffers(), reach)
    {
        Ok(fetched) => {
            let ends = LogEnds {
                start: fetched.log_start,
                high_watermark: fetched.high_watermark,
                ..ends
            };
            // Only the first of a response may be larger. (The topic's limit may have been lowered.)
            let fits = at_least_one || fetched.data.len() <= limit;
            Some(Read::Data(ends, if fits { fetched.data } else { Bytes::new() }))
        }
        Err(error) if reach == Reach::PageCache && error.is_not_cached() => None,
        Err(error) => Some(failed(gate, log, error)),
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
