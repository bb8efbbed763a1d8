#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::config::ListenerConfig;

async fn get(addr: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

async fn refused(config: Config) -> String {
    match Server::start(config).await {
        Ok(_) => unreachable!("the server started"),
        Err(error) => error.to_string(),
    }
}

#[tokio::test]
async fn a_server_starts_serves_ends_and_starts_again_on_its_data() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    for round in 0..3 {
        let server = Server::start(Config::ephemeral(&data)).await.unwrap();
        assert!(get(server.http_addr(), "/readyz").await.starts_with("HTTP/1.1 200 "));
        let topic = server.broker().topic_or_create("t").await.unwrap();
        let record = riverlog_storage::record::Record::default();
        let placed = server
            .broker()
            .append_records(&topic, None, vec![record])
            .await
            .unwrap();
        assert_eq!(placed[0].offset, round);
        TcpStream::connect(server.kafka_addr()).await.unwrap();
        server.shutdown().await.unwrap();
    }
}

#[tokio::test]
async fn a_directory_in_use_or_of_somebody_else_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Server::start(Config::ephemeral(&data)).await.unwrap();
    let error = refused(Config::ephemeral(&data)).await;
    assert!(
        error.contains("in use") && error.contains(data.to_str().unwrap()),
        "{error}"
    );
    server.shutdown().await.unwrap();

    let foreign = tempfile::tempdir().unwrap();
    std::fs::write(foreign.path().join("thesis.txt"), "x").unwrap();
    let error = refused(Config::ephemeral(foreign.path())).await;
    assert!(error.contains("thesis.txt"), "{error}");
}

#[tokio::test]
async fn addresses_that_others_reach_need_a_word() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let everywhere = HostPort::new("0.0.0.0", 0);
    let public = Config {
        http_addr: everywhere.clone(),
        ..Config::ephemeral(&data)
    };
    let error = refused(public.clone()).await;
    assert!(error.contains("--allow-insecure-public-listen"), "{error}");
    assert!(!data.exists(), "nothing is touched before everything is checked");
    let listener = ListenerConfig {
        addr: everywhere,
        advertised: HostPort::new("broker.example", 0),
    };
    let public = Config {
        listeners: vec![listener],
        allow_insecure_public_listen: true,
        ..public
    };
    let server = Server::start(public).await.unwrap();
    let port = server.kafka_addr().port();
    assert_eq!(server.listeners()[0].advertised, format!("broker.example:{port}"));
    server.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_port_that_is_taken_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = taken.local_addr().unwrap().port();
    let config = Config {
        http_addr: HostPort::new("127.0.0.1", port),
        ..Config::ephemeral(dir.path().join("data"))
    };
    let error = refused(config).await;
    assert!(error.contains(&format!("http address 127.0.0.1:{port}")), "{error}");
}

#[tokio::test]
async fn open_files_are_shared_out() {
    let shares_with = |max_connections, open_files| {
        let mut config = Config::ephemeral("data");
        config.broker.max_partitions = 5_000;
        config.kafka.max_connections = max_connections;
        share_open_files(&mut config, open_files);
        (
            config.broker.max_partitions,
            config.kafka.max_connections,
            config.http.max_connections,
        )
    };
    let shares = |open_files| shares_with(20_000, open_files);
    assert_eq!(shares(Some(2_048)), (256, 1_152, 128));
    assert_eq!(shares(Some(20_000)), (2_613, 11_250, 1_024));
    assert_eq!(shares(Some(1 << 20)), (5_000, 20_000, 1_024));
    assert_eq!(shares(None), (5_000, 20_000, 1_024));
    // What connections may not use, partitions may.
    assert_eq!(shares_with(1_000, Some(20_000)), (5_000, 1_000, 1_024));
    for files in 0..2_000 {
        let (partitions, kafka, http) = shares(Some(files));
        assert!(2 * partitions + kafka + http <= files as usize / 8 * 7);
    }

    let dir = tempfile::tempdir().unwrap();
    let mut config = Config::ephemeral(dir.path().join("data"));
    config.broker.max_partitions = 1_000_000_000;
    let server = Server::start(config).await.unwrap();
    let open_files = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    assert_eq!(open_files.current, open_files.maximum, "the limit is raised");
    let limit = server.broker().options().max_partitions as u32;
    let too_many = server
        .broker()
        .create_topic("t", Some(limit + 1), Default::default(), false)
        .await;
    let refused = matches!(too_many, Err(BrokerError::TooManyPartitions { .. }));
    assert!(refused, "{too_many:?}");
    server.shutdown().await.unwrap();
}
