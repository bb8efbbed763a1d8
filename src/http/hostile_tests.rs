//! Clients that mean no good, over a real socket.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::tests::Site;
use crate::broker::BrokerOptions;
use crate::config::HttpLimits;

struct Open {
    site: Site,
    addr: SocketAddr,
    serving: JoinHandle<()>,
}

async fn open(limits: HttpLimits) -> Open {
    let site = Site::with(limits, BrokerOptions::default()).await;
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = socket.local_addr().unwrap();
    let serving = tokio::spawn(super::serve(socket, site.http.clone()));
    Open { site, addr, serving }
}

fn quick() -> HttpLimits {
    let soon = Duration::from_millis(50);
    HttpLimits {
        body_idle_timeout: soon,
        header_timeout: soon,
        ..HttpLimits::default()
    }
}

impl Open {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.addr).await.unwrap()
    }

    /// Publishes a value and expects that it is taken.
    async fn publish(&self, value: &str) {
        let head = "POST /topics/t/records HTTP/1.1\r\nhost: x\r\nconnection: close\r\n";
        let request = format!("{head}content-length: {}\r\n\r\n{value}", value.len());
        let answer = self.last_words(request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }

    /// Sends and reads until the server closes.
    async fn last_words(&self, request: &[u8]) -> String {
        let mut stream = self.connect().await;
        // The server may have heard enough before everything is sent.
        let _ = stream.write_all(request).await;
        read_all(&mut stream).await
    }

    async fn end(self) {
        self.site.shutdown.request();
        self.serving.await.unwrap();
    }
}

async fn read_all(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    let _ = stream.read_to_end(&mut text).await;
    String::from_utf8_lossy(&text).into_owned()
}

/// Reads until `end` has come.
async fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let mut text = String::new();
    while !text.ends_with(end) {
        text.push(char::from(stream.read_u8().await.unwrap()));
    }
    text
}

#[tokio::test]
async fn heads_are_bounded_in_size_and_number() {
    let open = open(HttpLimits::default()).await;
    let giant = format!("GET /healthz HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "x".repeat(1 << 20));
    let answer = open.last_words(giant.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    let many = format!("GET /healthz HTTP/1.1\r\nhost: x\r\n{}\r\n", "x: y\r\n".repeat(1000));
    let answer = open.last_words(many.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    // Exactly what docs/http.md says is taken, and nothing beyond it.
    let rest = "GET /healthz HTTP/1.1\r\nconnection: close\r\nx: \r\n\r\n".len();
    for (bytes, status) in [(64 << 10, "200"), ((64 << 10) + 1, "431")] {
        let padding = "x".repeat(bytes - rest);
        let head = format!("GET /healthz HTTP/1.1\r\nconnection: close\r\nx: {padding}\r\n\r\n");
        let answer = open.last_words(head.as_bytes()).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{bytes} bytes: {answer}"
        );
    }
    for (headers, status) in [(128, "200"), (129, "431")] {
        let others = "x: y\r\n".repeat(headers - 1);
        let head = format!("GET /healthz HTTP/1.1\r\nconnection: close\r\n{others}\r\n");
        let answer = open.last_words(head.as_bytes()).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{headers} headers: {answer}"
        );
    }
    let answer = open
        .last_words(format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(1 << 20)).as_bytes())
        .await;
    assert!(answer.starts_with("HTTP/1.1 4"), "{answer}");
    let answer = open
        .last_words(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 this is TLS\r\n\r\n")
        .await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    open.end().await;
}

#[tokio::test]
async fn a_head_that_dribbles_is_given_up() {
    let open = open(quick()).await;
    let mut stream = open.connect().await;
    let dribble = async {
        while stream.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), dribble).await.unwrap();
    // A connection that never says anything, and one that stays silent after an answer, are closed as well.
    assert_eq!(open.last_words(b"").await, "");
    let answer = open.last_words(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(answer.ends_with("ok\n"), "{answer}");
    open.end().await;
}

#[tokio::test]
async fn a_body_without_end_is_cut_at_the_limit() {
    let open = open(HttpLimits {
        max_body_bytes: 1 << 20,
        ..HttpLimits::default()
    })
    .await;
    for kind in ["text/plain", "application/json", "application/x-ndjson"] {
        let mut stream = open.connect().await;
        let head = format!(
            "POST /topics/t/records HTTP/1.1\r\nhost: x\r\ncontent-type: {kind}\r\ntransfer-encoding: chunked\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let (mut reader, mut writer) = stream.into_split();
        let endless = async move {
            let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
            while writer.write_all(chunk.as_bytes()).await.is_ok() {}
        };
        let sending = tokio::spawn(endless);
        let mut answer = vec![0; 12];
        reader.read_exact(&mut answer).await.unwrap();
        assert_eq!(answer, b"HTTP/1.1 413", "{kind}");
        tokio::time::timeout(Duration::from_secs(10), sending)
            .await
            .unwrap()
            .unwrap();
    }
    // A length that is announced is refused before a byte of the body is taken.
    let answer = open.last_words(b"POST /topics/t/records HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 99999999999\r\n\r\n").await;
    assert!(answer.contains("413 Payload Too Large"), "{answer}");
    open.end().await;
}

#[tokio::test]
async fn a_request_cannot_hide_another() {
    let open = open(quick()).await;
    for (name, request) in [
        (
            "two lengths",
            "POST /topics/t/records HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\ncontent-length: 40\r\n\r\nGET /healthz HTTP/1.1\r\n\r\n",
        ),
        (
            "a length that is no number",
            "POST /topics/t/records HTTP/1.1\r\nhost: x\r\ncontent-length: +4\r\n\r\nabcd",
        ),
        (
            "an encoding that hides",
            "POST /topics/t/records HTTP/1.1\r\nhost: x\r\ntransfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
        ),
        (
            "a chunk size that lies",
            "POST /topics/t/records HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\nabc",
        ),
        (
            "a space before the colon",
            "POST /topics/t/records HTTP/1.1\r\nhost: x\r\ncontent-length : 4\r\n\r\nabcd",
        ),
    ] {
        let answer = open.last_words(request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{name}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{name}: {answer}");
    }
    // Where a length and chunks disagree the chunks count, and nothing that follows is believed.
    let both = "POST /topics/t/records HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n";
    let answer = open
        .last_words(format!("{both}GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes())
        .await;
    assert!(
        answer.contains("connection: close") && !answer.contains("ok\n"),
        "{answer}"
    );
    assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{answer}");
    open.end().await;
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_for_a_place() {
    let open = open(HttpLimits {
        max_connections: 1,
        ..HttpLimits::default()
    })
    .await;
    let request = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n";
    let mut first = open.connect().await;
    first.write_all(request).await.unwrap();
    read_until(&mut first, "ok\n").await;
    let mut second = open.connect().await;
    second.write_all(request).await.unwrap();
    let early = tokio::time::timeout(Duration::from_millis(50), second.read_u8()).await;
    assert!(early.is_err(), "one connection is served at a time");
    drop(first);
    read_until(&mut second, "ok\n").await;
    assert_eq!(open.site.http.metrics.http.connections.get(), 1);
    drop(second);
    open.end().await;
}

#[tokio::test]
async fn an_answer_that_nobody_reads_is_given_up() {
    let open = open(HttpLimits {
        body_idle_timeout: Duration::from_millis(500),
        ..HttpLimits::default()
    })
    .await;
    let record = format!("{{\"value\":\"{}\"}}\n", "x".repeat(900 << 10)).repeat(4);
    let head = format!(
        "POST /topics/t/records HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-ndjson\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        record.len()
    );
    let answer = open.last_words(format!("{head}{record}").as_bytes()).await;
    assert!(answer.contains("\"accepted\":4"), "{answer}");
    let mut stream = open.connect().await;
    // More answers than all socket buffers between here and there can hold.
    let request = "GET /topics/t/records HTTP/1.1\r\nhost: x\r\n\r\n".repeat(200);
    let _ = stream.write_all(request.as_bytes()).await;
    while open.site.http.metrics.http.connections.get() > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    open.end().await;
}

#[tokio::test]
async fn answers_that_nobody_reads_leave_memory_to_bodies_and_to_small_answers() {
    let open = open(HttpLimits {
        max_body_bytes: 2 << 20,
        memory_bytes: 4 << 20,
        ..HttpLimits::default()
    })
    .await;
    open.publish(&"x".repeat(900 << 10)).await;
    let get = "GET /topics/t/records HTTP/1.1\r\nhost: x\r\n";
    // Each has one answer that all socket buffers between here and there have no room for.
    let mut silent = Vec::new();
    for _ in 0..3 {
        let mut stream = open.connect().await;
        stream
            .write_all(format!("{get}\r\n").repeat(100).as_bytes())
            .await
            .unwrap();
        silent.push(stream);
    }
    let last = format!("{get}connection: close\r\n\r\n");
    loop {
        let answer = open.last_words(last.as_bytes()).await;
        if answer.contains("urn:riverlog:problem:busy") {
            assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
            break;
        }
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
    open.publish("y").await;
    let small = last.replace("/records", "/records?offset=1");
    let answer = open.last_words(small.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    drop(silent);
    // They have asked more than once.
    while open.site.http.metrics.http.connections.get() > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(open.site.http.memory.in_use(), 0);
    let answer = open.last_words(last.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    open.end().await;
}

#[tokio::test]
async fn a_record_that_takes_more_than_all_answers_may_is_told_when_it_is_the_first() {
    let open = open(HttpLimits {
        max_body_bytes: 1 << 20,
        memory_bytes: 2 << 20,
        ..HttpLimits::default()
    })
    .await;
    open.publish("before").await;
    // As JSON it takes six times as much.
    open.publish(&"\u{1}".repeat(300 << 10)).await;
    let ask = async |offset| {
        let path = format!("/topics/t/records?offset={offset}");
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        open.last_words(request.as_bytes()).await
    };
    let answer = ask(0).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(answer.contains("\"next_offset\":1,"), "{answer}");
    assert!(answer.contains("\"value\":\"before\"}]}"), "{answer}");
    let answer = ask(1).await;
    assert!(answer.starts_with("HTTP/1.1 507 "), "{answer}");
    assert!(answer.contains("urn:riverlog:problem:answer-too-large"), "{answer}");
    open.end().await;
}

#[tokio::test]
async fn a_drain_finishes_what_is_under_way() {
    let open = open(HttpLimits::default()).await;
    let mut stream = open.connect().await;
    stream
        .write_all(b"POST /topics/t/records HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\nab")
        .await
        .unwrap();
    let mut idle = open.connect().await;
    idle.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    read_until(&mut idle, "ok\n").await;
    while open.site.http.metrics.http.connections.get() < 2 {
        tokio::task::yield_now().await;
    }
    open.site.shutdown.request();
    assert_eq!(read_all(&mut idle).await, "", "an idle connection is closed");
    stream.write_all(b"cd").await.unwrap();
    let answer = read_all(&mut stream).await;
    assert!(
        answer.starts_with("HTTP/1.1 200 ") && answer.contains("\"offset\":0"),
        "{answer}"
    );
    open.end().await;
}
