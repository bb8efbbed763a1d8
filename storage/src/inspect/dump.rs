//! Shows files of a data directory as text, for people.

use std::fmt::Display;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::{Directory, partition_name};
use crate::append::{LARGEST_PAGE_BYTES, is_padding};
use crate::batch::BatchHeader;
use crate::buffers::Buffers;
use crate::catalog::Catalog;
use crate::disk::{DiskFile, Open};
use crate::extent::{self, Look};
use crate::frame::{BLOCK_BYTES, FrameHeader, Held, Salt, parts_of};
use crate::index::{ENTRY_BYTES, IndexEntry};
use crate::journal;
use crate::manifest::{COPIES, Manifest};
use crate::producer_snapshot::load_producers;
use crate::record::decode_batch;
use crate::segment::{SegmentWalk, WalkError, base_of, file_name};
use crate::state::log_dir;

const READ_AHEAD_BYTES: usize = 1 << 20;
/// More than any server accepts by default.
const MAX_DECOMPRESSED_BYTES: usize = 1 << 30;
/// What is shown of a key or a value.
const SHOWN_BYTES: usize = 200;
/// A frame's header begins with magic, format and flags, and then its salt.
const SALT_AT: usize = 8;

/// How much of a segment is shown.
#[derive(Debug, Clone, Copy)]
pub struct Selection {
    /// The first batch is the one that holds this offset.
    pub from: i64,
    /// At most so many batches.
    pub max_batches: u64,
    /// Each batch's records as well; those of journal frames too.
    pub records: bool,
}

fn failed(error: impl Display) -> io::Error {
    io::Error::other(error.to_string())
}

fn invalid(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what)
}

impl Directory {
    /// Shows a file: a manifest, a journal file, a segment, an index or a producer snapshot, told by its name.
    ///
    /// # Errors
    /// When it is none of these, or cannot be read.
    pub fn dump_file(&self, file: &Path, selection: Selection, out: &mut dyn Write) -> io::Result<()> {
        let path = self.dir.join(file);
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if COPIES.contains(&name) {
            let manifest = Manifest::read(&*self.disk, &path).map_err(failed)?;
            return dump_manifest(&manifest.map_err(failed)?, out);
        }
        if let Some(base) = base_of(name) {
            return self.dump_segment(&path, base, selection, &mut 0, out);
        }
        if name.ends_with(".journal") || name.ends_with(".journal.damaged") {
            return self.dump_journal(&path, selection, out);
        }
        if name.ends_with(".index") {
            for entry in self.index_entries(&path)? {
                let IndexEntry {
                    relative_offset,
                    position,
                    max_timestamp_before,
                } = entry;
                writeln!(
                    out,
                    "base offset + {relative_offset}: position {position}, largest timestamp before it {max_timestamp_before}"
                )?;
            }
            return Ok(());
        }
        match name.strip_suffix(".producers").and_then(|lsn| lsn.parse().ok()) {
            Some(lsn) => {
                let table = load_producers(&*self.disk, &path, lsn)?;
                writeln!(out, "as of frame {lsn}: {table:#?}")
            }
            None => Err(invalid(format!("{}: not the name of a file of ours", path.display()))),
        }
    }

    /// Shows a partition's batches, wherever they stand.
    ///
    /// # Errors
    /// When there is no such partition, or a file cannot be read.
    pub fn dump_partition(
        &self,
        topic: &str,
        partition: u32,
        selection: Selection,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        let catalog = self.catalog()?;
        let log = catalog
            .topic(topic)
            .and_then(|topic| topic.partitions.get(partition as usize));
        let log = log.ok_or_else(|| {
            invalid(format!(
                "the manifest knows no partition {partition} of topic {topic:?}"
            ))
        })?;
        let dir = log_dir(&self.dir, *log);
        let mut bases: Vec<i64> = match self.disk.exists(&dir)? {
            true => self.disk.list(&dir)?.iter().filter_map(|name| base_of(name)).collect(),
            false => Vec::new(),
        };
        bases.sort_unstable();
        let first = bases.partition_point(|base| *base <= selection.from).saturating_sub(1);
        let mut shown = 0;
        for base in bases.into_iter().skip(first) {
            if shown >= selection.max_batches {
                break;
            }
            let path = dir.join(file_name(base));
            writeln!(out, "{}", self.told(&path))?;
            self.dump_segment(&path, base, selection, &mut shown, out)?;
        }
        Ok(())
    }

    fn catalog(&self) -> io::Result<Catalog> {
        let manifest = Manifest::load(&*self.disk, &self.dir).map_err(failed)?;
        let manifest = manifest.ok_or_else(|| invalid("there is no manifest".into()))?;
        Ok(Catalog::from_stored(manifest.catalog))
    }

    fn dump_segment(
        &self,
        path: &Path,
        base: i64,
        selection: Selection,
        shown: &mut u64,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        let file = self.disk.open(path, Open::Read)?;
        let len = file.len()?;
        let walk_from = |position, offset| SegmentWalk::new(file.clone(), len, position, offset, READ_AHEAD_BYTES);
        let mut walk = walk_from(0, base);
        while *shown < selection.max_batches {
            let position = walk.position();
            match walk.next() {
                Ok(None) => break,
                Ok(Some((header, _))) if header.last_offset() < selection.from => {}
                Ok(Some((header, bytes))) => {
                    dump_batch(&header, position, out)?;
                    if selection.records {
                        dump_records(bytes, out)?;
                    }
                    *shown += 1;
                }
                Err(WalkError::Io(error)) => return Err(error),
                Err(WalkError::Damaged { .. }) if is_padding(&*file, position, LARGEST_PAGE_BYTES)? => {
                    writeln!(
                        out,
                        "position {position}: zeros up to the end of the file, {} bytes",
                        len - position
                    )?;
                    break;
                }
                Err(WalkError::Damaged { offset, reason, .. }) => {
                    writeln!(out, "position {position}: NOT WHOLE at offset {offset}: {reason}")?;
                    let entries = self.index_entries(&path.with_extension("index")).unwrap_or_default();
                    let behind = entries.into_iter().find(|entry| u64::from(entry.position) > position);
                    let Some(entry) = behind.filter(|entry| u64::from(entry.position) < len) else {
                        break;
                    };
                    walk = walk_from(u64::from(entry.position), base + i64::from(entry.relative_offset));
                }
            }
        }
        Ok(())
    }

    fn index_entries(&self, path: &Path) -> io::Result<Vec<IndexEntry>> {
        let file = self.disk.open(path, Open::Read)?;
        // One entry for 4 KiB of a segment, which has at most 2 GiB.
        let mut bytes = vec![0; file.len()?.min(ENTRY_BYTES as u64 * (1 << 19)) as usize];
        let read = file.read_at(&mut bytes, 0)?;
        bytes.truncate(read);
        Ok(bytes.as_chunks().0.iter().map(IndexEntry::decode).collect())
    }

    /// Every header that stands on a boundary, of whichever life of the file.
    fn dump_journal(&self, path: &Path, selection: Selection, out: &mut dyn Write) -> io::Result<()> {
        let file = self.disk.open(path, Open::Read)?;
        let manifest = Manifest::load(&*self.disk, &self.dir).map_err(failed)?;
        let catalog = self.catalog()?;
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let number = journal::number_of(name.trim_end_matches(".damaged"));
        let len = file.len()?;
        for position in (0..len).step_by(BLOCK_BYTES as usize) {
            let Some(header) = header_at(&file, position)? else {
                continue;
            };
            let frame = read_piece(&file, position, header.frame_bytes())?;
            let whole = header.check_body(&frame).is_ok();
            let present = manifest.as_ref().is_some_and(|manifest| manifest.salt == header.salt);
            let covered = manifest
                .as_ref()
                .is_some_and(|manifest| header.lsn <= manifest.checkpoint_lsn);
            let own = header.position == position && number == Some(header.file);
            let what = match (own, whole, present && !covered) {
                (false, ..) => "of an earlier life of the file",
                (true, false, _) => "NOT WHOLE",
                (true, true, true) => "whole, above the checkpoint",
                (true, true, false) => "whole, covered by a checkpoint",
            };
            writeln!(
                out,
                "position {position}: frame {} ({what}), {} bytes, written at {} when frame {} was durable, incarnation {}",
                header.lsn,
                header.frame_bytes(),
                header.time_ms,
                header.synced_lsn,
                hex(&header.salt),
            )?;
            for (part, held) in parts_of(&header, &frame) {
                let (place, run) = match held {
                    Held::Batches(run) => ("for", Some(Bytes::copy_from_slice(run))),
                    // Of others the segment may be gone.
                    Held::Checksum(crc) if own && whole && present && !covered => {
                        match extent::look(&*self.disk, &self.dir, part, crc, &Buffers::none()) {
                            Look::Whole(run) => ("in", Some(run)),
                            Look::Absent => ("NOT in", None),
                            Look::Unreadable(error) => {
                                writeln!(out, "  {error}")?;
                                ("UNREADABLE in", None)
                            }
                        }
                    }
                    Held::Checksum(_) => ("in", None),
                };
                writeln!(
                    out,
                    "  {} offsets {} to {}: {} bytes {place} {} position {}",
                    partition_name(&catalog, part.log),
                    part.first_offset,
                    part.last_offset,
                    part.length,
                    file_name(part.segment_base),
                    part.position
                )?;
                if let Some(run) = run.filter(|_| selection.records && whole) {
                    dump_records(&run, out)?;
                }
            }
        }
        Ok(())
    }
}

fn read_piece(file: &Arc<dyn DiskFile>, position: u64, len: u64) -> io::Result<Vec<u8>> {
    let left = file.len()?.saturating_sub(position);
    let mut bytes = vec![0; len.min(left) as usize];
    let read = file.read_at(&mut bytes, position)?;
    bytes.truncate(read);
    Ok(bytes)
}

fn header_at(file: &Arc<dyn DiskFile>, position: u64) -> io::Result<Option<FrameHeader>> {
    let front = read_piece(file, position, BLOCK_BYTES)?;
    let salt = front
        .get(SALT_AT..)
        .and_then(|rest| rest.first_chunk::<{ size_of::<Salt>() }>());
    let Some((salt, header_len)) = salt.and_then(|salt| Some((*salt, FrameHeader::claimed_len(&front, salt)?.0)))
    else {
        return Ok(None);
    };
    let bytes = read_piece(file, position, header_len as u64)?;
    Ok(FrameHeader::decode(&bytes, &salt))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn dump_batch(header: &BatchHeader, position: u64, out: &mut dyn Write) -> io::Result<()> {
    write!(
        out,
        "position {position}: offsets {} to {}, {} bytes, {} records, compression {}, leader epoch {}, timestamps {} to {}",
        header.base_offset,
        header.last_offset(),
        header.size_bytes(),
        header.record_count,
        header.compression().name(),
        header.leader_epoch,
        header.base_timestamp,
        header.max_timestamp,
    )?;
    if header.has_producer() {
        let (id, epoch, sequence) = (header.producer_id, header.producer_epoch, header.base_sequence);
        write!(out, ", producer {id} epoch {epoch} sequence {sequence}")?;
    }
    writeln!(out)
}

/// The records of batches that check.
fn dump_records(batches: &[u8], out: &mut dyn Write) -> io::Result<()> {
    let mut rest = Bytes::copy_from_slice(batches);
    while !rest.is_empty() {
        let header = BatchHeader::parse(&rest).map_err(failed)?;
        let batch = rest.split_to(header.size_bytes().min(rest.len()));
        for record in decode_batch(&batch, MAX_DECOMPRESSED_BYTES).map_err(failed)? {
            let (key, value) = (shown(record.key.as_deref()), shown(record.value.as_deref()));
            write!(
                out,
                "  offset {} timestamp {}: key {key}, value {value}",
                record.offset, record.timestamp_ms
            )?;
            for header in &record.headers {
                write!(out, ", header {header:?}")?;
            }
            writeln!(out)?;
        }
    }
    Ok(())
}

fn shown(bytes: Option<&[u8]>) -> String {
    match bytes {
        None => "null".into(),
        Some(bytes) => match bytes.get(..SHOWN_BYTES) {
            Some(front) => format!("\"{}\"… ({} bytes)", front.escape_ascii(), bytes.len()),
            None => format!("\"{}\"", bytes.escape_ascii()),
        },
    }
}

fn dump_manifest(manifest: &Manifest, out: &mut dyn Write) -> io::Result<()> {
    let catalog = Catalog::from_stored(manifest.catalog.clone());
    writeln!(
        out,
        "generation {}: the state at frame {}\ncluster {}, leader epoch {}\nincarnation {}\njournal goes on in file {} position {}",
        manifest.generation,
        manifest.checkpoint_lsn,
        catalog.cluster_id,
        catalog.leader_epoch,
        hex(&manifest.salt),
        manifest.journal_file,
        manifest.journal_position
    )?;
    for topic in catalog.topics() {
        let (name, id, configs) = (&topic.name, topic.id, &topic.configs);
        writeln!(
            out,
            "topic {name}: id {id}, logs {:?}, configs {configs:?}",
            topic.partitions
        )?;
    }
    for (name, epoch) in catalog.epochs() {
        writeln!(out, "epoch {name}: {epoch}")?;
    }
    for log in &manifest.logs {
        writeln!(
            out,
            "log {} ({}): offsets {} to {}, leader epoch {}, epochs with first offsets {:?}, producers as of {:?}",
            log.log,
            partition_name(&catalog, log.log),
            log.start,
            log.end,
            log.leader_epoch,
            log.leader_epochs,
            log.producers
        )?;
        for segment in &log.segments {
            writeln!(
                out,
                "  {}: {} bytes, largest timestamp {}, {} index entries with checksum {:08x}",
                file_name(segment.base),
                segment.size_bytes,
                segment.max_timestamp,
                segment.index_entries,
                segment.index_crc
            )?;
        }
    }
    for fence in &manifest.fences {
        writeln!(
            out,
            "fence: {}: {}",
            partition_name(&catalog, fence.log),
            fence.reason()
        )?;
    }
    Ok(())
}
