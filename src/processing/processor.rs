//! What a job's own logic implements, and what it may ask the engine for.

use bytes::Bytes;
use riverlog_storage::record::Record;

use super::{
    key_group::key_group,
    state::{StateStore, address},
    task::TaskState,
    timer::{Timer, TimerKind},
};

/// The keyed logic of a job.
///
/// It has no memory of its own (`&self`): what it must remember it keeps in [state](super::ValueState), which
/// commits with the outputs and the input offsets, and comes back after a crash exactly as committed.
pub trait Processor: Send + Sync + 'static {
    /// What the sources decode records to.
    type Event: 'static;

    /// Handles one event. The context is positioned at the event's key and time.
    fn process(&self, event: Self::Event, ctx: &mut Context<'_>) -> Result<(), ProcessError>;

    /// Handles a timer that this processor set. The context is positioned at its key.
    fn on_timer(&self, timer: &Timer, ctx: &mut Context<'_>) -> Result<(), ProcessError> {
        let _ = ctx;
        Err(ProcessError::Fatal(format!(
            "no part of this job handles timer '{}'",
            timer.name
        )))
    }

    /// The stateful parts, so that a changed job is not resumed on state that it would misread.
    fn operators(&self) -> Vec<Operator>;
}

/// A stateful part of a job: a job resumes only if every operator's fingerprint is the one it was stopped with.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Operator {
    /// What to call it in an error.
    pub name: String,
    /// Whatever its state's meaning depends on, a version among it.
    pub fingerprint: String,
}

/// Why a record or a timer was not processed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProcessError {
    /// This record is bad: its changes are taken back, it goes to the dead letters, the job goes on.
    #[error("{0}")]
    Reject(String),
    /// The job cannot go on.
    #[error("{0}")]
    Fatal(String),
}

/// The engine, as a processor sees it while handling one event or timer of one key.
#[derive(Debug)]
pub struct Context<'t> {
    task: &'t mut TaskState,
    key: Bytes,
    group: u16,
    time_ms: i64,
    operator: &'t str,
    late: bool,
}

impl<'t> Context<'t> {
    pub(super) fn new(task: &'t mut TaskState, key: Bytes, time_ms: i64, operator: &'t str) -> Self {
        let group = key_group(&key, task.key_groups);
        Self {
            task,
            key,
            group,
            time_ms,
            operator,
            late: false,
        }
    }

    /// The current key.
    pub fn key(&self) -> &Bytes {
        &self.key
    }

    /// The current key as text (lossy, for records and messages).
    pub fn key_text(&self) -> String {
        String::from_utf8_lossy(&self.key).into_owned()
    }

    /// The event time of the record, or the time that the timer was set for.
    pub fn time_ms(&self) -> i64 {
        self.time_ms
    }

    /// How far event time has come: nothing up to here is expected any more. It moves between epochs only.
    pub fn watermark_ms(&self) -> i64 {
        self.task.watermark_ms
    }

    /// The epoch's processing time. Recorded with the epoch, so that a run can be repeated.
    pub fn processing_time_ms(&self) -> i64 {
        self.task.processing_time_ms
    }

    /// Writes a record to the job's first output topic, as part of this epoch.
    pub fn emit(&mut self, record: Record) -> Result<(), ProcessError> {
        self.emit_at(0, record)
    }

    /// Writes a record to one of the job's output topics.
    pub fn emit_to(&mut self, topic: &str, record: Record) -> Result<(), ProcessError> {
        let sink = self.task.sinks.iter().position(|sink| sink == topic);
        let sink = sink.ok_or_else(|| {
            ProcessError::Fatal(format!(
                "'{topic}' is not an output of this job: declare it with .sink(\"{topic}\")"
            ))
        })?;
        self.emit_at(sink, record)
    }

    fn emit_at(&mut self, sink: usize, record: Record) -> Result<(), ProcessError> {
        if sink >= self.task.sinks.len() {
            return Err(ProcessError::Fatal(
                "the job emits a record and has no output: declare one with .sink()".into(),
            ));
        }
        self.task.emit(sink, record).map_err(|limit_bytes| {
            ProcessError::Fatal(format!(
                "operator '{}' at key '{}' brings the output of one epoch above {limit_bytes} bytes",
                self.operator,
                self.key_text(),
            ))
        })
    }

    /// Sets a timer for the current key; [`Processor::on_timer`] is called with it. Setting it again changes nothing.
    pub fn set_timer(&mut self, kind: TimerKind, name: &str, at_ms: i64, payload: &[u8]) {
        let timer = self.timer(name, at_ms, payload);
        self.task.timers.set(kind, timer);
    }

    /// Takes a timer of the current key back.
    pub fn cancel_timer(&mut self, kind: TimerKind, name: &str, at_ms: i64, payload: &[u8]) {
        let timer = self.timer(name, at_ms, payload);
        self.task.timers.cancel(kind, timer);
    }

    fn timer(&self, name: &str, at_ms: i64, payload: &[u8]) -> Timer {
        Timer {
            at_ms,
            key: self.key.to_vec(),
            name: name.to_owned(),
            payload: payload.to_vec(),
        }
    }

    /// Says that the current record came too late to count: it is counted as late, and goes to the late topic if the job has one.
    pub fn late(&mut self) {
        self.late = true;
    }

    pub(super) fn was_late(&self) -> bool {
        self.late
    }

    pub(super) fn state(&self) -> &StateStore {
        &self.task.state
    }

    pub(super) fn state_mut(&mut self) -> &mut StateStore {
        &mut self.task.state
    }

    pub(super) fn address(&self) -> Vec<u8> {
        address(self.group, &self.key)
    }
}
