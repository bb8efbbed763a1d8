//! The checkpoint: makes the segments durable up to C, so that the journal below C can go.
//!
//! The order is the whole point. C and the published state at C are fixed first; then segments and the
//! directories of new ones are synced; then indexes and producer snapshots; then both copies of the
//! manifest; and only then is the journal trimmed and are dead files removed.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::backup::{Backup, Pins};
use crate::disk::{Disk, DiskFile, FileSystem, Job, Open};
use crate::error::{BackupError, OpenError};
use crate::frame::Salt;
use crate::index::{ENTRY_BYTES, IndexEntry};
use crate::journal::{self, JournalFiles};
use crate::manifest::{Fence, Manifest};
use crate::planted::{Planted, planted};
use crate::producer_snapshot::{ProducerSnapshot, snapshot_name, store_producers, write_new_producers};
use crate::segment::{IndexState, Segment};
use crate::shared::{Dirty, Shared};
use crate::state::{LogState, Removal, Removed, State};
use crate::{LogId, Lsn};

/// Takes checkpoints, one stage a step.
pub(crate) struct Checkpointer {
    shared: Arc<Shared>,
    journal_files: Arc<Mutex<JournalFiles>>,
    /// That of the segments, opened before recovery wrote any, as long as no sync of it has failed.
    file_system: Option<Box<dyn FileSystem>>,
    generation: u64,
    salt: Salt,
    stage: Stage,
    /// What a backup that is being copied needs.
    pins: Weak<Pins>,
    /// What would have been removed but for the pins.
    withheld: Vec<Removal>,
}

enum Stage {
    Idle,
    Fixed(Box<Fixed>),
    Synced(Box<Fixed>),
    Indexed(Box<Fixed>),
    Stored(Box<Fixed>),
}

/// What was fixed together with C.
struct Fixed {
    manifest: Manifest,
    dirty: Dirty,
    index_chunks: Vec<IndexChunk>,
    producers: Vec<ProducerSnapshot>,
    removals: Vec<Removal>,
    journal_bytes: u64,
    new_segments: u64,
}

/// New entries of an index, and where they go in its file.
struct IndexChunk {
    path: PathBuf,
    position: u64,
    bytes: Vec<u8>,
}

impl Checkpointer {
    pub fn new(
        shared: Arc<Shared>,
        journal_files: Arc<Mutex<JournalFiles>>,
        file_system: Option<Box<dyn FileSystem>>,
        generation: u64,
        salt: Salt,
    ) -> Self {
        Self {
            shared,
            journal_files,
            file_system,
            generation,
            salt,
            stage: Stage::Idle,
            pins: Weak::new(),
            withheld: Vec::new(),
        }
    }

    /// True if a checkpoint has begun and is not complete.
    pub fn is_running(&self) -> bool {
        !matches!(self.stage, Stage::Idle)
    }

    /// True if there is anything that a checkpoint would change.
    pub fn is_due(&self) -> bool {
        let released = !self.withheld.is_empty() && !self.backup_lives();
        released || self.shared.state.read().lsn > self.shared.checkpoint_lsn.load(Ordering::Relaxed)
    }

    /// Whether a backup is being copied.
    pub fn backup_lives(&self) -> bool {
        self.pins.strong_count() > 0
    }

    /// Pins what the manifest on the disk names, until the backup is dropped. Steps of a checkpoint that is running do no
    /// harm: what it will write lies behind that, and what it will remove is looked at then.
    pub fn backup(&mut self) -> Result<Backup, BackupError> {
        if let Some(what) = self.shared.poisoned() {
            return Err(BackupError::Poisoned(what));
        }
        if self.backup_lives() {
            return Err(BackupError::Running);
        }
        let dir = &self.shared.options.data_dir;
        let manifest = Manifest::load(&*self.shared.disk, dir)?.ok_or_else(|| OpenError::BadManifest {
            dir: dir.clone(),
            reason: "both copies are gone".into(),
        })?;
        let backup = Backup::of(self.shared.disk.clone(), dir, manifest)?;
        self.pins = Arc::downgrade(backup.pins());
        Ok(backup)
    }

    /// Does the next stage. Returns true while there are more.
    pub fn step(&mut self) -> Result<bool, ()> {
        if self.shared.poisoned().is_some() {
            return Err(());
        }
        let result = match std::mem::replace(&mut self.stage, Stage::Idle) {
            Stage::Idle => {
                self.stage = Stage::Fixed(Box::new(self.fix()));
                Ok(())
            }
            Stage::Fixed(fixed) => {
                let trimmed = if planted(Planted::TrimBeforeManifest) {
                    self.trim_journal(&fixed)
                } else {
                    Ok(())
                };
                let result = trimmed
                    .and_then(|()| self.sync_segments(&fixed))
                    .map_err(|error| format!("segment sync failed: {error}"));
                self.stage = Stage::Synced(fixed);
                result
            }
            Stage::Synced(fixed) => {
                let result = self
                    .write_caches(&fixed)
                    .map_err(|error| format!("index write failed: {error}"));
                self.stage = Stage::Indexed(fixed);
                result
            }
            Stage::Indexed(mut fixed) => {
                if planted(Planted::FixCheckpointLate) {
                    fixed.manifest = self.fix().manifest;
                }
                if planted(Planted::ForgetFences) {
                    fixed.manifest.fences.clear();
                }
                let result = fixed.manifest.store(&*self.shared.disk, &self.shared.options.data_dir);
                self.stage = Stage::Stored(fixed);
                result.map_err(|error| format!("manifest write failed: {error}"))
            }
            Stage::Stored(fixed) => self
                .trim(&fixed)
                .map_err(|error| format!("journal trim failed: {error}")),
        };
        match result {
            Ok(()) => Ok(self.is_running()),
            Err(what) => {
                self.stage = Stage::Idle;
                self.shared.poison(&what);
                Err(())
            }
        }
    }

    /// Fixes C and copies what belongs to it. The dirty files are taken *after* C is fixed: a group is noted
    /// there before it is published, so everything up to C is among them.
    fn fix(&mut self) -> Fixed {
        self.generation += 1;
        let journal_bytes = self.shared.journal_bytes.load(Ordering::Relaxed);
        let new_segments = self.shared.new_segments.load(Ordering::Relaxed);
        let mut state = self.shared.state.write();
        let state = &mut *state;
        let lsn = state.lsn;
        for (log, published) in &mut state.logs {
            // By the journal's clock, so that live state and replayed state are equal.
            if published.producers.expire(state.time_ms) {
                state.touched.insert(*log);
            }
        }
        let mut fixed = Fixed {
            manifest: empty_manifest(state, self.generation, self.salt),
            dirty: Dirty::default(),
            index_chunks: Vec::new(),
            producers: Vec::new(),
            removals: std::mem::take(&mut state.removals),
            journal_bytes,
            new_segments,
        };
        for log in std::mem::take(&mut state.touched) {
            if let Some(published) = state.logs.get_mut(&log) {
                fixed.note_log(published, lsn);
            }
        }
        fixed.manifest.logs = state
            .logs
            .iter()
            .map(|(log, published)| published.to_stored(*log))
            .collect();
        fixed.manifest.logs.sort_unstable_by_key(|stored| stored.log);
        fixed.dirty = std::mem::take(&mut *self.shared.dirty.lock());
        fixed
    }

    /// Whether so many files are synced with their whole file system.
    fn syncs_together(&self, files: usize) -> bool {
        self.file_system.is_some() && files >= self.shared.options.sync_together_files
    }

    /// Syncs the whole file system. False if that failed: it may have been for a file of somebody else, and each of ours knows of
    /// its own failures. Among those may be files that only a later checkpoint will sync, so from then on each is always asked.
    ///
    /// The device may be flushed only by the sync of the manifest, before its rename: see [`FileSystem`].
    fn sync_together(&mut self) -> bool {
        let Some(file_system) = &self.file_system else {
            return false;
        };
        if planted(Planted::SkipSegmentSync) {
            return true;
        }
        let synced = file_system.sync();
        if planted(Planted::ForgetFailedFileSystemSync) {
            return true;
        }
        if let Err(error) = &synced {
            tracing::warn!("{error}; it may be another program's: from now on each file is synced by itself");
            self.file_system = None;
        }
        synced.is_ok()
    }

    fn sync_segments(&mut self, fixed: &Fixed) -> io::Result<()> {
        let Dirty { segments, directories } = &fixed.dirty;
        segments.values().for_each(|file| file.note_sync_begins());
        if self.syncs_together(segments.len() + directories.len()) && self.sync_together() {
            return Ok(());
        }
        let disk = &*self.shared.disk;
        let segments = segments.values();
        let segments = segments.map(|file| -> Job<'_> { Box::new(|| file.sync(disk)) });
        let directories = directories.iter().map(|dir| -> Job<'_> {
            Box::new(|| match disk.exists(dir)? && !planted(Planted::SkipDirectorySync) {
                true => disk.sync_dir(dir),
                false => Ok(()),
            })
        });
        disk.run_all(segments.chain(directories).collect())
    }

    fn write_caches(&mut self, fixed: &Fixed) -> io::Result<()> {
        let disk = Arc::clone(&self.shared.disk);
        let disk = &*disk;
        let (chunks, snapshots) = (&fixed.index_chunks, &fixed.producers);
        if self.syncs_together(chunks.len() + snapshots.len()) {
            for chunk in chunks {
                write_index(disk, chunk)?;
            }
            for snapshot in snapshots {
                write_new_producers(disk, snapshot)?;
            }
            if self.sync_together() {
                return Ok(());
            }
        }
        let chunks = chunks
            .iter()
            .map(|chunk| -> Job<'_> { Box::new(|| write_index(disk, chunk)?.sync_data()) });
        let snapshots = snapshots
            .iter()
            .map(|snapshot| -> Job<'_> { Box::new(|| store_producers(disk, snapshot)) });
        disk.run_all(chunks.chain(snapshots).collect())
    }

    fn trim_journal(&self, fixed: &Fixed) -> io::Result<()> {
        let shared = &self.shared;
        let journal_dir = shared.options.data_dir.join("journal");
        let keep_from = fixed.manifest.journal_file;
        journal::retire(&*shared.disk, &journal_dir, &self.journal_files, keep_from)
    }

    fn trim(&mut self, fixed: &Fixed) -> io::Result<()> {
        self.trim_journal(fixed)?;
        self.remove_dead(fixed)?;
        let shared = &self.shared;
        self.note_checkpointed(fixed);
        shared.journal_bytes.fetch_sub(fixed.journal_bytes, Ordering::Relaxed);
        shared.new_segments.fetch_sub(fixed.new_segments, Ordering::Relaxed);
        shared
            .checkpoint_lsn
            .store(fixed.manifest.checkpoint_lsn, Ordering::Relaxed);
        shared.counters.checkpoints.fetch_add(1, Ordering::Relaxed);
        shared.sequencer.lock().expire_producers(shared.clock.now_ms());
        Ok(())
    }

    /// Removes what the manifest does not name any more, but not what a backup still copies.
    fn remove_dead(&mut self, fixed: &Fixed) -> io::Result<()> {
        let pins = self.pins.upgrade().filter(|_| !planted(Planted::UnpinnedBackup));
        let covered = |removal: &&Removal| removal.lsn <= fixed.manifest.checkpoint_lsn;
        let dead = fixed.removals.iter().filter(covered).cloned();
        for removal in std::mem::take(&mut self.withheld).into_iter().chain(dead) {
            match pins.as_ref().is_some_and(|pins| pins.hold(&removal.what)) {
                true => self.withheld.push(removal),
                false => self.remove(&removal.what)?,
            }
        }
        Ok(())
    }

    /// Removes files that nothing refers to. Renamed first, so that a half-done removal is recognised.
    fn remove(&self, what: &Removed) -> io::Result<()> {
        let disk = &*self.shared.disk;
        match what {
            Removed::Segment(file) => {
                drop(file.take_handles());
                for path in [file.path.clone(), file.index_path()] {
                    if disk.exists(&path)? {
                        let dead = path.with_added_extension("deleted");
                        disk.rename(&path, &dead)?;
                        disk.remove_file(&dead)?;
                    }
                }
                Ok(())
            }
            Removed::Producers(path) => match disk.exists(path)? {
                true => disk.remove_file(path),
                false => Ok(()),
            },
            Removed::Log(dir) => remove_log_dir(disk, dir),
        }
    }

    /// Reads above the checkpointed end may still be mended by the journal; those below may not. Segments
    /// that were synced and are not written any more are closed.
    fn note_checkpointed(&self, fixed: &Fixed) {
        let mut state = self.shared.state.write();
        for stored in &fixed.manifest.logs {
            if let Some(published) = state.logs.get_mut(&stored.log) {
                published.checkpointed_end = stored.end;
            }
        }
        let mut closed = Vec::new();
        for ((log, base), file) in &fixed.dirty.segments {
            let active = state.logs.get(log).and_then(|published| published.segments.last());
            let sealed = active.is_none_or(|active| active.base > *base);
            let synced_whole = !self.shared.dirty.lock().segments.contains_key(&(*log, *base));
            if sealed && synced_whole {
                closed.push(file.take_handles());
            }
        }
        // In this order: nobody can write, or read, while the state is held.
        drop(state);
        drop(closed);
    }
}

impl Fixed {
    /// Copies what a checkpoint stores of a log that changed.
    fn note_log(&mut self, published: &mut LogState, lsn: Lsn) {
        for segment in &mut published.segments {
            self.index_chunks.extend(new_index_entries(segment));
        }
        let old = published
            .stored_producers
            .map(|old| published.dir.join(snapshot_name(old)));
        let superseded = |path| Removal {
            lsn,
            what: Removed::Producers(path),
        };
        if published.fence.is_some() {
            return;
        }
        if published.producers.is_empty() {
            self.removals.extend(old.map(superseded));
            published.stored_producers = None;
            return;
        }
        let path = published.dir.join(snapshot_name(lsn));
        let old = old.filter(|old| *old != path);
        self.removals.extend(old.map(superseded));
        self.producers.push(ProducerSnapshot {
            path,
            lsn,
            table: published.producers.clone(),
        });
        published.stored_producers = Some(lsn);
    }
}

/// The entries that the last checkpoint did not write. The segment's stored count and checksum move on.
fn new_index_entries(segment: &mut Segment) -> Option<IndexChunk> {
    let IndexState::Loaded(index) = &segment.index else {
        return None;
    };
    let known = segment.index_entries as usize;
    let fresh = index.entries().get(known..).filter(|fresh| !fresh.is_empty())?;
    let bytes: Vec<u8> = fresh.iter().flat_map(IndexEntry::encode).collect();
    let position = (known * ENTRY_BYTES) as u64;
    let mut crc = crc32fast::Hasher::new_with_initial_len(segment.index_crc, position);
    crc.update(&bytes);
    segment.index_crc = crc.finalize();
    segment.index_entries = index.entries().len() as u32;
    Some(IndexChunk {
        path: segment.file.index_path(),
        position,
        bytes,
    })
}

fn empty_manifest(state: &State, generation: u64, salt: Salt) -> Manifest {
    let (journal_file, journal_position) = state.journal_end;
    let mut fences: Vec<Fence> = state.logs.values().filter_map(|log| log.fence.clone()).collect();
    fences.sort_unstable_by_key(|fence| fence.log);
    Manifest {
        generation,
        checkpoint_lsn: state.lsn,
        salt,
        journal_file,
        journal_position,
        catalog: state.catalog.to_stored(),
        logs: Vec::new(),
        fences,
    }
}

fn write_index(disk: &dyn Disk, chunk: &IndexChunk) -> io::Result<Arc<dyn DiskFile>> {
    let mode = match disk.exists(&chunk.path)? {
        true => Open::ReadWrite,
        false => Open::CreateNew,
    };
    let file = disk.open(&chunk.path, mode)?;
    file.write_at(&chunk.bytes, chunk.position)?;
    Ok(file)
}

/// Removes the directory of a deleted log.
pub(crate) fn remove_log_dir(disk: &dyn Disk, dir: &std::path::Path) -> io::Result<()> {
    if !disk.exists(dir)? {
        return Ok(());
    }
    for name in disk.list(dir)? {
        disk.remove_file(&dir.join(name))?;
    }
    disk.remove_dir(dir)
}

/// Logs whose directories may be on the disk.
pub(crate) fn log_id_of(name: &str) -> Option<LogId> {
    name.parse().ok()
}
