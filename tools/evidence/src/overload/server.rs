//! The server under attack, and what can be seen of it from outside.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// A running server, killed when dropped.
#[derive(Debug)]
pub struct Server {
    pub kafka: SocketAddr,
    pub http: SocketAddr,
    child: Child,
    dir: tempfile::TempDir,
}

impl Server {
    /// Starts it on free ports, with this much memory for requests, for answers and for HTTP.
    pub async fn start(binary: &Path, budget_bytes: u64, connections: usize) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("riverlog-overload-").tempdir()?;
        let mut command = Command::new(binary);
        // Of the gate, for a test.
        command.env_remove("RIVERLOG_KILLS");
        command.args([
            "serve",
            "--kafka-addr",
            "127.0.0.1:0",
            "--http-addr",
            "127.0.0.1:0",
            "--log",
            "warn",
        ]);
        command.arg("--data-dir").arg(dir.path().join("data"));
        for option in [
            "kafka-request-memory-bytes",
            "kafka-response-memory-bytes",
            "http-memory-bytes",
        ] {
            command.arg(format!("--{option}")).arg(budget_bytes.to_string());
        }
        command.arg("--kafka-max-connections").arg(connections.to_string());
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        command.stderr(File::create(dir.path().join("log"))?).kill_on_drop(true);
        let mut child = command.spawn().with_context(|| {
            format!(
                "cannot start {}; build it, or name another with --riverlog",
                binary.display()
            )
        })?;
        let stdout = child.stdout.take().context("no standard output")?;
        let addresses = tokio::time::timeout(Duration::from_secs(60), addresses(BufReader::new(stdout)));
        let (kafka, http) = addresses.await.context("the server does not say where it listens")??;
        Ok(Self {
            kafka,
            http,
            child,
            dir,
        })
    }

    /// As `/proc` has it.
    pub fn resident_bytes(&self) -> anyhow::Result<u64> {
        resident_bytes(self.child.id().context("the server has ended")?)
    }

    /// Looks every 20 ms from now on.
    pub fn watch(&self) -> Watch {
        let peak_bytes = Arc::new(AtomicU64::new(0));
        let (peak, id) = (Arc::clone(&peak_bytes), self.child.id());
        tokio::spawn(async move {
            while let Some(now) = id.and_then(|id| resident_bytes(id).ok()) {
                peak.fetch_max(now, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        Watch { peak_bytes }
    }

    /// The end of its log, for who wants to know why it does not serve.
    pub fn last_words(&self) -> String {
        let log = fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let last = lines.get(lines.len().saturating_sub(3)..).unwrap_or_default();
        format!("the server's log ends with {last:?}")
    }

    /// What stands in its log and may not.
    pub fn complaints(&self) -> anyhow::Result<Vec<String>> {
        let log = fs::read_to_string(self.dir.path().join("log"))?;
        let complaints = log
            .lines()
            .filter(|line| line.contains("panicked") || line.contains("ERROR"));
        Ok(complaints
            .take(5)
            .map(|line| format!("the server's log: {line}"))
            .collect())
    }
}

/// The memory of a server, looked at again and again.
#[derive(Debug)]
pub struct Watch {
    peak_bytes: Arc<AtomicU64>,
}

impl Watch {
    pub fn peak_bytes(&self) -> u64 {
        self.peak_bytes.load(Ordering::Relaxed)
    }
}

fn resident_bytes(process: u32) -> anyhow::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).context("the server has ended")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line
        .and_then(|line| line.trim().strip_suffix(" kB"))
        .context("no VmRSS")?;
    Ok(kib.trim().parse::<u64>()? * 1024)
}

async fn addresses(stdout: impl AsyncBufReadExt + Unpin) -> anyhow::Result<(SocketAddr, SocketAddr)> {
    let (mut kafka, mut http, mut lines) = (None, None, stdout.lines());
    while let Some(line) = lines.next_line().await? {
        let mut words = line.split_whitespace();
        match (words.next(), words.next()) {
            (Some("kafka"), Some(address)) => kafka = address.parse().ok(),
            (Some("http"), Some(url)) => http = url.trim_start_matches("http://").parse().ok(),
            _ => {}
        }
        if let (Some(kafka), Some(http)) = (kafka, http) {
            return Ok((kafka, http));
        }
    }
    anyhow::bail!("the server ended instead of listening")
}

/// What `/metrics` says of clients.
#[derive(Clone, Copy, Debug, Default)]
pub struct Told {
    pub connections: u64,
    pub refused: u64,
    pub cut: u64,
    pub in_use_bytes: u64,
}

impl Told {
    /// Reads the text; nothing if it lacks any of it.
    pub fn parse(text: &str) -> Option<Self> {
        let sum = |name: &str| {
            let values = text
                .lines()
                .filter_map(|line| line.strip_prefix(name)?.rsplit_once("} "));
            let values: Vec<f64> = values.filter_map(|(_, value)| value.parse().ok()).collect();
            (!values.is_empty()).then(|| values.iter().sum::<f64>() as u64)
        };
        Some(Self {
            connections: sum("riverlog_connections{")?,
            refused: sum("riverlog_connections_refused_total{")?,
            cut: sum("riverlog_connections_cut_total{")?,
            in_use_bytes: sum("riverlog_memory_bytes{")?,
        })
    }

    pub fn max(self, other: Self) -> Self {
        Self {
            connections: self.connections.max(other.connections),
            refused: self.refused.max(other.refused),
            cut: self.cut.max(other.cut),
            in_use_bytes: self.in_use_bytes.max(other.in_use_bytes),
        }
    }
}
