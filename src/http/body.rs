//! Request bodies, read with a bound on memory and on patience.

use std::time::Duration;

use axum::body::{Body, HttpBody};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use tokio::time::{Instant, timeout, timeout_at};

use super::Http;
use super::memory::Reservation;
use super::problem::Problem;

/// A body that is held as a whole must on the whole come at least this fast.
const SLOWEST_BYTES_PER_S: u64 = 1024;

/// The next piece of a body; `None` is its proper end.
pub async fn next_chunk(body: &mut Body) -> Result<Option<Bytes>, Problem> {
    loop {
        match body.frame().await {
            None => return Ok(None),
            Some(Ok(frame)) => {
                // Trailers say nothing here.
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
            Some(Err(error)) => return Err(Problem::bad_request(format!("the body broke off: {error}"))),
        }
    }
}

/// The whole body. `held` grows by what `cost` says of the number of bytes received. At shutdown a body that is still coming
/// is waited for a second longer.
pub async fn whole(
    http: &Http,
    body: &mut Body,
    held: &mut Reservation,
    cost: impl Fn(usize) -> usize,
) -> Result<Bytes, Problem> {
    let (max_bytes, patience) = (http.limits.max_body_bytes, http.limits.body_idle_timeout);
    let mut drained = std::pin::pin!(http.shutdown.drained());
    let announced = body.size_hint().upper();
    if announced.is_some_and(|bytes| bytes > max_bytes as u64) {
        return Err(Problem::body_too_large(max_bytes));
    }
    if let Some(bytes) = announced.and_then(|bytes| usize::try_from(bytes).ok()) {
        held.check(cost(bytes))?;
    }
    let began = Instant::now();
    let mut gathered = BytesMut::new();
    loop {
        let earned = Duration::from_secs(gathered.len() as u64 / SLOWEST_BYTES_PER_S);
        let silence = timeout(patience, next_chunk(body));
        let chunk = tokio::select! {
            chunk = timeout_at(began + patience + earned, silence) => chunk,
            () = &mut drained => {
                return Err(Problem::busy("the server is shutting down, and the body had not come; nothing of it is published"));
            }
        };
        let Ok(Ok(chunk)) = chunk else {
            return Err(Problem::body_timeout(patience));
        };
        let Some(chunk) = chunk? else {
            return Ok(gathered.freeze());
        };
        let bytes = gathered.len() + chunk.len();
        if bytes > max_bytes {
            return Err(Problem::body_too_large(max_bytes));
        }
        held.grow_to(cost(bytes))?;
        gathered.extend_from_slice(&chunk);
    }
}

/// Takes a little of what is still coming before an early answer, so that the answer is read: a socket that is
/// closed with unread bytes in it resets the connection, and the answer is lost with it.
pub async fn drain(body: &mut Body) {
    const MOST_BYTES: usize = 4 << 20;
    const MOST_TIME: Duration = Duration::from_millis(300);
    let mut drained = 0;
    let taking = async {
        while let Ok(Some(chunk)) = next_chunk(body).await {
            drained += chunk.len();
            if drained > MOST_BYTES {
                return;
            }
        }
    };
    let _ = timeout(MOST_TIME, taking).await;
}
