//! One budget for what request bodies and the answers of reads hold in memory, over all connections.

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
    /// So much of the budget is not for this one.
    left_bytes: usize,
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
            left_bytes: 0,
        }
    }

    /// The same for an answer. However many clients do not read theirs, half of the budget is left for those who publish.
    pub fn reserve_for_answer(&self) -> Reservation {
        let mut held = self.reserve();
        held.left_bytes = self.all_bytes - self.answer_bytes();
        held
    }

    /// What all answers together may hold.
    pub fn answer_bytes(&self) -> usize {
        self.all_bytes / 2
    }
}

impl Reservation {
    /// Refuses what could not be held if nobody else held anything: to come back later would not help.
    pub fn check(&self, bytes: usize) -> Result<(), Problem> {
        let most_bytes = self.memory.all_bytes - self.left_bytes;
        match (bytes > most_bytes, self.left_bytes) {
            (false, _) => Ok(()),
            (true, 0) => Err(Problem::beyond_memory(bytes, most_bytes)),
            (true, _) => Err(Problem::answer_too_large(bytes, most_bytes)),
        }
    }

    /// Takes what is missing to hold `bytes`. Never gives anything back.
    pub fn grow_to(&mut self, bytes: usize) -> Result<(), Problem> {
        self.check(bytes)?;
        let more = bytes.saturating_sub(self.bytes);
        let take = |free: usize| free.checked_sub(more).filter(|free| *free >= self.left_bytes);
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
                "the server holds as many bytes of requests and answers as it may; send the request again a little later",
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

    #[test]
    fn answers_leave_half_of_it_to_requests() {
        let memory = Memory::new(100);
        let mut answers = [memory.reserve_for_answer(), memory.reserve_for_answer()];
        answers[0].grow_to(30).unwrap();
        let refused = answers[1].grow_to(21).unwrap_err().status();
        assert_eq!(refused, StatusCode::SERVICE_UNAVAILABLE);
        answers[1].grow_to(20).unwrap();
        let refused = answers[1].grow_to(51).unwrap_err().status();
        assert_eq!(refused, StatusCode::INSUFFICIENT_STORAGE);
        memory.reserve().grow_to(50).unwrap();
        drop(answers);
        memory.reserve().grow_to(100).unwrap();
    }
}
