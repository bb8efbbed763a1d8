//! One file for each API: the request was checked and decoded; ask the broker, answer.

#[cfg(test)]
mod admin_tests;
pub mod alter_configs;
pub mod api_versions;
pub mod create_partitions;
pub mod create_topics;
pub mod delete_groups;
pub mod delete_records;
pub mod delete_topics;
pub mod describe_acls;
pub mod describe_cluster;
pub mod describe_configs;
pub mod describe_groups;
pub mod describe_log_dirs;
pub mod describe_topic_partitions;
pub mod fetch;
pub mod find_coordinator;
pub mod heartbeat;
pub mod incremental_alter_configs;
pub mod init_producer_id;
pub mod join_group;
pub mod leave_group;
pub mod list_config_resources;
pub mod list_groups;
pub mod list_offsets;
pub mod list_partition_reassignments;
pub mod metadata;
pub mod offset_commit;
pub mod offset_delete;
pub mod offset_fetch;
pub mod offset_for_leader_epoch;
pub mod produce;
pub mod sync_group;

use kafka_protocol::error::ResponseError;
use riverlog_storage::{LogEnds, LogId, Topic};

use crate::broker::Broker;

/// A partition as the data handlers see it.
#[derive(Clone, Copy)]
struct Partition {
    log: LogId,
    ends: LogEnds,
}

impl Partition {
    /// Finds a partition and checks what the client believes its leader epoch to be; -1 believes nothing.
    fn find(broker: &Broker, topic: &Topic, index: i32, believed_epoch: i32) -> Result<Self, ResponseError> {
        let unknown = ResponseError::UnknownTopicOrPartition;
        let log = *usize::try_from(index)
            .ok()
            .and_then(|index| topic.partitions.get(index))
            .ok_or(unknown)?;
        let ends = broker.storage().ends(log).ok_or(unknown)?;
        match believed_epoch {
            ..=-1 => Ok(Self { log, ends }),
            epoch if epoch < ends.leader_epoch => Err(ResponseError::FencedLeaderEpoch),
            epoch if epoch > ends.leader_epoch => Err(ResponseError::UnknownLeaderEpoch),
            _ => Ok(Self { log, ends }),
        }
    }
}
