//! Everything but Produce: what clients ask before they produce, and topics, of which only the names are kept.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::bail;
use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::create_topics_response::CreatableTopicResult;
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{
    ApiKey, ApiVersionsResponse, BrokerId, CreateTopicsRequest, CreateTopicsResponse, DeleteTopicsRequest,
    DeleteTopicsResponse, InitProducerIdResponse, MetadataRequest, MetadataResponse, ProducerId, RequestHeader,
    ResponseHeader, TopicName,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, StrBytes, decode_request_header_from_buffer};

use super::produce;

const NODE: BrokerId = BrokerId(1);

/// Each API and its oldest and newest version. Fetch is named but not spoken: librdkafka writes batches of today's
/// format only for a broker that could also hand them out.
const APIS: [(ApiKey, i16, i16); 7] = [
    (ApiKey::Produce, *produce::VERSIONS.start(), *produce::VERSIONS.end()),
    (ApiKey::Fetch, 4, 12),
    (ApiKey::Metadata, 4, 12),
    (ApiKey::ApiVersions, 0, 4),
    (ApiKey::CreateTopics, 5, 5),
    (ApiKey::DeleteTopics, 4, 4),
    (ApiKey::InitProducerId, 2, 4),
];

/// The topics.
#[derive(Debug)]
pub struct Catalog {
    address: SocketAddr,
    /// The number of partitions by name.
    topics: Mutex<BTreeMap<TopicName, i32>>,
}

impl Catalog {
    /// For clients that connect to this address.
    pub fn new(address: SocketAddr) -> Self {
        let topics = Mutex::default();
        Self { address, topics }
    }

    /// Writes the answer to a request, without its length.
    ///
    /// # Errors
    /// If nobody has told the client of this API.
    pub fn answer(&self, request: &[u8], answer: &mut Vec<u8>) -> anyhow::Result<()> {
        let mut body = Bytes::copy_from_slice(request);
        let header = decode_request_header_from_buffer(&mut body)?;
        let version = header.request_api_version;
        match ApiKey::try_from(header.request_api_key) {
            Ok(ApiKey::ApiVersions) => put(&header, &api_versions(), answer),
            Ok(ApiKey::Metadata) => {
                let request = MetadataRequest::decode(&mut body, version)?;
                put(&header, &self.metadata(request), answer)
            }
            Ok(ApiKey::CreateTopics) => {
                let request = CreateTopicsRequest::decode(&mut body, version)?;
                put(&header, &self.create(request), answer)
            }
            Ok(ApiKey::DeleteTopics) => {
                let request = DeleteTopicsRequest::decode(&mut body, version)?;
                put(&header, &self.delete(request), answer)
            }
            // Kafka's own producer asks for one, and for nothing that comes of it.
            Ok(ApiKey::InitProducerId) => {
                let response = InitProducerIdResponse::default().with_producer_id(ProducerId(1));
                put(&header, &response, answer)
            }
            _ => bail!("API {} is not spoken here", header.request_api_key),
        }
    }

    fn topics(&self) -> MutexGuard<'_, BTreeMap<TopicName, i32>> {
        self.topics.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Of the topics that are asked for, or of all.
    fn metadata(&self, request: MetadataRequest) -> MetadataResponse {
        let topics = self.topics();
        let names: Vec<TopicName> = match request.topics {
            Some(wanted) => wanted.into_iter().filter_map(|topic| topic.name).collect(),
            None => topics.keys().cloned().collect(),
        };
        let described = names.into_iter().map(|name| {
            let partitions = topics.get(&name).copied();
            describe(name, partitions)
        });
        let broker = MetadataResponseBroker::default()
            .with_node_id(NODE)
            .with_host(StrBytes::from_string(self.address.ip().to_string()))
            .with_port(i32::from(self.address.port()));
        MetadataResponse::default()
            .with_brokers(vec![broker])
            .with_cluster_id(Some(StrBytes::from_static_str("sink")))
            .with_controller_id(NODE)
            .with_topics(described.collect())
    }

    fn create(&self, request: CreateTopicsRequest) -> CreateTopicsResponse {
        let mut topics = self.topics();
        let created = request.topics.into_iter().map(|topic| {
            topics.insert(topic.name.clone(), topic.num_partitions);
            CreatableTopicResult::default().with_name(topic.name)
        });
        CreateTopicsResponse::default().with_topics(created.collect())
    }

    fn delete(&self, request: DeleteTopicsRequest) -> DeleteTopicsResponse {
        let mut topics = self.topics();
        let deleted = request.topic_names.into_iter().map(|name| {
            topics.remove(&name);
            DeletableTopicResult::default().with_name(Some(name))
        });
        DeleteTopicsResponse::default().with_responses(deleted.collect())
    }
}

fn describe(name: TopicName, partitions: Option<i32>) -> MetadataResponseTopic {
    let topic = MetadataResponseTopic::default().with_name(Some(name));
    let Some(partitions) = partitions else {
        return topic.with_error_code(ResponseError::UnknownTopicOrPartition.code());
    };
    let partitions = (0..partitions).map(|index| {
        MetadataResponsePartition::default()
            .with_partition_index(index)
            .with_leader_id(NODE)
            .with_replica_nodes(vec![NODE])
            .with_isr_nodes(vec![NODE])
    });
    topic.with_partitions(partitions.collect())
}

fn api_versions() -> ApiVersionsResponse {
    let apis = APIS.map(|(key, oldest, newest)| {
        ApiVersion::default()
            .with_api_key(key as i16)
            .with_min_version(oldest)
            .with_max_version(newest)
    });
    ApiVersionsResponse::default().with_api_keys(apis.to_vec())
}

fn put<R: Encodable + HeaderVersion>(header: &RequestHeader, response: &R, answer: &mut Vec<u8>) -> anyhow::Result<()> {
    let version = header.request_api_version;
    let head = ResponseHeader::default().with_correlation_id(header.correlation_id);
    head.encode(answer, R::header_version(version))?;
    response.encode(answer, version)
}
