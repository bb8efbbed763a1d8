//! A group: write sets that one frame and one sync make durable, and who waits for it.

use bytes::Bytes;

use crate::batch::BatchHeader;
use crate::catalog::ControlRecord;
use crate::error::WriteError;
use crate::frame::Part;
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
}

impl Group {
    /// Adds a batch, to the last run if it continues that.
    pub(super) fn push(&mut self, part: Part, batch: StampedBatch) {
        self.bytes += u64::from(part.length);
        let last = self
            .runs
            .last_mut()
            .filter(|last| last.part.log == part.log && last.part.segment_base == part.segment_base);
        match last {
            Some(last) => {
                last.part.length += part.length;
                last.part.last_offset = part.last_offset;
                last.batches.push(batch);
            }
            None => self.runs.push(Run {
                part,
                batches: vec![batch],
            }),
        }
    }
}
