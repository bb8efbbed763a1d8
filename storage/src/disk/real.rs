//! The machine's file system.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, IoSlice, IoSliceMut};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{CWD, FallocateFlags, Mode, OFlags, ResolveFlags, fallocate, openat2, statfs, statvfs, syncfs};
use rustix::io::{Errno, ReadWriteFlags, preadv2, pwritev};
use rustix::param::page_size;
use rustix::system::uname;

use super::{DirectoryLock, Disk, DiskFile, FileSystem, Job, Open, direct, workers};

/// Zeros are written in pieces of this size.
const ZEROS_LEN: usize = 1 << 20;
static ZEROS: [u8; ZEROS_LEN] = [0; ZEROS_LEN];

/// The file system of the machine, by its ordinary calls.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

/// Says which call failed on which path; the kind of the error stays.
fn named(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> io::Error {
    move |error| io::Error::new(error.kind(), format!("{what} {}: {error}", path.display()))
}

impl Disk for RealDisk {
    fn open(&self, path: &Path, mode: Open) -> io::Result<Arc<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        options.read(true);
        match mode {
            Open::Read => {}
            Open::ReadWrite => {
                options.write(true);
            }
            Open::CreateNew => {
                options.write(true).create_new(true);
            }
            Open::Blocks => {
                if let Some(file) = direct::open(path).map_err(named("open", path))? {
                    return Ok(Arc::new(RealFile { file, is_direct: true }));
                }
                options.write(true);
            }
        }
        let file = options.open(path).map_err(named("open", path))?;
        Ok(RealFile::of(file))
    }

    fn open_cached(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        match openat2(CWD, path, flags, Mode::empty(), ResolveFlags::CACHED) {
            Ok(file) => Ok(RealFile::of(file.into())),
            // The name is not in memory; or the system has no such call, or does not allow it. What else may be wrong is told to
            // who comes back and may wait.
            Err(_) => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        match fs::create_dir(path) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
            other => other.map_err(named("create directory", path)),
        }
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(path).map_err(named("list", path))? {
            let name = entry.map_err(named("list", path))?.file_name();
            names.push(name.into_string().map_err(|name| {
                io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("list {}: {name:?} is not a UTF-8 name", path.display()),
                )
            })?);
        }
        names.sort_unstable();
        Ok(names)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        fs::exists(path).map_err(named("look for", path))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to).map_err(named("rename", from))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path).map_err(named("remove", path))
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir(path).map_err(named("remove directory", path))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let synced = File::open(path).and_then(|directory| directory.sync_all());
        synced.map_err(named("sync directory", path))
    }

    fn run_all(&self, jobs: Vec<Job<'_>>) -> io::Result<()> {
        workers::run_all(jobs)
    }

    fn run_few(&self, jobs: Vec<Job<'_>>) -> io::Result<()> {
        workers::run_few(jobs)
    }

    fn run_many(&self, jobs: Vec<Job<'static>>) -> io::Result<()> {
        workers::run_many(jobs)
    }

    fn file_system(&self, dir: &Path) -> io::Result<Option<Box<dyn FileSystem>>> {
        let kind = statfs(dir).map_err(|e| named("statfs", dir)(e.into()))?.f_type;
        // Others may lie above another one, and not hear of its failures.
        let known = [EXT4, XFS, BTRFS].contains(&(kind as u32));
        if !known || !tells_of_failures(uname().release().to_bytes()) || !is_all_of_one_device(dir)? {
            return Ok(None);
        }
        let dir_file = File::open(dir).map_err(named("open", dir))?;
        Ok(Some(Box::new(RealFileSystem {
            dir_file,
            dir: dir.to_owned(),
        })))
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        let stat = statvfs(path).map_err(|e| named("statvfs", path)(e.into()))?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DirectoryLock>> {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(named("open", path))?;
        match file.try_lock() {
            Ok(()) => Ok(Box::new(RealLock {
                file,
                path: path.to_owned(),
            })),
            Err(TryLockError::WouldBlock) => Err(io::Error::new(
                io::ErrorKind::WouldBlock,
                format!("{} is locked by another process", path.display()),
            )),
            Err(TryLockError::Error(e)) => Err(named("lock", path)(e)),
        }
    }
}

/// `f_type` of ext4, of XFS and of Btrfs: `statfs(2)`.
const EXT4: u32 = 0xef53;
const XFS: u32 = 0x5846_5342;
const BTRFS: u32 = 0x9123_683e;

/// Whether the directories in a directory are where it is itself. Somebody may have moved one to another disk. What cannot be
/// looked at may be anywhere.
fn is_all_of_one_device(dir: &Path) -> io::Result<bool> {
    let device = fs::metadata(dir).map_err(named("look at", dir))?.dev();
    for entry in fs::read_dir(dir).map_err(named("list", dir))? {
        let path = entry.map_err(named("list", dir))?.path();
        if !fs::metadata(path).is_ok_and(|there| there.dev() == device) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// `syncfs` reports failed write-backs since Linux 5.8 (its manual page), and what else fails in the file system since 5.17
/// (its commit 5679897eb104).
fn tells_of_failures(release: &[u8]) -> bool {
    let release = String::from_utf8_lossy(release);
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) >= (5_u32, 17_u32),
        _ => false,
    }
}

struct RealFileSystem {
    dir_file: File,
    dir: PathBuf,
}

impl FileSystem for RealFileSystem {
    fn sync(&self) -> io::Result<()> {
        syncfs(&self.dir_file).map_err(|e| named("sync the file system of", &self.dir)(e.into()))
    }
}

struct RealLock {
    file: File,
    path: PathBuf,
}

impl DirectoryLock for RealLock {
    fn is_in_place(&self) -> io::Result<bool> {
        let named = match fs::metadata(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            named => named?,
        };
        let held = self.file.metadata()?;
        Ok((named.dev(), named.ino()) == (held.dev(), held.ino()))
    }
}

struct RealFile {
    file: File,
    /// Whether it writes past the page cache, and does not read.
    is_direct: bool,
}

impl RealFile {
    fn of(file: File) -> Arc<dyn DiskFile> {
        Arc::new(Self { file, is_direct: false })
    }
}

impl DiskFile for RealFile {
    fn read_at(&self, buf: &mut [u8], pos: u64) -> io::Result<usize> {
        let mut filled = 0;
        while let Some(rest) = buf.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.file.read_at(rest, pos.saturating_add(filled as u64)) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(filled)
    }

    fn read_cached_at(&self, buf: &mut [u8], pos: u64) -> io::Result<usize> {
        let mut filled = 0;
        while let Some(rest) = buf.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            let at = pos.saturating_add(filled as u64);
            match preadv2(&self.file, &mut [IoSliceMut::new(rest)], at, ReadWriteFlags::NOWAIT) {
                // Linux 5.9 and 5.10 may take this for the end of a file where it is not (`preadv2(2)`, bugs).
                Ok(0) => return Err(io::ErrorKind::WouldBlock.into()),
                Ok(n) => filled += n,
                Err(Errno::INTR) => {}
                // As above.
                Err(_) => return Err(io::ErrorKind::WouldBlock.into()),
            }
        }
        Ok(filled)
    }

    fn write_at(&self, buf: &[u8], pos: u64) -> io::Result<()> {
        self.file.write_all_at(buf, pos)
    }

    fn page_bytes(&self) -> u64 {
        page_size().max(direct::BLOCK_BYTES) as u64
    }

    fn write_blocks_at(&self, pieces: &[&[u8]], pos: u64) -> io::Result<bool> {
        match self.is_direct {
            true => direct::write_blocks_at(&self.file, pieces, pos),
            false => Ok(false),
        }
    }

    fn write_pieces_at(&self, pieces: &[&[u8]], mut pos: u64) -> io::Result<()> {
        let mut slices: Vec<IoSlice<'_>> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
        let mut rest = slices.as_mut_slice();
        // Leaves out empty pieces, of which nothing would be written.
        IoSlice::advance_slices(&mut rest, 0);
        while !rest.is_empty() {
            // Takes no more pieces than the system does in one call.
            match pwritev(&self.file, rest, pos) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    pos = pos.saturating_add(written as u64);
                    IoSlice::advance_slices(&mut rest, written);
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn allocate(&self, pos: u64, len: u64) -> io::Result<()> {
        // Asking for the whole range at once gets contiguous blocks and an early "no space". Extents
        // made so are still "unwritten": the first write to each costs a metadata commit at the next
        // sync. So zeros are written as well. File systems without fallocate do with the zeros.
        match fallocate(&self.file, FallocateFlags::empty(), pos, len) {
            Ok(()) | Err(Errno::OPNOTSUPP) => {}
            Err(e) => return Err(e.into()),
        }
        let mut done = 0;
        while done < len {
            let piece = usize::try_from(len - done).map_or(ZEROS_LEN, |n| n.min(ZEROS_LEN));
            let zeros = ZEROS.get(..piece).unwrap_or(&ZEROS);
            self.file.write_all_at(zeros, pos.saturating_add(done))?;
            done += zeros.len() as u64;
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use std::num::NonZeroU64;

    use rustix::fs::{Advice, fadvise};

    use super::*;

    fn directory() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    /// What is not in memory, or of what the file system cannot say so, is left to those who may wait.
    #[test]
    fn what_is_in_memory_is_read_without_waiting() {
        let dir = directory();
        let path = dir.path().join("file");
        let file = RealDisk.open(&path, Open::CreateNew).unwrap();
        let bytes: Vec<u8> = (0..1 << 20).map(|n| n as u8).collect();
        file.write_at(&bytes, 0).unwrap();
        file.sync_all().unwrap();
        let look = || {
            let mut there = vec![0; bytes.len() - 5];
            let read = RealDisk
                .open_cached(&path)
                .and_then(|file| file.read_cached_at(&mut there, 5));
            match read {
                Ok(read) => assert_eq!(there[..read], bytes[5..]),
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            }
        };
        look();
        let half = NonZeroU64::new(bytes.len() as u64 / 2);
        fadvise(File::open(&path).unwrap(), 0, half, Advice::DontNeed).unwrap();
        look();
        let missing = RealDisk.open_cached(&dir.path().join("missing"));
        assert_eq!(missing.err().unwrap().kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn writes_reads_cuts_and_extends() {
        let dir = directory();
        let path = dir.path().join("file");
        let file = RealDisk.open(&path, Open::CreateNew).unwrap();
        file.write_at(b"hello", 3).unwrap();
        let mut buf = [1; 16];
        assert_eq!(file.read_at(&mut buf, 0).unwrap(), 8);
        assert_eq!(&buf[..8], b"\0\0\0hello");
        file.set_len(4).unwrap();
        file.sync_all().unwrap();
        file.allocate(2, 3 << 20).unwrap();
        file.sync_data().unwrap();
        assert_eq!(file.len().unwrap(), (3 << 20) + 2);
        assert_eq!(file.read_at(&mut buf, (3 << 20) + 2).unwrap(), 0);
        let kind = RealDisk.open(&path, Open::CreateNew).err().unwrap().kind();
        assert_eq!(kind, io::ErrorKind::AlreadyExists);
    }

    #[test]
    fn only_a_kernel_that_tells_of_failures_is_asked_to_sync_all() {
        for (release, tells) in [
            ("5.17.0", true),
            ("6.18.44-fc-v657", true),
            ("10.0", true),
            ("5.16.20", false),
            ("4.19.0-21-amd64", false),
            ("strange", false),
            ("", false),
        ] {
            assert_eq!(tells_of_failures(release.as_bytes()), tells, "{release}");
        }
        let dir = directory();
        // Not synced: that would write, and fail for, what others do on this machine.
        RealDisk.file_system(dir.path()).unwrap();
        assert!(RealDisk.file_system(&dir.path().join("missing")).is_err());
    }

    #[test]
    fn a_directory_of_another_device_is_found() {
        let dir = directory();
        fs::create_dir(dir.path().join("0")).unwrap();
        assert!(is_all_of_one_device(dir.path()).unwrap());
        std::os::unix::fs::symlink("/proc", dir.path().join("1")).unwrap();
        assert!(!is_all_of_one_device(dir.path()).unwrap());
        assert!(RealDisk.file_system(dir.path()).unwrap().is_none());
        fs::remove_file(dir.path().join("1")).unwrap();
        std::os::unix::fs::symlink("missing", dir.path().join("1")).unwrap();
        assert!(!is_all_of_one_device(dir.path()).unwrap(), "nobody knows");
    }

    #[test]
    fn pieces_are_written_one_behind_the_other() {
        let dir = directory();
        let file = RealDisk.open(&dir.path().join("file"), Open::CreateNew).unwrap();
        let bytes: Vec<u8> = (0..30_000_u32).map(|at| at as u8).collect();
        // More than one call takes, and some of them empty.
        let mut pieces: Vec<&[u8]> = bytes.chunks(9).collect();
        pieces.insert(0, &[]);
        pieces.push(&[]);
        file.write_pieces_at(&pieces, 5).unwrap();
        let mut there = vec![0; 40_000];
        assert_eq!(file.read_at(&mut there, 5).unwrap(), bytes.len());
        assert_eq!(there[..bytes.len()], bytes);
    }

    #[test]
    fn blocks_are_written_and_zeros_behind_them() {
        const LEN: usize = 3_100_000;
        let dir = directory();
        let path = dir.path().join("file");
        let file = RealDisk.open(&path, Open::CreateNew).unwrap();
        let blocks = RealDisk.open(&path, Open::Blocks).unwrap();
        let kind = statfs(dir.path()).unwrap().f_type as u32;
        let bytes: Vec<u8> = (0..3_000_000_u32).map(|at| (at % 251) as u8).collect();
        for len in [0, 1, 4095, 4096, 4097, 65_537, 1 << 20, (2 << 20) + 1, 3_000_000] {
            file.write_at(&[0xff; LEN], 0).unwrap();
            // Some of them empty, some across several blocks, and where no block begins in memory.
            let (short, rest) = bytes[..len].split_at(len / 100);
            let mut pieces: Vec<&[u8]> = short.chunks(61).collect();
            pieces.push(&[]);
            pieces.extend(rest.chunks(100_003));
            if !blocks.write_blocks_at(&pieces, 8192).unwrap() {
                assert!(![EXT4, XFS].contains(&kind));
                return;
            }
            file.sync_data().unwrap();
            let mut there = vec![0; LEN + 1];
            let reader = RealDisk.open(&path, Open::Read).unwrap();
            assert_eq!(reader.read_at(&mut there, 0).unwrap(), LEN);
            let (end, block_end) = (8192 + len, 8192 + len.next_multiple_of(4096));
            assert!(there[8192..end] == bytes[..len], "{len}");
            assert!(there[end..block_end].iter().all(|byte| *byte == 0), "{len}");
            let others = there[..8192].iter().chain(&there[block_end..LEN]);
            assert!(others.copied().all(|byte| byte == 0xff), "{len}");
        }
    }

    #[test]
    fn blocks_that_cannot_be_written_so_are_not_written() {
        let dir = directory();
        let path = dir.path().join("file");
        let file = RealDisk.open(&path, Open::CreateNew).unwrap();
        assert!(!file.write_blocks_at(&[b"through the cache"], 0).unwrap());
        // At such a position no file system writes past the page cache.
        let blocks = RealDisk.open(&path, Open::Blocks).unwrap();
        assert!(!blocks.write_blocks_at(&[b"elsewhere"], 1).unwrap());
        assert_eq!(file.len().unwrap(), 0);
    }

    #[test]
    fn errors_name_the_path_and_keep_their_kind() {
        let path = directory().path().join("missing");
        let error = RealDisk.open(&path, Open::Read).err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(error.to_string().contains("missing"));
    }

    #[test]
    fn names_are_made_renamed_listed_and_removed() {
        let dir = directory();
        let sub = dir.path().join("sub");
        RealDisk.create_dir(&sub).unwrap();
        RealDisk.create_dir(&sub).unwrap();
        RealDisk.open(&sub.join("b"), Open::CreateNew).unwrap();
        RealDisk.open(&sub.join("a"), Open::CreateNew).unwrap();
        assert_eq!(RealDisk.list(&sub).unwrap(), ["a", "b"]);
        RealDisk.rename(&sub.join("a"), &sub.join("b")).unwrap();
        RealDisk.sync_dir(&sub).unwrap();
        assert_eq!(RealDisk.list(&sub).unwrap(), ["b"]);
        assert!(RealDisk.remove_dir(&sub).is_err());
        RealDisk.remove_file(&sub.join("b")).unwrap();
        RealDisk.remove_dir(&sub).unwrap();
        assert!(!RealDisk.exists(&sub).unwrap());
        assert!(RealDisk.free_bytes(dir.path()).unwrap() > 0);
    }

    #[test]
    fn a_lock_is_held_until_dropped() {
        let dir = directory();
        let path = dir.path().join("lock");
        let held = RealDisk.lock(&path).unwrap();
        let refused = RealDisk.lock(&path).err().unwrap();
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
        drop(held);
        RealDisk.lock(&path).unwrap();
    }
}
