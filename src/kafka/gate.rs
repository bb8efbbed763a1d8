//! The bounds on what all clients together may take: connections, bytes of requests and bytes of responses in memory.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::metrics::Metrics;

/// The bounds. Sizes are in bytes.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections of all listeners together; one more is closed at once.
    pub max_connections: usize,
    /// The largest request; as Kafka's `socket.request.max.bytes`.
    pub max_frame_bytes: usize,
    /// Requests that have been read, or are being read, and are not answered yet. Beyond this nobody is read from.
    pub request_bytes: usize,
    /// Records read for responses that are not sent yet. Beyond this fetches wait.
    pub response_bytes: usize,
    /// A connection that asks nothing for this long is closed; as Kafka's `connections.max.idle.ms`.
    pub idle_timeout: Duration,
    /// Produce requests of one connection that may be under way at once.
    pub max_pipelined: usize,
}

impl Default for Limits {
    fn default() -> Self {
        const MIB: usize = 1024 * 1024;
        Self {
            max_connections: 20_000,
            max_frame_bytes: 100 * MIB,
            request_bytes: 256 * MIB,
            response_bytes: 256 * MIB,
            idle_timeout: Duration::from_secs(600),
            max_pipelined: 64,
        }
    }
}

impl Limits {
    /// One frame never takes more than half of the memory that all of them share.
    pub(super) fn largest_frame(&self) -> usize {
        self.max_frame_bytes.min(self.request_bytes / 2)
    }
}

/// Shared by all listeners of a process.
#[derive(Debug)]
pub struct Gate {
    limits: Limits,
    metrics: Metrics,
    connections: Arc<Semaphore>,
    requests: Budget,
    responses: Budget,
}

impl Gate {
    /// A gate with nobody inside.
    pub fn new(limits: Limits, metrics: Metrics) -> Arc<Self> {
        Arc::new(Self {
            connections: Arc::new(Semaphore::new(limits.max_connections.min(Semaphore::MAX_PERMITS))),
            requests: Budget::new(limits.request_bytes),
            responses: Budget::new(limits.response_bytes),
            limits,
            metrics,
        })
    }

    /// The bounds.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// What is counted.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    pub(super) fn admit_connection(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.connections).try_acquire_owned().ok()
    }

    pub(super) async fn admit_request(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        self.requests.take(bytes).await
    }

    /// Waits until so many bytes of response may be held in memory. Dropping the permit gives them back.
    pub async fn admit_response(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        self.responses.take(bytes).await
    }
}

/// Bytes, counted in KiB so that the count fits the semaphore's.
#[derive(Debug)]
struct Budget {
    kibibytes: Arc<Semaphore>,
    total: u32,
}

impl Budget {
    fn new(bytes: usize) -> Self {
        let total = u32::try_from(bytes / 1024).unwrap_or(u32::MAX).max(1);
        Self {
            kibibytes: Arc::new(Semaphore::new(total as usize)),
            total,
        }
    }

    /// None only if the semaphore was closed, which nobody does. One request larger than all of the budget takes all of it.
    async fn take(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let wanted = u32::try_from(bytes.div_ceil(1024))
            .unwrap_or(u32::MAX)
            .clamp(1, self.total);
        Arc::clone(&self.kibibytes).acquire_many_owned(wanted).await.ok()
    }
}
