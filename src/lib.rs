//! Riverlog: a durable, Kafka-compatible log broker with exactly-once stream processing beside the log.
//!
//! The code map (see `docs/ARCHITECTURE.md` for the longer one):
//! - [`broker`]: topics, partitions and what a protocol handler may ask for; no sockets.
//! - [`groups`]: consumer groups as pure state machines; no I/O and no clock of their own.
//! - [`kafka`]: the only place that knows Kafka's wire versions.
//! - [`http`]: publish, consume and metrics over HTTP.
//! - [`processing`]: the exactly-once stream processing engine.
//! - [`archive`]: a backup as one stream of bytes.
//! - [`record_json`]: a record as JSON, wherever one is shown.
//! - [`config`], [`telemetry`], [`metrics`], [`shutdown`]: what a process is told, what it tells, and how it ends.
//! - [`server`]: one running process: storage, broker, listeners.
//! - [`cli`]: one file per subcommand of the `riverlog` binary; [`demo`] is the main job.

pub mod archive;
pub mod broker;
pub mod cli;
pub mod config;
pub mod demo;
pub mod embedded;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
pub mod groups;
pub mod http;
pub mod kafka;
pub mod metrics;
pub mod processing;
pub mod record_json;
pub mod server;
pub mod shutdown;
pub mod telemetry;
