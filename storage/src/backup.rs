//! An online backup: what one manifest names, copied while the storage goes on.
//!
//! A backup is the published state at a checkpoint's C, of all logs at once, and has no journal. What the manifest names
//! does not change any more: segments and indexes only grow behind the lengths that it gives, and snapshots are written
//! once. So nothing is locked while files are copied, and only their removal must wait. Invariant: as long as a
//! [`Backup`] lives, no checkpoint removes a file that it names. What was withheld goes with a checkpoint after it.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::disk::{Disk, DiskFile, Open};
use crate::error::{BackupError, OpenError};
use crate::index::ENTRY_BYTES;
use crate::manifest::{Fence, Manifest, StoredLog};
use crate::producer_snapshot::snapshot_name;
use crate::restore::is_restorable;
use crate::segment;
use crate::state::{Removed, log_dir};
use crate::{LogId, Lsn};

/// How far a copy's leader epochs are ahead of the original's. The original goes on counting, one for each start and each
/// new topic, and an epoch must never mean two histories: by it clients see that a log was cut (KIP-320).
const LEADER_EPOCHS_AHEAD: i32 = 1 << 20;

/// A copy of everything that was published at one moment, to be taken file by file. Files that it names stay until it is
/// dropped, so a copy must come to an end.
pub struct Backup {
    disk: Arc<dyn Disk>,
    data_dir: PathBuf,
    lsn: Lsn,
    manifest: Vec<u8>,
    files: Vec<BackupFile>,
    pins: Arc<Pins>,
}

/// A file of a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupFile {
    /// Relative to the data directory.
    pub path: String,
    /// What belongs to the backup, in bytes from the file's start; all of it, if that is less.
    pub max_bytes: u64,
}

impl std::fmt::Debug for Backup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Backup").field("lsn", &self.lsn).finish_non_exhaustive()
    }
}

impl Backup {
    /// The backup that a manifest describes. The caller sees to it that nothing which it names is removed from now on.
    pub(crate) fn of(disk: Arc<dyn Disk>, data_dir: &Path, mut manifest: Manifest) -> Result<Self, BackupError> {
        let mut files = Vec::new();
        for log in &manifest.logs {
            match manifest.fences.iter().any(|fence| fence.log == log.log) {
                true => files.extend(all_files(&*disk, data_dir, log.log)?),
                false => files.extend(named_files(log)),
            }
        }
        files.extend(damaged_journal_files(&manifest.fences));
        let pins = Pins(files.iter().map(|file| data_dir.join(&file.path)).collect());
        // Frames are accepted by their salt, which no client may know: the copy begins without one, and without frames.
        manifest.salt = [0; 16];
        manifest.catalog.leader_epoch = manifest.catalog.leader_epoch.saturating_add(LEADER_EPOCHS_AHEAD);
        let lsn = manifest.checkpoint_lsn;
        let manifest = manifest
            .encode()
            .map_err(|error| OpenError::Catalog(error.to_string()))?;
        Ok(Self {
            disk,
            data_dir: data_dir.into(),
            lsn,
            manifest,
            files,
            pins: Arc::new(pins),
        })
    }

    /// C: what was published up to this frame is in the backup, and nothing else.
    pub fn lsn(&self) -> Lsn {
        self.lsn
    }

    /// The manifest of the copy, which makes it a data directory.
    pub fn manifest(&self) -> &[u8] {
        &self.manifest
    }

    /// Everything else.
    pub fn files(&self) -> &[BackupFile] {
        &self.files
    }

    /// Opens a file of the backup, and tells how many of its bytes are to be copied. `None` if it is not there: the
    /// original lacks it as well. For a segment that is damage; what else there is can be made anew.
    ///
    /// # Errors
    /// The system's, if it can be neither opened nor known to be missing.
    pub fn open(&self, file: &BackupFile) -> io::Result<Option<(Arc<dyn DiskFile>, u64)>> {
        match self.disk.open(&self.data_dir.join(&file.path), Open::Read) {
            Ok(opened) => {
                let bytes = opened.len()?.min(file.max_bytes);
                Ok(Some((opened, bytes)))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(crate) fn pins(&self) -> &Arc<Pins> {
        &self.pins
    }
}

/// The files of a backup that is being copied.
#[derive(Debug)]
pub(crate) struct Pins(BTreeSet<PathBuf>);

impl Pins {
    /// Whether a removal would take something away from the backup.
    pub fn hold(&self, removed: &Removed) -> bool {
        match removed {
            Removed::Segment(file) => self.0.contains(&file.path),
            Removed::Producers(path) => self.0.contains(path),
            // What is in a directory stands right behind it.
            Removed::Log(dir) => self
                .0
                .range(dir.clone()..)
                .next()
                .is_some_and(|path| path.starts_with(dir)),
        }
    }
}

/// The files that the manifest names for a log, as long as it says.
fn named_files(log: &StoredLog) -> Vec<BackupFile> {
    let named = |name: String, max_bytes| BackupFile {
        path: format!("logs/{}/{name}", log.log),
        max_bytes,
    };
    let mut files = Vec::new();
    for stored in &log.segments {
        let name = segment::file_name(stored.base);
        let index_bytes = u64::from(stored.index_entries) * ENTRY_BYTES as u64;
        if index_bytes > 0 {
            files.push(named(name.replace(".log", ".index"), index_bytes));
        }
        files.push(named(name, stored.size_bytes));
    }
    files.extend(log.producers.map(|lsn| named(snapshot_name(lsn), u64::MAX)));
    files
}

/// The files of a fenced log, whole: nobody writes them, and a repair looks for records also behind what the manifest says.
fn all_files(disk: &dyn Disk, data_dir: &Path, log: LogId) -> Result<Vec<BackupFile>, OpenError> {
    let dir = log_dir(data_dir, log);
    if !disk.exists(&dir).map_err(OpenError::io("cannot look at", &dir))? {
        return Ok(Vec::new());
    }
    let names = disk.list(&dir).map_err(OpenError::io("cannot list", &dir))?;
    let paths = names.into_iter().map(|name| format!("logs/{log}/{name}"));
    Ok(paths.filter(|path| is_restorable(path)).map(whole).collect())
}

/// Journal files that fences name, which were set aside for a repair.
fn damaged_journal_files(fences: &[Fence]) -> Vec<BackupFile> {
    let paths: BTreeSet<&String> = fences.iter().map(|fence| &fence.file).collect();
    let journal = paths.into_iter().filter(|path| path.starts_with("journal/"));
    journal.filter(|path| is_restorable(path)).cloned().map(whole).collect()
}

fn whole(path: String) -> BackupFile {
    BackupFile {
        path,
        max_bytes: u64::MAX,
    }
}

#[cfg(test)]
#[path = "backup_tests.rs"]
#[allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]
mod tests;
