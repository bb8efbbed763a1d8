//! What the system says of this process, under the names that Prometheus clients of all languages use.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::registry::Unit;

use super::Samples;

/// None of it is there on systems without `/proc`.
#[derive(Debug)]
pub(super) struct Process {
    resident_bytes: Option<u64>,
    open_fds: Option<u64>,
    cpu_seconds: Option<f64>,
}

impl Process {
    /// As of now.
    pub(super) fn read() -> Self {
        Self {
            resident_bytes: resident_bytes(),
            open_fds: open_fds(),
            cpu_seconds: cpu_seconds(),
        }
    }
}

impl Collector for Process {
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        let mut to = Samples(encoder);
        if let Some(bytes) = self.resident_bytes {
            to.gauge(
                "process_resident_memory",
                "Resident memory",
                Some(&Unit::Bytes),
                bytes as f64,
            )?;
        }
        if let Some(fds) = self.open_fds {
            to.gauge("process_open_fds", "Open file descriptors", None, fds as f64)?;
        }
        if let Some(seconds) = self.cpu_seconds {
            to.counter("process_cpu", "User and system CPU time", Some(&Unit::Seconds), seconds)?;
        }
        Ok(())
    }
}

fn resident_bytes() -> Option<u64> {
    let pages: u64 = std::fs::read_to_string("/proc/self/statm")
        .ok()?
        .split(' ')
        .nth(1)?
        .parse()
        .ok()?;
    pages.checked_mul(rustix::param::page_size() as u64)
}

fn open_fds() -> Option<u64> {
    // One of them is the directory that is being read.
    Some((std::fs::read_dir("/proc/self/fd").ok()?.count() as u64).saturating_sub(1))
}

fn cpu_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The program's name stands in parentheses and may hold anything, also spaces.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some((user + system) as f64 / rustix::param::clock_ticks_per_second() as f64)
}
