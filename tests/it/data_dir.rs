//! Data directories that a server must not, or cannot, use: it says which and why, touches nothing, and exits.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::server::{Refused, Server, Starting, files, temp_dir, until, wait};
use crate::wire::Wire;

fn refused(data_dir: &Path, arguments: &[&str]) -> Refused {
    match Server::try_start(data_dir, arguments) {
        Ok(_) => panic!("a server started on {}", data_dir.display()),
        Err(refused) => {
            assert!(!refused.status.success());
            assert!(
                refused.status.code().is_some(),
                "{}: not an exit but a crash",
                refused.status
            );
            assert!(!refused.stderr.contains("panicked"), "{}", refused.stderr);
            refused
        }
    }
}

fn contents(dir: &Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    files(dir)
        .into_iter()
        .map(|file| (file.clone(), std::fs::read(dir.join(&file)).unwrap()))
        .collect()
}

/// A data directory with something in it.
fn used(data: &Path) {
    let server = Server::start(data);
    Wire::connect(server.kafka).create_topic("kept");
    server.stop();
}

#[test]
fn a_directory_in_use_is_refused_and_the_user_of_it_not_disturbed() {
    let dir = temp_dir();
    let data = dir.path().join("data");
    let mut first = Server::start(&data);
    let error = refused(&data, &[]).stderr;
    assert!(
        error.contains("in use") && error.contains(data.to_str().unwrap()),
        "{error}"
    );
    assert!(first.is_running());
    Wire::connect(first.kafka).create_topic("still-there");
    // Killed, the first one leaves nothing that keeps the second one out.
    first.kill();
    Server::start(&data).stop();
}

#[test]
fn a_newer_version_is_refused_by_number() {
    let dir = temp_dir();
    let data = dir.path().join("data");
    used(&data);
    for name in ["manifest", "manifest.copy"] {
        // Magic, length, checksum of the body; the body begins with the format version.
        let mut bytes = std::fs::read(data.join(name)).unwrap();
        assert_eq!(&bytes[..8], b"RIVERMAN");
        bytes[20] += 1;
        let mut crc = flate2::Crc::new();
        crc.update(&bytes[20..]);
        bytes[16..20].copy_from_slice(&crc.sum().to_le_bytes());
        std::fs::write(data.join(name), bytes).unwrap();
    }
    let before = contents(&data);
    let error = refused(&data, &[]).stderr;
    assert!(error.contains("version 4") && error.contains("newer"), "{error}");
    assert!(contents(&data) == before, "a refused directory was written to");
}

#[test]
fn a_directory_of_something_else_is_refused_and_left_alone() {
    let dir = temp_dir();
    let data = dir.path().join("photos");
    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join("holiday.jpg"), b"not ours").unwrap();
    let error = refused(&data, &[]).stderr;
    assert!(error.contains("holiday.jpg") && error.contains("photos"), "{error}");
    assert_eq!(std::fs::read(data.join("holiday.jpg")).unwrap(), b"not ours");
}

#[test]
fn a_directory_without_its_manifests_is_refused() {
    let dir = temp_dir();
    let data = dir.path().join("data");
    used(&data);
    std::fs::remove_file(data.join("manifest")).unwrap();
    std::fs::remove_file(data.join("manifest.copy")).unwrap();
    refused(&data, &[]);
}

#[test]
fn one_damaged_manifest_is_replaced_by_its_copy_and_two_are_refused() {
    let dir = temp_dir();
    let data = dir.path().join("data");
    used(&data);
    std::fs::write(data.join("manifest"), b"garbage").unwrap();
    let server = Server::start(&data);
    server.stop();
    std::fs::write(data.join("manifest"), b"").unwrap();
    std::fs::write(data.join("manifest.copy"), b"RIVERMANxxxxxxxxxxxxxxxxxxx").unwrap();
    let error = refused(&data, &[]).stderr;
    assert!(error.contains("manifest"), "{error}");
}

#[test]
fn a_file_in_place_of_the_directory_is_refused() {
    let dir = temp_dir();
    let file = dir.path().join("file");
    std::fs::write(&file, b"x").unwrap();
    let error = refused(&file, &[]).stderr;
    assert!(error.contains(file.to_str().unwrap()), "{error}");
    assert_eq!(std::fs::read(&file).unwrap(), b"x");
}

#[test]
fn a_directory_that_cannot_be_written_is_refused() {
    // root may write anywhere but to file systems that nobody can write to; /proc is one.
    let data = Path::new("/proc/self/riverlog-data");
    let error = refused(data, &[]).stderr;
    assert!(error.contains("/proc/self/riverlog-data"), "{error}");

    let dir = temp_dir();
    let data = dir.path().join("data");
    used(&data);
    let all = std::fs::metadata(&data).unwrap().permissions();
    let mut read_only = all.clone();
    read_only.set_readonly(true);
    std::fs::set_permissions(&data, read_only).unwrap();
    if std::fs::write(data.join("probe"), b"").is_ok() {
        println!("NOT RUN: a read-only directory, because this user may write to those (root)");
    } else {
        let error = refused(&data, &[]).stderr;
        assert!(error.contains(data.to_str().unwrap()), "{error}");
    }
    std::fs::set_permissions(&data, all).unwrap();
}

#[test]
fn an_address_in_use_is_refused_by_name() {
    let dir = temp_dir();
    let first = Server::start(&dir.path().join("first"));
    let address = first.bootstrap();
    let error = refused(&dir.path().join("second"), &["--kafka-addr", &address]).stderr;
    assert!(error.contains(&address), "{error}");
}

#[test]
fn sigterm_ends_a_server_that_has_idle_and_busy_connections() {
    let dir = temp_dir();
    let server = Server::start(&dir.path().join("data"));
    let _idle = Wire::connect(server.kafka);
    let _http = std::net::TcpStream::connect(server.http).unwrap();
    server.stop();
}

#[test]
fn being_killed_while_starting_does_no_harm() {
    let dir = temp_dir();
    let data = dir.path().join("data");
    used(&data);
    for _ in 0..5 {
        let before = files(&data).len();
        let starting = Starting::spawn(&data, &[]);
        // Somewhere in recovery: as soon as it has touched anything, or is done.
        let mut looks = 0;
        until("the start to have begun", || {
            looks += 1;
            files(&data).len() != before || looks > 20
        });
        starting.kill();
    }
    Server::start(&data).stop();
}

/// As when the process that started it has died. Each line of the log used to panic in the thread that had something to
/// say, the committing one first: nobody was answered any more, and the server never ended.
#[test]
fn a_server_whose_directory_goes_and_whose_log_nobody_reads_answers_and_ends() {
    let dir = temp_dir();
    let data = dir.path().join("data");
    let mut server = Command::new(env!("CARGO_BIN_EXE_riverlog"))
        .args([
            "serve",
            "--demo-job",
            "--until-stdin-ends",
            "--kafka-addr",
            "127.0.0.1:0",
            "--http-addr",
            "127.0.0.1:0",
        ])
        .arg("--data-dir")
        .arg(&data)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(server.stdout.take().unwrap())
        .lines()
        .map(Result::unwrap);
    let kafka = lines
        .map(|line| line.trim().to_owned())
        .find(|line| line.starts_with("kafka"));
    let kafka = kafka.unwrap().split_whitespace().nth(1).unwrap().to_owned();
    drop(server.stderr.take());
    // It may be making a file just now.
    until("the directory to be gone", || std::fs::remove_dir_all(&data).is_ok());
    // A file that is open outlives its name: the server learns of it when it makes the next one, or looks for its lock.
    let mut topics = 0;
    until("the server to say that it cannot write", || {
        topics += 1;
        let create = Command::new(env!("CARGO_BIN_EXE_riverlog"))
            .args(["topic", "create", &format!("too-late-{topics}"), "--bootstrap", &kafka])
            .output()
            .unwrap();
        String::from_utf8(create.stderr).unwrap().contains("restart to recover")
    });
    drop(server.stdin.take());
    assert_eq!(wait(&mut server).code(), Some(1));
}
