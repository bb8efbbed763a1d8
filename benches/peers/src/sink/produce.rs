//! Produce of the versions with compact fields (9 to 12), by hand: it is all that the sink does in a round.

use std::ops::RangeInclusive;

use bytes::BufMut;

/// These look the same, but for fields that may be left out.
pub const VERSIONS: RangeInclusive<i16> = 9..=12;

/// Writes the answer to a request: every batch was taken. Offsets count the batches of the connection; no client of ours
/// looks at them. `None` if the request is none of [`VERSIONS`] or damaged.
pub fn answer(request: &[u8], batches: &mut i64, answer: &mut Vec<u8>) -> Option<()> {
    let mut request = Fields(request);
    let (_key, version) = (request.i16()?, request.i16()?);
    if !VERSIONS.contains(&version) {
        return None;
    }
    answer.put_i32(request.i32()?);
    answer.put_u8(NO_TAGS);
    // The client's name is the only string that is not compact. Null is -1.
    let client = request.i16()?;
    request.skip(usize::try_from(client).unwrap_or(0))?;
    request.skip_tags()?;
    let _transactional_id = request.compact_bytes()?;
    let (_acks, _timeout_ms) = (request.i16()?, request.i32()?);
    let topics = request.varint()?;
    put_varint(answer, topics);
    for _ in 1..topics {
        let name = request.compact_bytes()?;
        put_varint(answer, name.len() as u32 + 1);
        answer.put_slice(name);
        let partitions = request.varint()?;
        put_varint(answer, partitions);
        for _ in 1..partitions {
            answer.put_i32(request.i32()?);
            let _records = request.compact_bytes()?;
            request.skip_tags()?;
            put_acknowledged(answer, *batches);
            *batches += 1;
        }
        request.skip_tags()?;
        answer.put_u8(NO_TAGS);
    }
    request.skip_tags()?;
    answer.put_i32(0); // throttle_time_ms
    answer.put_u8(NO_TAGS);
    Some(())
}

const NO_TAGS: u8 = 0;

/// What follows the index of a partition.
fn put_acknowledged(answer: &mut Vec<u8>, offset: i64) {
    answer.put_i16(0); // error_code
    answer.put_i64(offset);
    answer.put_i64(-1); // log_append_time_ms
    answer.put_i64(0); // log_start_offset
    answer.put_u8(1); // record_errors: none
    answer.put_u8(0); // error_message: null
    answer.put_u8(NO_TAGS);
}

fn put_varint(answer: &mut Vec<u8>, mut value: u32) {
    while value >= 0x80 {
        answer.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    answer.put_u8(value as u8);
}

/// What is left of a request.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(bytes)?;
        self.0 = rest;
        Some(taken)
    }

    fn skip(&mut self, bytes: usize) -> Option<()> {
        self.take(bytes).map(|_| ())
    }

    fn i16(&mut self) -> Option<i16> {
        Some(i16::from_be_bytes(*self.take(2)?.first_chunk()?))
    }

    fn i32(&mut self) -> Option<i32> {
        Some(i32::from_be_bytes(*self.take(4)?.first_chunk()?))
    }

    fn varint(&mut self) -> Option<u32> {
        let mut value = 0;
        for shift in (0..32).step_by(7) {
            let byte = *self.take(1)?.first()?;
            value |= u32::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    /// A string, bytes or records, of which the length is told plus one. Null is empty here.
    fn compact_bytes(&mut self) -> Option<&'a [u8]> {
        let length = self.varint()?.saturating_sub(1);
        self.take(length as usize)
    }

    fn skip_tags(&mut self) -> Option<()> {
        for _ in 0..self.varint()? {
            let _tag = self.varint()?;
            let length = self.varint()?;
            self.skip(length as usize)?;
        }
        Some(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use bytes::Bytes;
    use kafka_protocol::messages::{ProduceResponse, ResponseHeader};
    use kafka_protocol::protocol::{Decodable, HeaderVersion};

    use super::*;
    use crate::wire;

    #[test]
    fn every_batch_is_acknowledged_and_counted() {
        // A name and a batch whose lengths take two bytes each.
        let name = "t".repeat(200);
        let value = [b'v'; 300];
        let batch = wire::batch(std::iter::once(&value[..]), 0).unwrap();
        let frame = wire::produce_frame(&name, 5, batch).unwrap();
        let (mut batches, mut answers) = (3, Vec::new());
        answer(&frame[4..], &mut batches, &mut answers).unwrap();

        let mut answers = Bytes::from(answers);
        let header = ResponseHeader::decode(&mut answers, ProduceResponse::header_version(9)).unwrap();
        let response = ProduceResponse::decode(&mut answers, 9).unwrap();
        assert!(answers.is_empty());
        assert_eq!(header.correlation_id, 1);
        assert_eq!(&*response.responses[0].name, name.as_str());
        let partition = &response.responses[0].partition_responses[0];
        assert_eq!(
            (partition.index, partition.error_code, partition.base_offset),
            (5, 0, 3)
        );
        assert_eq!(batches, 4);
    }

    #[test]
    fn what_is_cut_off_has_no_answer() {
        let frame = wire::produce_frame("t", 0, wire::batch(std::iter::once(&b"v"[..]), 0).unwrap()).unwrap();
        for end in 4..frame.len() {
            assert_eq!(answer(&frame[4..end], &mut 0, &mut Vec::new()), None);
        }
    }
}
