//! One connection to one broker: requests go out in order, answers come back in the same order.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use kafka_protocol::messages::{ApiVersionsRequest, RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};

use crate::api::Api;
use crate::client::Config;
use crate::error::Error;
use crate::walker;

/// The largest step by which a frame's buffer grows before its bytes have arrived.
const READ_STEP_BYTES: usize = 1024 * 1024;

/// A connection whose versions are negotiated. Dropping it closes it.
#[derive(Debug)]
pub(crate) struct Connection {
    addr: String,
    client_id: StrBytes,
    request_timeout: Duration,
    /// What the server offers: API key to lowest and highest version.
    offered: HashMap<i16, (i16, i16)>,
    next_correlation: AtomicI32,
    outgoing: mpsc::UnboundedSender<Outgoing>,
    waiting: Arc<Waiting>,
    tasks: [JoinHandle<()>; 2],
}

#[derive(Debug)]
struct Outgoing {
    correlation: i32,
    frame: Bytes,
    reply: Reply,
}

type Reply = oneshot::Sender<Result<Bytes, Error>>;

/// The requests that are written and not answered, oldest first.
#[derive(Debug)]
struct Waiting {
    addr: String,
    state: Mutex<WaitingState>,
}

#[derive(Debug, Default)]
struct WaitingState {
    queue: VecDeque<(i32, Reply)>,
    closed: Option<String>,
}

impl Waiting {
    fn push(&self, correlation: i32, reply: Reply) {
        let mut state = self.state.lock();
        match &state.closed {
            None => state.queue.push_back((correlation, reply)),
            Some(reason) => {
                let _ = reply.send(Err(self.disconnected(reason)));
            }
        }
    }

    fn pop(&self) -> Option<(i32, Reply)> {
        self.state.lock().queue.pop_front()
    }

    /// Answers everybody who waits; nobody may wait after that.
    fn close(&self, reason: &str) {
        let mut state = self.state.lock();
        if state.closed.is_none() {
            state.closed = Some(reason.to_owned());
        }
        let queue = std::mem::take(&mut state.queue);
        drop(state);
        for (_, reply) in queue {
            let _ = reply.send(Err(self.disconnected(reason)));
        }
    }

    fn disconnected(&self, reason: &str) -> Error {
        Error::Disconnected {
            addr: self.addr.clone(),
            reason: reason.to_owned(),
        }
    }
}

/// An answer that is on its way.
#[derive(Debug)]
pub(crate) struct Pending<R> {
    receiver: oneshot::Receiver<Result<Bytes, Error>>,
    addr: String,
    version: i16,
    after: Duration,
    deadline: Instant,
    request: std::marker::PhantomData<fn() -> R>,
}

impl<R: Api> Pending<R> {
    /// Waits for the answer, at most until the request's time is over. Can be dropped and called again.
    pub async fn answer(&mut self) -> Result<R::Response, Error> {
        let Ok(received) = timeout_at(self.deadline, &mut self.receiver).await else {
            return Err(Error::Timeout {
                addr: self.addr.clone(),
                api: R::NAME,
                after: self.after,
            });
        };
        let body = received.unwrap_or_else(|_| {
            Err(Error::Disconnected {
                addr: self.addr.clone(),
                reason: "closed".to_owned(),
            })
        })?;
        decode::<R>(&self.addr, body, self.version)
    }
}

impl Connection {
    /// Connects and asks which versions the server speaks.
    pub async fn open(addr: &str, config: &Config) -> Result<Self, Error> {
        let stream = timeout(config.connect_timeout, TcpStream::connect(addr))
            .await
            .map_err(|_| Error::Connect {
                addr: addr.to_owned(),
                reason: format!("no answer within {} ms", config.connect_timeout.as_millis()),
            })?
            .map_err(|e| Error::connect(addr, &e))?;
        // While nobody listens on a port of the ephemeral range, the system may give an attempt to connect
        // to it that very port as its own end, and connect it with itself.
        if stream.local_addr().ok() == stream.peer_addr().ok() {
            return Err(Error::connect(addr, &io::ErrorKind::ConnectionRefused.into()));
        }
        // Small requests must not wait for the acknowledgement of the one before.
        stream.set_nodelay(true).map_err(|e| Error::connect(addr, &e))?;
        let (reader, writer) = stream.into_split();
        let waiting = Arc::new(Waiting {
            addr: addr.to_owned(),
            state: Mutex::default(),
        });
        let (outgoing, receiver) = mpsc::unbounded_channel();
        let mut connection = Self {
            addr: addr.to_owned(),
            client_id: StrBytes::from_string(config.client_id.clone()),
            request_timeout: config.request_timeout,
            offered: HashMap::new(),
            next_correlation: AtomicI32::new(0),
            outgoing,
            tasks: [
                tokio::spawn(write_frames(writer, receiver, waiting.clone())),
                tokio::spawn(read_frames(reader, waiting.clone(), config.max_response_bytes)),
            ],
            waiting,
        };
        connection.offered = connection.negotiate().await?;
        Ok(connection)
    }

    async fn negotiate(&self) -> Result<HashMap<i16, (i16, i16)>, Error> {
        let request = ApiVersionsRequest::default()
            .with_client_software_name(StrBytes::from_static_str("riverlog-client"))
            .with_client_software_version(StrBytes::from_static_str(env!("CARGO_PKG_VERSION")));
        let response = self
            .start_version::<ApiVersionsRequest>(&request, 3, Duration::ZERO)?
            .answer()
            .await?;
        if response.error_code != 0 {
            return Err(Error::Unsupported {
                addr: self.addr.clone(),
                api: ApiVersionsRequest::NAME,
                offered: format!("no version 3 (error code {})", response.error_code),
                needed: "3 (Kafka 3.0 or newer)".to_owned(),
            });
        }
        Ok(response
            .api_keys
            .into_iter()
            .map(|api| (api.api_key, (api.min_version, api.max_version)))
            .collect())
    }

    /// Whether a request could be sent.
    pub fn is_open(&self) -> bool {
        self.waiting.state.lock().closed.is_none()
    }

    /// Closes it, with a reason for those who wait. An answer that was given up must not be taken for
    /// the answer to a later question.
    pub fn close(&self, reason: &str) {
        self.waiting.close(reason);
        for task in &self.tasks {
            task.abort();
        }
    }

    /// Sends the request and returns at once. `extra` is time that the server may take by itself.
    pub fn start<R: Api>(&self, request: &R, extra: Duration) -> Result<Pending<R>, Error> {
        let (min, max) = self.offered.get(&R::KEY).copied().unwrap_or((0, -1));
        let version = max.min(R::MAX);
        if version < min.max(R::MIN) {
            return Err(Error::Unsupported {
                addr: self.addr.clone(),
                api: R::NAME,
                offered: if max < 0 {
                    "not at all".to_owned()
                } else {
                    format!("versions {min} to {max}")
                },
                needed: format!("one of {} to {}", R::MIN, R::MAX),
            });
        }
        self.start_version(request, version, extra)
    }

    /// Sends the request and waits for the answer. A time-out closes the connection.
    pub async fn call<R: Api>(&self, request: &R, extra: Duration) -> Result<R::Response, Error> {
        let answer = self.start(request, extra)?.answer().await;
        if let Err(error @ Error::Timeout { .. }) = &answer {
            self.close(&error.to_string());
        }
        answer
    }

    fn start_version<R: Api>(&self, request: &R, version: i16, extra: Duration) -> Result<Pending<R>, Error> {
        let correlation = self.next_correlation.fetch_add(1, Ordering::Relaxed);
        let frame = self
            .encode(request, version, correlation)
            .map_err(|e| Error::Invalid(format!("cannot write a {} request: {e}", R::NAME)))?;
        let (reply, receiver) = oneshot::channel();
        let outgoing = Outgoing {
            correlation,
            frame,
            reply,
        };
        self.outgoing
            .send(outgoing)
            .map_err(|_| self.waiting.disconnected("closed"))?;
        let after = self.request_timeout + extra;
        Ok(Pending {
            receiver,
            addr: self.addr.clone(),
            version,
            after,
            deadline: Instant::now() + after,
            request: std::marker::PhantomData,
        })
    }

    fn encode<R: Api>(
        &self,
        request: &R,
        version: i16,
        correlation: i32,
    ) -> Result<Bytes, Box<dyn std::error::Error + Send + Sync>> {
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(correlation)
            .with_client_id(Some(self.client_id.clone()));
        let header_version = R::header_version(version);
        let size = header.compute_size(header_version)? + request.compute_size(version)?;
        let mut frame = BytesMut::with_capacity(size + 4);
        frame.extend_from_slice(&i32::try_from(size)?.to_be_bytes());
        header.encode(&mut frame, header_version)?;
        request.encode(&mut frame, version)?;
        Ok(frame.freeze())
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.close("closed by this client");
    }
}

pub(crate) fn decode<R: Api>(addr: &str, mut body: Bytes, version: i16) -> Result<R::Response, Error> {
    let malformed = |reason: String| Error::Malformed {
        addr: addr.to_owned(),
        api: R::NAME,
        reason,
    };
    if R::KEY == <ApiVersionsRequest as Request>::KEY && body.get(4..6) == Some(&[0, 35]) {
        // A server that lacks our version answers in the layout of version 0.
        return Err(Error::Unsupported {
            addr: addr.to_owned(),
            api: R::NAME,
            offered: "an older version only".to_owned(),
            needed: format!("version {version} (Kafka 3.0 or newer)"),
        });
    }
    let header_version = R::Response::header_version(version);
    if header_version > 0 {
        walker::walk(&body, &[walker::Shape::Fixed(4), walker::TAGS], version)
            .err()
            .map_or(Ok(()), |e| Err(malformed(e.to_owned())))?;
    }
    ResponseHeader::decode(&mut body, header_version).map_err(|e| malformed(e.to_string()))?;
    walker::walk(&body, R::SHAPE, version).map_err(|e| malformed(e.to_owned()))?;
    R::Response::decode(&mut body, version).map_err(|e| malformed(e.to_string()))
}

async fn write_frames(
    mut writer: OwnedWriteHalf,
    mut outgoing: mpsc::UnboundedReceiver<Outgoing>,
    waiting: Arc<Waiting>,
) {
    while let Some(next) = outgoing.recv().await {
        // Before the write: the answer may be there before the write returns.
        waiting.push(next.correlation, next.reply);
        if let Err(error) = writer.write_all(&next.frame).await {
            waiting.close(&error.to_string());
            return;
        }
    }
}

async fn read_frames(mut reader: OwnedReadHalf, waiting: Arc<Waiting>, max_bytes: usize) {
    loop {
        let frame = match read_frame(&mut reader, max_bytes).await {
            Ok(frame) => frame,
            Err(reason) => return waiting.close(&reason),
        };
        let correlation = frame.clone().try_get_i32().unwrap_or(-1);
        match waiting.pop() {
            Some((expected, reply)) if expected == correlation => {
                let _ = reply.send(Ok(frame));
            }
            Some((expected, reply)) => {
                let reason = format!("answer {correlation} came where {expected} was due");
                let _ = reply.send(Err(waiting.disconnected(&reason)));
                return waiting.close(&reason);
            }
            None => return waiting.close("an answer came to a question that was not asked"),
        }
    }
}

async fn read_frame(reader: &mut OwnedReadHalf, max_bytes: usize) -> Result<Bytes, String> {
    let length = reader.read_i32().await.map_err(|e| match e.kind() {
        io::ErrorKind::UnexpectedEof => "the server closed it".to_owned(),
        _ => e.to_string(),
    })?;
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if !(4..=max_bytes).contains(&length) {
        return Err(format!(
            "a response of {length} bytes was announced (4 to {max_bytes} are accepted); \
             is it a Kafka listener?"
        ));
    }
    // Memory is taken as bytes arrive, not as the length promises.
    let mut frame = BytesMut::with_capacity(length.min(READ_STEP_BYTES));
    while frame.len() < length {
        let missing = length - frame.len();
        frame.reserve(missing.min(READ_STEP_BYTES));
        let read = (&mut *reader)
            .take(missing as u64)
            .read_buf(&mut frame)
            .await
            .map_err(|e| e.to_string())?;
        if read == 0 {
            return Err("the server closed it in the middle of a response".to_owned());
        }
    }
    Ok(frame.freeze())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// A server that reads one request and answers with these bytes.
    async fn answering(answer: &'static [u8]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            let length = socket.read_i32().await.unwrap();
            let mut request = vec![0; usize::try_from(length).unwrap()];
            socket.read_exact(&mut request).await.unwrap();
            socket.write_all(answer).await.unwrap();
            // Held open: only the answer's content can end the wait early.
            std::future::pending::<()>().await;
        });
        addr
    }

    async fn error(answer: &'static [u8]) -> Error {
        let addr = answering(answer).await;
        let config = Config {
            request_timeout: Duration::from_millis(300),
            ..Config::new(&addr)
        };
        match Connection::open(&addr, &config).await {
            Ok(_) => panic!("connected"),
            Err(error) => error,
        }
    }

    #[tokio::test]
    async fn silence_ends_in_a_time_out() {
        assert!(matches!(error(b"").await, Error::Timeout { .. }));
        // So does half an answer.
        assert!(matches!(error(b"\0\0\0\x10\0\0").await, Error::Timeout { .. }));
    }

    #[tokio::test]
    async fn what_is_not_kafka_is_told_at_once() {
        let http = error(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        assert!(http.to_string().contains("is it a Kafka listener?"), "{http}");
    }

    #[tokio::test]
    async fn an_answer_to_another_question_closes_the_connection() {
        let other = error(b"\0\0\0\x06\0\0\0\x63\0\0").await;
        assert!(matches!(other, Error::Disconnected { .. }), "{other}");
    }

    #[tokio::test]
    async fn counts_that_lie_are_malformed() {
        // Correlation 0, no error, and 268 million versions.
        let lie = error(b"\0\0\0\x0a\0\0\0\0\0\0\xff\xff\xff\x7f").await;
        assert!(matches!(lie, Error::Malformed { .. }), "{lie}");
    }

    #[tokio::test]
    async fn an_older_server_is_named_as_such() {
        // Version 0 layout: error 35, an array of one.
        let older = error(b"\0\0\0\x10\0\0\0\0\0\x23\0\0\0\x01\0\x12\0\0\0\x02").await;
        assert!(older.to_string().contains("Kafka 3.0 or newer"), "{older}");
    }
}
