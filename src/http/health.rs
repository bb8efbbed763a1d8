//! Whether the process lives, and whether it is of use.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use riverlog_storage::Health;
use serde_json::Value;

use super::problem::Problem;
use super::{Http, json};

/// `GET /healthz`: the process answers. Restart it when it does not.
pub async fn healthz() -> &'static str {
    "ok\n"
}

/// `GET /readyz`: records are accepted and every partition is served. Damaged batches are listed in both answers and turn
/// neither red: everything beside them is served, and no restart would mend them.
///
/// # Errors
/// A problem document with all reasons why not.
pub async fn readyz(State(http): State<Arc<Http>>) -> Result<Response, Problem> {
    let health = http.broker.storage().health();
    let damaged = damaged(&http, &health);
    let reasons = reasons(&http, health);
    if reasons.is_empty() {
        return Ok(json(&serde_json::json!({"ready": true, "damaged": damaged})));
    }
    let detail = reasons.join("; ");
    Err(Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "not-ready",
        "The server is not ready",
        detail,
    )
    .with("reasons", reasons)
    .with("damaged", damaged))
}

fn reasons(http: &Http, health: Health) -> Vec<String> {
    let mut reasons = Vec::new();
    if http.shutdown.is_requested() {
        reasons.push("the server is shutting down".to_owned());
    }
    if let Some(reason) = health.poisoned {
        reasons.push(format!(
            "a write to the disk failed ({reason}); nothing is accepted until a restart, which recovers"
        ));
    }
    if health.free_bytes < health.needed_free_bytes {
        reasons.push(format!(
            "the disk is too full: {} bytes are free and {} are needed; records are refused until there is space",
            health.free_bytes, health.needed_free_bytes
        ));
    }
    let catalog = http.broker.catalog();
    reasons.extend(health.fences.iter().map(|fence| match catalog.log(fence.log) {
        Some((topic, partition)) => format!("partition {partition} of {} is fenced: {}", topic.name, fence.reason()),
        None => format!("log {} is fenced: {}", fence.log, fence.reason()),
    }));
    reasons
}

fn damaged(http: &Http, health: &Health) -> Vec<Value> {
    let catalog = http.broker.catalog();
    let damages = health.damages.iter().filter_map(|damage| {
        let (topic, partition) = catalog.log(damage.log)?;
        Some(serde_json::json!({
            "topic": topic.name,
            "partition": partition,
            "offset": damage.offset,
            "file": damage.file,
            "position": damage.position,
            "reason": damage.reason,
        }))
    });
    damages.collect()
}
