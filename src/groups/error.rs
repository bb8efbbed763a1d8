//! Why a group refuses something.

use std::sync::Arc;

/// A refusal. The Kafka layer turns each into its error code.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The member is not, or no longer, part of the group.
    #[error("unknown member: it must join the group again")]
    UnknownMember,
    /// The request names a generation that is not the current one.
    #[error("the group is in another generation than the request")]
    IllegalGeneration,
    /// The group is rebalancing: the member has to join again.
    #[error("the group is rebalancing: join again")]
    RebalanceInProgress,
    /// No protocol that every member supports, or another protocol type.
    #[error("the member shares no protocol with the group's other members")]
    InconsistentProtocol,
    /// The member has to join again under this id.
    #[error("join again with the member id {0}")]
    MemberIdRequired(Arc<str>),
    /// Another member took this member's `group.instance.id` over.
    #[error("another member joined with the same group.instance.id")]
    FencedInstance,
    /// The session timeout is outside what the broker allows.
    #[error("the session timeout must be between {min_ms} and {max_ms} ms")]
    InvalidSessionTimeout {
        /// The least that is allowed.
        min_ms: u64,
        /// The most that is allowed.
        max_ms: u64,
    },
    /// The group id is empty or too long.
    #[error("the group id is not valid")]
    InvalidGroupId,
    /// The group holds as many members as it may.
    #[error("the group has reached its maximum of {max} members")]
    Full {
        /// `group.max.size`.
        max: usize,
    },
    /// A member brings, or is assigned, more than one may.
    #[error("a member's metadata, or its assignment, is larger than {max_bytes} bytes")]
    MemberTooLarge {
        /// The most.
        max_bytes: usize,
    },
    /// What the group is, or has read, has no place in a record of the log.
    #[error("the group cannot be stored: {0}")]
    NotStorable(Arc<str>),
    /// There is no such group.
    #[error("there is no such group")]
    NotFound,
    /// The group has members, which the request does not allow.
    #[error("the group still has members")]
    NotEmpty,
    /// The group belongs to a job of this broker.
    #[error("the group belongs to a job, which alone commits its offsets")]
    Reserved,
    /// The group's members are subscribed to the topic.
    #[error("the group is subscribed to the topic")]
    Subscribed,
    /// The group cannot be served now; a retry will tell.
    #[error("the group cannot be served now, try again: {0}")]
    NotAvailable(Arc<str>),
}

impl Error {
    /// A retriable refusal with its reason.
    pub fn not_available(reason: impl std::fmt::Display) -> Self {
        Self::NotAvailable(reason.to_string().into())
    }

    /// A refusal of what the log cannot hold, with its reason.
    pub fn not_storable(reason: impl std::fmt::Display) -> Self {
        Self::NotStorable(reason.to_string().into())
    }
}
