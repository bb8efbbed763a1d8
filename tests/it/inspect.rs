//! Damage, as an operator meets it: named while the server runs, found by `riverlog inspect`, mended where it can be.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::bad_http::get;
use crate::server::{Server, files, temp_dir, until};

/// Exit code and everything that a command writes.
pub fn riverlog(arguments: &[&str], input: &str) -> (Option<i32>, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_riverlog"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

fn inspect(what: &[&str], data: &Path) -> (Option<i32>, String) {
    let arguments = [&["inspect"], what, &["--data-dir", data.to_str().unwrap()]].concat();
    riverlog(&arguments, "")
}

fn produce(server: &Server, lines: &str) {
    let (code, text) = riverlog(&["produce", "t", "--bootstrap", &server.bootstrap()], lines);
    assert_eq!(code, Some(0), "{text}");
}

fn consumed(server: &Server) -> String {
    let (code, text) = riverlog(&["consume", "t", "--bootstrap", &server.bootstrap()], "");
    assert_eq!(code, Some(0), "{text}");
    text
}

fn lines(range: std::ops::Range<u32>) -> String {
    range.map(|number| format!("{number}\n")).collect()
}

pub fn flip(path: &Path, position: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[position] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

/// The segment of the topic's only partition: log 0 is the catalog.
pub fn segment(data: &Path) -> PathBuf {
    let mut segments = files(data)
        .into_iter()
        .filter(|path| path.starts_with("logs/1") && path.extension().is_some_and(|extension| extension == "log"));
    data.join(segments.next().unwrap())
}

#[test]
fn a_damaged_batch_is_named_while_the_rest_is_served() {
    let dir = temp_dir();
    let data = dir.path().join("data");
    let server = Server::start(&data);
    produce(&server, &lines(0..100));
    server.stop();
    assert_eq!(inspect(&["verify"], &data).0, Some(0));
    flip(&segment(&data), 30);

    let server = Server::start(&data);
    until("the scrub to find it", || {
        get(server.http, "/readyz").contains("\"topic\":\"t\"")
    });
    let ready = get(server.http, "/readyz");
    assert!(
        ready.starts_with("HTTP/1.1 200") && ready.contains("\"offset\":0"),
        "{ready}"
    );
    assert!(get(server.http, "/metrics").contains("riverlog_damaged_batches 1"));
    let refused = get(server.http, "/topics/t/records?offset=0");
    assert!(refused.starts_with("HTTP/1.1 500"), "{refused}");
    let (code, text) = riverlog(&["consume", "t", "--bootstrap", &server.bootstrap()], "");
    assert_eq!(code, Some(1), "{text}");
    assert!(
        text.contains("error code 2)") && text.contains("--partition 0 --from OFFSET"),
        "{text}"
    );
    server.stop();

    let (code, text) = inspect(&["verify"], &data);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("(t-0 offset 0)") && text.contains("position 0"), "{text}");
    let (code, text) = inspect(&["repair"], &data);
    assert!(code == Some(0) && text.contains("cannot be restored"), "{text}");
}

#[test]
fn a_fenced_partition_is_repaired_with_all_that_its_segments_hold() {
    let dir = temp_dir();
    let data = dir.path().join("data");
    let server = Server::start(&data);
    produce(&server, &lines(0..100));
    // Then only records stand above the checkpoint: where changes of the catalog are lost, a start is refused.
    until("a checkpoint", || {
        get(server.http, "/metrics").contains("riverlog_journal_since_checkpoint_bytes 0.0")
    });
    produce(&server, &lines(100..200));
    let (code, text) = inspect(&["verify"], &data);
    assert!(code == Some(1) && text.contains("in use"), "{text}");
    server.kill();
    for path in files(&data).iter().filter(|path| path.starts_with("journal")) {
        std::fs::write(data.join(path), b"").unwrap();
    }

    let server = Server::start(&data);
    let ready = get(server.http, "/readyz");
    assert!(ready.starts_with("HTTP/1.1 503") && ready.contains("fenced"), "{ready}");
    server.stop();
    let (code, text) = inspect(&["verify"], &data);
    assert!(code == Some(1) && text.contains("riverlog inspect repair"), "{text}");
    let (_, plan) = inspect(&["repair", "--dry-run"], &data);
    let (code, text) = inspect(&["repair"], &data);
    assert_eq!(code, Some(0), "{text}");
    for text in [plan, text] {
        assert!(text.contains("kept  100 records behind offset 100"), "{text}");
    }
    let (code, text) = inspect(&["verify"], &data);
    assert_eq!(code, Some(0), "{text}");

    let server = Server::start(&data);
    assert_eq!(consumed(&server), lines(0..200));
    produce(&server, &lines(200..210));
    assert_eq!(consumed(&server), lines(0..210));
    server.stop();
}
