//! A whole storage under simulation: one seed gives the clients, the interleaving of all steps, the
//! failures of the disk and the moments at which the machine stops.
//!
//! The driver is single-threaded and calls the engine's own steps. A [`ledger::Ledger`] notes what clients
//! were told and have seen; after every recovery, and at the end, the storage is held against it.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod aftermath;
mod ledger;
mod tests;
mod traffic;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use self::aftermath::{Recovered, ShownTopic};
use self::ledger::{Attempt, AttemptId, Ledger, Shown, Violation, ensure};
use self::traffic::{Profile, Traffic};
use crate::clock::{Clock, ManualClock};
use crate::disk::SimulatedDisk;
use crate::disk::simulated::{Fault, Operation};
use crate::engine::Engine;
use crate::error::{OpenError, ReadError, WriteError};
use crate::options::Options;
use crate::record::decode_all;
use crate::write_set::Receipt;
use crate::{CONTROL_LOG, CONTROL_TOPIC, LogId, Step};

const DATA_DIR: &str = "/data";
/// A moment in 2024.
const START_MS: i64 = 1_710_000_000_000;
const READ_BYTES: usize = 64 * 1024;
const DECODE_BYTES: usize = 1 << 20;

/// What a run was like, to see that it was worth its time and that it repeats.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    pub acknowledged: u64,
    pub refused: u64,
    pub crashes: u64,
    pub power_cuts: u64,
    pub crashes_in_recovery: u64,
    pub faults: u64,
    pub damages: u64,
    pub fences: u64,
    pub refused_starts: u64,
    pub operations: u64,
    pub history: u32,
}

type Answers = Arc<Mutex<Vec<(AttemptId, Result<Receipt, WriteError>)>>>;

struct Simulation {
    rng: SmallRng,
    disk: SimulatedDisk,
    clock: Arc<ManualClock>,
    options: Options,
    engine: Option<Engine>,
    answers: Answers,
    ledger: Ledger,
    traffic: Traffic,
    report: Report,
    /// What the run may do beyond stopping: let the disk fail, or damage what is on it.
    faulty: bool,
    damaging: bool,
    /// A fault was armed in this incarnation: errors are no surprise.
    armed: bool,
    trace: bool,
}

/// Runs one seed to its end.
pub(crate) fn run(seed: u64) -> Result<Report, Violation> {
    Simulation::new(seed)
        .run()
        .map_err(|violation| format!("seed {seed}: {violation}"))
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let profile = Profile {
            wide: seed % 8 == 1,
            churn: rng.random_ratio(1, 3),
            compress: rng.random_ratio(1, 4),
        };
        let options = Options {
            journal_file_bytes: [192 << 10, 256 << 10, 512 << 10][rng.random_range(0..3)],
            group_bytes: rng.random_range(1_000..40_000),
            seed: Some(seed),
            ..Options::new(DATA_DIR)
        };
        Self {
            disk: SimulatedDisk::new(rng.random()),
            clock: Arc::new(ManualClock::new(START_MS)),
            options,
            engine: None,
            answers: Answers::default(),
            ledger: Ledger::default(),
            traffic: Traffic::new(profile),
            report: Report::default(),
            faulty: seed % 4 == 2,
            damaging: seed % 4 == 3,
            armed: false,
            trace: std::env::var_os("RIVERLOG_SEED").is_some(),
            rng,
        }
    }

    fn note(&self, what: impl FnOnce() -> String) {
        if self.trace {
            eprintln!("[{:>6}] {}", self.disk.operations(), what());
        }
    }

    fn run(mut self) -> Result<Report, Violation> {
        self.recover()?;
        for attempt in self.traffic.opening(&mut self.rng) {
            self.submit(attempt)?;
        }
        self.settle()?;
        let acts = self.rng.random_range(60..160);
        for _ in 0..acts {
            self.act()?;
            if self.disk.has_crashed() {
                self.after_crash()?;
            } else if self.engine()?.health().poisoned.is_some() {
                self.after_poison()?;
            }
        }
        self.settle()?;
        if !self.disk.has_crashed() {
            let shown = self.show()?;
            self.check_running(&shown)?;
        }
        self.after_crash()?;
        self.report.acknowledged = self.ledger.acknowledged;
        self.report.refused = self.ledger.refused;
        self.report.operations = self.disk.operations();
        self.report.history = self.disk.history();
        Ok(self.report)
    }

    fn engine(&self) -> Result<&Engine, Violation> {
        self.engine.as_ref().ok_or_else(|| "no engine runs".to_owned())
    }

    fn act(&mut self) -> Result<(), Violation> {
        match self.rng.random_range(0..100) {
            0..34 => {
                let now_ms = self.clock.now_ms();
                if let Some(attempt) = self.traffic.next(&mut self.rng, &mut self.ledger, now_ms)? {
                    self.submit(attempt)?;
                }
                Ok(())
            }
            34..66 => {
                for _ in 0..self.rng.random_range(1..7) {
                    self.commit_step()?;
                }
                Ok(())
            }
            66..78 => {
                for _ in 0..self.rng.random_range(1..4) {
                    self.checkpoint_step()?;
                }
                Ok(())
            }
            78..84 => self.read_somewhere(),
            84..87 => {
                self.clock.advance_ms(self.rng.random_range(0..3_000));
                Ok(())
            }
            87..90 => {
                self.note(|| "idle".into());
                let step = self.engine()?.close_idle_step();
                self.hear(step == Step::Poisoned)
            }
            90..92 => {
                let count = self.engine()?.retention_step();
                self.note(|| format!("retention moves {count} starts"));
                self.hear(false)
            }
            92..95 => {
                let operations = self.rng.random_range(0..40);
                self.note(|| format!("the machine will stop after {operations} operations"));
                self.disk.crash_after(operations);
                Ok(())
            }
            95..96 => {
                self.note(|| "the process dies".into());
                self.after_crash()
            }
            96..98 if self.faulty => self.arm_fault(),
            98.. if self.damaging && self.rng.random_ratio(1, 2) => self.damage_journal(),
            _ => Ok(()),
        }
    }

    fn submit(&mut self, attempt: Attempt) -> Result<(), Violation> {
        let (id, ws) = self.ledger.open(attempt);
        self.note(|| {
            let attempt = &self.ledger.attempts[id];
            let to: Vec<_> = attempt
                .batches
                .iter()
                .map(|b| (*b, self.ledger.batches[*b].log))
                .collect();
            format!("submit {id}: batches {to:?} {:?} {:?}", attempt.changes, attempt.epochs)
        });
        let answers = self.answers.clone();
        self.engine()?
            .submit(ws, move |outcome| answers.lock().push((id, outcome)));
        self.hear(false)
    }

    fn commit_step(&mut self) -> Result<(), Violation> {
        let step = self.engine()?.commit_step();
        if step != Step::Idle {
            self.note(|| format!("commit step: {step:?}"));
        }
        self.hear(step == Step::Poisoned)
    }

    fn checkpoint_step(&mut self) -> Result<(), Violation> {
        let step = self.engine()?.checkpoint_step();
        self.note(|| format!("checkpoint step: {step:?}"));
        self.hear(step.is_err())
    }

    /// Takes note of answers. What a stopped machine would still say, nobody hears.
    fn hear(&mut self, poisoned: bool) -> Result<(), Violation> {
        let answers = std::mem::take(&mut *self.answers.lock());
        if self.disk.has_crashed() {
            return Ok(());
        }
        ensure!(!poisoned || self.armed, "storage is poisoned and no call has failed");
        for (id, outcome) in answers {
            self.note(|| format!("answer {id}: {outcome:?}"));
            let Some(engine) = &self.engine else { return Ok(()) };
            self.ledger
                .answered(id, &outcome, |log| engine.ends(log).map(|e| e.high_watermark))?;
            if let Err(error) = &outcome
                && !matches!(error, WriteError::Poisoned(_))
            {
                self.check_refusal(id, error)?;
                for batch in self.ledger.attempts[id].batches.clone() {
                    self.traffic.forget(batch);
                }
            }
        }
        Ok(())
    }

    /// A refusal may only rest on what is published.
    fn check_refusal(&self, id: AttemptId, error: &WriteError) -> Result<(), Violation> {
        let catalog = self.engine()?.catalog();
        match error {
            WriteError::StaleEpoch { name, current, .. } => {
                let published = catalog.epoch(name).unwrap_or(0);
                ensure!(
                    published >= *current,
                    "write set {id} was refused for epoch {current} of {name}, which is not published"
                );
            }
            WriteError::UnknownLog(log) => {
                ensure!(
                    catalog.log(*log).is_none(),
                    "write set {id}: log {log} is called unknown and is there"
                );
            }
            WriteError::TopicExists(name) => {
                let deleted = self.ledger.attempts.iter().flat_map(|a| &a.changes);
                let deletes = deleted
                    .filter(|c| matches!(c, crate::Change::DeleteTopic { .. }))
                    .count();
                ensure!(
                    deletes > 0 || catalog.topic(name).is_some(),
                    "write set {id} was refused because of topic {name}, which is not published"
                );
            }
            _ => {}
        }
        Ok(())
    }

    /// Lets everything that was submitted come to its end.
    fn settle(&mut self) -> Result<(), Violation> {
        for _ in 0..10_000 {
            if self.disk.has_crashed() || self.engine()?.health().poisoned.is_some() {
                return Ok(());
            }
            match self.engine()?.commit_step() {
                Step::Idle => return self.hear(false),
                step => self.hear(step == Step::Poisoned)?,
            }
        }
        Err("commit steps do not come to an end".into())
    }

    fn read_somewhere(&mut self) -> Result<(), Violation> {
        let logs: Vec<LogId> = self.ledger.logs.keys().copied().collect();
        if logs.is_empty() || self.disk.has_crashed() {
            return Ok(());
        }
        let log = logs[self.rng.random_range(0..logs.len())];
        let Some(ends) = self.engine()?.ends(log) else {
            return Ok(());
        };
        let from = self.rng.random_range(ends.start..=ends.high_watermark);
        let max_bytes = self.rng.random_range(1..4_000);
        let read = self.engine()?.read(log, from, max_bytes);
        self.note(|| format!("read log {log} from {from}: {:?}", read.as_ref().map(|f| f.data.len())));
        match read {
            Ok(fetched) => {
                let records = decode_all(&fetched.data, from, DECODE_BYTES).map_err(|e| e.to_string())?;
                let first = records.first().map(|r| r.offset);
                let expected = (from < ends.high_watermark).then_some(from);
                ensure!(first == expected, "read of log {log} from {from} begins at {first:?}");
                self.ledger.seen(log, &records)?;
                if let Some(model) = self.ledger.logs.get_mut(&log) {
                    model.end = model.end.max(fetched.high_watermark);
                    model.start = model.start.max(fetched.log_start);
                }
                Ok(())
            }
            Err(error) => self.check_read_error(log, &error),
        }
    }

    fn check_read_error(&self, log: LogId, error: &ReadError) -> Result<(), Violation> {
        match error {
            ReadError::Fenced { .. } if self.ledger.logs.get(&log).is_some_and(|l| l.fenced) => Ok(()),
            // Pages of a failed write-back were evicted; the journal has the bytes.
            ReadError::Damaged { retriable: true, .. } if self.armed => Ok(()),
            _ => Err(format!("log {log} cannot be read: {error}")),
        }
    }

    /// Everything that the running storage shows.
    fn show(&mut self) -> Result<Recovered, Violation> {
        let engine = self.engine()?;
        let catalog = engine.catalog();
        let topics = catalog.topics().filter(|t| t.name != CONTROL_TOPIC);
        let topics: BTreeMap<_, _> = topics
            .map(|t| {
                let (name, logs, configs) = (t.name.clone(), t.partitions.clone(), t.configs.clone());
                (t.id, ShownTopic { name, logs, configs })
            })
            .collect();
        let epochs = catalog.epochs().map(|(name, epoch)| (name.to_owned(), epoch)).collect();
        let fenced: BTreeSet<LogId> = engine.health().fences.iter().map(|f| f.log).collect();
        let mut logs = BTreeMap::new();
        for log in topics.values().flat_map(|t| &t.logs) {
            if fenced.contains(log) {
                let refused = matches!(engine.read(*log, 0, 1), Err(ReadError::Fenced { .. }));
                ensure!(refused, "log {log} is fenced and can be read");
            } else {
                logs.insert(*log, self.show_log(*log)?);
            }
        }
        self.show_log(CONTROL_LOG)?;
        Ok(Recovered {
            topics,
            epochs,
            logs,
            fenced,
        })
    }

    fn show_log(&self, log: LogId) -> Result<Shown, Violation> {
        let engine = self.engine()?;
        let ends = engine.ends(log).ok_or_else(|| format!("log {log} has no ends"))?;
        let mut records = Vec::new();
        let mut from = ends.start;
        while from < ends.high_watermark {
            let fetched = engine.read(log, from, READ_BYTES);
            let fetched = fetched.map_err(|e| format!("log {log} cannot be read from {from}: {e}"))?;
            let more = decode_all(&fetched.data, from, DECODE_BYTES).map_err(|e| e.to_string())?;
            let last = more
                .last()
                .ok_or_else(|| format!("log {log} shows nothing at {from}"))?;
            from = last.offset + 1;
            records.extend(more);
        }
        let (start, end, leader_epoch) = (ends.start, ends.high_watermark, ends.leader_epoch);
        Ok(Shown {
            start,
            end,
            leader_epoch,
            records,
        })
    }

    /// Nothing is pending: what is shown must be exactly what was promised.
    fn check_running(&mut self, shown: &Recovered) -> Result<(), Violation> {
        if self.engine()?.health().poisoned.is_some() {
            return Ok(());
        }
        for (log, shown) in &shown.logs {
            self.ledger.check_log(*log, shown)?;
        }
        Ok(())
    }

    /// A failed call has poisoned the storage: it must say so to everybody, go on reading, and come back.
    fn after_poison(&mut self) -> Result<(), Violation> {
        self.note(|| "poisoned".into());
        let now_ms = self.clock.now_ms();
        if let Some(attempt) = self.traffic.next(&mut self.rng, &mut self.ledger, now_ms)? {
            self.submit(attempt)?;
        }
        for _ in 0..3 {
            self.commit_step()?;
            self.read_somewhere()?;
        }
        let unanswered = self.ledger.attempts.iter().filter(|a| a.open).count();
        self.note(|| format!("{unanswered} in doubt"));
        self.after_crash()
    }

    /// The process is gone, often the page cache too. Starts again, and checks what came back.
    fn after_crash(&mut self) -> Result<(), Violation> {
        self.stop();
        self.restart_and_check()
    }

    fn stop(&mut self) {
        self.report.crashes += 1;
        self.engine = None;
        self.answers = Answers::default();
        let power = self.rng.random_ratio(3, 4);
        self.report.power_cuts += u64::from(power);
        self.note(|| if power { "power cut".into() } else { "restart".into() });
        self.disk = if power {
            self.disk.cut_power(&mut self.rng)
        } else {
            self.disk.restart()
        };
        self.armed = false;
    }

    fn restart_and_check(&mut self) -> Result<(), Violation> {
        self.recover()?;
        self.check_recovered()
    }

    fn open(&self) -> Result<Engine, OpenError> {
        Engine::open(Arc::new(self.disk.clone()), self.clock.clone(), self.options.clone())
    }

    /// Starts, at times after having been stopped in the middle of it.
    fn recover(&mut self) -> Result<(), Violation> {
        for _ in 0..4 {
            if self.rng.random_ratio(2, 3) {
                break;
            }
            let operations = self.rng.random_range(0..60);
            self.disk.crash_after(operations);
            let engine = self.open();
            self.note(|| {
                format!(
                    "a start that stops after {operations} operations: {:?}",
                    engine.as_ref().err()
                )
            });
            if let Err(error) = &engine {
                ensure!(self.disk.has_crashed(), "start refused: {error}");
            }
            drop(engine);
            self.report.crashes_in_recovery += 1;
            self.disk = if self.rng.random() {
                self.disk.cut_power(&mut self.rng)
            } else {
                self.disk.restart()
            };
        }
        match self.open() {
            Ok(engine) => {
                self.note(|| format!("started at lsn {}", engine.health().published_lsn));
                self.engine = Some(engine);
                Ok(())
            }
            Err(error) => Err(format!("start refused: {error}")),
        }
    }

    fn check_recovered(&mut self) -> Result<(), Violation> {
        let shown = self.show()?;
        self.ledger.recovered(&shown)?;
        self.traffic.recovered(&self.ledger);
        self.check_files(&shown)?;
        if self.rng.random_ratio(1, 3) {
            self.check_second_recovery()?;
        }
        if self.rng.random_ratio(1, 3) {
            for attempt in self.traffic.repeats(&self.ledger) {
                self.submit(attempt)?;
            }
            self.settle()?;
        }
        Ok(())
    }

    /// On the disk there is what the storage names, and nothing else.
    fn check_files(&self, shown: &Recovered) -> Result<(), Violation> {
        for path in self.disk.files().keys() {
            let Ok(inner) = path.strip_prefix(Path::new(DATA_DIR).join("logs")) else {
                continue;
            };
            let log = inner
                .iter()
                .next()
                .and_then(|d| d.to_str())
                .and_then(|d| d.parse::<LogId>().ok());
            let known =
                log.is_some_and(|l| l == CONTROL_LOG || shown.logs.contains_key(&l) || shown.fenced.contains(&l));
            ensure!(known, "{} belongs to no log", path.display());
        }
        let engine = self.engine()?;
        let state = engine.shared.state.read();
        let files = self.disk.files();
        for (id, log) in state.logs.iter().filter(|(_, log)| log.fence.is_none()) {
            let named: BTreeMap<PathBuf, u64> = log
                .segments
                .iter()
                .map(|s| (s.file.path.clone(), s.size_bytes))
                .collect();
            for (path, bytes) in files
                .range(log.dir.clone()..)
                .take_while(|(p, _)| p.starts_with(&log.dir))
            {
                if path.extension().is_some_and(|e| e == "log") {
                    let size = named.get(path);
                    ensure!(
                        size == Some(&(bytes.len() as u64)),
                        "log {id}: {} has {} bytes, {size:?} are named",
                        path.display(),
                        bytes.len()
                    );
                }
            }
        }
        Ok(())
    }

    /// A second start must find what the first one left, to the byte.
    fn check_second_recovery(&mut self) -> Result<(), Violation> {
        let before = self.segments();
        self.engine = None;
        self.disk = if self.rng.random() {
            self.disk.cut_power(&mut self.rng)
        } else {
            self.disk.restart()
        };
        self.engine = Some(self.open().map_err(|e| format!("second start refused: {e}"))?);
        let after = self.segments();
        for (path, bytes) in &before {
            ensure!(
                after.get(path) == Some(bytes),
                "a second recovery changed {}",
                path.display()
            );
        }
        let shown = self.show()?;
        for path in after.keys().filter(|path| !before.contains_key(*path)) {
            // A removal may be undone by the power cut; in a fenced log nobody repeats it.
            let fenced = shown
                .fenced
                .iter()
                .any(|log| path.starts_with(format!("{DATA_DIR}/logs/{log}")));
            ensure!(fenced, "a second recovery added {}", path.display());
        }
        self.ledger.recovered(&shown)
    }

    fn segments(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut files = self.disk.files();
        files.retain(|path, _| path.extension().is_some_and(|e| e == "log"));
        files
    }

    /// Lets one of the next calls of a kind fail, or a write-back of which nobody hears.
    fn arm_fault(&mut self) -> Result<(), Violation> {
        self.report.faults += 1;
        self.armed = true;
        if self.rng.random_ratio(1, 3) {
            let files: Vec<PathBuf> = self.segments().into_keys().collect();
            if !files.is_empty() {
                let path = &files[self.rng.random_range(0..files.len())];
                self.note(|| format!("write-back of {} fails", path.display()));
                self.disk.fail_writeback(path).map_err(|e| e.to_string())?;
            }
            return Ok(());
        }
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
        self.disk.inject(fault);
        Ok(())
    }

    /// Flips bits in one sector of the journal while everything in it is known to be durable. Nothing
    /// that was acknowledged may be missing unless it is said so.
    fn damage_journal(&mut self) -> Result<(), Violation> {
        self.settle()?;
        let closed = self.engine()?.close_idle_step();
        if self.disk.has_crashed() || closed == Step::Poisoned {
            return Ok(());
        }
        self.stop();
        let sound = self.disk.fork();
        let journal = Path::new(DATA_DIR).join("journal");
        let files = self.disk.files();
        let sectors: Vec<(PathBuf, usize)> = files
            .iter()
            .filter(|(path, _)| path.starts_with(&journal))
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
}
