//! Power cuts at random moments under load: see [`riverlog_evidence::stretch`] and [`riverlog_evidence::loop_disk`].

use std::path::Path;
use std::process::Command;

use anyhow::ensure;
use riverlog_evidence::loop_disk::{FileSystem, LoopDisk};
use riverlog_evidence::stretch::Stretch;

use crate::log::Log;
use crate::stretches;

/// Cuts that are verified and noted together. The disk has room for what is written between them, and not for much more.
const STRETCH: u64 = 20;

/// Arguments of `evidence power-cut`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The file system
    #[arg(long, value_enum, default_value = "ext4")]
    fs: FileSystem,
    /// How many cuts
    #[arg(long, default_value_t = 200)]
    cuts: u64,
    #[command(flatten)]
    common: stretches::RealArgs,
}

/// Runs so many cuts, in stretches with a file system each, if this machine can cut the power of one. The data of a
/// stretch that found something is kept, as the starts after the cut have left it.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let binary = args.common.binary()?;
    let log = Log::open()?;
    let dir = log.dir().join("power-cut");
    let fs = args.fs.name();
    let name = format!("power-cut {fs}");
    if let Err(reason) = LoopDisk::new(&dir, args.fs) {
        return stretches::not_run(&name, &format!("{reason:#}"));
    }
    stretches::run(&name, &args.common, args.cuts, STRETCH, async |seed, crashes, bar| {
        let disk = LoopDisk::new(&dir, args.fs)?;
        let stretch = Stretch {
            binary: &binary,
            data_dir: &disk.path().join("data"),
            seed,
            crashes,
            disk: Some(&disk),
            bar,
        };
        let outcome = stretch.run().await;
        if outcome.is_err() {
            let kept = log.dir().join(format!("power-cut-{fs}-{seed}"));
            let copied = keep(&disk, &kept);
            bar.suspend(|| println!("the data is kept in {}: {copied:?}", kept.display()));
        }
        outcome
    })
}

/// The stretch may have ended in the middle of a cut.
fn keep(disk: &LoopDisk, to: &Path) -> anyhow::Result<()> {
    disk.restore_power()?;
    let status = Command::new("cp").arg("-aT").args([disk.path(), to]).status()?;
    ensure!(status.success(), "cp: {status}");
    Ok(())
}
