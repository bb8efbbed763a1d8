//! A stream of records, one a line, of any length: read, batched and appended as it comes.
//!
//! Batches are appended one behind the other, each all or nothing, so what is accepted is always a prefix of
//! the lines. When the stream fails in the middle, everything before the failing line is still written, and the
//! answer says how many records that are and where they stand.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use tokio::time::{Instant, timeout_at};

use super::destination::Destination;
use super::ranges::{Range, Ranges};
use super::record::{Defaults, Publish, parse_line};
use crate::broker::append::Position;
use crate::http::memory::Reservation;
use crate::http::problem::Problem;
use crate::http::{Appending, Http, body, json};

/// A batch is appended when it is this large,
const BATCH_BYTES: usize = 512 << 10;
/// or has this many records,
const BATCH_RECORDS: usize = 2_000;
/// or takes this part of the memory that all bodies have,
const PART_FOR_BATCH: usize = 8;
/// or when the client pauses for this long: what a live stream has sent should not wait for what it will send.
const LINGER: Duration = Duration::from_millis(5);
/// What a record takes in memory besides its text.
const RECORD_COST: usize = 2 * size_of::<Publish>() + 150;

/// Publishes the stream.
pub async fn publish(
    http: &Arc<Http>,
    to: Destination,
    partition: Option<u32>,
    body: &mut Body,
) -> Result<Response, Problem> {
    let mut stream = Stream {
        http: Arc::clone(http),
        to,
        partition,
        lines: Lines::default(),
        pending: Batch::default(),
        in_flight: None,
        accepted: Accepted::default(),
        held: http.memory.hold_body(),
    };
    let read = stream.read(body).await;
    // What came before a failure is written all the same; a failure to write it comes first in the stream.
    let written = stream.finish().await;
    let Stream { accepted, lines, .. } = stream;
    let failed = match (written, read) {
        (Ok(()), Ok(())) => {
            let answer = Answer {
                accepted: accepted.records,
                ranges: accepted.ranges.list(),
            };
            return Ok(json(&answer).into_response());
        }
        (Err(failed), _) => failed,
        (Ok(()), Err(problem)) => Failed {
            line: lines.number,
            problem,
        },
    };
    let ranges = serde_json::to_value(accepted.ranges.list()).unwrap_or_default();
    Err(failed
        .problem
        .with("line", failed.line)
        .with("accepted", accepted.records)
        .with("ranges", ranges))
}

#[derive(serde::Serialize)]
struct Answer<'a> {
    accepted: u64,
    ranges: &'a [Range],
}

/// The first line that was not accepted, and why.
struct Failed {
    line: u64,
    problem: Problem,
}

struct Stream {
    http: Arc<Http>,
    to: Destination,
    partition: Option<u32>,
    lines: Lines,
    pending: Batch,
    in_flight: Option<InFlight>,
    accepted: Accepted,
    held: Reservation,
}

/// Records that are appended together.
#[derive(Default)]
struct Batch {
    records: Vec<Publish>,
    bytes: usize,
    first_line: u64,
}

/// A batch on its way to the disk, while the next one is read.
struct InFlight {
    append: Appending,
    first_line: u64,
}

#[derive(Default)]
struct Accepted {
    records: u64,
    ranges: Ranges,
}

impl Stream {
    /// Reads to the end of the body. Stops at the first line that cannot be published.
    async fn read(&mut self, body: &mut Body) -> Result<(), Problem> {
        let patience = self.http.limits.body_idle_timeout;
        let mut heard = Instant::now();
        loop {
            while let Some(line) = self.lines.next(self.http.limits.max_body_bytes)? {
                // A whole line is progress, a byte is not: a client that dribbles does not hold its place.
                heard = Instant::now();
                self.take(line).await?;
            }
            let out_of_patience = heard + patience;
            let until = match self.pending.records.is_empty() {
                true => out_of_patience,
                false => out_of_patience.min(Instant::now() + LINGER),
            };
            let chunk = tokio::select! {
                chunk = timeout_at(until, body::next_chunk(body)) => chunk,
                () = self.http.shutdown.requested() => {
                    return Err(self.lines.cut_short(Problem::busy("the server is shutting down")));
                }
            };
            match chunk {
                Ok(Ok(Some(chunk))) => self.lines.push(&chunk),
                Ok(Ok(None)) => break,
                Ok(Err(problem)) => return Err(self.lines.cut_short(problem)),
                Err(_) if !self.pending.records.is_empty() => self.flush().await?,
                Err(_) => return Err(self.lines.cut_short(Problem::body_timeout(patience))),
            }
            self.make_room().await?;
        }
        match self.lines.rest() {
            Some(line) => self.take(line).await,
            None => Ok(()),
        }
    }

    fn cost(&self) -> usize {
        self.lines.buffer.len() + self.pending.cost()
    }

    async fn take(&mut self, line: Bytes) -> Result<(), Problem> {
        if line.iter().all(u8::is_ascii_whitespace) {
            return Ok(());
        }
        let number = self.lines.number;
        let defaults = Defaults {
            partition: self.partition,
            timestamp_ms: self.http.now_ms(),
        };
        let publish =
            parse_line(&line, defaults).map_err(|reason| Problem::bad_request(format!("line {number}: {reason}")))?;
        self.to
            .check(&self.http.broker, &publish, || format!("line {number}"))?;
        if self.pending.records.is_empty() {
            self.pending.first_line = number;
        }
        self.pending.bytes += line.len();
        self.pending.records.push(publish);
        if self.pending.bytes >= BATCH_BYTES
            || self.pending.records.len() >= BATCH_RECORDS
            || self.pending.cost() >= self.http.memory.most_body_bytes() / PART_FOR_BATCH
        {
            self.make_room().await?;
            self.flush().await?;
        }
        Ok(())
    }

    /// Takes memory for all that is held. If there is too little, what is on its way to the disk arrives first; if that does not
    /// help, the stream ends behind the lines that were taken.
    async fn make_room(&mut self) -> Result<(), Problem> {
        if self.held.grow_to(self.cost()).is_ok() {
            return Ok(());
        }
        self.settle().await?;
        let cost = self.cost();
        self.held.grow_to(cost).map_err(|problem| self.lines.cut_short(problem))
    }

    /// Sends the pending batch on its way, once the one before it has arrived.
    async fn flush(&mut self) -> Result<(), Problem> {
        self.settle().await?;
        let topic = match self.to.topic(&self.http.broker).await {
            Ok(topic) => topic,
            Err(error) => {
                self.lines.number = self.pending.first_line;
                self.pending = Batch::default();
                return Err(error.into());
            }
        };
        let batch = std::mem::take(&mut self.pending);
        let held = self.held.split(batch.cost());
        self.in_flight = Some(InFlight {
            first_line: batch.first_line,
            append: self.http.append(topic, batch.records, batch.bytes, held),
        });
        Ok(())
    }

    /// Waits for the batch that is on its way. If it fails, nothing behind it is sent.
    async fn settle(&mut self) -> Result<(), Problem> {
        if let Some(batch) = &mut self.in_flight {
            let outcome = batch.append.wait().await;
            let first_line = batch.first_line;
            self.in_flight = None;
            if let Err(problem) = self.arrived(outcome) {
                self.lines.number = first_line;
                self.pending = Batch::default();
                return Err(problem);
            }
        }
        Ok(())
    }

    fn arrived(&mut self, outcome: Result<Vec<Position>, Problem>) -> Result<(), Problem> {
        let positions = outcome?;
        self.accepted.records += positions.len() as u64;
        positions
            .into_iter()
            .for_each(|position| self.accepted.ranges.add(position));
        Ok(())
    }

    /// Waits for everything that was taken.
    async fn finish(&mut self) -> Result<(), Failed> {
        for _ in 0..2 {
            if let Some(mut batch) = self.in_flight.take() {
                let outcome = batch.append.wait().await;
                self.arrived(outcome).map_err(|problem| Failed {
                    line: batch.first_line,
                    problem,
                })?;
            }
            if !self.pending.records.is_empty() {
                let line = self.pending.first_line;
                self.flush().await.map_err(|problem| Failed { line, problem })?;
            }
        }
        Ok(())
    }
}

impl Batch {
    fn cost(&self) -> usize {
        2 * self.bytes + self.records.len() * RECORD_COST
    }
}

/// Cuts chunks into lines.
#[derive(Default)]
pub(crate) struct Lines {
    buffer: BytesMut,
    /// No line ends in the buffer before this.
    searched: usize,
    /// The number of the line that was cut last, from 1.
    number: u64,
}

impl Lines {
    pub(crate) fn push(&mut self, chunk: &[u8]) {
        self.buffer.extend_from_slice(chunk);
    }

    /// The next whole line, without its end.
    pub(crate) fn next(&mut self, max_bytes: usize) -> Result<Option<Bytes>, Problem> {
        let unsearched = self.buffer.get(self.searched..).unwrap_or_default();
        let Some(end) = unsearched.iter().position(|byte| *byte == b'\n') else {
            self.searched = self.buffer.len();
            if self.searched > max_bytes {
                return Err(self.cut_short(Problem::body_too_large(max_bytes)));
            }
            return Ok(None);
        };
        let mut line = self.buffer.split_to(self.searched + end + 1);
        line.truncate(line.len() - 1);
        self.searched = 0;
        self.number += 1;
        Ok(Some(line.freeze()))
    }

    /// The line that is being received will not be taken.
    fn cut_short(&mut self, problem: Problem) -> Problem {
        self.number += 1;
        problem
    }

    /// The last line, if nothing ends it.
    pub(crate) fn rest(&mut self) -> Option<Bytes> {
        if self.buffer.is_empty() {
            return None;
        }
        self.number += 1;
        Some(self.buffer.split().freeze())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn cut(chunks: &[Vec<u8>]) -> Vec<Bytes> {
        let mut lines = Lines::default();
        let mut out = Vec::new();
        for chunk in chunks {
            lines.push(chunk);
            while let Some(line) = lines.next(1 << 20).unwrap() {
                out.push(line);
            }
        }
        out.extend(lines.rest());
        out
    }

    proptest! {
        #[test]
        fn lines_do_not_depend_on_how_the_body_is_chunked(
            chunks in proptest::collection::vec(proptest::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..20), 0..20),
        ) {
            let whole: Vec<u8> = chunks.concat();
            let mut expected: Vec<&[u8]> = whole.split(|byte| *byte == b'\n').collect();
            if expected.last().is_some_and(|last| last.is_empty()) {
                expected.pop();
            }
            prop_assert_eq!(cut(&chunks), expected);
        }
    }

    #[test]
    fn a_line_without_end_is_refused_before_it_fills_memory() {
        let mut lines = Lines::default();
        lines.push(&[b'x'; 100]);
        assert!(lines.next(100).unwrap().is_none());
        lines.push(b"x");
        assert!(lines.next(100).is_err());
        assert_eq!(lines.number, 1);
    }
}
