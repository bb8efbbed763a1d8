//! Accepting connections, within bounds, until shutdown.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::connection::Connection;
use super::gate::Gate;
use super::now_and_then::NowAndThen;
use crate::broker::Broker;
use crate::shutdown::Token;

/// Where clients come in, and the address they are told to come to.
#[derive(Clone, Debug)]
pub struct Listener {
    /// The listener's name in the config and in the logs.
    pub name: String,
    /// The host told to clients. Never a wildcard address: a client could not reach it.
    pub advertised_host: String,
    /// The port told to clients.
    pub advertised_port: u16,
}

/// After an error of `accept` (usually: out of file descriptors) there is nothing to do but to wait for others to leave.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What may be on its way to a client on this machine. There is no delay to bridge, and what is much larger leaves the
/// processor's cache before the client reads it. The system doubles it, for what it keeps beside the bytes, and may give less.
const LOCAL_SEND_BYTES: usize = 300 * 1024;

/// Serves one listening socket. Returns when shutdown was requested and the connections have ended.
pub async fn serve(socket: TcpListener, listener: Listener, broker: Arc<Broker>, gate: Arc<Gate>, token: Token) {
    let listener = Arc::new(listener);
    let mut connections = JoinSet::new();
    let refused = NowAndThen::default();
    loop {
        let accepted = tokio::select! {
            () = token.requested() => break,
            Some(_) = connections.join_next() => continue,
            accepted = socket.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(listener = listener.name, %error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Some(slot) = gate.admit_connection() else {
            gate.metrics().kafka.refused.inc();
            // Whoever is refused may try again at once.
            if let Some(count) = refused.one_more(Instant::now()) {
                let limit = gate.limits().max_connections;
                tracing::warn!(%peer, limit, count, "too many connections: closed at once");
            }
            // Whoever comes back at once must not keep everybody else from being served.
            tokio::task::yield_now().await;
            continue;
        };
        // Responses are written whole; waiting to fill a packet would only delay them.
        let _ = stream.set_nodelay(true);
        if peer.ip().to_canonical().is_loopback() {
            // To others the system finds out how much it takes.
            let _ = rustix::net::sockopt::set_socket_send_buffer_size(&stream, LOCAL_SEND_BYTES);
        }
        let connection = Connection::new(
            stream,
            peer,
            Arc::clone(&listener),
            Arc::clone(&broker),
            Arc::clone(&gate),
            token.clone(),
        );
        connections.spawn(async move {
            connection.run().await;
            drop(slot);
        });
    }
    drop(socket);
    while connections.join_next().await.is_some() {}
}
