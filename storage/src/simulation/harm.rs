//! What the world does to a disk: calls that fail, write-backs that are lost, space that runs out, bits
//! that flip.

use std::path::{Path, PathBuf};

use rand::RngExt;

use super::ledger::{Attempt, Violation, ensure};
use super::{DATA_DIR, Simulation};
use crate::clock::Clock;
use crate::disk::simulated::{Fault, Operation};
use crate::disk::{Disk, SimulatedDisk};
use crate::error::{ReadError, WriteError};
use crate::{LogId, Step};

impl Simulation {
    /// Something fails.
    pub(super) fn arm_fault(&mut self) -> Result<(), Violation> {
        self.report.faults += 1;
        match self.rng.random_range(0..8) {
            0 => self.lose_write_back(),
            1 => self.lose_write_back_and_restart(),
            2 => self.fail_journal_sync(),
            3 => self.run_out_of_space(),
            4 => self.refuse_for_space(),
            _ => {
                self.inject_fault();
                Ok(())
            }
        }
    }

    fn inject_fault(&mut self) {
        self.armed = true;
        let kinds = [
            Operation::Write,
            Operation::Sync,
            Operation::Sync,
            Operation::SyncDir,
            Operation::Name,
        ];
        let paths = ["", "journal", "logs", "manifest"];
        let fault = Fault {
            on: Some(kinds[self.rng.random_range(0..kinds.len())]),
            path: paths[self.rng.random_range(0..paths.len())].into(),
            skip: self.rng.random_range(0..3),
        };
        self.note(|| format!("{fault:?}"));
        // It may hit the journal, whose pages are then not what is on the disk.
        self.unstable |= fault.on == Some(Operation::Sync);
        self.disk.inject(fault);
    }

    /// A segment with bytes that are not on the disk yet, and its log.
    fn some_unsynced_segment(&mut self) -> Option<(PathBuf, LogId)> {
        let mut files = self.disk.unsynced();
        files.retain(|path| path.extension().is_some_and(|e| e == "log"));
        let path = (!files.is_empty()).then(|| files.swap_remove(self.rng.random_range(0..files.len())))?;
        let log = path.parent()?.file_name()?.to_str()?.parse().ok()?;
        Some((path, log))
    }

    /// The kernel loses unsynced bytes of a segment; whoever syncs next must be told, and who reads must
    /// not be served what is there instead.
    pub(super) fn lose_write_back(&mut self) -> Result<(), Violation> {
        self.armed = true;
        let Some((path, log)) = self.some_unsynced_segment() else {
            return Ok(());
        };
        self.lose_unsynced(&path)?;
        for _ in 0..6 {
            self.read_near_end(log)?;
        }
        // Told to whom syncs first, who must not keep it from the checkpoint.
        while self.rng.random() && self.sync_ahead_step()? {}
        Ok(())
    }

    fn lose_unsynced(&mut self, path: &Path) -> Result<(), Violation> {
        self.note(|| format!("write-back of {} fails", path.display()));
        self.unstable_extents |= self.options.extent_bytes < u64::MAX;
        self.disk.fail_writeback(path).map_err(|e| e.to_string())
    }

    /// The same, and only the process dies: the page cache shows bytes that the disk does not have.
    pub(super) fn lose_write_back_and_restart(&mut self) -> Result<(), Violation> {
        self.settle()?;
        if self.disk.has_crashed() {
            return Ok(());
        }
        while let Some((path, _)) = self.some_unsynced_segment() {
            self.lose_unsynced(&path)?;
        }
        self.stop_by(false);
        self.restart_and_check()
    }

    /// The power is cut while the first frame after a start is written over an old one of the same shape.
    pub(super) fn tear(&mut self) -> Result<(), Violation> {
        self.settle()?;
        self.stop_by(true);
        self.restart_and_check()?;
        self.settle()?;
        self.stop_by(true);
        self.recover()?;
        let now_ms = self.clock.now_ms();
        let attempt = self.traffic.wide(&mut self.ledger, now_ms)?;
        self.submit(attempt)?;
        self.commit_step()?;
        if self.rng.random_ratio(1, 3) {
            self.settle()?;
        }
        self.stop_by(true);
        self.restart_and_check()
    }

    /// A group is written, its sync fails, the process dies: recovery reads a journal that is not on the
    /// disk, and whose pages may turn back into what is while it reads.
    pub(super) fn fail_journal_sync(&mut self) -> Result<(), Violation> {
        self.settle()?;
        if self.disk.has_crashed() {
            return Ok(());
        }
        let now_ms = self.clock.now_ms();
        let snapshot = self.traffic.snapshot(&mut self.rng, &mut self.ledger, now_ms)?;
        let Some(attempt) = snapshot else { return Ok(()) };
        self.submit(attempt)?;
        self.armed = true;
        self.disk.inject(Fault {
            on: Some(Operation::Sync),
            path: "journal".into(),
            skip: 0,
        });
        self.settle()?;
        self.unstable = true;
        self.stop_by(false);
        self.restart_and_check()
    }

    /// The machine stops in the middle of a checkpoint while the journal goes on into its next file: what was about
    /// to become superfluous must still be there.
    pub(super) fn stop_half_checkpointed(&mut self) -> Result<(), Violation> {
        self.fill_journal_file()?;
        for _ in 0..self.rng.random_range(1..4) {
            self.checkpoint_step()?;
        }
        self.fill_journal_file()?;
        self.after_crash()
    }

    /// The machine will stop when the manifest has its new name, and before the directory is synced.
    pub(super) fn stop_with_manifest_renamed(&self) {
        self.note(|| "the next start stops with its manifest renamed".into());
        self.disk.crash_at(Fault {
            on: Some(Operation::Name),
            path: "/manifest".into(),
            // The creation of the new file.
            skip: 1,
        });
    }

    /// Writes until the journal goes on in another file, unless something stops it.
    fn fill_journal_file(&mut self) -> Result<(), Violation> {
        let file = self.journal_file()?;
        for _ in 0..100 {
            self.settle()?;
            let stopped = self.disk.has_crashed() || self.engine()?.health().poisoned.is_some();
            if stopped || self.journal_file()? != file {
                break;
            }
            let now_ms = self.clock.now_ms();
            if let Some(attempt) = self.traffic.next(&mut self.rng, &mut self.ledger, now_ms)? {
                self.submit(attempt)?;
            }
        }
        Ok(())
    }

    fn journal_file(&self) -> Result<u64, Violation> {
        Ok(self.engine()?.shared.state.read().journal_end.0)
    }

    /// The disk is full and nobody had looked: writes fail. After a restart with space all is well.
    fn run_out_of_space(&mut self) -> Result<(), Violation> {
        self.armed = true;
        let used = used_bytes(&self.disk)?;
        self.disk.set_capacity(Some(used + self.rng.random_range(0..40_000)));
        self.note(|| "the disk is full".into());
        for _ in 0..4 {
            let now_ms = self.clock.now_ms();
            if let Some(attempt) = self.traffic.next(&mut self.rng, &mut self.ledger, now_ms)? {
                self.submit(attempt)?;
            }
            self.settle()?;
            self.checkpoint_step()?;
        }
        self.disk.set_capacity(None);
        self.after_crash()
    }

    /// The disk is nearly full and storage knows: it refuses, and goes on when there is space.
    fn refuse_for_space(&mut self) -> Result<(), Violation> {
        self.settle()?;
        if self.disk.has_crashed() || self.engine()?.health().poisoned.is_some() {
            return Ok(());
        }
        let used = used_bytes(&self.disk)?;
        self.disk.set_capacity(Some(used + (64 << 20)));
        self.engine()?.shared.refresh_free_bytes();
        let now_ms = self.clock.now_ms();
        let outcome = match self.traffic.snapshot(&mut self.rng, &mut self.ledger, now_ms)? {
            Some(attempt) => {
                let may_refuse = true;
                self.submit(Attempt { may_refuse, ..attempt })?;
                self.last_refusal.take()
            }
            None => Some(WriteError::Closed),
        };
        ensure!(
            matches!(outcome, Some(WriteError::NoSpace { .. } | WriteError::Closed)) || self.disk.has_crashed(),
            "a full disk does not refuse: {outcome:?}"
        );
        self.disk.set_capacity(None);
        self.engine()?.shared.refresh_free_bytes();
        Ok(())
    }

    /// Flips bits in one sector of the journal while everything in it is known to be durable. Nothing
    /// that was acknowledged may be missing unless it is said so.
    pub(super) fn damage_journal(&mut self) -> Result<(), Violation> {
        self.settle()?;
        let closed = self.engine()?.close_idle_step();
        if self.disk.has_crashed() || closed == Step::Poisoned {
            return Ok(());
        }
        self.stop();
        let sound = self.disk.fork();
        let journal = Path::new(DATA_DIR).join("journal");
        let files = self.disk.files(|path| path.starts_with(&journal));
        let sectors: Vec<(PathBuf, usize)> = files
            .iter()
            .flat_map(|(path, bytes)| {
                let used = bytes
                    .chunks(512)
                    .enumerate()
                    .filter(|(_, sector)| sector.iter().any(|b| *b != 0));
                used.map(|(index, _)| (path.clone(), index * 512)).collect::<Vec<_>>()
            })
            .collect();
        if sectors.is_empty() {
            return self.restart_and_check();
        }
        let (path, start) = &sectors[self.rng.random_range(0..sectors.len())];
        for _ in 0..self.rng.random_range(1..4) {
            let at = (start + self.rng.random_range(0..512)) as u64;
            let bit = self.rng.random_range(0..8);
            self.note(|| format!("bit {bit} of {} position {at} flips", path.display()));
            self.disk.flip_bit(path, at, bit).map_err(|e| e.to_string())?;
        }
        self.report.damages += 1;
        self.harmed = true;
        match self.recover() {
            Ok(()) => {
                let fences = self.engine()?.health().fences.len() as u64;
                self.note(|| format!("{fences} fences"));
                self.report.fences += fences;
                self.check_recovered()
            }
            Err(refusal) => {
                self.note(|| refusal.clone());
                ensure!(refusal.contains("the journal is damaged"), "{refusal}");
                self.report.refused_starts += 1;
                self.disk = sound;
                self.restart_and_check()
            }
        }
    }

    /// The end of a run: bits of a file below the checkpoint flip. Damage must be named, never served.
    pub(super) fn rot(&mut self) -> Result<(), Violation> {
        let files = self.disk.paths();
        let kinds = ["log", "log", "index", "producers", "manifest"];
        let kind = kinds[self.rng.random_range(0..kinds.len())];
        let of_kind = |path: &&PathBuf| match kind {
            "manifest" => path
                .file_name()
                .is_some_and(|n| n == "manifest" || n == "manifest.copy"),
            _ => path.extension().is_some_and(|e| e == kind),
        };
        let named: Vec<&PathBuf> = files.keys().filter(of_kind).filter(|p| files[*p] > 0).collect();
        if named.is_empty() {
            return Ok(());
        }
        let path = named[self.rng.random_range(0..named.len())].clone();
        let before = self.read_everything()?;
        // From wherever it stands to the end, and once through everything.
        while self.scrub(10_000)? {}
        while self.scrub(10_000)? {}
        for _ in 0..self.rng.random_range(1..4) {
            let at = self.rng.random_range(0..files[&path]);
            let bit = self.rng.random_range(0..8);
            self.note(|| format!("bit {bit} of {} position {at} flips", path.display()));
            self.disk.flip_bit(&path, at, bit).map_err(|e| e.to_string())?;
        }
        if kind != "log" {
            // What can be rebuilt, or has a second copy, must not be missed.
            self.stop_by(false);
            self.recover()?;
            let shown = self.show()?;
            self.ledger.recovered(&shown)?;
            // Rebuilt from what is left of the log: batches below its start are forgotten.
            for attempt in self.traffic.repeats(&self.ledger) {
                if attempt.batches.iter().all(|batch| self.ledger.is_kept(*batch)) {
                    self.submit(attempt)?;
                }
            }
            return self.settle();
        }
        while self.engine()?.scrub_step(10_000) {}
        let found = self.engine()?.health().damages;
        ensure!(
            found.iter().all(|damage| damage.file == path),
            "bits of {} flipped, the scrub found {found:?}",
            path.display()
        );
        for (log, from, bytes) in before {
            match self.engine()?.read(log, from, super::READ_BYTES) {
                Ok(fetched) => {
                    let whole = fetched.data == bytes || (!fetched.data.is_empty() && bytes.starts_with(&fetched.data));
                    ensure!(
                        whole,
                        "log {log} from {from}: damaged bytes of {} are served",
                        path.display()
                    );
                }
                Err(ReadError::Damaged {
                    file, retriable: false, ..
                }) if file == path => {}
                Err(error) => return Err(format!("log {log} from {from}: {error}")),
            }
        }
        let known = self.engine()?.health().damages;
        ensure!(
            known.is_empty() == found.is_empty(),
            "the scrub found {found:?}, reads {known:?}"
        );
        Ok(())
    }

    /// Every batch of every log that can be read: log, an offset in it, what a read from there gives.
    fn read_everything(&mut self) -> Result<Vec<(LogId, i64, bytes::Bytes)>, Violation> {
        let mut reads = Vec::new();
        for (log, model) in self.ledger.logs.iter().filter(|(_, l)| !l.fenced) {
            for from in model.start..model.end {
                let fetched = self
                    .engine()?
                    .read(*log, from, super::READ_BYTES)
                    .map_err(|e| e.to_string())?;
                reads.push((*log, from, fetched.data));
            }
        }
        Ok(reads)
    }
}

fn used_bytes(disk: &SimulatedDisk) -> Result<u64, Violation> {
    let all = 1 << 40;
    disk.set_capacity(Some(all));
    let free = disk.free_bytes(Path::new("/")).map_err(|e| e.to_string())?;
    Ok(all - free)
}
