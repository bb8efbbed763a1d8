//! Reading published records. Every batch that is served was checked on this very read.

use std::io;
use std::sync::Arc;

use bytes::Bytes;

use crate::LogId;
use crate::batch::BatchHeader;
use crate::buffers::Buffers;
use crate::committer::install_index;
use crate::damage::Damage;
use crate::disk::DiskFile;
use crate::error::ReadError;
use crate::index::{IndexEntry, STRIDE_BYTES};
use crate::planted::{Planted, planted};
use crate::segment::{IndexState, Segment, SegmentWalk, WalkError};
use crate::shared::Shared;

/// Batches of a log.
#[derive(Debug, Clone)]
pub struct Fetched {
    /// Whole batches, the first of which holds the offset asked for; empty at the high watermark.
    pub data: Bytes,
    /// The log's first offset.
    pub log_start: i64,
    /// One behind the last published record.
    pub high_watermark: i64,
}

/// How far a read goes for what it wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Not to the disk: see [`ReadError::is_not_cached`].
    PageCache,
    /// As far as it must. Call it where blocking is allowed.
    Disk,
}

/// Where a look-up begins: a segment, and a batch in it that lies at or before what is wanted.
pub(crate) struct Start {
    pub segment: Segment,
    pub entry: IndexEntry,
    pub log_start: i64,
    pub high_watermark: i64,
    /// Below this offset a batch that does not check is damage; above, the next start restores it, or fences the log.
    pub checkpointed_end: i64,
    /// The base of the next segment, if there is one.
    pub next_base: Option<i64>,
}

/// What is looked for.
#[derive(Clone, Copy)]
enum Wanted {
    Offset(i64),
    /// A timestamp, at or behind an offset.
    Timestamp(i64, i64),
}

impl Shared {
    /// See [`crate::Storage::read`], and [`crate::Storage::read_with`].
    pub fn read(
        &self,
        log: LogId,
        from: i64,
        max_bytes: usize,
        buffers: &Arc<Buffers>,
        reach: Reach,
    ) -> Result<Fetched, ReadError> {
        let mut from_segment = from;
        loop {
            let Some(start) = self.find(log, Wanted::Offset(from_segment), from, reach)? else {
                let state = self.state.read();
                let log = state.logs.get(&log).ok_or(ReadError::UnknownLog(log))?;
                return Ok(Fetched {
                    data: Bytes::new(),
                    log_start: log.start,
                    high_watermark: log.end,
                });
            };
            let data = self.collect(log, &start, from, max_bytes, buffers, reach)?;
            match start.next_base {
                // Offsets may be missing at the end of a segment; then the next one has the batch.
                Some(next) if data.is_empty() => from_segment = next,
                _ => {
                    return Ok(Fetched {
                        data,
                        log_start: start.log_start,
                        high_watermark: start.high_watermark,
                    });
                }
            }
        }
    }

    /// See [`crate::Storage::batch_size`].
    pub fn batch_size(&self, log: LogId, from: i64, reach: Reach) -> Result<usize, ReadError> {
        let mut from_segment = from;
        while let Some(start) = self.find(log, Wanted::Offset(from_segment), from, reach)? {
            let file = self.open_reader(log, &start, reach)?;
            let end = start.next_base.unwrap_or(start.high_watermark);
            let walk = walk_from(&start, file, 0).within(reach);
            let mut walk = walk.wanted_from(from, end);
            let header = walk.seek().map_err(|error| self.read_error(log, &start, error))?;
            match (header, start.next_base) {
                (Some(header), _) => return Ok(header.size_bytes()),
                (None, Some(next)) => from_segment = next,
                (None, None) => break,
            }
        }
        Ok(0)
    }

    /// See [`crate::Storage::batch_at_timestamp`].
    pub fn batch_at_timestamp(&self, log: LogId, timestamp_ms: i64, from: i64) -> Result<Option<Bytes>, ReadError> {
        let mut from = from;
        loop {
            let Some(start) = self.find(log, Wanted::Timestamp(timestamp_ms, from), from, Reach::Disk)? else {
                return Ok(None);
            };
            let file = self.open_reader(log, &start, Reach::Disk)?;
            let mut walk = walk_from(&start, file, 0);
            let failed = |error| self.read_error(log, &start, error);
            while let Some((header, bytes)) = walk.next().map_err(failed)? {
                if header.max_timestamp >= timestamp_ms && header.last_offset() >= from.max(start.log_start) {
                    return Ok(Some(Bytes::copy_from_slice(bytes)));
                }
            }
            match start.next_base {
                Some(next) => from = next,
                None => return Ok(None),
            }
        }
    }

    /// See [`crate::Storage::batch_of_max_timestamp`].
    pub fn batch_of_max_timestamp(&self, log: LogId, from: i64) -> Result<Option<Bytes>, ReadError> {
        let (from, mut segments) = {
            let state = self.state.read();
            let log = state.logs.get(&log).ok_or(ReadError::UnknownLog(log))?;
            let from = from.max(log.start);
            let reach = log.segments.iter().skip(log.segment_of(from).unwrap_or(0));
            let filled = reach.filter(|segment| segment.size_bytes > 0);
            let known: Vec<(i64, i64)> = filled.map(|segment| (segment.base, segment.max_timestamp)).collect();
            (from, known)
        };
        // The first segment may have its largest timestamp below the offset, where it does not count.
        if let Some((base, timestamp_ms)) = segments.first_mut()
            && *base < from
        {
            *timestamp_ms = self.largest_timestamp_from(log, from)?.unwrap_or(i64::MIN);
        }
        match segments.iter().map(|(_, timestamp_ms)| *timestamp_ms).max() {
            Some(i64::MIN) | None => Ok(None),
            Some(timestamp_ms) => self.batch_at_timestamp(log, timestamp_ms, from),
        }
    }

    /// The largest timestamp of the batches from `offset` to the end of its segment.
    fn largest_timestamp_from(&self, log: LogId, offset: i64) -> Result<Option<i64>, ReadError> {
        let Some(start) = self.find(log, Wanted::Offset(offset), offset, Reach::Disk)? else {
            return Ok(None);
        };
        let file = self.open_reader(log, &start, Reach::Disk)?;
        let mut walk = walk_from(&start, file, 1 << 20);
        let mut largest = None;
        while let Some((header, _)) = walk.next().map_err(|error| self.read_error(log, &start, error))? {
            if header.last_offset() >= offset {
                largest = largest.max(Some(header.max_timestamp));
            }
        }
        Ok(largest)
    }

    /// Finds where to begin. `None` if nothing is there: at the high watermark, or no such timestamp.
    fn find(&self, log: LogId, wanted: Wanted, asked: i64, reach: Reach) -> Result<Option<Start>, ReadError> {
        loop {
            let start = {
                let state = self.state.read();
                let published = state.logs.get(&log).ok_or(ReadError::UnknownLog(log))?;
                if let Some(fence) = &published.fence {
                    return Err(ReadError::Fenced {
                        log,
                        reason: fence.reason(),
                    });
                }
                let place = match wanted {
                    Wanted::Offset(offset) => {
                        if asked < published.start || asked > published.end {
                            let (start, end) = (published.start, published.end);
                            return Err(ReadError::OffsetOutOfRange {
                                offset: asked,
                                start,
                                end,
                            });
                        }
                        if offset >= published.end {
                            return Ok(None);
                        }
                        published.segment_of(offset)
                    }
                    Wanted::Timestamp(timestamp_ms, from) => {
                        let first = published.segment_of(from).unwrap_or(0);
                        let wanted =
                            |segment: &Segment| segment.size_bytes > 0 && segment.max_timestamp >= timestamp_ms;
                        let rest = published.segments.get(first..).unwrap_or_default();
                        rest.iter().position(wanted).map(|place| first + place)
                    }
                };
                let Some(place) = place else { return Ok(None) };
                let Some(segment) = published.segments.get(place) else {
                    return Ok(None);
                };
                let first = IndexEntry {
                    relative_offset: 0,
                    position: 0,
                    max_timestamp_before: i64::MIN,
                };
                let entry = match (&segment.index, wanted) {
                    (IndexState::Stored, _) => None,
                    (IndexState::Loaded(index), Wanted::Offset(offset)) => {
                        let relative = u32::try_from(offset.saturating_sub(segment.base)).unwrap_or(u32::MAX);
                        Some(index.by_offset(relative).unwrap_or(first))
                    }
                    (IndexState::Loaded(index), Wanted::Timestamp(timestamp_ms, from)) => {
                        let relative = u32::try_from(from.saturating_sub(segment.base)).unwrap_or(0);
                        let both = [index.by_timestamp(timestamp_ms), index.by_offset(relative)];
                        let later = both.into_iter().flatten().max_by_key(|entry| entry.position);
                        Some(later.unwrap_or(first))
                    }
                };
                let start = Start {
                    entry: entry.unwrap_or(first),
                    log_start: published.start,
                    high_watermark: published.end,
                    checkpointed_end: published.checkpointed_end,
                    next_base: published.segments.get(place + 1).map(|next| next.base),
                    // Cheap: the index is shared, the rest are numbers.
                    segment: segment.clone(),
                };
                if entry.is_some() {
                    return Ok(Some(start));
                }
                start
            };
            if reach == Reach::PageCache {
                return Err(self.read_error(log, &start, WalkError::Io(io::ErrorKind::WouldBlock.into())));
            }
            // The index is on the disk: fetch it outside of the lock, then look again.
            let loaded = start.segment.load_index(&*self.disk);
            let loaded = loaded.map_err(|source| self.read_error(log, &start, WalkError::Io(source)))?;
            install_index(self, log, start.segment.base, loaded);
        }
    }

    /// Batches from the one that holds `from`, until `max_bytes` are reached; always one, if there is one.
    fn collect(
        &self,
        log: LogId,
        start: &Start,
        from: i64,
        max_bytes: usize,
        buffers: &Arc<Buffers>,
        reach: Reach,
    ) -> Result<Bytes, ReadError> {
        start.segment.file.note_read();
        let file = self.open_reader(log, start, reach)?;
        let end = start.next_base.unwrap_or(start.high_watermark);
        // The index leads to a place before the first batch.
        let read_ahead = max_bytes.saturating_add(STRIDE_BYTES as usize);
        let walk = walk_from(start, file, read_ahead).wanted_from(from, end);
        let mut walk = walk.with_buffers(buffers).within(reach);
        let (mut begin, mut taken) = (None, Vec::new());
        loop {
            // One read is enough: there was room for the whole, or for the first batch if that is larger.
            if let Some(begin) = begin
                && walk.buffered_end().is_none_or(|end| end - begin > max_bytes as u64)
            {
                break;
            }
            match walk.next() {
                Ok(Some((header, _))) => {
                    let position = walk.position() - header.size_bytes() as u64;
                    begin.get_or_insert(position);
                    taken.push((header, position));
                }
                Ok(None) => break,
                // What checked is served; the damage is told when it is asked for.
                Err(_) if begin.is_some() => break,
                Err(error) => return Err(self.read_error(log, start, error)),
            }
        }
        let (good_bytes, wrong) = self.check_epochs(log, &taken);
        match wrong {
            Some(error) if good_bytes == 0 => Err(self.read_error(log, start, error)),
            _ => Ok(begin.map(|begin| walk.part(begin, good_bytes)).unwrap_or_default()),
        }
    }

    /// Kafka's checksum does not cover a batch's leader epoch, so the log's table of epochs has to. Returns
    /// how many bytes are right, and what is wrong behind them.
    pub(crate) fn check_epochs(&self, log: LogId, batches: &[(BatchHeader, u64)]) -> (usize, Option<WalkError>) {
        let state = self.state.read();
        let epoch_at = |offset| state.logs.get(&log).and_then(|log| log.epoch_at(offset));
        let mut good_bytes = 0;
        for (header, position) in batches {
            // The table does not reach below the log's start.
            if epoch_at(header.base_offset).is_some_and(|epoch| epoch != header.leader_epoch) {
                let reason = format!("its leader epoch is {}", header.leader_epoch);
                let (offset, position) = (header.base_offset, *position);
                return (
                    good_bytes,
                    Some(WalkError::Damaged {
                        offset,
                        position,
                        reason,
                    }),
                );
            }
            good_bytes += header.size_bytes();
        }
        (good_bytes, None)
    }

    pub(crate) fn open_reader(&self, log: LogId, start: &Start, reach: Reach) -> Result<Arc<dyn DiskFile>, ReadError> {
        let file = match reach {
            Reach::PageCache => start.segment.file.cached_reader(&*self.disk),
            Reach::Disk => start.segment.file.reader(&*self.disk),
        };
        file.map_err(|source| self.read_error(log, start, WalkError::Io(source)))
    }

    /// Whether a segment is still published. One that retention took away in the meantime is not.
    fn has_segment(&self, log: LogId, base: i64) -> bool {
        let state = self.state.read();
        let segments = state.logs.get(&log).map(|log| log.segments.as_slice());
        segments.unwrap_or_default().iter().any(|segment| segment.base == base)
    }

    /// Tells what went wrong. Damage that nothing can mend is remembered.
    pub(crate) fn read_error(&self, log: LogId, start: &Start, error: WalkError) -> ReadError {
        let file = start.segment.file.path.clone();
        match error {
            WalkError::Io(source) if source.kind() == io::ErrorKind::NotFound => {
                let offset = start.segment.base;
                if self.has_segment(log, offset) {
                    let (position, reason) = (0, "the file is missing".to_owned());
                    return self.read_error(
                        log,
                        start,
                        WalkError::Damaged {
                            offset,
                            position,
                            reason,
                        },
                    );
                }
                let (start, end) = (start.log_start, start.high_watermark);
                ReadError::OffsetOutOfRange { offset, start, end }
            }
            WalkError::Io(source) => ReadError::Io { file, source },
            WalkError::Damaged {
                offset,
                position,
                reason,
            } => {
                let retriable = offset >= start.checkpointed_end && !planted(Planted::DamageAboveCheckpoint);
                if !retriable {
                    self.damages.lock().note(Damage {
                        log,
                        file: file.clone(),
                        offset,
                        position,
                        reason: reason.clone(),
                    });
                }
                ReadError::Damaged {
                    log,
                    offset,
                    file,
                    position,
                    reason,
                    retriable,
                }
            }
        }
    }
}

pub(crate) fn walk_from(start: &Start, file: Arc<dyn DiskFile>, read_ahead: usize) -> SegmentWalk {
    let offset = start.segment.base + i64::from(start.entry.relative_offset);
    SegmentWalk::new(
        file,
        start.segment.size_bytes,
        u64::from(start.entry.position),
        offset,
        read_ahead,
    )
}
