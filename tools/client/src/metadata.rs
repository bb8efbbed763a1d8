//! What the cluster says about itself: brokers, topics, leaders.

use std::collections::BTreeMap;

use kafka_protocol::error::{ParseResponseErrorCode, ResponseError};
use kafka_protocol::messages::MetadataResponse;
use uuid::Uuid;

/// A broker and where it can be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerAddress {
    /// Its node id.
    pub id: i32,
    /// The advertised host.
    pub host: String,
    /// The advertised port.
    pub port: u16,
}

/// One partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionMetadata {
    /// Its number.
    pub index: i32,
    /// The node that leads it, or -1.
    pub leader: i32,
    /// The leader's epoch.
    pub leader_epoch: i32,
    /// How many nodes hold it.
    pub replicas: usize,
}

/// One topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicMetadata {
    /// Its name.
    pub name: String,
    /// Its id, new with every creation.
    pub id: Uuid,
    /// Whether the broker keeps it for itself.
    pub internal: bool,
    /// Its partitions, by number.
    pub partitions: Vec<PartitionMetadata>,
    /// Why there is nothing to say about it.
    pub error: Option<ResponseError>,
}

/// The cluster as one broker saw it.
#[derive(Clone, Debug, Default)]
pub struct Metadata {
    /// The cluster's id.
    pub cluster_id: Option<String>,
    /// Whom to ask for changes, or -1.
    pub controller: i32,
    /// The brokers, by node id.
    pub brokers: BTreeMap<i32, BrokerAddress>,
    /// The topics that were asked for, by name.
    pub topics: BTreeMap<String, TopicMetadata>,
}

impl From<MetadataResponse> for Metadata {
    fn from(response: MetadataResponse) -> Self {
        let brokers = response.brokers.into_iter().filter_map(|broker| {
            let address = BrokerAddress {
                id: broker.node_id.0,
                host: broker.host.to_string(),
                port: u16::try_from(broker.port).ok()?,
            };
            Some((address.id, address))
        });
        let topics = response.topics.into_iter().filter_map(|topic| {
            let mut partitions: Vec<_> = topic
                .partitions
                .iter()
                .map(|partition| PartitionMetadata {
                    index: partition.partition_index,
                    leader: partition.leader_id.0,
                    leader_epoch: partition.leader_epoch,
                    replicas: partition.replica_nodes.len(),
                })
                .collect();
            partitions.sort_by_key(|partition| partition.index);
            let name = topic.name?.to_string();
            let metadata = TopicMetadata {
                name: name.clone(),
                id: topic.topic_id,
                internal: topic.is_internal,
                partitions,
                error: topic.error_code.err(),
            };
            Some((name, metadata))
        });
        Self {
            cluster_id: response.cluster_id.map(|id| id.to_string()),
            controller: response.controller_id.0,
            brokers: brokers.collect(),
            topics: topics.collect(),
        }
    }
}

impl TopicMetadata {
    /// The node that leads the partition.
    pub fn leader(&self, partition: i32) -> Option<i32> {
        self.partitions
            .iter()
            .find(|p| p.index == partition)
            .map(|p| p.leader)
            .filter(|leader| *leader >= 0)
    }
}
