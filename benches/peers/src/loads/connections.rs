//! Many producers over plain sockets, each with a connection and one record under way. One thread drives them all: a
//! thread each, or a client library each, would be most of what is measured.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{Timespec, epoll::Event};
use rustix::io::retry_on_intr;

use super::{Outcome, Site, batches};
use crate::child;
use crate::wire::{Connection, batch, ensure_acknowledged, produce_frame};

/// Longer than any answer takes that comes at all.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long a wait for answers may be: then it is looked whether the run is to end.
const TICK: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 100_000_000,
};

/// How many connections are looked at in one go.
const EVENTS: usize = 1024;

/// The most of an answer that is read at once. One to a record is some 60 bytes, and the topic's name.
const ANSWER_BYTES: usize = 1024;

/// A producer.
struct Sender<'a> {
    stream: TcpStream,
    /// What it sends, again and again.
    frame: &'a [u8],
    sent: Instant,
    /// The part of an answer that has arrived.
    answer: Vec<u8>,
}

impl<'a> Sender<'a> {
    /// The first record does not count. With it the broker has surely accepted the connection: its queue of new ones is
    /// short, and one for which it has no room waits for a second.
    fn open(address: SocketAddr, frame: &'a [u8]) -> anyhow::Result<Self> {
        let mut connection = Connection::open(address)?;
        connection.produce(frame)?;
        let stream = connection.into_stream();
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream,
            frame,
            sent: Instant::now(),
            answer: Vec::new(),
        })
    }

    /// Nothing else is under way, so there is room for all of it.
    fn send(&mut self) -> anyhow::Result<()> {
        self.sent = Instant::now();
        self.stream.write_all(self.frame).context("cannot send a request")
    }

    /// How long the answer took, in microseconds, if all of it has arrived.
    fn receive(&mut self) -> anyhow::Result<Option<u32>> {
        let mut piece = [0; ANSWER_BYTES];
        let read = match self.stream.read(&mut piece) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            read => read.context("no answer")?,
        };
        ensure!(read > 0, "the broker closed a connection");
        self.answer.extend_from_slice(piece.get(..read).unwrap_or_default());
        let Some((length, body)) = self.answer.split_first_chunk() else {
            return Ok(None);
        };
        if body.len() < usize::try_from(u32::from_be_bytes(*length))? {
            return Ok(None);
        }
        let took_us = u32::try_from(self.sent.elapsed().as_micros())?;
        ensure_acknowledged(body)?;
        self.answer.clear();
        Ok(Some(took_us))
    }
}

/// Producer number n writes to partition n modulo their number.
pub fn run(site: &Site<'_>, connections: usize, size_bytes: usize) -> anyhow::Result<Outcome> {
    let address = site.broker()?.home.kafka;
    let value = site.payloads.value(0, size_bytes);
    let batch = batch(std::iter::once(value), batches::now_ms())?;
    let frames = (0..site.partitions).map(|partition| produce_frame(site.topic, partition, batch.clone()));
    let frames = frames.collect::<anyhow::Result<Vec<_>>>()?;
    let mut senders = Vec::with_capacity(connections);
    for frame in frames.iter().cycle().take(connections) {
        child::ensure_not_interrupted()?;
        senders.push(Sender::open(address, frame)?);
    }
    let poll = epoll::create(CreateFlags::CLOEXEC)?;
    for (number, sender) in senders.iter().enumerate() {
        epoll::add(&poll, &sender.stream, EventData::new_u64(number as u64), EventFlags::IN)?;
    }

    let begun = Instant::now();
    for sender in &mut senders {
        sender.send()?;
    }
    let mut events: Vec<Event> = Vec::with_capacity(EVENTS);
    let (mut durations_us, mut under_way, mut heard) = (Vec::new(), connections, begun);
    while under_way > 0 {
        child::ensure_not_interrupted()?;
        ensure!(heard.elapsed() < PATIENCE, "no answer within {PATIENCE:?}");
        retry_on_intr(|| epoll::wait(&poll, spare_capacity(&mut events), Some(&TICK)))?;
        let over = begun.elapsed() >= site.duration;
        for event in events.drain(..) {
            let number = usize::try_from(event.data.u64())?;
            let sender = senders.get_mut(number).context("an unknown connection")?;
            let Some(took_us) = sender.receive()? else { continue };
            heard = Instant::now();
            durations_us.push(took_us);
            match over {
                true => under_way -= 1,
                false => sender.send()?,
            }
        }
    }
    let outcome = Outcome {
        records: durations_us.len() as u64,
        bytes: (durations_us.len() * size_bytes) as u64,
        seconds: (heard - begun).as_secs_f64(),
        figures: vec![],
    };
    Ok(outcome.with_latencies(durations_us))
}
