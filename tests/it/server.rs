//! A `riverlog serve` process of a test's own.

use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// No single wait for a server may be longer; a debug build on a busy machine is slow to start.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A running server. It is killed when dropped, so a failing test leaves none behind.
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
    pub status: ExitStatus,
    pub stderr: String,
}

impl Server {
    /// Starts a server on free ports and waits until it says where it listens.
    pub fn start(data_dir: &Path) -> Self {
        Self::start_with(data_dir, &[])
    }

    /// The same with further arguments. Those of them that are addresses replace the free ports.
    pub fn start_with(data_dir: &Path, arguments: &[&str]) -> Self {
        Self::try_start(data_dir, arguments).unwrap_or_else(|refused| {
            panic!(
                "no server on {}: {}\n{}",
                data_dir.display(),
                refused.status,
                refused.stderr
            )
        })
    }

    /// Starts a server, or tells how the process ended.
    pub fn try_start(data_dir: &Path, arguments: &[&str]) -> Result<Self, Refused> {
        let mut starting = Starting::spawn(data_dir, arguments);
        match starting.addresses() {
            Some((kafka, http)) => Ok(Self {
                child: starting.child.take().unwrap(),
                kafka,
                http,
                stderr: starting.stderr.clone(),
            }),
            None => Err(starting.refused()),
        }
    }

    /// `HOST:PORT` for Kafka clients.
    pub fn bootstrap(&self) -> String {
        self.kafka.to_string()
    }

    /// SIGKILL. What the server had not made durable is gone, as after any crash of a process.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM, as an operator stops it. It must end by itself, and cleanly.
    pub fn stop(mut self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        let status = wait(&mut self.child);
        assert!(status.success(), "after SIGTERM: {status}\n{}", self.log());
    }

    /// What the server has logged so far.
    pub fn log(&self) -> String {
        self.stderr.lock().unwrap().clone()
    }

    /// Whether the process still runs.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// The most memory that the process ever had, in bytes.
    pub fn peak_memory_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap() * 1024
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A process that has not said yet where it listens.
pub struct Starting {
    child: Option<Child>,
    stdout: Option<std::process::ChildStdout>,
    stderr: Arc<Mutex<String>>,
}

impl Starting {
    /// Starts the process and waits for nothing.
    pub fn spawn(data_dir: &Path, arguments: &[&str]) -> Self {
        let mut child = command();
        child.arg("serve").arg("--data-dir").arg(data_dir);
        for option in ["--kafka-addr", "--http-addr"] {
            if !arguments.contains(&option) {
                child.args([option, "127.0.0.1:0"]);
            }
        }
        child
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = child.spawn().expect("the riverlog binary starts");
        let stderr = Arc::new(Mutex::new(String::new()));
        let (pipe, log) = (child.stderr.take().unwrap(), stderr.clone());
        std::thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                let mut log = log.lock().unwrap();
                log.push_str(&line);
                log.push('\n');
            }
        });
        Self {
            stdout: child.stdout.take(),
            child: Some(child),
            stderr,
        }
    }

    /// SIGKILL, perhaps in the middle of recovery.
    pub fn kill(mut self) {
        self.end();
    }

    /// Where it listens; `None` if it ended without saying so.
    fn addresses(&mut self) -> Option<(SocketAddr, SocketAddr)> {
        let (sender, receiver) = std::sync::mpsc::channel();
        let mut stdout = BufReader::new(self.stdout.take().unwrap());
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
            Ok(addresses) => Some(addresses),
            Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => None,
            Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {
                panic!(
                    "neither ready nor ended after {PATIENCE:?}\n{}",
                    self.stderr.lock().unwrap()
                )
            }
        }
    }

    fn refused(&mut self) -> Refused {
        let status = wait(self.child.as_mut().unwrap());
        Refused {
            status,
            stderr: self.stderr.lock().unwrap().clone(),
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

/// The binary under test. Where Linux's `setpriv` is there, the kernel kills it with the test process, so that not even
/// a killed test run leaves a server behind.
fn command() -> Command {
    let binary = env!("CARGO_BIN_EXE_riverlog");
    let setpriv = Path::new("/usr/bin/setpriv");
    if setpriv.exists() {
        let mut command = Command::new(setpriv);
        command.args(["--pdeathsig", "KILL", binary]);
        command
    } else {
        Command::new(binary)
    }
}

/// How a process ends by itself. Fails the test when it does not in time.
pub fn wait(child: &mut Child) -> ExitStatus {
    let mut ended = None;
    until("the process to end", || {
        ended = child.try_wait().unwrap();
        ended.is_some()
    });
    ended.unwrap()
}

/// Looks again and again until the condition holds. Fails the test when it does not in time.
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < PATIENCE, "waited {PATIENCE:?} for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A port that a server may have again and again. Taken from below the range that the system gives to outgoing
/// connections: a client that tries to reconnect while the server is down could otherwise end up with the port itself.
pub fn lasting_port() -> u16 {
    let first = 20_000 + u16::try_from(std::process::id() % 10_000).unwrap();
    (first..32_000)
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("a free port")
}

/// A directory that is removed with the value.
pub fn temp_dir() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("riverlog-it-").tempdir().unwrap()
}

/// All files below a directory, with their paths relative to it.
pub fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut pending = vec![dir.to_path_buf()];
    while let Some(current) = pending.pop() {
        for entry in std::fs::read_dir(&current).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if entry.file_type().unwrap().is_dir() {
                pending.push(path);
            } else {
                found.push(path.strip_prefix(dir).unwrap().to_path_buf());
            }
        }
    }
    found.sort();
    found
}
