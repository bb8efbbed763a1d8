//! The command line: one file per subcommand, each with its arguments and an async `run`.

mod allocator;
pub mod backup;
mod bootstrap;
pub mod consume;
pub mod demo;
mod environment;
mod format;
pub mod group;
pub mod inspect;
mod output;
mod position;
pub mod produce;
pub mod replay;
pub mod restore;
pub mod serve;
mod time;
pub mod topic;

use std::io::Write;
use std::process::ExitCode;
use std::time::Instant;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

/// A durable, Kafka-compatible log broker with exactly-once stream processing in one binary.
#[derive(Debug, Parser)]
#[command(name = "riverlog", version, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the broker: Kafka protocol and HTTP over one data directory.
    Serve(Box<serve::ServeArgs>),
    /// Turn real flights into exact hourly answers, and check them; --crash kills the server on the way.
    Demo(demo::DemoArgs),
    /// Create, list, describe, alter and delete topics.
    Topic(topic::TopicArgs),
    /// Write lines of standard input to a topic.
    Produce(produce::ProduceArgs),
    /// Write a topic's records to standard output.
    Consume(consume::ConsumeArgs),
    /// Replay a range of a topic, at any pace, to standard output or into a topic.
    Replay(replay::ReplayArgs),
    /// List, describe, reset and delete consumer groups.
    Group(group::GroupArgs),
    /// Take a backup of a running server, and check it, or check one that is there.
    Backup(backup::BackupArgs),
    /// Make a data directory of a backup, and check it.
    Restore(restore::RestoreArgs),
    /// Check, show and mend a data directory that no server has open.
    Inspect(inspect::InspectArgs),
}

/// What was asked for is done, but shows damage that was there before. The process ends with 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct DamageFound(String);

/// Runs the process. Exit code 0 is success, 1 a failure that one line on standard error names, 2 wrong usage, or a backup
/// that was taken, checked or restored and has damage as its original.
pub fn main() -> ExitCode {
    let started = Instant::now();
    // Exits with 2, and says why, when the arguments are wrong.
    let matches = with_negative_numbers(Cli::command()).get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if matches!(cli.command, Command::Serve(_)) {
        allocator::settle();
    }
    let runtime = match builder.enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            return failed(&anyhow::Error::new(error).context("the async runtime does not start"));
        }
    };
    let outcome = runtime.block_on(dispatch(cli.command, started));
    // A thread that waits for standard input would otherwise keep a finished process alive.
    runtime.shutdown_background();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

/// The -1 in `--partitions -1` is a number that is out of range, not an option that there is not.
fn with_negative_numbers(command: clap::Command) -> clap::Command {
    command
        .mut_args(|arg| match arg.get_action().takes_values() {
            true => arg.allow_negative_numbers(true),
            false => arg,
        })
        .mut_subcommands(with_negative_numbers)
}

async fn dispatch(command: Command, started: Instant) -> anyhow::Result<()> {
    match command {
        Command::Serve(args) => serve::run(*args, started).await,
        Command::Demo(args) => demo::run(args).await,
        Command::Topic(args) => topic::run(args).await,
        Command::Produce(args) => produce::run(args).await,
        Command::Consume(args) => consume::run(args).await,
        Command::Replay(args) => replay::run(args).await,
        Command::Group(args) => group::run(args).await,
        Command::Backup(args) => backup::run(args).await,
        Command::Restore(args) => restore::run(args).await,
        Command::Inspect(args) => inspect::run(args).await,
    }
}

/// The whole chain of causes on one line: a person reads it, and a script can show it. A cause that is in the
/// message above it already is not said twice.
fn failed(error: &anyhow::Error) -> ExitCode {
    let mut line = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if line.is_empty() {
            line = cause;
        } else if !line.contains(&cause) {
            line = format!("{line}: {cause}");
        }
    }
    // Nobody may be there to read it, which is no reason to end otherwise.
    let _ = writeln!(std::io::stderr(), "riverlog: {line}");
    match error.is::<DamageFound>() {
        true => ExitCode::from(2),
        false => ExitCode::FAILURE,
    }
}
