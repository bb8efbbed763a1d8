//! A librdkafka consumer that reads a topic from its beginning to its end, again and again. The topic stays in the page
//! cache, for which it is small enough.

use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::{Offset, TopicPartitionList};

use super::{Outcome, Site};
use crate::broker::Broker;
use crate::child;

/// Without a record for so long, something is wrong.
const PATIENCE: Duration = Duration::from_secs(60);

/// librdkafka's defaults, without a group's commits.
pub fn config(broker: &Broker) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", broker.bootstrap())
        .set("group.id", "riverlog-peers")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true");
    config
}

/// All partitions of a topic from an offset on.
///
/// # Errors
/// If librdkafka does not take them.
pub fn assign(consumer: &BaseConsumer, topic: &str, partitions: i32, offset: Offset) -> anyhow::Result<()> {
    let mut assignment = TopicPartitionList::new();
    for partition in 0..partitions {
        assignment.add_partition_offset(topic, partition, offset)?;
    }
    consumer.assign(&assignment).context("cannot assign partitions")
}

pub fn run(site: &Site<'_>, size_bytes: usize) -> anyhow::Result<Outcome> {
    let source = site.source.context("nothing to consume")?;
    let consumer: BaseConsumer = config(site.broker()?).create().context("cannot make a consumer")?;
    assign(&consumer, &source.topic, site.partitions, Offset::Beginning)?;
    // From the first record on: connecting is not consuming.
    let (mut begun, mut heard) = (None, Instant::now());
    let (mut records, mut bytes, mut ended_partitions) = (0_u64, 0_u64, 0);
    let begun = loop {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                let value_bytes = message.payload_len();
                ensure!(value_bytes == size_bytes, "a record of {value_bytes} bytes");
                records += 1;
                bytes += value_bytes as u64;
            }
            Some(Err(KafkaError::PartitionEOF(_))) => {
                ended_partitions += 1;
                if ended_partitions == site.partitions {
                    ended_partitions = 0;
                    assign(&consumer, &source.topic, site.partitions, Offset::Beginning)?;
                }
            }
            Some(Err(error)) => bail!("cannot consume: {error}"),
            None => ensure!(heard.elapsed() < PATIENCE, "no record for {PATIENCE:?}"),
        }
        if records % 256 == 1 || ended_partitions > 0 {
            child::ensure_not_interrupted()?;
            heard = Instant::now();
            let begun = *begun.get_or_insert(heard);
            if heard - begun >= site.duration {
                break begun;
            }
        }
    };
    Ok(Outcome {
        records,
        bytes,
        seconds: begun.elapsed().as_secs_f64(),
        figures: vec![("passes", records as f64 / source.records as f64)],
    })
}
