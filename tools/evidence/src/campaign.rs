//! Running the cases of a campaign on all cores, with progress, notes and a summary.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use indicatif::{ProgressBar, ProgressStyle};
use parking_lot::Mutex;

use crate::log::{Log, Note};

/// Arguments of every campaign with a fixed number of cases.
#[derive(Clone, Debug, clap::Args)]
pub struct CaseArgs {
    /// How many threads; all cores by default
    #[arg(long)]
    threads: Option<usize>,
}

impl CaseArgs {
    pub fn threads(&self) -> usize {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        self.threads.unwrap_or(cores).max(1)
    }
}

/// What a case came to, in a word; or what it found wrong.
pub type Outcome = Result<String, String>;

/// Runs cases `first..first + count`, notes them, and fails if any of them found something.
pub fn run(
    name: &str,
    first: u64,
    count: u64,
    threads: usize,
    case: impl Fn(u64) -> Outcome + Sync,
) -> anyhow::Result<()> {
    let log = Log::open()?;
    println!(
        "{name}: {count} cases from {first} on, {threads} threads, commit {}",
        log.commit()
    );
    let bar = ProgressBar::new(count).with_message(name.to_owned());
    let style = "{msg} [{elapsed_precise}] {bar:40} {pos}/{len} {per_sec} {eta} left";
    bar.set_style(ProgressStyle::with_template(style)?);
    let (next, started) = (AtomicU64::new(first), Instant::now());
    let outcomes = Mutex::new(BTreeMap::<String, u64>::new());
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= first + count {
                        break;
                    }
                    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| case(number)));
                    match outcome.unwrap_or_else(|_| Err(format!("case {number} panicked"))) {
                        Ok(word) => *outcomes.lock().entry(word).or_default() += 1,
                        Err(found) => {
                            bar.println(format!("FOUND: {found}"));
                            failures.lock().push(found);
                        }
                    }
                    bar.inc(1);
                }
            });
        }
    });
    bar.finish_and_clear();
    let (outcomes, failures) = (outcomes.into_inner(), failures.into_inner());
    let seconds = started.elapsed().as_secs_f64();
    let summary: Vec<String> = outcomes.iter().map(|(word, count)| format!("{word} {count}")).collect();
    println!("{name}: {count} cases in {seconds:.0} s: {}", summary.join(", "));
    for found in failures.iter().take(20) {
        println!("  FOUND: {found}");
    }
    log.add(Note {
        campaign: name.to_owned(),
        first,
        count,
        failures: failures.len() as u64,
        outcomes,
        seconds,
        ..Note::default()
    })?;
    anyhow::ensure!(
        failures.is_empty(),
        "{name}: {} of {count} cases found something",
        failures.len()
    );
    println!("{name}: nothing found; noted in {}", log.path().display());
    Ok(())
}
