//! How a run comes to stand at the end of its segment's file: through the page cache, or in whole pages past it.
//!
//! Past it go the bytes that the first page has before the run, the run, and zeros up to the end of the last page. So what stands
//! in a page before the end is remembered from one such run to the next. Otherwise each run would leave a part of a page behind
//! in the page cache, with a write, and often a place on the disk, of its own: with 1,000 partitions this took a fifth of what
//! storage and the file system's threads took.
//!
//! Invariant: behind the end of what was written to a segment there are zeros, and not beyond the page that the end is in. (Until
//! a start cuts them, there may be more of what was never acknowledged.)

use std::io;

use crate::disk::DiskFile;
use crate::planted::{Planted, planted};
use crate::segment::{Handles, SegmentFile};

/// What a segment's last page has before its end, if it was written past the page cache. To write the rest of it through the page
/// cache, the system would have to read it first.
#[derive(Debug)]
pub(crate) struct Tail {
    /// Where the segment ends.
    end: u64,
    bytes: Vec<u8>,
}

/// Where a run goes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Way {
    ThroughCache,
    /// For what nobody reads soon, nor writes again but for its first so many bytes. Where a file system has no such way, the
    /// other one is taken.
    PastCache {
        but_bytes: u64,
    },
}

impl SegmentFile {
    /// Writes the pieces one behind the other at `position`, where the segment ends. Tells how much of it a sync has to write still.
    pub fn append(&self, handles: &Handles, pieces: &[&[u8]], position: u64, way: Way) -> io::Result<u64> {
        let page_bytes = handles.writer.page_bytes();
        let mut slot = self.tail.lock();
        let before = slot.take().filter(|tail| tail.end == position);
        let mut before = before.map(|tail| tail.bytes).unwrap_or_default();
        if planted(Planted::ForgetTail) {
            before.fill(0);
        }
        let begin = position - before.len() as u64;
        let all: Vec<&[u8]> = [&before[..]].into_iter().chain(pieces.iter().copied()).collect();
        let len: u64 = all.iter().map(|piece| piece.len() as u64).sum();
        let end = begin + len;
        let past_from = match way {
            Way::ThroughCache => end,
            Way::PastCache { but_bytes: 0 } => begin.next_multiple_of(page_bytes),
            Way::PastCache { but_bytes } => (position + but_bytes).next_multiple_of(page_bytes),
        };
        let has_whole_page = past_from.saturating_add(page_bytes) <= end;
        let (cached, past) = split(&all, if has_whole_page { past_from - begin } else { len });
        // In this order: a reader must not find a hole.
        if has_whole_page {
            handles.writer.write_pieces_at(&cached, begin)?;
            if handles.syncer.write_blocks_at(&past, past_from)? {
                let bytes = last_bytes(&past, end % page_bytes);
                *slot = (!bytes.is_empty()).then_some(Tail { end, bytes });
                return Ok(past_from - begin);
            }
            handles.writer.write_pieces_at(&past, past_from)?;
        } else if before.is_empty() {
            handles.writer.write_pieces_at(&cached, begin)?;
        } else {
            let zeros = vec![0; (end.next_multiple_of(page_bytes) - end) as usize];
            handles
                .writer
                .write_pieces_at(&[&cached[..], &[&zeros]].concat(), begin)?;
        }
        Ok(len)
    }
}

/// The first so many bytes, and the others.
fn split<'a>(pieces: &[&'a [u8]], mut len: u64) -> (Vec<&'a [u8]>, Vec<&'a [u8]>) {
    let cut = |piece: &&'a [u8]| {
        let front = piece.len().min(usize::try_from(len).unwrap_or(usize::MAX));
        len -= front as u64;
        piece.split_at(front)
    };
    let (mut front, mut others): (Vec<_>, Vec<_>) = pieces.iter().map(cut).unzip();
    front.retain(|piece| !piece.is_empty());
    others.retain(|piece| !piece.is_empty());
    (front, others)
}

/// The last so many bytes.
fn last_bytes(pieces: &[&[u8]], len: u64) -> Vec<u8> {
    let all: u64 = pieces.iter().map(|piece| piece.len() as u64).sum();
    split(pieces, all.saturating_sub(len)).1.concat()
}

/// A page of whichever machine a file comes from is no larger.
pub(crate) const LARGEST_PAGE_BYTES: u64 = 64 << 10;

/// Whether a file has nothing from a position on but zeros, and those up to the end of the page at most.
pub(crate) fn is_padding(file: &dyn DiskFile, position: u64, page_bytes: u64) -> io::Result<bool> {
    let len = file.len()?;
    if len > position.next_multiple_of(page_bytes) {
        return Ok(false);
    }
    let mut bytes = vec![0; len.saturating_sub(position) as usize];
    let read = file.read_at(&mut bytes, position)?;
    Ok(bytes.iter().take(read).all(|byte| *byte == 0))
}

#[cfg(test)]
#[path = "append_tests.rs"]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests;
