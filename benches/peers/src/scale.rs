//! `cargo peers scale`: the curves, of Riverlog and Apache Kafka as it is shipped.

use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Args;

use crate::curve::{CURVES, Curve, Point};
use crate::loads::Client;
use crate::rounds::Pace;
use crate::scenario::Scenario;
use crate::setup::Setup;
use crate::variant::Variant;
use crate::{curve_table, machine};

#[derive(Debug, Args)]
pub struct Scale {
    /// partitions, connections or sizes; all of them if none is given.
    #[arg(value_parser = clap::builder::PossibleValuesParser::new(CURVES.iter().map(|curve| curve.name)))]
    curves: Vec<String>,
    /// Rounds that count, of each point.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// How long a round is.
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// How long each broker runs before that at each point, for code that is compiled as it runs.
    #[arg(long, default_value_t = 10)]
    warm_up_seconds: u64,
    /// Measure Riverlog alone.
    #[arg(long)]
    without_kafka: bool,
    #[command(flatten)]
    setup: Setup,
}

/// # Errors
/// If something cannot be had or a point could not be measured, or the run is to end.
pub fn run(args: &Scale) -> anyhow::Result<()> {
    let named = |curve: &&Curve| args.curves.is_empty() || args.curves.iter().any(|name| name == curve.name);
    let points: Vec<&Point> = CURVES.iter().filter(named).flat_map(|curve| curve.points).collect();
    let wanted = points.iter().map(|point| point.open_files()).max().unwrap_or(0);
    let open_files = machine::allow_open_files(wanted)?;
    let (points, too_large): (Vec<_>, Vec<_>) = points.into_iter().partition(|point| point.open_files() <= open_files);
    for point in too_large {
        let needed = point.open_files();
        eprintln!(
            "peers: {} is left out: it takes {needed} open files, and {open_files} are allowed (`ulimit -Hn`)",
            point.name
        );
    }
    let variants: Vec<(&str, Vec<Variant>)> = points
        .iter()
        .map(|point| (point.name, point.variants(!args.without_kafka)))
        .collect();
    // A point is a scenario of its own, with brokers of its own: 10,000 partitions weigh on nothing else.
    let scenarios: Vec<Scenario<'_>> = variants
        .iter()
        .map(|(name, variants)| Scenario {
            name,
            about: "",
            variants,
            claims: &[],
        })
        .collect();
    let pace = Pace {
        rounds: args.rounds,
        duration: Duration::from_secs(args.seconds),
        warm_up: Duration::from_secs(args.warm_up_seconds),
    };
    let (bench, data) = args.setup.bench(Client::Librdkafka, pace)?;
    let (notes, failed) = bench.run_all(&scenarios)?;
    data.close().context("cannot remove the data")?;
    println!();
    curve_table::print(&notes);
    println!("\nEvery round is in {}.", bench.log.path().display());
    ensure!(failed.is_empty(), "failed: {}", failed.join(", "));
    Ok(())
}
