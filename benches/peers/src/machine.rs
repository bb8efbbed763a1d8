//! The machine: who else uses it, its page cache, and the device under a directory.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::child;
use crate::usage::{cpu_s, ticks_per_s};

/// A round in which others took more, in cores, is not judged.
pub const NOISE_CORES: f64 = 0.1;

/// What brokers may take that have nothing to do, all together, in cores.
const BROKERS_IDLE_CORES: f64 = 0.15;

/// Free memory that is not filled: the kernel keeps some, and processes may need some at once.
const FREE_RESERVE_BYTES: u64 = 768 * 1024 * 1024;

/// Large, but holds nothing: reading a hole takes memory and no disk.
const HOLE_BYTES: u64 = 1 << 40;

/// CPU seconds since the start that were neither ours nor the kernel's own threads'.
#[derive(Clone, Copy, Debug)]
pub struct Others {
    cpu_s: f64,
    at: Instant,
}

impl Others {
    /// # Errors
    /// If /proc cannot be read.
    pub fn now() -> anyhow::Result<Self> {
        let stat = fs::read_to_string("/proc/stat").context("cannot read /proc/stat")?;
        let fields = stat.lines().next().unwrap_or_default().split_whitespace().skip(1);
        // user, nice, system. Interrupts belong to nobody.
        let busy: u64 = fields.take(3).filter_map(|field| field.parse::<u64>().ok()).sum();
        let own = cpu_s("self", true).unwrap_or(0.0);
        Ok(Self {
            cpu_s: busy as f64 / ticks_per_s() - kernel_threads_cpu_s() - ours_cpu_s() - own,
            at: Instant::now(),
        })
    }

    /// How many cores others have used since.
    ///
    /// # Errors
    /// If /proc cannot be read.
    pub fn cores_since(&self) -> anyhow::Result<f64> {
        let now = Self::now()?;
        let cores = (now.cpu_s - self.cpu_s) / (now.at - self.at).as_secs_f64();
        Ok(cores.max(0.0))
    }
}

/// CPU seconds of the processes that we have started and that run.
fn ours_cpu_s() -> f64 {
    let pids = child::running().into_iter();
    pids.filter_map(|pid| cpu_s(&pid.to_string(), true)).sum()
}

fn kernel_threads_cpu_s() -> f64 {
    let Ok(entries) = fs::read_dir("/proc") else { return 0.0 };
    let pids = entries
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned());
    let pids = pids.filter(|pid| pid.bytes().all(|byte| byte.is_ascii_digit()));
    let kernel = pids.filter(|pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let flags = stat
            .rsplit_once(')')
            .and_then(|(_, rest)| rest.split_whitespace().nth(6)?.parse::<u64>().ok());
        // PF_KTHREAD
        flags.is_some_and(|flags| flags & 0x0020_0000 != 0)
    });
    kernel.filter_map(|pid| cpu_s(&pid, false)).sum()
}

/// Waits for a second in which others do next to nothing, and neither do the brokers (they may still make the topic that
/// is to be written, or remove the last one), at most this long. Says whether there was one.
///
/// # Errors
/// When the run is to end.
pub fn await_quiet(patience: Duration) -> anyhow::Result<bool> {
    let started = Instant::now();
    while started.elapsed() < patience {
        let (others, brokers_cpu_s) = (Others::now()?, ours_cpu_s());
        child::pause(Duration::from_secs(1))?;
        if others.cores_since()? < NOISE_CORES * 0.8 && ours_cpu_s() - brokers_cpu_s < BROKERS_IDLE_CORES {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Turns free memory into page cache that is clean and may be taken again at once. A virtual machine gets free memory
/// from its host page by page at 0.3 GB/s, and may give it back when it is freed; that would be measured instead of
/// the brokers.
#[derive(Debug)]
pub struct PageCache {
    hole: File,
    read_bytes: u64,
}

impl PageCache {
    /// # Errors
    /// If the directory takes no file.
    pub fn new(dir: &Path) -> anyhow::Result<Self> {
        let hole = tempfile::tempfile_in(dir).context("cannot create a file to fill the page cache with")?;
        hole.set_len(HOLE_BYTES).context("cannot create a sparse file")?;
        Ok(Self { hole, read_bytes: 0 })
    }

    /// Reads as much of the hole as memory is free, each page once, so that none of it looks worth keeping.
    /// Returns how much that was, in bytes.
    ///
    /// # Errors
    /// When the run is to end.
    pub fn fill(&mut self) -> anyhow::Result<u64> {
        let wanted = free_memory_bytes().saturating_sub(FREE_RESERVE_BYTES);
        let mut buffer = vec![0; 1024 * 1024];
        let mut filled = 0;
        while filled < wanted && self.read_bytes < HOLE_BYTES {
            child::ensure_not_interrupted()?;
            self.hole
                .read_exact(&mut buffer)
                .context("cannot fill the page cache")?;
            filled += buffer.len() as u64;
            self.read_bytes += buffer.len() as u64;
        }
        Ok(filled)
    }
}

/// Lets this process, and the brokers that it starts, have so many files and connections open, or as many as it may.
/// Returns how many that are.
///
/// # Errors
/// If the system does not let us have what it allows.
pub fn allow_open_files(wanted: u64) -> anyhow::Result<u64> {
    let limits = getrlimit(Resource::Nofile);
    let maximum = limits.maximum.unwrap_or(u64::MAX);
    let set = |current: u64, maximum: u64| {
        let (current, maximum) = (Some(current), Some(maximum));
        setrlimit(Resource::Nofile, Rlimit { current, maximum })
    };
    // Beyond the hard limit only root gets, and not in every container.
    if maximum < wanted && set(wanted, wanted).is_ok() {
        return Ok(wanted);
    }
    set(maximum, maximum).context("cannot raise the number of open files")?;
    Ok(maximum)
}

fn free_memory_bytes() -> u64 {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let free = meminfo.lines().find_map(|line| line.strip_prefix("MemFree:"));
    let kib = free.and_then(|free| free.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// The block device under a directory, if the system tells which.
#[derive(Debug)]
pub struct Device {
    stat: PathBuf,
}

/// What a device has done since the start of the system, whoever asked for it.
#[derive(Clone, Copy, Debug, Default)]
pub struct DeviceUsage {
    pub written_bytes: u64,
    /// Flushes of its cache: one a sync, unless several syncs share one.
    pub flushes: u64,
}

impl Device {
    pub fn under(dir: &Path) -> Option<Self> {
        let dev = fs::metadata(dir).ok()?.dev();
        let node = format!("/sys/dev/block/{}:{}", rustix::fs::major(dev), rustix::fs::minor(dev));
        let mut node = fs::canonicalize(node).ok()?;
        // Only the whole disk counts flushes.
        if node.join("partition").exists() {
            node.pop();
        }
        Some(Self {
            stat: node.join("stat"),
        })
    }

    pub fn usage(&self) -> Option<DeviceUsage> {
        let stat = fs::read_to_string(&self.stat).ok()?;
        let fields: Vec<u64> = stat.split_whitespace().filter_map(|field| field.parse().ok()).collect();
        Some(DeviceUsage {
            // A sector is 512 bytes here, whatever the device's are.
            written_bytes: fields.get(6)? * 512,
            flushes: *fields.get(15)?,
        })
    }
}

/// Writes everything that is dirty in the file system of this directory, so that no round pays for the one before.
///
/// # Errors
/// If the directory cannot be opened or synced.
pub fn sync_file_system(dir: &Path) -> anyhow::Result<()> {
    let dir = File::open(dir)?;
    rustix::fs::syncfs(&dir).context("cannot sync the file system")
}

/// The size of all files below a directory, in bytes as they take space. Files that go away meanwhile count nothing.
pub fn tree_bytes(dir: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(dir) else { return 0 };
    let sizes = entries.flatten().map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => tree_bytes(&entry.path()),
        Ok(metadata) => metadata.blocks() * 512,
        Err(_) => 0,
    });
    sizes.sum()
}
