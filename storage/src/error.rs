//! What can go wrong, told so that the reader knows what, where, and what to do.

use std::io;
use std::path::PathBuf;

use crate::LogId;

/// Why a write set was refused. Nothing of a refused write set is kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// The log does not exist, or its topic was deleted.
    #[error("log {0} does not exist (its topic may have been deleted)")]
    UnknownLog(LogId),
    /// No topic of that id.
    #[error("the topic does not exist")]
    UnknownTopic,
    /// A topic of that name exists.
    #[error("topic {0:?} exists already")]
    TopicExists(String),
    /// A topic has a setting that storage cannot obey.
    #[error("invalid configuration: {0}")]
    InvalidConfig(String),
    /// The log is fenced because damage was found in it.
    #[error("log {log} is fenced: {reason}")]
    Fenced {
        /// The fenced log.
        log: LogId,
        /// What was found, where.
        reason: String,
    },
    /// The producer's epoch is older than the one that the log knows.
    #[error("producer epoch {got} is older than {current}")]
    InvalidProducerEpoch {
        /// The epoch that the log knows.
        current: i16,
        /// The epoch of the refused batch.
        got: i16,
    },
    /// The batch's first sequence number does not follow the producer's last one.
    #[error("out of order sequence number {got}, expected {expected}")]
    OutOfOrderSequence {
        /// The sequence that would have been accepted.
        expected: i32,
        /// The one that came.
        got: i32,
    },
    /// The named epoch has moved on: the writer is a zombie.
    #[error("epoch {got} of {name:?} is not current ({current}): another instance has taken over")]
    StaleEpoch {
        /// The name of the epoch, such as `job/hourly`.
        name: String,
        /// The current value.
        current: u64,
        /// The value that the writer believed in.
        got: u64,
    },
    /// The offset is outside of the log.
    #[error("offset {offset} is outside of log {log}, which holds {start} to {end}")]
    OffsetOutOfRange {
        /// The log.
        log: LogId,
        /// The offset asked for.
        offset: i64,
        /// The log's first offset.
        start: i64,
        /// One behind the log's last offset.
        end: i64,
    },
    /// A topic's partition count can only grow, to at most [`crate::MAX_PARTITIONS`].
    #[error("invalid number of partitions {asked}: the topic has {current}, the most is {max}")]
    InvalidPartitions {
        /// The count asked for.
        asked: u32,
        /// The present count.
        current: u32,
        /// The largest count.
        max: u32,
    },
    /// The write set is larger than one journal frame may be.
    #[error("the write set has {size_bytes} bytes, more than {max_bytes}")]
    TooLarge {
        /// Its size.
        size_bytes: u64,
        /// The limit.
        max_bytes: u64,
    },
    /// The disk is nearly full. Reads go on; writes resume when there is space.
    #[error("no space: {free_bytes} bytes free, {needed_bytes} needed before another record is accepted")]
    NoSpace {
        /// Free on the file system.
        free_bytes: u64,
        /// What must stay free.
        needed_bytes: u64,
    },
    /// A write or sync failed earlier. Only a restart, which recovers, clears this.
    #[error("storage is fenced after a failed write ({0}); restart to recover")]
    Poisoned(String),
    /// The storage is closing.
    #[error("storage is closed")]
    Closed,
}

/// Why records could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The log does not exist.
    #[error("log {0} does not exist")]
    UnknownLog(LogId),
    /// The offset is outside of what the log holds.
    #[error("offset {offset} is out of range, the log holds {start} to {end}")]
    OffsetOutOfRange {
        /// The offset asked for.
        offset: i64,
        /// The first offset.
        start: i64,
        /// The high watermark.
        end: i64,
    },
    /// The log is fenced because damage was found in it.
    #[error("log {log} is fenced: {reason}")]
    Fenced {
        /// The log.
        log: LogId,
        /// What was found, where.
        reason: String,
    },
    /// A batch does not check. Never served; other ranges are.
    #[error("damaged batch at offset {offset} of log {log}, {} position {position}: {reason}", file.display())]
    Damaged {
        /// The log.
        log: LogId,
        /// The offset that was to be there.
        offset: i64,
        /// The segment file.
        file: PathBuf,
        /// Where in the file.
        position: u64,
        /// What does not check.
        reason: String,
        /// True above the last checkpoint: the journal has the good copy, and a restart restores it.
        retriable: bool,
    },
    /// The file could not be read.
    #[error("cannot read {}: {source}", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

impl ReadError {
    /// True if the read would have gone further than it was to: see [`crate::Reach`].
    pub fn is_not_cached(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::WouldBlock)
    }
}

/// Why a data directory could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has the directory.
    #[error("data directory {} is in use by another process; stop it, or choose another --data-dir", .0.display())]
    InUse(PathBuf),
    /// The directory holds something that is not ours.
    #[error("{} is not a Riverlog data directory: it holds {found:?} and no manifest; choose an empty directory", dir.display())]
    Foreign {
        /// The directory.
        dir: PathBuf,
        /// One of the files found.
        found: String,
    },
    /// A restore into the directory did not come to its end.
    #[error("{} is what an interrupted restore has left, or one that still runs; if none does, remove it, and restore again", .0.display())]
    Restoring(PathBuf),
    /// There is nothing to look into.
    #[error("{} is no data directory: {found}; give that of a server, stopped, with --data-dir", dir.display())]
    NoData {
        /// The directory.
        dir: PathBuf,
        /// What is there instead.
        found: String,
    },
    /// The manifest is there but cannot be believed.
    #[error("the manifest in {} does not check ({reason}); refusing to guess: restore it from a backup", dir.display())]
    BadManifest {
        /// The directory.
        dir: PathBuf,
        /// What is wrong with both copies.
        reason: String,
    },
    /// The directory was written by a newer program.
    #[error("{} has format version {found}, this program knows {known}; use a newer riverlog", dir.display())]
    NewerFormat {
        /// The directory.
        dir: PathBuf,
        /// Its version.
        found: u8,
        /// Ours.
        known: u8,
    },
    /// Durable bytes of the journal are damaged in a way that cannot be confined to some logs.
    #[error("the journal is damaged: frame {lsn} at {} position {position} {reason}; refusing to start", file.display())]
    JournalDamaged {
        /// The frame that was lost.
        lsn: u64,
        /// The file.
        file: PathBuf,
        /// Where.
        position: u64,
        /// Why it cannot be confined.
        reason: String,
    },
    /// Catalog records of the journal cannot be understood.
    #[error("the catalog cannot be recovered: {0}")]
    Catalog(String),
    /// The system refused something.
    #[error("{what} {}: {source}", path.display())]
    Io {
        /// What was being done.
        what: &'static str,
        /// To which file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

/// Why no backup was begun.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// Only one at a time: each keeps files from being removed.
    #[error("another backup is being taken; try again when it has ended")]
    Running,
    /// A write or sync failed earlier: what is on the disk is not what was acknowledged.
    #[error("storage is fenced after a failed write ({0}); restart to recover, then take the backup")]
    Poisoned(String),
    /// The storage is closed.
    #[error("storage is closed")]
    Closed,
    /// What the backup would begin with cannot be read.
    #[error(transparent)]
    Unreadable(#[from] OpenError),
}

/// Why a backup was not restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// There is something in the directory.
    #[error("{} holds {found:?}; restore into an empty directory, or one that does not exist yet", dir.display())]
    NotEmpty {
        /// The directory.
        dir: PathBuf,
        /// One of the files found.
        found: String,
    },
    /// It is a data directory.
    #[error(
        "{} is a data directory already, whose server may be running, and a restore replaces nothing; restore into an empty \
         directory, or one that does not exist yet",
        .0.display()
    )]
    DataDirectory(PathBuf),
    /// No data directory has such a file.
    #[error("{0:?} is no file of a data directory")]
    BadName(String),
    /// The manifest is damaged or of another version.
    #[error("the manifest of the backup does not check ({0})")]
    BadManifest(String),
    /// A file could not be written.
    #[error(transparent)]
    Write(#[from] OpenError),
}

impl OpenError {
    pub(crate) fn io(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { what, path, source }
    }
}
