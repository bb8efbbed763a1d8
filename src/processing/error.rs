//! Why a job does not run.

use super::{codec, log::LogError};

/// Why a job could not start, or stopped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JobError {
    /// The definition cannot work.
    #[error("job '{job}' is not valid: {reason}")]
    Invalid {
        /// The job.
        job: String,
        /// What is wrong with it.
        reason: String,
    },
    /// An input topic does not exist.
    #[error("job '{job}' reads topic '{topic}', which does not exist: create it first")]
    MissingTopic {
        /// The job.
        job: String,
        /// The topic.
        topic: String,
    },
    /// Input that the job has not read yet is gone.
    #[error(
        "job '{job}' cannot go on: {reason}. Records may be missing. Start it with the option `on_lost_input: Earliest` \
         to go on from the earliest record that is there"
    )]
    LostInput {
        /// The job.
        job: String,
        /// Which input, and what became of it.
        reason: String,
    },
    /// The job was changed so that it would misread its state.
    #[error(
        "job '{job}' has changed: operator '{operator}' was {before}, and is {now}. Undo the change, or run the job under a new name"
    )]
    Changed {
        /// The job.
        job: String,
        /// The changed operator.
        operator: String,
        /// Its fingerprint in the state.
        before: String,
        /// Its fingerprint in the program.
        now: String,
    },
    /// A limit of the job was crossed.
    #[error("job '{job}' stopped at a limit: {reason}")]
    Limit {
        /// The job.
        job: String,
        /// Which limit.
        reason: String,
    },
    /// The job's own logic failed in a way that no dead letter can mend.
    #[error("job '{job}' failed: {reason}")]
    Failed {
        /// The job.
        job: String,
        /// Why.
        reason: String,
    },
    /// The state in the log is not what this engine writes.
    #[error("the state of job '{job}' does not read: {reason}")]
    DamagedState {
        /// The job.
        job: String,
        /// What is wrong.
        reason: String,
    },
    /// The log did not do its part.
    #[error("job '{job}': {error}")]
    Log {
        /// The job.
        job: String,
        /// Its answer.
        error: LogError,
    },
}

impl JobError {
    /// Whether starting the job again, from what it has committed, may help.
    pub fn is_retriable(&self) -> bool {
        matches!(
            self,
            Self::Log {
                error: LogError::Unavailable(_),
                ..
            }
        )
    }

    /// Encoding fails only on what is larger than the codec's limit.
    pub(super) fn too_large(job: &str, error: codec::Error) -> Self {
        Self::Limit {
            job: job.to_owned(),
            reason: format!("a value of its state cannot be written: {error}"),
        }
    }

    pub(super) fn log(job: &str) -> impl Fn(LogError) -> Self {
        let job = job.to_owned();
        move |error| Self::Log {
            job: job.clone(),
            error,
        }
    }
}
