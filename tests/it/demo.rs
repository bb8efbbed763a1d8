//! `riverlog demo`, as a newcomer runs it.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::server::{files, temp_dir};

const RIGHT: &str = "OK: all 1,642 rows of topic hourly-departures equal a plain batch computation";

/// What it prints; it must succeed.
fn demo(data_dir: &Path, arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_riverlog"))
        .arg("demo")
        .arg("--data-dir")
        .arg(data_dir)
        .args(arguments)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{}\n{text}\n{errors}", output.status);
    text
}

/// The checksum of the answer.
fn checksum(text: &str) -> &str {
    text.split("checksum ").nth(1).unwrap().split(')').next().unwrap()
}

#[test]
fn gives_the_batch_answer_and_finds_it_again() {
    let data = temp_dir();
    let first = demo(data.path(), &[]);
    assert!(first.contains(RIGHT), "{first}");
    assert!(first.contains("state   new"), "{first}");
    let second = demo(data.path(), &[]);
    assert!(second.contains(RIGHT), "{second}");
    assert!(second.contains("nothing is published twice"), "{second}");
    assert_eq!(checksum(&first), checksum(&second));
}

#[test]
fn gives_the_same_answer_through_five_kills() {
    let data = temp_dir();
    let text = demo(data.path(), &["--crash"]);
    assert!(text.contains(RIGHT), "{text}");
    assert_eq!(text.matches("SIGKILL at").count(), 5, "{text}");
    assert!(text.contains("the answer is the same to the byte"), "{text}");
}

/// Variables are about a real server, whose directory the demo must not write into and whose port it must not take.
#[test]
fn has_nothing_to_do_with_the_variables_of_a_server() {
    let (home, server) = (temp_dir(), temp_dir());
    let mut child = Command::new(env!("CARGO_BIN_EXE_riverlog"))
        .args(["demo", "--crash"])
        .current_dir(home.path())
        .env("RIVERLOG_DATA_DIR", server.path())
        .env("RIVERLOG_LISTENER", "no address at all")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let address = lines.map_while(Result::ok).find(|line| line.contains("  server  "));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(address.is_some(), "its server process got ready");
    assert!(home.path().join("riverlog-demo-crash").is_dir());
    assert!(files(server.path()).is_empty());
}

#[test]
fn leaves_a_directory_alone_that_is_not_its_own() {
    let data = temp_dir();
    std::fs::write(data.path().join("letter.txt"), "dear").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_riverlog"))
        .arg("demo")
        .arg("--data-dir")
        .arg(data.path())
        .output()
        .unwrap();
    assert!(!output.status.success());
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(errors.contains("is not a Riverlog data directory"), "{errors}");
    let letter = std::fs::read_to_string(data.path().join("letter.txt")).unwrap();
    assert_eq!(letter, "dear");
}
