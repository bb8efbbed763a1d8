//! Testing a job without a broker: a log in memory and a clock that moves when told to.
//!
//! ```
//! use std::time::Duration;
//! use riverlog::processing::{JobBuilder, Record, Source, Windows, formats, testing::TestDriver};
//!
//! let job = JobBuilder::new("count")
//!     .source(Source::new("clicks", formats::json::<String>))
//!     .key_by(|page: &String| page.clone())
//!     .window(Windows::tumbling(Duration::from_secs(60)))
//!     .aggregate(|count: &mut u64, _: &String| *count += 1, |window, count, ctx| {
//!         let (key, value) = (Some(ctx.key().clone()), Some(count.to_string().into()));
//!         ctx.emit(Record { key, value, headers: vec![], timestamp_ms: window.start_ms })
//!     })
//!     .sink("counts");
//! let mut driver = TestDriver::new(job)?;
//! for at_ms in [1_000, 2_000, 61_000] {
//!     let click = Record { key: None, value: Some("\"home\"".into()), headers: vec![], timestamp_ms: at_ms };
//!     driver.pipe("clicks", click)?;
//! }
//! let counts = driver.take("counts");
//! assert_eq!(counts.len(), 1, "the second minute is still open");
//! assert_eq!(counts[0].value.as_deref(), Some(&b"2"[..]));
//! # Ok::<(), riverlog::processing::JobError>(())
//! ```

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Weak},
    time::Duration,
};

use parking_lot::Mutex;
use riverlog_storage::{
    clock::{Clock, ManualClock},
    record::{Record, StoredRecord},
};
use uuid::Uuid;

use super::{
    broker_log::job_state_topic,
    epoch::Frame,
    error::JobError,
    job::Job,
    log::{Commit, CommitDone, Ends, Fetched, JobLog, Log, LogError, PartitionId, Subscription, TopicInfo, Wake},
    planted::{Bug, planted},
    processor::Processor,
    runner::{Runner, Step},
};

#[derive(Debug, Default)]
struct Partition {
    start: i64,
    records: Vec<StoredRecord>,
}

impl Partition {
    fn append(&mut self, record: Record) {
        let offset = self.records.len() as i64;
        let Record {
            key,
            value,
            headers,
            timestamp_ms,
        } = record;
        self.records.push(StoredRecord {
            offset,
            timestamp_ms,
            key,
            value,
            headers,
        });
    }
}

#[derive(Default)]
struct Logs {
    topics: BTreeMap<String, TopicInfo>,
    partitions: BTreeMap<PartitionId, Partition>,
    next_partition: PartitionId,
    incarnations: BTreeMap<String, u64>,
    offsets: BTreeMap<(String, String, u32), i64>,
    subscribers: Vec<Weak<Wake>>,
    hold: bool,
    refuse_next: bool,
    refuse_starts: bool,
    held: VecDeque<(Commit, CommitDone)>,
    max_batch_bytes: BTreeMap<String, usize>,
}

/// A log in memory. Commits can be held back, to see what a crash leaves.
#[derive(Default)]
pub struct MemoryLog {
    logs: Mutex<Logs>,
}

impl MemoryLog {
    /// Creates a topic, or gives the one that is there.
    pub fn create_topic(&self, name: &str, partitions: u32) -> TopicInfo {
        let mut logs = self.logs.lock();
        if let Some(topic) = logs.topics.get(name) {
            return topic.clone();
        }
        let first = logs.next_partition;
        logs.next_partition += PartitionId::from(partitions);
        let ids: Vec<_> = (first..logs.next_partition).collect();
        for id in &ids {
            logs.partitions.insert(*id, Partition::default());
        }
        let max_batch_bytes = logs.max_batch_bytes.get(name).copied().unwrap_or(1 << 20);
        // Every incarnation needs an id of its own; that of its first partition is one.
        let id = Uuid::from_u128(u128::from(first) + 1);
        let topic = TopicInfo {
            name: name.to_owned(),
            id,
            partitions: ids,
            max_batch_bytes,
        };
        logs.topics.insert(name.to_owned(), topic.clone());
        topic
    }

    /// Deletes a topic with all its records.
    pub fn delete_topic(&self, name: &str) {
        let mut logs = self.logs.lock();
        if let Some(topic) = logs.topics.remove(name) {
            topic.partitions.iter().for_each(|id| drop(logs.partitions.remove(id)));
        }
    }

    /// Deletes the records before an offset.
    pub fn delete_records(&self, topic: &str, partition: u32, before: i64) {
        let mut logs = self.logs.lock();
        let id = logs
            .topics
            .get(topic)
            .and_then(|topic| topic.partitions.get(partition as usize))
            .copied();
        if let Some(partition) = id.and_then(|id| logs.partitions.get_mut(&id)) {
            partition.start = partition.start.max(before);
        }
    }

    /// The size from which a topic that is created later refuses batches.
    pub fn set_max_batch_bytes(&self, topic: &str, max_batch_bytes: usize) {
        self.logs
            .lock()
            .max_batch_bytes
            .insert(topic.to_owned(), max_batch_bytes);
    }

    /// Appends a record.
    pub fn append(&self, topic: &str, partition: u32, record: Record) -> Result<(), LogError> {
        let mut logs = self.logs.lock();
        let id = logs
            .topics
            .get(topic)
            .and_then(|topic| topic.partitions.get(partition as usize))
            .copied();
        let found = id.and_then(|id| logs.partitions.get_mut(&id));
        found
            .ok_or_else(|| LogError::Failed(format!("{topic}/{partition} does not exist")))?
            .append(record);
        logs.notify();
        Ok(())
    }

    /// All records of a topic, partition by partition.
    pub fn records(&self, topic: &str) -> Vec<StoredRecord> {
        let logs = self.logs.lock();
        let ids = logs
            .topics
            .get(topic)
            .map(|topic| topic.partitions.clone())
            .unwrap_or_default();
        let partitions = ids.iter().filter_map(|id| logs.partitions.get(id));
        partitions
            .flat_map(|partition| {
                partition
                    .records
                    .iter()
                    .filter(|r| r.offset >= partition.start)
                    .cloned()
            })
            .collect()
    }

    /// The offset that a job's group has committed.
    pub fn committed_offset(&self, job: &str, topic: &str, partition: u32) -> Option<i64> {
        self.logs
            .lock()
            .offsets
            .get(&(job.to_owned(), topic.to_owned(), partition))
            .copied()
    }

    /// The partition of a job's state.
    pub fn topic_state(&self, job: &str) -> PartitionId {
        let logs = self.logs.lock();
        logs.topics
            .get(&job_state_topic(job))
            .and_then(|topic| topic.partitions.first())
            .copied()
            .unwrap_or_default()
    }

    /// From now on commits are neither applied nor answered before [`MemoryLog::release`].
    pub fn hold_commits(&self, hold: bool) {
        self.logs.lock().hold = hold;
    }

    /// Applies and answers the commits that are held back.
    pub fn release(&self) {
        loop {
            let Some((commit, done)) = self.logs.lock().held.pop_front() else {
                return;
            };
            self.apply(commit, done);
        }
    }

    /// Loses the commits that are held back, as a crash before the sync would.
    pub fn lose_held(&self) {
        self.logs.lock().held.clear();
    }

    /// Refuses the next commit with an error that may pass, as a full disk would.
    pub fn refuse_next_commit(&self) {
        self.logs.lock().refuse_next = true;
    }

    /// From now on a start of a job takes it over and then fails with an error that may pass, as a lost answer would.
    pub fn refuse_starts(&self, refuse: bool) {
        self.logs.lock().refuse_starts = refuse;
    }

    fn apply(&self, commit: Commit, done: CommitDone) {
        let result = self.logs.lock().apply(commit);
        done(result);
        self.logs.lock().notify();
    }
}

impl Logs {
    fn apply(&mut self, commit: Commit) -> Result<(), LogError> {
        let current = self.incarnations.get(&commit.job).copied().unwrap_or(0);
        if commit.log.incarnation != current && !planted(Bug::NoFence) {
            let got = commit.log.incarnation;
            return Err(LogError::Fenced(format!(
                "incarnation {got} of {}, current is {current}",
                commit.job
            )));
        }
        if std::mem::take(&mut self.refuse_next) {
            return Err(LogError::Unavailable("no space".into()));
        }
        let all_there = commit.outputs.iter().all(|(id, _)| self.partitions.contains_key(id));
        if !all_there || !self.partitions.contains_key(&commit.log.state) {
            return Err(LogError::Failed(
                "a topic that the job writes does not exist any more".into(),
            ));
        }
        let state = (commit.log.state, commit.state);
        for (id, records) in commit.outputs.into_iter().chain([state]) {
            if let Some(partition) = self.partitions.get_mut(&id) {
                records.into_iter().for_each(|record| partition.append(record));
            }
        }
        if let (Some(start), Some(state)) = (commit.state_start, self.partitions.get_mut(&commit.log.state)) {
            state.start = state.start.max(start);
        }
        for read in commit.offsets {
            let place = (commit.job.clone(), read.topic, read.partition);
            self.offsets.insert(place, read.offset);
        }
        Ok(())
    }

    fn notify(&mut self) {
        self.subscribers.retain(|wake| {
            wake.upgrade().is_some_and(|wake| {
                wake.notify();
                true
            })
        });
    }
}

impl Log for MemoryLog {
    fn topic(&self, name: &str) -> Option<TopicInfo> {
        self.logs.lock().topics.get(name).cloned()
    }

    fn ensure_topic(
        &self,
        name: &str,
        partitions: Option<u32>,
        _configs: &BTreeMap<String, String>,
    ) -> Result<TopicInfo, LogError> {
        Ok(self.create_topic(name, partitions.unwrap_or(1)))
    }

    fn ends(&self, partitions: &[PartitionId]) -> Vec<Option<Ends>> {
        let logs = self.logs.lock();
        let ends = |partition: &Partition| Ends {
            start: partition.start,
            end: partition.records.len() as i64,
        };
        partitions.iter().map(|id| logs.partitions.get(id).map(ends)).collect()
    }

    fn read(&self, partition: PartitionId, from: i64, to: i64, max_bytes: usize) -> Result<Fetched, LogError> {
        let logs = self.logs.lock();
        let gone = || LogError::Failed(format!("partition {partition} does not exist"));
        let partition = logs.partitions.get(&partition).ok_or_else(gone)?;
        let mut fetched = Fetched {
            next_offset: from,
            ..Fetched::default()
        };
        let first = usize::try_from(from.max(partition.start)).unwrap_or(0);
        for record in partition
            .records
            .iter()
            .skip(first)
            .take_while(|record| record.offset < to)
        {
            if fetched.bytes >= max_bytes && !fetched.records.is_empty() {
                break;
            }
            fetched.bytes += record.value.as_ref().map_or(0, |value| value.len()) + 70;
            fetched.next_offset = record.offset + 1;
            fetched.records.push(record.clone());
        }
        Ok(fetched)
    }

    fn start_job(&self, job: &str) -> Result<JobLog, LogError> {
        let state = self.create_topic(&job_state_topic(job), 1);
        let state = state.partitions.first().copied().unwrap_or_default();
        let mut logs = self.logs.lock();
        let incarnation = logs.incarnations.entry(job.to_owned()).or_default();
        *incarnation += 1;
        let incarnation = *incarnation;
        if logs.refuse_starts {
            return Err(LogError::Unavailable("no answer".into()));
        }
        Ok(JobLog { state, incarnation })
    }

    fn commit(&self, commit: Commit, done: CommitDone) {
        let mut logs = self.logs.lock();
        if logs.hold {
            logs.held.push_back((commit, done));
            return;
        }
        drop(logs);
        self.apply(commit, done);
    }

    fn subscribe(&self, _partitions: &[PartitionId], wake: &Arc<Wake>) -> Subscription {
        // Every change wakes everybody; the log drops a wake that is gone.
        self.logs.lock().subscribers.push(Arc::downgrade(wake));
        Box::new(())
    }
}

/// Runs a job on a [`MemoryLog`] and a virtual clock, on the calling thread.
pub struct TestDriver<P: Processor> {
    log: Arc<MemoryLog>,
    clock: Arc<ManualClock>,
    job: Arc<Job<P>>,
    runner: Runner<MemoryLog, P>,
    taken: BTreeMap<String, usize>,
}

impl<P: Processor> TestDriver<P> {
    /// Starts a job whose input topics have one partition each. The wall clock begins at 0.
    pub fn new(job: Job<P>) -> Result<Self, JobError> {
        Self::with_partitions(job, 1)
    }

    /// Starts a job whose input topics have several partitions.
    pub fn with_partitions(job: Job<P>, partitions: u32) -> Result<Self, JobError> {
        let log = Arc::new(MemoryLog::default());
        for source in &job.sources {
            log.create_topic(&source.topic, partitions);
        }
        Self::on(log, Arc::new(ManualClock::new(0)), job)
    }

    /// Starts a job on a log that is there.
    pub fn on(log: Arc<MemoryLog>, clock: Arc<ManualClock>, job: Job<P>) -> Result<Self, JobError> {
        let job = Arc::new(job);
        let runner = start(&log, &clock, &job)?;
        Ok(Self {
            log,
            clock,
            job,
            runner,
            taken: BTreeMap::new(),
        })
    }

    /// The log.
    pub fn log(&self) -> &Arc<MemoryLog> {
        &self.log
    }

    /// The clock.
    pub fn clock(&self) -> &Arc<ManualClock> {
        &self.clock
    }

    /// Publishes a record to partition 0 of a topic, and lets the job do what it can.
    pub fn pipe(&mut self, topic: &str, record: Record) -> Result<(), JobError> {
        self.log
            .append(topic, 0, record)
            .map_err(JobError::log(&self.job.name))?;
        self.run()
    }

    /// Lets time pass, and lets the job do what it can.
    pub fn advance(&mut self, by: Duration) -> Result<(), JobError> {
        self.clock.advance_ms(u64::try_from(by.as_millis()).unwrap_or(u64::MAX));
        self.run()
    }

    /// Lets the job do what it can without waiting.
    pub fn run(&mut self) -> Result<(), JobError> {
        while self.step()? == Step::Worked {}
        Ok(())
    }

    /// One step of the job.
    pub fn step(&mut self) -> Result<Step, JobError> {
        self.runner.step()
    }

    /// The records of a topic since the last call, partition by partition.
    pub fn take(&mut self, topic: &str) -> Vec<StoredRecord> {
        let records = self.log.records(topic);
        let taken = self.taken.insert(topic.to_owned(), records.len()).unwrap_or(0);
        records.into_iter().skip(taken).collect()
    }

    /// The last committed epoch.
    pub fn committed(&self) -> Option<&Frame> {
        self.runner.committed()
    }

    /// The job is started elsewhere while commits of this start are held back; they arrive after the take-over.
    pub fn take_over(&mut self) -> Result<(), JobError> {
        self.runner = start(&self.log, &self.clock, &self.job)?;
        self.log.release();
        Ok(())
    }

    /// Crashes: commits that are held back are lost, the job is restored from what is committed.
    pub fn crash(&mut self) -> Result<(), JobError> {
        self.log.lose_held();
        self.runner = start(&self.log, &self.clock, &self.job)?;
        Ok(())
    }
}

fn start<P: Processor>(
    log: &Arc<MemoryLog>,
    clock: &Arc<ManualClock>,
    job: &Arc<Job<P>>,
) -> Result<Runner<MemoryLog, P>, JobError> {
    let clock: Arc<dyn Clock> = Arc::clone(clock) as Arc<dyn Clock>;
    let mut runner = Runner::start(Arc::clone(log), Arc::clone(job), clock, Arc::new(Wake::default()))?;
    runner.snapshots_inline = true;
    Ok(runner)
}
