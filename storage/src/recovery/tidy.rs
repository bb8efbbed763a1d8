//! What neither the manifest nor a frame names: removed, or cut off, unless it shows what the journal has lost.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::batch::{self, BatchHeader, HEADER_LEN};
use crate::checkpoint;
use crate::disk::{Disk, Open};
use crate::error::OpenError;
use crate::manifest::Fence;
use crate::planted::{Planted, planted};
use crate::segment;
use crate::shared::Dirty;
use crate::state::{LogState, Removal, Removed, State};
use crate::{CONTROL_LOG, LogId, Lsn, MAX_WRITE_SET_BYTES};

/// Removes directories of logs that are gone, segment files that nothing names, and what half-done removals left; cuts
/// segments to what the manifest and the frames say. Fences logs whose files show that the journal had more.
pub(super) fn tidy(disk: &dyn Disk, state: &mut State, data_dir: &Path, dirty: &mut Dirty) -> Result<(), OpenError> {
    let logs_dir = data_dir.join("logs");
    let mut without_directory: BTreeSet<LogId> = state.logs.keys().copied().collect();
    for name in disk.list(&logs_dir).map_err(OpenError::io("cannot list", &logs_dir))? {
        let dir = logs_dir.join(&name);
        let id = checkpoint::log_id_of(&name);
        match id.and_then(|id| Some((id, state.logs.get_mut(&id)?))) {
            Some((id, log)) => {
                without_directory.remove(&id);
                let names = disk.list(&dir).map_err(OpenError::io("cannot list", &dir))?;
                let removals = &state.removals;
                let mut one = Tidying {
                    disk,
                    id,
                    log,
                    names,
                    removals,
                    dirty,
                };
                one.tidy(state.lsn)?;
            }
            // The old manifest may still name it: it goes after the checkpoint that ends recovery.
            None => state.removals.push(Removal {
                lsn: 0,
                what: Removed::Log(dir),
            }),
        }
    }
    for id in without_directory {
        if let Some(log) = state.logs.get_mut(&id) {
            let (names, removals) = (Vec::new(), &state.removals);
            let mut one = Tidying {
                disk,
                id,
                log,
                names,
                removals,
                dirty,
            };
            one.tidy(state.lsn)?;
        }
    }
    Ok(())
}

/// Only the fencing, for a rehearsal: `to_write` are segments that a start would have written by then.
pub(super) fn fence_losses(
    disk: &dyn Disk,
    state: &mut State,
    to_write: &BTreeSet<(LogId, i64)>,
) -> Result<(), OpenError> {
    let mut dirty = Dirty::default();
    for (id, log) in state.logs.iter_mut().filter(|(_, log)| log.fence.is_none()) {
        let dir = log.dir.clone();
        let exists = disk.exists(&dir).map_err(OpenError::io("cannot look at", &dir))?;
        let names = if exists { disk.list(&dir) } else { Ok(Vec::new()) };
        let names = names.map_err(OpenError::io("cannot list", &dir))?;
        let bases = to_write.range((*id, i64::MIN)..=(*id, i64::MAX)).map(|(_, base)| *base);
        let mut one = Tidying {
            disk,
            id: *id,
            log,
            names: names.into_iter().chain(bases.map(segment::file_name)).collect(),
            removals: &state.removals,
            dirty: &mut dirty,
        };
        if let Some((path, position)) = one.find_loss()? {
            one.fence(&path, position, state.lsn)?;
        }
    }
    Ok(())
}

/// One log and the names in its directory.
struct Tidying<'a> {
    disk: &'a dyn Disk,
    id: LogId,
    log: &'a mut LogState,
    names: Vec<String>,
    removals: &'a [Removal],
    dirty: &'a mut Dirty,
}

impl Tidying<'_> {
    fn tidy(&mut self, lsn: Lsn) -> Result<(), OpenError> {
        if self.log.fence.is_some() {
            return Ok(());
        }
        if let Some((path, position)) = self.find_loss()? {
            return self.fence(&path, position, lsn);
        }
        self.remove_unnamed()?;
        self.cut_segments()
    }

    /// Where the log's files show that acknowledged records are missing: its active segment is gone, or behind its end stands
    /// a batch that the journal does not have. Batches are applied after the sync of their frame, and every recovery cuts
    /// segments and begins a leader epoch: so a batch of the present epoch that continues the log had been durable, and
    /// its journal file was cut, removed, or replaced by an older copy.
    fn find_loss(&self) -> Result<Option<(PathBuf, u64)>, OpenError> {
        if let Some(active) = self.log.segments.last() {
            let path = &active.file.path;
            if !self.has(path) {
                return Ok(Some((path.clone(), 0)));
            }
            if self.continues_log(path, active.size_bytes)? {
                return Ok(Some((path.clone(), active.size_bytes)));
            }
        }
        let next = self.log.dir.join(segment::file_name(self.log.end));
        let named = self.log.segments.iter().any(|segment| segment.file.path == next);
        Ok((!named && self.has(&next) && self.continues_log(&next, 0)?).then_some((next, 0)))
    }

    fn has(&self, path: &Path) -> bool {
        let name = path.file_name().and_then(|name| name.to_str());
        self.names.iter().any(|known| Some(known.as_str()) == name)
    }

    /// Whether a whole batch of the log's present epoch, with the log's next offset, stands at a place.
    fn continues_log(&self, path: &Path, position: u64) -> Result<bool, OpenError> {
        // In a rehearsal it may not be there yet.
        if !self.disk.exists(path).map_err(OpenError::io("cannot look at", path))? {
            return Ok(false);
        }
        let read = |len: usize| {
            let file = self.disk.open(path, Open::Read)?;
            let mut bytes = vec![0; len.min(file.len()?.saturating_sub(position) as usize)];
            let read = file.read_at(&mut bytes, position)?;
            bytes.truncate(read);
            Ok(bytes)
        };
        let read = |len| read(len).map_err(OpenError::io("cannot read", path));
        let Ok(header) = BatchHeader::parse(&read(HEADER_LEN)?) else {
            return Ok(false);
        };
        let fits = header.base_offset == self.log.end
            && header.leader_epoch == self.log.leader_epoch
            && header.size_bytes() as u64 <= MAX_WRITE_SET_BYTES;
        Ok(fits && batch::verify(&read(header.size_bytes())?).is_ok())
    }

    fn fence(&mut self, path: &Path, position: u64, lsn: Lsn) -> Result<(), OpenError> {
        if self.id == CONTROL_LOG {
            return Err(OpenError::JournalDamaged {
                lsn: lsn + 1,
                file: path.into(),
                position,
                reason: "held catalog changes, as this file shows, and is not there any more".into(),
            });
        }
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let fence = Fence {
            log: self.id,
            lsn: 0,
            file: format!("logs/{}/{name}", self.id),
            position,
            offset: self.log.end,
        };
        tracing::error!(log = self.id, "log fenced: {}", fence.reason());
        self.log.fence = Some(fence);
        // What the files hold, if only in the page cache, may be the only copy.
        for name in &self.names {
            let path = self.log.dir.join(name);
            if !self
                .disk
                .exists(&path)
                .map_err(OpenError::io("cannot look at", &path))?
            {
                continue;
            }
            let synced = self.disk.open(&path, Open::ReadWrite).and_then(|file| file.sync_all());
            synced.map_err(OpenError::io("cannot sync", &path))?;
        }
        self.dirty.directories.insert(self.log.dir.clone());
        Ok(())
    }

    fn remove_unnamed(&mut self) -> Result<(), OpenError> {
        let named: BTreeSet<i64> = self.log.segments.iter().map(|segment| segment.base).collect();
        let waiting = |path: &Path| {
            self.removals.iter().any(|removal| match &removal.what {
                Removed::Segment(file) => file.path == path,
                Removed::Log(_) => false,
            })
        };
        for name in &self.names {
            let path = self.log.dir.join(name);
            let base = segment::base_of(name).or_else(|| segment::base_of(&name.replace(".index", ".log")));
            let snapshot = name.strip_suffix(".producers").and_then(|lsn| lsn.parse::<Lsn>().ok());
            let keep = match (base, snapshot) {
                (Some(base), _) => named.contains(&base) || waiting(&path.with_extension("log")),
                (None, Some(lsn)) => self.log.stored_producers == Some(lsn),
                (None, None) => !(name.ends_with(".deleted") || name.ends_with(".new")),
            };
            let keep = keep || (planted(Planted::KeepUnnamedSegments) && base.is_some());
            if !keep {
                let removed = self.disk.remove_file(&path);
                removed.map_err(OpenError::io("cannot remove", &path))?;
                self.dirty.directories.insert(self.log.dir.clone());
            }
        }
        Ok(())
    }

    /// Cuts the active segment and those that were written. A file that is shorter stays: reading it will name the damage.
    fn cut_segments(&mut self) -> Result<(), OpenError> {
        let active = self.log.segments.last().map(|active| active.base);
        for segment in &self.log.segments {
            let key = (self.id, segment.base);
            if Some(segment.base) != active && !self.dirty.segments.contains_key(&key) {
                continue;
            }
            let path = &segment.file.path;
            let file = self.disk.open(path, Open::ReadWrite);
            let len = file
                .and_then(|file| file.len())
                .map_err(OpenError::io("cannot read", path))?;
            if len > segment.size_bytes {
                let handles = segment.file.handles(self.disk, Open::ReadWrite);
                let cut = handles.and_then(|handles| handles.writer.set_len(segment.size_bytes));
                cut.map_err(OpenError::io("cannot cut", path))?;
                self.dirty.segments.insert(key, segment.file.clone());
            }
        }
        Ok(())
    }
}
