//! Topics: names, creation, deletion, growth, configs, and the deletion of records.

use std::collections::BTreeMap;
use std::sync::Arc;

use riverlog_storage::{CONTROL_TOPIC, Change, LogId, Topic, WriteError, WriteSet};
use uuid::Uuid;

use super::topic_config::{self, shorten};
use super::{Broker, BrokerError};

/// Topics that the broker keeps for itself and shows to clients as internal.
const INTERNAL_TOPICS: [&str; 3] = [CONTROL_TOPIC, "__consumer_offsets", "__transaction_state"];
/// The topics with the states of jobs, one for each.
const JOB_STATE_PREFIX: &str = "__job_state.";

/// The topic with a job's state. That it is there is the job's registration: it outlives restarts, and clients cannot delete it.
pub fn job_state_topic(job: &str) -> String {
    format!("{JOB_STATE_PREFIX}{job}")
}

const MAX_NAME_BYTES: usize = 249;

/// Whether the broker keeps this topic for itself.
pub fn is_internal(name: &str) -> bool {
    INTERNAL_TOPICS.contains(&name) || name.starts_with(JOB_STATE_PREFIX)
}

/// Whether a topic can have this name: Kafka's rules.
pub fn check_name(name: &str) -> Result<(), BrokerError> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let reason = if name.is_empty() {
        "it is empty"
    } else if name == "." || name == ".." {
        "'.' and '..' are reserved"
    } else if name.len() > MAX_NAME_BYTES {
        "it is longer than 249 characters"
    } else if !name.bytes().all(legal) {
        "only ASCII letters, digits, '.', '_' and '-' are allowed"
    } else {
        return Ok(());
    };
    Err(BrokerError::InvalidTopicName {
        name: shorten(name),
        reason: reason.to_string(),
    })
}

/// The log of a topic's partition.
pub(super) fn log_of(topic: &Topic, partition: i64) -> Result<LogId, BrokerError> {
    usize::try_from(partition)
        .ok()
        .and_then(|index| topic.partitions.get(index))
        .copied()
        .ok_or_else(|| BrokerError::UnknownPartition {
            topic: topic.name.clone(),
            partition: i32::try_from(partition).unwrap_or(i32::MAX),
        })
}

impl Broker {
    /// A topic by name.
    pub fn topic(&self, name: &str) -> Result<Arc<Topic>, BrokerError> {
        self.catalog()
            .topic(name)
            .cloned()
            .ok_or_else(|| BrokerError::UnknownTopic(shorten(name)))
    }

    /// A topic by id.
    pub fn topic_by_id(&self, id: Uuid) -> Result<Arc<Topic>, BrokerError> {
        self.catalog()
            .topic_by_id(id)
            .cloned()
            .ok_or(BrokerError::UnknownTopicId(id))
    }

    /// The log of a partition.
    pub fn log_of(&self, topic: &str, partition: i32) -> Result<LogId, BrokerError> {
        log_of(self.topic(topic)?.as_ref(), i64::from(partition))
    }

    /// Creates a topic. With `validate_only` everything is checked and nothing done; the topic returned then has the nil id
    /// and no logs.
    pub async fn create_topic(
        &self,
        name: &str,
        partitions: Option<u32>,
        configs: BTreeMap<String, String>,
        validate_only: bool,
    ) -> Result<Arc<Topic>, BrokerError> {
        check_name(name)?;
        let partitions = partitions.unwrap_or(self.options().default_partitions);
        if partitions == 0 {
            return Err(BrokerError::InvalidPartitions(
                "a topic needs at least one partition".to_string(),
            ));
        }
        topic_config::check_all(&configs)?;
        self.check_partition_limit(u64::from(partitions))?;
        self.check_name_is_free(name)?;
        if validate_only {
            return Ok(Arc::new(Topic {
                name: name.to_string(),
                id: Uuid::nil(),
                partitions: Vec::new(),
                configs,
            }));
        }
        let create = Change::CreateTopic {
            name: name.to_string(),
            partitions,
            configs,
        };
        match self
            .write(WriteSet {
                changes: vec![create],
                ..WriteSet::default()
            })
            .await
        {
            Ok(receipt) => receipt.created.ok_or(BrokerError::Abandoned),
            Err(BrokerError::Write(WriteError::TopicExists(name))) => Err(BrokerError::TopicExists(name)),
            Err(error) => Err(error),
        }
    }

    /// A topic by name, created with the defaults if it does not exist and topics may be created by using them.
    pub async fn topic_or_create(&self, name: &str) -> Result<Arc<Topic>, BrokerError> {
        match self.topic(name) {
            Err(BrokerError::UnknownTopic(_)) if self.options().auto_create_topics => {}
            other => return other,
        }
        match self.create_topic(name, None, BTreeMap::new(), false).await {
            // Somebody else was faster.
            Err(BrokerError::TopicExists(_)) => self.topic(name),
            other => other,
        }
    }

    /// Deletes a topic, its records, and the offsets that groups have committed for it.
    pub async fn delete_topic(&self, id: Uuid) -> Result<(), BrokerError> {
        let topic = self.topic_by_id(id)?;
        if is_internal(&topic.name) {
            return Err(BrokerError::InternalTopic(topic.name.clone()));
        }
        self.change(Change::DeleteTopic { id }).await?;
        self.groups().forget_topic(&topic).await;
        Ok(())
    }

    /// Grows a topic to `total` partitions.
    pub async fn add_partitions(&self, name: &str, total: u32, validate_only: bool) -> Result<(), BrokerError> {
        let topic = self.topic(name)?;
        let current = topic.partitions.len() as u64;
        if u64::from(total) <= current {
            let relation = if u64::from(total) == current {
                "already has"
            } else {
                "cannot shrink; it has"
            };
            return Err(BrokerError::InvalidPartitions(format!(
                "topic '{name}' {relation} {current} partitions and {total} were asked for"
            )));
        }
        self.check_partition_limit(u64::from(total) - current)?;
        if validate_only {
            return Ok(());
        }
        self.change(Change::AddPartitions { id: topic.id, total }).await
    }

    /// Replaces all configs that a topic sets.
    pub async fn set_configs(
        &self,
        name: &str,
        configs: BTreeMap<String, String>,
        validate_only: bool,
    ) -> Result<(), BrokerError> {
        let topic = self.topic(name)?;
        topic_config::check_all(&configs)?;
        if validate_only {
            return Ok(());
        }
        self.change(Change::SetConfigs { id: topic.id, configs }).await
    }

    /// Deletes the records below `offset`; -1 means all that are published. Answers with the new start of the log.
    pub async fn delete_records(&self, log: LogId, offset: i64) -> Result<i64, BrokerError> {
        let ends = self
            .storage()
            .ends(log)
            .ok_or(BrokerError::Write(WriteError::UnknownLog(log)))?;
        let target = if offset == -1 { ends.high_watermark } else { offset };
        if target < 0 || target > ends.high_watermark {
            return Err(BrokerError::Write(WriteError::OffsetOutOfRange {
                log,
                offset,
                start: ends.start,
                end: ends.high_watermark,
            }));
        }
        if target > ends.start {
            self.change(Change::MoveLogStart { log, offset: target }).await?;
        }
        Ok(self.storage().ends(log).map_or(target, |ends| ends.start))
    }

    async fn change(&self, change: Change) -> Result<(), BrokerError> {
        self.write(WriteSet {
            changes: vec![change],
            ..WriteSet::default()
        })
        .await
        .map(|_| ())
    }

    fn check_partition_limit(&self, more: u64) -> Result<(), BrokerError> {
        let limit = self.options().max_partitions;
        let existing: u64 = self.catalog().topics().map(|topic| topic.partitions.len() as u64).sum();
        if existing + more > limit as u64 {
            return Err(BrokerError::TooManyPartitions { requested: more, limit });
        }
        Ok(())
    }

    /// '.' and '_' are the same in metric names, so Kafka lets no two topics differ only by them.
    fn check_name_is_free(&self, name: &str) -> Result<(), BrokerError> {
        let catalog = self.catalog();
        if catalog.topic(name).is_some() {
            return Err(BrokerError::TopicExists(name.to_string()));
        }
        if !name.contains(['.', '_']) {
            return Ok(());
        }
        let folded = name.replace('.', "_");
        match catalog.topics().find(|topic| topic.name.replace('.', "_") == folded) {
            None => Ok(()),
            Some(other) => Err(BrokerError::InvalidTopicName {
                name: name.to_string(),
                reason: format!(
                    "it differs from the existing topic '{}' only in '.' and '_'",
                    other.name
                ),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_kafkas_rules() {
        for good in ["a", "a.b_c-D9", &"x".repeat(249), "__job_state", "..."] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            ".",
            "..",
            "a/b",
            "../etc",
            "a b",
            "ä",
            "a\0",
            "a\nb",
            &"x".repeat(250),
            &"x".repeat(300),
        ] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }
}
