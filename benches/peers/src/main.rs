//! `cargo peers run`: Riverlog and Apache Kafka on this machine, in turns, by the same clients on the same file system.
//!
//! `scenario.rs` is the table of what is compared and what is wanted; `rounds.rs` drives it; a load is a file in `loads`.
//! Every round is noted in `target/peers/log.jsonl`, and `cargo peers table` makes the tables of it.

mod broker;
mod child;
mod claim;
mod kafka;
mod loads;
mod machine;
mod notes;
mod payload;
mod rounds;
mod scenario;
mod table;
mod usage;
mod wire;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::broker::Programs;
use crate::kafka::Jars;
use crate::loads::Client;
use crate::notes::{Log, Note};
use crate::rounds::Bench;
use crate::scenario::{SCENARIOS, Scenario};

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
    /// Name the scenarios.
    List,
    /// The tables of what was measured last, of each scenario.
    Table,
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
    /// How long a round waits for a second in which others do nothing. It runs then in any case.
    #[arg(long, default_value_t = 60)]
    quiet_seconds: u64,
    /// Who produces in bulk and consumes; scenarios in which it does neither are left out with java.
    #[arg(long, value_enum, default_value_t = Client::Librdkafka)]
    client: Client,
    /// The topic that is consumed or replayed, in MiB.
    #[arg(long, default_value_t = 2048, value_parser = clap::value_parser!(u64).range(1..))]
    source_mib: u64,
    /// The data of start-full, in MiB.
    #[arg(long, default_value_t = 10_240, value_parser = clap::value_parser!(u64).range(1..))]
    start_mib: u64,
    /// Leave free memory as it is.
    #[arg(long)]
    no_page_cache_fill: bool,
    /// Where both brokers have their data; what is there is removed at the end [default: target/peers/data].
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// A release build of riverlog; it is built if none is given.
    #[arg(long, value_name = "FILE")]
    riverlog: Option<PathBuf>,
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        What::Run(args) => run(&args),
        What::List => {
            for scenario in SCENARIOS {
                println!("{:18} {}", scenario.name, scenario.about);
            }
            Ok(())
        }
        What::Table => print_latest(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("peers: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The repository, from where this was built.
fn root() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here)
}

fn home() -> PathBuf {
    root().join("target/peers")
}

fn print_latest() -> anyhow::Result<()> {
    let log = Log::new(&home());
    let notes = table::latest(log.notes());
    ensure!(!notes.is_empty(), "nothing is noted in {}", log.path().display());
    table::print(&notes);
    Ok(())
}

fn run(args: &Run) -> anyhow::Result<()> {
    let chosen = chosen(args)?;
    child::catch_interrupts()?;
    let dir = args.dir.clone().unwrap_or_else(|| home().join("data"));
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    // Kafka needs the whole path, because its processes are started elsewhere.
    let dir = dir.canonicalize()?;
    remove_remains(&dir);
    let programs = Programs {
        riverlog: riverlog(args)?,
        jars: Jars::fetch(&root().join("benches/peers/pom.xml"), &home().join("kafka"))?,
    };
    let data = tempfile::Builder::new()
        .prefix(&format!("run-{}-", std::process::id()))
        .tempdir_in(&dir)
        .context("cannot create a directory for the data")?;
    let began = notes::now_s();
    let bench = Bench {
        note: Note {
            run: began,
            date: notes::date(began),
            commit: notes::commit(root()),
            kafka: programs.jars.version(),
            client: client_name(args.client),
            ..Note::default()
        },
        programs,
        payloads: payload::Payloads::new(),
        client: args.client,
        rounds: args.rounds,
        duration: Duration::from_secs(args.seconds),
        warm_up: Duration::from_secs(args.warm_up_seconds.min(args.seconds)),
        quiet_patience: Duration::from_secs(args.quiet_seconds),
        source_bytes: args.source_mib * 1024 * 1024,
        start_bytes: args.start_mib * 1024 * 1024,
        dir: data.path().to_owned(),
        log: Log::new(&home()),
        fills_page_cache: !args.no_page_cache_fill,
    };
    let mut notes = Vec::new();
    let mut failed = Vec::new();
    for scenario in chosen {
        match bench.run(scenario) {
            Ok(more) => notes.extend(more),
            Err(error) if child::interrupted() => return Err(error),
            Err(error) => {
                // The others can be measured all the same.
                eprintln!("peers: {error:#}");
                failed.push(scenario.name);
            }
        }
    }
    data.close().context("cannot remove the data")?;
    println!();
    table::print(&notes);
    println!("\nEvery round is in {}.", bench.log.path().display());
    ensure!(failed.is_empty(), "failed: {}", failed.join(", "));
    Ok(())
}

fn chosen(args: &Run) -> anyhow::Result<Vec<&'static Scenario>> {
    for name in &args.scenarios {
        if !SCENARIOS.iter().any(|scenario| scenario.name == name) {
            bail!("there is no scenario {name}; `cargo peers list` names them");
        }
    }
    let named =
        |scenario: &&Scenario| args.scenarios.is_empty() || args.scenarios.iter().any(|name| name == scenario.name);
    let possible = |scenario: &&Scenario| {
        args.client == Client::Librdkafka || scenario.variants.iter().all(|variant| variant.load.has_kafka_tool())
    };
    let chosen: Vec<&Scenario> = SCENARIOS.iter().filter(named).filter(possible).collect();
    ensure!(!chosen.is_empty(), "Kafka's own tools do nothing of that");
    Ok(chosen)
}

fn client_name(client: Client) -> String {
    let value = client.to_possible_value();
    value.map(|value| value.get_name().to_owned()).unwrap_or_default()
}

/// A release build of this tree, unless another binary is given.
fn riverlog(args: &Run) -> anyhow::Result<PathBuf> {
    if let Some(path) = &args.riverlog {
        return path.canonicalize().with_context(|| format!("no {}", path.display()));
    }
    let status = Command::new("cargo")
        .args([
            "build",
            "--release",
            "--quiet",
            "--locked",
            "--package",
            "riverlog",
            "--manifest-path",
        ])
        .arg(root().join("Cargo.toml"))
        .status()
        .context("cannot run cargo")?;
    ensure!(status.success(), "cargo could not build riverlog");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    let path = target.join("release/riverlog");
    path.canonicalize().with_context(|| format!("no {}", path.display()))
}

/// Data of runs that were killed before they could remove it.
fn remove_remains(dir: &Path) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let pid = name.strip_prefix("run-").and_then(|rest| rest.split('-').next());
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            let _ = std::fs::remove_dir_all(entry.path());
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
