//! Timers: promises of a key to be called again, in event time or in processing time.
//!
//! A timer belongs to the job's state: it is restored with it, and removing it (it fired) is part of the same
//! epoch as what it did. That is why a restored job cannot fire one twice. The set is ordered, so timers fire in the
//! same order in every run; those left over when an epoch yields are simply still there in the next one.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::planted::{Bug, planted};

/// Which clock a timer waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum TimerKind {
    /// Fires when the watermark reaches it: no record up to this event time is expected any more.
    Event,
    /// Fires when the wall clock reaches it; one that fell due while the job was down fires once.
    Processing,
}

/// One registered timer. Registering the same timer twice is registering it once.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Timer {
    /// When it is due, in milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// The key that it belongs to.
    pub key: Vec<u8>,
    /// The part of the processor that set it.
    pub name: String,
    /// Whatever the processor wants to be told.
    pub payload: Vec<u8>,
}

impl Timer {
    fn size_bytes(&self) -> usize {
        // The constant stands for the set's node and the allocations.
        self.key.len() + self.name.len() + self.payload.len() + 96
    }
}

/// What a change takes in the log besides the timer's own bytes, rounded up: kind, time, three lengths and the flag.
const CHANGE_BYTES: usize = 48;

/// A change of the timers: set (`true`) or gone (`false`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimerChange {
    /// Which clock.
    pub kind: TimerKind,
    /// Which timer.
    pub timer: Timer,
    /// Whether it is there after the change.
    pub set: bool,
}

/// All timers of a task.
#[derive(Debug, Default)]
pub struct Timers {
    event: BTreeSet<Timer>,
    processing: BTreeSet<Timer>,
    /// What changed since the last [`Timers::take_changes`].
    dirty: BTreeMap<(TimerKind, Timer), bool>,
    /// How large these changes are in the log, at most.
    dirty_bytes: usize,
    /// What was changed since [`Timers::begin`], to take a rejected record's changes back.
    undo: Vec<(TimerKind, Timer, bool)>,
    size_bytes: usize,
}

impl Timers {
    fn set_of(&mut self, kind: TimerKind) -> &mut BTreeSet<Timer> {
        match kind {
            TimerKind::Event => &mut self.event,
            TimerKind::Processing => &mut self.processing,
        }
    }

    /// Sets a timer; says whether it was not there before.
    pub fn set(&mut self, kind: TimerKind, timer: Timer) -> bool {
        self.change(kind, timer, true)
    }

    /// Takes a timer back; says whether it was there.
    pub fn cancel(&mut self, kind: TimerKind, timer: Timer) -> bool {
        self.change(kind, timer, false)
    }

    fn change(&mut self, kind: TimerKind, timer: Timer, set: bool) -> bool {
        let changed = self.apply(kind, timer.clone(), set);
        if changed {
            self.undo.push((kind, timer.clone(), set));
            let bytes = timer.key.len() + timer.name.len() + timer.payload.len() + CHANGE_BYTES;
            // Of a timer that changes many times the delta holds only the last change.
            if self.dirty.insert((kind, timer), set).is_none() {
                self.dirty_bytes += bytes;
            }
        }
        changed
    }

    /// How large the changes since the last [`Timers::take_changes`] are.
    pub fn dirty_bytes(&self) -> usize {
        self.dirty_bytes
    }

    /// Applies a committed change, without recording it as new.
    pub fn apply(&mut self, kind: TimerKind, timer: Timer, set: bool) -> bool {
        let size = timer.size_bytes();
        if set {
            let added = self.set_of(kind).insert(timer);
            self.size_bytes += if added { size } else { 0 };
            added
        } else {
            let removed = self.set_of(kind).remove(&timer);
            self.size_bytes -= if removed { size } else { 0 };
            removed
        }
    }

    /// Marks the point that [`Timers::roll_back`] returns to.
    pub fn begin(&mut self) {
        self.undo.clear();
    }

    /// Takes back what was changed since [`Timers::begin`].
    pub fn roll_back(&mut self) {
        for (kind, timer, set) in std::mem::take(&mut self.undo).into_iter().rev() {
            self.change(kind, timer, !set);
        }
        self.undo.clear();
    }

    /// Removes and returns the earliest timer that is due at `now_ms`.
    pub fn pop_due(&mut self, kind: TimerKind, now_ms: i64) -> Option<Timer> {
        let due = self.set_of(kind).first().filter(|timer| timer.at_ms <= now_ms)?.clone();
        match planted(Bug::FiredTimersStay) {
            true => self.apply(kind, due.clone(), false),
            false => self.change(kind, due.clone(), false),
        };
        Some(due)
    }

    /// When the next timer of this kind is due.
    pub fn next_at(&self, kind: TimerKind) -> Option<i64> {
        match kind {
            TimerKind::Event => self.event.first(),
            TimerKind::Processing => self.processing.first(),
        }
        .map(|timer| timer.at_ms)
    }

    /// The changes since the last call, in a fixed order.
    pub fn take_changes(&mut self) -> Vec<TimerChange> {
        self.undo.clear();
        self.dirty_bytes = 0;
        std::mem::take(&mut self.dirty)
            .into_iter()
            .map(|((kind, timer), set)| TimerChange { kind, timer, set })
            .collect()
    }

    /// All timers that are set, as changes that set them.
    pub fn entries(&self) -> impl Iterator<Item = TimerChange> {
        let of = |kind, set: &BTreeSet<Timer>| set.iter().map(move |timer| (kind, timer.clone())).collect::<Vec<_>>();
        let all = [
            of(TimerKind::Event, &self.event),
            of(TimerKind::Processing, &self.processing),
        ];
        all.into_iter()
            .flatten()
            .map(|(kind, timer)| TimerChange { kind, timer, set: true })
    }

    /// How many timers are set.
    pub fn len(&self) -> usize {
        self.event.len() + self.processing.len()
    }

    /// Whether no timer is set.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// About how much memory the timers take.
    pub fn size_bytes(&self) -> usize {
        self.size_bytes
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn timer(at_ms: i64, key: &str) -> Timer {
        Timer {
            at_ms,
            key: key.into(),
            name: "window".into(),
            payload: vec![],
        }
    }

    #[test]
    fn due_timers_come_in_order_and_once() {
        let mut timers = Timers::default();
        for t in [timer(30, "a"), timer(10, "b"), timer(10, "a"), timer(10, "a")] {
            timers.set(TimerKind::Event, t);
        }
        assert_eq!(timers.len(), 3);
        assert_eq!(timers.pop_due(TimerKind::Event, 20), Some(timer(10, "a")));
        assert_eq!(timers.pop_due(TimerKind::Event, 20), Some(timer(10, "b")));
        assert_eq!(timers.pop_due(TimerKind::Event, 20), None);
        assert_eq!(timers.next_at(TimerKind::Event), Some(30));
        assert_eq!(timers.next_at(TimerKind::Processing), None);
    }

    #[test]
    fn a_rejected_record_leaves_no_trace() {
        let mut timers = Timers::default();
        timers.set(TimerKind::Event, timer(10, "a"));
        timers.begin();
        timers.cancel(TimerKind::Event, timer(10, "a"));
        timers.set(TimerKind::Event, timer(20, "a"));
        timers.roll_back();
        let set: Vec<_> = timers.entries().map(|change| change.timer).collect();
        assert_eq!(set, [timer(10, "a")]);
        let mut restored = Timers::default();
        timers
            .take_changes()
            .into_iter()
            .for_each(|c| _ = restored.apply(c.kind, c.timer, c.set));
        assert_eq!(restored.entries().count(), 1);
    }

    #[test]
    fn changes_rebuild_the_same_timers() {
        let mut timers = Timers::default();
        timers.set(TimerKind::Event, timer(10, "a"));
        timers.set(TimerKind::Processing, timer(20, "a"));
        timers.pop_due(TimerKind::Event, 10).unwrap();
        let mut restored = Timers::default();
        for change in timers.take_changes() {
            restored.apply(change.kind, change.timer, change.set);
        }
        assert_eq!(restored.len(), 1);
        assert_eq!(restored.next_at(TimerKind::Processing), Some(20));
        assert_eq!(restored.size_bytes(), timers.size_bytes());
        assert!(timers.take_changes().is_empty());
    }

    #[test]
    fn the_size_of_the_changes_is_known() {
        let mut timers = Timers::default();
        for at_ms in [10, 20, 10] {
            timers.set(TimerKind::Event, timer(at_ms, "key"));
        }
        timers.pop_due(TimerKind::Event, 10).unwrap();
        let bytes = timers.dirty_bytes();
        let changes = timers.take_changes();
        assert_eq!((changes.len(), bytes), (2, 2 * ("window".len() + 3 + CHANGE_BYTES)));
        let encoded = crate::processing::codec::encode(&changes).unwrap().len();
        assert!(encoded <= bytes, "{encoded} bytes in the log");
        assert_eq!(timers.dirty_bytes(), 0);
        timers.pop_due(TimerKind::Event, 20).unwrap();
        assert_eq!(timers.dirty_bytes(), bytes / 2, "one that fires is a change too");
    }
}
