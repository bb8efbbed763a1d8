//! The epoch: the unit in which a job commits, and what of it is written down.
//!
//! An epoch is planned: for each input partition a range of offsets is fixed, then exactly that is processed, then
//! everything that came of it is committed in one write set. Its [`Frame`] holds all that was decided from outside (ranges, idle
//! partitions, processing time), so that the run can be repeated to the byte.

use serde::{Deserialize, Serialize};

use super::{log::Fetched, processor::Operator};

/// What one epoch did to one input partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputFrame {
    /// The topic.
    pub topic: String,
    /// Its incarnation: offsets of another one mean nothing here.
    pub topic_id: [u8; 16],
    /// The partition.
    pub partition: u32,
    /// The first offset of the epoch.
    pub from: i64,
    /// One behind the last.
    pub to: i64,
    /// The partition's watermark after the epoch.
    pub watermark_ms: i64,
    /// Whether it was idle, and did not hold the job's watermark back.
    pub idle: bool,
}

/// What a job has done since it was first started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Records read.
    pub read: u64,
    /// Records written to the sinks.
    pub written: u64,
    /// Records that came too late.
    pub late: u64,
    /// Records sent to the dead letters.
    pub dead_letters: u64,
    /// Timers fired.
    pub timers: u64,
}

/// One committed epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frame {
    /// The job.
    pub job: String,
    /// Which start of the job committed it.
    pub incarnation: u64,
    /// Counts the epochs of a job, from 1, without a gap.
    pub epoch: u64,
    /// The wall clock that the epoch went by.
    pub processing_time_ms: i64,
    /// The job's watermark after the epoch.
    pub watermark_ms: i64,
    /// Into how many groups keys are hashed.
    pub key_groups: u16,
    /// The job's operators.
    pub operators: Vec<Operator>,
    /// Every input partition, those that were not read too.
    pub inputs: Vec<InputFrame>,
    /// Totals after the epoch.
    pub counters: Counters,
}

/// What an epoch is to process.
#[derive(Debug, Default)]
pub struct EpochInput {
    /// The wall clock that the epoch goes by.
    pub processing_time_ms: i64,
    /// By number of the input partition, in the order to process.
    pub reads: Vec<(usize, Fetched)>,
    /// Whether it is idle, for every input partition.
    pub idle: Vec<bool>,
}

/// In which order to read partitions: the lowest watermark first, so that none runs ahead further than one epoch's bytes.
pub fn read_order(watermarks_ms: impl IntoIterator<Item = i64>) -> Vec<usize> {
    let mut order: Vec<(i64, usize)> = watermarks_ms
        .into_iter()
        .enumerate()
        .map(|(index, watermark)| (watermark, index))
        .collect();
    order.sort_unstable();
    order.into_iter().map(|(_, index)| index).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::processing::codec;

    #[test]
    fn the_slowest_partition_is_read_first() {
        assert_eq!(read_order([30, 10, 20, 10]), [1, 3, 2, 0]);
    }

    #[test]
    fn the_frame_format_is_pinned() {
        let frame = Frame {
            job: "j".into(),
            incarnation: 1,
            epoch: 2,
            processing_time_ms: 3,
            watermark_ms: -1,
            key_groups: 256,
            operators: vec![Operator {
                name: "w".into(),
                fingerprint: "f".into(),
            }],
            inputs: vec![InputFrame {
                topic: "t".into(),
                topic_id: [7; 16],
                partition: 4,
                from: 5,
                to: 6,
                watermark_ms: 8,
                idle: true,
            }],
            counters: Counters {
                read: 9,
                written: 10,
                late: 11,
                dead_letters: 12,
                timers: 13,
            },
        };
        let bytes = codec::encode(&frame).unwrap();
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            hex,
            "0101000000000000006a010000000000000002000000000000000300000000000000ffffffffffffffff0001\
             0100000000000000010000000000000077010000000000000066\
             010000000000000001000000000000007407070707070707070707070707070707\
             0400000005000000000000000600000000000000080000000000000001\
             09000000000000000a000000000000000b000000000000000c000000000000000d00000000000000"
        );
        assert_eq!(codec::decode::<Frame>(&bytes).unwrap(), frame);
    }
}
