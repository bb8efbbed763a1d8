//! The committer: one group after the other is written to the journal (its largest runs straight to their segments) and synced,
//! applied to its segments, published and answered, while the next group gathers.
//!
//! Each stage is a step, so that a simulation can crash between any two. Invariant: nothing is published
//! before its frame is durable, and nobody is answered before everything of the group is published.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use bytes::Bytes;

use crate::append::Way;
use crate::apply;
use crate::disk::{Disk, Job, Open};
use crate::error::WriteError;
use crate::extent;
use crate::frame::{FrameHeader, Kind, Part, Salt};
use crate::journal::Journal;
use crate::planted::{Planted, planted};
use crate::segment::{IndexState, LoadedIndex, SegmentFile, file_name};
use crate::sequencer::{Extent, Group, Run, Waiter};
use crate::shared::{Published, Shared};
use crate::state::{AppliedRun, log_dir};
use crate::{LogId, Lsn};

/// More batches than this are copied together, whatever their size: that takes less than to handle them one by one.
const MOST_BATCHES: usize = 1024;

pub(crate) struct Committer {
    shared: Arc<Shared>,
    journal: Journal,
    salt: Salt,
    /// The last frame written.
    lsn: Lsn,
    /// The last frame known durable.
    synced_lsn: Lsn,
    /// The ends behind the last frame, which the next one lists.
    previous_ends: Vec<(LogId, i64)>,
    /// The segment that each log is being written to.
    writers: HashMap<LogId, (i64, Arc<SegmentFile>)>,
    /// Published segments that are followed by new ones of the present group: see [`SegmentFile::open_to_seal`].
    sealed: Vec<((LogId, i64), Arc<SegmentFile>)>,
    /// The present frame, unless it is large.
    buffer: Vec<u8>,
    /// Wall clock of the last frame.
    time_ms: i64,
    stage: Stage,
    /// Who waits for the present group. Not in the stage: a panic would take them along, and nobody would answer them.
    waiters: VecDeque<Waiter>,
}

/// How far the present group has come.
enum Stage {
    Idle,
    /// The frame is written.
    Written(Group),
    /// The frame and the extents are durable.
    Synced(Group),
    Applied(Group, Vec<AppliedRun>),
    /// A stage was begun and did not end: it panicked. Whoever comes next must not begin another group.
    Broken,
}

/// What a step did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// There is nothing to do.
    Idle,
    /// Some work was done; there may be more.
    Worked,
    /// Storage is poisoned; nothing will be done any more.
    Poisoned,
}

impl Committer {
    pub fn new(shared: Arc<Shared>, journal: Journal, salt: Salt, lsn: Lsn) -> Self {
        Self {
            shared,
            journal,
            salt,
            lsn,
            synced_lsn: lsn,
            previous_ends: Vec::new(),
            writers: HashMap::new(),
            sealed: Vec::new(),
            buffer: Vec::new(),
            time_ms: i64::MIN,
            stage: Stage::Idle,
            waiters: VecDeque::new(),
        }
    }

    /// Does the next stage of the present group, or begins the next group.
    pub fn step(&mut self) -> Step {
        if self.shared.poisoned().is_some() {
            self.fail_present_group();
            return Step::Poisoned;
        }
        let result = match std::mem::replace(&mut self.stage, Stage::Broken) {
            Stage::Idle => {
                let Some(mut group) = self.shared.sequencer.lock().take_group() else {
                    self.stage = Stage::Idle;
                    return Step::Idle;
                };
                self.waiters = std::mem::take(&mut group.waiters).into();
                let result = if group.runs.is_empty() {
                    Ok(())
                } else {
                    self.write(&mut group)
                };
                self.stage = Stage::Written(group);
                result
            }
            Stage::Written(group) => {
                let result = if group.runs.is_empty() {
                    Ok(())
                } else if planted(Planted::PublishBeforeSync) {
                    write_unsynced(&group.runs, self.shared.options.unread_bytes)
                } else {
                    self.sync(&group.runs)
                };
                self.stage = Stage::Synced(group);
                result.map_err(|error| format!("write or sync failed: {error}"))
            }
            Stage::Synced(group) => {
                let result = self.apply(&group);
                let (runs, result) = match result {
                    Ok(runs) => (runs, Ok(())),
                    Err(error) => (Vec::new(), Err(error)),
                };
                self.stage = Stage::Applied(group, runs);
                result.map_err(|error| format!("segment write failed: {error}"))
            }
            Stage::Applied(group, runs) => {
                self.publish(group, &runs);
                let result = if planted(Planted::PublishBeforeSync) {
                    self.sync(&[]).map_err(|error| error.to_string())
                } else {
                    Ok(())
                };
                self.stage = Stage::Idle;
                result
            }
            Stage::Broken => Err("a commit panicked, which is a bug".to_owned()),
        };
        match result {
            Ok(()) => Step::Worked,
            Err(what) => {
                self.shared.poison(&what);
                self.fail_present_group();
                Step::Poisoned
            }
        }
    }

    /// True if no group is under way.
    pub fn is_idle(&self) -> bool {
        matches!(self.stage, Stage::Idle)
    }

    fn fail_present_group(&mut self) {
        self.stage = Stage::Idle;
        let what = self.shared.poisoned().unwrap_or_default();
        while let Some(waiter) = self.waiters.pop_front() {
            self.shared.answer(waiter.done, Err(WriteError::Poisoned(what.clone())));
        }
    }

    fn write(&mut self, group: &mut Group) -> Result<(), String> {
        extent::choose(group, self.shared.options.extent_bytes);
        let ends = group.runs.iter().map(|run| (run.part.log, run.part.last_offset + 1));
        let ends: HashMap<LogId, i64> = ends.collect();
        if planted(Planted::RemoveAtOnce) {
            self.remove_at_once(group);
        }
        let opened = self.open_extents(&mut group.runs);
        opened.map_err(|error| format!("cannot open a segment: {error}"))?;
        let written = self.write_frame(&group.runs);
        written.map_err(|error| format!("journal write failed: {error}"))?;
        self.previous_ends = ends.into_iter().collect();
        self.previous_ends.sort_unstable();
        if planted(Planted::NoPreviousEnds) {
            self.previous_ends.clear();
        }
        Ok(())
    }

    /// The planted bug: what lies below a new start goes before the move is durable.
    fn remove_at_once(&self, group: &Group) {
        let state = self.shared.state.read();
        for control in &group.controls {
            let crate::catalog::ControlRecord::LogStartMoved { log, offset } = control else {
                continue;
            };
            let segments = state
                .logs
                .get(log)
                .map(|log| log.segments.as_slice())
                .unwrap_or_default();
            for (segment, next) in segments.iter().zip(segments.iter().skip(1)) {
                if next.base <= *offset {
                    let _ = self.shared.disk.remove_file(&segment.file.path);
                }
            }
        }
    }

    /// Opens or creates the segments of the extents, which are written when the frame is synced.
    fn open_extents(&mut self, runs: &mut [Run]) -> io::Result<()> {
        for run in runs.iter_mut().filter(|run| run.part.kind == Kind::Extent) {
            let file = self.segment_of(run)?;
            file.handles(&*self.shared.disk, Open::ReadWrite)?;
            let crc = extent::checksum_of(run);
            run.extent = Some(Extent { file, crc });
            let bytes = u64::from(run.part.length);
            self.shared.spend(bytes);
            // A start has to read it, as it has to read the journal.
            self.shared.journal_bytes.fetch_add(bytes, Ordering::Relaxed);
            self.shared.counters.extent_bytes.fetch_add(bytes, Ordering::Relaxed);
        }
        Ok(())
    }

    fn write_frame(&mut self, runs: &[Run]) -> io::Result<()> {
        let header_len = FrameHeader::encoded_len(runs.len(), self.previous_ends.len());
        let body_bytes: u64 = runs.iter().map(|run| run.part.body_bytes() as u64).sum();
        let (file, position) = self.journal.reserve(header_len as u64 + body_bytes)?;
        self.time_ms = self.shared.clock.now_ms();
        let header = FrameHeader {
            salt: self.salt,
            lsn: self.lsn + 1,
            file,
            position,
            synced_lsn: self.synced_lsn,
            time_ms: self.time_ms,
            body_bytes,
            parts: runs.iter().map(|run| run.part).collect(),
            previous_ends: std::mem::take(&mut self.previous_ends),
        };
        self.buffer.clear();
        let large_frame_bytes = self.shared.options.large_frame_bytes;
        let batches = runs.iter().map(|run| run.batches.len()).sum::<usize>();
        let taken_bytes = if body_bytes >= large_frame_bytes && batches <= MOST_BATCHES {
            let body: Vec<Bytes> = runs.iter().flat_map(pieces_of_body).collect();
            let header = header.encode(body.iter().map(|piece| &piece[..]));
            let frame: Vec<Bytes> = [header.into()].into_iter().chain(body).collect();
            self.journal.write_large(&frame, position, large_frame_bytes / 2)?
        } else {
            self.buffer.resize(header_len, 0);
            for run in runs {
                match &run.extent {
                    Some(extent) => self.buffer.extend(extent.crc.to_le_bytes()),
                    None => run.copy_to(&mut self.buffer),
                }
            }
            header.seal(&mut self.buffer);
            self.journal.write(&self.buffer, position)?
        };
        self.shared.spend(taken_bytes);
        self.lsn += 1;
        let bytes = header_len as u64 + body_bytes;
        self.shared.journal_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.shared.counters.journal_bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// Writes the extents, and makes them and the frame durable, all at the same time: the frame counts only with all of them.
    fn sync(&mut self, runs: &[Run]) -> io::Result<()> {
        let (disk, unread_bytes) = (&*self.shared.disk, self.shared.options.unread_bytes);
        let extents = || runs.iter().filter_map(|run| Some((run, &run.extent.as_ref()?.file)));
        let new = || extents().map(|(_, file)| file).filter(|file| !file.is_name_durable());
        // Its log's, and the one that holds that.
        let directories: BTreeSet<&Path> = new().flat_map(|file| file.path.ancestors().skip(1).take(2)).collect();
        let begun = Instant::now();
        let journal = &mut self.journal;
        let mut jobs: Vec<Job<'_>> = vec![Box::new(|| journal.sync())];
        jobs.extend(
            extents().map(|(run, file)| -> Job<'_> { Box::new(move || extent::commit(run, file, unread_bytes)) }),
        );
        if !planted(Planted::ExtentNameUnsynced) {
            jobs.extend(
                directories
                    .into_iter()
                    .map(|dir| -> Job<'_> { Box::new(move || disk.sync_dir(dir)) }),
            );
        }
        disk.run_few(jobs)?;
        new().for_each(|file| file.note_name_durable());
        self.shared.counters.note_sync(begun.elapsed());
        self.synced_lsn = self.lsn;
        Ok(())
    }

    /// Writes the batches to their segments, not synced: until a checkpoint the journal has them. Of extents, the byte that
    /// they lack.
    fn apply(&mut self, group: &Group) -> io::Result<Vec<AppliedRun>> {
        let files: io::Result<Vec<_>> = group.runs.iter().map(|run| self.segment_of(run)).collect();
        let files = files?;
        let shared = &self.shared;
        let body = group.runs.iter().map(|run| run.part.body_bytes()).sum::<usize>();
        let mut offset = self.buffer.len().saturating_sub(body);
        let mut large: Vec<Job<'static>> = Vec::new();
        for (run, file) in group.runs.iter().zip(&files) {
            let part = &run.part;
            // None of a large frame, which is not in the buffer.
            let held = self.buffer.get(offset..offset + part.body_bytes());
            offset += part.body_bytes();
            let is_large = u64::from(part.length) >= shared.options.past_cache_bytes
                && file.is_unread(shared.options.unread_bytes);
            match (part.kind, held) {
                (Kind::Inline, _) if is_large => {
                    large.push(apply::inline_job(shared, run, file, Way::PastCache { but_bytes: 0 }));
                }
                (Kind::Inline, Some(held)) => apply::inline(shared, part, file, &[held], Way::ThroughCache)?,
                (Kind::Inline, None) => apply::inline_job(shared, run, file, Way::ThroughCache)()?,
                _ => apply::complete_extent(shared, part, file)?,
            }
        }
        // These wait for the disk, the others only for a copy.
        shared.disk.run_many(large)?;
        let applied = group.runs.iter().zip(files).map(|(run, file)| AppliedRun {
            part: run.part,
            headers: run.batches.iter().map(|batch| batch.header).collect(),
            file,
        });
        Ok(applied.collect())
    }

    /// The segment that a run of the present group goes to.
    fn segment_of(&mut self, run: &Run) -> io::Result<Arc<SegmentFile>> {
        let part = &run.part;
        let file = match (&run.extent, self.writers.get(&part.log)) {
            (Some(extent), _) => extent.file.clone(),
            (None, Some((base, file))) if *base == part.segment_base => return Ok(file.clone()),
            (None, _) => open_active(&self.shared, part, &mut self.sealed)?,
        };
        self.writers.insert(part.log, (part.segment_base, file.clone()));
        Ok(file)
    }

    fn publish(&mut self, group: Group, runs: &[AppliedRun]) {
        let started = group.controls.iter().filter_map(|control| match control {
            crate::catalog::ControlRecord::LogStartMoved { log, .. } => Some(*log),
            _ => None,
        });
        let mut logs: Vec<LogId> = runs.iter().map(|run| run.part.log).chain(started).collect();
        logs.sort_unstable();
        logs.dedup();
        // Of a group without runs, all wait for what was written before.
        if !group.runs.is_empty() {
            self.shared.counters.groups.fetch_add(1, Ordering::Relaxed);
            let mut state = self.shared.state.write();
            state.apply_controls(self.lsn, &group.controls);
            // A checkpoint sees both or neither: it syncs them, and closes them because they are sealed.
            self.shared.dirty.lock().segments.extend(self.sealed.drain(..));
            state.apply_runs(runs, self.time_ms);
            state.drop_below_starts(self.lsn, logs.iter().copied());
            state.lsn = self.lsn;
            state.journal_end = self.journal.end();
            if !group.controls.is_empty() {
                self.writers.retain(|log, _| state.logs.contains_key(log));
            }
        }
        let counters = &self.shared.counters;
        counters.record_bytes.fetch_add(group.bytes, Ordering::Relaxed);
        let batches = runs.iter().map(|run| run.headers.len() as u64).sum();
        counters.batches.fetch_add(batches, Ordering::Relaxed);
        let published = Published {
            lsn: self.lsn,
            logs,
            catalog_changed: !group.controls.is_empty(),
        };
        for hook in self.shared.hooks.read().iter() {
            hook(&published);
        }
        while let Some(mut waiter) = self.waiters.pop_front() {
            if let Ok(receipt) = &mut waiter.outcome {
                receipt.lsn = self.lsn;
            }
            self.shared.answer(waiter.done, waiter.outcome);
        }
        // Last: until here a refusal or a duplicate must not be told at once, it could overtake these answers.
        self.shared.sequencer.lock().published(group.bytes);
    }

    /// True if an empty frame would prove the last group durable.
    pub fn wants_closing_frame(&self) -> bool {
        self.is_idle() && !self.previous_ends.is_empty()
    }

    /// Writes and syncs an empty frame. The header says that the last group was durable, so that damage to
    /// it is told from a torn tail.
    pub fn close_idle(&mut self) -> Step {
        if self.shared.poisoned().is_some() {
            return Step::Poisoned;
        }
        self.stage = Stage::Broken;
        match self.write_frame(&[]).and_then(|()| self.sync(&[])) {
            Ok(()) => {
                self.stage = Stage::Idle;
                let mut state = self.shared.state.write();
                state.lsn = self.lsn;
                state.journal_end = self.journal.end();
                Step::Worked
            }
            Err(error) => {
                self.shared.poison(&format!("journal write failed: {error}"));
                Step::Poisoned
            }
        }
    }
}

/// What the body of a frame has of a run.
fn pieces_of_body(run: &Run) -> Vec<Bytes> {
    match &run.extent {
        Some(extent) => vec![Bytes::copy_from_slice(&extent.crc.to_le_bytes())],
        None => run.pieces().collect(),
    }
}

/// The planted bug: what is published is on no disk yet.
fn write_unsynced(runs: &[Run], unread_bytes: u64) -> io::Result<()> {
    let mut extents = runs.iter().filter_map(|run| Some((run, run.extent.as_ref()?)));
    extents.try_for_each(|(run, extent)| extent::write(run, &extent.file, unread_bytes))
}

/// Opens the segment that a part goes to. A new one is created, its log's directory too; an old one gets
/// its index into memory, because publishing will add to it.
fn open_active(
    shared: &Shared,
    part: &Part,
    sealed: &mut Vec<((LogId, i64), Arc<SegmentFile>)>,
) -> io::Result<Arc<SegmentFile>> {
    let (known, last) = {
        let state = shared.state.read();
        let segments = state
            .logs
            .get(&part.log)
            .map(|log| log.segments.as_slice())
            .unwrap_or_default();
        let known = segments.iter().rev().find(|segment| segment.base == part.segment_base);
        (
            known.cloned(),
            segments.last().map(|last| (last.base, last.file.clone())),
        )
    };
    let Some(segment) = known else {
        let Some((base, last)) = last else {
            return create_segment(shared, part);
        };
        let is_open = last.open_to_seal(&*shared.disk)?.is_some();
        let created = create_segment(shared, part)?;
        created.note_follows(&last);
        if is_open {
            sealed.push(((part.log, base), last));
        }
        return Ok(created);
    };
    segment.file.handles(&*shared.disk, Open::ReadWrite)?;
    if matches!(segment.index, IndexState::Stored) {
        let loaded = segment.load_index(&*shared.disk)?;
        install_index(shared, part.log, part.segment_base, loaded);
    }
    Ok(segment.file)
}

/// Puts a loaded index where look-ups find it.
pub(crate) fn install_index(shared: &Shared, log: LogId, base: i64, loaded: LoadedIndex) {
    let mut state = shared.state.write();
    let segments = state
        .logs
        .get_mut(&log)
        .map(|log| log.segments.as_mut_slice())
        .unwrap_or_default();
    if let Some(segment) = segments.iter_mut().find(|segment| segment.base == base) {
        segment.install_index(loaded);
    }
}

fn create_segment(shared: &Shared, part: &Part) -> io::Result<Arc<SegmentFile>> {
    let dir = log_dir(&shared.options.data_dir, part.log);
    let mut dirty = shared.dirty.lock();
    if !shared.disk.exists(&dir)? {
        shared.disk.create_dir(&dir)?;
        dirty.directories.insert(shared.options.data_dir.join("logs"));
    }
    let file = Arc::new(SegmentFile::new(dir.join(file_name(part.segment_base))));
    new_or_emptied(&*shared.disk, &file)?;
    shared.new_segments.fetch_add(1, Ordering::Relaxed);
    dirty.directories.insert(dir);
    Ok(file)
}

/// Opens a segment file that nothing published refers to. Whatever stood in it is cut.
fn new_or_emptied(disk: &dyn Disk, file: &SegmentFile) -> io::Result<()> {
    if disk.exists(&file.path)? {
        file.handles(disk, Open::ReadWrite)?.writer.set_len(0)
    } else {
        file.handles(disk, Open::CreateNew).map(|_| ())
    }
}
