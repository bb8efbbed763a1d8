//! Lifts fences: keeps what the segments of a fenced log hold, as far as it checks and continues, and cuts the rest.
//!
//! Batches that the journal has lost and a segment holds had been durable, because segments are written after the sync
//! of the frame, and of extents one byte is. A log ends behind the last of them, and goes on there with a new leader epoch.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Directory, partition_name};
use crate::LogId;
use crate::append::{LARGEST_PAGE_BYTES, is_padding};
use crate::catalog::Catalog;
use crate::clock::{Clock, SystemClock};
use crate::config::LogConfig;
use crate::disk::{Disk, Open};
use crate::engine::Engine;
use crate::error::OpenError;
use crate::manifest::{Fence, Manifest, StoredLog, StoredSegment};
use crate::options::Options;
use crate::producer_snapshot::{ProducerSnapshot, snapshot_name, store_producers};
use crate::recovery::{Rehearsal, rebuild_producers, rehearse};
use crate::segment::{SegmentWalk, base_of, file_name};
use crate::state::{LogState, log_dir};

const READ_AHEAD_BYTES: usize = 1 << 20;

/// What became of a fenced log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repaired {
    /// The partition, as `topic-0`.
    pub partition: String,
    /// The fence that was lifted.
    pub fence: Fence,
    /// The first offset that it has now.
    pub start: i64,
    /// One behind its last record. Where this is the fence's offset, nothing was found behind it.
    pub end: i64,
    /// Records from the fence's offset on that were found in segments.
    pub kept_records: i64,
    /// Their batches' bytes.
    pub kept_bytes: u64,
    /// What does not continue the log.
    pub cuts: Vec<Cut>,
}

/// Bytes that a repair cuts off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// The segment file, relative to the data directory.
    pub file: String,
    /// Where it is cut; at 0 it is removed.
    pub position: u64,
    /// How much goes.
    pub bytes: u64,
}

/// A fenced log as it will be.
struct Salvage {
    log: StoredLog,
    repaired: Repaired,
    /// Segments in which something was found.
    touched: Vec<PathBuf>,
}

impl Directory {
    /// Tells what [`Self::repair`] would do, and changes nothing. After a power cut a repair may keep more: of extents above
    /// the checkpoint it first writes the byte that was withheld.
    ///
    /// # Errors
    /// When no start is possible, or files cannot be read.
    pub fn plan_repair(&self) -> Result<Vec<Repaired>, OpenError> {
        let Some(manifest) = Manifest::load(&*self.disk, &self.dir)? else {
            return Ok(Vec::new());
        };
        let Rehearsal { state, to_write, .. } = rehearse(&*self.disk, &self.dir, &manifest)?;
        let mut repaired = Vec::new();
        for (id, log) in &state.logs {
            if let Some(fence) = &log.fence {
                let salvage = self.salvage(log.to_stored(*id), fence, &state.catalog, &to_write)?;
                repaired.push(salvage.repaired);
            }
        }
        Ok(repaired)
    }

    /// Lifts all fences. Begins as a start does, with recovery, so that the journal holds nothing more.
    ///
    /// # Errors
    /// When no start is possible, or a write fails. Repairing again goes on where this one ended.
    pub fn repair(self) -> Result<Vec<Repaired>, OpenError> {
        let Self { disk, dir, lock } = self;
        drop(lock);
        // It takes the lock again, and holds it until the repair is done.
        let engine = Engine::open(disk.clone(), Arc::new(SystemClock), Options::new(&dir))?;
        let lock = engine.take_lock();
        let directory = Self { disk, dir, lock };
        directory.lift_fences()
    }

    fn lift_fences(&self) -> Result<Vec<Repaired>, OpenError> {
        let disk = &*self.disk;
        let Some(mut manifest) = Manifest::load(disk, &self.dir)? else {
            return Ok(Vec::new());
        };
        let catalog = Catalog::from_stored(manifest.catalog.clone());
        let (mut repaired, mut superseded) = (Vec::new(), Vec::new());
        for fence in std::mem::take(&mut manifest.fences) {
            let Some(stored) = manifest.logs.iter_mut().find(|log| log.log == fence.log) else {
                continue;
            };
            let mut salvage = self.salvage(stored.clone(), &fence, &catalog, &BTreeSet::new())?;
            for path in &salvage.touched {
                // Only the page cache may have it.
                let synced = disk.open(path, Open::ReadWrite).and_then(|file| file.sync_all());
                synced.map_err(OpenError::io("cannot sync", path))?;
            }
            self.store_producers(&mut salvage.log, manifest.checkpoint_lsn)?;
            let old = std::mem::replace(stored, salvage.log);
            if let Some(lsn) = old.producers.filter(|_| old.producers != stored.producers) {
                superseded.push(log_dir(&self.dir, old.log).join(snapshot_name(lsn)));
            }
            repaired.push(salvage.repaired);
        }
        if repaired.is_empty() {
            return Ok(repaired);
        }
        // Before anything is cut: until the fences are lifted, nothing is.
        manifest.generation += 1;
        manifest.store(disk, &self.dir)?;
        for cut in repaired.iter().flat_map(|repaired| &repaired.cuts) {
            let path = self.dir.join(&cut.file);
            cut_file(disk, &path, cut.position).map_err(OpenError::io("cannot cut", &path))?;
        }
        for path in superseded {
            if disk.exists(&path).map_err(OpenError::io("cannot look at", &path))? {
                disk.remove_file(&path).map_err(OpenError::io("cannot remove", &path))?;
            }
        }
        Ok(repaired)
    }

    /// Finds what belongs to a fenced log, from the end that is known on. `to_write` are segments that a start would write
    /// first.
    fn salvage(
        &self,
        mut log: StoredLog,
        fence: &Fence,
        catalog: &Catalog,
        to_write: &BTreeSet<(LogId, i64)>,
    ) -> Result<Salvage, OpenError> {
        let disk = &*self.disk;
        let dir = log_dir(&self.dir, log.log);
        let exists = |path: &Path| disk.exists(path).map_err(OpenError::io("cannot look at", path));
        // Without its last segment a log ends where that began.
        while let Some(active) = log.segments.last() {
            let there = to_write.contains(&(log.log, active.base)) || exists(&dir.join(file_name(active.base)))?;
            if there {
                break;
            }
            log.end = active.base;
            log.segments.pop();
            log.leader_epochs.retain(|(_, first)| *first < log.end);
        }
        let (known_end, mut kept_bytes, mut touched) = (log.end, 0, Vec::new());
        loop {
            let found_bytes = self.continue_active(&mut log)?;
            let active = log.segments.last().copied();
            match active {
                Some(active) if found_bytes > 0 => {
                    kept_bytes += found_bytes;
                    touched.push(dir.join(file_name(active.base)));
                }
                Some(active) if active.size_bytes == 0 => {
                    log.segments.pop();
                    break;
                }
                _ => {}
            }
            // Where the log ends now, it may have gone on in a segment of its own.
            log.segments.push(StoredSegment {
                base: log.end,
                size_bytes: 0,
                max_timestamp: i64::MIN,
                index_entries: 0,
                index_crc: 0,
            });
        }
        let kept_records = log.end - known_end;
        if log.start > log.end {
            // All that is left had been deleted, and offsets below the start must not come again.
            log.end = log.start;
            log.segments.clear();
        }
        let cuts = self.cuts(&log, &dir)?;
        let repaired = Repaired {
            partition: partition_name(catalog, log.log),
            fence: fence.clone(),
            start: log.start,
            end: log.end,
            kept_records,
            kept_bytes,
            cuts,
        };
        Ok(Salvage { log, repaired, touched })
    }

    /// Takes the batches behind the end of the last segment that check and continue the log. Returns how many bytes they are.
    fn continue_active(&self, log: &mut StoredLog) -> Result<u64, OpenError> {
        let Some(active) = log.segments.last_mut() else {
            return Ok(0);
        };
        let path = log_dir(&self.dir, log.log).join(file_name(active.base));
        if !self
            .disk
            .exists(&path)
            .map_err(OpenError::io("cannot look at", &path))?
        {
            return Ok(0);
        }
        let file = self.disk.open(&path, Open::Read);
        let file = file.map_err(OpenError::io("cannot open", &path))?;
        let file_bytes = file.len().map_err(OpenError::io("cannot read", &path))?;
        // Segments are addressed by 31 bits.
        let readable_bytes = file_bytes.min(i32::MAX as u64);
        let known_bytes = active.size_bytes;
        let mut walk = SegmentWalk::new(file, readable_bytes, known_bytes, log.end, READ_AHEAD_BYTES);
        while let Ok(Some((header, _))) = walk.next() {
            let newest = log.leader_epochs.last().map_or(i32::MIN, |(epoch, _)| *epoch);
            if header.leader_epoch < newest || header.leader_epoch > log.leader_epoch {
                break;
            }
            if header.leader_epoch > newest {
                log.leader_epochs.push((header.leader_epoch, header.base_offset));
            }
            log.end = header.last_offset() + 1;
            active.size_bytes += header.size_bytes() as u64;
            active.max_timestamp = active.max_timestamp.max(header.max_timestamp);
            // The index is made anew when it is needed.
            (active.index_entries, active.index_crc) = (0, 0);
        }
        Ok(active.size_bytes - known_bytes)
    }

    /// What stands in files behind the log's end.
    fn cuts(&self, log: &StoredLog, dir: &Path) -> Result<Vec<Cut>, OpenError> {
        let disk = &*self.disk;
        let mut cuts = Vec::new();
        if !disk.exists(dir).map_err(OpenError::io("cannot look at", dir))? {
            return Ok(cuts);
        }
        let active = log.segments.last();
        for name in disk.list(dir).map_err(OpenError::io("cannot list", dir))? {
            let path = dir.join(&name);
            let position = match (base_of(&name), active) {
                (Some(base), Some(active)) if base == active.base => active.size_bytes,
                (Some(base), Some(active)) if base > active.base => 0,
                (Some(_), None) => 0,
                _ => continue,
            };
            let look = || {
                let file = disk.open(&path, Open::Read)?;
                let len = file.len()?;
                Ok((
                    len,
                    len > position && !is_padding(&*file, position, LARGEST_PAGE_BYTES)?,
                ))
            };
            let (len, has_more) = look().map_err(OpenError::io("cannot read", &path))?;
            if has_more {
                cuts.push(Cut {
                    file: self.told(&path),
                    position,
                    bytes: len - position,
                });
            }
        }
        Ok(cuts)
    }

    /// The producers as the batches show them: the last snapshot is older than what was found.
    fn store_producers(&self, log: &mut StoredLog, lsn: crate::Lsn) -> Result<(), OpenError> {
        let dir = log_dir(&self.dir, log.log);
        let state = LogState::from_stored(log, dir.clone(), LogConfig::default());
        let table = rebuild_producers(&*self.disk, &state, SystemClock.now_ms());
        log.producers = (!table.is_empty()).then_some(lsn);
        if !table.is_empty() {
            let path = dir.join(snapshot_name(lsn));
            let stored = store_producers(&*self.disk, &ProducerSnapshot { path, lsn, table });
            stored.map_err(OpenError::io("cannot write producers of", dir))?;
        }
        Ok(())
    }
}

fn cut_file(disk: &dyn Disk, path: &Path, position: u64) -> std::io::Result<()> {
    if position > 0 {
        let file = disk.open(path, Open::ReadWrite)?;
        file.set_len(position)?;
        return file.sync_all();
    }
    for path in [path.to_owned(), path.with_extension("index")] {
        if disk.exists(&path)? {
            disk.remove_file(&path)?;
        }
    }
    path.parent().map_or(Ok(()), |dir| disk.sync_dir(dir))
}
