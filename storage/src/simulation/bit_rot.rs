//! Bit rot, exhaustively: each byte of a small data directory flipped, each file cut at every length, missing, or swapped
//! for an older copy of itself. What was acknowledged is served as it was, or its loss is named.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::aftermath::Recovered;
use super::ledger::{Hope, Shown, Violation, ensure};
use super::{DATA_DIR, DECODE_BYTES, READ_BYTES, Simulation, kind_of};
use crate::clock::Clock;
use crate::disk::{Disk, Open, SimulatedDisk};
use crate::engine::Engine;
use crate::error::ReadError;
use crate::inspect::Directory;
use crate::record::{StoredRecord, decode_all};
use crate::write_set::WriteSet;
use crate::{CONTROL_LOG, LogId};

const SEED: u64 = 4;
const SECTOR_BYTES: usize = 512;
/// Some runs are larger, some smaller.
const EXTENT_BYTES: u64 = 400;
/// One case of so many is also inspected and repaired, which takes longer than a start. An odd number, because flips and cuts
/// take turns.
const INSPECTED_EVERY: usize = 17;

/// What is done to one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Harm {
    /// One bit of the byte at a position flips.
    Flipped(u64),
    /// The file ends at a length.
    Cut(u64),
    /// The file is gone.
    Missing,
    /// The file is as it was earlier.
    Older,
}

/// What storage made of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Everything is served as it was.
    Whole,
    /// Reads of the range are refused, the file is named; everything else is served.
    Named,
    /// The log is fenced; all others are served.
    Fenced,
    /// The start is refused, the file is named.
    Refused,
}

/// Two data directories: one whose runs all went through the journal, with a last group that nothing behind it proves to have
/// been durable, and one with runs that went straight to their segments.
pub struct BitRot([Scene; 2]);

/// A data directory of a process that was killed, and what can be done to it.
struct Scene {
    disk: SimulatedDisk,
    template: Simulation,
    sound: Recovered,
    /// What idempotent producers may send again, with the offsets that they must be told.
    repeats: Vec<(WriteSet, i64)>,
    older: BTreeMap<PathBuf, Vec<u8>>,
    files: BTreeMap<PathBuf, Vec<u8>>,
    cases: Vec<(PathBuf, Harm)>,
}

impl BitRot {
    /// Makes the directories.
    ///
    /// # Errors
    /// What the simulation found wrong before anything was harmed.
    pub fn new() -> Result<Self, Violation> {
        Ok(Self([Scene::new(None)?, Scene::new(Some(EXTENT_BYTES))?]))
    }

    /// How many cases there are.
    pub fn cases(&self) -> usize {
        self.0.iter().map(|scene| scene.cases.len()).sum()
    }

    /// Does one harm to a copy of a directory, starts, and looks at everything. Returns the kind of file, the harm, and
    /// what was made of it.
    ///
    /// # Errors
    /// What was lost or served wrong without a word.
    pub fn run(&self, mut case: usize) -> Result<(&'static str, Harm, Verdict), Violation> {
        for scene in &self.0 {
            if case < scene.cases.len() {
                return scene.run(case);
            }
            case -= scene.cases.len();
        }
        Err("there is no such case".into())
    }
}

impl Scene {
    /// Sealed and active segments, indexes, producers, and frames above the checkpoint.
    fn new(extent_bytes: Option<u64>) -> Result<Self, Violation> {
        let mut simulation = Simulation::new(SEED);
        simulation.options.journal_file_bytes = 64 << 10;
        simulation.options.extent_bytes = extent_bytes.unwrap_or(u64::MAX);
        simulation.recover()?;
        for attempt in simulation.traffic.opening(&mut simulation.rng) {
            simulation.submit(attempt)?;
        }
        let mut older = BTreeMap::new();
        for round in 0..3 {
            simulation.write_some(8)?;
            while simulation.engine()?.checkpoint_step() == Ok(true) {}
            simulation.write_some(4)?;
            older.extend(simulation.disk.files(|_| true));
            if round == 1 {
                simulation.stop_by(false);
                simulation.restart_and_check()?;
            }
        }
        // A change of the catalog too: without it in the journal, nothing may be served.
        let now_ms = simulation.clock.now_ms();
        let moved = simulation
            .traffic
            .snapshot(&mut simulation.rng, &mut simulation.ledger, now_ms)?;
        simulation.submit(moved.ok_or("no log is there")?)?;
        simulation.settle()?;
        simulation.write_some(5)?;
        if extent_bytes.is_some() {
            // There is only one copy of the last group, and of what would be cut off with all of it nothing bears witness.
            simulation.engine()?.close_idle_step();
        }
        let repeats = simulation.repeats();
        simulation.engine = None;
        let disk = simulation.disk.restart();
        simulation.disk = disk.fork();
        simulation.engine = Some(simulation.open().map_err(|error| error.to_string())?);
        let sound = simulation.show()?;
        simulation.engine = None;
        let files = disk.files(|_| true);
        let cases = files.iter().flat_map(|(path, bytes)| {
            let old = older.get(path).filter(|old| *old != bytes).map(|_| Harm::Older);
            let harms = [Harm::Missing].into_iter().chain(old).chain(harms_within(bytes));
            harms.map(|harm| (path.clone(), harm))
        });
        Ok(Self {
            cases: cases.collect(),
            template: simulation,
            disk,
            sound,
            repeats,
            older,
            files,
        })
    }

    fn run(&self, case: usize) -> Result<(&'static str, Harm, Verdict), Violation> {
        let Some((path, harm)) = self.cases.get(case) else {
            return Err(format!("there is no case {case}"));
        };
        let kind = kind_of(path);
        let named = |what: Violation| format!("{harm:?} {}: {what}", path.display());
        let disk = self.disk.fork();
        let harmed = self.harm(&disk, path, *harm);
        harmed.map_err(|error| error.to_string())?;
        let inspected = case.is_multiple_of(INSPECTED_EVERY) || *harm == Harm::Missing;
        let inspected = inspected.then(|| disk.fork());
        let verdict = self.verdict(disk, path, *harm).map_err(named)?;
        if let Some(disk) = inspected {
            self.inspect(disk, path, verdict).map_err(named)?;
        }
        let may = matches!(
            (kind, verdict),
            (_, Verdict::Whole | Verdict::Refused)
                | ("journal" | "segment", Verdict::Fenced)
                | ("segment", Verdict::Named)
        );
        ensure!(may, "{harm:?} {}: {verdict:?}", path.display());
        Ok((kind, *harm, verdict))
    }

    fn verdict(&self, disk: SimulatedDisk, path: &Path, harm: Harm) -> Result<Verdict, Violation> {
        let clock = self.template.clock.clone();
        let engine = match Engine::open(Arc::new(disk), clock, self.template.options.clone()) {
            Ok(engine) => engine,
            Err(error) => {
                let error = error.to_string();
                let control = path.parent().and_then(log_of) == Some(CONTROL_LOG);
                let may = kind_of(path) == "journal" || control && harm == Harm::Missing;
                let named = error.contains("the journal is damaged") || error.contains("is missing");
                ensure!(may && named, "the start is refused: {error}");
                return Ok(Verdict::Refused);
            }
        };
        self.check_catalog(&engine)?;
        let fenced: Vec<LogId> = engine.health().fences.iter().map(|fence| fence.log).collect();
        let mut verdict = if fenced.is_empty() {
            Verdict::Whole
        } else {
            Verdict::Fenced
        };
        while engine.scrub_step(u64::MAX) {}
        let found = engine.health().damages;
        ensure!(
            found.iter().all(|damage| damage.file == path),
            "the scrub found {found:?}"
        );
        for (log, sound) in &self.sound.logs {
            if fenced.contains(log) {
                let refused = matches!(engine.read(*log, sound.start, 1), Err(ReadError::Fenced { .. }));
                ensure!(refused, "log {log} is fenced and can be read");
            } else if !check_log(&engine, *log, sound, path)? {
                verdict = verdict.max(Verdict::Named);
            }
        }
        let known = engine.health().damages;
        // Of a file that is cut, reads find every place behind the cut that the index names.
        ensure!(
            known.is_empty() == found.is_empty(),
            "the scrub found {found:?}, reads {known:?}"
        );
        if verdict == Verdict::Whole {
            self.check_producers(engine)?;
        }
        Ok(verdict)
    }

    /// What is not whole is found without a start as well, and a repair brings back what the journal has lost: the segments
    /// of a process that was killed have all of it.
    fn inspect(&self, disk: SimulatedDisk, path: &Path, verdict: Verdict) -> Result<(), Violation> {
        let disk = Arc::new(disk);
        let directory = || Directory::on(disk.clone(), DATA_DIR.into()).map_err(|error| error.to_string());
        let checked = directory()?.verify(&mut |_| {}).map_err(|error| error.to_string())?;
        ensure!(
            verdict == Verdict::Whole || checked.problems > 0,
            "{verdict:?}, and verify finds nothing"
        );
        if verdict != Verdict::Fenced {
            return Ok(());
        }
        let plan = directory()?.plan_repair().map_err(|error| error.to_string())?;
        let repaired = directory()?.repair().map_err(|error| error.to_string())?;
        ensure!(plan == repaired, "planned was {plan:?}, done {repaired:?}");
        let checked = directory()?.verify(&mut |_| {}).map_err(|error| error.to_string())?;
        // What a segment has lost below the checkpoint stays lost, and named.
        let repaired_all = checked.problems == 0 || kind_of(path) == "segment";
        ensure!(repaired_all, "there are problems after a repair");
        let engine = Engine::open(disk, self.template.clock.clone(), self.template.options.clone());
        let engine = engine.map_err(|error| error.to_string())?;
        ensure!(engine.health().fences.is_empty(), "fenced again");
        if kind_of(path) == "journal" {
            for (log, sound) in &self.sound.logs {
                check_log(&engine, *log, sound, path)?;
            }
            self.check_producers(engine)?;
        }
        Ok(())
    }

    fn harm(&self, disk: &SimulatedDisk, path: &Path, harm: Harm) -> std::io::Result<()> {
        match harm {
            Harm::Flipped(position) => disk.flip_bit(path, position, (position % 8) as u32),
            Harm::Missing => disk.remove_file(path),
            Harm::Cut(len) => {
                let file = disk.open(path, Open::ReadWrite)?;
                file.set_len(len)?;
                file.sync_all()
            }
            Harm::Older => {
                let file = disk.open(path, Open::ReadWrite)?;
                file.set_len(0)?;
                let old = self.older.get(path).or_else(|| self.files.get(path));
                file.write_at(old.map(Vec::as_slice).unwrap_or_default(), 0)?;
                file.sync_all()
            }
        }
    }

    fn check_catalog(&self, engine: &Engine) -> Result<(), Violation> {
        let catalog = engine.catalog();
        for (id, topic) in &self.sound.topics {
            let shown = catalog.topic_by_id(*id);
            ensure!(
                shown.is_some_and(|shown| shown.partitions == topic.logs && shown.configs == topic.configs),
                "topic {} is not what it was",
                topic.name
            );
        }
        for (name, epoch) in &self.sound.epochs {
            ensure!(catalog.epoch(name) == Some(*epoch), "epoch {name} is not what it was");
        }
        Ok(())
    }

    /// What idempotent producers send again is answered with the offset that it has.
    fn check_producers(&self, engine: Engine) -> Result<(), Violation> {
        for (ws, offset) in &self.repeats {
            let answer = Arc::new(parking_lot::Mutex::new(None));
            let slot = answer.clone();
            engine.submit(ws.clone(), move |outcome| *slot.lock() = Some(outcome));
            let outcome = answer.lock().take();
            let told = outcome.and_then(|outcome| Some(outcome.ok()?.appends.first()?.first_offset));
            ensure!(
                told == Some(*offset),
                "a repeated batch is told {told:?}, it is at {offset}"
            );
        }
        Ok(())
    }
}

/// False if some of the log is named as damaged in that file; an error if anything else is not as it was.
fn check_log(engine: &Engine, log: LogId, sound: &Shown, harmed: &Path) -> Result<bool, Violation> {
    let ends = engine.ends(log).ok_or_else(|| format!("log {log} has no ends"))?;
    ensure!(
        (ends.start, ends.high_watermark) == (sound.start, sound.end),
        "log {log} holds {} to {}, it held {} to {}",
        ends.start,
        ends.high_watermark,
        sound.start,
        sound.end
    );
    let records: BTreeMap<i64, &StoredRecord> = sound.records.iter().map(|record| (record.offset, record)).collect();
    let (mut from, mut whole) = (sound.start, true);
    while from < sound.end {
        match engine.read(log, from, READ_BYTES) {
            Ok(fetched) => {
                let read = decode_all(&fetched.data, from, DECODE_BYTES).map_err(|error| error.to_string())?;
                ensure!(!read.records.is_empty(), "log {log} shows nothing at {from}");
                for record in &read.records {
                    ensure!(
                        records.get(&record.offset) == Some(&record),
                        "log {log} is served wrong at {}",
                        record.offset
                    );
                    from = record.offset + 1;
                }
            }
            Err(ReadError::Damaged {
                file, retriable: false, ..
            }) if file == harmed => {
                whole = false;
                from += 1;
            }
            Err(error) => return Err(format!("log {log} cannot be read from {from}: {error}")),
        }
    }
    Ok(whole)
}

/// Every byte of sectors that hold something, and the first one of those that are empty.
fn harms_within(bytes: &[u8]) -> Vec<Harm> {
    let sectors = bytes.chunks(SECTOR_BYTES).enumerate();
    let positions = sectors.flat_map(|(index, sector)| {
        let used = if sector.iter().any(|byte| *byte != 0) {
            sector.len()
        } else {
            1
        };
        (index * SECTOR_BYTES..index * SECTOR_BYTES + used).map(|position| position as u64)
    });
    positions
        .flat_map(|position| [Harm::Flipped(position), Harm::Cut(position)])
        .collect()
}

fn log_of(dir: &Path) -> Option<LogId> {
    let name = dir.strip_prefix(Path::new(DATA_DIR).join("logs")).ok()?;
    name.to_str()?.parse().ok()
}

impl Simulation {
    fn repeats(&mut self) -> Vec<(WriteSet, i64)> {
        let attempts = self.traffic.repeats(&self.ledger);
        let placed = attempts.into_iter().filter_map(|attempt| {
            let batch = *attempt.batches.first()?;
            match self.ledger.batches.get(batch)?.hope {
                Hope::Placed(offset) if self.ledger.is_kept(batch) => Some((self.ledger.open(attempt).1, offset)),
                _ => None,
            }
        });
        placed.collect()
    }
}
