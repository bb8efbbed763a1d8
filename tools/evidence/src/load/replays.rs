//! `riverlog replay --name` from one topic into another, killed and started again until it has come through.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use riverlog_client::{Client, StoredRecord};
use tokio::process::Command;
use tokio::time::{Instant, sleep, timeout};

use super::{COPY_TOPIC, MAIN_TOPIC, Setting};
use crate::ledger::Ledger;
use crate::patience::connect;
use crate::reading::{Partition, read_all};
use crate::server::PATIENCE;

/// The header in which a replay tells where a record comes from.
const HEADER: &str = "riverlog.replay";
/// The most offsets of one replay.
const OFFSETS: i64 = 1_000;

/// By partition: how far the topic has been replayed, each replay going on where the one before it ended.
#[derive(Debug, Default)]
pub struct Replays {
    reached: Mutex<BTreeMap<i32, i64>>,
}

impl Replays {
    /// Replays one partition after the other, as far as it was acknowledged.
    pub(super) async fn replay(self: Arc<Self>, setting: Setting, ledger: Arc<Ledger>) -> anyhow::Result<()> {
        let mut random = SmallRng::seed_from_u64(setting.seed ^ 0x4e91);
        for (number, partition) in (0..ledger.partitions).cycle().enumerate() {
            if setting.is_stopped() {
                break;
            }
            let from = self.reached(partition);
            let end = ledger.last_offset(partition).unwrap_or(0).min(from + OFFSETS);
            if end > from {
                run_through(&setting, &format!("part-{number}"), partition, from..end, &mut random).await?;
                self.reached.lock().insert(partition, end);
            }
            sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    fn reached(&self, partition: i32) -> i64 {
        self.reached.lock().get(&partition).copied().unwrap_or(0)
    }

    /// How many records were replayed.
    pub fn records(&self) -> u64 {
        self.reached.lock().values().map(|reached| reached.unsigned_abs()).sum()
    }

    /// Compares the copy with the source.
    ///
    /// # Errors
    /// When a record is missing, twice, or not the same.
    pub async fn verify(&self, client: &Client, sources: &BTreeMap<i32, Partition>) -> anyhow::Result<()> {
        for (partition, copy) in read_all(client, COPY_TOPIC, i32::try_from(sources.len())?).await? {
            let at = format!("{COPY_TOPIC}/{partition}");
            let reached = self.reached(partition);
            ensure!(
                copy.records.len() as u64 == reached.unsigned_abs(),
                "{at} has {} records of {reached} that were replayed",
                copy.records.len()
            );
            let source = sources.get(&partition).context("no such source")?;
            for (mut record, source) in copy.records.into_iter().zip(&source.records) {
                let origin = record.headers.pop();
                let same = StoredRecord {
                    offset: source.offset,
                    ..record
                };
                ensure!(
                    same == *source,
                    "{at}/{}: not the record at {} of the source",
                    record.offset,
                    source.offset
                );
                let (name, origin) = origin.context("no header that tells the origin")?;
                let origin = origin.unwrap_or_default();
                let suffix = format!("/{partition}/{}", source.offset);
                ensure!(
                    name == HEADER && origin.ends_with(suffix.as_bytes()),
                    "{at}: {name:?} {origin:?} stands at {}",
                    source.offset
                );
            }
        }
        Ok(())
    }
}

/// Starts a replay until it has ended well; now and then it is killed before.
async fn run_through(
    setting: &Setting,
    name: &str,
    partition: i32,
    offsets: std::ops::Range<i64>,
    random: &mut SmallRng,
) -> anyhow::Result<()> {
    // A replay ends when nobody listens at its start.
    let (started, client) = (Instant::now(), connect(&setting.address).await?);
    drop(client);
    loop {
        let mut command = Command::from(setting.binary.command());
        command
            .args([
                "replay",
                MAIN_TOPIC,
                "--to-topic",
                COPY_TOPIC,
                "--name",
                name,
                "--quiet",
            ])
            .args(["--partition", &partition.to_string(), "--bootstrap", &setting.address])
            .args(["--from", &offsets.start.to_string(), "--to", &offsets.end.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let child = command.spawn().context("cannot start a replay")?;
        let patience = match random.random_bool(0.3) {
            true => Duration::from_millis(random.random_range(0..300)),
            false => PATIENCE,
        };
        // What does not end in time is killed by being dropped.
        let said = match timeout(patience, child.wait_with_output()).await {
            Err(_) => "it did not end in time".to_owned(),
            Ok(output) => {
                let output = output?;
                if output.status.success() {
                    return Ok(());
                }
                String::from_utf8_lossy(&output.stderr).into_owned()
            }
        };
        if started.elapsed() > 2 * PATIENCE {
            bail!("replay {name} does not come to its end: {said}");
        }
        sleep(Duration::from_millis(20)).await;
    }
}
