#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::io::Write;

use clap::Parser;

use super::*;

#[derive(clap::Parser)]
struct Flags {
    #[command(flatten)]
    settings: Settings,
}

fn flags(args: &[&str]) -> Settings {
    Flags::try_parse_from(std::iter::once(&"riverlog").chain(args))
        .unwrap()
        .settings
}

fn file(text: &str) -> Result<Settings, ConfigError> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    Settings::from_file(file.path())
}

#[test]
fn addresses_are_read_and_written_alike() {
    for text in [
        "127.0.0.1:9092",
        "localhost:0",
        "[::1]:65535",
        "broker-1.example.com:9092",
    ] {
        assert_eq!(text.parse::<HostPort>().unwrap().to_string(), text);
    }
    for text in [
        "",
        "9092",
        ":9092",
        "host:",
        "host:65536",
        "::1:9092",
        "[::1:9092",
        "[x]:1",
        "a b:1",
        "h/x:1",
    ] {
        assert!(text.parse::<HostPort>().is_err(), "{text}");
    }
}

#[test]
fn flags_win_over_the_file_and_the_file_over_defaults() {
    let below = file("http_addr = '127.0.0.1:1'\nkafka_addr = '127.0.0.1:2'").unwrap();
    let config = flags(&["--http-addr", "127.0.0.1:3"]).over(below).resolve().unwrap();
    assert_eq!(config.http_addr.port, 3);
    assert_eq!(config.listeners[0].addr.port, 2);
    assert_eq!(config.storage.data_dir.to_str(), Some("./riverlog-data"));
}

#[test]
fn an_unknown_setting_is_refused_by_name_and_line() {
    let error = file("log = 'info'\nreplicas = 3\n").unwrap_err().to_string();
    assert!(error.contains("line 2") && error.contains("`replicas`"), "{error}");
    assert!(!error.contains('\n'), "one line: {error}");
}

#[test]
fn listeners_come_with_what_they_advertise() {
    let config = flags(&["--listener", "127.0.0.1:0=proxy:9, [::1]:0".replace(", ", ",").as_str()])
        .resolve()
        .unwrap();
    assert_eq!(config.listeners.len(), 3);
    assert_eq!(config.listeners[1].advertised, HostPort::new("proxy", 9));
    assert_eq!(config.listeners[2].advertised, HostPort::new("::1", 0));
    let config = file("[[listener]]\naddr = '127.0.0.1:7'\nadvertised_addr = 'x:8'\n")
        .unwrap()
        .resolve()
        .unwrap();
    assert_eq!(config.listeners[1].advertised, HostPort::new("x", 8));
}

#[test]
fn a_wildcard_is_never_advertised() {
    for (args, named) in [
        (&["--kafka-addr", "0.0.0.0:9092"][..], "kafka address 0.0.0.0:9092 "),
        (&["--kafka-addr", "[::]:9092"], "kafka address [::]:9092 "),
        (
            &["--listener", "127.0.0.1:0=0.0.0.0:9"],
            "advertised address 0.0.0.0:9 ",
        ),
        (
            &["--listener", "127.0.0.1:0=[::ffff:0.0.0.0]:9"],
            "advertised address [::ffff:0.0.0.0]:9 ",
        ),
    ] {
        let error = flags(args).resolve().map(drop).unwrap_err();
        assert!(matches!(error, ConfigError::WildcardAdvertised { .. }), "{args:?}");
        assert!(error.to_string().starts_with(named), "{error}");
    }
    let config = flags(&["--kafka-addr", "0.0.0.0:9092", "--advertised-addr", "h:9092"])
        .resolve()
        .unwrap();
    assert_eq!(config.listeners[0].advertised, HostPort::new("h", 9092));
}

#[test]
fn numbers_outside_their_range_are_refused_by_name() {
    let error = flags(&["--http-max-connections", "0"])
        .resolve()
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("`http_max_connections` is 0, but must be 1 to 100000"),
        "{error}"
    );
}

#[test]
fn every_setting_reaches_the_configuration() {
    let config = flags(&[
        "--lenient-replication-factor",
        "--auto-create-topics=false",
        "--node-id=7",
        "--max-message-bytes=2048",
        "--journal-file-bytes=1048576",
        "--checkpoint-bytes=2097152",
        "--http-memory-bytes=1048576",
        "--drain-timeout-ms=5",
    ])
    .resolve()
    .unwrap();
    assert!(config.broker.lenient_replication_factor && !config.broker.auto_create_topics);
    assert_eq!((config.broker.node_id, config.broker.max_message_bytes), (7, 2048));
    assert_eq!(
        (config.storage.journal_file_bytes, config.storage.checkpoint_bytes),
        (1 << 20, 2 << 20)
    );
    assert_eq!(
        (config.http.memory_bytes, config.drain_timeout.as_millis()),
        (1 << 20, 5)
    );
}

#[test]
fn a_limit_that_another_setting_makes_impossible_is_refused_with_what_would_do() {
    for (args, complaint) in [
        (
            &[
                "--kafka-max-request-bytes=104857600",
                "--kafka-request-memory-bytes=1048576",
            ][..],
            "`kafka_max_request_bytes` is 104857600, but `kafka_request_memory_bytes` is 1048576, which has room for \
             524288: lower `kafka_max_request_bytes` to 524288 or raise `kafka_request_memory_bytes` to 209715200",
        ),
        (
            &["--max-message-bytes=2048", "--kafka-max-request-bytes=2048"],
            "lower `max_message_bytes` to 1024 or raise `kafka_max_request_bytes` to 3072",
        ),
        (
            &["--max-message-bytes=1048576", "--journal-file-bytes=1048576"],
            "lower `max_message_bytes` to 524288 or raise `journal_file_bytes` to 2097152",
        ),
        (
            &["--http-max-body-bytes=104857600", "--http-memory-bytes=1048576"],
            "lower `http_max_body_bytes` to 131072 or raise `http_memory_bytes` to 838860800",
        ),
    ] {
        let error = flags(args).resolve().unwrap_err().to_string();
        assert!(error.contains(complaint), "{error}");
    }
}

#[test]
fn a_default_gives_way_to_what_was_given() {
    let config = flags(&[
        "--journal-file-bytes=1048576",
        "--kafka-request-memory-bytes=1048576",
        "--http-memory-bytes=1048576",
    ])
    .resolve()
    .unwrap();
    let half = 1 << 19;
    assert_eq!(config.kafka.max_frame_bytes, half);
    assert_eq!(config.broker.max_message_bytes, half - 1024);
    assert_eq!(config.http.max_body_bytes, half / 4);
}
