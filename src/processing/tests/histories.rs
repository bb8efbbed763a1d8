//! Random histories of a job: any order of records, any moment of a crash, a take-over or a refused commit; and the proof that
//! they would find bugs.

use proptest::prelude::*;

use super::*;
use crate::processing::{planted, state_log};

/// What happens to the job between two records.
#[derive(Clone, Debug)]
enum Fate {
    Run,
    Step(u8),
    Hold,
    Release,
    Refuse,
    Crash,
    TakeOver,
}

/// An event (time, key, amount, partition), and what happens to the job after it.
type Event = (i64, u8, u64, u32, Fate);

fn events() -> impl Strategy<Value = Vec<Event>> {
    let fates = prop_oneof![
        4 => Just(Fate::Run),
        4 => (1u8..5).prop_map(Fate::Step),
        2 => Just(Fate::Hold),
        2 => Just(Fate::Release),
        2 => Just(Fate::Crash),
        1 => Just(Fate::Refuse),
        1 => Just(Fate::TakeOver),
    ];
    // Times rise by up to two minutes an event, with a disorder of up to ten.
    let event = (0i64..600_000, 0u8..4, 0u64..100, 0u32..3, fates);
    prop::collection::vec(event, 1..120).prop_map(|events| {
        let rising = events.into_iter().enumerate();
        rising
            .map(|(index, (time, key, amount, partition, fate))| {
                (time + index as i64 * 60_000, key, amount, partition, fate)
            })
            .collect()
    })
}

fn tight_options() -> impl Strategy<Value = JobOptions> {
    (1usize..2_000, 1usize..2_000, 200usize..3_000).prop_map(
        |(epoch_input_bytes, output_yield_bytes, snapshot_after_bytes)| JobOptions {
            epoch_input_bytes,
            output_yield_bytes,
            snapshot_after_bytes,
            output_partitions: Some(2),
            ..options()
        },
    )
}

/// Runs a history, and says what is wrong with what came of it.
fn check_history(events: &[Event], options: JobOptions) -> Result<(), String> {
    let to_text = |error: JobError| error.to_string();
    let mut driver = TestDriver::with_partitions(sums(600_000, options), 3).map_err(to_text)?;
    let mut expected: BTreeMap<String, u64> = BTreeMap::new();
    let mut bad = Vec::new();
    for (index, (time, key, amount, partition, fate)) in events.iter().enumerate() {
        let value = match amount % 8 {
            0 => {
                bad.push(format!("bad{index}"));
                format!("bad{index}")
            }
            _ => {
                *expected.entry(format!("{key} {}", time / MINUTE_MS)).or_default() += amount;
                format!("{key} {amount}")
            }
        };
        driver.log().append("in", *partition, record(*time, &value)).unwrap();
        let done = match fate {
            Fate::Run => driver.run(),
            Fate::Step(steps) => (0..*steps).try_for_each(|_| driver.step().map(drop)),
            Fate::Hold => {
                driver.log().hold_commits(true);
                driver.run()
            }
            Fate::Release => {
                driver.log().hold_commits(false);
                driver.log().release();
                Ok(())
            }
            Fate::Refuse => {
                driver.log().refuse_next_commit();
                driver.run()
            }
            Fate::Crash => driver.crash(),
            Fate::TakeOver => driver.take_over(),
        };
        // As the thread of a running job does: start again from what is committed.
        done.or_else(|error| {
            if error.is_retriable() {
                driver.take_over()
            } else {
                Err(error)
            }
        })
        .map_err(to_text)?;
    }
    driver.log().hold_commits(false);
    driver.crash().map_err(to_text)?;
    for partition in 0..3 {
        driver.log().append("in", partition, record(100_000_000, "!")).unwrap();
    }
    let done = driver.run();
    let retried = done.or_else(|error| {
        if error.is_retriable() {
            driver.crash()
        } else {
            Err(error)
        }
    });
    retried.and_then(|()| driver.run()).map_err(to_text)?;
    let written = expected.len() as u64;
    let expected = expected.into_iter().map(|(at, sum)| format!("{at} {sum}")).collect();
    let buried = bad.len() as u64;
    for (topic, mut expected) in [("out", expected), ("sums.dead-letter", bad)] {
        let mut found = texts(&driver.take(topic));
        found.sort();
        expected.sort();
        if found != expected {
            return Err(format!("{topic}: found {found:?}, expected {expected:?}"));
        }
    }
    let counters = driver.committed().unwrap().counters;
    let counted = (counters.read, counters.written, counters.late, counters.dead_letters);
    match counted == (events.len() as u64 + 3, written, 0, buried) {
        true => Ok(()),
        false => Err(format!("counters are off: {counters:?}")),
    }
}

#[test]
fn every_planted_bug_is_found() {
    use planted::Bug;
    use proptest::{strategy::ValueTree, test_runner::TestRunner};
    let bugs = [
        Bug::DropState,
        Bug::DropTimers,
        Bug::FiredTimersStay,
        Bug::CommitAhead,
        Bug::DeltasBehindSnapshotOnly,
        Bug::NoFence,
        Bug::PositionAhead,
    ];
    let mut missed = Vec::new();
    for bug in bugs {
        planted::plant(Some(bug));
        let mut runner = TestRunner::deterministic();
        let found = (0..500).find_map(|_| {
            let history = (events(), tight_options()).new_tree(&mut runner).unwrap().current();
            check_history(&history.0, history.1).err()
        });
        planted::plant(None);
        if found.is_none() {
            missed.push(bug);
        }
    }
    assert!(missed.is_empty(), "not found: {missed:?}");
}

/// Restoring without the partitions' watermarks, the next record alone would decide what is late.
#[test]
fn watermarks_are_restored_and_forgetting_them_is_found() {
    let late_after_crash = || {
        let mut driver = TestDriver::with_partitions(sums(0, options()), 2).unwrap();
        driver.log().append("in", 0, record(100_000, "a 1")).unwrap();
        driver.log().append("in", 1, record(200_000, "a 1")).unwrap();
        driver.run().unwrap();
        driver.crash().unwrap();
        driver.pipe("in", record(300_000, "a 1")).unwrap();
        driver.pipe("in", record(150_000, "a 9")).unwrap();
        driver.committed().unwrap().counters.late
    };
    assert_eq!(late_after_crash(), 1);
    planted::plant(Some(planted::Bug::ForgetWatermarks));
    let without = late_after_crash();
    planted::plant(None);
    assert_eq!(without, 0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Records in any order within the disorder, over several partitions, with crashes and take-overs at any moment,
    /// commits lost and commits answered late: every window is there once, with exactly its records.
    #[test]
    fn output_is_the_batch_answer_exactly_once(events in events(), options in tight_options()) {
        let checked = check_history(&events, options);
        prop_assert!(checked.is_ok(), "{}", checked.unwrap_err());
    }

    /// Arbitrary records in a state log are refused, never a panic.
    #[test]
    fn arbitrary_state_logs_do_not_abort(records in prop::collection::vec((0usize..6, any::<Vec<u8>>()), 0..20)) {
        let kinds = ["state", "timers", "frame", "chunk", "snapshot", "other"];
        let records: Vec<_> = records.into_iter().enumerate().map(|(offset, (kind, value))| StoredRecord {
            offset: offset as i64,
            timestamp_ms: 0,
            key: Some(kinds[kind].into()),
            value: Some([&[codec::FORMAT][..], &value].concat().into()),
            headers: vec![],
        }).collect();
        let _ = state_log::replay(&records, "j");
    }
}
