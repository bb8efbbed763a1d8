//! Running a campaign on the real process, stretch by stretch, with progress, notes and a summary.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, bail};
use indicatif::{ProgressBar, ProgressStyle};
use riverlog_evidence::loop_disk::DiskError;
use riverlog_evidence::server::Binary;
use riverlog_evidence::stretch::Figures;
use tokio::signal::unix::{SignalKind, signal};

use crate::log::{Log, Note, in_words};

/// Arguments of every campaign on the real process.
#[derive(Clone, Debug, clap::Args)]
pub struct RealArgs {
    /// The binary under test
    #[arg(long, value_name = "PATH", default_value = "target/release/riverlog")]
    riverlog: PathBuf,
    /// Repeats the choices, though not the timing, of the stretch that printed it; without it, campaigns go on behind
    /// what was noted on these sources
    #[arg(long)]
    seed: Option<u64>,
}

impl RealArgs {
    /// What was asked for.
    pub fn seed(&self) -> Option<u64> {
        self.seed
    }

    pub fn binary(&self) -> anyhow::Result<Binary> {
        let path = self.riverlog.canonicalize().with_context(|| {
            let path = self.riverlog.display();
            format!(
                "no binary at {path}; `cargo build --release` makes target/release/riverlog, --riverlog names another"
            )
        })?;
        Ok(Binary::new(path))
    }
}

/// Runs so many crashes in stretches of at most `longest`, each noted when it has come through. A stretch is given its
/// seed, which is the number of its first crash, and how many there are.
pub fn run(
    name: &str,
    args: &RealArgs,
    crashes: u64,
    longest: u64,
    stretch: impl AsyncFn(u64, u64, &ProgressBar) -> anyhow::Result<Figures>,
) -> anyhow::Result<()> {
    let log = Log::open()?;
    let mut next = args.seed.unwrap_or_else(|| log.next_case(name));
    let end = next + crashes;
    println!("{name}: {crashes} cases, --seed {next}, commit {}", log.commit());
    let bar = ProgressBar::new(crashes).with_message(name.to_owned());
    bar.set_style(ProgressStyle::with_template(
        "{msg} [{elapsed_precise}] {bar:40} {pos}/{len} {eta} left",
    )?);
    let runtime = tokio::runtime::Runtime::new()?;
    while next < end {
        let count = longest.min(end - next);
        let started = Instant::now();
        let outcome = runtime.block_on(async {
            tokio::select! {
                biased;
                interrupted = interrupted() => interrupted,
                outcome = stretch(next, count, &bar) => Ok(outcome),
            }
        })?;
        let mut note = Note {
            campaign: name.to_owned(),
            first: next,
            count,
            seconds: started.elapsed().as_secs_f64(),
            ..Note::default()
        };
        match outcome {
            Ok(figures) => {
                note.outcomes = figures.counts;
                note.recovered_ms = figures.recovered_ms;
                let words = in_words(&note);
                bar.suspend(|| println!("{name} --seed {next}: {count} in {:.0} s: {words}", note.seconds));
                log.add(note)?;
            }
            // It is about this machine; the stretch is run again next time.
            Err(error) if error.is::<DiskError>() => return Err(error),
            Err(found) => {
                note.failures = 1;
                log.add(note)?;
                bar.finish_and_clear();
                bail!("{name} --seed {next} with {count} cases FOUND: {found:#}");
            }
        }
        next += count;
    }
    bar.finish_and_clear();
    println!("{name}: nothing found; noted in {}", log.path().display());
    Ok(())
}

/// Ends with an error when somebody wants the campaign to end, so that everything is put away.
pub async fn interrupted<T>() -> anyhow::Result<T> {
    let mut signals = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()].map(signal);
    let [Ok(interrupt), Ok(terminate), Ok(hangup)] = &mut signals else {
        bail!("cannot wait for signals");
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
    }
    bail!("interrupted")
}

/// Notes that a campaign cannot be run on this machine, which is no failure.
pub fn not_run(name: &str, reason: &str) -> anyhow::Result<()> {
    println!("NOT RUN: {reason}");
    Log::open()?.add(Note {
        campaign: name.to_owned(),
        outcomes: [("not run".to_owned(), 1)].into(),
        ..Note::default()
    })
}
