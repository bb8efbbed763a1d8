//! What is done to a broker in a round: one file a load.

mod appends;
mod batches;
mod bulk;
mod connections;
mod consume;
mod end_to_end;
mod kafka_tools;
mod memory;
mod replay;
mod single;
mod starts;
mod waiting;

use std::path::Path;
use std::time::Duration;

use anyhow::Context;

use crate::broker::{Broker, Product, Programs};
use crate::payload::Payloads;

/// A load with its parameters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Load {
    /// As much as one producer takes, evenly over all partitions.
    Bulk { size_bytes: usize },
    /// Producers that each wait for their record before they send the next.
    Waiting { producers: usize, size_bytes: usize },
    /// The same over plain sockets, all of them by one thread.
    Connections { connections: usize, size_bytes: usize },
    /// One record at a time through librdkafka.
    OneInFlight { size_bytes: usize },
    /// One record at a time over a socket.
    OneInFlightRaw { size_bytes: usize },
    /// No broker: append to a file that is written already, and fdatasync.
    BareAppend,
    /// Reads a topic again and again.
    Consume { size_bytes: usize },
    /// Records at a fixed pace, and how long each takes to a consumer.
    EndToEnd { records_per_s: u32, size_bytes: usize },
    /// NDJSON over HTTP.
    HttpBatches { records: usize, size_bytes: usize },
    /// The same records by the Kafka protocol.
    KafkaBatches { records: usize, size_bytes: usize },
    /// `riverlog replay` of a topic into another one.
    Replay { size_bytes: usize },
    /// From the start of the process to the first answer, without data.
    StartEmpty,
    /// The same with data, after a clean stop.
    StartFull { size_bytes: usize },
    /// SIGKILL under bulk load, and the time from the restart to the next acknowledgement.
    AfterKill { size_bytes: usize },
    /// Private memory, idle and under bulk load.
    Memory { size_bytes: usize },
}

impl Load {
    /// Whether it starts and ends brokers itself, or needs none.
    pub fn brings_broker(self) -> bool {
        matches!(
            self,
            Self::BareAppend | Self::StartEmpty | Self::StartFull { .. } | Self::AfterKill { .. } | Self::Memory { .. }
        )
    }

    /// Whether Kafka's own performance tools can do it as well.
    pub fn has_kafka_tool(self) -> bool {
        matches!(self, Self::Bulk { .. } | Self::Consume { .. })
    }

    /// Whether it reads records that are there before the first round.
    pub fn reads(self) -> bool {
        matches!(self, Self::Consume { .. } | Self::Replay { .. })
    }
}

/// Who drives the loads for which there is a choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Client {
    /// librdkafka, through the crate rdkafka.
    Librdkafka,
    /// Kafka's own `ProducerPerformance` and `ConsumerPerformance`.
    Java,
}

/// What a load may use.
#[derive(Debug)]
pub struct Site<'a> {
    pub programs: &'a Programs,
    pub payloads: &'a Payloads,
    pub client: Client,
    /// Unless the load brings it.
    pub broker: Option<&'a Broker>,
    /// For a load that brings it.
    pub product: Option<Product>,
    /// It is there, unless the load brings the broker, and goes away after the round.
    pub topic: &'a str,
    pub partitions: i32,
    /// What was written before the first round, for loads that read: a topic of that many records.
    pub source: Option<&'a Source>,
    /// Scratch space on the brokers' file system that lasts for the variant.
    pub dir: &'a Path,
    pub duration: Duration,
    /// How large the data is on which a broker starts, in bytes.
    pub start_bytes: u64,
}

impl<'a> Site<'a> {
    /// # Errors
    /// If there is none, which is a mistake in the table of scenarios.
    pub fn broker(&self) -> anyhow::Result<&'a Broker> {
        self.broker.context("this load needs a broker")
    }
}

/// A topic that is there before the first round.
#[derive(Clone, Debug)]
pub struct Source {
    pub topic: String,
    pub records: u64,
}

/// What came of a round.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Acknowledged, or consumed.
    pub records: u64,
    /// Their values, in bytes.
    pub bytes: u64,
    /// From the first request to the last answer.
    pub seconds: f64,
    /// What this load alone measures, by name.
    pub figures: Vec<(&'static str, f64)>,
}

impl Outcome {
    /// The median and the 99th percentile of these durations in microseconds.
    pub fn with_latencies(mut self, mut durations_us: Vec<u32>) -> Self {
        durations_us.sort_unstable();
        for (name, percentile) in [("p50_us", 50), ("p99_us", 99)] {
            if let Some(value) = durations_us.get(durations_us.len() * percentile / 100) {
                self.figures.push((name, f64::from(*value)));
            }
        }
        self
    }
}

/// Runs one round.
///
/// # Errors
/// If anything was not acknowledged or not read, or the run is to end.
pub fn run(load: Load, site: &Site<'_>) -> anyhow::Result<Outcome> {
    let java = site.client == Client::Java;
    match load {
        Load::Bulk { size_bytes } if java => kafka_tools::produce(site, size_bytes),
        Load::Consume { size_bytes } if java => kafka_tools::consume(site, size_bytes),
        Load::Bulk { size_bytes } => bulk::run(site, size_bytes),
        Load::Consume { size_bytes } => consume::run(site, size_bytes),
        Load::Waiting { producers, size_bytes } => waiting::run(site, producers, size_bytes),
        Load::Connections {
            connections,
            size_bytes,
        } => connections::run(site, connections, size_bytes),
        Load::OneInFlight { size_bytes } => waiting::run(site, 1, size_bytes),
        Load::OneInFlightRaw { size_bytes } => single::run(site, size_bytes),
        Load::BareAppend => appends::run(site),
        Load::EndToEnd {
            records_per_s,
            size_bytes,
        } => end_to_end::run(site, records_per_s, size_bytes),
        Load::HttpBatches { records, size_bytes } => batches::http(site, records, size_bytes),
        Load::KafkaBatches { records, size_bytes } => batches::kafka(site, records, size_bytes),
        Load::Replay { size_bytes } => replay::run(site, size_bytes),
        Load::StartEmpty => starts::empty(site),
        Load::StartFull { size_bytes } => starts::full(site, size_bytes),
        Load::AfterKill { size_bytes } => starts::after_kill(site, size_bytes),
        Load::Memory { size_bytes } => memory::run(site, size_bytes),
    }
}

/// Writes what a load is going to read.
///
/// # Errors
/// If anything was not acknowledged, or the run is to end.
pub fn fill(site: &Site<'_>, size_bytes: usize, records: u64) -> anyhow::Result<Source> {
    let outcome = bulk::produce(site.broker()?, site, size_bytes, &bulk::Until::records(records))?;
    Ok(Source {
        topic: site.topic.to_owned(),
        records: outcome.records,
    })
}
