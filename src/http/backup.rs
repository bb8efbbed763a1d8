//! `GET /backup`: an online backup as a tar archive, streamed as it is read.

use std::io::{self, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use hyper::body::Frame;
use riverlog_storage::{Backup, BackupError, Storage};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::Http;
use super::problem::Problem;
use crate::archive;
use crate::shutdown::Token;

/// What is sent at a time, and must be taken within the time-out of an answer that nobody reads.
const CHUNK_BYTES: usize = 256 << 10;
/// Chunks that wait for the connection.
const CHUNKS: usize = 2;

/// The handler.
///
/// # Errors
/// A problem document, as long as nothing was sent. Later the stream is broken off.
pub async fn backup(State(http): State<Arc<Http>>) -> Result<Response, Problem> {
    let storage = http.broker.storage().clone();
    // It takes a checkpoint.
    let begun = tokio::task::spawn_blocking(move || storage.backup().map(|backup| (storage, backup)));
    let (storage, backup) = begun.await.map_err(|error| Problem::internal(error.to_string()))??;
    let name = format!("attachment; filename=\"riverlog-{}.tar\"", backup.lsn());
    let (sender, chunks) = mpsc::channel(CHUNKS);
    let mut out = Chunks {
        buffer: BytesMut::new(),
        sender,
        patience: http.limits.body_idle_timeout,
        shutdown: http.shutdown.clone(),
        runtime: Handle::current(),
    };
    tokio::task::spawn_blocking(move || {
        let lsn = backup.lsn();
        tracing::info!(lsn, files = backup.files().len(), "a backup is being taken");
        match archive::write(&backup, damages(&storage, &backup), &mut out) {
            // Files may be removed again before the client can know that it has everything.
            Ok(()) => {
                drop(backup);
                tracing::info!(lsn, "the backup was sent");
                let _ = out.send(Ok(Bytes::new()));
            }
            Err(error) => {
                tracing::warn!(lsn, %error, "the backup was broken off");
                let _ = out.send(Err(error));
            }
        }
    });
    let body = Body::new(Streamed { chunks, ended: false });
    let headers = [
        (header::CONTENT_TYPE, "application/x-tar".to_owned()),
        (header::CONTENT_DISPOSITION, name),
    ];
    Ok((headers, body).into_response())
}

/// For all other methods, HEAD included, which is not a `GET` here.
pub async fn only_get() -> impl IntoResponse {
    ([(header::ALLOW, "GET")], Problem::method_not_allowed())
}

/// What is known to be damaged, as it is told to whoever takes the backup.
fn damages(storage: &Storage, backup: &Backup) -> Vec<String> {
    let health = storage.health();
    let fences = health.fences.iter().map(|fence| fence.reason());
    let damages = health.damages.iter().map(|damage| {
        let file = damage
            .file
            .strip_prefix(storage.data_dir())
            .unwrap_or(&damage.file)
            .display()
            .to_string();
        let (position, reason) = (damage.position, &damage.reason);
        (file.clone(), format!("{file} position {position}: {reason}"))
    });
    let known = damages.filter(|(file, _)| backup.files().iter().any(|copied| copied.path == *file));
    fences.chain(known.map(|(_, what)| what)).collect()
}

impl From<BackupError> for Problem {
    fn from(error: BackupError) -> Self {
        let detail = error.to_string();
        match error {
            BackupError::Running => Self::new(
                StatusCode::CONFLICT,
                "backup-running",
                "Another backup is being taken",
                detail,
            ),
            BackupError::Poisoned(_) => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "storage-failed",
                "A write to the disk failed; no backup is taken until the server is started again",
                detail,
            ),
            BackupError::Closed => Self::busy(detail),
            BackupError::Unreadable(_) => Self::internal(detail),
        }
    }
}

/// Gathers what is written to chunks, and waits until the connection takes them.
struct Chunks {
    buffer: BytesMut,
    sender: mpsc::Sender<io::Result<Bytes>>,
    patience: Duration,
    shutdown: Token,
    runtime: Handle,
}

impl Chunks {
    /// A backup keeps files from being removed, so who reads too slowly shall not hold it for ever, nor a server that ends.
    fn send(&self, chunk: io::Result<Bytes>) -> io::Result<()> {
        if self.shutdown.is_requested() {
            return Err(io::Error::other("the server is shutting down"));
        }
        let sent = self.runtime.block_on(self.sender.send_timeout(chunk, self.patience));
        sent.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "the client does not read its answer"))
    }
}

impl Write for Chunks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= CHUNK_BYTES {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let chunk = self.buffer.split().freeze();
        self.send(Ok(chunk))
    }
}

/// The body of the answer. Only an empty chunk ends it; anything else breaks it off, so that the client sees an error.
struct Streamed {
    chunks: mpsc::Receiver<io::Result<Bytes>>,
    ended: bool,
}

impl hyper::body::Body for Streamed {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        self.chunks.poll_recv(cx).map(|chunk| match chunk {
            Some(Ok(chunk)) if chunk.is_empty() => {
                self.ended = true;
                None
            }
            Some(Ok(chunk)) => Some(Ok(Frame::data(chunk))),
            Some(Err(error)) => Some(Err(error)),
            None => Some(Err(io::Error::other("the backup was broken off"))),
        })
    }
}
