//! What a caller asks to be written, and what it is told afterwards.

use std::collections::BTreeMap;
use std::sync::Arc;

use uuid::Uuid;

use crate::batch::CheckedBatches;
use crate::catalog::Topic;
use crate::{LogId, Lsn};

/// Record batches and catalog changes that are written all or not at all.
#[derive(Debug, Clone, Default)]
pub struct WriteSet {
    /// Batches to append, in order.
    pub appends: Vec<Append>,
    /// Changes of the catalog and of log starts, applied after the appends.
    pub changes: Vec<Change>,
    /// Named epochs that must be current, or the write set is refused.
    pub epochs: Vec<EpochCheck>,
}

/// Batches for one log.
#[derive(Debug, Clone)]
pub struct Append {
    /// The log.
    pub log: LogId,
    /// Checked batches; they get their offsets here.
    pub batches: CheckedBatches,
    /// Stamp the records with the time of sequencing (`message.timestamp.type=LogAppendTime`).
    pub log_append_time: bool,
}

/// The writer believes that it holds `epoch` of `name`; a zombie finds that it does not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EpochCheck {
    /// The name, such as `job/hourly`.
    pub name: String,
    /// The value that must be current.
    pub epoch: u64,
}

/// A change of the catalog or of a log's start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Creates a topic; [`Receipt::created`] has it.
    CreateTopic {
        /// Its name. Storage does not judge names; directories carry log ids.
        name: String,
        /// Number of partitions, at least 1.
        partitions: u32,
        /// Explicit settings.
        configs: BTreeMap<String, String>,
    },
    /// Deletes a topic and, after the next checkpoint, its files.
    DeleteTopic {
        /// The topic.
        id: Uuid,
    },
    /// Grows a topic.
    AddPartitions {
        /// The topic.
        id: Uuid,
        /// The new number of partitions.
        total: u32,
    },
    /// Replaces all explicit settings of a topic.
    SetConfigs {
        /// The topic.
        id: Uuid,
        /// The settings.
        configs: BTreeMap<String, String>,
    },
    /// Moves a log's start forward. Moving it back changes nothing.
    MoveLogStart {
        /// The log.
        log: LogId,
        /// The new first offset, at most the log's end.
        offset: i64,
    },
    /// Moves a log's start to the first batch that this very write set appends to it: how an
    /// internal log is replaced by a snapshot of itself.
    MoveLogStartToAppend {
        /// The log.
        log: LogId,
    },
    /// Raises a named epoch. Refused unless the value is higher than the current one.
    SetEpoch {
        /// The name.
        name: String,
        /// The value.
        epoch: u64,
    },
    /// Forgets a named epoch.
    RemoveEpoch {
        /// The name.
        name: String,
    },
    /// Takes `count` producer ids; [`Receipt::first_producer_id`] has the first.
    AllocateProducerIds {
        /// How many.
        count: u32,
    },
}

/// What was written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Receipt {
    /// The journal frame.
    pub lsn: Lsn,
    /// One entry for each append, in order.
    pub appends: Vec<Appended>,
    /// The first of the allocated producer ids.
    pub first_producer_id: Option<i64>,
    /// The created or grown topic.
    pub created: Option<Arc<Topic>>,
}

/// Where the batches of an append stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// The log.
    pub log: LogId,
    /// Offset of the first record.
    pub first_offset: i64,
    /// Offset of the last record.
    pub last_offset: i64,
    /// The time that was stamped on the records, in milliseconds since 1970, if it was.
    pub log_append_time_ms: Option<i64>,
    /// The log's first offset at the time.
    pub log_start: i64,
    /// The batch had been written before; the offsets are those of the original.
    pub duplicate: bool,
}

/// The published ends of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogEnds {
    /// The first offset that can be read.
    pub start: i64,
    /// One behind the last published record.
    pub high_watermark: i64,
    /// The leader epoch in which the next record will be written.
    pub leader_epoch: i32,
    /// Bytes in segment files.
    pub size_bytes: u64,
}
