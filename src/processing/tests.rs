//! The engine as a whole, on the log in memory: exactly once through crashes, whatever the order of its input.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::expect_used)]

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use proptest::prelude::*;
use riverlog_storage::clock::ManualClock;

use super::{
    log::Log,
    runner::Step,
    testing::{MemoryLog, TestDriver},
    window::Windowed,
    *,
};

const MINUTE_MS: i64 = 60_000;

/// An event: `key amount`, at the record's timestamp. `!` is a punctuation.
#[derive(Debug)]
struct Amount {
    key: String,
    amount: u64,
}

fn decode(record: &StoredRecord) -> Result<Decoded<Amount>, String> {
    let text = String::from_utf8_lossy(record.value.as_deref().unwrap_or_default()).into_owned();
    if text == "!" {
        return Ok(Decoded::Watermark(record.timestamp_ms));
    }
    let (key, amount) = text.split_once(' ').ok_or("two words are expected")?;
    let amount = amount.parse().map_err(|e| format!("'{amount}' is no amount: {e}"))?;
    Ok(Amount {
        key: key.into(),
        amount,
    }
    .into())
}

fn record(timestamp_ms: i64, value: &str) -> Record {
    Record {
        key: None,
        value: Some(value.to_owned().into()),
        headers: vec![],
        timestamp_ms,
    }
}

fn text(record: &StoredRecord) -> String {
    String::from_utf8(record.value.clone().unwrap().to_vec()).unwrap()
}

fn texts(records: &[StoredRecord]) -> Vec<String> {
    records.iter().map(text).collect()
}

fn options() -> JobOptions {
    JobOptions {
        idle_timeout: Some(Duration::from_secs(5)),
        ..JobOptions::default()
    }
}

fn inputs(max_disorder_ms: u64) -> job::Keyed<Amount> {
    JobBuilder::new("sums")
        .source(Source::new("in", decode).max_disorder(Duration::from_millis(max_disorder_ms)))
        .key_by(|event: &Amount| event.key.clone())
}

/// Sums by key and minute; writes `key minute sum`.
fn sums(max_disorder_ms: u64, options: JobOptions) -> Job<impl Processor<Event = Amount>> {
    inputs(max_disorder_ms)
        .window(Windows::tumbling(Duration::from_secs(60)))
        .aggregate(|sum: &mut u64, event: &Amount| *sum += event.amount, write_sum)
        .sink("out")
        .late_topic("late")
        .options(options)
}

fn write_sum(window: Window, sum: u64, ctx: &mut Context<'_>) -> Result<(), ProcessError> {
    let value = format!("{} {} {sum}", ctx.key_text(), window.start_ms / MINUTE_MS);
    ctx.emit(Record {
        key: Some(ctx.key().clone()),
        ..record(window.start_ms, &value)
    })
}

#[test]
fn a_window_is_written_once_when_the_watermark_passes_its_end() {
    let mut driver = TestDriver::new(sums(1_000, options())).unwrap();
    driver.pipe("in", record(10_000, "a 1")).unwrap();
    driver.pipe("in", record(59_999, "a 2")).unwrap();
    driver.pipe("in", record(60_999, "a 7")).unwrap();
    assert_eq!(
        texts(&driver.take("out")),
        [""; 0],
        "a record of the first minute may still come"
    );
    driver.pipe("in", record(59_999, "a 4")).unwrap();
    driver.pipe("in", record(61_000, "b 1")).unwrap();
    assert_eq!(texts(&driver.take("out")), ["a 0 7"]);
    driver.pipe("in", record(500_000, "!")).unwrap();
    assert_eq!(texts(&driver.take("out")), ["a 1 7", "b 1 1"]);
    assert_eq!(driver.committed().unwrap().counters.late, 0);
}

#[test]
fn late_records_are_counted_and_kept_and_grace_is_granted() {
    let mut driver = TestDriver::new(sums(0, options())).unwrap();
    for (time, value) in [(1_000, "a 1"), (60_000, "b 1"), (59_000, "a 2")] {
        driver.pipe("in", record(time, value)).unwrap();
    }
    assert_eq!(texts(&driver.take("out")), ["a 0 1"]);
    let late = driver.take("late");
    assert_eq!(texts(&late), ["a 2"]);
    assert!(
        late[0]
            .headers
            .iter()
            .any(|(k, v)| k == dead_letter::SOURCE_OFFSET && v.as_deref() == Some(b"2"))
    );
    assert_eq!(driver.committed().unwrap().counters.late, 1);

    let graceful = inputs(0)
        .window(Windows::tumbling(Duration::from_secs(60)))
        .grace(Duration::from_secs(10))
        .aggregate(|sum: &mut u64, event: &Amount| *sum += event.amount, write_sum)
        .sink("out");
    let mut driver = TestDriver::new(graceful).unwrap();
    for (time, value) in [
        (1_000, "a 1"),
        (60_000, "b 1"),
        (59_000, "a 2"),
        (70_000, "b 1"),
        (59_000, "a 4"),
    ] {
        driver.pipe("in", record(time, value)).unwrap();
    }
    assert_eq!(texts(&driver.take("out")), ["a 0 3"]);
    assert_eq!(driver.committed().unwrap().counters.late, 1);
}

#[test]
fn an_idle_partition_does_not_hold_the_watermark_back() {
    let mut driver = TestDriver::with_partitions(sums(0, options()), 2).unwrap();
    driver.run().unwrap();
    driver.pipe("in", record(1_000, "a 1")).unwrap();
    driver.pipe("in", record(60_000, "a 1")).unwrap();
    assert_eq!(driver.take("out").len(), 0, "partition 1 may hold earlier records");
    driver.advance(Duration::from_millis(4_999)).unwrap();
    driver.pipe("in", record(60_001, "a 1")).unwrap();
    assert_eq!(driver.take("out").len(), 0);
    assert_eq!(driver.step().unwrap(), Step::Waiting(Some(Duration::from_millis(1))));
    driver.advance(Duration::from_millis(1)).unwrap();
    assert_eq!(texts(&driver.take("out")), ["a 0 1"]);
    let watermark = driver.committed().unwrap().watermark_ms;
    driver.advance(Duration::from_secs(100)).unwrap();
    assert_eq!(
        driver.committed().unwrap().watermark_ms,
        watermark,
        "all idle: it stands"
    );
}

#[test]
fn bad_records_go_to_the_dead_letters_and_the_job_goes_on() {
    let mut driver = TestDriver::new(sums(0, options())).unwrap();
    for (time, value) in [(1, "a 1"), (2, "nonsense"), (3, "a x"), (4, "a 2"), (60_000, "!")] {
        driver.pipe("in", record(time, value)).unwrap();
    }
    assert_eq!(texts(&driver.take("out")), ["a 0 3"]);
    let dead = driver.take("sums.dead-letter");
    assert_eq!(texts(&dead), ["nonsense", "a x"]);
    let header = |record: &StoredRecord, name: &str| {
        let value = record
            .headers
            .iter()
            .find(|(k, _)| k == name)
            .and_then(|(_, v)| v.clone())
            .unwrap();
        String::from_utf8(value.to_vec()).unwrap()
    };
    assert_eq!(header(&dead[0], dead_letter::REASON), "two words are expected");
    assert_eq!(header(&dead[1], dead_letter::SOURCE_TOPIC), "in");
    assert_eq!(header(&dead[1], dead_letter::SOURCE_PARTITION), "0");
    assert_eq!(header(&dead[1], dead_letter::SOURCE_OFFSET), "2");
    let counters = driver.committed().unwrap().counters;
    assert_eq!((counters.read, counters.dead_letters, counters.written), (5, 2, 1));
}

#[test]
fn an_output_record_that_is_too_large_is_a_dead_letter() {
    let log = Arc::new(MemoryLog::default());
    log.create_topic("in", 1);
    log.set_max_batch_bytes("out", 120);
    let job = inputs(0)
        .window(Windows::tumbling(Duration::from_secs(60)))
        .aggregate(
            |sum: &mut u64, event: &Amount| *sum += event.amount,
            |window, sum, ctx| ctx.emit(record(window.start_ms, &"x".repeat(sum as usize))),
        )
        .sink("out");
    let mut driver = TestDriver::on(log, Arc::default(), job).unwrap();
    for (time, value) in [(1, "a 1"), (2, "b 1000"), (60_000, "!")] {
        driver.pipe("in", record(time, value)).unwrap();
    }
    assert_eq!(texts(&driver.take("out")), ["x"]);
    let dead = driver.take("sums.dead-letter");
    assert_eq!(texts(&dead), ["x".repeat(1000)]);
    assert!(
        dead[0]
            .headers
            .iter()
            .any(|(k, v)| k == dead_letter::OUTPUT_TOPIC && v.as_deref() == Some(b"out"))
    );
}

/// Counts per key; every third amount is rejected after the state was changed; timers in both times.
struct Probe;

const COUNT: ValueState<u64> = ValueState::new("count");
const SEEN: MapState<i64, u64> = MapState::new("seen");

impl Processor for Probe {
    type Event = Amount;

    fn process(&self, event: Amount, ctx: &mut Context<'_>) -> Result<(), ProcessError> {
        let count = COUNT.get(ctx)?.unwrap_or(0) + 1;
        COUNT.put(ctx, &count)?;
        let time_ms = ctx.time_ms();
        SEEN.put(ctx, &time_ms, &event.amount)?;
        ctx.set_timer(TimerKind::Event, "event", time_ms + 100, b"e");
        let due_ms = ctx.processing_time_ms() + 50;
        ctx.set_timer(TimerKind::Processing, "wall", due_ms, &[]);
        ctx.emit(record(time_ms, &format!("{} {count}", ctx.key_text())))?;
        match event.amount {
            3 => Err(ProcessError::Reject("three".into())),
            13 => Err(ProcessError::Fatal("thirteen".into())),
            _ => Ok(()),
        }
    }

    fn on_timer(&self, timer: &Timer, ctx: &mut Context<'_>) -> Result<(), ProcessError> {
        let seen: Vec<_> = SEEN.range(ctx, ..)?.into_iter().map(|(time, _)| time).collect();
        ctx.emit(record(
            timer.at_ms,
            &format!("{} fires for {} {seen:?}", timer.name, ctx.key_text()),
        ))
    }

    fn operators(&self) -> Vec<Operator> {
        vec![Operator {
            name: "probe".into(),
            fingerprint: "1".into(),
        }]
    }
}

#[test]
fn a_rejected_record_changes_nothing() {
    let mut driver = TestDriver::new(inputs(0).process(Probe).sink("out").options(options())).unwrap();
    for (time, value) in [(1, "a 1"), (2, "a 3"), (3, "a 5")] {
        driver.pipe("in", record(time, value)).unwrap();
    }
    assert_eq!(texts(&driver.take("out")), ["a 1", "a 2"]);
    assert_eq!(texts(&driver.take("sums.dead-letter")), ["a 3"]);
    driver.pipe("in", record(1_000, "!")).unwrap();
    assert_eq!(
        texts(&driver.take("out")),
        ["event fires for a [1, 3]"; 2],
        "the rejected record's timer is gone too"
    );
}

#[test]
fn timers_do_not_fire_twice_and_those_due_while_down_fire_once() {
    let mut driver = TestDriver::new(inputs(0).process(Probe).sink("out").options(options())).unwrap();
    driver.pipe("in", record(1_000, "a 1")).unwrap();
    driver.take("out");
    driver.clock().advance_ms(500);
    driver.crash().unwrap();
    driver.run().unwrap();
    assert_eq!(texts(&driver.take("out")), ["wall fires for a [1000]"]);
    driver.pipe("in", record(2_000, "!")).unwrap();
    assert_eq!(texts(&driver.take("out")), ["event fires for a [1000]"]);
    for _ in 0..3 {
        driver.crash().unwrap();
        driver.advance(Duration::from_secs(10)).unwrap();
        assert_eq!(driver.take("out").len(), 0);
    }
    assert_eq!(driver.committed().unwrap().counters.timers, 2);
}

#[test]
fn a_fatal_error_stops_the_job_and_names_the_record() {
    let mut driver = TestDriver::new(inputs(0).process(Probe).sink("out").options(options())).unwrap();
    let error = driver.pipe("in", record(1, "a 13")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "job 'sums' failed: record in/0 at offset 0: thirteen"
    );
}

#[test]
fn a_zombie_cannot_commit() {
    let log = Arc::new(MemoryLog::default());
    log.create_topic("in", 1);
    let clock = Arc::new(ManualClock::new(0));
    let mut zombie = TestDriver::on(Arc::clone(&log), Arc::clone(&clock), sums(0, options())).unwrap();
    log.append("in", 0, record(1, "a 1")).unwrap();
    log.hold_commits(true);
    zombie.run().unwrap();
    // The zombie's commit is on its way when the job is started elsewhere.
    let mut heir = TestDriver::on(Arc::clone(&log), clock, sums(0, options())).unwrap();
    log.hold_commits(false);
    log.release();
    let error = zombie.run().unwrap_err();
    assert!(
        error.to_string().contains("another instance of the job has taken over"),
        "{error}"
    );
    assert!(
        !error.is_retriable(),
        "two instances must not take the job from each other for ever"
    );
    heir.pipe("in", record(60_000, "!")).unwrap();
    assert_eq!(texts(&heir.take("out")), ["a 0 1"]);
    assert_eq!(log.committed_offset("sums", "in", 0), Some(2));
}

#[test]
fn lost_input_stops_the_job_or_is_passed_over() {
    let lost = |break_it: &dyn Fn(&MemoryLog), options: JobOptions| {
        let mut driver = TestDriver::new(sums(0, options)).unwrap();
        driver.pipe("in", record(1, "a 1")).unwrap();
        for _ in 0..3 {
            driver.log().append("in", 0, record(2, "a 1")).unwrap();
        }
        break_it(driver.log());
        let result = driver.crash().and_then(|()| driver.pipe("in", record(60_000, "!")));
        result
            .map(|()| texts(&driver.take("out")))
            .map_err(|error| error.to_string())
    };
    let retention = |log: &MemoryLog| log.delete_records("in", 0, 3);
    let recreation = |log: &MemoryLog| {
        log.delete_topic("in");
        log.create_topic("in", 1);
        log.append("in", 0, record(1, "b 1")).unwrap();
    };
    let deletion = |log: &MemoryLog| log.delete_topic("in");
    let error = lost(&retention, options()).unwrap_err();
    assert!(
        error.contains("offset 1 of input in/0 is gone: the partition holds 3 to"),
        "{error}"
    );
    assert!(
        lost(&recreation, options())
            .unwrap_err()
            .contains("deleted and created again")
    );
    assert!(lost(&deletion, options()).unwrap_err().contains("does not exist"));
    let lenient = || JobOptions {
        on_lost_input: OnLostInput::Earliest,
        ..options()
    };
    assert_eq!(lost(&retention, lenient()).unwrap(), ["a 0 2"]);
    assert_eq!(lost(&recreation, lenient()).unwrap(), ["a 0 1", "b 0 1"]);
}

#[test]
fn partitions_that_a_recreated_topic_no_longer_has_are_let_go() {
    let recreate = |log: &MemoryLog, partitions: u32| {
        log.delete_topic("in");
        log.create_topic("in", partitions);
    };
    for restart in [false, true] {
        let lenient = JobOptions {
            on_lost_input: OnLostInput::Earliest,
            idle_timeout: None,
            ..options()
        };
        let mut driver = TestDriver::with_partitions(sums(0, lenient), 3).unwrap();
        for partition in 0..3 {
            driver.log().append("in", partition, record(1, "a 1")).unwrap();
        }
        driver.run().unwrap();
        recreate(driver.log(), 1);
        if restart {
            driver.crash().unwrap();
        }
        driver.pipe("in", record(2, "a 10")).unwrap();
        // Nothing that is gone holds the watermark back, though no partition ever counts as idle.
        driver.pipe("in", record(60_000, "!")).unwrap();
        assert_eq!(texts(&driver.take("out")), ["a 0 13"], "restart: {restart}");
        let inputs = &driver.committed().unwrap().inputs;
        assert_eq!(
            inputs
                .iter()
                .map(|input| (input.partition, input.to))
                .collect::<Vec<_>>(),
            [(0, 2)]
        );

        // More partitions again: those are new ones, read from their beginning.
        recreate(driver.log(), 2);
        if restart {
            driver.crash().unwrap();
        }
        driver.log().append("in", 1, record(60_001, "b 1")).unwrap();
        driver.log().append("in", 1, record(120_000, "!")).unwrap();
        driver.pipe("in", record(120_000, "!")).unwrap();
        assert_eq!(texts(&driver.take("out")), ["b 1 1"], "restart: {restart}");
    }
}

#[test]
fn a_changed_job_is_refused_with_the_operator_named() {
    let log = Arc::new(MemoryLog::default());
    log.create_topic("in", 1);
    let mut driver = TestDriver::on(Arc::clone(&log), Arc::default(), sums(0, options())).unwrap();
    driver.run().unwrap();
    let changed = inputs(0).process(Probe).sink("out");
    let error = TestDriver::on(log, Arc::default(), changed).err().unwrap().to_string();
    assert!(error.contains("operator 'window' was 'window size 60000 ms"), "{error}");
    assert!(error.contains("and is not there"), "{error}");
}

#[test]
fn definitions_that_cannot_work_are_refused() {
    let refused = |job: Job<Windowed<_, _, _, _>>| TestDriver::new(job).err().unwrap().to_string();
    let job = |name: &str| {
        JobBuilder::new(name)
            .source(Source::new("in", decode))
            .key_by(|event: &Amount| event.key.clone())
            .window(Windows::tumbling(Duration::from_secs(60)))
            .aggregate(|sum: &mut u64, event: &Amount| *sum += event.amount, write_sum)
    };
    assert!(refused(job("a/b")).contains("its name holds '/'"));
    assert!(refused(job("")).contains("1 to 200 characters"));
    assert!(refused(job("j").sink("in")).contains("read what it writes"));
    assert!(refused(job("j").sink("out").sink("out")).contains("output twice"));
    let missing = TestDriver::on(Arc::default(), Arc::default(), job("j")).err().unwrap();
    assert_eq!(
        missing.to_string(),
        "job 'j' reads topic 'in', which does not exist: create it first"
    );
}

#[test]
fn output_above_the_yield_is_spread_over_epochs_and_above_the_limit_stops() {
    let yielding = JobOptions {
        output_yield_bytes: 300,
        ..options()
    };
    let mut driver = TestDriver::new(sums(0, yielding)).unwrap();
    for key in 0..20 {
        driver
            .log()
            .append("in", 0, record(1, &format!("k{key:02} 1")))
            .unwrap();
    }
    driver.run().unwrap();
    let epochs = driver.committed().unwrap().epoch;
    driver.pipe("in", record(60_000, "!")).unwrap();
    let expected: Vec<_> = (0..20).map(|key| format!("k{key:02} 0 1")).collect();
    assert_eq!(texts(&driver.take("out")), expected);
    assert!(
        driver.committed().unwrap().epoch >= epochs + 5,
        "each epoch takes what fits"
    );

    let limited = JobOptions {
        output_limit_bytes: 50,
        ..options()
    };
    let mut driver = TestDriver::new(sums(0, limited)).unwrap();
    driver.pipe("in", record(1, "a 1")).unwrap();
    let error = driver.pipe("in", record(60_000, "!")).unwrap_err().to_string();
    assert!(error.contains("operator 'window' at key 'a'"), "{error}");

    let small = JobOptions {
        state_limit_bytes: 500,
        ..options()
    };
    let mut driver = TestDriver::new(sums(0, small)).unwrap();
    let error = (0..100)
        .find_map(|key| driver.pipe("in", record(1, &format!("k{key} 1"))).err())
        .unwrap();
    assert!(error.to_string().contains("state_limit_bytes = 500"), "{error}");
}

#[test]
fn snapshots_shorten_the_log_and_restore_the_same() {
    let small = JobOptions {
        snapshot_after_bytes: 4_000,
        ..options()
    };
    let mut driver = TestDriver::new(sums(0, small)).unwrap();
    for round in 0..200 {
        driver
            .pipe("in", record(1, &format!("k{} {round}", round % 7)))
            .unwrap();
        if round % 17 == 0 {
            driver.crash().unwrap();
        }
    }
    let state = driver.log().records("__job_state.sums");
    assert!(
        state.first().unwrap().offset > 100,
        "old deltas are gone: {}",
        state.first().unwrap().offset
    );
    assert!(state.len() < 60, "{}", state.len());
    driver.pipe("in", record(60_000, "!")).unwrap();
    let mut expected: BTreeMap<u64, u64> = BTreeMap::new();
    (0..200).for_each(|round| *expected.entry(round % 7).or_default() += round);
    let expected: Vec<_> = expected
        .into_iter()
        .map(|(key, sum)| format!("k{key} 0 {sum}"))
        .collect();
    assert_eq!(texts(&driver.take("out")), expected);
}

/// Does nothing but set a large timer for each record.
struct Alarms;

impl Processor for Alarms {
    type Event = Amount;

    fn process(&self, event: Amount, ctx: &mut Context<'_>) -> Result<(), ProcessError> {
        ctx.set_timer(TimerKind::Event, "alarm", event.amount as i64, &[7; 1 << 20]);
        Ok(())
    }

    fn on_timer(&self, _: &Timer, _: &mut Context<'_>) -> Result<(), ProcessError> {
        Ok(())
    }

    fn operators(&self) -> Vec<Operator> {
        vec![]
    }
}

#[test]
fn changes_of_timers_are_spread_over_epochs() {
    let options = JobOptions {
        snapshot_after_bytes: 1 << 30,
        ..options()
    };
    let mut driver = TestDriver::new(inputs(0).process(Alarms).sink("out").options(options)).unwrap();
    for index in 0..30 {
        let alarm = record(1, &format!("k {}", 1_000 + index));
        driver.log().append("in", 0, alarm).unwrap();
    }
    driver.run().unwrap();
    let set = driver.committed().unwrap().epoch;
    driver.pipe("in", record(60_000, "!")).unwrap();
    let fired = driver.committed().unwrap();
    assert_eq!(fired.counters.timers, 30);
    assert!(set >= 3 && fired.epoch >= set + 3, "{set} and {} epochs", fired.epoch);
    let mut delta_bytes = 0;
    for record in driver.log().records("__job_state.sums") {
        delta_bytes += record.value.as_ref().unwrap().len();
        assert!(delta_bytes < 16 << 20, "a delta of {delta_bytes} bytes or more");
        if record.key.as_deref() == Some(b"frame") {
            delta_bytes = 0;
        }
    }
}

#[test]
fn timers_fire_although_every_epoch_is_full() {
    let yielding = JobOptions {
        output_yield_bytes: 1,
        ..options()
    };
    let mut driver = TestDriver::new(inputs(0).process(Probe).sink("out").options(yielding)).unwrap();
    for time in 0..50 {
        driver.log().append("in", 0, record(time * 100, "a 1")).unwrap();
    }
    for _ in 0..60 {
        driver.step().unwrap();
    }
    let fired = driver
        .take("out")
        .iter()
        .filter(|record| text(record).starts_with("event"))
        .count();
    assert!(fired > 10, "{fired} timers fired");
    assert!(driver.committed().unwrap().inputs[0].to < 50, "there is a backlog");
}

/// The rule of the house: all that the engine knows of a log stands in `log.rs`; the broker is behind `broker_log.rs`.
#[test]
fn the_engine_knows_the_log_by_one_trait() {
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/processing");
    let mut seen = 0;
    for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        // The simulation runs jobs on the broker's storage.
        if !name.ends_with(".rs") || ["broker_log.rs", "tests.rs", "simulation.rs"].contains(&&*name) {
            continue;
        }
        seen += 1;
        let text = std::fs::read_to_string(entry.path())
            .unwrap()
            .replace("broker::partitioner", "");
        for foreign in [
            "broker::",
            "riverlog_storage::Storage",
            "crate::kafka",
            "crate::http",
            "tokio::net",
        ] {
            assert!(!text.contains(foreign), "{name} knows {foreign}");
        }
    }
    assert!(seen > 15);
}

static RATES: Table<u64> = Table::new("rates", Duration::from_secs(600));

#[test]
fn a_table_is_joined_as_of_event_time() {
    #[derive(Debug)]
    enum Event {
        Rate(u64),
        Order(u64),
    }
    let decode_to = |make: fn(u64) -> Event| {
        move |record: &StoredRecord| match decode(record)? {
            Decoded::Event(amount) => Ok(Decoded::Event(make(amount.amount))),
            Decoded::Watermark(at) => Ok(Decoded::Watermark(at)),
            Decoded::Skip => Ok(Decoded::Skip),
        }
    };
    let job = JobBuilder::new("joined")
        .source(Source::new("rates", decode_to(Event::Rate)))
        .source(Source::new("orders", decode_to(Event::Order)))
        .key_by(|_: &Event| "all")
        .table(&RATES, |event| {
            if let Event::Rate(rate) = event {
                Some(*rate)
            } else {
                None
            }
        })
        .window(Windows::tumbling(Duration::from_secs(60)))
        .aggregate(
            |sum: &mut u64, event: &Event| {
                if let Event::Order(amount) = event {
                    *sum += amount;
                }
            },
            |window, sum, ctx| {
                let rate = RATES.as_of(ctx, window.start_ms)?;
                ctx.emit(record(window.start_ms, &format!("{sum} at {rate:?}")))
            },
        )
        .sink("out");
    let mut driver = TestDriver::new(job).unwrap();
    driver.pipe("orders", record(60_001, "o 5")).unwrap();
    driver.pipe("orders", record(900_000, "o 6")).unwrap();
    assert_eq!(driver.take("out").len(), 0, "the rates may still come");
    for (time, value) in [(0, "r 1"), (60_000, "r 2"), (60_001, "r 3"), (2_000_000, "!")] {
        driver.pipe("rates", record(time, value)).unwrap();
    }
    driver.pipe("orders", record(2_000_000, "!")).unwrap();
    assert_eq!(
        texts(&driver.take("out")),
        ["5 at Some((60000, 2))", "6 at Some((60001, 3))"]
    );
    let state = state_log::load(&**driver.log(), "joined", driver.log().topic_state("joined")).unwrap();
    assert_eq!(
        state.restored.state.len(),
        1,
        "only the last version is kept when all are old"
    );
}

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

/// A run is a function of its frames: the same ranges give the same bytes.
#[test]
fn the_same_input_gives_the_same_bytes() {
    let run = || {
        let mut driver = TestDriver::with_partitions(sums(1_000, options()), 2).unwrap();
        for round in 0..100i64 {
            let value = format!("k{} {round}", round % 5);
            driver
                .log()
                .append("in", (round % 2) as u32, record(round * 3_000, &value))
                .unwrap();
            driver.advance(Duration::from_millis(10)).unwrap();
        }
        (driver.take("out"), driver.log().records("__job_state.sums"))
    };
    assert_eq!(run(), run());
}

#[test]
fn a_job_on_its_own_thread_runs_stops_and_reports() {
    let log = Arc::new(MemoryLog::default());
    log.create_topic("in", 1);
    let handle = spawn_on(Arc::clone(&log), sums(0, options()), Arc::new(ManualClock::new(0))).unwrap();
    log.append("in", 0, record(1, "a 1")).unwrap();
    log.append("in", 0, record(60_000, "!")).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let status = runtime.block_on(handle.wait_for(|status| status.counters.written == 1));
    assert_eq!((status.state, status.watermark_ms), (JobState::Running, 60_000));
    handle.stop();
    handle.join().unwrap();
    assert_eq!(texts(&log.records("out")), ["a 0 1"]);

    let panicking = JobBuilder::new("panics")
        .source(Source::new("in", |_: &StoredRecord| -> Result<Amount, String> {
            panic!("what a record")
        }))
        .key_by(|event: &Amount| event.key.clone())
        .process(Probe);
    let handle = spawn_on(log, panicking, Arc::new(ManualClock::new(0))).unwrap();
    let status = runtime.block_on(handle.wait_for(|_| false));
    assert!(matches!(status.state, JobState::Failed(_)));
    let error = handle.join().unwrap_err().to_string();
    assert_eq!(error, "job 'panics' failed: its code panicked: what a record");
}

#[test]
fn a_job_pauses_before_it_is_tried_again() {
    let log = Arc::new(MemoryLog::default());
    log.create_topic("in", 1);
    // The answer that refuses the commit also wakes the job, and must not end its pause.
    log.refuse_next_commit();
    let began = Instant::now();
    let handle = spawn_on(log, sums(0, options()), Arc::new(ManualClock::new(0))).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let status = runtime.block_on(handle.wait_for(|status| status.epoch == 1));
    assert_eq!((status.state, status.epoch), (JobState::Running, 1));
    assert!(began.elapsed() >= runtime::FIRST_RETRY, "{:?}", began.elapsed());
    handle.stop();
    handle.join().unwrap();
}

#[test]
fn a_job_told_to_stop_while_it_waits_to_retry_is_not_started_again() {
    let log = Arc::new(MemoryLog::default());
    log.create_topic("in", 1);
    log.refuse_starts(true);
    let handle = spawn_on(Arc::clone(&log), sums(0, options()), Arc::new(ManualClock::new(0))).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let status = runtime.block_on(handle.wait_for(|status| matches!(status.state, JobState::Retrying(_))));
    assert!(matches!(status.state, JobState::Retrying(_)), "{status:?}");
    log.refuse_starts(false);
    let heir = log.start_job("sums").unwrap().incarnation;
    handle.stop();
    // On a busy machine the pause may have been over before: then the heir has fenced the job, which is no matter here.
    let _ = handle.join();
    let next = log.start_job("sums").unwrap().incarnation;
    assert_eq!(next, heir + 1, "nobody has fenced the heir");
}
