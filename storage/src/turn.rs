//! One turn for others before a group begins.
//!
//! Where cores are short, those who are about to submit run then, and are taken along: fewer groups, fewer syncs. But who computes
//! for long has a turn as well, and that costs more than it gains. The others are threads where the committing thread commits, and tasks
//! where a runtime does.

use std::time::{Duration, Instant};

/// Whether others have a turn.
#[derive(Debug)]
pub struct Turn {
    long: Duration,
    pause: Duration,
    not_before: Option<Instant>,
}

impl Turn {
    /// Behind one that took longer than `long` there is none for a `pause`.
    pub fn new(long: Duration, pause: Duration) -> Self {
        let not_before = None;
        Self {
            long,
            pause,
            not_before,
        }
    }

    /// Whether a group may wait for others now.
    pub fn is_due(&self, now: Instant) -> bool {
        self.not_before.is_none_or(|then| then <= now)
    }

    /// Takes note of one that took so long, and ended now.
    pub fn took(&mut self, took: Duration, now: Instant) {
        if took > self.long {
            self.not_before = Some(now + self.pause);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_millis(1);
    const PAUSE: Duration = Duration::from_millis(100);

    #[test]
    fn a_long_turn_is_the_last_one_for_a_while() {
        let (mut turn, ended) = (Turn::new(LONG, PAUSE), Instant::now());
        assert!(turn.is_due(ended));
        turn.took(LONG, ended);
        assert!(turn.is_due(ended));
        turn.took(2 * LONG, ended);
        assert!(!turn.is_due(ended) && !turn.is_due(ended + PAUSE / 2));
        assert!(turn.is_due(ended + PAUSE));
    }
}
