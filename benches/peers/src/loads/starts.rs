//! How long a broker takes until it answers: empty, with data, and after a SIGKILL.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

use super::batches::now_ms;
use super::{Outcome, Site, bulk};
use crate::broker::{Broker, Home};
use crate::child::{self, PATIENCE};
use crate::wire::{Connection, batch, produce_frame};

/// How often a starting broker is asked to take a record.
const ASK_INTERVAL: Duration = Duration::from_micros(500);

pub fn empty(site: &Site<'_>) -> anyhow::Result<Outcome> {
    let dir = tempfile::tempdir_in(site.dir)?;
    let broker = home(site, dir.path())?.start(site.programs)?;
    Ok(outcome("ready_ms", broker.ready_after))
}

/// The data is written anew in each round, which takes far longer than what is measured.
pub fn full(site: &Site<'_>, size_bytes: usize) -> anyhow::Result<Outcome> {
    let dir = tempfile::tempdir_in(site.dir)?;
    let broker = home(site, dir.path())?.start(site.programs)?;
    broker.create_topic(site.topic, site.partitions, &[])?;
    let records = site.start_bytes / size_bytes as u64;
    bulk::produce(&broker, site, size_bytes, &bulk::Until::records(records))?;
    let broker = broker.stop()?.start(site.programs)?;
    Ok(outcome("ready_ms", broker.ready_after))
}

pub fn after_kill(site: &Site<'_>, size_bytes: usize) -> anyhow::Result<Outcome> {
    let dir = tempfile::tempdir_in(site.dir)?;
    let broker = home(site, dir.path())?.start(site.programs)?;
    broker.create_topic(site.topic, site.partitions, &[])?;
    let stop = AtomicBool::new(false);
    let until = bulk::Until {
        stop: Some(&stop),
        ..bulk::Until::records(u64::MAX)
    };
    std::thread::scope(|scope| {
        let load = scope.spawn(|| bulk::produce(&broker, site, size_bytes, &until));
        let waited = child::pause(site.duration);
        stop_under_load(&broker, &stop);
        let produced = load.join().unwrap_or_else(|_| bail!("the producer panicked"))?;
        waited?;
        ensure!(produced.records > 0, "no record was acknowledged before the kill");
        Ok(())
    })?;
    let value = site.payloads.value(0, size_bytes);
    let frame = produce_frame(site.topic, 0, batch(std::iter::once(value), now_ms())?)?;
    let broker = broker.kill().start(site.programs)?;
    let acknowledged_after = first_acknowledgement(&broker, &frame)?;
    Ok(outcome("first_ack_ms", acknowledged_after))
}

/// The process is gone before the load is told to end.
fn stop_under_load(broker: &Broker, stop: &AtomicBool) {
    if let Some(pid) = i32::try_from(broker.id()).ok().and_then(rustix::process::Pid::from_raw) {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
    stop.store(true, Ordering::Relaxed);
}

/// From the start of the process.
fn first_acknowledgement(broker: &Broker, frame: &[u8]) -> anyhow::Result<Duration> {
    let asked = Instant::now();
    loop {
        child::ensure_not_interrupted()?;
        match Connection::open(broker.home.kafka).and_then(|mut connection| connection.produce(frame)) {
            Ok(()) => return Ok(broker.started.elapsed()),
            Err(error) if asked.elapsed() > PATIENCE => {
                return Err(error).context("no acknowledgement after a SIGKILL");
            }
            Err(_) => std::thread::sleep(ASK_INTERVAL),
        }
    }
}

fn home(site: &Site<'_>, dir: &std::path::Path) -> anyhow::Result<Home> {
    Home::new(
        site.programs,
        site.product.context("the start of which broker?")?,
        &dir.join("data"),
    )
}

fn outcome(figure: &'static str, duration: Duration) -> Outcome {
    Outcome {
        seconds: duration.as_secs_f64(),
        figures: vec![(figure, duration.as_secs_f64() * 1000.0)],
        ..Default::default()
    }
}
