//! ListOffsets: the first and last offsets, and offsets by time.

use std::collections::HashSet;
use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::list_offsets_request::ListOffsetsPartition;
use kafka_protocol::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use kafka_protocol::messages::{ListOffsetsRequest, ListOffsetsResponse};
use riverlog_storage::{LogId, Topic};

use super::Partition;
use crate::broker::Broker;
use crate::broker::offsets::OffsetAtTime;
use crate::kafka::{Context, HandlerError};

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;

/// Answers each partition. There are no transactions yet, so the last stable offset is the high watermark and the
/// isolation level changes nothing.
pub async fn handle(
    ctx: &Context,
    version: i16,
    request: ListOffsetsRequest,
) -> Result<ListOffsetsResponse, HandlerError> {
    let broker = Arc::clone(&ctx.session.broker);
    // Searches by time read the disk.
    let response = tokio::task::spawn_blocking(move || answer_all(&broker, version, &request)).await;
    response.map_err(|error| HandlerError::Close(format!("the search ended early: {error}")))
}

fn answer_all(broker: &Broker, version: i16, request: &ListOffsetsRequest) -> ListOffsetsResponse {
    let mut seen = HashSet::new();
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let found = broker.topic(&topic.name).map_err(|error| error.response_error());
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in &topic.partitions {
            let offset = if seen.insert((topic.name.clone(), partition.partition_index)) {
                find(broker, version, found.as_deref(), partition)
            } else {
                Err(ResponseError::InvalidRequest)
            };
            let answer = ListOffsetsPartitionResponse::default().with_partition_index(partition.partition_index);
            partitions.push(match offset {
                Ok(found) => answer
                    .with_offset(found.offset)
                    .with_timestamp(found.timestamp_ms)
                    .with_leader_epoch(if version >= 4 { found.leader_epoch } else { -1 }),
                Err(error) => answer.with_error_code(error.code()),
            });
        }
        topics.push(
            ListOffsetsTopicResponse::default()
                .with_name(topic.name.clone())
                .with_partitions(partitions),
        );
    }
    ListOffsetsResponse::default().with_topics(topics)
}

struct Found {
    offset: i64,
    timestamp_ms: i64,
    leader_epoch: i32,
}

impl Found {
    const NOTHING: Self = Self {
        offset: -1,
        timestamp_ms: -1,
        leader_epoch: -1,
    };
}

fn find(
    broker: &Broker,
    version: i16,
    topic: Result<&Topic, &ResponseError>,
    asked: &ListOffsetsPartition,
) -> Result<Found, ResponseError> {
    let topic = topic.map_err(|error| *error)?;
    let partition = Partition::find(broker, topic, asked.partition_index, asked.current_leader_epoch)?;
    let (log, ends) = (partition.log, partition.ends);
    let at_time = |found: Option<OffsetAtTime>| match found {
        None => Found::NOTHING,
        Some(found) => Found {
            offset: found.offset,
            timestamp_ms: found.timestamp_ms,
            leader_epoch: epoch_at(broker, log, found.offset),
        },
    };
    match asked.timestamp {
        LATEST => Ok(Found {
            offset: ends.high_watermark,
            leader_epoch: ends.leader_epoch,
            ..Found::NOTHING
        }),
        EARLIEST => Ok(earliest(broker, partition)),
        // Nothing is tiered: all of the log is local, and nothing of it is elsewhere.
        EARLIEST_LOCAL if version >= 8 => Ok(earliest(broker, partition)),
        LATEST_TIERED if version >= 9 => Ok(Found::NOTHING),
        MAX_TIMESTAMP if version >= 7 => broker
            .max_timestamp_offset(log)
            .map(at_time)
            .map_err(|error| error.response_error()),
        timestamp @ 0.. => broker
            .offset_for_time(log, timestamp)
            .map(at_time)
            .map_err(|error| error.response_error()),
        _ => Err(ResponseError::UnsupportedVersion),
    }
}

fn earliest(broker: &Broker, partition: Partition) -> Found {
    let offset = partition.ends.start;
    Found {
        offset,
        leader_epoch: epoch_at(broker, partition.log, offset),
        ..Found::NOTHING
    }
}

fn epoch_at(broker: &Broker, log: LogId, offset: i64) -> i32 {
    broker.storage().epoch_at(log, offset).unwrap_or(-1)
}
