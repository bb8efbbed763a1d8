//! Idempotent producers, whose every record is entered into a ledger.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use riverlog_client::{Compression, ConsumerOptions, Delivery, Producer, WriterOptions};

use super::Setting;
use crate::ledger::Ledger;
use crate::patience::connect;
use crate::server::PATIENCE;

/// How many records a producer has on their way.
const ON_THEIR_WAY: usize = 100;

/// What a producer sends: its codec, and from single records to what a busy producer puts into a batch.
pub const KINDS: [(Compression, usize); 5] = [
    (Compression::None, 1),
    (Compression::Gzip, 2_000),
    (Compression::Snappy, 16_384),
    (Compression::Lz4, 100_000),
    (Compression::Zstd, 500_000),
];

/// Sends the records of one producer of a ledger until it is told to stop, and sees every one of them through.
pub(super) async fn produce(
    setting: Setting,
    ledger: Arc<Ledger>,
    producer: usize,
    (compression, max_batch_bytes): (Compression, usize),
) -> anyhow::Result<()> {
    let options = WriterOptions {
        compression,
        max_batch_bytes,
        delivery_timeout: 2 * PATIENCE,
        ..WriterOptions::default()
    };
    let client = connect(&setting.address).await?;
    let writer = Producer::new(&client, options).await?;
    let mut on_their_way: VecDeque<(u64, Delivery)> = VecDeque::new();
    loop {
        let stopping = setting.is_stopped();
        while on_their_way.len() >= if stopping { 1 } else { ON_THEIR_WAY } {
            if let Some((number, delivery)) = on_their_way.pop_front() {
                ledger.acknowledge(producer, number, delivery.wait().await?)?;
            }
        }
        if stopping {
            return Ok(());
        }
        let (number, partition, record) = ledger.hand_over(producer)?;
        let delivery = writer.send(&ledger.topic, Some(partition), record).await?;
        on_their_way.push_back((number, delivery));
    }
}

/// Reads what the producers send as soon as it can be seen.
pub(super) async fn read(setting: Setting, ledger: Arc<Ledger>) -> anyhow::Result<()> {
    let client = connect(&setting.address).await?;
    let positions = (0..ledger.partitions).map(|partition| ((ledger.topic.clone(), partition), 0));
    let options = ConsumerOptions {
        retry_timeout: PATIENCE,
        max_wait: Duration::from_millis(50),
        ..Default::default()
    };
    let mut consumer = riverlog_client::Consumer::new(&client, positions, options);
    while !setting.is_stopped() {
        if let Some(fetched) = consumer.poll().await? {
            for record in &fetched.records {
                ledger.saw(fetched.partition, record)?;
            }
        }
    }
    Ok(())
}
