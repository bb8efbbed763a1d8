//! A file system in a file, whose power can be cut: what was not synced is gone then, as it would be on a real disk.
//!
//! The cut is `FS_IOC_SHUTDOWN` without a flush of the file system's log. It needs root, loop mounts, and python3 for the
//! call (which has no safe wrapper in Rust). What the block device itself holds back is not cut; the simulation covers that.

use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};

/// How large one is that nobody wants larger.
const SIZE_BYTES: u64 = 2 << 30;

/// A file system that is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum FileSystem {
    /// Linux's usual one.
    Ext4,
    /// Needs the Debian package xfsprogs.
    Xfs,
}

impl FileSystem {
    /// As `mount` calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
        }
    }

    /// Makes an empty one of what is in a file.
    pub(crate) fn make(self, image: &Path) -> anyhow::Result<()> {
        let (make, force) = match self {
            Self::Ext4 => ("mkfs.ext4", "-F"),
            Self::Xfs => ("mkfs.xfs", "-f"),
        };
        let made = run(Command::new("timeout").args(["60", make, "-q", force]).arg(image));
        made.with_context(|| match self {
            Self::Ext4 => "is the Debian package e2fsprogs installed?",
            Self::Xfs => "is the Debian package xfsprogs installed?",
        })
    }

    /// Mends what a failure of the device has left. (XFS does that when it is mounted.)
    pub(crate) fn repair(self, image: &Path) -> anyhow::Result<()> {
        if self == Self::Xfs {
            return Ok(());
        }
        let check = Command::new("timeout")
            .args(["60", "e2fsck", "-fy"])
            .arg(image)
            .output()?;
        // 1: there were errors, and there are none any more.
        let mended = matches!(check.status.code(), Some(0 | 1));
        ensure!(
            mended,
            "e2fsck: {}: {}",
            check.status,
            String::from_utf8_lossy(&check.stdout)
        );
        Ok(())
    }
}

/// It is about the machine, not about the server.
#[derive(Debug)]
pub struct DiskError;

impl fmt::Display for DiskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the disk whose power is to be cut")
    }
}

/// The image and where it is mounted. Dropped, both are gone.
#[derive(Debug)]
pub struct LoopDisk {
    /// Locked as long as this disk is there.
    _dir: File,
    image: PathBuf,
    mount: PathBuf,
}

impl LoopDisk {
    /// Makes and mounts one in a directory, whatever an earlier one has left there, and cuts its power once to see
    /// whether that takes anything away.
    ///
    /// # Errors
    /// When this machine cannot.
    pub fn new(dir: &Path, file_system: FileSystem) -> anyhow::Result<Self> {
        Self::with_size(dir, file_system, SIZE_BYTES)
    }

    /// The same of another size.
    ///
    /// # Errors
    /// When this machine cannot.
    pub fn with_size(dir: &Path, file_system: FileSystem, size_bytes: u64) -> anyhow::Result<Self> {
        ensure!(rustix::process::geteuid().is_root(), "it takes root to mount");
        std::fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
        let lock = File::open(dir)?;
        lock.try_lock()
            .with_context(|| format!("another campaign uses {}", dir.display()))?;
        let disk = Self {
            _dir: lock,
            image: dir.join("image"),
            mount: dir.join("mount"),
        };
        disk.remove();
        std::fs::create_dir_all(&disk.mount)?;
        File::create(&disk.image)?.set_len(size_bytes)?;
        file_system.make(&disk.image)?;
        disk.mount()?;
        let unsynced = disk.mount.join("unsynced");
        std::fs::write(&unsynced, "not synced")?;
        disk.cut_power()?;
        disk.restore_power()?;
        ensure!(!unsynced.exists(), "cutting the power takes nothing away here");
        Ok(disk)
    }

    /// Where data can be put.
    pub fn path(&self) -> &Path {
        &self.mount
    }

    /// From now on nothing reaches the disk, and what was not synced never will.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn cut_power(&self) -> anyhow::Result<()> {
        const SHUTDOWN: &str = "import fcntl, os, struct, sys; \
             fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587d, struct.pack('I', 2))";
        run(Command::new("timeout")
            .args(["60", "python3", "-c", SHUTDOWN])
            .arg(&self.mount))
    }

    /// Mounts what is on the disk. Nobody may use it.
    ///
    /// # Errors
    /// When it cannot be mounted again.
    pub fn restore_power(&self) -> anyhow::Result<()> {
        unmount(&self.mount)?;
        self.mount()
    }

    /// The same, and nothing of the disk is left in memory, as after a real cut.
    ///
    /// # Errors
    /// When it cannot be mounted again.
    pub fn restore_power_cold(&self) -> anyhow::Result<()> {
        unmount(&self.mount)?;
        let image = File::open(&self.image)?;
        image.sync_all()?;
        rustix::fs::fadvise(&image, 0, None, rustix::fs::Advice::DontNeed)?;
        self.mount()
    }

    fn mount(&self) -> anyhow::Result<()> {
        run(Command::new("timeout")
            .args(["60", "mount", "-o", "loop"])
            .arg(&self.image)
            .arg(&self.mount))
    }

    fn remove(&self) {
        let _ = unmount(&self.mount);
        let _ = std::fs::remove_dir(&self.mount);
        let _ = std::fs::remove_file(&self.image);
    }
}

impl Drop for LoopDisk {
    fn drop(&mut self) {
        self.remove();
    }
}

/// The loop device goes with the mount. Something may still be looking into it for a moment.
pub(crate) fn unmount(mount: &Path) -> anyhow::Result<()> {
    let mut attempts = 0..50;
    loop {
        match run(Command::new("timeout").args(["60", "umount"]).arg(mount)) {
            Err(error) if format!("{error:#}").contains("busy") && attempts.next().is_some() => {
                std::thread::sleep(Duration::from_millis(100));
            }
            outcome => return outcome,
        }
    }
}

pub(crate) fn run(command: &mut Command) -> anyhow::Result<()> {
    let output = command.stdin(Stdio::null()).output().context(DiskError)?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(anyhow::anyhow!("{command:?}: {}: {errors}", output.status).context(DiskError));
    }
    Ok(())
}
