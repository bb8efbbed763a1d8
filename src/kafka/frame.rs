//! Request frames: parsing without I/O.

use bytes::Bytes;

use super::walker::{Malformed, Schema, skip_tags};

/// The fixed part of a request's header, which every version has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestHead {
    /// The API's number.
    pub api_key: i16,
    /// The API's version.
    pub version: i16,
    /// Repeated in the response.
    pub correlation_id: i32,
}

const HEAD_BYTES: usize = 8;

impl RequestHead {
    /// Reads the front of a frame.
    pub fn parse(frame: &[u8]) -> Option<Self> {
        let (api_key, rest) = frame.split_first_chunk()?;
        let (version, rest) = rest.split_first_chunk()?;
        let (correlation_id, _) = rest.split_first_chunk()?;
        Some(Self {
            api_key: i16::from_be_bytes(*api_key),
            version: i16::from_be_bytes(*version),
            correlation_id: i32::from_be_bytes(*correlation_id),
        })
    }
}

/// A request whose header has been read and whose body has been checked, but not decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The fixed part of the header.
    pub head: RequestHead,
    /// What the client calls itself.
    pub client_id: Option<String>,
    /// The body.
    pub body: Bytes,
}

/// Why a frame is not a request.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The header is cut short or its client id is not text.
    #[error("its header is malformed")]
    BadHeader,
    /// The body does not fit the layout of its API and version.
    #[error("its body is malformed: {0}")]
    BadBody(#[from] Malformed),
}

impl Request {
    /// Reads the rest of the header and lets the walker check the body. The version must be one that `schema` has.
    pub fn parse(head: RequestHead, schema: &Schema, frame: &Bytes) -> Result<Self, FrameError> {
        let rest = frame.get(HEAD_BYTES..).ok_or(FrameError::BadHeader)?;
        let (length, mut rest) = rest.split_first_chunk().ok_or(FrameError::BadHeader)?;
        // Not compact in any version, so that a broker can read the header of a version that it does not know.
        let client_id = match i16::from_be_bytes(*length) {
            -1 => None,
            length => {
                let length = usize::try_from(length).map_err(|_| FrameError::BadHeader)?;
                let (text, after) = rest.split_at_checked(length).ok_or(FrameError::BadHeader)?;
                rest = after;
                Some(
                    std::str::from_utf8(text)
                        .map_err(|_| FrameError::BadHeader)?
                        .to_string(),
                )
            }
        };
        if schema.is_flexible(head.version) {
            rest = skip_tags(rest)?;
        }
        schema.check(head.version, rest)?;
        Ok(Self {
            head,
            client_id,
            body: frame.slice_ref(rest),
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const METADATA_1_FOR_NO_TOPICS: &[u8] = b"\0\x03\0\x01\0\0\0\x07\0\x02me\0\0\0\0";

    fn parse(frame: &[u8]) -> Result<Request, FrameError> {
        let frame = Bytes::copy_from_slice(frame);
        let head = RequestHead::parse(&frame).ok_or(FrameError::BadHeader)?;
        Request::parse(head, Schema::find(head.api_key).ok_or(FrameError::BadHeader)?, &frame)
    }

    #[test]
    fn a_request_is_taken_apart() {
        let request = parse(METADATA_1_FOR_NO_TOPICS).unwrap();
        assert_eq!(
            request.head,
            RequestHead {
                api_key: 3,
                version: 1,
                correlation_id: 7
            }
        );
        assert_eq!(request.client_id.as_deref(), Some("me"));
        assert_eq!(request.body.as_ref(), [0, 0, 0, 0]);
    }

    #[test]
    fn unknown_tags_of_a_flexible_header_are_skipped() {
        // ApiVersions v3, no client id, one tag (7) of two bytes, then "a", "b" and no tags.
        let request = parse(b"\0\x12\0\x03\0\0\0\x01\xff\xff\x01\x07\x02xx\x02a\x02b\0").unwrap();
        assert_eq!(request.body.as_ref(), b"\x02a\x02b\0");
    }

    #[test]
    fn every_truncation_is_an_error() {
        for length in 0..METADATA_1_FOR_NO_TOPICS.len() {
            assert!(
                parse(METADATA_1_FOR_NO_TOPICS.get(..length).unwrap()).is_err(),
                "{length}"
            );
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(frame in proptest::collection::vec(any::<u8>(), 0..200), key in 0_i16..93) {
            let _ = parse(&frame);
            let mut with_key = key.to_be_bytes().to_vec();
            with_key.extend_from_slice(&frame);
            let _ = parse(&with_key);
        }
    }
}
