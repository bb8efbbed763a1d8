//! The protocol over a real socket: a broker on a temporary directory, a listener in front, and a client that can misbehave.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod admission;
mod fetch;
mod fuzz;
mod list_offsets;
mod metadata;
mod produce;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{ProduceRequest, ProduceResponse, RequestHeader, ResponseHeader, TopicName};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};
use riverlog_storage::batch::BatchBuilder;
use riverlog_storage::record::Record;
use riverlog_storage::{Options, Storage};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::broker::{Broker, BrokerOptions};
use crate::kafka::{Gate, Limits, Listener, listener};
use crate::metrics::Metrics;
use crate::shutdown::Shutdown;

/// Nothing in these tests takes longer, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(20);

struct TestBroker {
    broker: Arc<Broker>,
    gate: Arc<Gate>,
    addr: SocketAddr,
    shutdown: Shutdown,
    serving: JoinHandle<()>,
    _dir: tempfile::TempDir,
}

impl TestBroker {
    async fn start() -> Self {
        Self::start_with(Limits::default()).await
    }

    async fn start_with(limits: Limits) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let storage = Storage::open(Options::new(dir.path())).unwrap();
        let broker = Broker::open(storage, BrokerOptions::default()).await.unwrap();
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = socket.local_addr().unwrap();
        let shutdown = Shutdown::new();
        let told = Listener {
            name: "test".to_string(),
            advertised_host: "broker.example".to_string(),
            advertised_port: addr.port(),
        };
        let gate = Gate::new(limits, Metrics::default());
        let serving = tokio::spawn(listener::serve(
            socket,
            told,
            Arc::clone(&broker),
            Arc::clone(&gate),
            shutdown.token(),
        ));
        Self {
            broker,
            gate,
            addr,
            shutdown,
            serving,
            _dir: dir,
        }
    }

    /// A broker with a topic `t` of so many partitions.
    async fn with_topic(partitions: u32) -> Self {
        let this = Self::start().await;
        this.create_topic(partitions).await;
        this
    }

    async fn create_topic(&self, partitions: u32) {
        let created = self.broker.create_topic("t", Some(partitions), [].into(), false);
        created.await.unwrap();
    }

    async fn client(&self) -> Client {
        Client {
            stream: TcpStream::connect(self.addr).await.unwrap(),
            correlation_id: 0,
        }
    }
}

struct Client {
    stream: TcpStream,
    correlation_id: i32,
}

impl Client {
    /// Sends a request and returns its correlation id.
    async fn send<R: Request>(&mut self, version: i16, request: &R) -> i32 {
        self.correlation_id += 1;
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(self.correlation_id)
            .with_client_id(Some(StrBytes::from_static_str("test")));
        let mut frame = BytesMut::new();
        header.encode(&mut frame, R::header_version(version)).unwrap();
        request.encode(&mut frame, version).unwrap();
        self.send_frame(&frame).await;
        self.correlation_id
    }

    async fn send_frame(&mut self, frame: &[u8]) {
        self.send_bytes(&[&(frame.len() as u32).to_be_bytes()[..], frame].concat())
            .await;
    }

    async fn send_bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// The next response frame; none when the broker closed the connection.
    async fn frame(&mut self) -> Option<Bytes> {
        let read = async {
            let length = self.stream.read_u32().await.ok()?;
            let mut frame = vec![0; length as usize];
            self.stream.read_exact(&mut frame).await.ok()?;
            Some(frame.into())
        };
        tokio::time::timeout(PATIENCE, read).await.unwrap()
    }

    async fn receive<R: Request>(&mut self, version: i16) -> (i32, R::Response) {
        let mut frame = self.frame().await.unwrap();
        let header = ResponseHeader::decode(&mut frame, R::Response::header_version(version)).unwrap();
        let response = R::Response::decode(&mut frame, version).unwrap();
        assert!(frame.is_empty(), "{} bytes behind the response", frame.len());
        (header.correlation_id, response)
    }

    async fn ask<R: Request>(&mut self, version: i16, request: &R) -> R::Response {
        let sent = self.send(version, request).await;
        let (answered, response) = self.receive::<R>(version).await;
        assert_eq!(sent, answered);
        response
    }

    async fn is_closed(&mut self) -> bool {
        self.frame().await.is_none()
    }

    /// Produces to partition 0 of `t` and returns the partition's error code and base offset.
    async fn produce(&mut self, records: Bytes) -> (i16, i64) {
        answer_of(&self.ask(9, &produce(-1, "t", 0, records)).await)
    }
}

fn answer_of(response: &ProduceResponse) -> (i16, i64) {
    let partition = &response.responses[0].partition_responses[0];
    (partition.error_code, partition.base_offset)
}

fn topic_name(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_string()))
}

fn produce(acks: i16, topic: &str, partition: i32, records: Bytes) -> ProduceRequest {
    use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
    let data = PartitionProduceData::default()
        .with_index(partition)
        .with_records(Some(records));
    let topic = TopicProduceData::default()
        .with_name(topic_name(topic))
        .with_partition_data(vec![data]);
    ProduceRequest::default()
        .with_acks(acks)
        .with_timeout_ms(1000)
        .with_topic_data(vec![topic])
}

fn record(value: &str, timestamp_ms: i64) -> Record {
    Record {
        key: None,
        value: Some(Bytes::copy_from_slice(value.as_bytes())),
        headers: Vec::new(),
        timestamp_ms,
    }
}

/// One batch with these values, a millisecond apart from 1000 on.
fn batch(values: &[&str]) -> Bytes {
    build(BatchBuilder::new(), values)
}

fn build(mut builder: BatchBuilder, values: &[&str]) -> Bytes {
    for (value, timestamp_ms) in values.iter().zip(1000..) {
        builder.push(record(value, timestamp_ms));
    }
    builder.build().unwrap().bytes().clone()
}

/// The same batch with some bytes replaced, and the CRC made right again.
fn patched(batch: &Bytes, at: usize, bytes: &[u8]) -> Bytes {
    let mut copy = batch.to_vec();
    copy[at..at + bytes.len()].copy_from_slice(bytes);
    let crc = crc_fast::crc32_iscsi(&copy[21..]);
    copy[17..21].copy_from_slice(&crc.to_be_bytes());
    copy.into()
}

/// A request header by hand.
fn raw_request(api_key: i16, version: i16, correlation_id: i32, rest: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    frame.put_i16(api_key);
    frame.put_i16(version);
    frame.put_i32(correlation_id);
    frame.put_slice(rest);
    frame
}
