//! Checks every checksum, order and reference in a data directory. Changes nothing.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::{Directory, partition_name};
use crate::LogId;
use crate::catalog::Catalog;
use crate::checkpoint::log_id_of;
use crate::codec::CodecError;
use crate::error::OpenError;
use crate::index::Index;
use crate::journal;
use crate::manifest::{COPIES, Fence, Manifest, StoredLog};
use crate::producer_snapshot::{load_producers, snapshot_name};
use crate::recovery::{Rehearsal, rehearse};
use crate::segment::{Segment, SegmentWalk, WalkError, base_of, file_name};
use crate::state::{epoch_at, log_dir};

const READ_AHEAD_BYTES: usize = 1 << 20;

const MENDED_BY_START: &str = "nothing to do: the next start makes a new one";
const DONE_WITHOUT: &str =
    "nothing to do: whoever reads there goes through the segment instead; but the disk may damage other files, too";
const REPAIR: &str =
    "`riverlog inspect repair` keeps what continues the log and lifts the fence; `--dry-run` tells what goes";
const LOST: &str = "it cannot be restored from here: restore a backup, or let consumers go on behind it; everything else is \
                    served";
const LEFT_OVER: &str = "nothing to do: a start removes what it knows to be left over";

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The file, relative to the data directory.
    pub file: String,
    /// Where in it.
    pub position: Option<u64>,
    /// The partition, as `topic-0`.
    pub partition: Option<String>,
    /// The partition's offset.
    pub offset: Option<i64>,
    /// What is wrong.
    pub what: String,
    /// What to do about it.
    pub advice: &'static str,
    /// False if it is only noted: a crash, say, leaves files that nothing names.
    pub is_problem: bool,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_problem { "problem: " } else { "note: " })?;
        f.write_str(&self.file)?;
        if let Some(position) = self.position {
            write!(f, " position {position}")?;
        }
        match (&self.partition, self.offset) {
            (Some(partition), Some(offset)) => write!(f, " ({partition} offset {offset})")?,
            (Some(partition), None) => write!(f, " ({partition})")?,
            (None, _) => {}
        }
        write!(f, ": {} [{}]", self.what, self.advice)
    }
}

/// How much was checked, and with which result.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[allow(missing_docs)]
pub struct Checked {
    pub problems: u64,
    pub notes: u64,
    pub logs: u64,
    pub segments: u64,
    pub batches: u64,
    pub segment_bytes: u64,
    /// Above the checkpoint.
    pub journal_frames: u64,
}

struct Verify<'a> {
    directory: &'a Directory,
    tell: &'a mut dyn FnMut(&Finding),
    checked: Checked,
    catalog: Catalog,
}

impl Directory {
    /// Checks everything, and tells each finding as it comes.
    ///
    /// # Errors
    /// When the system does not let files be read, or the directory is of a newer version.
    pub fn verify(&self, tell: &mut dyn FnMut(&Finding)) -> Result<Checked, OpenError> {
        let mut verify = Verify {
            directory: self,
            tell,
            checked: Checked::default(),
            catalog: Catalog::new(String::new(), uuid::Uuid::nil()),
        };
        if let Some(manifest) = verify.manifests()? {
            verify.everything(&manifest)?;
        }
        Ok(verify.checked)
    }
}

impl Verify<'_> {
    fn find(&mut self, finding: Finding) {
        if finding.is_problem {
            self.checked.problems += 1;
        } else {
            self.checked.notes += 1;
        }
        (self.tell)(&finding);
    }

    fn problem(&mut self, path: &Path, what: impl Into<String>, advice: &'static str) {
        self.problem_at(path, None, None, what, advice);
    }

    fn problem_at(
        &mut self,
        path: &Path,
        position: Option<u64>,
        at: Option<(LogId, i64)>,
        what: impl Into<String>,
        advice: &'static str,
    ) {
        self.find(Finding {
            file: self.directory.told(path),
            position,
            partition: at.map(|(log, _)| partition_name(&self.catalog, log)),
            offset: at.map(|(_, offset)| offset),
            what: what.into(),
            advice,
            is_problem: true,
        });
    }

    fn note(&mut self, path: &Path, what: &str, advice: &'static str) {
        self.find(Finding {
            file: self.directory.told(path),
            position: None,
            partition: None,
            offset: None,
            what: what.into(),
            advice,
            is_problem: false,
        });
    }

    /// Both copies, and the one that counts.
    fn manifests(&mut self) -> Result<Option<Manifest>, OpenError> {
        let (disk, dir) = (&*self.directory.disk, &self.directory.dir);
        let mut bad = Vec::new();
        for name in COPIES {
            let path = dir.join(name);
            if !disk.exists(&path).map_err(OpenError::io("cannot look at", &path))? {
                bad.push((path, "is missing".to_owned()));
                continue;
            }
            match Manifest::read(disk, &path)? {
                Ok(_) => {}
                Err(CodecError::Version { found, known }) if found > known => {
                    let dir = dir.clone();
                    return Err(OpenError::NewerFormat { dir, found, known });
                }
                Err(error) => bad.push((path, error.to_string())),
            }
        }
        let advice = match bad.len() < COPIES.len() {
            true => "nothing to do: the other copy is good, and the next start writes both",
            false => "no start is possible without one: restore it from a backup",
        };
        for (path, what) in &bad {
            self.problem(path, what, advice);
        }
        match bad.len() < COPIES.len() {
            true => Manifest::load(disk, dir),
            false => Ok(None),
        }
    }

    fn everything(&mut self, manifest: &Manifest) -> Result<(), OpenError> {
        self.catalog = Catalog::from_stored(manifest.catalog.clone());
        let directory = self.directory;
        let rehearsal = match rehearse(&*directory.disk, &directory.dir, manifest) {
            Ok(rehearsal) => Some(rehearsal),
            Err(OpenError::JournalDamaged {
                lsn,
                file,
                position,
                reason,
            }) => {
                let what = format!("frame {lsn} {reason}");
                let advice = "no start is possible with this: restore a backup";
                self.problem_at(&file, Some(position), None, what, advice);
                None
            }
            Err(OpenError::Catalog(what)) => {
                self.problem(
                    &directory.dir.join("manifest"),
                    what,
                    "no start is possible with this: restore a backup",
                );
                None
            }
            Err(error) => return Err(error),
        };
        if let Some(rehearsal) = &rehearsal {
            self.catalog = Catalog::clone(&rehearsal.state.catalog);
            self.checked.journal_frames = rehearsal.frames as u64;
        }
        let fences: Vec<Fence> = match &rehearsal {
            Some(rehearsal) => {
                let logs = rehearsal.state.logs.values();
                logs.filter_map(|log| log.fence.clone()).collect()
            }
            None => manifest.fences.clone(),
        };
        for fence in &fences {
            let fence = self.as_it_is_called_now(fence)?;
            let path = directory.dir.join(&fence.file);
            let at = Some((fence.log, fence.offset));
            self.problem_at(&path, Some(fence.position), at, fence.reason(), REPAIR);
        }
        for stored in &manifest.logs {
            self.log(stored)?;
        }
        self.names(manifest, rehearsal.as_ref(), &fences)
    }

    /// A rehearsal names a damaged journal file as the next start will, which sets it aside; until then it has its old name.
    fn as_it_is_called_now(&self, fence: &Fence) -> Result<Fence, OpenError> {
        let mut fence = fence.clone();
        let path = self.directory.dir.join(&fence.file);
        let before = path.with_extension("");
        let exists = |path: &Path| {
            let found = self.directory.disk.exists(path);
            found.map_err(OpenError::io("cannot look at", path))
        };
        if fence.file.ends_with(".damaged") && !exists(&path)? && exists(&before)? {
            fence.file = self.directory.told(&before);
        }
        Ok(fence)
    }

    /// A log as of the checkpoint.
    fn log(&mut self, stored: &StoredLog) -> Result<(), OpenError> {
        self.checked.logs += 1;
        let directory = self.directory;
        let dir = log_dir(&directory.dir, stored.log);
        let ends = stored.segments.iter().skip(1).map(|next| next.base).chain([stored.end]);
        for (segment, end) in stored.segments.iter().zip(ends) {
            self.segment(stored, &Segment::from_stored(segment, &dir), end)?;
        }
        if let Some(lsn) = stored.producers {
            let path = dir.join(snapshot_name(lsn));
            if let Err(error) = load_producers(&*directory.disk, &path, lsn) {
                self.problem(&path, error.to_string(), MENDED_BY_START);
            }
        }
        Ok(())
    }

    /// Every batch of a segment, and its index. `end` is where the segment behind it begins.
    fn segment(&mut self, log: &StoredLog, segment: &Segment, end: i64) -> Result<(), OpenError> {
        self.checked.segments += 1;
        let disk = &*self.directory.disk;
        let path = segment.file.path.clone();
        let (index_path, at) = (segment.file.index_path(), Some((log.log, segment.base)));
        let stored_index = match segment.read_index(disk) {
            // None was stored: it is made when it is needed.
            _ if segment.index_entries == 0 => None,
            Ok(Some(index)) => Some(index),
            Ok(None) => {
                self.problem_at(&index_path, None, at, "does not check", DONE_WITHOUT);
                None
            }
            Err(error) => {
                self.problem_at(&index_path, None, at, error.to_string(), DONE_WITHOUT);
                None
            }
        };
        let file = match segment.file.reader(disk) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let what = format!("the file is missing; offsets up to {end} cannot be read");
                self.problem_at(&path, Some(0), at, what, LOST);
                return Ok(());
            }
            Err(error) => return Err(OpenError::io("cannot open", &path)(error)),
        };
        let readable_bytes = file.len().map_err(OpenError::io("cannot read", &path))?;
        let walk_from = |position, offset| {
            let file = file.clone();
            SegmentWalk::new(file, segment.size_bytes, position, offset, READ_AHEAD_BYTES)
        };
        let mut walk = walk_from(0, segment.base);
        let (mut built, mut max_timestamp, mut whole) = (Index::default(), i64::MIN, true);
        loop {
            let (position, offset) = (walk.position(), walk.next_offset());
            match walk.next().map(|found| found.map(|(header, _)| header)) {
                Ok(None) => break,
                Ok(Some(header)) => {
                    self.checked.batches += 1;
                    self.checked.segment_bytes += header.size_bytes() as u64;
                    max_timestamp = max_timestamp.max(header.max_timestamp);
                    if let (Ok(relative), Ok(position)) =
                        (u32::try_from(offset - segment.base), u32::try_from(position))
                    {
                        built.note(relative, position, header.max_timestamp);
                    }
                    if epoch_at(&log.leader_epochs, offset).is_some_and(|epoch| epoch != header.leader_epoch) {
                        let what = format!("its leader epoch is {}", header.leader_epoch);
                        self.problem_at(&path, Some(position), Some((log.log, offset)), what, LOST);
                    }
                }
                Err(error) => {
                    whole = false;
                    let reason = match error {
                        WalkError::Damaged { reason, .. } => reason,
                        WalkError::Io(error) => error.to_string(),
                    };
                    if walk.pass_over() {
                        let next = walk.next_offset();
                        let what = format!("{reason}; offsets up to {next} cannot be read");
                        self.problem_at(&path, Some(position), Some((log.log, offset)), what, LOST);
                        continue;
                    }
                    let entries = stored_index.as_ref().map(Index::entries).unwrap_or_default();
                    let behind = entries.partition_point(|entry| u64::from(entry.position) <= position);
                    let behind = entries.get(behind);
                    let behind = behind.filter(|entry| u64::from(entry.position) < readable_bytes);
                    let next = behind.map_or(end, |entry| segment.base + i64::from(entry.relative_offset));
                    let what = format!("{reason}; offsets up to {next} cannot be read");
                    self.problem_at(&path, Some(position), Some((log.log, offset)), what, LOST);
                    match behind {
                        Some(entry) => walk = walk_from(u64::from(entry.position), next),
                        None => break,
                    }
                }
            }
        }
        if !whole {
            return Ok(());
        }
        if walk.next_offset() != end {
            let what = format!("ends at offset {}, {end} follows", walk.next_offset());
            self.problem_at(&path, None, at, what, LOST);
        }
        if max_timestamp != segment.max_timestamp {
            let what = format!(
                "its largest timestamp is {max_timestamp}, the manifest says {}",
                segment.max_timestamp
            );
            self.problem_at(
                &path,
                None,
                at,
                what,
                "look-ups by time and retention may be wrong by that",
            );
        }
        if stored_index.is_some_and(|index| !built.entries().starts_with(index.entries())) {
            let what = "its entries do not lead to the batches that they name";
            let advice = "remove the file while no server runs: the index is made anew from the segment";
            self.problem_at(&index_path, None, at, what, advice);
        }
        Ok(())
    }

    /// Files that nothing names.
    fn names(&mut self, manifest: &Manifest, rehearsal: Option<&Rehearsal>, fences: &[Fence]) -> Result<(), OpenError> {
        let dir = self.directory.dir.clone();
        for name in self.list(&dir)? {
            let ours = ["lock", "ballast", "journal", "logs"].contains(&name.as_str());
            if !ours && !COPIES.contains(&name.as_str()) {
                self.note(&dir.join(name), "is not named by anything", LEFT_OVER);
            }
        }
        for name in self.list(&dir.join("journal"))? {
            let path = dir.join("journal").join(&name);
            if name.ends_with(".damaged") && !fences.iter().any(|fence| self.directory.told(&path) == fence.file) {
                let advice = "it is only kept for you: remove it when you do not need it any more";
                self.note(&path, "was set aside, and no fence names it any more", advice);
            } else if journal::number_of(name.trim_end_matches(".damaged")).is_none() {
                self.note(&path, "is not named by anything", LEFT_OVER);
            }
        }
        let mut named = BTreeSet::new();
        for stored in &manifest.logs {
            let log = log_dir(&dir, stored.log);
            named.extend(stored.producers.map(|lsn| log.join(snapshot_name(lsn))));
            named.extend(stored.segments.iter().map(|segment| log.join(file_name(segment.base))));
        }
        if let Some(rehearsal) = rehearsal {
            let segments = rehearsal.state.logs.values().flat_map(|log| &log.segments);
            named.extend(segments.map(|segment| segment.file.path.clone()));
        }
        for name in self.list(&dir.join("logs"))? {
            let log = dir.join("logs").join(&name);
            if log_id_of(&name).is_none_or(|log| self.catalog.log(log).is_none()) {
                self.note(&log, "belongs to no partition", LEFT_OVER);
                continue;
            }
            for name in self.list(&log)? {
                let path = log.join(&name);
                let segment = match name.ends_with(".index") {
                    true => path.with_extension("log"),
                    false => path.clone(),
                };
                if !named.contains(&segment) {
                    let advice = match base_of(&name) {
                        Some(_) if fences.iter().any(|fence| log_dir(&dir, fence.log) == log) => REPAIR,
                        _ => LEFT_OVER,
                    };
                    self.note(&path, "is not named by anything", advice);
                }
            }
        }
        Ok(())
    }

    fn list(&self, dir: &PathBuf) -> Result<Vec<String>, OpenError> {
        let disk = &*self.directory.disk;
        match disk.exists(dir).map_err(OpenError::io("cannot look at", dir))? {
            true => disk.list(dir).map_err(OpenError::io("cannot list", dir)),
            false => Ok(Vec::new()),
        }
    }
}
