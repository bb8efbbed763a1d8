//! From what went wrong to Kafka's error codes.
//!
//! Clients decide by the code whether to retry, to refresh their metadata or to give up, so each one is chosen for what it
//! makes a client do. An idempotent producer never sees UNKNOWN_SERVER_ERROR: it would have to stop.

use kafka_protocol::error::ResponseError;
use kafka_protocol::protocol::StrBytes;
use riverlog_storage::{ReadError, WriteError, batch::BatchError};

use crate::broker::BrokerError;

impl BrokerError {
    /// Kafka's code for this error.
    pub fn response_error(&self) -> ResponseError {
        match self {
            Self::UnknownTopic(_) | Self::UnknownPartition { .. } => ResponseError::UnknownTopicOrPartition,
            Self::UnknownTopicId(_) => ResponseError::UnknownTopicId,
            Self::InvalidTopicName { .. } | Self::InternalTopic(_) => ResponseError::InvalidTopicException,
            Self::TopicExists(_) => ResponseError::TopicAlreadyExists,
            Self::InvalidPartitions(_) => ResponseError::InvalidPartitions,
            Self::TooManyPartitions { .. } => ResponseError::PolicyViolation,
            Self::InvalidConfig { .. } => ResponseError::InvalidConfig,
            Self::Unsupported(_) => ResponseError::InvalidRequest,
            Self::Batch(error) => batch_error(error),
            Self::Write(error) => write_error(error),
            Self::Read(error) => read_error(error),
            // The write may or may not have happened: the client must ask again, elsewhere or later.
            Self::Abandoned => ResponseError::NotLeaderOrFollower,
        }
    }

    /// The message beside the code.
    pub fn response_message(&self) -> StrBytes {
        StrBytes::from_string(self.to_string())
    }
}

/// A batch that does not check. Retrying the same bytes helps only where the wire may have damaged them.
pub(super) fn batch_error(error: &BatchError) -> ResponseError {
    match error {
        BatchError::BadCrc { .. } | BatchError::Truncated { .. } | BatchError::BadLength(_) => {
            ResponseError::CorruptMessage
        }
        BatchError::TooLarge { .. } => ResponseError::MessageTooLarge,
        BatchError::LogAppendTimeSet => ResponseError::InvalidTimestamp,
        BatchError::UnknownCompression(_) => ResponseError::UnsupportedCompressionType,
        _ => ResponseError::InvalidRecord,
    }
}

fn write_error(error: &WriteError) -> ResponseError {
    match error {
        WriteError::UnknownLog(_) | WriteError::UnknownTopic => ResponseError::UnknownTopicOrPartition,
        WriteError::TopicExists(_) => ResponseError::TopicAlreadyExists,
        WriteError::InvalidConfig(_) => ResponseError::InvalidConfig,
        WriteError::InvalidProducerEpoch { .. } => ResponseError::InvalidProducerEpoch,
        WriteError::OutOfOrderSequence { .. } => ResponseError::OutOfOrderSequenceNumber,
        WriteError::StaleEpoch { .. } => ResponseError::InvalidProducerEpoch,
        WriteError::OffsetOutOfRange { .. } => ResponseError::OffsetOutOfRange,
        WriteError::InvalidPartitions { .. } => ResponseError::InvalidPartitions,
        WriteError::TooLarge { .. } => ResponseError::MessageTooLarge,
        // Retriable: the client keeps its records until there is space, or somebody has repaired or restarted.
        WriteError::Fenced { .. } | WriteError::NoSpace { .. } | WriteError::Poisoned(_) => {
            ResponseError::KafkaStorageError
        }
        WriteError::Closed => ResponseError::NotLeaderOrFollower,
    }
}

fn read_error(error: &ReadError) -> ResponseError {
    match error {
        ReadError::UnknownLog(_) => ResponseError::UnknownTopicOrPartition,
        ReadError::OffsetOutOfRange { .. } => ResponseError::OffsetOutOfRange,
        // No restart brings it back, and clients do not ask for it again and again in silence: the application is told.
        ReadError::Damaged { retriable: false, .. } => ResponseError::CorruptMessage,
        // Retriable: a restart, a repair or the device may bring it back.
        ReadError::Damaged { .. } | ReadError::Fenced { .. } | ReadError::Io { .. } => ResponseError::KafkaStorageError,
    }
}
