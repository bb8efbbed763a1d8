//! How a storage is opened.

use std::path::PathBuf;

/// Settings of one data directory's storage.
#[derive(Debug, Clone)]
pub struct Options {
    /// The data directory; created if it does not exist.
    pub data_dir: PathBuf,
    /// Size of a journal file. A write set must fit into one.
    pub journal_file_bytes: u64,
    /// A group takes no further write sets beyond this size; the next group begins.
    pub group_bytes: u64,
    /// What a group has for one segment goes straight there, and not through the journal, from this size on.
    pub extent_bytes: u64,
    /// A frame of this size, if it has no more than a thousand batches, is not copied together: several threads write slices of it
    /// from where its batches are, past the page cache.
    pub large_frame_bytes: u64,
    /// What is in the journal goes to its segment past the page cache from this size on, if nobody reads the segment soon: it is
    /// written then, by several threads, instead of being copied then and written by the checkpoint. With 40 and with 1,000
    /// partitions 7 % more records go through so.
    pub past_cache_bytes: u64,
    /// A log that has grown by so much since anybody read of it is read by nobody soon. A consumer that follows it lets it grow by
    /// less.
    pub unread_bytes: u64,
    /// A checkpoint begins after this much journal, extents included.
    pub checkpoint_bytes: u64,
    /// A segment that got so much since it was last synced is synced ahead of the checkpoint.
    pub sync_ahead_bytes: u64,
    /// So many files or more are not synced one by one by a checkpoint, but with the whole file system. That also writes what
    /// other programs have not synced. If it fails, which may be for a file of theirs, ours are synced one by one all the same.
    pub sync_together_files: usize,
    /// A writer idle for this long closes with an empty frame, which proves the last group.
    pub idle_close_ms: u64,
    /// A checkpoint is also taken when nothing was written for this long.
    pub idle_checkpoint_ms: u64,
    /// How often retention looks for segments to delete.
    pub retention_interval_ms: u64,
    /// Seed for salts and ids; none takes it from the system. A seed makes a run repeatable.
    pub seed: Option<u64>,
}

impl Options {
    /// The defaults for a data directory.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            journal_file_bytes: 128 << 20,
            group_bytes: 16 << 20,
            extent_bytes: 256 << 10,
            large_frame_bytes: 512 << 10,
            past_cache_bytes: 64 << 10,
            unread_bytes: 32 << 20,
            checkpoint_bytes: 256 << 20,
            sync_ahead_bytes: 1 << 20,
            sync_together_files: 100,
            idle_close_ms: 50,
            idle_checkpoint_ms: 2_000,
            retention_interval_ms: 30_000,
            seed: None,
        }
    }
}
