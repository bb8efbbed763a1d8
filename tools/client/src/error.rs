//! What can go wrong between this client and a broker, in words for the person at the terminal.

use std::io;
use std::time::Duration;

use kafka_protocol::error::ResponseError;
use riverlog_storage::batch::BatchError;
use thiserror::Error as ThisError;

/// Why a request, or a record, did not succeed. Cheap to clone: one failure may answer many records.
#[derive(Clone, Debug, ThisError)]
pub enum Error {
    /// Nobody could be reached at the address.
    #[error("cannot connect to {addr}: {reason}")]
    Connect {
        /// Where to.
        addr: String,
        /// What the operating system said, and what to do about it.
        reason: String,
    },
    /// The answer did not come in time. Whether the request had an effect is not known.
    #[error("{addr} did not answer {api} within {} ms", after.as_millis())]
    Timeout {
        /// Who was asked.
        addr: String,
        /// What was asked.
        api: &'static str,
        /// How long this client waited.
        after: Duration,
    },
    /// The connection broke while an answer was outstanding.
    #[error("lost the connection to {addr}: {reason}")]
    Disconnected {
        /// The other end.
        addr: String,
        /// How it was noticed.
        reason: String,
    },
    /// The server does not offer any version of the API that this client speaks.
    #[error("{addr} offers {api} {offered}, this client needs {needed}")]
    Unsupported {
        /// Who was asked.
        addr: String,
        /// The API.
        api: &'static str,
        /// The versions that the server names.
        offered: String,
        /// The versions that this client speaks.
        needed: String,
    },
    /// The answer is not what the protocol allows.
    #[error("{addr} answered {api} with something that is not a Kafka response: {reason}")]
    Malformed {
        /// Who answered.
        addr: String,
        /// What had been asked.
        api: &'static str,
        /// What is wrong with the answer.
        reason: String,
    },
    /// The broker refused.
    #[error("{subject}: {}", refusal(*code, message.as_deref()))]
    Refused {
        /// What was refused: a topic, a partition, a group.
        subject: String,
        /// Kafka's error code.
        code: ResponseError,
        /// The broker's own words, if it gave any.
        message: Option<String>,
    },
    /// The failure might have passed, but did not while the record could wait.
    #[error("{last} (given up after {after:?})")]
    Expired {
        /// What the last attempt failed with.
        last: Box<Error>,
        /// How long a record may be tried.
        after: Duration,
    },
    /// The position to read from is not in the log.
    #[error("{topic}/{partition} has no offset {offset}: it starts at {log_start} and ends before {end}")]
    OffsetOutOfRange {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// What was asked for.
        offset: i64,
        /// The first offset that can be read.
        log_start: i64,
        /// The offset that the next record will get.
        end: i64,
    },
    /// The broker's disk does not give the records, because they are damaged, say.
    #[error(
        "{topic}/{partition} cannot be read from offset {offset} on: {}",
        refusal(*code, None)
    )]
    Unreadable {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The first record that was asked for.
        offset: i64,
        /// Kafka's error code: CORRUPT_MESSAGE for what no restart brings back, otherwise KAFKA_STORAGE_ERROR.
        code: ResponseError,
    },
    /// The topic was there when reading began, and is not any more.
    #[error("topic {topic} was deleted{}", if *created_again { " and created again: its offsets begin anew" } else { "" })]
    TopicGone {
        /// The topic.
        topic: String,
        /// Whether another one has its name now.
        created_again: bool,
    },
    /// A batch that came from a broker is damaged, or one of our own cannot be built.
    #[error("{subject}: {reason}")]
    Batch {
        /// The partition and offset.
        subject: String,
        /// What is wrong.
        reason: String,
    },
    /// The caller asked for something that cannot be.
    #[error("{0}")]
    Invalid(String),
    /// The producer stopped because of an earlier error, which stands here.
    #[error("not sent, because an earlier record failed: {0}")]
    Stopped(String),
}

impl Error {
    pub(crate) fn connect(addr: &str, source: &io::Error) -> Self {
        let reason = match source.kind() {
            io::ErrorKind::ConnectionRefused => {
                "connection refused; is a server running there? Start one with `riverlog serve`, \
                 or name another with --bootstrap HOST:PORT"
                    .to_owned()
            }
            _ => source.to_string(),
        };
        Self::Connect {
            addr: addr.to_owned(),
            reason,
        }
    }

    pub(crate) fn refused(subject: impl Into<String>, code: ResponseError, message: Option<&str>) -> Self {
        Self::Refused {
            subject: subject.into(),
            code,
            message: message.filter(|m| !m.is_empty()).map(str::to_owned),
        }
    }

    pub(crate) fn batch(subject: impl Into<String>, source: &BatchError) -> Self {
        Self::Batch {
            subject: subject.into(),
            reason: source.to_string(),
        }
    }

    /// Kafka's error code, if the broker refused.
    pub fn code(&self) -> Option<ResponseError> {
        match self {
            Self::Refused { code, .. } | Self::Unreadable { code, .. } => Some(*code),
            Self::Expired { last, .. } => last.code(),
            _ => None,
        }
    }

    /// Whether the network, rather than an answer, is the reason.
    pub fn is_transport(&self) -> bool {
        matches!(
            self,
            Self::Connect { .. } | Self::Disconnected { .. } | Self::Timeout { .. }
        )
    }

    /// Whether the same request may succeed later.
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::Expired { .. } => false,
            // For a producer it is retriable: the batch may have been bent on its way. What is read is damaged on the disk.
            Self::Unreadable { code, .. } => *code != ResponseError::CorruptMessage,
            _ => self.is_transport() || self.code().is_some_and(|code| code.is_retriable()),
        }
    }
}

/// The code in words, with the broker's own words where they say more.
fn refusal(code: ResponseError, message: Option<&str>) -> String {
    let plain = match code {
        ResponseError::UnknownTopicOrPartition => "no such topic or partition",
        ResponseError::InvalidTopicException if message.is_none() => {
            "no topic can have this name: letters, digits, '.', '_' and '-' are allowed, at most 249 of them, and no two \
             topics differ only in '.' and '_'"
        }
        ResponseError::TopicAlreadyExists => "the topic exists already",
        ResponseError::GroupIdNotFound => "no such group",
        ResponseError::NonEmptyGroup => "the group has members; stop them first",
        ResponseError::UnknownMemberId => "the group has members, who commit its offsets; stop them first",
        ResponseError::OutOfOrderSequenceNumber => "the broker has other sequence numbers for this producer",
        other => {
            return match message {
                Some(message) => format!("{message} ({other}, error code {})", other.code()),
                None => format!("{other} (error code {})", other.code()),
            };
        }
    };
    plain.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_is_not_asked_for_again() {
        let unreadable = |code| Error::Unreadable {
            topic: "t".into(),
            partition: 0,
            offset: 0,
            code,
        };
        assert!(!unreadable(ResponseError::CorruptMessage).is_retriable());
        assert!(unreadable(ResponseError::KafkaStorageError).is_retriable());
    }
}
