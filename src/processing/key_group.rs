//! Key groups: the unit in which a job's state can be spread over tasks and moved between them.

use crate::broker::partitioner::murmur2;

/// How many a job has unless it says otherwise. Fixed when the job is first started.
pub const DEFAULT_KEY_GROUPS: u16 = 256;

/// The group of a key: murmur2, as Kafka's default partitioner, so that any client can compute it.
pub fn key_group(key: &[u8], groups: u16) -> u16 {
    let positive = murmur2(key) & 0x7fff_ffff;
    u16::try_from(positive % u32::from(groups.max(1))).unwrap_or(0)
}
