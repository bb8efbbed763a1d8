//! Writes past the page cache (`O_DIRECT`), of what may be written at once and is read by nobody soon. A small write and its sync
//! take a tenth less time so, and two thirds of the CPU time; a large one takes half of the CPU time.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use parking_lot::Mutex;
use rustix::fs::OFlags;

/// Position, length and memory must be multiples of the device's block size, which is this or less.
pub(super) const BLOCK_BYTES: usize = 4096;
/// Frames begin at multiples of the one, and are written in multiples of the other.
const _: () = assert!(crate::frame::BLOCK_BYTES == BLOCK_BYTES as u64);
/// What is written at a time.
const ROOM_BYTES: usize = 1 << 20;

/// Opens an existing file for such writes. None if its file system has none.
pub(super) fn open(path: &Path) -> io::Result<Option<File>> {
    let mut options = OpenOptions::new();
    options.write(true).custom_flags(OFlags::DIRECT.bits() as i32);
    match options.open(path) {
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(None),
        opened => opened.map(Some),
    }
}

/// Writes the pieces one behind the other, and zeros behind them up to the end of the last block. False if the file system wants
/// larger blocks than ours, which it says before it writes anything.
pub(super) fn write_blocks_at(file: &File, pieces: &[&[u8]], mut pos: u64) -> io::Result<bool> {
    let mut left = pieces.iter().map(|piece| piece.len()).sum::<usize>();
    let mut source = Pieces {
        piece: &[],
        others: pieces.iter(),
    };
    with_room(|room| {
        let mut is_first = true;
        while left > 0 {
            let more = left.min(ROOM_BYTES);
            let blocks = room.get_mut(..more.next_multiple_of(BLOCK_BYTES)).unwrap_or_default();
            let (front, behind) = blocks.split_at_mut(more);
            source.read_exact(front)?;
            behind.fill(0);
            match file.write_all_at(blocks, pos) {
                Err(error) if is_first && error.kind() == io::ErrorKind::InvalidInput => return Ok(false),
                written => written?,
            }
            is_first = false;
            left -= more;
            pos = pos.saturating_add(more as u64);
        }
        Ok(true)
    })
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
