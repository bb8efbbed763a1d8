//! Writes past the page cache (`O_DIRECT`), of what may be written at once and is read by nobody soon. A small write and its sync
//! take a tenth less time so, and two thirds of the CPU time; a large one takes half of the CPU time.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};

use parking_lot::Mutex;
use rustix::fs::OFlags;
use rustix::param::page_size;

/// Position, length and memory must be multiples of the device's block size, which is this or less.
const BLOCK_BYTES: usize = 4096;
/// What is written at a time.
const ROOM_BYTES: usize = 1 << 20;

/// Another description of a file, for writes of whole blocks.
pub(super) struct DirectFile(File);

impl DirectFile {
    /// None if the file system has no such writes, or the system does not show open files by number.
    pub fn of(file: &File) -> Option<Self> {
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let mut options = OpenOptions::new();
        options.write(true).custom_flags(OFlags::DIRECT.bits() as i32);
        options.open(path).ok().map(Self)
    }

    /// Writes so many bytes of `source`, and zeros behind them up to the end of the last block. False if the file system has no
    /// such writes, or wants larger blocks than ours, which it says before it writes anything.
    pub fn write_at(&self, source: &mut impl Read, len: usize, pos: u64) -> io::Result<bool> {
        with_room(|room| {
            let mut done = 0;
            while done < len {
                let more = (len - done).min(ROOM_BYTES);
                let blocks = room.get_mut(..more.next_multiple_of(BLOCK_BYTES)).unwrap_or_default();
                let (front, behind) = blocks.split_at_mut(more);
                source.read_exact(front)?;
                behind.fill(0);
                match self.0.write_all_at(blocks, pos.saturating_add(done as u64)) {
                    Err(error) if done == 0 && error.kind() == io::ErrorKind::InvalidInput => return Ok(false),
                    written => written?,
                }
                done += more;
            }
            Ok(true)
        })
    }
}

/// Lends memory where a block begins, [`ROOM_BYTES`] of it: bytes are copied there, because theirs may begin anywhere.
fn with_room<T>(write: impl FnOnce(&mut [u8]) -> T) -> T {
    /// As many as were lent at a time.
    static FREE: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());
    let free = FREE.lock().pop();
    let mut memory = free.unwrap_or_else(|| vec![0; ROOM_BYTES + BLOCK_BYTES]);
    let start = memory.as_ptr().align_offset(BLOCK_BYTES);
    let outcome = write(memory.get_mut(start..).unwrap_or_default());
    FREE.lock().push(memory);
    outcome
}

/// Writes the pieces one behind the other: whole pages past the page cache; through it what comes before them, at least
/// `cached_bytes`, and what comes behind. Pages, so that none has both: a reader of one might keep the other as it was. False if
/// this cannot be done here; no more than what comes before them is written then.
///
/// It opens a description of its own, for a few microseconds: to keep one for each segment would leave files for fewer partitions.
pub(super) fn write_run_at(file: &File, pieces: &[&[u8]], pos: u64, cached_bytes: u64) -> io::Result<bool> {
    let page = page_size().max(BLOCK_BYTES) as u64;
    let len = pieces.iter().map(|piece| piece.len() as u64).sum();
    let end = pos.saturating_add(len);
    let from = pos.saturating_add(cached_bytes).next_multiple_of(page);
    let to = end - end % page;
    if from >= to {
        return Ok(false);
    }
    let Some(direct) = DirectFile::of(file) else {
        return Ok(false);
    };
    let mut source = Pieces {
        piece: &[],
        others: pieces.iter(),
    };
    let through_cache = |source: &mut Pieces<'_>, len: u64, pos: u64| {
        let mut edge = vec![0; len as usize];
        source.read_exact(&mut edge)?;
        file.write_all_at(&edge, pos)
    };
    // In order: a reader must not find a hole, and keep it in the page cache.
    through_cache(&mut source, from - pos, pos)?;
    if !direct.write_at(&mut source, (to - from) as usize, from)? {
        return Ok(false);
    }
    through_cache(&mut source, end - to, to)?;
    Ok(true)
}

/// The bytes of pieces, one behind the other.
struct Pieces<'a> {
    piece: &'a [u8],
    others: std::slice::Iter<'a, &'a [u8]>,
}

impl Read for Pieces<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            let Some(next) = self.others.next() else { return Ok(0) };
            self.piece = next;
        }
        self.piece.read(into)
    }
}
