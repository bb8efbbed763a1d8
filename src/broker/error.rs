//! What can go wrong in the broker. Every message says what, where, and what to do about it.
//! `kafka::error` maps these to Kafka's error codes, `http` to problem documents.

use riverlog_storage::{ReadError, WriteError, batch::BatchError};
use uuid::Uuid;

/// Why the broker refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// No topic of this name.
    #[error("there is no topic '{0}'; create it first")]
    UnknownTopic(String),
    /// No topic with this id; it may have been deleted and created again.
    #[error("there is no topic with id {0}; it may have been deleted, refresh the metadata")]
    UnknownTopicId(Uuid),
    /// The topic has fewer partitions.
    #[error("topic '{topic}' has no partition {partition}")]
    UnknownPartition {
        /// The topic.
        topic: String,
        /// The partition asked for.
        partition: i32,
    },
    /// A name that no topic can have.
    #[error("'{name}' cannot be a topic name: {reason}")]
    InvalidTopicName {
        /// The name, shortened.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The name is taken.
    #[error("topic '{0}' already exists")]
    TopicExists(String),
    /// A partition count that cannot be.
    #[error("{0}")]
    InvalidPartitions(String),
    /// More partitions than the broker allows.
    #[error(
        "{requested} more partitions would exceed the limit of {limit} for this broker; delete topics, or raise \
         max_partitions and the limit of open files, or lower kafka_max_connections (a partition takes two files)"
    )]
    TooManyPartitions {
        /// Partitions asked for.
        requested: u64,
        /// The limit on all of them.
        limit: usize,
    },
    /// A topic config that does not exist here, or a bad value of one that does.
    #[error("topic config {name}: {reason}")]
    InvalidConfig {
        /// The config's name.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// Clients may not write to topics that the broker itself keeps.
    #[error("topic '{0}' is internal; clients cannot write to it or delete it")]
    InternalTopic(String),
    /// Not yet possible.
    #[error("{0}")]
    Unsupported(String),
    /// A batch that fails its checks.
    #[error("{0}")]
    Batch(#[from] BatchError),
    /// Refused by the sequencer, or storage failed.
    #[error("{0}")]
    Write(#[from] WriteError),
    /// A read that storage could not answer.
    #[error("{0}")]
    Read(#[from] ReadError),
    /// Storage went away without an answer: the process is shutting down.
    #[error("the broker is shutting down; the outcome of this write is unknown")]
    Abandoned,
}
