//! The task: runs a job's epochs, one after the other, on its state. No I/O and no clock in here.

use bytes::Bytes;
use riverlog_storage::record::{Record, StoredRecord};
use uuid::Uuid;

use super::{
    dead_letter,
    epoch::{Counters, EpochInput, Frame, InputFrame},
    error::JobError,
    job::{Decoded, Job},
    log::{Fetched, PartitionId},
    planted::{Bug, planted},
    processor::{Context, Operator, ProcessError, Processor},
    state::{StateChange, StateStore},
    timer::{Timer, TimerChange, TimerKind, Timers},
    watermark::{self, NO_WATERMARK_MS, PartitionWatermark},
};

/// One partition of one of the job's sources.
#[derive(Clone, Debug)]
pub struct Input {
    /// Which source.
    pub source: usize,
    /// Its topic.
    pub topic: String,
    /// The topic's incarnation.
    pub topic_id: Uuid,
    /// The partition's number.
    pub partition: u32,
    /// The partition in the log.
    pub id: PartitionId,
    /// Where to read on.
    pub position: i64,
    /// How far its event time has come.
    pub watermark: PartitionWatermark,
}

/// What a processor reaches through its context.
#[derive(Debug)]
pub struct TaskState {
    pub(super) state: StateStore,
    pub(super) timers: Timers,
    pub(super) watermark_ms: i64,
    pub(super) processing_time_ms: i64,
    pub(super) key_groups: u16,
    pub(super) sinks: Vec<String>,
    /// The largest batch that each output topic takes.
    max_batch_bytes: Vec<usize>,
    outputs: Vec<(usize, Record)>,
    output_bytes: usize,
    output_limit_bytes: usize,
}

impl TaskState {
    /// Adds an output record of the epoch, or returns the limit that it would cross.
    pub(super) fn emit(&mut self, sink: usize, record: Record) -> Result<(), usize> {
        let size = dead_letter::batch_bound(&record);
        if self.output_bytes + size > self.output_limit_bytes {
            return Err(self.output_limit_bytes);
        }
        self.output_bytes += size;
        self.outputs.push((sink, record));
        Ok(())
    }

    /// Whether an output topic would take the record.
    fn fits(&self, sink: usize, record: &Record) -> bool {
        self.max_batch_bytes
            .get(sink)
            .is_none_or(|max| dead_letter::batch_bound(record) <= *max)
    }

    fn size_bytes(&self) -> usize {
        self.state.size_bytes() + self.timers.size_bytes()
    }
}

/// Everything that an epoch changes.
#[derive(Debug)]
pub struct EpochOutput {
    /// What happened.
    pub frame: Frame,
    /// Records to write, with the index of their topic in [`Job::output_topics`].
    pub outputs: Vec<(usize, Record)>,
    /// Changed state.
    pub state: Vec<StateChange>,
    /// Changed timers.
    pub timers: Vec<TimerChange>,
}

/// What the log remembers of a job.
#[derive(Debug, Default)]
pub struct Restored {
    /// The last committed epoch.
    pub frame: Option<Frame>,
    /// The state after it.
    pub state: StateStore,
    /// The timers after it.
    pub timers: Timers,
}

/// Marks a task that must give way to the next epoch.
enum Flow {
    GoOn,
    Yield,
}

/// An epoch ends after so many timers, so that timers which set timers cannot keep it from committing.
const MAX_TIMERS_PER_EPOCH: usize = 1_000_000;

/// An epoch ends when its changes of state and timers are about so large: the write set must fit into a frame of the journal.
const MAX_DELTA_BYTES: usize = 12 << 20;

/// See the [module](self).
pub struct Task {
    job: String,
    incarnation: u64,
    operators: Vec<Operator>,
    pub(super) inputs: Vec<Input>,
    state: TaskState,
    epoch: u64,
    counters: Counters,
    dead_letter_sink: usize,
    late_sink: Option<usize>,
    output_yield_bytes: usize,
    state_limit_bytes: usize,
    timers_fired: usize,
}

impl Task {
    /// Continues a job from what is restored. `max_batch_bytes` is by [`Job::output_topics`]. Inputs are added by the caller.
    pub fn new<P: Processor>(job: &Job<P>, incarnation: u64, restored: Restored, max_batch_bytes: Vec<usize>) -> Self {
        let frame = restored.frame.as_ref();
        Self {
            job: job.name.clone(),
            incarnation,
            operators: job.operators(),
            inputs: Vec::new(),
            state: TaskState {
                state: restored.state,
                timers: restored.timers,
                watermark_ms: frame.map_or(NO_WATERMARK_MS, |frame| frame.watermark_ms),
                processing_time_ms: frame.map_or(0, |frame| frame.processing_time_ms),
                key_groups: frame.map_or(job.options.key_groups.max(1), |frame| frame.key_groups),
                sinks: job.sinks.clone(),
                max_batch_bytes,
                outputs: Vec::new(),
                output_bytes: 0,
                output_limit_bytes: job.options.output_limit_bytes,
            },
            epoch: frame.map_or(0, |frame| frame.epoch),
            counters: frame.map_or_else(Counters::default, |frame| frame.counters),
            dead_letter_sink: job.sinks.len(),
            late_sink: job.late_topic.as_ref().map(|_| job.sinks.len() + 1),
            output_yield_bytes: job.options.output_yield_bytes,
            state_limit_bytes: job.options.state_limit_bytes,
            timers_fired: 0,
        }
    }

    /// Whether the job has never run an epoch.
    pub fn is_new(&self) -> bool {
        self.epoch == 0
    }

    /// Whether an epoch would do something even if there is nothing to read.
    pub fn has_work(&self, processing_time_ms: i64, idle: &[bool]) -> bool {
        let due = |kind, now_ms| self.state.timers.next_at(kind).is_some_and(|at_ms| at_ms <= now_ms);
        due(TimerKind::Event, self.state.watermark_ms)
            || due(TimerKind::Processing, processing_time_ms)
            || self.combined_watermark(idle) > self.state.watermark_ms
    }

    /// When the wall clock will reach a timer.
    pub fn next_processing_timer(&self) -> Option<i64> {
        self.state.timers.next_at(TimerKind::Processing)
    }

    fn combined_watermark(&self, idle: &[bool]) -> i64 {
        let partitions = self
            .inputs
            .iter()
            .zip(idle)
            .map(|(input, idle)| (input.watermark.get(), *idle));
        watermark::combine(self.state.watermark_ms, partitions)
    }

    /// Runs one epoch. After an error the task must not be used any more: what it holds was not committed.
    pub fn run<P: Processor>(&mut self, job: &Job<P>, epoch: EpochInput) -> Result<EpochOutput, JobError> {
        let from: Vec<i64> = self.inputs.iter().map(|input| input.position).collect();
        self.state.processing_time_ms = epoch.processing_time_ms;
        self.timers_fired = 0;
        // Timers that the last epoch had no room for come first: no record is processed while an older timer is due.
        if matches!(self.fire_all(job)?, Flow::GoOn) {
            let flow = self.read_all(job, &epoch.reads)?;
            // Partitions vouch only for what was processed, so the watermark moves even if the epoch must yield: a job that
            // always fills its epochs would never fire a timer otherwise.
            self.state.watermark_ms = self.combined_watermark(&epoch.idle);
            if matches!(flow, Flow::GoOn) {
                self.fire_all(job)?;
            }
        }
        if self.state.size_bytes() > self.state_limit_bytes {
            return Err(self.limit(format!(
                "its state takes {} bytes of memory, more than state_limit_bytes = {}",
                self.state.size_bytes(),
                self.state_limit_bytes
            )));
        }
        Ok(self.finish(&from, &epoch.idle))
    }

    fn fire_all<P: Processor>(&mut self, job: &Job<P>) -> Result<Flow, JobError> {
        for (kind, now_ms) in [
            (TimerKind::Event, self.state.watermark_ms),
            (TimerKind::Processing, self.state.processing_time_ms),
        ] {
            while !self.must_yield() {
                let Some(timer) = self.state.timers.pop_due(kind, now_ms) else {
                    break;
                };
                self.timers_fired += 1;
                self.counters.timers += 1;
                self.fire(job, &timer)?;
            }
        }
        Ok(if self.must_yield() { Flow::Yield } else { Flow::GoOn })
    }

    fn must_yield(&self) -> bool {
        self.state.output_bytes >= self.output_yield_bytes
            || self.state.state.dirty_bytes() + self.state.timers.dirty_bytes() >= MAX_DELTA_BYTES
            || self.timers_fired >= MAX_TIMERS_PER_EPOCH
    }

    fn fire<P: Processor>(&mut self, job: &Job<P>, timer: &Timer) -> Result<(), JobError> {
        let outputs_before = self.state.outputs.len();
        self.state.state.begin();
        self.state.timers.begin();
        let key = Bytes::copy_from_slice(&timer.key);
        let mut ctx = Context::new(&mut self.state, key, timer.at_ms, &timer.name);
        let fired = (|| {
            for table in &job.tables {
                if table.on_timer(timer, &mut ctx)? {
                    return Ok(());
                }
            }
            job.processor.on_timer(timer, &mut ctx)
        })();
        fired.map_err(|error: ProcessError| {
            let key = String::from_utf8_lossy(&timer.key);
            self.failed(format!("timer '{}' of key '{key}': {error}", timer.name))
        })?;
        self.check_outputs(job, outputs_before)
    }

    fn read_all<P: Processor>(&mut self, job: &Job<P>, reads: &[(usize, Fetched)]) -> Result<Flow, JobError> {
        for (index, fetched) in reads {
            for record in &fetched.records {
                if self.must_yield() {
                    if planted(Bug::PositionAhead) {
                        self.move_to(*index, fetched.next_offset);
                    }
                    return Ok(Flow::Yield);
                }
                self.read(job, *index, record)?;
                self.move_to(*index, record.offset + 1);
            }
            self.move_to(*index, fetched.next_offset);
        }
        Ok(if self.must_yield() { Flow::Yield } else { Flow::GoOn })
    }

    fn move_to(&mut self, index: usize, position: i64) {
        if let Some(input) = self.inputs.get_mut(index) {
            input.position = input.position.max(position);
        }
    }

    fn read<P: Processor>(&mut self, job: &Job<P>, index: usize, record: &StoredRecord) -> Result<(), JobError> {
        let Some(input) = self.inputs.get_mut(index) else {
            return Ok(());
        };
        let Some(source) = job.sources.get(input.source) else {
            return Ok(());
        };
        self.counters.read += 1;
        let event = match (source.decode)(record) {
            Ok(Decoded::Event(event)) => event,
            Ok(Decoded::Watermark(time_ms)) => {
                input.watermark.declare(time_ms);
                return Ok(());
            }
            Ok(Decoded::Skip) => return Ok(()),
            Err(reason) => return self.reject(index, record, &reason),
        };
        let time_ms = source
            .event_time
            .as_ref()
            .map_or(record.timestamp_ms, |time| time(&event));
        let outputs_before = self.state.outputs.len();
        let output_bytes_before = self.state.output_bytes;
        self.state.state.begin();
        self.state.timers.begin();
        let key = (job.key)(&event);
        let mut ctx = Context::new(&mut self.state, key, time_ms, "process");
        let processed = (|| {
            for table in &job.tables {
                if table.keep(&event, &mut ctx)? {
                    return Ok(());
                }
            }
            job.processor.process(event, &mut ctx)
        })();
        let late = ctx.was_late();
        match processed {
            Ok(()) => {
                input.watermark.observe(time_ms);
                self.check_outputs(job, outputs_before)?;
                if late { self.count_late(index, record) } else { Ok(()) }
            }
            Err(ProcessError::Reject(reason)) => {
                self.state.state.roll_back();
                self.state.timers.roll_back();
                self.state.outputs.truncate(outputs_before);
                self.state.output_bytes = output_bytes_before;
                self.reject(index, record, &reason)
            }
            Err(ProcessError::Fatal(reason)) => {
                let (topic, partition) = (&input.topic, input.partition);
                let reason = format!("record {topic}/{partition} at offset {}: {reason}", record.offset);
                Err(self.failed(reason))
            }
        }
    }

    /// Output records that their topic would refuse become dead letters of the same epoch.
    fn check_outputs<P: Processor>(&mut self, job: &Job<P>, first: usize) -> Result<(), JobError> {
        let mut added = self.state.outputs.split_off(first.min(self.state.outputs.len()));
        for (sink, record) in added.drain(..) {
            if self.state.fits(sink, &record) {
                self.counters.written += 1;
                self.state.outputs.push((sink, record));
                continue;
            }
            let topic = job.sinks.get(sink).map_or("", String::as_str);
            let bytes = dead_letter::batch_bound(&record);
            let reason = format!("the output record needs {bytes} bytes, more than max.message.bytes of '{topic}'");
            let now_ms = self.state.processing_time_ms;
            let letter = dead_letter::from_output(&self.job, &reason, topic, record, now_ms);
            self.bury(letter)?;
        }
        Ok(())
    }

    fn reject(&mut self, index: usize, record: &StoredRecord, reason: &str) -> Result<(), JobError> {
        match self.letter(index, record, reason) {
            Some(letter) => self.bury(letter),
            None => Ok(()),
        }
    }

    fn letter(&self, index: usize, record: &StoredRecord, reason: &str) -> Option<dead_letter::Letter> {
        let input = self.inputs.get(index)?;
        let place = dead_letter::Place {
            topic: &input.topic,
            partition: input.partition,
        };
        Some(dead_letter::from_input(
            &self.job,
            reason,
            place,
            record,
            self.state.processing_time_ms,
        ))
    }

    fn bury(&mut self, letter: dead_letter::Letter) -> Result<(), JobError> {
        self.counters.dead_letters += 1;
        self.put_aside(self.dead_letter_sink, letter)
    }

    fn put_aside(&mut self, sink: usize, letter: dead_letter::Letter) -> Result<(), JobError> {
        let max = self.state.max_batch_bytes.get(sink).copied().unwrap_or(usize::MAX);
        let emitted = self.state.emit(sink, dead_letter::fit(letter, max));
        emitted.map_err(|limit_bytes| self.limit(format!("the dead letters of one epoch exceed {limit_bytes} bytes")))
    }

    fn count_late(&mut self, index: usize, record: &StoredRecord) -> Result<(), JobError> {
        self.counters.late += 1;
        let Some(sink) = self.late_sink else { return Ok(()) };
        let reason = format!("late: the watermark was {}", self.state.watermark_ms);
        match self.letter(index, record, &reason) {
            Some(letter) => self.put_aside(sink, letter),
            None => Ok(()),
        }
    }

    fn finish(&mut self, from: &[i64], idle: &[bool]) -> EpochOutput {
        self.epoch += 1;
        let inputs = self
            .inputs
            .iter()
            .zip(from)
            .zip(idle)
            .map(|((input, from), idle)| InputFrame {
                topic: input.topic.clone(),
                topic_id: *input.topic_id.as_bytes(),
                partition: input.partition,
                from: *from,
                to: input.position,
                watermark_ms: input.watermark.get(),
                idle: *idle,
            });
        let frame = Frame {
            job: self.job.clone(),
            incarnation: self.incarnation,
            epoch: self.epoch,
            processing_time_ms: self.state.processing_time_ms,
            watermark_ms: self.state.watermark_ms,
            key_groups: self.state.key_groups,
            operators: self.operators.clone(),
            inputs: inputs.collect(),
            counters: self.counters,
        };
        self.state.output_bytes = 0;
        EpochOutput {
            frame,
            outputs: std::mem::take(&mut self.state.outputs),
            state: self.state.state.take_changes(),
            timers: self.state.timers.take_changes(),
        }
    }

    fn failed(&self, reason: String) -> JobError {
        JobError::Failed {
            job: self.job.clone(),
            reason,
        }
    }

    fn limit(&self, reason: String) -> JobError {
        JobError::Limit {
            job: self.job.clone(),
            reason,
        }
    }
}
