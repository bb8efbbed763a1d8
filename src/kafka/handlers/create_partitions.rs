//! CreatePartitions.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_protocol::messages::{CreatePartitionsRequest, CreatePartitionsResponse};

use crate::broker::topics::is_internal;
use crate::kafka::refusal::{Refusal, outcome};
use crate::kafka::{Context, HandlerError};

/// Grows topics.
pub async fn handle(
    ctx: &Context,
    _version: i16,
    request: CreatePartitionsRequest,
) -> Result<CreatePartitionsResponse, HandlerError> {
    let mut results = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let (code, message) = outcome(&grow(ctx, &topic, request.validate_only).await);
        let result = CreatePartitionsTopicResult::default().with_name(topic.name);
        results.push(result.with_error_code(code).with_error_message(message));
    }
    Ok(CreatePartitionsResponse::default().with_results(results))
}

async fn grow(ctx: &Context, asked: &CreatePartitionsTopic, validate_only: bool) -> Result<(), Refusal> {
    let topic = ctx.session.broker.topic(&asked.name)?;
    if is_internal(&asked.name) {
        // The partition of a group, or of a job, follows from the number of partitions.
        let message = "the number of partitions of an internal topic is fixed";
        return Err(Refusal::new(ResponseError::InvalidTopicException, message));
    }
    let total = u32::try_from(asked.count).unwrap_or(0);
    if let Some(assignments) = &asked.assignments {
        let new = (total as usize).saturating_sub(topic.partitions.len());
        let node_id = ctx.session.broker.options().node_id;
        let here = assignments
            .iter()
            .all(|brokers| brokers.broker_ids.iter().map(|id| id.0).eq([node_id]));
        if assignments.len() != new || !here {
            let message = "the assignment must place each new partition on this broker: there is no other";
            return Err(Refusal::new(ResponseError::InvalidReplicaAssignment, message));
        }
    }
    Ok(ctx
        .session
        .broker
        .add_partitions(&asked.name, total, validate_only)
        .await?)
}
