//! Time as the storage layer sees it: a wall clock for timestamps, a monotonic one for intervals.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Where time comes from. Tests and the simulation hand in a [`ManualClock`].
pub trait Clock: Send + Sync {
    /// Wall-clock time in milliseconds since the Unix epoch. May jump either way.
    fn now_ms(&self) -> i64;
    /// Milliseconds since some fixed moment. Never goes back; use it for time-outs.
    fn monotonic_ms(&self) -> u64;
}

/// Every [`SystemClock`] of the process counts from the same moment, so their readings compare.
static STARTED: LazyLock<Instant> = LazyLock::new(Instant::now);

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now_ms(&self) -> i64 {
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
            Err(before) => i64::try_from(before.duration().as_millis()).map_or(i64::MIN, |ms| -ms),
        }
    }

    fn monotonic_ms(&self) -> u64 {
        u64::try_from(STARTED.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// A clock that moves only when told to.
#[derive(Debug, Default)]
pub struct ManualClock {
    wall_ms: AtomicI64,
    monotonic_ms: AtomicU64,
}

impl ManualClock {
    /// A clock whose wall time is `wall_ms` and whose monotonic time is 0.
    pub fn new(wall_ms: i64) -> Self {
        Self {
            wall_ms: AtomicI64::new(wall_ms),
            monotonic_ms: AtomicU64::new(0),
        }
    }

    /// Moves both times on.
    pub fn advance_ms(&self, by_ms: u64) {
        let wall = i64::try_from(by_ms).unwrap_or(i64::MAX);
        self.wall_ms.fetch_add(wall, Ordering::SeqCst);
        self.monotonic_ms.fetch_add(by_ms, Ordering::SeqCst);
    }

    /// Lets the wall clock jump, as an administrator or NTP may; monotonic time stays.
    pub fn set_wall_ms(&self, wall_ms: i64) {
        self.wall_ms.store(wall_ms, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now_ms(&self) -> i64 {
        self.wall_ms.load(Ordering::SeqCst)
    }

    fn monotonic_ms(&self) -> u64 {
        self.monotonic_ms.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manual_time_moves_only_when_told() {
        let clock = ManualClock::new(1_000);
        clock.advance_ms(50);
        assert_eq!((clock.now_ms(), clock.monotonic_ms()), (1_050, 50));
        clock.set_wall_ms(10);
        assert_eq!((clock.now_ms(), clock.monotonic_ms()), (10, 50));
    }

    #[test]
    fn system_time_is_plausible() {
        // 2024-01-01; a machine set before that has other problems.
        assert!(SystemClock.now_ms() > 1_704_067_200_000);
        let first = SystemClock.monotonic_ms();
        assert!(SystemClock.monotonic_ms() >= first);
    }
}
