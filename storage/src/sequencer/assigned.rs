//! What a log is assigned, published or not.

use crate::batch::BatchHeader;
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
    /// The time of the active segment's first batch, if it has one.
    pub segment_first_ms: Option<i64>,
    pub leader_epoch: i32,
    pub producers: ProducerTable,
    pub fence: Option<String>,
}

impl AssignedLog {
    pub fn roll(&mut self) {
        self.segment_base = self.end;
        self.segment_bytes = 0;
        self.segment_first_ms = None;
    }

    /// Begins a new segment if the batch would make the active one too large, or it is too old. Age is counted
    /// as Kafka does (`LogSegment.timeWaitedForRoll`): from the first batch's time to this one's, by the records' own
    /// clock, and by the wall clock for records that carry no time.
    pub fn make_room(&mut self, header: &BatchHeader, now_ms: i64) {
        let time_ms = Some(header.max_timestamp)
            .filter(|time_ms| *time_ms >= 0)
            .unwrap_or(now_ms);
        let limit = self.config.segment_bytes.min(MAX_SEGMENT_BYTES);
        let too_large = self.segment_bytes + header.size_bytes() as u64 > limit;
        let age_ms = self
            .segment_first_ms
            .map_or(0, |first_ms| time_ms.saturating_sub(first_ms));
        let too_old = u64::try_from(age_ms).is_ok_and(|age_ms| age_ms > self.config.segment_ms);
        let too_far = self.end - self.segment_base + i64::from(header.last_offset_delta) > i64::from(i32::MAX);
        if self.segment_bytes > 0 && (too_large || too_old || too_far) {
            self.roll();
        }
        if self.segment_bytes == 0 {
            self.segment_first_ms = Some(time_ms);
        }
    }
}
