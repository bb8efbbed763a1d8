//! Writes records into the destination: one sequence for each pair of source and destination partition.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use riverlog_client::partitioner::partition_for_key;
use riverlog_client::{Client, Error, Identity, PartitionWriter, Record, ResponseError, StoredRecord, WriterOptions};
use tokio::sync::Semaphore;
use tokio::sync::oneshot::{self, error::TryRecvError};

use crate::claim::Claim;
use crate::tail::{self, HEADER, Reached};

/// The bytes that are on their way to the destination.
const MEMORY_BYTES: usize = 32 * 1024 * 1024;

/// Records are handed to their writer by so many bytes: each by itself would cost as much as all the rest.
const CHUNK_BYTES: usize = 32 * 1024;
/// After so many bytes all chunks are handed over, also the small ones: a record keeps the memory of all that was fetched with it.
const FLUSH_BYTES: usize = 1024 * 1024;

type Pair = (i32, i32);

/// The writers of one replay.
pub(crate) struct Lanes {
    client: Client,
    name: Option<String>,
    destination: String,
    destination_partitions: u32,
    options: WriterOptions,
    same_partitions: bool,
    producers: HashMap<i32, i64>,
    reached: HashMap<Pair, Reached>,
    writers: HashMap<Pair, PartitionWriter>,
    chunks: HashMap<Pair, Chunk>,
    /// Taken since all chunks were handed over.
    unflushed_bytes: usize,
    memory: Arc<Semaphore>,
    outstanding: VecDeque<Outstanding>,
    pub acknowledged: u64,
}

/// Records that are handed over together.
struct Chunk {
    /// Of the first.
    source_offset: i64,
    records: Vec<Record>,
    size_bytes: usize,
}

/// Records that the destination has not answered yet, by where the first stands in the source.
struct Outstanding {
    partition: i32,
    offset: i64,
    records: u64,
    answer: oneshot::Receiver<Result<i64, Error>>,
}

impl Lanes {
    /// Reads from the destination how far a named replay has come.
    pub async fn open(client: &Client, name: Option<&str>, claim: &Claim) -> anyhow::Result<Self> {
        let producers: HashMap<i32, i64> = claim
            .spans
            .iter()
            .zip(&claim.producer_ids)
            .map(|(span, id)| (span.partition, *id))
            .collect();
        let options = WriterOptions {
            shared_identity: true,
            ..WriterOptions::default()
        };
        let mut lanes = Self {
            client: client.clone(),
            name: name.map(str::to_owned),
            destination: claim.destination.clone(),
            destination_partitions: u32::try_from(claim.destination_starts.len())?.max(1),
            options: options.fit(client, &claim.destination).await?,
            same_partitions: claim.same_partitions,
            producers,
            reached: HashMap::new(),
            writers: HashMap::new(),
            chunks: HashMap::new(),
            unflushed_bytes: 0,
            memory: Arc::new(Semaphore::new(MEMORY_BYTES)),
            outstanding: VecDeque::new(),
            acknowledged: 0,
        };
        if let Some(name) = name {
            lanes.find_reached(name, &claim.destination_starts).await?;
        }
        Ok(lanes)
    }

    async fn find_reached(&mut self, name: &str, starts: &[i64]) -> anyhow::Result<()> {
        for (partition, start) in (0..).zip(starts) {
            let producers: Vec<(i64, i32)> = self
                .producers
                .iter()
                .filter(|(source, _)| !self.same_partitions || **source == partition)
                .map(|(source, id)| (*id, *source))
                .collect();
            let at = (self.destination.as_str(), partition);
            let reached = tail::find(&self.client, name, at, *start, &producers).await?;
            for (id, source) in producers {
                if let Some(at) = reached.get(&id) {
                    self.reached.insert((source, partition), *at);
                }
            }
        }
        Ok(())
    }

    /// Where to go on in a source partition: behind what every destination partition has.
    pub fn resume_at(&self, source: i32, from: i64) -> i64 {
        let destinations: Vec<i32> = match self.same_partitions {
            true => vec![source],
            false => (0..i32::try_from(self.destination_partitions).unwrap_or(0)).collect(),
        };
        let next = destinations.iter().map(|destination| {
            let reached = self.reached.get(&(source, *destination));
            reached.map_or(from, |at| at.source_offset + 1)
        });
        next.min().unwrap_or(from)
    }

    /// Hands a record over, unless the destination has it; but see [`Self::flush`]. Waits while too much is on its way.
    pub async fn send(&mut self, source: i32, record: StoredRecord) -> Result<(), Error> {
        let destination = self.destination_of(source, &record);
        let pair = (source, destination);
        let has_it = |at: &Reached| record.offset <= at.source_offset;
        if self.reached.get(&pair).is_some_and(has_it) {
            return Ok(());
        }
        let offset = record.offset;
        let record = self.copy(source, record);
        let size_bytes = memory_bytes(&record);
        if size_bytes >= CHUNK_BYTES {
            // It travels alone, so that a refusal names it.
            self.hand_over(pair).await?;
        }
        let chunk = self.chunks.entry(pair).or_insert_with(|| Chunk {
            source_offset: offset,
            records: Vec::new(),
            size_bytes: 0,
        });
        chunk.records.push(record);
        chunk.size_bytes += size_bytes;
        self.unflushed_bytes += size_bytes;
        if chunk.size_bytes >= CHUNK_BYTES {
            self.hand_over(pair).await?;
        }
        match self.unflushed_bytes >= FLUSH_BYTES {
            true => self.flush().await,
            false => Ok(()),
        }
    }

    /// The record as it is written, with the header of a named replay.
    fn copy(&self, source: i32, record: StoredRecord) -> Record {
        let mut headers = record.headers;
        if let Some(name) = &self.name {
            let value = tail::header_value(name, source, record.offset);
            headers.push((Bytes::from_static(HEADER.as_bytes()), Some(value)));
        }
        Record {
            key: record.key,
            value: record.value,
            headers,
            timestamp_ms: record.timestamp_ms,
        }
    }

    /// Hands over what waits for company: before nothing may come for a while, and at the end.
    pub async fn flush(&mut self) -> Result<(), Error> {
        self.unflushed_bytes = 0;
        while let Some(pair) = self.chunks.keys().next().copied() {
            self.hand_over(pair).await?;
        }
        Ok(())
    }

    /// Hands over what waits for this writer.
    async fn hand_over(&mut self, pair: Pair) -> Result<(), Error> {
        let Some(chunk) = self.chunks.remove(&pair) else {
            return Ok(());
        };
        let permits = u32::try_from(chunk.size_bytes.min(MEMORY_BYTES)).unwrap_or(u32::MAX);
        let memory = self.memory.clone().acquire_many_owned(permits).await.ok();
        let records = chunk.records.len() as u64;
        let answer = self.writer(pair).send_all(chunk.records, memory).await?;
        self.outstanding.push_back(Outstanding {
            partition: pair.0,
            offset: chunk.source_offset,
            records,
            answer,
        });
        self.settle()
    }

    fn destination_of(&self, source: i32, record: &StoredRecord) -> i32 {
        if self.same_partitions {
            return source;
        }
        let partition = match &record.key {
            Some(key) => partition_for_key(key, self.destination_partitions),
            // The same for every start, so that a restart knows where to look.
            None => source.unsigned_abs() % self.destination_partitions,
        };
        i32::try_from(partition).unwrap_or(0)
    }

    fn writer(&mut self, pair: Pair) -> &PartitionWriter {
        let (source, destination) = pair;
        self.writers.entry(pair).or_insert_with(|| {
            let reached = self.reached.get(&pair);
            let identity = Identity {
                producer_id: self.producers.get(&source).copied().unwrap_or(-1),
                producer_epoch: 0,
                // After 2^31 - 1 comes 0.
                next_sequence: reached.map_or(0, |at| at.sequence.checked_add(1).unwrap_or(0)),
            };
            PartitionWriter::start(&self.client, &self.destination, destination, identity, self.options)
        })
    }

    /// Takes the answers that are there.
    pub fn settle(&mut self) -> Result<(), Error> {
        while let Some(oldest) = self.outstanding.front_mut() {
            match oldest.answer.try_recv() {
                Err(TryRecvError::Empty) => return Ok(()),
                answer => {
                    let answer = answer.unwrap_or_else(|_| Err(ended()));
                    let outcome = answer.map_err(|error| oldest.explain(error, &self.destination));
                    // Nobody may wait for it once more, whatever it was.
                    let records = oldest.records;
                    self.outstanding.pop_front();
                    outcome?;
                    self.acknowledged += records;
                }
            }
        }
        Ok(())
    }

    /// Hands over what is left and waits for every answer, also after a failure; tells the first one.
    pub async fn finish(&mut self) -> Result<(), Error> {
        let mut first = self.flush().await;
        while let Some(mut oldest) = self.outstanding.pop_front() {
            match (&mut oldest.answer).await.unwrap_or_else(|_| Err(ended())) {
                Ok(_) => self.acknowledged += oldest.records,
                Err(error) => first = first.and(Err(oldest.explain(error, &self.destination))),
            }
        }
        first
    }
}

impl Outstanding {
    /// What the source has compressed, say, may be too large for a destination with the same limit.
    fn explain(&self, error: Error, destination: &str) -> Error {
        let Self { partition, offset, .. } = self;
        match error {
            Error::Refused { subject, code, .. } if code == ResponseError::MessageTooLarge => Error::Refused {
                subject,
                code,
                message: Some(format!(
                    "a batch that begins with offset {offset} of the source's partition {partition}, or shortly behind it, takes \
                     more, not compressed, than max.message.bytes allows here: \
                     riverlog topic alter {destination} --config max.message.bytes=BYTES"
                )),
            },
            error => error,
        }
    }
}

/// What the record takes in memory, about.
fn memory_bytes(record: &Record) -> usize {
    const FIELDS: usize = 256;
    let length = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
    let headers = record.headers.iter().map(|(name, value)| name.len() + length(value));
    FIELDS + length(&record.key) + length(&record.value) + headers.sum::<usize>()
}

fn ended() -> Error {
    Error::Stopped("the writer has ended".to_owned())
}
