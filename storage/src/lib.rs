//! Riverlog's durable storage: journal, partition logs, checkpoint and recovery.

pub mod batch;
pub mod clock;
pub mod compression;
pub mod disk;
pub mod record;
