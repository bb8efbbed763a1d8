//! A group: write sets that one frame and one sync make durable, and who waits for it.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::LogId;
use crate::batch::{BatchHeader, HEADER_LEN};
use crate::catalog::ControlRecord;
use crate::error::WriteError;
use crate::frame::Part;
use crate::segment::SegmentFile;
use crate::write_set::Receipt;

/// Called once with the outcome of a write set.
pub(crate) type Done = Box<dyn FnOnce(Result<Receipt, WriteError>) + Send>;

/// A batch with its offset: a header of its own, and the payload as it came.
#[derive(Debug)]
pub(crate) struct StampedBatch {
    pub header: BatchHeader,
    pub payload: Bytes,
}

/// Consecutive batches of one log in one segment.
#[derive(Debug)]
pub(crate) struct Run {
    pub part: Part,
    pub batches: Vec<StampedBatch>,
    /// Of a run that went straight to its segment, which the frame then only names.
    pub extent: Option<Extent>,
}

/// Where an extent was written. Each segment has one run at most in a group, so that a new one is emptied once.
#[derive(Debug)]
pub(crate) struct Extent {
    pub file: Arc<SegmentFile>,
    pub crc: u32,
}

/// Somebody who waits for a group: with an outcome that holds if the group becomes durable.
pub(crate) struct Waiter {
    pub done: Done,
    pub outcome: Result<Receipt, WriteError>,
}

/// Write sets that one frame and one sync make durable.
#[derive(Default)]
pub(crate) struct Group {
    pub runs: Vec<Run>,
    pub controls: Vec<ControlRecord>,
    pub waiters: Vec<Waiter>,
    pub bytes: u64,
    /// Where the last run of each log is.
    latest: HashMap<LogId, usize>,
}

impl Run {
    /// Appends the batches as they stand in a segment.
    pub fn copy_to(&self, out: &mut Vec<u8>) {
        for batch in &self.batches {
            out.extend_from_slice(&batch.header.encode());
            out.extend_from_slice(&batch.payload);
        }
    }

    /// The same without a copy of the payloads.
    pub fn pieces(&self) -> impl Iterator<Item = Bytes> {
        let headers: Vec<_> = self.batches.iter().map(|batch| batch.header.encode()).collect();
        let mut headers = Bytes::from(headers.into_flattened());
        let piece = move |batch: &StampedBatch| [headers.split_to(HEADER_LEN), batch.payload.clone()];
        self.batches.iter().flat_map(piece)
    }
}

impl Group {
    /// Adds a batch, to the last run of its log if it stands in the same segment: each log of a group is one write.
    pub(super) fn push(&mut self, part: Part, batch: StampedBatch) {
        self.bytes += u64::from(part.length);
        let latest = self.latest.get(&part.log).and_then(|run| self.runs.get_mut(*run));
        match latest.filter(|latest| latest.part.segment_base == part.segment_base) {
            Some(latest) => {
                latest.part.length += part.length;
                latest.part.last_offset = part.last_offset;
                latest.batches.push(batch);
            }
            None => {
                self.latest.insert(part.log, self.runs.len());
                self.runs.push(Run {
                    part,
                    batches: vec![batch],
                    extent: None,
                });
            }
        }
    }
}
