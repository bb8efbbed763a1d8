//! One budget for what request bodies hold in memory, over all connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::problem::Problem;

/// Bytes that may still be taken. A request that finds too few is refused and told to come back: waiting here
/// would let requests that hold some bytes each wait for one another.
#[derive(Clone, Debug)]
pub struct Memory {
    free_bytes: Arc<AtomicUsize>,
    all_bytes: usize,
}

/// Bytes taken from a [`Memory`], given back when dropped.
#[derive(Debug)]
pub struct Reservation {
    memory: Memory,
    bytes: usize,
}

impl Memory {
    /// A budget of `bytes`.
    pub fn new(bytes: usize) -> Self {
        Self {
            free_bytes: Arc::new(AtomicUsize::new(bytes)),
            all_bytes: bytes,
        }
    }

    /// Tells how many bytes are taken.
    pub fn in_use(&self) -> impl Fn() -> usize + Send + Sync + 'static {
        let Self { free_bytes, all_bytes } = self.clone();
        move || all_bytes.saturating_sub(free_bytes.load(Ordering::Acquire))
    }

    /// A reservation that holds nothing yet.
    pub fn reserve(&self) -> Reservation {
        Reservation {
            memory: self.clone(),
            bytes: 0,
        }
    }
}

impl Reservation {
    /// Refuses what could not be held if nobody else held anything: to come back later would not help.
    pub fn check(&self, bytes: usize) -> Result<(), Problem> {
        match bytes > self.memory.all_bytes {
            true => Err(Problem::beyond_memory(bytes, self.memory.all_bytes)),
            false => Ok(()),
        }
    }

    /// Takes what is missing to hold `bytes`. Never gives anything back.
    pub fn grow_to(&mut self, bytes: usize) -> Result<(), Problem> {
        self.check(bytes)?;
        let more = bytes.saturating_sub(self.bytes);
        let take = |free: usize| free.checked_sub(more);
        match self
            .memory
            .free_bytes
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, take)
        {
            Ok(_) => {
                self.bytes += more;
                Ok(())
            }
            Err(_) => Err(Problem::busy(
                "the server holds as many request bytes as it may; send the request again a little later",
            )),
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.memory.free_bytes.fetch_add(self.bytes, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use axum::http::StatusCode;

    use super::*;

    #[test]
    fn what_is_taken_comes_back_and_no_more_is_given_than_there_is() {
        let memory = Memory::new(100);
        let mut first = memory.reserve();
        first.grow_to(60).unwrap();
        first.grow_to(50).unwrap();
        let mut second = memory.reserve();
        assert_eq!(
            second.grow_to(41).unwrap_err().status(),
            StatusCode::SERVICE_UNAVAILABLE
        );
        assert_eq!(second.grow_to(101).unwrap_err().status(), StatusCode::PAYLOAD_TOO_LARGE);
        second.grow_to(40).unwrap();
        drop(first);
        second.grow_to(100).unwrap();
        drop(second);
        assert_eq!(memory.free_bytes.load(Ordering::Acquire), 100);
    }
}
