//! The server side of the demo: topics that keep records of 2013, and the job.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Context;

use super::job::hourly_departures;
use super::model::{FLIGHTS_TOPIC, WEATHER_TOPIC};
use crate::broker::Broker;
use crate::processing::{self, JobHandle};

/// Partitions of the demo's input topics: three airports spread over four.
pub const PARTITIONS: u32 = 4;

/// Creates the input topics that are not there and starts the job beside the log.
///
/// # Errors
/// When the broker refuses a topic or the job.
pub async fn start_job(broker: &Arc<Broker>) -> anyhow::Result<JobHandle> {
    for topic in [FLIGHTS_TOPIC, WEATHER_TOPIC] {
        if broker.catalog().topic(topic).is_none() {
            // The default retention of a week would remove them at once.
            let configs = BTreeMap::from([("retention.ms".to_owned(), "-1".to_owned())]);
            broker
                .create_topic(topic, Some(PARTITIONS), configs, false)
                .await
                .with_context(|| format!("creating topic {topic}"))?;
        }
    }
    Ok(processing::spawn(broker, hourly_departures())?)
}

/// Stops the job after the commit in flight.
///
/// # Errors
/// Why the job had failed, if it had.
pub async fn stop_job(job: JobHandle) -> anyhow::Result<()> {
    job.stop();
    tokio::task::spawn_blocking(move || job.join()).await??;
    Ok(())
}
