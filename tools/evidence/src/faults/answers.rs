//! What a server with a failed disk says, to producers, to readers and to whoever asks how it is.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use riverlog_client::{Producer, Record, ResponseError, WriterOptions};
use serde_json::Value;
use tokio::time::sleep;

use crate::http::get;
use crate::patience::connect;
use crate::server::{PATIENCE, Refused, Server};
use crate::stretch::{said, with_log};

/// A topic that is written before anything fails, and read whenever something has.
pub(super) const STILL: &str = "still";
pub(super) const STILL_RECORDS: u64 = 50;
/// A topic for records that must be refused.
pub(super) const PROBE: &str = "probe";
/// A producer that does not wait for long. It has its id before anything fails: without space there are no new ids, and to
/// ask for one is answered, as by Apache Kafka, with COORDINATOR_LOAD_IN_PROGRESS.
pub(super) async fn producer(address: &str) -> anyhow::Result<Producer> {
    let options = WriterOptions {
        delivery_timeout: Duration::from_secs(1),
        ..WriterOptions::default()
    };
    Ok(Producer::new(&connect(address).await?, options).await?)
}

pub(super) async fn refuses_kafka(producer: &Producer) -> anyhow::Result<()> {
    let record = Record {
        value: Some("refused".into()),
        ..Record::default()
    };
    match producer.send(PROBE, Some(0), record).await?.wait().await {
        Ok(delivered) => bail!("acknowledged, and should not be: {delivered:?}"),
        Err(error) => ensure!(
            error.code() == Some(ResponseError::KafkaStorageError),
            "a producer is told {error}"
        ),
    }
    Ok(())
}

pub(super) fn still(number: u64) -> String {
    format!("from before: {number}")
}

/// What a failing device can still be asked is not always everything, but never anything else.
pub(super) async fn read_still(http: SocketAddr, must_read: bool) -> anyhow::Result<()> {
    let answer = get(
        http,
        &format!("/topics/{STILL}/records?partition=0&offset=0&limit=1000"),
    )
    .await?;
    if answer.status != 200 && !must_read {
        return Ok(());
    }
    ensure!(answer.status == 200, "reading is answered with {answer:?}");
    let records = answer.at("/records");
    let records = records.as_array().context("no records")?;
    let values = records.iter().map(|record| record.get("value").and_then(Value::as_str));
    let right = values.zip(0..).all(|(value, number)| value == Some(&still(number)));
    ensure!(
        right && records.len() as u64 == STILL_RECORDS,
        "{STILL} is {}",
        answer.body
    );
    Ok(())
}

/// `/readyz` says that records are refused, and why.
pub(super) async fn wait_until_red(server: &Server, why: &str) -> anyhow::Result<()> {
    wait_for_readiness(server, 503, why).await
}

pub(super) async fn wait_until_ready(server: &Server) -> anyhow::Result<()> {
    wait_for_readiness(server, 200, "").await
}

pub(super) async fn wait_for_readiness(server: &Server, status: u16, why: &str) -> anyhow::Result<()> {
    let started = Instant::now();
    loop {
        let answer = get(server.http, "/readyz")
            .await
            .map_err(|error| with_log(&error, server))?;
        if answer.status == status && answer.body.contains(why) {
            return Ok(());
        }
        ensure!(
            started.elapsed() < PATIENCE,
            "/readyz says {answer:?}, and should say {status} {why:?}; {}",
            said(server)
        );
        sleep(Duration::from_millis(20)).await;
    }
}

pub(super) async fn is_poisoned(server: &Server) -> anyhow::Result<bool> {
    Ok(get(server.http, "/readyz")
        .await?
        .body
        .contains("a write to the disk failed"))
}

/// A start that ends says in one line why.
pub(super) fn refused_because(error: &anyhow::Error, why: &str) -> anyhow::Result<()> {
    let Some(refused) = error.downcast_ref::<Refused>() else {
        bail!("neither started nor refused to: {error:#}");
    };
    let last = refused.stderr.lines().last().unwrap_or_default();
    ensure!(
        refused.status.code() == Some(1) && last.contains(why),
        "the start should say {why:?}, and says: {refused}"
    );
    Ok(())
}
