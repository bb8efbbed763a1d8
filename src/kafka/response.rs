//! A response on its way to the socket, in parts: the records of a Fetch are sent from where they were read to.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::ApiKey;
use kafka_protocol::protocol::Encodable;

use super::HandlerError;

/// The bytes of a response frame, length first. They are read once.
#[derive(Debug, Default)]
pub(super) struct Response {
    /// None of them is empty.
    parts: VecDeque<Bytes>,
    remaining: usize,
}

impl Response {
    pub(super) fn push(&mut self, part: Bytes) {
        if !part.is_empty() {
            self.remaining += part.len();
            self.parts.push_back(part);
        }
    }

    /// Puts another one behind it.
    pub(super) fn append(&mut self, mut next: Response) {
        if self.parts.is_empty() {
            *self = next;
        } else {
            self.remaining += next.remaining;
            self.parts.append(&mut next.parts);
        }
    }
}

impl Buf for Response {
    fn remaining(&self) -> usize {
        self.remaining
    }

    fn chunk(&self) -> &[u8] {
        self.parts.front().map_or(&[], |part| part)
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let pairs = slices.iter_mut().zip(&self.parts);
        pairs.map(|(slice, part)| *slice = IoSlice::new(part)).count()
    }

    fn advance(&mut self, mut count: usize) {
        while let Some(first) = self.parts.front_mut().filter(|_| count > 0) {
            let step = count.min(first.len());
            first.advance(step);
            if first.is_empty() {
                // Its memory is free before the last part is sent.
                self.parts.pop_front();
            }
            self.remaining -= step;
            count -= step;
        }
    }
}

/// What a handler answers with: a message of the codec, or something that knows better how to become one.
pub(super) trait Respond {
    /// The response frame.
    fn respond(&self, key: ApiKey, version: i16, correlation_id: i32) -> Result<Response, HandlerError>;
}

impl<M: Encodable> Respond for M {
    fn respond(&self, key: ApiKey, version: i16, correlation_id: i32) -> Result<Response, HandlerError> {
        let failed = |error| failed(key, version, error);
        let body_bytes = self.compute_size(version).map_err(failed)?;
        let mut frame = header(key, version, correlation_id, body_bytes, body_bytes)?;
        let begin = frame.len();
        self.encode(&mut frame, version).map_err(failed)?;
        debug_assert_eq!(frame.len() - begin, body_bytes, "the computed size is wrong");
        let mut response = Response::default();
        response.push(frame.freeze());
        Ok(response)
    }
}

/// What stands in front of a response's body, and room for so much behind it.
pub(super) fn header(
    key: ApiKey,
    version: i16,
    correlation_id: i32,
    body_bytes: usize,
    room_bytes: usize,
) -> Result<BytesMut, HandlerError> {
    // An ApiVersions response has header v0 in every version: the client does not know yet what we speak.
    let tagged = key.response_header_version(version) >= 1;
    let length = i32::try_from(4 + usize::from(tagged) + body_bytes);
    let mut frame = BytesMut::with_capacity(9 + room_bytes);
    frame.put_i32(length.map_err(|error| failed(key, version, error))?);
    frame.put_i32(correlation_id);
    if tagged {
        frame.put_u8(0);
    }
    Ok(frame)
}

pub(super) fn failed(key: ApiKey, version: i16, error: impl std::fmt::Display) -> HandlerError {
    HandlerError::Encode(format!("{key:?} v{version}: {error}"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_read_one_after_the_other() {
        let mut response = Response::default();
        for part in ["ab", "", "cde", "f"] {
            response.push(Bytes::from(part));
        }
        let mut slices = [IoSlice::new(&[]); 2];
        assert_eq!(response.chunks_vectored(&mut slices), 2);
        assert_eq!((&*slices[0], &*slices[1]), (&b"ab"[..], &b"cde"[..]));
        response.advance(3);
        assert_eq!((response.remaining(), response.chunk()), (3, &b"de"[..]));
        response.advance(2);
        assert_eq!(response.copy_to_bytes(1), "f");
        assert_eq!((response.remaining(), response.chunk()), (0, &b""[..]));
        response.advance(0);
    }

    #[test]
    fn one_goes_behind_another() {
        let of = |part: &'static str| {
            let mut response = Response::default();
            response.push(Bytes::from(part));
            response
        };
        let mut all = Response::default();
        for part in ["ab", "", "cde"] {
            all.append(of(part));
        }
        assert_eq!((all.remaining(), all.copy_to_bytes(5).as_ref()), (5, &b"abcde"[..]));
    }
}
