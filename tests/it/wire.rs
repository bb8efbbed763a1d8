//! The Kafka protocol by hand, so that a test can send what no client would.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use bytes::{Buf, Bytes, BytesMut};
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::{
    ApiKey, CreateTopicsRequest, CreateTopicsResponse, RequestHeader, ResponseHeader, TopicName,
};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};

use crate::server::PATIENCE;

/// A connection that sends bytes as they are given.
pub struct Wire {
    stream: TcpStream,
}

/// What came back for a frame.
#[derive(Debug, PartialEq, Eq)]
pub enum Reply {
    /// A response frame, without its length.
    Frame(Bytes),
    /// The server closed the connection.
    Closed,
}

impl Wire {
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream }
    }

    /// Sends bytes. A server that has closed the connection already is found out by [`Wire::reply`].
    pub fn send(&mut self, bytes: &[u8]) {
        match self.stream.write_all(bytes) {
            Ok(()) => {}
            Err(error) if is_closed(error.kind()) => {}
            Err(error) => panic!("sending: {error}"),
        }
    }

    /// Sends no more, but still reads.
    pub fn finish_sending(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// The next response, or that there will be none. Fails the test if the server does neither.
    pub fn reply(&mut self) -> Reply {
        let mut length = [0; 4];
        if !self.fill(&mut length) {
            return Reply::Closed;
        }
        let length = usize::try_from(i32::from_be_bytes(length)).expect("a response has a length");
        assert!(length <= 64 << 20, "a response of {length} bytes");
        let mut frame = vec![0; length];
        assert!(self.fill(&mut frame), "the connection was closed inside a response");
        Reply::Frame(frame.into())
    }

    /// Sends a well-formed request and reads its response.
    pub fn call<Q: Encodable, R: Decodable>(&mut self, key: ApiKey, version: i16, request: &Q) -> R {
        self.send(&frame(&encode(key, version, 7, request)));
        let Reply::Frame(mut bytes) = self.reply() else {
            panic!("{key:?} v{version} was not answered")
        };
        let header = ResponseHeader::decode(&mut bytes, key.response_header_version(version)).unwrap();
        assert_eq!(header.correlation_id, 7);
        let response = R::decode(&mut bytes, version).unwrap();
        assert!(
            !bytes.has_remaining(),
            "{key:?} v{version}: {} bytes behind the response",
            bytes.remaining()
        );
        response
    }

    /// Creates a topic with one partition.
    pub fn create_topic(&mut self, name: &str) {
        let topic = CreatableTopic::default()
            .with_name(TopicName(StrBytes::from_string(name.to_string())))
            .with_num_partitions(1)
            .with_replication_factor(1);
        let request = CreateTopicsRequest::default()
            .with_topics(vec![topic])
            .with_timeout_ms(10_000);
        let response: CreateTopicsResponse = self.call(ApiKey::CreateTopics, 2, &request);
        assert_eq!(
            response.topics[0].error_code, 0,
            "creating {name}: {:?}",
            response.topics[0].error_message
        );
    }

    fn fill(&mut self, buffer: &mut [u8]) -> bool {
        match self.stream.read_exact(buffer) {
            Ok(()) => true,
            Err(error) if is_closed(error.kind()) => false,
            Err(error) => panic!("neither answered nor closed: {error}"),
        }
    }
}

fn is_closed(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
    )
}

/// A request without its length: header and body.
pub fn encode<Q: Encodable>(key: ApiKey, version: i16, correlation_id: i32, request: &Q) -> Vec<u8> {
    let header = RequestHeader::default()
        .with_request_api_key(key as i16)
        .with_request_api_version(version)
        .with_correlation_id(correlation_id)
        .with_client_id(Some(StrBytes::from_static_str("it")));
    let mut bytes = BytesMut::new();
    header.encode(&mut bytes, key.request_header_version(version)).unwrap();
    request.encode(&mut bytes, version).unwrap();
    bytes.to_vec()
}

/// The fixed part of a request header: key, version, correlation id 7, client id "it".
pub fn head(key: i16, version: i16) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&key.to_be_bytes());
    bytes.extend_from_slice(&version.to_be_bytes());
    bytes.extend_from_slice(&7_i32.to_be_bytes());
    bytes.extend_from_slice(&[0, 2, b'i', b't']);
    bytes
}

/// A frame: the length, then the bytes.
pub fn frame(bytes: &[u8]) -> Vec<u8> {
    let mut framed = i32::try_from(bytes.len()).unwrap().to_be_bytes().to_vec();
    framed.extend_from_slice(bytes);
    framed
}
