//! What a group waits for before it begins, so that it becomes larger: fewer groups, fewer syncs.
//!
//! One turn for others: where cores are short, those who are about to submit run then, and are taken along. But who computes
//! for long has a turn as well, and that costs more than it gains.

use std::time::{Duration, Instant};

/// A turn that took longer than this…
const LONG_TURN: Duration = Duration::from_millis(1);
/// …is the last one for so long.
const PAUSE: Duration = Duration::from_millis(100);

/// Whether others have a turn.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    not_before: Option<Instant>,
}

impl Turn {
    pub fn is_due(&self, now: Instant) -> bool {
        self.not_before.is_none_or(|then| then <= now)
    }

    /// Takes note of one.
    pub fn took(&mut self, begun: Instant, ended: Instant) {
        if ended.duration_since(begun) > LONG_TURN {
            self.not_before = Some(ended + PAUSE);
        }
    }
}

/// How long a large group waits for more, before it is looked at again.
const LOOK_AFTER: Duration = Duration::from_millis(2);
/// So often.
const LOOKS: u32 = 2;
/// So large is large enough.
const ENOUGH_BYTES: u64 = 8 << 20;
/// A wait in which it grew by less than this part of itself was in vain.
const LEAST_GROWTH: u64 = 8;
/// None waits for so long after a wait in vain, twice as long after the next…
const LEAST_PAUSE: Duration = Duration::from_millis(4);
/// …and at most so long.
const MOST_PAUSE: Duration = Duration::from_millis(128);

/// Whether a group waits that will write runs straight to their segments, each with a write and a sync of its own: for a producer
/// in bulk a few milliseconds are nothing, and to write twice as much at a time saves an eighth of the broker's CPU time. But
/// whoever waits for an answer before he sends more is not to wait in vain.
#[derive(Debug, Default)]
pub(crate) struct Patience {
    looks: u32,
    /// What the last look saw.
    bytes: u64,
    /// Of the last wait, if it was in vain.
    pause: Duration,
    not_before: Option<Instant>,
}

impl Patience {
    /// Looks at the bytes of the group, if it is such a one. Says how long to wait before the next look; nothing if the group is to
    /// begin.
    pub fn look(&mut self, bytes: Option<u64>, now: Instant) -> Option<Duration> {
        let looks = std::mem::take(&mut self.looks);
        let bytes = bytes?;
        let in_vain = bytes.saturating_sub(self.bytes) < self.bytes / LEAST_GROWTH;
        match (looks, in_vain) {
            (0, _) => {}
            (_, false) => self.pause = Duration::ZERO,
            (_, true) => {
                self.pause = (self.pause * 2).clamp(LEAST_PAUSE, MOST_PAUSE);
                self.not_before = Some(now + self.pause);
            }
        }
        let is_paused = self.not_before.is_some_and(|then| now < then);
        if looks == LOOKS || bytes >= ENOUGH_BYTES || is_paused {
            return None;
        }
        (self.looks, self.bytes) = (looks + 1, bytes);
        Some(LOOK_AFTER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_turn_is_the_last_one_for_a_while() {
        let (mut turn, begun) = (Turn::default(), Instant::now());
        assert!(turn.is_due(begun));
        turn.took(begun, begun + LONG_TURN);
        assert!(turn.is_due(begun + LONG_TURN));
        let ended = begun + 2 * LONG_TURN;
        turn.took(begun, ended);
        assert!(!turn.is_due(ended) && !turn.is_due(ended + PAUSE / 2));
        assert!(turn.is_due(ended + PAUSE));
    }
    #[test]
    fn a_group_that_grows_waits_twice() {
        let (mut patience, now) = (Patience::default(), Instant::now());
        for _ in 0..2 {
            assert_eq!(patience.look(Some(1_000), now), Some(LOOK_AFTER));
            assert_eq!(patience.look(Some(2_000), now), Some(LOOK_AFTER));
            assert_eq!(patience.look(Some(3_000), now), None);
        }
        assert_eq!(patience.look(Some(ENOUGH_BYTES), now), None);
        assert_eq!(patience.look(None, now), None);
        assert_eq!(patience.look(Some(1_000), now), Some(LOOK_AFTER));
    }

    #[test]
    fn one_that_waits_in_vain_is_the_last_one_for_longer_and_longer() {
        let (mut patience, mut now) = (Patience::default(), Instant::now());
        let mut wait = |bytes, pause| {
            assert_eq!(patience.look(Some(1_000), now), Some(LOOK_AFTER));
            assert_eq!(patience.look(Some(bytes), now), None);
            assert_eq!(patience.look(Some(1_000), now + pause - LOOK_AFTER), None);
            now += pause;
        };
        for pause_ms in [4, 8, 16, 32, 64, 128, 128] {
            wait(1_100, Duration::from_millis(pause_ms));
        }
        assert_eq!(patience.look(Some(1_000), now), Some(LOOK_AFTER));
        assert_eq!(patience.look(Some(2_000), now), Some(LOOK_AFTER));
        assert_eq!(patience.look(Some(2_000), now), None);
        assert_eq!(patience.look(Some(1_000), now + LEAST_PAUSE), Some(LOOK_AFTER));
    }
}
