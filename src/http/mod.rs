//! HTTP: publish, read back, health and metrics. A thin translator onto the broker.

mod connection;
pub mod problem;
pub mod publish;
mod stall;

use axum::Router;
use axum::http::Uri;
use axum::routing::get;

pub use connection::serve;
use problem::Problem;

/// The routes.
pub fn router() -> Router {
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .fallback(async |uri: Uri| Problem::not_found(format!("there is nothing at {}", uri.path())))
        .method_not_allowed_fallback(async || Problem::method_not_allowed())
        .layer(axum::middleware::from_fn(problem::render))
}
