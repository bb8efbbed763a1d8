//! A refusal with Kafka's code and a message, for the APIs that carry both.

use kafka_protocol::error::ResponseError;
use kafka_protocol::protocol::StrBytes;

use super::text::wire;
use crate::broker::BrokerError;

/// Why a part of a request was refused.
#[derive(Debug)]
pub(super) struct Refusal {
    error: ResponseError,
    text: String,
}

impl Refusal {
    pub(super) fn new(error: ResponseError, text: impl Into<String>) -> Self {
        Self {
            error,
            text: text.into(),
        }
    }

    pub(super) fn code(&self) -> i16 {
        self.error.code()
    }

    pub(super) fn message(&self) -> StrBytes {
        wire(&self.text)
    }
}

impl From<BrokerError> for Refusal {
    fn from(error: BrokerError) -> Self {
        Self::new(error.response_error(), error.to_string())
    }
}

/// Code and message of a result.
pub(super) fn outcome<T>(result: &Result<T, Refusal>) -> (i16, Option<StrBytes>) {
    match result {
        Ok(_) => (0, None),
        Err(refusal) => (refusal.code(), Some(refusal.message())),
    }
}
