//! A job's limits and choices.

use std::{collections::BTreeMap, time::Duration};

use super::key_group::DEFAULT_KEY_GROUPS;

/// What to do when unread input is gone (deleted by retention, or its topic recreated).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnLostInput {
    /// Stop, and say so.
    #[default]
    Stop,
    /// Go on from the earliest record that is there.
    Earliest,
}

/// Limits and choices of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobOptions {
    /// A partition that has been read to its end for so long does not hold the watermark back. `None`: never idle.
    pub idle_timeout: Option<Duration>,
    /// What to do when unread input is gone.
    pub on_lost_input: OnLostInput,
    /// About how much one epoch reads.
    pub epoch_input_bytes: usize,
    /// An epoch ends early when it has written this much; timers that are due wait for the next one.
    pub output_yield_bytes: usize,
    /// A single record or timer that brings an epoch's output above this stops the job.
    pub output_limit_bytes: usize,
    /// State and timers above this stop the job.
    pub state_limit_bytes: usize,
    /// Deltas above this (or above the last snapshot's size, if that is more) are followed by a snapshot.
    pub snapshot_after_bytes: usize,
    /// Partitions of output topics that the job creates; `None`: the broker's default.
    pub output_partitions: Option<u32>,
    /// Configs of output topics that the job creates.
    pub output_configs: BTreeMap<String, String>,
    /// Into how many groups keys are hashed. Fixed when the job first runs.
    pub key_groups: u16,
}

impl Default for JobOptions {
    fn default() -> Self {
        Self {
            idle_timeout: Some(Duration::from_secs(60)),
            on_lost_input: OnLostInput::default(),
            epoch_input_bytes: 4 << 20,
            output_yield_bytes: 8 << 20,
            // The write set, with the changes of state, must stay below storage's 64 MiB.
            output_limit_bytes: 40 << 20,
            state_limit_bytes: 512 << 20,
            snapshot_after_bytes: 8 << 20,
            output_partitions: None,
            output_configs: BTreeMap::new(),
            key_groups: DEFAULT_KEY_GROUPS,
        }
    }
}
