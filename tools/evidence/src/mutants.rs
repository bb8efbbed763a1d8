//! Proof that the campaigns would find something: each planted bug is found by one of them.

use std::path::PathBuf;

use anyhow::{Context, ensure};
use indicatif::ProgressBar;
use riverlog_evidence::loop_disk::{DiskError, FileSystem, LoopDisk};
use riverlog_evidence::server::{Binary, Server};
use riverlog_evidence::stretch::Stretch;
use riverlog_storage::planted::{ALL, Planted, VARIABLE, plant};
use riverlog_storage::simulation;

use crate::campaign;
use crate::log::Log;

/// The bugs that must be found in the real process as well; and whether it takes power cuts. Names that are not synced are not
/// among them: on ext4, 50 to 200 cuts took none back. The simulated disk does.
const REAL: [(Planted, bool); 7] = [
    (Planted::SkipSync, true),
    (Planted::SkipSegmentSync, true),
    (Planted::FixCheckpointLate, true),
    (Planted::PublishBeforeSync, true),
    (Planted::ExtentUnsynced, true),
    (Planted::IgnorePosition, false),
    (Planted::DropJobState, false),
];
/// A bug is given up after so many stretches of so many kills or cuts.
const STRETCHES: u64 = 10;
const CRASHES: u64 = 10;

/// Arguments of `evidence mutants`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Give a bug up after so many seeds
    #[arg(long, default_value_t = 2_000)]
    seeds: u64,
    /// Kill this binary, and cut the power under it, as well; it must be built with `--features planted`
    #[arg(long, value_name = "PATH")]
    riverlog: Option<PathBuf>,
    #[command(flatten)]
    common: campaign::CaseArgs,
}

/// Each bug is a case; it fails if no seed finds the bug.
pub fn run(args: &Args) -> anyhow::Result<()> {
    // What a planted bug breaks may panic; that is a find like another.
    std::panic::set_hook(Box::new(|_| {}));
    let simulated = campaign::run("mutants", 0, ALL.len() as u64, args.common.threads(), |case| {
        let Some(bug) = ALL.get(case as usize) else {
            return Err(format!("there is no bug {case}"));
        };
        plant(Some(*bug));
        let mut seeds = 0..args.seeds;
        let found = seeds.find_map(|seed| match std::panic::catch_unwind(|| simulation::run(seed)) {
            Ok(Ok(_)) => None,
            Ok(Err(violation)) => Some(violation),
            Err(_) => Some(format!("seed {seed} panicked")),
        });
        plant(None);
        match found {
            Some(violation) => {
                println!("{bug:?}: {violation}");
                Ok(format!("{bug:?}"))
            }
            None => Err(format!("{bug:?} is not found in {} seeds", args.seeds)),
        }
    });
    match &args.riverlog {
        None => simulated,
        Some(path) => {
            let path = path.canonicalize().with_context(|| path.display().to_string())?;
            let crashed = crash(&Binary::new(path));
            simulated.and(crashed)
        }
    }
}

/// The same for some of the bugs in the real process.
fn crash(binary: &Binary) -> anyhow::Result<()> {
    let log = Log::open()?;
    let runtime = tokio::runtime::Runtime::new()?;
    campaign::run("mutants, real process", 0, REAL.len() as u64, 1, |case| {
        let Some((bug, power_cut)) = REAL.get(case as usize) else {
            return Err(format!("there is no bug {case}"));
        };
        let found = find(*bug, *power_cut, binary, &log, &runtime).map_err(|error| format!("{bug:?}: {error:#}"))?;
        println!("{bug:?}: {}", found.lines().next().unwrap_or_default());
        Ok(format!("{bug:?}"))
    })
}

/// What was found of a bug.
fn find(
    bug: Planted,
    power_cut: bool,
    binary: &Binary,
    log: &Log,
    runtime: &tokio::runtime::Runtime,
) -> anyhow::Result<String> {
    let binary = binary.with_variable(VARIABLE, &format!("{bug:?}"));
    let dir = tempfile::tempdir_in(log.dir())?;
    let server = Server::start(&binary, dir.path(), &["--log=warn"])?;
    let is_planted = server.log().contains(&format!("planted: Some({bug:?})"));
    ensure!(is_planted, "the binary is not built with --features planted");
    server.kill()?;
    for seed in 0..STRETCHES {
        let dir = tempfile::tempdir_in(log.dir())?;
        let disk = match power_cut {
            true => Some(LoopDisk::new(&log.dir().join("power-cut"), FileSystem::Ext4)?),
            false => None,
        };
        let stretch = Stretch {
            binary: &binary,
            data_dir: &disk.as_ref().map_or(dir.path(), LoopDisk::path).join("data"),
            seed,
            crashes: CRASHES,
            disk: disk.as_ref(),
            bar: &ProgressBar::hidden(),
        };
        match runtime.block_on(stretch.run()) {
            Ok(_) => {}
            // It is about this machine, so it proves nothing.
            Err(error) if error.is::<DiskError>() => return Err(error),
            Err(found) => return Ok(format!("seed {seed}: {found:#}")),
        }
    }
    anyhow::bail!("not found in {} crashes", STRETCHES * CRASHES)
}
