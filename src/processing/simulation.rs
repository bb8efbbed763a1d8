//! A job under simulation: the real engine on the real storage, on a disk that may do all that a real one may, with a
//! virtual clock. One seed gives the input, the interleaving of all steps, and the moments at which process or machine
//! stop. In the end the job's output must be the batch answer over what its input topic holds, exactly once.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use riverlog_storage::clock::{Clock, ManualClock};
use riverlog_storage::disk::SimulatedDisk;
use riverlog_storage::engine::Engine;
use riverlog_storage::record::{Record, StoredRecord};
use riverlog_storage::{Append, Change, Options, Receipt, Step, WriteError, WriteSet};

use super::JobError;
use super::broker_log::{epoch_name, epoch_write_set, fetched, job_state_topic, read_error, topic_info, write_error};
use super::job::{Decoded, Job, JobBuilder, JobOptions, Source};
use super::log::{
    Commit, CommitDone, Ends, Fetched, JobLog, Log, LogError, PartitionId, Subscription, TopicInfo, Wake,
};
use super::processor::Processor;
use super::runner::{self, Runner};
use super::window::Windows;
use crate::broker::{BrokerOptions, append::build_batches};

const JOB: &str = "sums";
const INPUT: &str = "in";
const OUTPUT: &str = "out";
const INPUT_PARTITIONS: u32 = 3;
const START_MS: i64 = 1_710_000_000_000;
const MINUTE_MS: i64 = 60_000;
const DISORDER_MS: i64 = 600_000;

/// What a run was like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Report {
    pub events: u64,
    pub answers: u64,
    pub crashes: u64,
    pub power_cuts: u64,
    pub take_overs: u64,
    pub history: u32,
}

/// Runs one seed to its end.
///
/// # Errors
/// What is missing, double or wrong in the job's output, or in its input.
pub fn run(seed: u64) -> Result<Report, String> {
    let found = prepare(seed).and_then(Simulation::run);
    found.map_err(|what| format!("seed {seed}: {what}"))
}

/// Storage as the job's log, without threads: whoever waits drives it.
struct EngineLog {
    engine: Engine,
    options: BrokerOptions,
}

impl EngineLog {
    fn submit_wait(&self, ws: WriteSet) -> Result<Receipt, WriteError> {
        let answer = Arc::new(Mutex::new(None));
        let slot = Arc::clone(&answer);
        self.engine.submit(ws, move |outcome| *slot.lock() = Some(outcome));
        loop {
            if let Some(outcome) = answer.lock().take() {
                return outcome;
            }
            if self.engine.commit_step() != Step::Worked {
                return answer.lock().take().unwrap_or(Err(WriteError::Closed));
            }
        }
    }

    fn records(&self, topic: &str) -> Result<Vec<StoredRecord>, String> {
        let mut records = Vec::new();
        let topic = self.topic(topic).ok_or_else(|| format!("topic {topic} is gone"))?;
        for partition in topic.partitions {
            let ends = self.ends(&[partition])[0].ok_or("a partition is gone")?;
            let mut from = ends.start;
            while from < ends.end {
                let read = self
                    .read(partition, from, ends.end, 1 << 20)
                    .map_err(|error| error.to_string())?;
                from = read.next_offset;
                records.extend(read.records);
            }
        }
        Ok(records)
    }
}

impl Log for EngineLog {
    fn topic(&self, name: &str) -> Option<TopicInfo> {
        let catalog = self.engine.catalog();
        catalog.topic(name).map(|topic| topic_info(topic, &self.options))
    }

    fn ensure_topic(
        &self,
        name: &str,
        partitions: Option<u32>,
        configs: &BTreeMap<String, String>,
    ) -> Result<TopicInfo, LogError> {
        if let Some(topic) = self.topic(name) {
            return Ok(topic);
        }
        let create = Change::CreateTopic {
            name: name.to_owned(),
            partitions: partitions.unwrap_or(1),
            configs: configs.clone(),
        };
        let changes = vec![create];
        let created = self.submit_wait(WriteSet {
            changes,
            ..WriteSet::default()
        });
        created.map_err(write_error)?;
        self.topic(name)
            .ok_or_else(|| LogError::Unavailable("the topic is gone".into()))
    }

    fn ends(&self, partitions: &[PartitionId]) -> Vec<Option<Ends>> {
        let ends = self.engine.all_ends(partitions).into_iter();
        let ends = ends.map(|ends| {
            ends.map(|ends| Ends {
                start: ends.start,
                end: ends.high_watermark,
            })
        });
        ends.collect()
    }

    fn read(&self, partition: PartitionId, from: i64, to: i64, max_bytes: usize) -> Result<Fetched, LogError> {
        let read = self.engine.read(partition, from, max_bytes).map_err(read_error)?;
        fetched(&read.data, from, to, &self.options)
    }

    fn start_job(&self, job: &str) -> Result<JobLog, LogError> {
        let configs = BTreeMap::from([("retention.ms".to_owned(), "-1".to_owned())]);
        let state = self.ensure_topic(&job_state_topic(job), Some(1), &configs)?.partitions[0];
        let name = epoch_name(job);
        let incarnation = self.engine.catalog().epoch(&name).unwrap_or(0) + 1;
        let epoch = incarnation;
        let changes = vec![Change::SetEpoch { name, epoch }];
        let set = self.submit_wait(WriteSet {
            changes,
            ..WriteSet::default()
        });
        set.map_err(write_error)?;
        Ok(JobLog { state, incarnation })
    }

    fn commit(&self, commit: Commit, done: CommitDone) {
        match epoch_write_set(&self.engine.catalog(), &self.options, commit) {
            Ok(ws) => self
                .engine
                .submit(ws, |outcome| done(outcome.map(drop).map_err(write_error))),
            Err(error) => done(Err(error)),
        }
    }

    fn subscribe(&self, _partitions: &[PartitionId], _wake: &Arc<Wake>) -> Subscription {
        Box::new(())
    }
}

/// What became of a record that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sent {
    InDoubt,
    Acknowledged,
}

struct Simulation<P: Processor> {
    rng: SmallRng,
    disk: SimulatedDisk,
    clock: Arc<ManualClock>,
    options: Options,
    job: Arc<Job<P>>,
    log: Arc<EngineLog>,
    runner: Option<Runner<EngineLog, P>>,
    /// A start of the job that does not know yet that another one has taken over.
    zombie: Option<Runner<EngineLog, P>>,
    /// Values that were sent; each is another one.
    sent: Arc<Mutex<BTreeMap<String, Sent>>>,
    newest_ms: i64,
    report: Report,
}

fn decode(record: &StoredRecord) -> Result<Decoded<(String, u64)>, String> {
    let text = String::from_utf8_lossy(record.value.as_deref().unwrap_or_default()).into_owned();
    if text == "!" {
        return Ok(Decoded::Watermark(record.timestamp_ms));
    }
    let words: Vec<&str> = text.split(' ').collect();
    let [key, amount, _] = words[..] else {
        return Err("three words are expected".into());
    };
    let amount = amount.parse().map_err(|_| "no amount")?;
    Ok((key.to_owned(), amount).into())
}

/// Sums by key and minute, in small epochs with many snapshots.
fn sums(rng: &mut SmallRng) -> Job<impl Processor<Event = (String, u64)> + use<>> {
    JobBuilder::new(JOB)
        .source(Source::new(INPUT, decode).max_disorder(Duration::from_millis(DISORDER_MS as u64)))
        .key_by(|(key, _): &(String, u64)| key.clone())
        .window(Windows::tumbling(Duration::from_millis(MINUTE_MS as u64)))
        .aggregate(
            |sum: &mut u64, (_, amount): &(String, u64)| *sum += amount,
            |window, sum, ctx| {
                let value = format!("{} {} {sum}", ctx.key_text(), window.start_ms / MINUTE_MS);
                ctx.emit(record(window.start_ms, &value))
            },
        )
        .sink(OUTPUT)
        .options(JobOptions {
            epoch_input_bytes: rng.random_range(1..3_000),
            output_yield_bytes: rng.random_range(1..2_000),
            snapshot_after_bytes: rng.random_range(200..4_000),
            output_partitions: Some(2),
            idle_timeout: None,
            ..JobOptions::default()
        })
}

fn record(timestamp_ms: i64, value: &str) -> Record {
    Record {
        value: Some(value.to_owned().into()),
        timestamp_ms,
        ..Record::default()
    }
}

fn prepare(seed: u64) -> Result<Simulation<impl Processor>, String> {
    let mut rng = SmallRng::seed_from_u64(seed);
    let job = Arc::new(sums(&mut rng));
    let (disk, clock) = (SimulatedDisk::new(rng.random()), Arc::new(ManualClock::new(START_MS)));
    let options = Options {
        journal_file_bytes: [256 << 10, 512 << 10][rng.random_range(0..2)],
        group_bytes: rng.random_range(1_000..40_000),
        seed: Some(seed),
        ..Options::new("/data")
    };
    let log = open(&disk, &clock, &options)?;
    Ok(Simulation {
        rng,
        disk,
        clock,
        options,
        job,
        log,
        runner: None,
        zombie: None,
        sent: Arc::default(),
        newest_ms: START_MS,
        report: Report::default(),
    })
}

fn open(disk: &SimulatedDisk, clock: &Arc<ManualClock>, options: &Options) -> Result<Arc<EngineLog>, String> {
    let engine = Engine::open(
        Arc::new(disk.clone()),
        Arc::clone(clock) as Arc<dyn Clock>,
        options.clone(),
    );
    Ok(Arc::new(EngineLog {
        engine: engine.map_err(|error| format!("start refused: {error}"))?,
        options: BrokerOptions::default(),
    }))
}

impl<P: Processor> Simulation<P> {
    fn run(mut self) -> Result<Report, String> {
        let configs = BTreeMap::from([
            ("retention.ms".to_owned(), "-1".to_owned()),
            (
                "segment.bytes".to_owned(),
                self.rng.random_range(500..5_000).to_string(),
            ),
        ]);
        let created = self.log.ensure_topic(INPUT, Some(INPUT_PARTITIONS), &configs);
        created.map_err(|error| error.to_string())?;
        for _ in 0..self.rng.random_range(100..300) {
            self.act()?;
            if self.disk.has_crashed() || self.log.engine.health().poisoned.is_some() {
                let power = self.rng.random_ratio(2, 3);
                self.crash(power)?;
            }
        }
        // Once more, so that the end is also one of a restored job.
        let power = self.rng.random();
        self.crash(power)?;
        self.finish()
    }

    fn act(&mut self) -> Result<(), String> {
        match self.rng.random_range(0..100) {
            0..25 => self.send(),
            25..50 => {
                for _ in 0..self.rng.random_range(1..6) {
                    self.log.engine.commit_step();
                }
                Ok(())
            }
            50..80 => {
                for _ in 0..self.rng.random_range(1..6) {
                    self.step_job()?;
                }
                Ok(())
            }
            80..86 => {
                let _ = self.log.engine.checkpoint_step();
                Ok(())
            }
            86..89 => self.step_zombie(),
            89..91 => {
                self.clock.advance_ms(self.rng.random_range(0..3_000));
                // At times somebody sets the wall clock, either way.
                if self.rng.random_ratio(1, 4) {
                    let hours_ms = 12 * 60 * MINUTE_MS;
                    self.clock
                        .set_wall_ms(START_MS + self.rng.random_range(-hours_ms..hours_ms));
                }
                Ok(())
            }
            91..93 => {
                self.report.take_overs += 1;
                self.zombie = self.runner.take();
                Ok(())
            }
            93..97 => {
                self.disk.crash_after(self.rng.random_range(0..60));
                Ok(())
            }
            97 => self.crash(false),
            98 => self.crash(true),
            _ => {
                self.log.engine.close_idle_step();
                Ok(())
            }
        }
    }

    fn send(&mut self) -> Result<(), String> {
        let partitions = self.log.topic(INPUT).ok_or("the input is gone")?.partitions;
        let log = partitions[self.rng.random_range(0..partitions.len())];
        let mut records = Vec::new();
        for _ in 0..self.rng.random_range(1..5) {
            self.newest_ms += self.rng.random_range(0..20_000);
            let time_ms = self.newest_ms - self.rng.random_range(0..DISORDER_MS / 2);
            let number = self.report.events;
            self.report.events += 1;
            let value = match self.rng.random_range(0..20) {
                0 => format!("bad{number}"),
                _ => format!(
                    "k{} {} {number}",
                    self.rng.random_range(0..4),
                    self.rng.random_range(1..100)
                ),
            };
            self.sent.lock().insert(value.clone(), Sent::InDoubt);
            records.push(record(time_ms, &value));
        }
        let values: Vec<Record> = records.clone();
        let mut appends = Vec::new();
        for batches in build_batches(records, 1 << 20).map_err(|error| error.to_string())? {
            let log_append_time = false;
            appends.push(Append {
                log,
                batches,
                log_append_time,
            });
        }
        let (sent, disk) = (Arc::clone(&self.sent), self.disk.clone());
        self.log.engine.submit(
            WriteSet {
                appends,
                ..WriteSet::default()
            },
            move |outcome| {
                // What a stopped machine would still say, nobody hears.
                if outcome.is_ok() && !disk.has_crashed() {
                    let values = values.iter().map(value_of);
                    sent.lock().extend(values.map(|value| (value, Sent::Acknowledged)));
                }
            },
        );
        Ok(())
    }

    fn step_job(&mut self) -> Result<(), String> {
        let Some(runner) = &mut self.runner else {
            return self.start_job();
        };
        match runner.step() {
            Ok(_) => Ok(()),
            Err(error) => {
                self.runner = None;
                self.excuse(error)
            }
        }
    }

    fn start_job(&mut self) -> Result<(), String> {
        let clock = Arc::clone(&self.clock) as Arc<dyn Clock>;
        let started = Runner::start(Arc::clone(&self.log), Arc::clone(&self.job), clock, Arc::default());
        match started {
            Ok(mut runner) => {
                runner.snapshots_inline = true;
                self.runner = Some(runner);
                Ok(())
            }
            Err(error) => self.excuse(error),
        }
    }

    /// A zombie commits nothing: sooner or later it is told so.
    fn step_zombie(&mut self) -> Result<(), String> {
        let Some(zombie) = &mut self.zombie else { return Ok(()) };
        if let Err(error) = zombie.step() {
            self.zombie = None;
            self.excuse(error)?;
        }
        Ok(())
    }

    /// An error of a job is in order when the disk has failed, or when it may pass, or when another start took over.
    fn excuse(&self, error: JobError) -> Result<(), String> {
        let stopped = self.disk.has_crashed() || self.log.engine.health().poisoned.is_some();
        let fenced = matches!(
            &error,
            JobError::Log {
                error: LogError::Fenced(_),
                ..
            }
        );
        if stopped || fenced || error.is_retriable() {
            return Ok(());
        }
        Err(format!("the job failed: {error}"))
    }

    fn crash(&mut self, power: bool) -> Result<(), String> {
        self.report.crashes += 1;
        self.report.power_cuts += u64::from(power);
        (self.runner, self.zombie) = (None, None);
        self.disk = if power {
            self.disk.cut_power(&mut self.rng)
        } else {
            self.disk.restart()
        };
        self.log = open(&self.disk, &self.clock, &self.options)?;
        Ok(())
    }

    /// Closes the input, lets the job come to its end, and compares.
    fn finish(mut self) -> Result<Report, String> {
        let partitions = self.log.topic(INPUT).ok_or("the input is gone")?.partitions;
        for log in partitions {
            let closing = record(self.newest_ms + 10 * DISORDER_MS, "!");
            for batches in build_batches(vec![closing], 1 << 20).map_err(|error| error.to_string())? {
                let append = Append {
                    log,
                    batches,
                    log_append_time: false,
                };
                let appends = vec![append];
                let closed = self.log.submit_wait(WriteSet {
                    appends,
                    ..WriteSet::default()
                });
                closed.map_err(|error| error.to_string())?;
            }
        }
        let mut idle = 0;
        for _ in 0..100_000 {
            let worked = match &mut self.runner {
                None => {
                    self.start_job()?;
                    true
                }
                Some(runner) => match runner.step() {
                    Ok(step) => step == runner::Step::Worked,
                    Err(error) => return Err(format!("the job failed at the end: {error}")),
                },
            };
            let committed = self.log.engine.commit_step() == Step::Worked;
            idle = if worked || committed { 0 } else { idle + 1 };
            if idle == 3 {
                return self.compare();
            }
        }
        Err("the job does not come to an end".into())
    }

    fn compare(mut self) -> Result<Report, String> {
        let input = self.log.records(INPUT)?;
        let values: Vec<String> = input.iter().map(stored_value_of).filter(|value| value != "!").collect();
        let sent = self.sent.lock().clone();
        for (value, sent) in &sent {
            let count = values.iter().filter(|stored| *stored == value).count();
            let may = if *sent == Sent::Acknowledged { 1..=1 } else { 0..=1 };
            if !may.contains(&count) {
                return Err(format!("'{value}' ({sent:?}) is in the input {count} times"));
            }
        }
        let mut expected = BTreeMap::<String, u64>::new();
        let mut bad = Vec::new();
        for record in &input {
            match decode(record) {
                Ok(Decoded::Event((key, amount))) => {
                    *expected
                        .entry(format!("{key} {}", record.timestamp_ms / MINUTE_MS))
                        .or_default() += amount;
                }
                Ok(_) => {}
                Err(_) => bad.push(stored_value_of(record)),
            }
        }
        let expected: Vec<String> = expected.into_iter().map(|(at, sum)| format!("{at} {sum}")).collect();
        self.report.answers = expected.len() as u64;
        let dead_letters = self.job.dead_letter_topic();
        for (topic, mut expected) in [(OUTPUT, expected), (dead_letters.as_str(), bad)] {
            let found = match self.log.topic(topic) {
                Some(_) => self.log.records(topic)?,
                None => Vec::new(),
            };
            let mut found: Vec<String> = found.iter().map(stored_value_of).collect();
            found.sort();
            expected.sort();
            if found != expected {
                let missing: Vec<&String> = expected.iter().filter(|one| !found.contains(one)).take(3).collect();
                let (found, expected) = (found.len(), expected.len());
                return Err(format!(
                    "{topic}: {found} records, expected {expected}; missing {missing:?}"
                ));
            }
        }
        self.report.history = self.disk.history();
        Ok(self.report)
    }
}

fn value_of(record: &Record) -> String {
    String::from_utf8_lossy(record.value.as_deref().unwrap_or_default()).into_owned()
}

fn stored_value_of(record: &StoredRecord) -> String {
    String::from_utf8_lossy(record.value.as_deref().unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::processing::planted::{Bug, plant};

    #[test]
    fn jobs_are_exactly_once_through_crashes_of_the_machine() {
        let seeds: u64 = std::env::var("RIVERLOG_SEEDS").map_or(1_000, |seeds| seeds.parse().unwrap());
        let (mut failures, mut total) = (Vec::new(), Report::default());
        for seed in 0..seeds {
            match run(seed) {
                Ok(report) => {
                    total.events += report.events;
                    total.answers += report.answers;
                    total.crashes += report.crashes;
                    total.power_cuts += report.power_cuts;
                    total.take_overs += report.take_overs;
                }
                Err(failure) => failures.push(failure),
            }
        }
        println!("{seeds} seeds: {total:?}");
        assert!(failures.is_empty(), "{failures:#?}");
    }

    #[test]
    fn a_seed_repeats_itself_to_the_byte() {
        for seed in 0..10 {
            assert_eq!(run(seed), run(seed));
        }
    }

    #[test]
    fn planted_bugs_are_found_on_storage_as_well() {
        for bug in [
            Bug::DropState,
            Bug::DropTimers,
            Bug::FiredTimersStay,
            Bug::DeltasBehindSnapshotOnly,
            Bug::PositionAhead,
        ] {
            plant(Some(bug));
            let found = (0..300).find_map(|seed| match std::panic::catch_unwind(|| run(seed)) {
                Ok(ran) => ran.err(),
                Err(_) => Some(format!("seed {seed} panicked")),
            });
            plant(None);
            assert!(found.is_some(), "{bug:?} is not found");
        }
    }
}
