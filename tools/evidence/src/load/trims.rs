//! Records that are deleted from the front of a topic while it is written.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tokio::time::sleep;

use super::Setting;
use crate::ledger::Ledger;
use crate::patience::{connect, patiently};

/// Where the partitions start, as far as it is known.
#[derive(Debug, Default)]
pub struct Trims {
    /// By partition: acknowledged, and asked for.
    starts: Mutex<BTreeMap<i32, (i64, i64)>>,
}

impl Trims {
    /// Deletes up to some acknowledged offset, again and again.
    pub(super) async fn trim(self: Arc<Self>, setting: Setting, ledger: Arc<Ledger>) -> anyhow::Result<()> {
        let client = connect(&setting.address).await?;
        let mut random = SmallRng::seed_from_u64(setting.seed ^ 0x7219);
        for partition in (0..ledger.partitions).cycle() {
            if setting.is_stopped() {
                break;
            }
            sleep(Duration::from_millis(random.random_range(10..60))).await;
            let before = *self.starts(partition).end();
            let Some(last) = ledger.last_offset(partition).filter(|last| *last > before) else {
                continue;
            };
            let offset = random.random_range(before..=last);
            self.starts.lock().insert(partition, (before, offset));
            let start = patiently(|| client.delete_records(&ledger.topic, partition, offset)).await?;
            ensure!(
                start == offset,
                "{}/{partition} was to start at {offset}, and starts at {start}",
                ledger.topic
            );
            self.starts.lock().insert(partition, (offset, offset));
        }
        Ok(())
    }

    /// Where a partition may start.
    pub fn starts(&self, partition: i32) -> RangeInclusive<i64> {
        let (acknowledged, asked) = self.starts.lock().get(&partition).copied().unwrap_or_default();
        acknowledged..=asked
    }
}
