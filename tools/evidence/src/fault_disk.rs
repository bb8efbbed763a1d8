//! A file system whose device can fail: its image lies, with holes, in a file system of its own ([`LoopDisk`]).
//!
//! When the outer one is full, the device has no room for what was a hole (a thin volume that was promised too much); when its power is
//! cut, every write to the device is an I/O error. The writes of a process into the inner one succeed meanwhile, and only its
//! sync, or nothing but the write-back, meets the error: as on a real disk.
//!
//! A real device does not say that it has written what it has not. Linux's loop device does (seen on 6.18): of a request for which
//! its file has only some room it writes the beginning, and reports success. So it gets no request that can be written in part.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};

use crate::loop_disk::{FileSystem, LoopDisk, run, unmount};

/// Room for what a stretch writes, twice.
const SIZE_BYTES: u64 = 2 << 30;
const OUTER_SIZE_BYTES: u64 = 3 << 30;
/// A file system is full when not even this much can be had.
const CRUMB_BYTES: u64 = 4096;
/// A block of the outer file system, which has room for all of it or for nothing, and the least that a device's requests can be limited to.
const BLOCK_KIB: &str = "4";

/// What can be done to it. Each is taken back by [`FaultDisk::mend`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Somebody else's file takes all space but so many bytes.
    Full(u64),
    /// The device has no room for what was never written.
    Thin,
    /// The device writes nothing any more.
    Dead,
    /// The file system finds itself in error and allows reading only: ext4 with `errors=remount-ro`.
    ReadOnly,
}

/// The device and what is on it. Dropped, all of it is gone.
#[derive(Debug)]
pub struct FaultDisk {
    file_system: FileSystem,
    mount: PathBuf,
    outer: LoopDisk,
}

impl FaultDisk {
    /// Makes and mounts one in a directory.
    ///
    /// # Errors
    /// When this machine cannot.
    pub fn new(dir: &Path, file_system: FileSystem) -> anyhow::Result<Self> {
        // What an earlier one has left, the inner one first.
        let mount = dir.join("inner");
        if mount.exists() {
            let _ = unmount(&mount);
        }
        let disk = Self {
            file_system,
            mount,
            outer: LoopDisk::with_size(dir, FileSystem::Ext4, OUTER_SIZE_BYTES)?,
        };
        fs::create_dir_all(&disk.mount)?;
        File::create(disk.image())?.set_len(SIZE_BYTES)?;
        file_system.make(&disk.image())?;
        disk.mount_inner()?;
        if file_system == FileSystem::Ext4 {
            ensure!(
                disk.trigger()?.exists(),
                "this kernel cannot be told that ext4 is in error"
            );
        }
        Ok(disk)
    }

    /// Where data can be put.
    pub fn path(&self) -> &Path {
        &self.mount
    }

    /// From now on it is so.
    ///
    /// # Errors
    /// When it cannot be done.
    pub fn fail(&self, fault: Fault) -> anyhow::Result<()> {
        match fault {
            Fault::Full(left_bytes) => fill(&self.mount, left_bytes),
            // Journals are written in place again and again, so not everything meets a hole; but a broker's logs grow.
            Fault::Thin => fill(self.outer.path(), 0),
            Fault::Dead => self.outer.cut_power(),
            Fault::ReadOnly => Ok(fs::write(self.trigger()?, "1")?),
        }
    }

    /// Gives space back. Somebody else has deleted his file.
    ///
    /// # Errors
    /// When it cannot be done.
    pub fn make_room(&self) -> anyhow::Result<()> {
        for dir in [&self.mount, self.outer.path()] {
            match fs::remove_file(filler(dir)) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
                _ => {}
            }
        }
        Ok(())
    }

    /// Takes the device out, checks the file system, and mounts it again. Nobody may use it.
    ///
    /// # Errors
    /// When it is beyond repair.
    pub fn mend(&self) -> anyhow::Result<()> {
        unmount(&self.mount)?;
        self.outer.restore_power()?;
        let _ = fs::remove_file(filler(self.outer.path()));
        self.file_system.repair(&self.image())?;
        self.mount_inner()?;
        self.make_room()
    }

    /// Allows writing, or only reading, as an operator may who wants to look at it first.
    ///
    /// # Errors
    /// When it cannot be done.
    pub fn allow_writing(&self, allowed: bool) -> anyhow::Result<()> {
        let option = match allowed {
            true => "remount,rw",
            false => "remount,ro",
        };
        run(Command::new("timeout")
            .args(["60", "mount", "-o", option])
            .arg(&self.mount))
    }

    fn image(&self) -> PathBuf {
        self.outer.path().join("image")
    }

    fn mount_inner(&self) -> anyhow::Result<()> {
        let options = match self.file_system {
            FileSystem::Ext4 => "loop,errors=remount-ro",
            FileSystem::Xfs => "loop",
        };
        run(Command::new("timeout")
            .args(["60", "mount", "-o", options])
            .arg(self.image())
            .arg(&self.mount))?;
        let limit = Path::new("/sys/block")
            .join(self.device()?)
            .join("queue/max_sectors_kb");
        fs::write(&limit, BLOCK_KIB).with_context(|| format!("{}", limit.display()))
    }

    /// What ext4 offers for tests of this kind.
    fn trigger(&self) -> anyhow::Result<PathBuf> {
        Ok(Path::new("/sys/fs/ext4").join(self.device()?).join("trigger_fs_error"))
    }

    /// The name of the loop device.
    fn device(&self) -> anyhow::Result<String> {
        let output = Command::new("findmnt")
            .args(["-n", "-o", "SOURCE"])
            .arg(&self.mount)
            .output()?;
        let device = String::from_utf8(output.stdout)?;
        let name = device.trim().strip_prefix("/dev/").context("not on a device")?;
        Ok(name.to_owned())
    }
}

impl Drop for FaultDisk {
    fn drop(&mut self) {
        let _ = unmount(&self.mount);
        let _ = fs::remove_dir(&self.mount);
    }
}

fn filler(dir: &Path) -> PathBuf {
    dir.join("of-somebody-else")
}

/// Takes all space but so much.
fn fill(dir: &Path, left_bytes: u64) -> anyhow::Result<()> {
    let (path, mut length_bytes, mut step_bytes) = (filler(dir), 0_u64, SIZE_BYTES);
    let free_bytes = || -> anyhow::Result<u64> {
        let stat = rustix::fs::statvfs(dir)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    };
    while step_bytes >= CRUMB_BYTES {
        let fits = free_bytes()?.saturating_sub(left_bytes) >= step_bytes || left_bytes == 0;
        let (offset, step) = (length_bytes.to_string(), step_bytes.to_string());
        let mut allocate = Command::new("fallocate");
        allocate.args(["-o", &offset, "-l", &step]).arg(&path);
        let taken = fits && run(&mut allocate).is_ok();
        match taken {
            true => length_bytes += step_bytes,
            false => step_bytes /= 2,
        }
    }
    Ok(())
}
