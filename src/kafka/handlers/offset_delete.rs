//! OffsetDelete.

use std::collections::VecDeque;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::offset_delete_response::{OffsetDeleteResponsePartition, OffsetDeleteResponseTopic};
use kafka_protocol::messages::{OffsetDeleteRequest, OffsetDeleteResponse};

use crate::kafka::group_error::{check_group_id, code_of};
use crate::kafka::text::shared;
use crate::kafka::{Context, HandlerError};

/// Deletes a group's offsets of some partitions.
pub async fn handle(
    ctx: &Context,
    _version: i16,
    request: OffsetDeleteRequest,
) -> Result<OffsetDeleteResponse, HandlerError> {
    let groups = ctx.session.broker.groups();
    if let Err(error) = check_group_id(&request.group_id) {
        return Ok(OffsetDeleteResponse::default().with_error_code(error.code()));
    }
    let catalog = ctx.session.broker.catalog();
    let known = |name: &str, partition: i32| {
        let topic = catalog.topic(name);
        topic.is_some_and(|topic| usize::try_from(partition).is_ok_and(|index| index < topic.partitions.len()))
    };
    let mut partitions = Vec::new();
    for topic in &request.topics {
        let name = shared(&topic.name);
        let existing = topic
            .partitions
            .iter()
            .filter(|partition| known(&name, partition.partition_index));
        partitions.extend(existing.map(|partition| (name.clone(), partition.partition_index)));
    }
    let mut results: VecDeque<_> = match groups.delete_offsets(&request.group_id, partitions).await {
        Ok(results) => results.into(),
        Err(error) => return Ok(OffsetDeleteResponse::default().with_error_code(error.code())),
    };
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let partitions = topic.partitions.iter().map(|partition| {
            // The results stand in the order of the partitions that exist.
            let result = if known(&topic.name, partition.partition_index) {
                results.pop_front()
            } else {
                None
            };
            let code = result.map_or(ResponseError::UnknownTopicOrPartition.code(), |result| code_of(&result));
            OffsetDeleteResponsePartition::default()
                .with_partition_index(partition.partition_index)
                .with_error_code(code)
        });
        let partitions = partitions.collect();
        topics.push(
            OffsetDeleteResponseTopic::default()
                .with_name(topic.name)
                .with_partitions(partitions),
        );
    }
    Ok(OffsetDeleteResponse::default().with_topics(topics))
}
