//! Topics that come and go, and come again under the same name.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use riverlog_client::{Client, Error, NewTopic, Producer, Record, ResponseError, WriterOptions};
use tokio::time::sleep;

use super::Setting;
use crate::patience::{connect, patiently};
use crate::reading::read_all;
use crate::server::PATIENCE;

/// How many names there are.
const NAMES: u64 = 7;

/// By name: the incarnation that is there, with the number of its records; or none.
#[derive(Debug, Default)]
pub struct PassingTopics {
    topics: Mutex<BTreeMap<String, Option<Incarnation>>>,
    deleted: Mutex<u64>,
}

#[derive(Clone, Copy, Debug)]
struct Incarnation {
    number: u64,
    records: u64,
}

impl PassingTopics {
    /// Deletes the topic of each name in turn if it is there, and creates it if not.
    pub(super) async fn pass(self: Arc<Self>, setting: Setting) -> anyhow::Result<()> {
        let client = connect(&setting.address).await?;
        let mut random = SmallRng::seed_from_u64(setting.seed ^ 0x70_b1c5);
        for number in 0.. {
            if setting.is_stopped() {
                break;
            }
            let name = format!("passing-{}", number % NAMES);
            let before = self.topics.lock().get(&name).copied().flatten();
            match before {
                Some(before) => {
                    before.verify(&client, &name).await?;
                    delete(&client, &name).await?;
                    self.topics.lock().insert(name, None);
                    *self.deleted.lock() += 1;
                }
                None => {
                    let records = random.random_range(0..30);
                    let incarnation = Incarnation { number, records };
                    incarnation.create(&client, &name).await?;
                    self.topics.lock().insert(name, Some(incarnation));
                }
            }
            sleep(Duration::from_millis(random.random_range(0..30))).await;
        }
        Ok(())
    }

    /// How many were deleted.
    pub fn deleted(&self) -> u64 {
        *self.deleted.lock()
    }

    /// # Errors
    /// When a topic is there that was deleted, or is not there as it was left.
    pub async fn verify(&self, client: &Client) -> anyhow::Result<()> {
        let there = client.metadata(None, false).await?.topics;
        let topics = self.topics.lock().clone();
        for (name, incarnation) in topics {
            match incarnation {
                Some(incarnation) => incarnation.verify(client, &name).await?,
                None => ensure!(!there.contains_key(&name), "topic {name} was deleted and is there"),
            }
        }
        Ok(())
    }
}

impl Incarnation {
    fn value(self, name: &str, record: u64) -> String {
        format!("{name}, incarnation {}, record {record}", self.number)
    }

    async fn create(self, client: &Client, name: &str) -> anyhow::Result<()> {
        let topic = NewTopic {
            name: name.to_owned(),
            partitions: Some(1),
            // The records' times are old.
            configs: vec![("retention.ms".to_owned(), "-1".to_owned())],
        };
        // That it exists already means that an earlier attempt got through.
        patiently(|| client.ensure_topic(&topic)).await?;
        let options = WriterOptions {
            delivery_timeout: 2 * PATIENCE,
            ..WriterOptions::default()
        };
        let producer = patiently(|| Producer::new(client, options)).await?;
        for record in 0..self.records {
            let value = Some(self.value(name, record).into());
            let record = Record {
                value,
                timestamp_ms: 1_700_000_000_000,
                ..Record::default()
            };
            drop(producer.send(name, Some(0), record).await?);
        }
        Ok(producer.flush().await?)
    }

    async fn verify(self, client: &Client, name: &str) -> anyhow::Result<()> {
        let read = read_all(client, name, 1).await?;
        let bounds: Vec<_> = read.values().map(|read| read.start..read.end).collect();
        let records = read.into_values().flat_map(|partition| partition.records);
        let values: Vec<_> = records.map(|record| record.value.unwrap_or_default()).collect();
        let wanted: Vec<_> = (0..self.records).map(|record| self.value(name, record)).collect();
        ensure!(
            values == wanted,
            "topic {name} ({bounds:?}) holds {} records, not the {} that it was given as incarnation {}; the last is {:?}",
            values.len(),
            self.records,
            self.number,
            values.last()
        );
        Ok(())
    }
}

/// That it is not there means, when it is tried again, that an earlier attempt got through; that it is not there at
/// the first attempt was ruled out by looking into it.
async fn delete(client: &Client, name: &str) -> Result<(), Error> {
    patiently(|| async {
        match client.delete_topic(name).await {
            Err(error) if error.code() == Some(ResponseError::UnknownTopicOrPartition) => Ok(()),
            outcome => outcome,
        }
    })
    .await
}
