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

/// No reason is kept longer than this: it may quote the record.
const MAX_REASON_BYTES: usize = 4 << 10;

/// A dead letter before it is cut to fit.
#[derive(Clone, Debug)]
pub struct Letter {
    /// The record as its topic should take it.
    pub record: Record,
    /// How many of its headers are ours. They come first, the reason before all; the others are the record's own, whatever their names.
    our_headers: usize,
}

/// The longest beginning of a text that has at most so many bytes.
fn beginning(text: &str, max_bytes: usize) -> &str {
    let end = (0..=max_bytes.min(text.len()))
        .rev()
        .find(|at| text.is_char_boundary(*at));
    end.and_then(|end| text.get(..end)).unwrap_or_default()
}

fn header(name: &'static str, value: impl ToString) -> (Bytes, Option<Bytes>) {
    (Bytes::from_static(name.as_bytes()), Some(value.to_string().into()))
}

/// An input record with its bytes, and headers that say where it came from and why it is here. It is
/// dated `now_ms`, so that the topic's retention counts from the failure and not from the event.
pub fn from_input(job: &str, reason: &str, place: Place<'_>, record: &StoredRecord, now_ms: i64) -> Letter {
    let headers = vec![
        header(REASON, beginning(reason, MAX_REASON_BYTES)),
        header(JOB, job),
        header(SOURCE_TOPIC, place.topic),
        header(SOURCE_PARTITION, place.partition),
        header(SOURCE_OFFSET, record.offset),
        header(SOURCE_TIMESTAMP, record.timestamp_ms),
    ];
    let record = Record {
        key: record.key.clone(),
        value: record.value.clone(),
        headers: record.headers.clone(),
        timestamp_ms: now_ms,
    };
    letter(headers, record)
}

/// An output record that its topic would not take.
pub fn from_output(job: &str, reason: &str, topic: &str, record: Record, now_ms: i64) -> Letter {
    let headers = vec![
        header(REASON, beginning(reason, MAX_REASON_BYTES)),
        header(JOB, job),
        header(OUTPUT_TOPIC, topic),
    ];
    let record = Record {
        timestamp_ms: now_ms,
        ..record
    };
    letter(headers, record)
}

fn letter(mut headers: Vec<(Bytes, Option<Bytes>)>, mut record: Record) -> Letter {
    let our_headers = headers.len();
    headers.append(&mut record.headers);
    record.headers = headers;
    Letter { record, our_headers }
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

/// Cuts a dead letter that its own topic would not take: the value first, then the key and foreign
/// headers, then the reason.
pub fn fit(letter: Letter, max_batch_bytes: usize) -> Record {
    let Letter {
        mut record,
        our_headers,
    } = letter;
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
        let truncated = record.headers.pop();
        record.headers.truncate(our_headers);
        record.headers.extend(truncated);
    }
    let excess = batch_bound(&record).saturating_sub(max_batch_bytes);
    if let (1.., Some((_, Some(reason)))) = (excess, record.headers.first_mut()) {
        let text = String::from_utf8_lossy(reason);
        *reason = beginning(&text, text.len().saturating_sub(excess)).to_owned().into();
    }
    record
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
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
        let dead = from_input("hourly", "not JSON", place, &record, 5_000).record;
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

    #[test]
    fn a_client_cannot_make_a_letter_that_never_fits() {
        let record = StoredRecord {
            offset: 7,
            timestamp_ms: 1_000,
            key: Some(vec![1; 1 << 20].into()),
            value: Some("{".into()),
            headers: vec![
                ("riverlog.x".into(), Some(vec![b'x'; 1 << 20].into())),
                (REASON.into(), Some("a lie".into())),
            ],
        };
        let place = Place {
            topic: "flights",
            partition: 2,
        };
        let reason = "é".repeat(1 << 20);
        let letter = from_input("hourly", &reason, place, &record, 5_000);
        for (max, reason_bytes) in [(1 << 20, MAX_REASON_BYTES..=MAX_REASON_BYTES), (1_000, 200..=999)] {
            let cut = fit(letter.clone(), max);
            assert!(batch_bound(&cut) <= max, "{} of {max} bytes", batch_bound(&cut));
            let names: Vec<_> = cut.headers.iter().map(|(name, _)| &name[..]).collect();
            let ours = [
                REASON,
                JOB,
                SOURCE_TOPIC,
                SOURCE_PARTITION,
                SOURCE_OFFSET,
                SOURCE_TIMESTAMP,
                TRUNCATED,
            ];
            assert_eq!(names, ours.map(str::as_bytes));
            let kept = cut.headers[0].1.clone().unwrap();
            assert!(reason_bytes.contains(&kept.len()), "{}", kept.len());
            assert!(reason.starts_with(std::str::from_utf8(&kept).unwrap()));
        }
    }
}
