//! Retention: decides which log starts may move forward. Only whole, sealed segments go.

use crate::LogId;
use crate::state::LogState;
use crate::write_set::{Change, WriteSet};

/// The new start of a log by its settings at a wall-clock time, if it moves. A segment with a timestamp in
/// the future is never too old.
fn new_start(log: &LogState, now_ms: i64) -> Option<i64> {
    if log.fence.is_some() {
        return None;
    }
    let mut total: u64 = log.segments.iter().map(|segment| segment.size_bytes).sum();
    let mut start = None;
    for (segment, next) in log.segments.iter().zip(log.segments.iter().skip(1)) {
        let too_old = log
            .config
            .retention_ms
            .is_some_and(|kept_ms| now_ms.saturating_sub(segment.max_timestamp) > kept_ms);
        let too_much = log
            .config
            .retention_bytes
            .is_some_and(|kept| total - segment.size_bytes >= kept);
        if !too_old && !too_much {
            break;
        }
        total -= segment.size_bytes;
        start = Some(next.base);
    }
    start.filter(|start| *start > log.start)
}

/// One write set for every log whose start moves.
pub(crate) fn plan<'a>(logs: impl Iterator<Item = (&'a LogId, &'a LogState)>, now_ms: i64) -> Vec<WriteSet> {
    logs.filter_map(|(log, state)| {
        let offset = new_start(state, now_ms)?;
        let changes = vec![Change::MoveLogStart { log: *log, offset }];
        Some(WriteSet {
            changes,
            ..WriteSet::default()
        })
    })
    .collect()
}
