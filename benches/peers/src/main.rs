//! `cargo peers run`: Riverlog and Apache Kafka on this machine, in turns, by the same clients on the same file system.
//!
//! `scenario.rs` is the table of what is compared and what is wanted, `curve.rs` that of what grows; `rounds.rs` drives
//! them; a load is a file in `loads`. Every round is noted in `target/peers/log.jsonl`, and `cargo peers table` makes the
//! tables of it.

mod broker;
mod child;
mod claim;
mod curve;
mod curve_table;
mod kafka;
mod loads;
mod machine;
mod notes;
mod payload;
mod rounds;
mod scale;
mod scenario;
mod setup;
mod sink;
mod table;
mod usage;
mod variant;
mod wire;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use clap::{Args, Parser, Subcommand};

use crate::loads::Client;
use crate::notes::Log;
use crate::rounds::{Bench, Pace};
use crate::scale::Scale;
use crate::scenario::{SCENARIOS, Scenario};
use crate::setup::Setup;

#[derive(Debug, Parser)]
#[command(name = "peers", max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Measure, and print the tables.
    Run(Run),
    /// Measure how both do with more partitions, more connections and larger records.
    Scale(Scale),
    /// Name the scenarios.
    List,
    /// The tables of what was measured last, of each scenario.
    Table,
    /// The broker that keeps nothing, or syncs a file and does nothing else, which `run` starts beside the others.
    #[command(hide = true)]
    Sink {
        address: SocketAddr,
        #[arg(long)]
        file: Option<PathBuf>,
    },
}

#[derive(Debug, Args)]
struct Run {
    /// Scenarios by name (`list`); all of them if none is given.
    scenarios: Vec<String>,
    /// Rounds that count, of each variant.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// How long a round is.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// How long each variant runs before that, for code that is compiled as it runs.
    #[arg(long, default_value_t = 10)]
    warm_up_seconds: u64,
    /// Who produces in bulk and consumes; scenarios in which it does neither are left out with java.
    #[arg(long, value_enum, default_value_t = Client::Librdkafka)]
    client: Client,
    /// The topic that is consumed or replayed, in MiB.
    #[arg(long, default_value_t = 2048, value_parser = clap::value_parser!(u64).range(1..))]
    source_mib: u64,
    /// The data of start-full, in MiB.
    #[arg(long, default_value_t = 10_240, value_parser = clap::value_parser!(u64).range(1..))]
    start_mib: u64,
    #[command(flatten)]
    setup: Setup,
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        What::Run(args) => run(&args),
        What::Scale(args) => scale::run(&args),
        What::List => {
            for scenario in SCENARIOS {
                println!("{:18} {}", scenario.name, scenario.about);
            }
            Ok(())
        }
        What::Table => print_latest(),
        What::Sink { address, file: None } => sink::serve(address),
        What::Sink {
            address,
            file: Some(file),
        } => sink::synced::serve(address, &file),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("peers: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn print_latest() -> anyhow::Result<()> {
    let log = Log::new(&setup::home());
    let notes = table::latest(log.notes());
    ensure!(!notes.is_empty(), "nothing is noted in {}", log.path().display());
    let (points, notes): (Vec<_>, Vec<_>) = notes.into_iter().partition(curve_table::is_of_a_curve);
    table::print(&notes);
    if !points.is_empty() {
        println!();
        curve_table::print(&points);
    }
    Ok(())
}

fn run(args: &Run) -> anyhow::Result<()> {
    let chosen = chosen(args)?;
    let pace = Pace {
        rounds: args.rounds,
        duration: Duration::from_secs(args.seconds),
        warm_up: Duration::from_secs(args.warm_up_seconds.min(args.seconds)),
    };
    let (bench, data) = args.setup.bench(args.client, pace)?;
    let bench = Bench {
        source_bytes: args.source_mib * 1024 * 1024,
        start_bytes: args.start_mib * 1024 * 1024,
        ..bench
    };
    let (notes, failed) = bench.run_all(chosen)?;
    data.close().context("cannot remove the data")?;
    println!();
    table::print(&notes);
    println!("\nEvery round is in {}.", bench.log.path().display());
    ensure!(failed.is_empty(), "failed: {}", failed.join(", "));
    Ok(())
}

fn chosen(args: &Run) -> anyhow::Result<Vec<&'static Scenario<'static>>> {
    for name in &args.scenarios {
        if !SCENARIOS.iter().any(|scenario| scenario.name == name) {
            bail!("there is no scenario {name}; `cargo peers list` names them");
        }
    }
    let named =
        |scenario: &&Scenario<'_>| args.scenarios.is_empty() || args.scenarios.iter().any(|name| name == scenario.name);
    let possible = |scenario: &&Scenario<'_>| {
        args.client == Client::Librdkafka || scenario.variants.iter().all(|variant| variant.load.has_kafka_tool())
    };
    let chosen: Vec<&Scenario<'_>> = SCENARIOS.iter().filter(named).filter(possible).collect();
    ensure!(!chosen.is_empty(), "Kafka's own tools do nothing of that");
    Ok(chosen)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        super::Cli::command().debug_assert();
    }
}
