//! What the sequencer, the committer, the checkpoint and readers share.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Condvar, Mutex, RwLock};

use crate::clock::Clock;
use crate::damage::Damages;
use crate::disk::Disk;
use crate::error::WriteError;
use crate::options::Options;
use crate::segment::SegmentFile;
use crate::sequencer::{Done, Now, Sequencer};
use crate::state::State;
use crate::stats::Counters;
use crate::write_set::{Receipt, WriteSet};
use crate::{LogId, Lsn};

/// Files that were written, or sealed, since the last checkpoint, which it must sync.
#[derive(Debug, Default)]
pub(crate) struct Dirty {
    pub segments: BTreeMap<(LogId, i64), Arc<SegmentFile>>,
    pub directories: BTreeSet<PathBuf>,
}

/// A group was published.
#[derive(Debug, Clone)]
pub struct Published {
    /// The frame.
    pub lsn: Lsn,
    /// Logs whose high watermark or start moved.
    pub logs: Vec<LogId>,
    /// Topics or settings changed.
    pub catalog_changed: bool,
}

/// A checkpoint is due when so many segments were begun, however small: their files are open.
const CHECKPOINT_SEGMENTS: u64 = 256;

type Hook = Box<dyn Fn(&Published) + Send + Sync>;

pub(crate) struct Shared {
    pub disk: Arc<dyn Disk>,
    pub clock: Arc<dyn Clock>,
    pub options: Options,
    pub sequencer: Mutex<Sequencer>,
    pub state: RwLock<State>,
    pub dirty: Mutex<Dirty>,
    pub poison: Mutex<Option<String>>,
    pub free_bytes: AtomicU64,
    /// What a start would have to read: journal and extents since the last checkpoint began.
    pub journal_bytes: AtomicU64,
    /// Segments begun since then. Each, and the one before it, stays open until a checkpoint has synced it.
    pub new_segments: AtomicU64,
    pub checkpoint_lsn: AtomicU64,
    pub hooks: RwLock<Vec<Hook>>,
    pub counters: Counters,
    pub damages: Mutex<Damages>,
    /// Signalled when a group begins to wait for the committer.
    pub work: Condvar,
}

impl Shared {
    /// See [`crate::Storage::submit`].
    pub fn submit(&self, ws: WriteSet, done: Done) {
        if self.enqueue(ws, done) {
            self.work.notify_one();
        }
    }

    /// Sequences a write set, or answers at once. Tells whether a group waits for the committer, who must hear of it.
    pub fn enqueue(&self, ws: WriteSet, done: Done) -> bool {
        let now = Now {
            wall_ms: self.clock.now_ms(),
            free_bytes: self.free_bytes.load(Ordering::Relaxed),
            journal_file_bytes: self.options.journal_file_bytes,
        };
        let mut sequencer = self.sequencer.lock();
        let told = sequencer.submit(ws, done, now);
        let has_work = sequencer.has_work();
        drop(sequencer);
        if let Some((done, outcome)) = told {
            self.answer(done, outcome);
        }
        has_work
    }

    pub fn answer(&self, done: Done, outcome: Result<Receipt, WriteError>) {
        match &outcome {
            Ok(_) => self.counters.write_sets.fetch_add(1, Ordering::Relaxed),
            Err(_) => self.counters.refused.fetch_add(1, Ordering::Relaxed),
        };
        done(outcome);
    }

    /// A write or sync failed: nothing more is acknowledged and nothing trimmed, reads go on, only a
    /// restart recovers. Never retried in place.
    pub fn poison(&self, what: &str) {
        self.poison.lock().get_or_insert_with(|| what.to_owned());
        let waiters = self.sequencer.lock().refuse(WriteError::Poisoned(what.to_owned()));
        for waiter in waiters {
            self.answer(waiter.done, Err(WriteError::Poisoned(what.to_owned())));
        }
        self.work.notify_all();
        // Last, so that nobody waits for the log.
        tracing::error!("storage is fenced until restart: {what}");
    }

    /// Whether so much was written since the last checkpoint that one is due; with a slack, that writes must wait for it.
    pub fn is_ahead_of_checkpoint(&self, slack: u64) -> bool {
        let journal_bytes = self.options.checkpoint_bytes.saturating_mul(slack);
        self.journal_bytes.load(Ordering::Relaxed) >= journal_bytes
            || self.new_segments.load(Ordering::Relaxed) >= CHECKPOINT_SEGMENTS * slack
    }

    pub fn poisoned(&self) -> Option<String> {
        self.poison.lock().clone()
    }

    /// What must be free for records to be accepted.
    pub fn needed_free_bytes(&self) -> u64 {
        let sequencer = self.sequencer.lock();
        sequencer.needed_free_bytes(self.options.journal_file_bytes)
    }

    /// So much was written since the file system was asked how much is free. A fast disk takes more in the meantime than
    /// the reserve: without this a server alone on its disk would run into its end, and stop, instead of refusing records.
    pub fn spend(&self, bytes: u64) {
        let spent = |free: u64| Some(free.saturating_sub(bytes));
        // It gives something, always.
        let _ = self
            .free_bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, spent);
    }

    /// Asks the file system how much is free. The sequencer refuses writes by the last answer, less what was written since.
    pub fn refresh_free_bytes(&self) {
        match self.disk.free_bytes(&self.options.data_dir) {
            Ok(free) => self.free_bytes.store(free, Ordering::Relaxed),
            Err(error) => tracing::warn!("cannot tell the free space: {error}"),
        }
    }
}
