//! The exactly-once stream processing engine.
//!
//! A [`Job`] reads topics, keys their records, keeps state per key, works in event time and writes topics. It runs in
//! *epochs*: ranges of its inputs are fixed, processed, and what came of them (outputs, consumed offsets, changed state,
//! timers, watermarks) is committed to the log in one write set, which only the job's current start may write. After a crash a job
//! restores what is committed and goes on: every effect is there once.
//!
//! For whoever writes jobs: [`job`] (the builder), [`processor`] (logic of one's own), [`state`], [`table`] (joins), [`window`],
//! [`formats`], and [`testing`] (no broker, a virtual clock).
//!
//! Inside, from pure to real: [`watermark`], [`timer`], [`epoch`] and `task` know no clock and no log; `state_log` is how state stands in
//! the log; `runner` plans, runs and commits epochs step by step; [`runtime`] gives it a thread; [`log`] is all that the engine knows of
//! a log, and `broker_log` is that for the broker in this process. `simulation` runs a job on the real storage on a simulated disk.
//!
//! Not there yet: several tasks per job (keys have their groups already), session windows, state beyond memory, SQL.

mod broker_log;
pub mod codec;
pub mod dead_letter;
pub mod epoch;
mod error;
pub mod formats;
mod inputs;
pub mod job;
mod key_group;
pub mod log;
mod planted;
pub mod processor;
mod runner;
pub mod runtime;
#[cfg(any(test, feature = "simulation"))]
pub mod simulation;
pub mod state;
pub(crate) mod state_log;
pub mod table;
mod task;
pub mod testing;
#[cfg(test)]
mod tests;
pub mod timer;
pub mod watermark;
pub mod window;

pub use broker_log::{BrokerLog, spawn};
pub use error::JobError;
pub use job::{Decoded, Job, JobBuilder, JobOptions, OnLostInput, Source, StartAt};
pub use processor::{Context, Operator, ProcessError, Processor};
pub use riverlog_storage::record::{Record, StoredRecord};
pub use runtime::{JobHandle, JobState, JobStatus, spawn_on};
pub use state::{MapState, ValueState};
pub use table::Table;
pub use timer::{Timer, TimerKind};
pub use window::{Window, Windows};
