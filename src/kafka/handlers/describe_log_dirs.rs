//! DescribeLogDirs: the one data directory, with the size of each partition.

use kafka_protocol::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use kafka_protocol::messages::{DescribeLogDirsRequest, DescribeLogDirsResponse};
use riverlog_storage::{Catalog, Topic};

use crate::kafka::text::{wire, wire_topic};
use crate::kafka::{Context, HandlerError};

/// Kafka's word for a number that nobody knows.
const UNKNOWN_BYTES: i64 = -1;

/// The partitions asked for, or all.
pub async fn handle(
    ctx: &Context,
    version: i16,
    request: DescribeLogDirsRequest,
) -> Result<DescribeLogDirsResponse, HandlerError> {
    let catalog = ctx.session.broker.catalog();
    let topics = match request.topics {
        None => catalog.topics().map(|topic| describe(ctx, topic, |_| true)).collect(),
        Some(asked) => {
            let known = asked
                .iter()
                .filter_map(|asked| Some((asked, find(&catalog, &asked.topic)?)));
            known
                .map(|(asked, topic)| describe(ctx, topic, |index| asked.partitions.contains(&index)))
                .collect()
        }
    };
    let directory = ctx.session.broker.storage().data_dir();
    // Tools know absolute paths only.
    let directory = std::path::absolute(directory).unwrap_or_else(|_| directory.to_owned());
    let mut result = DescribeLogDirsResult::default()
        .with_log_dir(wire(directory.display().to_string()))
        .with_topics(topics);
    if version >= 4 {
        let free = i64::try_from(ctx.session.broker.storage().health().free_bytes).unwrap_or(i64::MAX);
        result = result.with_total_bytes(UNKNOWN_BYTES).with_usable_bytes(free);
    }
    Ok(DescribeLogDirsResponse::default().with_results(vec![result]))
}

fn find<'a>(catalog: &'a Catalog, name: &str) -> Option<&'a Topic> {
    catalog.topic(name).map(|topic| &**topic)
}

fn describe(ctx: &Context, topic: &Topic, wanted: impl Fn(i32) -> bool) -> DescribeLogDirsTopic {
    let partitions = topic
        .partitions
        .iter()
        .enumerate()
        .map(|(index, log)| (index as i32, *log));
    let partitions = partitions.filter(|(index, _)| wanted(*index)).map(|(index, log)| {
        let bytes = ctx.session.broker.storage().ends(log).map_or(0, |ends| ends.size_bytes);
        DescribeLogDirsPartition::default()
            .with_partition_index(index)
            .with_partition_size(i64::try_from(bytes).unwrap_or(i64::MAX))
    });
    DescribeLogDirsTopic::default()
        .with_name(wire_topic(&topic.name))
        .with_partitions(partitions.collect())
}
