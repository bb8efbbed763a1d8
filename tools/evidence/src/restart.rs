//! A large data directory whose power is cut under a steady load of at most 2,000 records a second: how long the next start takes to
//! acknowledge a record. (`cargo peers run after-kill` measures that under as much load as the machine takes.)
//!
//! The disk is cold after the cut, as it is after a real one. What was acknowledged must be within the log; the campaign
//! [`crate::power_cut`] looks at the records themselves.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bytes::Bytes;
use indicatif::ProgressBar;
use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use riverlog_client::{Delivery, NewTopic, Producer, Record, WriterOptions};
use riverlog_evidence::loop_disk::{FileSystem, LoopDisk};
use riverlog_evidence::patience::connect;
use riverlog_evidence::server::{Binary, Server, lasting_port};
use riverlog_evidence::stretch::Figures;
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::log::Log;
use crate::stretches;

const TOPIC: &str = "large";
const PARTITIONS: i32 = 1_000;
/// The records that fill the topic, and those of the load.
const LARGE_BYTES: usize = 64 * 1024;
const SMALL_BYTES: usize = 1024;
/// The load: so many records each time, which makes 2,000 a second if they are acknowledged in time.
const LOAD_RECORDS: usize = 20;
const LOAD_INTERVAL: Duration = Duration::from_millis(10);
/// A start may take so long until a record is acknowledged.
const BOUND: Duration = Duration::from_secs(1);

/// Arguments of `evidence restart`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The file system
    #[arg(long, value_enum, default_value = "ext4")]
    fs: FileSystem,
    /// How many cuts
    #[arg(long, default_value_t = 5)]
    cuts: u64,
    /// How much data, in GiB; the image takes half as much again, and 4 GiB
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..1024))]
    gib: u64,
    #[command(flatten)]
    common: stretches::RealArgs,
}

/// Fills a disk and cuts its power so many times, if this machine can.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let binary = args.common.binary()?;
    let dir = Log::open()?.dir().join("restart");
    let (size_bytes, image_bytes) = (args.gib << 30, (args.gib * 3 / 2 + 4) << 30);
    let name = format!("restart {} {} GiB", args.fs.name(), args.gib);
    let disk = match LoopDisk::with_size(&dir, args.fs, image_bytes) {
        Ok(disk) => disk,
        Err(reason) => return stretches::not_run(&name, &format!("{reason:#}")),
    };
    stretches::run(&name, &args.common, args.cuts, args.cuts, async |seed, cuts, bar| {
        let restarts = Restarts {
            binary: &binary,
            disk: &disk,
            data_dir: &disk.path().join("data"),
            address: format!("127.0.0.1:{}", lasting_port()?),
            bar,
        };
        restarts.run(size_bytes, seed, cuts).await
    })
}

/// What was acknowledged: the offset behind it, by partition.
type Ends = Arc<Mutex<Vec<i64>>>;

struct Restarts<'a> {
    binary: &'a Binary,
    disk: &'a LoopDisk,
    data_dir: &'a Path,
    address: String,
    bar: &'a ProgressBar,
}

impl Restarts<'_> {
    async fn run(&self, size_bytes: u64, seed: u64, cuts: u64) -> anyhow::Result<Figures> {
        let mut random = SmallRng::seed_from_u64(seed);
        let ends: Ends = Arc::new(Mutex::new(vec![0; usize::try_from(PARTITIONS)?]));
        let mut server = self.start()?;
        self.fill(size_bytes, &ends).await?;
        // So that what a start has to redo is of the steady load, not of the filling.
        server.stop()?;
        server = self.start()?;
        let mut figures = Figures::default();
        for _ in 0..cuts {
            let load = tokio::spawn(steady_load(self.address.clone(), ends.clone()));
            sleep(Duration::from_millis(random.random_range(2_000..8_000))).await;
            ensure!(!load.is_finished(), "the load ended by itself: {:?}", load.await);
            self.disk.cut_power()?;
            server.kill()?;
            load.abort();
            self.disk.restore_power_cold()?;
            let started = Instant::now();
            server = self.start()?;
            let ready = started.elapsed();
            self.acknowledge(&ends).await?;
            let took = started.elapsed();
            self.compare(&ends).await?;
            figures.recovered_ms.push(u64::try_from(took.as_millis())?);
            ensure!(
                took <= BOUND,
                "TOO SLOW: ready after {ready:?}, a record acknowledged after {took:?}"
            );
            self.bar.inc(1);
        }
        server.stop()?;
        let acknowledged = ends.lock().iter().map(|end| end.unsigned_abs()).sum();
        figures.counts.insert("acknowledged records".to_owned(), acknowledged);
        Ok(figures)
    }

    fn start(&self) -> anyhow::Result<Server> {
        Server::start(
            self.binary,
            self.data_dir,
            &["--kafka-addr", &self.address, "--log=warn"],
        )
    }

    async fn fill(&self, size_bytes: u64, ends: &Ends) -> anyhow::Result<()> {
        let client = connect(&self.address).await?;
        let topic = NewTopic {
            name: TOPIC.to_owned(),
            partitions: Some(PARTITIONS),
            configs: vec![("retention.ms".to_owned(), "-1".to_owned())],
        };
        client.create_topic(&topic).await?;
        let producer = Producer::new(&client, WriterOptions::default()).await?;
        let value: Bytes = letters(LARGE_BYTES).into();
        let mut deliveries = Vec::new();
        for (_, partition) in (0..size_bytes / LARGE_BYTES as u64).zip((0..PARTITIONS).cycle()) {
            deliveries.push(producer.send(TOPIC, Some(partition), record(&value)).await?);
        }
        producer.flush().await?;
        for delivery in deliveries {
            note(ends, delivery).await?;
        }
        Ok(())
    }

    /// One record of a client that has just come.
    async fn acknowledge(&self, ends: &Ends) -> anyhow::Result<()> {
        let client = connect(&self.address).await?;
        let producer = Producer::new(&client, WriterOptions::default()).await?;
        let delivery = producer
            .send(TOPIC, Some(0), record(&letters(SMALL_BYTES).into()))
            .await?;
        note(ends, delivery).await
    }

    async fn compare(&self, ends: &Ends) -> anyhow::Result<()> {
        let partitions = (0..PARTITIONS).map(|partition| (TOPIC.to_owned(), partition));
        let found = connect(&self.address).await?.ends(partitions).await?;
        for ((_, partition), end) in found {
            let acknowledged = usize::try_from(partition)
                .ok()
                .and_then(|index| ends.lock().get(index).copied());
            ensure!(
                Some(end) >= acknowledged,
                "LOST: partition {partition} ends at {end}, and {acknowledged:?} was acknowledged"
            );
        }
        Ok(())
    }
}

/// Small records to each partition in turn, as long as the server is there.
async fn steady_load(address: String, ends: Ends) -> anyhow::Result<()> {
    let producer = Producer::new(&connect(&address).await?, WriterOptions::default()).await?;
    let value: Bytes = letters(SMALL_BYTES).into();
    let mut partitions = (0..PARTITIONS).cycle();
    let mut ticks = interval(LOAD_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let mut deliveries = Vec::with_capacity(LOAD_RECORDS);
        for partition in partitions.by_ref().take(LOAD_RECORDS) {
            deliveries.push(producer.send(TOPIC, Some(partition), record(&value)).await?);
        }
        for delivery in deliveries {
            note(&ends, delivery).await?;
        }
    }
}

async fn note(ends: &Ends, delivery: Delivery) -> anyhow::Result<()> {
    let delivered = delivery.wait().await?;
    let partition = usize::try_from(delivered.partition)?;
    let mut ends = ends.lock();
    let end = ends.get_mut(partition).context("a partition that nobody asked for")?;
    *end = (*end).max(delivered.offset + 1);
    Ok(())
}

fn record(value: &Bytes) -> Record {
    Record {
        value: Some(value.clone()),
        ..Record::default()
    }
}

/// Compresses no better than data does.
fn letters(count: usize) -> Vec<u8> {
    let mut random = SmallRng::seed_from_u64(count as u64);
    (0..count).map(|_| random.random_range(b'a'..=b'z')).collect()
}
