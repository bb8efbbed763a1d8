//! The answer that the job wrote, read back as any client would, and compared with the batch answer.

use std::collections::BTreeMap;

use anyhow::Context;
use bytes::Bytes;
use crc_fast::{CrcAlgorithm, Digest};
use riverlog_client::{Client, Consumer, ConsumerOptions, Isolation, OffsetAt};
use serde::Deserialize;

use super::model::{ANSWER_TOPIC, AnswerKey, HourlyDepartures};

/// What stands in the answer topic.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// Values by key; more than one if a row is there twice.
    rows: BTreeMap<Bytes, Vec<Bytes>>,
}

/// A row as a consumer reads it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Row {
    /// The airport.
    pub origin: String,
    /// The scheduled hour, UTC.
    pub hour: String,
    /// Flights that left.
    pub departures: u64,
    /// Flights that were cancelled.
    pub cancelled: u64,
    /// The sum of the delays of those that left.
    pub delay_minutes: i64,
    /// Their mean.
    pub mean_delay_minutes: Option<f64>,
    /// The hour's wind.
    pub wind_mph: Option<f64>,
    /// The hour's visibility.
    pub visibility_miles: Option<f64>,
}

/// The outcome of a comparison.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// How many rows there should be.
    pub expected: usize,
    /// What is different, a line each. Empty if the answer is right.
    pub differences: Vec<String>,
    /// A checksum (CRC-32C) over all rows: the same answer has the same.
    pub fingerprint: u32,
}

impl Answer {
    /// Reads all of the answer topic.
    ///
    /// # Errors
    /// When the broker does not give it.
    pub async fn read(client: &Client) -> anyhow::Result<Self> {
        let topic = client.topic(ANSWER_TOPIC, false).await?;
        let mut answer = Self::default();
        for partition in topic.partitions.iter().map(|partition| partition.index) {
            let isolation = Isolation::ReadCommitted;
            let end = client
                .offset(ANSWER_TOPIC, partition, OffsetAt::Latest, isolation)
                .await?;
            let end = end.map_or(0, |end| end.offset);
            let mut position = 0;
            let start = [((ANSWER_TOPIC.to_owned(), partition), position)];
            let mut consumer = Consumer::new(client, start, ConsumerOptions::default());
            while position < end {
                if let Some(fetched) = consumer.poll().await? {
                    position = fetched.next_offset;
                    for record in fetched.records {
                        let row = answer.rows.entry(record.key.unwrap_or_default());
                        row.or_default().push(record.value.unwrap_or_default());
                    }
                }
            }
        }
        Ok(answer)
    }

    /// Compares byte by byte.
    ///
    /// # Errors
    /// When the batch answer cannot be written as JSON.
    pub fn compare(&self, batch: &BTreeMap<AnswerKey, HourlyDepartures>) -> anyhow::Result<Verdict> {
        let mut expected = BTreeMap::new();
        for row in batch.values() {
            let value = row.to_json().map_err(anyhow::Error::msg)?;
            expected.insert(Bytes::from(row.key()), Bytes::from(value));
        }
        let mut verdict = Verdict {
            expected: expected.len(),
            fingerprint: self.fingerprint(),
            ..Verdict::default()
        };
        let mut differ = |line: String| verdict.differences.push(line);
        for (key, wanted) in &expected {
            match self.rows.get(key).map(Vec::as_slice) {
                None => differ(format!("missing: {}", text(wanted))),
                Some([got]) if got == wanted => {}
                Some([got]) => differ(format!("wrong: {} should be {}", text(got), text(wanted))),
                Some(got) => differ(format!("{} times: {}", got.len(), text(key))),
            }
        }
        for key in self.rows.keys().filter(|key| !expected.contains_key(*key)) {
            differ(format!("not expected: {}", text(key)));
        }
        Ok(verdict)
    }

    /// The rows, in order of their keys.
    ///
    /// # Errors
    /// When one is not what the job writes.
    pub fn rows(&self) -> anyhow::Result<Vec<Row>> {
        let values = self.rows.values().flatten();
        values
            .map(|value| serde_json::from_slice(value).with_context(|| text(value)))
            .collect()
    }

    fn fingerprint(&self) -> u32 {
        let mut crc = Digest::new(CrcAlgorithm::Crc32Iscsi);
        let rows = self.rows.iter();
        rows.flat_map(|(key, values)| std::iter::once(key).chain(values))
            .for_each(|bytes| crc.update(bytes));
        crc.finalize() as u32
    }
}

fn text(bytes: &Bytes) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn row(departures: u64) -> HourlyDepartures {
        HourlyDepartures {
            origin: "EWR".to_owned(),
            hour: "2013-01-01T10:00:00Z".to_owned(),
            departures,
            cancelled: 0,
            delay_minutes: 0,
            mean_delay_minutes: None,
            wind_mph: None,
            visibility_miles: None,
        }
    }

    fn answer(rows: &[HourlyDepartures]) -> Answer {
        let mut answer = Answer::default();
        for row in rows {
            let values = answer.rows.entry(Bytes::from(row.key())).or_default();
            values.push(Bytes::from(row.to_json().unwrap()));
        }
        answer
    }

    #[test]
    fn every_kind_of_difference_is_told() {
        let key = AnswerKey {
            hour_ms: 0,
            origin: "EWR".to_owned(),
        };
        let batch = BTreeMap::from([(key, row(3))]);
        let differences = |rows: &[HourlyDepartures]| answer(rows).compare(&batch).unwrap().differences;
        assert!(differences(&[row(3)]).is_empty());
        assert!(differences(&[]).concat().starts_with("missing"));
        assert!(differences(&[row(4)]).concat().starts_with("wrong"));
        assert!(differences(&[row(3), row(3)]).concat().starts_with("2 times"));
        let mut other = row(1);
        other.origin = "JFK".to_owned();
        assert!(differences(&[row(3), other]).concat().starts_with("not expected"));
    }
}
