//! What segment files show that the journal, or the file system, has lost.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::batch::{self, BatchHeader, HEADER_LEN};
use crate::disk::{Disk, Open};
use crate::error::OpenError;
use crate::manifest::Fence;
use crate::segment::{self, IndexState};
use crate::shared::Dirty;
use crate::state::{LogState, State};
use crate::{CONTROL_LOG, LogId, Lsn, MAX_WRITE_SET_BYTES};

/// Makes up for active segments that are gone, with zeros where their bytes were: what was in them is damage, which reads
/// name, but the journal above C still has its place to go to, and the log goes on. (Of other segments, reads tell.)
pub(super) fn replace_missing(
    disk: &dyn Disk,
    state: &mut State,
    doomed: &BTreeSet<LogId>,
    dirty: &mut Dirty,
) -> Result<(), OpenError> {
    for (id, log) in &mut state.logs {
        if log.fence.is_some() || doomed.contains(id) {
            continue;
        }
        let Some(active) = log.segments.last_mut() else {
            continue;
        };
        let path = &active.file.path;
        if disk.exists(path).map_err(OpenError::io("cannot look at", path))? {
            continue;
        }
        if *id == CONTROL_LOG {
            // Then the others are hardly where they should be either: a file system may not be mounted.
            return Err(OpenError::Catalog(format!("{} is missing", path.display())));
        }
        tracing::error!(log = id, "{} is missing: its records are lost", path.display());
        let replace = || {
            disk.create_dir(&log.dir)?;
            active
                .file
                .handles(disk, Open::CreateNew)?
                .writer
                .set_len(active.size_bytes)
        };
        replace().map_err(OpenError::io("cannot replace", path))?;
        // Its index leads to nothing; the first batch to come begins a new one.
        active.index = IndexState::Loaded(Arc::default());
        (active.index_entries, active.index_crc) = (0, 0);
        dirty.segments.insert((*id, active.base), active.file.clone());
        dirty.directories.insert(log.dir.clone());
    }
    Ok(())
}

/// A place behind the log's end where a batch stands that the journal does not have. Batches are applied after the sync of
/// their frame, and every recovery cuts segments and begins a leader epoch: so a batch of the present epoch that continues
/// the log had been durable, and its journal file was cut, removed, or replaced by an older copy.
pub(super) fn find(disk: &dyn Disk, log: &LogState, names: &[String]) -> Option<(PathBuf, u64)> {
    if let Some(active) = log.segments.last()
        && continues(disk, log, &active.file.path, active.size_bytes)
    {
        return Some((active.file.path.clone(), active.size_bytes));
    }
    let next_name = segment::file_name(log.end);
    let next = log.dir.join(&next_name);
    let unnamed = log.segments.iter().all(|segment| segment.file.path != next);
    let is_there = unnamed && names.contains(&next_name);
    (is_there && continues(disk, log, &next, 0)).then_some((next, 0))
}

/// Whether a whole batch of the log's present epoch, with the log's next offset, stands at a place. What cannot be read
/// shows nothing.
fn continues(disk: &dyn Disk, log: &LogState, path: &Path, position: u64) -> bool {
    let read = |len: usize| -> std::io::Result<Vec<u8>> {
        let file = disk.open(path, Open::Read)?;
        let mut bytes = vec![0; len.min(file.len()?.saturating_sub(position) as usize)];
        let read = file.read_at(&mut bytes, position)?;
        bytes.truncate(read);
        Ok(bytes)
    };
    let header = read(HEADER_LEN).ok().and_then(|bytes| BatchHeader::parse(&bytes).ok());
    let fits = |header: &BatchHeader| {
        header.base_offset == log.end
            && header.leader_epoch == log.leader_epoch
            && header.size_bytes() as u64 <= MAX_WRITE_SET_BYTES
    };
    let whole = header.filter(fits).and_then(|header| read(header.size_bytes()).ok());
    whole.is_some_and(|bytes| batch::verify(&bytes).is_ok())
}

/// Fences a log because of what one of its files shows, and keeps what its files hold.
pub(super) fn fence(
    disk: &dyn Disk,
    (id, log): (LogId, &mut LogState),
    (path, position): (&Path, u64),
    lsn: Lsn,
    dirty: &mut Dirty,
) -> Result<(), OpenError> {
    if id == CONTROL_LOG {
        return Err(OpenError::JournalDamaged {
            lsn: lsn + 1,
            file: path.into(),
            position,
            reason: "held catalog changes, as this file shows, and is not there any more".into(),
        });
    }
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let fence = Fence {
        log: id,
        lsn: 0,
        file: format!("logs/{id}/{name}"),
        position,
        offset: log.end,
    };
    tracing::error!(log = id, "log fenced: {}", fence.reason());
    log.fence = Some(fence);
    preserve(disk, &log.dir, dirty)
}

/// Makes durable what the files of a fenced log hold, if only in the page cache: it may be the only copy.
pub(super) fn preserve(disk: &dyn Disk, dir: &Path, dirty: &mut Dirty) -> Result<(), OpenError> {
    if !disk.exists(dir).map_err(OpenError::io("cannot look at", dir))? {
        return Ok(());
    }
    for name in disk.list(dir).map_err(OpenError::io("cannot list", dir))? {
        let path = dir.join(name);
        let synced = disk.open(&path, Open::ReadWrite).and_then(|file| file.sync_all());
        synced.map_err(OpenError::io("cannot sync", &path))?;
    }
    dirty.directories.insert(dir.into());
    Ok(())
}
