//! The broker that syncs before it answers, and does nothing else.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;

use anyhow::Context;
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::retry_on_intr;

use super::catalog::Catalog;
use super::conversation::Conversation;
use super::journal::Journal;

/// How many connections are looked at in one go.
const EVENTS: usize = 1024;

/// The listener's number; those of connections follow.
const LISTENER: u64 = 0;

struct Connection {
    stream: TcpStream,
    conversation: Conversation,
}

/// Answers until it is killed: reads what has come to all connections, appends it to the file, syncs, and answers.
///
/// # Errors
/// If it cannot listen there, or the file cannot be written.
pub fn serve(address: SocketAddr, file: &Path) -> anyhow::Result<()> {
    let mut journal = Journal::create(file).with_context(|| format!("cannot write {}", file.display()))?;
    let listener = TcpListener::bind(address).with_context(|| format!("cannot listen on {address}"))?;
    let catalog = Catalog::new(address);
    let poll = epoll::create(CreateFlags::CLOEXEC)?;
    epoll::add(&poll, &listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
    let (mut connections, mut numbers) = (BTreeMap::new(), LISTENER + 1..);
    let mut events: Vec<Event> = Vec::with_capacity(EVENTS);
    loop {
        retry_on_intr(|| epoll::wait(&poll, spare_capacity(&mut events), None))?;
        for event in &events {
            let number = event.data.u64();
            if number == LISTENER {
                let (stream, _) = listener.accept().context("cannot accept a connection")?;
                stream.set_nodelay(true)?;
                stream.set_nonblocking(true)?;
                let number = numbers.next().context("no number is left")?;
                epoll::add(&poll, &stream, EventData::new_u64(number), EventFlags::IN)?;
                let conversation = Conversation::new();
                connections.insert(number, Connection { stream, conversation });
            } else if let Some(connection) = connections.get_mut(&number)
                && !connection.is_open_after_reading(&catalog, &mut journal)
            {
                connections.remove(&number);
            }
        }
        journal.sync()?;
        for event in events.drain(..) {
            if let Some(connection) = connections.get_mut(&event.data.u64()) {
                connection.send();
            }
        }
    }
}

impl Connection {
    fn is_open_after_reading(&mut self, catalog: &Catalog, journal: &mut Journal) -> bool {
        let read = self
            .conversation
            .read(&mut self.stream, catalog, |request| journal.append(request));
        match read {
            Err(error) if would_block(&error) => true,
            Err(error) => {
                eprintln!("sink: {error:#}");
                false
            }
            Ok(is_open) => is_open,
        }
    }

    /// Answers are small, and the client reads them: there is room. A client that is gone is noticed by the next read.
    fn send(&mut self) {
        if !self.conversation.answers.is_empty() {
            let _ = self.stream.write_all(&self.conversation.answers);
            self.conversation.answers.clear();
        }
    }
}

fn would_block(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<std::io::Error>();
    error.is_some_and(|error| error.kind() == ErrorKind::WouldBlock)
}
