//! Failing disks, exhaustively: a run is repeated with the first call to the disk failing, then the second, and so on:
//! by an error, by a disk that is full from there on, by a death of the process, by a power cut.

use std::path::Path;

use rand::RngExt;

use super::ledger::{Violation, ensure};
use super::{Simulation, kind_of};
use crate::Step;
use crate::disk::simulated::{Fault, Operation};

const SEED: u64 = 8;

/// How a call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// With an error, once.
    Error,
    /// With "no space left", and every later one that needs space too, until the next start but one.
    Full,
    /// The process dies while it is under way.
    Death,
    /// So does the machine.
    PowerCut,
    /// A read, with an error, once.
    Read,
}

/// Every failure.
pub const FAILURES: [Failure; 5] = [
    Failure::Error,
    Failure::Full,
    Failure::Death,
    Failure::PowerCut,
    Failure::Read,
];

/// Where a failure struck: the call and the kind of file; nothing if the run was over before.
pub type Struck = Option<(Operation, &'static str)>;

/// How many calls of the script can fail like this.
///
/// # Errors
/// What went wrong without any failure.
pub fn calls(failure: Failure) -> Result<u64, Violation> {
    let mut simulation = prepared();
    simulation.script()?;
    let mut calls = match failure {
        Failure::Read => simulation.disk.reads(),
        _ => simulation.disk.operations(),
    };
    // A disk that is full strikes only calls that need space.
    while calls > 0 && run(failure, calls - 1)?.is_none() {
        calls -= 1;
    }
    Ok(calls)
}

/// Runs the script with the n-th call that changes the disk failing. `None` if it has fewer calls.
///
/// # Errors
/// What was lost, doubled or served wrong because of it.
pub fn run(failure: Failure, call: u64) -> Result<Struck, Violation> {
    let mut simulation = prepared();
    let struck = simulation.run_failing(failure, call);
    struck.map_err(|what| format!("{failure:?} at call {call}: {what}"))
}

fn prepared() -> Simulation {
    let mut simulation = Simulation::new(SEED);
    simulation.options.journal_file_bytes = 64 << 10;
    // Some runs go to the journal, some straight to their segments.
    simulation.options.extent_bytes = 400;
    // Some of the checkpoints have so many.
    simulation.options.sync_together_files = 6;
    simulation
}

impl Simulation {
    fn run_failing(&mut self, failure: Failure, call: u64) -> Result<Struck, Violation> {
        self.armed = true;
        match failure {
            Failure::Error => self.disk.inject(Fault {
                on: None,
                path: String::new(),
                skip: call,
            }),
            Failure::Read => self.disk.inject(Fault {
                on: Some(Operation::Read),
                path: String::new(),
                skip: call,
            }),
            Failure::Full => self.disk.fill_after(call),
            Failure::Death | Failure::PowerCut => self.disk.crash_after(call),
        }
        self.unstable = failure == Failure::Error;
        let finished = self.script()?;
        let Some((operation, path)) = self.disk.struck() else {
            ensure!(finished, "the run ended early and no call has failed");
            return Ok(None);
        };
        if !finished && self.engine.is_some() && !self.disk.has_crashed() {
            let poisoned = self.engine()?.health().poisoned.is_some();
            // Of the whole file system: it may have failed for somebody else's file.
            ensure!(
                poisoned || path == Path::new("/"),
                "{operation:?} of {} failed and storage goes on",
                path.display()
            );
            for _ in 0..4 {
                self.commit_step()?;
                self.read_somewhere()?;
            }
        }
        self.stop_by(failure == Failure::PowerCut);
        if failure == Failure::Full {
            // Still full: the start works, or says that there is no space; either way nothing is lost by it.
            self.disk.fill_after(0);
            if let Err(error) = self.open() {
                ensure!(error.to_string().contains("full"), "start refused: {error}");
            }
            self.disk = self.disk.restart();
        }
        self.restart_and_check()?;
        self.check_second_recovery()?;
        self.write_some(4)?;
        Ok(Some((operation, kind_of(&path))))
    }

    /// The same run every time, until something fails. True if it came to its end.
    fn script(&mut self) -> Result<bool, Violation> {
        if !self.start()? {
            return Ok(false);
        }
        for attempt in self.traffic.opening(&mut self.rng) {
            self.submit(attempt)?;
        }
        self.settle()?;
        for round in 0..40 {
            self.write_some(2)?;
            self.sync_ahead_step()?;
            for _ in 0..self.rng.random_range(0..3) {
                self.checkpoint_step()?;
            }
            if round % 8 == 7 {
                let step = self.engine()?.close_idle_step();
                self.hear(step == Step::Poisoned)?;
            }
            if self.disk.has_crashed() || self.engine()?.health().poisoned.is_some() {
                return Ok(false);
            }
            // In the middle another process takes over, with frames above the checkpoint.
            if round == 20 && !self.start()? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// False if the start was refused because a call has failed.
    fn start(&mut self) -> Result<bool, Violation> {
        self.engine = None;
        match self.open() {
            Ok(engine) => self.engine = Some(engine),
            Err(error) => ensure!(self.disk.struck().is_some(), "start refused: {error}"),
        }
        Ok(self.engine.is_some())
    }
}
