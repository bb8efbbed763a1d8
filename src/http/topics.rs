//! What topics there are, and how far their partitions go.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::Response;
use riverlog_storage::Topic;
use serde::Serialize;

use super::problem::Problem;
use super::{Http, json};
use crate::broker::topics::is_internal;

#[derive(Serialize)]
struct Listing<'a> {
    topics: Vec<Entry<'a>>,
}

#[derive(Serialize)]
struct Entry<'a> {
    name: &'a str,
    id: String,
    partitions: usize,
    internal: bool,
}

/// `GET /topics`: every topic, by name.
pub async fn list(State(http): State<Arc<Http>>) -> Response {
    let catalog = http.broker.catalog();
    json(&Listing {
        topics: catalog.topics().map(|topic| entry(topic)).collect(),
    })
}

#[derive(Serialize)]
struct Description<'a> {
    #[serde(flatten)]
    entry: Entry<'a>,
    /// Only those that were set for this topic.
    configs: &'a BTreeMap<String, String>,
    ends: Vec<PartitionEnds>,
}

#[derive(Serialize)]
struct PartitionEnds {
    partition: usize,
    log_start: i64,
    high_watermark: i64,
    size_bytes: u64,
}

/// `GET /topics/{topic}`: one topic, with the ends of its partitions.
///
/// # Errors
/// When there is no such topic.
pub async fn describe(
    State(http): State<Arc<Http>>,
    name: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    let Path(name) = name.map_err(|error| Problem::bad_request(error.body_text()))?;
    let topic = http.broker.topic(&name)?;
    let ends = http.broker.storage().all_ends(&topic.partitions);
    let ends = ends.into_iter().enumerate().filter_map(|(partition, ends)| {
        let ends = ends?;
        Some(PartitionEnds {
            partition,
            log_start: ends.start,
            high_watermark: ends.high_watermark,
            size_bytes: ends.size_bytes,
        })
    });
    Ok(json(&Description {
        entry: entry(&topic),
        configs: &topic.configs,
        ends: ends.collect(),
    }))
}

fn entry(topic: &Topic) -> Entry<'_> {
    Entry {
        name: &topic.name,
        id: topic.id.to_string(),
        partitions: topic.partitions.len(),
        internal: is_internal(&topic.name),
    }
}
