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
    let first = args
        .from
        .map_or_else(|| Ok(Log::open()?.next_case("simulate")), anyhow::Ok)?;
    let mut next = first;
    while next < first + args.seeds {
        let count = STRETCH.min(first + args.seeds - next);
        campaign::run("simulate", next, count, args.common.threads(), |seed| {
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
        })?;
        next += count;
    }
    Ok(())
}
