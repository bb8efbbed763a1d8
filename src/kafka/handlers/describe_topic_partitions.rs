//! DescribeTopicPartitions: topics and their partitions, page by page.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::describe_topic_partitions_response::{
    Cursor, DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use kafka_protocol::messages::{BrokerId, DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse, TopicName};
use riverlog_storage::{LogId, Topic};

use crate::broker::topics::{check_name, is_internal};
use crate::kafka::operations;
use crate::kafka::text::wire_topic;
use crate::kafka::{Context, HandlerError};

/// `max.request.partition.size.limit`
const MAX_PARTITIONS: usize = 2_000;

/// The topics asked for, or all, sorted by name, from the cursor on.
pub async fn handle(
    ctx: &Context,
    _version: i16,
    request: DescribeTopicPartitionsRequest,
) -> Result<DescribeTopicPartitionsResponse, HandlerError> {
    let catalog = ctx.session.broker.catalog();
    let mut names: Vec<TopicName> = request.topics.into_iter().map(|topic| topic.name).collect();
    let all = names.is_empty();
    if all {
        names = catalog.topics().map(|topic| wire_topic(&topic.name)).collect();
    }
    names.sort_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
    names.dedup();
    let (from, mut skip) = match &request.cursor {
        Some(cursor) => (
            Some(cursor.topic_name.clone()),
            usize::try_from(cursor.partition_index).unwrap_or(0),
        ),
        None => (None, 0),
    };
    if let Some(from) = &from {
        names.retain(|name| name.as_bytes() >= from.as_bytes());
        if names.first() != Some(from) {
            skip = 0;
        }
    }
    let mut room = usize::try_from(request.response_partition_limit)
        .unwrap_or(1)
        .clamp(1, MAX_PARTITIONS);
    let mut response = DescribeTopicPartitionsResponse::default();
    for name in names {
        if room == 0 {
            response.next_cursor = Some(cursor(name, 0));
            break;
        }
        let Some(topic) = catalog.topic(&name) else {
            response.topics.push(unknown(name));
            continue;
        };
        let last = topic.partitions.len().min(skip.saturating_add(room));
        let partitions = topic.partitions.iter().enumerate().take(last).skip(skip);
        let partitions: Vec<_> = partitions.map(|(index, log)| describe(ctx, index, *log)).collect();
        room -= partitions.len();
        response.topics.push(head(&name, topic).with_partitions(partitions));
        if last < topic.partitions.len() {
            response.next_cursor = Some(cursor(name, last));
            break;
        }
        skip = 0;
    }
    Ok(response)
}

fn cursor(topic: TopicName, partition: usize) -> Cursor {
    Cursor::default()
        .with_topic_name(topic)
        .with_partition_index(partition as i32)
}

fn head(name: &TopicName, topic: &Topic) -> DescribeTopicPartitionsResponseTopic {
    DescribeTopicPartitionsResponseTopic::default()
        .with_name(Some(name.clone()))
        .with_topic_id(topic.id)
        .with_is_internal(is_internal(&topic.name))
        .with_topic_authorized_operations(operations::TOPIC)
}

fn unknown(name: TopicName) -> DescribeTopicPartitionsResponseTopic {
    let error = match check_name(&name) {
        Ok(()) => ResponseError::UnknownTopicOrPartition,
        Err(_) => ResponseError::InvalidTopicException,
    };
    DescribeTopicPartitionsResponseTopic::default()
        .with_error_code(error.code())
        .with_name(Some(name))
}

fn describe(ctx: &Context, index: usize, log: LogId) -> DescribeTopicPartitionsResponsePartition {
    let here = BrokerId(ctx.session.broker.options().node_id);
    let leader_epoch = ctx
        .session
        .broker
        .storage()
        .ends(log)
        .map_or(-1, |ends| ends.leader_epoch);
    DescribeTopicPartitionsResponsePartition::default()
        .with_partition_index(index as i32)
        .with_leader_id(here)
        .with_leader_epoch(leader_epoch)
        .with_replica_nodes(vec![here])
        .with_isr_nodes(vec![here])
        .with_eligible_leader_replicas(Some(Vec::new()))
        .with_last_known_elr(Some(Vec::new()))
}
