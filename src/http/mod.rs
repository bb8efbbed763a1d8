//! HTTP: publish, read back, health and metrics. A thin translator onto the broker.
//!
//! - [`publish`]: `POST /topics/{topic}/records`. - [`read`]: `GET` of the same, answered with a [`page`].
//! - [`backup`]: `/backup`. - [`topics`]: what topics there are. - [`health`]: `/healthz`, `/readyz`. - [`metrics`]: `/metrics`.
//! - [`problem`]: errors as documents. - `connection`: the accept loop and its bounds.

pub mod backup;
mod body;
mod connection;
mod errors;
pub mod health;
mod memory;
pub mod metrics;
mod page;
pub mod problem;
pub mod publish;
pub mod read;
mod stall;
pub mod topics;

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{Method, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use riverlog_storage::Topic;
use tokio::task::JoinHandle;

pub use connection::serve;
use memory::{Memory, Reservation};
use page::Turns;
use problem::Problem;
use publish::record::Publish;

use crate::broker::Broker;
use crate::broker::append::Position;
use crate::config::HttpLimits;
use crate::metrics::Metrics;
use crate::shutdown::Token;

/// What the handlers share.
pub struct Http {
    broker: Arc<Broker>,
    metrics: Metrics,
    limits: HttpLimits,
    memory: Memory,
    page_turns: Turns,
    shutdown: Token,
}

impl Http {
    /// The HTTP side of a broker.
    pub fn new(broker: Arc<Broker>, metrics: Metrics, limits: HttpLimits, shutdown: Token) -> Arc<Self> {
        let memory = Memory::new(limits.memory_bytes);
        memory.watch(&metrics);
        Arc::new(Self {
            broker,
            metrics,
            limits,
            memory,
            page_turns: Turns::default(),
            shutdown,
        })
    }

    /// The wall clock that records are stamped with.
    fn now_ms(&self) -> i64 {
        self.broker.storage().clock().now_ms()
    }

    /// Appends records in one write set: all of them or none. Ends when they are durable or refused, also if nobody waits for
    /// that any more: what they hold is given back then, and not when their client hangs up.
    fn append(
        self: &Arc<Self>,
        topic: Arc<Topic>,
        records: Vec<Publish>,
        bytes: usize,
        held: Reservation,
    ) -> Appending {
        let http = Arc::clone(self);
        Appending(tokio::spawn(async move {
            let _held = held;
            let records = records
                .into_iter()
                .map(|Publish { partition, record }| (partition, record))
                .collect();
            let positions = http.broker.publish(&topic, records).await?;
            http.metrics.http.records_in.inc_by(positions.len() as u64);
            http.metrics.http.bytes_in.inc_by(bytes as u64);
            Ok(positions)
        }))
    }
}

/// Records on their way to the disk.
struct Appending(JoinHandle<Result<Vec<Position>, Problem>>);

impl Appending {
    /// Their places. May be dropped and called again until it has answered.
    async fn wait(&mut self) -> Result<Vec<Position>, Problem> {
        let ended_early = |error| Problem::internal(format!("the append ended early: {error}"));
        (&mut self.0).await.map_err(ended_early)?
    }
}

/// The routes.
pub fn router(http: Arc<Http>) -> Router {
    Router::new()
        .route("/topics", get(topics::list))
        .route("/topics/{topic}", get(topics::describe))
        .route("/topics/{topic}/records", get(read::read).post(publish::publish))
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(metrics::metrics))
        // Nobody who only looks shall begin one.
        .route(
            "/backup",
            get(backup::backup).head(backup::only_get).fallback(backup::only_get),
        )
        .fallback(async |uri: Uri| Problem::not_found(format!("there is nothing at {}", uri.path())))
        .method_not_allowed_fallback(async || Problem::method_not_allowed())
        // Bodies have bounds of their own, with answers that say more.
        .layer(DefaultBodyLimit::disable())
        .layer(axum::middleware::from_fn_with_state(Arc::clone(&http), observe))
        .layer(axum::middleware::from_fn(problem::render))
        .with_state(http)
}

/// Counts what was answered, and keeps other web sites from using a visitor's browser against a server on their
/// own machine: a browser says when a request comes from a page of elsewhere.
async fn observe(State(http): State<Arc<Http>>, request: Request, next: Next) -> Response {
    let route = route(request.method(), request.uri().path());
    // A backup is a load, also for one that may not see it.
    let harmless = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS) && route != "backup";
    let site = request.headers().get("sec-fetch-site").map(|site| site.as_bytes());
    let response = if !harmless && matches!(site, Some(b"cross-site" | b"same-site")) {
        Problem::cross_site().into_response()
    } else {
        next.run(request).await
    };
    http.metrics.http_request(route, response.status().as_u16());
    response
}

/// The name of a route in the metrics; a fixed set, whatever clients ask for.
fn route(method: &Method, path: &str) -> &'static str {
    match path {
        "/healthz" | "/readyz" => "health",
        "/metrics" => "metrics",
        "/backup" => "backup",
        _ if path.starts_with("/topics") && path.ends_with("/records") => match *method {
            Method::POST => "publish",
            _ => "read",
        },
        _ if path.starts_with("/topics") => "topics",
        _ => "other",
    }
}

/// A JSON answer. The newline is for people with a terminal.
fn json(value: &impl serde::Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(mut text) => {
            text.push(b'\n');
            ([(header::CONTENT_TYPE, "application/json")], text).into_response()
        }
        Err(error) => Problem::internal(format!("the answer cannot be written as JSON: {error}")).into_response(),
    }
}

#[cfg(test)]
mod backup_tests;
#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod tests;
