//! A running job: a thread that steps its [`Runner`], starts it again when that may help, and tells how it is.

use std::{
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use riverlog_storage::clock::Clock;
use tokio::sync::watch;

use super::{
    epoch::Counters,
    error::JobError,
    job::Job,
    log::{Log, Wake},
    processor::Processor,
    runner::{Runner, Step},
    watermark::NO_WATERMARK_MS,
};

/// Whether a job runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum JobState {
    /// It restores its state.
    #[default]
    Starting,
    /// It processes, or waits for input.
    Running,
    /// It could not go on and tries again.
    Retrying(JobError),
    /// It was told to stop.
    Stopped,
    /// It will not run again by itself.
    Failed(JobError),
}

/// How a job is. Counts only what is committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobStatus {
    /// Whether it runs.
    pub state: JobState,
    /// The last committed epoch.
    pub epoch: u64,
    /// The watermark after it; [`NO_WATERMARK_MS`] if there is none yet.
    pub watermark_ms: i64,
    /// What the job has done since it was first started.
    pub counters: Counters,
}

impl Default for JobStatus {
    fn default() -> Self {
        Self {
            state: JobState::default(),
            epoch: 0,
            watermark_ms: NO_WATERMARK_MS,
            counters: Counters::default(),
        }
    }
}

/// A running job. Dropping the handle stops the job after the commit in flight.
#[derive(Debug)]
pub struct JobHandle {
    name: String,
    stop: Arc<Stop>,
    status: watch::Receiver<JobStatus>,
    thread: Option<JoinHandle<Result<(), JobError>>>,
}

#[derive(Debug, Default)]
struct Stop {
    asked: std::sync::atomic::AtomicBool,
    wake: Arc<Wake>,
}

impl Stop {
    fn ask(&self) {
        self.asked.store(true, std::sync::atomic::Ordering::SeqCst);
        self.wake.notify();
    }

    fn asked(&self) -> bool {
        self.asked.load(std::sync::atomic::Ordering::SeqCst)
    }

    /// Waits for the whole time, unless the job is told to stop. The wake alone would not do: what the last runner had under
    /// way, a commit's answer or a snapshot, notifies it as well.
    fn wait_until_asked(&self, at_most: Duration) {
        let began = Instant::now();
        while !self.asked() {
            let left = at_most.saturating_sub(began.elapsed());
            if left.is_zero() {
                return;
            }
            self.wake.wait(Some(left));
        }
    }
}

impl JobHandle {
    /// The job's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How the job is now.
    pub fn status(&self) -> JobStatus {
        self.status.borrow().clone()
    }

    /// Waits until the status is as wanted, or the job has ended.
    pub async fn wait_for(&self, wanted: impl Fn(&JobStatus) -> bool) -> JobStatus {
        let mut status = self.status.clone();
        let reached = status
            .wait_for(|status| wanted(status) || is_over(status))
            .await
            .map(|status| status.clone());
        reached.unwrap_or_else(|_| self.status())
    }

    /// Tells the job to stop; [`JobHandle::join`] waits for it.
    pub fn stop(&self) {
        self.stop.ask();
    }

    /// Waits until the job has stopped or failed. Blocks.
    pub fn join(mut self) -> Result<(), JobError> {
        let Some(thread) = self.thread.take() else {
            return Ok(());
        };
        thread.join().unwrap_or_else(|panic| Err(panicked(&self.name, &*panic)))
    }
}

impl Drop for JobHandle {
    fn drop(&mut self) {
        // Without a thread the job was joined; with one it was forgotten, and must not run on unseen.
        if self.thread.is_some() {
            self.stop.ask();
        }
    }
}

fn is_over(status: &JobStatus) -> bool {
    matches!(status.state, JobState::Stopped | JobState::Failed(_))
}

fn panicked(job: &str, panic: &(dyn std::any::Any + Send)) -> JobError {
    let text = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied());
    JobError::Failed {
        job: job.to_owned(),
        reason: format!("its code panicked: {}", text.unwrap_or("no message")),
    }
}

/// Runs a job on a log, on a thread of its own.
pub fn spawn_on<L: Log, P: Processor>(log: Arc<L>, job: Job<P>, clock: Arc<dyn Clock>) -> Result<JobHandle, JobError> {
    job.check()?;
    let name = job.name.clone();
    let stop = Arc::new(Stop::default());
    let (sender, status) = watch::channel(JobStatus::default());
    let driver = Driver {
        log,
        job: Arc::new(job),
        clock,
        stop: Arc::clone(&stop),
        status: sender,
    };
    let thread_name = format!("job-{name}");
    let thread = std::thread::Builder::new()
        .name(thread_name)
        .spawn(move || driver.run_guarded());
    let thread = thread.map_err(|error| JobError::Failed {
        job: name.clone(),
        reason: format!("the system gives no thread: {error}"),
    })?;
    Ok(JobHandle {
        name,
        stop,
        status,
        thread: Some(thread),
    })
}

struct Driver<L: Log, P: Processor> {
    log: Arc<L>,
    job: Arc<Job<P>>,
    clock: Arc<dyn Clock>,
    stop: Arc<Stop>,
    status: watch::Sender<JobStatus>,
}

pub(super) const FIRST_RETRY: Duration = Duration::from_millis(100);
const LAST_RETRY: Duration = Duration::from_secs(10);

impl<L: Log, P: Processor> Driver<L, P> {
    /// A panic of the job's own code is that job's failure, and nobody else's.
    fn run_guarded(self) -> Result<(), JobError> {
        let run = std::panic::AssertUnwindSafe(|| self.run());
        let result = std::panic::catch_unwind(run).unwrap_or_else(|panic| Err(panicked(&self.job.name, &*panic)));
        let state = match &result {
            Ok(()) => JobState::Stopped,
            Err(error) => {
                tracing::error!(job = self.job.name, %error, "job failed");
                JobState::Failed(error.clone())
            }
        };
        self.status.send_modify(|status| status.state = state);
        result
    }

    fn run(&self) -> Result<(), JobError> {
        let mut retry = FIRST_RETRY;
        loop {
            let epochs_before = self.status.borrow().epoch;
            match self.run_once() {
                Err(error) if error.is_retriable() && !self.stop.asked() => {
                    if self.status.borrow().epoch > epochs_before {
                        retry = FIRST_RETRY;
                    }
                    tracing::warn!(job = self.job.name, %error, ?retry, "job is restored and tried again");
                    self.status
                        .send_modify(|status| status.state = JobState::Retrying(error));
                    self.stop.wait_until_asked(retry);
                    // Another start would take the job from whoever runs it by now.
                    if self.stop.asked() {
                        return Ok(());
                    }
                    retry = (retry * 2).min(LAST_RETRY);
                }
                // Told to stop while it could not go on: everything committed stands, so that is no failure.
                Err(error) if error.is_retriable() => return Ok(()),
                ended => return ended,
            }
        }
    }

    fn run_once(&self) -> Result<(), JobError> {
        let (log, job, clock) = (Arc::clone(&self.log), Arc::clone(&self.job), Arc::clone(&self.clock));
        let mut runner = Runner::start(log, job, clock, Arc::clone(&self.stop.wake))?;
        self.status.send_modify(|status| status.state = JobState::Running);
        let stepped = loop {
            self.report(&runner);
            if self.stop.asked() {
                break Ok(());
            }
            match runner.step() {
                Ok(Step::Worked) => {}
                Ok(Step::Waiting(at_most)) => self.stop.wake.wait(at_most),
                Err(error) => break Err(error),
            }
        };
        // What is in flight is not known to be committed or not; whoever asks afterwards should see it settled.
        while runner.is_committing() {
            if let Err(error) = runner.collect_commit() {
                return stepped.and(Err(error));
            }
            if runner.is_committing() {
                self.stop.wake.wait(None);
            }
        }
        self.report(&runner);
        stepped
    }

    fn report(&self, runner: &Runner<L, P>) {
        let Some(frame) = runner.committed() else { return };
        self.status.send_if_modified(|status| {
            let changed = status.epoch != frame.epoch;
            (status.epoch, status.watermark_ms, status.counters) = (frame.epoch, frame.watermark_ms, frame.counters);
            changed
        });
    }
}
