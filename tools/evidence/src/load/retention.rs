//! A topic that may keep only so many bytes.

use anyhow::ensure;
use riverlog_client::Client;

use crate::ledger::Ledger;

/// What it may keep: one segment of the smallest size that there is.
pub const KEPT_BYTES: usize = 1024 * 1024;

/// More than a record and its batch can take besides key and value, if no batch is compressed: the batch's header, the
/// record's lengths, and the headers that a ledger gives it.
const FRAMING_BYTES: usize = 150;

/// Compares the topic with its ledger; whatever is missing must be too much. How many records are gone.
///
/// # Errors
/// When the log does not agree.
pub async fn verify(client: &Client, ledger: &Ledger) -> anyhow::Result<u64> {
    let read = ledger.verify(client, |_| 0..=i64::MAX).await?;
    let mut gone = 0;
    for (partition, read) in &read {
        let kept_bytes: usize = read
            .records
            .iter()
            .map(|record| record.value.as_ref().map_or(0, |value| value.len()) + FRAMING_BYTES)
            .sum();
        ensure!(
            read.start == 0 || kept_bytes >= KEPT_BYTES,
            "LOST: retention has left {kept_bytes} bytes at most in {}/{partition}, of {KEPT_BYTES} that it must keep",
            ledger.topic
        );
        gone += read.start.unsigned_abs();
    }
    Ok(gone)
}
