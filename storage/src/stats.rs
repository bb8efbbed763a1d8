//! Counters of the write path, for metrics.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of the sync-time buckets, in microseconds; the last bucket has no bound.
pub const SYNC_BUCKETS_US: [u64; 12] = [
    50, 100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 50_000, 200_000, 1_000_000,
];

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub groups: AtomicU64,
    pub write_sets: AtomicU64,
    pub refused: AtomicU64,
    pub batches: AtomicU64,
    pub record_bytes: AtomicU64,
    pub journal_bytes: AtomicU64,
    pub extent_bytes: AtomicU64,
    pub checkpoints: AtomicU64,
    pub scrubbed_bytes: AtomicU64,
    pub sync_us: AtomicU64,
    /// How long the last one took; at least one, once there was any.
    pub last_sync_us: AtomicU64,
    pub sync_buckets: [AtomicU64; SYNC_BUCKETS_US.len() + 1],
}

/// What the write path did since the start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// Groups committed, each with one sync of the journal, and of the segments that it goes straight to.
    pub groups: u64,
    /// Write sets acknowledged.
    pub write_sets: u64,
    /// Write sets refused.
    pub refused: u64,
    /// Record batches written.
    pub batches: u64,
    /// Bytes of record batches written.
    pub record_bytes: u64,
    /// Bytes of journal frames written.
    pub journal_bytes: u64,
    /// Bytes of record batches that went straight to their segments.
    pub extent_bytes: u64,
    /// Checkpoints taken.
    pub checkpoints: u64,
    /// Bytes of segments that the scrub has checked.
    pub scrubbed_bytes: u64,
    /// Time that groups took to become durable (syncs, and the writing of large runs), in microseconds.
    pub sync_us: u64,
    /// The same by duration; bounds in [`SYNC_BUCKETS_US`].
    pub sync_buckets: Vec<u64>,
}

impl Counters {
    pub fn note_sync(&self, took: Duration) {
        let us = took.as_micros().min(u128::from(u64::MAX)) as u64;
        let bucket = SYNC_BUCKETS_US.partition_point(|bound| *bound < us);
        self.sync_us.fetch_add(us, Ordering::Relaxed);
        self.last_sync_us.store(us.max(1), Ordering::Relaxed);
        if let Some(counter) = self.sync_buckets.get(bucket) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub fn last_sync(&self) -> Option<Duration> {
        let us = self.last_sync_us.load(Ordering::Relaxed);
        (us > 0).then(|| Duration::from_micros(us))
    }

    pub fn stats(&self) -> Stats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            groups: read(&self.groups),
            write_sets: read(&self.write_sets),
            refused: read(&self.refused),
            batches: read(&self.batches),
            record_bytes: read(&self.record_bytes),
            journal_bytes: read(&self.journal_bytes),
            extent_bytes: read(&self.extent_bytes),
            checkpoints: read(&self.checkpoints),
            scrubbed_bytes: read(&self.scrubbed_bytes),
            sync_us: read(&self.sync_us),
            sync_buckets: self.sync_buckets.iter().map(read).collect(),
        }
    }
}
