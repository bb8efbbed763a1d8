//! Backups of a server under load, restored and served.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use crate::bad_http::{get, post};
use crate::inspect::riverlog;
use crate::server::{PATIENCE, Server, temp_dir};

fn ok(arguments: &[&str], input: &str) -> String {
    let (code, text) = riverlog(arguments, input);
    assert_eq!(code, Some(0), "{arguments:?}: {text}");
    text
}

fn fails(arguments: &[&str]) -> String {
    let (code, text) = riverlog(arguments, "");
    assert_eq!(code, Some(1), "{arguments:?}: {text}");
    text
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn publish(server: &Server, topic: &str, value: &str) {
    let answer = post(server.http, &format!("/topics/{topic}/records"), "text/plain", value);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

/// A server with a topic and a group, and its backup.
fn example(dir: &Path) -> std::path::PathBuf {
    let server = Server::start(&dir.join("data"));
    for number in 0..50 {
        publish(&server, "t", &number.to_string());
    }
    let file = dir.join("b.tar");
    ok(&["backup", text(&file), "--http", &server.http.to_string()], "");
    let again = fails(&["backup", text(&file), "--http", &server.http.to_string()]);
    assert!(again.contains("exists"), "{again}");
    server.stop();
    file
}

#[test]
fn a_backup_under_load_has_everything_that_was_acknowledged_before_it() {
    let dir = temp_dir();
    let (data, copy, file) = (
        dir.path().join("data"),
        dir.path().join("copy"),
        dir.path().join("b.tar"),
    );
    let arguments = ["--retention-interval-ms", "50", "--checkpoint-bytes", "4194304"];
    let server = Server::start_with(&data, &arguments);
    let bootstrap = server.bootstrap();
    let small = [
        "--config",
        "segment.bytes=1048576",
        "--config",
        "retention.bytes=1048576",
    ];
    ok(
        &[&["topic", "create", "passing", "--bootstrap", &bootstrap], &small[..]].concat(),
        "",
    );
    ok(&["topic", "create", "gone", "--bootstrap", &bootstrap], "");
    publish(&server, "gone", "x");

    let (stop, written) = (AtomicBool::new(false), AtomicU64::new(0));
    let before = std::thread::scope(|scope| {
        let (server, stop, written) = (&server, &stop, &written);
        scope.spawn(move || {
            let mut number = 0;
            while !stop.load(Ordering::SeqCst) {
                publish(server, "kept", &number.to_string());
                publish(server, "passing", &"p".repeat(200_000));
                number += 1;
                written.store(number, Ordering::SeqCst);
            }
        });
        let wait_for = |count: u64| {
            let started = Instant::now();
            while written.load(Ordering::SeqCst) < count {
                assert!(started.elapsed() < PATIENCE, "no progress");
                std::thread::yield_now();
            }
        };
        wait_for(50);
        let group = ["group", "reset-offsets", "g", "--topic", "kept", "--to", "17"];
        ok(&[&group[..], &["--bootstrap", &bootstrap]].concat(), "");
        let before = written.load(Ordering::SeqCst);
        let told = ok(&["backup", text(&file), "--http", &server.http.to_string()], "");
        assert!(told.contains("checked") && !told.contains("damage"), "{told}");
        // The server goes on.
        wait_for(written.load(Ordering::SeqCst) + 20);
        ok(&["topic", "delete", "gone", "--bootstrap", &bootstrap], "");
        stop.store(true, Ordering::SeqCst);
        before
    });
    server.stop();
    assert!(!file.with_extension("tar.partial").exists());

    let told = ok(&["restore", text(&file), "--data-dir", text(&copy)], "");
    assert!(told.contains("0 problems"), "{told}");
    let server = Server::start(&copy);
    let bootstrap = server.bootstrap();
    let kept = ok(&["consume", "kept", "--bootstrap", &bootstrap], "");
    let kept: Vec<&str> = kept.lines().collect();
    assert!(kept.len() as u64 >= before, "{} of {before}", kept.len());
    assert!(
        kept.iter()
            .enumerate()
            .all(|(number, value)| number.to_string() == *value)
    );
    assert_eq!(ok(&["consume", "gone", "--bootstrap", &bootstrap], ""), "x\n");
    let group = ok(&["group", "describe", "g", "--bootstrap", &bootstrap], "");
    let row: Vec<&str> = group.lines().last().unwrap().split_whitespace().collect();
    assert_eq!(row[..3], ["kept", "0", "17"]);
    publish(&server, "kept", "more");
    let ready = get(server.http, "/readyz");
    assert!(ready.starts_with("HTTP/1.1 200"), "{ready}");
    server.stop();
    ok(&["inspect", "verify", "--data-dir", text(&copy)], "");
}

#[test]
fn a_damaged_archive_and_a_directory_in_use_are_refused() {
    let dir = temp_dir();
    let file = example(dir.path());
    let bytes = std::fs::read(&file).unwrap();
    let copy = dir.path().join("copy");
    let bent = dir.path().join("bent.tar");

    let full = fails(&["restore", text(&file), "--data-dir", text(&dir.path().join("data"))]);
    assert!(full.contains("restore into an empty directory"), "{full}");

    let list = bytes.windows(9).rposition(|window| window == b"checksums").unwrap();
    std::fs::write(&bent, &bytes[..list]).unwrap();
    let cut = fails(&["restore", text(&bent), "--data-dir", text(&copy)]);
    assert!(cut.contains("is cut") && cut.contains("remove"), "{cut}");
    // What is there is no data directory.
    let refused = Server::try_start(&copy, &[]).err().unwrap();
    assert!(
        refused.to_string().contains("is not a Riverlog data directory"),
        "{refused}"
    );
    let again = fails(&["restore", text(&file), "--data-dir", text(&copy)]);
    assert!(again.contains("restore into an empty directory"), "{again}");
    std::fs::remove_dir_all(&copy).unwrap();

    let mut flipped = bytes.clone();
    let at = bytes
        .windows(31)
        .position(|window| window == b"logs/1/00000000000000000000.log")
        .unwrap();
    flipped[at + 512 + 70] ^= 1;
    std::fs::write(&bent, &flipped).unwrap();
    let named = fails(&["restore", text(&bent), "--data-dir", text(&copy)]);
    assert!(
        named.contains("logs/1/00000000000000000000.log in the archive") && named.contains("is damaged"),
        "{named}"
    );
    std::fs::remove_dir_all(&copy).unwrap();

    std::fs::create_dir(&copy).unwrap();
    let told = ok(&["restore", text(&file), "--data-dir", text(&copy)], "");
    assert!(told.contains("0 problems"), "{told}");
}

#[test]
fn what_is_no_backup_is_not_kept() {
    let dir = temp_dir();
    let file = dir.path().join("b.tar");
    let nobody = fails(&["backup", text(&file), "--http", "127.0.0.1:1"]);
    assert!(nobody.contains("cannot connect to 127.0.0.1:1"), "{nobody}");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let http = listener.local_addr().unwrap().to_string();
    let server = std::thread::spawn(move || {
        use std::io::{Read, Write};
        for answer in [
            "HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nhello",
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
            "HTTP/1.1 409 Conflict\r\ncontent-length: 20\r\n\r\n{\"detail\":\"not now\"}",
        ] {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = [0; 1000];
            let _ = stream.read(&mut head).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    for what in ["broke the backup off", "archive", "not now"] {
        let told = fails(&["backup", text(&file), "--http", &http]);
        assert!(told.contains(what), "{told}");
    }
    server.join().unwrap();
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is left");
}
