//! The journal as recovery reads it: which frames are whole, and which were durable and are not any more.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use crate::buffers::Buffers;
use crate::catalog::ControlRecord;
use crate::disk::{Disk, DiskFile, Open};
use crate::error::OpenError;
use crate::extent::{self, Look};
use crate::frame::{BLOCK_BYTES, FrameHeader, Held, Kind, Part, Salt, parts_of};
use crate::journal;
use crate::manifest::Manifest;
use crate::planted::{Planted, planted};
use crate::record::decode_batch;
use crate::state::segment_path;
use crate::{CONTROL_LOG, LogId, Lsn};

/// Enough of a header to know its length.
const PEEK_BYTES: usize = 128;
/// Blocks that are looked through for headers are read so many bytes at a time.
const SCAN_BYTES: usize = 64 << 10;
/// For what is read of a frame and its extents.
const BUFFERS_BYTES: usize = 32 << 20;

/// Where a good frame stands.
#[derive(Debug)]
pub(crate) struct Found {
    pub header: FrameHeader,
    pub file: u64,
    pub position: u64,
    /// The numbers of its parts that are extents and not in their segments. It had been durable all the same.
    pub lacks: BTreeSet<usize>,
}

/// What stands at the places where the frame of an lsn may stand.
#[derive(Default)]
struct Candidates {
    good: Option<Found>,
    lacking: Option<Lacking>,
    /// The header of one whose body does not check.
    damaged: Option<FrameHeader>,
}

/// A frame that is whole but for extents: torn like any other, unless it is proven to have been durable.
struct Lacking {
    frame: Found,
    bytes: Bytes,
    /// Some of these may be there after all.
    unreadable: Option<OpenError>,
}

/// A frame, and the runs that it stands for and does not hold.
pub(crate) struct Whole {
    pub frame: Bytes,
    /// By the number of the part, but for those that the frame lacks.
    extents: BTreeMap<usize, Bytes>,
}

/// A frame that had been durable and is not whole any more.
#[derive(Debug, Clone)]
pub(crate) struct Lost {
    pub lsn: Lsn,
    pub file: u64,
    pub position: u64,
    /// Its parts, if its header still reads.
    pub parts: Option<Vec<Part>>,
    /// The ends behind it, if the frame after it reads.
    pub listed: Option<Vec<(LogId, i64)>>,
}

/// The journal as recovery reads it.
pub(crate) struct JournalReader<'a> {
    disk: &'a dyn Disk,
    data_dir: &'a Path,
    dir: PathBuf,
    salt: Salt,
    pub files: BTreeMap<u64, Arc<dyn DiskFile>>,
    /// Most of the journal is read twice, and of each frame everything is checked, and dropped before the next.
    buffers: Arc<Buffers>,
}

impl<'a> JournalReader<'a> {
    /// Opens and syncs every journal file: what is read from the page cache must be on the disk.
    pub fn open(disk: &'a dyn Disk, data_dir: &'a Path, salt: Salt) -> Result<Self, OpenError> {
        let dir = data_dir.join("journal");
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
        Ok(Self {
            disk,
            data_dir,
            dir,
            salt,
            files,
            buffers: Buffers::new(BUFFERS_BYTES),
        })
    }

    pub fn path(&self, number: u64) -> PathBuf {
        self.dir.join(journal::file_name(number))
    }

    /// The number of a file that does not exist yet.
    pub fn next_file(&self, manifest: &Manifest) -> u64 {
        let last = self.files.keys().next_back().copied().unwrap_or(0);
        last.max(manifest.journal_file) + 1
    }

    fn read(&self, number: u64, position: u64, len: usize) -> Result<Bytes, OpenError> {
        let Some(file) = self.files.get(&number) else {
            return Ok(Bytes::new());
        };
        let path = self.path(number);
        let left = file
            .len()
            .map_err(OpenError::io("cannot read", &path))?
            .saturating_sub(position);
        let filled = self
            .buffers
            .fill(len.min(left as usize), |bytes| file.read_at(bytes, position));
        Ok(filled.map_err(OpenError::io("cannot read", &path))?.bytes)
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
    fn body_of(&self, header: &FrameHeader) -> Result<Option<Bytes>, OpenError> {
        let bytes = self.read(header.file, header.position, header.frame_bytes() as usize)?;
        Ok(header.check_body(&bytes).is_ok().then_some(bytes))
    }

    /// What a frame says of extents that are not in their segments: the parts' numbers, and why it is not known of some.
    fn lacks(&self, header: &FrameHeader, frame: &[u8]) -> (BTreeSet<usize>, Option<OpenError>) {
        let (mut lacks, mut unreadable) = (BTreeSet::new(), None);
        for (number, (part, held)) in parts_of(header, frame).enumerate() {
            let Held::Checksum(crc) = held else { continue };
            match self.look(part, crc) {
                Look::Whole(_) => continue,
                Look::Absent => {}
                Look::Unreadable(error) => unreadable = Some(self.unreadable(part)(error)),
            }
            lacks.insert(number);
        }
        (lacks, unreadable)
    }

    fn look(&self, part: &Part, crc: u32) -> Look {
        extent::look(self.disk, self.data_dir, part, crc, &self.buffers)
    }

    fn unreadable(&self, part: &Part) -> impl FnOnce(std::io::Error) -> OpenError {
        OpenError::io("cannot read", segment_path(self.data_dir, part.log, part.segment_base))
    }

    /// Looks for a frame on the next boundary, and at the start of later files: the next one, or that of a recovery.
    fn candidates(&self, place: (u64, u64), lsn: Lsn) -> Result<Candidates, OpenError> {
        let mut here = Candidates::default();
        let later = self.files.range(place.0 + 1..).map(|(file, _)| (*file, 0));
        for (file, position) in std::iter::once(place).chain(later) {
            let Some(header) = self.header_at(file, position)?.filter(|header| header.lsn == lsn) else {
                continue;
            };
            let Some(bytes) = self.body_of(&header)? else {
                here.damaged = Some(header);
                continue;
            };
            let (lacks, unreadable) = self.lacks(&header, &bytes);
            let whole = lacks.is_empty();
            let frame = Found {
                file,
                position,
                header,
                lacks,
            };
            if whole {
                here.good = Some(frame);
                break;
            }
            here.lacking = Some(Lacking {
                frame,
                bytes,
                unreadable,
            });
        }
        Ok(here)
    }

    /// Whether some segment shows that the frame had been durable.
    fn is_witnessed(&self, lacking: &Lacking) -> bool {
        let mut parts = parts_of(&lacking.frame.header, &lacking.bytes);
        parts.any(|(part, held)| extent::bears_witness(self.disk, self.data_dir, part, &held))
    }

    /// Walks the frames above C in lsn order.
    pub fn walk(&self, manifest: &Manifest) -> Result<(Vec<Found>, Vec<Lost>), OpenError> {
        let (mut found, mut lost) = (Vec::new(), Vec::new());
        let mut place = (manifest.journal_file, manifest.journal_position);
        let mut expected = manifest.checkpoint_lsn + 1;
        loop {
            let here = self.candidates(place, expected)?;
            if let Some(frame) = here.good {
                place = frame.end();
                expected += 1;
                found.push(frame);
                continue;
            }
            let later = self.later_headers(place, expected)?;
            let proven = later.iter().any(|header| header.synced_lsn >= expected);
            if let Some(lacking) = here.lacking {
                if proven || self.is_witnessed(&lacking) {
                    place = lacking.frame.end();
                    expected += 1;
                    found.push(lacking.frame);
                    continue;
                }
                // Not dropped because it could not be read.
                if let Some(error) = lacking.unreadable {
                    return Err(error);
                }
            }
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
            if until - expected > self.blocks()? {
                return Err(OpenError::JournalDamaged {
                    lsn: expected,
                    file: self.path(place.0),
                    position: place.1,
                    reason: "is followed by a frame with an impossible number".into(),
                });
            }
            for lsn in expected..until {
                let own = later.iter().find(|header| header.lsn == lsn);
                let own = own.or(here.damaged.as_ref().filter(|header| header.lsn == lsn));
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

    /// More frames than this cannot stand in the files.
    fn blocks(&self) -> Result<u64, OpenError> {
        let mut blocks = 0;
        for (number, file) in &self.files {
            let len = file.len().map_err(OpenError::io("cannot read", self.path(*number)))?;
            blocks += len.div_ceil(BLOCK_BYTES);
        }
        Ok(blocks)
    }

    /// Every header of this incarnation above `lsn` behind a place, in lsn order.
    fn later_headers(&self, place: (u64, u64), lsn: Lsn) -> Result<Vec<FrameHeader>, OpenError> {
        let mut later = Vec::new();
        for (number, file) in self.files.range(place.0..) {
            let len = file.len().map_err(OpenError::io("cannot read", self.path(*number)))?;
            let mut position = if *number == place.0 { place.1 + BLOCK_BYTES } else { 0 };
            while position < len {
                let blocks = self.read(*number, position, SCAN_BYTES)?;
                for (block, at) in blocks
                    .chunks(BLOCK_BYTES as usize)
                    .zip((position..).step_by(BLOCK_BYTES as usize))
                {
                    if FrameHeader::claimed_len(block, &self.salt).is_some() {
                        let header = self.header_at(*number, at)?;
                        later.extend(header.filter(|header| header.lsn > lsn));
                    }
                }
                position += SCAN_BYTES as u64;
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

    /// Writes the last frame once more, to a new file, and makes it durable there. Its sync may have failed before this
    /// start, so that only the page cache has it, which may forget it at any time: what is applied to segments must not
    /// vanish from the journal. All earlier frames were durable before the last one was written.
    pub fn secure_last(&mut self, found: &mut [Found], manifest: &Manifest) -> Result<(), OpenError> {
        let disk = self.disk;
        // One that lacks something has been proven durable.
        let unsecured = |last: &&mut Found| last.lacks.is_empty() && !planted(Planted::AcceptUnstableFrame);
        let Some(last) = found.last_mut().filter(unsecured) else {
            return Ok(());
        };
        let whole = self.read_again(last)?;
        let mut bytes = whole.inline(&mut last.header);
        // Starts that fail one after the other write the same bytes to the same file.
        let mut number = self.next_file(manifest);
        for later in self.files.range(last.file + 1..).map(|(later, _)| *later) {
            let copy = self.header_at(later, 0)?;
            if copy.is_some_and(|copy| copy.lsn == last.header.lsn) {
                number = later;
            }
        }
        let (file, position) = (number, 0);
        last.header = FrameHeader {
            file,
            position,
            ..last.header.clone()
        };
        last.header.seal(&mut bytes);
        (last.file, last.position) = (file, position);
        let path = self.path(number);
        let exists = self.files.contains_key(&number);
        // A file that C covers is of no more use, and has space, which the disk may not have.
        let spare = self.files.range(..manifest.journal_file).next();
        let spare = spare.map(|(spare, _)| *spare).filter(|_| !exists);
        let write = || {
            if let Some(spare) = spare {
                disk.rename(&self.path(spare), &path)?;
            }
            let mode = match exists || spare.is_some() {
                true => Open::ReadWrite,
                false => Open::CreateNew,
            };
            let file = disk.open(&path, mode)?;
            file.write_at(&bytes, 0)?;
            file.sync_all()?;
            disk.sync_dir(&self.dir)?;
            Ok(file)
        };
        let file = write().map_err(OpenError::io("cannot write", &path))?;
        if let Some(spare) = spare {
            self.files.remove(&spare);
        }
        self.files.insert(number, file);
        Ok(())
    }

    /// The frame once more, with its extents. What checked before and does not now means that the page cache
    /// and the disk differ: nothing can be believed.
    pub fn read_again(&self, frame: &Found) -> Result<Whole, OpenError> {
        let bytes = self.frame_again(frame)?;
        let mut extents = BTreeMap::new();
        for (number, (part, held)) in parts_of(&frame.header, &bytes).enumerate() {
            match held {
                Held::Checksum(crc) if !frame.lacks.contains(&number) => {
                    match self.look(part, crc) {
                        Look::Whole(run) => extents.insert(number, run),
                        Look::Absent => return Err(self.unstable(frame)),
                        Look::Unreadable(error) => return Err(self.unreadable(part)(error)),
                    };
                }
                _ => {}
            }
        }
        Ok(Whole { frame: bytes, extents })
    }

    fn frame_again(&self, frame: &Found) -> Result<Bytes, OpenError> {
        let again = self
            .header_at(frame.file, frame.position)?
            .filter(|again| *again == frame.header);
        let bytes = match again {
            Some(again) => self.body_of(&again)?,
            None => None,
        };
        match bytes {
            None if planted(Planted::AcceptUnstableFrame) => Ok(Bytes::new()),
            bytes => bytes.ok_or_else(|| self.unstable(frame)),
        }
    }

    fn unstable(&self, frame: &Found) -> OpenError {
        OpenError::JournalDamaged {
            lsn: frame.header.lsn,
            file: self.path(frame.file),
            position: frame.position,
            reason: "checked once and does not check now (is the disk failing?)".into(),
        }
    }

    /// The control records of a frame.
    pub fn controls(&self, frame: &Found) -> Result<Vec<ControlRecord>, OpenError> {
        let mut controls = Vec::new();
        if !frame.header.parts.iter().any(|part| part.log == CONTROL_LOG) {
            return Ok(controls);
        }
        let bytes = self.frame_again(frame)?;
        for (part, held) in parts_of(&frame.header, &bytes) {
            let Held::Batches(run) = held else { continue };
            if part.log != CONTROL_LOG {
                continue;
            }
            let mut rest = bytes.slice_ref(run);
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

impl Found {
    fn lacking_logs(&self) -> impl Iterator<Item = LogId> {
        let parts = self.lacks.iter().filter_map(|number| self.header.parts.get(*number));
        parts.map(|part| part.log)
    }

    /// Where the next frame may stand.
    fn end(&self) -> (u64, u64) {
        let end = self.position + self.header.frame_bytes();
        (self.file, end.next_multiple_of(BLOCK_BYTES))
    }
}

impl Whole {
    /// The parts with their batches, but for those that the frame lacks.
    pub fn runs<'w>(&'w self, header: &'w FrameHeader) -> impl Iterator<Item = (&'w Part, Option<&'w [u8]>)> {
        let parts = parts_of(header, &self.frame).enumerate();
        parts.map(|(number, (part, held))| match held {
            Held::Batches(run) => (part, Some(run)),
            Held::Checksum(_) => (part, self.extents.get(&number).map(|run| &**run)),
        })
    }

    /// The same frame with everything in it. Changes the header to its header, and leaves a gap for that in front.
    fn inline(&self, header: &mut FrameHeader) -> Vec<u8> {
        let header_len = FrameHeader::encoded_len(header.parts.len(), header.previous_ends.len());
        let mut bytes = vec![0; header_len];
        for (_, run) in self.runs(header) {
            bytes.extend_from_slice(run.unwrap_or_default());
        }
        for part in &mut header.parts {
            part.kind = Kind::Inline;
        }
        header.body_bytes = (bytes.len() - header_len) as u64;
        bytes
    }
}

impl Lost {
    /// The logs whose records it took along; with an unreadable header, those known to have gone on.
    pub fn hits(&self, end_of: impl Fn(LogId) -> Option<i64>) -> Vec<LogId> {
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

/// The logs that lost frames named or, where a header is unreadable, whose listed ends are not reached.
pub(crate) fn logs_hit(ends: &BTreeMap<LogId, i64>, found: &[Found], lost: &[Lost]) -> BTreeSet<LogId> {
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
            hit.extend(frame.lacking_logs());
            ends.extend(reached.filter(|(log, _)| !hit.contains(log)));
        }
        hit.extend(lost.hits(|log| ends.get(&log).copied()));
    }
    hit.extend(found.flat_map(Found::lacking_logs));
    hit
}
