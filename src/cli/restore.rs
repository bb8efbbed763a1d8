//! `riverlog restore`: makes a data directory of a backup.

use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;

use anyhow::{Context, bail};
use riverlog_storage::Restore;

use super::DamageFound;
use super::backup;
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
/// When the archive is damaged or no backup, or the directory is not empty or cannot be written. With [`DamageFound`] when the
/// directory is whole as the backup is, which has damage.
pub async fn run(args: RestoreArgs) -> anyhow::Result<()> {
    let RestoreArgs { file, data_dir } = args;
    let archive = backup::open(&file)?;
    let mut restoring = Restore::begin(&data_dir)?;
    let restored = restore(archive, &mut restoring);
    let Contents {
        lsn,
        files,
        bytes,
        notes,
        ..
    } = restored.with_context(|| {
        let (file, dir) = (file.display(), data_dir.display());
        match restoring.is_begun() {
            true => format!("{file} is not restored; remove {dir}, in which no server will start"),
            false => format!("{file} is not restored"),
        }
    })?;
    for note in &notes {
        eprintln!("riverlog: the backup has damage as the original had: {note}");
    }
    let dir = data_dir.display();
    print(&format!(
        "restored {files} files with {bytes} bytes, each with its checksum, everything up to journal frame {lsn}, in {dir}\n",
    ))?;
    match (verify(&data_dir, FindingFormat::Text)?, notes.len()) {
        (0, 0) => Ok(()),
        (problems, notes) => bail!(DamageFound(format!(
            "{dir} is whole as the backup is, in which damage is noted in {notes} places and found in {problems} (`riverlog \
             backup --check` tells whether the backup has it)"
        ))),
    }
}

fn restore(archive: File, restore: &mut Restore) -> anyhow::Result<Contents> {
    let contents = archive::read(BufReader::new(archive), |path, bytes| {
        let mut target = restore.file(path)?;
        archive::copy(bytes, |bytes| Ok(target.write(bytes)?))?;
        Ok(target.finish()?)
    })?;
    restore.finish(&contents.manifest)?;
    Ok(contents)
}
