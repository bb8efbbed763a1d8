//! Looking into a data directory that no process has open: everything in it checked (`verify`), shown (`dump`), and
//! what can be mended mended (`repair`).

mod dump;
mod repair;
mod verify;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::LogId;
use crate::catalog::Catalog;
use crate::disk::{DirectoryLock, Disk, RealDisk};
use crate::error::OpenError;
use crate::manifest::COPIES;
use crate::restore::refuse_interrupted_restore;

pub use dump::Selection;
pub use repair::{Cut, Repaired};
pub use verify::{Checked, Finding};

/// A data directory, locked against those who would change it.
pub struct Directory {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    lock: Option<Box<dyn DirectoryLock>>,
}

impl Directory {
    /// Locks a directory.
    ///
    /// # Errors
    /// When it is in use, or is no data directory.
    pub fn open(dir: impl Into<PathBuf>) -> Result<Self, OpenError> {
        Self::on(Arc::new(RealDisk), dir.into())
    }

    pub(crate) fn on(disk: Arc<dyn Disk>, dir: PathBuf) -> Result<Self, OpenError> {
        refuse_interrupted_restore(&*disk, &dir)?;
        // Before the lock file is made: nothing is left in a directory that is not ours.
        let ours = COPIES.iter().any(|copy| disk.exists(&dir.join(copy)).unwrap_or(false));
        if !ours {
            if !disk.exists(&dir).map_err(OpenError::io("cannot look at", &dir))? {
                let found = "it does not exist".into();
                return Err(OpenError::NoData { dir, found });
            }
            let found = disk.list(&dir).map_err(OpenError::io("cannot list", &dir))?;
            let found = match found.first() {
                Some(name) => format!("it holds {name:?} and no manifest"),
                None => "it is empty".into(),
            };
            return Err(OpenError::NoData { dir, found });
        }
        let path = dir.join("lock");
        let lock = disk.lock(&path).map_err(|error| match error.kind() {
            std::io::ErrorKind::WouldBlock => OpenError::InUse(dir.clone()),
            _ => OpenError::io("cannot lock", &path)(error),
        })?;
        let lock = Some(lock);
        Ok(Self { disk, dir, lock })
    }

    /// A path as it is told: without the directory.
    fn told(&self, path: &Path) -> String {
        path.strip_prefix(&self.dir).unwrap_or(path).display().to_string()
    }
}

/// A partition as it is told: `topic-0`.
fn partition_name(catalog: &Catalog, log: LogId) -> String {
    match catalog.log(log) {
        Some((topic, partition)) => format!("{}-{partition}", topic.name),
        None => format!("log {log}"),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests;
