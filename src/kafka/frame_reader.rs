//! Reading request frames from a socket, within the memory budget.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout_at};

use super::gate::Gate;

/// A frame as it came, and its share of the memory budget.
pub(super) struct Frame {
    pub(super) bytes: Bytes,
    pub(super) permit: OwnedSemaphorePermit,
}

/// Why reading ends.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadFrameError {
    #[error("a request of {length} bytes, the limit is {max}{}", hint(*length))]
    BadLength { length: i32, max: usize },
    #[error("the connection ended in the middle of a request")]
    Cut,
    #[error("a request of {0} bytes did not arrive in time")]
    Stalled(usize),
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// Other protocols at the wrong port are the usual reason for an impossible length.
fn hint(length: i32) -> &'static str {
    match &length.to_be_bytes() {
        b"GET " | b"POST" | b"HEAD" | b"PUT " => " (this looks like HTTP, which has another port)",
        [0x16, 0x03, ..] => " (this looks like TLS, which this listener does not speak)",
        _ => "",
    }
}

const LENGTH_BYTES: usize = 4;
/// API key, version and correlation id.
const SMALLEST_FRAME: usize = 8;
const READ_CHUNK: usize = 8 * 1024;

/// Time to send or receive a frame of so many bytes: a fixed part and what a slow line takes.
/// Who is slower holds memory that others need.
pub(super) fn time_for(bytes: usize) -> Duration {
    const SLOWEST_BYTES_PER_SECOND: u64 = 16 * 1024;
    Duration::from_secs(30 + bytes as u64 / SLOWEST_BYTES_PER_SECOND)
}

pub(super) struct FrameReader<R> {
    source: R,
    buffer: BytesMut,
    gate: Arc<Gate>,
    begun: Option<Begun>,
}

/// A frame whose length has been read and which has been let in.
struct Begun {
    length: usize,
    permit: OwnedSemaphorePermit,
    deadline: Instant,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    pub(super) fn new(source: R, gate: Arc<Gate>) -> Self {
        Self {
            source,
            buffer: BytesMut::new(),
            gate,
            begun: None,
        }
    }

    /// The next frame; none at the end of the stream. May be dropped and called again without losing bytes.
    pub(super) async fn next(&mut self) -> Result<Option<Frame>, ReadFrameError> {
        loop {
            if self.begun.is_none() && self.buffer.len() >= LENGTH_BYTES {
                self.begin().await?;
            }
            match self.begun.take_if(|begun| self.buffer.len() >= begun.length) {
                Some(begun) => {
                    let bytes = self.buffer.split_to(begun.length).freeze();
                    return Ok(Some(Frame {
                        bytes,
                        permit: begun.permit,
                    }));
                }
                None if self.fill().await? == 0 => {
                    let clean = self.buffer.is_empty() && self.begun.is_none();
                    return if clean { Ok(None) } else { Err(ReadFrameError::Cut) };
                }
                None => {}
            }
        }
    }

    async fn begin(&mut self) -> Result<(), ReadFrameError> {
        let Some(length) = self.buffer.first_chunk().map(|bytes| i32::from_be_bytes(*bytes)) else {
            return Ok(());
        };
        let max = self.gate.limits().max_frame_bytes;
        let bytes = usize::try_from(length)
            .ok()
            .filter(|bytes| (SMALLEST_FRAME..=max).contains(bytes))
            .ok_or(ReadFrameError::BadLength { length, max })?;
        // Not read from until there is room: the sender's TCP window closes, and that is the back-pressure.
        let permit = self.gate.admit_request(bytes).await.ok_or(ReadFrameError::Cut)?;
        self.buffer.advance(LENGTH_BYTES);
        self.begun = Some(Begun {
            length: bytes,
            permit,
            deadline: Instant::now() + time_for(bytes),
        });
        Ok(())
    }

    async fn fill(&mut self) -> Result<usize, ReadFrameError> {
        let missing = self.begun.as_ref().map_or(0, |begun| begun.length - self.buffer.len());
        self.buffer.reserve(missing.max(READ_CHUNK));
        match &self.begun {
            None => Ok(self.source.read_buf(&mut self.buffer).await?),
            Some(begun) => match timeout_at(begun.deadline, self.source.read_buf(&mut self.buffer)).await {
                Ok(read) => Ok(read?),
                Err(_) => Err(ReadFrameError::Stalled(begun.length)),
            },
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::kafka::gate::Limits;
    use crate::metrics::Metrics;

    fn reader(input: &[u8], max_frame_bytes: usize) -> FrameReader<&[u8]> {
        let gate = Gate::new(
            Limits {
                max_frame_bytes,
                ..Limits::default()
            },
            Metrics::default(),
        );
        FrameReader::new(input, gate)
    }

    #[tokio::test]
    async fn frames_come_out_one_by_one() {
        let mut reader = reader(b"\0\0\0\x0812345678\0\0\0\x09abcdefghi", 100);
        assert_eq!(reader.next().await.unwrap().unwrap().bytes, "12345678");
        assert_eq!(reader.next().await.unwrap().unwrap().bytes, "abcdefghi");
        assert!(reader.next().await.unwrap().is_none());
    }

    #[tokio::test]
    async fn impossible_lengths_and_cut_frames_are_errors() {
        for input in [
            &b"\xff\xff\xff\xff12345678"[..],
            b"\0\0\0\x0712345678",
            b"\0\0\0\x6512345678",
            b"GET / HTTP/1.1",
        ] {
            assert!(matches!(
                reader(input, 100).next().await,
                Err(ReadFrameError::BadLength { .. })
            ));
        }
        for input in [&b"\0"[..], b"\0\0\0\x081234567"] {
            assert!(matches!(reader(input, 100).next().await, Err(ReadFrameError::Cut)));
        }
    }

    #[tokio::test]
    async fn the_budget_holds_back_what_does_not_fit() {
        let limits = Limits {
            request_bytes: 2048,
            ..Limits::default()
        };
        let gate = Gate::new(limits, Metrics::default());
        let frame = [&1500_i32.to_be_bytes()[..], &[0; 1500]].concat();
        let first = FrameReader::new(&frame[..], Arc::clone(&gate))
            .next()
            .await
            .unwrap()
            .unwrap();
        let mut second = FrameReader::new(&frame[..], Arc::clone(&gate));
        assert!(
            tokio::time::timeout(Duration::from_millis(5), second.next())
                .await
                .is_err(),
            "no room yet"
        );
        drop(first);
        assert_eq!(second.next().await.unwrap().unwrap().bytes.len(), 1500);
    }
}
