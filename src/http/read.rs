//! `GET /topics/{topic}/records`: a piece of one partition, as JSON.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::response::Response;
use bytes::Bytes;
use riverlog_storage::batch::BatchHeader;
use riverlog_storage::record::{StoredRecord, decode_batch};
use riverlog_storage::{Fetched, LogEnds, LogId};
use serde::Serialize;
use serde::ser::{SerializeSeq, Serializer};
use tokio::time::{Instant, timeout_at};

use super::problem::Problem;
use super::publish::record::shorten;
use super::{Http, json};
use crate::broker::{Broker, BrokerError};
use crate::record_json::RecordJson;

const DEFAULT_LIMIT: usize = 100;
const MAX_LIMIT: usize = 10_000;
/// An answer ends behind the record that takes its keys, values and headers beyond this.
const MAX_RECORD_BYTES: usize = 4 << 20;
/// What is read from the log for one answer.
const READ_BYTES: usize = 1 << 20;
const MAX_WAIT_MS: u64 = 30_000;

/// What the query may say.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReadQuery {
    #[serde(default)]
    partition: u32,
    offset: Option<String>,
    limit: Option<usize>,
    #[serde(default)]
    wait_ms: u64,
}

/// The handler.
///
/// # Errors
/// A problem document; an offset out of range comes with the range.
pub async fn read(
    State(http): State<Arc<Http>>,
    topic: Result<Path<String>, PathRejection>,
    query: Result<Query<ReadQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let Path(topic) = topic.map_err(|error| Problem::bad_request(error.body_text()))?;
    let Query(query) = query.map_err(|error| Problem::bad_request(shorten(&error.body_text())))?;
    let limit = query.limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        return Err(Problem::bad_request(format!(
            "`limit` is {limit}, but must be 1 to {MAX_LIMIT}"
        )));
    }
    if query.wait_ms > MAX_WAIT_MS {
        return Err(Problem::bad_request(format!(
            "`wait_ms` is {}, but must be 0 to {MAX_WAIT_MS}",
            query.wait_ms
        )));
    }
    let partition = i32::try_from(query.partition).unwrap_or(i32::MAX);
    let log = http.broker.log_of(&topic, partition)?;
    let ends = http
        .broker
        .storage()
        .ends(log)
        .ok_or(BrokerError::UnknownTopic(topic.clone()))?;
    let from = start(query.offset.as_deref(), &ends)?;
    let deadline = Instant::now() + Duration::from_millis(query.wait_ms);
    let page = loop {
        let watch = http.broker.watch(&[log]);
        let page = page(&http, log, from, limit).await?;
        if !page.records.is_empty() || timeout_or_end(&http, deadline, watch.changed()).await {
            break page;
        }
    };
    http.metrics.http.records_out.inc_by(page.records.len() as u64);
    http.metrics.http.bytes_out.inc_by(page.bytes as u64);
    let answer = Answer {
        topic: &topic,
        partition: query.partition,
        log_start: page.log_start,
        high_watermark: page.high_watermark,
        next_offset: page.next_offset,
        records: Records {
            partition,
            records: &page.records,
        },
    };
    Ok(json(&answer))
}

/// Waits for a publication; true when there is no more time for one.
async fn timeout_or_end(http: &Http, deadline: Instant, changed: impl Future<Output = ()>) -> bool {
    tokio::select! {
        outcome = timeout_at(deadline, changed) => outcome.is_err(),
        () = http.shutdown.requested() => true,
    }
}

fn start(offset: Option<&str>, ends: &LogEnds) -> Result<i64, Problem> {
    match offset {
        None | Some("earliest") => Ok(ends.start),
        Some("latest") => Ok(ends.high_watermark),
        Some(text) => text.parse().ok().filter(|offset| *offset >= 0).ok_or_else(|| {
            let text = shorten(text);
            Problem::bad_request(format!(
                "`offset` is {text:?}, but must be a number from 0, `earliest` or `latest`"
            ))
        }),
    }
}

/// What one read found.
struct Page {
    log_start: i64,
    high_watermark: i64,
    records: Vec<StoredRecord>,
    bytes: usize,
    next_offset: i64,
}

async fn page(http: &Http, log: LogId, from: i64, limit: usize) -> Result<Page, Problem> {
    let Ok(_place) = http.reads.acquire().await else {
        return Err(Problem::busy("the server is ending"));
    };
    let broker = Arc::clone(&http.broker);
    // Reading may touch the disk, and decompressing takes its time.
    let reading = tokio::task::spawn_blocking(move || {
        let fetched = broker
            .storage()
            .read(log, from, READ_BYTES)
            .map_err(BrokerError::Read)?;
        decode(&broker, fetched, from, limit)
    });
    match reading.await {
        Ok(page) => page.map_err(Problem::from),
        Err(error) => Err(Problem::internal(format!("the read ended early: {error}"))),
    }
}

fn decode(broker: &Broker, fetched: Fetched, from: i64, limit: usize) -> Result<Page, BrokerError> {
    let mut page = Page {
        log_start: fetched.log_start,
        high_watermark: fetched.high_watermark,
        records: Vec::new(),
        bytes: 0,
        next_offset: from,
    };
    let mut rest: Bytes = fetched.data;
    let mut headers = 0_usize;
    while !rest.is_empty() {
        let header = BatchHeader::parse(&rest)?;
        let batch = rest.split_to(header.size_bytes().min(rest.len()));
        if header.is_control() {
            page.next_offset = page.next_offset.max(header.last_offset() + 1);
            continue;
        }
        for record in decode_batch(&batch, broker.options().max_decompressed_bytes)? {
            if record.offset < page.next_offset {
                continue;
            }
            page.next_offset = record.offset + 1;
            page.bytes += bytes_of(&record);
            headers += record.headers.len();
            page.records.push(record);
            // A header without a byte takes its place in memory, too.
            let held_bytes = page.bytes + headers * size_of::<(Bytes, Option<Bytes>)>();
            if page.records.len() == limit || held_bytes > MAX_RECORD_BYTES {
                return Ok(page);
            }
        }
        page.next_offset = page.next_offset.max(header.last_offset() + 1);
    }
    Ok(page)
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

#[derive(Serialize)]
struct Answer<'a> {
    topic: &'a str,
    partition: u32,
    log_start: i64,
    high_watermark: i64,
    next_offset: i64,
    records: Records<'a>,
}

/// Written one by one: their JSON is not held twice.
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
