//! The budget for what request bodies and answers with records hold in memory, over all connections.
//!
//! Bodies have one half of it and answers the other, of which a part is for small ones: large answers that nobody reads refuse
//! nothing to those who publish, and no small answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::problem::Problem;
use crate::metrics::Metrics;

/// Small answers have this part of the whole budget for themselves…
const PART_FOR_SMALL: usize = 8;
/// …and are not larger than this.
const SMALL_BYTES: usize = 64 << 10;

/// Bytes that may still be taken. A request that finds too few is refused and told to come back: waiting here
/// would let requests that hold some bytes each wait for one another.
#[derive(Clone, Debug)]
pub struct Memory {
    bodies: Part,
    answers: Part,
    small_answers: Part,
}

#[derive(Clone, Debug)]
struct Part {
    free_bytes: Arc<AtomicUsize>,
    all_bytes: usize,
}

/// Bytes taken from a [`Memory`], given back when dropped.
#[derive(Debug)]
pub struct Reservation {
    part: Part,
    bytes: usize,
}

impl Memory {
    /// A budget of `bytes`.
    pub fn new(bytes: usize) -> Self {
        let (for_bodies, for_small) = (bytes / 2, bytes / PART_FOR_SMALL);
        Self {
            bodies: Part::new(for_bodies),
            answers: Part::new(bytes - for_bodies - for_small),
            small_answers: Part::new(for_small),
        }
    }

    /// Shows how many bytes of each part are taken.
    pub fn watch(&self, metrics: &Metrics) {
        for (holder, parts) in [
            ("http_bodies", vec![self.bodies.clone()]),
            ("http_answers", vec![self.answers.clone(), self.small_answers.clone()]),
        ] {
            let all_bytes = parts.iter().map(|part| part.all_bytes).sum();
            metrics.watch_memory(holder, all_bytes, move || parts.iter().map(Part::in_use).sum());
        }
    }

    /// How many bytes are taken.
    #[cfg(test)]
    pub(super) fn in_use(&self) -> usize {
        self.bodies.in_use() + self.answers.in_use() + self.small_answers.in_use()
    }

    /// A reservation for a body that holds nothing yet.
    pub fn hold_body(&self) -> Reservation {
        self.bodies.reserve()
    }

    /// What all bodies may hold together.
    pub fn most_body_bytes(&self) -> usize {
        self.bodies.all_bytes
    }

    /// What an answer holds until its client has read it.
    ///
    /// # Errors
    /// When there are too few bytes at the moment, or would be if nobody held any.
    pub fn hold_answer(&self, bytes: usize) -> Result<Reservation, Problem> {
        if bytes > self.answers.all_bytes {
            return Err(Problem::answer_too_large(bytes, self.answers.all_bytes));
        }
        let small = (bytes <= SMALL_BYTES).then_some(&self.small_answers);
        let mut parts = [Some(&self.answers), small].into_iter().flatten();
        parts.find_map(|part| part.take(bytes)).ok_or_else(busy)
    }

    /// What all answers that are not small may hold together, and so the most that one may.
    pub fn most_answer_bytes(&self) -> usize {
        self.answers.all_bytes
    }
}

impl Part {
    fn new(bytes: usize) -> Self {
        Self {
            free_bytes: Arc::new(AtomicUsize::new(bytes)),
            all_bytes: bytes,
        }
    }

    fn in_use(&self) -> usize {
        self.all_bytes.saturating_sub(self.free_bytes.load(Ordering::Acquire))
    }

    fn reserve(&self) -> Reservation {
        Reservation {
            part: self.clone(),
            bytes: 0,
        }
    }

    fn take(&self, bytes: usize) -> Option<Reservation> {
        let mut held = self.reserve();
        held.take(bytes).then_some(held)
    }
}

impl Reservation {
    /// Refuses what could not be held if nobody else held anything: to come back later would not help.
    pub fn check(&self, bytes: usize) -> Result<(), Problem> {
        match bytes > self.part.all_bytes {
            true => Err(Problem::beyond_memory(bytes, self.part.all_bytes)),
            false => Ok(()),
        }
    }

    /// Takes what is missing to hold `bytes`. Never gives anything back.
    pub fn grow_to(&mut self, bytes: usize) -> Result<(), Problem> {
        self.check(bytes)?;
        match self.take(bytes.saturating_sub(self.bytes)) {
            true => Ok(()),
            false => Err(busy()),
        }
    }

    /// A part of it, at most all, for somebody who gives it back at another time.
    pub fn split(&mut self, bytes: usize) -> Self {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        let part = self.part.clone();
        Self { part, bytes }
    }

    fn take(&mut self, more: usize) -> bool {
        let free = &self.part.free_bytes;
        let is_taken = free
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |free| free.checked_sub(more))
            .is_ok();
        if is_taken {
            self.bytes += more;
        }
        is_taken
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.part.free_bytes.fetch_add(self.bytes, Ordering::AcqRel);
    }
}

fn busy() -> Problem {
    Problem::busy(
        "the server holds as many bytes of requests or answers as it may; send the request again a little later",
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use axum::http::StatusCode;

    use super::*;

    #[test]
    fn what_is_taken_comes_back_and_no_more_is_given_than_there_is() {
        let memory = Memory::new(200);
        let mut first = memory.hold_body();
        first.grow_to(60).unwrap();
        first.grow_to(50).unwrap();
        let mut second = memory.hold_body();
        assert_eq!(
            second.grow_to(41).unwrap_err().status(),
            StatusCode::SERVICE_UNAVAILABLE
        );
        assert_eq!(second.grow_to(101).unwrap_err().status(), StatusCode::PAYLOAD_TOO_LARGE);
        second.grow_to(40).unwrap();
        drop(first);
        second.grow_to(100).unwrap();
        assert_eq!(memory.in_use(), 100);
        drop(second);
        assert_eq!(memory.in_use(), 0);
    }

    #[test]
    fn bodies_large_answers_and_small_ones_leave_each_other_alone() {
        let memory = Memory::new(8 << 20);
        let refused = |bytes| memory.hold_answer(bytes).unwrap_err().status();
        assert_eq!(refused((3 << 20) + 1), StatusCode::INSUFFICIENT_STORAGE);
        let mut body = memory.hold_body();
        body.grow_to(4 << 20).unwrap();
        let large = memory.hold_answer(3 << 20).unwrap();
        assert_eq!(refused(SMALL_BYTES + 1), StatusCode::SERVICE_UNAVAILABLE);
        let small: Vec<_> = (0..16).map(|_| memory.hold_answer(SMALL_BYTES).unwrap()).collect();
        assert_eq!(refused(1), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(memory.in_use(), 8 << 20);
        drop((body, large, small));
        assert_eq!(memory.in_use(), 0);
    }
}
