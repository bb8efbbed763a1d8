//! The scrub reads in the background what nobody asks for, with the checks that every read does: damage is to be
//! found while there still is a backup to restore from.
//!
//! It looks below the checkpoint only, because what is above it has not been synced for good, and a start checks it. It leaves indexes on the
//! disk: those of all segments together would be too much memory.

use std::sync::atomic::Ordering;

use crate::LogId;
use crate::damage::Damage;
use crate::index::IndexEntry;
use crate::read::{Reach, Start, walk_from};
use crate::segment::{IndexState, WalkError};
use crate::shared::Shared;
use crate::state::State;

/// How much is read from the disk at once.
const READ_AHEAD_BYTES: usize = 256 << 10;

/// A batch that the scrub comes to next.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Place {
    log: LogId,
    /// The base offset of its segment, or of where the next segment may begin.
    base: i64,
    position: u64,
    offset: i64,
}

impl Shared {
    /// Checks about `max_bytes` from a place on, and ends early where nothing leads on. Returns where to go on; none behind the
    /// last log.
    pub fn scrub(&self, place: Place, max_bytes: u64) -> Option<Place> {
        let (log, start) = segment_at(&self.state.read(), place)?;
        let base = start.segment.base;
        let next_segment = Place {
            log,
            base: base + 1,
            position: 0,
            offset: base + 1,
        };
        let file = match self.open_reader(log, &start, Reach::Disk) {
            Ok(file) => file,
            Err(error) => {
                tracing::debug!("scrub: {error}");
                return Some(next_segment);
            }
        };
        let mut walk = walk_from(&start, file.clone(), READ_AHEAD_BYTES);
        let begun = walk.position();
        let outcome = loop {
            let (position, offset) = (walk.position(), walk.next_offset());
            if offset >= start.checkpointed_end {
                break Some(next_segment);
            }
            if position - begun >= max_bytes {
                break Some(Place {
                    log,
                    base,
                    position,
                    offset,
                });
            }
            match walk.next().map(|found| found.map(|(header, _)| header)) {
                Ok(Some(header)) => {
                    if let (_, Some(wrong)) = self.check_epochs(log, &[(header, position)]) {
                        self.read_error(log, &start, wrong);
                    }
                }
                Ok(None) => break Some(next_segment),
                Err(error) => {
                    self.note_unreadable(log, &start, (position, offset), error);
                    if walk.pass_over() {
                        continue;
                    }
                    // An index entry is the next batch that is known to begin somewhere.
                    let readable_bytes = file.len().unwrap_or(0);
                    let behind = self.entry_behind(&start, position);
                    let behind = behind.filter(|entry| u64::from(entry.position) < readable_bytes);
                    break Some(behind.map_or(next_segment, |entry| Place {
                        log,
                        base,
                        position: u64::from(entry.position),
                        offset: base + i64::from(entry.relative_offset),
                    }));
                }
            }
        };
        let checked_bytes = walk.position() - begun;
        self.counters.scrubbed_bytes.fetch_add(checked_bytes, Ordering::Relaxed);
        outcome
    }

    /// What an open file does not give is damage as well: the disk has lost the sector.
    fn note_unreadable(&self, log: LogId, start: &Start, (position, offset): (u64, i64), error: WalkError) {
        match error {
            WalkError::Io(source) => self.damages.lock().note(Damage {
                log,
                file: start.segment.file.path.clone(),
                offset,
                position,
                reason: format!("cannot be read: {source}"),
            }),
            damaged => {
                // Which remembers it.
                self.read_error(log, start, damaged);
            }
        }
    }

    fn entry_behind(&self, start: &Start, position: u64) -> Option<IndexEntry> {
        let entry_in = |entries: &[IndexEntry]| {
            let behind = entries.partition_point(|entry| u64::from(entry.position) <= position);
            entries.get(behind).copied()
        };
        match &start.segment.index {
            IndexState::Loaded(index) => entry_in(index.entries()),
            IndexState::Stored => entry_in(start.segment.load_index(&*self.disk).ok()?.index.entries()),
        }
    }
}

/// The first segment at or behind a place that has something below the checkpoint.
fn segment_at(state: &State, place: Place) -> Option<(LogId, Start)> {
    for (log, published) in state.logs.range(place.log..) {
        if published.fence.is_some() {
            continue;
        }
        let first = match *log == place.log {
            true => published.segments.partition_point(|segment| segment.base < place.base),
            false => 0,
        };
        let segment = published.segments.get(first);
        let Some(segment) = segment.filter(|segment| segment.base < published.checkpointed_end) else {
            continue;
        };
        let (position, offset) = match *log == place.log && segment.base == place.base {
            true => (place.position, place.offset),
            false => (0, segment.base),
        };
        let start = Start {
            entry: IndexEntry {
                relative_offset: u32::try_from(offset - segment.base).unwrap_or(u32::MAX),
                position: u32::try_from(position).unwrap_or(u32::MAX),
                max_timestamp_before: i64::MIN,
            },
            log_start: published.start,
            high_watermark: published.end,
            checkpointed_end: published.checkpointed_end,
            next_base: None,
            segment: segment.clone(),
        };
        return Some((*log, start));
    }
    None
}
