//! No broker at all: appends of a page to a file that is written already, each with fdatasync. What one durable record
//! costs on this device.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Instant;

use anyhow::Context;

use super::{Outcome, Site};
use crate::child;

const FILE_BYTES: u64 = 64 * 1024 * 1024;
const APPEND_BYTES: usize = 4096;

pub fn run(site: &Site<'_>) -> anyhow::Result<Outcome> {
    let file = written_file(site)?;
    let value = site.payloads.value(0, APPEND_BYTES);
    let begun = Instant::now();
    let (mut durations_us, mut position) = (Vec::new(), 0);
    while begun.elapsed() < site.duration {
        child::ensure_not_interrupted()?;
        let sent = Instant::now();
        file.write_all_at(value, position).context("cannot append")?;
        file.sync_data().context("cannot sync")?;
        durations_us.push(u32::try_from(sent.elapsed().as_micros())?);
        position = (position + APPEND_BYTES as u64) % FILE_BYTES;
    }
    let outcome = Outcome {
        records: durations_us.len() as u64,
        bytes: (durations_us.len() * APPEND_BYTES) as u64,
        seconds: begun.elapsed().as_secs_f64(),
        figures: vec![],
    };
    Ok(outcome.with_latencies(durations_us))
}

fn written_file(site: &Site<'_>) -> anyhow::Result<File> {
    let file = tempfile::tempfile_in(site.dir).context("cannot create a file")?;
    let zeros = vec![0; 1024 * 1024];
    for position in (0..FILE_BYTES).step_by(zeros.len()) {
        file.write_all_at(&zeros, position).context("cannot write a file")?;
    }
    file.sync_all().context("cannot sync a file")?;
    Ok(file)
}
