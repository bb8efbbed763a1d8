//! Groups and administration through the dispatch table: every version is asked, and every answer decoded again.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::sync::Arc;

use bytes::{Buf, BytesMut};
use kafka_protocol::error::ResponseError as E;
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use riverlog_storage::{Options, Storage};

use crate::broker::{Broker, BrokerOptions};
use crate::kafka::api_versions::{Api, dispatch};
use crate::kafka::text::{wire, wire_group as group, wire_topic as topic};
use crate::kafka::walker::Schema;
use crate::kafka::{Context, Gate, Limits, Listener, Session};
use crate::metrics::Metrics;
use crate::shutdown::Shutdown;

struct World {
    ctx: Context,
    _shutdown: Shutdown,
    _dir: tempfile::TempDir,
}

impl World {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut options = BrokerOptions::default();
        options.groups.group.initial_rebalance_delay_ms = 0;
        let broker = Broker::open(Storage::open(Options::new(dir.path())).unwrap(), options)
            .await
            .unwrap();
        let shutdown = Shutdown::new();
        let listener = Listener {
            name: "test".into(),
            advertised_host: "broker.example".into(),
            advertised_port: 9092,
        };
        let session = Session {
            peer: ([127, 0, 0, 1], 4_000).into(),
            listener: Arc::new(listener),
            broker,
            gate: Gate::new(Limits::default(), Metrics::default()),
            token: shutdown.token(),
        };
        let ctx = Context {
            session: Arc::new(session),
            client_id: Some("tester".into()),
            client_waits: false,
            request_share: parking_lot::Mutex::new(None),
            response_permit: parking_lot::Mutex::new(None),
        };
        Self {
            ctx,
            _shutdown: shutdown,
            _dir: dir,
        }
    }

    async fn ask<Q: Encodable, A: Decodable>(&self, key: ApiKey, version: i16, request: Q) -> A {
        let mut body = BytesMut::new();
        request.encode(&mut body, version).unwrap();
        Schema::find(key as i16).unwrap().check(version, &body).unwrap();
        let api = Api::find(key as i16).unwrap();
        assert!(api.serves(version));
        let mut answer = dispatch(&self.ctx, api, version, 77, body.freeze()).await.unwrap();
        let mut answer = answer.copy_to_bytes(answer.remaining());
        assert_eq!(answer.get_i32() as usize, answer.len());
        assert_eq!(answer.get_i32(), 77);
        if key.response_header_version(version) >= 1 {
            assert_eq!(answer.get_u8(), 0);
        }
        let decoded = A::decode(&mut answer, version).unwrap();
        assert!(answer.is_empty(), "{key:?} v{version} has bytes left");
        decoded
    }

    async fn create(&self, name: &str, partitions: i32) {
        let request = create_request(name, |topic| topic.with_num_partitions(partitions));
        let answer: CreateTopicsResponse = self.ask(ApiKey::CreateTopics, 7, request).await;
        assert_eq!(answer.topics[0].error_code, 0, "{:?}", answer.topics[0].error_message);
    }
}

fn versions(key: ApiKey) -> std::ops::RangeInclusive<i16> {
    let api = Api::find(key as i16).unwrap();
    api.min..=api.max
}

fn create_request(
    name: &str,
    change: impl FnOnce(create_topics_request::CreatableTopic) -> create_topics_request::CreatableTopic,
) -> CreateTopicsRequest {
    let topic = create_topics_request::CreatableTopic::default()
        .with_name(topic(name))
        .with_num_partitions(1)
        .with_replication_factor(1);
    CreateTopicsRequest::default()
        .with_topics(vec![change(topic)])
        .with_timeout_ms(1_000)
}

fn config(name: &str, value: Option<&str>) -> create_topics_request::CreatableTopicConfig {
    create_topics_request::CreatableTopicConfig::default()
        .with_name(wire(name))
        .with_value(value.map(wire))
}

#[tokio::test]
async fn topics_are_created_in_every_version_with_all_their_configs() {
    let world = World::new().await;
    for version in versions(ApiKey::CreateTopics) {
        let name = format!("t{version}");
        let request = create_request(&name, |topic| {
            topic.with_configs(vec![config("retention.ms", Some("1000"))])
        });
        let answer: CreateTopicsResponse = world.ask(ApiKey::CreateTopics, version, request).await;
        let created = &answer.topics[0];
        assert_eq!(created.error_code, 0);
        if version >= 5 {
            let configs = created.configs.as_ref().unwrap();
            assert_eq!(configs.len(), crate::broker::topic_config::TOPIC_CONFIGS.len());
            let set = configs.iter().find(|config| &*config.name == "retention.ms").unwrap();
            assert_eq!((set.value.as_deref(), set.config_source), (Some("1000"), 1));
            assert_eq!((created.num_partitions, created.replication_factor), (1, 1));
        }
        assert_eq!(version >= 7, !created.topic_id.is_nil());
    }
}

#[tokio::test]
async fn what_cannot_be_created_is_refused_by_name() {
    let world = World::new().await;
    world.create("taken", 1).await;
    let assignment = |index: i32, broker: i32| {
        create_topics_request::CreatableReplicaAssignment::default()
            .with_partition_index(index)
            .with_broker_ids(vec![BrokerId(broker)])
    };
    let manual = |parts: Vec<create_topics_request::CreatableReplicaAssignment>| {
        create_request("n", |t| {
            t.with_num_partitions(-1)
                .with_replication_factor(-1)
                .with_assignments(parts)
        })
    };
    for (request, error) in [
        (create_request("taken", |t| t), E::TopicAlreadyExists),
        (create_request("a/b", |t| t), E::InvalidTopicException),
        (create_request("__consumer_offsets", |t| t), E::InvalidTopicException),
        (create_request("n", |t| t.with_num_partitions(0)), E::InvalidPartitions),
        (create_request("n", |t| t.with_num_partitions(-2)), E::InvalidPartitions),
        (
            create_request("n", |t| t.with_replication_factor(3)),
            E::InvalidReplicationFactor,
        ),
        (
            create_request("n", |t| t.with_replication_factor(0)),
            E::InvalidReplicationFactor,
        ),
        (
            create_request("n", |t| t.with_configs(vec![config("no.such", Some("1"))])),
            E::InvalidConfig,
        ),
        (
            create_request("n", |t| t.with_configs(vec![config("retention.ms", Some("x"))])),
            E::InvalidConfig,
        ),
        (
            create_request("n", |t| t.with_configs(vec![config("retention.ms", None)])),
            E::InvalidConfig,
        ),
        (
            create_request("n", |t| t.with_assignments(vec![assignment(0, 1)])),
            E::InvalidRequest,
        ),
        (manual(vec![assignment(1, 1)]), E::InvalidReplicaAssignment),
        (manual(vec![assignment(0, 9)]), E::InvalidReplicaAssignment),
    ] {
        let answer: CreateTopicsResponse = world.ask(ApiKey::CreateTopics, 7, request).await;
        assert_eq!(answer.topics[0].error_code, error.code(), "{:?}", answer.topics[0]);
        assert!(answer.topics[0].error_message.is_some());
    }
    let mut twice = create_request("n", |t| t);
    twice.topics.push(twice.topics[0].clone());
    let answer: CreateTopicsResponse = world.ask(ApiKey::CreateTopics, 7, twice).await;
    assert_eq!(answer.topics.len(), 1);
    assert_eq!(answer.topics[0].error_code, E::InvalidRequest.code());
    // Nothing of all this made a topic; nor does a request that only wants to know.
    let only_ask = create_request("n", |t| t).with_validate_only(true);
    let answer: CreateTopicsResponse = world.ask(ApiKey::CreateTopics, 7, only_ask).await;
    assert_eq!(answer.topics[0].error_code, 0);
    assert!(world.ctx.session.broker.catalog().topic("n").is_none());
    let answer: CreateTopicsResponse = world
        .ask(
            ApiKey::CreateTopics,
            7,
            manual(vec![assignment(1, 1), assignment(0, 1)]),
        )
        .await;
    assert_eq!((answer.topics[0].error_code, answer.topics[0].num_partitions), (0, 2));
}

#[tokio::test]
async fn topics_go_by_name_and_by_id_with_their_offsets() {
    let world = World::new().await;
    for version in versions(ApiKey::DeleteTopics) {
        world.create("t", 1).await;
        commit(&world, 9, "g", 5).await;
        let request = if version < 6 {
            DeleteTopicsRequest::default().with_topic_names(vec![topic("t")])
        } else {
            let id = world.ctx.session.broker.topic("t").unwrap().id;
            let state = delete_topics_request::DeleteTopicState::default()
                .with_name(None)
                .with_topic_id(id);
            DeleteTopicsRequest::default().with_topics(vec![state])
        };
        let answer: DeleteTopicsResponse = world.ask(ApiKey::DeleteTopics, version, request).await;
        assert_eq!(answer.responses[0].error_code, 0);
        assert_eq!(answer.responses[0].name, Some(topic("t")));
        assert_eq!(fetch(&world, 9, "g").await, None);
    }
    let unknown = DeleteTopicsRequest::default().with_topic_names(vec![topic("t"), topic("__consumer_offsets")]);
    let answer: DeleteTopicsResponse = world.ask(ApiKey::DeleteTopics, 5, unknown).await;
    let codes: Vec<i16> = answer.responses.iter().map(|response| response.error_code).collect();
    assert_eq!(
        codes,
        [E::UnknownTopicOrPartition.code(), E::InvalidTopicException.code()]
    );
}

#[tokio::test]
async fn topics_grow_and_records_go() {
    let world = World::new().await;
    world.create("t", 1).await;
    let grow = |count: i32| {
        let topic = create_partitions_request::CreatePartitionsTopic::default()
            .with_name(topic("t"))
            .with_count(count)
            .with_assignments(None);
        CreatePartitionsRequest::default().with_topics(vec![topic])
    };
    for (version, count) in versions(ApiKey::CreatePartitions).zip(2..) {
        let answer: CreatePartitionsResponse = world.ask(ApiKey::CreatePartitions, version, grow(count)).await;
        assert_eq!(answer.results[0].error_code, 0);
        assert_eq!(
            world.ctx.session.broker.topic("t").unwrap().partitions.len(),
            count as usize
        );
    }
    let answer: CreatePartitionsResponse = world.ask(ApiKey::CreatePartitions, 3, grow(1)).await;
    assert_eq!(answer.results[0].error_code, E::InvalidPartitions.code());
    for version in versions(ApiKey::DeleteRecords) {
        let partition = |index: i32, offset: i64| {
            delete_records_request::DeleteRecordsPartition::default()
                .with_partition_index(index)
                .with_offset(offset)
        };
        let parts = vec![partition(0, -1), partition(0, 9), partition(99, 0)];
        let asked = delete_records_request::DeleteRecordsTopic::default()
            .with_name(topic("t"))
            .with_partitions(parts);
        let request = DeleteRecordsRequest::default().with_topics(vec![asked]);
        let answer: DeleteRecordsResponse = world.ask(ApiKey::DeleteRecords, version, request).await;
        let codes: Vec<i16> = answer.topics[0]
            .partitions
            .iter()
            .map(|partition| partition.error_code)
            .collect();
        assert_eq!(
            codes,
            [0, E::OffsetOutOfRange.code(), E::UnknownTopicOrPartition.code()]
        );
    }
}

#[tokio::test]
async fn configs_are_described_and_altered() {
    let world = World::new().await;
    world.create("t", 1).await;
    let resource = |kind: i8, name: &str, keys: Option<Vec<StrBytes>>| {
        describe_configs_request::DescribeConfigsResource::default()
            .with_resource_type(kind)
            .with_resource_name(wire(name))
            .with_configuration_keys(keys)
    };
    for version in versions(ApiKey::DescribeConfigs) {
        let resources = vec![
            resource(2, "t", None),
            resource(2, "t", Some(Vec::new())),
            resource(2, "t", Some(vec![wire("retention.ms")])),
            resource(4, "1", None),
            resource(4, "", None),
            resource(2, "none", None),
            resource(4, "7", None),
            resource(77, "x", None),
        ];
        let mut request = DescribeConfigsRequest::default()
            .with_resources(resources)
            .with_include_synonyms(true);
        if version >= 3 {
            request.include_documentation = true;
        }
        let answer: DescribeConfigsResponse = world.ask(ApiKey::DescribeConfigs, version, request).await;
        let codes: Vec<i16> = answer.results.iter().map(|result| result.error_code).collect();
        let (unknown, invalid) = (E::UnknownTopicOrPartition.code(), E::InvalidRequest.code());
        assert_eq!(codes, [0, 0, 0, 0, 0, unknown, invalid, invalid]);
        assert_eq!(answer.results[0].configs.len(), answer.results[1].configs.len());
        let one = &answer.results[2].configs;
        assert_eq!(
            (one.len(), one[0].value.as_deref(), one[0].config_source),
            (1, Some("604800000"), 5)
        );
        assert_eq!(&*one[0].synonyms[0].name, "log.retention.ms");
        if version >= 3 {
            assert!(one[0].documentation.as_ref().is_some_and(|text| !text.is_empty()));
        }
        let broker = &answer.results[3].configs;
        for name in [
            "inter.broker.protocol.version",
            "auto.create.topics.enable",
            "num.partitions",
            "message.max.bytes",
        ] {
            assert!(
                broker.iter().any(|config| &*config.name == name && config.read_only),
                "{name}"
            );
        }
    }
    let alter = |name: &str, operation: i8, value: Option<&str>| {
        let config = incremental_alter_configs_request::AlterableConfig::default()
            .with_name(wire(name))
            .with_config_operation(operation)
            .with_value(value.map(wire));
        let resource = incremental_alter_configs_request::AlterConfigsResource::default()
            .with_resource_type(2)
            .with_resource_name(wire("t"))
            .with_configs(vec![config]);
        IncrementalAlterConfigsRequest::default().with_resources(vec![resource])
    };
    let invalid = E::InvalidConfig.code();
    for (request, code, expected) in [
        (alter("retention.ms", 0, Some("5000")), 0, Some("5000")),
        (
            alter("retention.ms", 0, Some("6000")).with_validate_only(true),
            0,
            Some("5000"),
        ),
        (alter("retention.ms", 0, Some("-7")), invalid, Some("5000")),
        (alter("retention.ms", 2, Some("1")), invalid, Some("5000")),
        (alter("no.such", 0, Some("1")), invalid, Some("5000")),
        (alter("retention.ms", 9, None), E::InvalidRequest.code(), Some("5000")),
        (alter("retention.ms", 1, None), 0, None),
    ] {
        for version in versions(ApiKey::IncrementalAlterConfigs) {
            let answer: IncrementalAlterConfigsResponse = world
                .ask(ApiKey::IncrementalAlterConfigs, version, request.clone())
                .await;
            assert_eq!(answer.responses[0].error_code, code, "{request:?}");
        }
        let set = world
            .ctx
            .session
            .broker
            .topic("t")
            .unwrap()
            .configs
            .get("retention.ms")
            .cloned();
        assert_eq!(set.as_deref(), expected);
    }
    for version in versions(ApiKey::AlterConfigs) {
        let config = alter_configs_request::AlterableConfig::default()
            .with_name(wire("segment.bytes"))
            .with_value(Some(wire("2000000")));
        let resource = alter_configs_request::AlterConfigsResource::default()
            .with_resource_type(2)
            .with_resource_name(wire("t"))
            .with_configs(vec![config]);
        let request = AlterConfigsRequest::default().with_resources(vec![resource]);
        let answer: AlterConfigsResponse = world.ask(ApiKey::AlterConfigs, version, request).await;
        assert_eq!(answer.responses[0].error_code, 0);
    }
    assert_eq!(world.ctx.session.broker.topic("t").unwrap().configs.len(), 1);
}

#[tokio::test]
async fn the_cluster_describes_itself() {
    let world = World::new().await;
    world.create("b", 3).await;
    world.create("a", 2).await;
    for version in versions(ApiKey::DescribeCluster) {
        let request = DescribeClusterRequest::default().with_include_cluster_authorized_operations(true);
        let answer: DescribeClusterResponse = world.ask(ApiKey::DescribeCluster, version, request).await;
        assert_eq!(
            (&*answer.brokers[0].host, answer.brokers[0].port),
            ("broker.example", 9092)
        );
        assert_eq!(
            (answer.controller_id, answer.cluster_id.is_empty()),
            (BrokerId(1), false)
        );
        assert!(answer.cluster_authorized_operations > 0);
    }
    for version in versions(ApiKey::FindCoordinator) {
        let request = if version >= 4 {
            FindCoordinatorRequest::default().with_coordinator_keys(vec![wire("g"), wire("h")])
        } else {
            FindCoordinatorRequest::default().with_key(wire("g"))
        };
        let answer: FindCoordinatorResponse = world.ask(ApiKey::FindCoordinator, version, request).await;
        if version >= 4 {
            assert!(
                answer
                    .coordinators
                    .iter()
                    .all(|found| found.error_code == 0 && found.port == 9092)
            );
            assert_eq!(answer.coordinators.len(), 2);
        } else {
            assert_eq!((answer.error_code, answer.node_id, answer.port), (0, BrokerId(1), 9092));
        }
    }
    let acls: DescribeAclsResponse = world.ask(ApiKey::DescribeAcls, 3, DescribeAclsRequest::default()).await;
    assert_eq!(acls.error_code, E::SecurityDisabled.code());
    let moving = ListPartitionReassignmentsRequest::default().with_topics(None);
    let moving: ListPartitionReassignmentsResponse = world.ask(ApiKey::ListPartitionReassignments, 0, moving).await;
    assert_eq!((moving.error_code, moving.topics.len()), (0, 0));
    for version in versions(ApiKey::DescribeLogDirs) {
        let request = DescribeLogDirsRequest::default().with_topics(None);
        let answer: DescribeLogDirsResponse = world.ask(ApiKey::DescribeLogDirs, version, request).await;
        let a = answer.results[0]
            .topics
            .iter()
            .find(|found| found.name == topic("a"))
            .unwrap();
        assert_eq!(a.partitions.len(), 2);
    }
    for version in versions(ApiKey::ListConfigResources) {
        let answer: ListConfigResourcesResponse = world
            .ask(
                ApiKey::ListConfigResources,
                version,
                ListConfigResourcesRequest::default(),
            )
            .await;
        assert_eq!(version == 0, answer.config_resources.is_empty());
    }
}

#[tokio::test]
async fn partitions_are_described_page_by_page() {
    let world = World::new().await;
    world.create("b", 3).await;
    world.create("a", 2).await;
    let asked = ["b", "a", "none", "b"]
        .map(|name| describe_topic_partitions_request::TopicRequest::default().with_name(topic(name)));
    let mut request = DescribeTopicPartitionsRequest::default()
        .with_topics(asked.to_vec())
        .with_response_partition_limit(2)
        .with_cursor(None);
    let mut seen = Vec::new();
    loop {
        let answer: DescribeTopicPartitionsResponse =
            world.ask(ApiKey::DescribeTopicPartitions, 0, request.clone()).await;
        for described in answer.topics {
            let name = described.name.unwrap();
            if described.error_code != 0 {
                seen.push(format!("{} {}", &*name, described.error_code));
            }
            seen.extend(
                described
                    .partitions
                    .iter()
                    .map(|partition| format!("{} {}", &*name, partition.partition_index)),
            );
        }
        let Some(cursor) = answer.next_cursor else { break };
        let next = describe_topic_partitions_request::Cursor::default()
            .with_topic_name(cursor.topic_name)
            .with_partition_index(cursor.partition_index);
        request = request.with_cursor(Some(next));
    }
    assert_eq!(seen, ["a 0", "a 1", "b 0", "b 1", "b 2", "none 3"]);
}

async fn commit(world: &World, version: i16, name: &str, offset: i64) -> i16 {
    let partition = offset_commit_request::OffsetCommitRequestPartition::default()
        .with_partition_index(0)
        .with_committed_offset(offset)
        .with_committed_metadata(Some(wire("note")));
    let partition = if version >= 6 {
        partition.with_committed_leader_epoch(4)
    } else {
        partition
    };
    let asked = offset_commit_request::OffsetCommitRequestTopic::default()
        .with_name(topic("t"))
        .with_partitions(vec![partition]);
    let request = OffsetCommitRequest::default()
        .with_group_id(group(name))
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![asked]);
    let answer: OffsetCommitResponse = world.ask(ApiKey::OffsetCommit, version, request).await;
    answer.topics[0].partitions[0].error_code
}

/// The committed offset with its epoch, none for -1.
async fn fetch(world: &World, version: i16, name: &str) -> Option<(i64, i32)> {
    let request = if version >= 8 {
        let asked = offset_fetch_request::OffsetFetchRequestTopics::default()
            .with_name(topic("t"))
            .with_partition_indexes(vec![0]);
        let wanted = offset_fetch_request::OffsetFetchRequestGroup::default()
            .with_group_id(group(name))
            .with_topics(Some(vec![asked]));
        OffsetFetchRequest::default().with_groups(vec![wanted])
    } else {
        let asked = offset_fetch_request::OffsetFetchRequestTopic::default()
            .with_name(topic("t"))
            .with_partition_indexes(vec![0]);
        OffsetFetchRequest::default()
            .with_group_id(group(name))
            .with_topics(Some(vec![asked]))
    };
    let answer: OffsetFetchResponse = world.ask(ApiKey::OffsetFetch, version, request).await;
    let (offset, epoch, code) = if version >= 8 {
        let found = &answer.groups[0].topics[0].partitions[0];
        (
            found.committed_offset,
            found.committed_leader_epoch,
            found.error_code + answer.groups[0].error_code,
        )
    } else {
        let found = &answer.topics[0].partitions[0];
        (
            found.committed_offset,
            found.committed_leader_epoch,
            found.error_code + answer.error_code,
        )
    };
    assert_eq!(code, 0);
    (offset >= 0).then_some((offset, epoch))
}

#[tokio::test]
async fn offsets_are_committed_and_fetched_in_every_version() {
    let world = World::new().await;
    world.create("t", 1).await;
    for version in versions(ApiKey::OffsetFetch) {
        assert_eq!(fetch(&world, version, "nobody").await, None, "version {version}");
    }
    for version in versions(ApiKey::OffsetCommit) {
        assert_eq!(commit(&world, version, "g", 100 + i64::from(version)).await, 0);
        let epoch = if version >= 6 { 4 } else { -1 };
        for fetch_version in versions(ApiKey::OffsetFetch) {
            let seen = if fetch_version >= 5 { epoch } else { -1 };
            assert_eq!(
                fetch(&world, fetch_version, "g").await,
                Some((100 + i64::from(version), seen))
            );
        }
    }
    // All offsets of the group.
    for version in 2..=7 {
        let request = OffsetFetchRequest::default()
            .with_group_id(group("g"))
            .with_topics(None);
        let answer: OffsetFetchResponse = world.ask(ApiKey::OffsetFetch, version, request).await;
        assert_eq!(answer.topics[0].partitions[0].committed_offset, 109);
        assert_eq!(answer.topics[0].partitions[0].metadata.as_deref(), Some("note"));
    }
    // A topic that was deleted and made again is another topic.
    let id = world.ctx.session.broker.topic("t").unwrap().id;
    world.ctx.session.broker.delete_topic(id).await.unwrap();
    assert_eq!(commit(&world, 9, "g", 1).await, E::UnknownTopicOrPartition.code());
    world.create("t", 1).await;
    assert_eq!(fetch(&world, 9, "g").await, None);

    let partition = offset_delete_request::OffsetDeleteRequestPartition::default();
    let asked = offset_delete_request::OffsetDeleteRequestTopic::default()
        .with_name(topic("t"))
        .with_partitions(vec![partition.clone(), partition.with_partition_index(9)]);
    let request = OffsetDeleteRequest::default()
        .with_group_id(group("g"))
        .with_topics(vec![asked]);
    let answer: OffsetDeleteResponse = world.ask(ApiKey::OffsetDelete, 0, request).await;
    let codes: Vec<i16> = answer.topics[0]
        .partitions
        .iter()
        .map(|partition| partition.error_code)
        .collect();
    assert_eq!(
        (answer.error_code, codes),
        (0, vec![0, E::UnknownTopicOrPartition.code()])
    );
}

#[tokio::test]
async fn a_member_joins_syncs_and_leaves_in_every_version() {
    let world = World::new().await;
    for version in versions(ApiKey::JoinGroup) {
        let name = format!("g{version}");
        let protocol = join_group_request::JoinGroupRequestProtocol::default()
            .with_name(wire("range"))
            .with_metadata("m".into());
        let mut request = JoinGroupRequest::default()
            .with_group_id(group(&name))
            .with_session_timeout_ms(10_000)
            .with_protocol_type(wire("consumer"))
            .with_protocols(vec![protocol]);
        if version >= 1 {
            request.rebalance_timeout_ms = 10_000;
        }
        let mut joined: JoinGroupResponse = world.ask(ApiKey::JoinGroup, version, request.clone()).await;
        if version >= 4 {
            assert_eq!(joined.error_code, E::MemberIdRequired.code());
            assert!(joined.member_id.starts_with("tester-"));
            request.member_id = joined.member_id;
            joined = world.ask(ApiKey::JoinGroup, version, request.clone()).await;
        }
        assert_eq!(
            (joined.error_code, joined.generation_id, joined.members.len()),
            (0, 1, 1)
        );
        assert_eq!(
            (joined.leader == joined.member_id, joined.protocol_name.as_deref()),
            (true, Some("range"))
        );

        let part = sync_group_request::SyncGroupRequestAssignment::default()
            .with_member_id(joined.member_id.clone())
            .with_assignment("part".into());
        let request = SyncGroupRequest::default()
            .with_group_id(group(&name))
            .with_generation_id(1)
            .with_member_id(joined.member_id.clone())
            .with_assignments(vec![part]);
        let sync_version = version.min(5);
        let synced: SyncGroupResponse = world.ask(ApiKey::SyncGroup, sync_version, request).await;
        assert_eq!((synced.error_code, &*synced.assignment), (0, &b"part"[..]));

        let beat = HeartbeatRequest::default()
            .with_group_id(group(&name))
            .with_generation_id(1)
            .with_member_id(joined.member_id.clone());
        let answer: HeartbeatResponse = world.ask(ApiKey::Heartbeat, version.min(4), beat.clone()).await;
        assert_eq!(answer.error_code, 0);
        let stale = beat.with_generation_id(7);
        let answer: HeartbeatResponse = world.ask(ApiKey::Heartbeat, version.min(4), stale).await;
        assert_eq!(answer.error_code, E::IllegalGeneration.code());
        describe(&world, version.min(6), &name).await;

        let leave_version = version.min(5);
        let request = LeaveGroupRequest::default().with_group_id(group(&name));
        let request = if leave_version >= 3 {
            let member = |id: StrBytes| leave_group_request::MemberIdentity::default().with_member_id(id);
            request.with_members(vec![member(joined.member_id.clone()), member(wire("stranger"))])
        } else {
            request.with_member_id(joined.member_id.clone())
        };
        let left: LeaveGroupResponse = world.ask(ApiKey::LeaveGroup, leave_version, request).await;
        assert_eq!(left.error_code, 0);
        if leave_version >= 3 {
            let codes: Vec<i16> = left.members.iter().map(|member| member.error_code).collect();
            assert_eq!(codes, [0, E::UnknownMemberId.code()]);
        }
        let delete = DeleteGroupsRequest::default().with_groups_names(vec![group(&name), group("none")]);
        let deleted: DeleteGroupsResponse = world.ask(ApiKey::DeleteGroups, version.min(2), delete).await;
        let codes: Vec<i16> = deleted.results.iter().map(|result| result.error_code).collect();
        assert_eq!(codes, [0, E::GroupIdNotFound.code()]);
    }
    let nameless: JoinGroupResponse = world.ask(ApiKey::JoinGroup, 9, JoinGroupRequest::default()).await;
    assert_eq!(nameless.error_code, E::InvalidGroupId.code());
}

async fn describe(world: &World, version: i16, name: &str) {
    let request = DescribeGroupsRequest::default().with_groups(vec![group(name), group("none")]);
    let described: DescribeGroupsResponse = world.ask(ApiKey::DescribeGroups, version, request).await;
    let found = &described.groups[0];
    assert_eq!(
        (&*found.group_state, &*found.protocol_type, &*found.protocol_data),
        ("Stable", "consumer", "range")
    );
    assert_eq!(&*found.members[0].member_assignment, b"part");
    assert_eq!(&*found.members[0].client_host, "/127.0.0.1");
    let none = &described.groups[1];
    let code = if version >= 6 { E::GroupIdNotFound.code() } else { 0 };
    assert_eq!((&*none.group_state, none.error_code), ("Dead", code));

    let list_version = version.min(5);
    let request = ListGroupsRequest::default();
    let request = if list_version >= 4 {
        request.with_states_filter(vec![wire("stable")])
    } else {
        request
    };
    let listed: ListGroupsResponse = world.ask(ApiKey::ListGroups, list_version, request).await;
    assert_eq!((listed.groups.len(), &*listed.groups[0].group_id), (1, &wire(name)));
}
