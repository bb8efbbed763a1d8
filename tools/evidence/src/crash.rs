//! SIGKILL at random moments under load: see [`riverlog_evidence::stretch`].

use riverlog_evidence::stretch::Stretch;

use crate::log::Log;
use crate::stretches;

/// Kills that are verified and noted together: what an interruption may lose.
const STRETCH: u64 = 50;

/// Arguments of `evidence crash`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// How many kills
    #[arg(long, default_value_t = 1_000)]
    kills: u64,
    #[command(flatten)]
    common: stretches::RealArgs,
}

/// Runs so many kills, in stretches with a data directory each. That of a stretch that found something is kept.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let binary = args.common.binary()?;
    let log = Log::open()?;
    stretches::run(
        "crash",
        &args.common,
        args.kills,
        STRETCH,
        async |seed, crashes, bar| {
            let mut dir = tempfile::Builder::new().prefix("crash-").tempdir_in(log.dir())?;
            let stretch = Stretch {
                binary: &binary,
                data_dir: &dir.path().join("data"),
                seed,
                crashes,
                disk: None,
                bar,
            };
            let outcome = stretch.run().await;
            if outcome.is_err() {
                dir.disable_cleanup(true);
                bar.suspend(|| println!("the data directory is kept: {}", dir.path().display()));
            }
            outcome
        },
    )
}
