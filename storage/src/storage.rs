//! Storage on a real disk: the engine's steps, driven by two threads, and by those that commit small writes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};

use crate::backup::Backup;
use crate::buffers::Buffers;
use crate::catalog::Catalog;
use crate::clock::{Clock, SystemClock};
use crate::committer::Step;
use crate::disk::{Disk, Open, RealDisk};
use crate::engine::{Engine, Health};
use crate::error::{BackupError, OpenError, ReadError, WriteError};
use crate::options::Options;
use crate::read::{Fetched, Reach};
use crate::shared::Published;
use crate::stats::Stats;
use crate::turn::Turn;
use crate::write_set::{LogEnds, Receipt, WriteSet};
use crate::{LogId, Lsn, time_slice};

/// How often free space is looked at. Others may take it, and meanwhile a fast disk takes 300 MB of ours in a second.
const SPACE_INTERVAL: Duration = Duration::from_millis(100);
/// How often the maintenance thread looks whether anything is due.
const MAINTENANCE_TICK: Duration = Duration::from_millis(100);
/// Segments that are synced ahead of the checkpoint in each turn of the maintenance thread, which has other things to do.
const SYNCS_AHEAD_IN_A_TURN: u32 = 16;
/// What the scrub reads in each turn of the maintenance thread: at most 10 MiB a second, so that traffic does not
/// notice.
const SCRUB_TURN_BYTES: u64 = 1 << 20;
/// How long the scrub rests when it has been through everything.
const SCRUB_PAUSE: Duration = Duration::from_secs(24 * 60 * 60);
/// The journal may grow to this many times the checkpoint interval before commits wait for a checkpoint.
const CHECKPOINT_SLACK: u64 = 4;
/// How long others have no turn before a group, when one took long.
const TURN_PAUSE: Duration = Duration::from_millis(100);
/// Space that recovery can have on a full disk.
const BALLAST_BYTES: u64 = 32 << 20;

/// A data directory that is open. Clones are handles to the same.
#[derive(Clone)]
pub struct Storage(Arc<Inner>);

struct Inner {
    engine: Arc<Engine>,
    signals: Arc<Signals>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

#[derive(Default)]
struct Signals {
    closing: AtomicBool,
    tick: Mutex<()>,
    wake_maintenance: Condvar,
    checkpointed: Condvar,
}

impl Storage {
    /// Opens a data directory, creating it if need be. Recovery is the only way to start.
    pub fn open(options: Options) -> Result<Self, OpenError> {
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        if let Some(parent) = options.data_dir.parent() {
            std::fs::create_dir_all(parent).map_err(OpenError::io("cannot create", parent))?;
        }
        make_room(&*disk, &options);
        let engine = Arc::new(Engine::open(disk, Arc::new(SystemClock), options)?);
        let signals = Arc::new(Signals::default());
        let committer = spawn("riverlog-commit", &engine, &signals, commit_loop)?;
        let maintenance = spawn("riverlog-maintain", &engine, &signals, maintenance_loop)?;
        Ok(Self(Arc::new(Inner {
            engine,
            signals,
            threads: Mutex::new(vec![committer, maintenance]),
        })))
    }

    /// An engine without threads: whoever holds [`Self::engine`] drives its steps.
    #[cfg(any(test, feature = "simulation"))]
    pub fn by_hand(engine: Engine) -> Self {
        Self(Arc::new(Inner {
            engine: Arc::new(engine),
            signals: Arc::default(),
            threads: Mutex::default(),
        }))
    }

    /// Its steps.
    #[cfg(any(test, feature = "simulation"))]
    pub fn engine(&self) -> &Engine {
        &self.0.engine
    }

    /// Asks for a write set to be written, without waiting. `done` is called once: after the write set is
    /// durable and published, on the thread that commits (so it must be quick), or with a refusal.
    pub fn submit(&self, ws: WriteSet, done: impl FnOnce(Result<Receipt, WriteError>) + Send + 'static) {
        self.0.engine.submit(ws, done);
    }

    /// As [`Self::submit`], for a small write set with which nothing else is likely to come: if nobody else writes, it is
    /// committed on this thread, which then blocks for a sync.
    pub fn submit_here(&self, ws: WriteSet, done: impl FnOnce(Result<Receipt, WriteError>) + Send + 'static) {
        let engine = &self.0.engine;
        if engine.shared.is_ahead_of_checkpoint(CHECKPOINT_SLACK) {
            // The committing thread waits for the checkpoint.
            engine.submit(ws, done);
        } else {
            poisoning(engine, "that submitted a write", || engine.submit_here(ws, done));
        }
    }

    /// True if no write waits, and lately none came while another one did: then [`Self::submit_here`] pays.
    pub fn is_quiet(&self) -> bool {
        self.0.engine.is_quiet()
    }

    /// As [`Self::submit`], for a small write set that comes together with others. True if some wait: then the caller calls
    /// [`Self::commit_gathered`] soon, once for all of them. Nobody else is told; the committing thread looks by itself
    /// only when it has waited for `idle_close_ms`.
    #[must_use]
    pub fn gather(&self, ws: WriteSet, done: impl FnOnce(Result<Receipt, WriteError>) + Send + 'static) -> bool {
        self.0.engine.gather(ws, done)
    }

    /// Commits what has gathered on this thread, which then blocks for a sync. False if it does not, because somebody else commits
    /// or it would take long: then call [`Self::wake_committer`].
    pub fn commit_gathered(&self) -> bool {
        let engine = &self.0.engine;
        let mut is_committed = false;
        if !engine.shared.is_ahead_of_checkpoint(CHECKPOINT_SLACK) {
            poisoning(engine, "that commits what has gathered", || {
                is_committed = engine.commit_gathered()
            });
        }
        is_committed
    }

    /// Whether a write set waits that nobody commits yet.
    pub fn has_work(&self) -> bool {
        self.0.engine.shared.sequencer.lock().has_work()
    }

    /// Tells the committing thread to look for what has gathered.
    pub fn wake_committer(&self) {
        self.0.engine.shared.work.notify_one();
    }

    /// How long the last sync of a group or of a closing frame took, if there was one.
    pub fn last_sync(&self) -> Option<Duration> {
        self.0.engine.shared.counters.last_sync()
    }

    /// [`Self::submit`], and waits for the outcome.
    pub fn submit_wait(&self, ws: WriteSet) -> Result<Receipt, WriteError> {
        let (sender, receiver) = mpsc::sync_channel(1);
        self.submit(ws, move |outcome| {
            // The receiver waits below for exactly one outcome.
            let _ = sender.send(outcome);
        });
        receiver.recv().unwrap_or(Err(WriteError::Closed))
    }

    /// The published catalog.
    pub fn catalog(&self) -> Arc<Catalog> {
        self.0.engine.catalog()
    }

    /// The published ends of a log.
    pub fn ends(&self, log: LogId) -> Option<LogEnds> {
        self.0.engine.ends(log)
    }

    /// The published ends of several logs, as of one moment.
    pub fn all_ends(&self, logs: &[LogId]) -> Vec<Option<LogEnds>> {
        self.0.engine.all_ends(logs)
    }

    /// Reads whole batches from the one that holds `from`, up to `max_bytes` but always one if there is
    /// one. Empty at the high watermark. Reads from files: call it where blocking is allowed.
    pub fn read(&self, log: LogId, from: i64, max_bytes: usize) -> Result<Fetched, ReadError> {
        self.0.engine.read(log, from, max_bytes)
    }

    /// As [`Self::read`], for who reads much and is done with it soon: into memory that was used before.
    pub fn read_with(
        &self,
        log: LogId,
        from: i64,
        max_bytes: usize,
        buffers: &Arc<Buffers>,
        reach: Reach,
    ) -> Result<Fetched, ReadError> {
        self.0.engine.shared.read(log, from, max_bytes, buffers, reach)
    }

    /// How many bytes the batch that holds `from` has, by its header, of which only the place is checked. Zero at the high
    /// watermark.
    pub fn batch_size(&self, log: LogId, from: i64, reach: Reach) -> Result<usize, ReadError> {
        self.0.engine.shared.batch_size(log, from, reach)
    }

    /// The first batch that has a record with a timestamp at or above `timestamp_ms` and one at or behind `from`.
    pub fn batch_at_timestamp(&self, log: LogId, timestamp_ms: i64, from: i64) -> Result<Option<Bytes>, ReadError> {
        self.0.engine.shared.batch_at_timestamp(log, timestamp_ms, from)
    }

    /// The first batch that has the largest timestamp of the log at and behind the offset `from`.
    pub fn batch_of_max_timestamp(&self, log: LogId, from: i64) -> Result<Option<Bytes>, ReadError> {
        self.0.engine.shared.batch_of_max_timestamp(log, from)
    }

    /// The largest leader epoch at or below the one asked for, and the offset at which it ended
    /// (`OffsetForLeaderEpoch`, KIP-320). `None` if the log has no record of such an epoch.
    pub fn epoch_end(&self, log: LogId, leader_epoch: i32) -> Option<(i32, i64)> {
        self.0
            .engine
            .shared
            .state
            .read()
            .logs
            .get(&log)?
            .epoch_end(leader_epoch)
    }

    /// The leader epoch in which the record at an offset was written.
    pub fn epoch_at(&self, log: LogId, offset: i64) -> Option<i32> {
        self.0.engine.shared.state.read().logs.get(&log)?.epoch_at(offset)
    }

    /// Calls `hook` after every published group, before those who wait for it are answered. It must be
    /// quick: it runs on the thread that commits, which may be one of the caller's: see [`Self::submit_here`] and [`Self::commit_gathered`].
    pub fn on_publish(&self, hook: impl Fn(&Published) + Send + Sync + 'static) {
        self.0.engine.on_publish(hook);
    }

    /// How storage is doing.
    pub fn health(&self) -> Health {
        self.0.engine.health()
    }

    /// What the write path did since the start.
    pub fn stats(&self) -> Stats {
        self.0.engine.stats()
    }

    /// The clock that stamps records.
    pub fn clock(&self) -> Arc<dyn Clock> {
        self.0.engine.shared.clock.clone()
    }

    /// Where the data is.
    pub fn data_dir(&self) -> &std::path::Path {
        &self.0.engine.shared.options.data_dir
    }

    /// The last published frame.
    pub fn published_lsn(&self) -> Lsn {
        self.0.engine.shared.state.read().lsn
    }

    /// A backup of everything that is published now, and perhaps of more. Takes a checkpoint, so call it where blocking is
    /// allowed. Files that the backup names are not removed while it lives: copy it and drop it, before the storage closes.
    ///
    /// # Errors
    /// When another backup lives, or storage is poisoned or closed.
    pub fn backup(&self) -> Result<Backup, BackupError> {
        let (engine, published) = (&self.0.engine, self.published_lsn());
        if engine.backup_lives() {
            return Err(BackupError::Running);
        }
        let covered = || engine.shared.checkpoint_lsn.load(Ordering::Relaxed) >= published;
        // The maintenance thread may do some of the steps. What has begun is ended, because nobody else may see to it soon.
        while !covered() || engine.checkpoint_is_running() {
            if engine.checkpoint_step().is_err() {
                break;
            }
        }
        engine.backup()
    }

    /// Finishes what was submitted, takes a checkpoint and lets go of the directory. Everything later is
    /// refused. A storage that is dropped without this recovers at the next start.
    pub fn close(&self) {
        self.0.close();
    }
}

impl Inner {
    fn close(&self) {
        self.engine.refuse_writes();
        {
            // Held, or the committing thread could look just before, and wait just behind.
            let _sequencer = self.engine.shared.sequencer.lock();
            self.signals.closing.store(true, Ordering::SeqCst);
        }
        self.engine.shared.work.notify_all();
        self.signals.wake_maintenance.notify_all();
        self.signals.checkpointed.notify_all();
        let mut is_own_thread = false;
        for thread in self.threads.lock().drain(..) {
            if thread.thread().id() == std::thread::current().id() {
                is_own_thread = true;
            } else if thread.join().is_err() {
                tracing::error!("a storage thread panicked");
            }
        }
        if !is_own_thread {
            self.engine.await_commit_step();
        }
        self.engine.unlock();
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.close();
    }
}

/// Runs this. A panic in it is a bug, and must leave nobody waiting: it poisons the storage.
fn poisoning(engine: &Engine, name: &str, run: impl FnOnce()) {
    if std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).is_err() {
        engine
            .shared
            .poison(&format!("the thread {name} panicked, which is a bug"));
        // Answers those whose group was under way.
        engine.commit_step();
    }
}

/// Starts a thread of the storage.
fn spawn(
    name: &'static str,
    engine: &Arc<Engine>,
    signals: &Arc<Signals>,
    body: fn(&Engine, &Signals),
) -> Result<JoinHandle<()>, OpenError> {
    let (engine, signals) = (engine.clone(), signals.clone());
    let thread = std::thread::Builder::new()
        .name(name.into())
        .spawn(move || poisoning(&engine, name, || body(&engine, &signals)));
    thread.map_err(OpenError::io("cannot start a thread for", name))
}

/// Commits groups as they come. Ends when storage is closing and everything is committed, or poisoned.
fn commit_loop(engine: &Engine, signals: &Signals) {
    let shared = &engine.shared;
    let idle_close = Duration::from_millis(shared.options.idle_close_ms);
    let mut turn = Turn::new(TURN_PAUSE);
    time_slice::shorten();
    loop {
        let begun = Instant::now();
        if turn.is_due(begun) && engine.more_may_come() {
            std::thread::yield_now();
            turn.took(begun, Instant::now());
        }
        match engine.commit_step() {
            Step::Worked => hold_for_checkpoint(engine, signals),
            Step::Poisoned => return,
            Step::Idle => {
                // What other threads commit wakes nobody, but moves this.
                let lsn = shared.state.read().lsn;
                let mut sequencer = shared.sequencer.lock();
                if sequencer.has_work() {
                    continue;
                }
                if signals.closing.load(Ordering::SeqCst) {
                    return;
                }
                let timed_out = shared.work.wait_for(&mut sequencer, idle_close).timed_out();
                let idle = timed_out && sequencer.is_idle();
                drop(sequencer);
                let idle = idle && shared.state.read().lsn == lsn;
                if idle && engine.close_idle_step() == Step::Poisoned {
                    return;
                }
            }
        }
    }
}

/// Lets the checkpoint catch up when what was written has grown far beyond its interval.
fn hold_for_checkpoint(engine: &Engine, signals: &Signals) {
    let shared = &engine.shared;
    while shared.is_ahead_of_checkpoint(CHECKPOINT_SLACK)
        && shared.poisoned().is_none()
        && !signals.closing.load(Ordering::SeqCst)
    {
        let mut tick = signals.tick.lock();
        signals.wake_maintenance.notify_all();
        signals.checkpointed.wait_for(&mut tick, MAINTENANCE_TICK);
    }
}

/// Takes checkpoints, applies retention, scrubs and watches the free space. Ends with a last checkpoint.
fn maintenance_loop(engine: &Engine, signals: &Signals) {
    let shared = &engine.shared;
    let options = &shared.options;
    let retention_interval = Duration::from_millis(options.retention_interval_ms);
    let idle_checkpoint = Duration::from_millis(options.idle_checkpoint_ms);
    let (mut last_space, mut last_retention) = (Instant::now(), Instant::now());
    let (mut seen_lsn, mut seen_at) = (0, Instant::now());
    let (mut ballast_pending, mut is_full) = (true, false);
    let mut next_scrub = Instant::now();
    loop {
        let closing = signals.closing.load(Ordering::SeqCst);
        if closing && (engine.is_idle() || shared.poisoned().is_some()) {
            if engine.checkpoint_is_due() {
                run_checkpoint(engine, signals);
            }
            return;
        }
        let lsn = shared.state.read().lsn;
        if lsn != seen_lsn {
            (seen_lsn, seen_at) = (lsn, Instant::now());
        }
        let long = shared.is_ahead_of_checkpoint(1);
        let idle = seen_at.elapsed() >= idle_checkpoint && engine.checkpoint_is_due();
        if long || idle {
            run_checkpoint(engine, signals);
        }
        // The rest is the checkpoint's, if it is due by then.
        for _ in 0..SYNCS_AHEAD_IN_A_TURN {
            if shared.is_ahead_of_checkpoint(1) || engine.sync_ahead_step() != Ok(true) {
                break;
            }
        }
        if last_retention.elapsed() >= retention_interval {
            engine.retention_step();
            last_retention = Instant::now();
        }
        is_full = tell_of_space(engine, is_full);
        if last_space.elapsed() >= SPACE_INTERVAL {
            shared.refresh_free_bytes();
            engine.watch_directory();
            last_space = Instant::now();
            if ballast_pending {
                ballast_pending = !lay_ballast(engine);
            }
        }
        if !closing && Instant::now() >= next_scrub {
            let pause = match engine.scrub_step(SCRUB_TURN_BYTES) {
                true => MAINTENANCE_TICK,
                false => SCRUB_PAUSE,
            };
            next_scrub = Instant::now() + pause;
        }
        let mut tick = signals.tick.lock();
        if !signals.closing.load(Ordering::SeqCst) {
            signals.wake_maintenance.wait_for(&mut tick, MAINTENANCE_TICK);
        } else {
            drop(tick);
            std::thread::yield_now();
        }
    }
}

/// Says so when the disk becomes too full for records, and when it is not any more. Returns whether it is.
fn tell_of_space(engine: &Engine, was_full: bool) -> bool {
    let free_bytes = engine.shared.free_bytes.load(Ordering::Relaxed);
    let needed_bytes = engine.shared.needed_free_bytes();
    let is_full = free_bytes < needed_bytes;
    match (was_full, is_full) {
        (false, true) => tracing::warn!(
            free_bytes,
            needed_bytes,
            "the disk is too full: records are refused until there is space"
        ),
        (true, false) => tracing::info!(free_bytes, needed_bytes, "there is space again: records are accepted"),
        _ => {}
    }
    is_full
}

fn run_checkpoint(engine: &Engine, signals: &Signals) {
    while let Ok(true) = engine.checkpoint_step() {}
    signals.checkpointed.notify_all();
}

/// On a nearly full disk recovery gets the space of the ballast.
fn make_room(disk: &dyn Disk, options: &Options) {
    let ballast = options.data_dir.join("ballast");
    let scarce = disk
        .free_bytes(&options.data_dir)
        .is_ok_and(|free| free < BALLAST_BYTES);
    if scarce && disk.exists(&ballast).unwrap_or(false) {
        tracing::warn!(
            "the disk is nearly full: giving up the ballast {} for recovery",
            ballast.display()
        );
        if let Err(error) = disk.remove_file(&ballast) {
            tracing::warn!("cannot remove {}: {error}", ballast.display());
        }
    }
}

/// Lays the ballast down, once there is space for it: at a start on a full disk that is later. Not having one is no failure. False
/// as long as there is no space.
fn lay_ballast(engine: &Engine) -> bool {
    let shared = &engine.shared;
    let path = shared.options.data_dir.join("ballast");
    // A start that died, or a disk that became full, may have left it empty.
    let present = shared.disk.open(&path, Open::ReadWrite);
    if present
        .as_ref()
        .is_ok_and(|file| file.len().is_ok_and(|len| len >= BALLAST_BYTES))
    {
        return true;
    }
    if shared.free_bytes.load(Ordering::Relaxed) <= 8 * BALLAST_BYTES {
        return false;
    }
    let file = present.or_else(|_| shared.disk.open(&path, Open::CreateNew));
    let laid = file.and_then(|file| file.allocate(0, BALLAST_BYTES));
    if let Err(error) = laid {
        tracing::warn!("cannot lay the ballast {}: {error}", path.display());
    }
    true
}

#[cfg(test)]
#[path = "storage_tests.rs"]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests;
