//! What neither the manifest nor a frame names: removed, or cut off, unless it shows what the journal has lost.

use std::collections::BTreeSet;
use std::path::Path;

use crate::append::is_padding;
use crate::checkpoint;
use crate::disk::{Disk, Open};
use crate::error::OpenError;
use crate::planted::{Planted, planted};
use crate::segment;
use crate::shared::Dirty;
use crate::state::{LogState, Removal, Removed, State};
use crate::{LogId, Lsn};

use super::loss;

/// Removes directories of logs that are gone, segment files that nothing names, and what half-done removals left; cuts
/// segments to what the manifest and the frames say. Fences logs whose files show that the journal had more.
pub(super) fn tidy(disk: &dyn Disk, state: &mut State, data_dir: &Path, dirty: &mut Dirty) -> Result<(), OpenError> {
    let logs_dir = data_dir.join("logs");
    for name in disk.list(&logs_dir).map_err(OpenError::io("cannot list", &logs_dir))? {
        let dir = logs_dir.join(&name);
        let id = checkpoint::log_id_of(&name);
        match id.and_then(|id| Some((id, state.logs.get_mut(&id)?))) {
            Some((id, log)) => {
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
            // Directories are made after the sync of the frame that creates their log.
            None if id.is_some_and(|id| id >= state.catalog.next_log_id) => {
                return Err(OpenError::JournalDamaged {
                    lsn: state.lsn + 1,
                    file: dir,
                    position: 0,
                    reason: "created this log, and is not there any more".into(),
                });
            }
            // The old manifest may still name it: it goes after the checkpoint that ends recovery.
            None => state.removals.push(Removal {
                lsn: 0,
                what: Removed::Log(dir),
            }),
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
        let exists = disk
            .exists(&log.dir)
            .map_err(OpenError::io("cannot look at", &log.dir))?;
        let names = if exists { disk.list(&log.dir) } else { Ok(Vec::new()) };
        let mut names = names.map_err(OpenError::io("cannot list", &log.dir))?;
        let bases = to_write.range((*id, i64::MIN)..=(*id, i64::MAX)).map(|(_, base)| *base);
        names.extend(bases.map(segment::file_name));
        if let Some((path, position)) = loss::find(disk, log, &names) {
            loss::fence(disk, (*id, log), (&path, position), state.lsn, &mut dirty)?;
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
        if let Some((path, position)) = loss::find(self.disk, self.log, &self.names) {
            return loss::fence(self.disk, (self.id, self.log), (&path, position), lsn, self.dirty);
        }
        self.remove_unnamed()?;
        self.cut_segments()
    }

    fn remove_unnamed(&mut self) -> Result<(), OpenError> {
        let named: BTreeSet<i64> = self.log.segments.iter().map(|segment| segment.base).collect();
        let waiting = |path: &Path| {
            self.removals.iter().any(|removal| match &removal.what {
                Removed::Segment(file) => file.path == path,
                Removed::Producers(_) | Removed::Log(_) => false,
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
            // Padding stays: to cut it would leave every segment that was active open.
            let has_more = file.and_then(|file| {
                let size_bytes = segment.size_bytes;
                Ok(file.len()? > size_bytes && !is_padding(&*file, size_bytes, file.page_bytes())?)
            });
            if has_more.map_err(OpenError::io("cannot read", path))? {
                let handles = segment.file.handles(self.disk, Open::ReadWrite);
                let cut = handles.and_then(|handles| handles.writer.set_len(segment.size_bytes));
                cut.map_err(OpenError::io("cannot cut", path))?;
                self.dirty.segments.insert(key, segment.file.clone());
            }
        }
        Ok(())
    }
}
