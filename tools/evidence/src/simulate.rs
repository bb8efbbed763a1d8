//! The simulation of storage by the million: see `riverlog_storage::simulation`.

use riverlog_storage::simulation;

use crate::campaign;
use crate::log::Log;

/// Seeds that are noted together: what an interruption may lose.
const STRETCH: u64 = 10_000;

/// Arguments of `evidence simulate`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// How many seeds
    #[arg(long, default_value_t = 1_000_000)]
    seeds: u64,
    /// The first seed; without it, the one behind the last that was run on these sources
    #[arg(long)]
    from: Option<u64>,
    #[command(flatten)]
    common: campaign::CaseArgs,
}

/// Runs the seeds that are left. A seed that fails is run again with fewer and fewer steps, for the shortest history.
pub fn run(args: &Args) -> anyhow::Result<()> {
    run_seeds("simulate", args, |seed| {
        let run = simulation::run(seed).map_err(|violation| match simulation::shortest(seed) {
            Some((acts, shorter)) => format!("{violation}\n  after {acts} acts: {shorter}"),
            None => violation,
        });
        run.map(|report| {
            let words = [
                (report.refused_starts > 0, "start refused"),
                (report.fences > 0, "fenced"),
                (report.damages > 0, "damaged, whole"),
                (report.faults > 0, "faults"),
            ];
            let word = words.iter().find(|(is_so, _)| *is_so);
            word.map_or("crashes only", |(_, word)| word).to_owned()
        })
    })
}

/// The same for jobs on that storage: see `riverlog::processing::simulation`.
pub fn run_jobs(args: &Args) -> anyhow::Result<()> {
    run_seeds("simulate-jobs", args, |seed| {
        let report = riverlog::processing::simulation::run(seed)?;
        let word = if report.take_overs > 0 {
            "with take-overs"
        } else {
            "crashes only"
        };
        Ok(word.to_owned())
    })
}

/// The same for consumer groups: see `riverlog::broker::coordinator::simulation`.
pub fn run_groups(args: &Args) -> anyhow::Result<()> {
    run_seeds("simulate-groups", args, |seed| {
        let report = riverlog::broker::coordinator::simulation::run(seed)?;
        let word = if report.deletions > 0 {
            "with deletions"
        } else {
            "crashes only"
        };
        Ok(word.to_owned())
    })
}

fn run_seeds(name: &str, args: &Args, seed: impl Fn(u64) -> campaign::Outcome + Sync) -> anyhow::Result<()> {
    let first = args.from.map_or_else(|| Ok(Log::open()?.next_case(name)), anyhow::Ok)?;
    let mut next = first;
    while next < first + args.seeds {
        let count = STRETCH.min(first + args.seeds - next);
        campaign::run(name, next, count, args.common.threads(), &seed)?;
        next += count;
    }
    Ok(())
}
