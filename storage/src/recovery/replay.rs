//! Writes the frames above the checkpoint to their segments again, and fences logs that lost some.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::disk::{Disk, DiskFile, Open};
use crate::error::OpenError;
use crate::extent;
use crate::frame::{Kind, Part};
use crate::journal;
use crate::manifest::Fence;
use crate::planted::{Planted, planted};
use crate::segment::{self, IndexState};
use crate::shared::Dirty;
use crate::state::{AppliedRun, State, segment_path};
use crate::{CONTROL_LOG, LogId, Lsn};

use super::journal_reader::{Found, JournalReader, Lost, Whole};

/// Applies frames to segments.
pub(super) struct Replay<'a> {
    pub disk: &'a dyn Disk,
    pub state: &'a mut State,
    pub dirty: Dirty,
    /// The segment of each log that is being written. What stands in it behind that is looked at, and cut, at the end.
    pub opened: HashMap<LogId, (i64, Arc<segment::SegmentFile>)>,
    /// Logs that will be fenced: their segments may hold the only good copy.
    pub doomed: BTreeSet<LogId>,
    /// Nothing is written: only what is known of segments changes.
    pub rehearsal: bool,
}

impl Replay<'_> {
    pub fn apply(&mut self, frame: &Found, whole: &Whole) -> Result<(), OpenError> {
        for (part, run) in whole.runs(&frame.header) {
            if run.is_none() {
                let file = format!("logs/{}/{}", part.log, segment::file_name(part.segment_base));
                self.fence_log(part.log, frame.header.lsn, file, u64::from(part.position));
            }
            let alive = self.state.logs.get(&part.log).is_some_and(|log| log.fence.is_none());
            let Some(run) = run.filter(|_| alive) else {
                self.complete(part)?;
                continue;
            };
            let below = self
                .state
                .logs
                .get(&part.log)
                .is_some_and(|log| part.last_offset < log.start);
            if below && planted(Planted::SkipBelowStart) {
                continue;
            }
            if self.rehearsal {
                let path = segment_path(&self.state.data_dir, part.log, part.segment_base);
                let file = Arc::new(segment::SegmentFile::new(path));
                let key = (part.log, part.segment_base);
                self.dirty.segments.insert(key, file.clone());
                self.publish(part, run, file, frame.header.time_ms);
                continue;
            }
            let file = self.open(part)?;
            let handles = file
                .handles(self.disk, Open::ReadWrite)
                .map_err(OpenError::io("cannot open", &file.path))?;
            if planted(Planted::TrustSegment) && looks_right(&*handles.writer, run, part) {
                self.publish(part, run, file, frame.header.time_ms);
                continue;
            }
            let position = match handles.writer.len() {
                Ok(len) if planted(Planted::IgnorePosition) => len,
                _ => u64::from(part.position),
            };
            let written = match part.kind {
                Kind::Inline => handles.writer.write_at(run, position),
                // It was durable with the frame, but for one byte.
                _ => {
                    let withheld_at = position + extent::WITHHELD_AT as u64;
                    handles.writer.write_at(&[extent::WITHHELD], withheld_at)
                }
            };
            written.map_err(OpenError::io("cannot write", &file.path))?;
            self.publish(part, run, file, frame.header.time_ms);
        }
        Ok(())
    }

    fn publish(&mut self, part: &Part, run: &[u8], file: Arc<segment::SegmentFile>, time_ms: i64) {
        let headers = part.batches(run).unwrap_or_default();
        let part = *part;
        self.state.apply_runs(&[AppliedRun { part, headers, file }], time_ms);
    }

    /// The segment that a part goes to.
    fn open(&mut self, part: &Part) -> Result<Arc<segment::SegmentFile>, OpenError> {
        let key = (part.log, part.segment_base);
        match self.opened.get(&part.log) {
            Some((base, file)) if *base == part.segment_base => return Ok(file.clone()),
            _ => self.seal_before(part)?,
        }
        let Some(log) = self.state.logs.get_mut(&part.log) else {
            return Err(OpenError::Catalog(format!("log {} vanished", part.log)));
        };
        let dir = log.dir.clone();
        let known = log
            .segments
            .iter_mut()
            .find(|segment| segment.base == part.segment_base);
        let file = match &known {
            Some(segment) => segment.file.clone(),
            None => Arc::new(segment::SegmentFile::new(
                dir.join(segment::file_name(part.segment_base)),
            )),
        };
        // Also one that the manifest names may be gone. What the journal has is kept; reads of the rest name the damage.
        let exists = self.disk.exists(&file.path);
        let exists = exists.map_err(OpenError::io("cannot look at", &file.path))?;
        let mode = if exists { Open::ReadWrite } else { Open::CreateNew };
        if !exists {
            let created = self.disk.create_dir(&dir);
            created.map_err(OpenError::io("cannot create", &dir))?;
        }
        let opened = file.handles(self.disk, mode);
        opened.map_err(OpenError::io("cannot open", &file.path))?;
        if !exists || known.is_none() {
            // Its name may not be durable yet.
            self.dirty.directories.insert(dir);
        }
        if let Some(segment) = known.filter(|segment| matches!(segment.index, IndexState::Stored)) {
            let loaded = segment.load_index(self.disk);
            segment.install_index(loaded.map_err(OpenError::io("cannot index", &file.path))?);
        }
        self.dirty.segments.insert(key, file.clone());
        self.opened.insert(part.log, (part.segment_base, file.clone()));
        Ok(file)
    }

    /// The log goes on in another segment, and there may be very many of them: the one before is synced at once. It is
    /// looked at at the end even if no frame went to it.
    fn seal_before(&mut self, part: &Part) -> Result<(), OpenError> {
        let segments = self.state.logs.get(&part.log).map(|log| log.segments.as_slice());
        let before = segments.unwrap_or_default().last();
        let Some(before) = before.filter(|before| before.base < part.segment_base) else {
            return Ok(());
        };
        let file = &before.file;
        let opened = file.open_to_seal(self.disk);
        if let Some(handles) = opened.map_err(OpenError::io("cannot open", &file.path))? {
            let synced = handles.syncer.sync_all();
            synced.map_err(OpenError::io("cannot sync", &file.path))?;
            drop(file.take_handles());
            self.dirty.segments.insert((part.log, before.base), file.clone());
        }
        Ok(())
    }

    /// A fenced log's segments stay as they are, but for this: a repair must see the batch.
    fn complete(&self, part: &Part) -> Result<(), OpenError> {
        if part.kind == Kind::Inline || self.rehearsal || !self.state.logs.contains_key(&part.log) {
            return Ok(());
        }
        let path = segment_path(&self.state.data_dir, part.log, part.segment_base);
        extent::complete(self.disk, &path, part).map_err(OpenError::io("cannot write", &path))
    }

    fn fence_log(&mut self, log: LogId, lsn: Lsn, file: String, position: u64) {
        let state = self.state.logs.get_mut(&log).filter(|state| state.fence.is_none());
        let Some(state) = state else { return };
        let fence = Fence {
            log,
            lsn,
            file,
            position,
            offset: state.end,
        };
        tracing::error!(log, "log fenced: {}", fence.reason());
        state.fence = Some(fence);
    }

    /// Fences the logs that lost acknowledged records, or refuses to start if that cannot be told.
    pub fn fence(&mut self, lost: &Lost, journal: &JournalReader<'_>) -> Result<(), OpenError> {
        let refuse = |reason: &str| {
            Err(OpenError::JournalDamaged {
                lsn: lost.lsn,
                file: journal.path(lost.file),
                position: lost.position,
                reason: reason.into(),
            })
        };
        if lost.parts.is_none() && lost.listed.is_none() {
            return refuse("was durable, and what it held is not known");
        }
        let hit = lost.hits(|log| self.state.logs.get(&log).map(|state| state.end));
        if hit.contains(&CONTROL_LOG) {
            return refuse("was durable and held catalog changes");
        }
        for log in hit {
            let file = format!("journal/{}.damaged", journal::file_name(lost.file));
            self.fence_log(log, lost.lsn, file, lost.position);
        }
        for part in lost.parts.iter().flatten() {
            self.complete(part)?;
        }
        Ok(())
    }
}

/// The planted bug: the page cache may show bytes that the disk does not have.
fn looks_right(file: &dyn DiskFile, run: &[u8], part: &Part) -> bool {
    let mut seen = vec![0; run.len()];
    file.read_at(&mut seen, u64::from(part.position)).is_ok() && seen == run
}
