//! What the clients could reach: brokers that do less than any real one. Each looks in a Produce request for nothing but
//! what it has to name in the answer.
//!
//! - The one that keeps nothing answers at once. With the same clients no broker can be faster than this.
//! - The one that syncs ([`synced`]) appends what has come to a file, syncs that, and answers then: one thread, no
//!   checks, no partitions. What it does, a durable broker has to do as well.
//!
//! They are processes of their own, started as `riverlog-peers sink`, so that their CPU time can be told from the
//! clients'.

mod catalog;
mod conversation;
mod journal;
mod produce;
pub mod synced;

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

use anyhow::Context;

use self::catalog::Catalog;
use self::conversation::Conversation;

/// Keeps nothing. Answers until it is killed.
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
    let mut conversation = Conversation::new();
    while conversation.read(&mut stream, catalog, |_| {})? {
        // Several requests that came together are answered together.
        if !conversation.answers.is_empty() {
            stream.write_all(&conversation.answers)?;
            conversation.answers.clear();
        }
    }
    Ok(())
}
