//! Clients that do not give up while the server is away.

use std::time::Duration;

use riverlog_client::{Client, Config, Error};
use tokio::time::{Instant, sleep};

use crate::server::PATIENCE;

/// A client that tries again as long as a server may take to come back.
///
/// # Errors
/// When there is none.
pub async fn connect(address: &str) -> Result<Client, Error> {
    let config = Config {
        retry_timeout: PATIENCE,
        request_timeout: Duration::from_secs(10),
        ..Config::new(address)
    };
    patiently(|| Client::connect(config.clone())).await
}

/// Until it works. The client itself gives up at once when nobody listens, since a person waits for it.
///
/// # Errors
/// When it will not work, or not in time.
pub async fn patiently<T, F: Future<Output = Result<T, Error>>>(mut attempt: impl FnMut() -> F) -> Result<T, Error> {
    let started = Instant::now();
    loop {
        match attempt().await {
            Err(error) if error.is_retriable() && started.elapsed() < PATIENCE => {}
            outcome => return outcome,
        }
        sleep(Duration::from_millis(5)).await;
    }
}
