//! Clients that mean no good. Each does one thing, again and again: when the server ends its connection, it comes back.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

/// Between the bytes of who is slow.
const DRIBBLE: Duration = Duration::from_secs(1);
/// Before an ended connection is opened again.
const RETURN: Duration = Duration::from_millis(500);

/// Whom they attack, and with what.
#[derive(Debug)]
pub struct Target {
    pub kafka: SocketAddr,
    pub http: SocketAddr,
    /// A topic with as many bytes as anybody may ask for at once.
    pub topic: String,
    /// How much of a request a slow writer sends before it becomes slow.
    pub slow_request_bytes: usize,
    /// Connections that were opened again, after the server ended them or did not let them in.
    pub returns: AtomicU64,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Idle,
    /// Announces a large request and sends its first bytes.
    HalfOpen,
    /// Sends a good part of a large request, then a byte now and then.
    SlowWriter,
    /// Asks for as much as there is, and never reads.
    HugeFetch,
    /// Asks for more than there is, and to wait for it.
    PatientFetch,
    /// Asks for as much as there is, and reads a little now and then.
    SlowReader,
    /// Asks without end, and never reads.
    Deaf,
    /// Sends a large request, reads the answer, and stays.
    LargeThenIdle,
    /// An HTTP head that never ends.
    Slowloris,
    /// NDJSON, a record now and then, without end.
    EndlessLines,
    /// NDJSON, one line without end.
    EndlessLine,
    /// Asks over HTTP for records, and never reads.
    UnreadPages,
}

const KAFKA: [Kind; 20] = {
    use Kind::{Deaf, HalfOpen, HugeFetch, Idle, LargeThenIdle, PatientFetch, SlowReader, SlowWriter};
    [
        Idle,
        HalfOpen,
        SlowWriter,
        HugeFetch,
        Idle,
        Idle,
        SlowReader,
        Idle,
        HalfOpen,
        Deaf,
        Idle,
        SlowWriter,
        HugeFetch,
        Idle,
        Idle,
        PatientFetch,
        Idle,
        HalfOpen,
        LargeThenIdle,
        Idle,
    ]
};
/// Of how many Kafka attackers one is a slow writer.
pub const SLOW_WRITER_OF: usize = 10;
const HTTP: [Kind; 5] = {
    use Kind::{EndlessLine, EndlessLines, Slowloris, UnreadPages};
    [Slowloris, EndlessLines, UnreadPages, Slowloris, EndlessLine]
};

/// Starts so many. They end when the set is dropped.
pub fn start(target: &Arc<Target>, kafka: usize, http: usize) -> JoinSet<()> {
    let mut attackers = JoinSet::new();
    let kinds = KAFKA.iter().cycle().take(kafka);
    for (number, kind) in kinds.chain(HTTP.iter().cycle().take(http)).enumerate() {
        let (target, kind) = (Arc::clone(target), *kind);
        attackers.spawn(async move {
            // Not all in the same millisecond: the system's queue of new connections is short.
            tokio::time::sleep(Duration::from_millis(1) * u32::try_from(number).unwrap_or(0)).await;
            loop {
                let _ = attack(&target, kind, number).await;
                target.returns.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(RETURN).await;
            }
        });
    }
    attackers
}

/// Opens idle connections until the set is dropped.
pub async fn open_idle(target: &Target, count: usize) -> Vec<TcpStream> {
    let mut open = Vec::new();
    for number in 0..count {
        open.extend(connect(target.kafka, number).await.ok());
    }
    open
}

/// From one of many addresses: each has its own ports, which a connection keeps for a while after its end.
async fn connect(to: SocketAddr, number: usize) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    let last = u8::try_from(number % 200).unwrap_or(0) + 2;
    socket.bind((Ipv4Addr::new(127, 0, 7, last), 0).into())?;
    socket.connect(to).await
}

async fn attack(target: &Target, kind: Kind, number: usize) -> std::io::Result<()> {
    let to = match kind {
        Kind::Slowloris | Kind::EndlessLines | Kind::EndlessLine | Kind::UnreadPages => target.http,
        _ => target.kafka,
    };
    let mut stream = connect(to, number).await?;
    match kind {
        Kind::Idle => ended(&mut stream).await,
        Kind::HalfOpen => {
            stream.write_all(&announced(LARGE, &head(0, 7))).await?;
            ended(&mut stream).await
        }
        Kind::SlowWriter => {
            stream.write_all(&announced(LARGE, &head(0, 7))).await?;
            stream.write_all(&vec![0; target.slow_request_bytes]).await?;
            loop {
                stream.write_all(&[0]).await?;
                tokio::time::sleep(DRIBBLE).await;
            }
        }
        Kind::HugeFetch => {
            stream.write_all(&fetch(&target.topic, 1, 1)).await?;
            still_open(&stream).await
        }
        Kind::PatientFetch => {
            stream.write_all(&fetch(&target.topic, i32::MAX, 300_000)).await?;
            still_open(&stream).await
        }
        Kind::SlowReader => {
            stream.write_all(&fetch(&target.topic, 1, 1)).await?;
            let mut piece = [0; 1024];
            while stream.read(&mut piece).await? > 0 {
                tokio::time::sleep(DRIBBLE).await;
            }
            Ok(())
        }
        Kind::Deaf => loop {
            stream.write_all(&framed(&head(18, 0))).await?;
            tokio::time::sleep(Duration::from_millis(10)).await;
        },
        Kind::LargeThenIdle => {
            stream.write_all(&garbage(&target.topic, 1 << 20)).await?;
            ended(&mut stream).await
        }
        Kind::Slowloris => {
            stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n").await?;
            loop {
                stream.write_all(b"x: y\r\n").await?;
                tokio::time::sleep(DRIBBLE).await;
            }
        }
        Kind::EndlessLines => {
            stream.write_all(NDJSON).await?;
            loop {
                stream.write_all(b"10\r\n{\"value\":\"abc\"}\n\r\n").await?;
                tokio::time::sleep(DRIBBLE).await;
            }
        }
        Kind::EndlessLine => {
            stream.write_all(NDJSON).await?;
            let chunk = [b"10000\r\n", &[b'x'; 0x10000][..], b"\r\n"].concat();
            loop {
                stream.write_all(&chunk).await?;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        Kind::UnreadPages => {
            let page = format!(
                "GET /topics/{}/records?limit=10000 HTTP/1.1\r\nhost: x\r\n\r\n",
                target.topic
            );
            // More than the system keeps for a client.
            stream.write_all(page.repeat(100).as_bytes()).await?;
            still_open(&stream).await
        }
    }
}

const NDJSON: &[u8] = b"POST /topics/endless/records HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-ndjson\r\n\
    transfer-encoding: chunked\r\n\r\n";
/// A request of this size is let in under every budget that the campaign gives the server.
const LARGE: usize = 8 << 20;

/// Reads until there is no more.
async fn ended(stream: &mut TcpStream) -> std::io::Result<()> {
    let mut piece = [0; 256];
    while stream.read(&mut piece).await? > 0 {}
    Ok(())
}

/// Waits for the connection's end without ever reading.
async fn still_open(stream: &TcpStream) -> std::io::Result<()> {
    loop {
        tokio::time::sleep(RETURN).await;
        if let Some(error) = stream.take_error()? {
            return Err(error);
        }
        // The end of the connection may stand behind an answer that is not read here.
        let readiness = stream.ready(Interest::READABLE | Interest::WRITABLE).await?;
        if readiness.is_read_closed() || readiness.is_write_closed() {
            return Ok(());
        }
    }
}

fn text(text: &str) -> Vec<u8> {
    [&u16::try_from(text.len()).unwrap_or(0).to_be_bytes(), text.as_bytes()].concat()
}

fn head(api: i16, version: i16) -> Vec<u8> {
    [
        &api.to_be_bytes()[..],
        &version.to_be_bytes(),
        &1_i32.to_be_bytes(),
        &text("attacker"),
    ]
    .concat()
}

fn announced(bytes: usize, start: &[u8]) -> Vec<u8> {
    [&u32::try_from(bytes).unwrap_or(u32::MAX).to_be_bytes(), start].concat()
}

fn framed(request: &[u8]) -> Vec<u8> {
    announced(request.len(), request)
}

/// Version 4: for partition 0 from its beginning, up to two gigabytes.
fn fetch(topic: &str, min_bytes: i32, max_wait_ms: i32) -> Vec<u8> {
    let numbers = [-1, max_wait_ms, min_bytes, i32::MAX].map(i32::to_be_bytes).concat();
    let one = 1_i32.to_be_bytes();
    let partition = [&0_i32.to_be_bytes()[..], &0_i64.to_be_bytes(), &i32::MAX.to_be_bytes()].concat();
    framed(&[&head(1, 4)[..], &numbers, &[0], &one, &text(topic), &one, &partition].concat())
}

/// A Produce of version 7 whose records are none.
fn garbage(topic: &str, bytes: usize) -> Vec<u8> {
    let one = 1_i32.to_be_bytes();
    let start = [
        &(-1_i16).to_be_bytes()[..],
        &1_i16.to_be_bytes(),
        &10_000_i32.to_be_bytes(),
        &one,
    ]
    .concat();
    let records = announced(bytes, &vec![7; bytes]);
    framed(
        &[
            &head(0, 7)[..],
            &start,
            &text(topic),
            &one,
            &0_i32.to_be_bytes(),
            &records,
        ]
        .concat(),
    )
}
