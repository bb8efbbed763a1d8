//! Makes a data directory of a backup.
//!
//! The manifest comes last, when everything else is on the disk, and nobody starts on a directory without one: a restore that
//! was cut short is not taken for a data directory. What was restored is started as any other, by recovery.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::checkpoint::log_id_of;
use crate::disk::{Disk, DiskFile, Open, RealDisk};
use crate::error::{OpenError, RestoreError};
use crate::journal;
use crate::manifest::Manifest;
use crate::segment::Segment;
use crate::state::log_dir;

/// Stands in the directory until all files do. It also keeps a server from starting on what has only empty directories yet.
const MARKER: &str = "restoring";

/// A data directory that is being restored.
pub struct Restore {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    /// Directories of logs.
    dirs: BTreeSet<PathBuf>,
}

/// A file that is being restored.
pub struct RestoredFile {
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    bytes: u64,
}

/// Whether a file of that name may be restored, beside the manifest: a segment, an index or a producer snapshot of a log, or a
/// journal file that was set aside. The name of a file on the way in or out is none, nor is anything that leads elsewhere.
pub fn is_restorable(path: &str) -> bool {
    let digits = |text: &str, len: usize| text.len() == len && text.bytes().all(|byte| byte.is_ascii_digit());
    let mut parts = path.split('/');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some("logs"), Some(log), Some(name), None) => {
            let own = log_id_of(log).is_some_and(|id| id.to_string() == log);
            let lsn = name.strip_suffix(".producers");
            let base = name.strip_suffix(".index").or_else(|| name.strip_suffix(".log"));
            own && lsn.or(base).is_some_and(|number| digits(number, 20))
        }
        (Some("journal"), Some(name), None, None) => {
            let number = name.strip_suffix(".damaged").and_then(journal::number_of);
            number.is_some_and(|number| name == format!("{}.damaged", journal::file_name(number)))
        }
        _ => false,
    }
}

impl Restore {
    /// Begins with a directory that does not exist, but for its parent, or is empty.
    ///
    /// # Errors
    /// When there is something in it, or it cannot be written.
    pub fn begin(dir: impl Into<PathBuf>) -> Result<Self, RestoreError> {
        Self::on(Arc::new(RealDisk), dir.into())
    }

    pub(crate) fn on(disk: Arc<dyn Disk>, dir: PathBuf) -> Result<Self, RestoreError> {
        disk.create_dir(&dir).map_err(OpenError::io("cannot create", &dir))?;
        let names = disk.list(&dir).map_err(OpenError::io("cannot list", &dir))?;
        if let Some(found) = names.into_iter().next() {
            return Err(RestoreError::NotEmpty { dir, found });
        }
        let marker = dir.join(MARKER);
        disk.open(&marker, Open::CreateNew)
            .map_err(OpenError::io("cannot create", &marker))?;
        for path in [dir.join("journal"), dir.join("logs")] {
            disk.create_dir(&path).map_err(OpenError::io("cannot create", &path))?;
        }
        let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty());
        for dir in [&dir, parent.unwrap_or(Path::new("."))] {
            sync_dir(&*disk, dir)?;
        }
        Ok(Self {
            disk,
            dir,
            dirs: BTreeSet::new(),
        })
    }

    /// Begins a file by its path relative to the data directory.
    ///
    /// # Errors
    /// When a data directory has no such file, when it came before, or when it cannot be made.
    pub fn file(&mut self, path: &str) -> Result<RestoredFile, RestoreError> {
        if !is_restorable(path) {
            return Err(RestoreError::BadName(path.into()));
        }
        let full = self.dir.join(path);
        if let Some(log) = full.parent().filter(|_| path.starts_with("logs/"))
            && self.dirs.insert(log.into())
        {
            self.disk.create_dir(log).map_err(OpenError::io("cannot create", log))?;
        }
        let file = self.disk.open(&full, Open::CreateNew);
        let file = file.map_err(OpenError::io("cannot create", &full))?;
        Ok(RestoredFile {
            path: full,
            file,
            bytes: 0,
        })
    }

    /// Makes it a data directory, when all files are there and finished.
    ///
    /// # Errors
    /// When the manifest does not check, or something cannot be written.
    pub fn finish(self, manifest: &[u8]) -> Result<(), RestoreError> {
        let disk = &*self.disk;
        let mut manifest = Manifest::decode(manifest).map_err(|error| RestoreError::BadManifest(error.to_string()))?;
        self.forget_bad_indexes(&mut manifest)?;
        for dir in self
            .dirs
            .iter()
            .cloned()
            .chain([self.dir.join("logs"), self.dir.join("journal")])
        {
            sync_dir(disk, &dir)?;
        }
        let marker = self.dir.join(MARKER);
        disk.remove_file(&marker)
            .map_err(OpenError::io("cannot remove", &marker))?;
        sync_dir(disk, &self.dir)?;
        Ok(manifest.store(disk, &self.dir)?)
    }
}

impl Restore {
    /// An index is a cache that the original may lack as well. Without one that checks it is made anew when it is needed.
    fn forget_bad_indexes(&self, manifest: &mut Manifest) -> Result<(), RestoreError> {
        let disk = &*self.disk;
        for log in &mut manifest.logs {
            let dir = log_dir(&self.dir, log.log);
            for stored in log.segments.iter_mut().filter(|stored| stored.index_entries > 0) {
                let segment = Segment::from_stored(stored, &dir);
                if matches!(segment.read_index(disk), Ok(Some(_))) {
                    continue;
                }
                (stored.index_entries, stored.index_crc) = (0, 0);
                let path = segment.file.index_path();
                if disk.exists(&path).map_err(OpenError::io("cannot look at", &path))? {
                    disk.remove_file(&path).map_err(OpenError::io("cannot remove", &path))?;
                }
            }
        }
        Ok(())
    }
}

fn sync_dir(disk: &dyn Disk, dir: &Path) -> Result<(), OpenError> {
    disk.sync_dir(dir).map_err(OpenError::io("cannot sync", dir))
}

impl RestoredFile {
    /// Adds bytes.
    ///
    /// # Errors
    /// The system's.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), RestoreError> {
        let written = self.file.write_at(bytes, self.bytes);
        written.map_err(OpenError::io("cannot write", &self.path))?;
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    /// Makes the file's bytes durable.
    ///
    /// # Errors
    /// The system's.
    pub fn finish(self) -> Result<(), RestoreError> {
        Ok(self.file.sync_all().map_err(OpenError::io("cannot sync", &self.path))?)
    }
}
