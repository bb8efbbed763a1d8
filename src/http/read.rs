//! `GET /topics/{topic}/records`: what may be asked for. The answer is made in [`super::page`].

use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use riverlog_storage::LogEnds;
use tokio::time::{Instant, timeout_at};

use super::Http;
use super::page::{Wanted, page};
use super::problem::Problem;
use super::publish::record::shorten;
use crate::broker::BrokerError;

const DEFAULT_LIMIT: usize = 100;
const MAX_LIMIT: usize = 10_000;
const MAX_WAIT_MS: u64 = 30_000;

/// What the query may say.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReadQuery {
    #[serde(default)]
    partition: u32,
    offset: Option<String>,
    limit: Option<usize>,
    #[serde(default)]
    wait_ms: u64,
}

/// The handler.
///
/// # Errors
/// A problem document; an offset out of range comes with the range.
pub async fn read(
    State(http): State<Arc<Http>>,
    topic: Result<Path<String>, PathRejection>,
    query: Result<Query<ReadQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let Path(topic) = topic.map_err(|error| Problem::bad_request(error.body_text()))?;
    let Query(query) = query.map_err(|error| Problem::bad_request(shorten(&error.body_text())))?;
    let limit = query.limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        return Err(Problem::bad_request(format!(
            "`limit` is {limit}, but must be 1 to {MAX_LIMIT}"
        )));
    }
    if query.wait_ms > MAX_WAIT_MS {
        return Err(Problem::bad_request(format!(
            "`wait_ms` is {}, but must be 0 to {MAX_WAIT_MS}",
            query.wait_ms
        )));
    }
    let partition = i32::try_from(query.partition).unwrap_or(i32::MAX);
    let log = http.broker.log_of(&topic, partition)?;
    let ends = http
        .broker
        .storage()
        .ends(log)
        .ok_or(BrokerError::UnknownTopic(topic.clone()))?;
    let wanted = Wanted {
        from: start(query.offset.as_deref(), &ends)?,
        topic,
        partition,
        log,
        limit,
    };
    let deadline = Instant::now() + Duration::from_millis(query.wait_ms);
    let page = loop {
        let watch = http.broker.watch(&[log]);
        let page = page(&http, &wanted).await?;
        if page.records > 0 || timeout_or_end(&http, deadline, watch.changed()).await {
            break page;
        }
    };
    http.metrics.http.records_out.inc_by(page.records as u64);
    http.metrics.http.bytes_out.inc_by(page.bytes as u64);
    Ok(([(header::CONTENT_TYPE, "application/json")], page.text).into_response())
}

/// Waits for a publication; true when there is no more time for one.
async fn timeout_or_end(http: &Http, deadline: Instant, changed: impl Future<Output = ()>) -> bool {
    tokio::select! {
        outcome = timeout_at(deadline, changed) => outcome.is_err(),
        () = http.shutdown.requested() => true,
    }
}

fn start(offset: Option<&str>, ends: &LogEnds) -> Result<i64, Problem> {
    match offset {
        None | Some("earliest") => Ok(ends.start),
        Some("latest") => Ok(ends.high_watermark),
        Some(text) => text.parse().ok().filter(|offset| *offset >= 0).ok_or_else(|| {
            let text = shorten(text);
            Problem::bad_request(format!(
                "`offset` is {text:?}, but must be a number from 0, `earliest` or `latest`"
            ))
        }),
    }
}
