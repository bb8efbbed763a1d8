//! Metadata: which topics and partitions there are, and where to reach them.

use std::collections::HashSet;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{BrokerId, MetadataRequest, MetadataResponse, TopicName};
use kafka_protocol::protocol::StrBytes;
use riverlog_storage::Topic;
use uuid::Uuid;

use crate::broker::{BrokerError, topics};
use crate::kafka::{Context, HandlerError};

/// All operations on a topic or on the cluster, as bits: nothing is forbidden while there is no authorizer.
const ALL_TOPIC_OPERATIONS: i32 = 0b1101_1111_1000;
const ALL_CLUSTER_OPERATIONS: i32 = 0b1_1111_1010_0000;

/// Describes this broker and the topics asked for, and creates missing ones if the request and the options allow it.
pub async fn handle(ctx: &Context, version: i16, request: MetadataRequest) -> Result<MetadataResponse, HandlerError> {
    let include_operations = request.include_topic_authorized_operations;
    let all = match &request.topics {
        None => true,
        Some(topics) => version == 0 && topics.is_empty(),
    };
    let topics = if all {
        ctx.session
            .broker
            .catalog()
            .topics()
            .map(|topic| describe(ctx, topic, include_operations))
            .collect()
    } else {
        asked(ctx, version, &request).await
    };
    let node_id = BrokerId(ctx.session.broker.options().node_id);
    let this_broker = MetadataResponseBroker::default()
        .with_node_id(node_id)
        .with_host(StrBytes::from_string(ctx.session.listener.advertised_host.clone()))
        .with_port(i32::from(ctx.session.listener.advertised_port));
    let mut response = MetadataResponse::default()
        .with_brokers(vec![this_broker])
        .with_cluster_id(Some(StrBytes::from_string(
            ctx.session.broker.catalog().cluster_id.clone(),
        )))
        .with_controller_id(node_id)
        .with_topics(topics);
    if request.include_cluster_authorized_operations {
        response.cluster_authorized_operations = ALL_CLUSTER_OPERATIONS;
    }
    Ok(response)
}

async fn asked(ctx: &Context, version: i16, request: &MetadataRequest) -> Vec<MetadataResponseTopic> {
    let mut seen = HashSet::new();
    let mut answers = Vec::new();
    for asked in request.topics.iter().flatten() {
        if !seen.insert((asked.topic_id, asked.name.clone())) {
            continue;
        }
        answers.push(match find(ctx, version, request, asked).await {
            Ok(topic) => describe(ctx, &topic, request.include_topic_authorized_operations),
            Err(error) => MetadataResponseTopic::default()
                .with_error_code(error.code())
                .with_name(name_for_error(version, asked))
                .with_topic_id(asked.topic_id),
        });
    }
    answers
}

/// Before version 12 the name cannot be null, also where it was in the request.
fn name_for_error(version: i16, asked: &MetadataRequestTopic) -> Option<TopicName> {
    asked.name.clone().or_else(|| (version < 12).then(TopicName::default))
}

async fn find(
    ctx: &Context,
    version: i16,
    request: &MetadataRequest,
    asked: &MetadataRequestTopic,
) -> Result<std::sync::Arc<Topic>, ResponseError> {
    let by_id = asked.topic_id != Uuid::nil();
    let Some(name) = asked.name.as_ref().filter(|_| !by_id) else {
        // Versions 10 and 11 have the fields but not the meaning.
        if !by_id || version < 12 {
            return Err(ResponseError::InvalidRequest);
        }
        return ctx
            .session
            .broker
            .topic_by_id(asked.topic_id)
            .map_err(|error| error.response_error());
    };
    match ctx.session.broker.topic(name) {
        Ok(topic) => Ok(topic),
        Err(error) => {
            topics::check_name(name).map_err(|error| error.response_error())?;
            if !request.allow_auto_topic_creation || topics::is_internal(name) {
                return Err(error.response_error());
            }
            ctx.session
                .broker
                .topic_or_create(name)
                .await
                .map_err(|error| creation_error(&error))
        }
    }
}

/// Clients ask again after UNKNOWN_TOPIC_OR_PARTITION, so that a creation that failed for now is tried again.
fn creation_error(error: &BrokerError) -> ResponseError {
    match error {
        BrokerError::InvalidTopicName { .. } => ResponseError::InvalidTopicException,
        _ => ResponseError::UnknownTopicOrPartition,
    }
}

fn describe(ctx: &Context, topic: &Topic, include_operations: bool) -> MetadataResponseTopic {
    let node_id = BrokerId(ctx.session.broker.options().node_id);
    let ends = ctx.session.broker.storage().all_ends(&topic.partitions);
    let partitions = ends.iter().zip(0..).map(|(ends, index)| {
        MetadataResponsePartition::default()
            .with_partition_index(index)
            .with_leader_id(node_id)
            .with_leader_epoch(ends.map_or(0, |ends| ends.leader_epoch))
            .with_replica_nodes(vec![node_id])
            .with_isr_nodes(vec![node_id])
    });
    let mut description = MetadataResponseTopic::default()
        .with_name(Some(TopicName(StrBytes::from_string(topic.name.clone()))))
        .with_topic_id(topic.id)
        .with_is_internal(topics::is_internal(&topic.name))
        .with_partitions(partitions.collect());
    if include_operations {
        description.topic_authorized_operations = ALL_TOPIC_OPERATIONS;
    }
    description
}
