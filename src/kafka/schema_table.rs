//! The layout of every request. GENERATED from kafka-clients-4.2.0.jar by tools/schema/generate.py, which says how:
//! do not edit. See `walker` for the use.

use super::walker::Kind::{Array, Bytes, Fixed, String, Struct};
use super::walker::{Field, NEVER, Schema, field, tagged, v};

/// All requests, sorted by API key.
pub const SCHEMAS: &[Schema] = &[
    Schema { api_key: 0, name: "Produce", versions: v(3, 13), flexible: v(9, 13), fields: PRODUCE },
    Schema { api_key: 1, name: "Fetch", versions: v(4, 18), flexible: v(12, 18), fields: FETCH },
    Schema { api_key: 2, name: "ListOffsets", versions: v(1, 11), flexible: v(6, 11), fields: LIST_OFFSETS },
    Schema { api_key: 3, name: "Metadata", versions: v(0, 13), flexible: v(9, 13), fields: METADATA },
    Schema { api_key: 8, name: "OffsetCommit", versions: v(2, 10), flexible: v(8, 10), fields: OFFSET_COMMIT },
    Schema { api_key: 9, name: "OffsetFetch", versions: v(1, 10), flexible: v(6, 10), fields: OFFSET_FETCH },
    Schema { api_key: 10, name: "FindCoordinator", versions: v(0, 6), flexible: v(3, 6), fields: FIND_COORDINATOR },
    Schema { api_key: 11, name: "JoinGroup", versions: v(0, 9), flexible: v(6, 9), fields: JOIN_GROUP },
    Schema { api_key: 12, name: "Heartbeat", versions: v(0, 4), flexible: v(4, 4), fields: HEARTBEAT },
    Schema { api_key: 13, name: "LeaveGroup", versions: v(0, 5), flexible: v(4, 5), fields: LEAVE_GROUP },
    Schema { api_key: 14, name: "SyncGroup", versions: v(0, 5), flexible: v(4, 5), fields: SYNC_GROUP },
    Schema { api_key: 15, name: "DescribeGroups", versions: v(0, 6), flexible: v(5, 6), fields: DESCRIBE_GROUPS },
    Schema { api_key: 16, name: "ListGroups", versions: v(0, 5), flexible: v(3, 5), fields: LIST_GROUPS },
    Schema { api_key: 17, name: "SaslHandshake", versions: v(0, 1), flexible: NEVER, fields: SASL_HANDSHAKE },
    Schema { api_key: 18, name: "ApiVersions", versions: v(0, 4), flexible: v(3, 4), fields: API_VERSIONS },
    Schema { api_key: 19, name: "CreateTopics", versions: v(2, 7), flexible: v(5, 7), fields: CREATE_TOPICS },
    Schema { api_key: 20, name: "DeleteTopics", versions: v(1, 6), flexible: v(4, 6), fields: DELETE_TOPICS },
    Schema { api_key: 21, name: "DeleteRecords", versions: v(0, 2), flexible: v(2, 2), fields: DELETE_RECORDS },
    Schema { api_key: 22, name: "InitProducerId", versions: v(0, 6), flexible: v(2, 6), fields: INIT_PRODUCER_ID },
    Schema { api_key: 23, name: "OffsetForLeaderEpoch", versions: v(2, 4), flexible: v(4, 4), fields: OFFSET_FOR_LEADER_EPOCH },
    Schema { api_key: 24, name: "AddPartitionsToTxn", versions: v(0, 5), flexible: v(3, 5), fields: ADD_PARTITIONS_TO_TXN },
    Schema { api_key: 25, name: "AddOffsetsToTxn", versions: v(0, 4), flexible: v(3, 4), fields: ADD_OFFSETS_TO_TXN },
    Schema { api_key: 26, name: "EndTxn", versions: v(0, 5), flexible: v(3, 5), fields: END_TXN },
    Schema { api_key: 27, name: "WriteTxnMarkers", versions: v(1, 2), flexible: v(1, 2), fields: WRITE_TXN_MARKERS },
    Schema { api_key: 28, name: "TxnOffsetCommit", versions: v(0, 5), flexible: v(3, 5), fields: TXN_OFFSET_COMMIT },
    Schema { api_key: 29, name: "DescribeAcls", versions: v(1, 3), flexible: v(2, 3), fields: DESCRIBE_ACLS },
    Schema { api_key: 30, name: "CreateAcls", versions: v(1, 3), flexible: v(2, 3), fields: CREATE_ACLS },
    Schema { api_key: 31, name: "DeleteAcls", versions: v(1, 3), flexible: v(2, 3), fields: DELETE_ACLS },
    Schema { api_key: 32, name: "DescribeConfigs", versions: v(1, 4), flexible: v(4, 4), fields: DESCRIBE_CONFIGS },
    Schema { api_key: 33, name: "AlterConfigs", versions: v(0, 2), flexible: v(2, 2), fields: ALTER_CONFIGS },
    Schema { api_key: 34, name: "AlterReplicaLogDirs", versions: v(1, 2), flexible: v(2, 2), fields: ALTER_REPLICA_LOG_DIRS },
    Schema { api_key: 35, name: "DescribeLogDirs", versions: v(1, 4), flexible: v(2, 4), fields: DESCRIBE_LOG_DIRS },
    Schema { api_key: 36, name: "SaslAuthenticate", versions: v(0, 2), flexible: v(2, 2), fields: SASL_AUTHENTICATE },
    Schema { api_key: 37, name: "CreatePartitions", versions: v(0, 3), flexible: v(2, 3), fields: CREATE_PARTITIONS },
    Schema { api_key: 38, name: "CreateDelegationToken", versions: v(1, 3), flexible: v(2, 3), fields: CREATE_DELEGATION_TOKEN },
    Schema { api_key: 39, name: "RenewDelegationToken", versions: v(1, 2), flexible: v(2, 2), fields: RENEW_DELEGATION_TOKEN },
    Schema { api_key: 40, name: "ExpireDelegationToken", versions: v(1, 2), flexible: v(2, 2), fields: EXPIRE_DELEGATION_TOKEN },
    Schema { api_key: 41, name: "DescribeDelegationToken", versions: v(1, 3), flexible: v(2, 3), fields: DESCRIBE_DELEGATION_TOKEN },
    Schema { api_key: 42, name: "DeleteGroups", versions: v(0, 2), flexible: v(2, 2), fields: DELETE_GROUPS },
    Schema { api_key: 43, name: "ElectLeaders", versions: v(0, 2), flexible: v(2, 2), fields: ELECT_LEADERS },
    Schema { api_key: 44, name: "IncrementalAlterConfigs", versions: v(0, 1), flexible: v(1, 1), fields: INCREMENTAL_ALTER_CONFIGS },
    Schema { api_key: 45, name: "AlterPartitionReassignments", versions: v(0, 1), flexible: v(0, 1), fields: ALTER_PARTITION_REASSIGNMENTS },
    Schema { api_key: 46, name: "ListPartitionReassignments", versions: v(0, 0), flexible: v(0, 0), fields: LIST_PARTITION_REASSIGNMENTS },
    Schema { api_key: 47, name: "OffsetDelete", versions: v(0, 0), flexible: NEVER, fields: OFFSET_DELETE },
    Schema { api_key: 48, name: "DescribeClientQuotas", versions: v(0, 1), flexible: v(1, 1), fields: DESCRIBE_CLIENT_QUOTAS },
    Schema { api_key: 49, name: "AlterClientQuotas", versions: v(0, 1), flexible: v(1, 1), fields: ALTER_CLIENT_QUOTAS },
    Schema { api_key: 50, name: "DescribeUserScramCredentials", versions: v(0, 0), flexible: v(0, 0), fields: DESCRIBE_USER_SCRAM_CREDENTIALS },
    Schema { api_key: 51, name: "AlterUserScramCredentials", versions: v(0, 0), flexible: v(0, 0), fields: ALTER_USER_SCRAM_CREDENTIALS },
    Schema { api_key: 55, name: "DescribeQuorum", versions: v(0, 2), flexible: v(0, 2), fields: DESCRIBE_QUORUM },
    Schema { api_key: 57, name: "UpdateFeatures", versions: v(0, 2), flexible: v(0, 2), fields: UPDATE_FEATURES },
    Schema { api_key: 60, name: "DescribeCluster", versions: v(0, 2), flexible: v(0, 2), fields: DESCRIBE_CLUSTER },
    Schema { api_key: 61, name: "DescribeProducers", versions: v(0, 0), flexible: v(0, 0), fields: DESCRIBE_PRODUCERS },
    Schema { api_key: 64, name: "UnregisterBroker", versions: v(0, 0), flexible: v(0, 0), fields: UNREGISTER_BROKER },
    Schema { api_key: 65, name: "DescribeTransactions", versions: v(0, 0), flexible: v(0, 0), fields: DESCRIBE_TRANSACTIONS },
    Schema { api_key: 66, name: "ListTransactions", versions: v(0, 2), flexible: v(0, 2), fields: LIST_TRANSACTIONS },
    Schema { api_key: 68, name: "ConsumerGroupHeartbeat", versions: v(0, 1), flexible: v(0, 1), fields: CONSUMER_GROUP_HEARTBEAT },
    Schema { api_key: 69, name: "ConsumerGroupDescribe", versions: v(0, 1), flexible: v(0, 1), fields: CONSUMER_GROUP_DESCRIBE },
    Schema { api_key: 71, name: "GetTelemetrySubscriptions", versions: v(0, 0), flexible: v(0, 0), fields: GET_TELEMETRY_SUBSCRIPTIONS },
    Schema { api_key: 72, name: "PushTelemetry", versions: v(0, 0), flexible: v(0, 0), fields: PUSH_TELEMETRY },
    Schema { api_key: 74, name: "ListConfigResources", versions: v(0, 1), flexible: v(0, 1), fields: LIST_CONFIG_RESOURCES },
    Schema { api_key: 75, name: "DescribeTopicPartitions", versions: v(0, 0), flexible: v(0, 0), fields: DESCRIBE_TOPIC_PARTITIONS },
    Schema { api_key: 76, name: "ShareGroupHeartbeat", versions: v(1, 1), flexible: v(1, 1), fields: SHARE_GROUP_HEARTBEAT },
    Schema { api_key: 77, name: "ShareGroupDescribe", versions: v(1, 1), flexible: v(1, 1), fields: SHARE_GROUP_DESCRIBE },
    Schema { api_key: 78, name: "ShareFetch", versions: v(1, 2), flexible: v(1, 2), fields: SHARE_FETCH },
    Schema { api_key: 79, name: "ShareAcknowledge", versions: v(1, 2), flexible: v(1, 2), fields: SHARE_ACKNOWLEDGE },
    Schema { api_key: 80, name: "AddRaftVoter", versions: v(0, 1), flexible: v(0, 1), fields: ADD_RAFT_VOTER },
    Schema { api_key: 81, name: "RemoveRaftVoter", versions: v(0, 0), flexible: v(0, 0), fields: REMOVE_RAFT_VOTER },
    Schema { api_key: 83, name: "InitializeShareGroupState", versions: v(0, 0), flexible: v(0, 0), fields: INITIALIZE_SHARE_GROUP_STATE },
    Schema { api_key: 84, name: "ReadShareGroupState", versions: v(0, 0), flexible: v(0, 0), fields: READ_SHARE_GROUP_STATE },
    Schema { api_key: 85, name: "WriteShareGroupState", versions: v(0, 1), flexible: v(0, 1), fields: WRITE_SHARE_GROUP_STATE },
    Schema { api_key: 86, name: "DeleteShareGroupState", versions: v(0, 0), flexible: v(0, 0), fields: DELETE_SHARE_GROUP_STATE },
    Schema { api_key: 87, name: "ReadShareGroupStateSummary", versions: v(0, 1), flexible: v(0, 1), fields: READ_SHARE_GROUP_STATE_SUMMARY },
    Schema { api_key: 88, name: "StreamsGroupHeartbeat", versions: v(0, 0), flexible: v(0, 0), fields: STREAMS_GROUP_HEARTBEAT },
    Schema { api_key: 89, name: "StreamsGroupDescribe", versions: v(0, 0), flexible: v(0, 0), fields: STREAMS_GROUP_DESCRIBE },
    Schema { api_key: 90, name: "DescribeShareGroupOffsets", versions: v(0, 1), flexible: v(0, 1), fields: DESCRIBE_SHARE_GROUP_OFFSETS },
    Schema { api_key: 91, name: "AlterShareGroupOffsets", versions: v(0, 0), flexible: v(0, 0), fields: ALTER_SHARE_GROUP_OFFSETS },
    Schema { api_key: 92, name: "DeleteShareGroupOffsets", versions: v(0, 0), flexible: v(0, 0), fields: DELETE_SHARE_GROUP_OFFSETS },
];

const PRODUCE_PARTITION_PRODUCE_DATA: &[Field] = &[
    field("index", v(3, 13), NEVER, Fixed(4)),
    field("records", v(3, 13), v(3, 13), Bytes),
];
const PRODUCE_TOPIC_PRODUCE_DATA: &[Field] = &[
    field("name", v(3, 12), NEVER, String),
    field("topic_id", v(13, 13), NEVER, Fixed(16)),
    field("partition_data", v(3, 13), NEVER, Array(&Struct(PRODUCE_PARTITION_PRODUCE_DATA), 64)),
];
const PRODUCE: &[Field] = &[
    field("transactional_id", v(3, 13), v(3, 13), String),
    field("acks", v(3, 13), NEVER, Fixed(2)),
    field("timeout_ms", v(3, 13), NEVER, Fixed(4)),
    field("topic_data", v(3, 13), NEVER, Array(&Struct(PRODUCE_TOPIC_PRODUCE_DATA), 96)),
];

const FETCH_REPLICA_STATE: &[Field] = &[
    field("replica_id", v(15, 18), NEVER, Fixed(4)),
    field("replica_epoch", v(15, 18), NEVER, Fixed(8)),
];
const FETCH_FETCH_PARTITION: &[Field] = &[
    field("partition", v(4, 18), NEVER, Fixed(4)),
    field("current_leader_epoch", v(9, 18), NEVER, Fixed(4)),
    field("fetch_offset", v(4, 18), NEVER, Fixed(8)),
    field("last_fetched_epoch", v(12, 18), NEVER, Fixed(4)),
    field("log_start_offset", v(5, 18), NEVER, Fixed(8)),
    field("partition_max_bytes", v(4, 18), NEVER, Fixed(4)),
    tagged(0, v(17, 18), "replica_directory_id", v(17, 18), NEVER, Fixed(16)),
    tagged(1, v(18, 18), "high_watermark", v(18, 18), NEVER, Fixed(8)),
];
const FETCH_FETCH_TOPIC: &[Field] = &[
    field("topic", v(4, 12), NEVER, String),
    field("topic_id", v(13, 18), NEVER, Fixed(16)),
    field("partitions", v(4, 18), NEVER, Array(&Struct(FETCH_FETCH_PARTITION), 80)),
];
const FETCH_FORGOTTEN_TOPIC: &[Field] = &[
    field("topic", v(7, 12), NEVER, String),
    field("topic_id", v(13, 18), NEVER, Fixed(16)),
    field("partitions", v(7, 18), NEVER, Array(&Fixed(4), 4)),
];
const FETCH: &[Field] = &[
    tagged(0, v(12, 18), "cluster_id", v(12, 18), v(12, 18), String),
    field("replica_id", v(4, 14), NEVER, Fixed(4)),
    tagged(1, v(15, 18), "replica_state", v(15, 18), NEVER, Struct(FETCH_REPLICA_STATE)),
    field("max_wait_ms", v(4, 18), NEVER, Fixed(4)),
    field("min_bytes", v(4, 18), NEVER, Fixed(4)),
    field("max_bytes", v(4, 18), NEVER, Fixed(4)),
    field("isolation_level", v(4, 18), NEVER, Fixed(1)),
    field("session_id", v(7, 18), NEVER, Fixed(4)),
    field("session_epoch", v(7, 18), NEVER, Fixed(4)),
    field("topics", v(4, 18), NEVER, Array(&Struct(FETCH_FETCH_TOPIC), 96)),
    field("forgotten_topics_data", v(7, 18), NEVER, Array(&Struct(FETCH_FORGOTTEN_TOPIC), 96)),
    field("rack_id", v(11, 18), NEVER, String),
];

const LIST_OFFSETS_LIST_OFFSETS_PARTITION: &[Field] = &[
    field("partition_index", v(1, 11), NEVER, Fixed(4)),
    field("current_leader_epoch", v(4, 11), NEVER, Fixed(4)),
    field("timestamp", v(1, 11), NEVER, Fixed(8)),
];
const LIST_OFFSETS_LIST_OFFSETS_TOPIC: &[Field] = &[
    field("name", v(1, 11), NEVER, String),
    field("partitions", v(1, 11), NEVER, Array(&Struct(LIST_OFFSETS_LIST_OFFSETS_PARTITION), 40)),
];
const LIST_OFFSETS: &[Field] = &[
    field("replica_id", v(1, 11), NEVER, Fixed(4)),
    field("isolation_level", v(2, 11), NEVER, Fixed(1)),
    field("topics", v(1, 11), NEVER, Array(&Struct(LIST_OFFSETS_LIST_OFFSETS_TOPIC), 80)),
    field("timeout_ms", v(10, 11), NEVER, Fixed(4)),
];

const METADATA_METADATA_REQUEST_TOPIC: &[Field] = &[
    field("topic_id", v(10, 13), NEVER, Fixed(16)),
    field("name", v(0, 13), v(10, 13), String),
];
const METADATA: &[Field] = &[
    field("topics", v(0, 13), v(1, 13), Array(&Struct(METADATA_METADATA_REQUEST_TOPIC), 72)),
    field("allow_auto_topic_creation", v(4, 13), NEVER, Fixed(1)),
    field("include_cluster_authorized_operations", v(8, 10), NEVER, Fixed(1)),
    field("include_topic_authorized_operations", v(8, 13), NEVER, Fixed(1)),
];

const OFFSET_COMMIT_OFFSET_COMMIT_REQUEST_PARTITION: &[Field] = &[
    field("partition_index", v(2, 10), NEVER, Fixed(4)),
    field("committed_offset", v(2, 10), NEVER, Fixed(8)),
    field("committed_leader_epoch", v(6, 10), NEVER, Fixed(4)),
    field("committed_metadata", v(2, 10), v(2, 10), String),
];
const OFFSET_COMMIT_OFFSET_COMMIT_REQUEST_TOPIC: &[Field] = &[
    field("name", v(2, 9), NEVER, String),
    field("topic_id", v(10, 10), NEVER, Fixed(16)),
    field("partitions", v(2, 10), NEVER, Array(&Struct(OFFSET_COMMIT_OFFSET_COMMIT_REQUEST_PARTITION), 72)),
];
const OFFSET_COMMIT: &[Field] = &[
    field("group_id", v(2, 10), NEVER, String),
    field("generation_id_or_member_epoch", v(2, 10), NEVER, Fixed(4)),
    field("member_id", v(2, 10), NEVER, String),
    field("group_instance_id", v(7, 10), v(7, 10), String),
    field("retention_time_ms", v(2, 4), NEVER, Fixed(8)),
    field("topics", v(2, 10), NEVER, Array(&Struct(OFFSET_COMMIT_OFFSET_COMMIT_REQUEST_TOPIC), 96)),
];

const OFFSET_FETCH_OFFSET_FETCH_REQUEST_TOPIC: &[Field] = &[
    field("name", v(1, 7), NEVER, String),
    field("partition_indexes", v(1, 7), NEVER, Array(&Fixed(4), 4)),
];
const OFFSET_FETCH_OFFSET_FETCH_REQUEST_TOPICS: &[Field] = &[
    field("name", v(8, 9), NEVER, String),
    field("topic_id", v(10, 10), NEVER, Fixed(16)),
    field("partition_indexes", v(8, 10), NEVER, Array(&Fixed(4), 4)),
];
const OFFSET_FETCH_OFFSET_FETCH_REQUEST_GROUP: &[Field] = &[
    field("group_id", v(8, 10), NEVER, String),
    field("member_id", v(9, 10), v(9, 10), String),
    field("member_epoch", v(9, 10), NEVER, Fixed(4)),
    field("topics", v(8, 10), v(8, 10), Array(&Struct(OFFSET_FETCH_OFFSET_FETCH_REQUEST_TOPICS), 96)),
];
const OFFSET_FETCH: &[Field] = &[
    field("group_id", v(1, 7), NEVER, String),
    field("topics", v(1, 7), v(2, 7), Array(&Struct(OFFSET_FETCH_OFFSET_FETCH_REQUEST_TOPIC), 80)),
    field("groups", v(8, 10), NEVER, Array(&Struct(OFFSET_FETCH_OFFSET_FETCH_REQUEST_GROUP), 120)),
    field("require_stable", v(7, 10), NEVER, Fixed(1)),
];

const FIND_COORDINATOR: &[Field] = &[
    field("key", v(0, 3), NEVER, String),
    field("key_type", v(1, 6), NEVER, Fixed(1)),
    field("coordinator_keys", v(4, 6), NEVER, Array(&String, 32)),
];

const JOIN_GROUP_JOIN_GROUP_REQUEST_PROTOCOL: &[Field] = &[
    field("name", v(0, 9), NEVER, String),
    field("metadata", v(0, 9), NEVER, Bytes),
];
const JOIN_GROUP: &[Field] = &[
    field("group_id", v(0, 9), NEVER, String),
    field("session_timeout_ms", v(0, 9), NEVER, Fixed(4)),
    field("rebalance_timeout_ms", v(1, 9), NEVER, Fixed(4)),
    field("member_id", v(0, 9), NEVER, String),
    field("group_instance_id", v(5, 9), v(5, 9), String),
    field("protocol_type", v(0, 9), NEVER, String),
    field("protocols", v(0, 9), NEVER, Array(&Struct(JOIN_GROUP_JOIN_GROUP_REQUEST_PROTOCOL), 88)),
    field("reason", v(8, 9), v(8, 9), String),
];

const HEARTBEAT: &[Field] = &[
    field("group_id", v(0, 4), NEVER, String),
    field("generation_id", v(0, 4), NEVER, Fixed(4)),
    field("member_id", v(0, 4), NEVER, String),
    field("group_instance_id", v(3, 4), v(3, 4), String),
];

const LEAVE_GROUP_MEMBER_IDENTITY: &[Field] = &[
    field("member_id", v(3, 5), NEVER, String),
    field("group_instance_id", v(3, 5), v(3, 5), String),
    field("reason", v(5, 5), v(5, 5), String),
];
const LEAVE_GROUP: &[Field] = &[
    field("group_id", v(0, 5), NEVER, String),
    field("member_id", v(0, 2), NEVER, String),
    field("members", v(3, 5), NEVER, Array(&Struct(LEAVE_GROUP_MEMBER_IDENTITY), 120)),
];

const SYNC_GROUP_SYNC_GROUP_REQUEST_ASSIGNMENT: &[Field] = &[
    field("member_id", v(0, 5), NEVER, String),
    field("assignment", v(0, 5), NEVER, Bytes),
];
const SYNC_GROUP: &[Field] = &[
    field("group_id", v(0, 5), NEVER, String),
    field("generation_id", v(0, 5), NEVER, Fixed(4)),
    field("member_id", v(0, 5), NEVER, String),
    field("group_instance_id", v(3, 5), v(3, 5), String),
    field("protocol_type", v(5, 5), v(5, 5), String),
    field("protocol_name", v(5, 5), v(5, 5), String),
    field("assignments", v(0, 5), NEVER, Array(&Struct(SYNC_GROUP_SYNC_GROUP_REQUEST_ASSIGNMENT), 88)),
];

const DESCRIBE_GROUPS: &[Field] = &[
    field("groups", v(0, 6), NEVER, Array(&String, 32)),
    field("include_authorized_operations", v(3, 6), NEVER, Fixed(1)),
];

const LIST_GROUPS: &[Field] = &[
    field("states_filter", v(4, 5), NEVER, Array(&String, 32)),
    field("types_filter", v(5, 5), NEVER, Array(&String, 32)),
];

const SASL_HANDSHAKE: &[Field] = &[
    field("mechanism", v(0, 1), NEVER, String),
];

const API_VERSIONS: &[Field] = &[
    field("client_software_name", v(3, 4), NEVER, String),
    field("client_software_version", v(3, 4), NEVER, String),
];

const CREATE_TOPICS_CREATABLE_REPLICA_ASSIGNMENT: &[Field] = &[
    field("partition_index", v(2, 7), NEVER, Fixed(4)),
    field("broker_ids", v(2, 7), NEVER, Array(&Fixed(4), 4)),
];
const CREATE_TOPICS_CREATABLE_TOPIC_CONFIG: &[Field] = &[
    field("name", v(2, 7), NEVER, String),
    field("value", v(2, 7), v(2, 7), String),
];
const CREATE_TOPICS_CREATABLE_TOPIC: &[Field] = &[
    field("name", v(2, 7), NEVER, String),
    field("num_partitions", v(2, 7), NEVER, Fixed(4)),
    field("replication_factor", v(2, 7), NEVER, Fixed(2)),
    field("assignments", v(2, 7), NEVER, Array(&Struct(CREATE_TOPICS_CREATABLE_REPLICA_ASSIGNMENT), 56)),
    field("configs", v(2, 7), NEVER, Array(&Struct(CREATE_TOPICS_CREATABLE_TOPIC_CONFIG), 88)),
];
const CREATE_TOPICS: &[Field] = &[
    field("topics", v(2, 7), NEVER, Array(&Struct(CREATE_TOPICS_CREATABLE_TOPIC), 112)),
    field("timeout_ms", v(2, 7), NEVER, Fixed(4)),
    field("validate_only", v(2, 7), NEVER, Fixed(1)),
];

const DELETE_TOPICS_DELETE_TOPIC_STATE: &[Field] = &[
    field("name", v(6, 6), v(6, 6), String),
    field("topic_id", v(6, 6), NEVER, Fixed(16)),
];
const DELETE_TOPICS: &[Field] = &[
    field("topics", v(6, 6), NEVER, Array(&Struct(DELETE_TOPICS_DELETE_TOPIC_STATE), 72)),
    field("topic_names", v(1, 5), NEVER, Array(&String, 32)),
    field("timeout_ms", v(1, 6), NEVER, Fixed(4)),
];

const DELETE_RECORDS_DELETE_RECORDS_PARTITION: &[Field] = &[
    field("partition_index", v(0, 2), NEVER, Fixed(4)),
    field("offset", v(0, 2), NEVER, Fixed(8)),
];
const DELETE_RECORDS_DELETE_RECORDS_TOPIC: &[Field] = &[
    field("name", v(0, 2), NEVER, String),
    field("partitions", v(0, 2), NEVER, Array(&Struct(DELETE_RECORDS_DELETE_RECORDS_PARTITION), 40)),
];
const DELETE_RECORDS: &[Field] = &[
    field("topics", v(0, 2), NEVER, Array(&Struct(DELETE_RECORDS_DELETE_RECORDS_TOPIC), 80)),
    field("timeout_ms", v(0, 2), NEVER, Fixed(4)),
];

const INIT_PRODUCER_ID: &[Field] = &[
    field("transactional_id", v(0, 6), v(0, 6), String),
    field("transaction_timeout_ms", v(0, 6), NEVER, Fixed(4)),
    field("producer_id", v(3, 6), NEVER, Fixed(8)),
    field("producer_epoch", v(3, 6), NEVER, Fixed(2)),
    field("enable2_pc", v(6, 6), NEVER, Fixed(1)),
    field("keep_prepared_txn", v(6, 6), NEVER, Fixed(1)),
];

const OFFSET_FOR_LEADER_EPOCH_OFFSET_FOR_LEADER_PARTITION: &[Field] = &[
    field("partition", v(2, 4), NEVER, Fixed(4)),
    field("current_leader_epoch", v(2, 4), NEVER, Fixed(4)),
    field("leader_epoch", v(2, 4), NEVER, Fixed(4)),
];
const OFFSET_FOR_LEADER_EPOCH_OFFSET_FOR_LEADER_TOPIC: &[Field] = &[
    field("topic", v(2, 4), NEVER, String),
    field("partitions", v(2, 4), NEVER, Array(&Struct(OFFSET_FOR_LEADER_EPOCH_OFFSET_FOR_LEADER_PARTITION), 40)),
];
const OFFSET_FOR_LEADER_EPOCH: &[Field] = &[
    field("replica_id", v(3, 4), NEVER, Fixed(4)),
    field("topics", v(2, 4), NEVER, Array(&Struct(OFFSET_FOR_LEADER_EPOCH_OFFSET_FOR_LEADER_TOPIC), 80)),
];

const ADD_PARTITIONS_TO_TXN_ADD_PARTITIONS_TO_TXN_TOPIC: &[Field] = &[
    field("name", v(0, 5), NEVER, String),
    field("partitions", v(0, 5), NEVER, Array(&Fixed(4), 4)),
];
const ADD_PARTITIONS_TO_TXN_ADD_PARTITIONS_TO_TXN_TRANSACTION: &[Field] = &[
    field("transactional_id", v(4, 5), NEVER, String),
    field("producer_id", v(4, 5), NEVER, Fixed(8)),
    field("producer_epoch", v(4, 5), NEVER, Fixed(2)),
    field("verify_only", v(4, 5), NEVER, Fixed(1)),
    field("topics", v(4, 5), NEVER, Array(&Struct(ADD_PARTITIONS_TO_TXN_ADD_PARTITIONS_TO_TXN_TOPIC), 80)),
];
const ADD_PARTITIONS_TO_TXN: &[Field] = &[
    field("transactions", v(4, 5), NEVER, Array(&Struct(ADD_PARTITIONS_TO_TXN_ADD_PARTITIONS_TO_TXN_TRANSACTION), 96)),
    field("v3_and_below_transactional_id", v(0, 3), NEVER, String),
    field("v3_and_below_producer_id", v(0, 3), NEVER, Fixed(8)),
    field("v3_and_below_producer_epoch", v(0, 3), NEVER, Fixed(2)),
    field("v3_and_below_topics", v(0, 3), NEVER, Array(&Struct(ADD_PARTITIONS_TO_TXN_ADD_PARTITIONS_TO_TXN_TOPIC), 80)),
];

const ADD_OFFSETS_TO_TXN: &[Field] = &[
    field("transactional_id", v(0, 4), NEVER, String),
    field("producer_id", v(0, 4), NEVER, Fixed(8)),
    field("producer_epoch", v(0, 4), NEVER, Fixed(2)),
    field("group_id", v(0, 4), NEVER, String),
];

const END_TXN: &[Field] = &[
    field("transactional_id", v(0, 5), NEVER, String),
    field("producer_id", v(0, 5), NEVER, Fixed(8)),
    field("producer_epoch", v(0, 5), NEVER, Fixed(2)),
    field("committed", v(0, 5), NEVER, Fixed(1)),
];

const WRITE_TXN_MARKERS_WRITABLE_TXN_MARKER_TOPIC: &[Field] = &[
    field("name", v(1, 2), NEVER, String),
    field("partition_indexes", v(1, 2), NEVER, Array(&Fixed(4), 4)),
];
const WRITE_TXN_MARKERS_WRITABLE_TXN_MARKER: &[Field] = &[
    field("producer_id", v(1, 2), NEVER, Fixed(8)),
    field("producer_epoch", v(1, 2), NEVER, Fixed(2)),
    field("transaction_result", v(1, 2), NEVER, Fixed(1)),
    field("topics", v(1, 2), NEVER, Array(&Struct(WRITE_TXN_MARKERS_WRITABLE_TXN_MARKER_TOPIC), 80)),
    field("coordinator_epoch", v(1, 2), NEVER, Fixed(4)),
    field("transaction_version", v(2, 2), NEVER, Fixed(1)),
];
const WRITE_TXN_MARKERS: &[Field] = &[
    field("markers", v(1, 2), NEVER, Array(&Struct(WRITE_TXN_MARKERS_WRITABLE_TXN_MARKER), 64)),
];

const TXN_OFFSET_COMMIT_TXN_OFFSET_COMMIT_REQUEST_PARTITION: &[Field] = &[
    field("partition_index", v(0, 5), NEVER, Fixed(4)),
    field("committed_offset", v(0, 5), NEVER, Fixed(8)),
    field("committed_leader_epoch", v(2, 5), NEVER, Fixed(4)),
    field("committed_metadata", v(0, 5), v(0, 5), String),
];
const TXN_OFFSET_COMMIT_TXN_OFFSET_COMMIT_REQUEST_TOPIC: &[Field] = &[
    field("name", v(0, 5), NEVER, String),
    field("partitions", v(0, 5), NEVER, Array(&Struct(TXN_OFFSET_COMMIT_TXN_OFFSET_COMMIT_REQUEST_PARTITION), 72)),
];
const TXN_OFFSET_COMMIT: &[Field] = &[
    field("transactional_id", v(0, 5), NEVER, String),
    field("group_id", v(0, 5), NEVER, String),
    field("producer_id", v(0, 5), NEVER, Fixed(8)),
    field("producer_epoch", v(0, 5), NEVER, Fixed(2)),
    field("generation_id", v(3, 5), NEVER, Fixed(4)),
    field("member_id", v(3, 5), NEVER, String),
    field("group_instance_id", v(3, 5), v(3, 5), String),
    field("topics", v(0, 5), NEVER, Array(&Struct(TXN_OFFSET_COMMIT_TXN_OFFSET_COMMIT_REQUEST_TOPIC), 80)),
];

const DESCRIBE_ACLS: &[Field] = &[
    field("resource_type_filter", v(1, 3), NEVER, Fixed(1)),
    field("resource_name_filter", v(1, 3), v(1, 3), String),
    field("pattern_type_filter", v(1, 3), NEVER, Fixed(1)),
    field("principal_filter", v(1, 3), v(1, 3), String),
    field("host_filter", v(1, 3), v(1, 3), String),
    field("operation", v(1, 3), NEVER, Fixed(1)),
    field("permission_type", v(1, 3), NEVER, Fixed(1)),
];

const CREATE_ACLS_ACL_CREATION: &[Field] = &[
    field("resource_type", v(1, 3), NEVER, Fixed(1)),
    field("resource_name", v(1, 3), NEVER, String),
    field("resource_pattern_type", v(1, 3), NEVER, Fixed(1)),
    field("principal", v(1, 3), NEVER, String),
    field("host", v(1, 3), NEVER, String),
    field("operation", v(1, 3), NEVER, Fixed(1)),
    field("permission_type", v(1, 3), NEVER, Fixed(1)),
];
const CREATE_ACLS: &[Field] = &[
    field("creations", v(1, 3), NEVER, Array(&Struct(CREATE_ACLS_ACL_CREATION), 128)),
];

const DELETE_ACLS_DELETE_ACLS_FILTER: &[Field] = &[
    field("resource_type_filter", v(1, 3), NEVER, Fixed(1)),
    field("resource_name_filter", v(1, 3), v(1, 3), String),
    field("pattern_type_filter", v(1, 3), NEVER, Fixed(1)),
    field("principal_filter", v(1, 3), v(1, 3), String),
    field("host_filter", v(1, 3), v(1, 3), String),
    field("operation", v(1, 3), NEVER, Fixed(1)),
    field("permission_type", v(1, 3), NEVER, Fixed(1)),
];
const DELETE_ACLS: &[Field] = &[
    field("filters", v(1, 3), NEVER, Array(&Struct(DELETE_ACLS_DELETE_ACLS_FILTER), 128)),
];

const DESCRIBE_CONFIGS_DESCRIBE_CONFIGS_RESOURCE: &[Field] = &[
    field("resource_type", v(1, 4), NEVER, Fixed(1)),
    field("resource_name", v(1, 4), NEVER, String),
    field("configuration_keys", v(1, 4), v(1, 4), Array(&String, 32)),
];
const DESCRIBE_CONFIGS: &[Field] = &[
    field("resources", v(1, 4), NEVER, Array(&Struct(DESCRIBE_CONFIGS_DESCRIBE_CONFIGS_RESOURCE), 88)),
    field("include_synonyms", v(1, 4), NEVER, Fixed(1)),
    field("include_documentation", v(3, 4), NEVER, Fixed(1)),
];

const ALTER_CONFIGS_ALTERABLE_CONFIG: &[Field] = &[
    field("name", v(0, 2), NEVER, String),
    field("value", v(0, 2), v(0, 2), String),
];
const ALTER_CONFIGS_ALTER_CONFIGS_RESOURCE: &[Field] = &[
    field("resource_type", v(0, 2), NEVER, Fixed(1)),
    field("resource_name", v(0, 2), NEVER, String),
    field("configs", v(0, 2), NEVER, Array(&Struct(ALTER_CONFIGS_ALTERABLE_CONFIG), 88)),
];
const ALTER_CONFIGS: &[Field] = &[
    field("resources", v(0, 2), NEVER, Array(&Struct(ALTER_CONFIGS_ALTER_CONFIGS_RESOURCE), 88)),
    field("validate_only", v(0, 2), NEVER, Fixed(1)),
];

const ALTER_REPLICA_LOG_DIRS_ALTER_REPLICA_LOG_DIR_TOPIC: &[Field] = &[
    field("name", v(1, 2), NEVER, String),
    field("partitions", v(1, 2), NEVER, Array(&Fixed(4), 4)),
];
const ALTER_REPLICA_LOG_DIRS_ALTER_REPLICA_LOG_DIR: &[Field] = &[
    field("path", v(1, 2), NEVER, String),
    field("topics", v(1, 2), NEVER, Array(&Struct(ALTER_REPLICA_LOG_DIRS_ALTER_REPLICA_LOG_DIR_TOPIC), 80)),
];
const ALTER_REPLICA_LOG_DIRS: &[Field] = &[
    field("dirs", v(1, 2), NEVER, Array(&Struct(ALTER_REPLICA_LOG_DIRS_ALTER_REPLICA_LOG_DIR), 80)),
];

const DESCRIBE_LOG_DIRS_DESCRIBABLE_LOG_DIR_TOPIC: &[Field] = &[
    field("topic", v(1, 4), NEVER, String),
    field("partitions", v(1, 4), NEVER, Array(&Fixed(4), 4)),
];
const DESCRIBE_LOG_DIRS: &[Field] = &[
    field("topics", v(1, 4), v(1, 4), Array(&Struct(DESCRIBE_LOG_DIRS_DESCRIBABLE_LOG_DIR_TOPIC), 80)),
];

const SASL_AUTHENTICATE: &[Field] = &[
    field("auth_bytes", v(0, 2), NEVER, Bytes),
];

const CREATE_PARTITIONS_CREATE_PARTITIONS_ASSIGNMENT: &[Field] = &[
    field("broker_ids", v(0, 3), NEVER, Array(&Fixed(4), 4)),
];
const CREATE_PARTITIONS_CREATE_PARTITIONS_TOPIC: &[Field] = &[
    field("name", v(0, 3), NEVER, String),
    field("count", v(0, 3), NEVER, Fixed(4)),
    field("assignments", v(0, 3), v(0, 3), Array(&Struct(CREATE_PARTITIONS_CREATE_PARTITIONS_ASSIGNMENT), 48)),
];
const CREATE_PARTITIONS: &[Field] = &[
    field("topics", v(0, 3), NEVER, Array(&Struct(CREATE_PARTITIONS_CREATE_PARTITIONS_TOPIC), 88)),
    field("timeout_ms", v(0, 3), NEVER, Fixed(4)),
    field("validate_only", v(0, 3), NEVER, Fixed(1)),
];

const CREATE_DELEGATION_TOKEN_CREATABLE_RENEWERS: &[Field] = &[
    field("principal_type", v(1, 3), NEVER, String),
    field("principal_name", v(1, 3), NEVER, String),
];
const CREATE_DELEGATION_TOKEN: &[Field] = &[
    field("owner_principal_type", v(3, 3), v(3, 3), String),
    field("owner_principal_name", v(3, 3), v(3, 3), String),
    field("renewers", v(1, 3), NEVER, Array(&Struct(CREATE_DELEGATION_TOKEN_CREATABLE_RENEWERS), 88)),
    field("max_lifetime_ms", v(1, 3), NEVER, Fixed(8)),
];

const RENEW_DELEGATION_TOKEN: &[Field] = &[
    field("hmac", v(1, 2), NEVER, Bytes),
    field("renew_period_ms", v(1, 2), NEVER, Fixed(8)),
];

const EXPIRE_DELEGATION_TOKEN: &[Field] = &[
    field("hmac", v(1, 2), NEVER, Bytes),
    field("expiry_time_period_ms", v(1, 2), NEVER, Fixed(8)),
];

const DESCRIBE_DELEGATION_TOKEN_DESCRIBE_DELEGATION_TOKEN_OWNER: &[Field] = &[
    field("principal_type", v(1, 3), NEVER, String),
    field("principal_name", v(1, 3), NEVER, String),
];
const DESCRIBE_DELEGATION_TOKEN: &[Field] = &[
    field("owners", v(1, 3), v(1, 3), Array(&Struct(DESCRIBE_DELEGATION_TOKEN_DESCRIBE_DELEGATION_TOKEN_OWNER), 88)),
];

const DELETE_GROUPS: &[Field] = &[
    field("groups_names", v(0, 2), NEVER, Array(&String, 32)),
];

const ELECT_LEADERS_TOPIC_PARTITIONS: &[Field] = &[
    field("topic", v(0, 2), NEVER, String),
    field("partitions", v(0, 2), NEVER, Array(&Fixed(4), 4)),
];
const ELECT_LEADERS: &[Field] = &[
    field("election_type", v(1, 2), NEVER, Fixed(1)),
    field("topic_partitions", v(0, 2), v(0, 2), Array(&Struct(ELECT_LEADERS_TOPIC_PARTITIONS), 80)),
    field("timeout_ms", v(0, 2), NEVER, Fixed(4)),
];

const INCREMENTAL_ALTER_CONFIGS_ALTERABLE_CONFIG: &[Field] = &[
    field("name", v(0, 1), NEVER, String),
    field("config_operation", v(0, 1), NEVER, Fixed(1)),
    field("value", v(0, 1), v(0, 1), String),
];
const INCREMENTAL_ALTER_CONFIGS_ALTER_CONFIGS_RESOURCE: &[Field] = &[
    field("resource_type", v(0, 1), NEVER, Fixed(1)),
    field("resource_name", v(0, 1), NEVER, String),
    field("configs", v(0, 1), NEVER, Array(&Struct(INCREMENTAL_ALTER_CONFIGS_ALTERABLE_CONFIG), 96)),
];
const INCREMENTAL_ALTER_CONFIGS: &[Field] = &[
    field("resources", v(0, 1), NEVER, Array(&Struct(INCREMENTAL_ALTER_CONFIGS_ALTER_CONFIGS_RESOURCE), 88)),
    field("validate_only", v(0, 1), NEVER, Fixed(1)),
];

const ALTER_PARTITION_REASSIGNMENTS_REASSIGNABLE_PARTITION: &[Field] = &[
    field("partition_index", v(0, 1), NEVER, Fixed(4)),
    field("replicas", v(0, 1), v(0, 1), Array(&Fixed(4), 4)),
];
const ALTER_PARTITION_REASSIGNMENTS_REASSIGNABLE_TOPIC: &[Field] = &[
    field("name", v(0, 1), NEVER, String),
    field("partitions", v(0, 1), NEVER, Array(&Struct(ALTER_PARTITION_REASSIGNMENTS_REASSIGNABLE_PARTITION), 56)),
];
const ALTER_PARTITION_REASSIGNMENTS: &[Field] = &[
    field("timeout_ms", v(0, 1), NEVER, Fixed(4)),
    field("allow_replication_factor_change", v(1, 1), NEVER, Fixed(1)),
    field("topics", v(0, 1), NEVER, Array(&Struct(ALTER_PARTITION_REASSIGNMENTS_REASSIGNABLE_TOPIC), 80)),
];

const LIST_PARTITION_REASSIGNMENTS_LIST_PARTITION_REASSIGNMENTS_TOPICS: &[Field] = &[
    field("name", v(0, 0), NEVER, String),
    field("partition_indexes", v(0, 0), NEVER, Array(&Fixed(4), 4)),
];
const LIST_PARTITION_REASSIGNMENTS: &[Field] = &[
    field("timeout_ms", v(0, 0), NEVER, Fixed(4)),
    field("topics", v(0, 0), v(0, 0), Array(&Struct(LIST_PARTITION_REASSIGNMENTS_LIST_PARTITION_REASSIGNMENTS_TOPICS), 80)),
];

const OFFSET_DELETE_OFFSET_DELETE_REQUEST_PARTITION: &[Field] = &[
    field("partition_index", v(0, 0), NEVER, Fixed(4)),
];
const OFFSET_DELETE_OFFSET_DELETE_REQUEST_TOPIC: &[Field] = &[
    field("name", v(0, 0), NEVER, String),
    field("partitions", v(0, 0), NEVER, Array(&Struct(OFFSET_DELETE_OFFSET_DELETE_REQUEST_PARTITION), 32)),
];
const OFFSET_DELETE: &[Field] = &[
    field("group_id", v(0, 0), NEVER, String),
    field("topics", v(0, 0), NEVER, Array(&Struct(OFFSET_DELETE_OFFSET_DELETE_REQUEST_TOPIC), 80)),
];

const DESCRIBE_CLIENT_QUOTAS_COMPONENT_DATA: &[Field] = &[
    field("entity_type", v(0, 1), NEVER, String),
    field("match_type", v(0, 1), NEVER, Fixed(1)),
    field("match", v(0, 1), v(0, 1), String),
];
const DESCRIBE_CLIENT_QUOTAS: &[Field] = &[
    field("components", v(0, 1), NEVER, Array(&Struct(DESCRIBE_CLIENT_QUOTAS_COMPONENT_DATA), 96)),
    field("strict", v(0, 1), NEVER, Fixed(1)),
];

const ALTER_CLIENT_QUOTAS_ENTITY_DATA: &[Field] = &[
    field("entity_type", v(0, 1), NEVER, String),
    field("entity_name", v(0, 1), v(0, 1), String),
];
const ALTER_CLIENT_QUOTAS_OP_DATA: &[Field] = &[
    field("key", v(0, 1), NEVER, String),
    field("value", v(0, 1), NEVER, Fixed(8)),
    field("remove", v(0, 1), NEVER, Fixed(1)),
];
const ALTER_CLIENT_QUOTAS_ENTRY_DATA: &[Field] = &[
    field("entity", v(0, 1), NEVER, Array(&Struct(ALTER_CLIENT_QUOTAS_ENTITY_DATA), 88)),
    field("ops", v(0, 1), NEVER, Array(&Struct(ALTER_CLIENT_QUOTAS_OP_DATA), 72)),
];
const ALTER_CLIENT_QUOTAS: &[Field] = &[
    field("entries", v(0, 1), NEVER, Array(&Struct(ALTER_CLIENT_QUOTAS_ENTRY_DATA), 72)),
    field("validate_only", v(0, 1), NEVER, Fixed(1)),
];

const DESCRIBE_USER_SCRAM_CREDENTIALS_USER_NAME: &[Field] = &[
    field("name", v(0, 0), NEVER, String),
];
const DESCRIBE_USER_SCRAM_CREDENTIALS: &[Field] = &[
    field("users", v(0, 0), v(0, 0), Array(&Struct(DESCRIBE_USER_SCRAM_CREDENTIALS_USER_NAME), 56)),
];

const ALTER_USER_SCRAM_CREDENTIALS_SCRAM_CREDENTIAL_DELETION: &[Field] = &[
    field("name", v(0, 0), NEVER, String),
    field("mechanism", v(0, 0), NEVER, Fixed(1)),
];
const ALTER_USER_SCRAM_CREDENTIALS_SCRAM_CREDENTIAL_UPSERTION: &[Field] = &[
    field("name", v(0, 0), NEVER, String),
    field("mechanism", v(0, 0), NEVER, Fixed(1)),
    field("iterations", v(0, 0), NEVER, Fixed(4)),
    field("salt", v(0, 0), NEVER, Bytes),
    field("salted_password", v(0, 0), NEVER, Bytes),
];
const ALTER_USER_SCRAM_CREDENTIALS: &[Field] = &[
    field("deletions", v(0, 0), NEVER, Array(&Struct(ALTER_USER_SCRAM_CREDENTIALS_SCRAM_CREDENTIAL_DELETION), 64)),
    field("upsertions", v(0, 0), NEVER, Array(&Struct(ALTER_USER_SCRAM_CREDENTIALS_SCRAM_CREDENTIAL_UPSERTION), 128)),
];

const DESCRIBE_QUORUM_PARTITION_DATA: &[Field] = &[
    field("partition_index", v(0, 2), NEVER, Fixed(4)),
];
const DESCRIBE_QUORUM_TOPIC_DATA: &[Field] = &[
    field("topic_name", v(0, 2), NEVER, String),
    field("partitions", v(0, 2), NEVER, Array(&Struct(DESCRIBE_QUORUM_PARTITION_DATA), 32)),
];
const DESCRIBE_QUORUM: &[Field] = &[
    field("topics", v(0, 2), NEVER, Array(&Struct(DESCRIBE_QUORUM_TOPIC_DATA), 80)),
];

const UPDATE_FEATURES_FEATURE_UPDATE_KEY: &[Field] = &[
    field("feature", v(0, 2), NEVER, String),
    field("max_version_level", v(0, 2), NEVER, Fixed(2)),
    field("allow_downgrade", v(0, 0), NEVER, Fixed(1)),
    field("upgrade_type", v(1, 2), NEVER, Fixed(1)),
];
const UPDATE_FEATURES: &[Field] = &[
    field("timeout_ms", v(0, 2), NEVER, Fixed(4)),
    field("feature_updates", v(0, 2), NEVER, Array(&Struct(UPDATE_FEATURES_FEATURE_UPDATE_KEY), 64)),
    field("validate_only", v(1, 2), NEVER, Fixed(1)),
];

const DESCRIBE_CLUSTER: &[Field] = &[
    field("include_cluster_authorized_operations", v(0, 2), NEVER, Fixed(1)),
    field("endpoint_type", v(1, 2), NEVER, Fixed(1)),
    field("include_fenced_brokers", v(2, 2), NEVER, Fixed(1)),
];

const DESCRIBE_PRODUCERS_TOPIC_REQUEST: &[Field] = &[
    field("name", v(0, 0), NEVER, String),
    field("partition_indexes", v(0, 0), NEVER, Array(&Fixed(4), 4)),
];
const DESCRIBE_PRODUCERS: &[Field] = &[
    field("topics", v(0, 0), NEVER, Array(&Struct(DESCRIBE_PRODUCERS_TOPIC_REQUEST), 80)),
];

const UNREGISTER_BROKER: &[Field] = &[
    field("broker_id", v(0, 0), NEVER, Fixed(4)),
];

const DESCRIBE_TRANSACTIONS: &[Field] = &[
    field("transactional_ids", v(0, 0), NEVER, Array(&String, 32)),
];

const LIST_TRANSACTIONS: &[Field] = &[
    field("state_filters", v(0, 2), NEVER, Array(&String, 32)),
    field("producer_id_filters", v(0, 2), NEVER, Array(&Fixed(8), 8)),
    field("duration_filter", v(1, 2), NEVER, Fixed(8)),
    field("transactional_id_pattern", v(2, 2), v(2, 2), String),
];

const CONSUMER_GROUP_HEARTBEAT_TOPIC_PARTITIONS: &[Field] = &[
    field("topic_id", v(0, 1), NEVER, Fixed(16)),
    field("partitions", v(0, 1), NEVER, Array(&Fixed(4), 4)),
];
const CONSUMER_GROUP_HEARTBEAT: &[Field] = &[
    field("group_id", v(0, 1), NEVER, String),
    field("member_id", v(0, 1), NEVER, String),
    field("member_epoch", v(0, 1), NEVER, Fixed(4)),
    field("instance_id", v(0, 1), v(0, 1), String),
    field("rack_id", v(0, 1), v(0, 1), String),
    field("rebalance_timeout_ms", v(0, 1), NEVER, Fixed(4)),
    field("subscribed_topic_names", v(0, 1), v(0, 1), Array(&String, 32)),
    field("subscribed_topic_regex", v(1, 1), v(1, 1), String),
    field("server_assignor", v(0, 1), v(0, 1), String),
    field("topic_partitions", v(0, 1), v(0, 1), Array(&Struct(CONSUMER_GROUP_HEARTBEAT_TOPIC_PARTITIONS), 64)),
];

const CONSUMER_GROUP_DESCRIBE: &[Field] = &[
    field("group_ids", v(0, 1), NEVER, Array(&String, 32)),
    field("include_authorized_operations", v(0, 1), NEVER, Fixed(1)),
];

const GET_TELEMETRY_SUBSCRIPTIONS: &[Field] = &[
    field("client_instance_id", v(0, 0), NEVER, Fixed(16)),
];

const PUSH_TELEMETRY: &[Field] = &[
    field("client_instance_id", v(0, 0), NEVER, Fixed(16)),
    field("subscription_id", v(0, 0), NEVER, Fixed(4)),
    field("terminating", v(0, 0), NEVER, Fixed(1)),
    field("compression_type", v(0, 0), NEVER, Fixed(1)),
    field("metrics", v(0, 0), NEVER, Bytes),
];

const LIST_CONFIG_RESOURCES: &[Field] = &[
    field("resource_types", v(1, 1), NEVER, Array(&Fixed(1), 1)),
];

const DESCRIBE_TOPIC_PARTITIONS_TOPIC_REQUEST: &[Field] = &[
    field("name", v(0, 0), NEVER, String),
];
const DESCRIBE_TOPIC_PARTITIONS_CURSOR: &[Field] = &[
    field("topic_name", v(0, 0), NEVER, String),
    field("partition_index", v(0, 0), NEVER, Fixed(4)),
];
const DESCRIBE_TOPIC_PARTITIONS: &[Field] = &[
    field("topics", v(0, 0), NEVER, Array(&Struct(DESCRIBE_TOPIC_PARTITIONS_TOPIC_REQUEST), 56)),
    field("response_partition_limit", v(0, 0), NEVER, Fixed(4)),
    field("cursor", v(0, 0), v(0, 0), Struct(DESCRIBE_TOPIC_PARTITIONS_CURSOR)),
];

const SHARE_GROUP_HEARTBEAT: &[Field] = &[
    field("group_id", v(1, 1), NEVER, String),
    field("member_id", v(1, 1), NEVER, String),
    field("member_epoch", v(1, 1), NEVER, Fixed(4)),
    field("rack_id", v(1, 1), v(1, 1), String),
    field("subscribed_topic_names", v(1, 1), v(1, 1), Array(&String, 32)),
];

const SHARE_GROUP_DESCRIBE: &[Field] = &[
    field("group_ids", v(1, 1), NEVER, Array(&String, 32)),
    field("include_authorized_operations", v(1, 1), NEVER, Fixed(1)),
];

const SHARE_FETCH_ACKNOWLEDGEMENT_BATCH: &[Field] = &[
    field("first_offset", v(1, 2), NEVER, Fixed(8)),
    field("last_offset", v(1, 2), NEVER, Fixed(8)),
    field("acknowledge_types", v(1, 2), NEVER, Array(&Fixed(1), 1)),
];
const SHARE_FETCH_FETCH_PARTITION: &[Field] = &[
    field("partition_index", v(1, 2), NEVER, Fixed(4)),
    field("acknowledgement_batches", v(1, 2), NEVER, Array(&Struct(SHARE_FETCH_ACKNOWLEDGEMENT_BATCH), 64)),
];
const SHARE_FETCH_FETCH_TOPIC: &[Field] = &[
    field("topic_id", v(1, 2), NEVER, Fixed(16)),
    field("partitions", v(1, 2), NEVER, Array(&Struct(SHARE_FETCH_FETCH_PARTITION), 56)),
];
const SHARE_FETCH_FORGOTTEN_TOPIC: &[Field] = &[
    field("topic_id", v(1, 2), NEVER, Fixed(16)),
    field("partitions", v(1, 2), NEVER, Array(&Fixed(4), 4)),
];
const SHARE_FETCH: &[Field] = &[
    field("group_id", v(1, 2), v(1, 2), String),
    field("member_id", v(1, 2), v(1, 2), String),
    field("share_session_epoch", v(1, 2), NEVER, Fixed(4)),
    field("max_wait_ms", v(1, 2), NEVER, Fixed(4)),
    field("min_bytes", v(1, 2), NEVER, Fixed(4)),
    field("max_bytes", v(1, 2), NEVER, Fixed(4)),
    field("max_records", v(1, 2), NEVER, Fixed(4)),
    field("batch_size", v(1, 2), NEVER, Fixed(4)),
    field("share_acquire_mode", v(2, 2), NEVER, Fixed(1)),
    field("is_renew_ack", v(2, 2), NEVER, Fixed(1)),
    field("topics", v(1, 2), NEVER, Array(&Struct(SHARE_FETCH_FETCH_TOPIC), 64)),
    field("forgotten_topics_data", v(1, 2), NEVER, Array(&Struct(SHARE_FETCH_FORGOTTEN_TOPIC), 64)),
];

const SHARE_ACKNOWLEDGE_ACKNOWLEDGEMENT_BATCH: &[Field] = &[
    field("first_offset", v(1, 2), NEVER, Fixed(8)),
    field("last_offset", v(1, 2), NEVER, Fixed(8)),
    field("acknowledge_types", v(1, 2), NEVER, Array(&Fixed(1), 1)),
];
const SHARE_ACKNOWLEDGE_ACKNOWLEDGE_PARTITION: &[Field] = &[
    field("partition_index", v(1, 2), NEVER, Fixed(4)),
    field("acknowledgement_batches", v(1, 2), NEVER, Array(&Struct(SHARE_ACKNOWLEDGE_ACKNOWLEDGEMENT_BATCH), 64)),
];
const SHARE_ACKNOWLEDGE_ACKNOWLEDGE_TOPIC: &[Field] = &[
    field("topic_id", v(1, 2), NEVER, Fixed(16)),
    field("partitions", v(1, 2), NEVER, Array(&Struct(SHARE_ACKNOWLEDGE_ACKNOWLEDGE_PARTITION), 56)),
];
const SHARE_ACKNOWLEDGE: &[Field] = &[
    field("group_id", v(1, 2), v(1, 2), String),
    field("member_id", v(1, 2), v(1, 2), String),
    field("share_session_epoch", v(1, 2), NEVER, Fixed(4)),
    field("is_renew_ack", v(2, 2), NEVER, Fixed(1)),
    field("topics", v(1, 2), NEVER, Array(&Struct(SHARE_ACKNOWLEDGE_ACKNOWLEDGE_TOPIC), 64)),
];

const ADD_RAFT_VOTER_LISTENER: &[Field] = &[
    field("name", v(0, 1), NEVER, String),
    field("host", v(0, 1), NEVER, String),
    field("port", v(0, 1), NEVER, Fixed(2)),
];
const ADD_RAFT_VOTER: &[Field] = &[
    field("cluster_id", v(0, 1), v(0, 1), String),
    field("timeout_ms", v(0, 1), NEVER, Fixed(4)),
    field("voter_id", v(0, 1), NEVER, Fixed(4)),
    field("voter_directory_id", v(0, 1), NEVER, Fixed(16)),
    field("listeners", v(0, 1), NEVER, Array(&Struct(ADD_RAFT_VOTER_LISTENER), 96)),
    field("ack_when_committed", v(1, 1), NEVER, Fixed(1)),
];

const REMOVE_RAFT_VOTER: &[Field] = &[
    field("cluster_id", v(0, 0), v(0, 0), String),
    field("voter_id", v(0, 0), NEVER, Fixed(4)),
    field("voter_directory_id", v(0, 0), NEVER, Fixed(16)),
];

const INITIALIZE_SHARE_GROUP_STATE_PARTITION_DATA: &[Field] = &[
    field("partition", v(0, 0), NEVER, Fixed(4)),
    field("state_epoch", v(0, 0), NEVER, Fixed(4)),
    field("start_offset", v(0, 0), NEVER, Fixed(8)),
];
const INITIALIZE_SHARE_GROUP_STATE_INITIALIZE_STATE_DATA: &[Field] = &[
    field("topic_id", v(0, 0), NEVER, Fixed(16)),
    field("partitions", v(0, 0), NEVER, Array(&Struct(INITIALIZE_SHARE_GROUP_STATE_PARTITION_DATA), 40)),
];
const INITIALIZE_SHARE_GROUP_STATE: &[Field] = &[
    field("group_id", v(0, 0), NEVER, String),
    field("topics", v(0, 0), NEVER, Array(&Struct(INITIALIZE_SHARE_GROUP_STATE_INITIALIZE_STATE_DATA), 64)),
];

const READ_SHARE_GROUP_STATE_PARTITION_DATA: &[Field] = &[
    field("partition", v(0, 0), NEVER, Fixed(4)),
    field("leader_epoch", v(0, 0), NEVER, Fixed(4)),
];
const READ_SHARE_GROUP_STATE_READ_STATE_DATA: &[Field] = &[
    field("topic_id", v(0, 0), NEVER, Fixed(16)),
    field("partitions", v(0, 0), NEVER, Array(&Struct(READ_SHARE_GROUP_STATE_PARTITION_DATA), 32)),
];
const READ_SHARE_GROUP_STATE: &[Field] = &[
    field("group_id", v(0, 0), NEVER, String),
    field("topics", v(0, 0), NEVER, Array(&Struct(READ_SHARE_GROUP_STATE_READ_STATE_DATA), 64)),
];

const WRITE_SHARE_GROUP_STATE_STATE_BATCH: &[Field] = &[
    field("first_offset", v(0, 1), NEVER, Fixed(8)),
    field("last_offset", v(0, 1), NEVER, Fixed(8)),
    field("delivery_state", v(0, 1), NEVER, Fixed(1)),
    field("delivery_count", v(0, 1), NEVER, Fixed(2)),
];
const WRITE_SHARE_GROUP_STATE_PARTITION_DATA: &[Field] = &[
    field("partition", v(0, 1), NEVER, Fixed(4)),
    field("state_epoch", v(0, 1), NEVER, Fixed(4)),
    field("leader_epoch", v(0, 1), NEVER, Fixed(4)),
    field("start_offset", v(0, 1), NEVER, Fixed(8)),
    field("delivery_complete_count", v(1, 1), NEVER, Fixed(4)),
    field("state_batches", v(0, 1), NEVER, Array(&Struct(WRITE_SHARE_GROUP_STATE_STATE_BATCH), 48)),
];
const WRITE_SHARE_GROUP_STATE_WRITE_STATE_DATA: &[Field] = &[
    field("topic_id", v(0, 1), NEVER, Fixed(16)),
    field("partitions", v(0, 1), NEVER, Array(&Struct(WRITE_SHARE_GROUP_STATE_PARTITION_DATA), 72)),
];
const WRITE_SHARE_GROUP_STATE: &[Field] = &[
    field("group_id", v(0, 1), NEVER, String),
    field("topics", v(0, 1), NEVER, Array(&Struct(WRITE_SHARE_GROUP_STATE_WRITE_STATE_DATA), 64)),
];

const DELETE_SHARE_GROUP_STATE_PARTITION_DATA: &[Field] = &[
    field("partition", v(0, 0), NEVER, Fixed(4)),
];
const DELETE_SHARE_GROUP_STATE_DELETE_STATE_DATA: &[Field] = &[
    field("topic_id", v(0, 0), NEVER, Fixed(16)),
    field("partitions", v(0, 0), NEVER, Array(&Struct(DELETE_SHARE_GROUP_STATE_PARTITION_DATA), 32)),
];
const DELETE_SHARE_GROUP_STATE: &[Field] = &[
    field("group_id", v(0, 0), NEVER, String),
    field("topics", v(0, 0), NEVER, Array(&Struct(DELETE_SHARE_GROUP_STATE_DELETE_STATE_DATA), 64)),
];

const READ_SHARE_GROUP_STATE_SUMMARY_PARTITION_DATA: &[Field] = &[
    field("partition", v(0, 1), NEVER, Fixed(4)),
    field("leader_epoch", v(0, 1), NEVER, Fixed(4)),
];
const READ_SHARE_GROUP_STATE_SUMMARY_READ_STATE_SUMMARY_DATA: &[Field] = &[
    field("topic_id", v(0, 1), NEVER, Fixed(16)),
    field("partitions", v(0, 1), NEVER, Array(&Struct(READ_SHARE_GROUP_STATE_SUMMARY_PARTITION_DATA), 32)),
];
const READ_SHARE_GROUP_STATE_SUMMARY: &[Field] = &[
    field("group_id", v(0, 1), NEVER, String),
    field("topics", v(0, 1), NEVER, Array(&Struct(READ_SHARE_GROUP_STATE_SUMMARY_READ_STATE_SUMMARY_DATA), 64)),
];

const STREAMS_GROUP_HEARTBEAT_KEY_VALUE: &[Field] = &[
    field("key", v(0, 0), NEVER, String),
    field("value", v(0, 0), NEVER, String),
];
const STREAMS_GROUP_HEARTBEAT_TOPIC_INFO: &[Field] = &[
    field("name", v(0, 0), NEVER, String),
    field("partitions", v(0, 0), NEVER, Fixed(4)),
    field("replication_factor", v(0, 0), NEVER, Fixed(2)),
    field("topic_configs", v(0, 0), NEVER, Array(&Struct(STREAMS_GROUP_HEARTBEAT_KEY_VALUE), 88)),
];
const STREAMS_GROUP_HEARTBEAT_COPARTITION_GROUP: &[Field] = &[
    field("source_topics", v(0, 0), NEVER, Array(&Fixed(2), 2)),
    field("source_topic_regex", v(0, 0), NEVER, Array(&Fixed(2), 2)),
    field("repartition_source_topics", v(0, 0), NEVER, Array(&Fixed(2), 2)),
];
const STREAMS_GROUP_HEARTBEAT_SUBTOPOLOGY: &[Field] = &[
    field("subtopology_id", v(0, 0), NEVER, String),
    field("source_topics", v(0, 0), NEVER, Array(&String, 32)),
    field("source_topic_regex", v(0, 0), NEVER, Array(&String, 32)),
    field("state_changelog_topics", v(0, 0), NEVER, Array(&Struct(STREAMS_GROUP_HEARTBEAT_TOPIC_INFO), 88)),
    field("repartition_sink_topics", v(0, 0), NEVER, Array(&String, 32)),
    field("repartition_source_topics", v(0, 0), NEVER, Array(&Struct(STREAMS_GROUP_HEARTBEAT_TOPIC_INFO), 88)),
    field("copartition_groups", v(0, 0), NEVER, Array(&Struct(STREAMS_GROUP_HEARTBEAT_COPARTITION_GROUP), 96)),
];
const STREAMS_GROUP_HEARTBEAT_TOPOLOGY: &[Field] = &[
    field("epoch", v(0, 0), NEVER, Fixed(4)),
    field("subtopologies", v(0, 0), NEVER, Array(&Struct(STREAMS_GROUP_HEARTBEAT_SUBTOPOLOGY), 200)),
];
const STREAMS_GROUP_HEARTBEAT_TASK_IDS: &[Field] = &[
    field("subtopology_id", v(0, 0), NEVER, String),
    field("partitions", v(0, 0), NEVER, Array(&Fixed(4), 4)),
];
const STREAMS_GROUP_HEARTBEAT_ENDPOINT: &[Field] = &[
    field("host", v(0, 0), NEVER, String),
    field("port", v(0, 0), NEVER, Fixed(2)),
];
const STREAMS_GROUP_HEARTBEAT_TASK_OFFSET: &[Field] = &[
    field("subtopology_id", v(0, 0), NEVER, String),
    field("partition", v(0, 0), NEVER, Fixed(4)),
    field("offset", v(0, 0), NEVER, Fixed(8)),
];
const STREAMS_GROUP_HEARTBEAT: &[Field] = &[
    field("group_id", v(0, 0), NEVER, String),
    field("member_id", v(0, 0), NEVER, String),
    field("member_epoch", v(0, 0), NEVER, Fixed(4)),
    field("endpoint_information_epoch", v(0, 0), NEVER, Fixed(4)),
    field("instance_id", v(0, 0), v(0, 0), String),
    field("rack_id", v(0, 0), v(0, 0), String),
    field("rebalance_timeout_ms", v(0, 0), NEVER, Fixed(4)),
    field("topology", v(0, 0), v(0, 0), Struct(STREAMS_GROUP_HEARTBEAT_TOPOLOGY)),
    field("active_tasks", v(0, 0), v(0, 0), Array(&Struct(STREAMS_GROUP_HEARTBEAT_TASK_IDS), 80)),
    field("standby_tasks", v(0, 0), v(0, 0), Array(&Struct(STREAMS_GROUP_HEARTBEAT_TASK_IDS), 80)),
    field("warmup_tasks", v(0, 0), v(0, 0), Array(&Struct(STREAMS_GROUP_HEARTBEAT_TASK_IDS), 80)),
    field("process_id", v(0, 0), v(0, 0), String),
    field("user_endpoint", v(0, 0), v(0, 0), Struct(STREAMS_GROUP_HEARTBEAT_ENDPOINT)),
    field("client_tags", v(0, 0), v(0, 0), Array(&Struct(STREAMS_GROUP_HEARTBEAT_KEY_VALUE), 88)),
    field("task_offsets", v(0, 0), v(0, 0), Array(&Struct(STREAMS_GROUP_HEARTBEAT_TASK_OFFSET), 72)),
    field("task_end_offsets", v(0, 0), v(0, 0), Array(&Struct(STREAMS_GROUP_HEARTBEAT_TASK_OFFSET), 72)),
    field("shutdown_application", v(0, 0), NEVER, Fixed(1)),
];

const STREAMS_GROUP_DESCRIBE: &[Field] = &[
    field("group_ids", v(0, 0), NEVER, Array(&String, 32)),
    field("include_authorized_operations", v(0, 0), NEVER, Fixed(1)),
];

const DESCRIBE_SHARE_GROUP_OFFSETS_DESCRIBE_SHARE_GROUP_OFFSETS_REQUEST_TOPIC: &[Field] = &[
    field("topic_name", v(0, 1), NEVER, String),
    field("partitions", v(0, 1), NEVER, Array(&Fixed(4), 4)),
];
const DESCRIBE_SHARE_GROUP_OFFSETS_DESCRIBE_SHARE_GROUP_OFFSETS_REQUEST_GROUP: &[Field] = &[
    field("group_id", v(0, 1), NEVER, String),
    field("topics", v(0, 1), v(0, 1), Array(&Struct(DESCRIBE_SHARE_GROUP_OFFSETS_DESCRIBE_SHARE_GROUP_OFFSETS_REQUEST_TOPIC), 80)),
];
const DESCRIBE_SHARE_GROUP_OFFSETS: &[Field] = &[
    field("groups", v(0, 1), NEVER, Array(&Struct(DESCRIBE_SHARE_GROUP_OFFSETS_DESCRIBE_SHARE_GROUP_OFFSETS_REQUEST_GROUP), 80)),
];

const ALTER_SHARE_GROUP_OFFSETS_ALTER_SHARE_GROUP_OFFSETS_REQUEST_PARTITION: &[Field] = &[
    field("partition_index", v(0, 0), NEVER, Fixed(4)),
    field("start_offset", v(0, 0), NEVER, Fixed(8)),
];
const ALTER_SHARE_GROUP_OFFSETS_ALTER_SHARE_GROUP_OFFSETS_REQUEST_TOPIC: &[Field] = &[
    field("topic_name", v(0, 0), NEVER, String),
    field("partitions", v(0, 0), NEVER, Array(&Struct(ALTER_SHARE_GROUP_OFFSETS_ALTER_SHARE_GROUP_OFFSETS_REQUEST_PARTITION), 40)),
];
const ALTER_SHARE_GROUP_OFFSETS: &[Field] = &[
    field("group_id", v(0, 0), NEVER, String),
    field("topics", v(0, 0), NEVER, Array(&Struct(ALTER_SHARE_GROUP_OFFSETS_ALTER_SHARE_GROUP_OFFSETS_REQUEST_TOPIC), 80)),
];

const DELETE_SHARE_GROUP_OFFSETS_DELETE_SHARE_GROUP_OFFSETS_REQUEST_TOPIC: &[Field] = &[
    field("topic_name", v(0, 0), NEVER, String),
];
const DELETE_SHARE_GROUP_OFFSETS: &[Field] = &[
    field("group_id", v(0, 0), NEVER, String),
    field("topics", v(0, 0), NEVER, Array(&Struct(DELETE_SHARE_GROUP_OFFSETS_DELETE_SHARE_GROUP_OFFSETS_REQUEST_TOPIC), 56)),
];

/// What each decoded structure really takes, and what the arrays above say that it takes.
#[cfg(test)]
pub const DECODED_BYTES: &[(&str, usize, usize)] = &[
    ("Produce: PartitionProduceData", size_of::<kafka_protocol::messages::produce_request::PartitionProduceData>(), 64),
    ("Produce: TopicProduceData", size_of::<kafka_protocol::messages::produce_request::TopicProduceData>(), 96),
    ("Produce: ProduceRequest", size_of::<kafka_protocol::messages::produce_request::ProduceRequest>(), 88),
    ("Fetch: ReplicaState", size_of::<kafka_protocol::messages::fetch_request::ReplicaState>(), 40),
    ("Fetch: FetchPartition", size_of::<kafka_protocol::messages::fetch_request::FetchPartition>(), 80),
    ("Fetch: FetchTopic", size_of::<kafka_protocol::messages::fetch_request::FetchTopic>(), 96),
    ("Fetch: ForgottenTopic", size_of::<kafka_protocol::messages::fetch_request::ForgottenTopic>(), 96),
    ("Fetch: FetchRequest", size_of::<kafka_protocol::messages::fetch_request::FetchRequest>(), 208),
    ("ListOffsets: ListOffsetsPartition", size_of::<kafka_protocol::messages::list_offsets_request::ListOffsetsPartition>(), 40),
    ("ListOffsets: ListOffsetsTopic", size_of::<kafka_protocol::messages::list_offsets_request::ListOffsetsTopic>(), 80),
    ("ListOffsets: ListOffsetsRequest", size_of::<kafka_protocol::messages::list_offsets_request::ListOffsetsRequest>(), 64),
    ("Metadata: MetadataRequestTopic", size_of::<kafka_protocol::messages::metadata_request::MetadataRequestTopic>(), 72),
    ("Metadata: MetadataRequest", size_of::<kafka_protocol::messages::metadata_request::MetadataRequest>(), 56),
    ("OffsetCommit: OffsetCommitRequestPartition", size_of::<kafka_protocol::messages::offset_commit_request::OffsetCommitRequestPartition>(), 72),
    ("OffsetCommit: OffsetCommitRequestTopic", size_of::<kafka_protocol::messages::offset_commit_request::OffsetCommitRequestTopic>(), 96),
    ("OffsetCommit: OffsetCommitRequest", size_of::<kafka_protocol::messages::offset_commit_request::OffsetCommitRequest>(), 160),
    ("OffsetFetch: OffsetFetchRequestTopic", size_of::<kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic>(), 80),
    ("OffsetFetch: OffsetFetchRequestTopics", size_of::<kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestTopics>(), 96),
    ("OffsetFetch: OffsetFetchRequestGroup", size_of::<kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup>(), 120),
    ("OffsetFetch: OffsetFetchRequest", size_of::<kafka_protocol::messages::offset_fetch_request::OffsetFetchRequest>(), 112),
    ("FindCoordinator: FindCoordinatorRequest", size_of::<kafka_protocol::messages::find_coordinator_request::FindCoordinatorRequest>(), 88),
    ("JoinGroup: JoinGroupRequestProtocol", size_of::<kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol>(), 88),
    ("JoinGroup: JoinGroupRequest", size_of::<kafka_protocol::messages::join_group_request::JoinGroupRequest>(), 216),
    ("Heartbeat: HeartbeatRequest", size_of::<kafka_protocol::messages::heartbeat_request::HeartbeatRequest>(), 128),
    ("LeaveGroup: MemberIdentity", size_of::<kafka_protocol::messages::leave_group_request::MemberIdentity>(), 120),
    ("LeaveGroup: LeaveGroupRequest", size_of::<kafka_protocol::messages::leave_group_request::LeaveGroupRequest>(), 112),
    ("SyncGroup: SyncGroupRequestAssignment", size_of::<kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment>(), 88),
    ("SyncGroup: SyncGroupRequest", size_of::<kafka_protocol::messages::sync_group_request::SyncGroupRequest>(), 216),
    ("DescribeGroups: DescribeGroupsRequest", size_of::<kafka_protocol::messages::describe_groups_request::DescribeGroupsRequest>(), 56),
    ("ListGroups: ListGroupsRequest", size_of::<kafka_protocol::messages::list_groups_request::ListGroupsRequest>(), 72),
    ("SaslHandshake: SaslHandshakeRequest", size_of::<kafka_protocol::messages::sasl_handshake_request::SaslHandshakeRequest>(), 56),
    ("ApiVersions: ApiVersionsRequest", size_of::<kafka_protocol::messages::api_versions_request::ApiVersionsRequest>(), 88),
    ("CreateTopics: CreatableReplicaAssignment", size_of::<kafka_protocol::messages::create_topics_request::CreatableReplicaAssignment>(), 56),
    ("CreateTopics: CreatableTopicConfig", size_of::<kafka_protocol::messages::create_topics_request::CreatableTopicConfig>(), 88),
    ("CreateTopics: CreatableTopic", size_of::<kafka_protocol::messages::create_topics_request::CreatableTopic>(), 112),
    ("CreateTopics: CreateTopicsRequest", size_of::<kafka_protocol::messages::create_topics_request::CreateTopicsRequest>(), 56),
    ("DeleteTopics: DeleteTopicState", size_of::<kafka_protocol::messages::delete_topics_request::DeleteTopicState>(), 72),
    ("DeleteTopics: DeleteTopicsRequest", size_of::<kafka_protocol::messages::delete_topics_request::DeleteTopicsRequest>(), 80),
    ("DeleteRecords: DeleteRecordsPartition", size_of::<kafka_protocol::messages::delete_records_request::DeleteRecordsPartition>(), 40),
    ("DeleteRecords: DeleteRecordsTopic", size_of::<kafka_protocol::messages::delete_records_request::DeleteRecordsTopic>(), 80),
    ("DeleteRecords: DeleteRecordsRequest", size_of::<kafka_protocol::messages::delete_records_request::DeleteRecordsRequest>(), 56),
    ("InitProducerId: InitProducerIdRequest", size_of::<kafka_protocol::messages::init_producer_id_request::InitProducerIdRequest>(), 72),
    ("OffsetForLeaderEpoch: OffsetForLeaderPartition", size_of::<kafka_protocol::messages::offset_for_leader_epoch_request::OffsetForLeaderPartition>(), 40),
    ("OffsetForLeaderEpoch: OffsetForLeaderTopic", size_of::<kafka_protocol::messages::offset_for_leader_epoch_request::OffsetForLeaderTopic>(), 80),
    ("OffsetForLeaderEpoch: OffsetForLeaderEpochRequest", size_of::<kafka_protocol::messages::offset_for_leader_epoch_request::OffsetForLeaderEpochRequest>(), 56),
    ("AddPartitionsToTxn: AddPartitionsToTxnTopic", size_of::<kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic>(), 80),
    ("AddPartitionsToTxn: AddPartitionsToTxnTransaction", size_of::<kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTransaction>(), 96),
    ("AddPartitionsToTxn: AddPartitionsToTxnRequest", size_of::<kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnRequest>(), 120),
    ("AddOffsetsToTxn: AddOffsetsToTxnRequest", size_of::<kafka_protocol::messages::add_offsets_to_txn_request::AddOffsetsToTxnRequest>(), 104),
    ("EndTxn: EndTxnRequest", size_of::<kafka_protocol::messages::end_txn_request::EndTxnRequest>(), 72),
    ("WriteTxnMarkers: WritableTxnMarkerTopic", size_of::<kafka_protocol::messages::write_txn_markers_request::WritableTxnMarkerTopic>(), 80),
    ("WriteTxnMarkers: WritableTxnMarker", size_of::<kafka_protocol::messages::write_txn_markers_request::WritableTxnMarker>(), 64),
    ("WriteTxnMarkers: WriteTxnMarkersRequest", size_of::<kafka_protocol::messages::write_txn_markers_request::WriteTxnMarkersRequest>(), 48),
    ("TxnOffsetCommit: TxnOffsetCommitRequestPartition", size_of::<kafka_protocol::messages::txn_offset_commit_request::TxnOffsetCommitRequestPartition>(), 72),
    ("TxnOffsetCommit: TxnOffsetCommitRequestTopic", size_of::<kafka_protocol::messages::txn_offset_commit_request::TxnOffsetCommitRequestTopic>(), 80),
    ("TxnOffsetCommit: TxnOffsetCommitRequest", size_of::<kafka_protocol::messages::txn_offset_commit_request::TxnOffsetCommitRequest>(), 192),
    ("DescribeAcls: DescribeAclsRequest", size_of::<kafka_protocol::messages::describe_acls_request::DescribeAclsRequest>(), 128),
    ("CreateAcls: AclCreation", size_of::<kafka_protocol::messages::create_acls_request::AclCreation>(), 128),
    ("CreateAcls: CreateAclsRequest", size_of::<kafka_protocol::messages::create_acls_request::CreateAclsRequest>(), 48),
    ("DeleteAcls: DeleteAclsFilter", size_of::<kafka_protocol::messages::delete_acls_request::DeleteAclsFilter>(), 128),
    ("DeleteAcls: DeleteAclsRequest", size_of::<kafka_protocol::messages::delete_acls_request::DeleteAclsRequest>(), 48),
    ("DescribeConfigs: DescribeConfigsResource", size_of::<kafka_protocol::messages::describe_configs_request::DescribeConfigsResource>(), 88),
    ("DescribeConfigs: DescribeConfigsRequest", size_of::<kafka_protocol::messages::describe_configs_request::DescribeConfigsRequest>(), 56),
    ("AlterConfigs: AlterableConfig", size_of::<kafka_protocol::messages::alter_configs_request::AlterableConfig>(), 88),
    ("AlterConfigs: AlterConfigsResource", size_of::<kafka_protocol::messages::alter_configs_request::AlterConfigsResource>(), 88),
    ("AlterConfigs: AlterConfigsRequest", size_of::<kafka_protocol::messages::alter_configs_request::AlterConfigsRequest>(), 56),
    ("AlterReplicaLogDirs: AlterReplicaLogDirTopic", size_of::<kafka_protocol::messages::alter_replica_log_dirs_request::AlterReplicaLogDirTopic>(), 80),
    ("AlterReplicaLogDirs: AlterReplicaLogDir", size_of::<kafka_protocol::messages::alter_replica_log_dirs_request::AlterReplicaLogDir>(), 80),
    ("AlterReplicaLogDirs: AlterReplicaLogDirsRequest", size_of::<kafka_protocol::messages::alter_replica_log_dirs_request::AlterReplicaLogDirsRequest>(), 48),
    ("DescribeLogDirs: DescribableLogDirTopic", size_of::<kafka_protocol::messages::describe_log_dirs_request::DescribableLogDirTopic>(), 80),
    ("DescribeLogDirs: DescribeLogDirsRequest", size_of::<kafka_protocol::messages::describe_log_dirs_request::DescribeLogDirsRequest>(), 48),
    ("SaslAuthenticate: SaslAuthenticateRequest", size_of::<kafka_protocol::messages::sasl_authenticate_request::SaslAuthenticateRequest>(), 56),
    ("CreatePartitions: CreatePartitionsAssignment", size_of::<kafka_protocol::messages::create_partitions_request::CreatePartitionsAssignment>(), 48),
    ("CreatePartitions: CreatePartitionsTopic", size_of::<kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic>(), 88),
    ("CreatePartitions: CreatePartitionsRequest", size_of::<kafka_protocol::messages::create_partitions_request::CreatePartitionsRequest>(), 56),
    ("CreateDelegationToken: CreatableRenewers", size_of::<kafka_protocol::messages::create_delegation_token_request::CreatableRenewers>(), 88),
    ("CreateDelegationToken: CreateDelegationTokenRequest", size_of::<kafka_protocol::messages::create_delegation_token_request::CreateDelegationTokenRequest>(), 120),
    ("RenewDelegationToken: RenewDelegationTokenRequest", size_of::<kafka_protocol::messages::renew_delegation_token_request::RenewDelegationTokenRequest>(), 64),
    ("ExpireDelegationToken: ExpireDelegationTokenRequest", size_of::<kafka_protocol::messages::expire_delegation_token_request::ExpireDelegationTokenRequest>(), 64),
    ("DescribeDelegationToken: DescribeDelegationTokenOwner", size_of::<kafka_protocol::messages::describe_delegation_token_request::DescribeDelegationTokenOwner>(), 88),
    ("DescribeDelegationToken: DescribeDelegationTokenRequest", size_of::<kafka_protocol::messages::describe_delegation_token_request::DescribeDelegationTokenRequest>(), 48),
    ("DeleteGroups: DeleteGroupsRequest", size_of::<kafka_protocol::messages::delete_groups_request::DeleteGroupsRequest>(), 48),
    ("ElectLeaders: TopicPartitions", size_of::<kafka_protocol::messages::elect_leaders_request::TopicPartitions>(), 80),
    ("ElectLeaders: ElectLeadersRequest", size_of::<kafka_protocol::messages::elect_leaders_request::ElectLeadersRequest>(), 56),
    ("IncrementalAlterConfigs: AlterableConfig", size_of::<kafka_protocol::messages::incremental_alter_configs_request::AlterableConfig>(), 96),
    ("IncrementalAlterConfigs: AlterConfigsResource", size_of::<kafka_protocol::messages::incremental_alter_configs_request::AlterConfigsResource>(), 88),
    ("IncrementalAlterConfigs: IncrementalAlterConfigsRequest", size_of::<kafka_protocol::messages::incremental_alter_configs_request::IncrementalAlterConfigsRequest>(), 56),
    ("AlterPartitionReassignments: ReassignablePartition", size_of::<kafka_protocol::messages::alter_partition_reassignments_request::ReassignablePartition>(), 56),
    ("AlterPartitionReassignments: ReassignableTopic", size_of::<kafka_protocol::messages::alter_partition_reassignments_request::ReassignableTopic>(), 80),
    ("AlterPartitionReassignments: AlterPartitionReassignmentsRequest", size_of::<kafka_protocol::messages::alter_partition_reassignments_request::AlterPartitionReassignmentsRequest>(), 56),
    ("ListPartitionReassignments: ListPartitionReassignmentsTopics", size_of::<kafka_protocol::messages::list_partition_reassignments_request::ListPartitionReassignmentsTopics>(), 80),
    ("ListPartitionReassignments: ListPartitionReassignmentsRequest", size_of::<kafka_protocol::messages::list_partition_reassignments_request::ListPartitionReassignmentsRequest>(), 56),
    ("OffsetDelete: OffsetDeleteRequestPartition", size_of::<kafka_protocol::messages::offset_delete_request::OffsetDeleteRequestPartition>(), 32),
    ("OffsetDelete: OffsetDeleteRequestTopic", size_of::<kafka_protocol::messages::offset_delete_request::OffsetDeleteRequestTopic>(), 80),
    ("OffsetDelete: OffsetDeleteRequest", size_of::<kafka_protocol::messages::offset_delete_request::OffsetDeleteRequest>(), 80),
    ("DescribeClientQuotas: ComponentData", size_of::<kafka_protocol::messages::describe_client_quotas_request::ComponentData>(), 96),
    ("DescribeClientQuotas: DescribeClientQuotasRequest", size_of::<kafka_protocol::messages::describe_client_quotas_request::DescribeClientQuotasRequest>(), 56),
    ("AlterClientQuotas: EntityData", size_of::<kafka_protocol::messages::alter_client_quotas_request::EntityData>(), 88),
    ("AlterClientQuotas: OpData", size_of::<kafka_protocol::messages::alter_client_quotas_request::OpData>(), 72),
    ("AlterClientQuotas: EntryData", size_of::<kafka_protocol::messages::alter_client_quotas_request::EntryData>(), 72),
    ("AlterClientQuotas: AlterClientQuotasRequest", size_of::<kafka_protocol::messages::alter_client_quotas_request::AlterClientQuotasRequest>(), 56),
    ("DescribeUserScramCredentials: UserName", size_of::<kafka_protocol::messages::describe_user_scram_credentials_request::UserName>(), 56),
    ("DescribeUserScramCredentials: DescribeUserScramCredentialsRequest", size_of::<kafka_protocol::messages::describe_user_scram_credentials_request::DescribeUserScramCredentialsRequest>(), 48),
    ("AlterUserScramCredentials: ScramCredentialDeletion", size_of::<kafka_protocol::messages::alter_user_scram_credentials_request::ScramCredentialDeletion>(), 64),
    ("AlterUserScramCredentials: ScramCredentialUpsertion", size_of::<kafka_protocol::messages::alter_user_scram_credentials_request::ScramCredentialUpsertion>(), 128),
    ("AlterUserScramCredentials: AlterUserScramCredentialsRequest", size_of::<kafka_protocol::messages::alter_user_scram_credentials_request::AlterUserScramCredentialsRequest>(), 72),
    ("DescribeQuorum: PartitionData", size_of::<kafka_protocol::messages::describe_quorum_request::PartitionData>(), 32),
    ("DescribeQuorum: TopicData", size_of::<kafka_protocol::messages::describe_quorum_request::TopicData>(), 80),
    ("DescribeQuorum: DescribeQuorumRequest", size_of::<kafka_protocol::messages::describe_quorum_request::DescribeQuorumRequest>(), 48),
    ("UpdateFeatures: FeatureUpdateKey", size_of::<kafka_protocol::messages::update_features_request::FeatureUpdateKey>(), 64),
    ("UpdateFeatures: UpdateFeaturesRequest", size_of::<kafka_protocol::messages::update_features_request::UpdateFeaturesRequest>(), 56),
    ("DescribeCluster: DescribeClusterRequest", size_of::<kafka_protocol::messages::describe_cluster_request::DescribeClusterRequest>(), 32),
    ("DescribeProducers: TopicRequest", size_of::<kafka_protocol::messages::describe_producers_request::TopicRequest>(), 80),
    ("DescribeProducers: DescribeProducersRequest", size_of::<kafka_protocol::messages::describe_producers_request::DescribeProducersRequest>(), 48),
    ("UnregisterBroker: UnregisterBrokerRequest", size_of::<kafka_protocol::messages::unregister_broker_request::UnregisterBrokerRequest>(), 32),
    ("DescribeTransactions: DescribeTransactionsRequest", size_of::<kafka_protocol::messages::describe_transactions_request::DescribeTransactionsRequest>(), 48),
    ("ListTransactions: ListTransactionsRequest", size_of::<kafka_protocol::messages::list_transactions_request::ListTransactionsRequest>(), 112),
    ("ConsumerGroupHeartbeat: TopicPartitions", size_of::<kafka_protocol::messages::consumer_group_heartbeat_request::TopicPartitions>(), 64),
    ("ConsumerGroupHeartbeat: ConsumerGroupHeartbeatRequest", size_of::<kafka_protocol::messages::consumer_group_heartbeat_request::ConsumerGroupHeartbeatRequest>(), 272),
    ("ConsumerGroupDescribe: ConsumerGroupDescribeRequest", size_of::<kafka_protocol::messages::consumer_group_describe_request::ConsumerGroupDescribeRequest>(), 56),
    ("GetTelemetrySubscriptions: GetTelemetrySubscriptionsRequest", size_of::<kafka_protocol::messages::get_telemetry_subscriptions_request::GetTelemetrySubscriptionsRequest>(), 40),
    ("PushTelemetry: PushTelemetryRequest", size_of::<kafka_protocol::messages::push_telemetry_request::PushTelemetryRequest>(), 80),
    ("ListConfigResources: ListConfigResourcesRequest", size_of::<kafka_protocol::messages::list_config_resources_request::ListConfigResourcesRequest>(), 48),
    ("DescribeTopicPartitions: TopicRequest", size_of::<kafka_protocol::messages::describe_topic_partitions_request::TopicRequest>(), 56),
    ("DescribeTopicPartitions: Cursor", size_of::<kafka_protocol::messages::describe_topic_partitions_request::Cursor>(), 64),
    ("DescribeTopicPartitions: DescribeTopicPartitionsRequest", size_of::<kafka_protocol::messages::describe_topic_partitions_request::DescribeTopicPartitionsRequest>(), 120),
    ("ShareGroupHeartbeat: ShareGroupHeartbeatRequest", size_of::<kafka_protocol::messages::share_group_heartbeat_request::ShareGroupHeartbeatRequest>(), 152),
    ("ShareGroupDescribe: ShareGroupDescribeRequest", size_of::<kafka_protocol::messages::share_group_describe_request::ShareGroupDescribeRequest>(), 56),
    ("ShareFetch: AcknowledgementBatch", size_of::<kafka_protocol::messages::share_fetch_request::AcknowledgementBatch>(), 64),
    ("ShareFetch: FetchPartition", size_of::<kafka_protocol::messages::share_fetch_request::FetchPartition>(), 56),
    ("ShareFetch: FetchTopic", size_of::<kafka_protocol::messages::share_fetch_request::FetchTopic>(), 64),
    ("ShareFetch: ForgottenTopic", size_of::<kafka_protocol::messages::share_fetch_request::ForgottenTopic>(), 64),
    ("ShareFetch: ShareFetchRequest", size_of::<kafka_protocol::messages::share_fetch_request::ShareFetchRequest>(), 168),
    ("ShareAcknowledge: AcknowledgementBatch", size_of::<kafka_protocol::messages::share_acknowledge_request::AcknowledgementBatch>(), 64),
    ("ShareAcknowledge: AcknowledgePartition", size_of::<kafka_protocol::messages::share_acknowledge_request::AcknowledgePartition>(), 56),
    ("ShareAcknowledge: AcknowledgeTopic", size_of::<kafka_protocol::messages::share_acknowledge_request::AcknowledgeTopic>(), 64),
    ("ShareAcknowledge: ShareAcknowledgeRequest", size_of::<kafka_protocol::messages::share_acknowledge_request::ShareAcknowledgeRequest>(), 120),
    ("AddRaftVoter: Listener", size_of::<kafka_protocol::messages::add_raft_voter_request::Listener>(), 96),
    ("AddRaftVoter: AddRaftVoterRequest", size_of::<kafka_protocol::messages::add_raft_voter_request::AddRaftVoterRequest>(), 112),
    ("RemoveRaftVoter: RemoveRaftVoterRequest", size_of::<kafka_protocol::messages::remove_raft_voter_request::RemoveRaftVoterRequest>(), 80),
    ("InitializeShareGroupState: PartitionData", size_of::<kafka_protocol::messages::initialize_share_group_state_request::PartitionData>(), 40),
    ("InitializeShareGroupState: InitializeStateData", size_of::<kafka_protocol::messages::initialize_share_group_state_request::InitializeStateData>(), 64),
    ("InitializeShareGroupState: InitializeShareGroupStateRequest", size_of::<kafka_protocol::messages::initialize_share_group_state_request::InitializeShareGroupStateRequest>(), 80),
    ("ReadShareGroupState: PartitionData", size_of::<kafka_protocol::messages::read_share_group_state_request::PartitionData>(), 32),
    ("ReadShareGroupState: ReadStateData", size_of::<kafka_protocol::messages::read_share_group_state_request::ReadStateData>(), 64),
    ("ReadShareGroupState: ReadShareGroupStateRequest", size_of::<kafka_protocol::messages::read_share_group_state_request::ReadShareGroupStateRequest>(), 80),
    ("WriteShareGroupState: StateBatch", size_of::<kafka_protocol::messages::write_share_group_state_request::StateBatch>(), 48),
    ("WriteShareGroupState: PartitionData", size_of::<kafka_protocol::messages::write_share_group_state_request::PartitionData>(), 72),
    ("WriteShareGroupState: WriteStateData", size_of::<kafka_protocol::messages::write_share_group_state_request::WriteStateData>(), 64),
    ("WriteShareGroupState: WriteShareGroupStateRequest", size_of::<kafka_protocol::messages::write_share_group_state_request::WriteShareGroupStateRequest>(), 80),
    ("DeleteShareGroupState: PartitionData", size_of::<kafka_protocol::messages::delete_share_group_state_request::PartitionData>(), 32),
    ("DeleteShareGroupState: DeleteStateData", size_of::<kafka_protocol::messages::delete_share_group_state_request::DeleteStateData>(), 64),
    ("DeleteShareGroupState: DeleteShareGroupStateRequest", size_of::<kafka_protocol::messages::delete_share_group_state_request::DeleteShareGroupStateRequest>(), 80),
    ("ReadShareGroupStateSummary: PartitionData", size_of::<kafka_protocol::messages::read_share_group_state_summary_request::PartitionData>(), 32),
    ("ReadShareGroupStateSummary: ReadStateSummaryData", size_of::<kafka_protocol::messages::read_share_group_state_summary_request::ReadStateSummaryData>(), 64),
    ("ReadShareGroupStateSummary: ReadShareGroupStateSummaryRequest", size_of::<kafka_protocol::messages::read_share_group_state_summary_request::ReadShareGroupStateSummaryRequest>(), 80),
    ("DescribeShareGroupOffsets: DescribeShareGroupOffsetsRequestTopic", size_of::<kafka_protocol::messages::describe_share_group_offsets_request::DescribeShareGroupOffsetsRequestTopic>(), 80),
    ("DescribeShareGroupOffsets: DescribeShareGroupOffsetsRequestGroup", size_of::<kafka_protocol::messages::describe_share_group_offsets_request::DescribeShareGroupOffsetsRequestGroup>(), 80),
    ("DescribeShareGroupOffsets: DescribeShareGroupOffsetsRequest", size_of::<kafka_protocol::messages::describe_share_group_offsets_request::DescribeShareGroupOffsetsRequest>(), 48),
    ("AlterShareGroupOffsets: AlterShareGroupOffsetsRequestPartition", size_of::<kafka_protocol::messages::alter_share_group_offsets_request::AlterShareGroupOffsetsRequestPartition>(), 40),
    ("AlterShareGroupOffsets: AlterShareGroupOffsetsRequestTopic", size_of::<kafka_protocol::messages::alter_share_group_offsets_request::AlterShareGroupOffsetsRequestTopic>(), 80),
    ("AlterShareGroupOffsets: AlterShareGroupOffsetsRequest", size_of::<kafka_protocol::messages::alter_share_group_offsets_request::AlterShareGroupOffsetsRequest>(), 80),
    ("DeleteShareGroupOffsets: DeleteShareGroupOffsetsRequestTopic", size_of::<kafka_protocol::messages::delete_share_group_offsets_request::DeleteShareGroupOffsetsRequestTopic>(), 56),
    ("DeleteShareGroupOffsets: DeleteShareGroupOffsetsRequest", size_of::<kafka_protocol::messages::delete_share_group_offsets_request::DeleteShareGroupOffsetsRequest>(), 80),
];
