//! OffsetCommit.

use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
use kafka_protocol::messages::{OffsetCommitRequest, OffsetCommitResponse};
use riverlog_storage::Topic;

use crate::broker::coordinator::CommitRequest;
use crate::groups::{Committed, Error};
use crate::kafka::text::{shared, shared_option};
use crate::kafka::{Context, HandlerError};

/// Commits the offsets that can be committed; answers when they are durable.
pub async fn handle(
    ctx: &Context,
    version: i16,
    request: OffsetCommitRequest,
) -> Result<OffsetCommitResponse, HandlerError> {
    let catalog = ctx.session.broker.catalog();
    let now_ms = ctx.session.broker.storage().clock().now_ms();
    let retention_ms = Some(request.retention_time_ms).filter(|ms| *ms >= 0);
    let times = Times {
        now_ms,
        expire_ms: retention_ms.map(|ms| now_ms.saturating_add(ms)),
    };
    let mut offsets = Vec::new();
    let mut topics: Vec<OffsetCommitResponseTopic> = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        topics.push(judge(ctx, topic, catalog.topic(&topic.name), times, &mut offsets));
    }
    if offsets.is_empty() {
        return Ok(OffsetCommitResponse::default().with_topics(topics));
    }
    let commit = CommitRequest {
        member_id: shared(&request.member_id),
        instance_id: shared_option(request.group_instance_id.as_ref()),
        generation: request.generation_id_or_member_epoch,
        offsets,
    };
    let code = match ctx.session.broker.groups().commit(&request.group_id, commit).await {
        Ok(()) => 0,
        // Before version 9 clients know no other way of being told that their group is gone.
        Err(Error::NotFound) if version < 9 => ResponseError::IllegalGeneration.code(),
        Err(error) => error.code(),
    };
    for partition in topics.iter_mut().flat_map(|topic| topic.partitions.iter_mut()) {
        if partition.error_code == 0 {
            partition.error_code = code;
        }
    }
    Ok(OffsetCommitResponse::default().with_topics(topics))
}

#[derive(Clone, Copy)]
struct Times {
    now_ms: i64,
    expire_ms: Option<i64>,
}

/// Takes what can be committed, and answers for the rest.
fn judge(
    ctx: &Context,
    asked: &OffsetCommitRequestTopic,
    topic: Option<&Arc<Topic>>,
    times: Times,
    offsets: &mut Vec<(Arc<str>, i32, Committed)>,
) -> OffsetCommitResponseTopic {
    let name = shared(&asked.name);
    let max_metadata_bytes = ctx.session.broker.groups().options().offset_metadata_max_bytes;
    let partitions = asked.partitions.iter().map(|partition| {
        let known = topic.filter(|topic| exists(topic, partition.partition_index));
        let metadata = partition.committed_metadata.as_deref().unwrap_or("");
        let code = match known {
            None => ResponseError::UnknownTopicOrPartition.code(),
            Some(_) if metadata.len() > max_metadata_bytes => ResponseError::OffsetMetadataTooLarge.code(),
            Some(topic) => {
                offsets.push((
                    name.clone(),
                    partition.partition_index,
                    committed(partition, metadata, topic, times),
                ));
                0
            }
        };
        OffsetCommitResponsePartition::default()
            .with_partition_index(partition.partition_index)
            .with_error_code(code)
    });
    OffsetCommitResponseTopic::default()
        .with_partitions(partitions.collect())
        .with_name(asked.name.clone())
}

fn exists(topic: &Topic, partition: i32) -> bool {
    usize::try_from(partition).is_ok_and(|partition| partition < topic.partitions.len())
}

fn committed(partition: &OffsetCommitRequestPartition, metadata: &str, topic: &Topic, times: Times) -> Committed {
    Committed {
        offset: partition.committed_offset,
        leader_epoch: partition.committed_leader_epoch,
        metadata: shared(metadata),
        commit_time_ms: times.now_ms,
        expire_time_ms: times.expire_ms,
        topic_id: topic.id,
    }
}
