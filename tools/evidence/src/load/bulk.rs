//! Bursts of large batches that nobody reads before the end, so that they go past the page cache.

use std::sync::Arc;
use std::time::Duration;

use riverlog_client::{Producer, WriterOptions};
use tokio::time::sleep;

use super::Setting;
use crate::ledger::Ledger;
use crate::patience::connect;
use crate::server::PATIENCE;

pub(super) const TOPIC: &str = "bulk";
/// With [`BURST`] and [`SMALLEST_BYTES`] what comes at once is partly extents, and partly large runs of a large frame.
pub(super) const PARTITIONS: i32 = 8;
const BURST: usize = 100;
const SMALLEST_BYTES: usize = 25_000;
const PAUSE: Duration = Duration::from_millis(50);
/// Half a gigabyte: there is no more room on the disks whose power is cut, however long a stretch takes.
const MOST_RECORDS: u64 = 20_000;

pub(super) fn ledger(seed: u64) -> Ledger {
    Ledger::new(TOPIC, PARTITIONS, 1, seed).with_smallest_bytes(SMALLEST_BYTES)
}

pub(super) async fn produce(setting: Setting, ledger: Arc<Ledger>) -> anyhow::Result<()> {
    let options = WriterOptions {
        max_batch_bytes: 1_000_000,
        delivery_timeout: 2 * PATIENCE,
        ..WriterOptions::default()
    };
    let writer = Producer::new(&connect(&setting.address).await?, options).await?;
    while !setting.is_stopped() {
        if ledger.acknowledged() < MOST_RECORDS {
            let mut on_their_way = Vec::new();
            for _ in 0..BURST {
                let (number, partition, record) = ledger.hand_over(0)?;
                on_their_way.push((number, writer.send(TOPIC, Some(partition), record).await?));
            }
            for (number, delivery) in on_their_way {
                ledger.acknowledge(0, number, delivery.wait().await?)?;
            }
        }
        sleep(PAUSE).await;
    }
    Ok(())
}
