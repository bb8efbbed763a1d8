//! A stretch of a campaign: so many kills, or power cuts, of one server under load, and the comparison.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::ensure;
use indicatif::ProgressBar;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tokio::time::sleep;

use crate::load::{self, Load};
use crate::loop_disk::LoopDisk;
use crate::server::{Binary, PATIENCE, Server, Starting, lasting_port};

/// As much of the server's log is told.
const SAID_LINES: usize = 20;

/// What is to be done. Everything that is chosen at random follows from the seed, but not the timing.
#[derive(Clone, Copy, Debug)]
pub struct Stretch<'a> {
    /// The binary under test.
    pub binary: &'a Binary,
    /// An empty directory, or none.
    pub data_dir: &'a Path,
    /// What is repeated when it is given again.
    pub seed: u64,
    /// How many kills, or power cuts.
    pub crashes: u64,
    /// The disk that the data is on, if its power is to be cut before each kill.
    pub disk: Option<&'a LoopDisk>,
    /// Counts the crashes.
    pub bar: &'a ProgressBar,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// How many of what, by name.
    pub counts: BTreeMap<String, u64>,
    /// From each crash to the next acknowledgement, with the start in between.
    pub recovered_ms: Vec<u64>,
}

impl Figures {
    /// One more of it.
    pub fn count(&mut self, name: &str) {
        *self.counts.entry(name.to_owned()).or_default() += 1;
    }
}

impl Stretch<'_> {
    /// Runs it.
    ///
    /// # Errors
    /// What was found.
    pub async fn run(&self) -> anyhow::Result<Figures> {
        let mut random = SmallRng::seed_from_u64(self.seed);
        let address = format!("127.0.0.1:{}", lasting_port()?);
        // Without the job, whose inputs must be there when it starts.
        let server = Server::start(self.binary, self.data_dir, &["--kafka-addr", &address])?;
        load::create_topics(&address).await?;
        server.stop()?;
        let mut server = self.start(&address)?;
        let mut load = Load::start(self.binary, &address, self.seed);
        let (mut starts, mut recovered_ms) = (2, Vec::new());
        let mut crashed = None;
        for _ in 0..self.crashes {
            // Progress between any two crashes, then a moment that nobody chose.
            let before = load.acknowledged();
            acknowledge(&mut server, &mut load, before + 1).await?;
            recovered_ms.extend(crashed.map(milliseconds_since));
            // Mostly at once, so that the crash meets a server that has just come back; now and then later, so that
            // checkpoints, retention and replays get somewhere.
            let more = match random.random_bool(0.1) {
                true => random.random_range(1_000..10_000),
                false => random.random_range(1..300),
            };
            acknowledge(&mut server, &mut load, before + more).await?;
            sleep(Duration::from_micros(random.random_range(0..5_000))).await;
            let mut at = self.crash(server, &mut random).await?;
            if random.random_bool(0.2) {
                at = self.crash_while_starting(&address, &mut random).await?;
                starts += 1;
            }
            server = self.start(&address)?;
            starts += 1;
            crashed = Some(at);
            self.bar.inc(1);
        }
        let books = load.finish().await.map_err(|found| with_log(&found, &server))?;
        let verified = books.verify(&address).await;
        let mut counts = verified.map_err(|found| with_log(&found, &server))?;
        self.crash(server, &mut random).await?;
        for _ in 0..2 {
            let server = self.start(&address)?;
            let verified = books.verify(&address).await;
            verified.map_err(|found| with_log(&found, &server))?;
            server.stop()?;
            starts += 1;
        }
        counts.insert("starts".to_owned(), starts);
        Ok(Figures { counts, recovered_ms })
    }

    fn start(&self, address: &str) -> anyhow::Result<Server> {
        Server::start(self.binary, self.data_dir, &arguments(address))
    }

    async fn crash(&self, server: Server, random: &mut SmallRng) -> anyhow::Result<Instant> {
        self.cut_power(random).await?;
        let panicked = server.log().contains("panicked");
        ensure!(!panicked, "it panicked; {}", said(&server));
        server.kill()?;
        self.restore_power()
    }

    async fn crash_while_starting(&self, address: &str, random: &mut SmallRng) -> anyhow::Result<Instant> {
        let starting = Starting::spawn(self.binary, self.data_dir, &arguments(address))?;
        sleep(Duration::from_micros(random.random_range(0..60_000))).await;
        self.cut_power(random).await?;
        starting.kill();
        self.restore_power()
    }

    /// What is answered for a moment after the cut is held against the server as well.
    async fn cut_power(&self, random: &mut SmallRng) -> anyhow::Result<()> {
        if let Some(disk) = self.disk {
            disk.cut_power()?;
            sleep(Duration::from_micros(random.random_range(0..20_000))).await;
        }
        Ok(())
    }

    /// The moment from which the server can be back.
    fn restore_power(&self) -> anyhow::Result<Instant> {
        if let Some(disk) = self.disk {
            disk.restore_power()?;
        }
        Ok(Instant::now())
    }
}

/// Small journal files and checkpoints, so that crashes fall into rolling, recycling and trimming as well, and all of
/// these happen often.
pub fn arguments(address: &str) -> [&str; 10] {
    [
        "--kafka-addr",
        address,
        "--journal-file-bytes",
        "16777216",
        "--checkpoint-bytes",
        "4194304",
        "--retention-interval-ms",
        "200",
        "--demo-job",
        "--log=warn",
    ]
}

/// Waits until so many records were acknowledged.
pub(crate) async fn acknowledge(server: &mut Server, load: &mut Load, enough: u64) -> anyhow::Result<()> {
    let started = Instant::now();
    while load.acknowledged() < enough {
        load.check().map_err(|found| with_log(&found, server))?;
        ensure!(server.is_running()?, "it ended by itself; {}", said(server));
        ensure!(
            started.elapsed() < PATIENCE,
            "nothing is acknowledged any more; {}",
            said(server)
        );
        sleep(Duration::from_millis(1)).await;
    }
    Ok(())
}

fn milliseconds_since(at: Instant) -> u64 {
    u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX)
}

pub(crate) fn with_log(found: &anyhow::Error, server: &Server) -> anyhow::Error {
    anyhow::anyhow!("{found:#}\n{}", said(server))
}

pub(crate) fn said(server: &Server) -> String {
    let log = server.log();
    // A server in trouble repeats itself; how it began is what counts.
    let lines: Vec<&str> = log.lines().take(SAID_LINES).collect();
    format!("the server said:\n{}", lines.join("\n"))
}
