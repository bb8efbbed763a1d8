//! One record at a time over a socket: what an acknowledgement costs without a client library.

use std::time::Instant;

use super::{Outcome, Site};
use crate::child;
use crate::wire::{Connection, batch, produce_frame};

pub fn run(site: &Site<'_>, size_bytes: usize) -> anyhow::Result<Outcome> {
    let mut connection = Connection::open(site.broker()?.home.kafka)?;
    let value = site.payloads.value(0, size_bytes);
    let frame = produce_frame(site.topic, 0, batch(std::iter::once(value), super::batches::now_ms())?)?;
    connection.produce(&frame)?;
    let begun = Instant::now();
    let mut durations_us = Vec::new();
    while begun.elapsed() < site.duration {
        child::ensure_not_interrupted()?;
        let sent = Instant::now();
        connection.produce(&frame)?;
        durations_us.push(u32::try_from(sent.elapsed().as_micros())?);
    }
    let outcome = Outcome {
        records: durations_us.len() as u64,
        bytes: (durations_us.len() * size_bytes) as u64,
        seconds: begun.elapsed().as_secs_f64(),
        figures: vec![],
    };
    Ok(outcome.with_latencies(durations_us))
}
