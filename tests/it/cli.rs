//! The client commands against a running server: what they print, and how they end.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use riverlog_client::{Client, Config, Producer, Record, WriterOptions};
use riverlog_storage::batch::BatchBuilder;
use riverlog_storage::compression::Compression;

use crate::bad_http::{get, post};
use crate::bad_records;
use crate::server::{Server, temp_dir, wait};
use crate::wire::Wire;

struct Cli {
    server: Server,
    _data: tempfile::TempDir,
}

impl Cli {
    fn new() -> Self {
        let data = temp_dir();
        Self {
            server: Server::start(data.path()),
            _data: data,
        }
    }

    fn start(&self, arguments: &[&str]) -> Child {
        Command::new(env!("CARGO_BIN_EXE_riverlog"))
            .args(arguments)
            .env("RIVERLOG_BOOTSTRAP", self.server.bootstrap())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    fn run(&self, arguments: &[&str], input: &[u8]) -> Output {
        let mut child = self.start(arguments);
        child.stdin.take().unwrap().write_all(input).unwrap();
        child.wait_with_output().unwrap()
    }

    /// Standard output of a command that succeeds.
    fn ok(&self, arguments: &[&str], input: &str) -> String {
        let output = self.run(arguments, input.as_bytes());
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Standard error of a command that fails: one line.
    fn fails(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments, b"");
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {errors}");
        assert_eq!(errors.lines().count(), 1, "{errors}");
        errors
    }
}

#[test]
fn lines_come_back_with_key_headers_and_offset() {
    let cli = Cli::new();
    cli.ok(&["topic", "create", "t", "--partitions", "1"], "");
    let produce = [
        "produce",
        "t",
        "--key-separator",
        ":",
        "--header",
        "a=b",
        "--compression",
        "zstd",
    ];
    cli.ok(&produce, "k1:one\nk2:two:2\n");
    assert_eq!(cli.ok(&["consume", "t"], ""), "one\ntwo:2\n");
    let lines = cli.ok(&["consume", "t", "--from", "1", "--format", "json"], "");
    let line: serde_json::Value = serde_json::from_str(lines.trim()).unwrap();
    assert_eq!(line["key"], "k2");
    assert_eq!(line["value"], "two:2");
    assert_eq!(line["offset"], 1);
    assert_eq!(line["headers"][0]["value"], "b");
    assert_eq!(
        cli.ok(&["consume", "t", "--max", "1", "--follow", "--from", "earliest"], ""),
        "one\n"
    );
    assert_eq!(cli.ok(&["replay", "t", "--from", "1"], ""), "two:2\n");

    // HTTP gives the same JSON, and takes it.
    let page = get(cli.server.http, "/topics/t/records?offset=1");
    let page: serde_json::Value = serde_json::from_str(page.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    assert_eq!(page["records"][0], line);
    let consume = ["consume", "copy", "--format", "json"];
    let all = cli.ok(&["consume", "t", "--format", "json"], "");
    let answer = post(cli.server.http, "/topics/copy/records", "application/x-ndjson", &all);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(cli.ok(&consume, ""), all);
}

/// `head` goes away after its line; whoever feeds it must not wait for another one to notice.
#[test]
fn who_waits_for_records_ends_when_nobody_reads_them() {
    let cli = Cli::new();
    cli.ok(&["topic", "create", "t", "--config", "retention.ms=-1"], "");
    let hour_ms = 3_600_000;
    for timestamp_ms in [0, hour_ms] {
        let path = format!("/topics/t/records?timestamp={timestamp_ms}");
        let answer = post(cli.server.http, &path, "text/plain", "one");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    for arguments in [
        &["consume", "t", "--follow", "--from", "earliest"][..],
        // The second record is due an hour after the first.
        &["replay", "t", "--speed", "original", "--quiet"],
    ] {
        let mut child = cli.start(arguments);
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        assert_eq!(line, "one\n");
        drop(out);
        assert!(wait(&mut child).success(), "{arguments:?}");
    }
}

#[test]
fn a_failure_ends_produce_although_no_further_line_comes() {
    let cli = Cli::new();
    let mut child = cli.start(&["produce", "t"]);
    let mut input = child.stdin.take().unwrap();
    input.write_all(&[vec![b'x'; 2 << 20], vec![b'\n']].concat()).unwrap();
    assert!(!wait(&mut child).success());
    drop(input);
}

#[test]
fn produce_says_that_its_topic_was_deleted() {
    let cli = Cli::new();
    cli.ok(&["topic", "create", "t"], "");
    let mut child = cli.start(&["produce", "t"]);
    let mut input = child.stdin.take().unwrap();
    input.write_all(b"one\n").unwrap();
    assert_eq!(
        cli.ok(&["consume", "t", "--follow", "--from", "earliest", "--max", "1"], ""),
        "one\n"
    );
    cli.ok(&["topic", "delete", "t"], "");
    input.write_all(b"two\n").unwrap();
    let mut line = String::new();
    BufReader::new(child.stderr.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(
        line.contains("still trying") && line.contains("no such topic"),
        "{line}"
    );
}

/// Who follows a topic must not wait for ever for what cannot come, nor take another topic's records for it.
#[test]
fn consume_says_that_its_topic_was_deleted() {
    let cli = Cli::new();
    for (created_again, complaint) in [
        (false, "riverlog: topic t was deleted\n"),
        (
            true,
            "riverlog: topic t was deleted and created again: its offsets begin anew\n",
        ),
    ] {
        cli.ok(&["topic", "create", "t"], "");
        cli.ok(&["produce", "t"], "one\n");
        let mut child = cli.start(&["consume", "t", "--follow", "--from", "earliest"]);
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        assert_eq!(line, "one\n");
        cli.ok(&["topic", "delete", "t"], "");
        if created_again {
            cli.ok(&["topic", "create", "t"], "");
        }
        assert_eq!(wait(&mut child).code(), Some(1));
        let errors = std::io::read_to_string(child.stderr.take().unwrap()).unwrap();
        assert_eq!(errors, complaint);
    }
}

#[test]
fn a_second_process_does_not_run_a_replay_that_is_running() {
    let cli = Cli::new();
    for topic in ["t", "copy"] {
        cli.ok(&["topic", "create", topic, "--config", "retention.ms=-1"], "");
    }
    for timestamp_ms in [0, 3_600_000] {
        let path = format!("/topics/t/records?timestamp={timestamp_ms}");
        post(cli.server.http, &path, "text/plain", "one");
    }
    let replay = ["replay", "t", "--to-topic", "copy", "--name", "n", "--quiet"];
    // The second record is due an hour after the first.
    let mut first = cli.start(&[&replay[..], &["--speed", "original"]].concat());
    cli.ok(&["consume", "copy", "--follow", "--from", "earliest", "--max", "1"], "");
    let refused = cli.fails(&replay);
    assert!(refused.contains("another process is running replay n"), "{refused}");
    assert!(first.try_wait().unwrap().is_none(), "the first one goes on");
    first.kill().unwrap();
    first.wait().unwrap();
    cli.ok(&replay, "");
    assert_eq!(cli.ok(&["consume", "copy"], ""), "one\none\n");
}

#[test]
fn a_copy_takes_the_largest_record_that_its_source_took() {
    let cli = Cli::new();
    cli.ok(&["topic", "create", "t", "--config", "max.message.bytes=4000"], "");
    // With what stands around it, the batch has just as many bytes as it may.
    let largest = (3_900..4_000)
        .rev()
        .map(|bytes| "x".repeat(bytes))
        .find(|value| post(cli.server.http, "/topics/t/records", "text/plain", value).starts_with("HTTP/1.1 200"))
        .unwrap();
    for replay in [&["copy"][..], &["named", "--name", "n"]] {
        cli.ok(&[&["replay", "t", "--quiet", "--to-topic"], replay].concat(), "");
        assert_eq!(cli.ok(&["consume", replay[0]], ""), format!("{largest}\n"));
    }
    // One that was compressed is larger in the copy.
    let mut batch = BatchBuilder::new().compression(Compression::Zstd);
    batch.push(Record {
        value: Some("x".repeat(8_000).into()),
        ..Record::default()
    });
    let mut wire = Wire::connect(cli.server.kafka);
    assert_eq!(
        bad_records::produce(&mut wire, "t", batch.build().unwrap().bytes().to_vec()),
        (0, 1)
    );
    let refused = cli.fails(&["replay", "t", "--quiet", "--to-topic", "packed", "--from", "1"]);
    for part in [
        "packed/0: a batch that begins with offset 1 of the source's partition 0",
        "riverlog topic alter packed --config max.message.bytes=",
        "error code 10",
    ] {
        assert!(refused.contains(part), "{refused}");
    }
    // Batches grow to what the destination takes, not beyond.
    for _ in 0..20 {
        post(cli.server.http, "/topics/t/records", "text/plain", &largest);
    }
    cli.ok(&["replay", "t", "--quiet", "--to-topic", "packed", "--from", "2"], "");
    assert_eq!(cli.ok(&["consume", "packed"], "").lines().count(), 20);
    let lines = format!("{}\n", &largest[..1000]).repeat(50);
    cli.ok(&["produce", "t"], &lines);
    cli.ok(&["topic", "alter", "packed", "--config", "max.message.bytes=10000"], "");
    cli.ok(&["replay", "t", "--quiet", "--to-topic", "packed", "--from", "1"], "");
    let all = cli.ok(&["consume", "packed"], "");
    assert_eq!(all.lines().filter(|line| line.len() == 8_000).count(), 1);
    assert_eq!(all.lines().count(), 20 + 1 + 20 + 50);
}

#[tokio::test]
async fn a_record_for_a_topic_that_was_deleted_is_given_up() {
    let cli = Cli::new();
    cli.ok(&["topic", "create", "t"], "");
    let client = Client::connect(Config::new(&cli.server.bootstrap())).await.unwrap();
    let options = WriterOptions {
        delivery_timeout: Duration::from_millis(500),
        ..WriterOptions::default()
    };
    let producer = Producer::new(&client, options).await.unwrap();
    let send = async || producer.send("t", Some(0), Record::default()).await.unwrap();
    send().await.wait().await.unwrap();
    assert!(producer.delayed().is_none());
    cli.ok(&["topic", "delete", "t"], "");
    let lost = send().await;
    producer.failed().await;
    let error = producer.flush().await.unwrap_err().to_string();
    assert!(
        error.contains("no such topic") && error.contains("given up after 500ms"),
        "{error}"
    );
    assert_eq!(lost.wait().await.unwrap_err().to_string(), error);
}

#[test]
fn topics_are_created_changed_and_deleted() {
    let cli = Cli::new();
    let create = [
        "topic",
        "create",
        "t",
        "--partitions",
        "2",
        "--config",
        "retention.ms=-1",
    ];
    assert_eq!(cli.ok(&create, ""), "created topic t with 2 partitions\n");
    assert!(cli.fails(&create).contains("exists already"));
    cli.ok(&["topic", "create", "t", "--if-not-exists"], "");
    cli.ok(
        &[
            "topic",
            "alter",
            "t",
            "--partitions",
            "3",
            "--config",
            "segment.bytes=1048576",
        ],
        "",
    );
    let described = cli.ok(&["topic", "describe", "t"], "");
    assert!(
        described.contains("segment.bytes=1048576") && described.contains("retention.ms=-1"),
        "{described}"
    );
    assert!(described.contains("partitions  3"), "{described}");
    cli.ok(&["topic", "alter", "t", "--delete-config", "retention.ms"], "");
    assert!(!cli.ok(&["topic", "describe", "t"], "").contains("retention.ms"));
    assert!(
        cli.fails(&["topic", "alter", "t", "--config", "colour=blue"])
            .contains("colour")
    );
    assert!(cli.ok(&["topic", "list"], "").contains("t "));
    cli.ok(&["topic", "delete", "t"], "");
    assert!(cli.fails(&["topic", "describe", "t"]).contains("no such topic"));
}

#[test]
fn groups_are_moved_described_and_deleted() {
    let cli = Cli::new();
    cli.ok(&["topic", "create", "t", "--partitions", "1"], "");
    cli.ok(&["produce", "t"], "a\nb\nc\n");
    let reset = ["group", "reset-offsets", "g", "--topic", "t", "--to"];
    let moved = cli.ok(&[&reset[..], &["2", "--dry-run"]].concat(), "");
    assert!(moved.contains("WOULD BE"), "{moved}");
    assert_eq!(cli.ok(&["group", "list"], ""), "no groups\n");
    cli.ok(&[&reset[..], &["2"]].concat(), "");
    let described = cli.ok(&["group", "describe", "g"], "");
    let row = described.lines().last().unwrap().split_whitespace().collect::<Vec<_>>();
    assert_eq!(row, ["t", "0", "2", "3", "1", "-"]);
    cli.ok(&["group", "delete", "g"], "");
    assert!(cli.fails(&["group", "describe", "g"]).contains("no such group"));
    let long = "g".repeat(40_000);
    for (id, why) in [("", "cannot be empty"), (&long, "at most 32767 bytes")] {
        let refused = cli.run(&["group", "reset-offsets", id, "--topic", "t", "--to", "1"], b"");
        assert_eq!(refused.status.code(), Some(2), "wrong usage");
        let refused = String::from_utf8(refused.stderr).unwrap();
        assert!(refused.contains(why), "{refused}");
    }
}

#[test]
fn failures_are_one_line_that_says_what_to_do() {
    let cli = Cli::new();
    let nobody = cli.fails(&["topic", "list", "--bootstrap", "127.0.0.1:1"]);
    assert!(nobody.contains("riverlog serve"), "{nobody}");
    let http = cli.server.http.to_string();
    let wrong_port = cli.fails(&["topic", "list", "--bootstrap", &http]);
    assert!(wrong_port.contains("Kafka listener"), "{wrong_port}");
    assert!(cli.fails(&["consume", "missing"]).contains("no such topic"));
    cli.ok(&["topic", "create", "t"], "");
    assert!(cli.fails(&["consume", "t", "--from", "9"]).contains("ends before 0"));
    assert!(
        cli.fails(&["consume", "t", "--partition", "7"])
            .contains("no partition 7")
    );
    assert!(cli.fails(&["produce", "a/b"]).contains("no topic can have this name"));
    let twice = [
        "topic",
        "create",
        "u",
        "--config",
        "retention.ms=1",
        "--config",
        "retention.ms=2",
    ];
    assert!(cli.fails(&twice).contains("retention.ms is given twice"));
    let backwards = cli.fails(&["replay", "t", "--from", "50", "--to", "10"]);
    assert!(backwards.contains("--to lies before --from"), "{backwards}");
    assert!(cli.fails(&["replay", "t", "--to-topic", "t"]).contains("into itself"));
    let nothing = cli.run(&["replay", "t", "--from", "101", "--to", "200"], b"");
    let errors = String::from_utf8(nothing.stderr).unwrap();
    assert!(errors.contains("no record of t was in the range"), "{errors}");
    for arguments in [
        &["topic", "create", "u", "--partitions", "-1"][..],
        &["serve", "--node-id", "-1"],
    ] {
        let output = cli.run(arguments, b"");
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{errors}");
        assert!(errors.contains("invalid value '-1'"), "{errors}");
    }
    let too_large = cli.run(&["produce", "t"], &vec![b'x'; 2 << 20]);
    assert!(!too_large.status.success());
    assert!(
        String::from_utf8(too_large.stderr)
            .unwrap()
            .contains("0 records acknowledged")
    );
}

#[test]
fn serve_warns_of_a_variable_that_means_nothing() {
    let data = temp_dir();
    let output = Command::new(env!("CARGO_BIN_EXE_riverlog"))
        .args(["serve", "--kafka-addr", "127.0.0.1:0", "--until-stdin-ends"])
        .env_remove("RIVERLOG_KILLS") // of the gate, for another test
        .env("RIVERLOG_DATA_DIR", data.path())
        .env("RIVERLOG_HTTP_ADDR", "127.0.0.1:0")
        .env("RIVERLOG_KAFKA_ADR", "127.0.0.1:9")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{errors}");
    let warnings: Vec<&str> = errors.lines().filter(|line| line.contains("is not known")).collect();
    assert_eq!(warnings.len(), 1, "{errors}");
    assert!(
        warnings[0].contains("RIVERLOG_KAFKA_ADR is") && warnings[0].contains("RIVERLOG_KAFKA_ADDR"),
        "{errors}"
    );
}

/// Whoever starts a server may close its output when it has said where it listens.
#[test]
fn serve_goes_on_when_nobody_reads_where_it_listens() {
    let data = temp_dir();
    let mut server = Command::new(env!("CARGO_BIN_EXE_riverlog"))
        .args([
            "serve",
            "--kafka-addr",
            "127.0.0.1:0",
            "--http-addr",
            "127.0.0.1:0",
            "--until-stdin-ends",
        ])
        .arg("--data-dir")
        .arg(data.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    drop(server.stdout.take());
    drop(server.stdin.take());
    assert!(server.wait().unwrap().success());
}
