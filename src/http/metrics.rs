//! `GET /metrics`: what Prometheus scrapes. The listeners' counters, and what storage, topics and the process
//! itself know, asked at the moment of the scrape.

use std::fmt;
use std::sync::Arc;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};
use riverlog_storage::{Health, SYNC_BUCKETS_US, Stats};

use super::Http;
use super::problem::Problem;
use super::process::Process;
use crate::broker::Broker;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Partitions beyond this have no time series of their own: a scrape stays small whatever clients create.
const MAX_PARTITION_SERIES: usize = 2_000;

/// The handler.
///
/// # Errors
/// When the text cannot be written, which would be a bug.
pub async fn metrics(State(http): State<Arc<Http>>) -> Result<Response, Problem> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Process::read()));
    let ours = registry.sub_registry_with_prefix("riverlog");
    http.metrics.register(ours);
    ours.register_collector(Box::new(StorageMetrics::read(&http.broker)));
    ours.register_collector(Box::new(PartitionMetrics::read(&http.broker)));
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry)
        .map_err(|error| Problem::internal(format!("metrics: {error}")))?;
    Ok(([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response())
}

/// Writes one metric at a time; what every collector here needs.
pub(super) struct Samples<'e>(pub DescriptorEncoder<'e>);

impl Samples<'_> {
    /// A number that only grows.
    pub fn counter(&mut self, name: &str, help: &str, unit: Option<&Unit>, value: f64) -> fmt::Result {
        let mut encoder = self.0.encode_descriptor(name, help, unit, MetricType::Counter)?;
        encoder.encode_counter::<NoLabelSet, f64, u64>(&value, None)
    }

    /// A number that goes up and down.
    pub fn gauge(&mut self, name: &str, help: &str, unit: Option<&Unit>, value: f64) -> fmt::Result {
        self.0
            .encode_descriptor(name, help, unit, MetricType::Gauge)?
            .encode_gauge(&value)
    }
}

/// What the write path says.
#[derive(Debug)]
struct StorageMetrics {
    stats: Stats,
    health: Health,
}

impl StorageMetrics {
    fn read(broker: &Broker) -> Self {
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
            "Write sets acknowledged; by `groups` this is the group size",
            None,
            stats.write_sets as f64,
        )?;
        to.counter(
            "groups",
            "Groups committed, each with one sync of the journal",
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
        to.counter("checkpoints", "Checkpoints taken", None, stats.checkpoints as f64)?;
        to.gauge(
            "disk_free",
            "Free on the file system of the data directory",
            bytes,
            health.free_bytes as f64,
        )?;
        to.gauge(
            "journal_since_checkpoint",
            "What a recovery would have to read",
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
        let sync = SyncTimes(stats);
        let encoder = to.0.encode_descriptor(
            "journal_sync",
            "Time of journal syncs",
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
        let bounds = SYNC_BUCKETS_US.iter().map(|us| *us as f64 / US_PER_S).chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = bounds.zip(self.0.sync_buckets.iter().copied()).collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        encoder.encode_histogram::<NoLabelSet>(self.0.sync_us as f64 / US_PER_S, count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

/// How far partitions go.
#[derive(Debug)]
struct PartitionMetrics {
    topics: usize,
    partitions: usize,
    listed: Vec<Partition>,
}

#[derive(Debug)]
struct Partition {
    labels: [(&'static str, String); 2],
    log_start: i64,
    high_watermark: i64,
    size_bytes: u64,
}

impl PartitionMetrics {
    fn read(broker: &Broker) -> Self {
        let catalog = broker.catalog();
        let all = || {
            catalog
                .topics()
                .flat_map(|topic| topic.partitions.iter().enumerate().map(move |at| (topic, at)))
        };
        let shown: Vec<_> = all().take(MAX_PARTITION_SERIES).collect();
        let logs: Vec<_> = shown.iter().map(|(_, (_, log))| **log).collect();
        let ends = broker.storage().all_ends(&logs);
        let listed = shown.iter().zip(ends).filter_map(|((topic, (partition, _)), ends)| {
            let ends = ends?;
            Some(Partition {
                labels: [("topic", topic.name.clone()), ("partition", partition.to_string())],
                log_start: ends.start,
                high_watermark: ends.high_watermark,
                size_bytes: ends.size_bytes,
            })
        });
        Self {
            listed: listed.collect(),
            topics: catalog.topics().count(),
            partitions: all().count(),
        }
    }

    fn series(
        &self,
        to: &mut Samples<'_>,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        value: impl Fn(&Partition) -> f64,
    ) -> fmt::Result {
        let mut encoder = to.0.encode_descriptor(name, help, unit, MetricType::Gauge)?;
        for partition in &self.listed {
            encoder
                .encode_family(&partition.labels)?
                .encode_gauge(&value(partition))?;
        }
        Ok(())
    }
}

impl Collector for PartitionMetrics {
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        let mut to = Samples(encoder);
        to.gauge("topics", "Topics, internal ones included", None, self.topics as f64)?;
        to.gauge("partitions", "Partitions of all topics", None, self.partitions as f64)?;
        let omitted = self.partitions - self.listed.len();
        to.gauge(
            "partitions_without_series",
            "Partitions beyond the limit of time series",
            None,
            omitted as f64,
        )?;
        self.series(&mut to, "partition_log_start", "First offset", None, |at| {
            at.log_start as f64
        })?;
        self.series(
            &mut to,
            "partition_high_watermark",
            "One behind the last record",
            None,
            |at| at.high_watermark as f64,
        )?;
        self.series(
            &mut to,
            "partition_size",
            "Bytes in segment files",
            Some(&Unit::Bytes),
            |at| at.size_bytes as f64,
        )
    }
}
