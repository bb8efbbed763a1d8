//! Backups that are taken while everything else goes on: begun at some moment, copied a few files at a time, restored on a
//! disk of their own, and held against what was published when C was fixed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rand::RngExt;

use super::ledger::{Violation, ensure};
use super::{DATA_DIR, Simulation};
use crate::LogId;
use crate::backup::Backup;
use crate::catalog::StoredCatalog;
use crate::disk::SimulatedDisk;
use crate::engine::Engine;
use crate::error::BackupError;
use crate::manifest::Fence;
use crate::options::Options;
use crate::producers::ProducerTable;
use crate::restore::Restore;

/// A backup that is being copied.
pub(super) struct Copying {
    backup: Backup,
    /// How many of its files are copied.
    copied: usize,
    to: SimulatedDisk,
    restore: Restore,
    expected: Snapshot,
}

/// Everything that is published at one moment, and the bytes of the files that hold it.
#[derive(Debug, PartialEq)]
struct Snapshot {
    catalog: StoredCatalog,
    logs: BTreeMap<LogId, Log>,
    fences: Vec<Fence>,
    /// Segments cut to what is published, those of fenced logs whole, and journal files that were set aside.
    files: BTreeMap<PathBuf, Vec<u8>>,
}

#[derive(Debug, PartialEq)]
struct Log {
    start: i64,
    end: i64,
    leader_epochs: Vec<(i32, i64)>,
    /// Base, size and largest timestamp.
    segments: Vec<(i64, u64, i64)>,
    producers: ProducerTable,
}

impl Snapshot {
    fn of(engine: &Engine, disk: &SimulatedDisk) -> Self {
        let state = engine.shared.state.read();
        let fences: Vec<Fence> = state.logs.values().filter_map(|log| log.fence.clone()).collect();
        let mut files = disk.files(|path| fences.iter().any(|fence| Path::new(DATA_DIR).join(&fence.file) == path));
        let mut logs = BTreeMap::new();
        for (id, log) in &state.logs {
            if log.fence.is_some() {
                let is_segment = |path: &Path| path.extension().is_some_and(|e| e == "log");
                files.extend(disk.files(|path| path.starts_with(&log.dir) && is_segment(path)));
            } else {
                let cut = log.segments.iter().filter_map(|segment| {
                    let mut bytes = disk.bytes(&segment.file.path)?;
                    bytes.truncate(segment.size_bytes as usize);
                    Some((segment.file.path.clone(), bytes))
                });
                files.extend(cut);
            }
            let mut producers = log.producers.clone();
            // As a checkpoint does before it stores them. Those of a fenced log are made anew by a repair.
            producers.expire(state.time_ms);
            if log.fence.is_some() {
                producers = ProducerTable::default();
            }
            let segments = log.segments.iter();
            let log = Log {
                start: log.start,
                end: log.end,
                leader_epochs: log.leader_epochs.clone(),
                segments: segments.map(|s| (s.base, s.size_bytes, s.max_timestamp)).collect(),
                producers,
            };
            logs.insert(*id, log);
        }
        Self {
            catalog: state.catalog.to_stored(),
            fences,
            logs,
            files,
        }
    }
}

impl Simulation {
    /// Takes a checkpoint while commits go on, and begins to copy it. Until that is through, another backup is refused.
    pub(super) fn begin_backup(&mut self) -> Result<(), Violation> {
        if self.copying.is_some() {
            let refused = matches!(self.engine()?.backup(), Err(BackupError::Running));
            ensure!(refused, "a second backup was begun");
            return Ok(());
        }
        while self.engine()?.checkpoint_is_running() {
            self.checkpoint_step()?;
            if self.is_stopped()? {
                return Ok(());
            }
        }
        let expected = Snapshot::of(self.engine()?, &self.disk);
        let lsn = self.engine()?.health().published_lsn;
        self.note(|| format!("backup of lsn {lsn}"));
        loop {
            self.checkpoint_step()?;
            if self.is_stopped()? {
                return Ok(());
            }
            if !self.engine()?.checkpoint_is_running() {
                break;
            }
            for _ in 0..self.rng.random_range(0..4) {
                self.commit_step()?;
            }
            if self.is_stopped()? {
                return Ok(());
            }
        }
        let backup = self.engine()?.backup().map_err(|e| e.to_string())?;
        ensure!(
            backup.lsn() == lsn,
            "a backup of lsn {lsn} was made of {}",
            backup.lsn()
        );
        let to = SimulatedDisk::new(self.rng.random());
        let restore = Restore::on(Arc::new(to.clone()), DATA_DIR.into()).map_err(|e| e.to_string())?;
        self.copying = Some(Copying {
            backup,
            copied: 0,
            to,
            restore,
            expected,
        });
        Ok(())
    }

    fn is_stopped(&self) -> Result<bool, Violation> {
        Ok(self.disk.has_crashed() || self.engine()?.health().poisoned.is_some())
    }

    /// Copies a few files; behind the last of them, restores.
    pub(super) fn copy_some(&mut self) -> Result<(), Violation> {
        let Some(mut copying) = self.copying.take() else {
            return Ok(());
        };
        for _ in 0..self.rng.random_range(1..6) {
            let Some(file) = copying.backup.files().get(copying.copied).cloned() else {
                return self.check_copy(copying);
            };
            self.note(|| format!("copy {}", file.path));
            let piece = self.rng.random_range(100..5_000);
            match copying.copy(&file, piece) {
                Ok(()) => copying.copied += 1,
                Err(_) if self.disk.has_crashed() => return Ok(()),
                Err(error) => return Err(format!("backup of {}: {error}", file.path)),
            }
        }
        self.copying = Some(copying);
        Ok(())
    }

    /// Starts on the copy, which must be what was published, to the byte, and durable.
    fn check_copy(&mut self, copying: Copying) -> Result<(), Violation> {
        let Copying {
            backup,
            to,
            mut restore,
            expected,
            ..
        } = copying;
        restore.finish(backup.manifest()).map_err(|e| e.to_string())?;
        drop(backup);
        let disk = match self.rng.random() {
            true => to.cut_power(&mut self.rng),
            false => to.restart(),
        };
        let options = Options {
            seed: Some(self.rng.random()),
            ..self.options.clone()
        };
        let engine = Engine::open(Arc::new(disk.clone()), self.clock.clone(), options);
        let engine = engine.map_err(|e| format!("the copy of a backup does not start: {e}"))?;
        let mut found = Snapshot::of(&engine, &disk);
        ensure!(
            found.catalog.leader_epoch > expected.catalog.leader_epoch,
            "a restored storage goes on in leader epoch {}, the original in {}",
            found.catalog.leader_epoch,
            expected.catalog.leader_epoch
        );
        found.catalog.leader_epoch = expected.catalog.leader_epoch;
        ensure!(
            found == expected,
            "a restored backup is not what was published: {}",
            difference(&found, &expected)
        );
        while engine.scrub_step(100_000) {}
        let damages = engine.health().damages;
        ensure!(damages.is_empty(), "a restored backup has damage: {damages:?}");
        self.report.backups += 1;
        Ok(())
    }
}

impl Copying {
    fn copy(&mut self, file: &crate::BackupFile, piece: usize) -> Result<(), Violation> {
        let Some((source, mut left)) = self.backup.open(file).map_err(|e| e.to_string())? else {
            // The name of an index is not synced: a power cut may take it, and it is made anew when it is needed.
            ensure!(file.path.ends_with(".index"), "the file is gone");
            return Ok(());
        };
        let mut target = self.restore.file(&file.path).map_err(|e| e.to_string())?;
        let (mut buffer, mut position) = (vec![0; piece], 0);
        while left > 0 {
            let wanted = left.min(piece as u64) as usize;
            let read = source
                .read_at(&mut buffer[..wanted], position)
                .map_err(|e| e.to_string())?;
            ensure!(read == wanted, "the file ends at {}", position + read as u64);
            target.write(&buffer[..read]).map_err(|e| e.to_string())?;
            position += read as u64;
            left -= read as u64;
        }
        target.finish().map_err(|e| e.to_string())
    }
}

/// The first thing that is not the same.
fn difference(found: &Snapshot, expected: &Snapshot) -> String {
    for (path, bytes) in &expected.files {
        let copy = found.files.get(path).map(Vec::len);
        if found.files.get(path) != Some(bytes) {
            return format!("{} has {copy:?} of {} bytes, or others", path.display(), bytes.len());
        }
    }
    let added = found
        .files
        .keys()
        .find(|path: &&PathBuf| !expected.files.contains_key(Path::new(path)));
    if let Some(path) = added {
        return format!("{} is new", path.display());
    }
    for (id, log) in &expected.logs {
        if found.logs.get(id) != Some(log) {
            return format!("log {id} is {:?}, not {log:?}", found.logs.get(id));
        }
    }
    format!(
        "{:?} {:?}, not {:?} {:?}",
        found.catalog, found.fences, expected.catalog, expected.fences
    )
}
