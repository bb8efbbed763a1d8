//! The job's input without an end: what the job has answered is compared, and then forgotten by the books and by the topics.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Context;
use riverlog::demo::model::ANSWER_TOPIC;
use riverlog_client::NewTopic;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::{Setting, check, flights};
use crate::patience::connect;
use crate::server::{Binary, PATIENCE};

/// Between two hours of flights: what runs for long has time.
const PAUSE: Duration = Duration::from_millis(50);
/// Between two comparisons.
const SETTLE: Duration = Duration::from_secs(2);

/// The input while it runs. Dropped, it stops where it is.
#[derive(Debug)]
pub struct Endless {
    setting: Setting,
    flights: Arc<flights::Flights>,
    tasks: JoinSet<anyhow::Result<()>>,
}

impl Endless {
    /// Starts it. The job must be running.
    pub fn start(binary: &Binary, address: &str, seed: u64) -> Self {
        let setting = Setting::new(binary, address, seed);
        let (flights, mut tasks) = (Arc::<flights::Flights>::default(), JoinSet::new());
        tasks.spawn(flights.clone().fly(setting.clone(), PAUSE));
        tasks.spawn(settle(setting.clone(), flights.clone()));
        Self {
            setting,
            flights,
            tasks,
        }
    }

    /// # Errors
    /// What was found, if it ended.
    pub fn check(&mut self) -> anyhow::Result<()> {
        check(&mut self.tasks)
    }

    /// Ends the input, and compares the rest. How many answers there were.
    ///
    /// # Errors
    /// What does not agree.
    pub async fn finish(mut self) -> anyhow::Result<u64> {
        self.setting.stop.store(true, Ordering::SeqCst);
        while let Some(ended) = timeout(3 * PATIENCE, self.tasks.join_next())
            .await
            .context("the job's input does not end")?
        {
            ended??;
        }
        self.flights.verify(&connect(&self.setting.address).await?).await
    }
}

async fn settle(setting: Setting, flights: Arc<flights::Flights>) -> anyhow::Result<()> {
    let client = connect(&setting.address).await?;
    while !setting.is_stopped() {
        sleep(SETTLE).await;
        flights.settle(&client).await?;
    }
    Ok(())
}

/// Creates the topics that the job writes, with segments so small that what was deleted leaves the disk.
///
/// # Errors
/// When one cannot be created.
pub async fn create_outputs(address: &str) -> anyhow::Result<()> {
    let client = connect(address).await?;
    for name in [ANSWER_TOPIC.to_owned(), flights::dead_letter_topic()] {
        let configs = BTreeMap::from([("retention.ms", "-1"), ("segment.bytes", "1048576")]);
        let configs = configs
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value.to_owned()));
        let topic = NewTopic {
            name,
            partitions: Some(flights::PARTITIONS),
            configs: configs.collect(),
        };
        client.create_topic(&topic).await?;
    }
    Ok(())
}
