//! Between the codec's strings and everybody else's.

use std::sync::Arc;

use kafka_protocol::messages::{GroupId, TopicName};
use kafka_protocol::protocol::StrBytes;

/// A string for a response.
pub(super) fn wire(text: impl AsRef<str>) -> StrBytes {
    StrBytes::from_string(text.as_ref().to_owned())
}

/// A topic's name for a response.
pub(super) fn wire_topic(name: impl AsRef<str>) -> TopicName {
    TopicName(wire(name))
}

/// A group's name for a response.
pub(super) fn wire_group(name: impl AsRef<str>) -> GroupId {
    GroupId(wire(name))
}

/// A string of a request, to keep.
pub(super) fn shared(text: &str) -> Arc<str> {
    Arc::from(text)
}

/// A string of a request that may be absent; clients send an empty one for that too.
pub(super) fn shared_option(text: Option<&StrBytes>) -> Option<Arc<str>> {
    text.map(|text| shared(text)).filter(|text| !text.is_empty())
}
