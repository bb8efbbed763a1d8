//! The topic that a request publishes to.

use std::collections::BTreeMap;
use std::sync::Arc;

use riverlog_storage::Topic;

use super::record::Publish;
use crate::broker::{Broker, BrokerError, topic_config};
use crate::http::problem::Problem;

/// A topic, or one that the first records create. A request whose records are refused must not leave a topic behind, so
/// they are checked before it is there, against what it would be.
pub enum Destination {
    /// It exists.
    Existing(Arc<Topic>),
    /// It may be created.
    Missing(String),
}

impl Destination {
    /// Finds the topic, or finds that nothing speaks against creating it.
    pub async fn find(broker: &Broker, name: &str) -> Result<Self, BrokerError> {
        match broker.topic(name) {
            Err(BrokerError::UnknownTopic(_)) if broker.options().auto_create_topics => {}
            topic => return topic.map(Self::Existing),
        }
        match broker.create_topic(name, None, BTreeMap::new(), true).await {
            Ok(_) => Ok(Self::Missing(name.to_owned())),
            // Somebody else was faster.
            Err(BrokerError::TopicExists(_)) => broker.topic(name).map(Self::Existing),
            Err(error) => Err(error),
        }
    }

    /// The topic, created now if it was missing. Later calls give the same one, even if its name has gone to another
    /// topic since.
    pub async fn topic(&mut self, broker: &Broker) -> Result<Arc<Topic>, BrokerError> {
        let topic = match self {
            Self::Existing(topic) => return Ok(Arc::clone(topic)),
            Self::Missing(name) => broker.topic_or_create(name).await?,
        };
        *self = Self::Existing(Arc::clone(&topic));
        Ok(topic)
    }

    /// Finds what would make the broker refuse a record, so that the answer can name the record.
    pub fn check(&self, broker: &Broker, publish: &Publish, what: impl Fn() -> String) -> Result<(), Problem> {
        let options = broker.options();
        let (name, partitions, max_bytes) = match self {
            Self::Existing(topic) => (
                &topic.name,
                topic.partitions.len(),
                topic_config::max_message_bytes(topic, options),
            ),
            Self::Missing(name) => (name, options.default_partitions as usize, options.max_message_bytes),
        };
        if let Some(partition) = publish.partition.filter(|partition| *partition as usize >= partitions) {
            let detail = format!(
                "{}: topic {name} has no partition {partition}, but 0 to {}",
                what(),
                partitions.saturating_sub(1)
            );
            return Err(Problem::unknown_partition(detail));
        }
        let record = &publish.record;
        let of_headers = record
            .headers
            .iter()
            .map(|(name, value)| name.len() + value.as_ref().map_or(0, bytes::Bytes::len));
        let bytes = [&record.key, &record.value]
            .into_iter()
            .flatten()
            .map(bytes::Bytes::len)
            .sum::<usize>()
            + of_headers.sum::<usize>();
        if bytes > max_bytes {
            let detail = format!(
                "{}: {bytes} bytes, but {name} takes {max_bytes} at most (topic config max.message.bytes)",
                what()
            );
            return Err(Problem::record_too_large(detail));
        }
        Ok(())
    }
}
