//! The bounds on what all clients together may take: connections, bytes of requests and bytes of responses in memory.

use std::sync::Arc;
use std::time::Duration;

use riverlog_storage::buffers::Buffers as ReadBuffers;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};

use super::buffers::Buffers;
use super::holders::{Holder, Holders};
use super::now_and_then::NowAndThen;
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
    /// A connection that asks nothing for this long, or takes nothing of a large response, is closed; as Kafka's
    /// `connections.max.idle.ms`.
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
            max_pipelined: 128,
        }
    }
}

impl Limits {
    /// One frame never takes more than half of the memory that all of them share.
    pub(super) fn largest_frame(&self) -> usize {
        self.max_frame_bytes.min(self.request_bytes / 2)
    }
}

/// When memory has been short for this long, those who hold it for the slowest clients must give it back.
const SHORTAGE: Duration = Duration::from_millis(100);
/// One answer gets this part of the memory that is free, so that the first ones to ask leave something to the others.
const PART_OF_FREE: usize = 8;
/// When that is less than this, small answers do not wait behind large ones: they have memory of their own…
const SMALL_BYTES: usize = 64 * 1024;
/// …which is this part of all of it. So have small requests.
const PART_FOR_SMALL: usize = 8;
/// Kept buffers may be this part of what requests may have, and as much of what responses may have, and come on top of it.
const PART_FOR_BUFFERS: usize = 8;
/// Reads of the log under way at a time. Each may find a batch that is larger than what was admitted.
const CONCURRENT_READS: usize = 16;

/// Shared by all listeners of a process.
#[derive(Debug)]
pub struct Gate {
    limits: Limits,
    metrics: Metrics,
    connections: Arc<Semaphore>,
    requests: Budget,
    small_requests: Budget,
    responses: Budget,
    small_responses: Budget,
    reads: Arc<Semaphore>,
    buffers: Arc<Buffers>,
    read_buffers: Arc<ReadBuffers>,
    failed_reads: NowAndThen,
    bad_connections: NowAndThen,
}

impl Gate {
    /// A gate with nobody inside.
    pub fn new(limits: Limits, metrics: Metrics) -> Arc<Self> {
        let (requests, small_requests) = Budget::with_small(limits.request_bytes);
        let (responses, small_responses) = Budget::with_small(limits.response_bytes);
        for (name, bytes, large, small) in [
            ("kafka_requests", limits.request_bytes, &requests, &small_requests),
            ("kafka_responses", limits.response_bytes, &responses, &small_responses),
        ] {
            let (large_in_use, small_in_use) = (large.in_use(), small.in_use());
            metrics.watch_memory(name, bytes, move || large_in_use() + small_in_use());
        }
        Arc::new(Self {
            connections: Arc::new(Semaphore::new(limits.max_connections.min(Semaphore::MAX_PERMITS))),
            requests,
            small_requests,
            responses,
            small_responses,
            reads: Arc::new(Semaphore::new(CONCURRENT_READS)),
            buffers: Buffers::new(limits.request_bytes / PART_FOR_BUFFERS),
            read_buffers: ReadBuffers::new(limits.response_bytes / PART_FOR_BUFFERS),
            failed_reads: NowAndThen::default(),
            bad_connections: NowAndThen::default(),
            limits,
            metrics,
        })
    }

    /// With so much or more of it under way, a connection is not read from: as much as there is memory that was used before.
    pub(super) fn pipelined_bytes(&self) -> usize {
        self.limits.request_bytes / PART_FOR_BUFFERS
    }

    /// Memory that responses are read into.
    pub(super) fn read_buffers(&self) -> &Arc<ReadBuffers> {
        &self.read_buffers
    }

    /// Memory of requests that are gone.
    pub(super) fn buffers(&self) -> &Arc<Buffers> {
        &self.buffers
    }

    /// A read has met an error of the disk. Gives how many have, if that is to be logged now.
    pub(super) fn one_more_failed_read(&self) -> Option<u64> {
        self.failed_reads.one_more(std::time::Instant::now())
    }

    /// A connection was closed because of what its client sent. Gives how many were, if that is to be logged now.
    pub(super) fn one_more_bad_connection(&self) -> Option<u64> {
        self.bad_connections.one_more(std::time::Instant::now())
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

    /// For a request that is being received.
    pub(super) fn hold_request(&self, bytes: usize) -> Holder {
        self.requests.holders.enter(bytes)
    }

    /// How much requests that are being received hold.
    #[cfg(test)]
    pub(super) fn request_bytes_held(&self) -> usize {
        self.requests.holders.held_bytes()
    }

    /// How much all requests take, also those that are being answered.
    #[cfg(test)]
    pub(super) fn request_bytes_in_use(&self) -> usize {
        self.requests.in_use()() + self.small_requests.in_use()()
    }

    /// For a response that is being sent.
    pub(super) fn hold_response(&self, bytes: usize) -> Holder {
        self.responses.holders.enter(bytes)
    }

    /// How much of a response of so many bytes there should be room for at the moment, and that room.
    pub(super) async fn admit_part_of_response(&self, bytes: usize) -> (usize, Option<OwnedSemaphorePermit>) {
        let share = self.responses.kibibytes.available_permits() * 1024 / PART_OF_FREE;
        if share >= bytes.min(SMALL_BYTES) {
            let room = bytes.min(share);
            (room, self.responses.take(room).await)
        } else {
            let room = bytes.min(SMALL_BYTES);
            (room, self.small_responses.take(room).await)
        }
    }

    /// Waits for a turn to read from the log.
    pub(super) async fn turn_to_read(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.reads).acquire_owned().await.ok()
    }

    /// For the beginning of a request, or a small one. It does not wait behind large ones.
    pub(super) async fn admit_request(&self, bytes: usize) -> Option<RequestShare> {
        let first = match self.requests.try_take(bytes) {
            Some(permit) => permit,
            None => self.small_requests.take(bytes).await?,
        };
        Some(RequestShare {
            _first: first,
            rest: None,
        })
    }

    /// For more of a request.
    pub(super) async fn admit_more_of_request(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        self.requests.take(bytes).await
    }

    /// Waits until so many bytes of response may be held in memory. Dropping the permit gives them back.
    pub async fn admit_response(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        self.responses.take(bytes).await
    }
}

/// The memory that a request may take. Dropping it gives that back.
#[derive(Debug)]
pub(super) struct RequestShare {
    _first: OwnedSemaphorePermit,
    rest: Option<OwnedSemaphorePermit>,
}

impl RequestShare {
    /// More of what [`Gate::admit_more_of_request`] gave.
    pub(super) fn add(&mut self, more: OwnedSemaphorePermit) {
        match &mut self.rest {
            Some(rest) => rest.merge(more),
            None => self.rest = Some(more),
        }
    }
}

/// Bytes, counted in KiB so that the count fits the semaphore's.
#[derive(Debug)]
struct Budget {
    kibibytes: Arc<Semaphore>,
    total: u32,
    holders: Arc<Holders>,
    /// What slow clients may hold before any of them must go.
    most_bytes: usize,
}

impl Budget {
    /// One for all, and one for what is small. Both are held by the same clients, and count together.
    fn with_small(bytes: usize) -> (Self, Self) {
        let holders = Arc::<Holders>::default();
        let budget = |part: usize| {
            let total = u32::try_from(part / 1024).unwrap_or(u32::MAX).max(1);
            Self {
                kibibytes: Arc::new(Semaphore::new(total as usize)),
                total,
                holders: Arc::clone(&holders),
                most_bytes: bytes / 2,
            }
        };
        let for_small = bytes / PART_FOR_SMALL;
        (budget(bytes - for_small), budget(for_small))
    }

    /// Tells how many bytes are taken.
    fn in_use(&self) -> impl Fn() -> usize + Send + Sync + 'static {
        let (kibibytes, total) = (Arc::clone(&self.kibibytes), self.total as usize);
        move || total.saturating_sub(kibibytes.available_permits()) * 1024
    }

    fn kibibytes_of(&self, bytes: usize) -> u32 {
        u32::try_from(bytes.div_ceil(1024))
            .unwrap_or(u32::MAX)
            .clamp(1, self.total)
    }

    /// None if that would have to wait.
    fn try_take(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.kibibytes)
            .try_acquire_many_owned(self.kibibytes_of(bytes))
            .ok()
    }

    /// None only if the semaphore was closed, which nobody does. One request larger than all of the budget takes all of it.
    async fn take(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let wanted = self.kibibytes_of(bytes);
        let since = Instant::now();
        let mut taken = std::pin::pin!(Arc::clone(&self.kibibytes).acquire_many_owned(wanted));
        loop {
            match timeout(SHORTAGE, taken.as_mut()).await {
                Ok(permit) => return permit.ok(),
                Err(_) => self.holders.cut_slowest(self.most_bytes, since.elapsed()),
            }
        }
    }
}
