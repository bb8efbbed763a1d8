//! What clients can make happen as often as they like is logged now and then.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

const PAUSE: Duration = Duration::from_secs(10);

/// Something of one kind that happens, and when it was told last.
#[derive(Debug, Default)]
pub(super) struct NowAndThen(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    count: u64,
    told: Option<Instant>,
}

impl NowAndThen {
    /// Gives how often it has happened since it was told last, if it is time to tell.
    pub(super) fn one_more(&self, now: Instant) -> Option<u64> {
        let mut state = self.0.lock();
        state.count += 1;
        if state.told.is_some_and(|told| now < told + PAUSE) {
            return None;
        }
        state.told = Some(now);
        Some(std::mem::take(&mut state.count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_told_now_and_then() {
        let (refused, start) = (NowAndThen::default(), Instant::now());
        assert_eq!(refused.one_more(start), Some(1));
        for _ in 0..100 {
            assert_eq!(refused.one_more(start + PAUSE / 2), None);
        }
        assert_eq!(refused.one_more(start + PAUSE), Some(101));
    }
}
