//! A running broker, whichever.

use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::child::{self, PATIENCE, Process};
use crate::kafka::Jars;
use crate::wire::Connection;

/// How often a broker that starts is asked whether it is ready.
const ASK_INTERVAL: Duration = Duration::from_micros(500);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Product {
    Riverlog,
    Kafka,
    /// Ours, which keeps nothing: what the clients could reach.
    Sink,
    /// Ours, which syncs before it answers, and does nothing else.
    SyncedSink,
}

/// What brokers are started from.
#[derive(Clone, Debug)]
pub struct Programs {
    /// The binary under test, a release build.
    pub riverlog: PathBuf,
    pub jars: Jars,
}

/// A data directory, and the addresses of the broker on it, which stay the same through restarts.
#[derive(Debug)]
pub struct Home {
    pub product: Product,
    pub dir: PathBuf,
    pub kafka: SocketAddr,
    /// Riverlog only.
    pub http: SocketAddr,
}

impl Home {
    /// # Errors
    /// If the directory or the ports cannot be had.
    pub fn new(programs: &Programs, product: Product, dir: &Path) -> anyhow::Result<Self> {
        let (kafka, http) = (free_port()?, free_port()?);
        match product {
            Product::Riverlog | Product::Sink | Product::SyncedSink => std::fs::create_dir_all(dir)?,
            // The second port is the controller's.
            Product::Kafka => programs.jars.format(dir, kafka.port(), http.port())?,
        }
        Ok(Self {
            product,
            dir: dir.to_owned(),
            kafka,
            http,
        })
    }

    /// Starts a broker and waits until it answers a request.
    ///
    /// # Errors
    /// If it does not in time.
    pub fn start(self, programs: &Programs) -> anyhow::Result<Broker> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.dir.with_extension("log"))?;
        let mut command = match self.product {
            Product::Riverlog => self.riverlog(programs),
            Product::Kafka => programs.jars.broker(&self.dir),
            Product::Sink => self.sink()?,
            Product::SyncedSink => {
                let mut command = self.sink()?;
                command.arg("--file").arg(self.dir.join("journal"));
                command
            }
        };
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let started = Instant::now();
        let mut process = Process::spawn(&mut command)?;
        while Connection::open(self.kafka)
            .and_then(|mut connection| connection.api_versions())
            .is_err()
        {
            if let Some(status) = process.ended()? {
                let said = std::fs::read_to_string(self.dir.with_extension("log")).unwrap_or_default();
                bail!("{:?} did not start: {status}\n{said}", self.product);
            }
            if started.elapsed() > PATIENCE {
                bail!("{:?} is not ready after {PATIENCE:?}", self.product);
            }
            child::ensure_not_interrupted()?;
            std::thread::sleep(ASK_INTERVAL);
        }
        Ok(Broker {
            ready_after: started.elapsed(),
            started,
            process,
            home: self,
        })
    }

    fn riverlog(&self, programs: &Programs) -> Command {
        let mut command = child::command(&programs.riverlog);
        command.arg("serve").arg("--data-dir").arg(&self.dir);
        command.args([
            "--kafka-addr",
            &self.kafka.to_string(),
            "--http-addr",
            &self.http.to_string(),
        ]);
        // What is set in this shell is for somebody else's server.
        let own = std::env::vars_os().map(|(name, _)| name);
        for name in own.filter(|name| name.to_string_lossy().starts_with("RIVERLOG_")) {
            command.env_remove(name);
        }
        command
    }

    fn sink(&self) -> anyhow::Result<Command> {
        let mut command = child::command(std::env::current_exe().context("cannot find this program")?);
        command.arg("sink").arg(self.kafka.to_string());
        Ok(command)
    }
}

/// It is killed when dropped.
#[derive(Debug)]
pub struct Broker {
    process: Process,
    pub home: Home,
    /// When the process was started.
    pub started: Instant,
    /// From the start of the process to the first answer.
    pub ready_after: Duration,
}

impl Broker {
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// For clients.
    pub fn bootstrap(&self) -> String {
        self.home.kafka.to_string()
    }

    /// SIGKILL.
    pub fn kill(self) -> Home {
        self.process.kill();
        self.home
    }

    /// SIGTERM, and waits for the end.
    ///
    /// # Errors
    /// If it does not end by itself.
    pub fn stop(self) -> anyhow::Result<Home> {
        self.process.stop()?;
        Ok(self.home)
    }

    /// Creates a topic. A Kafka that has just begun to answer may need a moment until it has a controller.
    ///
    /// # Errors
    /// If it is not created in time.
    pub fn create_topic(&self, name: &str, partitions: i32, configs: &[(&str, &str)]) -> anyhow::Result<()> {
        let mut configs = configs.to_vec();
        if self.home.product == Product::Kafka {
            // So that a round does not pay for removing segments of the one before a minute later.
            configs.push(("file.delete.delay.ms", "1000"));
        }
        let started = Instant::now();
        loop {
            child::ensure_not_interrupted()?;
            let created = Connection::open(self.home.kafka)
                .and_then(|mut connection| connection.create_topic(name, partitions, &configs));
            match created {
                Err(error) if started.elapsed() > Duration::from_secs(30) => {
                    return Err(error).with_context(|| format!("{:?}", self.home.product));
                }
                Err(_) => std::thread::sleep(Duration::from_millis(50)),
                Ok(()) => return Ok(()),
            }
        }
    }

    /// # Errors
    /// If the broker refuses.
    pub fn delete_topic(&self, name: &str) -> anyhow::Result<()> {
        Connection::open(self.home.kafka)?.delete_topic(name)
    }
}

/// Below the range that the system gives to outgoing connections: a client that tries to reconnect while the broker is
/// down could otherwise end up with the port itself. No port is given twice, because that of a broker that is down
/// looks free.
fn free_port() -> anyhow::Result<SocketAddr> {
    static GIVEN: AtomicU16 = AtomicU16::new(0);
    let first = 20_000 + u16::try_from(std::process::id() % 10_000)?;
    loop {
        let port = first.saturating_add(GIVEN.fetch_add(1, Ordering::Relaxed));
        if port >= 32_700 {
            bail!("no port is free");
        }
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        if TcpListener::bind(address).is_ok() {
            return Ok(address);
        }
    }
}
