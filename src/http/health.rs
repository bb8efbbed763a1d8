//! Whether the process lives, and whether it is of use.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;

use super::problem::Problem;
use super::{Http, json};

/// `GET /healthz`: the process answers. Restart it when it does not.
pub async fn healthz() -> &'static str {
    "ok\n"
}

/// `GET /readyz`: records are accepted, and every partition and every group is served.
///
/// # Errors
/// A problem document with all reasons why not.
pub async fn readyz(State(http): State<Arc<Http>>) -> Result<Response, Problem> {
    let reasons = reasons(&http);
    if reasons.is_empty() {
        return Ok(json(&serde_json::json!({"ready": true})));
    }
    let detail = reasons.join("; ");
    Err(Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "not-ready",
        "The server is not ready",
        detail,
    )
    .with("reasons", reasons))
}

fn reasons(http: &Http) -> Vec<String> {
    let health = http.broker.storage().health();
    let mut reasons = Vec::new();
    if http.shutdown.is_requested() {
        reasons.push("the server is shutting down".to_owned());
    }
    if let Some(reason) = health.poisoned {
        reasons.push(format!(
            "a write to the disk failed ({reason}); nothing is accepted until a restart, which recovers"
        ));
    }
    let catalog = http.broker.catalog();
    reasons.extend(health.fences.iter().map(|fence| match catalog.log(fence.log) {
        Some((topic, partition)) => format!("partition {partition} of {} is fenced: {}", topic.name, fence.reason()),
        None => format!("log {} is fenced: {}", fence.log, fence.reason()),
    }));
    reasons.extend(http.broker.groups().troubles());
    reasons
}
