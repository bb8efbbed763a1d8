//! The engine: everything that storage does, as steps over a disk and a clock.
//!
//! [`crate::Storage`] drives the steps from threads; a simulation drives the very same steps from a seed,
//! and crashes between any two.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Condvar, Mutex, MutexGuard, RwLock};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::backup::Backup;
use crate::buffers::Buffers;
use crate::catalog::Catalog;
use crate::checkpoint::Checkpointer;
use crate::clock::Clock;
use crate::committer::{Committer, Step};
use crate::damage::Damage;
use crate::disk::{DirectoryLock, Disk, FileSystem};
use crate::error::{BackupError, OpenError, ReadError, WriteError};
use crate::frame::Salt;
use crate::journal::Journal;
use crate::manifest::Fence;
use crate::options::Options;
use crate::read::{Fetched, Reach};
use crate::recovery::{self, recover};
use crate::retention;
use crate::scrub::Place;
use crate::sequencer::Sequencer;
use crate::shared::{Published, Shared};
use crate::stats::Stats;
use crate::write_set::{LogEnds, Receipt, WriteSet};
use crate::{LogId, Lsn};

/// With more than this in a group, who commits it waits longer than for the sync.
const GATHERED_BYTES: u64 = 128 * 1024;

/// Storage without threads.
pub struct Engine {
    pub(crate) shared: Arc<Shared>,
    committer: Mutex<Committer>,
    checkpointer: Mutex<Checkpointer>,
    /// Where the scrub goes on.
    scrub: Mutex<Place>,
    /// Held for the life of the engine: nobody else may open the directory.
    lock: Mutex<Option<Box<dyn DirectoryLock>>>,
}

/// How storage is doing.
#[derive(Debug, Clone)]
pub struct Health {
    /// Why nothing is written any more, if so.
    pub poisoned: Option<String>,
    /// Logs that are not served, because acknowledged records are missing and nobody knows what they were.
    pub fences: Vec<Fence>,
    /// Damaged batches that reads or the scrub have found in logs that are served, in the order of logs and files.
    pub damages: Vec<Damage>,
    /// Free on the file system.
    pub free_bytes: u64,
    /// What must be free for records to be accepted.
    pub needed_free_bytes: u64,
    /// What a start would have to read: journal and extents since the last checkpoint.
    pub journal_bytes: u64,
    /// The frame that the last checkpoint covers.
    pub checkpoint_lsn: Lsn,
    /// The last published frame.
    pub published_lsn: Lsn,
}

/// Hashes one seed into another, so that incarnations of a seeded run differ.
fn mix(seed: u64, generation: u64) -> u64 {
    (seed ^ generation.wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_mul(0xbf58_476d_1ce4_e5b9)
}

/// Kafka's cluster ids are 16 bytes in URL-safe base 64 without padding.
fn new_cluster_id(bytes: [u8; 16]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut value = u128::from_be_bytes(bytes);
    // 128 bits are 21 digits of 6 bits and one of 2, which base 64 pads on the right.
    let mut digits = vec![((value & 0b11) << 4) as usize];
    value >>= 2;
    for _ in 0..21 {
        digits.push((value & 0b11_1111) as usize);
        value >>= 6;
    }
    digits
        .iter()
        .rev()
        .filter_map(|digit| ALPHABET.get(*digit))
        .map(|byte| char::from(*byte))
        .collect()
}

impl Engine {
    /// Locks and recovers a data directory. There is no other way to start, after a crash or otherwise.
    pub fn open(disk: Arc<dyn Disk>, clock: Arc<dyn Clock>, options: Options) -> Result<Self, OpenError> {
        let dir = options.data_dir.as_path();
        let lock = lock_directory(&*disk, dir)?;
        let file_system = file_system_of_segments(&*disk, dir)?;
        let seed = options.seed.unwrap_or_else(|| rand::rng().random());
        let mut ids = StdRng::seed_from_u64(seed);
        let recovered = recover(&*disk, dir, clock.now_ms(), || {
            let id = uuid::Builder::from_random_bytes(ids.random()).into_uuid();
            Catalog::new(new_cluster_id(ids.random()), id)
        })?;
        let mut rng = StdRng::seed_from_u64(mix(seed, recovered.generation));
        let salt: Salt = rng.random();
        let journal_dir = dir.join("journal");
        let journal = Journal::new(
            disk.clone(),
            journal_dir.clone(),
            options.journal_file_bytes,
            recovered.next_journal_file,
        );
        let journal_files = journal.files();
        let lsn = recovered.state.lsn;
        let group_bytes = options.group_bytes.min(options.journal_file_bytes / 8);
        let sequencer = Sequencer::new(&recovered.state, rng, group_bytes);
        let shared = Arc::new(Shared {
            clock,
            sequencer: Mutex::new(sequencer),
            state: RwLock::new(recovered.state),
            dirty: Mutex::new(recovered.dirty),
            poison: Mutex::new(None),
            free_bytes: AtomicU64::new(0),
            journal_bytes: AtomicU64::new(0),
            new_segments: AtomicU64::new(0),
            checkpoint_lsn: AtomicU64::new(0),
            hooks: RwLock::new(Vec::new()),
            counters: Default::default(),
            damages: Default::default(),
            work: Condvar::new(),
            disk: disk.clone(),
            options,
        });
        let mut checkpointer =
            Checkpointer::new(shared.clone(), journal_files, file_system, recovered.generation, salt);
        // Recovery ends with a checkpoint that begins the new incarnation, and only then may anybody write.
        loop {
            match checkpointer.step() {
                Ok(true) => {}
                Ok(false) => break,
                Err(()) => {
                    let what = shared.poisoned().unwrap_or_default();
                    let source = std::io::Error::other(what);
                    return Err(OpenError::Io {
                        what: "recovery of",
                        path: shared.options.data_dir.clone(),
                        source,
                    });
                }
            }
        }
        recovery::set_damaged_aside(&*disk, &shared.state.read(), &journal_dir)
            .and_then(|()| journal.adopt(recovered.spare_journal_files))
            .map_err(OpenError::io("cannot tidy", &journal_dir))?;
        shared.refresh_free_bytes();
        let committer = Committer::new(shared.clone(), journal, salt, lsn);
        Ok(Self {
            shared,
            committer: Mutex::new(committer),
            checkpointer: Mutex::new(checkpointer),
            scrub: Mutex::default(),
            lock: Mutex::new(Some(lock)),
        })
    }

    /// See [`crate::Storage::submit`].
    pub fn submit(&self, ws: WriteSet, done: impl FnOnce(Result<Receipt, WriteError>) + Send + 'static) {
        self.shared.submit(ws, Box::new(done));
    }

    /// As [`Self::submit`]; and if nobody commits at the moment, commits on this thread. Waking another thread, and being woken
    /// by it, costs a fifth to a third of the time of a write that is alone.
    pub(crate) fn submit_here(&self, ws: WriteSet, done: impl FnOnce(Result<Receipt, WriteError>) + Send + 'static) {
        let Some(mut committer) = self.idle_committer() else {
            return self.submit(ws, done);
        };
        self.shared.enqueue(ws, Box::new(done));
        commit_group(&mut committer);
    }

    /// As [`Self::submit`], but tells nobody. True if [`Self::commit_gathered`] must follow.
    pub(crate) fn gather(&self, ws: WriteSet, done: impl FnOnce(Result<Receipt, WriteError>) + Send + 'static) -> bool {
        self.shared.enqueue(ws, Box::new(done))
    }

    /// Commits what has gathered on this thread. False if that is left to the committing thread, which may not know yet: if
    /// somebody commits at the moment, or it takes long.
    pub(crate) fn commit_gathered(&self) -> bool {
        let Some(mut committer) = self.idle_committer() else {
            return false;
        };
        let is_short = self.shared.sequencer.lock().next_is_short(GATHERED_BYTES);
        if is_short {
            commit_group(&mut committer);
        }
        is_short
    }

    /// Unless somebody commits at the moment.
    fn idle_committer(&self) -> Option<MutexGuard<'_, Committer>> {
        self.committer.try_lock().filter(|committer| committer.is_idle())
    }

    /// Takes the present group one stage further, or begins the next.
    pub fn commit_step(&self) -> Step {
        self.committer.lock().step()
    }

    /// Closes an idle journal with an empty frame, if that would prove anything.
    pub fn close_idle_step(&self) -> Step {
        let mut committer = self.committer.lock();
        if committer.wants_closing_frame() {
            committer.close_idle()
        } else {
            Step::Idle
        }
    }

    /// Takes the running checkpoint one stage further, or begins one. True while there are more stages.
    /// Fails when storage is poisoned.
    #[allow(clippy::result_unit_err)]
    pub fn checkpoint_step(&self) -> Result<bool, ()> {
        let mut checkpointer = self.checkpointer.lock();
        // Somebody else may have the directory by now, and a backup may still ask for a checkpoint.
        if self.lock.lock().is_none() {
            return Err(());
        }
        checkpointer.step()
    }

    /// Syncs one segment that got much, ahead of the checkpoint. True if there was one. Fails when storage is poisoned.
    #[allow(clippy::result_unit_err)]
    pub fn sync_ahead_step(&self) -> Result<bool, ()> {
        // The checkpoint of a backup may be under way, and would not be told of a failure. It hears of it before its next step.
        let _no_checkpoint_step = self.checkpointer.lock();
        self.shared.sync_ahead()
    }

    /// Fails storage if somebody has removed, emptied or replaced the data directory, or taken the lock from it so that another
    /// process could have it. The files that are open outlive their names, so writes would be acknowledged that no start finds.
    pub(crate) fn watch_directory(&self) {
        let lock = self.lock.lock();
        let in_place = lock.as_ref().is_none_or(|lock| lock.is_in_place().unwrap_or(true));
        drop(lock);
        if !in_place && self.shared.poisoned().is_none() {
            let dir = self.shared.options.data_dir.display();
            self.shared
                .poison(&format!("the data directory is gone: {dir}/lock is not what it was"));
        }
    }

    /// True if anything was written since the last checkpoint.
    pub fn checkpoint_is_due(&self) -> bool {
        self.checkpointer.lock().is_due()
    }

    /// True while a checkpoint has begun and is not complete.
    pub(crate) fn checkpoint_is_running(&self) -> bool {
        self.checkpointer.lock().is_running()
    }

    /// Whether a backup is being copied.
    pub(crate) fn backup_lives(&self) -> bool {
        self.checkpointer.lock().backup_lives()
    }

    /// A backup of what the last checkpoint covers, with its files pinned.
    ///
    /// # Errors
    /// When another backup lives, storage is poisoned or closed, or the manifest cannot be read.
    pub fn backup(&self) -> Result<Backup, BackupError> {
        if self.lock.lock().is_none() {
            return Err(BackupError::Closed);
        }
        self.checkpointer.lock().backup()
    }

    /// Submits the log start moves that retention asks for. Returns how many.
    pub fn retention_step(&self) -> usize {
        let plans = retention::plan(self.shared.state.read().logs.iter(), self.shared.clock.now_ms());
        let count = plans.len();
        for plan in plans {
            self.submit(plan, |outcome| {
                if let Err(error) = outcome {
                    tracing::warn!("retention: {error}");
                }
            });
        }
        count
    }

    /// Checks about `max_bytes` of what is below the checkpoint, going on where the last step ended. False at the
    /// end; the next step begins anew.
    pub fn scrub_step(&self, max_bytes: u64) -> bool {
        let mut place = self.scrub.lock();
        let next = self.shared.scrub(*place, max_bytes);
        *place = next.unwrap_or_default();
        next.is_some()
    }

    /// See [`crate::Storage::read`].
    pub fn read(&self, log: LogId, from: i64, max_bytes: usize) -> Result<Fetched, ReadError> {
        self.shared.read(log, from, max_bytes, &Buffers::none(), Reach::Disk)
    }

    /// See [`crate::Storage::ends`].
    pub fn ends(&self, log: LogId) -> Option<LogEnds> {
        self.shared.state.read().logs.get(&log).map(|log| log.ends())
    }

    /// See [`crate::Storage::all_ends`].
    pub fn all_ends(&self, logs: &[LogId]) -> Vec<Option<LogEnds>> {
        let state = self.shared.state.read();
        logs.iter()
            .map(|log| state.logs.get(log).map(|log| log.ends()))
            .collect()
    }

    /// The published catalog.
    pub fn catalog(&self) -> Arc<Catalog> {
        self.shared.state.read().catalog.clone()
    }

    /// Calls `hook` after every published group, before those who wait for it are answered.
    pub fn on_publish(&self, hook: impl Fn(&Published) + Send + Sync + 'static) {
        self.shared.hooks.write().push(Box::new(hook));
    }

    /// How storage is doing.
    pub fn health(&self) -> Health {
        let state = self.shared.state.read();
        Health {
            poisoned: self.shared.poisoned(),
            fences: state.logs.values().filter_map(|log| log.fence.clone()).collect(),
            damages: self.shared.damages.lock().present(&state),
            free_bytes: self.shared.free_bytes.load(Ordering::Relaxed),
            needed_free_bytes: self.shared.needed_free_bytes(),
            journal_bytes: self.shared.journal_bytes.load(Ordering::Relaxed),
            checkpoint_lsn: self.shared.checkpoint_lsn.load(Ordering::Relaxed),
            published_lsn: state.lsn,
        }
    }

    /// What the write path did since the start.
    pub fn stats(&self) -> Stats {
        self.shared.counters.stats()
    }

    /// Refuses new write sets. Those that wait go on.
    pub fn refuse_writes(&self) {
        self.shared.sequencer.lock().close();
    }

    /// True if no write waits.
    pub fn is_idle(&self) -> bool {
        self.shared.sequencer.lock().is_idle()
    }

    /// True if a group is about to begin, and writes came together lately.
    pub(crate) fn more_may_come(&self) -> bool {
        let begins = self.idle_committer().is_some();
        begins && self.shared.sequencer.lock().more_may_come()
    }

    /// See [`crate::Storage::is_quiet`].
    pub(crate) fn is_quiet(&self) -> bool {
        self.shared.sequencer.lock().is_quiet()
    }

    /// Hands the lock of the directory over. Nothing may be written afterwards.
    pub(crate) fn take_lock(self) -> Option<Box<dyn DirectoryLock>> {
        self.lock.into_inner()
    }

    /// Waits until the commit step that is under way has come to its end, whichever thread it runs on.
    pub(crate) fn await_commit_step(&self) {
        drop(self.committer.lock());
    }

    /// Lets others open the directory. Nothing may be written afterwards.
    pub(crate) fn unlock(&self) {
        // A step that is under way comes to its end first.
        let _no_step = self.checkpointer.lock();
        self.lock.lock().take();
    }
}

/// Commits one group. Those behind it were begun by submitters who have told the committing thread, or see to it themselves.
fn commit_group(committer: &mut Committer) {
    while committer.step() == Step::Worked && !committer.is_idle() {}
}

/// Where segments are and will be, which may not be where the journal is.
fn file_system_of_segments(disk: &dyn Disk, dir: &Path) -> Result<Option<Box<dyn FileSystem>>, OpenError> {
    let logs = dir.join("logs");
    let there = disk.exists(&logs).map_err(OpenError::io("cannot look for", &logs))?;
    let place = if there { logs.as_path() } else { dir };
    let file_system = disk.file_system(place);
    file_system.map_err(OpenError::io("cannot look at the file system of", place))
}

fn lock_directory(disk: &dyn Disk, dir: &Path) -> Result<Box<dyn DirectoryLock>, OpenError> {
    disk.create_dir(dir).map_err(OpenError::io("cannot create", dir))?;
    recovery::refuse_foreign(disk, dir)?;
    let path = dir.join("lock");
    disk.lock(&path).map_err(|error| match error.kind() {
        std::io::ErrorKind::WouldBlock => OpenError::InUse(dir.into()),
        _ => OpenError::io("cannot lock", &path)(error),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::batch::BatchBuilder;
    use crate::clock::SystemClock;
    use crate::disk::SimulatedDisk;
    use crate::record::Record;
    use crate::write_set::{Append, Change};

    fn write(engine: &Engine, ws: WriteSet) -> Result<Receipt, WriteError> {
        let answer = Arc::new(Mutex::new(None));
        let slot = answer.clone();
        engine.submit(ws, move |outcome| *slot.lock() = Some(outcome));
        while engine.commit_step() == Step::Worked {}
        answer.lock().take().unwrap()
    }

    /// The file system is asked now and then; in between a fast disk takes more than any reserve.
    #[test]
    fn a_disk_that_fills_faster_than_it_is_looked_at_refuses_before_it_is_full() {
        let disk = SimulatedDisk::new(1);
        disk.set_capacity(Some(200 << 20));
        let options = Options {
            journal_file_bytes: 8 << 20,
            ..Options::new("/data")
        };
        let engine = Engine::open(Arc::new(disk), Arc::new(SystemClock), options).unwrap();
        let change = Change::CreateTopic {
            name: "t".into(),
            partitions: 1,
            configs: Default::default(),
        };
        let changes = vec![change];
        let created = write(
            &engine,
            WriteSet {
                changes,
                ..WriteSet::default()
            },
        );
        let log = *created.unwrap().created.unwrap().partitions.first().unwrap();
        let mut written = 0;
        let refused = loop {
            let mut builder = BatchBuilder::new();
            builder.push(Record {
                value: Some(vec![7; 1 << 20].into()),
                timestamp_ms: 1_700_000_000_000,
                ..Record::default()
            });
            let append = Append {
                log,
                batches: builder.build().unwrap(),
                log_append_time: false,
            };
            let appends = vec![append];
            match write(
                &engine,
                WriteSet {
                    appends,
                    ..WriteSet::default()
                },
            ) {
                Ok(_) => written += 1,
                Err(error) => break error,
            }
            // The journal's files are used again, as they are while there are checkpoints.
            while let Ok(true) = engine.checkpoint_step() {}
        };
        assert!(matches!(refused, WriteError::NoSpace { .. }), "{refused}");
        assert!(written > 50 && engine.health().poisoned.is_none(), "{written}");
    }

    #[test]
    fn a_cluster_id_has_22_characters_of_url_safe_base_64() {
        assert_eq!(new_cluster_id([0; 16]), "AAAAAAAAAAAAAAAAAAAAAA");
        assert_eq!(new_cluster_id([0xff; 16]), "_____________________w");
    }
}
