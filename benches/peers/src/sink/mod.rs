//! The ceiling: a broker that keeps nothing. It reads each Produce request into one buffer, looks for what it has to
//! name in the answer, and answers at once. With the same clients no broker can be faster than this.
//!
//! It is a process of its own, started as `riverlog-peers sink`, so that its CPU time can be told from the clients'.

mod catalog;
mod produce;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

use anyhow::{Context, ensure};
use kafka_protocol::messages::ApiKey;

use self::catalog::Catalog;

/// What is read at once when the length of a request is not known yet. What is read beyond a request has to be moved,
/// so the rest of a large one is read alone.
const CHUNK_BYTES: usize = 64 * 1024;

/// The largest request that is taken: Kafka's own bound.
const REQUEST_BYTES: usize = 100 * 1024 * 1024;

/// Answers until it is killed.
///
/// # Errors
/// If it cannot listen there.
pub fn serve(address: SocketAddr) -> anyhow::Result<()> {
    let listener = TcpListener::bind(address).with_context(|| format!("cannot listen on {address}"))?;
    let catalog = Arc::new(Catalog::new(address));
    loop {
        let (stream, _) = listener.accept().context("cannot accept a connection")?;
        let catalog = Arc::clone(&catalog);
        std::thread::spawn(move || {
            if let Err(error) = converse(stream, &catalog) {
                eprintln!("sink: {error:#}");
            }
        });
    }
}

/// Answers the requests of a connection until the client closes it.
fn converse(mut stream: TcpStream, catalog: &Catalog) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    // It grows to the largest request. What is in use begins at 0; `end` is how far it may be filled by the next read.
    let (mut buffer, mut filled, mut end) = (vec![0; CHUNK_BYTES], 0, CHUNK_BYTES);
    let (mut answers, mut batches) = (Vec::new(), 0);
    loop {
        let read = stream.read(buffer.get_mut(filled..end).context("no room for a request")?)?;
        if read == 0 {
            return Ok(());
        }
        filled += read;
        let mut rest = buffer.get(..filled).context("more than fits was read")?;
        while let Some(request) = next_request(&mut rest) {
            answer(request, catalog, &mut batches, &mut answers)?;
        }
        // Several requests that came together are answered together.
        if !answers.is_empty() {
            stream.write_all(&answers)?;
            answers.clear();
        }
        let next_bytes = frame_bytes(rest).unwrap_or(0);
        ensure!(next_bytes <= REQUEST_BYTES, "a request of {next_bytes} bytes");
        let left = rest.len();
        buffer.copy_within(filled - left..filled, 0);
        (filled, end) = (left, next_bytes.max(CHUNK_BYTES));
        if buffer.len() < end {
            buffer.resize(end, 0);
        }
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

fn answer(request: &[u8], catalog: &Catalog, batches: &mut i64, answers: &mut Vec<u8>) -> anyhow::Result<()> {
    let key = i16::from_be_bytes(*request.first_chunk().context("a request without a header")?);
    let begin = answers.len();
    answers.extend_from_slice(&[0; 4]);
    match key == ApiKey::Produce as i16 {
        true => produce::answer(request, batches, answers).context("a strange Produce request")?,
        false => catalog.answer(request, answers)?,
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
