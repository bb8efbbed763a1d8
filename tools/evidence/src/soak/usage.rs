//! What a server needs, looked at again and again, and whether that grows.
//!
//! Everything goes up and down: memory with what clients have under way and with the allocator, the data directory and the open files with
//! checkpoints, retention and rounds. So medians are compared, of two stretches that are each a quarter of the time that counts: they
//! pass over peaks, and do not depend on where in a round the end falls. The beginning does not count (caches fill, the
//! journal gets its spare files), nor the first quarter, which an allocator may need to find its size. Between the middles of the
//! second and of the last quarter lies half of the time, so what grows steadily by more than the tenth and the slack that are
//! granted in that time is found. The slack is for what is small: two threads more are a third more, and no leak.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const MIB: u64 = 1 << 20;

/// What is looked at: its name, how much is one of it, and the slack.
const KINDS: [(&str, u64, u64); 6] = [
    ("MiB resident", MIB, 8 * MIB),
    ("MiB private", MIB, 8 * MIB),
    ("open files", 1, 32),
    ("threads", 1, 4),
    ("files of data", 1, 64),
    ("MiB of data", MIB, 64 * MIB),
];

/// Looks in a thread of its own.
pub struct Watch {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Sample>>,
    started: Instant,
}

struct Sample {
    at: Duration,
    amounts: [u64; KINDS.len()],
}

/// Everything that was seen.
pub struct Usage {
    samples: Vec<Sample>,
    length: Duration,
}

impl Watch {
    /// Looks at a process and a directory from now on.
    pub fn start(process: u32, data_dir: &Path, interval: Duration) -> Self {
        let (stop, started) = (Arc::<AtomicBool>::default(), Instant::now());
        let (stopped, data_dir) = (stop.clone(), data_dir.to_owned());
        let thread = std::thread::spawn(move || {
            let mut samples = Vec::new();
            let mut next = started;
            while !stopped.load(Ordering::SeqCst) {
                if Instant::now() >= next {
                    let amounts = look(process, &data_dir);
                    let at = started.elapsed();
                    samples.extend(amounts.map(|amounts| Sample { at, amounts }));
                    next += interval;
                }
                std::thread::sleep(Duration::from_millis(50));
            }
            samples
        });
        Self { stop, thread, started }
    }

    /// Ends it.
    pub fn stop(self) -> Usage {
        self.stop.store(true, Ordering::SeqCst);
        Usage {
            length: self.started.elapsed(),
            samples: self.thread.join().unwrap_or_default(),
        }
    }
}

impl Usage {
    /// What has grown, by the rule above.
    pub fn grown(&self) -> Vec<String> {
        let grown = self.medians().into_iter().zip(KINDS);
        let grown = grown.filter(|((before, after), (_, _, slack))| *after > before + before / 10 + slack);
        grown
            .map(|((before, after), (name, unit, _))| {
                format!("GROWN: from {} to {} {name}", before / unit, after / unit)
            })
            .collect()
    }

    /// Each kind's medians, of the second and of the last quarter.
    pub fn in_words(&self) -> Vec<String> {
        let all = self.medians().into_iter().zip(KINDS);
        all.map(|((before, after), (name, unit, _))| format!("{} → {} {name}", before / unit, after / unit))
            .collect()
    }

    fn medians(&self) -> Vec<(u64, u64)> {
        let warm = (self.length / 10).max(Duration::from_secs(60));
        let quarter = self.length.saturating_sub(warm) / 4;
        let median = |kind: usize, from: Duration| {
            let within = self
                .samples
                .iter()
                .filter(|sample| (from..from + quarter).contains(&sample.at));
            let mut amounts: Vec<u64> = within.filter_map(|sample| sample.amounts.get(kind).copied()).collect();
            amounts.sort_unstable();
            amounts.get(amounts.len() / 2).copied().unwrap_or_default()
        };
        let kinds = 0..KINDS.len();
        kinds
            .map(|kind| (median(kind, warm + quarter), median(kind, warm + 3 * quarter)))
            .collect()
    }
}

/// In the order of [`KINDS`]; nothing when the process has ended.
fn look(process: u32, data_dir: &Path) -> Option<[u64; KINDS.len()]> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let figure = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    let open_files = fs::read_dir(format!("/proc/{process}/fd")).ok()?.count() as u64;
    let (mut files, mut data_bytes) = (0, 0);
    let mut dirs: Vec<PathBuf> = vec![data_dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        // Files come and go meanwhile.
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(found) if found.is_dir() => dirs.push(entry.path()),
                Ok(found) => (files, data_bytes) = (files + 1, data_bytes + found.len()),
                Err(_) => {}
            }
        }
    }
    let resident_bytes = figure("VmRSS:")? * 1024;
    let private_bytes = figure("RssAnon:")? * 1024;
    let threads = figure("Threads:")?;
    Some([resident_bytes, private_bytes, open_files, threads, files, data_bytes])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten minutes of samples, the private memory as a function of the second.
    fn usage(private_bytes: impl Fn(u64) -> u64) -> Usage {
        let samples = (0..600).map(|second| Sample {
            at: Duration::from_secs(second),
            amounts: [MIB, private_bytes(second), 10, 10, 10, MIB],
        });
        Usage {
            samples: samples.collect(),
            length: Duration::from_secs(600),
        }
    }

    #[test]
    fn what_goes_up_and_down_has_not_grown() {
        let saw = usage(|second| 100 * MIB + (second % 40) * 2 * MIB);
        assert_eq!(saw.grown(), Vec::<String>::new());
        let warms_up = usage(|second| second.min(120) * MIB);
        assert_eq!(warms_up.grown(), Vec::<String>::new());
        let peak = usage(|second| if second > 590 { 900 * MIB } else { 100 * MIB });
        assert_eq!(peak.grown(), Vec::<String>::new());
    }

    #[test]
    fn a_leak_has() {
        let leak = usage(|second| 100 * MIB + second * MIB / 8 + (second % 40) * MIB);
        let grown = leak.grown();
        assert!(
            matches!(grown.as_slice(), [only] if only.contains("private")),
            "{grown:?}"
        );
    }
}
