//! Logs: readable text by default, one JSON object a line on request. They go to standard error, so that
//! standard output holds only what a program asked for.

use tracing_subscriber::EnvFilter;

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line, for collectors.
    Json,
}

/// Installs the process-wide log. A second call (tests, the demo's embedded server) changes nothing.
///
/// # Errors
/// When `directives` is not a filter such as `info` or `info,riverlog::kafka=debug`.
pub fn install(format: LogFormat, directives: &str) -> Result<(), FilterError> {
    let filter = EnvFilter::try_new(directives).map_err(|source| FilterError {
        directives: directives.to_owned(),
        reason: source.to_string(),
    })?;
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // A line that cannot be written is lost. To say so on standard error, as is the default, would panic where that is
        // a closed pipe: in whichever thread had something to tell.
        .log_internal_errors(false);
    let _ = match format {
        LogFormat::Text => subscriber
            .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
            .try_init(),
        LogFormat::Json => subscriber.json().flatten_event(true).try_init(),
    };
    Ok(())
}

/// A log filter that cannot be understood.
#[derive(Debug, thiserror::Error)]
#[error(
    "log filter `{directives}` is not understood ({reason}); write a level (error, warn, info, debug, trace) or e.g. `info,riverlog::kafka=debug`"
)]
pub struct FilterError {
    directives: String,
    reason: String,
}
