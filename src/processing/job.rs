//! A job: what it reads, how it keys it, what it does with it, and what it writes.
//!
//! ```
//! use std::time::Duration;
//! use riverlog::processing::{JobBuilder, ProcessError, Record, Source, Windows, formats};
//!
//! #[derive(serde::Deserialize)]
//! struct Click { page: String, at_ms: i64 }
//!
//! let job = JobBuilder::new("clicks-per-minute")
//!     .source(Source::new("clicks", formats::json::<Click>)
//!         .event_time(|click: &Click| click.at_ms)
//!         .max_disorder(Duration::from_secs(10)))
//!     .key_by(|click: &Click| click.page.clone())
//!     .window(Windows::tumbling(Duration::from_secs(60)))
//!     .aggregate(|count: &mut u64, _: &Click| *count += 1, |window, count, ctx| {
//!         let value = format!("{} {count}", window.start_ms);
//!         let (key, value) = (Some(ctx.key().clone()), Some(value.into()));
//!         ctx.emit(Record { key, value, headers: vec![], timestamp_ms: window.start_ms })
//!     })
//!     .sink("clicks-per-minute");
//! # let _ = job;
//! ```

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use riverlog_storage::record::StoredRecord;
use serde::{Serialize, de::DeserializeOwned};

use super::{
    error::JobError,
    key_group::DEFAULT_KEY_GROUPS,
    processor::{Context, Operator, ProcessError, Processor},
    table::{Extracted, Table, TableInput},
    window::{Window, Windowed, Windows},
};

/// What a source makes of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decoded<E> {
    /// An event.
    Event(E),
    /// No event, but the word of whoever wrote it that nothing up to this event time follows in this partition.
    Watermark(i64),
    /// Nothing of interest.
    Skip,
}

impl<E> From<E> for Decoded<E> {
    fn from(event: E) -> Self {
        Self::Event(event)
    }
}

type Decode<E> = Box<dyn Fn(&StoredRecord) -> Result<Decoded<E>, String> + Send + Sync>;
type EventTime<E> = Box<dyn Fn(&E) -> i64 + Send + Sync>;

/// Where a new job begins to read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StartAt {
    /// At the first record that is there.
    #[default]
    Earliest,
    /// Behind the last one.
    Latest,
}

/// A topic to read, and how.
pub struct Source<E> {
    pub(super) topic: String,
    pub(super) decode: Decode<E>,
    pub(super) event_time: Option<EventTime<E>>,
    pub(super) max_disorder: Duration,
    pub(super) start_at: StartAt,
}

impl<E> Source<E> {
    /// Reads a topic. `decode` returns an event, or a [`Decoded`] that may be something else; records for
    /// which it returns an error go to the job's dead letters, with the error as the reason.
    pub fn new<D: Into<Decoded<E>>>(
        topic: &str,
        decode: impl Fn(&StoredRecord) -> Result<D, String> + Send + Sync + 'static,
    ) -> Self {
        Self {
            topic: topic.to_owned(),
            decode: Box::new(move |record| decode(record).map(Into::into)),
            event_time: None,
            max_disorder: Duration::ZERO,
            start_at: StartAt::default(),
        }
    }

    /// Takes the event time (milliseconds since the Unix epoch) from the event instead of the record's timestamp.
    pub fn event_time(mut self, event_time: impl Fn(&E) -> i64 + Send + Sync + 'static) -> Self {
        self.event_time = Some(Box::new(event_time));
        self
    }

    /// How far behind the largest event time so far a record may come and still not be late.
    pub fn max_disorder(mut self, max_disorder: Duration) -> Self {
        self.max_disorder = max_disorder;
        self
    }

    /// Where a new job begins; one that has run goes on where it stopped.
    pub fn start_at(mut self, start_at: StartAt) -> Self {
        self.start_at = start_at;
        self
    }
}

/// What to do when unread input is gone (deleted by retention, or its topic recreated).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnLostInput {
    /// Stop, and say so.
    #[default]
    Stop,
    /// Go on from the earliest record that is there.
    Earliest,
}

/// Limits and choices of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobOptions {
    /// A partition that has been read to its end for so long does not hold the watermark back. `None`: never idle.
    pub idle_timeout: Option<Duration>,
    /// What to do when unread input is gone.
    pub on_lost_input: OnLostInput,
    /// About how much one epoch reads.
    pub epoch_input_bytes: usize,
    /// An epoch ends early when it has written this much; timers that are due wait for the next one.
    pub output_yield_bytes: usize,
    /// A single record or timer that brings an epoch's output above this stops the job.
    pub output_limit_bytes: usize,
    /// State and timers above this stop the job.
    pub state_limit_bytes: usize,
    /// Deltas above this (or above the last snapshot's size, if that is more) are followed by a snapshot.
    pub snapshot_after_bytes: usize,
    /// Partitions of output topics that the job creates; `None`: the broker's default.
    pub output_partitions: Option<u32>,
    /// Configs of output topics that the job creates.
    pub output_configs: BTreeMap<String, String>,
    /// Into how many groups keys are hashed. Fixed when the job first runs.
    pub key_groups: u16,
}

impl Default for JobOptions {
    fn default() -> Self {
        Self {
            idle_timeout: Some(Duration::from_secs(60)),
            on_lost_input: OnLostInput::default(),
            epoch_input_bytes: 4 << 20,
            output_yield_bytes: 8 << 20,
            // The write set, with the changes of state, must stay below storage's 64 MiB.
            output_limit_bytes: 40 << 20,
            state_limit_bytes: 512 << 20,
            snapshot_after_bytes: 8 << 20,
            output_partitions: None,
            output_configs: BTreeMap::new(),
            key_groups: DEFAULT_KEY_GROUPS,
        }
    }
}

type KeyOf<E> = Box<dyn Fn(&E) -> Bytes + Send + Sync>;

/// Begins the definition of a job.
#[derive(Debug)]
pub struct JobBuilder {
    name: String,
}

impl JobBuilder {
    /// The name identifies the job for ever: its state, its consumer group and its dead letters carry it.
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned() }
    }

    /// Reads a topic.
    pub fn source<E>(self, source: Source<E>) -> Inputs<E> {
        Inputs {
            name: self.name,
            sources: vec![source],
        }
    }
}

/// A job's name and inputs.
pub struct Inputs<E> {
    name: String,
    sources: Vec<Source<E>>,
}

impl<E: 'static> Inputs<E> {
    /// Reads one more topic, decoded to the same type of event: an `enum`, if they differ.
    pub fn source(mut self, source: Source<E>) -> Self {
        self.sources.push(source);
        self
    }

    /// Keys the events. State, timers and windows are per key.
    pub fn key_by<K: Into<Bytes>>(self, key: impl Fn(&E) -> K + Send + Sync + 'static) -> Keyed<E> {
        let Self { name, sources } = self;
        Keyed {
            name,
            sources,
            key: Box::new(move |event| key(event).into()),
            tables: Vec::new(),
        }
    }
}

/// Keyed inputs.
pub struct Keyed<E> {
    name: String,
    sources: Vec<Source<E>>,
    key: KeyOf<E>,
    tables: Vec<Box<dyn TableInput<E>>>,
}

impl<E: 'static> Keyed<E> {
    /// Keeps the events from which `extract` gets a value in a table instead of processing them. The rest of the job
    /// joins with [`Table::get`] and [`Table::as_of`].
    pub fn table<V: Serialize + DeserializeOwned>(
        mut self,
        table: &'static Table<V>,
        extract: impl Fn(&E) -> Option<V> + Send + Sync + 'static,
    ) -> Self {
        self.tables.push(Box::new(Extracted { table, extract }));
        self
    }

    /// Groups each key's events by windows of event time.
    pub fn window(self, windows: Windows) -> WindowedInputs<E> {
        WindowedInputs {
            keyed: self,
            windows,
            grace: Duration::ZERO,
            version: 1,
        }
    }

    /// Processes the events with a [`Processor`] of one's own.
    pub fn process<P: Processor<Event = E>>(self, processor: P) -> Job<P> {
        let Self {
            name,
            sources,
            key,
            tables,
        } = self;
        let options = JobOptions::default();
        Job {
            name,
            sources,
            key,
            tables,
            processor,
            sinks: Vec::new(),
            late_topic: None,
            options,
        }
    }
}

/// Keyed inputs, grouped by window.
pub struct WindowedInputs<E> {
    keyed: Keyed<E>,
    windows: Windows,
    grace: Duration,
    version: u32,
}

impl<E: 'static> WindowedInputs<E> {
    /// How long windows stay open after the watermark has passed their end. None by default.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// The version of the accumulator: raise it when its layout or meaning changes, so that a job is not resumed on the old one.
    pub fn version(mut self, version: u32) -> Self {
        self.version = version;
        self
    }

    /// Adds each event to its windows' accumulators, and closes each window once, when nothing more is expected for it.
    pub fn aggregate<A, Add, Close>(self, add: Add, close: Close) -> Job<Windowed<E, A, Add, Close>>
    where
        A: Serialize + DeserializeOwned + Default + 'static,
        Add: Fn(&mut A, &E) + Send + Sync + 'static,
        Close: Fn(Window, A, &mut Context<'_>) -> Result<(), ProcessError> + Send + Sync + 'static,
    {
        let Self {
            keyed,
            windows,
            grace,
            version,
        } = self;
        keyed.process(Windowed::new(windows, grace, version, add, close))
    }
}

/// A job that can be run.
pub struct Job<P: Processor> {
    pub(super) name: String,
    pub(super) sources: Vec<Source<P::Event>>,
    pub(super) key: KeyOf<P::Event>,
    pub(super) tables: Vec<Box<dyn TableInput<P::Event>>>,
    pub(super) processor: P,
    pub(super) sinks: Vec<String>,
    pub(super) late_topic: Option<String>,
    pub(super) options: JobOptions,
}

impl<P: Processor> Job<P> {
    /// Declares an output topic. The first is where [`Context::emit`] writes.
    pub fn sink(mut self, topic: &str) -> Self {
        self.sinks.push(topic.to_owned());
        self
    }

    /// Sends records that come too late to this topic, instead of only counting them.
    pub fn late_topic(mut self, topic: &str) -> Self {
        self.late_topic = Some(topic.to_owned());
        self
    }

    /// Sets limits and choices.
    pub fn options(mut self, options: JobOptions) -> Self {
        self.options = options;
        self
    }

    /// The job's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where records go that the job cannot process.
    pub fn dead_letter_topic(&self) -> String {
        format!("{}.dead-letter", self.name)
    }

    pub(super) fn operators(&self) -> Vec<Operator> {
        let tables = self.tables.iter().map(|table| table.operator());
        tables.chain(self.processor.operators()).collect()
    }

    /// All topics that the job writes: its sinks, then the dead letters, then the late topic.
    pub(super) fn output_topics(&self) -> Vec<String> {
        let mut topics = self.sinks.clone();
        topics.push(self.dead_letter_topic());
        topics.extend(self.late_topic.clone());
        topics
    }

    pub(super) fn check(&self) -> Result<(), JobError> {
        let invalid = |reason: String| {
            Err(JobError::Invalid {
                job: self.name.clone(),
                reason,
            })
        };
        // The longest topic name that is made from the name must still be one.
        if self.name.is_empty() || self.name.len() > 200 {
            return invalid("its name must have 1 to 200 characters".into());
        }
        if let Some(bad) = self
            .name
            .chars()
            .find(|c| !c.is_ascii_alphanumeric() && !"._-".contains(*c))
        {
            return invalid(format!(
                "its name holds {bad:?}; letters, digits, '.', '_' and '-' are allowed"
            ));
        }
        let outputs = self.output_topics();
        if let Some(source) = self.sources.iter().find(|source| outputs.contains(&source.topic)) {
            return invalid(format!("it would read what it writes: topic '{}'", source.topic));
        }
        for (index, topic) in outputs.iter().enumerate() {
            if outputs.iter().skip(index + 1).any(|other| other == topic) {
                return invalid(format!("topic '{topic}' is its output twice"));
            }
        }
        for (index, source) in self.sources.iter().enumerate() {
            if self
                .sources
                .iter()
                .skip(index + 1)
                .any(|other| other.topic == source.topic)
            {
                return invalid(format!("topic '{}' is its input twice", source.topic));
            }
        }
        let operators = self.operators();
        for (index, operator) in operators.iter().enumerate() {
            if operators
                .iter()
                .skip(index + 1)
                .any(|other| other.name == operator.name)
            {
                return invalid(format!("two operators are called '{}'", operator.name));
            }
        }
        Ok(())
    }
}
