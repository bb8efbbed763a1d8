//! librdkafka producers that each wait for their record before they send the next. Each is a client of its own, with
//! its own connection, and nothing lingers.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rdkafka::ClientContext;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseRecord, ProducerContext, ThreadedProducer};

use super::{Outcome, Site, bulk};
use crate::child;

/// Longer than anything takes that comes at all.
const PATIENCE: Duration = Duration::from_secs(60);

/// Tells when a record was delivered, as librdkafka's callback learns it: a wake-up of the sender is not part of it.
struct Reporter {
    reports: Sender<Result<Instant, String>>,
}

impl ClientContext for Reporter {}

impl ProducerContext for Reporter {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let report = match result {
            Ok(_) => Ok(Instant::now()),
            Err((error, _)) => Err(error.to_string()),
        };
        let _ = self.reports.send(report);
    }
}

/// Producer number n writes to partition n modulo their number.
pub fn run(site: &Site<'_>, producers: usize, size_bytes: usize) -> anyhow::Result<Outcome> {
    let mut config = bulk::config(site.broker()?);
    config.set("linger.ms", "0").set("socket.nagle.disable", "true");
    let failed = AtomicBool::new(false);
    let (config, failed) = (&config, &failed);
    let parts = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..producers)
            .map(|number| {
                scope.spawn(move || {
                    let part = produce(site, config, number, size_bytes, failed);
                    // The others need not go on.
                    failed.fetch_or(part.is_err(), Ordering::Relaxed);
                    part
                })
            })
            .collect();
        let joined = threads.into_iter().map(|thread| thread.join());
        joined
            .map(|part| part.unwrap_or_else(|_| bail!("a producer panicked")))
            .collect::<anyhow::Result<Vec<Part>>>()
    })?;
    let begun = parts.iter().map(|part| part.begun).min().context("no producers")?;
    let ended = parts.iter().map(|part| part.ended).max().context("no producers")?;
    let durations_us: Vec<u32> = parts.into_iter().flat_map(|part| part.durations_us).collect();
    let outcome = Outcome {
        records: durations_us.len() as u64,
        bytes: (durations_us.len() * size_bytes) as u64,
        seconds: (ended - begun).as_secs_f64(),
        figures: vec![],
    };
    Ok(outcome.with_latencies(durations_us))
}

struct Part {
    begun: Instant,
    ended: Instant,
    durations_us: Vec<u32>,
}

fn produce(
    site: &Site<'_>,
    config: &ClientConfig,
    number: usize,
    size_bytes: usize,
    failed: &AtomicBool,
) -> anyhow::Result<Part> {
    let (reports, receiver) = channel();
    let producer =
        ThreadedProducer::from_config_and_context(config, Reporter { reports }).context("cannot make a producer")?;
    let partition = i32::try_from(number)? % site.partitions;
    let send = |count: u64| -> anyhow::Result<(Instant, Instant)> {
        let value = site.payloads.value(count, size_bytes);
        let record = BaseRecord::<(), [u8]>::to(site.topic)
            .partition(partition)
            .payload(value);
        let sent = Instant::now();
        producer
            .send(record)
            .map_err(|(error, _)| error)
            .context("cannot send")?;
        match receiver.recv_timeout(PATIENCE) {
            Ok(Ok(delivered)) => Ok((sent, delivered)),
            Ok(Err(error)) => bail!("not acknowledged: {error}"),
            Err(_) => bail!("not acknowledged within {PATIENCE:?}"),
        }
    };
    // The first one waits for a connection and for metadata; it does not count.
    send(number as u64)?;
    let begun = Instant::now();
    let mut part = Part {
        begun,
        ended: begun,
        durations_us: vec![],
    };
    while begun.elapsed() < site.duration && !failed.load(Ordering::Relaxed) {
        child::ensure_not_interrupted()?;
        let (sent, delivered) = send((number + part.durations_us.len()) as u64)?;
        part.durations_us.push(u32::try_from((delivered - sent).as_micros())?);
        part.ended = delivered;
    }
    Ok(part)
}
