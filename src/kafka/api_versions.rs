//! The one table of the APIs that exist here, and the way from a request's key to its handler.
//!
//! An API is advertised when it is implemented and tested, and only in the versions for which that is true: a version is a
//! promise about semantics. To add one: write `handlers/<api>.rs` with a `handle` function, and add a row.

use bytes::Bytes;
use kafka_protocol::messages::{self, ApiKey};
use kafka_protocol::protocol::Decodable;

use super::handlers;
use super::response::{Respond, Response};
use super::{Context, HandlerError};

/// An API and the versions of it that are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Api {
    /// Which API.
    pub key: ApiKey,
    /// The lowest version served.
    pub min: i16,
    /// The highest version served.
    pub max: i16,
}

impl Api {
    /// Finds an API by its number on the wire.
    pub fn find(key: i16) -> Option<&'static Api> {
        APIS.iter().find(|api| api.key as i16 == key)
    }

    /// Whether requests of this version are served.
    pub fn serves(&self, version: i16) -> bool {
        (self.min..=self.max).contains(&version)
    }

    /// The lowest version told to clients. librdkafka before 2.11.1 turns compression off unless it sees Produce 0, so
    /// Kafka shows it and rejects it (KAFKA-18659), and so do we.
    pub fn advertised_min(&self) -> i16 {
        if self.key == ApiKey::Produce { 0 } else { self.min }
    }
}

macro_rules! apis {
    ($($key:ident $min:literal to $max:literal: $request:ident => $handler:ident;)*) => {
        /// Every API served.
        pub const APIS: &[Api] = &[$(Api { key: ApiKey::$key, min: $min, max: $max }),*];

        #[cfg(test)]
        const CODEC_VERSIONS: &[kafka_protocol::protocol::VersionRange] =
            &[$(<messages::$request as kafka_protocol::protocol::Message>::VERSIONS),*];

        /// Decodes a request that the walker has checked, lets its handler answer, and encodes the answer.
        pub(super) async fn dispatch(
            ctx: &Context,
            api: &Api,
            version: i16,
            correlation_id: i32,
            mut body: Bytes,
        ) -> Result<Response, HandlerError> {
            match api.key {
                $(ApiKey::$key => {
                    let request = messages::$request::decode(&mut body, version)
                        .map_err(|error| HandlerError::Decode(error.to_string()))?;
                    // What the handler does not keep of it shall be free.
                    drop(body);
                    // Boxed: the largest handler's state would otherwise be every request's.
                    let response = Box::pin(handlers::$handler::handle(ctx, version, request)).await?;
                    response.respond(api.key, version, correlation_id)
                })*
                other => Err(HandlerError::Close(format!("{other:?} has no handler"))),
            }
        }
    };
}

apis! {
    Produce 3 to 13: ProduceRequest => produce;
    Fetch 4 to 18: FetchRequest => fetch;
    ListOffsets 1 to 10: ListOffsetsRequest => list_offsets;
    Metadata 0 to 13: MetadataRequest => metadata;
    ApiVersions 0 to 4: ApiVersionsRequest => api_versions;
    InitProducerId 0 to 5: InitProducerIdRequest => init_producer_id;
    OffsetForLeaderEpoch 2 to 4: OffsetForLeaderEpochRequest => offset_for_leader_epoch;
    // Groups and their offsets. Offsets by topic id (version 10) wait for the codec to know them.
    FindCoordinator 0 to 6: FindCoordinatorRequest => find_coordinator;
    JoinGroup 0 to 9: JoinGroupRequest => join_group;
    SyncGroup 0 to 5: SyncGroupRequest => sync_group;
    Heartbeat 0 to 4: HeartbeatRequest => heartbeat;
    LeaveGroup 0 to 5: LeaveGroupRequest => leave_group;
    OffsetCommit 2 to 9: OffsetCommitRequest => offset_commit;
    OffsetFetch 1 to 9: OffsetFetchRequest => offset_fetch;
    OffsetDelete 0 to 0: OffsetDeleteRequest => offset_delete;
    ListGroups 0 to 5: ListGroupsRequest => list_groups;
    DescribeGroups 0 to 6: DescribeGroupsRequest => describe_groups;
    DeleteGroups 0 to 2: DeleteGroupsRequest => delete_groups;
    // Topics, configs and the cluster.
    CreateTopics 2 to 7: CreateTopicsRequest => create_topics;
    DeleteTopics 1 to 6: DeleteTopicsRequest => delete_topics;
    CreatePartitions 0 to 3: CreatePartitionsRequest => create_partitions;
    DeleteRecords 0 to 2: DeleteRecordsRequest => delete_records;
    DescribeConfigs 1 to 4: DescribeConfigsRequest => describe_configs;
    AlterConfigs 0 to 2: AlterConfigsRequest => alter_configs;
    IncrementalAlterConfigs 0 to 1: IncrementalAlterConfigsRequest => incremental_alter_configs;
    DescribeCluster 0 to 2: DescribeClusterRequest => describe_cluster;
    DescribeTopicPartitions 0 to 0: DescribeTopicPartitionsRequest => describe_topic_partitions;
    ListPartitionReassignments 0 to 0: ListPartitionReassignmentsRequest => list_partition_reassignments;
    DescribeLogDirs 1 to 4: DescribeLogDirsRequest => describe_log_dirs;
    ListConfigResources 0 to 1: ListConfigResourcesRequest => list_config_resources;
    DescribeAcls 1 to 3: DescribeAclsRequest => describe_acls;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_codec_knows_every_version_that_is_advertised() {
        // Not by `ApiKey::valid_versions`, which is ahead of what the messages can do in places.
        for (api, known) in APIS.iter().zip(CODEC_VERSIONS) {
            assert!(
                known.min <= api.min && api.max <= known.max,
                "{api:?} but the codec has {known}"
            );
        }
    }

    #[test]
    fn no_api_stands_in_the_table_twice() {
        for (index, api) in APIS.iter().enumerate() {
            assert!(
                APIS.iter().skip(index + 1).all(|other| other.key != api.key),
                "{:?}",
                api.key
            );
        }
    }
}
