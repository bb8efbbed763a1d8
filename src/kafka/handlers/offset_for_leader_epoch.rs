//! OffsetForLeaderEpoch: where an epoch ends, so that a client can see whether its position is still on this log.

use kafka_protocol::messages::offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
use kafka_protocol::messages::offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult};
use kafka_protocol::messages::{OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse};

use super::Partition;
use crate::kafka::{Context, HandlerError};

/// Answers each partition with the largest epoch up to the one asked, and its end.
pub async fn handle(
    ctx: &Context,
    _version: i16,
    request: OffsetForLeaderEpochRequest,
) -> Result<OffsetForLeaderEpochResponse, HandlerError> {
    let topics = request.topics.iter().map(|topic| {
        OffsetForLeaderTopicResult::default()
            .with_topic(topic.topic.clone())
            .with_partitions(
                topic
                    .partitions
                    .iter()
                    .map(|partition| answer(ctx, topic, partition))
                    .collect(),
            )
    });
    Ok(OffsetForLeaderEpochResponse::default().with_topics(topics.collect()))
}

fn answer(ctx: &Context, topic: &OffsetForLeaderTopic, asked: &OffsetForLeaderPartition) -> EpochEndOffset {
    let answer = EpochEndOffset::default().with_partition(asked.partition);
    let found = ctx
        .session
        .broker
        .topic(&topic.topic)
        .map_err(|error| error.response_error())
        .and_then(|topic| Partition::find(&ctx.session.broker, &topic, asked.partition, asked.current_leader_epoch));
    match found {
        Err(error) => answer.with_error_code(error.code()),
        // An epoch that the log never saw: -1 and -1, the defaults.
        Ok(partition) => match ctx
            .session
            .broker
            .storage()
            .epoch_end(partition.log, asked.leader_epoch)
        {
            None => answer,
            Some((epoch, end)) => answer.with_leader_epoch(epoch).with_end_offset(end),
        },
    }
}
