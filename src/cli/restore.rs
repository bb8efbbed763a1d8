//! `riverlog restore`: makes a data directory of a backup.

use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;

use anyhow::Context;
use riverlog_storage::Restore;

use super::inspect::{FindingFormat, verify};
use super::output::print;
use crate::archive::{self, Contents};

/// Arguments of `riverlog restore`.
#[derive(Debug, clap::Args)]
pub struct RestoreArgs {
    /// A backup
    file: PathBuf,
    /// Directory to restore into; it must be empty, or not exist
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
}

/// Restores, and then verifies what is there.
///
/// # Errors
/// When the archive is damaged or no backup, the directory is not empty or cannot be written, or what was restored has damage.
pub async fn run(args: RestoreArgs) -> anyhow::Result<()> {
    let RestoreArgs { file, data_dir } = args;
    let archive = File::open(&file).with_context(|| format!("cannot open {}", file.display()))?;
    if let Some(parent) = data_dir.parent() {
        std::fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
    }
    let contents = restore(archive, Restore::begin(&data_dir)?).with_context(|| {
        let dir = data_dir.display();
        format!(
            "{} is not restored; remove {dir}, in which no server will start",
            file.display()
        )
    })?;
    let Contents {
        lsn,
        files,
        bytes,
        notes,
        ..
    } = contents;
    for note in &notes {
        eprintln!("riverlog: the backup has damage as the original had: {note}");
    }
    print(&format!(
        "restored {files} files with {bytes} bytes, everything up to journal frame {lsn}, in {}\n",
        data_dir.display()
    ))?;
    verify(&data_dir, FindingFormat::Text)
}

fn restore(archive: File, mut restore: Restore) -> anyhow::Result<Contents> {
    let contents = archive::read(BufReader::new(archive), |path, bytes| {
        let mut target = restore.file(path)?;
        archive::copy(bytes, |bytes| Ok(target.write(bytes)?))?;
        Ok(target.finish()?)
    })?;
    restore.finish(&contents.manifest)?;
    Ok(contents)
}
