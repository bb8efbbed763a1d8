//! Proof that the campaigns would find something: each planted bug is found by one of them.

use riverlog_storage::planted::{ALL, plant};
use riverlog_storage::simulation;

use crate::campaign;

/// Arguments of `evidence mutants`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Give a bug up after so many seeds
    #[arg(long, default_value_t = 2_000)]
    seeds: u64,
    #[command(flatten)]
    common: campaign::Args,
}

/// Each bug is a case; it fails if no seed finds the bug.
pub fn run(args: &Args) -> anyhow::Result<()> {
    // What a planted bug breaks may panic; that is a find like another.
    std::panic::set_hook(Box::new(|_| {}));
    campaign::run("mutants", 0, ALL.len() as u64, args.common.threads(), |case| {
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
    })
}
