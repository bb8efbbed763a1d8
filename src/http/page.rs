//! A piece of one partition as JSON, from the log to the answer, within bounds of memory.
//!
//! Only a few are made at a time, and of these only one that needs much memory to decompress. What is then held until the client
//! has read it is taken from the budget of all clients.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use riverlog_storage::batch::{BatchError, BatchHeader};
use riverlog_storage::record::{StoredRecord, decode_batch};
use riverlog_storage::{Fetched, LogId};
use serde::Serialize;
use serde::ser::{SerializeSeq, Serializer};
use tokio::sync::Semaphore;

use super::Http;
use super::memory::{Memory, Reservation};
use super::problem::Problem;
use crate::broker::BrokerError;
use crate::record_json::RecordJson;

/// An answer ends behind the record that takes its keys, values and headers beyond this…
const MAX_RECORD_BYTES: usize = 4 << 20;
/// …or beyond this part of what all large answers may hold, and before the one that would take its text beyond all of that.
const PART_FOR_RECORDS: usize = 8;
/// What is read from the log for one answer.
const READ_BYTES: usize = 1 << 20;
/// What is made at a time…
const CONCURRENT_PAGES: usize = 8;
/// …each with batches that decompress to no more than this, of which it may hold two. Larger ones have a turn of their own.
const SHARED_BATCH_BYTES: usize = 4 << 20;

/// The turns to make a page.
#[derive(Debug)]
pub struct Turns {
    shared: Arc<Semaphore>,
    large: Arc<Semaphore>,
}

impl Default for Turns {
    fn default() -> Self {
        Self {
            shared: Arc::new(Semaphore::new(CONCURRENT_PAGES)),
            large: Arc::new(Semaphore::new(1)),
        }
    }
}

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Its topic, by name.
    pub topic: String,
    /// The partition of the topic…
    pub partition: i32,
    /// …and its log.
    pub log: LogId,
    /// The first offset.
    pub from: i64,
    /// The most records.
    pub limit: usize,
}

/// The answer.
#[derive(Debug)]
pub struct Page {
    /// JSON. As long as there is some of it, its memory counts as taken.
    pub text: Bytes,
    /// How many records it holds.
    pub records: usize,
    /// The bytes of their keys, values and headers.
    pub bytes: usize,
}

/// Reads from the log as much as one answer may hold.
///
/// # Errors
/// Offsets that are not there, damage, and memory that is short.
pub async fn page(http: &Http, wanted: &Wanted) -> Result<Page, Problem> {
    let most_bytes = http.broker.options().max_decompressed_bytes;
    let shared_bytes = SHARED_BATCH_BYTES.min(most_bytes);
    match in_turn(http, &http.page_turns.shared, wanted, shared_bytes).await {
        Err(PageError::Batch(_)) if shared_bytes < most_bytes => {
            Ok(in_turn(http, &http.page_turns.large, wanted, most_bytes).await?)
        }
        page => Ok(page?),
    }
}

/// Why there is none.
enum PageError {
    /// Also a batch that takes more than it may.
    Batch(BatchError),
    Problem(Problem),
}

impl From<BrokerError> for PageError {
    fn from(error: BrokerError) -> Self {
        match error {
            BrokerError::Batch(error) => Self::Batch(error),
            error => Self::Problem(error.into()),
        }
    }
}

impl From<PageError> for Problem {
    fn from(error: PageError) -> Self {
        match error {
            PageError::Batch(error) => Problem::internal(format!("the records cannot be decoded: {error}")),
            PageError::Problem(problem) => problem,
        }
    }
}

async fn in_turn(http: &Http, turns: &Arc<Semaphore>, wanted: &Wanted, batch_bytes: usize) -> Result<Page, PageError> {
    let Ok(turn) = Arc::clone(turns).acquire_owned().await else {
        return Err(PageError::Problem(Problem::busy("the server is ending")));
    };
    let (broker, wanted, memory) = (Arc::clone(&http.broker), wanted.clone(), http.memory.clone());
    let record_bytes = MAX_RECORD_BYTES.min(memory.most_answer_bytes() / PART_FOR_RECORDS);
    // Reading may touch the disk, and decompressing takes its time.
    let making = tokio::task::spawn_blocking(move || {
        // Its client may be gone before it is done.
        let _turn = turn;
        let read = broker.storage().read(wanted.log, wanted.from, READ_BYTES);
        let found = decode(read.map_err(BrokerError::Read)?, &wanted, batch_bytes, record_bytes)?;
        write(&found, &wanted, &memory).map_err(PageError::Problem)
    });
    match making.await {
        Ok(page) => page,
        Err(error) => Err(PageError::Problem(Problem::internal(format!(
            "the read ended early: {error}"
        )))),
    }
}

/// What one read found.
struct Found {
    log_start: i64,
    high_watermark: i64,
    records: Vec<StoredRecord>,
    next_offset: i64,
}

/// The records of as many batches as the answer may hold, each of which may take so much, and all together so much and one more.
fn decode(fetched: Fetched, wanted: &Wanted, batch_bytes: usize, record_bytes: usize) -> Result<Found, BrokerError> {
    let mut found = Found {
        log_start: fetched.log_start,
        high_watermark: fetched.high_watermark,
        records: Vec::new(),
        next_offset: wanted.from,
    };
    let mut rest: Bytes = fetched.data;
    let (mut bytes, mut headers) = (0, 0);
    while !rest.is_empty() {
        let header = BatchHeader::parse(&rest)?;
        let batch = rest.split_to(header.size_bytes().min(rest.len()));
        if header.is_control() {
            found.next_offset = found.next_offset.max(behind(&header));
            continue;
        }
        let records = match decode_batch(&batch, batch_bytes) {
            // The next answer says so, or takes a turn of its own.
            Err(_) if !found.records.is_empty() => return Ok(found),
            records => records?,
        };
        for record in records {
            if record.offset < found.next_offset {
                continue;
            }
            found.next_offset = record.offset.saturating_add(1);
            bytes += bytes_of(&record);
            headers += record.headers.len();
            found.records.push(record);
            // A header without a byte takes its place in memory, too.
            let held_bytes = bytes + headers * size_of::<(Bytes, Option<Bytes>)>();
            if found.records.len() == wanted.limit || held_bytes > record_bytes {
                return Ok(found);
            }
        }
        found.next_offset = found.next_offset.max(behind(&header));
    }
    Ok(found)
}

fn behind(header: &BatchHeader) -> i64 {
    header.last_offset().saturating_add(1)
}

/// Of its key, its value and its headers.
fn bytes_of(record: &StoredRecord) -> usize {
    let headers = record.headers.iter().map(|(name, value)| (Some(name), value.as_ref()));
    let parts = headers.chain([(record.key.as_ref(), record.value.as_ref())]);
    parts
        .flat_map(|(one, other)| one.into_iter().chain(other))
        .map(Bytes::len)
        .sum()
}

/// As JSON, in memory that is taken before it is written to. How much that is, only writing it can tell: so it is written twice.
fn write(found: &Found, wanted: &Wanted, memory: &Memory) -> Result<Page, Problem> {
    let mut answer = Answer {
        topic: &wanted.topic,
        partition: wanted.partition,
        log_start: found.log_start,
        high_watermark: found.high_watermark,
        next_offset: i64::MAX,
        records: Records {
            partition: wanted.partition,
            records: &[],
        },
    };
    let mut size_bytes = json_bytes(&answer)? + LINE_END.len();
    let mut count = 0;
    for record in &found.records {
        let with_it = size_bytes + json_bytes(&RecordJson::new(wanted.partition, record))? + ",".len();
        // The first one is given, or refused, by itself.
        if count > 0 && with_it > memory.most_answer_bytes() {
            break;
        }
        size_bytes = with_it;
        count += 1;
    }
    let (given, left) = found.records.split_at(count);
    answer.next_offset = left.first().map_or(found.next_offset, |record| record.offset);
    answer.records.records = given;
    let held = memory.hold_answer(size_bytes)?;
    let mut text = Vec::with_capacity(size_bytes);
    to_json(&answer, &mut text)?;
    text.extend_from_slice(LINE_END);
    Ok(Page {
        text: Bytes::from_owner(Text { text, _held: held }),
        records: count,
        bytes: given.iter().map(bytes_of).sum(),
    })
}

/// For people with a terminal.
const LINE_END: &[u8] = b"\n";

fn to_json(value: &impl Serialize, into: &mut impl io::Write) -> Result<(), Problem> {
    serde_json::to_writer(into, value)
        .map_err(|error| Problem::internal(format!("the answer cannot be written as JSON: {error}")))
}

/// How many it takes as JSON.
fn json_bytes(value: &impl Serialize) -> Result<usize, Problem> {
    let mut size = Size(0);
    to_json(value, &mut size)?;
    Ok(size.0)
}

/// Only counts.
struct Size(usize);

impl io::Write for Size {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Gives its memory back when it is sent.
struct Text {
    text: Vec<u8>,
    _held: Reservation,
}

impl AsRef<[u8]> for Text {
    fn as_ref(&self) -> &[u8] {
        &self.text
    }
}

#[derive(Serialize)]
struct Answer<'a> {
    topic: &'a str,
    partition: i32,
    log_start: i64,
    high_watermark: i64,
    next_offset: i64,
    records: Records<'a>,
}

/// Written one by one: they are not held a second time.
struct Records<'a> {
    partition: i32,
    records: &'a [StoredRecord],
}

impl Serialize for Records<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut seq = serializer.serialize_seq(Some(self.records.len()))?;
        for record in self.records {
            seq.serialize_element(&RecordJson::new(self.partition, record))?;
        }
        seq.end()
    }
}
