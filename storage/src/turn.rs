//! One turn for others before a group begins.
//!
//! Where cores are short, those who are about to submit run then, and are taken along: fewer groups, fewer syncs. But who computes
//! for long has a turn as well, and that costs more than it gains. The others are threads where the committing thread commits, and tasks
//! where a runtime does.

use std::time::{Duration, Instant};

/// A turn that took longer than this is the last one for a while.
const LONG_TURN: Duration = Duration::from_millis(1);

/// Whether others have a turn.
#[derive(Debug)]
pub struct Turn {
    pause: Duration,
    not_before: Option<Instant>,
}

impl Turn {
    /// Without any for so long behind a long one.
    pub fn new(pause: Duration) -> Self {
        let not_before = None;
        Self { pause, not_before }
    }

    /// Whether a group may wait for others now.
    pub fn is_due(&self, now: Instant) -> bool {
        self.not_before.is_none_or(|then| then <= now)
    }

    /// Takes note of one.
    pub fn took(&mut self, begun: Instant, ended: Instant) {
        if ended.duration_since(begun) > LONG_TURN {
            self.not_before = Some(ended + self.pause);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSE: Duration = Duration::from_millis(100);

    #[test]
    fn a_long_turn_is_the_last_one_for_a_while() {
        let (mut turn, begun) = (Turn::new(PAUSE), Instant::now());
        assert!(turn.is_due(begun));
        turn.took(begun, begun + LONG_TURN);
        assert!(turn.is_due(begun + LONG_TURN));
        let ended = begun + 2 * LONG_TURN;
        turn.took(begun, ended);
        assert!(!turn.is_due(ended) && !turn.is_due(ended + PAUSE / 2));
        assert!(turn.is_due(ended + PAUSE));
    }
}
