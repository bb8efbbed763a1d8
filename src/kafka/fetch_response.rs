//! The body of a Fetch response, around records that stay where they were read to.
//!
//! The codec would copy them into one buffer. So the arrays are written here, and of the partitions all but the records
//! by the codec.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::{ApiKey, FetchResponse};
use kafka_protocol::protocol::Encodable;

use super::HandlerError;
use super::response::{self, Respond, Response};

/// From this version on lengths are varints and there are tagged fields.
const FLEXIBLE: i16 = 12;
/// From this version on the response has an error and a session.
const SESSIONS: i16 = 7;
/// From this version on topics are named by id.
pub(super) const TOPIC_IDS: i16 = 13;
/// Fewer bytes are copied, so that they do not become a part of their own.
const COPIED_BYTES: usize = 4 * 1024;

/// A response without tagged fields of its own, or of its topics: nothing here sets them.
#[derive(Debug)]
pub(super) struct InParts(pub(super) FetchResponse);

impl Respond for InParts {
    fn respond(&self, key: ApiKey, version: i16, correlation_id: i32) -> Result<Response, HandlerError> {
        let failed = |error| response::failed(key, version, error);
        let body_bytes = self.0.compute_size(version).map_err(failed)?;
        let partitions = self.0.responses.iter().flat_map(|topic| &topic.partitions);
        let records = partitions.filter_map(|partition| partition.records.as_ref());
        let in_parts: usize = records.map(Bytes::len).filter(|bytes| *bytes >= COPIED_BYTES).sum();
        let small = response::header(key, version, correlation_id, body_bytes, body_bytes - in_parts)?;
        let frame_bytes = small.len() + body_bytes;
        let mut body = Body {
            version,
            small,
            response: Response::default(),
        };
        let response = body.encode(&self.0).map_err(failed)?;
        // Or everything behind it would be read wrongly.
        match response.remaining() == frame_bytes {
            true => Ok(response),
            false => Err(failed(anyhow::anyhow!("it has tags that are not written here"))),
        }
    }
}

struct Body {
    version: i16,
    /// What comes next, and is not a part yet.
    small: BytesMut,
    response: Response,
}

impl Body {
    fn encode(&mut self, message: &FetchResponse) -> anyhow::Result<Response> {
        self.small.put_i32(message.throttle_time_ms);
        if self.version >= SESSIONS {
            self.small.put_i16(message.error_code);
            self.small.put_i32(message.session_id);
        }
        self.put_length(message.responses.len())?;
        for topic in &message.responses {
            if self.version >= TOPIC_IDS {
                self.small.put_slice(topic.topic_id.as_bytes());
            } else if self.is_flexible() {
                self.put_length(topic.topic.len())?;
                self.small.put_slice(topic.topic.as_bytes());
            } else {
                self.small.put_i16(topic.topic.len().try_into()?);
                self.small.put_slice(topic.topic.as_bytes());
            }
            self.put_length(topic.partitions.len())?;
            for partition in &topic.partitions {
                self.put_partition(partition)?;
            }
            self.put_no_tags();
        }
        self.put_no_tags();
        self.response.push(self.small.split().freeze());
        Ok(std::mem::take(&mut self.response))
    }

    fn put_partition(&mut self, partition: &PartitionData) -> anyhow::Result<()> {
        let records = partition.records.clone().unwrap_or_default();
        let default = PartitionData::default();
        let is_tagged = partition.diverging_epoch != default.diverging_epoch
            || partition.current_leader != default.current_leader
            || partition.snapshot_id != default.snapshot_id
            || !partition.unknown_tagged_fields.is_empty();
        if records.len() < COPIED_BYTES || is_tagged {
            return partition.encode(&mut self.small, self.version);
        }
        let others = partition.clone().with_records(Some(Bytes::new()));
        others.encode(&mut self.small, self.version)?;
        // Behind the others stand the length of no records and, if there could be any, that there are no tagged fields.
        let empty_bytes = if self.is_flexible() { 2 } else { 4 };
        self.small.truncate(self.small.len().saturating_sub(empty_bytes));
        self.put_length(records.len())?;
        self.response.push(self.small.split().freeze());
        self.response.push(records);
        self.put_no_tags();
        Ok(())
    }

    fn is_flexible(&self) -> bool {
        self.version >= FLEXIBLE
    }

    /// Of an array, or of bytes.
    fn put_length(&mut self, length: usize) -> anyhow::Result<()> {
        if !self.is_flexible() {
            self.small.put_i32(length.try_into()?);
            return Ok(());
        }
        // Zero would be null.
        let mut rest = u32::try_from(length + 1)?;
        while rest >= 0x80 {
            self.small.put_u8(rest as u8 | 0x80);
            rest >>= 7;
        }
        self.small.put_u8(rest as u8);
        Ok(())
    }

    fn put_no_tags(&mut self) {
        if self.is_flexible() {
            self.small.put_u8(0);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use kafka_protocol::messages::TopicName;
    use kafka_protocol::messages::fetch_response::{EpochEndOffset, FetchableTopicResponse, NodeEndpoint};
    use kafka_protocol::protocol::StrBytes;
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    fn partition(index: i32, size: usize, version: i16) -> PartitionData {
        let mut partition = PartitionData::default()
            .with_partition_index(index)
            .with_high_watermark(1 << 40)
            .with_last_stable_offset(7)
            .with_aborted_transactions(size.is_multiple_of(2).then(Vec::new))
            .with_records(Some(vec![index as u8; size].into()));
        if version >= 5 {
            partition.log_start_offset = 3;
        }
        if size == 0 && version >= FLEXIBLE {
            partition.error_code = 1;
            partition.diverging_epoch = EpochEndOffset::default().with_epoch(2).with_end_offset(5);
        }
        partition
    }

    #[test]
    fn what_is_rare_is_what_the_codec_writes() {
        for version in 4..=18 {
            let null = PartitionData::default().with_records(None);
            let mut tagged = partition(1, 5_000, version);
            tagged.diverging_epoch = EpochEndOffset::default().with_epoch(2).with_end_offset(5);
            let topic = FetchableTopicResponse::default().with_partitions(vec![null, tagged]);
            for message in [
                FetchResponse::default().with_error_code(70),
                FetchResponse::default().with_responses(vec![topic]),
            ] {
                let mut whole = message.respond(ApiKey::Fetch, version, 9).unwrap();
                let mut parts = InParts(message).respond(ApiKey::Fetch, version, 9).unwrap();
                let bytes = whole.remaining();
                assert_eq!(parts.copy_to_bytes(bytes), whole.copy_to_bytes(bytes));
            }
        }
    }

    #[test]
    fn a_tag_that_would_be_lost_is_an_error() {
        let endpoint = NodeEndpoint::default().with_host(StrBytes::from_static_str("here"));
        let message = InParts(FetchResponse::default().with_node_endpoints(vec![endpoint]));
        assert!(message.respond(ApiKey::Fetch, 15, 9).is_ok());
        assert!(message.respond(ApiKey::Fetch, 16, 9).is_err());
    }

    proptest! {
        #[test]
        fn the_parts_are_what_the_codec_writes(
            version in 4_i16..=18,
            topics in proptest::collection::vec(
                proptest::collection::vec(prop_oneof![Just(0), 1_usize..200, 4_000_usize..40_000], 0..5),
                0..4,
            ),
        ) {
            let topics = topics.iter().enumerate().map(|(number, sizes)| {
                let partitions = sizes.iter().enumerate();
                FetchableTopicResponse::default()
                    .with_topic(TopicName(StrBytes::from_string(format!("topic-{}", "x".repeat(number * 60)))))
                    .with_topic_id(Uuid::from_u128(number as u128))
                    .with_partitions(partitions.map(|(index, size)| partition(index as i32, *size, version)).collect())
            });
            let message = FetchResponse::default().with_responses(topics.collect());
            let mut whole = message.respond(ApiKey::Fetch, version, 9).unwrap();
            let mut parts = InParts(message).respond(ApiKey::Fetch, version, 9).unwrap();
            let large = whole.remaining();
            prop_assert_eq!(parts.remaining(), large);
            prop_assert_eq!(parts.copy_to_bytes(large), whole.copy_to_bytes(large));
        }
    }
}
