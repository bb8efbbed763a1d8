//! What storage asks of a disk, and nothing more: the real one and the simulated one stand behind it.
//!
//! The promises are those that Linux file systems keep across a power cut. `sync_data` makes written
//! bytes durable and a size that has grown; a cut file needs `sync_all`. A created, renamed or removed
//! name is durable after `sync_dir` of its directory. A failed write or sync is reported once per open
//! file and must never be retried in place.

mod direct;
mod real;
pub mod simulated;
mod workers;

use std::io;
use std::path::Path;
use std::sync::Arc;

pub use real::RealDisk;
pub use simulated::SimulatedDisk;

/// How to open a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Open {
    /// An existing file, for reading.
    Read,
    /// An existing file, for reading and writing.
    ReadWrite,
    /// A file that must not exist yet, for reading and writing.
    CreateNew,
    /// An existing file, for [`DiskFile::write_blocks_at`] and for syncing.
    Blocks,
}

/// Something to do on a disk.
pub type Job<'a> = Box<dyn FnOnce() -> io::Result<()> + Send + 'a>;

/// A disk: named files in directories.
pub trait Disk: Send + Sync {
    /// Opens a file. Every call gives a file description of its own.
    fn open(&self, path: &Path, mode: Open) -> io::Result<Arc<dyn DiskFile>>;
    /// Opens a file for reading, but without waiting for the disk: `WouldBlock` if its name is not in memory, nobody can say, or
    /// anything else is wrong.
    fn open_cached(&self, _path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Err(io::ErrorKind::WouldBlock.into())
    }
    /// Creates one directory; its parent must exist, it may exist itself.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// The names in a directory, sorted.
    fn list(&self, path: &Path) -> io::Result<Vec<String>>;
    /// Whether a file or directory of that name exists.
    fn exists(&self, path: &Path) -> io::Result<bool>;
    /// Renames a file or directory, replacing a file of the new name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Removes an empty directory.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a directory durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// The file system that holds a directory and all below it, if it can be synced as a whole and then tells of every failure.
    fn file_system(&self, dir: &Path) -> io::Result<Option<Box<dyn FileSystem>>>;
    /// Bytes that may still be written to the file system that holds `path`.
    fn free_bytes(&self, path: &Path) -> io::Result<u64>;
    /// Does many things, in any order. A real disk does several at a time: a file system makes many concurrent syncs durable
    /// at once. Fails with the first error, when all are done.
    fn run_all(&self, jobs: Vec<Job<'_>>) -> io::Result<()>;
    /// The same of a few things for which somebody waits. A real disk does the first, which should be the shortest, on the caller's
    /// thread, and the second as well if the first was quick the last time.
    fn run_few(&self, jobs: Vec<Job<'_>>) -> io::Result<()> {
        self.run_all(jobs)
    }
    /// The same of many short things.
    fn run_many(&self, jobs: Vec<Job<'static>>) -> io::Result<()> {
        self.run_all(jobs)
    }
    /// Takes the exclusive lock of a lock file (made if missing) until the answer is dropped.
    /// `WouldBlock` says that another process holds it.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn DirectoryLock>>;
}

/// A file system as a whole.
pub trait FileSystem: Send + Sync {
    /// Makes durable what anybody has written to it, bytes, sizes and names, together with the next sync of a file that has
    /// changed: some file systems leave flushing the device to that. Fails if any write-back has failed, of anybody's files,
    /// since this was opened or last synced, or before that if nobody was told yet.
    fn sync(&self) -> io::Result<()>;
}

/// A lock file that is held, as long as this lives.
pub trait DirectoryLock: Send + Sync {
    /// Whether its name means it still: nobody has removed it, or put another directory in the place of its own.
    fn is_in_place(&self) -> io::Result<bool>;
}

/// An open file.
pub trait DiskFile: Send + Sync {
    /// Fills `buf` from `pos`; short only at the end of the file.
    fn read_at(&self, buf: &mut [u8], pos: u64) -> io::Result<usize>;
    /// Fills `buf` from `pos`, but without waiting for the disk: `WouldBlock` if some of it is not in memory, nobody can say, or
    /// anything else is wrong.
    fn read_cached_at(&self, _buf: &mut [u8], _pos: u64) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }
    /// Writes all of `buf` at `pos`; a file that is shorter grows, zeros in between.
    fn write_at(&self, buf: &[u8], pos: u64) -> io::Result<()>;
    /// Writes the pieces one behind the other.
    fn write_pieces_at(&self, pieces: &[&[u8]], mut pos: u64) -> io::Result<()> {
        for piece in pieces {
            self.write_at(piece, pos)?;
            pos = pos.saturating_add(piece.len() as u64);
        }
        Ok(())
    }
    /// What the page cache keeps as one piece, a multiple of a block. To write a part of one that is not in it, the system reads
    /// all of it first.
    fn page_bytes(&self) -> u64;
    /// Writes the pieces one behind the other from a boundary of 4 KiB on, and zeros behind them up to the end of a block, which
    /// is no larger: to the device at once and not to the page cache, for what is synced soon and read by nobody soon. False if
    /// this cannot be done here; nothing is written then.
    fn write_blocks_at(&self, pieces: &[&[u8]], pos: u64) -> io::Result<bool>;
    /// Makes the written bytes durable, and the size if it has grown.
    fn sync_data(&self) -> io::Result<()>;
    /// Makes the written bytes and the size durable.
    fn sync_all(&self) -> io::Result<()>;
    /// Cuts or extends (with zeros) the file.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// The file's size.
    fn len(&self) -> io::Result<u64>;
    /// Whether the file has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Writes zeros to `len` bytes from `pos`, so that later writes there change no metadata and
    /// cannot run out of space. Bytes that stood there are lost.
    fn allocate(&self, pos: u64, len: u64) -> io::Result<()>;
}
