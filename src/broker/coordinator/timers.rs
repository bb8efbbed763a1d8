//! Deadlines of all groups in one queue, and the task that waits for the earliest.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use riverlog_storage::clock::Clock;
use tokio::sync::Notify;

use super::Shared;

/// A group, and when it wants to be asked.
type Entry = Reverse<(u64, Arc<str>)>;

/// An entry may be out of date; the group knows what is due when it is asked.
#[derive(Default)]
pub(super) struct Timers {
    queue: Mutex<BinaryHeap<Entry>>,
    changed: Notify,
    closed: AtomicBool,
}

impl Timers {
    pub(super) fn add(&self, deadline: u64, group: Arc<str>) {
        let mut queue = self.queue.lock();
        let earliest = queue.peek().is_none_or(|Reverse((first, _))| deadline < *first);
        queue.push(Reverse((deadline, group)));
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
        self.queue.lock().peek().map(|Reverse((deadline, _))| *deadline)
    }

    fn take_due(&self, now_ms: u64) -> Vec<Arc<str>> {
        let mut queue = self.queue.lock();
        let mut due = Vec::new();
        while queue.peek().is_some_and(|Reverse((deadline, _))| *deadline <= now_ms) {
            due.extend(queue.pop().map(|Reverse((_, group))| group));
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
        for group in timers.take_due(clock.monotonic_ms()) {
            shared.tick(&group);
        }
    }
}
