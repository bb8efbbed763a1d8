//! What the write path says.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;
use riverlog_storage::{Health, SYNC_BUCKETS_US, Stats};

use super::Samples;
use crate::broker::Broker;

/// As of one moment.
#[derive(Debug)]
pub(super) struct StorageMetrics {
    stats: Stats,
    health: Health,
}

impl StorageMetrics {
    pub(super) fn read(broker: &Broker) -> Self {
        Self {
            stats: broker.storage().stats(),
            health: broker.storage().health(),
        }
    }
}

impl Collector for StorageMetrics {
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        let Self { stats, health } = self;
        let mut to = Samples(encoder);
        let bytes = Some(&Unit::Bytes);
        to.counter(
            "write_sets",
            "Write sets acknowledged; divided by journal_groups this is the group size",
            None,
            stats.write_sets as f64,
        )?;
        to.counter(
            "journal_groups",
            "Groups committed, each with one sync of the journal and of the segments that it goes straight to",
            None,
            stats.groups as f64,
        )?;
        to.counter("write_sets_refused", "Write sets refused", None, stats.refused as f64)?;
        to.counter("batches", "Record batches written", None, stats.batches as f64)?;
        to.counter(
            "record",
            "Bytes of record batches written",
            bytes,
            stats.record_bytes as f64,
        )?;
        to.counter(
            "journal",
            "Bytes of journal frames written",
            bytes,
            stats.journal_bytes as f64,
        )?;
        to.counter(
            "extent",
            "Bytes of record batches that went straight to their segments, and not through the journal",
            bytes,
            stats.extent_bytes as f64,
        )?;
        to.counter("checkpoints", "Checkpoints taken", None, stats.checkpoints as f64)?;
        to.gauge(
            "disk_free",
            "Free on the file system of the data directory",
            bytes,
            health.free_bytes as f64,
        )?;
        to.gauge(
            "journal_since_checkpoint",
            "What a recovery would have to read, in the journal and in segments",
            bytes,
            health.journal_bytes as f64,
        )?;
        to.gauge(
            "poisoned",
            "1 when a write failed and nothing is accepted until a restart",
            None,
            f64::from(health.poisoned.is_some()),
        )?;
        to.gauge(
            "fenced_partitions",
            "Partitions found damaged and not served",
            None,
            health.fences.len() as f64,
        )?;
        to.gauge(
            "damaged_batches",
            "Damaged batches that reads or the scrub have found in partitions that are served",
            None,
            health.damages.len() as f64,
        )?;
        to.counter(
            "scrubbed",
            "Bytes of segments that the background scrub has checked",
            bytes,
            stats.scrubbed_bytes as f64,
        )?;
        let sync = SyncTimes(stats);
        let encoder = to.0.encode_descriptor(
            "journal_sync",
            "Time that groups took to become durable: their syncs, and the writing of large runs",
            Some(&Unit::Seconds),
            sync.metric_type(),
        )?;
        sync.encode(encoder)
    }
}

/// The journal's syncs by how long they took.
struct SyncTimes<'a>(&'a Stats);

impl EncodeMetric for SyncTimes<'_> {
    fn encode(&self, mut encoder: MetricEncoder) -> fmt::Result {
        const US_PER_S: f64 = 1e6;
        let bounds = SYNC_BUCKETS_US
            .iter()
            .map(|us| *us as f64 / US_PER_S)
            .chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = bounds.zip(self.0.sync_buckets.iter().copied()).collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        encoder.encode_histogram::<NoLabelSet>(self.0.sync_us as f64 / US_PER_S, count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}
