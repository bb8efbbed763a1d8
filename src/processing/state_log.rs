//! How a job's state stands in the log: deltas, snapshots, and restoring from both.
//!
//! Every job has a state log of its own, the topic `__job_state.<job>` with one partition, which is also its
//! registration: nothing maps jobs to partitions, and removing a job is deleting its topic. In it:
//!
//! | key | value (format byte + bincode, see [`codec`]) |
//! |---|---|
//! | `state` | changed entries of an epoch: `Vec<StateChange>` |
//! | `timers` | changed timers of an epoch: `Vec<TimerChange>` |
//! | `frame` | the epoch itself: [`Frame`]; the last record of each epoch's write set |
//! | `chunk` | a part of a snapshot: [`Chunk`] |
//! | `snapshot` | names a complete snapshot: [`SnapshotEnd`]; its write set moves the log's start to `covers` |
//!
//! A snapshot is made in the background from what is committed in this log (the snapshot before and the deltas behind it), never from
//! live memory. Epochs go on committing meanwhile, so deltas may stand between its chunks; those at `covers` and
//! behind are applied on top of it. Chunks of a snapshot that was never named are ignored.

use riverlog_storage::record::{Record, StoredRecord};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{
    codec,
    dead_letter::batch_bound,
    epoch::Frame,
    error::JobError,
    log::{Log, LogError, PartitionId},
    planted::{Bug, planted},
    state::StateChange,
    task::{EpochOutput, Restored},
    timer::TimerChange,
};

const STATE: &[u8] = b"state";
const TIMERS: &[u8] = b"timers";
const FRAME: &[u8] = b"frame";
const CHUNK: &[u8] = b"chunk";
const SNAPSHOT: &[u8] = b"snapshot";

/// About how large one record of the state log becomes. Small in tests, so that their states have several.
const RECORD_TARGET_BYTES: usize = if cfg!(test) { 200 } else { 256 << 10 };
/// About how much of a snapshot is committed at once, so that epochs do not wait behind it.
const SNAPSHOT_COMMIT_BYTES: usize = if cfg!(test) { 400 } else { 4 << 20 };
/// How much is read at once when restoring.
const READ_BYTES: usize = 4 << 20;

/// Tells snapshots apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotId {
    /// The start of the job that wrote it.
    pub incarnation: u64,
    /// The first offset that it does not cover.
    pub covers: i64,
}

/// A part of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk {
    /// Of which snapshot.
    pub id: SnapshotId,
    /// Entries.
    pub state: Vec<StateChange>,
    /// Timers.
    pub timers: Vec<TimerChange>,
}

/// Names a complete snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotEnd {
    /// Which.
    pub id: SnapshotId,
    /// How many chunks it has.
    pub chunks: u64,
    /// The last epoch that it covers.
    pub frame: Frame,
}

fn record<T: Serialize>(key: &'static [u8], value: &T, timestamp_ms: i64) -> Result<Record, codec::Error> {
    let value = codec::encode(value)?;
    Ok(Record {
        key: Some(key.into()),
        value: Some(value.into()),
        headers: Vec::new(),
        timestamp_ms,
    })
}

/// Cuts a list so that each part encodes to about the target size.
fn parts<T>(items: Vec<T>, size_bytes: impl Fn(&T) -> usize) -> Vec<Vec<T>> {
    let mut parts = Vec::new();
    let mut part = Vec::new();
    let mut part_bytes = 0;
    for item in items {
        part_bytes += size_bytes(&item);
        part.push(item);
        if part_bytes >= RECORD_TARGET_BYTES {
            parts.push(std::mem::take(&mut part));
            part_bytes = 0;
        }
    }
    if !part.is_empty() {
        parts.push(part);
    }
    parts
}

fn state_bytes(change: &StateChange) -> usize {
    change.table.len() + change.address.len() + change.value.as_ref().map_or(0, Vec::len) + 32
}

fn timer_bytes(change: &TimerChange) -> usize {
    change.timer.key.len() + change.timer.name.len() + change.timer.payload.len() + 48
}

/// The records of one epoch, its frame last. Takes the changes out of the output.
pub fn encode_epoch(output: &mut EpochOutput) -> Result<Vec<Record>, codec::Error> {
    let now_ms = output.frame.processing_time_ms;
    let mut records = Vec::new();
    if planted(Bug::DropState) {
        output.state.clear();
    }
    if planted(Bug::DropTimers) {
        output.timers.clear();
    }
    for part in parts(std::mem::take(&mut output.state), state_bytes) {
        records.push(record(STATE, &part, now_ms)?);
    }
    for part in parts(std::mem::take(&mut output.timers), timer_bytes) {
        records.push(record(TIMERS, &part, now_ms)?);
    }
    records.push(record(FRAME, &output.frame, now_ms)?);
    Ok(records)
}

/// How much of the log a list of records takes, about.
pub fn size_bytes(records: &[Record]) -> usize {
    records.iter().map(batch_bound).sum()
}

/// A job's state as the log has it.
#[derive(Debug, Default)]
pub struct Loaded {
    /// State, timers and the last frame.
    pub restored: Restored,
    /// Up to where the log was read, exclusive.
    pub end: i64,
    /// Bytes of deltas that no snapshot covers.
    pub delta_bytes: usize,
    /// Bytes of the snapshot.
    pub snapshot_bytes: usize,
}

/// Reads a job's committed state.
pub fn load<L: Log>(log: &L, job: &str, partition: PartitionId) -> Result<Loaded, JobError> {
    let gone = || LogError::Failed("the topic of the job's state does not exist any more".into());
    let ends = log.ends(&[partition]).first().copied().flatten();
    let ends = ends.ok_or_else(gone).map_err(JobError::log(job))?;
    let mut records = Vec::new();
    let mut position = ends.start;
    while position < ends.end {
        let fetched = log
            .read(partition, position, ends.end, READ_BYTES)
            .map_err(JobError::log(job))?;
        if fetched.next_offset <= position {
            let reason = format!(
                "nothing can be read at offset {position} of its state log, which ends at {}",
                ends.end
            );
            return Err(JobError::DamagedState {
                job: job.to_owned(),
                reason,
            });
        }
        position = fetched.next_offset;
        records.extend(fetched.records);
    }
    let mut loaded = replay(&records, job)?;
    loaded.end = ends.end;
    Ok(loaded)
}

fn value<T: DeserializeOwned>(record: &StoredRecord, job: &str) -> Result<T, JobError> {
    let value = record.value.as_deref().unwrap_or_default();
    codec::decode(value).map_err(|error| JobError::DamagedState {
        job: job.to_owned(),
        reason: format!("record at offset {} of its state log: {error}", record.offset),
    })
}

/// The state that a state log's records amount to.
pub fn replay(records: &[StoredRecord], job: &str) -> Result<Loaded, JobError> {
    let damaged = |reason: String| JobError::DamagedState {
        job: job.to_owned(),
        reason,
    };
    let key = |record: &StoredRecord| record.key.clone().unwrap_or_default();
    let size = |record: &StoredRecord| record.value.as_ref().map_or(0, |value| value.len());
    let mut loaded = Loaded::default();
    let Restored { frame, state, timers } = &mut loaded.restored;

    let named = records.iter().rev().find(|record| key(record) == SNAPSHOT);
    let named: Option<SnapshotEnd> = named.map(|record| value(record, job)).transpose()?;
    let mut covered = named.as_ref().map_or(i64::MIN, |named| named.id.covers);
    if planted(Bug::DeltasBehindSnapshotOnly) {
        covered = records
            .iter()
            .rfind(|record| key(record) == SNAPSHOT)
            .map_or(covered, |record| record.offset);
    }
    if let Some(named) = named {
        let mut chunks = 0;
        for record in records.iter().filter(|record| key(record) == CHUNK) {
            let chunk: Chunk = value(record, job)?;
            if chunk.id != named.id {
                continue;
            }
            chunks += 1;
            loaded.snapshot_bytes += size(record);
            apply(state, timers, chunk.state, chunk.timers);
        }
        if chunks != named.chunks {
            return Err(damaged(format!(
                "of the snapshot's {} chunks {chunks} are there",
                named.chunks
            )));
        }
        *frame = Some(named.frame);
    }
    for record in records.iter().filter(|record| record.offset >= covered) {
        match &key(record)[..] {
            STATE => apply(state, timers, value(record, job)?, Vec::new()),
            TIMERS => apply(state, timers, Vec::new(), value(record, job)?),
            FRAME => {
                let next: Frame = value(record, job)?;
                let expected = frame.as_ref().map_or(1, |frame| frame.epoch.saturating_add(1));
                if next.epoch != expected {
                    return Err(damaged(format!(
                        "epoch {} stands where epoch {expected} is expected",
                        next.epoch
                    )));
                }
                *frame = Some(next);
            }
            CHUNK | SNAPSHOT => continue,
            other => {
                let kind = String::from_utf8_lossy(other).into_owned();
                return Err(damaged(format!(
                    "record at offset {} is of unknown kind {kind:?}",
                    record.offset
                )));
            }
        }
        loaded.delta_bytes += size(record);
    }
    // What was restored is not a change.
    state.begin();
    timers.begin();
    Ok(loaded)
}

fn apply(
    state: &mut super::state::StateStore,
    timers: &mut super::timer::Timers,
    state_changes: Vec<StateChange>,
    timer_changes: Vec<TimerChange>,
) {
    for StateChange { table, address, value } in state_changes {
        state.apply(&table, address, value.map(Into::into));
    }
    for TimerChange { kind, timer, set } in timer_changes {
        timers.apply(kind, timer, set);
    }
}

/// A snapshot that is ready to be committed.
#[derive(Debug)]
pub struct Snapshot {
    /// What to commit, one list after the other; the last one names the snapshot.
    pub commits: Vec<Vec<Record>>,
    /// The new start of the log, once the last list is committed.
    pub covers: i64,
    /// The size of it all.
    pub size_bytes: usize,
}

/// Merges what is committed into a snapshot; `None` if there is nothing yet.
pub fn snapshot<L: Log>(
    log: &L,
    job: &str,
    partition: PartitionId,
    incarnation: u64,
) -> Result<Option<Snapshot>, JobError> {
    let loaded = load(log, job, partition)?;
    let Some(frame) = loaded.restored.frame else {
        return Ok(None);
    };
    let now_ms = frame.processing_time_ms;
    let id = SnapshotId {
        incarnation,
        covers: loaded.end,
    };
    let encode = |chunk: &Chunk| record(CHUNK, chunk, now_ms).map_err(|e| JobError::too_large(job, e));
    let mut chunks = Vec::new();
    for state in parts(loaded.restored.state.entries().collect(), state_bytes) {
        chunks.push(encode(&Chunk {
            id,
            state,
            timers: Vec::new(),
        })?);
    }
    for timers in parts(loaded.restored.timers.entries().collect(), timer_bytes) {
        chunks.push(encode(&Chunk {
            id,
            state: Vec::new(),
            timers,
        })?);
    }
    let end = SnapshotEnd {
        id,
        chunks: chunks.len() as u64,
        frame,
    };
    let end = record(SNAPSHOT, &end, now_ms).map_err(|e| JobError::too_large(job, e))?;
    let size = size_bytes(&chunks);
    let mut commits = Vec::new();
    let mut commit = Vec::new();
    let mut commit_bytes = 0;
    for chunk in chunks {
        commit_bytes += batch_bound(&chunk);
        commit.push(chunk);
        if commit_bytes >= SNAPSHOT_COMMIT_BYTES {
            commits.push(std::mem::take(&mut commit));
            commit_bytes = 0;
        }
    }
    commit.push(end);
    commits.push(commit);
    Ok(Some(Snapshot {
        commits,
        covers: loaded.end,
        size_bytes: size,
    }))
}
