//! A long time under load without a crash: the server must answer as in the first minute, and need no more than then.
//!
//! The load is that of [`crate::crash`], with HTTP, in rounds: each ends with the comparison of everything, and its topics are deleted, so
//! that the books of this process stay as small as the data directory ought to. The job's input goes on through all rounds, and
//! what the job has answered is compared and deleted on the way.

mod usage;

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use riverlog_evidence::load::endless::{self, Endless};
use riverlog_evidence::load::{self, Load};
use riverlog_evidence::server::{Binary, Server, lasting_port};
use riverlog_evidence::stretch::arguments;
use tokio::time::sleep;

use self::usage::{Usage, Watch};
use crate::log::{Log, Note, in_words};
use crate::stretches;

/// A round ends after so many records, so that all rounds need the same room; or after so long.
const ROUND_RECORDS: u64 = 20_000;
const ROUND: Duration = Duration::from_secs(60);
/// How often is looked.
const LOOK: Duration = Duration::from_secs(2);

/// Arguments of `evidence soak`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// How long; with less than 3 there is nothing to compare
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(3..))]
    minutes: u64,
    #[command(flatten)]
    common: stretches::RealArgs,
}

/// Runs it once.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let (binary, log) = (args.common.binary()?, Log::open()?);
    println!("soak: {} minutes, commit {}", args.minutes, log.commit());
    let bar = ProgressBar::new(args.minutes * 60).with_message("soak");
    bar.set_style(ProgressStyle::with_template(
        "{msg} [{elapsed_precise}] {bar:40} {pos}/{len} s",
    )?);
    let started = Instant::now();
    let mut dir = tempfile::Builder::new().prefix("soak-").tempdir_in(log.dir())?;
    let mut soak = Soak {
        binary: &binary,
        data_dir: &dir.path().join("data"),
        seed: args.common.seed().unwrap_or_default(),
        length: Duration::from_secs(args.minutes * 60),
        bar: &bar,
        note: Note {
            campaign: "soak, minutes".to_owned(),
            count: args.minutes,
            ..Note::default()
        },
    };
    let outcome = tokio::runtime::Runtime::new()?.block_on(async {
        tokio::select! {
            biased;
            interrupted = stretches::interrupted() => interrupted,
            outcome = soak.run() => Ok(outcome),
        }
    })?;
    let mut note = soak.note;
    note.seconds = started.elapsed().as_secs_f64();
    note.failures = u64::from(outcome.is_err());
    bar.finish_and_clear();
    println!("soak: {:.0} s: {}", note.seconds, in_words(&note));
    log.add(note)?;
    if let Err(found) = outcome {
        dir.disable_cleanup(true);
        println!("the data directory is kept: {}", dir.path().display());
        return Err(found.context("soak FOUND"));
    }
    println!("soak: nothing found; noted in {}", log.path().display());
    Ok(())
}

struct Soak<'a> {
    binary: &'a Binary,
    data_dir: &'a std::path::Path,
    seed: u64,
    length: Duration,
    bar: &'a ProgressBar,
    /// What was done so far.
    note: Note,
}

impl Soak<'_> {
    async fn run(&mut self) -> anyhow::Result<()> {
        let address = format!("127.0.0.1:{}", lasting_port()?);
        // Without the job, whose topics must be there when it starts.
        let server = Server::start(self.binary, self.data_dir, &["--kafka-addr", &address])?;
        load::create_topics(&address).await?;
        endless::create_outputs(&address).await?;
        server.stop()?;
        let server = self.start(&address)?;
        let watch = Watch::start(server.id(), self.data_dir, LOOK);
        let (outcome, usage) = self.under_load(&server, &address, watch).await;
        // What it said is worth more than what a client saw of it.
        let panicked = server.log().contains("panicked");
        ensure!(!panicked, "it panicked: {}", server.log());
        outcome.with_context(|| format!("the server said:\n{}", server.log()))?;
        self.note.remarks.extend(usage.in_words());
        // It must end by itself, with exit code 0; and another start must find everything.
        server.stop()?;
        self.start(&address)?.stop()?;
        let grown = usage.grown();
        ensure!(grown.is_empty(), "{}", grown.join("; "));
        Ok(())
    }

    fn start(&self, address: &str) -> anyhow::Result<Server> {
        Server::start(self.binary, self.data_dir, &arguments(address))
    }

    async fn under_load(&mut self, server: &Server, address: &str, watch: Watch) -> (anyhow::Result<()>, Usage) {
        let started = Instant::now();
        let mut job = Endless::start(self.binary, address, self.seed);
        let mut outcome = Ok(());
        while outcome.is_ok() && started.elapsed() < self.length {
            outcome = self.round(server, address, started, &mut job).await;
        }
        // Before the last comparisons, which are no load of a long time.
        let usage = watch.stop();
        let answers = match outcome {
            Ok(()) => job.finish().await,
            Err(found) => Err(found),
        };
        let answers = answers.map(|answers| self.count("answers of the job", answers));
        (answers, usage)
    }

    /// Some load, and the comparison; then its topics go.
    async fn round(
        &mut self,
        server: &Server,
        address: &str,
        started: Instant,
        job: &mut Endless,
    ) -> anyhow::Result<()> {
        self.seed += 1;
        let (begun, mut load) = (
            Instant::now(),
            Load::start_round(self.binary, address, server.http, self.seed),
        );
        while load.acknowledged() < ROUND_RECORDS && begun.elapsed() < ROUND {
            load.check()?;
            job.check()?;
            sleep(Duration::from_millis(100)).await;
            self.bar.set_position(started.elapsed().as_secs());
        }
        let acknowledged = load.acknowledged();
        ensure!(acknowledged > 0, "nothing is acknowledged any more");
        let books = load.finish().await?;
        for (name, figure) in books.verify(address).await? {
            self.count(&name, figure);
        }
        load::delete_round_topics(address).await?;
        load::create_round_topics(address).await?;
        self.count("rounds", 1);
        Ok(())
    }

    fn count(&mut self, name: &str, figure: u64) {
        *self.note.outcomes.entry(name.to_owned()).or_default() += figure;
    }
}
