//! A whole storage under simulation: one seed gives the clients, the interleaving of all steps, the
//! failures of the disk and the moments at which the machine stops.
//!
//! The driver is single-threaded and calls the engine's own steps. A [`ledger::Ledger`] notes what clients
//! were told and have seen; after every recovery, and at the end, the storage is held against it.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod aftermath;
mod backup;
pub mod bit_rot;
mod checks;
pub mod disk_faults;
mod harm;
mod ledger;
#[cfg(test)]
mod tests;
mod traffic;

use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use self::backup::Copying;
use self::ledger::{Attempt, AttemptId, Ledger, Violation, ensure};
use self::traffic::{Profile, Traffic};
use crate::clock::{Clock, ManualClock};
use crate::disk::SimulatedDisk;
use crate::engine::Engine;
use crate::error::{OpenError, ReadError, WriteError};
use crate::options::Options;
use crate::record::decode_all;
use crate::write_set::Receipt;
use crate::{LogId, Step};

const DATA_DIR: &str = "/data";
/// A moment in 2024.
const START_MS: i64 = 1_710_000_000_000;
const READ_BYTES: usize = 64 * 1024;
const DECODE_BYTES: usize = 1 << 20;

/// What a run was like, to see that it was worth its time and that it repeats.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Report {
    pub acknowledged: u64,
    pub refused: u64,
    pub crashes: u64,
    pub power_cuts: u64,
    pub crashes_in_recovery: u64,
    pub faults: u64,
    pub damages: u64,
    pub fences: u64,
    pub refused_starts: u64,
    pub unstable_starts: u64,
    pub backups: u64,
    pub operations: u64,
    pub history: u32,
}

type Answers = Arc<Mutex<Vec<(AttemptId, Result<Receipt, WriteError>)>>>;

/// What a run does again and again, because chance alone would take too long to get there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Focus {
    Nothing,
    TornFrames,
    LostWriteBacks,
    FailedJournalSyncs,
    HalfCheckpoints,
}

struct Simulation {
    rng: SmallRng,
    disk: SimulatedDisk,
    clock: Arc<ManualClock>,
    options: Options,
    engine: Option<Engine>,
    answers: Answers,
    ledger: Ledger,
    traffic: Traffic,
    copying: Option<Copying>,
    report: Report,
    /// What the run may do beyond stopping: let the disk fail, or damage what is on it.
    faulty: bool,
    damaging: bool,
    focus: Focus,
    /// The wall clock jumps.
    jumpy: bool,
    /// A fault was armed in this incarnation: errors are no surprise.
    armed: bool,
    /// The page cache may show journal bytes that the disk does not have: a start may be refused for it.
    unstable: bool,
    /// The same of extents. Of the group that was under way, which is in doubt; no log may be fenced for it.
    unstable_extents: bool,
    /// Bits were flipped, or the page cache lied at some time: logs may be fenced.
    harmed: bool,
    last_refusal: Option<WriteError>,
    trace: bool,
}

/// Runs one seed to its end.
pub fn run(seed: u64) -> Result<Report, Violation> {
    Simulation::new(seed)
        .run(u32::MAX)
        .map_err(|violation| format!("seed {seed}: {violation}"))
}

/// The fewest acts after which a seed that fails does so, and how.
pub fn shortest(seed: u64) -> Option<(u32, Violation)> {
    let fails = |acts: u32| {
        let run = std::panic::catch_unwind(|| Simulation::new(seed).run(acts));
        match run {
            Ok(run) => Some((acts, run.err()?)),
            Err(_) => Some((acts, "panicked".into())),
        }
    };
    (0..160).find_map(fails)
}

/// What a file or directory of the data directory is for.
fn kind_of(path: &Path) -> &'static str {
    let inner = path
        .strip_prefix(DATA_DIR)
        .unwrap_or(path)
        .to_string_lossy()
        .into_owned();
    let name = inner.rsplit('/').next().unwrap_or_default();
    let kinds = [
        (".log", "segment"),
        (".index", "index"),
        (".producers", "producers"),
        (".journal", "journal"),
    ];
    match kinds.iter().find(|(ending, _)| name.contains(ending)) {
        Some((_, kind)) => kind,
        None if name.starts_with("manifest") => "manifest",
        None if name == "lock" || name == "ballast" => "other",
        None if path == Path::new("/") => "file system",
        None => "directory",
    }
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let profile = Profile {
            wide: seed % 16 == 1,
            churn: rng.random_ratio(1, 3),
            compress: rng.random_ratio(1, 4),
        };
        let options = Options {
            journal_file_bytes: [64 << 10, 96 << 10, 256 << 10][rng.random_range(0..3)],
            group_bytes: rng.random_range(1_000..40_000),
            sync_ahead_bytes: 500,
            sync_together_files: [usize::MAX, 0, 3][(seed / 48 % 3) as usize],
            extent_bytes: [u64::MAX, 300, 1_000][(seed / 16 % 3) as usize],
            past_cache_bytes: [200, u64::MAX][(seed / 144 % 2) as usize],
            unread_bytes: [0, 2_000, 32 << 20][(seed / 7 % 3) as usize],
            large_frame_bytes: [1_000, u64::MAX][(seed / 288 % 2) as usize],
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
            copying: None,
            report: Report::default(),
            faulty: seed % 4 == 2,
            damaging: seed % 4 == 3,
            focus: match seed % 16 {
                1 => Focus::TornFrames,
                5 => Focus::LostWriteBacks,
                9 => Focus::FailedJournalSyncs,
                13 => Focus::HalfCheckpoints,
                _ => Focus::Nothing,
            },
            jumpy: seed % 8 == 4,
            armed: false,
            unstable: false,
            unstable_extents: false,
            harmed: false,
            last_refusal: None,
            trace: std::env::var_os("RIVERLOG_SEED").is_some(),
            rng,
        }
    }

    fn note(&self, what: impl FnOnce() -> String) {
        if self.trace {
            eprintln!("[{:>6}] {}", self.disk.operations(), what());
        }
    }

    /// At most so many acts, however many the seed asks for.
    fn run(mut self, most_acts: u32) -> Result<Report, Violation> {
        self.recover()?;
        for attempt in self.traffic.opening(&mut self.rng) {
            self.submit(attempt)?;
        }
        self.settle()?;
        let acts: u32 = self.rng.random_range(60..160);
        for _ in 0..acts.min(most_acts) {
            self.act()?;
            if self.disk.has_crashed() {
                self.after_crash()?;
            } else if self.engine()?.health().poisoned.is_some() {
                self.after_poison()?;
            }
        }
        self.settle()?;
        if !self.disk.has_crashed() && !self.armed {
            let shown = self.show()?;
            self.check_running(&shown)?;
        }
        self.after_crash()?;
        self.settle()?;
        self.rot()?;
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
        if self.copying.is_some() && self.rng.random_ratio(1, 4) {
            return self.copy_some();
        }
        if self.focus != Focus::Nothing && self.rng.random_ratio(1, 8) {
            return match self.focus {
                Focus::TornFrames => self.tear(),
                Focus::FailedJournalSyncs => self.fail_journal_sync(),
                Focus::HalfCheckpoints => self.stop_half_checkpointed(),
                _ if self.rng.random() => self.lose_write_back(),
                _ => self.lose_write_back_and_restart(),
            };
        }
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
            78..84 => {
                self.read_somewhere()?;
                self.scrub(2_000).map(|_| ())
            }
            84 => self.sync_ahead_step().map(|_| ()),
            85..87 => {
                self.clock.advance_ms(self.rng.random_range(0..3_000));
                if self.jumpy {
                    self.jump();
                }
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
            96..99 if self.faulty => self.arm_fault(),
            96.. if self.damaging && self.rng.random_ratio(1, 3) => self.damage_journal(),
            _ => self.begin_backup(),
        }
    }

    /// Somebody sets the wall clock, by up to half a day either way. Monotonic time goes on.
    fn jump(&mut self) {
        let hours_ms = 12 * 60 * 60 * 1000;
        let wall_ms = START_MS + self.rng.random_range(-hours_ms..hours_ms);
        self.note(|| format!("the clock is set to {wall_ms}"));
        self.clock.set_wall_ms(wall_ms);
    }

    fn submit(&mut self, mut attempt: Attempt) -> Result<(), Violation> {
        let sizes = attempt
            .batches
            .iter()
            .map(|b| self.ledger.batches[*b].bytes.size_bytes() as u64);
        attempt.may_refuse |= sizes.sum::<u64>() + 1000 > self.options.journal_file_bytes / 2;
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

    /// True if a segment was synced.
    fn sync_ahead_step(&mut self) -> Result<bool, Violation> {
        let step = self.engine()?.sync_ahead_step();
        self.note(|| format!("sync ahead: {step:?}"));
        self.hear(step.is_err())?;
        Ok(step == Ok(true))
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
                self.last_refusal = Some(error.clone());
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

    /// Some write sets, each answered, with the clock going on, unless something stops them.
    fn write_some(&mut self, count: usize) -> Result<(), Violation> {
        for _ in 0..count {
            if self.disk.has_crashed() || self.engine()?.health().poisoned.is_some() {
                break;
            }
            self.clock.advance_ms(700);
            let now_ms = self.clock.now_ms();
            if let Some(attempt) = self.traffic.next(&mut self.rng, &mut self.ledger, now_ms)? {
                self.submit(attempt)?;
                self.settle()?;
            }
        }
        Ok(())
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
        self.read_from(log, from)
    }

    /// One step of the scrub. Nothing below the checkpoint is damaged before the run's end. True while there is more.
    fn scrub(&self, max_bytes: u64) -> Result<bool, Violation> {
        let engine = self.engine()?;
        let more = engine.scrub_step(max_bytes);
        let damages = engine.health().damages;
        let excused = damages.is_empty() || self.disk.has_crashed();
        ensure!(excused, "damage where nothing was damaged: {damages:?}");
        Ok(more)
    }

    fn read_near_end(&mut self, log: LogId) -> Result<(), Violation> {
        let ends = self.engine()?.ends(log);
        let Some(ends) = ends.filter(|_| self.ledger.logs.contains_key(&log)) else {
            return Ok(());
        };
        let from = self
            .rng
            .random_range(ends.start.max(ends.high_watermark - 8)..=ends.high_watermark);
        self.read_from(log, from)
    }

    fn read_from(&mut self, log: LogId, from: i64) -> Result<(), Violation> {
        let Some(ends) = self.engine()?.ends(log) else {
            return Ok(());
        };
        let max_bytes = self.rng.random_range(1..4_000);
        let read = self.engine()?.read(log, from, max_bytes);
        self.note(|| format!("read log {log} from {from}: {:?}", read.as_ref().map(|f| f.data.len())));
        match read {
            Ok(fetched) => {
                let decoded = decode_all(&fetched.data, from, DECODE_BYTES).map_err(|e| e.to_string())?;
                let records = decoded.records;
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
        let power = self.rng.random_ratio(3, 4);
        self.stop_by(power);
    }

    /// Stops the machine by a power cut, or only the process.
    fn stop_by(&mut self, power: bool) {
        self.report.crashes += 1;
        self.copying = None;
        self.engine = None;
        self.answers = Answers::default();
        self.report.power_cuts += u64::from(power);
        self.note(|| if power { "power cut".into() } else { "restart".into() });
        self.harmed |= self.unstable;
        self.unstable &= !power;
        self.unstable_extents &= !power;
        self.disk = self.after_stop(power);
        self.armed = false;
    }

    fn after_stop(&mut self, power: bool) -> SimulatedDisk {
        if power {
            self.disk.cut_power(&mut self.rng)
        } else {
            self.disk.restart()
        }
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
        let often = self.focus == Focus::HalfCheckpoints;
        for number in 0..4 {
            if self.rng.random_ratio(if often { 1 } else { 2 }, 3) {
                break;
            }
            // What only the page cache has is trusted by the next start, and lost with it.
            let renamed_only = often && number == 0;
            if renamed_only {
                self.stop_with_manifest_renamed();
            } else {
                let operations = self.rng.random_range(0..60);
                self.note(|| format!("the next start stops after {operations} operations"));
                self.disk.crash_after(operations);
            }
            let engine = self.open();
            self.note(|| format!("a start that stops: {:?}", engine.as_ref().err()));
            if let Err(error) = &engine {
                let excused = self.disk.has_crashed() || self.is_unstable(error);
                ensure!(excused, "start refused: {error}");
            }
            drop(engine);
            self.report.crashes_in_recovery += 1;
            let power = !renamed_only && (often || self.rng.random());
            self.disk = self.after_stop(power);
        }
        for _ in 0..100 {
            match self.open() {
                Ok(engine) => {
                    self.note(|| format!("started at lsn {}", engine.health().published_lsn));
                    self.engine = Some(engine);
                    self.unstable = false;
                    self.unstable_extents = false;
                    return Ok(());
                }
                Err(error) if self.is_unstable(&error) => {
                    self.note(|| error.to_string());
                    self.report.unstable_starts += 1;
                    self.disk = self.after_stop(false);
                }
                Err(error) => return Err(format!("start refused: {error}")),
            }
        }
        Err("the journal does not become stable".into())
    }

    fn is_unstable(&self, error: &OpenError) -> bool {
        (self.unstable || self.unstable_extents) && error.to_string().contains("checked once and does not check now")
    }

    fn check_recovered(&mut self) -> Result<(), Violation> {
        let shown = self.show()?;
        ensure!(
            self.harmed || shown.fenced.is_empty(),
            "logs {:?} are fenced and nothing was damaged",
            shown.fenced
        );
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
}
