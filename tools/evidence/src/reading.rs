//! Reading whole topics.

use std::collections::BTreeMap;

use anyhow::Context;
use riverlog_client::{Client, Consumer, ConsumerOptions, Error, OffsetAt, StoredRecord};

use crate::patience::patiently;

/// What is in a partition.
#[derive(Debug, Default)]
pub struct Partition {
    /// Where it starts.
    pub start: i64,
    /// Where it ended when reading began.
    pub end: i64,
    /// The records from the start on.
    pub records: Vec<StoredRecord>,
}

/// All records of a topic, by partition, up to the ends that it has now.
///
/// # Errors
/// When something cannot be read.
pub async fn read_all(client: &Client, topic: &str, partitions: i32) -> anyhow::Result<BTreeMap<i32, Partition>> {
    let mut all = BTreeMap::new();
    for partition in 0..partitions {
        let read = loop {
            let read = patiently(|| read_partition(client, topic, partition)).await;
            match read {
                // Retention has moved the start in between.
                Err(Error::OffsetOutOfRange { offset, log_start, .. }) if offset < log_start => {}
                read => break read.with_context(|| format!("cannot read {topic}/{partition}"))?,
            }
        };
        all.insert(partition, read);
    }
    Ok(all)
}

/// How many partitions a topic has.
///
/// # Errors
/// When there is no such topic.
pub async fn partitions(client: &Client, topic: &str) -> anyhow::Result<i32> {
    Ok(i32::try_from(client.topic(topic, false).await?.partitions.len())?)
}

async fn read_partition(client: &Client, topic: &str, partition: i32) -> Result<Partition, Error> {
    let options = ConsumerOptions::default();
    let at = async |at| {
        let found = client.offset(topic, partition, at, options.isolation).await?;
        Ok::<_, Error>(found.map_or(0, |found| found.offset))
    };
    let (start, end) = (at(OffsetAt::Earliest).await?, at(OffsetAt::Latest).await?);
    let mut read = Partition {
        start,
        end,
        records: Vec::new(),
    };
    let mut consumer = Consumer::new(client, [((topic.to_owned(), partition), start)], options);
    let mut position = start;
    while position < end {
        if let Some(fetched) = consumer.poll().await? {
            position = fetched.next_offset;
            read.records.extend(fetched.records);
        }
    }
    Ok(read)
}
