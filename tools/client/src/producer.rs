//! A producer for any number of topics: chooses partitions, bounds memory, counts.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use kafka_protocol::messages::{InitProducerIdRequest, ProducerId};
use parking_lot::Mutex;
use riverlog_storage::record::Record;
use tokio::sync::{Semaphore, oneshot, watch};

use crate::admin::check;
use crate::client::{Client, Target};
use crate::error::Error;
use crate::partitioner::partition_for_key;
use crate::writer::{BatchEvent, Identity, OnBatch, PartitionWriter, WriterOptions, wire_bytes};

/// The bytes of records that are handed over and not acknowledged.
const MEMORY_BYTES: usize = 32 * 1024 * 1024;

/// Records without a key go to the same partition until this many bytes did, so that batches fill.
const STICKY_BYTES: usize = 16 * 1024;

/// As many latencies are kept for the percentiles.
const MAX_LATENCIES: usize = 100_000;

/// An idempotent producer. What it accepted is written once, in order per partition, or reported.
#[derive(Debug)]
pub struct Producer {
    client: Client,
    identity: Identity,
    options: WriterOptions,
    channel: u32,
    memory: Arc<Semaphore>,
    lanes: Mutex<HashMap<(String, i32), Arc<PartitionWriter>>>,
    partitions: tokio::sync::Mutex<HashMap<String, Choice>>,
    tally: Arc<Tally>,
}

/// Where the next record of a topic goes if nobody says.
#[derive(Debug)]
struct Choice {
    partitions: u32,
    current: u32,
    current_bytes: usize,
}

#[derive(Debug, Default)]
struct Tally {
    records: AtomicU64,
    bytes: AtomicU64,
    batches: AtomicU64,
    latencies: Mutex<Vec<Duration>>,
    /// The first one.
    failure: watch::Sender<Option<Error>>,
    /// The partitions that try again: since when, and why the last attempt failed.
    delayed: Mutex<HashMap<(String, i32), (Instant, Error)>>,
}

/// What a producer has done so far.
#[derive(Clone, Debug, Default)]
pub struct ProducerStats {
    /// Records that are durable.
    pub records: u64,
    /// Their bytes, as sent.
    pub bytes: u64,
    /// The batches they were sent in.
    pub batches: u64,
    /// From sending a batch to its acknowledgement, shortest first.
    pub latencies: Vec<Duration>,
}

impl ProducerStats {
    /// The latency that this share (0 to 1) of the batches did not exceed.
    pub fn latency(&self, share: f64) -> Option<Duration> {
        let last = self.latencies.len().checked_sub(1)?;
        let index = (last as f64 * share.clamp(0.0, 1.0)).round() as usize;
        self.latencies.get(index).copied()
    }
}

/// Where a record ended up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// The partition.
    pub partition: i32,
    /// The offset; -1 if the broker only knows that it has the record.
    pub offset: i64,
}

/// A record's fate, to be waited for; or not, because [`Producer::flush`] tells of failures as well.
#[derive(Debug)]
pub struct Delivery {
    partition: i32,
    receiver: oneshot::Receiver<Result<i64, Error>>,
}

impl Delivery {
    /// Waits until the record is durable, or is known not to become so.
    pub async fn wait(self) -> Result<Delivered, Error> {
        let offset = self
            .receiver
            .await
            .unwrap_or_else(|_| Err(Error::Stopped("the producer has ended".to_owned())))?;
        Ok(Delivered {
            partition: self.partition,
            offset,
        })
    }
}

impl Producer {
    /// Asks the cluster for an identity.
    pub async fn new(client: &Client, options: WriterOptions) -> Result<Self, Error> {
        let identity = client.new_identity().await?;
        Ok(Self {
            client: client.clone(),
            identity,
            options,
            channel: client.new_channel(),
            memory: Arc::new(Semaphore::new(MEMORY_BYTES)),
            lanes: Mutex::default(),
            partitions: tokio::sync::Mutex::default(),
            tally: Arc::default(),
        })
    }

    /// Hands a record over; waits while too much is on its way. Without a partition, Kafka's rule
    /// applies: by the key's hash, or in turn.
    pub async fn send(&self, topic: &str, partition: Option<i32>, record: Record) -> Result<Delivery, Error> {
        if let Some(failure) = self.tally.failure.borrow().clone() {
            return Err(Error::Stopped(failure.to_string()));
        }
        let size_bytes = wire_bytes(&record);
        let partition = match partition {
            Some(partition) => partition,
            None => self.choose(topic, &record, size_bytes).await?,
        };
        let permits = u32::try_from(size_bytes.min(MEMORY_BYTES)).unwrap_or(u32::MAX);
        let memory = self.memory.clone().acquire_many_owned(permits).await.ok();
        let receiver = self.lane(topic, partition).send(record, memory).await?;
        Ok(Delivery { partition, receiver })
    }

    /// Waits until everything handed over is durable; tells the first failure, if there was one.
    pub async fn flush(&self) -> Result<(), Error> {
        // Every record holds its share of the memory until its fate is known.
        let all = u32::try_from(MEMORY_BYTES).unwrap_or(u32::MAX);
        let _everything = self.memory.acquire_many(all).await;
        match self.tally.failure.borrow().clone() {
            None => Ok(()),
            Some(failure) => Err(failure),
        }
    }

    /// Waits until something handed over is known to be lost; [`Producer::flush`] then tells why.
    pub async fn failed(&self) {
        let mut failure = self.tally.failure.subscribe();
        // The other end is in this producer, so a failure alone can end it.
        let _ = failure.wait_for(Option::is_some).await;
    }

    /// How long the slowest partition has been trying to send the same again, and why its last attempt failed.
    pub fn delayed(&self) -> Option<(Duration, Error)> {
        let delayed = self.tally.delayed.lock();
        let (since, error) = delayed.values().min_by_key(|(since, _)| *since)?;
        Some((since.elapsed(), error.clone()))
    }

    /// What was acknowledged so far, without the latencies; cheap enough for a progress bar.
    pub fn acknowledged(&self) -> u64 {
        self.tally.records.load(Ordering::Relaxed)
    }

    /// What was acknowledged so far.
    pub fn stats(&self) -> ProducerStats {
        let mut latencies = self.tally.latencies.lock().clone();
        latencies.sort_unstable();
        ProducerStats {
            records: self.tally.records.load(Ordering::Relaxed),
            bytes: self.tally.bytes.load(Ordering::Relaxed),
            batches: self.tally.batches.load(Ordering::Relaxed),
            latencies,
        }
    }

    fn lane(&self, topic: &str, partition: i32) -> Arc<PartitionWriter> {
        let mut lanes = self.lanes.lock();
        let lane = lanes.entry((topic.to_owned(), partition));
        lane.or_insert_with(|| {
            let tally = self.tally.clone();
            let place = (topic.to_owned(), partition);
            let on_batch: OnBatch = Arc::new(move |event| tally.note(&place, event));
            Arc::new(PartitionWriter::start_on(
                &self.client,
                self.channel,
                topic,
                partition,
                self.identity,
                self.options,
                on_batch,
            ))
        })
        .clone()
    }

    async fn choose(&self, topic: &str, record: &Record, size_bytes: usize) -> Result<i32, Error> {
        let mut choices = self.partitions.lock().await;
        if !choices.contains_key(topic) {
            let metadata = self.client.topic(topic, true).await?;
            let partitions = u32::try_from(metadata.partitions.len()).unwrap_or(1);
            let choice = Choice {
                partitions: partitions.max(1),
                current: 0,
                current_bytes: 0,
            };
            choices.insert(topic.to_owned(), choice);
        }
        let Some(choice) = choices.get_mut(topic) else {
            return Ok(0);
        };
        let partition = match &record.key {
            Some(key) => partition_for_key(key, choice.partitions),
            None => {
                if choice.current_bytes >= STICKY_BYTES {
                    choice.current = (choice.current + 1) % choice.partitions;
                    choice.current_bytes = 0;
                }
                choice.current_bytes += size_bytes;
                choice.current
            }
        };
        Ok(i32::try_from(partition).unwrap_or(0))
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        self.client.close_channel(self.channel);
    }
}

impl Tally {
    fn note(&self, place: &(String, i32), event: BatchEvent) {
        match event {
            BatchEvent::Acked(acked) => {
                self.delayed.lock().remove(place);
                self.records.fetch_add(acked.records, Ordering::Relaxed);
                self.bytes.fetch_add(acked.bytes, Ordering::Relaxed);
                self.batches.fetch_add(1, Ordering::Relaxed);
                let mut latencies = self.latencies.lock();
                if latencies.len() < MAX_LATENCIES {
                    latencies.push(acked.took);
                }
            }
            BatchEvent::Delayed(error) => {
                let now = (Instant::now(), error.clone());
                let mut delayed = self.delayed.lock();
                delayed.entry(place.clone()).or_insert(now).1 = error;
            }
            BatchEvent::Failed(error) => {
                self.delayed.lock().remove(place);
                self.failure.send_if_modified(|failure| {
                    let is_first = failure.is_none();
                    failure.get_or_insert(error);
                    is_first
                });
            }
        }
    }
}

impl Client {
    /// A producer identity that nobody had before.
    pub async fn new_identity(&self) -> Result<Identity, Error> {
        let request = InitProducerIdRequest::default()
            .with_transactional_id(None)
            .with_transaction_timeout_ms(i32::MAX)
            .with_producer_id(ProducerId(-1))
            .with_producer_epoch(-1);
        let mut retry = self.retry();
        loop {
            let answer = self.call(Target::Any, &request).await.and_then(|response| {
                check("producer id", response.error_code, None)?;
                Ok(response)
            });
            match answer {
                Ok(response) => {
                    return Ok(Identity {
                        producer_id: response.producer_id.0,
                        producer_epoch: response.producer_epoch,
                        next_sequence: 0,
                    });
                }
                Err(error) => retry.pause(error).await?,
            }
        }
    }
}
