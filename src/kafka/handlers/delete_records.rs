//! DeleteRecords.

use kafka_protocol::messages::delete_records_request::DeleteRecordsPartition;
use kafka_protocol::messages::delete_records_response::{DeleteRecordsPartitionResult, DeleteRecordsTopicResult};
use kafka_protocol::messages::{DeleteRecordsRequest, DeleteRecordsResponse};

use crate::broker::BrokerError;
use crate::broker::topics::is_internal;
use crate::kafka::{Context, HandlerError};

/// Moves the start of partitions; -1 means all that is published now.
pub async fn handle(
    ctx: &Context,
    _version: i16,
    request: DeleteRecordsRequest,
) -> Result<DeleteRecordsResponse, HandlerError> {
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in topic.partitions {
            let result = delete(ctx, &topic.name, &partition).await;
            let answer = DeleteRecordsPartitionResult::default().with_partition_index(partition.partition_index);
            partitions.push(match result {
                Ok(low_watermark) => answer.with_low_watermark(low_watermark),
                Err(error) => answer
                    .with_low_watermark(-1)
                    .with_error_code(error.response_error().code()),
            });
        }
        topics.push(
            DeleteRecordsTopicResult::default()
                .with_name(topic.name)
                .with_partitions(partitions),
        );
    }
    Ok(DeleteRecordsResponse::default().with_topics(topics))
}

async fn delete(ctx: &Context, topic: &str, partition: &DeleteRecordsPartition) -> Result<i64, BrokerError> {
    if is_internal(topic) {
        return Err(BrokerError::InternalTopic(topic.to_owned()));
    }
    let log = ctx.session.broker.log_of(topic, partition.partition_index)?;
    ctx.session.broker.delete_records(log, partition.offset).await
}
