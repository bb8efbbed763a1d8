//! How a process ends: a first signal drains, a second one does not wait.

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// When shutdown was requested, requests under way get this long to come as a whole and be answered, and their clients to read each
/// piece of the answer.
pub const DRAIN: Duration = Duration::from_secs(1);

/// The side that ends things. Dropping it counts as a request, so that nothing outlives its owner.
#[derive(Debug)]
pub struct Shutdown {
    sender: watch::Sender<bool>,
}

/// The side that listens; every task holds its own clone.
#[derive(Clone, Debug)]
pub struct Token {
    receiver: watch::Receiver<bool>,
}

impl Shutdown {
    /// A shutdown that nobody has asked for yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            sender: watch::Sender::new(false),
        }
    }

    /// A token that learns of the request.
    #[must_use]
    pub fn token(&self) -> Token {
        Token {
            receiver: self.sender.subscribe(),
        }
    }

    /// Asks every holder of a token to finish what it has begun and to take on nothing new.
    pub fn request(&self) {
        self.sender.send_replace(true);
    }
}

impl Default for Shutdown {
    fn default() -> Self {
        Self::new()
    }
}

impl Token {
    /// Resolves once shutdown was requested. Safe to drop and to call again.
    pub async fn requested(&self) {
        let mut receiver = self.receiver.clone();
        // An error means that the `Shutdown` is gone, which is a request as well.
        let _ = receiver.wait_for(|requested| *requested).await;
    }

    /// Resolves when shutdown was requested and [`DRAIN`] is over since this was called.
    pub async fn drained(&self) {
        self.requested().await;
        tokio::time::sleep(DRAIN).await;
    }

    /// Whether shutdown was requested already.
    #[must_use]
    pub fn is_requested(&self) -> bool {
        *self.receiver.borrow() || self.receiver.has_changed().is_err()
    }
}

/// The signals that end the process, held from before anyone is told that it is ready.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    heard: u32,
}

impl Signals {
    /// Takes the signals over from their default, which is to end the process on the spot.
    ///
    /// # Errors
    /// When the process cannot install its signal handlers.
    pub fn install() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            heard: 0,
        })
    }

    /// From now on the second signal, those that were heard before included, ends the process at once, with the exit code that
    /// shells give to an interrupted program: what was acknowledged is safe without any goodbye.
    pub fn end_at_the_second(mut self) {
        tokio::spawn(async move {
            let mut name = self.next().await;
            while self.heard < 2 {
                name = self.next().await;
            }
            tracing::warn!(signal = name, "second signal: ending without draining");
            std::process::exit(130);
        });
    }

    /// Waits for a signal and names it.
    pub async fn next(&mut self) -> &'static str {
        let name = tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        };
        self.heard += 1;
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_token_learns_of_the_request_and_of_a_dropped_owner() {
        let shutdown = Shutdown::new();
        let token = shutdown.token();
        assert!(!token.is_requested());
        shutdown.request();
        token.requested().await;
        assert!(token.is_requested());

        let shutdown = Shutdown::new();
        let token = shutdown.token();
        drop(shutdown);
        token.requested().await;
        assert!(token.is_requested());
    }
}
