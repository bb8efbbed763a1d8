//! Topics and their configs.

use kafka_protocol::error::{ParseResponseErrorCode, ResponseError};
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::{
    CreatePartitionsRequest, CreateTopicsRequest, DeleteRecordsRequest, DeleteTopicsRequest, DescribeConfigsRequest,
    IncrementalAlterConfigsRequest,
};
use uuid::Uuid;

use crate::client::{Client, Target, text, topic_name};
use crate::error::Error;

/// Kafka's number for "this resource is a topic".
const TOPIC_RESOURCE: i8 = 2;
/// Kafka's numbers for what to do with a config.
const SET: i8 = 0;
const DELETE: i8 = 1;
/// Kafka's number for "set on this topic".
const TOPIC_SOURCE: i8 = 1;

/// A topic to be created.
#[derive(Clone, Debug, Default)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// How many partitions; the broker's default if not given.
    pub partitions: Option<i32>,
    /// Names and values.
    pub configs: Vec<(String, String)>,
}

/// A config of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigEntry {
    /// Its name.
    pub name: String,
    /// Its value, unless it is secret.
    pub value: Option<String>,
    /// Whether it was set on the topic, rather than being the default.
    pub is_set: bool,
}

impl Client {
    /// Creates a topic and returns its id and number of partitions.
    pub async fn create_topic(&self, topic: &NewTopic) -> Result<(Uuid, i32), Error> {
        let configs = topic.configs.iter().map(|(name, value)| {
            CreatableTopicConfig::default()
                .with_name(text(name))
                .with_value(Some(text(value)))
        });
        let creatable = CreatableTopic::default()
            .with_name(topic_name(&topic.name))
            .with_num_partitions(topic.partitions.unwrap_or(-1))
            .with_replication_factor(-1)
            .with_configs(configs.collect());
        let request = CreateTopicsRequest::default()
            .with_topics(vec![creatable])
            .with_timeout_ms(self.timeout_ms());
        let response = self.call(Target::Controller, &request).await?;
        let subject = format!("topic {}", topic.name);
        let result = first(response.topics, &subject)?;
        check(&subject, result.error_code, result.error_message.as_deref())?;
        Ok((result.topic_id, result.num_partitions))
    }

    /// Creates the topic unless it exists; whether it was created.
    pub async fn ensure_topic(&self, topic: &NewTopic) -> Result<bool, Error> {
        match self.create_topic(topic).await {
            Ok(_) => Ok(true),
            Err(e) if e.code() == Some(ResponseError::TopicAlreadyExists) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Deletes a topic.
    pub async fn delete_topic(&self, name: &str) -> Result<(), Error> {
        let state = DeleteTopicState::default().with_name(Some(topic_name(name)));
        let request = DeleteTopicsRequest::default()
            .with_topics(vec![state])
            .with_timeout_ms(self.timeout_ms());
        let response = self.call(Target::Controller, &request).await?;
        let subject = format!("topic {name}");
        let result = first(response.responses, &subject)?;
        self.forget_topic(name);
        check(&subject, result.error_code, result.error_message.as_deref())
    }

    /// Gives a topic more partitions.
    pub async fn set_partitions(&self, name: &str, total: i32) -> Result<(), Error> {
        let topic = CreatePartitionsTopic::default()
            .with_name(topic_name(name))
            .with_count(total)
            .with_assignments(None);
        let request = CreatePartitionsRequest::default()
            .with_topics(vec![topic])
            .with_timeout_ms(self.timeout_ms());
        let response = self.call(Target::Controller, &request).await?;
        let subject = format!("topic {name}");
        let result = first(response.results, &subject)?;
        self.forget_topic(name);
        check(&subject, result.error_code, result.error_message.as_deref())
    }

    /// The topic's configs, by name.
    pub async fn topic_configs(&self, name: &str) -> Result<Vec<ConfigEntry>, Error> {
        let resource = DescribeConfigsResource::default()
            .with_resource_type(TOPIC_RESOURCE)
            .with_resource_name(text(name))
            .with_configuration_keys(None);
        let request = DescribeConfigsRequest::default().with_resources(vec![resource]);
        let response = self.call(Target::Any, &request).await?;
        let subject = format!("topic {name}");
        let result = first(response.results, &subject)?;
        check(&subject, result.error_code, result.error_message.as_deref())?;
        let mut configs: Vec<_> = result
            .configs
            .into_iter()
            .map(|config| ConfigEntry {
                name: config.name.to_string(),
                value: config.value.map(|value| value.to_string()),
                is_set: config.config_source == TOPIC_SOURCE,
            })
            .collect();
        configs.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(configs)
    }

    /// What a batch of the topic may take, in bytes, if the cluster says so.
    pub(crate) async fn max_message_bytes(&self, name: &str) -> Result<Option<usize>, Error> {
        let configs = self.topic_configs(name).await?;
        let limit = configs.into_iter().find(|config| config.name == "max.message.bytes");
        Ok(limit.and_then(|limit| limit.value?.parse().ok()))
    }

    /// Sets configs (`Some`) or puts them back to their defaults (`None`).
    pub async fn alter_topic_configs(&self, name: &str, changes: &[(String, Option<String>)]) -> Result<(), Error> {
        let configs = changes.iter().map(|(name, value)| {
            AlterableConfig::default()
                .with_name(text(name))
                .with_config_operation(if value.is_some() { SET } else { DELETE })
                .with_value(value.as_deref().map(text))
        });
        let resource = AlterConfigsResource::default()
            .with_resource_type(TOPIC_RESOURCE)
            .with_resource_name(text(name))
            .with_configs(configs.collect());
        let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
        let response = self.call(Target::Controller, &request).await?;
        let subject = format!("topic {name}");
        let result = first(response.responses, &subject)?;
        check(&subject, result.error_code, result.error_message.as_deref())
    }

    /// Deletes the records before `offset` and returns where the partition starts now.
    pub async fn delete_records(&self, topic: &str, partition: i32, offset: i64) -> Result<i64, Error> {
        let at = DeleteRecordsPartition::default()
            .with_partition_index(partition)
            .with_offset(offset);
        let request = DeleteRecordsRequest::default()
            .with_topics(vec![
                DeleteRecordsTopic::default()
                    .with_name(topic_name(topic))
                    .with_partitions(vec![at]),
            ])
            .with_timeout_ms(self.timeout_ms());
        let leader = self.leader(topic, partition).await?;
        let response = self.call(Target::Node(leader), &request).await?;
        let subject = format!("{topic}/{partition}");
        let result = first(first(response.topics, &subject)?.partitions, &subject)?;
        check(&subject, result.error_code, None)?;
        Ok(result.low_watermark)
    }

    fn timeout_ms(&self) -> i32 {
        i32::try_from(self.config().request_timeout.as_millis()).unwrap_or(i32::MAX)
    }
}

/// The only element of an answer about one thing.
pub(crate) fn first<T>(results: Vec<T>, subject: &str) -> Result<T, Error> {
    results
        .into_iter()
        .next()
        .ok_or_else(|| Error::refused(subject, ResponseError::UnknownServerError, None))
}

pub(crate) fn check(subject: &str, code: i16, message: Option<&str>) -> Result<(), Error> {
    match code.err() {
        None => Ok(()),
        Some(code) => Err(Error::refused(subject, code, message)),
    }
}
