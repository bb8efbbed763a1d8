//! `riverlog serve`: the broker as a process.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Context;

use super::{environment, output};
use crate::config::Settings;
use crate::demo::service;
use crate::server::Server;
use crate::shutdown::Signals;
use crate::telemetry;

/// Arguments of `riverlog serve`.
#[derive(Debug, clap::Args)]
pub struct ServeArgs {
    /// TOML file with any of these settings, named with underscores (`http_addr`); variables and flags win over it
    #[arg(long, value_name = "FILE", env = "RIVERLOG_CONFIG")]
    config: Option<PathBuf>,

    /// Run the demo's job beside the log; `riverlog demo --crash` and the crash tests start their servers so
    #[arg(long, hide = true)]
    demo_job: bool,

    /// End when standard input does, so that a server that belongs to another process does not outlive it
    #[arg(long, hide = true)]
    until_stdin_ends: bool,

    #[command(flatten)]
    settings: Settings,
}

/// Serves until SIGTERM or SIGINT, then drains.
///
/// # Errors
/// When the server cannot start, or cannot end cleanly.
pub async fn run(args: ServeArgs, started: Instant) -> anyhow::Result<()> {
    let below = match &args.config {
        Some(path) => Settings::from_file(path)?,
        None => Settings::default(),
    };
    let config = args.settings.over(below).resolve()?;
    telemetry::install(config.log_format, &config.log)?;
    for line in environment::unknown_variables() {
        tracing::warn!("{line}");
    }
    let mut signals = Signals::install().context("installing signal handlers")?;
    let server = Server::start(config).await?;
    let job = match args.demo_job {
        true => Some(service::start_job(server.broker()).await?),
        false => None,
    };
    announce(&server, started)?;
    let signal = tokio::select! {
        signal = signals.next() => signal,
        () = stdin_end(), if args.until_stdin_ends => "end of standard input",
    };
    signals.end_at_the_second();
    tracing::info!(signal, "draining");
    if let Some(job) = job {
        service::stop_job(job).await?;
    }
    server.shutdown().await?;
    tracing::info!("ended cleanly");
    Ok(())
}

async fn stdin_end() {
    // An input that cannot be read has ended as well.
    let _ = tokio::io::copy(&mut tokio::io::stdin(), &mut tokio::io::sink()).await;
}

/// Where everything is, in lines that scripts may parse: the name first, then the value. Written at once, because whoever
/// started this process waits for the first line, and may close the pipe when it has seen what it needs.
fn announce(server: &Server, started: Instant) -> anyhow::Result<()> {
    let (version, ms) = (env!("CARGO_PKG_VERSION"), started.elapsed().as_millis());
    let mut text = format!("riverlog {version} ready in {ms} ms\n");
    for listener in server.listeners() {
        text += &format!("  kafka  {}", listener.addr);
        if listener.advertised != listener.addr.to_string() {
            text += &format!("  advertised as {}", listener.advertised);
        }
        text += "\n";
    }
    text += &format!("  http   http://{}\n", server.http_addr());
    text += &format!("  data   {}\n", server.data_dir().display());
    output::print(&text)
}
