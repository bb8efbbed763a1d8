//! Records at a fixed pace through librdkafka, and how long each takes from when it was due to be sent until a consumer
//! has it. A record that is sent late counts from when it was due.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use rdkafka::Offset;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::BaseConsumer;
use rdkafka::message::Message;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, ThreadedProducer};

use super::{Outcome, Site, bulk, consume};
use crate::child;

/// How long the producer waits for more before it sends a batch, in milliseconds.
const LINGER_MS: &str = "1";

/// The producer looks at the clock this often.
const TICK: Duration = Duration::from_micros(500);

/// What is due in this time at first does not count: connections are made, and code is warmed.
const LEAD: Duration = Duration::from_secs(1);

/// After the last record was sent.
const PATIENCE: Duration = Duration::from_secs(30);

/// No record has been sent, or none more will be.
const UNKNOWN: u64 = u64::MAX;

pub fn run(site: &Site<'_>, records_per_s: u32, size_bytes: usize) -> anyhow::Result<Outcome> {
    let consumer: BaseConsumer = consume::config(site.broker()?)
        .set("enable.partition.eof", "false")
        .create()
        .context("cannot make a consumer")?;
    consume::assign(&consumer, site.topic, site.partitions, Offset::Beginning)?;
    let epoch = Instant::now();
    // How many will have been sent, once that is known.
    let total = AtomicU64::new(UNKNOWN);
    let (received, produced) = std::thread::scope(|scope| {
        let producer = scope.spawn(|| {
            let sent = produce(site, records_per_s, size_bytes, epoch);
            total.store(*sent.as_ref().unwrap_or(&0), Ordering::Relaxed);
            sent
        });
        let received = receive(&consumer, epoch, &total);
        (
            received,
            producer.join().unwrap_or_else(|_| bail!("the producer panicked")),
        )
    });
    produced?;
    let (records, durations_us) = received?;
    let outcome = Outcome {
        records,
        bytes: records * size_bytes as u64,
        seconds: epoch.elapsed().as_secs_f64(),
        figures: vec![],
    };
    Ok(outcome.with_latencies(durations_us))
}

fn produce(site: &Site<'_>, records_per_s: u32, size_bytes: usize, epoch: Instant) -> anyhow::Result<u64> {
    let mut config = bulk::config(site.broker()?);
    config.set("linger.ms", LINGER_MS).set("socket.nagle.disable", "true");
    let producer: ThreadedProducer<_> =
        ThreadedProducer::from_config_and_context(&config, DefaultProducerContext).context("cannot make a producer")?;
    let interval_ns = 1_000_000_000 / u64::from(records_per_s);
    let last = u64::try_from((LEAD + site.duration).as_nanos())? / interval_ns;
    let mut value = vec![0; size_bytes];
    let mut sent = 0;
    while sent < last {
        child::ensure_not_interrupted()?;
        let now_ns = u64::try_from(epoch.elapsed().as_nanos())?;
        while sent < last && sent * interval_ns <= now_ns {
            value.copy_from_slice(site.payloads.value(sent, size_bytes));
            let due = (sent * interval_ns).to_be_bytes();
            value
                .get_mut(..due.len())
                .context("values are too small")?
                .copy_from_slice(&due);
            let partition = i32::try_from(sent % u64::from(site.partitions.unsigned_abs()))?;
            let record = BaseRecord::<(), [u8]>::to(site.topic)
                .partition(partition)
                .payload(&value);
            // A full queue means that the broker cannot keep the pace at all.
            producer
                .send(record)
                .map_err(|(error, _)| error)
                .context("the pace cannot be kept")?;
            sent += 1;
        }
        std::thread::sleep(TICK);
    }
    let waited = Instant::now();
    while rdkafka::producer::Producer::in_flight_count(&producer) > 0 {
        child::ensure_not_interrupted()?;
        ensure!(waited.elapsed() < PATIENCE, "records were not acknowledged");
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(sent)
}

/// How many records came, and how long each took.
fn receive(consumer: &BaseConsumer, epoch: Instant, total: &AtomicU64) -> anyhow::Result<(u64, Vec<u32>)> {
    let (mut count, mut durations_us, mut heard) = (0_u64, Vec::new(), Instant::now());
    while count < total.load(Ordering::Relaxed) {
        child::ensure_not_interrupted()?;
        let Some(message) = consumer.poll(Duration::from_millis(50)) else {
            ensure!(heard.elapsed() < PATIENCE, "no record for {PATIENCE:?}");
            continue;
        };
        heard = Instant::now();
        let now_ns = u64::try_from((heard - epoch).as_nanos())?;
        let message = message.context("cannot consume")?;
        let due = message
            .payload()
            .and_then(|value| value.first_chunk::<8>())
            .context("a strange record")?;
        let due_ns = u64::from_be_bytes(*due);
        count += 1;
        if u128::from(due_ns) >= LEAD.as_nanos() {
            durations_us.push(u32::try_from(now_ns.saturating_sub(due_ns) / 1000)?);
        }
    }
    Ok((count, durations_us))
}
