//! What a process has used, from /proc.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::Scope;
use std::time::{Duration, Instant};

use anyhow::Context;

/// How often memory is looked at. Reading the maps of a gigabyte takes the process's lock for a millisecond.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);

/// Since the process began.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// User and system, in seconds.
    pub cpu_s: f64,
    /// What it has made dirty in the page cache or written directly, in bytes. Where a file system has large folios (ext4
    /// since Linux 6.16), a byte that is written into one may count as the whole of it; the device is what tells.
    pub written_bytes: u64,
}

impl Usage {
    /// # Errors
    /// If there is no such process, or it is somebody else's.
    pub fn of(pid: u32) -> anyhow::Result<Self> {
        let io = fs::read_to_string(format!("/proc/{pid}/io")).context("cannot read the I/O of a broker")?;
        let written = io.lines().find_map(|line| line.strip_prefix("write_bytes: "));
        Ok(Self {
            cpu_s: cpu_s(&pid.to_string(), false).context("cannot read the CPU time of a broker")?,
            written_bytes: written.context("no write_bytes")?.trim().parse()?,
        })
    }
}

/// CPU seconds of a process, with those of children that ended and were waited for if asked.
pub fn cpu_s(pid: &str, with_children: bool) -> Option<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything; the rest is numbers. utime, stime, cutime and cstime are 14 to 17.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let count = if with_children { 4 } else { 2 };
    let ticks: u64 = fields
        .get(11..11 + count)?
        .iter()
        .filter_map(|field| field.parse::<u64>().ok())
        .sum();
    Some(ticks as f64 / ticks_per_s())
}

pub fn ticks_per_s() -> f64 {
    rustix::param::clock_ticks_per_second() as f64
}

/// The memory that would be free if this process were not there, in bytes.
///
/// # Errors
/// If there is no such process, or it is somebody else's.
pub fn private_bytes(pid: u32) -> anyhow::Result<u64> {
    let rollup =
        fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).context("cannot read the memory of a broker")?;
    let kib = rollup.lines().filter_map(|line| {
        let value = line
            .strip_prefix("Private_Clean:")
            .or(line.strip_prefix("Private_Dirty:"))?;
        value.trim().trim_end_matches(" kB").parse::<u64>().ok()
    });
    Ok(kib.sum::<u64>() * 1024)
}

/// The most private memory that was seen while it watched.
#[derive(Debug, Default)]
pub struct MemoryWatch {
    most_bytes: AtomicU64,
    over: AtomicBool,
}

impl MemoryWatch {
    /// Looks at the process until [`MemoryWatch::end`].
    pub fn start<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>, pid: u32) {
        scope.spawn(move || {
            while !self.over.load(Ordering::Relaxed) {
                let bytes = private_bytes(pid).unwrap_or(0);
                self.most_bytes.fetch_max(bytes, Ordering::Relaxed);
                let next = Instant::now() + SAMPLE_INTERVAL;
                while Instant::now() < next && !self.over.load(Ordering::Relaxed) {
                    std::thread::sleep(Duration::from_millis(20));
                }
            }
        });
    }

    pub fn end(&self) -> u64 {
        self.over.store(true, Ordering::Relaxed);
        self.most_bytes.load(Ordering::Relaxed)
    }
}
