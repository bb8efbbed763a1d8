//! The records of a range, partitions merged by timestamp.

use std::collections::{BTreeMap, VecDeque};

use riverlog_client::{Client, Consumer, ConsumerOptions, Error, StoredRecord};
use tokio::sync::mpsc;

use crate::plan::{Span, TimeFilter};

/// What a partition's reader hands over.
#[derive(Debug)]
struct Chunk {
    records: Vec<StoredRecord>,
    /// Every offset below this one has been looked at.
    next_offset: i64,
}

#[derive(Debug)]
struct Input {
    chunks: mpsc::Receiver<Result<Chunk, Error>>,
    buffer: VecDeque<StoredRecord>,
    looked_at: i64,
    ended: bool,
}

/// Reads all partitions of a range, each ahead of need by a chunk or two.
#[derive(Debug)]
pub(crate) struct Source {
    inputs: BTreeMap<i32, Input>,
}

/// Bounds what waits in memory, together with the chunks in the channel.
const FETCH_BYTES: i32 = 1024 * 1024;
const CHUNKS_AHEAD: usize = 2;

impl Source {
    pub fn start(client: &Client, topic: &str, spans: &[Span], filter: TimeFilter) -> Self {
        let inputs = spans.iter().map(|span| {
            let (sender, chunks) = mpsc::channel(CHUNKS_AHEAD);
            tokio::spawn(read(client.clone(), topic.to_owned(), span.clone(), filter, sender));
            let input = Input {
                chunks,
                buffer: VecDeque::new(),
                looked_at: span.from,
                ended: false,
            };
            (span.partition, input)
        });
        Self {
            inputs: inputs.collect(),
        }
    }

    /// The next record: the one with the smallest timestamp among the partitions' next ones, so a
    /// partition's own order is never changed.
    pub async fn next(&mut self) -> Result<Option<(i32, StoredRecord)>, Error> {
        for input in self.inputs.values_mut() {
            input.fill().await?;
        }
        let next = self
            .inputs
            .iter_mut()
            .filter_map(|(partition, input)| {
                let timestamp_ms = input.buffer.front()?.timestamp_ms;
                Some((timestamp_ms, *partition, input))
            })
            .min_by_key(|(timestamp_ms, partition, _)| (*timestamp_ms, *partition));
        Ok(next.and_then(|(_, partition, input)| {
            let record = input.buffer.pop_front()?;
            Some((partition, record))
        }))
    }

    /// How many offsets have been dealt with, skipped ones included.
    pub fn looked_at(&self) -> i64 {
        let of = |input: &Input| match input.buffer.front() {
            Some(record) => record.offset,
            None => input.looked_at,
        };
        self.inputs.values().map(of).sum()
    }
}

impl Input {
    async fn fill(&mut self) -> Result<(), Error> {
        while self.buffer.is_empty() && !self.ended {
            match self.chunks.recv().await {
                Some(chunk) => {
                    let chunk = chunk?;
                    self.looked_at = chunk.next_offset;
                    self.buffer.extend(chunk.records);
                }
                None => self.ended = true,
            }
        }
        Ok(())
    }
}

async fn read(
    client: Client,
    topic: String,
    span: Span,
    filter: TimeFilter,
    chunks: mpsc::Sender<Result<Chunk, Error>>,
) {
    let options = ConsumerOptions {
        max_bytes: FETCH_BYTES,
        ..ConsumerOptions::default()
    };
    let mut position = span.from;
    let start = [((topic, span.partition), span.from)];
    let mut consumer = Consumer::new(&client, start, options);
    while position < span.to {
        let chunk = match consumer.poll().await {
            Ok(Some(fetched)) => {
                position = fetched.next_offset;
                let mut records = fetched.records;
                records.retain(|r| r.offset < span.to && filter.admits(r.timestamp_ms));
                let next_offset = position.min(span.to);
                Ok(Chunk { records, next_offset })
            }
            Ok(None) => continue,
            Err(error) => Err(error),
        };
        let failed = chunk.is_err();
        // Nobody listens any more when the replay has failed elsewhere.
        if chunks.send(chunk).await.is_err() || failed {
            return;
        }
    }
}
