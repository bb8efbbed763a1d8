//! Consumer groups: how many members they have, and how far they are behind.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

use super::{Labels, Samples};
use crate::broker::Broker;
use crate::broker::coordinator::Wanted;

/// Groups beyond this, and partitions beyond this, have no time series of their own.
const MAX_SERIES: usize = 2_000;

/// As of one moment.
#[derive(Debug)]
pub(super) struct GroupMetrics {
    groups: usize,
    members: Vec<Members>,
    lags: Vec<Lag>,
}

#[derive(Debug)]
struct Members {
    group: Arc<str>,
    count: usize,
}

#[derive(Debug)]
struct Lag {
    group: Arc<str>,
    topic: Arc<str>,
    partition: String,
    records: i64,
}

impl GroupMetrics {
    pub(super) async fn read(broker: &Broker) -> Self {
        let groups = broker.groups().list();
        let mut metrics = Self {
            groups: groups.len(),
            members: Vec::new(),
            lags: Vec::new(),
        };
        for group in groups.iter().map(|listed| &listed.id).take(MAX_SERIES) {
            let count = broker
                .groups()
                .describe(group)
                .map_or(0, |described| described.members.len());
            metrics.members.push(Members {
                group: Arc::clone(group),
                count,
            });
            // A group that vanished in between, or whose offsets cannot be read now, has no lag to show.
            let Ok(offsets) = broker.groups().fetch(group, Wanted::All).await else {
                continue;
            };
            for (topic, partition, committed) in offsets {
                let Some(committed) = committed else { continue };
                // The topic may have been deleted since.
                let Ok(log) = broker.log_of(&topic, partition) else {
                    continue;
                };
                let Some(ends) = broker.storage().ends(log) else {
                    continue;
                };
                if metrics.lags.len() == MAX_SERIES {
                    return metrics;
                }
                metrics.lags.push(Lag {
                    group: Arc::clone(group),
                    topic,
                    partition: partition.to_string(),
                    records: (ends.high_watermark - committed.offset.max(ends.start)).max(0),
                });
            }
        }
        metrics
    }
}

impl Members {
    fn labels(&self) -> Labels<'_> {
        vec![("group", &self.group)]
    }
}

impl Lag {
    fn labels(&self) -> Labels<'_> {
        vec![
            ("group", &self.group),
            ("topic", &self.topic),
            ("partition", &self.partition),
        ]
    }
}

impl Collector for GroupMetrics {
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        let mut to = Samples(encoder);
        to.gauge("consumer_groups", "Consumer groups", None, self.groups as f64)?;
        let members = ("consumer_group_members", "Members of a consumer group", None);
        to.gauges(members, &self.members, Members::labels, |group| group.count as f64)?;
        let lag = (
            "consumer_group_lag_records",
            "Records between a group's committed offset and the end",
            None,
        );
        to.gauges(lag, &self.lags, Lag::labels, |lag| lag.records as f64)
    }
}
