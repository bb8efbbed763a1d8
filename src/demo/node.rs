//! The demo's server: inside this process, or a process of its own that can be killed.

use std::collections::VecDeque;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::service::{start_job, stop_job};
use crate::config::Config;
use crate::processing::JobHandle;
use crate::server::Server;

/// The server that a demo runs on.
pub enum Node {
    /// In this process.
    Embedded {
        /// Storage, broker and listeners.
        server: Server,
        /// The job beside them.
        job: JobHandle,
    },
    /// In another one.
    Process(Process),
}

impl Node {
    /// Starts a server inside this process.
    ///
    /// # Errors
    /// When the data directory cannot be used.
    pub async fn embedded(data_dir: &Path) -> anyhow::Result<Self> {
        let server = Server::start(Config::ephemeral(data_dir)).await?;
        let job = start_job(server.broker()).await?;
        Ok(Self::Embedded { server, job })
    }

    /// Starts a server process.
    ///
    /// # Errors
    /// When it does not start, in its own words.
    pub async fn process(data_dir: &Path) -> anyhow::Result<Self> {
        Ok(Self::Process(Process::start(data_dir).await?))
    }

    /// Where Kafka clients connect.
    #[must_use]
    pub fn kafka_addr(&self) -> SocketAddr {
        match self {
            Self::Embedded { server, .. } => server.kafka_addr(),
            Self::Process(process) => process.kafka_addr,
        }
    }

    /// Ends it politely.
    ///
    /// # Errors
    /// When the job had failed, or the server cannot end cleanly.
    pub async fn stop(self) -> anyhow::Result<()> {
        match self {
            Self::Embedded { server, job } => {
                stop_job(job).await?;
                Ok(server.shutdown().await?)
            }
            Self::Process(mut process) => process.stop().await,
        }
    }
}

/// A server in a process of its own.
pub struct Process {
    data_dir: PathBuf,
    kafka_addr: SocketAddr,
    child: Child,
    complaints: Complaints,
}

/// As many of the last lines of a server's log are kept, to be shown if it fails.
const KEPT_LINES: usize = 12;

const READY_TIMEOUT: Duration = Duration::from_secs(30);

impl Process {
    async fn start(data_dir: &Path) -> anyhow::Result<Self> {
        Self::spawn(data_dir, SocketAddr::from(([127, 0, 0, 1], lasting_port()?))).await
    }

    async fn spawn(data_dir: &Path, kafka_addr: SocketAddr) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("where this program is")?;
        let mut command = Command::new(&program);
        // What they say is meant for another server: its ports, its limits.
        for (name, _) in std::env::vars_os() {
            if name.as_encoded_bytes().starts_with(b"RIVERLOG_") {
                command.env_remove(name);
            }
        }
        let mut child = command
            .arg("serve")
            .arg("--data-dir")
            .arg(data_dir)
            .args(["--kafka-addr", &kafka_addr.to_string()])
            .args([
                "--http-addr",
                "127.0.0.1:0",
                "--log",
                "warn",
                "--demo-job",
                "--until-stdin-ends",
            ])
            // Closed when this process ends, however it ends; then the server goes too.
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        let mut complaints = Complaints::read(child.stderr.take().context("the server's standard error")?);
        let stdout = child.stdout.take().context("the server's standard output")?;
        let ready = timeout(READY_TIMEOUT, read_address(stdout)).await;
        let Some(kafka_addr) = ready.ok().flatten() else {
            // One that hangs would never come to the end of what it says.
            let _ = timeout(Duration::from_secs(2), child.wait()).await;
            let _ = child.start_kill();
            bail!("the server process did not get ready: {}", complaints.all().await);
        };
        Ok(Self {
            data_dir: data_dir.to_owned(),
            kafka_addr,
            child,
            complaints,
        })
    }

    /// Kills it without a warning (SIGKILL) and starts it again on the same address. Returns how long
    /// it was away, recovery included.
    ///
    /// # Errors
    /// When it had ended by itself, or does not come back.
    pub async fn kill_and_restart(&mut self) -> anyhow::Result<Duration> {
        if let Some(status) = self.child.try_wait()? {
            bail!(
                "the server process ended by itself ({status}): {}",
                self.complaints.all().await
            );
        }
        let killed = Instant::now();
        self.child.start_kill()?;
        self.child.wait().await?;
        *self = Self::spawn(&self.data_dir, self.kafka_addr).await?;
        Ok(killed.elapsed())
    }

    async fn stop(&mut self) -> anyhow::Result<()> {
        let Some(id) = self.child.id() else {
            return Ok(());
        };
        let pid = i32::try_from(id).ok().and_then(rustix::process::Pid::from_raw);
        if let Some(pid) = pid {
            rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        }
        let status = timeout(READY_TIMEOUT, self.child.wait())
            .await
            .context("the server process does not end")??;
        if !status.success() {
            bail!(
                "the server process ended with {status}: {}",
                self.complaints.all().await
            );
        }
        Ok(())
    }
}

/// A port that the server can have again after each kill. It lies below the range that the system gives
/// to outgoing connections: a client that looks for the server while it is away would otherwise, now and
/// then, be given the port itself and keep the server from coming back.
fn lasting_port() -> anyhow::Result<u16> {
    let first = 20_000 + u16::try_from(std::process::id() % 10_000).unwrap_or(0);
    let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    (first..32_000)
        .find(is_free)
        .context("no free port between 20000 and 32000")
}

/// The line `kafka  HOST:PORT` that a server prints when it is ready. The rest is read and dropped, so
/// that the server never waits for a reader.
async fn read_address(stdout: impl AsyncRead + Unpin + Send + 'static) -> Option<SocketAddr> {
    let mut lines = BufReader::new(stdout).lines();
    let mut found = None;
    while found.is_none() {
        let line = lines.next_line().await.ok()??;
        let mut words = line.split_whitespace();
        if words.next() == Some("kafka") {
            found = words.next()?.parse().ok();
        }
    }
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    found
}

/// What a server writes to its standard error.
struct Complaints {
    last_lines: JoinHandle<Vec<String>>,
}

impl Complaints {
    fn read(stderr: impl AsyncRead + Unpin + Send + 'static) -> Self {
        Self {
            last_lines: tokio::spawn(last_lines(stderr)),
        }
    }

    /// The last lines of a server that has ended. They may arrive after its end is known, so they are read to theirs; but
    /// not for ever, because a process that the server has started may hold the other end.
    async fn all(&mut self) -> String {
        let lines = timeout(Duration::from_secs(2), &mut self.last_lines).await;
        match lines.ok().and_then(Result::ok).unwrap_or_default().join("\n").trim() {
            "" => "it said nothing".to_owned(),
            lines => lines.to_owned(),
        }
    }
}

async fn last_lines(stderr: impl AsyncRead + Unpin) -> Vec<String> {
    let mut lines = BufReader::new(stderr).lines();
    let mut last = VecDeque::new();
    while let Ok(Some(line)) = lines.next_line().await {
        if last.len() == KEPT_LINES {
            last.pop_front();
        }
        last.push_back(line);
    }
    last.into()
}
