//! Reading request frames from a socket, within the memory budget.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use rustix::net::RecvFlags;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::tcp::OwnedReadHalf;
use tokio::time::{Instant, timeout_at};

use super::buffers::Lent;
use super::gate::{Gate, RequestShare};
use super::holders::Holder;

/// A frame as it came, and its share of the memory budget.
pub(super) struct Frame {
    pub(super) bytes: Bytes,
    pub(super) share: RequestShare,
}

/// Why reading ends.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadFrameError {
    #[error("a request of {length} bytes, the limit is {max}{}", hint(*length))]
    BadLength { length: i32, max: usize },
    #[error("the connection ended in the middle of a request")]
    Cut,
    #[error("a request of {0} bytes arrives too slowly")]
    Stalled(usize),
    #[error("there was no memory for a request of {0} bytes for too long")]
    NoRoom(usize),
    #[error("a request of {0} bytes arrived more slowly than others that waited for its memory")]
    Slowest(usize),
    #[error("there was no memory for a request of {0} bytes, and others needed less")]
    NeedsMost(usize),
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
/// A frame of which so much has come is no empty promise: it may take a buffer that is kept.
const REUSED_BEHIND_BYTES: usize = 16 * 1024;

/// Memory that a frame may have before any of it has come. From there it grows with what comes: who only announces a large
/// frame takes nothing from the others. All connections that there may be can have so much at once.
const FIRST_SHARE: usize = READ_CHUNK;
/// Up to here it grows fourfold, then it doubles. When memory is short, each time is a wait.
const FAST_GROWTH_BYTES: usize = 512 * 1024;

/// A frame must get on by this much…
pub(super) const PROGRESS_BYTES: usize = 512 * 1024;
/// …in this time, or end. Who is slower holds memory that others need.
pub(super) const PROGRESS_TIME: Duration = Duration::from_secs(30);
/// With every so much it has got on, which counts when others wait for memory.
const STEP_BYTES: usize = 16 * 1024;

pub(super) struct FrameReader<R> {
    source: R,
    buffer: BytesMut,
    gate: Arc<Gate>,
    begun: Option<Begun>,
}

/// A frame whose length has been read and which has been let in.
struct Begun {
    length: usize,
    /// How much of it may be in memory by now.
    admitted: usize,
    share: RequestShare,
    holder: Holder,
    deadline: Instant,
    /// When so much is there, the deadline moves.
    milestone: usize,
    /// When so much is there, it has got on.
    step: usize,
    /// Since when it waits for more memory, if it does.
    waits_since: Option<Instant>,
    /// The buffer that it is read into, if it was used before.
    lent: Option<Lent>,
}

impl FrameReader<OwnedReadHalf> {
    /// Whether the beginning of another frame has come. Asks the system: the runtime may not have heard of it yet.
    pub(super) fn has_more(&self) -> bool {
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        let peek = || rustix::net::recv(self.source.as_ref(), &mut [0; 1], flags);
        !self.buffer.is_empty() || peek().is_ok_and(|(_, bytes)| bytes > 0)
    }
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
                let (length, share) = self.admit().await?;
                self.buffer.advance(LENGTH_BYTES);
                if let Some(small) = self.buffer.get(..length).filter(|_| length <= READ_CHUNK) {
                    // Nearly every request. A copy keeps the buffer, which is larger, from being fresh memory each time; each
                    // connection has one, which no budget counts.
                    let bytes = Bytes::copy_from_slice(small);
                    self.buffer.advance(length);
                    return Ok(Some(Frame { bytes, share }));
                }
                self.begin(length, share);
            }
            match self.begun.take_if(|begun| self.buffer.len() >= begun.length) {
                Some(begun) => {
                    let size_bytes = self.buffer.capacity();
                    let bytes = self.buffer.split_to(begun.length).freeze();
                    if begun.length > READ_CHUNK {
                        // What is left is small and would keep the memory of the whole, as long as the client is idle.
                        let next = BytesMut::from(self.buffer.as_ref());
                        let rest = std::mem::replace(&mut self.buffer, next);
                        drop(begun.lent);
                        self.gate.buffers().keep(rest, size_bytes);
                    }
                    return Ok(Some(Frame {
                        bytes,
                        share: begun.share,
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

    /// Whether a frame's length has come and its end has not, or there was no room for it yet.
    pub(super) fn is_within_a_frame(&self) -> bool {
        self.begun.is_some() || self.buffer.len() >= LENGTH_BYTES
    }

    /// Returns when a frame that is half there must go, while nobody reads because answers must be sent first.
    pub(super) async fn must_go(&mut self) -> ReadFrameError {
        let Some(begun) = &mut self.begun else {
            return std::future::pending().await;
        };
        // If it waited for memory, it does not any more.
        begun.holder.got_on();
        begun.holder.must_go().await;
        ReadFrameError::Slowest(begun.length)
    }

    /// Reads the length of the frame that begins, and waits until its first share may be in memory. Takes nothing from the buffer.
    async fn admit(&self) -> Result<(usize, RequestShare), ReadFrameError> {
        let length = self.buffer.first_chunk().map(|bytes| i32::from_be_bytes(*bytes));
        let length = length.unwrap_or_default();
        let max = self.gate.limits().largest_frame();
        let bytes = usize::try_from(length)
            .ok()
            .filter(|bytes| (SMALLEST_FRAME..=max).contains(bytes))
            .ok_or(ReadFrameError::BadLength { length, max })?;
        // Not read from until there is room: the sender's TCP window closes, and that is the back-pressure.
        let share = self.gate.admit_request(bytes.min(FIRST_SHARE)).await;
        Ok((bytes, share.ok_or(ReadFrameError::Cut)?))
    }

    fn begin(&mut self, length: usize, share: RequestShare) {
        let admitted = length.min(FIRST_SHARE);
        self.begun = Some(Begun {
            length,
            admitted,
            share,
            holder: self.gate.hold_request(admitted),
            deadline: Instant::now() + PROGRESS_TIME,
            milestone: PROGRESS_BYTES,
            step: STEP_BYTES,
            waits_since: None,
            lent: None,
        });
    }

    /// Reads some bytes; zero at the end of the stream.
    async fn fill(&mut self) -> Result<usize, ReadFrameError> {
        let Some(begun) = &mut self.begun else {
            // No more than this, however much room an earlier large frame left: what comes before a frame has begun is
            // not admitted yet.
            self.buffer.reserve(READ_CHUNK);
            let mut target = (&mut self.buffer).limit(READ_CHUNK);
            return Ok(self.source.read_buf(&mut target).await?);
        };
        if self.buffer.len() >= begun.milestone {
            begun.deadline = Instant::now() + PROGRESS_TIME;
            begun.milestone = self.buffer.len() + PROGRESS_BYTES;
        }
        if self.buffer.len() >= begun.step {
            begun.step = self.buffer.len() + STEP_BYTES;
            begun.holder.got_on();
        }
        if self.buffer.len() >= begun.admitted {
            let factor = if begun.admitted < FAST_GROWTH_BYTES { 3 } else { 1 };
            let more = (factor * begun.admitted).min(begun.length - begun.admitted);
            // Whoever waits for the frame may look after something else meanwhile, and come back.
            let since = *begun.waits_since.get_or_insert_with(Instant::now);
            begun.holder.waits(begun.length - begun.admitted);
            // Not for ever: several half-read frames could otherwise wait for each other's memory.
            let admitted = tokio::select! {
                admitted = timeout_at(since + PROGRESS_TIME, self.gate.admit_more_of_request(more)) => admitted,
                () = begun.holder.must_go() => return Err(ReadFrameError::NeedsMost(begun.length)),
            };
            match admitted {
                Ok(Some(permit)) => begun.share.add(permit),
                Ok(None) => return Err(ReadFrameError::Cut),
                Err(_) => return Err(ReadFrameError::NoRoom(begun.length)),
            }
            begun.admitted += more;
            begun.holder.holds_more(more);
            // It has waited for us, not we for it.
            begun.deadline += since.elapsed();
            begun.waits_since = None;
        }
        // With the end of the frame the beginning of the next one may come along.
        let beyond = if begun.admitted == begun.length { READ_CHUNK } else { 0 };
        let room = begun.admitted.saturating_sub(self.buffer.len()) + beyond;
        if self.buffer.capacity() - self.buffer.len() < room && self.buffer.len() >= REUSED_BEHIND_BYTES {
            let used = self.gate.buffers().take(begun.length + READ_CHUNK);
            if let Some((mut used, lent)) = used {
                used.extend_from_slice(&self.buffer);
                self.buffer = used;
                begun.lent = Some(lent);
            }
        }
        // Not ahead of what is admitted: memory that was used before is there, whether anybody writes to it or not.
        self.buffer.reserve(room);
        let mut target = (&mut self.buffer).limit(room);
        tokio::select! {
            read = timeout_at(begun.deadline, self.source.read_buf(&mut target)) => match read {
                Ok(read) => Ok(read?),
                Err(_) => Err(ReadFrameError::Stalled(begun.length)),
            },
            () = begun.holder.must_go() => Err(ReadFrameError::Slowest(begun.length)),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use tokio::time::timeout;

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
    async fn frames_around_the_size_that_is_copied_out_come_whole() {
        let frames: Vec<Vec<u8>> = [8, READ_CHUNK - 1, READ_CHUNK, READ_CHUNK + 1, 9, 3 * READ_CHUNK, 10]
            .into_iter()
            .map(|length| (0..length).map(|at| at as u8).collect())
            .collect();
        let input: Vec<u8> = frames
            .iter()
            .flat_map(|frame| [&(frame.len() as u32).to_be_bytes()[..], frame].concat())
            .collect();
        // All at once, and byte by byte.
        for piece in [input.len(), 1] {
            let (mut client, server) = tokio::io::duplex(piece);
            let sent = input.clone();
            tokio::spawn(async move { tokio::io::AsyncWriteExt::write_all(&mut client, &sent).await });
            let gate = Gate::new(Limits::default(), Metrics::default());
            let mut reader = FrameReader::new(server, Arc::clone(&gate));
            for frame in &frames {
                assert_eq!(reader.next().await.unwrap().unwrap().bytes, frame[..]);
                assert_eq!(gate.request_bytes_held(), 0);
            }
            assert!(reader.next().await.unwrap().is_none());
        }
    }

    #[tokio::test]
    async fn what_has_come_already_is_seen_without_reading_it() {
        use tokio::io::AsyncWriteExt;
        use tokio::net::{TcpListener, TcpStream};

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        let mut reader = FrameReader::new(server.into_split().0, Gate::new(Limits::default(), Metrics::default()));
        client.write_all(b"\0\0\0\x0812345678").await.unwrap();
        assert_eq!(reader.next().await.unwrap().unwrap().bytes, "12345678");
        assert!(!reader.has_more());
        client.write_all(b"\0\0\0\x08abcdefgh").await.unwrap();
        assert!(reader.has_more(), "on loopback it has come");
        assert_eq!(reader.next().await.unwrap().unwrap().bytes, "abcdefgh");
    }

    /// A large frame leaves a large buffer behind; the next frame's memory is admitted all the same.
    #[tokio::test]
    async fn a_large_frame_may_follow_a_large_one() {
        use tokio::io::AsyncWriteExt;

        let frame = |byte: u8| [&(1_000_000_u32).to_be_bytes()[..], &vec![byte; 1_000_000]].concat();
        let (mut client, server) = tokio::io::duplex(1 << 20);
        let gate = Gate::new(Limits::default(), Metrics::default());
        let mut reader = FrameReader::new(server, gate);
        for round in 0..3 {
            let (first, rest) = (frame(round), frame(round + 100));
            let (begin, end) = rest.split_at(300_000);
            let written = tokio::spawn({
                let bytes = [&first, begin].concat();
                async move {
                    client.write_all(&bytes).await.unwrap();
                    client
                }
            });
            assert_eq!(reader.next().await.unwrap().unwrap().bytes, first[4..]);
            client = written.await.unwrap();
            let end = end.to_vec();
            let written = tokio::spawn(async move {
                client.write_all(&end).await.unwrap();
                client
            });
            assert_eq!(reader.next().await.unwrap().unwrap().bytes, rest[4..]);
            client = written.await.unwrap();
        }
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
            request_bytes: 128 * 1024,
            ..Limits::default()
        };
        let gate = Gate::new(limits, Metrics::default());
        let others = gate.admit_more_of_request(100 * 1024).await.unwrap();
        let frame = [&20_000_i32.to_be_bytes()[..], &[0; 20_000]].concat();
        let mut reader = FrameReader::new(&frame[..], Arc::clone(&gate));
        assert!(
            timeout(Duration::from_millis(5), reader.next()).await.is_err(),
            "no room yet"
        );
        drop(others);
        assert_eq!(reader.next().await.unwrap().unwrap().bytes.len(), 20_000);
    }

    #[tokio::test]
    async fn announcing_large_frames_takes_nothing_from_others() {
        let limits = Limits {
            request_bytes: 1024 * 1024,
            ..Limits::default()
        };
        let gate = Gate::new(limits, Metrics::default());
        let announced = 500_000_i32.to_be_bytes();
        let mut idle = Vec::new();
        for _ in 0..10 {
            let (mut sender, receiver) = tokio::io::duplex(64);
            tokio::io::AsyncWriteExt::write_all(&mut sender, &announced)
                .await
                .unwrap();
            let mut reader = FrameReader::new(receiver, Arc::clone(&gate));
            assert!(timeout(Duration::from_millis(2), reader.next()).await.is_err());
            idle.push((sender, reader));
        }
        let frame = [&100_000_i32.to_be_bytes()[..], &[7; 100_000]].concat();
        let other = FrameReader::new(&frame[..], gate).next().await.unwrap().unwrap();
        assert_eq!(other.bytes.len(), 100_000);
    }

    #[tokio::test(start_paused = true)]
    async fn a_frame_that_stops_coming_ends() {
        let (mut sender, receiver) = tokio::io::duplex(64);
        tokio::io::AsyncWriteExt::write_all(&mut sender, b"\0\0\0\x081234567")
            .await
            .unwrap();
        let gate = Gate::new(Limits::default(), Metrics::default());
        let mut reader = FrameReader::new(receiver, gate);
        assert!(matches!(reader.next().await, Err(ReadFrameError::Stalled(8))));
    }

    #[tokio::test(start_paused = true)]
    async fn a_half_read_frame_does_not_wait_for_memory_for_ever() {
        let limits = Limits {
            request_bytes: 1024 * 1024,
            ..Limits::default()
        };
        let gate = Gate::new(limits, Metrics::default());
        let taken = gate.admit_more_of_request(890 * 1024).await.unwrap();
        let frame = [&300_000_i32.to_be_bytes()[..], &[7; 300_000]].concat();
        let mut reader = FrameReader::new(&frame[..], Arc::clone(&gate));
        assert!(matches!(reader.next().await, Err(ReadFrameError::NoRoom(300_000))));
        drop((taken, reader));
        let mut reader = FrameReader::new(&frame[..], gate);
        assert_eq!(reader.next().await.unwrap().unwrap().bytes.len(), 300_000);
    }

    /// As a connection does that sends an answer meanwhile.
    #[tokio::test(start_paused = true)]
    async fn a_wait_for_memory_counts_though_it_is_interrupted() {
        use tokio::io::AsyncWriteExt;

        let limits = Limits {
            request_bytes: 1024 * 1024,
            ..Limits::default()
        };
        let gate = Gate::new(limits, Metrics::default());
        let taken = gate.admit_more_of_request(890 * 1024).await.unwrap();
        let (mut sender, receiver) = tokio::io::duplex(1 << 20);
        let (begun, end) = (vec![7; 200_000], vec![7; 100_000]);
        sender.write_all(&300_000_i32.to_be_bytes()).await.unwrap();
        sender.write_all(&begun).await.unwrap();
        let mut reader = FrameReader::new(receiver, gate);
        for _ in 0..29 {
            assert!(timeout(Duration::from_secs(1), reader.next()).await.is_err(), "no room");
        }
        drop(taken);
        // Once there is room it waits for the client, which has as long as if it had not waited for us.
        assert!(
            timeout(Duration::from_secs(29), reader.next()).await.is_err(),
            "more is to come"
        );
        sender.write_all(&end).await.unwrap();
        assert_eq!(reader.next().await.unwrap().unwrap().bytes.len(), 300_000);
    }

    /// A gate with one MiB for requests, of which all but what is for small ones is taken.
    async fn exhausted() -> (Arc<Gate>, tokio::sync::OwnedSemaphorePermit) {
        let limits = Limits {
            request_bytes: 1024 * 1024,
            ..Limits::default()
        };
        let gate = Gate::new(limits, Metrics::default());
        let taken = gate.admit_more_of_request(896 * 1024).await.unwrap();
        (gate, taken)
    }

    #[tokio::test(start_paused = true)]
    async fn small_frames_do_not_wait_behind_large_ones() {
        let (gate, _taken) = exhausted().await;
        let large = [&300_000_i32.to_be_bytes()[..], &[7; 300_000]].concat();
        let mut waiting = FrameReader::new(&large[..], Arc::clone(&gate));
        let waits = timeout(Duration::from_secs(1), waiting.next()).await;
        assert!(waits.is_err(), "no room for all of it");
        let frame = [&8000_i32.to_be_bytes()[..], &[0; 8000]].concat();
        let mut small = FrameReader::new(&frame[..], gate);
        assert_eq!(small.next().await.unwrap().unwrap().bytes.len(), 8000);
    }

    /// Both hold memory when others need it. The one whose bytes are all there waits for us, and is spared.
    #[tokio::test(start_paused = true)]
    async fn who_waits_for_us_is_spared_and_who_lets_us_wait_is_not() {
        use tokio::io::AsyncWriteExt;

        let limits = Limits {
            request_bytes: 1024 * 1024,
            ..Limits::default()
        };
        let gate = Gate::new(limits, Metrics::default());
        let taken = gate.admit_more_of_request(256 * 1024).await.unwrap();
        let (mut sender, receiver) = tokio::io::duplex(1 << 20);
        let stalled = [&500_000_i32.to_be_bytes()[..], &[7; 270_000]].concat();
        sender.write_all(&stalled).await.unwrap();
        let mut slow = FrameReader::new(receiver, Arc::clone(&gate));
        let slow = tokio::spawn(async move { slow.next().await.map(|_| ()) });
        while gate.request_bytes_held() < 500_000 {
            tokio::task::yield_now().await;
        }
        // More than is left while the slow one is there.
        let frame = [&300_000_i32.to_be_bytes()[..], &[7; 300_000]].concat();
        let read = FrameReader::new(&frame[..], Arc::clone(&gate)).next().await;
        assert_eq!(read.unwrap().unwrap().bytes.len(), 300_000);
        assert!(matches!(slow.await.unwrap(), Err(ReadFrameError::Slowest(500_000))));
        drop(taken);
    }

    /// Together they need more than there is, and each has sent all of its own.
    #[tokio::test(start_paused = true)]
    async fn frames_that_wait_for_each_other_do_not_do_so_for_long() {
        let limits = Limits {
            request_bytes: 1024 * 1024,
            ..Limits::default()
        };
        let gate = Gate::new(limits, Metrics::default());
        let since = Instant::now();
        let reads = (0..6).map(|number| {
            let length = 400_000 + 10_000 * number;
            let frame = [&i32::to_be_bytes(length)[..], &vec![7; 500_000]].concat();
            let gate = Arc::clone(&gate);
            tokio::spawn(async move {
                let read = FrameReader::new(&frame[..], gate).next().await;
                read.map(|frame| frame.map(|frame| frame.bytes.len()))
            })
        });
        let (mut came, mut went) = (0, 0);
        for read in reads.collect::<Vec<_>>() {
            match read.await.unwrap() {
                Ok(_) => came += 1,
                Err(ReadFrameError::NeedsMost(_)) => went += 1,
                Err(other) => unreachable!("{other}"),
            }
        }
        assert!(came > 0 && came + went == 6, "{came} came, {went} went");
        assert!(since.elapsed() < PROGRESS_TIME, "on a clock that only waiting moves");
    }
}
