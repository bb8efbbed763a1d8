//! Riverlog as a library: a data directory opened in this process, without any server.
//!
//! ```
//! # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
//! use riverlog::{embedded::Riverlog, processing::{JobBuilder, Record, Source, Windows, formats}};
//! use std::time::Duration;
//!
//! let dir = tempfile::tempdir()?;
//! let river = Riverlog::open(dir.path().join("data")).await?;
//! river.create_topic("visits", 1).await?;
//!
//! let job = JobBuilder::new("visits-per-minute")
//!     .source(Source::new("visits", formats::json::<String>))
//!     .key_by(|page: &String| page.clone())
//!     .window(Windows::tumbling(Duration::from_secs(60)))
//!     .aggregate(|count: &mut u64, _: &String| *count += 1, |window, count, ctx| {
//!         let (key, value) = (Some(ctx.key().clone()), Some(count.to_string().into()));
//!         ctx.emit(Record { key, value, headers: vec![], timestamp_ms: window.start_ms })
//!     })
//!     .sink("visits-per-minute");
//! let job = river.run(job)?;
//!
//! for at_ms in [1_000, 2_000, 61_000] {
//!     let visit = Record { key: None, value: Some("\"home\"".into()), headers: vec![], timestamp_ms: at_ms };
//!     river.publish("visits", visit).await?;
//! }
//! job.wait_for(|status| status.counters.written == 1).await;
//! let counts = river.read("visits-per-minute", 0, 0, 1 << 20)?;
//! assert_eq!(counts[0].value.as_deref(), Some(&b"2"[..]));
//!
//! river.stop(job).await?;
//! river.close().await;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # }).unwrap();
//! ```

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use riverlog_storage::{OpenError, Options, Storage, Topic, record::decode_all};

use crate::{
    broker::{Broker, BrokerError, BrokerOptions, append::Position},
    processing::{self, Job, JobError, JobHandle, Processor, Record, StoredRecord},
};

/// Why an embedded Riverlog did not do it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The data directory could not be opened.
    #[error("{0}")]
    Open(#[from] OpenError),
    /// The broker refused.
    #[error("{0}")]
    Broker(#[from] BrokerError),
    /// The job does not run.
    #[error("{0}")]
    Job(#[from] JobError),
    /// A thread of the runtime did not answer.
    #[error("the runtime is shutting down")]
    Runtime,
}

/// An open data directory. Used within a tokio runtime; cheap to share behind an `Arc`.
pub struct Riverlog {
    broker: Arc<Broker>,
}

impl Riverlog {
    /// Opens a data directory, and creates it if it is not there. Recovers what a crash left. One process at a time.
    pub async fn open(dir: impl Into<PathBuf>) -> Result<Self, Error> {
        let options = Options::new(dir);
        let storage = tokio::task::spawn_blocking(move || Storage::open(options))
            .await
            .map_err(|_| Error::Runtime)??;
        Ok(Self {
            broker: Broker::open(storage, BrokerOptions::default()).await?,
        })
    }

    /// The broker, for everything that this type has no method for.
    pub fn broker(&self) -> &Arc<Broker> {
        &self.broker
    }

    /// Creates a topic.
    pub async fn create_topic(&self, name: &str, partitions: u32) -> Result<Arc<Topic>, Error> {
        Ok(self
            .broker
            .create_topic(name, Some(partitions), BTreeMap::new(), false)
            .await?)
    }

    /// Publishes a record, to the partition of its key, and returns when it is durable.
    pub async fn publish(&self, topic: &str, record: Record) -> Result<Position, Error> {
        let positions = self.publish_all(topic, vec![record]).await?;
        positions.first().copied().ok_or(Error::Broker(BrokerError::Abandoned))
    }

    /// Publishes records, all or none of them, and returns when they are durable.
    pub async fn publish_all(&self, topic: &str, records: Vec<Record>) -> Result<Vec<Position>, Error> {
        let topic = self.broker.topic(topic)?;
        let records = records.into_iter().map(|record| (None, record)).collect();
        Ok(self.broker.publish(&topic, records).await?)
    }

    /// Reads records of a partition from an offset on: about `max_bytes` of them, at least one if there is any.
    /// Less if they decompress to much more; only an answer without any record is the end.
    pub fn read(&self, topic: &str, partition: i32, from: i64, max_bytes: usize) -> Result<Vec<StoredRecord>, Error> {
        let log = self.broker.log_of(topic, partition)?;
        let max_decompressed = self.broker.options().max_decompressed_bytes;
        let mut from = from;
        loop {
            let fetched = self.broker.storage().read(log, from, max_bytes);
            let data = fetched.map_err(BrokerError::from)?.data;
            let decoded = decode_all(&data, from, max_decompressed).map_err(BrokerError::from)?;
            if !decoded.records.is_empty() || decoded.next_offset <= from {
                return Ok(decoded.records);
            }
            from = decoded.next_offset;
        }
    }

    /// Runs a job. It goes on from what it has committed, if it ran before.
    pub fn run<P: Processor>(&self, job: Job<P>) -> Result<JobHandle, Error> {
        Ok(processing::spawn(&self.broker, job)?)
    }

    /// Stops a job after the epoch in flight.
    pub async fn stop(&self, job: JobHandle) -> Result<(), Error> {
        job.stop();
        Ok(tokio::task::spawn_blocking(move || job.join())
            .await
            .map_err(|_| Error::Runtime)??)
    }

    /// Closes the data directory. Not needed for durability: what was acknowledged is durable.
    pub async fn close(self) {
        let storage = self.broker.storage().clone();
        // It can only fail if the runtime goes away at the same time, which closes the storage as well.
        let _ = tokio::task::spawn_blocking(move || storage.close()).await;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        broker::coordinator::Wanted,
        demo::{
            batch::batch_answer,
            job::hourly_departures,
            model::{
                FlightRow, WeatherRow, closing_record, closing_time_ms, flight_record, format_utc, weather_record,
            },
        },
        processing::JobState,
    };

    fn rows() -> (Vec<FlightRow>, Vec<WeatherRow>) {
        let origins = ["EWR", "JFK", "LGA"];
        let hour = |index: usize| format_utc(1_357_034_400_000 + (index / 30) as i64 * 3_600_000);
        let flights = (0..900usize).map(|index| FlightRow {
            dep_time: if index % 13 == 0 { "NA".into() } else { "517".into() },
            dep_delay: if index % 13 == 0 {
                "NA".into()
            } else {
                (index as i64 % 37 - 9).to_string()
            },
            carrier: "UA".into(),
            flight: index.to_string(),
            origin: origins.iter().cycle().nth(index % 3).unwrap().to_string(),
            dest: "IAH".into(),
            time_hour: hour(index),
        });
        let weather = (0..90usize).map(|index| WeatherRow {
            origin: origins.iter().cycle().nth(index % 3).unwrap().to_string(),
            wind_speed: format!("{index}.{index}"),
            visib: if index % 7 == 0 { "NA".into() } else { "10".into() },
            time_hour: hour(index * 10),
        });
        (flights.collect(), weather.collect())
    }

    /// Real storage, real files: the job is stopped, dropped and restored, the directory closed and opened again.
    #[tokio::test(flavor = "multi_thread")]
    async fn the_demos_job_gives_the_batch_answer_through_restarts() {
        let dir = tempfile::tempdir().unwrap();
        let (flights, weather) = rows();
        let mut records: Vec<_> = flights
            .iter()
            .map(|row| ("flights", flight_record(row).unwrap()))
            .collect();
        records.extend(weather.iter().map(|row| ("weather", weather_record(row).unwrap())));
        let mut pending = records.chunks(200);
        loop {
            let river = Riverlog::open(dir.path().join("data")).await.unwrap();
            if river.broker().topic("flights").is_err() {
                river.create_topic("flights", 3).await.unwrap();
                river.create_topic("weather", 2).await.unwrap();
            }
            let job = river.run(hourly_departures()).unwrap();
            let Some(chunk) = pending.next() else {
                for (topic, partitions) in [("flights", 3), ("weather", 2)] {
                    let topic = river.broker().topic(topic).unwrap();
                    let close = || closing_record(closing_time_ms(&flights)).unwrap();
                    let closing = (0..partitions).map(|partition| (Some(partition), close())).collect();
                    river.broker().publish(&topic, closing).await.unwrap();
                }
                let expected: Vec<_> = batch_answer(&flights, &weather)
                    .values()
                    .map(|row| row.to_json().unwrap())
                    .collect();
                let status = job
                    .wait_for(|status| status.counters.written >= expected.len() as u64)
                    .await;
                assert_eq!(status.state, JobState::Running);
                river.stop(job).await.unwrap();
                let found = river.read("hourly-departures", 0, 0, 1 << 24).unwrap();
                let mut found: Vec<_> = found
                    .iter()
                    .map(|r| String::from_utf8(r.value.clone().unwrap().to_vec()).unwrap())
                    .collect();
                let mut expected = expected;
                found.sort();
                expected.sort();
                assert_eq!(found, expected);
                // Each partition is consumed to its end, and lag tools see it.
                let committed = river
                    .broker()
                    .groups()
                    .fetch("hourly-departures", Wanted::All)
                    .await
                    .unwrap();
                assert_eq!(committed.len(), 5);
                for (topic, partition, offset) in committed {
                    let log = river.broker().log_of(&topic, partition).unwrap();
                    let end = river.broker().storage().ends(log).unwrap().high_watermark;
                    assert_eq!(offset.unwrap().offset, end, "{topic}/{partition}");
                }
                river.close().await;
                return;
            };
            for (topic, record) in chunk {
                river.publish(topic, record.clone()).await.unwrap();
            }
            drop(job);
            tokio::time::timeout(Duration::from_secs(20), river.close())
                .await
                .unwrap();
        }
    }

    /// Counts per key, with a snapshot after every few epochs, made in the background.
    fn counting() -> Job<impl Processor> {
        use crate::processing::{Context, JobBuilder, JobOptions, Operator, ProcessError, Source, ValueState, formats};
        struct Count;
        const COUNT: ValueState<u64> = ValueState::new("count");
        impl Processor for Count {
            type Event = String;
            fn process(&self, _: String, ctx: &mut Context<'_>) -> Result<(), ProcessError> {
                let count = COUNT.get(ctx)?.unwrap_or(0) + 1;
                COUNT.put(ctx, &count)?;
                let (key, value) = (Some(ctx.key().clone()), Some(count.to_string().into()));
                ctx.emit(Record {
                    key,
                    value,
                    headers: vec![],
                    timestamp_ms: ctx.time_ms(),
                })
            }
            fn operators(&self) -> Vec<Operator> {
                vec![Operator {
                    name: "count".into(),
                    fingerprint: "1".into(),
                }]
            }
        }
        JobBuilder::new("counting")
            .source(Source::new("in", formats::json::<String>))
            .key_by(|key: &String| key.clone())
            .process(Count)
            .sink("counts")
            .options(JobOptions {
                snapshot_after_bytes: 3_000,
                ..JobOptions::default()
            })
    }

    fn named(key: usize) -> Record {
        Record {
            key: None,
            value: Some(format!("\"k{key}\"").into()),
            headers: vec![],
            timestamp_ms: 1,
        }
    }

    async fn open(dir: &tempfile::TempDir) -> Riverlog {
        let river = Riverlog::open(dir.path().join("data")).await.unwrap();
        if river.broker().topic("in").is_err() {
            river.create_topic("in", 1).await.unwrap();
        }
        river
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn snapshots_are_made_beside_the_running_job_and_restored_from() {
        let dir = tempfile::tempdir().unwrap();
        const RECORDS: usize = 300;
        for start in 0..3 {
            let river = open(&dir).await;
            let job = river.run(counting()).unwrap();
            for index in 0..RECORDS {
                river.publish("in", named(index % 5)).await.unwrap();
            }
            let target = ((start + 1) * RECORDS) as u64;
            let status = job.wait_for(|status| status.counters.written == target).await;
            assert_eq!(status.counters.written, target, "{status:?}");
            river.stop(job).await.unwrap();
            let log = river.broker().log_of("__job_state.counting", 0).unwrap();
            let ends = river.broker().storage().ends(log).unwrap();
            assert!(ends.start > 0, "a snapshot has replaced deltas: {ends:?}");
            river.close().await;
        }
        let river = open(&dir).await;
        let counts = river.read("counts", 0, 0, 1 << 24).unwrap();
        let mut expected = [0u64; 5];
        for (index, record) in counts.iter().enumerate() {
            let key = index % 5;
            expected[key] += 1;
            let value = String::from_utf8(record.value.clone().unwrap().to_vec()).unwrap();
            assert_eq!(value, expected[key].to_string(), "record {index}");
        }
        assert_eq!(counts.len(), 3 * RECORDS);
        river.close().await;
    }

    /// Batches that decompress to far more than a read may hold are read a few at a time, by jobs and by programs.
    #[tokio::test(flavor = "multi_thread")]
    async fn small_batches_that_are_large_decompressed_are_read_piece_by_piece() {
        use riverlog_storage::{batch::BatchBuilder, compression::Compression};
        const BATCHES: usize = 12;
        let dir = tempfile::tempdir().unwrap();
        let storage = Storage::open(Options::new(dir.path().join("data"))).unwrap();
        let options = BrokerOptions {
            max_decompressed_bytes: 5 << 19,
            ..BrokerOptions::default()
        };
        let river = Riverlog {
            broker: Broker::open(storage, options).await.unwrap(),
        };
        let topic = river.create_topic("in", 1).await.unwrap();
        for _ in 0..BATCHES {
            let mut builder = BatchBuilder::new().compression(Compression::Zstd);
            builder.push(Record {
                value: Some(format!("{}\"k\"", " ".repeat(1 << 20)).into()),
                ..Record::default()
            });
            let batch = builder.build().unwrap();
            river.broker().append(&topic, 0, batch).await.unwrap();
        }
        let mut offsets = Vec::new();
        loop {
            let from = offsets.last().map_or(0, |last| last + 1);
            let records = river.read("in", 0, from, 1 << 20).unwrap();
            if records.is_empty() {
                break;
            }
            assert!(records.len() <= 2, "{}", records.len());
            offsets.extend(records.iter().map(|record| record.offset));
        }
        assert_eq!(offsets, (0..BATCHES as i64).collect::<Vec<_>>());
        let job = river.run(counting()).unwrap();
        let status = job.wait_for(|status| status.counters.written == BATCHES as u64).await;
        assert_eq!(status.counters.written, BATCHES as u64, "{status:?}");
        river.stop(job).await.unwrap();
        river.close().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_last_start_of_a_job_has_it_and_its_group_is_its_own() {
        use crate::broker::coordinator::CommitRequest;
        let dir = tempfile::tempdir().unwrap();
        let river = open(&dir).await;
        let zombie = river.run(counting()).unwrap();
        zombie.wait_for(|status| status.epoch > 0).await;
        let heir = river.run(counting()).unwrap();
        heir.wait_for(|status| status.state == JobState::Running && status.epoch > 0)
            .await;
        for index in 0..20 {
            river.publish("in", named(index % 5)).await.unwrap();
        }
        let status = heir.wait_for(|status| status.counters.written == 20).await;
        assert_eq!(status.state, JobState::Running);
        let status = zombie.wait_for(|_| false).await;
        assert!(matches!(status.state, JobState::Failed(_)), "{status:?}");
        let error = river.stop(zombie).await.unwrap_err().to_string();
        assert!(error.contains("another instance of the job has taken over"), "{error}");
        assert_eq!(river.read("counts", 0, 0, 1 << 20).unwrap().len(), 20);

        let request = CommitRequest {
            member_id: "".into(),
            instance_id: None,
            generation: -1,
            offsets: Vec::new(),
        };
        assert!(
            river.broker().groups().commit("counting", request).await.is_err(),
            "the group is the job's"
        );
        let state = river.broker().topic("__job_state.counting").unwrap();
        assert!(
            river.broker().delete_topic(state.id).await.is_err(),
            "its state is not for clients to delete"
        );
        river.stop(heir).await.unwrap();
        river.close().await;
    }
}
