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
    for args in [
        &["--kafka-addr", "0.0.0.0:9092"][..],
        &["--kafka-addr", "[::]:9092"],
        &["--listener", "127.0.0.1:0=0.0.0.0:9"],
        &["--listener", "127.0.0.1:0=[::ffff:0.0.0.0]:9"],
    ] {
        assert!(
            matches!(flags(args).resolve(), Err(ConfigError::WildcardAdvertised(_))),
            "{args:?}"
        );
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
