//! What segment files show that the journal, or the file system, has lost.

use std::path::{Path, PathBuf};

use crate::batch::{self, BatchHeader, HEADER_LEN};
use crate::disk::{Disk, Open};
use crate::error::OpenError;
use crate::manifest::Fence;
use crate::segment;
use crate::state::{LogState, State};
use crate::{CONTROL_LOG, LogId, Lsn, MAX_WRITE_SET_BYTES};

/// Fences logs whose active segment is gone: nothing can be appended to it. (Of another one, reads tell.)
pub(super) fn fence_missing(disk: &dyn Disk, state: &mut State) -> Result<(), OpenError> {
    let lsn = state.lsn;
    for (id, log) in state.logs.iter_mut().filter(|(_, log)| log.fence.is_none()) {
        let Some(path) = log.segments.last().map(|active| active.file.path.clone()) else {
            continue;
        };
        if !disk.exists(&path).map_err(OpenError::io("cannot look at", &path))? {
            fence(disk, (*id, log), &path, 0, lsn)?;
        }
    }
    Ok(())
}

/// A place behind the log's end where a batch stands that the journal does not have. Batches are applied after the sync of
/// their frame, and every recovery cuts segments and begins a leader epoch: so a batch of the present epoch that continues
/// the log had been durable, and its journal file was cut, removed, or replaced by an older copy.
pub(super) fn find(disk: &dyn Disk, log: &LogState, names: &[String]) -> Result<Option<(PathBuf, u64)>, OpenError> {
    if let Some(active) = log.segments.last()
        && continues(disk, log, &active.file.path, active.size_bytes)?
    {
        return Ok(Some((active.file.path.clone(), active.size_bytes)));
    }
    let next_name = segment::file_name(log.end);
    let next = log.dir.join(&next_name);
    let unnamed = log.segments.iter().all(|segment| segment.file.path != next);
    let is_there = unnamed && names.contains(&next_name);
    Ok((is_there && continues(disk, log, &next, 0)?).then_some((next, 0)))
}

/// Whether a whole batch of the log's present epoch, with the log's next offset, stands at a place.
fn continues(disk: &dyn Disk, log: &LogState, path: &Path, position: u64) -> Result<bool, OpenError> {
    let read = |len: usize| {
        let file = disk.open(path, Open::Read)?;
        let mut bytes = vec![0; len.min(file.len()?.saturating_sub(position) as usize)];
        let read = file.read_at(&mut bytes, position)?;
        bytes.truncate(read);
        Ok(bytes)
    };
    let read = |len| read(len).map_err(OpenError::io("cannot read", path));
    let Ok(header) = BatchHeader::parse(&read(HEADER_LEN)?) else {
        return Ok(false);
    };
    let fits = header.base_offset == log.end
        && header.leader_epoch == log.leader_epoch
        && header.size_bytes() as u64 <= MAX_WRITE_SET_BYTES;
    Ok(fits && batch::verify(&read(header.size_bytes())?).is_ok())
}

/// Fences a log because of what one of its files shows, and makes what its files hold durable: it may be the only copy.
pub(super) fn fence(
    disk: &dyn Disk,
    (id, log): (LogId, &mut LogState),
    path: &Path,
    position: u64,
    lsn: Lsn,
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
    if !disk
        .exists(&log.dir)
        .map_err(OpenError::io("cannot look at", &log.dir))?
    {
        return Ok(());
    }
    for name in disk.list(&log.dir).map_err(OpenError::io("cannot list", &log.dir))? {
        let path = log.dir.join(name);
        let synced = disk.open(&path, Open::ReadWrite).and_then(|file| file.sync_all());
        synced.map_err(OpenError::io("cannot sync", &path))?;
    }
    Ok(())
}
