//! Recovery: the only way to start, after a crash and after a clean stop alike.
//!
//! The manifest gives the state at C. Above C the journal alone says what the segments hold: every frame is
//! applied again, byte for byte at its position, whatever the segment looks like. What cannot be
//! applied was either never acknowledged, and is dropped, or is damage, and is named and fenced.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::catalog::{Catalog, ControlRecord};
use crate::checkpoint::{self, load_producers, snapshot_name};
use crate::config::LogConfig;
use crate::disk::{Disk, DiskFile, Open};
use crate::error::OpenError;
use crate::frame::{BLOCK_BYTES, FrameHeader, Part, Salt};
use crate::journal;
use crate::manifest::{COPIES, Fence, Manifest};
use crate::planted::{Planted, planted};
use crate::producers::ProducerTable;
use crate::record::decode_batch;
use crate::segment::{self, IndexState, SegmentWalk};
use crate::state::{AppliedRun, LogState, Removal, Removed, State, log_dir};
use crate::{CONTROL_LOG, LogId, Lsn};

/// Enough of a header to know its length.
const PEEK_BYTES: usize = 128;

/// What recovery found, ready to go on from.
pub(crate) struct Recovered {
    pub state: State,
    pub generation: u64,
    /// Segments that were written and must be synced by the first checkpoint.
    pub dirty: crate::shared::Dirty,
    /// The number that the next journal file gets, and files that can be recycled once a new manifest stands.
    pub next_journal_file: u64,
    pub spare_journal_files: Vec<u64>,
}

/// Where a good frame stands.
#[derive(Debug)]
struct Found {
    header: FrameHeader,
    file: u64,
    position: u64,
}

/// A frame that had been durable and is not whole any more.
#[derive(Debug, Clone)]
struct Lost {
    lsn: Lsn,
    file: u64,
    position: u64,
    /// Its parts, if its header still reads.
    parts: Option<Vec<Part>>,
    /// The ends behind it, if the frame after it reads.
    listed: Option<Vec<(LogId, i64)>>,
}

/// The journal as recovery reads it.
struct JournalReader {
    dir: PathBuf,
    salt: Salt,
    files: BTreeMap<u64, Arc<dyn DiskFile>>,
}

/// Reads the manifest, or writes the first one. Then replays the journal above C.
pub(crate) fn recover(
    disk: &dyn Disk,
    data_dir: &Path,
    new_catalog: impl FnOnce() -> Catalog,
) -> Result<Recovered, OpenError> {
    let manifest = match Manifest::load(disk, data_dir)? {
        Some(manifest) => manifest,
        None => first_manifest(disk, data_dir, new_catalog())?,
    };
    let mut state = state_of(disk, data_dir, &manifest)?;
    let journal = JournalReader::open(disk, data_dir.join("journal"), manifest.salt)?;
    let (found, lost) = journal.walk(&manifest)?;

    // First the control log: which logs are alive decides what becomes of all other parts.
    let mut dropped_starts = BTreeSet::new();
    for frame in &found {
        let controls = journal.controls(frame)?;
        for control in &controls {
            if let ControlRecord::LogStartMoved { log, .. } = control {
                dropped_starts.insert(*log);
            }
        }
        state.apply_controls(frame.header.lsn, &controls);
    }

    let ends = state.logs.iter().map(|(log, state)| (*log, state.end)).collect();
    let mut replay = Replay {
        disk,
        state: &mut state,
        dirty: Default::default(),
        opened: HashMap::new(),
        doomed: logs_hit(&ends, &found, &lost),
    };
    let mut lost = lost.into_iter().peekable();
    for frame in &found {
        while lost.peek().is_some_and(|lost| lost.lsn < frame.header.lsn) {
            if let Some(lost) = lost.next() {
                replay.fence(&lost, &journal)?;
            }
        }
        let bytes = journal.read_again(frame)?;
        replay.apply(frame, &bytes)?;
    }
    let last_lost = lost.clone().last().map_or(0, |lost| lost.lsn);
    for lost in lost {
        replay.fence(&lost, &journal)?;
    }
    replay.preserve()?;
    let mut dirty = replay.dirty;
    dirty.directories.insert(data_dir.join("logs"));

    let lsn = found
        .last()
        .map_or(manifest.checkpoint_lsn, |frame| frame.header.lsn)
        .max(last_lost);
    state.lsn = lsn;
    state.drop_below_starts(lsn, dropped_starts);
    remove_unnamed(disk, &mut state, data_dir, &mut dirty)?;
    begin_leader_epoch(&mut state);

    let last_file = journal.files.keys().next_back().copied().unwrap_or(0);
    let next_journal_file = last_file.max(manifest.journal_file) + 1;
    state.journal_end = (next_journal_file, 0);
    let damaged = damaged_files(&state);
    let spare = journal
        .files
        .keys()
        .copied()
        .filter(|number| !damaged.contains(number))
        .collect();
    tracing::debug!(lsn, frames = found.len(), "recovered");
    Ok(Recovered {
        state,
        generation: manifest.generation,
        dirty,
        next_journal_file,
        spare_journal_files: spare,
    })
}

/// Records written from now on belong to a new leader epoch.
fn begin_leader_epoch(state: &mut State) {
    let mut catalog = Catalog::clone(&state.catalog);
    catalog.leader_epoch += 1;
    for log in state.logs.values_mut() {
        log.leader_epoch = catalog.leader_epoch;
    }
    state.catalog = Arc::new(catalog);
}

/// A data directory begins with its manifest, so that a directory without one is known to be foreign.
fn first_manifest(disk: &dyn Disk, data_dir: &Path, catalog: Catalog) -> Result<Manifest, OpenError> {
    let ours =
        |name: &str| name == "lock" || name == "ballast" || COPIES.iter().any(|copy| name == format!("{copy}.new"));
    for name in disk.list(data_dir).map_err(OpenError::io("cannot list", data_dir))? {
        if ours(&name) {
            continue;
        }
        // A first start that was cut short may have made the empty directories.
        let path = data_dir.join(&name);
        let leftover = (name == "journal" || name == "logs") && disk.list(&path).is_ok_and(|names| names.is_empty());
        if !leftover {
            return Err(OpenError::Foreign {
                dir: data_dir.into(),
                found: name,
            });
        }
    }
    for name in ["journal", "logs"] {
        let path = data_dir.join(name);
        disk.create_dir(&path).map_err(OpenError::io("cannot create", &path))?;
    }
    // The directory itself may be new, and its name must last as well.
    let parent = data_dir.parent().filter(|parent| !parent.as_os_str().is_empty());
    for dir in [data_dir, parent.unwrap_or(Path::new("."))] {
        disk.sync_dir(dir).map_err(OpenError::io("cannot sync", dir))?;
    }
    let control = LogState::new(log_dir(data_dir, CONTROL_LOG), LogConfig::default(), 0);
    let manifest = Manifest {
        generation: 1,
        checkpoint_lsn: 0,
        salt: [0; 16],
        journal_file: 0,
        journal_position: 0,
        catalog: catalog.to_stored(),
        logs: vec![control.to_stored(CONTROL_LOG)],
        fences: Vec::new(),
    };
    manifest.store(disk, data_dir)?;
    Ok(manifest)
}

/// The published state at C.
fn state_of(disk: &dyn Disk, data_dir: &Path, manifest: &Manifest) -> Result<State, OpenError> {
    let catalog = Catalog::from_stored(manifest.catalog.clone());
    let mut logs = BTreeMap::new();
    for stored in &manifest.logs {
        let Some((topic, _)) = catalog.log(stored.log) else {
            return Err(OpenError::Catalog(format!(
                "the manifest has log {} of no topic",
                stored.log
            )));
        };
        let config = LogConfig::parse(&topic.configs).map_err(OpenError::Catalog)?;
        let dir = log_dir(data_dir, stored.log);
        let mut log = LogState::from_stored(stored, dir, config);
        if let Some(lsn) = stored.producers {
            let path = log.dir.join(snapshot_name(newest_if_planted(disk, &log.dir, lsn)));
            log.producers = match load_producers(disk, &path) {
                Ok(table) => table,
                Err(error) => {
                    tracing::warn!("rebuilding {}: {error}", path.display());
                    rebuild_producers(disk, &log)
                }
            };
        }
        log.fence = manifest.fences.iter().find(|fence| fence.log == stored.log).cloned();
        logs.insert(stored.log, log);
    }
    Ok(State {
        lsn: manifest.checkpoint_lsn,
        journal_end: (manifest.journal_file, manifest.journal_position),
        catalog: Arc::new(catalog),
        logs,
        touched: BTreeSet::new(),
        removals: Vec::new(),
        data_dir: data_dir.into(),
        time_ms: i64::MIN,
    })
}

/// The lsn of the snapshot to load: the one that the manifest names. (Planted: the newest that there is.)
fn newest_if_planted(disk: &dyn Disk, dir: &Path, named: Lsn) -> Lsn {
    if !planted(Planted::NewestSnapshot) {
        return named;
    }
    let names = disk.list(dir).unwrap_or_default();
    let found = names
        .iter()
        .filter_map(|name| name.strip_suffix(".producers")?.parse().ok());
    found.max().unwrap_or(named)
}

/// What the log's batches say of its producers, for want of a snapshot that reads.
fn rebuild_producers(disk: &dyn Disk, log: &LogState) -> ProducerTable {
    let mut table = ProducerTable::default();
    for segment in &log.segments {
        let Ok(file) = segment.file.reader(disk) else { continue };
        let mut walk = SegmentWalk::new(file, segment.size_bytes, 0, segment.base, 1 << 20);
        while let Ok(Some((header, _))) = walk.next() {
            table.note(&header, header.max_timestamp);
        }
    }
    table
}

impl JournalReader {
    /// Opens and syncs every journal file: what is read from the page cache must be on the disk.
    fn open(disk: &dyn Disk, dir: PathBuf, salt: Salt) -> Result<Self, OpenError> {
        let mut files = BTreeMap::new();
        for name in disk.list(&dir).map_err(OpenError::io("cannot list", &dir))? {
            let Some(number) = journal::number_of(&name) else {
                continue;
            };
            let path = dir.join(&name);
            let file = disk
                .open(&path, Open::ReadWrite)
                .map_err(OpenError::io("cannot open", &path))?;
            file.sync_data().map_err(OpenError::io("cannot sync", &path))?;
            files.insert(number, file);
        }
        disk.sync_dir(&dir).map_err(OpenError::io("cannot sync", &dir))?;
        Ok(Self { dir, salt, files })
    }

    fn path(&self, number: u64) -> PathBuf {
        self.dir.join(journal::file_name(number))
    }

    fn read(&self, number: u64, position: u64, len: usize) -> Result<Vec<u8>, OpenError> {
        let Some(file) = self.files.get(&number) else {
            return Ok(Vec::new());
        };
        let path = self.path(number);
        let left = file
            .len()
            .map_err(OpenError::io("cannot read", &path))?
            .saturating_sub(position);
        let mut bytes = vec![0; len.min(left as usize)];
        let read = file
            .read_at(&mut bytes, position)
            .map_err(OpenError::io("cannot read", &path))?;
        bytes.truncate(read);
        Ok(bytes)
    }

    /// The header that stands at a place, if it is of this incarnation and was written for this place.
    fn header_at(&self, number: u64, position: u64) -> Result<Option<FrameHeader>, OpenError> {
        let front = self.read(number, position, PEEK_BYTES)?;
        let Some((header_len, _)) = FrameHeader::claimed_len(&front, &self.salt) else {
            return Ok(None);
        };
        let bytes = if header_len > front.len() {
            self.read(number, position, header_len)?
        } else {
            front
        };
        let header = FrameHeader::decode(&bytes, &self.salt);
        Ok(header.filter(|header| header.file == number && header.position == position))
    }

    /// The whole frame of a header, if its body checks.
    fn body_of(&self, header: &FrameHeader) -> Result<Option<Vec<u8>>, OpenError> {
        let bytes = self.read(header.file, header.position, header.frame_bytes() as usize)?;
        Ok(header.check_body(&bytes).is_ok().then_some(bytes))
    }

    /// Walks the frames above C in lsn order.
    fn walk(&self, manifest: &Manifest) -> Result<(Vec<Found>, Vec<Lost>), OpenError> {
        let (mut found, mut lost) = (Vec::new(), Vec::new());
        let mut place = (manifest.journal_file, manifest.journal_position);
        let mut expected = manifest.checkpoint_lsn + 1;
        loop {
            // A frame stands on the next boundary, or at the start of the next file.
            let mut unreadable = None;
            let mut good = None;
            for (file, position) in [place, (place.0 + 1, 0)] {
                let Some(header) = self.header_at(file, position)? else {
                    continue;
                };
                if header.lsn != expected {
                    continue;
                }
                if self.body_of(&header)?.is_some() {
                    good = Some(header);
                    break;
                }
                unreadable = Some(header);
            }
            if let Some(header) = good {
                place = (
                    header.file,
                    (header.position + header.frame_bytes()).next_multiple_of(BLOCK_BYTES),
                );
                expected += 1;
                found.push(Found {
                    file: header.file,
                    position: header.position,
                    header,
                });
                continue;
            }
            let later = self.later_headers(place, expected)?;
            let proven = later.iter().any(|header| header.synced_lsn >= expected);
            if !proven || planted(Planted::DamageIsTornTail) {
                // Never acknowledged, and nor is anything behind it.
                if !later.is_empty() {
                    tracing::warn!(
                        "dropping {} unacknowledged journal frames behind frame {expected}",
                        later.len()
                    );
                }
                return Ok((found, lost));
            }
            let next = self.next_whole(&later)?;
            let until = next.as_ref().map_or_else(
                || later.iter().map(|header| header.synced_lsn).max().unwrap_or(expected) + 1,
                |header| header.lsn,
            );
            for lsn in expected..until {
                let own = later.iter().find(|header| header.lsn == lsn);
                let own = own.or(unreadable.as_ref().filter(|header| header.lsn == lsn));
                let behind = later.iter().find(|header| header.lsn == lsn + 1);
                lost.push(Lost {
                    lsn,
                    file: own.map_or(place.0, |header| header.file),
                    position: own.map_or(place.1, |header| header.position),
                    parts: own.map(|header| header.parts.clone()),
                    listed: behind.map(|header| header.previous_ends.clone()),
                });
            }
            let Some(header) = next else { return Ok((found, lost)) };
            place = (header.file, header.position);
            expected = header.lsn;
        }
    }

    /// Every header of this incarnation above `lsn` behind a place, in lsn order.
    fn later_headers(&self, place: (u64, u64), lsn: Lsn) -> Result<Vec<FrameHeader>, OpenError> {
        let mut later = Vec::new();
        for (number, file) in self.files.range(place.0..) {
            let len = file.len().map_err(OpenError::io("cannot read", self.path(*number)))?;
            let mut position = if *number == place.0 { place.1 + BLOCK_BYTES } else { 0 };
            while position < len {
                let header = self.header_at(*number, position)?;
                later.extend(header.filter(|header| header.lsn > lsn));
                position += BLOCK_BYTES;
            }
        }
        later.sort_by_key(|header| header.lsn);
        Ok(later)
    }

    fn next_whole(&self, later: &[FrameHeader]) -> Result<Option<FrameHeader>, OpenError> {
        for header in later {
            if self.body_of(header)?.is_some() {
                return Ok(Some(header.clone()));
            }
        }
        Ok(None)
    }

    /// The frame's bytes once more. A frame that checked before and does not now means that the page cache
    /// and the disk differ: nothing can be believed.
    fn read_again(&self, frame: &Found) -> Result<Vec<u8>, OpenError> {
        let unstable = || OpenError::JournalDamaged {
            lsn: frame.header.lsn,
            file: self.path(frame.file),
            position: frame.position,
            reason: "checked once and does not check now (is the disk failing?)".into(),
        };
        let again = self
            .header_at(frame.file, frame.position)?
            .filter(|again| *again == frame.header);
        let bytes = match again {
            Some(again) => self.body_of(&again)?,
            None => None,
        };
        match bytes {
            None if planted(Planted::AcceptUnstableFrame) => Ok(Vec::new()),
            bytes => bytes.ok_or_else(unstable),
        }
    }

    /// The control records of a frame.
    fn controls(&self, frame: &Found) -> Result<Vec<ControlRecord>, OpenError> {
        let mut controls = Vec::new();
        if !frame.header.parts.iter().any(|part| part.log == CONTROL_LOG) {
            return Ok(controls);
        }
        let bytes = self.read_again(frame)?;
        for (part, run) in parts_of(&frame.header, &bytes) {
            if part.log != CONTROL_LOG {
                continue;
            }
            let mut rest = bytes::Bytes::copy_from_slice(run);
            for header in part.batches(run).unwrap_or_default() {
                let batch = rest.split_to(header.size_bytes());
                let records = decode_batch(&batch, crate::MAX_WRITE_SET_BYTES as usize);
                for record in records.map_err(|error| OpenError::Catalog(error.to_string()))? {
                    let control = ControlRecord::decode(&record.value.unwrap_or_default());
                    controls.push(control.map_err(|error| OpenError::Catalog(error.to_string()))?);
                }
            }
        }
        Ok(controls)
    }
}

/// The parts of a frame with their bytes.
fn parts_of<'f>(header: &'f FrameHeader, frame: &'f [u8]) -> impl Iterator<Item = (&'f Part, &'f [u8])> {
    let header_len = FrameHeader::encoded_len(header.parts.len(), header.previous_ends.len());
    let mut rest = frame.get(header_len..).unwrap_or_default();
    header.parts.iter().map_while(move |part| {
        let (run, behind) = rest.split_at_checked(part.length as usize)?;
        rest = behind;
        Some((part, run))
    })
}

/// Applies frames to segments.
struct Replay<'a> {
    disk: &'a dyn Disk,
    state: &'a mut State,
    dirty: crate::shared::Dirty,
    /// Segments that were cut to what the manifest says and are being written.
    opened: HashMap<(LogId, i64), Arc<segment::SegmentFile>>,
    /// Logs that will be fenced: their segments are not cut, they may hold the only good copy.
    doomed: BTreeSet<LogId>,
}

/// The logs that lost frames named or, where a header is unreadable, whose listed ends are not reached.
fn logs_hit(ends: &BTreeMap<LogId, i64>, found: &[Found], lost: &[Lost]) -> BTreeSet<LogId> {
    let mut ends = ends.clone();
    let mut hit = BTreeSet::new();
    let mut found = found.iter().peekable();
    for lost in lost {
        while let Some(frame) = found.next_if(|frame| frame.header.lsn < lost.lsn) {
            let reached = frame
                .header
                .parts
                .iter()
                .map(|part| (part.log, part.last_offset.saturating_add(1)));
            ends.extend(reached.filter(|(log, _)| !hit.contains(log)));
        }
        hit.extend(lost.hits(|log| ends.get(&log).copied()));
    }
    hit
}

impl Lost {
    /// The logs whose records it took along; with an unreadable header, those known to have gone on.
    fn hits(&self, end_of: impl Fn(LogId) -> Option<i64>) -> Vec<LogId> {
        match (&self.parts, &self.listed) {
            (Some(parts), _) => parts.iter().map(|part| part.log).collect(),
            (None, Some(listed)) => {
                let behind = |(log, end): &&(LogId, i64)| {
                    *log == CONTROL_LOG || end_of(*log).is_some_and(|reached| reached < *end)
                };
                listed.iter().filter(behind).map(|(log, _)| *log).collect()
            }
            (None, None) => Vec::new(),
        }
    }
}

impl Replay<'_> {
    fn apply(&mut self, frame: &Found, bytes: &[u8]) -> Result<(), OpenError> {
        for (part, run) in parts_of(&frame.header, bytes) {
            let alive = self.state.logs.get(&part.log).is_some_and(|log| log.fence.is_none());
            if !alive {
                continue;
            }
            let below = self
                .state
                .logs
                .get(&part.log)
                .is_some_and(|log| part.last_offset < log.start);
            if below && planted(Planted::SkipBelowStart) {
                continue;
            }
            let file = self.open(part)?;
            let handles = file
                .handles(self.disk, Open::ReadWrite)
                .map_err(OpenError::io("cannot open", &file.path))?;
            if planted(Planted::TrustSegment) && looks_right(&*handles.writer, run, part) {
                self.publish(part, run, file, frame.header.time_ms);
                continue;
            }
            let position = match handles.writer.len() {
                Ok(len) if planted(Planted::IgnorePosition) => len,
                _ => u64::from(part.position),
            };
            let written = handles.writer.write_at(run, position);
            written.map_err(OpenError::io("cannot write", &file.path))?;
            self.publish(part, run, file, frame.header.time_ms);
        }
        Ok(())
    }

    fn publish(&mut self, part: &Part, run: &[u8], file: Arc<segment::SegmentFile>, time_ms: i64) {
        let headers = part.batches(run).unwrap_or_default();
        let part = *part;
        self.state.apply_runs(&[AppliedRun { part, headers, file }], time_ms);
    }

    /// The segment that a part goes to: cut to the manifest's length, or emptied if it is above.
    fn open(&mut self, part: &Part) -> Result<Arc<segment::SegmentFile>, OpenError> {
        let key = (part.log, part.segment_base);
        if let Some(file) = self.opened.get(&key) {
            return Ok(file.clone());
        }
        let Some(log) = self.state.logs.get_mut(&part.log) else {
            return Err(OpenError::Catalog(format!("log {} vanished", part.log)));
        };
        let dir = log.dir.clone();
        let file = match log
            .segments
            .iter_mut()
            .find(|segment| segment.base == part.segment_base)
        {
            Some(segment) => {
                let path = segment.file.path.clone();
                let handles = segment.file.handles(self.disk, Open::ReadWrite);
                let handles = handles.map_err(OpenError::io("cannot open", &path))?;
                if !self.doomed.contains(&part.log) && !planted(Planted::IgnorePosition) {
                    cut(&*handles.writer, segment.size_bytes).map_err(OpenError::io("cannot cut", &path))?;
                }
                if matches!(segment.index, IndexState::Stored) {
                    let loaded = segment
                        .load_index(self.disk)
                        .map_err(OpenError::io("cannot index", &path))?;
                    segment.install_index(loaded);
                }
                segment.file.clone()
            }
            None => {
                self.disk
                    .create_dir(&dir)
                    .map_err(OpenError::io("cannot create", &dir))?;
                let file = Arc::new(segment::SegmentFile::new(
                    dir.join(segment::file_name(part.segment_base)),
                ));
                let exists = self.disk.exists(&file.path);
                let opened = if self.doomed.contains(&part.log) && exists.is_ok_and(|exists| exists) {
                    file.handles(self.disk, Open::ReadWrite).map(|_| ())
                } else {
                    crate::committer::new_or_emptied(self.disk, &file)
                };
                opened.map_err(OpenError::io("cannot create", &file.path))?;
                file
            }
        };
        self.dirty.directories.insert(dir);
        self.dirty.segments.insert(key, file.clone());
        self.opened.insert(key, file.clone());
        Ok(file)
    }

    /// Makes durable what the segments of newly fenced logs hold, if only in the page cache.
    fn preserve(&mut self) -> Result<(), OpenError> {
        for log in &self.doomed {
            let Some(state) = self.state.logs.get(log) else {
                continue;
            };
            let dir = state.dir.clone();
            if !self.disk.exists(&dir).map_err(OpenError::io("cannot look at", &dir))? {
                continue;
            }
            for name in self.disk.list(&dir).map_err(OpenError::io("cannot list", &dir))? {
                let path = dir.join(name);
                let file = self.disk.open(&path, Open::ReadWrite);
                let synced = file.and_then(|file| file.sync_all());
                synced.map_err(OpenError::io("cannot sync", &path))?;
            }
            self.dirty.directories.insert(dir);
        }
        Ok(())
    }

    /// Fences the logs that lost acknowledged records, or refuses to start if that cannot be told.
    fn fence(&mut self, lost: &Lost, journal: &JournalReader) -> Result<(), OpenError> {
        let refuse = |reason: &str| {
            Err(OpenError::JournalDamaged {
                lsn: lost.lsn,
                file: journal.path(lost.file),
                position: lost.position,
                reason: reason.into(),
            })
        };
        if lost.parts.is_none() && lost.listed.is_none() {
            return refuse("was durable, and what it held is not known");
        }
        let hit = lost.hits(|log| self.state.logs.get(&log).map(|state| state.end));
        if hit.contains(&CONTROL_LOG) {
            return refuse("was durable and held catalog changes");
        }
        for log in hit {
            let Some(state) = self.state.logs.get_mut(&log) else {
                continue;
            };
            let fence = Fence {
                log,
                lsn: lost.lsn,
                file: format!("journal/{}.damaged", journal::file_name(lost.file)),
                position: lost.position,
                offset: state.end,
            };
            tracing::error!(log, "log fenced: {}", fence.reason());
            state.fence.get_or_insert(fence);
        }
        Ok(())
    }
}

/// The planted bug: the page cache may show bytes that the disk does not have.
fn looks_right(file: &dyn DiskFile, run: &[u8], part: &Part) -> bool {
    let mut seen = vec![0; run.len()];
    file.read_at(&mut seen, u64::from(part.position)).is_ok() && seen == run
}

/// Cuts a file. A file that is shorter than the manifest says stays: reading it will name the damage.
fn cut(file: &dyn DiskFile, len: u64) -> io::Result<()> {
    if file.len()? > len { file.set_len(len) } else { Ok(()) }
}

/// Removes segment files that neither the manifest nor a frame names, directories of logs that are gone,
/// and what half-done removals left; cuts active segments that no frame wrote to.
fn remove_unnamed(
    disk: &dyn Disk,
    state: &mut State,
    data_dir: &Path,
    dirty: &mut crate::shared::Dirty,
) -> Result<(), OpenError> {
    let logs_dir = data_dir.join("logs");
    for name in disk.list(&logs_dir).map_err(OpenError::io("cannot list", &logs_dir))? {
        let dir = logs_dir.join(&name);
        let log = checkpoint::log_id_of(&name);
        match log.and_then(|log| state.logs.get(&log)) {
            Some(log) if log.fence.is_some() => {}
            Some(log) => remove_unnamed_segments(disk, log, &dir, &state.removals, dirty)?,
            // The old manifest may still name it: it goes after the checkpoint that ends recovery.
            None => state.removals.push(Removal {
                lsn: 0,
                what: Removed::Log(dir),
            }),
        }
    }
    for (id, log) in &state.logs {
        let Some(active) = log.segments.last().filter(|_| log.fence.is_none()) else {
            continue;
        };
        let path = &active.file.path;
        if dirty.segments.contains_key(&(*id, active.base)) {
            continue;
        }
        let file = disk
            .open(path, Open::ReadWrite)
            .map_err(OpenError::io("cannot open", path))?;
        if file.len().map_err(OpenError::io("cannot read", path))? > active.size_bytes {
            active
                .file
                .handles(disk, Open::ReadWrite)
                .map_err(OpenError::io("cannot open", path))?;
            cut(&*file, active.size_bytes).map_err(OpenError::io("cannot cut", path))?;
            dirty.segments.insert((*id, active.base), active.file.clone());
        }
    }
    Ok(())
}

fn remove_unnamed_segments(
    disk: &dyn Disk,
    log: &LogState,
    dir: &Path,
    removals: &[Removal],
    dirty: &mut crate::shared::Dirty,
) -> Result<(), OpenError> {
    let named: BTreeSet<i64> = log.segments.iter().map(|segment| segment.base).collect();
    let waiting = |path: &Path| {
        removals.iter().any(|removal| match &removal.what {
            Removed::Segment(file) => file.path == path,
            Removed::Log(_) => false,
        })
    };
    for name in disk.list(dir).map_err(OpenError::io("cannot list", dir))? {
        let path = dir.join(&name);
        let base = segment::base_of(&name).or_else(|| segment::base_of(&name.replace(".index", ".log")));
        let snapshot = name.strip_suffix(".producers").and_then(|lsn| lsn.parse::<Lsn>().ok());
        let keep = match (base, snapshot) {
            (Some(base), _) => named.contains(&base) || waiting(&path.with_extension("log")),
            (None, Some(lsn)) => log.stored_producers == Some(lsn),
            (None, None) => !(name.ends_with(".deleted") || name.ends_with(".new")),
        };
        let keep = keep || (planted(Planted::KeepUnnamedSegments) && base.is_some());
        if !keep {
            disk.remove_file(&path).map_err(OpenError::io("cannot remove", &path))?;
            dirty.directories.insert(dir.into());
        }
    }
    Ok(())
}

/// The journal files in which the fences found damage.
fn damaged_files(state: &State) -> BTreeSet<u64> {
    let fences = state.logs.values().filter_map(|log| log.fence.as_ref());
    fences.filter_map(|fence| journal_number(&fence.file)).collect()
}

/// Renames journal files with damage, so that they are not recycled: they may help a repair. Only once a
/// manifest holds the fences, because until then the files are the proof of the damage.
pub(crate) fn set_damaged_aside(disk: &dyn Disk, state: &State, journal_dir: &Path) -> io::Result<()> {
    for number in damaged_files(state) {
        let from = journal_dir.join(journal::file_name(number));
        if disk.exists(&from)? {
            disk.rename(&from, &from.with_added_extension("damaged"))?;
            disk.sync_dir(journal_dir)?;
        }
    }
    Ok(())
}

fn journal_number(fence_file: &str) -> Option<u64> {
    journal::number_of(fence_file.strip_prefix("journal/")?.strip_suffix(".damaged")?)
}
