//! Records that are published and read over HTTP. There are no producer ids in it, so only where nothing is killed can it be told
//! what must be there.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::Setting;
use crate::http::{get, post};

/// The topic, which its first record creates.
const TOPIC: &str = "web";
/// How many records a document has.
const RECORDS: u64 = 20;

/// How many records were published.
#[derive(Debug, Default)]
pub struct Web {
    published: AtomicU64,
}

impl Web {
    /// Publishes a document and reads it back, again and again.
    pub(super) async fn publish(self: Arc<Self>, setting: Setting, http: SocketAddr) -> anyhow::Result<()> {
        while !setting.is_stopped() {
            let first = self.published.load(Ordering::SeqCst);
            let numbers = first..first + RECORDS;
            let records: Vec<Value> = numbers
                .map(|number| json!({"partition": 0, "value": value(number)}))
                .collect();
            let answer = post(
                http,
                &format!("/topics/{TOPIC}/records"),
                &json!({ "records": records }),
            )
            .await?;
            ensure!(answer.status == 200, "publishing is answered with {answer:?}");
            let offset = answer.at("/records/0/offset").as_u64();
            ensure!(offset == Some(first), "record {first} is at {offset:?}");
            self.published.store(first + RECORDS, Ordering::SeqCst);
            self.read(http, first).await?;
            sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// How many were published.
    pub fn published(&self) -> u64 {
        self.published.load(Ordering::SeqCst)
    }

    /// Reads everything and compares.
    ///
    /// # Errors
    /// When a record is missing, twice or another one.
    pub async fn verify(&self, http: SocketAddr) -> anyhow::Result<()> {
        let mut next = 0;
        while next < self.published() {
            next = self.read(http, next).await?;
        }
        ensure!(
            next == self.published(),
            "{TOPIC} ends at {next}, not {}",
            self.published()
        );
        Ok(())
    }

    /// Compares a page; gives where the next one begins.
    async fn read(&self, http: SocketAddr, offset: u64) -> anyhow::Result<u64> {
        let path = format!("/topics/{TOPIC}/records?partition=0&offset={offset}&limit=1000");
        let answer = get(http, &path).await?;
        ensure!(answer.status == 200, "reading at {offset} is answered with {answer:?}");
        let records = answer.at("/records");
        let records = records.as_array().context("no records")?;
        ensure!(!records.is_empty(), "LOST: nothing at {offset} of {TOPIC}");
        for (number, record) in (offset..).zip(records) {
            ensure!(
                record.get("offset").and_then(Value::as_u64) == Some(number)
                    && record.get("value").and_then(Value::as_str) == Some(&value(number)),
                "{TOPIC}/{number} is {record}"
            );
        }
        answer.at("/next_offset").as_u64().context("no next offset")
    }
}

fn value(number: u64) -> String {
    format!("over HTTP: {number}")
}
