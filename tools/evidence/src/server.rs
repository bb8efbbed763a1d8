//! A `riverlog serve` process of one's own.

use std::fmt;
use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process};

/// No single wait for a server may be longer; a debug build on a busy machine is slow to start.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The binary under test.
#[derive(Clone, Debug)]
pub struct Binary {
    path: PathBuf,
    /// A name and a value for its environment.
    variable: Option<(String, String)>,
}

impl Binary {
    /// The binary at this path.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            variable: None,
        }
    }

    /// The same with a variable in its environment.
    pub fn with_variable(&self, name: &str, value: &str) -> Self {
        Self {
            path: self.path.clone(),
            variable: Some((name.to_owned(), value.to_owned())),
        }
    }

    /// To be given arguments. Where Linux's `setpriv` is there, the kernel kills it with the thread that starts it, so
    /// that not even a killed campaign leaves a server behind.
    pub fn command(&self) -> Command {
        let setpriv = Path::new("/usr/bin/setpriv");
        let mut command = match setpriv.exists() {
            true => {
                let mut command = Command::new(setpriv);
                command.args(["--pdeathsig", "KILL"]).arg(&self.path);
                command
            }
            false => Command::new(&self.path),
        };
        // Those of this process are for the campaign or the test, as RIVERLOG_KILLS is.
        let own = std::env::vars_os().map(|(name, _)| name);
        for name in own.filter(|name| name.to_string_lossy().starts_with("RIVERLOG_")) {
            command.env_remove(name);
        }
        command.envs(self.variable.clone());
        command
    }
}

/// A running server. It is killed when dropped, so a failing campaign leaves none behind.
#[derive(Debug)]
pub struct Server {
    child: Child,
    /// Where Kafka clients connect.
    pub kafka: SocketAddr,
    /// Where HTTP is served.
    pub http: SocketAddr,
    stderr: Arc<Mutex<String>>,
}

/// A server that ended instead of saying where it listens.
#[derive(Debug)]
pub struct Refused {
    /// How it ended.
    pub status: ExitStatus,
    /// What it said.
    pub stderr: String,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the server did not start: {}\n{}", self.status, self.stderr)
    }
}

impl std::error::Error for Refused {}

impl Server {
    /// Starts a server and waits until it says where it listens: on free ports, unless the arguments name others.
    ///
    /// # Errors
    /// [`Refused`] if the process ended instead; another error if it did neither.
    pub fn start(binary: &Binary, data_dir: &Path, arguments: &[&str]) -> anyhow::Result<Self> {
        let mut starting = Starting::spawn(binary, data_dir, arguments)?;
        match (starting.addresses()?, starting.child.take()) {
            (Some((kafka, http)), Some(child)) => Ok(Self {
                child,
                kafka,
                http,
                stderr: starting.stderr.clone(),
            }),
            (_, Some(mut child)) => {
                let status = wait(&mut child)?;
                // The process is gone, so this comes to an end; before that, its last words may not have been read.
                if let Some(reader) = starting.reader.take() {
                    let _ = reader.join();
                }
                let stderr = starting.stderr.lock().clone();
                Err(Refused { status, stderr }.into())
            }
            (_, None) => bail!("the process is gone already"),
        }
    }

    /// `HOST:PORT` for Kafka clients.
    pub fn bootstrap(&self) -> String {
        self.kafka.to_string()
    }

    /// SIGKILL. What the server had not made durable is gone, as after any crash of a process.
    ///
    /// # Errors
    /// If the process cannot be killed.
    pub fn kill(mut self) -> anyhow::Result<()> {
        self.child.kill().context("cannot kill the server")?;
        self.child.wait().context("cannot wait for the server")?;
        Ok(())
    }

    /// SIGTERM, as an operator stops it. It must end by itself, and cleanly.
    ///
    /// # Errors
    /// If it does not.
    pub fn stop(self) -> anyhow::Result<()> {
        let (status, log) = self.terminate()?;
        ensure!(status.success(), "after SIGTERM: {status}\n{log}");
        Ok(())
    }

    /// SIGTERM, and how it ended, with its log. It must end by itself.
    ///
    /// # Errors
    /// If it does not.
    pub fn terminate(mut self) -> anyhow::Result<(ExitStatus, String)> {
        kill_process(Pid::from_child(&self.child), Signal::TERM).context("cannot stop the server")?;
        let status = wait(&mut self.child)?;
        Ok((status, self.log()))
    }

    /// The process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What the server has logged so far.
    pub fn log(&self) -> String {
        self.stderr.lock().clone()
    }

    /// Whether the process still runs.
    ///
    /// # Errors
    /// If the system cannot tell.
    pub fn is_running(&mut self) -> anyhow::Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    /// The most memory that the process ever had, in bytes.
    ///
    /// # Errors
    /// If the system does not tell.
    pub fn peak_memory_bytes(&self) -> anyhow::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.context("no VmHWM")?.trim().trim_end_matches(" kB").trim();
        Ok(kib.parse::<u64>()? * 1024)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A process that has not said yet where it listens. It is killed when dropped.
#[derive(Debug)]
pub struct Starting {
    child: Option<Child>,
    stdout: Option<std::process::ChildStdout>,
    stderr: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
}

impl Starting {
    /// Starts the process and waits for nothing.
    ///
    /// # Errors
    /// If there is no such binary.
    pub fn spawn(binary: &Binary, data_dir: &Path, arguments: &[&str]) -> anyhow::Result<Self> {
        let mut command = binary.command();
        command.arg("serve").arg("--data-dir").arg(data_dir);
        for option in ["--kafka-addr", "--http-addr"] {
            if !arguments.contains(&option) {
                command.args([option, "127.0.0.1:0"]);
            }
        }
        command
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .with_context(|| format!("cannot start {}", binary.path.display()))?;
        let stderr = Arc::new(Mutex::new(String::new()));
        let reader = child.stderr.take().map(|pipe| {
            let log = stderr.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                    let mut log = log.lock();
                    log.push_str(&line);
                    log.push('\n');
                }
            })
        });
        Ok(Self {
            stdout: child.stdout.take(),
            child: Some(child),
            stderr,
            reader,
        })
    }

    /// SIGKILL, perhaps in the middle of recovery.
    pub fn kill(mut self) {
        self.end();
    }

    /// Where it listens; `None` if it ended without saying so.
    fn addresses(&mut self) -> anyhow::Result<Option<(SocketAddr, SocketAddr)>> {
        let (sender, receiver) = channel();
        let mut stdout = BufReader::new(self.stdout.take().context("asked twice")?);
        std::thread::spawn(move || {
            let (mut kafka, mut http) = (None, None);
            for line in stdout.by_ref().lines().map_while(Result::ok) {
                let mut words = line.split_whitespace();
                match (words.next(), words.next()) {
                    (Some("kafka"), Some(address)) if kafka.is_none() => kafka = address.parse().ok(),
                    (Some("http"), Some(url)) => http = url.trim_start_matches("http://").parse().ok(),
                    _ => {}
                }
                if let (Some(kafka), Some(http)) = (kafka, http) {
                    let _ = sender.send((kafka, http));
                }
            }
        });
        // The channel closes when the process does, so only a server that hangs takes the whole time.
        match receiver.recv_timeout(PATIENCE) {
            Ok(addresses) => Ok(Some(addresses)),
            Err(RecvTimeoutError::Disconnected) => Ok(None),
            Err(RecvTimeoutError::Timeout) => {
                bail!("neither ready nor ended after {PATIENCE:?}\n{}", self.stderr.lock())
            }
        }
    }

    fn end(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        self.end();
    }
}

/// How a process ends by itself.
///
/// # Errors
/// When it does not in time.
pub fn wait(child: &mut Child) -> anyhow::Result<ExitStatus> {
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        ensure!(
            started.elapsed() < PATIENCE,
            "waited {PATIENCE:?} for the process to end"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A port that a server may have again and again. Taken from below the range that the system gives to outgoing
/// connections: a client that tries to reconnect while the server is down could otherwise end up with the port itself.
/// No port is given twice, because that of a server that is down looks free.
///
/// # Errors
/// When all of them are taken.
pub fn lasting_port() -> anyhow::Result<u16> {
    static GIVEN: AtomicU16 = AtomicU16::new(0);
    let first = 20_000 + u16::try_from(std::process::id() % 10_000)?;
    loop {
        let port = first + GIVEN.fetch_add(1, Ordering::Relaxed);
        ensure!(port < 32_000, "no port is free");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
}
