//! How far partitions go.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::registry::Unit;

use super::{Labels, Samples};
use crate::broker::Broker;
use crate::broker::topics::is_internal;

/// Partitions beyond this have no time series of their own: a scrape stays small whatever clients create.
const MAX_SERIES: usize = 2_000;

/// As of one moment.
#[derive(Debug)]
pub(super) struct PartitionMetrics {
    topics: usize,
    partitions: usize,
    listed: Vec<Partition>,
}

#[derive(Debug)]
struct Partition {
    topic: String,
    number: String,
    log_start: i64,
    high_watermark: i64,
    size_bytes: u64,
}

impl PartitionMetrics {
    pub(super) fn read(broker: &Broker) -> Self {
        let catalog = broker.catalog();
        // Users' topics first: theirs are the series that should not fall to the limit.
        let (internal, own): (Vec<_>, Vec<_>) = catalog.topics().partition(|topic| is_internal(&topic.name));
        let topics: Vec<_> = own.into_iter().chain(internal).collect();
        let all = || {
            topics
                .iter()
                .flat_map(|topic| topic.partitions.iter().enumerate().map(move |at| (topic, at)))
        };
        let shown: Vec<_> = all().take(MAX_SERIES).collect();
        let logs: Vec<_> = shown.iter().map(|(_, (_, log))| **log).collect();
        let ends = broker.storage().all_ends(&logs);
        let listed = shown.iter().zip(ends).filter_map(|((topic, (partition, _)), ends)| {
            let ends = ends?;
            Some(Partition {
                topic: topic.name.clone(),
                number: partition.to_string(),
                log_start: ends.start,
                high_watermark: ends.high_watermark,
                size_bytes: ends.size_bytes,
            })
        });
        Self {
            listed: listed.collect(),
            topics: topics.len(),
            partitions: all().count(),
        }
    }
}

impl Partition {
    fn labels(&self) -> Labels<'_> {
        vec![("topic", &self.topic), ("partition", &self.number)]
    }
}

impl Collector for PartitionMetrics {
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        let mut to = Samples(encoder);
        to.gauge("topics", "Topics, internal ones included", None, self.topics as f64)?;
        to.gauge("partitions", "Partitions of all topics", None, self.partitions as f64)?;
        let omitted = self.partitions.saturating_sub(self.listed.len());
        to.gauge(
            "partitions_without_series",
            "Partitions beyond the limit of time series",
            None,
            omitted as f64,
        )?;
        let start = ("partition_log_start", "First offset", None);
        to.gauges(start, &self.listed, Partition::labels, |at| at.log_start as f64)?;
        let end = ("partition_high_watermark", "One behind the last record", None);
        to.gauges(end, &self.listed, Partition::labels, |at| at.high_watermark as f64)?;
        let size = ("partition_size", "Bytes in segment files", Some(&Unit::Bytes));
        to.gauges(size, &self.listed, Partition::labels, |at| at.size_bytes as f64)
    }
}
