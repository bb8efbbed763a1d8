//! From a group's refusals to Kafka's error codes.

use kafka_protocol::error::ResponseError;

use crate::groups::Error;

impl Error {
    /// Kafka's code for this refusal.
    pub fn response_error(&self) -> ResponseError {
        match self {
            Self::UnknownMember => ResponseError::UnknownMemberId,
            Self::IllegalGeneration => ResponseError::IllegalGeneration,
            Self::RebalanceInProgress => ResponseError::RebalanceInProgress,
            Self::InconsistentProtocol => ResponseError::InconsistentGroupProtocol,
            Self::MemberIdRequired(_) => ResponseError::MemberIdRequired,
            Self::FencedInstance => ResponseError::FencedInstanceId,
            Self::InvalidSessionTimeout { .. } => ResponseError::InvalidSessionTimeout,
            Self::InvalidGroupId => ResponseError::InvalidGroupId,
            Self::Full { .. } => ResponseError::GroupMaxSizeReached,
            Self::MemberTooLarge { .. } => ResponseError::InvalidRequest,
            // Kafka's answer when a group's record is larger than a record may be.
            Self::NotStorable(_) => ResponseError::UnknownServerError,
            Self::NotFound => ResponseError::GroupIdNotFound,
            Self::NotEmpty => ResponseError::NonEmptyGroup,
            Self::Subscribed => ResponseError::GroupSubscribedToTopic,
            // Clients take it as final and show it to their user, which is what is wanted here.
            Self::Reserved => ResponseError::GroupAuthorizationFailed,
            // Retriable in every client: look the coordinator up again, then come back.
            Self::NotAvailable(_) => ResponseError::CoordinatorNotAvailable,
        }
    }

    /// The code as it goes over the wire.
    pub fn code(&self) -> i16 {
        self.response_error().code()
    }
}

/// The code of a result: 0 if there is nothing wrong.
pub(super) fn code_of<T>(result: &Result<T, Error>) -> i16 {
    result.as_ref().err().map_or(0, Error::code)
}

/// Members must name their group.
pub(super) fn check_group_id(group: &str) -> Result<(), Error> {
    if group.is_empty() {
        Err(Error::InvalidGroupId)
    } else {
        Ok(())
    }
}
