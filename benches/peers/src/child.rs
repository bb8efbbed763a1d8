//! Processes of ours: killed with us, counted as ours, and stopped by Ctrl-C through us.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};

/// No single wait for a process may be longer; Apache Kafka takes 20 s after a SIGKILL, and
/// minutes on a machine that is busy.
pub const PATIENCE: Duration = Duration::from_secs(300);

static INTERRUPTED: AtomicBool = AtomicBool::new(false);
static RUNNING: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());

/// From now on Ctrl-C and SIGTERM end the run in good order: loads stop, brokers are killed, their data is removed.
///
/// # Errors
/// If the system does not let us catch signals.
pub fn catch_interrupts() -> anyhow::Result<()> {
    ctrlc::set_handler(|| {
        // A second one does not wait. What runs is killed by the kernel then.
        if INTERRUPTED.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        eprintln!("peers: interrupted, cleaning up");
    })
    .context("cannot catch Ctrl-C")
}

/// Whether the run is to end. Every loop asks.
pub fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// # Errors
/// When the run is to end.
pub fn ensure_not_interrupted() -> anyhow::Result<()> {
    if interrupted() {
        bail!("interrupted");
    }
    Ok(())
}

/// Waits, but not beyond an interrupt.
///
/// # Errors
/// When the run is to end.
pub fn pause(duration: Duration) -> anyhow::Result<()> {
    let until = Instant::now() + duration;
    loop {
        ensure_not_interrupted()?;
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        std::thread::sleep(left.min(Duration::from_millis(20)));
    }
}

fn running_set() -> MutexGuard<'static, BTreeSet<u32>> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The processes that run at this moment.
pub fn running() -> Vec<u32> {
    running_set().iter().copied().collect()
}

/// A command that the kernel kills with the thread that starts it, where Linux's `setpriv` is there. So it must be
/// started from the main thread. It gets no Ctrl-C from the terminal: that is for us, who then end it.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let setpriv = Path::new("/usr/bin/setpriv");
    let mut command = match setpriv.exists() {
        true => {
            let mut command = Command::new(setpriv);
            command.args(["--pdeathsig", "KILL"]).arg(program);
            command
        }
        false => Command::new(program),
    };
    command.process_group(0);
    command
}

/// A running process. It is killed when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
}

impl Process {
    /// # Errors
    /// If there is no such program.
    pub fn spawn(command: &mut Command) -> anyhow::Result<Self> {
        let child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
        running_set().insert(child.id());
        Ok(Self { child })
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it did.
    ///
    /// # Errors
    /// If the system cannot tell.
    pub fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// SIGKILL.
    pub fn kill(mut self) {
        self.end();
    }

    /// SIGTERM, and waits for the end.
    ///
    /// # Errors
    /// If it does not end in time.
    pub fn stop(mut self) -> anyhow::Result<()> {
        kill_process(Pid::from_child(&self.child), Signal::TERM).context("cannot stop a process")?;
        self.wait(PATIENCE)?;
        Ok(())
    }

    /// Waits for the end.
    ///
    /// # Errors
    /// If it does not come in time, or the run is to end; the process is killed then.
    pub fn wait(&mut self, patience: Duration) -> anyhow::Result<ExitStatus> {
        let started = Instant::now();
        while started.elapsed() < patience {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            pause(Duration::from_millis(2))?;
        }
        bail!("process {} did not end within {patience:?}", self.id())
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        running_set().remove(&self.child.id());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}
