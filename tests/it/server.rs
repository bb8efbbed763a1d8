//! A `riverlog serve` process of a test's own: that of `riverlog_evidence`, whose every error fails the test.

use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use riverlog_evidence::server;
pub use riverlog_evidence::server::{Binary, PATIENCE, Refused};

/// A running server. It is killed when dropped, so a failing test leaves none behind.
pub struct Server(server::Server);

impl Deref for Server {
    type Target = server::Server;

    fn deref(&self) -> &server::Server {
        &self.0
    }
}

impl DerefMut for Server {
    fn deref_mut(&mut self) -> &mut server::Server {
        &mut self.0
    }
}

impl Server {
    /// Starts a server on free ports and waits until it says where it listens.
    pub fn start(data_dir: &Path) -> Self {
        Self::start_with(data_dir, &[])
    }

    /// The same with further arguments. Those of them that are addresses replace the free ports.
    pub fn start_with(data_dir: &Path, arguments: &[&str]) -> Self {
        Self::try_start(data_dir, arguments).unwrap_or_else(|refused| panic!("{}: {refused}", data_dir.display()))
    }

    /// Starts a server, or tells how the process ended.
    pub fn try_start(data_dir: &Path, arguments: &[&str]) -> Result<Self, Refused> {
        match server::Server::start(&binary(), data_dir, arguments) {
            Ok(server) => Ok(Self(server)),
            Err(error) => Err(error.downcast().unwrap()),
        }
    }

    pub fn kill(self) {
        self.0.kill().unwrap();
    }

    pub fn stop(self) {
        self.0.stop().unwrap();
    }

    pub fn is_running(&mut self) -> bool {
        self.0.is_running().unwrap()
    }

    pub fn peak_memory_bytes(&self) -> u64 {
        self.0.peak_memory_bytes().unwrap()
    }
}

/// A process that has not said yet where it listens.
pub struct Starting(server::Starting);

impl Starting {
    pub fn spawn(data_dir: &Path, arguments: &[&str]) -> Self {
        Self(server::Starting::spawn(&binary(), data_dir, arguments).unwrap())
    }

    pub fn kill(self) {
        self.0.kill();
    }
}

/// The binary under test.
pub fn binary() -> Binary {
    Binary::new(env!("CARGO_BIN_EXE_riverlog"))
}

/// How a process ends by itself. Fails the test when it does not in time.
pub fn wait(child: &mut Child) -> ExitStatus {
    server::wait(child).unwrap()
}

/// Looks again and again until the condition holds. Fails the test when it does not in time.
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < PATIENCE, "waited {PATIENCE:?} for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub fn lasting_port() -> u16 {
    server::lasting_port().unwrap()
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
