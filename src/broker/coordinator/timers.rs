//! Deadlines of all groups in one queue, and the task that waits for the earliest.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use riverlog_storage::clock::Clock;
use tokio::sync::Notify;

use super::Shared;

/// A deadline may be out of date; the group knows what is due when it is asked.
#[derive(Default)]
pub(super) struct Timers {
    queue: Mutex<Queue>,
    changed: Notify,
    closed: AtomicBool,
}

/// One deadline for each group, its earliest: a group says what it waits for next whenever it is asked, so a later one
/// would only be asked for nothing, and again and again.
#[derive(Default)]
struct Queue {
    by_deadline: BTreeSet<(u64, Arc<str>)>,
    by_group: HashMap<Arc<str>, u64>,
}

impl Timers {
    /// The group is to be asked at the deadline, unless it is asked before anyway.
    pub(super) fn add(&self, deadline: u64, group: &Arc<str>) {
        let mut queue = self.queue.lock();
        let known = queue.by_group.get(group).copied();
        if known.is_some_and(|known| known <= deadline) {
            return;
        }
        if let Some(known) = known {
            queue.by_deadline.remove(&(known, group.clone()));
        }
        let earliest = queue.by_deadline.first().is_none_or(|(first, _)| deadline < *first);
        queue.by_deadline.insert((deadline, group.clone()));
        queue.by_group.insert(group.clone(), deadline);
        drop(queue);
        if earliest {
            self.changed.notify_one();
        }
    }

    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.changed.notify_one();
    }

    fn earliest(&self) -> Option<u64> {
        self.queue.lock().by_deadline.first().map(|(deadline, _)| *deadline)
    }

    fn take_due(&self, now_ms: u64) -> Vec<Arc<str>> {
        let mut queue = self.queue.lock();
        let mut due = Vec::new();
        while queue
            .by_deadline
            .first()
            .is_some_and(|(deadline, _)| *deadline <= now_ms)
        {
            due.extend(queue.by_deadline.pop_first().map(|(_, group)| group));
        }
        for group in &due {
            queue.by_group.remove(group);
        }
        due
    }
}

pub(super) async fn run(shared: Weak<Shared>, timers: Arc<Timers>, clock: Arc<dyn Clock>) {
    loop {
        let changed = timers.changed.notified();
        match timers.earliest() {
            Some(deadline) => {
                let wait = Duration::from_millis(deadline.saturating_sub(clock.monotonic_ms()));
                tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    () = changed => {}
                }
            }
            None => changed.await,
        }
        if timers.closed.load(Ordering::Acquire) {
            return;
        }
        let Some(shared) = shared.upgrade() else { return };
        shared.tick_due();
    }
}

impl Shared {
    /// Asks every group whose deadline has come.
    pub(super) fn tick_due(&self) {
        for group in self.timers.take_due(self.storage.clock().monotonic_ms()) {
            self.tick(&group);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_has_one_deadline_its_earliest() {
        let timers = Timers::default();
        let (one, other): (Arc<str>, Arc<str>) = ("one".into(), "other".into());
        for deadline in [50, 30, 40, 10, 10, 20] {
            timers.add(deadline, &one);
        }
        timers.add(60, &other);
        assert_eq!(timers.queue.lock().by_deadline.len(), 2);
        assert!(timers.take_due(9).is_empty());
        assert_eq!(timers.take_due(55), std::slice::from_ref(&one));
        assert_eq!(
            timers.earliest(),
            Some(60),
            "the deadlines that were superseded are gone"
        );
        timers.add(70, &one);
        assert_eq!(timers.take_due(70), [other, one]);
        assert!(timers.queue.lock().by_group.is_empty());
    }
}
