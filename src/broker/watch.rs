//! Waiting for new data: long-polling fetches, followers over HTTP, jobs.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use riverlog_storage::LogId;
use tokio::sync::Notify;

/// Who waits for which log.
#[derive(Default)]
pub(super) struct Watchers {
    waiting: Mutex<HashMap<LogId, HashMap<u64, Arc<Notify>>>>,
    next: AtomicU64,
}

impl Watchers {
    pub(super) fn watch(self: &Arc<Self>, logs: &[LogId]) -> LogWatch {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let notify = Arc::new(Notify::new());
        let mut waiting = self.waiting.lock();
        for log in logs {
            waiting.entry(*log).or_default().insert(id, Arc::clone(&notify));
        }
        drop(waiting);
        LogWatch {
            id,
            logs: logs.to_vec(),
            notify,
            watchers: Arc::clone(self),
        }
    }

    /// Runs on the committer's thread: only wakes, never works.
    pub(super) fn wake(&self, logs: &[LogId]) {
        let waiting = self.waiting.lock();
        if waiting.is_empty() {
            return;
        }
        for notify in logs.iter().filter_map(|log| waiting.get(log)).flat_map(HashMap::values) {
            notify.notify_one();
        }
    }

    pub(super) fn wake_all(&self) {
        for notify in self.waiting.lock().values().flat_map(HashMap::values) {
            notify.notify_one();
        }
    }
}

/// Resolves when one of its logs publishes. A publication between two awaits is remembered.
pub struct LogWatch {
    id: u64,
    logs: Vec<LogId>,
    notify: Arc<Notify>,
    watchers: Arc<Watchers>,
}

impl LogWatch {
    /// Waits for the next publication since the watch was created or since the last call returned.
    pub async fn changed(&self) {
        self.notify.notified().await;
    }
}

impl Drop for LogWatch {
    fn drop(&mut self) {
        let mut waiting = self.watchers.waiting.lock();
        for log in &self.logs {
            if let Some(watchers) = waiting.get_mut(log) {
                watchers.remove(&self.id);
                if watchers.is_empty() {
                    waiting.remove(log);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_publication_before_the_await_is_not_missed() {
        let watchers = Arc::new(Watchers::default());
        let watch = watchers.watch(&[1, 2]);
        watchers.wake(&[2]);
        watch.changed().await;
        watchers.wake(&[3]);
        let quiet = tokio::time::timeout(std::time::Duration::from_millis(1), watch.changed()).await;
        assert!(quiet.is_err(), "log 3 is not watched");
    }

    #[tokio::test]
    async fn a_dropped_watch_leaves_nothing_behind() {
        let watchers = Arc::new(Watchers::default());
        let watch = watchers.watch(&[1, 2]);
        let other = watchers.watch(&[2]);
        drop(watch);
        assert_eq!(watchers.waiting.lock().len(), 1);
        drop(other);
        assert!(watchers.waiting.lock().is_empty());
    }
}
