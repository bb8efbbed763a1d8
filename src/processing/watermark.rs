//! Watermarks: how far event time has come, and who may hold it back.
//!
//! A watermark of `t` says that no record with a time of `t` or earlier is expected any more. Every input partition
//! has one, `largest time seen - allowed disorder - 1`; the job's is the lowest among the partitions that are not idle, and it never
//! goes back. A partition is *idle* when it has been read to its end for the time-out, never because we did not get
//! around to reading it. When all are idle the watermark stands. This file knows no clock and no log.

/// Before any record: nothing is known about event time.
pub const NO_WATERMARK_MS: i64 = i64::MIN;

/// The watermark of one input partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionWatermark {
    watermark_ms: i64,
    max_disorder_ms: i64,
}

impl PartitionWatermark {
    /// Starts at `watermark_ms` (as restored, or [`NO_WATERMARK_MS`]).
    pub fn new(watermark_ms: i64, max_disorder_ms: i64) -> Self {
        Self {
            watermark_ms,
            max_disorder_ms: max_disorder_ms.max(0),
        }
    }

    /// A record of this event time was read.
    pub fn observe(&mut self, time_ms: i64) {
        let bound = time_ms.saturating_sub(self.max_disorder_ms).saturating_sub(1);
        self.watermark_ms = self.watermark_ms.max(bound);
    }

    /// The source itself says that nothing up to `time_ms` follows.
    pub fn declare(&mut self, time_ms: i64) {
        self.watermark_ms = self.watermark_ms.max(time_ms);
    }

    /// The watermark.
    pub fn get(&self) -> i64 {
        self.watermark_ms
    }
}

/// The job's watermark after an epoch, from its watermark before and (watermark, idle) of every partition.
pub fn combine(before_ms: i64, partitions: impl IntoIterator<Item = (i64, bool)>) -> i64 {
    let lowest = partitions
        .into_iter()
        .filter(|(_, idle)| !idle)
        .map(|(watermark, _)| watermark)
        .min();
    lowest.map_or(before_ms, |lowest| lowest.max(before_ms))
}

/// Since when a partition has been read to its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IdleClock {
    at_end_since_ms: Option<u64>,
}

impl IdleClock {
    /// Tells where reading stands against the end of the log, at a monotonic time.
    pub fn observe(&mut self, at_end: bool, monotonic_ms: u64) {
        self.at_end_since_ms = at_end.then(|| self.at_end_since_ms.unwrap_or(monotonic_ms));
    }

    /// Whether the partition is idle at a monotonic time. No time-out: never.
    pub fn is_idle(&self, monotonic_ms: u64, timeout_ms: Option<u64>) -> bool {
        self.idle_at(timeout_ms).is_some_and(|at| monotonic_ms >= at)
    }

    /// When the partition becomes idle if nothing arrives.
    pub fn idle_at(&self, timeout_ms: Option<u64>) -> Option<u64> {
        Some(self.at_end_since_ms?.saturating_add(timeout_ms?))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn disorder_within_the_bound_is_not_late() {
        let mut partition = PartitionWatermark::new(NO_WATERMARK_MS, 10);
        partition.observe(100);
        assert_eq!(partition.get(), 89);
        partition.observe(90);
        assert_eq!(partition.get(), 89, "a watermark never goes back");
        partition.declare(500);
        assert_eq!(partition.get(), 500);
        partition.observe(i64::MIN);
        assert_eq!(partition.get(), 500);
    }

    #[test]
    fn the_slowest_partition_that_is_not_idle_counts() {
        assert_eq!(combine(5, [(20, false), (10, false)]), 10);
        assert_eq!(combine(5, [(20, false), (10, true)]), 20);
        assert_eq!(combine(5, [(20, true), (10, true)]), 5, "all idle: it stands");
        assert_eq!(
            combine(15, [(20, false), (NO_WATERMARK_MS, false)]),
            15,
            "it never goes back"
        );
        assert_eq!(combine(5, []), 5);
    }

    #[test]
    fn idle_is_time_spent_at_the_end() {
        let mut clock = IdleClock::default();
        assert!(!clock.is_idle(1_000, Some(0)), "never polled is not idle");
        clock.observe(true, 100);
        clock.observe(true, 150);
        assert!(!clock.is_idle(149, Some(50)));
        assert!(clock.is_idle(150, Some(50)));
        assert!(!clock.is_idle(u64::MAX, None));
        clock.observe(false, 200);
        clock.observe(true, 210);
        assert_eq!(clock.idle_at(Some(50)), Some(260), "a record starts the time-out again");
    }
}
