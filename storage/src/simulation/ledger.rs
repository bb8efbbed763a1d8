//! What the simulated clients were told and have seen, and whether the storage still stands by it.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use uuid::Uuid;

use crate::LogId;
use crate::batch::{BatchBuilder, CheckedBatches};
use crate::compression::Compression;
use crate::error::WriteError;
use crate::record::{Record, StoredRecord};
use crate::write_set::{Append, Appended, Change, EpochCheck, Receipt, WriteSet};

/// What was found wrong.
pub(crate) type Violation = String;

pub(crate) type BatchId = usize;
pub(crate) type AttemptId = usize;

macro_rules! ensure {
    ($condition:expr, $($arg:tt)+) => {
        if !$condition {
            return Err(format!($($arg)+));
        }
    };
}
pub(crate) use ensure;

/// Records that are sent together and get consecutive offsets.
pub(crate) struct Batch {
    pub log: LogId,
    pub timestamps: Vec<i64>,
    pub value_len: usize,
    pub producer: Option<(i64, i16, i32)>,
    pub log_append_time: bool,
    pub bytes: CheckedBatches,
    pub hope: Hope,
}

/// What may become of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hope {
    /// Sent and not answered: it may be there or not.
    Pending,
    /// Answered or seen: it is there, from this offset on, for ever.
    Placed(i64),
    /// Refused, or found absent after a crash: it is never there.
    Dead,
}

/// A write set that was submitted.
pub(crate) struct Attempt {
    pub batches: Vec<BatchId>,
    pub changes: Vec<Change>,
    pub epochs: Vec<EpochCheck>,
    /// The sender knows that it may be refused for this.
    pub may_refuse: bool,
    pub open: bool,
}

/// One log, as promised.
pub(crate) struct LogModel {
    pub topic: String,
    /// The start that was told or seen.
    pub start: i64,
    /// The largest end that was told or seen.
    pub end: i64,
    /// Placed batches by first offset.
    pub batches: BTreeMap<i64, BatchId>,
    /// Retention may move the start.
    pub retained: bool,
    pub fenced: bool,
    pub leader_epoch: i32,
}

pub(crate) struct TopicModel {
    pub name: String,
    pub logs: Vec<LogId>,
    pub configs: BTreeMap<String, String>,
}

/// What a recovered or running storage shows of one log.
pub(crate) struct Shown {
    pub start: i64,
    pub end: i64,
    pub leader_epoch: i32,
    pub records: Vec<StoredRecord>,
}

#[derive(Default)]
pub(crate) struct Ledger {
    pub batches: Vec<Batch>,
    pub attempts: Vec<Attempt>,
    pub logs: BTreeMap<LogId, LogModel>,
    pub topics: BTreeMap<Uuid, TopicModel>,
    pub epochs: BTreeMap<String, u64>,
    pub next_producer_id: i64,
    /// Logs that exist no more, or perhaps no more.
    pub dead_logs: BTreeSet<LogId>,
    pub deletes: BTreeSet<Uuid>,
    pub acknowledged: u64,
    pub refused: u64,
}

fn value(batch: BatchId, index: usize, len: usize) -> Bytes {
    let mut bytes = Vec::with_capacity(len.max(12));
    bytes.extend_from_slice(&(batch as u64).to_be_bytes());
    bytes.extend_from_slice(&(index as u32).to_be_bytes());
    let mut filler = (batch as u64) << 20 | index as u64 | 1;
    while bytes.len() < len {
        filler = filler.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        bytes.extend_from_slice(&filler.to_be_bytes());
    }
    bytes.truncate(len.max(12));
    bytes.into()
}

/// Which record a value says it is.
fn identity(record: &StoredRecord) -> Option<(BatchId, usize)> {
    let value = record.value.as_ref()?;
    let batch = u64::from_be_bytes(value.get(..8)?.try_into().ok()?);
    let index = u32::from_be_bytes(value.get(8..12)?.try_into().ok()?);
    Some((batch as usize, index as usize))
}

/// What a client is about to send.
pub(crate) struct Draft {
    pub log: LogId,
    pub timestamps: Vec<i64>,
    pub value_len: usize,
    pub producer: Option<(i64, i16, i32)>,
    pub log_append_time: bool,
    pub compression: Compression,
}

impl Ledger {
    pub fn add_batch(&mut self, draft: Draft) -> Result<BatchId, Violation> {
        let id = self.batches.len();
        let mut builder = BatchBuilder::new().compression(draft.compression);
        if let Some((producer, epoch, sequence)) = draft.producer {
            builder = builder.producer(producer, epoch, sequence);
        }
        for (index, timestamp_ms) in draft.timestamps.iter().enumerate() {
            builder.push(Record {
                value: Some(value(id, index, draft.value_len)),
                timestamp_ms: *timestamp_ms,
                ..Record::default()
            });
        }
        self.batches.push(Batch {
            log: draft.log,
            timestamps: draft.timestamps,
            value_len: draft.value_len,
            producer: draft.producer,
            log_append_time: draft.log_append_time,
            bytes: builder.build().map_err(|e| e.to_string())?,
            hope: Hope::Pending,
        });
        Ok(id)
    }

    /// Notes a write set and gives the bytes to submit.
    pub fn open(&mut self, attempt: Attempt) -> (AttemptId, WriteSet) {
        let appends = attempt.batches.iter().map(|id| {
            let batch = &self.batches[*id];
            Append {
                log: batch.log,
                batches: batch.bytes.clone(),
                log_append_time: batch.log_append_time,
            }
        });
        let ws = WriteSet {
            appends: appends.collect(),
            changes: attempt.changes.clone(),
            epochs: attempt.epochs.clone(),
        };
        for change in &attempt.changes {
            if let Change::DeleteTopic { id } = change {
                self.deletes.insert(*id);
            }
        }
        self.attempts.push(attempt);
        (self.attempts.len() - 1, ws)
    }

    /// A batch is at this offset: told by an answer or seen by a read.
    pub fn place(&mut self, id: BatchId, offset: i64, how: &str) -> Result<(), Violation> {
        let batch = &mut self.batches[id];
        match batch.hope {
            Hope::Placed(known) => {
                ensure!(
                    known == offset,
                    "batch {id} {how} at offset {offset}, it was at {known}"
                );
                return Ok(());
            }
            Hope::Dead => {
                return Err(format!("batch {id}, which was refused or lost, is {how} at {offset}"));
            }
            Hope::Pending => batch.hope = Hope::Placed(offset),
        }
        let (log, count) = (batch.log, batch.timestamps.len() as i64);
        let Some(model) = self.logs.get_mut(&log) else {
            return Ok(());
        };
        let before = model.batches.range(..offset + count).next_back();
        if let Some((first, other)) = before {
            let last = first + self.batches[*other].timestamps.len() as i64 - 1;
            ensure!(
                last < offset,
                "offset {offset} of log {log} is given to batch {id} and to batch {other}"
            );
        }
        model.batches.insert(offset, id);
        Ok(())
    }

    /// An answer. `ends` tells the published end of a log now.
    pub fn answered(
        &mut self,
        id: AttemptId,
        outcome: &Result<Receipt, WriteError>,
        end_of: impl Fn(LogId) -> Option<i64>,
    ) -> Result<(), Violation> {
        ensure!(self.attempts[id].open, "write set {id} is answered twice");
        self.attempts[id].open = false;
        match outcome {
            Ok(receipt) => self.accepted(id, receipt, end_of),
            // Storage cannot say any more what became of it; recovery will.
            Err(WriteError::Poisoned(_)) => {
                self.attempts[id].open = true;
                Ok(())
            }
            Err(error) => self.was_refused(id, error),
        }
    }

    fn accepted(
        &mut self,
        id: AttemptId,
        receipt: &Receipt,
        end_of: impl Fn(LogId) -> Option<i64>,
    ) -> Result<(), Violation> {
        self.acknowledged += 1;
        for check in &self.attempts[id].epochs {
            let current = self.epochs.get(&check.name).copied().unwrap_or(0);
            ensure!(
                current == check.epoch,
                "write set {id} of epoch {} was accepted, current is {current}",
                check.epoch
            );
        }
        let batches = self.attempts[id].batches.clone();
        ensure!(
            receipt.appends.len() == batches.len(),
            "write set {id}: wrong count of appends"
        );
        for (batch, appended) in batches.into_iter().zip(&receipt.appends) {
            self.appended(batch, appended, end_of(appended.log))?;
        }
        let changes = self.attempts[id].changes.clone();
        for change in &changes {
            self.changed(change, receipt)?;
        }
        Ok(())
    }

    fn appended(&mut self, id: BatchId, appended: &Appended, end: Option<i64>) -> Result<(), Violation> {
        let batch = &self.batches[id];
        let count = batch.timestamps.len() as i64;
        let (first, last) = (appended.first_offset, appended.last_offset);
        ensure!(last - first + 1 == count, "batch {id} was given {first} to {last}");
        let known = matches!(batch.hope, Hope::Placed(_));
        ensure!(
            known == appended.duplicate || !known,
            "batch {id} was placed before and is now called new at {first}"
        );
        if let Some(end) = end {
            ensure!(
                end > last,
                "batch {id} at {last} is answered while the published end is {end}"
            );
        }
        self.place(id, first, "answered")?;
        if let Some(model) = self.logs.get_mut(&appended.log) {
            model.end = model.end.max(last + 1);
        }
        Ok(())
    }

    fn changed(&mut self, change: &Change, receipt: &Receipt) -> Result<(), Violation> {
        match change {
            Change::CreateTopic {
                name,
                partitions,
                configs,
            } => {
                let topic = receipt.created.as_ref().ok_or("a created topic was not told")?;
                ensure!(
                    topic.name == *name && topic.partitions.len() == *partitions as usize,
                    "another topic was created than {name}"
                );
                self.add_topic(topic.id, name, &topic.partitions, configs)?;
            }
            Change::AddPartitions { id, total } => {
                let topic = receipt.created.as_ref().ok_or("a grown topic was not told")?;
                ensure!(topic.id == *id, "another topic has grown");
                ensure!(topic.partitions.len() == *total as usize, "wrong count of partitions");
                self.grow_topic(*id, &topic.partitions)?;
            }
            Change::DeleteTopic { id } => self.remove_topic(*id),
            Change::SetConfigs { id, configs } => self.set_configs(*id, configs),
            Change::MoveLogStart { log, offset } => self.move_start(*log, *offset),
            Change::MoveLogStartToAppend { log } => {
                let append = receipt.appends.iter().find(|a| a.log == *log);
                self.move_start(*log, append.ok_or("no append to move to")?.first_offset);
            }
            Change::SetEpoch { name, epoch } => {
                let old = self.epochs.insert(name.clone(), *epoch).unwrap_or(0);
                ensure!(old < *epoch, "epoch of {name} went from {old} to {epoch}");
            }
            Change::RemoveEpoch { name } => {
                self.epochs.remove(name);
            }
            Change::AllocateProducerIds { count } => {
                let first = receipt.first_producer_id.ok_or("no producer ids were told")?;
                ensure!(
                    first >= self.next_producer_id,
                    "producer id {first} was given out before"
                );
                self.next_producer_id = first + i64::from(*count);
            }
        }
        Ok(())
    }

    fn move_start(&mut self, log: LogId, offset: i64) {
        if let Some(model) = self.logs.get_mut(&log) {
            model.start = model.start.max(offset);
        }
    }

    pub fn add_topic(
        &mut self,
        id: Uuid,
        name: &str,
        logs: &[LogId],
        configs: &BTreeMap<String, String>,
    ) -> Result<(), Violation> {
        let model = TopicModel {
            name: name.into(),
            logs: Vec::new(),
            configs: configs.clone(),
        };
        ensure!(
            self.topics.insert(id, model).is_none(),
            "topic id {id} was given out before"
        );
        self.grow_topic(id, logs)
    }

    pub fn grow_topic(&mut self, id: Uuid, logs: &[LogId]) -> Result<(), Violation> {
        let Some(topic) = self.topics.get_mut(&id) else {
            return Ok(());
        };
        let known = topic.logs.len();
        ensure!(logs.starts_with(&topic.logs), "topic {} lost partitions", topic.name);
        topic.logs = logs.to_vec();
        let retained = retains(&topic.configs);
        let name = topic.name.clone();
        for log in &logs[known..] {
            let model = LogModel {
                topic: name.clone(),
                start: 0,
                end: 0,
                batches: BTreeMap::new(),
                retained,
                fenced: false,
                leader_epoch: -1,
            };
            let fresh = self.logs.insert(*log, model).is_none() && !self.dead_logs.contains(log);
            ensure!(fresh, "log id {log} was given out before");
        }
        Ok(())
    }

    pub fn remove_topic(&mut self, id: Uuid) {
        for log in self.topics.remove(&id).map(|t| t.logs).unwrap_or_default() {
            self.logs.remove(&log);
            self.dead_logs.insert(log);
        }
    }

    pub fn set_configs(&mut self, id: Uuid, configs: &BTreeMap<String, String>) {
        let Some(topic) = self.topics.get_mut(&id) else { return };
        topic.configs = configs.clone();
        for log in &topic.logs {
            if let Some(model) = self.logs.get_mut(log) {
                model.retained |= retains(configs);
            }
        }
    }

    fn was_refused(&mut self, id: AttemptId, error: &WriteError) -> Result<(), Violation> {
        self.refused += 1;
        let attempt = &self.attempts[id];
        let gone = |log: &LogId| self.dead_logs.contains(log) || !self.logs.contains_key(log);
        let fair = attempt.may_refuse
            || match error {
                WriteError::Fenced { log, .. } => self.logs.get(log).is_some_and(|l| l.fenced),
                WriteError::UnknownLog(log) => {
                    gone(log)
                        || self
                            .topics
                            .iter()
                            .any(|(id, t)| self.deletes.contains(id) && t.logs.contains(log))
                }
                _ => false,
            };
        ensure!(fair, "write set {id} was refused: {error}");
        for batch in attempt.batches.clone() {
            // Another attempt with the same batch may still be open, or have succeeded.
            let hoped = self.attempts.iter().any(|a| a.open && a.batches.contains(&batch));
            if self.batches[batch].hope == Hope::Pending && !hoped {
                self.batches[batch].hope = Hope::Dead;
            }
        }
        Ok(())
    }

    /// Records that a read showed.
    pub fn seen(&mut self, log: LogId, records: &[StoredRecord]) -> Result<(), Violation> {
        for record in records {
            let offset = record.offset;
            let Some((id, index)) = identity(record) else {
                return Err(format!("log {log} offset {offset}: not a record of ours"));
            };
            let Some(batch) = self.batches.get(id) else {
                return Err(format!("log {log} offset {offset}: batch {id} was never sent"));
            };
            ensure!(
                batch.log == log,
                "log {log} offset {offset}: batch {id} belongs to {}",
                batch.log
            );
            let expected = value(id, index, batch.value_len);
            ensure!(
                record.value.as_ref() == Some(&expected) && record.key.is_none(),
                "log {log} offset {offset}: other bytes than were sent"
            );
            let timestamp = batch.timestamps.get(index);
            ensure!(
                batch.log_append_time || timestamp == Some(&record.timestamp_ms),
                "log {log} offset {offset}: timestamp {} of {timestamp:?}",
                record.timestamp_ms
            );
            self.place(id, offset - index as i64, "seen")?;
        }
        Ok(())
    }

    /// Checks a log from its start to its end.
    pub fn check_log(&mut self, log: LogId, shown: &Shown) -> Result<(), Violation> {
        let Some(model) = self.logs.get(&log) else {
            return Err(format!("log {log} exists and was never told of"));
        };
        let (start, end) = (model.start, model.end);
        ensure!(
            shown.end >= end,
            "log {log} ended at {end} and ends at {} now",
            shown.end
        );
        ensure!(
            shown.start >= start,
            "log {log} started at {start}, now at {}",
            shown.start
        );
        let epoch = model.leader_epoch;
        ensure!(
            shown.leader_epoch >= epoch,
            "log {log}: leader epoch fell below {epoch}"
        );
        let mut expected = shown.start;
        for record in &shown.records {
            ensure!(
                record.offset == expected,
                "log {log}: offset {} where {expected} should be",
                record.offset
            );
            expected += 1;
        }
        ensure!(
            expected == shown.end,
            "log {log} ends at {} and shows up to {expected}",
            shown.end
        );
        self.seen(log, &shown.records)?;
        let may_move = self.highest_start(log);
        let Some(model) = self.logs.get_mut(&log) else {
            return Ok(());
        };
        ensure!(
            shown.start <= may_move,
            "log {log} starts at {}, nobody moved it beyond {may_move}",
            shown.start
        );
        model.start = shown.start;
        model.end = shown.end;
        model.leader_epoch = shown.leader_epoch;
        for (first, id) in &model.batches {
            let last = first + self.batches[*id].timestamps.len() as i64 - 1;
            let place = usize::try_from(last.max(shown.start) - shown.start).unwrap_or(0);
            let found = shown.records.get(place).and_then(identity);
            let index = self.batches[*id].timestamps.len() - 1;
            ensure!(
                last < shown.start || found == Some((*id, index)),
                "log {log}: batch {id} was at offset {first}, {found:?} is there now"
            );
        }
        Ok(())
    }

    /// Whether a batch is in its log and above the log's start.
    pub fn is_kept(&self, id: BatchId) -> bool {
        let start = self.logs.get(&self.batches[id].log).map(|log| log.start);
        matches!((self.batches[id].hope, start), (Hope::Placed(offset), Some(start)) if offset >= start)
    }

    /// How far the start of a log may have been moved by write sets that nobody has been told of.
    fn highest_start(&self, log: LogId) -> i64 {
        let Some(model) = self.logs.get(&log) else { return 0 };
        if model.retained {
            return i64::MAX;
        }
        let open = self.attempts.iter().filter(|a| a.open);
        let moves = open.flat_map(|a| a.changes.iter().map(move |c| (a, c)));
        let highest = moves.filter_map(|(attempt, change)| match change {
            Change::MoveLogStart { log: moved, offset } if *moved == log => Some(*offset),
            Change::MoveLogStartToAppend { log: moved } if *moved == log => {
                let own = attempt.batches.iter().find(|b| self.batches[**b].log == log)?;
                match self.batches[*own].hope {
                    Hope::Placed(offset) => Some(offset),
                    _ => Some(i64::MAX),
                }
            }
            _ => None,
        });
        highest.max().unwrap_or(0).max(model.start)
    }
}

/// Whether retention may delete records under these settings.
pub(crate) fn retains(configs: &BTreeMap<String, String>) -> bool {
    let off = |name: &str, default: &str| configs.get(name).map_or(default, String::as_str) == "-1";
    !(off("retention.ms", "604800000") && off("retention.bytes", "-1"))
}
