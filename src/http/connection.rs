//! The accept loop: bounds on connections and on the time that a silent or dawdling client may take.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

use super::stall::StallGuard;
use super::{Http, router};
use crate::config::HttpLimits;
use crate::metrics::Traffic;
use crate::shutdown::Token;

/// A request head (the request line and all headers) beyond either of these is answered with 431.
const MAX_HEAD_BYTES: usize = 64 << 10;
const MAX_HEADERS: usize = 128;
/// When nearly all places are taken, a head must come in this time: silent clients shall not take all of them.
const HURRIED_HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// Serves connections until shutdown is requested and those under way have ended.
pub async fn serve(socket: TcpListener, http: Arc<Http>) {
    let router = router(Arc::clone(&http));
    let (limits, shutdown) = (&http.limits, &http.shutdown);
    let places = Arc::new(Semaphore::new(limits.max_connections));
    let mut connections = JoinSet::new();
    loop {
        // A place first, then a client: those that find no place wait in the kernel's queue.
        let accepted = async {
            let place = Arc::clone(&places).acquire_owned().await.ok()?;
            Some((socket.accept().await, place))
        };
        tokio::select! {
            () = shutdown.requested() => break,
            Some(_) = connections.join_next() => {}
            Some((accepted, place)) = accepted => match accepted {
                Ok((stream, _)) => {
                    let open = Open::new(&http.metrics.http, place);
                    let mut limits = limits.clone();
                    // Also between two requests, so only when nearly all places are taken.
                    if places.available_permits() < limits.max_connections / 8 {
                        limits.header_timeout = limits.header_timeout.min(HURRIED_HEADER_TIMEOUT);
                    }
                    connections.spawn(connection(stream, router.clone(), limits, shutdown.clone(), open));
                }
                Err(error) => {
                    // Out of file descriptors, most likely: connections that end give some back.
                    tracing::warn!(%error, "an HTTP connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
        }
    }
    drop(socket);
    while connections.join_next().await.is_some() {}
}

/// Holds a connection's place, and counts it while it lives.
struct Open {
    _place: OwnedSemaphorePermit,
    traffic: Traffic,
}

impl Open {
    fn new(traffic: &Traffic, place: OwnedSemaphorePermit) -> Self {
        traffic.connections.inc();
        Self {
            _place: place,
            traffic: traffic.clone(),
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.traffic.connections.dec();
    }
}

async fn connection(stream: TcpStream, router: Router, limits: HttpLimits, shutdown: Token, _open: Open) {
    let _ = stream.set_nodelay(true);
    let io = TokioIo::new(StallGuard::new(stream, limits.body_idle_timeout));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_buf_size(MAX_HEAD_BYTES)
        // Without it a head may be as large as the buffer happens to have grown.
        .max_header_size(MAX_HEAD_BYTES)
        .max_headers(MAX_HEADERS)
        .serve_connection(io, TowerToHyperService::new(router));
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shutdown.requested() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        // The client's doing in nearly every case; the log of an operator is not the place for it.
        tracing::debug!(%error, "an HTTP connection ended early");
    }
}
