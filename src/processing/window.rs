//! Windows over event time, and the processor that aggregates by them.
//!
//! A window is closed once: when the watermark says that nothing more is expected for it, grace included. Then its result is
//! emitted, and its accumulator forgotten, in the same epoch. A record that comes after is late.

use std::{marker::PhantomData, time::Duration};

use serde::{Serialize, de::DeserializeOwned};

use super::{
    processor::{Context, Operator, ProcessError, Processor},
    state::{MapState, SubKey},
    timer::{Timer, TimerKind},
};

/// One window: from `start_ms`, inclusive, to `end_ms`, exclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Window {
    /// The first millisecond inside.
    pub start_ms: i64,
    /// The first millisecond behind.
    pub end_ms: i64,
}

impl Window {
    /// When the window closes: at the watermark that says that its last millisecond, plus grace, has passed.
    pub fn closes_at_ms(&self, grace_ms: i64) -> i64 {
        self.end_ms.saturating_sub(1).saturating_add(grace_ms)
    }
}

/// How event times are cut into windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Windows {
    size_ms: i64,
    hop_ms: i64,
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// The most windows that one record may fall into.
const MAX_WINDOWS_PER_RECORD: i64 = 10_000;

impl Windows {
    /// Windows of one size that touch and do not overlap, aligned to the epoch (UTC).
    pub fn tumbling(size: Duration) -> Self {
        Self::hopping(size, size)
    }

    /// Windows of one size that begin every `hop`.
    pub fn hopping(size: Duration, hop: Duration) -> Self {
        let size_ms = millis(size).clamp(1, i64::MAX / 4);
        // More overlap than this is a mistake, and must not become an endless loop.
        let hop_ms = millis(hop).clamp((size_ms / MAX_WINDOWS_PER_RECORD).max(1), i64::MAX / 4);
        Self { size_ms, hop_ms }
    }

    /// The windows that hold this time, earliest first.
    pub fn assign(&self, time_ms: i64) -> impl Iterator<Item = Window> + use<> {
        let Self { size_ms, hop_ms } = *self;
        // Times near the ends of i64 are no times; they fall into the outermost window that can be written.
        let time_ms = time_ms.clamp(i64::MIN / 4, i64::MAX / 4);
        let last_start = time_ms.div_euclid(hop_ms) * hop_ms;
        let windows = if last_start + size_ms > time_ms {
            (size_ms - (time_ms - last_start) - 1) / hop_ms + 1
        } else {
            0
        };
        (0..windows).rev().map(move |back| {
            let start_ms = last_start - back * hop_ms;
            Window {
                start_ms,
                end_ms: start_ms + size_ms,
            }
        })
    }

    fn at(&self, start_ms: i64) -> Window {
        Window {
            start_ms,
            end_ms: start_ms.saturating_add(self.size_ms),
        }
    }
}

const WINDOW: &str = "window";

/// Aggregates each key's events by window. Built with [`Keyed::window`](super::job::Keyed::window).
pub struct Windowed<E, A, Add, Close> {
    windows: Windows,
    grace_ms: i64,
    version: u32,
    accumulators: MapState<i64, A>,
    add: Add,
    close: Close,
    event: PhantomData<fn(E)>,
}

impl<E, A, Add, Close> Windowed<E, A, Add, Close>
where
    A: Serialize + DeserializeOwned,
{
    pub(super) fn new(windows: Windows, grace: Duration, version: u32, add: Add, close: Close) -> Self {
        let accumulators = MapState::new(WINDOW);
        Self {
            windows,
            grace_ms: millis(grace),
            version,
            accumulators,
            add,
            close,
            event: PhantomData,
        }
    }
}

impl<E, A, Add, Close> Processor for Windowed<E, A, Add, Close>
where
    E: 'static,
    A: Serialize + DeserializeOwned + Default + 'static,
    Add: Fn(&mut A, &E) + Send + Sync + 'static,
    Close: Fn(Window, A, &mut Context<'_>) -> Result<(), ProcessError> + Send + Sync + 'static,
{
    type Event = E;

    fn process(&self, event: E, ctx: &mut Context<'_>) -> Result<(), ProcessError> {
        let mut taken = false;
        for window in self.windows.assign(ctx.time_ms()) {
            let closes_at_ms = window.closes_at_ms(self.grace_ms);
            if closes_at_ms <= ctx.watermark_ms() {
                continue;
            }
            taken = true;
            let accumulator = self.accumulators.get(ctx, &window.start_ms)?;
            if accumulator.is_none() {
                let mut payload = Vec::new();
                window.start_ms.write(&mut payload);
                ctx.set_timer(TimerKind::Event, WINDOW, closes_at_ms, &payload);
            }
            let mut accumulator = accumulator.unwrap_or_default();
            (self.add)(&mut accumulator, &event);
            self.accumulators.put(ctx, &window.start_ms, &accumulator)?;
        }
        if !taken {
            ctx.late();
        }
        Ok(())
    }

    fn on_timer(&self, timer: &Timer, ctx: &mut Context<'_>) -> Result<(), ProcessError> {
        let start_ms = i64::read(&timer.payload)
            .filter(|_| timer.name == WINDOW)
            .ok_or_else(|| ProcessError::Fatal(format!("no part of this job handles timer '{}'", timer.name)))?;
        let Some(accumulator) = self.accumulators.get(ctx, &start_ms)? else {
            return Err(ProcessError::Fatal(format!(
                "the window at {start_ms} closes and has no accumulator"
            )));
        };
        self.accumulators.remove(ctx, &start_ms);
        (self.close)(self.windows.at(start_ms), accumulator, ctx)
    }

    fn operators(&self) -> Vec<Operator> {
        let Self {
            windows: Windows { size_ms, hop_ms },
            grace_ms,
            version,
            ..
        } = self;
        let fingerprint = format!("window size {size_ms} ms, hop {hop_ms} ms, grace {grace_ms} ms, version {version}");
        vec![Operator {
            name: WINDOW.into(),
            fingerprint,
        }]
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn starts(windows: Windows, time_ms: i64) -> Vec<i64> {
        windows.assign(time_ms).map(|window| window.start_ms).collect()
    }

    #[test]
    fn tumbling_windows_touch() {
        let windows = Windows::tumbling(Duration::from_millis(10));
        assert_eq!(starts(windows, 0), [0]);
        assert_eq!(starts(windows, 9), [0]);
        assert_eq!(starts(windows, 10), [10]);
        assert_eq!(starts(windows, -1), [-10], "before 1970 too");
        assert_eq!(windows.at(10).closes_at_ms(0), 19);
    }

    #[test]
    fn hopping_windows_overlap_or_leave_gaps() {
        let overlapping = Windows::hopping(Duration::from_millis(10), Duration::from_millis(4));
        assert_eq!(starts(overlapping, 9), [0, 4, 8]);
        assert_eq!(starts(overlapping, 10), [4, 8]);
        let gaps = Windows::hopping(Duration::from_millis(4), Duration::from_millis(10));
        assert_eq!(starts(gaps, 13), [10]);
        assert_eq!(starts(gaps, 14), [0; 0]);
    }

    proptest::proptest! {
        #[test]
        fn every_window_of_a_time_holds_it(size in 1u64..1_000, hop in 1u64..1_000, time: i64) {
            let windows = Windows::hopping(Duration::from_millis(size), Duration::from_millis(hop));
            let time = time.clamp(i64::MIN / 4, i64::MAX / 4);
            let found: Vec<_> = windows.assign(time).collect();
            proptest::prop_assert!(found.iter().all(|w| w.start_ms <= time && time < w.end_ms));
            proptest::prop_assert!(found.is_sorted());
            let expected = (0..size as i64).filter(|back| (time - back).rem_euclid(hop as i64) == 0).count();
            proptest::prop_assert_eq!(found.len(), expected);
        }
    }
}
