//! OffsetFetch.

use std::sync::Arc;

use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
};
use kafka_protocol::messages::{OffsetFetchRequest, OffsetFetchResponse};

use crate::broker::coordinator::{FetchedOffset, Wanted};
use crate::groups::{Committed, Error};
use crate::kafka::text::{shared, wire, wire_topic};
use crate::kafka::{Context, HandlerError};

/// Reads the offsets of one group, or from version 8 on of several. A group that has committed nothing has the
/// offset -1 everywhere, and no error: clients take that for "begin".
pub async fn handle(
    ctx: &Context,
    version: i16,
    request: OffsetFetchRequest,
) -> Result<OffsetFetchResponse, HandlerError> {
    if version >= 8 {
        let mut groups = Vec::with_capacity(request.groups.len());
        for group in request.groups {
            let topics = group.topics.map(|topics| {
                topics
                    .iter()
                    .map(|topic| (shared(&topic.name), topic.partition_indexes.clone()))
                    .collect()
            });
            let found = ctx.session.broker.groups().fetch(&group.group_id, wanted(topics)).await;
            groups.push(group_answer(found).with_group_id(group.group_id));
        }
        return Ok(OffsetFetchResponse::default().with_groups(groups));
    }
    let topics: Option<Vec<_>> = request.topics.map(|topics| {
        topics
            .iter()
            .map(|topic| (shared(&topic.name), topic.partition_indexes.clone()))
            .collect()
    });
    let found = ctx
        .session
        .broker
        .groups()
        .fetch(&request.group_id, wanted(topics.clone()))
        .await;
    Ok(single_answer(version, topics.unwrap_or_default(), found))
}

type Topics = Vec<(Arc<str>, Vec<i32>)>;

fn wanted(topics: Option<Topics>) -> Wanted {
    topics.map_or(Wanted::All, Wanted::Some)
}

fn group_answer(found: Result<Vec<FetchedOffset>, Error>) -> OffsetFetchResponseGroup {
    let offsets = match found {
        Ok(offsets) => offsets,
        Err(error) => return OffsetFetchResponseGroup::default().with_error_code(error.code()),
    };
    let topics = by_topic(offsets).into_iter().map(|(topic, partitions)| {
        let partitions = partitions.into_iter().map(|(partition, committed)| {
            let (offset, leader_epoch, metadata) = fields(committed.as_ref());
            OffsetFetchResponsePartitions::default()
                .with_partition_index(partition)
                .with_committed_offset(offset)
                .with_committed_leader_epoch(leader_epoch)
                .with_metadata(Some(wire(metadata)))
        });
        OffsetFetchResponseTopics::default()
            .with_name(wire_topic(topic))
            .with_partitions(partitions.collect())
    });
    OffsetFetchResponseGroup::default().with_topics(topics.collect())
}

fn single_answer(version: i16, asked: Topics, found: Result<Vec<FetchedOffset>, Error>) -> OffsetFetchResponse {
    let (offsets, code) = match found {
        Ok(offsets) => (offsets, 0),
        // Version 1 has no place for an error but the partitions.
        Err(error) => {
            let each = |(topic, partitions): (Arc<str>, Vec<i32>)| {
                partitions
                    .into_iter()
                    .map(move |partition| (topic.clone(), partition, None))
            };
            (asked.into_iter().flat_map(each).collect(), error.code())
        }
    };
    let topics = by_topic(offsets).into_iter().map(|(topic, partitions)| {
        let partitions = partitions.into_iter().map(|(partition, committed)| {
            let (offset, leader_epoch, metadata) = fields(committed.as_ref());
            let answer = OffsetFetchResponsePartition::default()
                .with_partition_index(partition)
                .with_committed_offset(offset)
                .with_metadata(Some(wire(metadata)))
                .with_error_code(code);
            if version >= 5 {
                answer.with_committed_leader_epoch(leader_epoch)
            } else {
                answer
            }
        });
        OffsetFetchResponseTopic::default()
            .with_name(wire_topic(topic))
            .with_partitions(partitions.collect())
    });
    let response = OffsetFetchResponse::default().with_topics(topics.collect());
    if version >= 2 {
        response.with_error_code(code)
    } else {
        response
    }
}

fn fields(committed: Option<&Committed>) -> (i64, i32, &str) {
    committed.map_or((-1, -1, ""), |committed| {
        (committed.offset, committed.leader_epoch, &committed.metadata)
    })
}

type TopicOffsets = (Arc<str>, Vec<(i32, Option<Committed>)>);

/// Offsets that follow each other and belong to one topic stand together.
fn by_topic(offsets: Vec<FetchedOffset>) -> Vec<TopicOffsets> {
    let mut topics: Vec<TopicOffsets> = Vec::new();
    for (topic, partition, committed) in offsets {
        match topics.last_mut() {
            Some((name, partitions)) if *name == topic => partitions.push((partition, committed)),
            _ => topics.push((topic, vec![(partition, committed)])),
        }
    }
    topics
}
