//! Configs as responses show them: values with their sources, types, synonyms and documentation.

use kafka_protocol::messages::create_topics_response::CreatableTopicConfigs;
use kafka_protocol::messages::describe_configs_response::{DescribeConfigsResourceResult, DescribeConfigsSynonym};
use riverlog_storage::Topic;

use super::text::wire;
use crate::broker::topic_config::{Kind, TOPIC_CONFIGS, TopicConfigDef};
use crate::broker::{Broker, BrokerOptions};

/// Kinds of resources that have configs, by their numbers on the wire.
pub(super) const TOPIC: i8 = 2;
pub(super) const BROKER: i8 = 4;
pub(super) const BROKER_LOGGER: i8 = 8;
pub(super) const CLIENT_METRICS: i8 = 16;
pub(super) const GROUP: i8 = 32;

/// Where a value comes from.
const SOURCE_TOPIC: i8 = 1;
const SOURCE_BROKER: i8 = 4;
const SOURCE_DEFAULT: i8 = 5;

/// What a client wants to know besides the values.
#[derive(Clone, Copy)]
pub(super) struct Detail {
    pub version: i16,
    pub synonyms: bool,
    pub documentation: bool,
}

fn kind_number(kind: Kind) -> i8 {
    match kind {
        Kind::Boolean => 1,
        Kind::String => 2,
        Kind::Int => 3,
        Kind::Short => 4,
        Kind::Long => 5,
        Kind::List => 7,
    }
}

/// Where a topic config's default comes from: the operator may have chosen it.
fn default_source(def: &TopicConfigDef, options: &BrokerOptions) -> i8 {
    let chosen = def.default_value(options) != def.default_value(&BrokerOptions::default());
    if chosen { SOURCE_BROKER } else { SOURCE_DEFAULT }
}

/// All configs of a topic for CreateTopics. Java's Admin needs the list, and all of it.
pub(super) fn created_topic(topic: &Topic, options: &BrokerOptions) -> Vec<CreatableTopicConfigs> {
    let configs = TOPIC_CONFIGS.iter().map(|def| {
        let set = topic.configs.get(def.name);
        let source = if set.is_some() {
            SOURCE_TOPIC
        } else {
            default_source(def, options)
        };
        CreatableTopicConfigs::default()
            .with_name(wire(def.name))
            .with_value(Some(wire(set.cloned().unwrap_or_else(|| def.default_value(options)))))
            .with_config_source(source)
    });
    configs.collect()
}

/// All configs of a topic.
pub(super) fn topic(topic: &Topic, options: &BrokerOptions, detail: Detail) -> Vec<DescribeConfigsResourceResult> {
    let configs = TOPIC_CONFIGS.iter().map(|def| {
        let set = topic.configs.get(def.name);
        let default = def.default_value(options);
        let default_source = default_source(def, options);
        let mut synonyms = Vec::new();
        if let Some(value) = set {
            synonyms.push(synonym(def.name, value, SOURCE_TOPIC));
        }
        synonyms.push(synonym(def.synonym, &default, default_source));
        let entry = DescribeConfigsResourceResult::default()
            .with_name(wire(def.name))
            .with_value(Some(wire(set.unwrap_or(&default))))
            .with_config_source(if set.is_some() { SOURCE_TOPIC } else { default_source });
        with_detail(entry, synonyms, def.kind, def.doc, detail)
    });
    configs.collect()
}

/// All configs of the broker.
pub(super) fn broker(broker: &Broker, detail: Detail) -> Vec<DescribeConfigsResourceResult> {
    let configs = broker.configs().into_iter().map(|config| {
        let source = if config.chosen { SOURCE_BROKER } else { SOURCE_DEFAULT };
        let entry = DescribeConfigsResourceResult::default()
            .with_name(wire(config.name))
            .with_value(Some(wire(&config.value)))
            .with_read_only(true)
            .with_config_source(source);
        with_detail(
            entry,
            vec![synonym(config.name, &config.value, source)],
            config.kind,
            config.doc,
            detail,
        )
    });
    configs.collect()
}

fn synonym(name: &str, value: &str, source: i8) -> DescribeConfigsSynonym {
    DescribeConfigsSynonym::default()
        .with_name(wire(name))
        .with_value(Some(wire(value)))
        .with_source(source)
}

fn with_detail(
    entry: DescribeConfigsResourceResult,
    synonyms: Vec<DescribeConfigsSynonym>,
    kind: Kind,
    doc: &str,
    detail: Detail,
) -> DescribeConfigsResourceResult {
    let entry = if detail.synonyms {
        entry.with_synonyms(synonyms)
    } else {
        entry
    };
    if detail.version < 3 {
        return entry;
    }
    let documentation = detail.documentation.then(|| wire(doc));
    entry
        .with_config_type(kind_number(kind))
        .with_documentation(documentation)
}
