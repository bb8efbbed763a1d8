//! What was published against HTTP servers and proxies.

use std::io::Write;
use std::net::SocketAddr;

use super::assert_unharmed;
use crate::bad_http::{connect, get, read_all};
use crate::server::{Server, temp_dir};
use crate::wire::{Reply, Wire};

/// Sends it all, and reads until the server closes.
pub fn say(http: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = connect(http);
    // The server may have heard enough before everything is sent.
    let _ = stream.write_all(bytes);
    read_all(stream)
}

#[test]
fn cve_2019_20444_and_others_a_request_hides_another() {
    let dir = temp_dir();
    let mut server = Server::start(&dir.path().join("data"));
    let before = server.peak_memory_bytes();
    let hidden = "GET /topics/hidden HTTP/1.1\r\nhost: x\r\n\r\n";
    let length = hidden.len();
    for (what, head, body) in [
        ("a header without a colon", "content-length 5".to_owned(), "abcde"),
        (
            "a header of several lines",
            format!("x: y\r\n content-length: {length}"),
            "",
        ),
        (
            "an encoding of several lines",
            "transfer-encoding:\r\n chunked".to_owned(),
            "0\r\n\r\n",
        ),
        ("a length in hexadecimal", "content-length: 0x5".to_owned(), "abcde"),
        (
            "a length that overflows",
            "content-length: 18446744073709551621".to_owned(),
            "abcde",
        ),
        ("two lengths in one", "content-length: 5, 6".to_owned(), "abcde"),
        (
            "an encoding that is not the last",
            "transfer-encoding: chunked, identity".to_owned(),
            "0\r\n\r\n",
        ),
        ("a carriage return alone", format!("x: y\rcontent-length: {length}"), ""),
        (
            "a zero byte in a header",
            format!("x: y\0\r\ncontent-length: {length}"),
            "",
        ),
        (
            "a chunk's size with 0x",
            "transfer-encoding: chunked".to_owned(),
            "0x3\r\nabc\r\n0\r\n\r\n",
        ),
        (
            "a chunk's size with +",
            "transfer-encoding: chunked".to_owned(),
            "+3\r\nabc\r\n0\r\n\r\n",
        ),
        (
            "a chunk's size below zero",
            "transfer-encoding: chunked".to_owned(),
            "-1\r\nabc\r\n0\r\n\r\n",
        ),
        (
            "a line feed behind a chunk's size",
            "transfer-encoding: chunked".to_owned(),
            "3\nabc\r\n0\r\n\r\n",
        ),
        (
            "a line feed in a chunk's extension",
            "transfer-encoding: chunked".to_owned(),
            "3;x\nabc\r\n0\r\n\r\n",
        ),
        (
            "a chunk longer than it says",
            "transfer-encoding: chunked".to_owned(),
            "2\r\nabc\r\n0\r\n\r\n",
        ),
    ] {
        let request = format!("POST /topics/t/records HTTP/1.1\r\nhost: x\r\n{head}\r\n\r\n{body}{hidden}");
        let answer = say(server.http, request.as_bytes());
        assert!(answer.starts_with("HTTP/1.1 400"), "{what}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{what}: {answer}");
    }
    // A line feed alone may end a line of a head (RFC 9112, 2.2). It ends it for every header alike, so nothing is hidden.
    let request =
        format!("POST /topics/t/records HTTP/1.1\nhost: x\nconnection: close\ncontent-length: {length}\n\n{hidden}");
    let answer = say(server.http, request.as_bytes());
    assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{answer}");
    assert!(!get(server.http, "/topics").contains("hidden"));
    assert_unharmed(&mut server, before);
}

#[test]
fn cve_2023_39326_chunk_extensions_without_end() {
    let dir = temp_dir();
    let mut server = Server::start(&dir.path().join("data"));
    let before = server.peak_memory_bytes();
    let head = "POST /topics/t/records HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n";
    // In one chunk, spread over many, and as trailers.
    let one = format!("{head}1;{}\r\na\r\n0\r\n\r\n", "x".repeat(8 << 20));
    let many = format!(
        "{head}{}0\r\n\r\n",
        format!("1;{}\r\na\r\n", "x".repeat(1000)).repeat(4000)
    );
    let trailers = format!("{head}1\r\na\r\n0\r\n{}\r\n", "x: y\r\n".repeat(1 << 20));
    for request in [one, many, trailers] {
        let answer = say(server.http, request.as_bytes());
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
    assert_unharmed(&mut server, before);
}

#[test]
fn cve_2023_44487_http_2_is_not_spoken() {
    let dir = temp_dir();
    let mut server = Server::start(&dir.path().join("data"));
    let before = server.peak_memory_bytes();
    // The preface, empty settings, then streams that are opened and reset at once.
    let mut rapid = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    for stream in (1_u32..2001).step_by(2) {
        rapid.extend_from_slice(b"\0\0\x03\x01\x05");
        rapid.extend_from_slice(&stream.to_be_bytes());
        rapid.extend_from_slice(&[0x82, 0x84, 0x86]);
        rapid.extend_from_slice(b"\0\0\x04\x03\0");
        rapid.extend_from_slice(&stream.to_be_bytes());
        rapid.extend_from_slice(&8_u32.to_be_bytes());
    }
    let answer = say(server.http, &rapid);
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 4") || answer.starts_with("HTTP/1.1 505"),
        "{answer}"
    );
    let mut wire = Wire::connect(server.kafka);
    wire.send(&rapid);
    wire.finish_sending();
    assert_eq!(wire.reply(), Reply::Closed);
    // Whoever offers to change to it is answered in HTTP/1.1, and the offer is passed over.
    let upgrade = "GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close, upgrade, http2-settings\r\nupgrade: h2c\r\n\
                   http2-settings: AAMAAABkAAQAAP__\r\n\r\n";
    let answer = say(server.http, upgrade.as_bytes());
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.ends_with("ok\n"),
        "{answer}"
    );
    assert_unharmed(&mut server, before);
}
