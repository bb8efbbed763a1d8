//! Committing on a thread of the runtime, which waits for the disk meanwhile.
//!
//! To wake the committing thread, and be woken by it, takes a fifth to a third of the time of a write that comes alone, because the
//! cores of a virtual machine sleep; so does `block_in_place`, which wakes another thread first. If the disk is quick, nobody misses a
//! thread that waits for it. But no sync is sure to be quick, and the runtime may have no other thread that would hear of a
//! socket or a timer. So somebody watches, and wakes one when a commit takes long.
//!
//! Writes that come together are read first, all that have come, and committed together: each of them by itself would wait for
//! the one before.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use riverlog_storage::{Storage, Turn};
use tokio::runtime::Handle;

/// Others may wait so long for a thread that waits for the disk, so a disk that took longer lately is left to the committing thread.
const SHORT_SYNC: Duration = Duration::from_millis(1);
/// When a commit takes longer than this, or twice this at most, another thread of the runtime is woken.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);
/// How long writes are left to the committing thread, when they had to wait long for a thread of the runtime: consumers that read much
/// keep those busy, and waiting producers were a fifth slower beside three of them. With 64 that wait, a turn is long now and then.
const TURN_PAUSE: Duration = Duration::from_millis(5);
/// Nobody watches any more when nothing was committed here for so many looks.
const IDLE_LOOKS: u32 = 100;

/// Lets threads of a runtime wait for the disk, and watches them.
#[derive(Debug)]
pub(super) struct CommitHere {
    runtime: Handle,
    commits: Arc<Commits>,
    /// Begins with the first commit. None where the system gives no thread.
    watch: OnceLock<Option<JoinHandle<()>>>,
    /// A task will commit what has gathered.
    is_due: AtomicBool,
    /// How long others took when they went first. Behind a long time nothing gathers for a while.
    turn: Mutex<Turn>,
}

/// Those on threads of the runtime.
#[derive(Debug, Default)]
struct Commits {
    begun: AtomicU64,
    ended: AtomicU64,
    is_watched: AtomicBool,
    closing: AtomicBool,
}

impl CommitHere {
    pub(super) fn new(runtime: Handle) -> Self {
        Self {
            runtime,
            commits: Arc::default(),
            watch: OnceLock::new(),
            is_due: AtomicBool::new(false),
            turn: Mutex::new(Turn::new(TURN_PAUSE)),
        }
    }

    /// Whether the present thread may wait for the disk: it is one of the runtime, which has others, and the last sync was short.
    pub(super) fn may_wait(&self, last_sync: Option<Duration>) -> bool {
        last_sync.is_some_and(|took| took <= SHORT_SYNC)
            && Handle::try_current().is_ok_and(|present| present.id() == self.runtime.id())
            && self.runtime.metrics().num_workers() > 1
            && self.watch().is_some()
    }

    /// Does this on the present thread.
    pub(super) fn run<T>(&self, commit: impl FnOnce() -> T) -> T {
        self.commits.begun.fetch_add(1, Ordering::SeqCst);
        let _ended = Ended(&self.commits.ended);
        if !self.commits.is_watched.swap(true, Ordering::SeqCst)
            && let Some(watch) = self.watch()
        {
            watch.thread().unpark();
        }
        commit()
    }

    /// Whether what gathers is likely to be committed soon: lately no other task, nor another process, kept the threads for long.
    pub(super) fn may_gather(&self) -> bool {
        self.turn.lock().is_due(Instant::now())
    }

    /// Commits what the storage has gathered, behind all that is ready to run by then.
    pub(super) fn commit_soon(self: &Arc<Self>, storage: &Storage) {
        if !self.is_due.swap(true, Ordering::SeqCst) {
            let (here, storage) = (Arc::clone(self), storage.clone());
            self.runtime.spawn(async move { here.commit_gathered(&storage).await });
        }
    }

    /// Each write that is gathered while it is due is committed here, or the committing thread hears of it: whoever gathers before
    /// it is due no more is seen by the look behind, here or there, and whoever gathers later begins a task.
    async fn commit_gathered(&self, storage: &Storage) {
        loop {
            // Behind what is ready the runtime looks at the sockets, and the task is next. With the second turn, it is behind those
            // as well to which something has come.
            let begun = Instant::now();
            tokio::task::yield_now().await;
            tokio::task::yield_now().await;
            self.turn.lock().took(begun, Instant::now());
            let is_committed = self.may_wait(storage.last_sync()) && self.run(|| storage.commit_gathered());
            self.is_due.store(false, Ordering::SeqCst);
            if !is_committed {
                return storage.wake_committer();
            }
            if !storage.has_work() || self.is_due.swap(true, Ordering::SeqCst) {
                return;
            }
        }
    }

    fn watch(&self) -> Option<&JoinHandle<()>> {
        let start = || {
            let (commits, runtime) = (Arc::clone(&self.commits), self.runtime.clone());
            let builder = thread::Builder::new().name("riverlog-watch".to_owned());
            let started = builder.spawn(move || watch(&commits, &runtime));
            let told = |error| tracing::warn!(%error, "cannot start a thread; small writes take a little longer");
            started.map_err(told).ok()
        };
        self.watch.get_or_init(start).as_ref()
    }
}

impl Drop for CommitHere {
    fn drop(&mut self) {
        self.commits.closing.store(true, Ordering::SeqCst);
        if let Some(Some(watch)) = self.watch.get() {
            // It ends by itself. The last one to let go of a broker may be a task, which should not wait for it.
            watch.thread().unpark();
        }
    }
}

/// Counts a commit as ended, also if it panics.
struct Ended<'a>(&'a AtomicU64);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
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
        let (begun, ended) = now;
        idle_looks = if now == before { idle_looks + 1 } else { 0 };
        if now == before && begun != ended {
            // Whichever thread takes this listens for the others, when it has nothing else to do.
            runtime.spawn(async {});
            idle_looks = 0;
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

    use riverlog_storage::batch::{BatchBuilder, CheckedBatches};
    use riverlog_storage::record::Record;
    use riverlog_storage::{Options, Topic};
    use tokio::runtime::{Builder, Runtime};

    use super::*;
    use crate::broker::{Broker, BrokerOptions};

    const PATIENCE: Duration = Duration::from_secs(20);
    const WRITERS: usize = 16;
    /// Of each.
    const WRITES: usize = 200;

    fn runtime() -> Runtime {
        Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap()
    }

    /// The thread that comes to wait is the one that listened for timers, and no other one was told to go on with that.
    async fn stall(here: Arc<CommitHere>) {
        let (sender, receiver) = mpsc::channel();
        tokio::spawn(async move {
            tokio::time::sleep(3 * LOOK_INTERVAL).await;
            sender.send(()).unwrap();
        });
        tokio::time::sleep(LOOK_INTERVAL).await;
        here.run(|| receiver.recv_timeout(PATIENCE).unwrap());
    }

    #[test]
    fn others_go_on_while_a_commit_takes_long() {
        let runtime = runtime();
        for _ in 0..20 {
            let here = Arc::new(CommitHere::new(runtime.handle().clone()));
            runtime.block_on(runtime.spawn(stall(here))).unwrap();
        }
    }

    #[test]
    fn a_watch_that_rests_comes_back() {
        let runtime = runtime();
        let here = Arc::new(CommitHere::new(runtime.handle().clone()));
        for _ in 0..2 {
            runtime.block_on(runtime.spawn(stall(Arc::clone(&here)))).unwrap();
            let begun = Instant::now();
            while here.commits.is_watched.load(Ordering::SeqCst) {
                assert!(begun.elapsed() < PATIENCE);
                thread::sleep(LOOK_INTERVAL);
            }
        }
    }

    fn batches() -> CheckedBatches {
        let mut builder = BatchBuilder::new();
        builder.push(Record::default());
        builder.build().unwrap()
    }

    async fn write_often(broker: Arc<Broker>, topic: Arc<Topic>) -> Vec<i64> {
        let (mut offsets, client_waits) = (Vec::new(), true);
        for _ in 0..WRITES {
            let pending = broker.start_append(&topic, 0, batches(), client_waits).unwrap();
            offsets.push(pending.wait().await.unwrap().first_offset);
        }
        offsets
    }

    /// Through the committing thread, which also makes topics.
    async fn keep_the_committing_thread_busy(broker: Arc<Broker>, topic: Arc<Topic>) -> Vec<i64> {
        let mut offsets = Vec::new();
        for write in 0..WRITES {
            let appended = broker.append(&topic, 0, batches()).await.unwrap();
            offsets.push(appended.first_offset);
            if write % 10 == 0 {
                broker.topic_or_create(&format!("t{write}")).await.unwrap();
            }
        }
        offsets
    }

    #[test]
    fn writes_that_come_together_are_all_answered_each_once() {
        for others_too in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let runtime = runtime();
            let storage = Storage::open(Options {
                // The committing thread does not look for them by itself.
                idle_close_ms: 1000 * PATIENCE.as_millis() as u64,
                ..Options::new(dir.path())
            });
            let storage = storage.unwrap();
            let mut offsets = runtime.block_on(async {
                let broker = Broker::open(storage, BrokerOptions::default()).await.unwrap();
                let topic = broker.topic_or_create("t").await.unwrap();
                let mut writers: Vec<_> = (0..WRITERS)
                    .map(|_| tokio::spawn(write_often(Arc::clone(&broker), Arc::clone(&topic))))
                    .collect();
                if others_too {
                    writers.push(tokio::spawn(keep_the_committing_thread_busy(
                        Arc::clone(&broker),
                        topic,
                    )));
                }
                let mut offsets = Vec::new();
                for writer in writers {
                    offsets.extend(tokio::time::timeout(PATIENCE, writer).await.unwrap().unwrap());
                }
                offsets
            });
            offsets.sort_unstable();
            let writes = WRITES * (WRITERS + usize::from(others_too));
            assert!(offsets.into_iter().eq(0..writes as i64));
        }
    }

    #[test]
    fn only_threads_of_the_runtime_wait_and_only_for_a_quick_disk() {
        let (runtime, other) = (runtime(), runtime());
        let here = CommitHere::new(runtime.handle().clone());
        let quick = Some(SHORT_SYNC);
        assert!(!here.may_wait(quick), "not of the runtime");
        other.block_on(async { assert!(!here.may_wait(quick), "of another one") });
        runtime.block_on(async {
            assert!(!here.may_wait(None), "nobody knows how quick it is");
            assert!(!here.may_wait(Some(SHORT_SYNC + Duration::from_micros(1))));
            assert!(here.may_wait(quick));
        });
        let alone = Builder::new_current_thread().build().unwrap();
        let here = CommitHere::new(alone.handle().clone());
        alone.block_on(async { assert!(!here.may_wait(quick), "there is no other thread") });
    }
}
