//! Walks a response before it is decoded: the decoder allocates for any count that it reads, so a
//! count must be known to be covered by bytes that are there. All responses this client decodes are in
//! the flexible encoding (compact lengths, tagged fields), which keeps the walk small.

/// The shape of one field of a response.
#[derive(Debug)]
pub(crate) enum Shape {
    /// A number, flag or UUID of so many bytes.
    Fixed(usize),
    /// A compact string or byte string, which may be null.
    Text,
    /// A compact array of elements with these fields, which may be null.
    Array(&'static [Shape]),
    /// Tagged fields; all that the decoder knows are named.
    Tags(&'static [(u32, &'static [Shape])]),
    /// Present from this version on.
    Since(i16, &'static Shape),
}

/// Tagged fields of which the decoder knows none.
pub(crate) const TAGS: Shape = Shape::Tags(&[]);

/// Arrays are nested at most this deep in any response.
const MAX_DEPTH: u32 = 8;

/// Whether `body` has the shape; if not, what is wrong with it.
pub(crate) fn walk(body: &[u8], shape: &[Shape], version: i16) -> Result<(), &'static str> {
    let mut rest = body;
    walk_fields(&mut rest, shape, version, 0)
}

fn walk_fields(rest: &mut &[u8], shape: &[Shape], version: i16, depth: u32) -> Result<(), &'static str> {
    if depth > MAX_DEPTH {
        return Err("nested too deep");
    }
    for field in shape {
        walk_field(rest, field, version, depth)?;
    }
    Ok(())
}

fn walk_field(rest: &mut &[u8], field: &Shape, version: i16, depth: u32) -> Result<(), &'static str> {
    match field {
        Shape::Fixed(size) => skip(rest, *size),
        Shape::Text => match unsigned_varint(rest)? {
            0 => Ok(()),
            n => skip(rest, (n - 1) as usize),
        },
        Shape::Array(element) => {
            let count = unsigned_varint(rest)?.saturating_sub(1) as usize;
            // An element takes a byte at least, so a count beyond the rest is a lie.
            if count > rest.len() {
                return Err("an array claims more elements than there are bytes");
            }
            for _ in 0..count {
                walk_fields(rest, element, version, depth + 1)?;
            }
            Ok(())
        }
        Shape::Tags(known) => walk_tags(rest, known, version, depth),
        Shape::Since(since, field) if version >= *since => walk_field(rest, field, version, depth),
        Shape::Since(..) => Ok(()),
    }
}

fn walk_tags(
    rest: &mut &[u8],
    known: &[(u32, &'static [Shape])],
    version: i16,
    depth: u32,
) -> Result<(), &'static str> {
    for _ in 0..unsigned_varint(rest)? {
        let tag = unsigned_varint(rest)?;
        let size = unsigned_varint(rest)? as usize;
        let Some(mut value) = rest.get(..size) else {
            return Err("a tagged field runs over the end");
        };
        if let Some((_, shape)) = known.iter().find(|(number, _)| *number == tag) {
            // The decoder reads the shape and does not look at the size.
            walk_fields(&mut value, shape, version, depth + 1)?;
            if !value.is_empty() {
                return Err("a tagged field is longer than its content");
            }
        }
        skip(rest, size)?;
    }
    Ok(())
}

fn skip(rest: &mut &[u8], size: usize) -> Result<(), &'static str> {
    *rest = rest.get(size..).ok_or("a field runs over the end")?;
    Ok(())
}

fn unsigned_varint(rest: &mut &[u8]) -> Result<u32, &'static str> {
    let mut value = 0u32;
    for shift in [0u32, 7, 14, 21, 28] {
        let (&byte, tail) = rest.split_first().ok_or("a length runs over the end")?;
        *rest = tail;
        if shift == 28 && byte > 0x0f {
            return Err("a length is out of range");
        }
        value |= u32::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err("a length is out of range")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use bytes::{Bytes, BytesMut};
    use kafka_protocol::messages::{FetchResponse, MetadataResponse};
    use kafka_protocol::protocol::{Decodable, Encodable};
    use proptest::prelude::*;

    use super::*;
    use crate::api::Api;
    use kafka_protocol::messages::{FetchRequest, MetadataRequest};

    #[test]
    fn a_count_that_lies_is_refused_before_the_decoder_believes_it() {
        // throttle, then "four billion brokers"
        let body = [0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0];
        let verdict = walk(&body, MetadataRequest::SHAPE, MetadataRequest::MAX);
        assert_eq!(verdict, Err("an array claims more elements than there are bytes"));
    }

    fn metadata_bytes() -> Bytes {
        use kafka_protocol::messages::metadata_response::*;
        let partition = MetadataResponsePartition::default().with_replica_nodes(vec![1.into()]);
        let topic = MetadataResponseTopic::default().with_partitions(vec![partition; 3]);
        let response = MetadataResponse::default()
            .with_brokers(vec![MetadataResponseBroker::default(); 2])
            .with_topics(vec![topic; 2]);
        let mut bytes = BytesMut::new();
        response.encode(&mut bytes, MetadataRequest::MAX).unwrap();
        bytes.freeze()
    }

    #[test]
    fn what_the_encoder_writes_passes() {
        let bytes = metadata_bytes();
        walk(&bytes, MetadataRequest::SHAPE, MetadataRequest::MAX).unwrap();
        let cut = &bytes[..bytes.len() - 1];
        assert!(walk(cut, MetadataRequest::SHAPE, MetadataRequest::MAX).is_err());
    }

    proptest! {
        // Whatever passes the walk can be decoded without an abort, and nothing panics.
        #[test]
        fn arbitrary_bytes_never_abort(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            if walk(&body, FetchRequest::SHAPE, FetchRequest::MAX).is_ok() {
                let _ = FetchResponse::decode(&mut Bytes::from(body), FetchRequest::MAX);
            }
        }

        #[test]
        fn flipped_metadata_never_aborts(at in 0usize..80, to in any::<u8>()) {
            let mut body = metadata_bytes().to_vec();
            let at = at % body.len();
            body[at] = to;
            if walk(&body, MetadataRequest::SHAPE, MetadataRequest::MAX).is_ok() {
                let _ = MetadataResponse::decode(&mut Bytes::from(body), MetadataRequest::MAX);
            }
        }
    }
}
