//! The Kafka protocol over a plain socket: for topics, for telling when a broker is ready, and for loads in which a
//! client library would be most of what is measured.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use bytes::{Buf, Bytes, BytesMut};
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    ApiVersionsRequest, CreateTopicsRequest, DeleteTopicsRequest, ProduceRequest, ProduceResponse, RequestHeader,
    ResponseHeader, TopicName,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};
use kafka_protocol::records::{
    Compression, NO_PARTITION_LEADER_EPOCH, NO_PRODUCER_EPOCH, NO_PRODUCER_ID, NO_SEQUENCE, Record, RecordBatchEncoder,
    RecordEncodeOptions, TimestampType,
};

const API_VERSIONS: i16 = 3;
const CREATE_TOPICS: i16 = 5;
const DELETE_TOPICS: i16 = 4;
const PRODUCE: i16 = 9;

/// What the broker may take for a request, in milliseconds.
const REQUEST_TIMEOUT_MS: i32 = 30_000;

/// A connection on which one request is under way at a time.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    answer: Vec<u8>,
}

impl Connection {
    /// # Errors
    /// If nobody listens there.
    pub fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
        // While nobody listens on a port, the system may connect an attempt with itself.
        ensure!(
            stream.local_addr()? != stream.peer_addr()?,
            "nobody listens on {address}"
        );
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        let answer = Vec::new();
        Ok(Self { stream, answer })
    }

    /// Succeeds when the broker answers requests.
    ///
    /// # Errors
    /// When it does not.
    pub fn api_versions(&mut self) -> anyhow::Result<()> {
        let request = ApiVersionsRequest::default()
            .with_client_software_name(StrBytes::from_static_str("riverlog-peers"))
            .with_client_software_version(StrBytes::from_static_str(env!("CARGO_PKG_VERSION")));
        let response = self.call(&request, API_VERSIONS)?;
        ensure!(response.error_code == 0, "ApiVersions: error {}", response.error_code);
        Ok(())
    }

    /// # Errors
    /// If the broker refuses.
    pub fn create_topic(&mut self, name: &str, partitions: i32, configs: &[(&str, &str)]) -> anyhow::Result<()> {
        let configs = configs.iter().map(|(name, value)| {
            CreatableTopicConfig::default()
                .with_name(StrBytes::from_string((*name).to_owned()))
                .with_value(Some(StrBytes::from_string((*value).to_owned())))
        });
        let topic = CreatableTopic::default()
            .with_name(topic_name(name))
            .with_num_partitions(partitions)
            .with_replication_factor(1)
            .with_configs(configs.collect());
        let request = CreateTopicsRequest::default()
            .with_topics(vec![topic])
            .with_timeout_ms(REQUEST_TIMEOUT_MS);
        let response = self.call(&request, CREATE_TOPICS)?;
        let error = response.topics.first().map_or(-1, |topic| topic.error_code);
        ensure!(error == 0, "cannot create topic {name}: error {error}");
        Ok(())
    }

    /// # Errors
    /// If the broker refuses.
    pub fn delete_topic(&mut self, name: &str) -> anyhow::Result<()> {
        let request = DeleteTopicsRequest::default()
            .with_topic_names(vec![topic_name(name)])
            .with_timeout_ms(REQUEST_TIMEOUT_MS);
        let response = self.call(&request, DELETE_TOPICS)?;
        let error = response.responses.first().map_or(-1, |topic| topic.error_code);
        ensure!(error == 0, "cannot delete topic {name}: error {error}");
        Ok(())
    }

    /// Sends a request of [`produce_frame`] and waits until it is acknowledged.
    ///
    /// # Errors
    /// If it is refused.
    pub fn produce(&mut self, frame: &[u8]) -> anyhow::Result<()> {
        self.exchange(frame)?;
        ensure_acknowledged(&self.answer)
    }

    /// For who wants to wait for several connections at once.
    pub fn into_stream(self) -> TcpStream {
        self.stream
    }

    fn call<R: Request>(&mut self, request: &R, version: i16) -> anyhow::Result<R::Response> {
        let frame = frame(request, version)?;
        self.exchange(&frame)?;
        decode(&self.answer, R::Response::header_version(version), version)
    }

    fn exchange(&mut self, frame: &[u8]) -> anyhow::Result<()> {
        self.stream.write_all(frame).context("cannot send a request")?;
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).context("no answer")?;
        let length = u32::from_be_bytes(length);
        ensure!(length < 64 * 1024 * 1024, "an answer of {length} bytes");
        self.answer.resize(usize::try_from(length)?, 0);
        self.stream.read_exact(&mut self.answer).context("half an answer")
    }
}

/// Looks at the answer to a request of [`produce_frame`], without its length.
///
/// # Errors
/// If a partition refused.
pub fn ensure_acknowledged(answer: &[u8]) -> anyhow::Result<()> {
    let response: ProduceResponse = decode(answer, ProduceResponse::header_version(PRODUCE), PRODUCE)?;
    let partitions = response.responses.iter().flat_map(|topic| &topic.partition_responses);
    let mut codes = partitions.map(|partition| partition.error_code).peekable();
    ensure!(codes.peek().is_some(), "Produce: no partition was answered");
    match codes.find(|code| *code != 0) {
        Some(code) => bail!("Produce: error {code}"),
        None => Ok(()),
    }
}

/// A Produce request with `acks=all`, to be sent as often as one likes.
///
/// # Errors
/// If a value is too large for the protocol.
pub fn produce_frame(topic: &str, partition: i32, batch: Bytes) -> anyhow::Result<Bytes> {
    let partition = PartitionProduceData::default()
        .with_index(partition)
        .with_records(Some(batch));
    let topic = TopicProduceData::default()
        .with_name(topic_name(topic))
        .with_partition_data(vec![partition]);
    let request = ProduceRequest::default()
        .with_acks(-1)
        .with_timeout_ms(REQUEST_TIMEOUT_MS)
        .with_topic_data(vec![topic]);
    frame(&request, PRODUCE)
}

/// A record batch, not compressed, of these values.
///
/// # Errors
/// If there are none.
pub fn batch<'a>(values: impl Iterator<Item = &'a [u8]>, timestamp_ms: i64) -> anyhow::Result<Bytes> {
    let records: Vec<Record> = values
        .enumerate()
        .map(|(number, value)| record(number as i64, value, timestamp_ms))
        .collect();
    ensure!(!records.is_empty(), "a batch has a record");
    let options = RecordEncodeOptions {
        version: 2,
        compression: Compression::None,
    };
    let mut buffer = BytesMut::new();
    RecordBatchEncoder::encode(&mut buffer, &records, &options)?;
    Ok(buffer.freeze())
}

fn record(offset: i64, value: &[u8], timestamp: i64) -> Record {
    Record {
        transactional: false,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: NO_PARTITION_LEADER_EPOCH,
        producer_id: NO_PRODUCER_ID,
        producer_epoch: NO_PRODUCER_EPOCH,
        timestamp_type: TimestampType::Creation,
        offset,
        // The encoder takes the first for the batch, and expects the others to count up with the offsets.
        sequence: NO_SEQUENCE.wrapping_add(i32::try_from(offset).unwrap_or(0)),
        timestamp,
        key: None,
        value: Some(Bytes::copy_from_slice(value)),
        headers: Default::default(),
    }
}

fn topic_name(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}

fn frame<R: Request>(request: &R, version: i16) -> anyhow::Result<Bytes> {
    let header = RequestHeader::default()
        .with_request_api_key(R::KEY)
        .with_request_api_version(version)
        .with_correlation_id(1)
        .with_client_id(Some(StrBytes::from_static_str("riverlog-peers")));
    let mut body = BytesMut::new();
    header.encode(&mut body, R::header_version(version))?;
    request.encode(&mut body, version)?;
    let mut frame = BytesMut::with_capacity(body.len() + 4);
    frame.extend_from_slice(&i32::try_from(body.len())?.to_be_bytes());
    frame.extend_from_slice(&body);
    Ok(frame.freeze())
}

fn decode<T: Decodable>(answer: &[u8], header_version: i16, version: i16) -> anyhow::Result<T> {
    let mut body = Bytes::copy_from_slice(answer);
    ResponseHeader::decode(&mut body, header_version)?;
    let message = T::decode(&mut body, version)?;
    ensure!(!body.has_remaining(), "bytes behind the end of an answer");
    Ok(message)
}
