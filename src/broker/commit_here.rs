//! Committing on a thread of the runtime, which waits for the disk meanwhile.
//!
//! To wake the committing thread, and be woken by it, takes a third of the time of a write that comes alone, where the cores of
//! a virtual machine sleep; so does `block_in_place`, which wakes another thread first. If the disk is quick, nobody misses a
//! thread that waits for it. But no sync is sure to be quick, and the runtime may have no other thread that would hear of a
//! socket or a timer. So somebody watches, and wakes one when a commit takes long.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::runtime::Handle;

/// Others wait for a commit that takes longer for about so long, and twice that at most.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);
/// Nobody watches any more when nothing was committed here for so many looks.
const IDLE_LOOKS: u32 = 100;

/// Lets threads of the runtime wait for the disk, and watches them.
#[derive(Debug)]
pub(super) struct CommitHere {
    commits: Arc<Commits>,
    watch: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Commits {
    begun: AtomicU64,
    ended: AtomicU64,
    is_watched: AtomicBool,
    closing: AtomicBool,
}

impl CommitHere {
    /// Has no watch, and so waits for nothing, where the runtime has no other thread to wake or the system gives none.
    pub(super) fn new(runtime: Handle) -> Self {
        let commits = Arc::new(Commits::default());
        let watched = Arc::clone(&commits);
        let watch = (runtime.metrics().num_workers() > 1).then(|| {
            let builder = thread::Builder::new().name("riverlog-watch".to_owned());
            builder.spawn(move || watch(&watched, &runtime))
        });
        let watch = watch.transpose().unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot start a thread; writes that come alone take a little longer");
            None
        });
        Self { commits, watch }
    }

    /// Whether anybody watches.
    pub(super) fn is_possible(&self) -> bool {
        self.watch.is_some()
    }

    /// Does this on the present thread of the runtime.
    pub(super) fn run(&self, commit: impl FnOnce()) {
        self.commits.begun.fetch_add(1, Ordering::SeqCst);
        if !self.commits.is_watched.swap(true, Ordering::SeqCst)
            && let Some(watch) = &self.watch
        {
            watch.thread().unpark();
        }
        commit();
        self.commits.ended.fetch_add(1, Ordering::SeqCst);
    }
}

impl Drop for CommitHere {
    fn drop(&mut self) {
        self.commits.closing.store(true, Ordering::SeqCst);
        if let Some(watch) = self.watch.take() {
            // It ends by itself. The last one to let go of a broker may be a task, which should not wait for it.
            watch.thread().unpark();
        }
    }
}

fn watch(commits: &Commits, runtime: &Handle) {
    let look = || {
        (
            commits.begun.load(Ordering::SeqCst),
            commits.ended.load(Ordering::SeqCst),
        )
    };
    let (mut before, mut idle_looks) = (look(), 0);
    while !commits.closing.load(Ordering::SeqCst) {
        let now = look();
        idle_looks = if now == before { idle_looks + 1 } else { 0 };
        let (begun, ended) = now;
        if begun != ended && ended == before.1 {
            // Whichever thread takes this listens to the sockets afterwards.
            runtime.spawn(async {});
        } else if idle_looks >= IDLE_LOOKS {
            commits.is_watched.store(false, Ordering::SeqCst);
            // A commit may have begun in between, and believed itself watched.
            if look() == now {
                thread::park();
            }
            idle_looks = 0;
        }
        before = now;
        thread::park_timeout(LOOK_INTERVAL);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    /// The thread that comes to wait is the one that listened for timers, and no other one was told to go on with that.
    #[test]
    fn others_go_on_while_a_commit_takes_long() {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        for _ in 0..20 {
            let here = Arc::new(CommitHere::new(runtime.handle().clone()));
            assert!(here.is_possible());
            let (sender, receiver) = mpsc::channel();
            let stalled = runtime.spawn(async move {
                tokio::spawn(async move {
                    tokio::time::sleep(3 * LOOK_INTERVAL).await;
                    sender.send(()).unwrap();
                });
                tokio::time::sleep(LOOK_INTERVAL).await;
                here.run(|| receiver.recv_timeout(PATIENCE).unwrap());
            });
            runtime.block_on(stalled).unwrap();
        }
    }

    #[test]
    fn a_watch_that_rests_comes_back() {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .build()
            .unwrap();
        let here = CommitHere::new(runtime.handle().clone());
        for _ in 0..2 {
            here.run(|| {});
            assert!(here.commits.is_watched.load(Ordering::SeqCst));
            let resting = || !here.commits.is_watched.load(Ordering::SeqCst);
            let begun = std::time::Instant::now();
            while !resting() {
                assert!(begun.elapsed() < PATIENCE);
                thread::yield_now();
            }
        }
    }

    #[tokio::test]
    async fn a_runtime_of_one_thread_waits_for_no_disk() {
        assert!(!CommitHere::new(Handle::current()).is_possible());
    }
}
