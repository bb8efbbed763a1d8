//! What the demo publishes, partition by partition, and how much of it is there already.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use riverlog_client::partitioner::partition_for_key;
use riverlog_client::{Client, Consumer, ConsumerOptions, Isolation, OffsetAt, Producer, Record};

use super::data::Dataset;
use super::model::{FLIGHTS_TOPIC, WEATHER_TOPIC, closing_record, closing_time_ms, flight_record, weather_record};
use super::service::PARTITIONS;

/// A record and where it goes.
#[derive(Clone, Debug)]
struct Item {
    topic: &'static str,
    partition: i32,
    record: Record,
}

/// How many records are handed over between two questions whether to go on.
const ASK_EVERY: usize = 128;

/// Everything to publish, in order. The same for every run, so a run that was stopped can be continued.
#[derive(Clone, Debug)]
pub struct Feed {
    items: Vec<Item>,
    /// Of each partition, how many records stood there before this run.
    present: BTreeMap<(&'static str, i32), usize>,
}

impl Feed {
    /// Flights in the file's order, each hour's weather before the first flight that needs it, and at
    /// the end of every partition the word that nothing earlier follows.
    ///
    /// # Errors
    /// When a row cannot be read.
    pub fn new(dataset: &Dataset) -> anyhow::Result<Self> {
        let mut items = Vec::new();
        let mut weather = dataset.weather.iter().peekable();
        for row in &dataset.flights {
            while let Some(hour) = weather.next_if(|hour| hour.time_hour <= row.time_hour) {
                items.push(keyed(WEATHER_TOPIC, weather_record(hour))?);
            }
            items.push(keyed(FLIGHTS_TOPIC, flight_record(row))?);
        }
        for hour in weather {
            items.push(keyed(WEATHER_TOPIC, weather_record(hour))?);
        }
        let closing = closing_record(closing_time_ms(&dataset.flights)).map_err(anyhow::Error::msg)?;
        for topic in [FLIGHTS_TOPIC, WEATHER_TOPIC] {
            for partition in 0..PARTITIONS as i32 {
                let record = closing.clone();
                items.push(Item {
                    topic,
                    partition,
                    record,
                });
            }
        }
        Ok(Self {
            items,
            present: BTreeMap::new(),
        })
    }

    /// How many records there are.
    pub fn total(&self) -> usize {
        self.items.len()
    }

    /// How many of them stood in the topics before this run.
    pub fn present(&self) -> usize {
        self.present.values().sum()
    }

    /// Finds out how much an earlier run has published. Records that it did not write are not touched.
    ///
    /// # Errors
    /// When the topics hold something else.
    pub async fn find_present(&mut self, client: &Client) -> anyhow::Result<()> {
        let mut expected: BTreeMap<(&'static str, i32), Vec<&Record>> = BTreeMap::new();
        for item in &self.items {
            expected
                .entry((item.topic, item.partition))
                .or_default()
                .push(&item.record);
        }
        for ((topic, partition), records) in expected {
            let isolation = Isolation::ReadUncommitted;
            let end = client.offset(topic, partition, OffsetAt::Latest, isolation).await?;
            let count = usize::try_from(end.map_or(0, |end| end.offset))?;
            let Some(last) = count.checked_sub(1) else {
                continue;
            };
            let expected = records.get(last).and_then(|record| record.value.clone());
            if expected.is_none() || expected != value_at(client, topic, partition, last).await? {
                bail!(
                    "topic {topic} in this data directory holds records that the demo did not write; \
                     choose another --data-dir"
                );
            }
            self.present.insert((topic, partition), count);
        }
        Ok(())
    }

    /// Hands over everything that is not there yet, waiting for `may_go_on` (told how many there are so
    /// far) now and then. Returns when all of it is on its way.
    ///
    /// # Errors
    /// When the producer fails.
    pub async fn send(&self, producer: &Producer, may_go_on: impl AsyncFn(usize)) -> anyhow::Result<()> {
        let mut to_skip = self.present.clone();
        for (index, item) in self.items.iter().enumerate() {
            if index % ASK_EVERY == 0 {
                may_go_on(index).await;
            }
            match to_skip.get_mut(&(item.topic, item.partition)) {
                Some(left) if *left > 0 => *left -= 1,
                _ => {
                    let record = item.record.clone();
                    // The flush at the end tells of failures.
                    drop(producer.send(item.topic, Some(item.partition), record).await?);
                }
            }
        }
        Ok(())
    }

    /// Compares how many records stand in each partition with how many belong there.
    ///
    /// # Errors
    /// When the broker cannot be asked. A difference is the `Some` inside.
    pub async fn find_difference(&self, client: &Client) -> anyhow::Result<Option<String>> {
        let mut expected: BTreeMap<(String, i32), i64> = BTreeMap::new();
        for item in &self.items {
            *expected.entry((item.topic.to_owned(), item.partition)).or_default() += 1;
        }
        let ends = client.ends(expected.keys().cloned()).await?;
        Ok(expected
            .iter()
            .find(|(key, expected)| ends.get(*key) != Some(*expected))
            .map(|((topic, partition), expected)| {
                let key = (topic.clone(), *partition);
                let got = ends.get(&key).copied().unwrap_or(0);
                format!("{topic}/{partition} holds {got} records instead of {expected}")
            }))
    }
}

fn keyed(topic: &'static str, record: Result<Record, String>) -> anyhow::Result<Item> {
    let record = record.map_err(anyhow::Error::msg)?;
    let key = record.key.as_deref().unwrap_or_default();
    let partition = i32::try_from(partition_for_key(key, PARTITIONS))?;
    Ok(Item {
        topic,
        partition,
        record,
    })
}

async fn value_at(client: &Client, topic: &str, partition: i32, offset: usize) -> anyhow::Result<Option<Bytes>> {
    let options = ConsumerOptions {
        max_bytes: 64 * 1024,
        retry_timeout: Duration::from_secs(5),
        ..ConsumerOptions::default()
    };
    let start = [((topic.to_owned(), partition), i64::try_from(offset)?)];
    let mut consumer = Consumer::new(client, start, options);
    let fetched = consumer.poll().await?;
    let fetched = fetched.with_context(|| format!("{topic}/{partition} does not give offset {offset}"))?;
    Ok(fetched.records.into_iter().next().and_then(|record| record.value))
}
