//! One place decides: the sequencer assigns offsets, and in that same step checks everything that a write
//! depends on against *assigned* state. Nothing is checked earlier and believed later.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use rand::RngExt;
use rand::rngs::StdRng;
use uuid::Uuid;

use crate::batch::{self, BatchBuilder, BatchHeader, CheckedBatches, HEADER_LEN};
use crate::catalog::{Catalog, ControlRecord, Topic};
use crate::config::LogConfig;
use crate::error::WriteError;
use crate::frame::{MAX_PARTS, Part};
use crate::planted::{Planted, planted};
use crate::producers::{ProducerTable, Verdict};
use crate::record::Record;
use crate::state::State;
use crate::write_set::{Append, Appended, Change, Receipt, WriteSet};
use crate::{CONTROL_LOG, LogId, MAX_PARTITIONS, MAX_WRITE_SET_BYTES};

/// A group and a write set must fit into a journal file together.
fn max_write_set_bytes(journal_file_bytes: u64) -> u64 {
    MAX_WRITE_SET_BYTES.min(journal_file_bytes / 2)
}

/// Called once with the outcome of a write set.
pub(crate) type Done = Box<dyn FnOnce(Result<Receipt, WriteError>) + Send>;

/// Segment files are addressed by 31 bits, as Kafka's are.
const MAX_SEGMENT_BYTES: u64 = i32::MAX as u64;
const RESERVED_FREE_BYTES: u64 = 64 << 20;
/// A write set without records needs no more than the journal's next pre-written stretch.
const CONTROL_FREE_BYTES: u64 = 16 << 20;
const CONTROL_BATCH_RECORDS: usize = 1000;

/// A batch with its offset: a header of its own, and the payload as it came.
#[derive(Debug)]
pub(crate) struct StampedBatch {
    pub header: BatchHeader,
    pub payload: Bytes,
}

/// Consecutive batches of one log in one segment.
#[derive(Debug)]
pub(crate) struct Run {
    pub part: Part,
    pub batches: Vec<StampedBatch>,
}

/// Somebody who waits for a group: with an outcome that holds if the group becomes durable.
pub(crate) struct Waiter {
    pub done: Done,
    pub outcome: Result<Receipt, WriteError>,
}

/// Write sets that one frame and one sync make durable.
#[derive(Default)]
pub(crate) struct Group {
    pub runs: Vec<Run>,
    pub controls: Vec<ControlRecord>,
    pub waiters: Vec<Waiter>,
    pub bytes: u64,
}

/// What a log is assigned, published or not.
#[derive(Debug)]
struct AssignedLog {
    config: LogConfig,
    start: i64,
    end: i64,
    segment_base: i64,
    segment_bytes: u64,
    segment_opened_ms: u64,
    leader_epoch: i32,
    producers: ProducerTable,
    fence: Option<String>,
}

/// Assigned state and the groups that wait for the committer.
pub(crate) struct Sequencer {
    logs: HashMap<LogId, AssignedLog>,
    catalog: Catalog,
    groups: VecDeque<Group>,
    /// Groups that the committer took and has not published.
    committing: usize,
    /// Bytes that are assigned and not yet in their segments.
    unapplied_bytes: u64,
    refusing: Option<WriteError>,
    rng: StdRng,
    group_bytes: u64,
}

/// What the sequencer needs to know of the outside world for one write.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Now {
    pub wall_ms: i64,
    pub monotonic_ms: u64,
    pub free_bytes: u64,
    pub journal_file_bytes: u64,
}

impl Sequencer {
    /// Assigned state right after recovery is the published state.
    pub fn new(state: &State, rng: StdRng, monotonic_ms: u64, group_bytes: u64) -> Self {
        let logs = state
            .logs
            .iter()
            .map(|(log, published)| {
                let active = published.segments.last();
                let assigned = AssignedLog {
                    config: published.config.clone(),
                    start: published.start,
                    end: published.end,
                    segment_base: active.map_or(published.end, |segment| segment.base),
                    segment_bytes: active.map_or(0, |segment| segment.size_bytes),
                    segment_opened_ms: monotonic_ms,
                    leader_epoch: published.leader_epoch,
                    producers: published.producers.clone(),
                    fence: published.fence.as_ref().map(|fence| fence.reason()),
                };
                (*log, assigned)
            })
            .collect();
        Self {
            logs,
            catalog: Catalog::clone(&state.catalog),
            groups: VecDeque::new(),
            committing: 0,
            unapplied_bytes: 0,
            refusing: None,
            rng,
            group_bytes,
        }
    }

    /// Checks a write set and assigns its offsets, or refuses it. Returns the outcome if it can be told at
    /// once; otherwise the group tells it.
    pub fn submit(&mut self, ws: WriteSet, done: Done, now: Now) -> Option<(Done, Result<Receipt, WriteError>)> {
        if let Some(error) = &self.refusing {
            return Some((done, Err(error.clone())));
        }
        match self.check(&ws, now) {
            Err(error) => self.answer_after_pending(done, Err(error)),
            Ok(plan) => match self.assign(ws, plan, now) {
                Ok((receipt, true)) => {
                    self.last_group().waiters.push(Waiter {
                        done,
                        outcome: Ok(receipt),
                    });
                    None
                }
                Ok((receipt, false)) => self.answer_after_pending(done, Ok(receipt)),
                Err(error) => self.answer_after_pending(done, Err(error)),
            },
        }
    }

    /// A refusal may rest on a change that is not yet published, and a duplicate on such a batch. So they
    /// are told when everything assigned before is published, which is at once if nothing is pending.
    fn answer_after_pending(
        &mut self,
        done: Done,
        outcome: Result<Receipt, WriteError>,
    ) -> Option<(Done, Result<Receipt, WriteError>)> {
        if self.groups.is_empty() && self.committing == 0 || planted(Planted::AnswerBeforePublished) {
            return Some((done, outcome));
        }
        self.last_group().waiters.push(Waiter { done, outcome });
        None
    }

    /// Makes sure that the last group takes another write set. Once for each write set, which is never
    /// split.
    fn begin_write_set(&mut self) {
        let group_bytes = self.group_bytes;
        let full = |group: &Group| group.bytes >= group_bytes || group.runs.len() >= MAX_PARTS / 2;
        if self.groups.back().is_none_or(full) {
            self.groups.push_back(Group::default());
        }
    }

    fn last_group(&mut self) -> &mut Group {
        if self.groups.is_empty() {
            self.groups.push_back(Group::default());
        }
        let last = self.groups.len() - 1;
        #[expect(clippy::indexing_slicing, reason = "there is a last group")]
        &mut self.groups[last]
    }

    /// The next group for the committer.
    pub fn take_group(&mut self) -> Option<Group> {
        let group = self.groups.pop_front()?;
        self.committing += 1;
        Some(group)
    }

    /// The committer published a group.
    pub fn published(&mut self, bytes: u64) {
        self.committing -= 1;
        self.unapplied_bytes = self.unapplied_bytes.saturating_sub(bytes);
    }

    /// True if no write waits for the committer.
    pub fn is_idle(&self) -> bool {
        self.groups.is_empty() && self.committing == 0
    }

    /// True if a group waits for the committer.
    pub fn has_work(&self) -> bool {
        !self.groups.is_empty()
    }

    /// Forgets producers that have been silent for too long.
    pub fn expire_producers(&mut self, now_ms: i64) {
        for assigned in self.logs.values_mut() {
            assigned.producers.expire(now_ms);
        }
    }

    /// Refuses everything from now on and hands out everybody who waits.
    pub fn refuse(&mut self, error: WriteError) -> Vec<Waiter> {
        self.refusing.get_or_insert(error);
        self.groups.drain(..).flat_map(|group| group.waiters).collect()
    }

    /// Refuses new write sets; those that wait go on.
    pub fn close(&mut self) {
        self.refusing.get_or_insert(WriteError::Closed);
    }

    fn check(&self, ws: &WriteSet, now: Now) -> Result<Plan, WriteError> {
        let size_bytes: u64 = ws.appends.iter().map(|append| append.batches.size_bytes() as u64).sum();
        let batches: usize = ws.appends.iter().map(|append| append.batches.headers().len()).sum();
        let max_bytes = max_write_set_bytes(now.journal_file_bytes);
        if size_bytes > max_bytes || batches > MAX_PARTS / 4 {
            return Err(WriteError::TooLarge { size_bytes, max_bytes });
        }
        // Deletions must go through on a full disk: they only need room for their own frame.
        let reserved = if ws.appends.is_empty() {
            CONTROL_FREE_BYTES
        } else {
            now.journal_file_bytes + RESERVED_FREE_BYTES
        };
        let needed_bytes = self.unapplied_bytes + size_bytes + reserved;
        if now.free_bytes < needed_bytes {
            return Err(WriteError::NoSpace {
                free_bytes: now.free_bytes,
                needed_bytes,
            });
        }
        for check in &ws.epochs {
            let current = self.catalog.epoch(&check.name).unwrap_or(0);
            if current != check.epoch {
                return Err(WriteError::StaleEpoch {
                    name: check.name.clone(),
                    current,
                    got: check.epoch,
                });
            }
        }
        let mut plan = Plan::default();
        for (place, append) in ws.appends.iter().enumerate() {
            let verdict = self.check_append(append, ws.appends.get(..place).unwrap_or_default(), now.wall_ms)?;
            plan.verdicts.push(verdict);
        }
        self.check_changes(ws)?;
        Ok(plan)
    }

    fn log(&self, log: LogId) -> Result<&AssignedLog, WriteError> {
        let assigned = self.logs.get(&log).ok_or(WriteError::UnknownLog(log))?;
        match &assigned.fence {
            Some(reason) => Err(WriteError::Fenced {
                log,
                reason: reason.clone(),
            }),
            None => Ok(assigned),
        }
    }

    /// Judges one append; `before` are the appends of the same write set that come first.
    fn check_append(&self, append: &Append, before: &[Append], now_ms: i64) -> Result<Verdict, WriteError> {
        let assigned = self.log(append.log)?;
        if append.log == CONTROL_LOG {
            return Err(WriteError::UnknownLog(CONTROL_LOG));
        }
        let headers = append.batches.headers();
        if !headers.iter().any(BatchHeader::has_producer) {
            return Ok(Verdict::Append);
        }
        let earlier = before.iter().filter(|other| other.log == append.log);
        let mut overlay = None;
        for other in earlier.flat_map(|other| other.batches.headers()) {
            overlay
                .get_or_insert_with(|| assigned.producers.clone())
                .note(other, now_ms);
        }
        if let [only] = headers {
            return overlay.as_ref().unwrap_or(&assigned.producers).check(only, now_ms);
        }
        // Several batches of one append stand or fall together: a part that is a duplicate is an error.
        let mut table = overlay.unwrap_or_else(|| assigned.producers.clone());
        for header in headers.iter().filter(|header| header.has_producer()) {
            match table.check(header, now_ms)? {
                Verdict::Append => table.note(header, now_ms),
                Verdict::Duplicate { .. } => return Err(WriteError::DuplicateSequence),
            }
        }
        Ok(Verdict::Append)
    }

    fn topic(&self, id: Uuid) -> Result<&Topic, WriteError> {
        self.catalog
            .topic_by_id(id)
            .map(|topic| &**topic)
            .ok_or(WriteError::UnknownTopic)
    }

    fn check_changes(&self, ws: &WriteSet) -> Result<(), WriteError> {
        for change in &ws.changes {
            match change {
                Change::CreateTopic {
                    name,
                    partitions,
                    configs,
                } => {
                    if self.catalog.topic(name).is_some() {
                        return Err(WriteError::TopicExists(name.clone()));
                    }
                    check_partitions(*partitions, 0)?;
                    LogConfig::parse(configs).map_err(WriteError::InvalidConfig)?;
                }
                Change::DeleteTopic { id } => {
                    if self.topic(*id)?.partitions.contains(&CONTROL_LOG) {
                        return Err(WriteError::UnknownTopic);
                    }
                }
                Change::AddPartitions { id, total } => {
                    check_partitions(*total, self.topic(*id)?.partitions.len() as u32)?;
                }
                Change::SetConfigs { id, configs } => {
                    self.topic(*id)?;
                    LogConfig::parse(configs).map_err(WriteError::InvalidConfig)?;
                }
                Change::MoveLogStart { log, offset } => {
                    let assigned = self.log(*log)?;
                    if *offset < 0 || *offset > assigned.end {
                        let (start, end) = (assigned.start, assigned.end);
                        return Err(WriteError::OffsetOutOfRange {
                            log: *log,
                            offset: *offset,
                            start,
                            end,
                        });
                    }
                }
                Change::MoveLogStartToAppend { log } => {
                    self.log(*log)?;
                    if !ws.appends.iter().any(|append| append.log == *log) {
                        return Err(WriteError::UnknownLog(*log));
                    }
                }
                Change::SetEpoch { name, epoch } => {
                    let current = self.catalog.epoch(name).unwrap_or(0);
                    if *epoch <= current {
                        return Err(WriteError::StaleEpoch {
                            name: name.clone(),
                            current,
                            got: *epoch,
                        });
                    }
                }
                Change::RemoveEpoch { .. } | Change::AllocateProducerIds { .. } => {}
            }
        }
        Ok(())
    }

    /// Assigns everything of a checked write set. The flag is false if there was nothing to write.
    fn assign(&mut self, ws: WriteSet, plan: Plan, now: Now) -> Result<(Receipt, bool), WriteError> {
        let mut receipt = Receipt::default();
        // Encoded first: it is all that can fail, and nothing is assigned yet.
        let firsts = self.first_offsets(&ws, &plan);
        let controls = self.resolve(&ws.changes, &firsts, &mut receipt);
        let control_batches = encode_controls(&controls, now.wall_ms)?;
        let written = !controls.is_empty() || plan.verdicts.contains(&Verdict::Append);
        if written {
            self.begin_write_set();
        }
        for (append, verdict) in ws.appends.into_iter().zip(plan.verdicts) {
            let appended = match verdict {
                Verdict::Append if planted(Planted::DropJobState) && self.is_job_state(append.log) => {
                    self.pretend(&append)
                }
                Verdict::Append => self.append(append.log, &append.batches, append.log_append_time, now),
                Verdict::Duplicate {
                    first_offset,
                    last_offset,
                    max_timestamp,
                } => Appended {
                    log: append.log,
                    first_offset,
                    last_offset,
                    log_append_time_ms: append.log_append_time.then_some(max_timestamp),
                    log_start: self.logs.get(&append.log).map_or(0, |assigned| assigned.start),
                    duplicate: true,
                },
            };
            receipt.appends.push(appended);
        }
        for batches in &control_batches {
            self.append(CONTROL_LOG, batches, false, now);
        }
        for control in &controls {
            self.apply_control(control, now);
        }
        if !controls.is_empty() {
            self.last_group().controls.extend(controls);
        }
        Ok((receipt, written))
    }

    fn is_job_state(&self, log: LogId) -> bool {
        self.catalog
            .log(log)
            .is_some_and(|(topic, _)| topic.name == "__job_state")
    }

    /// The planted bug: answers as if the append had been written.
    fn pretend(&self, append: &Append) -> Appended {
        let first_offset = self.logs.get(&append.log).map_or(0, |assigned| assigned.end);
        Appended {
            log: append.log,
            first_offset,
            last_offset: first_offset + append.batches.record_count() as i64 - 1,
            log_append_time_ms: None,
            log_start: 0,
            duplicate: false,
        }
    }

    /// The offset that the first new batch of each log will get.
    fn first_offsets(&self, ws: &WriteSet, plan: &Plan) -> HashMap<LogId, i64> {
        let new = ws
            .appends
            .iter()
            .zip(&plan.verdicts)
            .filter(|(_, verdict)| **verdict == Verdict::Append);
        new.filter_map(|(append, _)| Some((append.log, self.logs.get(&append.log)?.end)))
            .collect()
    }

    /// Turns changes into control records with ids.
    fn resolve(
        &mut self,
        changes: &[Change],
        firsts: &HashMap<LogId, i64>,
        receipt: &mut Receipt,
    ) -> Vec<ControlRecord> {
        let mut next_log_id = self.catalog.next_log_id;
        let mut next_producer_id = self.catalog.next_producer_id;
        let mut leader_epoch = self.catalog.leader_epoch;
        let mut take_logs = |count: u32| {
            let first = next_log_id;
            next_log_id += u64::from(count);
            leader_epoch += 1;
            ((first..next_log_id).collect::<Vec<LogId>>(), leader_epoch)
        };
        let mut controls = Vec::with_capacity(changes.len());
        for change in changes {
            controls.push(match change {
                Change::CreateTopic {
                    name,
                    partitions,
                    configs,
                } => {
                    let (logs, leader_epoch) = take_logs(*partitions);
                    let id = uuid::Builder::from_random_bytes(self.rng.random()).into_uuid();
                    let topic = Topic {
                        name: name.clone(),
                        id,
                        partitions: logs,
                        configs: configs.clone(),
                    };
                    receipt.created = Some(topic.clone().into());
                    ControlRecord::TopicCreated { topic, leader_epoch }
                }
                Change::DeleteTopic { id } => ControlRecord::TopicDeleted { id: *id },
                Change::AddPartitions { id, total } => {
                    let grown = self.catalog.topic_by_id(*id).map(|topic| Topic::clone(topic));
                    let have = grown.as_ref().map_or(0, |topic| topic.partitions.len() as u32);
                    let (logs, leader_epoch) = take_logs(total.saturating_sub(have));
                    receipt.created = grown.map(|mut topic| {
                        topic.partitions.extend_from_slice(&logs);
                        topic.into()
                    });
                    ControlRecord::PartitionsAdded {
                        id: *id,
                        logs,
                        leader_epoch,
                    }
                }
                Change::SetConfigs { id, configs } => ControlRecord::ConfigsSet {
                    id: *id,
                    configs: configs.clone(),
                },
                Change::MoveLogStart { log, offset } => ControlRecord::LogStartMoved {
                    log: *log,
                    offset: *offset,
                },
                Change::MoveLogStartToAppend { log } => {
                    let offset = firsts.get(log).copied().unwrap_or(0);
                    ControlRecord::LogStartMoved { log: *log, offset }
                }
                Change::SetEpoch { name, epoch } => ControlRecord::EpochSet {
                    name: name.clone(),
                    epoch: *epoch,
                },
                Change::RemoveEpoch { name } => ControlRecord::EpochRemoved { name: name.clone() },
                Change::AllocateProducerIds { count } => {
                    receipt.first_producer_id = Some(next_producer_id);
                    next_producer_id += i64::from(*count);
                    ControlRecord::ProducerIdsAllocated { next: next_producer_id }
                }
            });
        }
        controls
    }

    fn apply_control(&mut self, control: &ControlRecord, now: Now) {
        match control {
            ControlRecord::TopicCreated { topic, leader_epoch } => {
                self.add_logs(&topic.partitions, &topic.configs, *leader_epoch, now);
            }
            ControlRecord::PartitionsAdded { id, logs, leader_epoch } => {
                if let Some(topic) = self.catalog.topic_by_id(*id).cloned() {
                    self.add_logs(logs, &topic.configs, *leader_epoch, now);
                }
            }
            ControlRecord::TopicDeleted { id } => {
                for log in self.catalog.topic_by_id(*id).iter().flat_map(|topic| &topic.partitions) {
                    self.logs.remove(log);
                }
            }
            ControlRecord::ConfigsSet { id, configs } => {
                let config = LogConfig::parse(configs).unwrap_or_default();
                for log in self.catalog.topic_by_id(*id).iter().flat_map(|topic| &topic.partitions) {
                    if let Some(assigned) = self.logs.get_mut(log) {
                        assigned.config = config.clone();
                    }
                }
            }
            ControlRecord::LogStartMoved { log, offset } => {
                if let Some(assigned) = self.logs.get_mut(log) {
                    assigned.start = assigned.start.max(*offset);
                    // Nothing of the active segment is left: the next batch begins a new one, behind
                    // which the old one can go.
                    if assigned.start == assigned.end && assigned.segment_bytes > 0 {
                        assigned.roll(now.monotonic_ms);
                    }
                }
            }
            ControlRecord::EpochSet { .. }
            | ControlRecord::EpochRemoved { .. }
            | ControlRecord::ProducerIdsAllocated { .. } => {}
        }
        self.catalog.apply(control);
    }

    fn add_logs(
        &mut self,
        logs: &[LogId],
        configs: &std::collections::BTreeMap<String, String>,
        leader_epoch: i32,
        now: Now,
    ) {
        for log in logs {
            let assigned = AssignedLog {
                config: LogConfig::parse(configs).unwrap_or_default(),
                start: 0,
                end: 0,
                segment_base: 0,
                segment_bytes: 0,
                segment_opened_ms: now.monotonic_ms,
                leader_epoch,
                producers: ProducerTable::default(),
                fence: None,
            };
            self.logs.insert(*log, assigned);
        }
    }

    /// Gives offsets and a place to each batch. The log was checked to exist.
    fn append(&mut self, log: LogId, batches: &CheckedBatches, log_append_time: bool, now: Now) -> Appended {
        let mut appended = Appended {
            log,
            first_offset: -1,
            last_offset: -1,
            log_append_time_ms: log_append_time.then_some(now.wall_ms),
            log_start: 0,
            duplicate: false,
        };
        for (header, bytes) in batches.iter() {
            let mut header = *header;
            let payload = bytes.slice(HEADER_LEN.min(bytes.len())..);
            if log_append_time {
                batch::restamp_log_append_time(&mut header, &payload, now.wall_ms);
            }
            let Some(assigned) = self.logs.get_mut(&log) else { break };
            header.base_offset = assigned.end;
            header.leader_epoch = assigned.leader_epoch;
            assigned.make_room(
                header.size_bytes() as u64,
                i64::from(header.last_offset_delta),
                now.monotonic_ms,
            );
            let part = Part {
                log,
                first_offset: header.base_offset,
                last_offset: header.last_offset(),
                length: header.size_bytes() as u32,
                segment_base: assigned.segment_base,
                position: assigned.segment_bytes as u32,
            };
            assigned.segment_bytes += header.size_bytes() as u64;
            assigned.end = header.last_offset() + 1;
            assigned.producers.note(&header, now.wall_ms);
            appended.log_start = assigned.start;
            if appended.first_offset < 0 {
                appended.first_offset = header.base_offset;
            }
            appended.last_offset = header.last_offset();
            self.unapplied_bytes += header.size_bytes() as u64;
            self.last_group().push(part, StampedBatch { header, payload });
        }
        appended
    }
}

/// What the check found out that the assignment needs.
#[derive(Debug, Default)]
struct Plan {
    verdicts: Vec<Verdict>,
}

impl Group {
    /// Adds a batch, to the last run if it continues that.
    fn push(&mut self, part: Part, batch: StampedBatch) {
        self.bytes += u64::from(part.length);
        let last = self
            .runs
            .last_mut()
            .filter(|last| last.part.log == part.log && last.part.segment_base == part.segment_base);
        match last {
            Some(last) => {
                last.part.length += part.length;
                last.part.last_offset = part.last_offset;
                last.batches.push(batch);
            }
            None => self.runs.push(Run {
                part,
                batches: vec![batch],
            }),
        }
    }
}

impl AssignedLog {
    fn roll(&mut self, monotonic_ms: u64) {
        self.segment_base = self.end;
        self.segment_bytes = 0;
        self.segment_opened_ms = monotonic_ms;
    }

    /// Begins a new segment if the batch would make the active one too large, or it is too old.
    fn make_room(&mut self, batch_bytes: u64, last_offset_delta: i64, monotonic_ms: u64) {
        let limit = self.config.segment_bytes.min(MAX_SEGMENT_BYTES);
        let too_large = self.segment_bytes + batch_bytes > limit;
        let too_old = monotonic_ms.saturating_sub(self.segment_opened_ms) >= self.config.segment_ms;
        let too_far = self.end - self.segment_base + last_offset_delta > i64::from(i32::MAX);
        if self.segment_bytes > 0 && (too_large || too_old || too_far) {
            self.roll(monotonic_ms);
        }
        if self.segment_bytes == 0 {
            self.segment_opened_ms = monotonic_ms;
        }
    }
}

fn check_partitions(asked: u32, current: u32) -> Result<(), WriteError> {
    if asked > current && asked <= MAX_PARTITIONS {
        return Ok(());
    }
    Err(WriteError::InvalidPartitions {
        asked,
        current,
        max: MAX_PARTITIONS,
    })
}

/// Control records as batches of the control log.
fn encode_controls(controls: &[ControlRecord], now_ms: i64) -> Result<Vec<CheckedBatches>, WriteError> {
    let failed = |error: &dyn std::fmt::Display| WriteError::InvalidConfig(error.to_string());
    controls
        .chunks(CONTROL_BATCH_RECORDS)
        .map(|chunk| {
            let mut builder = BatchBuilder::new();
            for control in chunk {
                let value = control.encode().map_err(|error| failed(&error))?;
                builder.push(Record {
                    key: None,
                    value: Some(value.into()),
                    headers: Vec::new(),
                    timestamp_ms: now_ms,
                });
            }
            builder.build().map_err(|error| failed(&error))
        })
        .collect()
}
