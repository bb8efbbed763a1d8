//! Retention: decides which log starts may move forward. Only whole segments go. When the active one is to go as well,
//! the start moves to the log's end, and the next batch begins a new segment (as Kafka rolls before it deletes).

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
    let ends = log.segments.iter().skip(1).map(|next| next.base).chain([log.end]);
    for (segment, end) in log.segments.iter().zip(ends) {
        // Records without a time have no age.
        let too_old = log.config.retention_ms.is_some_and(|kept_ms| {
            segment.max_timestamp >= 0 && now_ms.saturating_sub(segment.max_timestamp) > kept_ms
        });
        let too_much = log
            .config
            .retention_bytes
            .is_some_and(|kept| total - segment.size_bytes >= kept);
        if !too_old && !too_much {
            break;
        }
        total -= segment.size_bytes;
        start = Some(end);
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;
    use crate::Step;
    use crate::batch::BatchBuilder;
    use crate::clock::{Clock, ManualClock};
    use crate::disk::SimulatedDisk;
    use crate::engine::Engine;
    use crate::options::Options;
    use crate::record::Record;
    use crate::write_set::{Append, Receipt};

    struct Fixture {
        disk: SimulatedDisk,
        clock: Arc<ManualClock>,
        engine: Engine,
    }

    impl Fixture {
        fn new() -> Self {
            let (disk, clock) = (SimulatedDisk::new(1), Arc::new(ManualClock::new(1_700_000_000_000)));
            let engine = Engine::open(Arc::new(disk.clone()), clock.clone(), Options::new("/data")).unwrap();
            Self { disk, clock, engine }
        }

        fn restart(self) -> Self {
            drop(self.engine);
            let disk = self.disk.restart();
            let engine = Engine::open(Arc::new(disk.clone()), self.clock.clone(), Options::new("/data")).unwrap();
            Self {
                disk,
                clock: self.clock,
                engine,
            }
        }

        fn settle(&self) {
            while self.engine.commit_step() != Step::Idle {}
        }

        fn write(&self, ws: WriteSet) -> Receipt {
            let answer = Arc::new(Mutex::new(None));
            let slot = answer.clone();
            self.engine.submit(ws, move |outcome| *slot.lock() = Some(outcome));
            self.settle();
            answer.lock().take().unwrap().unwrap()
        }

        fn topic(&self, config: (&str, &str)) -> LogId {
            let configs = [(config.0.to_owned(), config.1.to_owned())].into();
            let (name, partitions) = ("t".to_owned(), 1);
            let changes = vec![Change::CreateTopic {
                name,
                partitions,
                configs,
            }];
            let created = self
                .write(WriteSet {
                    changes,
                    ..WriteSet::default()
                })
                .created
                .unwrap();
            *created.partitions.first().unwrap()
        }

        fn append(&self, log: LogId, timestamp_ms: i64) {
            let mut builder = BatchBuilder::new();
            builder.push(Record {
                timestamp_ms,
                value: Some("v".into()),
                ..Record::default()
            });
            let append = Append {
                log,
                batches: builder.build().unwrap(),
                log_append_time: false,
            };
            self.write(WriteSet {
                appends: vec![append],
                ..WriteSet::default()
            });
        }

        fn segment_bases(&self, log: LogId) -> Vec<i64> {
            let state = self.engine.shared.state.read();
            state
                .logs
                .get(&log)
                .unwrap()
                .segments
                .iter()
                .map(|segment| segment.base)
                .collect()
        }
    }

    #[test]
    fn an_expired_active_segment_goes_as_well() {
        let fixture = Fixture::new();
        let log = fixture.topic(("retention.ms", "1000"));
        fixture.append(log, fixture.clock.now_ms());
        fixture.clock.advance_ms(1000);
        assert_eq!(fixture.engine.retention_step(), 0, "not yet");
        fixture.clock.advance_ms(1);
        assert_eq!(fixture.engine.retention_step(), 1);
        fixture.settle();
        let ends = fixture.engine.ends(log).unwrap();
        assert_eq!((ends.start, ends.high_watermark), (1, 1));
        fixture.append(log, fixture.clock.now_ms());
        assert_eq!(fixture.segment_bases(log), [1]);
        let fixture = fixture.restart();
        let ends = fixture.engine.ends(log).unwrap();
        assert_eq!((ends.start, ends.high_watermark), (1, 2));
        assert_eq!(fixture.engine.retention_step(), 0);
    }

    #[test]
    fn records_without_a_time_or_with_one_to_come_stay() {
        let fixture = Fixture::new();
        let log = fixture.topic(("retention.ms", "1000"));
        fixture.append(log, -1);
        assert_eq!(fixture.engine.retention_step(), 0);
        fixture.append(log, fixture.clock.now_ms() + 500_000);
        fixture.clock.advance_ms(100_000);
        assert_eq!(fixture.engine.retention_step(), 0);
    }

    #[test]
    fn a_segments_age_counts_on_after_a_start() {
        let fixture = Fixture::new();
        let log = fixture.topic(("segment.ms", "1000"));
        let begun_ms = fixture.clock.now_ms();
        fixture.append(log, begun_ms);
        // Once from the journal, and once from the segment, when a checkpoint covers it.
        let fixture = fixture.restart().restart();
        fixture.append(log, begun_ms + 1000);
        assert_eq!(fixture.segment_bases(log), [0]);
        fixture.append(log, begun_ms + 1001);
        assert_eq!(fixture.segment_bases(log), [0, 2]);
        fixture.append(log, begun_ms);
        assert_eq!(fixture.segment_bases(log), [0, 2]);
    }
}
