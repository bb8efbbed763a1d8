//! HTTP bodies that never end, and never come. (What single requests get is tested beside `src/http`; here it is about
//! the process: its memory, and that it goes on.)

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

use crate::server::{PATIENCE, Server, temp_dir};

const MEMORY_BYTES: u64 = 64 << 20;
/// Far above the largest body that is held in memory (8 MiB by default).
const ENDLESS_BYTES: usize = 256 << 20;

/// A connection whose waits are bounded.
pub fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Reads until the server closes; what came before that.
pub fn read_all(mut stream: TcpStream) -> String {
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Ok(_) => {}
        Err(error) if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => {}
        Err(error) => panic!("neither answered nor closed: {error}"),
    }
    String::from_utf8_lossy(&answer).into_owned()
}

/// The whole answer, head and body.
pub fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = connect(address);
    write!(stream, "GET {path} HTTP/1.1\r\nhost: it\r\nconnection: close\r\n\r\n").unwrap();
    read_all(stream)
}

/// The same.
pub fn post(address: SocketAddr, path: &str, content_type: &str, body: &str) -> String {
    let mut stream = connect(address);
    let length = body.len();
    write!(
        stream,
        "POST {path} HTTP/1.1\r\nhost: it\r\nconnection: close\r\ncontent-type: {content_type}\r\n\
         content-length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    read_all(stream)
}

fn assert_serving(server: &mut Server) {
    assert!(server.is_running(), "the server ended:\n{}", server.log());
    let answer = get(server.http, "/healthz");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(!server.log().contains("panicked"), "{}", server.log());
}

/// Sends chunks until the server has had enough, and returns how many bytes it took.
fn send_without_end(stream: &mut TcpStream, content_type: &str, line: &[u8]) -> usize {
    write!(
        stream,
        "POST /topics/endless/records HTTP/1.1\r\nhost: it\r\ncontent-type: {content_type}\r\ntransfer-encoding: chunked\r\n\r\n"
    )
    .unwrap();
    let chunk = [format!("{:x}\r\n", line.len()).as_bytes(), line, b"\r\n"].concat();
    let mut sent = 0;
    while sent < ENDLESS_BYTES && stream.write_all(&chunk).is_ok() {
        sent += line.len();
    }
    sent
}

#[test]
fn a_body_that_never_ends_is_refused_at_the_limit() {
    let dir = temp_dir();
    let mut server = Server::start(&dir.path().join("data"));
    let before = server.peak_memory_bytes();
    for content_type in ["application/octet-stream", "application/json", "application/x-ndjson"] {
        let mut stream = connect(server.http);
        // Without a line end anywhere, NDJSON is one endless line.
        let sent = send_without_end(&mut stream, content_type, &[b'['; 64 << 10]);
        assert!(sent < ENDLESS_BYTES, "{content_type}: took {sent} bytes");
        let answer = read_all(stream);
        // When the refusal crosses bytes on the way, the system may reset the connection before it is read.
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 4"),
            "{content_type}: {answer}"
        );
    }
    let mut stream = connect(server.http);
    write!(
        stream,
        "POST /topics/endless/records HTTP/1.1\r\nhost: it\r\ncontent-length: 10000000000\r\n\r\n"
    )
    .unwrap();
    let answer = read_all(stream);
    assert!(
        answer.starts_with("HTTP/1.1 413") && answer.contains("application/problem+json"),
        "{answer}"
    );
    assert_serving(&mut server);
    let after = server.peak_memory_bytes();
    assert!(
        after < before + MEMORY_BYTES,
        "peak memory went from {before} to {after} bytes"
    );
}

#[test]
fn many_records_in_one_body_take_no_more_memory_than_few() {
    let dir = temp_dir();
    let mut server = Server::start(&dir.path().join("data"));
    let record = format!("{{\"key\":\"k\",\"value\":\"{}\"}}\n", "x".repeat(1000));
    let lines = record.repeat(64);
    let send = |count: usize| {
        let mut stream = connect(server.http);
        write!(
            stream,
            "POST /topics/many/records HTTP/1.1\r\nhost: it\r\ncontent-type: application/x-ndjson\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
            lines.len() * count
        )
        .unwrap();
        // The answer is streamed as well, so somebody has to read it meanwhile.
        let reading = stream.try_clone().unwrap();
        let reader = std::thread::spawn(move || read_all(reading));
        for _ in 0..count {
            stream.write_all(lines.as_bytes()).unwrap();
        }
        let answer = reader.join().unwrap();
        assert!(
            answer.starts_with("HTTP/1.1 200"),
            "{}",
            &answer[..answer.len().min(500)]
        );
    };
    send(8);
    let before = server.peak_memory_bytes();
    send(1024); // 66 MB
    assert_serving(&mut server);
    let after = server.peak_memory_bytes();
    assert!(
        after < before + MEMORY_BYTES,
        "peak memory went from {before} to {after} bytes"
    );
}

#[test]
fn who_sends_nothing_is_not_waited_for() {
    let dir = temp_dir();
    let options = [
        "--http-body-idle-timeout-ms",
        "1000",
        "--http-header-timeout-ms",
        "1000",
    ];
    let mut server = Server::start_with(&dir.path().join("data"), &options);
    for opening in [
        "",
        "POST /topics/t/records HTTP/1.1\r\nhost:",
        "POST /topics/t/records HTTP/1.1\r\nhost: it\r\ncontent-length: 100\r\n\r\nhalf of",
        "POST /topics/t/records HTTP/1.1\r\nhost: it\r\ntransfer-encoding: chunked\r\n\r\n5\r\nab",
    ] {
        let mut stream = connect(server.http);
        stream.write_all(opening.as_bytes()).unwrap();
        let answer = read_all(stream);
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 4"),
            "{opening:?}: {answer}"
        );
    }
    assert_serving(&mut server);
}

#[test]
fn what_is_not_http_is_turned_away() {
    let dir = temp_dir();
    let mut server = Server::start(&dir.path().join("data"));
    let before = server.peak_memory_bytes();
    let long_path = format!("GET /{} HTTP/1.1\r\nhost: it\r\n\r\n", "x".repeat(1 << 20));
    let many_headers = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(100_000));
    let two_lengths = "POST /topics/t/records HTTP/1.1\r\nhost: it\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab";
    for request in [
        "\0\0\0\x0a\0\x12\0\0\0\0\0\x01\0\0",
        "\x16\x03\x01\x02\0\x01\0\x01",
        &long_path,
        &many_headers,
        two_lengths,
    ] {
        let mut stream = connect(server.http);
        let _ = stream.write_all(request.as_bytes());
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let answer = read_all(stream);
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 4"),
            "{:?}: {answer}",
            &request[..20]
        );
    }
    assert_serving(&mut server);
    assert!(server.peak_memory_bytes() < before + MEMORY_BYTES);
}
