//! Replays a range of a topic: at the pace at which it was recorded, faster, or flat out; to standard
//! output or into a topic.
//!
//! A replay into a topic may have a name. Killed at any moment and started again with the same name it
//! goes on where it stopped, without a gap and without a duplicate:
//!
//! 1. The first start writes a *claim* into the topic `riverlog-replays`: the name, the range with its
//!    ends resolved to offsets, and one producer id for each source partition. The first claim of a name
//!    in that log is the one that counts, so two processes that start at once agree on it.
//! 2. A source partition's records go to a destination partition in order, with its producer id and
//!    sequence numbers that count them. The broker accepts each number once, and only the next one. So
//!    what a killed process left on its way can only be the records that are due, or is refused.
//! 3. Every record carries the header `riverlog.replay` with name, source partition and offset: progress
//!    is written by the same batch as the data. A restart reads it, and the last sequence number, from
//!    the end of the destination.
//!
//! Limits: the destination must keep the replay's last batches until it is finished (no compaction, no
//! retention that reaches them), and neither topic may be deleted and created again in between; both are
//! noticed and told. Records of the source that retention deleted before they were replayed are told as
//! well. If the broker forgets idle producers (Apache Kafka does after a day), a replay that is continued
//! later than that is still exact, provided that only one process continues it.

mod claim;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod lanes;
mod pace;
mod plan;
mod progress;
mod replay;
mod sink;
mod source;
mod tail;

pub use pace::Speed;
pub use plan::{Bound, Range};
pub use replay::{Replay, Summary, Target};
pub use sink::LineWriter;
