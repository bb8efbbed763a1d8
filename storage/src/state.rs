//! Published state: what readers see. The committer changes it after a sync, recovery rebuilds it with
//! the same functions, and a checkpoint stores it exactly as of one lsn.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::batch::BatchHeader;
use crate::catalog::{Catalog, ControlRecord, Topic};
use crate::config::LogConfig;
use crate::frame::Part;
use crate::manifest::{Fence, StoredLog};
use crate::producers::ProducerTable;
use crate::segment::{self, Segment, SegmentFile};
use crate::write_set::LogEnds;
use crate::{LogId, Lsn};

/// What is published of a log.
#[derive(Debug, Clone)]
pub(crate) struct LogState {
    pub dir: PathBuf,
    pub config: LogConfig,
    pub start: i64,
    pub end: i64,
    /// The end as of the last checkpoint: below it the segment must be good.
    pub checkpointed_end: i64,
    /// The epoch in which new records are written.
    pub leader_epoch: i32,
    pub leader_epochs: Vec<(i32, i64)>,
    pub segments: Vec<Segment>,
    pub producers: ProducerTable,
    /// The lsn in the name of the producer snapshot of the last checkpoint.
    pub stored_producers: Option<Lsn>,
    pub fence: Option<Fence>,
}

/// Files that nothing refers to once a checkpoint covers `lsn`.
#[derive(Debug, Clone)]
pub(crate) struct Removal {
    pub lsn: Lsn,
    pub what: Removed,
}

#[derive(Debug, Clone)]
pub(crate) enum Removed {
    /// With its index.
    Segment(Arc<SegmentFile>),
    /// A producer snapshot that another one has superseded.
    Producers(PathBuf),
    /// A directory, with all that is in it.
    Log(PathBuf),
}

/// Everything published, as of `lsn`.
#[derive(Debug)]
pub(crate) struct State {
    pub lsn: Lsn,
    /// Where the next frame stands: journal file and position.
    pub journal_end: (u64, u64),
    pub catalog: Arc<Catalog>,
    /// Ordered, so that a run can be repeated to the byte.
    pub logs: BTreeMap<LogId, LogState>,
    /// Logs changed since the last checkpoint.
    pub touched: BTreeSet<LogId>,
    pub removals: Vec<Removal>,
    pub data_dir: PathBuf,
    /// Wall clock of the last frame.
    pub time_ms: i64,
}

/// Batches that stand in a segment and are about to be published.
#[derive(Debug)]
pub(crate) struct AppliedRun {
    pub part: Part,
    pub headers: Vec<BatchHeader>,
    pub file: Arc<SegmentFile>,
}

/// The directory of a log.
pub(crate) fn log_dir(data_dir: &Path, log: LogId) -> PathBuf {
    data_dir.join("logs").join(log.to_string())
}

/// The file of a log's segment.
pub(crate) fn segment_path(data_dir: &Path, log: LogId, base: i64) -> PathBuf {
    log_dir(data_dir, log).join(segment::file_name(base))
}

/// The epoch in which the record at the offset was written, by a table of epochs with their first offsets.
pub(crate) fn epoch_at(leader_epochs: &[(i32, i64)], offset: i64) -> Option<i32> {
    let behind = leader_epochs.partition_point(|(_, start)| *start <= offset);
    leader_epochs.get(behind.checked_sub(1)?).map(|(epoch, _)| *epoch)
}

impl LogState {
    pub fn new(dir: PathBuf, config: LogConfig, leader_epoch: i32) -> Self {
        Self {
            dir,
            config,
            start: 0,
            end: 0,
            checkpointed_end: 0,
            leader_epoch,
            leader_epochs: Vec::new(),
            segments: Vec::new(),
            producers: ProducerTable::default(),
            stored_producers: None,
            fence: None,
        }
    }

    pub fn from_stored(stored: &StoredLog, dir: PathBuf, config: LogConfig) -> Self {
        let segments = stored
            .segments
            .iter()
            .map(|segment| Segment::from_stored(segment, &dir))
            .collect();
        Self {
            config,
            start: stored.start,
            end: stored.end,
            checkpointed_end: stored.end,
            leader_epoch: stored.leader_epoch,
            leader_epochs: stored.leader_epochs.clone(),
            segments,
            producers: ProducerTable::default(),
            stored_producers: stored.producers,
            fence: None,
            dir,
        }
    }

    pub fn to_stored(&self, log: LogId) -> StoredLog {
        StoredLog {
            log,
            start: self.start,
            end: self.end,
            leader_epoch: self.leader_epoch,
            leader_epochs: self.leader_epochs.clone(),
            segments: self.segments.iter().map(Segment::to_stored).collect(),
            producers: self.stored_producers,
        }
    }

    pub fn ends(&self) -> LogEnds {
        LogEnds {
            // The start of a fenced log may lie in what was lost.
            start: self.start.min(self.end),
            high_watermark: self.end,
            leader_epoch: self.leader_epoch,
            size_bytes: self.segments.iter().map(|segment| segment.size_bytes).sum(),
        }
    }

    /// The segment that holds the offset, by its place in the list.
    pub fn segment_of(&self, offset: i64) -> Option<usize> {
        self.segments
            .partition_point(|segment| segment.base <= offset)
            .checked_sub(1)
    }

    /// The largest epoch at or below the asked one, and the offset at which it ends.
    pub fn epoch_end(&self, epoch: i32) -> Option<(i32, i64)> {
        let behind = self.leader_epochs.partition_point(|(known, _)| *known <= epoch);
        let (found, _) = self.leader_epochs.get(behind.checked_sub(1)?)?;
        let end = self.leader_epochs.get(behind).map_or(self.end, |(_, start)| *start);
        Some((*found, end))
    }

    /// The epoch in which the record at the offset was written.
    pub fn epoch_at(&self, offset: i64) -> Option<i32> {
        epoch_at(&self.leader_epochs, offset)
    }

    /// Takes note of batches that stand in a segment. The high watermark moves.
    pub fn publish(&mut self, run: &AppliedRun, time_ms: i64) {
        if self
            .segments
            .last()
            .is_none_or(|last| last.base < run.part.segment_base)
        {
            self.segments
                .push(Segment::new(run.part.segment_base, run.file.clone()));
        }
        let place = self
            .segments
            .partition_point(|segment| segment.base < run.part.segment_base);
        let Some(segment) = self.segments.get_mut(place) else {
            return;
        };
        let mut position = run.part.position;
        for header in &run.headers {
            segment.note(header, position);
            position = position.saturating_add(header.size_bytes() as u32);
            if self
                .leader_epochs
                .last()
                .is_none_or(|(epoch, _)| *epoch < header.leader_epoch)
            {
                self.leader_epochs.push((header.leader_epoch, header.base_offset));
            }
            self.producers.note(header, time_ms);
        }
        self.end = self.end.max(run.part.last_offset.saturating_add(1));
    }

    /// Takes whole segments below the start out of the list. The last one always stays: it carries the
    /// log's end.
    pub fn drop_below_start(&mut self) -> Vec<Arc<SegmentFile>> {
        let next_bases = self.segments.iter().skip(1).map(|segment| segment.base);
        let dead = next_bases.take_while(|base| *base <= self.start).count();
        let start = self.start;
        let behind = self.leader_epochs.partition_point(|(_, first)| *first <= start);
        if let Some(superseded) = behind.checked_sub(1) {
            self.leader_epochs.drain(..superseded);
        }
        self.segments.drain(..dead).map(|segment| segment.file).collect()
    }
}

impl State {
    /// Applies the control records of a frame: topics come, go and change; log starts move.
    pub fn apply_controls(&mut self, lsn: Lsn, controls: &[ControlRecord]) {
        if controls.is_empty() {
            return;
        }
        let mut catalog = Catalog::clone(&self.catalog);
        for control in controls {
            match control {
                ControlRecord::TopicCreated { topic, leader_epoch } => {
                    self.add_logs(topic, &topic.partitions, *leader_epoch);
                }
                ControlRecord::PartitionsAdded { id, logs, leader_epoch } => {
                    if let Some(topic) = catalog.topic_by_id(*id).cloned() {
                        self.add_logs(&topic, logs, *leader_epoch);
                    }
                }
                ControlRecord::TopicDeleted { id } => {
                    for log in catalog.topic_by_id(*id).iter().flat_map(|topic| &topic.partitions) {
                        self.remove_log(lsn, *log);
                    }
                }
                ControlRecord::ConfigsSet { id, configs } => {
                    let config = LogConfig::parse(configs).unwrap_or_default();
                    for log in catalog.topic_by_id(*id).iter().flat_map(|topic| &topic.partitions) {
                        if let Some(state) = self.logs.get_mut(log) {
                            state.config = config.clone();
                        }
                    }
                }
                ControlRecord::LogStartMoved { log, offset } => {
                    if let Some(state) = self.logs.get_mut(log) {
                        state.start = state.start.max(*offset);
                        self.touched.insert(*log);
                    }
                }
                ControlRecord::EpochSet { .. }
                | ControlRecord::EpochRemoved { .. }
                | ControlRecord::ProducerIdsAllocated { .. } => {}
            }
            catalog.apply(control);
        }
        self.catalog = Arc::new(catalog);
    }

    fn add_logs(&mut self, topic: &Topic, logs: &[LogId], leader_epoch: i32) {
        let config = LogConfig::parse(&topic.configs).unwrap_or_default();
        for log in logs {
            let dir = log_dir(&self.data_dir, *log);
            self.logs.insert(*log, LogState::new(dir, config.clone(), leader_epoch));
            self.touched.insert(*log);
        }
    }

    fn remove_log(&mut self, lsn: Lsn, log: LogId) {
        self.touched.remove(&log);
        if let Some(state) = self.logs.remove(&log) {
            // Its segments are not closed: a checkpoint that has begun still vouches for them, and may be backed up. Through
            // descriptors that are opened anew it would not hear that a write-back has failed.
            self.removals.push(Removal {
                lsn,
                what: Removed::Log(state.dir),
            });
        }
    }

    /// Publishes the batches of a frame, written at a wall-clock time. Those of logs that are gone are skipped.
    pub fn apply_runs(&mut self, runs: &[AppliedRun], time_ms: i64) {
        self.time_ms = time_ms;
        for run in runs {
            if let Some(state) = self.logs.get_mut(&run.part.log) {
                state.publish(run, time_ms);
                self.touched.insert(run.part.log);
            }
        }
    }

    /// Retires the segments that lie below the starts of these logs.
    pub fn drop_below_starts(&mut self, lsn: Lsn, logs: impl IntoIterator<Item = LogId>) {
        for log in logs {
            let Some(state) = self.logs.get_mut(&log) else { continue };
            for file in state.drop_below_start() {
                self.removals.push(Removal {
                    lsn,
                    what: Removed::Segment(file),
                });
            }
        }
    }
}
