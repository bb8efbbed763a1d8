//! The journal's files: written in order, pre-written with zeros, recycled.
//!
//! Frames stand on 4 KiB boundaries and do not span files. A file is `journal/<number>.journal`; numbers
//! rise. A file that a checkpoint has made superfluous waits under its old number to be renamed.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use crate::disk::{Disk, DiskFile, Job, Open};
use crate::frame::BLOCK_BYTES;
use crate::planted::{Planted, planted};

/// Zeros are written this far ahead, so that a commit changes no file metadata.
const PREPARE_BYTES: u64 = 8 << 20;
/// Larger frames, up to those of [`Journal::write_large`], go through the page cache: no gain was found in another way for them.
const MOST_DIRECT_BYTES: usize = 64 * 1024;
/// A large frame is written in so many slices, if they are not too small: one for each thread of `disk/workers.rs` and one for
/// the caller.
const SLICES: u64 = 5;
/// Superfluous files beyond this are removed.
const MAX_SPARE_FILES: usize = 3;

/// Which journal files exist. Shared by the committer, which adds, and the checkpoint, which retires.
#[derive(Debug, Default)]
pub(crate) struct JournalFiles {
    live: BTreeSet<u64>,
    spare: VecDeque<u64>,
}

/// The name of a journal file.
pub(crate) fn file_name(number: u64) -> String {
    format!("{number:010}.journal")
}

/// The number in a journal file's name.
pub(crate) fn number_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".journal")?;
    if digits.len() < 10 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok()
}

struct Current {
    number: u64,
    file: Arc<dyn DiskFile>,
    /// Of the same file, for frames that go past the page cache.
    blocks: Arc<dyn DiskFile>,
    prepared_bytes: u64,
}

/// The writing end of the journal.
pub(crate) struct Journal {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    capacity_bytes: u64,
    files: Arc<Mutex<JournalFiles>>,
    current: Option<Current>,
    next_number: u64,
    position: u64,
    directory_dirty: bool,
}

impl Journal {
    /// A journal whose first frame will begin the file `next_number`.
    pub fn new(disk: Arc<dyn Disk>, dir: PathBuf, capacity_bytes: u64, next_number: u64) -> Self {
        Self {
            disk,
            dir,
            capacity_bytes,
            files: Arc::default(),
            current: None,
            next_number,
            position: 0,
            directory_dirty: false,
        }
    }

    pub fn files(&self) -> Arc<Mutex<JournalFiles>> {
        self.files.clone()
    }

    /// Files of earlier incarnations, to be recycled: no manifest refers to them any more.
    pub fn adopt(&self, numbers: Vec<u64>) -> io::Result<()> {
        self.files.lock().live.extend(numbers);
        retire(&*self.disk, &self.dir, &self.files, self.next_number)
    }

    /// Where a frame of `len` bytes will stand.
    pub fn reserve(&mut self, len: u64) -> io::Result<(u64, u64)> {
        let position = self.position.next_multiple_of(BLOCK_BYTES);
        match &self.current {
            Some(current) if position + len <= self.capacity_bytes => Ok((current.number, position)),
            _ => {
                self.next_file()?;
                Ok((self.next_number - 1, 0))
            }
        }
    }

    /// Writes a frame at the place that was reserved for it. Tells how many bytes of the disk it took that were free.
    pub fn write(&mut self, frame: &[u8], position: u64) -> io::Result<u64> {
        let (current, taken_bytes) = self.prepare(position + frame.len() as u64)?;
        if frame.len() > MOST_DIRECT_BYTES || !current.blocks.write_blocks_at(&[frame], position)? {
            current.file.write_at(frame, position)?;
        }
        Ok(taken_bytes)
    }

    /// The same of a large frame in pieces. Several threads write a slice each, of at least so many bytes.
    pub fn write_large(&mut self, pieces: &[Bytes], position: u64, least_slice_bytes: u64) -> io::Result<u64> {
        let len = pieces.iter().map(|piece| piece.len() as u64).sum::<u64>();
        let disk = Arc::clone(&self.disk);
        let (current, taken_bytes) = self.prepare(position + len)?;
        let slice_bytes = len
            .div_ceil(SLICES)
            .max(least_slice_bytes)
            .next_multiple_of(BLOCK_BYTES);
        let write = |(number, slice): (u64, Vec<Bytes>)| -> Job<'static> {
            let (file, blocks) = (Arc::clone(&current.file), Arc::clone(&current.blocks));
            let position = position + number * slice_bytes;
            Box::new(move || {
                if planted(Planted::SliceUnwritten) {
                    return Ok(());
                }
                let pieces: Vec<&[u8]> = slice.iter().map(|piece| &piece[..]).collect();
                match blocks.write_blocks_at(&pieces, position)? {
                    true => Ok(()),
                    false => file.write_pieces_at(&pieces, position),
                }
            })
        };
        disk.run_many((0..).zip(slices(pieces, slice_bytes)).map(write).collect())?;
        Ok(taken_bytes)
    }

    /// Sees to it that the current file is pre-written up to where a frame will end.
    fn prepare(&mut self, end: u64) -> io::Result<(&Current, u64)> {
        let Some(current) = &mut self.current else {
            return Err(io::Error::other("no journal file is open"));
        };
        let mut taken_bytes = 0;
        if end > current.prepared_bytes {
            // Whole blocks: what is pre-written next must not touch one that has a frame.
            let until = (end + PREPARE_BYTES).min(self.capacity_bytes).max(end);
            let until = until.next_multiple_of(BLOCK_BYTES);
            taken_bytes = until - current.prepared_bytes;
            current.file.allocate(current.prepared_bytes, taken_bytes)?;
            current.prepared_bytes = until;
        }
        self.position = end;
        Ok((current, taken_bytes))
    }

    /// Makes everything that was written durable, the file's name included.
    pub fn sync(&mut self) -> io::Result<()> {
        if let Some(current) = &self.current
            && !planted(Planted::SkipSync)
        {
            match current.file.sync_data() {
                Err(_) if planted(Planted::RetrySync) => current.file.sync_data()?,
                synced => synced?,
            }
        }
        if self.directory_dirty && !planted(Planted::SkipJournalDirectorySync) {
            self.disk.sync_dir(&self.dir)?;
            self.directory_dirty = false;
        }
        Ok(())
    }

    /// Where the next frame will stand, unless it does not fit there.
    pub fn end(&self) -> (u64, u64) {
        match &self.current {
            Some(current) => (current.number, self.position.next_multiple_of(BLOCK_BYTES)),
            None => (self.next_number, 0),
        }
    }

    fn next_file(&mut self) -> io::Result<()> {
        let number = self.next_number;
        let path = self.dir.join(file_name(number));
        let mut files = self.files.lock();
        let recycled = files.spare.pop_front();
        let mode = match recycled {
            Some(old) => {
                self.disk.rename(&self.dir.join(file_name(old)), &path)?;
                Open::ReadWrite
            }
            None => Open::CreateNew,
        };
        let file = self.disk.open(&path, mode)?;
        let blocks = self.disk.open(&path, Open::Blocks)?;
        let prepared_bytes = file.len()?;
        files.live.insert(number);
        self.current = Some(Current {
            number,
            file,
            blocks,
            prepared_bytes,
        });
        self.next_number += 1;
        self.position = 0;
        self.directory_dirty = true;
        Ok(())
    }
}

/// Divides what pieces have, one behind the other, into slices of so many bytes; the last may have fewer.
fn slices(pieces: &[Bytes], slice_bytes: u64) -> Vec<Vec<Bytes>> {
    let (mut slices, mut left) = (Vec::new(), 0);
    for piece in pieces {
        let mut rest = piece.clone();
        while !rest.is_empty() {
            if left == 0 {
                slices.push(Vec::new());
                left = slice_bytes as usize;
            }
            let more = rest.split_to(rest.len().min(left));
            left -= more.len();
            slices.last_mut().into_iter().for_each(|slice| slice.push(more.clone()));
        }
    }
    slices
}

/// Retires the files before `keep_from`: a checkpoint covers all their frames.
pub(crate) fn retire(disk: &dyn Disk, dir: &Path, files: &Mutex<JournalFiles>, keep_from: u64) -> io::Result<()> {
    let mut dead = Vec::new();
    {
        let mut files = files.lock();
        let kept = files.live.split_off(&keep_from);
        for number in std::mem::replace(&mut files.live, kept) {
            if files.spare.len() < MAX_SPARE_FILES {
                files.spare.push_back(number);
            } else {
                dead.push(number);
            }
        }
    }
    // Without the lock: freeing the space takes time, and the next journal file is begun under it.
    dead.iter()
        .try_for_each(|number| disk.remove_file(&dir.join(file_name(*number))))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use crate::disk::{RealDisk, SimulatedDisk};

    fn bytes(count: usize) -> Bytes {
        (0..count).map(|at| (at % 251) as u8 + 1).collect()
    }

    #[test]
    fn slices_have_all_bytes_in_order_and_as_many_as_they_may() {
        for sizes in [
            &[8, 8][..],
            &[7, 2, 0, 1],
            &[1, 31],
            &[3, 0, 8, 8, 8, 1],
            &[40],
            &[0],
            &[],
        ] {
            let pieces: Vec<Bytes> = sizes.iter().map(|size| bytes(*size)).collect();
            let slices = slices(&pieces, 8);
            let slices: Vec<Vec<u8>> = slices.iter().map(|slice| slice.concat()).collect();
            assert_eq!(slices.concat(), pieces.concat(), "{sizes:?}");
            assert_eq!(slices.len(), slices.concat().len().div_ceil(8), "{sizes:?}");
            assert!(slices.iter().rev().skip(1).all(|slice| slice.len() == 8), "{sizes:?}");
        }
    }

    #[test]
    fn large_frames_stand_where_small_ones_would() {
        let dir = tempfile::tempdir().unwrap();
        let simulated = SimulatedDisk::new(3);
        simulated.create_dir(Path::new("/j")).unwrap();
        let disks: [(Arc<dyn Disk>, &Path); 2] =
            [(Arc::new(RealDisk), dir.path()), (Arc::new(simulated), Path::new("/j"))];
        for (disk, dir) in disks {
            let mut journal = Journal::new(disk.clone(), dir.to_owned(), 8 << 20, 1);
            let mut frames = Vec::new();
            for size in [1, 4096, 20_479, 20_480, 20_481, 300_001, 2_000_000] {
                let frame = bytes(size);
                let pieces: Vec<Bytes> = frame.chunks(70_001).map(Bytes::copy_from_slice).collect();
                for is_large in [true, false] {
                    let (_, position) = journal.reserve(size as u64).unwrap();
                    match is_large {
                        true => journal.write_large(&pieces, position, 4096).unwrap(),
                        false => journal.write(&frame, position).unwrap(),
                    };
                    journal.sync().unwrap();
                    frames.push((position, frame.clone()));
                }
            }
            let file = disk.open(&dir.join(file_name(1)), Open::Read).unwrap();
            for (position, frame) in &frames {
                let mut there = vec![0; frame.len()];
                assert_eq!(file.read_at(&mut there, *position).unwrap(), frame.len());
                assert!(there == *frame, "{} bytes at {position}", frame.len());
            }
        }
    }
}
