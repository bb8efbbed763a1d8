//! One place decides: the sequencer assigns offsets, and in that same step checks everything that a write
//! depends on against *assigned* state. Nothing is checked earlier and believed later.

use std::collections::{HashMap, VecDeque};

use rand::rngs::StdRng;

use crate::batch::{self, BatchHeader, CheckedBatches, HEADER_LEN};
use crate::catalog::Catalog;
use crate::error::WriteError;
use crate::frame::{Kind, MAX_PARTS, Part};
use crate::planted::{Planted, planted};
use crate::producers::Verdict;
use crate::state::State;
use crate::write_set::{Append, Appended, Receipt, WriteSet};
use crate::{CONTROL_LOG, LogId, MAX_WRITE_SET_BYTES};

mod assigned;
mod changes;
mod group;

use assigned::AssignedLog;
use changes::encode_controls;
pub(crate) use group::{Done, Extent, Group, Run, StampedBatch, Waiter};

/// A group and a write set must fit into a journal file together.
fn max_write_set_bytes(journal_file_bytes: u64) -> u64 {
    MAX_WRITE_SET_BYTES.min(journal_file_bytes / 2)
}

const RESERVED_FREE_BYTES: u64 = 64 << 20;
/// A write set without records needs no more than the journal's next pre-written stretch.
const CONTROL_FREE_BYTES: u64 = 16 << 20;

/// Assigned state and the groups that wait for the committer.
pub(crate) struct Sequencer {
    logs: HashMap<LogId, AssignedLog>,
    catalog: Catalog,
    groups: VecDeque<Group>,
    /// Groups that the committer took and has not published.
    committing: usize,
    /// The last group that the committer took had one write set.
    last_was_alone: bool,
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
    pub free_bytes: u64,
    pub journal_file_bytes: u64,
}

impl Sequencer {
    /// Assigned state right after recovery is the published state.
    pub fn new(state: &State, rng: StdRng, group_bytes: u64) -> Self {
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
                    segment_first_ms: active.and_then(|segment| segment.first_timestamp),
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
            last_was_alone: true,
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
        self.last_was_alone = group.waiters.len() < 2;
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

    /// True if no write waits, and lately none came while another one did.
    pub fn is_quiet(&self) -> bool {
        self.is_idle() && self.last_was_alone
    }

    /// True if a group waits for the committer, and the one before it had several write sets.
    pub fn more_may_come(&self) -> bool {
        self.has_work() && !self.last_was_alone
    }

    /// True if a group waits for the committer.
    pub fn has_work(&self) -> bool {
        !self.groups.is_empty()
    }

    /// True if the next group has no more bytes than this, and no changes of topics or log starts.
    pub fn next_is_short(&self, bytes: u64) -> bool {
        let is_short = |next: &Group| next.bytes <= bytes && next.controls.is_empty();
        self.groups.front().is_none_or(is_short)
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

    /// What must be free before any record is accepted: what is in the journal must always be able to reach its segment.
    pub fn needed_free_bytes(&self, journal_file_bytes: u64) -> u64 {
        self.unapplied_bytes + journal_file_bytes + RESERVED_FREE_BYTES
    }

    fn check(&self, ws: &WriteSet, now: Now) -> Result<Plan, WriteError> {
        let size_bytes: u64 = ws.appends.iter().map(|append| append.batches.size_bytes() as u64).sum();
        let batches: usize = ws.appends.iter().map(|append| append.batches.headers().len()).sum();
        let max_bytes = max_write_set_bytes(now.journal_file_bytes);
        if size_bytes > max_bytes || batches > MAX_PARTS / 4 {
            return Err(WriteError::TooLarge { size_bytes, max_bytes });
        }
        // Deletions must go through on a full disk: they only need room for their own frame.
        let needed_bytes = size_bytes
            + match ws.appends.is_empty() {
                true => self.unapplied_bytes + CONTROL_FREE_BYTES,
                false => self.needed_free_bytes(now.journal_file_bytes),
            };
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
                Verdict::Duplicate { .. } => return Err(table.out_of_order(header)),
            }
        }
        Ok(Verdict::Append)
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
            self.apply_control(control);
        }
        if !controls.is_empty() {
            self.last_group().controls.extend(controls);
        }
        Ok((receipt, written))
    }

    fn is_job_state(&self, log: LogId) -> bool {
        self.catalog
            .log(log)
            .is_some_and(|(topic, _)| topic.name.starts_with("__job_state"))
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

    /// The offset that the first new batch of each log will get, if there is a change that may refer to it.
    fn first_offsets(&self, ws: &WriteSet, plan: &Plan) -> HashMap<LogId, i64> {
        if ws.changes.is_empty() {
            return HashMap::new();
        }
        let new = ws
            .appends
            .iter()
            .zip(&plan.verdicts)
            .filter(|(_, verdict)| **verdict == Verdict::Append);
        new.filter_map(|(append, _)| Some((append.log, self.logs.get(&append.log)?.end)))
            .collect()
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
            assigned.make_room(&header, now.wall_ms);
            let part = Part {
                log,
                first_offset: header.base_offset,
                last_offset: header.last_offset(),
                length: header.size_bytes() as u32,
                kind: Kind::Inline,
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
