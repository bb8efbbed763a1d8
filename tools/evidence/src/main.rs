//! `cargo evidence CAMPAIGN`: tries to make Riverlog lose, double or misserve an acknowledged record.
//!
//! Every campaign shows how far it is and notes what it has done in [`log::Log`]. Those with seeds go on behind what is noted
//! when they are started again; the others are short and run whole. `cargo evidence table` sums the notes up.

mod bit_rot;
mod campaign;
mod crash;
mod disk_faults;
mod log;
#[cfg(feature = "planted")]
mod mutants;
mod overload;
mod power_cut;
mod restart;
mod simulate;
mod soak;
mod stretches;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A simulation allocates most of the time, and this takes a quarter off it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Debug, Parser)]
#[command(name = "evidence", max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    campaign: Campaign,
}

#[derive(Debug, Subcommand)]
enum Campaign {
    /// Storage on a simulated disk, with crashes, failures and damage at any moment: one seed after the other.
    Simulate(simulate::Args),
    /// A job on that storage: its output must be the batch answer, exactly once.
    SimulateJobs(simulate::Args),
    /// Consumer groups on that storage: whatever their members and tools were told must stay so.
    SimulateGroups(simulate::Args),
    /// Every byte of a small data directory flipped, every file cut at every length, missing, or an older copy.
    BitRot(campaign::CaseArgs),
    /// Every call to the disk fails once: by an error, a full disk, a death of the process, a power cut. Or, with
    /// `--real`, a real disk under the real process.
    DiskFaults(disk_faults::Args),
    /// SIGKILL at random moments under load, as often as you like, and a comparison of everything after every 50.
    Crash(crash::Args),
    /// The same with a power cut before each kill, on a file system of its own; needs root and loop mounts.
    PowerCut(power_cut::Args),
    /// Power cuts of a disk with 10 GiB in 1,000 partitions: the next start must acknowledge within a second. As power-cut,
    /// it needs root and loop mounts.
    Restart(restart::Args),
    /// The same load for a long time without a crash: what the server needs must not grow.
    Soak(soak::Args),
    /// Thousands of clients that mean no good against the real server, which must go on serving within its memory.
    Overload(overload::Args),
    /// Each planted bug must be found (needs `--features planted`).
    #[cfg(feature = "planted")]
    Mutants(mutants::Args),
    /// The table of everything that was run on this commit.
    Table,
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().campaign {
        Campaign::Simulate(args) => simulate::run(&args),
        Campaign::SimulateJobs(args) => simulate::run_jobs(&args),
        Campaign::SimulateGroups(args) => simulate::run_groups(&args),
        Campaign::BitRot(args) => bit_rot::run(&args),
        Campaign::DiskFaults(args) => disk_faults::run(&args),
        Campaign::Crash(args) => crash::run(&args),
        Campaign::PowerCut(args) => power_cut::run(&args),
        Campaign::Restart(args) => restart::run(&args),
        Campaign::Soak(args) => soak::run(&args),
        Campaign::Overload(args) => overload::run(&args),
        #[cfg(feature = "planted")]
        Campaign::Mutants(args) => mutants::run(&args),
        Campaign::Table => log::print_table(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("evidence: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        super::Cli::command().debug_assert();
    }
}
