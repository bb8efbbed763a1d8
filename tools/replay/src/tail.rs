//! How far a named replay has come, read from the end of its destination.

use std::collections::HashMap;

use anyhow::{Context, bail};
use bytes::Bytes;
use riverlog_client::{Client, Consumer, ConsumerOptions, FetchedRecords, Isolation, OffsetAt, StoredRecord};

/// The header that every record of a named replay carries.
pub(crate) const HEADER: &str = "riverlog.replay";

/// What it takes of a record at most, with the longest name.
pub(crate) const MAX_HEADER_BYTES: i32 = 256;

/// The last record of a source partition that is in a destination partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reached {
    /// Its offset in the source.
    pub source_offset: i64,
    /// Its sequence number.
    pub sequence: i32,
}

/// As far back as the first look goes; each further one goes eight times as far.
const FIRST_LOOK: i64 = 1000;

pub(crate) fn header_value(name: &str, partition: i32, offset: i64) -> Bytes {
    Bytes::from(format!("{name}/{partition}/{offset}"))
}

/// The source offset that the record's own header gives. The last header counts: a replay of a
/// replay keeps the older ones.
pub(crate) fn source_offset(record: &StoredRecord, name: &str, partition: i32) -> Option<i64> {
    let is_ours = |(header, _): &&(Bytes, Option<Bytes>)| **header == *HEADER.as_bytes();
    let (_, value) = record.headers.iter().rev().find(is_ours)?;
    let text = std::str::from_utf8(value.as_deref()?).ok()?;
    let prefix = format!("{name}/{partition}/");
    text.strip_prefix(&prefix)?.parse().ok()
}

/// Looks for the last batch of each producer id (with its source partition) in `topic/partition`, whose
/// replayed records cannot lie before `start`.
pub(crate) async fn find(
    client: &Client,
    name: &str,
    (topic, partition): (&str, i32),
    start: i64,
    producers: &[(i64, i32)],
) -> anyhow::Result<HashMap<i64, Reached>> {
    // What is not committed yet, or never will be, may hide our own records from a committed read.
    let isolation = Isolation::ReadUncommitted;
    let at = async |at| client.offset(topic, partition, at, isolation).await;
    let end = at(OffsetAt::Latest).await?.map_or(0, |found| found.offset);
    let log_start = at(OffsetAt::Earliest).await?.map_or(0, |found| found.offset);
    let mut reached = HashMap::new();
    let mut look = FIRST_LOOK;
    let mut upper = end;
    while upper > start.max(log_start) && reached.len() < producers.len() {
        let lower = end.saturating_sub(look).max(start).max(log_start);
        scan(client, (name, topic, partition), lower..upper, producers, &mut reached).await?;
        upper = lower;
        look = look.saturating_mul(8);
    }
    if log_start > start && reached.len() < producers.len() {
        bail!(
            "{topic}/{partition} starts at offset {log_start} now, and replay {name} began at {start}: \
             its records there may have been deleted, so how far it came cannot be told. \
             Start a replay with another name, and give the destination retention.ms=-1"
        );
    }
    Ok(reached)
}

/// Reads a stretch forwards; a producer found in a later stretch is not replaced.
async fn scan(
    client: &Client,
    (name, topic, partition): (&str, &str, i32),
    stretch: std::ops::Range<i64>,
    producers: &[(i64, i32)],
    reached: &mut HashMap<i64, Reached>,
) -> anyhow::Result<()> {
    let options = ConsumerOptions {
        isolation: Isolation::ReadUncommitted,
        ..ConsumerOptions::default()
    };
    let key = (topic.to_owned(), partition);
    let mut consumer = Consumer::new(client, [(key, stretch.start)], options);
    let mut found = HashMap::new();
    let mut position = stretch.start;
    while position < stretch.end {
        if let Some(fetched) = consumer.poll().await? {
            position = fetched.next_offset;
            note(name, &fetched, producers, &mut found)?;
        }
    }
    for (producer, at) in found {
        reached.entry(producer).or_insert(at);
    }
    Ok(())
}

fn note(
    name: &str,
    fetched: &FetchedRecords,
    producers: &[(i64, i32)],
    found: &mut HashMap<i64, Reached>,
) -> anyhow::Result<()> {
    for batch in &fetched.batches {
        let Some((producer, source)) = producers.iter().find(|(id, _)| *id == batch.producer_id) else {
            continue;
        };
        let last = fetched.records.binary_search_by_key(&batch.last_offset(), |r| r.offset);
        let last = last.ok().and_then(|index| fetched.records.get(index));
        let source_offset = last
            .and_then(|record| source_offset(record, name, *source))
            .with_context(|| {
                format!(
                    "{}/{} at offset {}: a batch of replay {name} whose last record is gone; \
                     was the topic compacted?",
                    fetched.topic,
                    fetched.partition,
                    batch.last_offset()
                )
            })?;
        let reached = Reached {
            source_offset,
            sequence: batch.last_sequence(),
        };
        found.insert(*producer, reached);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(headers: &[&str]) -> StoredRecord {
        StoredRecord {
            offset: 0,
            timestamp_ms: 0,
            key: None,
            value: None,
            headers: headers
                .iter()
                .map(|value| (Bytes::from(HEADER), Some(Bytes::from((*value).to_owned()))))
                .collect(),
        }
    }

    #[test]
    fn the_last_header_tells_the_offset() {
        let replayed_twice = record(&["older/0/17", "night/3/42"]);
        assert_eq!(source_offset(&replayed_twice, "night", 3), Some(42));
        assert_eq!(source_offset(&replayed_twice, "older", 0), None);
        assert_eq!(source_offset(&record(&["night/3/x"]), "night", 3), None);
        assert_eq!(source_offset(&record(&[]), "night", 3), None);
    }

    #[test]
    fn what_is_written_is_read_back() {
        let value = header_value("night", 3, 42);
        let text = std::str::from_utf8(&value).unwrap_or_default();
        assert_eq!(source_offset(&record(&[text]), "night", 3), Some(42));
    }
}
