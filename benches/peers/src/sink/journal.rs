//! The file of the broker that syncs: written from end to end before, and then again and again, past the page cache.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, ensure};
use rustix::fs::{Mode, OFlags};

const FILE_BYTES: usize = 256 * 1024 * 1024;

/// What writes past the page cache have to begin and end with: a multiple of this, in memory and in the file.
const PAGE_BYTES: usize = 4096;

#[derive(Debug)]
pub struct Journal {
    file: File,
    position: usize,
    /// What is not written yet begins at `begin`, where a page begins.
    buffer: Vec<u8>,
    begin: usize,
}

impl Journal {
    /// # Errors
    /// If the file cannot be written.
    pub fn create(path: &Path) -> anyhow::Result<Self> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::DIRECT | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR)?);
        let mut journal = Self {
            file,
            position: 0,
            buffer: Vec::new(),
            begin: 0,
        };
        let piece = [0; 1024 * 1024];
        for _ in 0..FILE_BYTES / piece.len() {
            journal.append(&piece);
            journal.sync()?;
        }
        journal.file.sync_all()?;
        Ok(journal)
    }

    pub fn append(&mut self, bytes: &[u8]) {
        // Where a page begins changes when the buffer is moved.
        if self.buffer.capacity() - self.buffer.len() < bytes.len() + PAGE_BYTES {
            let mut larger: Vec<u8> = Vec::with_capacity(2 * (self.buffer.len() + bytes.len()) + 4 * PAGE_BYTES);
            let begin = larger.as_ptr().align_offset(PAGE_BYTES);
            larger.resize(begin, 0);
            larger.extend_from_slice(self.buffer.get(self.begin..).unwrap_or_default());
            (self.buffer, self.begin) = (larger, begin);
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// Writes and syncs what was appended, if anything was.
    ///
    /// # Errors
    /// If the file system refuses, or more was appended than fits.
    pub fn sync(&mut self) -> anyhow::Result<()> {
        let bytes = (self.buffer.len() - self.begin).next_multiple_of(PAGE_BYTES);
        if bytes == 0 {
            return Ok(());
        }
        ensure!(bytes <= FILE_BYTES, "a group of {bytes} bytes");
        // `append` has left room for it.
        self.buffer.resize(self.begin + bytes, 0);
        if self.position + bytes > FILE_BYTES {
            self.position = 0;
        }
        let group = self.buffer.get(self.begin..).unwrap_or_default();
        self.file
            .write_all_at(group, self.position as u64)
            .context("cannot append")?;
        self.file.sync_data().context("cannot sync")?;
        self.position += bytes;
        self.buffer.truncate(self.begin);
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    #[test]
    fn groups_follow_one_another_in_pages() {
        let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let path = dir.path().join("journal");
        let mut journal = Journal::create(&path).unwrap();
        for group in [&[&[1; 5000][..], &[2; 5000]][..], &[&[3; 10]], &[]] {
            group.iter().for_each(|bytes| journal.append(bytes));
            journal.sync().unwrap();
        }
        let file = File::open(&path).unwrap();
        assert_eq!(file.metadata().unwrap().len(), FILE_BYTES as u64);
        let mut written = vec![0; 5 * PAGE_BYTES];
        file.read_exact_at(&mut written, 0).unwrap();
        assert_eq!(written[4999..5001], [1, 2]);
        assert_eq!(written[9999..10_001], [2, 0]);
        assert_eq!(
            written[3 * PAGE_BYTES..3 * PAGE_BYTES + 11],
            [3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 0]
        );
    }
}
