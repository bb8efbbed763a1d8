//! Failing calls to a disk.
//!
//! On the simulated disk every call of a script fails once, exhaustively: see `riverlog_storage::simulation::disk_faults`. On a real
//! file system, with the real process under load, some failures of its device and of its space: see [`riverlog_evidence::faults`].

use riverlog_evidence::fault_disk::FaultDisk;
use riverlog_evidence::faults::{CASES, Case, Faults};
use riverlog_evidence::loop_disk::FileSystem;
use riverlog_storage::simulation::disk_faults::{self, FAILURES};

use crate::log::Log;
use crate::{campaign, stretches};

/// Arguments of `evidence disk-faults`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The real process on a real file system whose device fails; needs root and loop mounts
    #[arg(long)]
    real: bool,
    /// The file system
    #[arg(long, value_enum, default_value = "ext4", requires = "real")]
    fs: FileSystem,
    /// How often each case comes
    #[arg(long, default_value_t = 5, requires = "real")]
    rounds: u64,
    #[command(flatten)]
    process: stretches::RealArgs,
    #[command(flatten)]
    common: campaign::CaseArgs,
}

/// Runs one of the two.
pub fn run(args: &Args) -> anyhow::Result<()> {
    match args.real {
        true => run_real(args),
        false => run_simulated(&args.common),
    }
}

/// Runs every call of the script with every failure.
fn run_simulated(args: &campaign::CaseArgs) -> anyhow::Result<()> {
    let mut cases = Vec::new();
    for failure in FAILURES {
        let calls = disk_faults::calls(failure).map_err(anyhow::Error::msg)?;
        cases.extend((0..calls).map(|call| (failure, call)));
    }
    campaign::run("disk-faults", 0, cases.len() as u64, args.threads(), |case| {
        let Some((failure, call)) = cases.get(case as usize) else {
            return Err(format!("there is no case {case}"));
        };
        match disk_faults::run(*failure, *call)? {
            Some((operation, file)) => Ok(format!("{failure:?}: {operation:?} {file}").to_lowercase()),
            None => Err(format!("{failure:?} at call {call} did not strike")),
        }
    })
}

/// Runs each case so often, if this machine can mount such a disk: each round on a new one, in another order.
fn run_real(args: &Args) -> anyhow::Result<()> {
    let (binary, log) = (args.process.binary()?, Log::open()?);
    let dir = log.dir().join("disk-faults");
    let name = format!("disk-faults real {}", args.fs.name());
    // XFS knows no remount for reading only; it shuts down, as it does when the device fails.
    let cases: Vec<Case> = CASES
        .into_iter()
        .filter(|case| *case != Case::ReadOnly || args.fs == FileSystem::Ext4)
        .collect();
    if let Err(reason) = FaultDisk::new(&dir, args.fs) {
        return stretches::not_run(&name, &format!("{reason:#}"));
    }
    let each = cases.len() as u64;
    stretches::run(&name, &args.process, args.rounds * each, each, async |seed, _, bar| {
        let disk = FaultDisk::new(&dir, args.fs)?;
        let faults = Faults {
            binary: &binary,
            disk: &disk,
            data_dir: &disk.path().join("data"),
            seed,
            cases: &cases,
            bar,
        };
        faults.run().await
    })
}
