//! Backups of a server under load, restored and served.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use crate::bad_http::{get, post};
use crate::inspect::{flip, riverlog, segment};
use crate::server::{PATIENCE, Server, temp_dir, until, wait};

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

/// Ends the load also when the test fails, which would wait for it otherwise.
struct Stopping<'a>(&'a AtomicBool);

impl Drop for Stopping<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
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
        let _stopping = Stopping(stop);
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
        assert!(told.contains("checked") && told.contains(" 0 damaged"), "{told}");
        // The server goes on.
        wait_for(written.load(Ordering::SeqCst) + 20);
        ok(&["topic", "delete", "gone", "--bootstrap", &bootstrap], "");
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
    assert!(
        full.contains("is a data directory already") && full.contains("restore into an empty"),
        "{full}"
    );
    let other = fails(&["restore", text(&file), "--data-dir", text(dir.path())]);
    assert!(other.contains("restore into an empty directory"), "{other}");

    let list = bytes.windows(9).rposition(|window| window == b"checksums").unwrap();
    std::fs::write(&bent, &bytes[..list]).unwrap();
    let cut = fails(&["restore", text(&bent), "--data-dir", text(&copy)]);
    assert!(cut.contains("is cut") && cut.contains("remove"), "{cut}");
    // What is there is no data directory.
    let refused = Server::try_start(&copy, &[]).err().unwrap();
    assert!(refused.to_string().contains("an interrupted restore"), "{refused}");
    for command in [
        &["restore", text(&file)][..],
        &["inspect", "verify"],
        &["inspect", "dump"],
        &["inspect", "repair"],
    ] {
        let again = fails(&[command, &["--data-dir", text(&copy)]].concat());
        assert!(
            again.contains("an interrupted restore") && again.contains("remove it, and restore again"),
            "{again}"
        );
    }
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
    let nowhere = fails(&["backup", text(&dir.path().join("x/b.tar"))]);
    assert!(
        nowhere.contains("cannot create") && !nowhere.contains("another backup") && !nowhere.contains("other backup"),
        "{nowhere}"
    );
    std::fs::write(dir.path().join("b.tar.partial"), "").unwrap();
    let other = fails(&["backup", text(&file)]);
    assert!(other.contains("if no other backup is being written to it"), "{other}");
    std::fs::remove_file(dir.path().join("b.tar.partial")).unwrap();
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is left");
}

#[test]
fn what_is_named_wrongly_is_said() {
    let dir = temp_dir();
    let server = Server::start(&dir.path().join("data"));
    let (target, kafka) = (dir.path().join("copy"), server.bootstrap());
    let (http, slashed) = (format!("http://{}", server.http), format!("{}/x/", text(dir.path())));
    let file = dir.path().join("b.tar");
    for (name, address, told) in [
        ("-", "127.0.0.1:1", "a backup is written to a file"),
        (text(dir.path()), "127.0.0.1:1", "is a directory; name a file in it"),
        (&slashed, "127.0.0.1:1", "is a directory; name a file in it"),
        (text(&file), &kafka, "not that for Kafka clients"),
    ] {
        let said = fails(&["backup", name, "--http", address]);
        assert!(said.contains(told), "{said}");
    }
    let (code, said) = riverlog(&["backup", text(&file), "--http", &http], "");
    assert!(
        code == Some(2) && said.contains("leave out what stands before the host"),
        "{said}"
    );
    let (binary, empty) = (dir.path().join("binary"), dir.path().join("empty"));
    std::fs::write(&binary, [0x1b, 0xff, 7, 0, 200].repeat(900)).unwrap();
    std::fs::write(&empty, "").unwrap();
    for (name, told) in [
        ("-", "not from standard input"),
        (text(dir.path()), "is a directory"),
        (text(&binary), "this is no riverlog backup"),
        (text(&empty), "there is nothing in it"),
        (text(&file), "cannot open"),
    ] {
        let restored = fails(&["restore", name, "--data-dir", text(&target)]);
        let checked = fails(&["backup", "--check", name]);
        for said in [restored, checked] {
            assert!(said.contains(told) && said.len() < 400, "{said}");
            assert!(
                said.chars().all(|c| c == '\n' || (c.is_ascii() && !c.is_control())),
                "{said:?}"
            );
        }
    }
    assert!(!target.exists(), "a wrong name makes no directory");
    server.stop();
}

#[test]
fn rot_that_nobody_has_noticed_is_found_and_the_backup_kept() {
    let dir = temp_dir();
    let (data, file, copy) = (
        dir.path().join("data"),
        dir.path().join("b.tar"),
        dir.path().join("copy"),
    );
    let server = Server::start(&data);
    for number in 0..20 {
        publish(&server, "t", &number.to_string());
    }
    let good = dir.path().join("good.tar");
    ok(&["backup", text(&good), "--http", &server.http.to_string()], "");
    let told = ok(&["backup", "--check", text(&good)], "");
    assert!(told.contains(" 0 damaged"), "{told}");
    // Nobody reads it between that and the backup.
    flip(&segment(&data), 65);
    let damaged = |arguments: &[&str]| {
        let (code, told) = riverlog(arguments, "");
        assert_eq!(code, Some(2), "{told}");
        told
    };
    let place = "logs/1/00000000000000000000.log position 0 (offset 0): the batch's CRC-32C is";
    let told = damaged(&["backup", text(&file), "--http", &server.http.to_string()]);
    assert!(told.contains(place) && told.contains(" 1 damaged"), "{told}");
    assert!(file.exists() && !dir.path().join("b.tar.partial").exists());
    let told = damaged(&["backup", "--check", text(&file)]);
    assert!(told.contains(place), "{told}");
    server.stop();
    let told = damaged(&["restore", text(&file), "--data-dir", text(&copy)]);
    assert!(
        told.contains("1 problems") && told.contains("is whole as the backup is"),
        "{told}"
    );
    let server = Server::start(&copy);
    publish(&server, "t", "more");
    // The scrub finds it, and from then on the server says so itself.
    until("the scrub to find it", || {
        get(server.http, "/readyz").contains("\"topic\":\"t\"")
    });
    let again = dir.path().join("again.tar");
    let told = damaged(&["backup", text(&again), "--http", &server.http.to_string()]);
    assert!(
        told.contains("the server knows of this damage") && told.contains(place),
        "{told}"
    );
    server.stop();
}

#[test]
fn a_backup_that_is_interrupted_leaves_nothing() {
    use std::io::{Read, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let http = listener.local_addr().unwrap().to_string();
    for signal in ["INT", "TERM"] {
        let dir = temp_dir();
        let (file, partial) = (dir.path().join("b.tar"), dir.path().join("b.tar.partial"));
        let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_riverlog"))
            .args(["backup", text(&file), "--http", &http])
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 1000]).unwrap();
        stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nhello")
            .unwrap();
        until("the first bytes", || {
            std::fs::metadata(&partial).is_ok_and(|file| file.len() == 5)
        });
        let sent = std::process::Command::new("kill")
            .args([format!("-{signal}"), child.id().to_string()])
            .status();
        assert!(sent.unwrap().success());
        assert_eq!(wait(&mut child).code(), Some(1));
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert!(said.contains(&format!("because of SIG{signal}")), "{said}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is left");
    }
}
