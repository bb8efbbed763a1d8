//! The Kafka protocol: the only place that knows its wire versions.
//!
//! A request's way: [`listener`] accepts, [`connection`] reads a [`frame`], [`walker`] checks it against
//! [`schema_table`] before anything is decoded, [`api_versions`] finds the handler, `handlers/<api>.rs` asks the broker,
//! and the connection answers in order, with a [`response`] in parts. [`error`] maps what can go wrong to Kafka's codes.

pub mod api_versions;
mod buffers;
mod configs;
mod connection;
pub mod error;
mod fetch_response;
pub mod frame;
mod frame_reader;
mod gate;
mod group_error;
pub mod handlers;
mod holders;
pub mod listener;
mod now_and_then;
mod operations;
mod refusal;
mod response;
#[rustfmt::skip]
pub mod schema_table;
#[cfg(test)]
mod tests;
mod text;
pub mod walker;

use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::OwnedSemaphorePermit;

use self::gate::RequestShare;
use crate::broker::Broker;
use crate::shutdown::Token;

pub use gate::{Gate, Limits};
pub use listener::Listener;

/// What a connection has for all of its requests.
pub struct Session {
    /// The client's address.
    pub peer: SocketAddr,
    /// The listener that the client came through.
    pub listener: Arc<Listener>,
    /// The broker.
    pub broker: Arc<Broker>,
    /// The bounds on all clients together.
    pub gate: Arc<Gate>,
    /// Whoever waits for long must stop waiting when shutdown is requested.
    pub token: Token,
}

/// What a handler knows besides the request.
pub struct Context {
    /// What it has in common with other requests of the connection.
    pub session: Arc<Session>,
    /// What the client calls itself, if it does.
    pub client_id: Option<String>,
    /// Nothing else of this connection is under way, and nothing was when its last Produce requests came: the client waits for
    /// each answer.
    pub client_waits: bool,
    /// The memory of the request, held until it is answered.
    request_share: Mutex<Option<RequestShare>>,
    /// The memory of a large response, held until it is sent.
    response_permit: Mutex<Option<OwnedSemaphorePermit>>,
}

impl Context {
    /// Gives the memory of the request back, of which nothing is kept while the answer is waited for.
    pub fn request_is_done_with(&self) {
        self.request_share.lock().take();
    }

    /// Keeps a share of the memory budget until the response is sent, in place of the one kept before.
    pub fn hold_until_sent(&self, permit: Option<OwnedSemaphorePermit>) {
        *self.response_permit.lock() = permit;
    }
}

/// Why a handler has no response. Everything that a response can say is in the response instead.
#[derive(Debug, thiserror::Error)]
pub enum HandlerError {
    /// A Produce with acks=0 went well: nothing is sent.
    #[error("the request wants no response")]
    NoResponse,
    /// The only answer that the protocol has is to close the connection.
    #[error("{0}")]
    Close(String),
    /// The bytes are not a request of this API and version.
    #[error("the request cannot be decoded: {0}")]
    Decode(String),
    /// The response cannot be put into this version: a bug of ours.
    #[error("the response cannot be encoded: {0}")]
    Encode(String),
}
