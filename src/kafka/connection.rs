//! One client's connection: requests in, responses out in the same order.
//!
//! Kafka handles one request of a connection at a time. Here Produce requests are the exception: the next one is submitted
//! while earlier ones wait for their sync, so that the requests a producer has in flight share a group commit. Their
//! order in the log is the order on the wire, because a request is submitted before the next one is read.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};

use bytes::Buf;
use kafka_protocol::messages::ApiKey;
use parking_lot::Mutex;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::api_versions::{self, Api};
use super::frame::{Request, RequestHead};
use super::frame_reader::{Frame, FrameReader, PROGRESS_BYTES, PROGRESS_TIME, ReadFrameError};
use super::gate::{Gate, RequestShare};
use super::handlers::api_versions::unsupported;
use super::listener::Listener;
use super::response::{Respond, Response};
use super::walker::Schema;
use super::{Context, HandlerError, Session};
use crate::broker::Broker;
use crate::shutdown::{DRAIN, Token};

/// Small responses that are ready together are sent together.
const COALESCE_BYTES: usize = 16 * 1024;
/// A client that reads so much of a large one has got on.
const STEP_BYTES: usize = 16 * 1024;
/// Small responses are given to the socket so many at a time.
const SLICES_AT_ONCE: usize = 16;
/// No more is given to the socket at once: other connections have their turn in between, after a millisecond or so. In
/// smaller pieces a client is woken for each, which took a quarter of what serving a consumer costs.
const WRITE_BYTES: usize = 4 << 20;
/// A client that has waited for so many answers in a row is likely to wait for the next.
const ALONE_FOR_A_WHILE: u32 = 8;

pub(super) struct Connection {
    reader: FrameReader<OwnedReadHalf>,
    writer: Writer,
    session: Arc<Session>,
    /// In the order of the requests.
    in_flight: VecDeque<InFlight>,
    /// A request that must wait until the ones before it are answered. Nothing is read meanwhile.
    next: Option<Accepted>,
    /// How many Produce requests in a row came when nothing was under way.
    alone_in_a_row: u32,
    ended: bool,
    last_active: Instant,
}

/// Where answers go.
struct Writer {
    stream: OwnedWriteHalf,
    gate: Arc<Gate>,
    token: Token,
}

/// A checked request with its place in the budget.
struct Accepted {
    api: &'static Api,
    request: Request,
    share: RequestShare,
    size_bytes: usize,
}

type Answering = Pin<Box<dyn Future<Output = Answer> + Send>>;

struct InFlight {
    answering: Answering,
    /// The outcome, once it is there and earlier ones are not.
    ready: Option<Answer>,
    api: ApiKey,
    size_bytes: usize,
}

struct Answer {
    result: Result<Response, HandlerError>,
    /// The memory that the response takes until it is sent.
    permit: Option<OwnedSemaphorePermit>,
}

/// Why a connection is closed by us.
#[derive(Debug, thiserror::Error)]
enum Closed {
    #[error(transparent)]
    Read(#[from] ReadFrameError),
    #[error("a request too short to have a header")]
    NoHeader,
    #[error("API {api_key} version {version} is not served here")]
    NotServed { api_key: i16, version: i16 },
    #[error("{api:?} version {version}: {error}")]
    Frame {
        api: ApiKey,
        version: i16,
        error: super::frame::FrameError,
    },
    #[error("{api:?}: {error}")]
    Handler { api: ApiKey, error: HandlerError },
    #[error("the client does not read its responses")]
    WriteStalled,
    #[error("the client read its responses more slowly than others that waited for their memory")]
    Slowest,
    #[error("{0}")]
    Write(std::io::Error),
    #[error("idle")]
    Idle,
    #[error("shutting down")]
    Draining,
}

impl Connection {
    pub(super) fn new(
        stream: TcpStream,
        peer: SocketAddr,
        listener: Arc<Listener>,
        broker: Arc<Broker>,
        gate: Arc<Gate>,
        token: Token,
    ) -> Self {
        let (reader, writer) = stream.into_split();
        Self {
            reader: FrameReader::new(reader, Arc::clone(&gate)),
            writer: Writer {
                stream: writer,
                gate: Arc::clone(&gate),
                token: token.clone(),
            },
            session: Arc::new(Session {
                peer,
                listener,
                broker,
                gate,
                token,
            }),
            in_flight: VecDeque::new(),
            next: None,
            alone_in_a_row: 0,
            ended: false,
            last_active: Instant::now(),
        }
    }

    /// Serves the connection to its end.
    pub(super) async fn run(mut self) {
        let connections = self.session.gate.metrics().kafka.connections.clone();
        connections.inc();
        let (peer, listener) = (self.session.peer, Arc::clone(&self.session.listener));
        if let Err(reason) = self.serve().await {
            match self.told_of(&reason) {
                Some(count) => tracing::warn!(%peer, listener = listener.name, %reason, count, "connection closed"),
                None => tracing::debug!(%peer, listener = listener.name, %reason, "connection closed"),
            }
            if !matches!(reason, Closed::Draining) {
                self.finish_writes().await;
            }
        }
        connections.dec();
    }

    /// The client is gone, but what it has sent stays in memory until it is durable or refused. Until then it counts, and so does
    /// the connection: or clients that come and go would fill the memory while the disk is slow.
    async fn finish_writes(self) {
        let Self {
            reader,
            writer,
            in_flight,
            session,
            ..
        } = self;
        // The client sees at once that it is over.
        drop((reader, writer));
        let finished = async {
            for request in in_flight {
                if request.ready.is_none() && is_pipelined(request.api) {
                    request.answering.await;
                }
            }
        };
        tokio::select! {
            () = finished => {}
            () = session.token.drained() => {}
        }
    }

    /// How many connections were closed because of what their clients sent, if this one is one of those and it is time to tell.
    fn told_of(&self, reason: &Closed) -> Option<u64> {
        let gate = &self.session.gate;
        match reason {
            // Counted, not logged: there may be thousands of them at once.
            Closed::Slowest
            | Closed::Read(
                ReadFrameError::Slowest(_)
                | ReadFrameError::NeedsMost(_)
                | ReadFrameError::NoRoom(_)
                | ReadFrameError::Stalled(_),
            ) => {
                gate.metrics().kafka.cut.inc();
                None
            }
            Closed::Idle | Closed::Draining | Closed::Write(_) | Closed::Read(ReadFrameError::Io(_)) => None,
            _ => gate.one_more_bad_connection(),
        }
    }

    async fn serve(&mut self) -> Result<(), Closed> {
        let token = self.session.token.clone();
        let mut requested = std::pin::pin!(token.requested());
        let mut is_draining = false;
        // One for the life of the connection: making several for each small request showed in the profile.
        let mut alarm = std::pin::pin!(tokio::time::sleep_until(self.idle_at()));
        loop {
            if let Some(next) = self.next.take_if(|_| self.in_flight.is_empty()) {
                self.start(next).await;
            }
            if self.in_flight.is_empty() && (self.ended || is_draining) {
                return Ok(());
            }
            let may_read = !is_draining && self.may_read();
            let is_idle = self.in_flight.is_empty() && !self.reader.is_within_a_frame();
            tokio::select! {
                biased;
                () = &mut requested, if !is_draining => {
                    is_draining = true;
                    alarm.as_mut().reset(Instant::now() + DRAIN);
                }
                answers = ready_answers(&mut self.in_flight), if !self.in_flight.is_empty() => {
                    tokio::select! {
                        biased;
                        sent = self.writer.send(answers) => sent?,
                        // The client keeps the memory of its next request as long as it does not read.
                        reason = self.reader.must_go() => return Err(reason.into()),
                    }
                    self.last_active = Instant::now();
                }
                frame = self.reader.next(), if may_read => {
                    self.last_active = Instant::now();
                    match frame? {
                        Some(frame) => self.accept(frame).await?,
                        None => self.ended = true,
                    }
                }
                () = &mut alarm, if is_draining || is_idle => {
                    if is_draining {
                        return Err(Closed::Draining);
                    }
                    if self.reader.is_within_a_frame() {
                        // It began meanwhile. Not looked at again before it is there.
                        continue;
                    }
                    if self.idle_at() <= Instant::now() {
                        return Err(Closed::Idle);
                    }
                    alarm.as_mut().reset(self.idle_at());
                }
            }
        }
    }

    fn idle_at(&self) -> Instant {
        self.last_active + self.session.gate.limits().idle_timeout
    }

    fn may_read(&self) -> bool {
        let gate = &self.session.gate;
        let in_flight_bytes: usize = self.in_flight.iter().map(|request| request.size_bytes).sum();
        !self.ended
            && self.next.is_none()
            && self.in_flight.len() < gate.limits().max_pipelined
            && in_flight_bytes < gate.pipelined_bytes()
            && self.in_flight.iter().all(|request| is_pipelined(request.api))
    }

    async fn accept(&mut self, frame: Frame) -> Result<(), Closed> {
        let head = RequestHead::parse(&frame.bytes).ok_or(Closed::NoHeader)?;
        let not_served = Closed::NotServed {
            api_key: head.api_key,
            version: head.version,
        };
        let (Some(api), Some(schema)) = (Api::find(head.api_key), Schema::find(head.api_key)) else {
            return Err(not_served);
        };
        if !api.serves(head.version) {
            return if api.key == ApiKey::ApiVersions {
                self.answer_unsupported(head)
            } else {
                Err(not_served)
            };
        }
        let request = Request::parse(head, schema, &frame.bytes).map_err(|error| Closed::Frame {
            api: api.key,
            version: head.version,
            error,
        })?;
        let accepted = Accepted {
            api,
            request,
            share: frame.share,
            size_bytes: frame.bytes.len(),
        };
        if self.in_flight.is_empty() || is_pipelined(api.key) {
            self.start(accepted).await;
        } else {
            self.next = Some(accepted);
            self.alone_in_a_row = 0;
        }
        Ok(())
    }

    /// Begins to answer. When this returns, the handler has done all that it can do without waiting; above all, a Produce
    /// has submitted its batches.
    async fn start(&mut self, accepted: Accepted) {
        let Accepted {
            api,
            request,
            share,
            size_bytes,
        } = accepted;
        let is_produce = is_pipelined(api.key);
        if !self.in_flight.is_empty() {
            self.alone_in_a_row = 0;
        } else if is_produce {
            self.alone_in_a_row = self.alone_in_a_row.saturating_add(1);
        }
        let client_waits = is_produce && self.alone_in_a_row > ALONE_FOR_A_WHILE;
        let ctx = Context {
            session: Arc::clone(&self.session),
            client_id: request.client_id,
            client_waits,
            request_share: Mutex::new(Some(share)),
            response_permit: Mutex::new(None),
        };
        let mut answering: Answering = Box::pin(async move {
            let head = request.head;
            let result = api_versions::dispatch(&ctx, api, head.version, head.correlation_id, request.body).await;
            Answer {
                result,
                permit: ctx.response_permit.into_inner(),
            }
        });
        let ready = std::future::poll_fn(|task| Poll::Ready(poll_once(&mut answering, task))).await;
        // What has come while this one was answered, at once, was sent without waiting for the answer.
        if client_waits && ready.is_some() && self.reader.has_more() {
            self.alone_in_a_row = 0;
        }
        self.in_flight.push_back(InFlight {
            answering,
            ready,
            api: api.key,
            size_bytes,
        });
    }

    fn answer_unsupported(&mut self, head: RequestHead) -> Result<(), Closed> {
        let result = unsupported().respond(ApiKey::ApiVersions, 0, head.correlation_id);
        self.in_flight.push_back(InFlight {
            answering: Box::pin(std::future::pending()),
            ready: Some(Answer { result, permit: None }),
            api: ApiKey::ApiVersions,
            size_bytes: 0,
        });
        Ok(())
    }
}

impl Writer {
    async fn send(&mut self, answers: Vec<(ApiKey, Answer)>) -> Result<(), Closed> {
        let mut small = Response::default();
        // Given back when they are written.
        let mut permits = Vec::new();
        for (api, answer) in answers {
            permits.extend(answer.permit);
            let name = api_name(api);
            match answer.result {
                Ok(response) if response.remaining() < COALESCE_BYTES => {
                    self.gate.metrics().kafka_request(name, "ok");
                    small.append(response);
                }
                Ok(response) => {
                    self.gate.metrics().kafka_request(name, "ok");
                    self.write(std::mem::take(&mut small)).await?;
                    self.write_large(response).await?;
                }
                Err(HandlerError::NoResponse) => self.gate.metrics().kafka_request(name, "ok"),
                Err(error) => {
                    self.gate.metrics().kafka_request(name, "closed");
                    self.write(small).await?;
                    return Err(Closed::Handler { api, error });
                }
            }
        }
        self.write(small).await
    }

    /// Writes what holds memory until it is written.
    async fn write_large(&mut self, mut response: Response) -> Result<(), Closed> {
        let mut holder = self.gate.hold_response(response.remaining());
        while response.has_remaining() {
            // As Kafka does: consumers that work on records for minutes read nothing meanwhile. Where others need the memory,
            // the slowest must go long before.
            let deadline = Instant::now() + self.gate.limits().idle_timeout;
            let step_end = response.remaining().saturating_sub(STEP_BYTES);
            while response.remaining() > step_end {
                // Nearly always more than the step: as much as the socket takes.
                let mut part = (&mut response).take(WRITE_BYTES);
                tokio::select! {
                    biased;
                    written = self.stream.write_buf(&mut part) => match written {
                        Ok(0) => return Err(Closed::Write(std::io::ErrorKind::WriteZero.into())),
                        written => written.map_err(Closed::Write)?,
                    },
                    () = no_patience_left(deadline, &self.token) => return Err(Closed::WriteStalled),
                    () = holder.must_go() => return Err(Closed::Slowest),
                };
            }
            holder.got_on();
        }
        Ok(())
    }

    async fn write(&mut self, mut small: Response) -> Result<(), Closed> {
        let mut slices = [IoSlice::new(&[]); SLICES_AT_ONCE];
        let count = small.chunks_vectored(&mut slices);
        // Nearly always the socket takes all of it, and no timer is needed. An error comes again below.
        let written = match slices.get(..count).unwrap_or_default() {
            [] => Ok(0),
            [one] => self.stream.try_write(one),
            several => self.stream.try_write_vectored(several),
        };
        small.advance(written.unwrap_or(0));
        while small.has_remaining() {
            let mut part = (&mut small).take(PROGRESS_BYTES);
            let deadline = Instant::now() + PROGRESS_TIME;
            tokio::select! {
                biased;
                written = self.stream.write_all_buf(&mut part) => written.map_err(Closed::Write)?,
                () = no_patience_left(deadline, &self.token) => return Err(Closed::WriteStalled),
            }
        }
        Ok(())
    }
}

/// Returns when a client has not read what it was sent in time. At shutdown there is less.
async fn no_patience_left(deadline: Instant, token: &Token) {
    tokio::select! {
        () = tokio::time::sleep_until(deadline) => {}
        () = token.drained() => {}
    }
}

/// Whether the next request may begin before this one is answered.
fn is_pipelined(api: ApiKey) -> bool {
    api == ApiKey::Produce
}

fn api_name(api: ApiKey) -> &'static str {
    Schema::find(api as i16).map_or("unknown", |schema| schema.name)
}

fn poll_once(answering: &mut Answering, task: &mut TaskContext<'_>) -> Option<Answer> {
    match answering.as_mut().poll(task) {
        Poll::Ready(answer) => Some(answer),
        Poll::Pending => None,
    }
}

/// Waits for the first request's answer, and takes those behind it that are there as well.
async fn ready_answers(in_flight: &mut VecDeque<InFlight>) -> Vec<(ApiKey, Answer)> {
    std::future::poll_fn(|task| {
        let mut answers = Vec::with_capacity(1);
        while let Some(first) = in_flight.front_mut() {
            let Some(answer) = first.ready.take().or_else(|| poll_once(&mut first.answering, task)) else {
                break;
            };
            answers.push((first.api, answer));
            in_flight.pop_front();
        }
        if answers.is_empty() {
            Poll::Pending
        } else {
            Poll::Ready(answers)
        }
    })
    .await
}
