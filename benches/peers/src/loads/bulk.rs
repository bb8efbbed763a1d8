//! One librdkafka producer that sends as fast as it can, with its default batching.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use rdkafka::ClientContext;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};

use super::{Outcome, Site};
use crate::broker::Broker;
use crate::child;

/// How many records are sent between two looks at the clock.
const STRIDE: u64 = 256;

/// The largest record, with what is around its value, that librdkafka sends by default, in bytes.
const RECORD_BYTES: usize = 1_000_000;

/// More than is around a value.
const OVERHEAD_BYTES: usize = 1024;

/// When to stop sending.
#[derive(Debug)]
pub struct Until<'a> {
    pub deadline: Option<Instant>,
    pub records: u64,
    /// Set by somebody else, who then does not care for what is under way.
    pub stop: Option<&'a AtomicBool>,
}

impl Until<'_> {
    /// For this long.
    pub fn after(duration: Duration) -> Self {
        Self {
            deadline: Some(Instant::now() + duration),
            records: u64::MAX,
            stop: None,
        }
    }

    /// So many.
    pub fn records(records: u64) -> Self {
        Self {
            deadline: None,
            records,
            stop: None,
        }
    }

    fn stopped(&self) -> bool {
        self.stop.is_some_and(|stop| stop.load(Ordering::Relaxed))
    }
}

/// Counts what was delivered.
#[derive(Debug, Default)]
pub struct Counter {
    acknowledged: AtomicU64,
    failed: AtomicU64,
    error: Mutex<Option<KafkaError>>,
}

impl ClientContext for Counter {}

impl ProducerContext for Counter {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        match result {
            Ok(_) => {
                self.acknowledged.fetch_add(1, Ordering::Relaxed);
            }
            Err((error, _)) => {
                self.failed.fetch_add(1, Ordering::Relaxed);
                *self.error.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.clone());
            }
        }
    }
}

/// A producer's settings: librdkafka's defaults, of which acks=all is one, but named all the same.
pub fn config(broker: &Broker) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", broker.bootstrap())
        .set("acks", "all")
        .set("compression.type", "none");
    config
}

pub fn run(site: &Site<'_>, size_bytes: usize) -> anyhow::Result<Outcome> {
    produce(site.broker()?, site, size_bytes, &Until::after(site.duration))
}

/// Sends to each partition in turn.
///
/// # Errors
/// If anything was not acknowledged, unless it was stopped.
pub fn produce(broker: &Broker, site: &Site<'_>, size_bytes: usize, until: &Until<'_>) -> anyhow::Result<Outcome> {
    let mut config = config(broker);
    if size_bytes + OVERHEAD_BYTES > RECORD_BYTES {
        config.set("message.max.bytes", (size_bytes + OVERHEAD_BYTES).to_string());
    }
    let producer =
        ThreadedProducer::from_config_and_context(&config, Counter::default()).context("cannot make a producer")?;
    let counter = producer.context().clone();
    let started = Instant::now();
    let mut sent = 0;
    while sent < until.records {
        if sent % STRIDE == 0 && over(until)? {
            break;
        }
        let partition = i32::try_from(sent % u64::from(site.partitions.unsigned_abs()))?;
        if send(&producer, site, partition, site.payloads.value(sent, size_bytes), until)? {
            sent += 1;
        } else {
            break;
        }
    }
    while counter.acknowledged.load(Ordering::Relaxed) + counter.failed.load(Ordering::Relaxed) < sent {
        child::ensure_not_interrupted()?;
        if until.stopped() {
            break;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    let seconds = started.elapsed().as_secs_f64();
    let failed = counter.failed.load(Ordering::Relaxed);
    if let Some(error) = counter.error.lock().unwrap_or_else(PoisonError::into_inner).take() {
        ensure!(
            until.stop.is_some(),
            "{failed} of {sent} records were not acknowledged: {error}"
        );
    }
    let records = counter.acknowledged.load(Ordering::Relaxed);
    Ok(Outcome {
        records,
        bytes: records * size_bytes as u64,
        seconds,
        figures: vec![],
    })
}

fn over(until: &Until<'_>) -> anyhow::Result<bool> {
    child::ensure_not_interrupted()?;
    Ok(until.stopped() || until.deadline.is_some_and(|deadline| Instant::now() >= deadline))
}

/// Waits while the producer's queue is full. Says whether the record was sent; it is not when the time is over.
fn send(
    producer: &ThreadedProducer<Counter>,
    site: &Site<'_>,
    partition: i32,
    value: &[u8],
    until: &Until<'_>,
) -> anyhow::Result<bool> {
    let mut record = BaseRecord::<(), [u8]>::to(site.topic)
        .partition(partition)
        .payload(value);
    loop {
        match producer.send(record) {
            Ok(()) => return Ok(true),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                if over(until)? {
                    return Ok(false);
                }
                std::thread::sleep(Duration::from_millis(1));
                record = back;
            }
            Err((error, _)) => bail!("cannot send: {error}"),
        }
    }
}
