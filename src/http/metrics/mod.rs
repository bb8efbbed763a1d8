//! `GET /metrics`: what Prometheus scrapes. The listeners' counters, and what storage, topics, groups and the
//! process itself know, asked at the moment of the scrape.

mod groups;
mod partitions;
mod process;
mod storage;

use std::fmt;
use std::sync::Arc;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use super::Http;
use super::problem::Problem;
use groups::GroupMetrics;
use partitions::PartitionMetrics;
use process::Process;
use storage::StorageMetrics;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

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
    ours.register_collector(Box::new(GroupMetrics::read(&http.broker).await));
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry)
        .map_err(|error| Problem::internal(format!("metrics: {error}")))?;
    Ok(([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response())
}

/// Writes one metric at a time; what every collector here needs.
struct Samples<'e>(DescriptorEncoder<'e>);

impl Samples<'_> {
    /// A number that only grows.
    fn counter(&mut self, name: &str, help: &str, unit: Option<&Unit>, value: f64) -> fmt::Result {
        let mut encoder = self.0.encode_descriptor(name, help, unit, MetricType::Counter)?;
        encoder.encode_counter::<NoLabelSet, f64, u64>(&value, None)
    }

    /// A number that goes up and down.
    fn gauge(&mut self, name: &str, help: &str, unit: Option<&Unit>, value: f64) -> fmt::Result {
        self.0
            .encode_descriptor(name, help, unit, MetricType::Gauge)?
            .encode_gauge(&value)
    }

    /// Such numbers of many things, told apart by labels.
    fn gauges<'a, T: 'a>(
        &mut self,
        (name, help, unit): (&str, &str, Option<&Unit>),
        things: impl IntoIterator<Item = &'a T>,
        labels: impl Fn(&'a T) -> Labels<'a>,
        value: impl Fn(&T) -> f64,
    ) -> fmt::Result {
        let mut encoder = self.0.encode_descriptor(name, help, unit, MetricType::Gauge)?;
        for thing in things {
            let labels = labels(thing);
            encoder.encode_family(&labels)?.encode_gauge(&value(thing))?;
        }
        Ok(())
    }
}

type Labels<'a> = Vec<(&'static str, &'a str)>;
