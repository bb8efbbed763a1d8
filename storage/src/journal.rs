//! The journal's files: written in order, pre-written with zeros, recycled.
//!
//! Frames stand on 4 KiB boundaries and do not span files. A file is `journal/<number>.journal`; numbers
//! rise. A file that a checkpoint has made superfluous waits under its old number to be renamed.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::disk::{Disk, DiskFile, Open};
use crate::frame::BLOCK_BYTES;
use crate::planted::{Planted, planted};

/// Zeros are written this far ahead, so that a commit changes no file metadata.
const PREPARE_BYTES: u64 = 8 << 20;
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
        let Some(current) = &mut self.current else {
            return Err(io::Error::other("no journal file is open"));
        };
        let end = position + frame.len() as u64;
        let mut taken_bytes = 0;
        if end > current.prepared_bytes {
            let until = (end + PREPARE_BYTES).min(self.capacity_bytes).max(end);
            taken_bytes = until - current.prepared_bytes;
            current.file.allocate(current.prepared_bytes, taken_bytes)?;
            current.prepared_bytes = until;
        }
        current.file.write_blocks_at(frame, position)?;
        self.position = end;
        Ok(taken_bytes)
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
        let prepared_bytes = file.len()?;
        files.live.insert(number);
        self.current = Some(Current {
            number,
            file,
            prepared_bytes,
        });
        self.next_number += 1;
        self.position = 0;
        self.directory_dirty = true;
        Ok(())
    }
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
