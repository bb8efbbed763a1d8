//! One start of a job: plans epochs, runs them, commits them. Stepwise, so that a test (or a simulation) can drive it.
//!
//! At most one commit is in flight; the next epoch is computed meanwhile and handed over only when the one before is durable. So commits
//! are in order, and after a refused one nothing that builds on it can be in the log. Whatever fails, the runner is
//! thrown away and a new one restores from the log: live state is never repaired.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    thread::JoinHandle,
    time::Duration,
};

use parking_lot::Mutex;
use riverlog_storage::{clock::Clock, record::Record};
use uuid::Uuid;

use super::{
    epoch::{EpochInput, Frame, read_order},
    error::JobError,
    inputs,
    job::Job,
    log::{Commit, Consumed, JobLog, Log, LogError, Subscription, TopicInfo, Wake},
    planted::{Bug, planted},
    processor::Processor,
    state_log::{self, Snapshot},
    task::{EpochOutput, Task},
    watermark::IdleClock,
};
use crate::broker::partitioner::partition_for_key;

/// What a step came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Something was done; there may be more.
    Worked,
    /// There is nothing to do until the wake is notified or the time has passed.
    Waiting(Option<Duration>),
}

/// A commit on its way.
struct Pending {
    result: Arc<Mutex<Option<Result<(), LogError>>>>,
    done: Done,
}

/// Where the log's answer goes. A log that goes away without one has answered as well: nobody waits for ever.
struct Answer {
    result: Arc<Mutex<Option<Result<(), LogError>>>>,
    wake: Arc<Wake>,
}

impl Answer {
    fn give(&self, outcome: Result<(), LogError>) {
        *self.result.lock() = Some(outcome);
        self.wake.notify();
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        let mut result = self.result.lock();
        // Given or, at worst, given and already taken: then nobody looks any more.
        result.get_or_insert_with(|| Err(LogError::Failed("the log went away without an answer".into())));
        drop(result);
        self.wake.notify();
    }
}

/// What a commit stands for.
enum Done {
    Epoch {
        frame: Box<Frame>,
        delta_bytes: usize,
    },
    SnapshotPart,
    SnapshotEnd {
        size_bytes: usize,
        deltas_left_bytes_from: usize,
    },
}

type SnapshotResult = Result<Option<Snapshot>, JobError>;

/// See the [module](self).
pub struct Runner<L: Log, P: Processor> {
    log: Arc<L>,
    job: Arc<Job<P>>,
    clock: Arc<dyn Clock>,
    wake: Arc<Wake>,
    job_log: JobLog,
    output_topics: Vec<TopicInfo>,
    task: Task,
    idle_clocks: Vec<IdleClock>,
    subscription: Option<Subscription>,
    ready: Option<(Commit, Done)>,
    pending: Option<Pending>,
    snapshot_commits: VecDeque<(Commit, Done)>,
    /// Whether the last commit was a part of a snapshot.
    snapshot_turn: bool,
    snapshot_build: Option<JoinHandle<SnapshotResult>>,
    /// Deltas in the log that no snapshot covers, and how much of them there was when the running build began.
    delta_bytes: usize,
    delta_bytes_at_build: usize,
    snapshot_bytes: usize,
    /// Make snapshots in the step itself: repeatable, for tests.
    pub(super) snapshots_inline: bool,
    committed: Option<Frame>,
}

impl<L: Log, P: Processor> Runner<L, P> {
    /// Takes the job over from whoever runs it, and restores it from what is committed.
    pub fn start(log: Arc<L>, job: Arc<Job<P>>, clock: Arc<dyn Clock>, wake: Arc<Wake>) -> Result<Self, JobError> {
        job.check()?;
        inputs::require(&*log, &job)?;
        let output_topics = inputs::ensure_outputs(&*log, &job)?;
        let job_log = log.start_job(&job.name).map_err(JobError::log(&job.name))?;
        let loaded = state_log::load(&*log, &job.name, job_log.state)?;
        if let Some(frame) = &loaded.restored.frame {
            inputs::check_operators(&job, frame)?;
        }
        let committed = loaded.restored.frame.clone();
        let max_batch_bytes = output_topics.iter().map(|topic| topic.max_batch_bytes).collect();
        let task = Task::new(&job, job_log.incarnation, loaded.restored, max_batch_bytes);
        let mut runner = Self {
            log,
            job,
            clock,
            wake,
            job_log,
            output_topics,
            task,
            idle_clocks: Vec::new(),
            subscription: None,
            ready: None,
            pending: None,
            snapshot_commits: VecDeque::new(),
            snapshot_turn: false,
            snapshot_build: None,
            delta_bytes: loaded.delta_bytes,
            delta_bytes_at_build: 0,
            snapshot_bytes: loaded.snapshot_bytes,
            snapshots_inline: false,
            committed,
        };
        runner.refresh_inputs()?;
        Ok(runner)
    }

    /// The last committed epoch.
    pub fn committed(&self) -> Option<&Frame> {
        self.committed.as_ref()
    }

    /// Whether a commit is on its way.
    pub fn is_committing(&self) -> bool {
        self.pending.is_some()
    }

    /// Does what can be done without waiting.
    pub fn step(&mut self) -> Result<Step, JobError> {
        let mut worked = self.collect_commit()?;
        worked |= self.collect_snapshot();
        worked |= self.submit_next();
        if self.ready.is_none()
            && let Some(epoch) = self.plan()?
        {
            let output = self.task.run(&self.job, epoch)?;
            self.ready = Some(self.commit_of(output)?);
            worked |= true;
            self.submit_next();
        }
        Ok(if worked {
            Step::Worked
        } else {
            Step::Waiting(self.wait_time())
        })
    }

    /// Whether the commit in flight has been answered; an answer is taken in.
    pub fn collect_commit(&mut self) -> Result<bool, JobError> {
        let Some(pending) = &self.pending else { return Ok(false) };
        let Some(result) = pending.result.lock().take() else {
            return Ok(false);
        };
        let done = self.pending.take().map(|pending| pending.done);
        result.map_err(JobError::log(&self.job.name))?;
        match done {
            Some(Done::Epoch { frame, delta_bytes }) => {
                self.committed = Some(*frame);
                self.delta_bytes += delta_bytes;
                self.begin_snapshot();
            }
            Some(Done::SnapshotEnd {
                size_bytes,
                deltas_left_bytes_from,
            }) => {
                self.snapshot_bytes = size_bytes;
                self.delta_bytes = self.delta_bytes.saturating_sub(deltas_left_bytes_from);
                tracing::debug!(job = self.job.name, size_bytes, "snapshot committed");
            }
            Some(Done::SnapshotPart) | None => {}
        }
        Ok(true)
    }

    fn submit_next(&mut self) -> bool {
        if self.pending.is_some() && !planted(Bug::CommitAhead) {
            return false;
        }
        // Epochs and the parts of a snapshot take turns: neither waits for all of the other.
        self.snapshot_turn = !self.snapshot_turn && !self.snapshot_commits.is_empty() || self.ready.is_none();
        let next = match self.snapshot_turn {
            true => self.snapshot_commits.pop_front(),
            false => self.ready.take(),
        };
        let Some((commit, done)) = next else {
            return false;
        };
        let result = Arc::new(Mutex::new(None));
        self.pending = Some(Pending {
            result: Arc::clone(&result),
            done,
        });
        let answer = Answer {
            result,
            wake: Arc::clone(&self.wake),
        };
        self.log.commit(commit, Box::new(move |outcome| answer.give(outcome)));
        true
    }

    /// Fixes what the next epoch reads; `None` if there is nothing to do.
    fn plan(&mut self) -> Result<Option<EpochInput>, JobError> {
        self.refresh_inputs()?;
        let monotonic_ms = self.clock.monotonic_ms();
        let ids: Vec<_> = self.task.inputs.iter().map(|input| input.id).collect();
        let ends = self.log.ends(&ids);
        let timeout_ms = self.idle_timeout_ms();
        let mut available = Vec::new();
        let mut idle = Vec::new();
        for ((input, idle_clock), ends) in self.task.inputs.iter_mut().zip(&mut self.idle_clocks).zip(ends) {
            let ends = inputs::check_position(&self.job, input, ends)?;
            idle_clock.observe(input.position >= ends.end, monotonic_ms);
            available.push(ends.end);
            idle.push(idle_clock.is_idle(monotonic_ms, timeout_ms));
        }
        let mut reads = Vec::new();
        let mut budget = self.job.options.epoch_input_bytes.max(1);
        for index in read_order(self.task.inputs.iter().map(|input| input.watermark.get())) {
            let (Some(input), Some(end)) = (self.task.inputs.get(index), available.get(index)) else {
                continue;
            };
            if budget == 0 || input.position >= *end {
                continue;
            }
            let fetched = self
                .log
                .read(input.id, input.position, *end, budget)
                .map_err(JobError::log(&self.job.name))?;
            budget = budget.saturating_sub(fetched.bytes.max(1));
            if fetched.next_offset > input.position {
                reads.push((index, fetched));
            }
        }
        let processing_time_ms = self.clock.now_ms();
        // The first epoch of a job is committed even if it is empty: it fixes where each partition is read from.
        if reads.is_empty() && !self.task.is_new() && !self.task.has_work(processing_time_ms, &idle) {
            return Ok(None);
        }
        Ok(Some(EpochInput {
            processing_time_ms,
            reads,
            idle,
        }))
    }

    /// Finds new partitions, and inputs that are not what they were.
    fn refresh_inputs(&mut self) -> Result<(), JobError> {
        let before = self.task.inputs.len();
        let replaced = inputs::refresh(&*self.log, &self.job, self.committed.as_ref(), &mut self.task.inputs)?;
        if replaced {
            // They go by the numbers of the inputs, and a new incarnation has not been read to its end yet.
            self.idle_clocks.clear();
        }
        self.idle_clocks.resize(self.task.inputs.len(), IdleClock::default());
        if replaced || self.task.inputs.len() != before {
            let ids: Vec<_> = self.task.inputs.iter().map(|input| input.id).collect();
            self.subscription = Some(self.log.subscribe(&ids, &self.wake));
        }
        Ok(())
    }

    fn commit_of(&self, mut output: EpochOutput) -> Result<(Commit, Done), JobError> {
        let state = state_log::encode_epoch(&mut output).map_err(|e| JobError::too_large(&self.job.name, e))?;
        let mut outputs: BTreeMap<(usize, usize), Vec<Record>> = BTreeMap::new();
        for (sink, record) in output.outputs {
            let partitions = self
                .output_topics
                .get(sink)
                .map_or(1, |topic| topic.partitions.len())
                .max(1);
            let partition = match &record.key {
                Some(key) => partition_for_key(key, u32::try_from(partitions).unwrap_or(u32::MAX)) as usize,
                None => (output.frame.epoch % partitions as u64) as usize,
            };
            outputs.entry((sink, partition)).or_default().push(record);
        }
        let outputs = outputs.into_iter().filter_map(|((sink, partition), records)| {
            Some((*self.output_topics.get(sink)?.partitions.get(partition)?, records))
        });
        let first = output.frame.epoch == 1;
        let read = output
            .frame
            .inputs
            .iter()
            .filter(|input| first || input.to != input.from);
        let commit = Commit {
            job: self.job.name.clone(),
            log: self.job_log.clone(),
            outputs: outputs.collect(),
            offsets: read
                .map(|input| Consumed {
                    topic: input.topic.clone(),
                    topic_id: Uuid::from_bytes(input.topic_id),
                    partition: input.partition,
                    offset: input.to,
                })
                .collect(),
            state_start: None,
            state,
        };
        let delta_bytes = state_log::size_bytes(&commit.state);
        Ok((
            commit,
            Done::Epoch {
                frame: Box::new(output.frame),
                delta_bytes,
            },
        ))
    }

    fn begin_snapshot(&mut self) {
        let threshold = self.job.options.snapshot_after_bytes.max(self.snapshot_bytes);
        if self.delta_bytes < threshold || self.snapshot_build.is_some() || !self.snapshot_commits.is_empty() {
            return;
        }
        self.delta_bytes_at_build = self.delta_bytes;
        let (log, job, job_log) = (Arc::clone(&self.log), self.job.name.clone(), self.job_log.clone());
        let build = move || state_log::snapshot(&*log, &job, job_log.state, job_log.incarnation);
        if self.snapshots_inline {
            self.queue_snapshot(build());
            return;
        }
        let wake = Arc::clone(&self.wake);
        let thread = std::thread::Builder::new()
            .name(format!("snapshot-{}", self.job.name))
            .spawn(move || {
                let snapshot = build();
                wake.notify();
                snapshot
            });
        match thread {
            Ok(thread) => self.snapshot_build = Some(thread),
            Err(error) => {
                tracing::warn!(job = self.job.name, %error, "no thread for a snapshot; it is tried again later")
            }
        }
    }

    fn collect_snapshot(&mut self) -> bool {
        let finished = self.snapshot_build.take_if(|build| build.is_finished());
        let Some(build) = finished else { return false };
        match build.join() {
            Ok(snapshot) => self.queue_snapshot(snapshot),
            Err(_) => tracing::error!(job = self.job.name, "the thread that makes a snapshot panicked"),
        }
        true
    }

    fn queue_snapshot(&mut self, snapshot: SnapshotResult) {
        let snapshot = match snapshot {
            Ok(Some(snapshot)) => snapshot,
            Ok(None) => return,
            Err(error) => {
                // The deltas are all there: the job goes on, and restores more slowly.
                tracing::warn!(job = self.job.name, %error, "no snapshot was made");
                return;
            }
        };
        let last = snapshot.commits.len().saturating_sub(1);
        for (index, state) in snapshot.commits.into_iter().enumerate() {
            let is_last = index == last;
            let commit = Commit {
                job: self.job.name.clone(),
                log: self.job_log.clone(),
                outputs: Vec::new(),
                offsets: Vec::new(),
                state,
                state_start: is_last.then_some(snapshot.covers),
            };
            let end = Done::SnapshotEnd {
                size_bytes: snapshot.size_bytes,
                deltas_left_bytes_from: self.delta_bytes_at_build,
            };
            self.snapshot_commits
                .push_back((commit, if is_last { end } else { Done::SnapshotPart }));
        }
    }

    fn idle_timeout_ms(&self) -> Option<u64> {
        self.job
            .options
            .idle_timeout
            .map(|timeout| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX))
    }

    /// How long nothing will happen unless something arrives.
    fn wait_time(&self) -> Option<Duration> {
        if self.ready.is_some() {
            return None;
        }
        let monotonic_ms = self.clock.monotonic_ms();
        let timeout_ms = self.idle_timeout_ms();
        let idle_at = self.idle_clocks.iter().filter_map(|clock| clock.idle_at(timeout_ms));
        let idle_in = idle_at
            .filter(|at| *at > monotonic_ms)
            .min()
            .map(|at| at - monotonic_ms);
        let timer_in = self
            .task
            .next_processing_timer()
            .map(|at| at.saturating_sub(self.clock.now_ms()).max(1) as u64);
        [idle_in, timer_in]
            .into_iter()
            .flatten()
            .min()
            .map(Duration::from_millis)
    }
}
