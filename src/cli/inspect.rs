//! `riverlog inspect`: looks into a data directory that no server has open.

use std::path::PathBuf;

use anyhow::bail;
use clap::{Subcommand, ValueEnum};
use riverlog_storage::inspect::{Checked, Directory};

use super::output::print;

/// Arguments of `riverlog inspect`.
#[derive(Debug, clap::Args)]
pub struct InspectArgs {
    #[command(subcommand)]
    command: InspectCommand,
}

#[derive(Debug, Subcommand)]
enum InspectCommand {
    /// Check every checksum, order and reference; changes nothing, ends with 1 if something is wrong
    Verify {
        #[command(flatten)]
        data: DataArgs,
        /// How findings are written
        #[arg(long, value_enum, default_value_t = FindingFormat::Text)]
        format: FindingFormat,
    },
}

#[derive(Debug, clap::Args)]
struct DataArgs {
    /// Directory of the data; no server may be running on it
    #[arg(long, value_name = "DIR", env = "RIVERLOG_DATA_DIR", default_value = "riverlog-data")]
    data_dir: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum FindingFormat {
    /// A line for each finding, and a summary
    Text,
    /// A JSON object for each finding, and one for the summary
    Json,
}

/// Does what the subcommand says.
///
/// # Errors
/// When the directory is in use or cannot be read, and when something is wrong in it.
pub async fn run(args: InspectArgs) -> anyhow::Result<()> {
    match args.command {
        InspectCommand::Verify { data, format } => verify(data, format),
    }
}

fn verify(data: DataArgs, format: FindingFormat) -> anyhow::Result<()> {
    let directory = Directory::open(&data.data_dir)?;
    let mut printed = Ok(());
    let checked = directory.verify(&mut |finding| {
        let line = match format {
            FindingFormat::Text => finding.to_string(),
            FindingFormat::Json => serde_json::json!(finding).to_string(),
        };
        if printed.is_ok() {
            printed = print(&format!("{line}\n"));
        }
    })?;
    printed?;
    match format {
        FindingFormat::Text => print(&format!("{}\n", summary(&checked)))?,
        FindingFormat::Json => print(&format!("{}\n", serde_json::json!(checked)))?,
    }
    match checked.problems {
        0 => Ok(()),
        1 => bail!("1 problem in {}", data.data_dir.display()),
        problems => bail!("{problems} problems in {}", data.data_dir.display()),
    }
}

fn summary(checked: &Checked) -> String {
    let Checked {
        problems,
        notes,
        logs,
        segments,
        batches,
        segment_bytes,
        journal_frames,
    } = checked;
    format!(
        "checked {logs} logs: {segments} segments with {batches} batches ({segment_bytes} bytes), and {journal_frames} \
         journal frames above the checkpoint: {problems} problems, {notes} notes"
    )
}
