//! Makes a data directory of a backup.
//!
//! The manifest comes when everything else is on the disk, and a marker goes after it, with which nobody starts: a restore that
//! was cut short is not taken for a data directory. What was restored is started as any other, by recovery.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::checkpoint::log_id_of;
use crate::disk::{Disk, DiskFile, Open, RealDisk};
use crate::error::{OpenError, RestoreError};
use crate::journal;
use crate::manifest::{COPIES, Manifest};
use crate::segment::Segment;
use crate::state::log_dir;

/// Stands in the directory until all files do, the manifest among them.
const MARKER: &str = "restoring";

/// A data directory that is being restored.
pub struct Restore {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    /// Whether anything of it is on the disk.
    is_begun: bool,
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

/// Refuses a directory in which a restore did not come to its end.
pub(crate) fn refuse_interrupted_restore(disk: &dyn Disk, dir: &Path) -> Result<(), OpenError> {
    let marker = dir.join(MARKER);
    match disk.exists(&marker).map_err(OpenError::io("cannot look at", &marker))? {
        true => Err(OpenError::Restoring(dir.into())),
        false => Ok(()),
    }
}

/// Whether the manifest of a backup can be read by this program.
///
/// # Errors
/// When it is damaged, or of another version.
pub fn check_manifest(manifest: &[u8]) -> Result<(), RestoreError> {
    decoded(manifest).map(|_| ())
}

fn decoded(manifest: &[u8]) -> Result<Manifest, RestoreError> {
    Manifest::decode(manifest).map_err(|error| RestoreError::BadManifest(error.to_string()))
}

impl Restore {
    /// Begins with a directory that does not exist or is empty. It is made when the first file comes.
    ///
    /// # Errors
    /// When there is something in it, or it cannot be read.
    pub fn begin(dir: impl Into<PathBuf>) -> Result<Self, RestoreError> {
        Self::on(Arc::new(RealDisk), dir.into())
    }

    pub(crate) fn on(disk: Arc<dyn Disk>, dir: PathBuf) -> Result<Self, RestoreError> {
        if disk.exists(&dir).map_err(OpenError::io("cannot look at", &dir))? {
            let names = disk.list(&dir).map_err(OpenError::io("cannot list", &dir))?;
            refuse_interrupted_restore(&*disk, &dir)?;
            if names.iter().any(|name| COPIES.contains(&name.as_str())) {
                return Err(RestoreError::DataDirectory(dir));
            }
            if let Some(found) = names.into_iter().next() {
                return Err(RestoreError::NotEmpty { dir, found });
            }
        }
        Ok(Self {
            disk,
            dir,
            is_begun: false,
            dirs: BTreeSet::new(),
        })
    }

    /// Whether there may be something on the disk by now, which must be removed if this does not come to its end.
    pub fn is_begun(&self) -> bool {
        self.is_begun
    }

    /// Makes the directory, with those above it that are missing, and the marker in it.
    fn make_directory(&mut self) -> Result<(), RestoreError> {
        if self.is_begun {
            return Ok(());
        }
        let (disk, dir) = (&*self.disk, self.dir.as_path());
        let exists = |path: &Path| disk.exists(path).map_err(OpenError::io("cannot look at", path));
        let mut missing = Vec::new();
        for dir in dir.ancestors().filter(|dir| !dir.as_os_str().is_empty()) {
            if exists(dir)? {
                break;
            }
            missing.push(dir);
        }
        self.is_begun = true;
        for dir in missing.iter().rev() {
            disk.create_dir(dir).map_err(OpenError::io("cannot create", *dir))?;
        }
        let marker = dir.join(MARKER);
        disk.open(&marker, Open::CreateNew)
            .map_err(OpenError::io("cannot create", &marker))?;
        for path in [dir.join("journal"), dir.join("logs")] {
            disk.create_dir(&path).map_err(OpenError::io("cannot create", &path))?;
        }
        sync_dir(disk, dir)?;
        // A new name must last, in each directory that got one.
        for named in missing.iter().copied().chain([dir]) {
            let parent = named.parent().filter(|parent| !parent.as_os_str().is_empty());
            sync_dir(disk, parent.unwrap_or(Path::new(".")))?;
        }
        Ok(())
    }

    /// Begins a file by its path relative to the data directory.
    ///
    /// # Errors
    /// When a data directory has no such file, when it came before, or when it cannot be made.
    pub fn file(&mut self, path: &str) -> Result<RestoredFile, RestoreError> {
        if !is_restorable(path) {
            return Err(RestoreError::BadName(path.into()));
        }
        self.make_directory()?;
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
    pub fn finish(&mut self, manifest: &[u8]) -> Result<(), RestoreError> {
        let mut manifest = decoded(manifest)?;
        self.make_directory()?;
        let disk = &*self.disk;
        self.forget_bad_indexes(&mut manifest)?;
        for dir in self
            .dirs
            .iter()
            .cloned()
            .chain([self.dir.join("logs"), self.dir.join("journal")])
        {
            sync_dir(disk, &dir)?;
        }
        manifest.store(disk, &self.dir)?;
        // Last: until it is gone nobody starts, so there is no moment at which the directory could be taken for something else.
        let marker = self.dir.join(MARKER);
        disk.remove_file(&marker)
            .map_err(OpenError::io("cannot remove", &marker))?;
        Ok(sync_dir(disk, &self.dir)?)
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
