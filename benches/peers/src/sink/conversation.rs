//! A connection's requests as they arrive, and their answers.

use std::io::Read;

use anyhow::{Context, ensure};
use kafka_protocol::messages::ApiKey;

use super::catalog::Catalog;
use super::produce;

/// What is read at once when the length of a request is not known yet. What is read beyond a request has to be moved,
/// so the rest of a large one is read alone.
const CHUNK_BYTES: usize = 64 * 1024;

/// The largest request that is taken: Kafka's own bound.
const REQUEST_BYTES: usize = 100 * 1024 * 1024;

#[derive(Debug)]
pub struct Conversation {
    /// It grows to the largest request. What is in use begins at 0.
    buffer: Vec<u8>,
    filled: usize,
    /// How far the buffer may be filled by the next read.
    end: usize,
    batches: i64,
    /// What is to be sent.
    pub answers: Vec<u8>,
}

impl Conversation {
    pub fn new() -> Self {
        Self {
            buffer: vec![0; CHUNK_BYTES],
            filled: 0,
            end: CHUNK_BYTES,
            batches: 0,
            answers: Vec::new(),
        }
    }

    /// Reads once, hands over each Produce request that is whole, and answers whatever is. False at the end of the stream.
    ///
    /// # Errors
    /// If the stream cannot be read, or what comes from it is not understood.
    pub fn read(
        &mut self,
        stream: &mut impl Read,
        catalog: &Catalog,
        mut keep: impl FnMut(&[u8]),
    ) -> anyhow::Result<bool> {
        let room = self
            .buffer
            .get_mut(self.filled..self.end)
            .context("no room for a request")?;
        let read = stream.read(room)?;
        self.filled += read;
        let mut rest = self.buffer.get(..self.filled).context("more than fits was read")?;
        while let Some(request) = next_request(&mut rest) {
            answer(request, catalog, &mut self.batches, &mut self.answers, &mut keep)?;
        }
        let next_bytes = frame_bytes(rest).unwrap_or(0);
        ensure!(next_bytes <= REQUEST_BYTES, "a request of {next_bytes} bytes");
        let left = rest.len();
        self.buffer.copy_within(self.filled - left..self.filled, 0);
        (self.filled, self.end) = (left, next_bytes.max(CHUNK_BYTES));
        if self.buffer.len() < self.end {
            self.buffer.resize(self.end, 0);
        }
        Ok(read > 0)
    }
}

/// The size of the request that begins here with its length, if that has arrived.
fn frame_bytes(bytes: &[u8]) -> Option<usize> {
    let length = u32::from_be_bytes(*bytes.first_chunk()?);
    Some(4 + length as usize)
}

/// Takes a request without its length, if all of it has arrived.
fn next_request<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (frame, behind) = rest.split_at_checked(frame_bytes(rest)?)?;
    *rest = behind;
    frame.get(4..)
}

fn answer(
    request: &[u8],
    catalog: &Catalog,
    batches: &mut i64,
    answers: &mut Vec<u8>,
    keep: &mut impl FnMut(&[u8]),
) -> anyhow::Result<()> {
    let key = i16::from_be_bytes(*request.first_chunk().context("a request without a header")?);
    let begin = answers.len();
    answers.extend_from_slice(&[0; 4]);
    if key == ApiKey::Produce as i16 {
        produce::answer(request, batches, answers).context("a strange Produce request")?;
        keep(request);
    } else {
        catalog.answer(request, answers)?;
    }
    let length = u32::try_from(answers.len() - begin - 4)?;
    let place = answers.get_mut(begin..begin + 4).context("no room for a length")?;
    place.copy_from_slice(&length.to_be_bytes());
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_taken_when_they_are_whole() {
        let bytes = [0, 0, 0, 2, 7, 8, 0, 0, 0, 1, 9, 0, 0, 0, 3, 1];
        let mut rest = &bytes[..];
        assert_eq!(next_request(&mut rest), Some(&[7, 8][..]));
        assert_eq!(next_request(&mut rest), Some(&[9][..]));
        assert_eq!(next_request(&mut rest), None);
        assert_eq!(frame_bytes(rest), Some(7));
        assert_eq!(frame_bytes(&rest[..3]), None);
    }
}
