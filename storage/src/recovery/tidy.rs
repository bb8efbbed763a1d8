//! Removes what neither the manifest nor a frame names.

use std::collections::BTreeSet;
use std::path::Path;

use crate::Lsn;
use crate::checkpoint;
use crate::disk::{Disk, Open};
use crate::error::OpenError;
use crate::planted::{Planted, planted};
use crate::segment::{self};
use crate::shared::Dirty;
use crate::state::{LogState, Removal, Removed, State};

use super::replay::cut;

/// Removes segment files that neither the manifest nor a frame names, directories of logs that are gone,
/// and what half-done removals left; cuts active segments that no frame wrote to.
pub(super) fn remove_unnamed(
    disk: &dyn Disk,
    state: &mut State,
    data_dir: &Path,
    dirty: &mut Dirty,
) -> Result<(), OpenError> {
    let logs_dir = data_dir.join("logs");
    for name in disk.list(&logs_dir).map_err(OpenError::io("cannot list", &logs_dir))? {
        let dir = logs_dir.join(&name);
        let log = checkpoint::log_id_of(&name);
        match log.and_then(|log| state.logs.get(&log)) {
            Some(log) if log.fence.is_some() => {}
            Some(log) => remove_unnamed_segments(disk, log, &dir, &state.removals, dirty)?,
            // The old manifest may still name it: it goes after the checkpoint that ends recovery.
            None => state.removals.push(Removal {
                lsn: 0,
                what: Removed::Log(dir),
            }),
        }
    }
    for (id, log) in &state.logs {
        let Some(active) = log.segments.last().filter(|_| log.fence.is_none()) else {
            continue;
        };
        let path = &active.file.path;
        if dirty.segments.contains_key(&(*id, active.base)) {
            continue;
        }
        let file = disk
            .open(path, Open::ReadWrite)
            .map_err(OpenError::io("cannot open", path))?;
        if file.len().map_err(OpenError::io("cannot read", path))? > active.size_bytes {
            active
                .file
                .handles(disk, Open::ReadWrite)
                .map_err(OpenError::io("cannot open", path))?;
            cut(&*file, active.size_bytes).map_err(OpenError::io("cannot cut", path))?;
            dirty.segments.insert((*id, active.base), active.file.clone());
        }
    }
    Ok(())
}

fn remove_unnamed_segments(
    disk: &dyn Disk,
    log: &LogState,
    dir: &Path,
    removals: &[Removal],
    dirty: &mut Dirty,
) -> Result<(), OpenError> {
    let named: BTreeSet<i64> = log.segments.iter().map(|segment| segment.base).collect();
    let waiting = |path: &Path| {
        removals.iter().any(|removal| match &removal.what {
            Removed::Segment(file) => file.path == path,
            Removed::Log(_) => false,
        })
    };
    for name in disk.list(dir).map_err(OpenError::io("cannot list", dir))? {
        let path = dir.join(&name);
        let base = segment::base_of(&name).or_else(|| segment::base_of(&name.replace(".index", ".log")));
        let snapshot = name.strip_suffix(".producers").and_then(|lsn| lsn.parse::<Lsn>().ok());
        let keep = match (base, snapshot) {
            (Some(base), _) => named.contains(&base) || waiting(&path.with_extension("log")),
            (None, Some(lsn)) => log.stored_producers == Some(lsn),
            (None, None) => !(name.ends_with(".deleted") || name.ends_with(".new")),
        };
        let keep = keep || (planted(Planted::KeepUnnamedSegments) && base.is_some());
        if !keep {
            disk.remove_file(&path).map_err(OpenError::io("cannot remove", &path))?;
            dirty.directories.insert(dir.into());
        }
    }
    Ok(())
}
