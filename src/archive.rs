//! A backup as one stream: a tar archive of the files of a data directory, its manifest, and a list of all of them with their
//! checksums, which comes last. An archive that ends before its list, or differs from it, is refused by the entry's name.
//! The bytes are in `docs/formats.md`.

use std::collections::BTreeSet;
use std::io::{self, BufReader, Read, Write};

use anyhow::{Context, anyhow, ensure};
use riverlog_storage::{Backup, BadBatch, check_manifest, check_segment, is_restorable};

const MANIFEST: &str = "manifest";
const LIST: &str = "checksums";
/// The first line of the list, with the archive's version.
const FIRST_LINE: &str = "riverlog-backup 1";
/// Neither the manifest nor the list is larger; only these two are held in memory.
const MAX_HELD_BYTES: u64 = 256 << 20;
/// Damaged places that are told one by one.
const MAX_PLACES: usize = 1000;
/// Of what the reader of archives says, which repeats bytes of the archive.
const MAX_REASON_CHARS: usize = 200;
/// What is copied at a time.
const COPY_BYTES: usize = 64 << 10;

/// What an archive holds.
#[derive(Debug, Default)]
pub struct Contents {
    /// The journal frame up to which everything is in it.
    pub lsn: u64,
    /// Files, and their bytes.
    pub files: u64,
    /// Without padding.
    pub bytes: u64,
    /// Damage that the original has, and the copy too.
    pub notes: Vec<String>,
    /// What makes a data directory of the files.
    pub manifest: Vec<u8>,
}

/// What the segments of an archive hold.
#[derive(Debug, Default)]
pub struct Batches {
    /// Segments.
    pub segments: u64,
    /// Batches that check.
    pub good: u64,
    /// Places where none checks.
    pub bad: u64,
    /// The first thousand of these, by entry and position.
    pub places: Vec<String>,
}

/// Writes a backup; `notes` is what is known to be damaged.
///
/// # Errors
/// When a file cannot be read, or nobody takes the stream any more: it must then be broken off.
pub fn write(backup: &Backup, mut notes: Vec<String>, out: impl Write) -> io::Result<()> {
    let mut archive = tar::Builder::new(out);
    let mut list = format!("{FIRST_LINE}\nlsn {}\n", backup.lsn());
    for file in backup.files() {
        let Some((source, bytes)) = backup.open(file)? else {
            if file.path.ends_with(".log") {
                notes.push(format!("{} is missing", file.path));
            }
            continue;
        };
        if file.path.ends_with(".log") && file.max_bytes != u64::MAX && bytes < file.max_bytes {
            notes.push(format!("{} has {bytes} bytes instead of {}", file.path, file.max_bytes));
        }
        let mut position = 0;
        let read = |buffer: &mut [u8]| {
            let read = source.read_at(buffer, position)?;
            position += read as u64;
            Ok(read)
        };
        append(&mut archive, &mut list, &file.path, bytes, read)?;
    }
    let mut manifest = backup.manifest();
    append(&mut archive, &mut list, MANIFEST, manifest.len() as u64, |buffer| {
        manifest.read(buffer)
    })?;
    for note in notes {
        tracing::warn!("the backup has damage as the original has: {note}");
        list.push_str(&format!("note {}\n", note.replace(['\n', '\r'], " ")));
    }
    seal(&mut list);
    archive.append(&header(LIST, list.len() as u64)?, list.as_bytes())?;
    archive.into_inner()?.flush()
}

/// Adds the last line of the list.
pub(crate) fn seal(list: &mut String) {
    list.push_str(&format!("end {:08x}\n", crc32fast::hash(list.as_bytes())));
}

pub(crate) fn header(path: &str, bytes: u64) -> io::Result<tar::Header> {
    let mut header = tar::Header::new_gnu();
    header.set_path(path)?;
    header.set_size(bytes);
    header.set_mode(0o600);
    header.set_cksum();
    Ok(header)
}

/// Adds one entry, and its line to the list.
fn append(
    archive: &mut tar::Builder<impl Write>,
    list: &mut String,
    path: &str,
    bytes: u64,
    read: impl FnMut(&mut [u8]) -> io::Result<usize>,
) -> io::Result<()> {
    let mut source = Checked::new(read, bytes);
    archive.append(&header(path, bytes)?, BufReader::with_capacity(COPY_BYTES, &mut source))?;
    if source.left > 0 {
        let what = format!("{path} ends {} bytes too early", source.left);
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, what));
    }
    list.push_str(&format!("file {:08x} {bytes} {path}\n", source.crc.finalize()));
    Ok(())
}

/// At most so many bytes of a source, and their checksum.
struct Checked<F> {
    source: F,
    left: u64,
    crc: crc32fast::Hasher,
}

impl<F: FnMut(&mut [u8]) -> io::Result<usize>> Checked<F> {
    fn new(source: F, bytes: u64) -> Self {
        Self {
            source,
            left: bytes,
            crc: crc32fast::Hasher::new(),
        }
    }
}

impl<F: FnMut(&mut [u8]) -> io::Result<usize>> Read for Checked<F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = self.left.min(buffer.len() as u64) as usize;
        let Some(buffer) = buffer.get_mut(..wanted).filter(|wanted| !wanted.is_empty()) else {
            return Ok(0);
        };
        let read = (self.source)(buffer)?;
        self.left -= read as u64;
        self.crc.update(buffer.get(..read).unwrap_or_default());
        Ok(read)
    }
}

/// Reads an archive to its end and checks all of it. Each file is handed to `take`, with its path and its bytes to read; before
/// this has returned, none of them may be believed.
///
/// # Errors
/// When the archive is damaged, cut, or holds what no backup holds, by the entry's name; and what `take` says.
pub fn read(
    input: impl Read,
    mut take: impl FnMut(&str, &mut dyn Read) -> anyhow::Result<()>,
) -> anyhow::Result<Contents> {
    let mut archive = tar::Archive::new(input);
    let (mut contents, mut found, mut seen) = (Contents::default(), String::new(), BTreeSet::new());
    let (mut before, mut list) = (None, None);
    // Raw: what would make the reader allocate, or give a name to what follows, is an entry like others, and refused.
    let entries = archive.entries().context("the archive cannot be read")?.raw(true);
    for entry in entries {
        let mut entry = entry.map_err(|error| unreadable(error, before.as_deref()))?;
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        ensure!(
            entry.header().entry_type() == tar::EntryType::Regular
                && (is_restorable(&path) || [MANIFEST, LIST].contains(&path.as_str())),
            "the archive holds {path:?}, which no backup holds; nothing of it is to be believed"
        );
        ensure!(seen.insert(path.clone()), "the archive holds {path} twice");
        before = Some(path.clone());
        let bytes = entry.size();
        let held = [MANIFEST, LIST].contains(&path.as_str());
        ensure!(
            !held || bytes <= MAX_HELD_BYTES,
            "{path} in the archive claims to have {bytes} bytes"
        );
        let mut source = Checked::new(|buffer: &mut [u8]| entry.read(buffer), bytes);
        let mut kept = Vec::new();
        match held {
            true => io::copy(&mut source, &mut kept).map(|_| ()).map_err(anyhow::Error::new),
            false => take(&path, &mut source),
        }
        .with_context(|| format!("entry {path} of the archive"))?;
        ensure!(
            source.left == 0,
            "the archive is cut: {path} lacks {} of {bytes} bytes",
            source.left
        );
        if path == LIST {
            list = Some(
                String::from_utf8(kept)
                    .ok()
                    .context("the list of the archive is damaged")?,
            );
            break;
        }
        found.push_str(&format!("file {:08x} {bytes} {path}\n", source.crc.finalize()));
        contents.files += 1;
        contents.bytes += bytes;
        if path == MANIFEST {
            contents.manifest = kept;
        }
    }
    ensure!(before.is_some(), "this is no riverlog backup: there is nothing in it");
    let list =
        list.context("the archive is cut: its list of checksums, which comes last, is missing; take another backup")?;
    let contents = compare(&found, &list, contents)?;
    copy(&mut archive.into_inner(), |rest| {
        let is_padding = rest.iter().all(|byte| *byte == 0);
        ensure!(
            is_padding,
            "something stands behind the end of the archive, which no backup has; take another one"
        );
        Ok(())
    })?;
    Ok(contents)
}

/// Why there is no next entry. What is no archive at all is not repeated byte by byte.
fn unreadable(error: io::Error, before: Option<&str>) -> anyhow::Error {
    if error.raw_os_error().is_some() {
        return anyhow::Error::new(error).context("the archive cannot be read");
    }
    let Some(before) = before else {
        return anyhow!(
            "this is no riverlog backup, or its beginning is damaged: it does not begin as an archive does"
        );
    };
    let reason: String = error.to_string().escape_default().take(MAX_REASON_CHARS).collect();
    anyhow!("the archive is damaged or cut behind {before}: {reason}")
}

/// Reads an archive to its end and checks all of it, and every record batch in its segments: the server copies bytes as they
/// are, also those that nobody has found to be damaged yet.
///
/// # Errors
/// As of [`read`], or when the manifest cannot be used. A damaged batch is none: it is told.
pub fn verify(input: impl Read) -> anyhow::Result<(Contents, Batches)> {
    let mut batches = Batches::default();
    let contents = read(input, |path, source| {
        if !path.ends_with(".log") {
            return copy(source, |_| Ok(()));
        }
        batches.segments += 1;
        let good = check_segment(path, source, &mut |bad| {
            batches.bad += 1;
            if batches.places.len() < MAX_PLACES {
                let BadBatch {
                    position,
                    offset,
                    reason,
                } = bad;
                batches
                    .places
                    .push(format!("{path} position {position} (offset {offset}): {reason}"));
            }
        });
        batches.good += good.context("the archive cannot be read")?;
        Ok(())
    })?;
    check_manifest(&contents.manifest)?;
    Ok((contents, batches))
}

/// Holds the list against what was found.
fn compare(found: &str, list: &str, mut contents: Contents) -> anyhow::Result<Contents> {
    let damaged = "the list of checksums in the archive is damaged; take another backup";
    let end = list.trim_end_matches('\n').rfind('\n').context(damaged)? + 1;
    let (lines, last) = list.split_at_checked(end).context(damaged)?;
    ensure!(
        last == format!("end {:08x}\n", crc32fast::hash(lines.as_bytes())),
        damaged
    );
    let mut lines = lines.lines();
    let version = lines.next().unwrap_or_default();
    ensure!(
        version == FIRST_LINE,
        "the archive is {version:?}, this program knows {FIRST_LINE:?}; use a newer riverlog"
    );
    let mut found = found.lines();
    for line in lines {
        match line.split_once(' ') {
            Some(("lsn", lsn)) => contents.lsn = lsn.parse().context(damaged)?,
            Some(("note", note)) => contents.notes.push(note.to_owned()),
            _ => {
                let name = |line: &str| line.rsplit(' ').next().unwrap_or_default().to_owned();
                let other = found.next().filter(|other| name(other) == name(line));
                let other = other.with_context(|| format!("the archive lacks {}; take another backup", name(line)))?;
                ensure!(
                    line == other,
                    "{} in the archive is damaged ({other:?}, its list says {line:?}); take another backup",
                    name(line)
                );
            }
        }
    }
    let more = found.next();
    ensure!(more.is_none(), "the archive's list does not have {more:?}");
    ensure!(!contents.manifest.is_empty(), "the archive has no manifest");
    Ok(contents)
}

/// Passes the bytes of an entry on.
///
/// # Errors
/// When they cannot be read, and what `write` says.
pub fn copy(from: &mut dyn Read, mut write: impl FnMut(&[u8]) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let mut buffer = vec![0; COPY_BYTES];
    loop {
        match from.read(&mut buffer).context("the archive cannot be read")? {
            0 => return Ok(()),
            read => write(buffer.get(..read).unwrap_or_default())?,
        }
    }
}

#[cfg(test)]
#[path = "archive_tests.rs"]
mod tests;
