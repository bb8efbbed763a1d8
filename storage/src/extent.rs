//! Extents: large runs that go straight to their segments, so that they are written once and not twice.
//!
//! The frame of the group has only the place and the checksum of such a run, and counts only if the segment holds it.
//! Invariant: until the frame is durable, one byte of each extent is missing, so that what a group that was never
//! acknowledged leaves behind a log's end is no batch (recovery takes whole batches there for lost ones).

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use crate::append::Way;
use crate::batch::{self, BatchHeader, HEADER_LEN};
use crate::buffers::Buffers;
use crate::catalog::ControlRecord;
use crate::disk::{Disk, Open};
use crate::frame::{Held, Kind, Part};
use crate::planted::{Planted, planted};
use crate::segment::{Handles, SegmentFile};
use crate::sequencer::{Group, Run};
use crate::state::segment_path;
use crate::{CONTROL_LOG, LogId};

/// More logs than this are not synced together with the journal.
const MAX_EXTENTS: usize = 4;
/// The byte that is withheld: the magic of the run's first batch, which is not covered by the batch's own checksum.
pub(crate) const WITHHELD_AT: usize = 16;
/// What it is.
pub(crate) const WITHHELD: u8 = batch::MAGIC as u8;

/// Decides which runs of a group go straight to their segments: the largest. Not those of the catalog, which recovery
/// needs first, nor of a log that the group itself creates, whose directory must not be there before the log is.
pub(crate) fn choose(group: &mut Group, least_bytes: u64) {
    let created: BTreeSet<LogId> = group.controls.iter().flat_map(created_by).copied().collect();
    let may =
        |part: &Part| u64::from(part.length) >= least_bytes && part.log != CONTROL_LOG && !created.contains(&part.log);
    let mut chosen: Vec<&mut Part> = group
        .runs
        .iter_mut()
        .map(|run| &mut run.part)
        .filter(|part| may(part))
        .collect();
    chosen.sort_by_key(|part| std::cmp::Reverse(part.length));
    for part in chosen.into_iter().take(MAX_EXTENTS) {
        part.kind = Kind::Extent;
    }
}

fn created_by(control: &ControlRecord) -> &[LogId] {
    match control {
        ControlRecord::TopicCreated { topic, .. } => &topic.partitions,
        ControlRecord::PartitionsAdded { logs, .. } => logs,
        _ => &[],
    }
}

/// What a frame has of an extent: the CRC-32 of its batches' headers. The rest of each batch is under the batch's own checksum,
/// which its header has; all of it was read for that when it came, and is not read again.
fn checksum(headers: &[[u8; HEADER_LEN]]) -> u32 {
    crc32fast::hash(headers.as_flattened())
}

/// The checksum of a run that goes straight to its segment.
pub(crate) fn checksum_of(run: &Run) -> u32 {
    checksum(&encoded_headers(run))
}

fn encoded_headers(run: &Run) -> Vec<[u8; HEADER_LEN]> {
    run.batches.iter().map(|batch| batch.header.encode()).collect()
}

/// Writes a run to its open segment and makes it durable, but for the withheld byte. Not by the description that the
/// checkpoint syncs by: a failure is told only once to each.
pub(crate) fn commit(run: &Run, segment: &SegmentFile, unread_bytes: u64) -> io::Result<()> {
    write(run, segment, unread_bytes)?;
    if planted(Planted::ExtentUnsynced) {
        return Ok(());
    }
    handles(segment)?.writer.sync_data().map_err(named(segment))
}

/// Writes it from the memory in which its batches came. What nobody reads soon goes past the page cache, but for the page that
/// is written again for the withheld byte.
pub(crate) fn write(run: &Run, segment: &SegmentFile, unread_bytes: u64) -> io::Result<()> {
    let mut headers = encoded_headers(run);
    if let Some(withheld) = headers.first_mut().and_then(|header| header.get_mut(WITHHELD_AT))
        && !planted(Planted::ExtentShownEarly)
    {
        *withheld = 0;
    }
    let batches = headers.iter().zip(&run.batches);
    let pieces: Vec<&[u8]> = batches
        .flat_map(|(header, batch)| [&header[..], &batch.payload])
        .collect();
    let way = match segment.is_unread(unread_bytes) {
        true => Way::PastCache {
            but_bytes: WITHHELD_AT as u64 + 1,
        },
        false => Way::ThroughCache,
    };
    let written = segment.append(&handles(segment)?, &pieces, u64::from(run.part.position), way);
    written.map(|_| ()).map_err(named(segment))
}

fn handles(segment: &SegmentFile) -> io::Result<Handles> {
    let handles = segment.open_handles().ok_or_else(|| io::Error::other("closed"));
    handles.map_err(named(segment))
}

fn named(segment: &SegmentFile) -> impl FnOnce(io::Error) -> io::Error {
    move |error| io::Error::new(error.kind(), format!("{}: {error}", segment.path.display()))
}

/// What a segment has of an extent.
#[derive(Debug)]
pub(crate) enum Look {
    /// All of it, the withheld byte included.
    Whole(Bytes),
    /// Not its bytes, or not so many, or no file.
    Absent,
    /// It may be there.
    Unreadable(io::Error),
}

/// Looks for an extent in its segment.
pub(crate) fn look(disk: &dyn Disk, data_dir: &Path, part: &Part, crc: u32, buffers: &Arc<Buffers>) -> Look {
    // A failed read is tried again, because a log may be fenced for it.
    let read = || read(disk, data_dir, part, buffers);
    match read().or_else(|_| read()) {
        Ok(run) if planted(Planted::ExtentUnchecked) => Look::Whole(run),
        Ok(run) if is_whole(part, &run, crc) => Look::Whole(run),
        Ok(_) => Look::Absent,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Look::Absent,
        Err(error) => Look::Unreadable(error),
    }
}

fn is_whole(part: &Part, run: &[u8], crc: u32) -> bool {
    let Some(batches) = part.batches(run) else {
        return false;
    };
    let found = match part.kind {
        Kind::ExtentOfVersion2 => crc32fast::hash(run),
        Kind::Extent => checksum(&batches.iter().map(BatchHeader::encode).collect::<Vec<_>>()),
        Kind::Inline => return false,
    };
    found == crc
}

/// What stands in its place, with the withheld byte.
fn read(disk: &dyn Disk, data_dir: &Path, part: &Part, buffers: &Arc<Buffers>) -> io::Result<Bytes> {
    let path = segment_path(data_dir, part.log, part.segment_base);
    let file = disk.open(&path, Open::Read)?;
    let position = u64::from(part.position);
    // No memory is taken for a length before so many bytes are there.
    let there = file.len()?.saturating_sub(position);
    let filled = buffers.fill(u64::from(part.length).min(there) as usize, |run| {
        let read = file.read_at(run, position)?;
        if let Some(withheld) = run.get_mut(WITHHELD_AT) {
            *withheld = WITHHELD;
        }
        Ok(read)
    })?;
    Ok(filled.bytes)
}

/// Whether the segment shows that a part's frame had been durable: what is written only then is there. What cannot be read
/// shows nothing.
pub(crate) fn bears_witness(disk: &dyn Disk, data_dir: &Path, part: &Part, held: &Held<'_>) -> bool {
    let stands = |bytes: &[u8], at: usize| {
        let path = segment_path(data_dir, part.log, part.segment_base);
        let file = disk.open(&path, Open::Read)?;
        let mut there = vec![0; bytes.len()];
        let read = file.read_at(&mut there, u64::from(part.position) + at as u64)?;
        io::Result::Ok(read == there.len() && there == bytes)
    };
    match held {
        Held::Batches(run) => stands(run, 0).unwrap_or(false),
        Held::Checksum(_) => stands(&[WITHHELD], WITHHELD_AT).unwrap_or(false),
    }
}

/// Writes the byte that an extent lacks until its frame is known to be durable, if the segment reaches that far.
pub(crate) fn complete(disk: &dyn Disk, path: &Path, part: &Part) -> io::Result<()> {
    let at = u64::from(part.position) + WITHHELD_AT as u64;
    if !disk.exists(path)? {
        return Ok(());
    }
    let file = disk.open(path, Open::ReadWrite)?;
    let mut header = [0; HEADER_LEN];
    file.read_at(&mut header, u64::from(part.position))?;
    // Where nothing stands, or what fills the page behind another run, the extent is lost.
    if file.len()? <= at || header.iter().all(|byte| *byte == 0) {
        return Ok(());
    }
    file.write_at(&[WITHHELD], at)
}

#[cfg(test)]
#[path = "extent_tests.rs"]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests;
