//! Riverlog's durable storage: synchronous, no network, no configuration files.
//!
//! The way of a write set, and the code map:
//! - [`write_set`]: what is asked for. [`batch`], [`record`], [`compression`]: Kafka's record format.
//! - `sequencer`: the one place that checks and assigns offsets; `producers`: idempotence.
//! - `committer`: group → `journal` ([`frame`] is its format), or straight to segments (`extent`) → sync → segments → published → answered.
//! - `state`: what is published; `read`: how it is read; `segment`, `index`: the files.
//! - [`buffers`]: memory to read into.
//! - `scrub`: reads everything in the background; `damage`: what it and readers have found.
//! - `checkpoint`, `sync_ahead`, `manifest`: how the journal gets shorter; `retention`: how logs do.
//! - `recovery`: the only way to start.
//! - `backup`: a copy that is taken while everything goes on; `restore`: a directory made of one; `stream`: its segments checked.
//! - [`engine`]: all of it as steps; [`Storage`]: the steps driven by threads on a real disk; `turn`: when a group waits for more;
//!   [`time_slice`]: how soon a thread that was woken runs.
//! - [`inspect`]: a directory that nobody has open, checked, shown and mended.
//! - [`disk`], [`clock`]: the outside world, real and simulated.
//!
//! The contract is `docs/storage.md`; the bytes are in `docs/formats.md`.

mod append;
mod apply;
mod backup;
pub mod batch;
pub mod buffers;
pub mod catalog;
mod checkpoint;
pub mod clock;
mod codec;
mod committer;
pub mod compression;
mod config;
mod damage;
pub mod disk;
pub mod engine;
mod error;
mod extent;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod fixture_tests;
pub mod frame;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
#[allow(clippy::indexing_slicing)]
pub mod fuzzing;
mod index;
pub mod inspect;
mod journal;
mod manifest;
mod options;
#[cfg(feature = "planted")]
pub mod planted;
#[cfg(not(feature = "planted"))]
mod planted;
mod producer_snapshot;
mod producers;
mod read;
pub mod record;
mod recovery;
mod restore;
mod retention;
mod scrub;
mod segment;
mod sequencer;
mod shared;
#[cfg(any(test, feature = "simulation"))]
pub mod simulation;
mod state;
mod stats;
mod storage;
mod stream;
mod sync_ahead;
pub mod time_slice;
mod turn;
pub mod write_set;

pub use backup::{Backup, BackupFile};
pub use catalog::{CONTROL_TOPIC, Catalog, Topic};
pub use committer::Step;
pub use config::LogConfig;
pub use damage::Damage;
pub use engine::Health;
pub use error::{BackupError, OpenError, ReadError, RestoreError, WriteError};
pub use manifest::Fence;
pub use options::Options;
pub use read::{Fetched, Reach};
pub use restore::{Restore, RestoredFile, check_manifest, is_restorable};
pub use shared::Published;
pub use stats::{SYNC_BUCKETS_US, Stats};
pub use storage::Storage;
pub use stream::{BadBatch, check_segment};
pub use turn::Turn;
pub use uuid::Uuid;
pub use write_set::{Append, Appended, Change, EpochCheck, LogEnds, Receipt, WriteSet};

/// One partition of one incarnation of a topic. From a counter in the catalog: a topic that is deleted and
/// created again has new ones.
pub type LogId = u64;
/// Numbers the frames of the journal.
pub type Lsn = u64;

/// The control log, `__catalog`: topics, settings, log starts and durable counters.
pub const CONTROL_LOG: LogId = 0;
/// The largest write set, in bytes of record batches.
pub const MAX_WRITE_SET_BYTES: u64 = 64 << 20;
/// The most partitions that a topic can have.
pub const MAX_PARTITIONS: u32 = 20_000;
