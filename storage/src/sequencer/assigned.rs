//! What a log is assigned, published or not.

use crate::config::LogConfig;
use crate::producers::ProducerTable;

/// Segment files are addressed by 31 bits, as Kafka's are.
const MAX_SEGMENT_BYTES: u64 = i32::MAX as u64;

/// What a log is assigned, published or not.
#[derive(Debug)]
pub(super) struct AssignedLog {
    pub config: LogConfig,
    pub start: i64,
    pub end: i64,
    pub segment_base: i64,
    pub segment_bytes: u64,
    pub segment_opened_ms: u64,
    pub leader_epoch: i32,
    pub producers: ProducerTable,
    pub fence: Option<String>,
}

impl AssignedLog {
    pub fn roll(&mut self, monotonic_ms: u64) {
        self.segment_base = self.end;
        self.segment_bytes = 0;
        self.segment_opened_ms = monotonic_ms;
    }

    /// Begins a new segment if the batch would make the active one too large, or it is too old.
    pub fn make_room(&mut self, batch_bytes: u64, last_offset_delta: i64, monotonic_ms: u64) {
        let limit = self.config.segment_bytes.min(MAX_SEGMENT_BYTES);
        let too_large = self.segment_bytes + batch_bytes > limit;
        let too_old = monotonic_ms.saturating_sub(self.segment_opened_ms) >= self.config.segment_ms;
        let too_far = self.end - self.segment_base + last_offset_delta > i64::from(i32::MAX);
        if self.segment_bytes > 0 && (too_large || too_old || too_far) {
            self.roll(monotonic_ms);
        }
        if self.segment_bytes == 0 {
            self.segment_opened_ms = monotonic_ms;
        }
    }
}
