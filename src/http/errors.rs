//! From what the broker says went wrong to a problem document.

use axum::http::StatusCode;
use riverlog_storage::batch::BatchError;
use riverlog_storage::{ReadError, WriteError};

use super::problem::Problem;
use crate::broker::BrokerError;

impl From<BrokerError> for Problem {
    fn from(error: BrokerError) -> Self {
        let detail = error.to_string();
        match &error {
            BrokerError::UnknownTopic(_) | BrokerError::UnknownTopicId(_) => unknown_topic(detail),
            BrokerError::UnknownPartition { .. } => Self::unknown_partition(detail),
            BrokerError::InvalidTopicName { .. } => Self::new(
                StatusCode::BAD_REQUEST,
                "invalid-topic-name",
                "No topic can have this name",
                detail,
            ),
            BrokerError::InternalTopic(_) => Self::internal_topic(detail),
            BrokerError::TopicExists(_) => Self::new(StatusCode::CONFLICT, "topic-exists", "The name is taken", detail),
            BrokerError::TooManyPartitions { .. } => Self::new(
                StatusCode::CONFLICT,
                "partition-limit",
                "The broker has as many partitions as it may",
                detail,
            ),
            BrokerError::InvalidPartitions(_) | BrokerError::InvalidConfig { .. } | BrokerError::Unsupported(_) => {
                Self::bad_request(detail)
            }
            BrokerError::Batch(BatchError::TooLarge { .. }) => Problem::record_too_large(detail),
            BrokerError::Batch(_) => Self::new(
                StatusCode::BAD_REQUEST,
                "invalid-record",
                "The topic does not take this record",
                detail,
            ),
            BrokerError::Write(error) => write_problem(error, detail),
            BrokerError::Read(error) => read_problem(error, detail),
            BrokerError::Abandoned => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "outcome-unknown",
                "The server is ending and does not know whether the records are written",
                detail,
            ),
        }
    }
}

fn write_problem(error: &WriteError, detail: String) -> Problem {
    match error {
        WriteError::UnknownLog(_) | WriteError::UnknownTopic => unknown_topic(detail),
        WriteError::TooLarge { .. } => Problem::record_too_large(detail),
        WriteError::Fenced { .. } => fenced(detail),
        WriteError::NoSpace { .. } => Problem::new(
            StatusCode::INSUFFICIENT_STORAGE,
            "no-space",
            "The disk is nearly full; writing goes on by itself when there is space",
            detail,
        ),
        WriteError::Poisoned(_) => Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "storage-failed",
            "A write to the disk failed; nothing is accepted until the server is started again",
            detail,
        ),
        WriteError::Closed => Problem::busy(detail),
        _ => Problem::internal(detail),
    }
}

fn read_problem(error: &ReadError, detail: String) -> Problem {
    match error {
        ReadError::UnknownLog(_) => unknown_topic(detail),
        ReadError::OffsetOutOfRange { start, end, .. } => Problem::new(
            StatusCode::RANGE_NOT_SATISFIABLE,
            "offset-out-of-range",
            "The partition does not hold this offset",
            detail,
        )
        .with("log_start", *start)
        .with("high_watermark", *end),
        ReadError::Fenced { .. } => fenced(detail),
        ReadError::Damaged { .. } => Problem::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "damaged",
            "The records at this offset are damaged on disk and are not served",
            detail,
        ),
        ReadError::Io { .. } => Problem::internal(detail),
    }
}

fn unknown_topic(detail: String) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "unknown-topic", "There is no such topic", detail)
}

fn fenced(detail: String) -> Problem {
    Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "partition-fenced",
        "The partition was found damaged and is neither read nor written until it is repaired",
        detail,
    )
}
