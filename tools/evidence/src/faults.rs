//! A stretch of real failures of a disk under load: what the server says meanwhile, and the comparison afterwards.

mod answers;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use indicatif::ProgressBar;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use riverlog_client::{NewTopic, Producer};
use serde_json::json;
use tokio::time::sleep;

use self::answers::{
    PROBE, STILL, STILL_RECORDS, is_poisoned, producer, read_still, refused_because, refuses_kafka, still,
    wait_until_ready, wait_until_red,
};
use crate::fault_disk::{Fault, FaultDisk};
use crate::http::post;
use crate::load::{self, Load};
use crate::patience::connect;
use crate::server::{Binary, PATIENCE, Server, lasting_port};
use crate::stretch::{Figures, acknowledge, arguments, said, with_log};

/// Less than is needed (64 MiB and a journal file). What is written until the server notices comes out of it, and 16 MiB are needed
/// for a deletion then.
const SCARCE_BYTES: u64 = 76 << 20;
/// A topic that is deleted while the disk is too full for records.
const SPARE: &str = "spare";

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    /// Somebody takes so much that the rest is less than is needed. Nothing fails, and nothing needs a restart.
    Scarce,
    /// Somebody takes everything, whatever the server is writing at that moment.
    Full,
    /// The server is killed, and everything is taken before it comes back.
    FullAtStart,
    /// The device has no room for what was never written.
    Thin,
    /// The device writes nothing any more.
    Dead,
    /// The file system allows reading only.
    ReadOnly,
}

impl Case {
    fn name(self) -> &'static str {
        match self {
            Self::Scarce => "space is scarce:",
            Self::Full => "disk full:",
            Self::FullAtStart => "disk full before a restart:",
            Self::Thin => "device without room:",
            Self::Dead => "device with I/O errors:",
            Self::ReadOnly => "read-only remount:",
        }
    }
}

/// Every case that there is; the last one only on ext4.
pub const CASES: [Case; 6] = [
    Case::Scarce,
    Case::Full,
    Case::FullAtStart,
    Case::Thin,
    Case::Dead,
    Case::ReadOnly,
];

/// What is to be done.
#[derive(Clone, Copy, Debug)]
pub struct Faults<'a> {
    /// The binary under test.
    pub binary: &'a Binary,
    /// The disk, with nothing on it.
    pub disk: &'a FaultDisk,
    /// A directory on it, or none.
    pub data_dir: &'a Path,
    /// Decides the order of the cases.
    pub seed: u64,
    /// The cases, each of which comes once.
    pub cases: &'a [Case],
    /// Counts them.
    pub bar: &'a ProgressBar,
}

impl Faults<'_> {
    /// Runs them.
    ///
    /// # Errors
    /// What was found.
    pub async fn run(&self) -> anyhow::Result<Figures> {
        let mut random = SmallRng::seed_from_u64(self.seed);
        let address = format!("127.0.0.1:{}", lasting_port()?);
        let mut figures = Figures::default();
        self.full_before_the_first_start(&address, &mut figures).await?;
        let mut server = self.prepare(&address).await?;
        let mut load = Load::start(self.binary, &address, self.seed);
        let mut cases = self.cases.to_vec();
        cases.shuffle(&mut random);
        for case in cases {
            let more = random.random_range(200..2_000);
            let enough = load.acknowledged() + more;
            acknowledge(&mut server, &mut load, enough).await?;
            let begun = Instant::now();
            let mut scene = Scene {
                faults: self,
                address: &address,
                producer: producer(&address).await?,
                crumbs_bytes: random.random_range(0..8) << 20,
                figures: &mut figures,
            };
            let id = server.id();
            server = match scene.play(case, server).await {
                Ok(server) => server,
                Err(found) => bail!("{case:?}: {found:#}"),
            };
            // Whatever it was, it is over.
            wait_until_ready(&server).await?;
            let enough = load.acknowledged() + 1;
            acknowledge(&mut server, &mut load, enough).await?;
            let outcome = match id == server.id() {
                true => "went on by itself",
                false => "recovered by a restart",
            };
            figures.count(&format!("{} {outcome}", case.name()));
            tell(self.bar, case, outcome, begun);
            self.bar.inc(1);
        }
        let books = load.finish().await.map_err(|found| with_log(&found, &server))?;
        let verified = books.verify(&address).await;
        figures
            .counts
            .extend(verified.map_err(|found| with_log(&found, &server))?);
        server.kill()?;
        let server = self.start(&address)?;
        let verified = books.verify(&address).await;
        verified.map_err(|found| with_log(&found, &server))?;
        read_still(server.http, true).await?;
        server.stop()?;
        Ok(figures)
    }

    /// Nothing may come of it but words, and a start when there is space.
    async fn full_before_the_first_start(&self, address: &str, figures: &mut Figures) -> anyhow::Result<()> {
        self.disk.fail(Fault::Full(0))?;
        match self.start(address) {
            Ok(server) => {
                wait_until_red(&server, "too full").await?;
                server.stop()?;
                figures.count("full at the first start, refused records");
            }
            Err(error) => {
                refused_because(&error, "No space left on device")?;
                figures.count("full at the first start, refused to start");
            }
        }
        self.disk.make_room()
    }

    /// A server with everything that the load needs.
    async fn prepare(&self, address: &str) -> anyhow::Result<Server> {
        // Without the job, whose inputs must be there when it starts.
        let server = Server::start(self.binary, self.data_dir, &["--kafka-addr", address])?;
        load::create_topics(address).await?;
        let client = connect(address).await?;
        for name in [STILL, PROBE, SPARE] {
            let topic = NewTopic {
                name: name.to_owned(),
                partitions: Some(1),
                configs: Vec::new(),
            };
            client.create_topic(&topic).await?;
        }
        let records: Vec<_> = (0..STILL_RECORDS)
            .map(|number| json!({ "value": still(number) }))
            .collect();
        let answer = post(
            server.http,
            &format!("/topics/{STILL}/records"),
            &json!({ "records": records }),
        )
        .await?;
        ensure!(answer.status == 200, "{answer:?}");
        server.stop()?;
        self.start(address)
    }

    fn start(&self, address: &str) -> anyhow::Result<Server> {
        Server::start(self.binary, self.data_dir, &arguments(address))
    }
}

/// One case under load.
struct Scene<'a> {
    faults: &'a Faults<'a>,
    address: &'a str,
    /// Whose record is to be refused.
    producer: Producer,
    /// What somebody leaves who takes everything: a moment later that is gone as well, so that another write fails first.
    crumbs_bytes: u64,
    figures: &'a mut Figures,
}

impl Scene<'_> {
    /// Gives the server that goes on: the same one, or the one after it.
    async fn play(&mut self, case: Case, server: Server) -> anyhow::Result<Server> {
        let disk = self.faults.disk;
        match case {
            Case::Scarce => {
                disk.fail(Fault::Full(SCARCE_BYTES))?;
                wait_until_red(&server, "too full").await?;
                self.refuses(&server, &["no-space"], true).await?;
                // Deletions are what makes room.
                let client = connect(self.address).await?;
                client
                    .delete_topic(SPARE)
                    .await
                    .context("deleting while the disk is too full")?;
                ensure!(!is_poisoned(&server).await?, "a write failed: {}", said(&server));
                disk.make_room()?;
                Ok(server)
            }
            Case::Full => {
                disk.fail(Fault::Full(self.crumbs_bytes))?;
                wait_until_red(&server, "").await?;
                self.refuses(&server, &["no-space", "storage-failed"], true).await?;
                if !is_poisoned(&server).await? {
                    disk.make_room()?;
                    return Ok(server);
                }
                disk.make_room()?;
                self.restart(server)
            }
            Case::FullAtStart => {
                // Only with that can a start on a full disk recover.
                let ballast = self.faults.data_dir.join("ballast");
                let waiting = Instant::now();
                while !ballast.exists() {
                    ensure!(waiting.elapsed() < PATIENCE, "there is no ballast");
                    sleep(Duration::from_millis(20)).await;
                }
                server.kill()?;
                disk.fail(Fault::Full(0))?;
                self.full_at_start().await
            }
            Case::Thin | Case::Dead => {
                let fault = match case {
                    Case::Thin => Fault::Thin,
                    _ => Fault::Dead,
                };
                disk.fail(fault)?;
                wait_until_red(&server, "a write to the disk failed").await?;
                self.refuses(&server, &["storage-failed", "no-space"], false).await?;
                self.end(server)?;
                disk.mend()?;
                self.faults.start(self.address)
            }
            Case::ReadOnly => {
                disk.fail(Fault::ReadOnly)?;
                wait_until_red(&server, "a write to the disk failed").await?;
                self.refuses(&server, &["storage-failed", "no-space"], true).await?;
                self.end(server)?;
                // As the failure has left it, and mended but not yet to be written.
                self.refuses_to_start("Read-only file system")?;
                disk.mend()?;
                disk.allow_writing(false)?;
                self.refuses_to_start("Read-only file system")?;
                disk.allow_writing(true)?;
                self.faults.start(self.address)
            }
        }
    }

    /// Starting on a full disk: it recovers, or says that it cannot.
    async fn full_at_start(&mut self) -> anyhow::Result<Server> {
        let disk = self.faults.disk;
        match self.faults.start(self.address) {
            Err(error) => {
                refused_because(&error, "No space left on device")?;
                self.faults.bar.suspend(|| println!("  {error:#}"));
                self.figures.count("full at a restart, refused to start");
                disk.make_room()?;
                self.faults.start(self.address)
            }
            Ok(server) => {
                self.figures.count("full at a restart, recovered at once");
                wait_until_red(&server, "").await?;
                self.refuses(&server, &["no-space", "storage-failed"], true).await?;
                let is_poisoned = is_poisoned(&server).await?;
                disk.make_room()?;
                match is_poisoned {
                    true => self.restart(server),
                    false => Ok(server),
                }
            }
        }
    }

    fn restart(&mut self, server: Server) -> anyhow::Result<Server> {
        self.end(server)?;
        self.faults.start(self.address)
    }

    /// By a signal, as an operator would. Its end was not clean, and it must say so.
    fn end(&mut self, server: Server) -> anyhow::Result<()> {
        let (status, log) = server.terminate()?;
        ensure!(
            status.code() == Some(1),
            "after a failed write it ends with {status}:\n{log}"
        );
        ensure!(!log.contains("panicked"), "it panicked:\n{log}");
        Ok(())
    }

    fn refuses_to_start(&mut self, why: &str) -> anyhow::Result<()> {
        match self.faults.start(self.address) {
            Ok(_) => bail!("it starts, and should not: {why}"),
            Err(error) => refused_because(&error, why),
        }
    }

    /// Records are refused over both protocols, in words of theirs; what was there before is read.
    async fn refuses(&self, server: &Server, problems: &[&str], must_read: bool) -> anyhow::Result<()> {
        let outcome = async {
            refuses_kafka(&self.producer).await?;
            let (path, document) = (format!("/topics/{PROBE}/records"), json!({"records": [{"value": "x"}]}));
            let answer = post(server.http, &path, &document).await?;
            let problem = answer.at("/type");
            let name = problem.as_str().and_then(|name| name.rsplit(':').next());
            ensure!(
                name.is_some_and(|name| problems.contains(&name)) && matches!(answer.status, 503 | 507),
                "publishing over HTTP is answered with {answer:?}"
            );
            read_still(server.http, must_read).await
        };
        outcome.await.map_err(|found: anyhow::Error| with_log(&found, server))
    }
}

/// What came of a case, for who watches.
fn tell(bar: &ProgressBar, case: Case, outcome: &str, begun: Instant) {
    let seconds = begun.elapsed().as_secs_f64();
    bar.suspend(|| println!("  {} {outcome}, {seconds:.1} s", case.name()));
}
