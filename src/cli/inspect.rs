//! `riverlog inspect`: looks into a data directory that no server has open.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::bail;
use clap::{Subcommand, ValueEnum};
use riverlog_storage::inspect::{Checked, Directory, Repaired, Selection};

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
    /// Show the manifest, a file, or a partition's batches
    Dump {
        #[command(flatten)]
        data: DataArgs,
        /// A file of the directory: a manifest, journal file, segment, index or producer snapshot
        #[arg(default_value = "manifest", conflicts_with = "topic")]
        file: PathBuf,
        /// Show a partition of this topic instead
        #[arg(long, value_name = "NAME")]
        topic: Option<String>,
        /// Which one
        #[arg(long, value_name = "N", default_value_t = 0, requires = "topic")]
        partition: u32,
        /// Begin with the batch that holds this offset
        #[arg(long, value_name = "OFFSET", default_value_t = 0)]
        from: i64,
        /// Show at most so many batches
        #[arg(long, value_name = "N", default_value_t = u64::MAX, hide_default_value = true)]
        max: u64,
        /// Show the records of each batch
        #[arg(long)]
        records: bool,
    },
    /// Lift fences: keep what the segments of fenced partitions hold, cut what does not continue them
    Repair {
        #[command(flatten)]
        data: DataArgs,
        /// Say what would be kept and cut, and change nothing
        #[arg(long)]
        dry_run: bool,
    },
}

#[derive(Debug, clap::Args)]
struct DataArgs {
    /// Directory of the data; no server may be running on it
    #[arg(long, value_name = "DIR", env = "RIVERLOG_DATA_DIR", default_value = "riverlog-data")]
    data_dir: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum FindingFormat {
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
        InspectCommand::Verify { data, format } => match verify(&data.data_dir, format)? {
            0 => Ok(()),
            1 => bail!("1 problem in {}", data.data_dir.display()),
            problems => bail!("{problems} problems in {}", data.data_dir.display()),
        },
        InspectCommand::Dump {
            data,
            file,
            topic,
            partition,
            from,
            max,
            records,
        } => {
            let selection = Selection {
                from,
                max_batches: max,
                records,
            };
            let directory = Directory::open(&data.data_dir)?;
            let mut out = io::BufWriter::new(io::stdout().lock());
            let dumped = match topic {
                Some(topic) => directory.dump_partition(&topic, partition, selection, &mut out),
                None => directory.dump_file(&file, selection, &mut out),
            };
            match dumped.and_then(|()| out.flush()) {
                // Whoever closed the pipe has seen enough.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
                outcome => Ok(outcome?),
            }
        }
        InspectCommand::Repair { data, dry_run } => repair(data, dry_run),
    }
}

/// Checks a directory, tells what is wrong in it, and returns how many problems that are.
pub(super) fn verify(data_dir: &Path, format: FindingFormat) -> anyhow::Result<u64> {
    let directory = Directory::open(data_dir)?;
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
    Ok(checked.problems)
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

fn repair(data: DataArgs, dry_run: bool) -> anyhow::Result<()> {
    let directory = Directory::open(&data.data_dir)?;
    let repaired = match dry_run {
        true => directory.plan_repair()?,
        false => directory.repair()?,
    };
    let mut text: String = repaired.iter().map(told).collect();
    text.push_str(match (repaired.is_empty(), dry_run) {
        (true, _) => {
            "no partition is fenced: nothing to repair (damaged batches, which `verify` lists, cannot be restored)\n"
        }
        (false, true) => "nothing was changed; without --dry-run this is done\n",
        (false, false) => "repaired; the server can be started\n",
    });
    print(&text)
}

/// What was kept of a partition, and what was cut.
fn told(repaired: &Repaired) -> String {
    let Repaired {
        partition,
        fence,
        start,
        end,
        kept_records,
        kept_bytes,
        cuts,
    } = repaired;
    let mut text = format!("{partition} was fenced: {}\n", fence.reason());
    if *end < fence.offset {
        text.push_str(&format!(
            "  lost  offsets {end} to {}: their segment is gone\n",
            fence.offset - 1
        ));
    } else {
        text.push_str(&format!(
            "  kept  {kept_records} records behind offset {} that its segments hold ({kept_bytes} bytes)\n",
            fence.offset
        ));
    }
    for cut in cuts {
        let what = if cut.position == 0 { "removed" } else { "cut" };
        text.push_str(&format!(
            "  {what}  {} from position {} on: {} bytes that do not continue it\n",
            cut.file, cut.position, cut.bytes
        ));
    }
    text.push_str(&format!("  holds offsets from {start} on, the next one is {end}\n"));
    text
}
