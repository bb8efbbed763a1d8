//! Dead letters: records that a job could not process, or not write, kept with the reason and where they came from.

use bytes::Bytes;
use riverlog_storage::record::{Record, StoredRecord};

/// Why, in words.
pub const REASON: &str = "riverlog.reason";
/// The job.
pub const JOB: &str = "riverlog.job";
/// The topic that the record was read from.
pub const SOURCE_TOPIC: &str = "riverlog.source.topic";
/// Its partition, in decimal.
pub const SOURCE_PARTITION: &str = "riverlog.source.partition";
/// Its offset, in decimal.
pub const SOURCE_OFFSET: &str = "riverlog.source.offset";
/// Its timestamp, in decimal milliseconds.
pub const SOURCE_TIMESTAMP: &str = "riverlog.source.timestamp";
/// The topic that would not take an output record.
pub const OUTPUT_TOPIC: &str = "riverlog.output.topic";
/// The record was cut to fit; this was the size of its value in bytes.
pub const TRUNCATED: &str = "riverlog.truncated.bytes";

/// Where an input record stood.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The topic.
    pub topic: &'a str,
    /// The partition.
    pub partition: u32,
}

fn header(name: &'static str, value: impl ToString) -> (Bytes, Option<Bytes>) {
    (Bytes::from_static(name.as_bytes()), Some(value.to_string().into()))
}

/// An input record with its bytes, and headers that say where it came from and why it is here. It is
/// dated `now_ms`, so that the topic's retention counts from the failure and not from the event.
pub fn from_input(job: &str, reason: &str, place: Place<'_>, record: &StoredRecord, now_ms: i64) -> Record {
    let mut headers = vec![
        header(REASON, reason),
        header(JOB, job),
        header(SOURCE_TOPIC, place.topic),
        header(SOURCE_PARTITION, place.partition),
        header(SOURCE_OFFSET, record.offset),
        header(SOURCE_TIMESTAMP, record.timestamp_ms),
    ];
    headers.extend(record.headers.iter().cloned());
    Record {
        key: record.key.clone(),
        value: record.value.clone(),
        headers,
        timestamp_ms: now_ms,
    }
}

/// An output record that its topic would not take.
pub fn from_output(job: &str, reason: &str, topic: &str, record: Record, now_ms: i64) -> Record {
    let mut headers = vec![header(REASON, reason), header(JOB, job), header(OUTPUT_TOPIC, topic)];
    headers.extend(record.headers);
    Record {
        key: record.key,
        value: record.value,
        headers,
        timestamp_ms: now_ms,
    }
}

/// An upper bound of the size of a batch that holds only this record.
pub fn batch_bound(record: &Record) -> usize {
    let field = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len) + 5;
    let headers: usize = record
        .headers
        .iter()
        .map(|(name, value)| name.len() + 5 + field(value))
        .sum();
    riverlog_storage::batch::HEADER_LEN + 32 + field(&record.key) + field(&record.value) + headers
}

/// Cuts a dead letter that its own topic would not take: the value first, then the key and foreign headers.
pub fn fit(mut record: Record, max_batch_bytes: usize) -> Record {
    if batch_bound(&record) <= max_batch_bytes {
        return record;
    }
    let value_bytes = record.value.as_ref().map_or(0, Bytes::len);
    record.headers.push(header(TRUNCATED, value_bytes));
    let excess = batch_bound(&record).saturating_sub(max_batch_bytes);
    record.value = record
        .value
        .map(|value| value.slice(..value.len().saturating_sub(excess)));
    if batch_bound(&record) > max_batch_bytes {
        record.key = None;
        record.headers.retain(|(name, _)| name.starts_with(b"riverlog."));
    }
    record
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_letter_keeps_bytes_and_says_why() {
        let record = StoredRecord {
            offset: 7,
            timestamp_ms: 1_000,
            key: Some("EWR".into()),
            value: Some("{".into()),
            headers: vec![("trace".into(), Some("1".into()))],
        };
        let place = Place {
            topic: "flights",
            partition: 2,
        };
        let dead = from_input("hourly", "not JSON", place, &record, 5_000);
        assert_eq!(
            (dead.key.clone(), dead.value.clone(), dead.timestamp_ms),
            (record.key, record.value, 5_000)
        );
        let headers: Vec<_> = dead
            .headers
            .iter()
            .map(|(k, v)| format!("{k:?}={:?}", v.as_ref().unwrap()))
            .collect();
        assert!(
            headers.contains(&r#"b"riverlog.reason"=b"not JSON""#.to_owned()),
            "{headers:?}"
        );
        assert!(headers.contains(&r#"b"riverlog.source.offset"=b"7""#.to_owned()));
        assert!(
            headers.contains(&r#"b"trace"=b"1""#.to_owned()),
            "the record's own headers stay"
        );
    }

    #[test]
    fn a_letter_that_is_too_large_is_cut_and_says_so() {
        let record = Record {
            key: Some(vec![1; 100].into()),
            value: Some(vec![2; 10_000].into()),
            headers: vec![],
            timestamp_ms: 0,
        };
        let cut = fit(from_output("j", "too large", "out", record.clone(), 0), 2_000);
        assert!(batch_bound(&cut) <= 2_000);
        assert_eq!(cut.key, record.key);
        assert!(
            cut.headers
                .iter()
                .any(|(k, v)| k == TRUNCATED && v.as_deref() == Some(b"10000"))
        );
    }
}
