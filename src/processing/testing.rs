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

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use riverlog_storage::{
    clock::{Clock, ManualClock},
    record::{Record, StoredRecord},
};

pub use super::memory_log::MemoryLog;
use super::{
    epoch::Frame,
    error::JobError,
    job::Job,
    log::Wake,
    processor::Processor,
    runner::{Runner, Step},
};

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
