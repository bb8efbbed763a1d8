//! The broker's own settings, under the names that Kafka's tools ask for. They are read, not changed, over the wire.

use super::topic_config::Kind;
use super::{Broker, BrokerOptions};

/// One setting.
#[derive(Clone, Debug)]
pub struct BrokerConfig {
    /// The name, as in Kafka.
    pub name: &'static str,
    /// The value in force.
    pub value: String,
    /// The type.
    pub kind: Kind,
    /// Whether the operator chose the value.
    pub chosen: bool,
    /// What it does.
    pub doc: &'static str,
}

/// The level of Kafka's protocol that we follow. Tools switch features by it: without it they take us for Kafka 1.0.
const PROTOCOL_VERSION: &str = "4.2";

impl Broker {
    /// All settings, by name.
    pub fn configs(&self) -> Vec<BrokerConfig> {
        let ours = values(self.options());
        let usual = values(&BrokerOptions::default());
        let configs = ours
            .into_iter()
            .zip(usual)
            .map(|((name, kind, value, doc), (_, _, default, _))| BrokerConfig {
                name,
                chosen: value != default,
                value,
                kind,
                doc,
            });
        let mut configs: Vec<BrokerConfig> = configs.collect();
        configs.sort_by_key(|config| config.name);
        configs
    }
}

type Row = (&'static str, Kind, String, &'static str);

fn values(options: &BrokerOptions) -> Vec<Row> {
    let mut rows = topics(options);
    rows.extend(groups(options));
    rows
}

fn topics(options: &BrokerOptions) -> Vec<Row> {
    let number = |value: usize| value.to_string();
    vec![
        (
            "auto.create.topics.enable",
            Kind::Boolean,
            options.auto_create_topics.to_string(),
            "Whether using a topic creates it.",
        ),
        (
            "broker.id",
            Kind::Int,
            options.node_id.to_string(),
            "The id of this broker.",
        ),
        (
            "compression.type",
            Kind::String,
            "producer".into(),
            "Batches are stored as the producer compressed them.",
        ),
        (
            "default.replication.factor",
            Kind::Int,
            "1".into(),
            "There is one broker.",
        ),
        (
            "delete.topic.enable",
            Kind::Boolean,
            "true".into(),
            "Whether topics can be deleted.",
        ),
        (
            "inter.broker.protocol.version",
            Kind::String,
            PROTOCOL_VERSION.into(),
            "The level of Kafka's protocol that this broker follows.",
        ),
        (
            "log.cleanup.policy",
            Kind::List,
            "delete".into(),
            "What happens to old records.",
        ),
        (
            "log.flush.interval.messages",
            Kind::Long,
            "1".into(),
            "Every record is on the disk before it is acknowledged.",
        ),
        (
            "log.message.timestamp.type",
            Kind::String,
            "CreateTime".into(),
            "Whose clock a record's timestamp shows.",
        ),
        (
            "log.retention.bytes",
            Kind::Long,
            "-1".into(),
            "The size above which a partition loses old records.",
        ),
        (
            "log.retention.hours",
            Kind::Int,
            "168".into(),
            "How long records are kept.",
        ),
        (
            "log.retention.ms",
            Kind::Long,
            "604800000".into(),
            "How long records are kept.",
        ),
        (
            "log.roll.ms",
            Kind::Long,
            "604800000".into(),
            "The age at which a segment is closed.",
        ),
        (
            "log.segment.bytes",
            Kind::Int,
            "1073741824".into(),
            "The size at which a segment is closed.",
        ),
        (
            "message.max.bytes",
            Kind::Int,
            number(options.max_message_bytes),
            "The largest batch that is accepted.",
        ),
        ("min.insync.replicas", Kind::Int, "1".into(), "There is one replica."),
        (
            "node.id",
            Kind::Int,
            options.node_id.to_string(),
            "The id of this broker.",
        ),
        (
            "num.partitions",
            Kind::Int,
            options.default_partitions.to_string(),
            "Partitions of a new topic.",
        ),
    ]
}

fn groups(options: &BrokerOptions) -> Vec<Row> {
    let groups = &options.groups;
    vec![
        (
            "group.initial.rebalance.delay.ms",
            Kind::Int,
            groups.group.initial_rebalance_delay_ms.to_string(),
            "How long the first rebalance of a group waits for more members.",
        ),
        (
            "group.max.session.timeout.ms",
            Kind::Int,
            groups.group.max_session_timeout_ms.to_string(),
            "The longest session timeout that a member may ask for.",
        ),
        (
            "group.max.size",
            Kind::Int,
            groups.group.max_size.to_string(),
            "How many members a group may have.",
        ),
        (
            "group.min.session.timeout.ms",
            Kind::Int,
            groups.group.min_session_timeout_ms.to_string(),
            "The shortest session timeout that a member may ask for.",
        ),
        (
            "offset.metadata.max.bytes",
            Kind::Int,
            groups.offset_metadata_max_bytes.to_string(),
            "How long the text beside a committed offset may be.",
        ),
        (
            "offsets.retention.minutes",
            Kind::Int,
            (groups.offsets_retention_ms / 60_000).to_string(),
            "How long the offsets of an empty group are kept.",
        ),
        (
            "offsets.topic.num.partitions",
            Kind::Int,
            options.offsets_topic_partitions.to_string(),
            "Partitions of the topic that holds groups and offsets.",
        ),
        (
            "offsets.topic.replication.factor",
            Kind::Short,
            "1".into(),
            "There is one broker.",
        ),
    ]
}
