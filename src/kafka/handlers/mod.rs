//! One file for each API: the request was checked and decoded; ask the broker, answer.

pub mod api_versions;
pub mod fetch;
pub mod init_producer_id;
pub mod list_offsets;
pub mod metadata;
pub mod offset_for_leader_epoch;
pub mod produce;

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
