//! The catalog: which topics exist, with which settings, and the few durable counters.
//!
//! It is the value of the control log (`__catalog`): every change is a [`ControlRecord`] there, and
//! [`Catalog::apply`] is the only way that a catalog changes, live and in recovery alike. The
//! manifest carries the catalog as of the checkpoint.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{CONTROL_LOG, LogId, codec};

/// The name under which the control log is listed.
pub const CONTROL_TOPIC: &str = "__catalog";
const CONTROL_FORMAT: u8 = 1;

/// One incarnation of a topic. A topic deleted and created again has a new id and new logs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topic {
    /// The name.
    pub name: String,
    /// The topic id, as Kafka's clients see it.
    pub id: Uuid,
    /// The log of each partition, by partition number.
    pub partitions: Vec<LogId>,
    /// The settings that were set explicitly.
    pub configs: BTreeMap<String, String>,
}

/// A change of the catalog or of a log's start, as it stands in the control log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ControlRecord {
    /// A topic was created.
    TopicCreated {
        /// The topic, with its logs.
        topic: Topic,
        /// The leader epoch of the new logs.
        leader_epoch: i32,
    },
    /// A topic was deleted.
    TopicDeleted {
        /// Its id.
        id: Uuid,
    },
    /// A topic has more partitions.
    PartitionsAdded {
        /// Its id.
        id: Uuid,
        /// The logs of the new partitions.
        logs: Vec<LogId>,
        /// The leader epoch of the new logs.
        leader_epoch: i32,
    },
    /// A topic's explicit settings were replaced.
    ConfigsSet {
        /// Its id.
        id: Uuid,
        /// All explicit settings.
        configs: BTreeMap<String, String>,
    },
    /// A log starts later.
    LogStartMoved {
        /// The log.
        log: LogId,
        /// The new first offset.
        offset: i64,
    },
    /// A named epoch moved on.
    EpochSet {
        /// Its name, such as `job/hourly`.
        name: String,
        /// Its value.
        epoch: u64,
    },
    /// A named epoch was forgotten.
    EpochRemoved {
        /// Its name.
        name: String,
    },
    /// Producer ids below this were given out.
    ProducerIdsAllocated {
        /// The next free producer id.
        next: i64,
    },
}

impl ControlRecord {
    /// The record's bytes in the control log.
    pub fn encode(&self) -> Result<Vec<u8>, codec::CodecError> {
        codec::encode(CONTROL_FORMAT, self)
    }

    /// Reads a record of the control log.
    pub fn decode(bytes: &[u8]) -> Result<Self, codec::CodecError> {
        codec::decode(CONTROL_FORMAT, bytes)
    }
}

/// All topics and durable counters at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Catalog {
    /// Kafka's cluster id: 16 random bytes in URL-safe base 64, fixed at the first start.
    pub cluster_id: String,
    /// The next log id to be given.
    pub(crate) next_log_id: LogId,
    /// The next producer id to be given.
    pub(crate) next_producer_id: i64,
    /// Bumped at every start and topic creation.
    pub(crate) leader_epoch: i32,
    topics: BTreeMap<String, Arc<Topic>>,
    epochs: BTreeMap<String, u64>,
    by_id: HashMap<Uuid, Arc<Topic>>,
    by_log: HashMap<LogId, (Arc<Topic>, u32)>,
}

/// The catalog as the manifest stores it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredCatalog {
    cluster_id: String,
    next_log_id: LogId,
    next_producer_id: i64,
    pub(crate) leader_epoch: i32,
    topics: Vec<Topic>,
    epochs: BTreeMap<String, u64>,
}

impl Catalog {
    /// The catalog of a new data directory: only the control log exists.
    pub(crate) fn new(cluster_id: String, control_topic_id: Uuid) -> Self {
        let mut catalog = Self {
            cluster_id,
            next_log_id: CONTROL_LOG + 1,
            next_producer_id: 0,
            leader_epoch: 0,
            topics: BTreeMap::new(),
            epochs: BTreeMap::new(),
            by_id: HashMap::new(),
            by_log: HashMap::new(),
        };
        catalog.insert(Topic {
            name: CONTROL_TOPIC.into(),
            id: control_topic_id,
            partitions: vec![CONTROL_LOG],
            configs: BTreeMap::from([
                // The manifest carries the catalog, so old records are history only.
                ("retention.ms".into(), "-1".into()),
                ("retention.bytes".into(), (32 << 20).to_string()),
                ("segment.bytes".into(), (8 << 20).to_string()),
            ]),
        });
        catalog
    }

    /// The topic of that name.
    pub fn topic(&self, name: &str) -> Option<&Arc<Topic>> {
        self.topics.get(name)
    }

    /// The topic of that id.
    pub fn topic_by_id(&self, id: Uuid) -> Option<&Arc<Topic>> {
        self.by_id.get(&id)
    }

    /// All topics, sorted by name.
    pub fn topics(&self) -> impl Iterator<Item = &Arc<Topic>> {
        self.topics.values()
    }

    /// The topic and partition number that a log belongs to.
    pub fn log(&self, log: LogId) -> Option<(&Arc<Topic>, u32)> {
        self.by_log.get(&log).map(|(topic, partition)| (topic, *partition))
    }

    /// The current value of a named epoch.
    pub fn epoch(&self, name: &str) -> Option<u64> {
        self.epochs.get(name).copied()
    }

    /// All named epochs.
    pub fn epochs(&self) -> impl Iterator<Item = (&str, u64)> {
        self.epochs.iter().map(|(name, epoch)| (name.as_str(), *epoch))
    }

    fn insert(&mut self, topic: Topic) {
        let topic = Arc::new(topic);
        for (partition, log) in topic.partitions.iter().enumerate() {
            self.by_log.insert(*log, (topic.clone(), partition as u32));
        }
        self.by_id.insert(topic.id, topic.clone());
        self.topics.insert(topic.name.clone(), topic);
    }

    fn remove(&mut self, id: Uuid) -> Option<Arc<Topic>> {
        let topic = self.by_id.remove(&id)?;
        self.topics.remove(&topic.name);
        for log in &topic.partitions {
            self.by_log.remove(log);
        }
        Some(topic)
    }

    /// Applies one record of the control log. A record about a topic that is gone changes nothing.
    pub(crate) fn apply(&mut self, record: &ControlRecord) {
        match record {
            ControlRecord::TopicCreated { topic, leader_epoch } => {
                self.note_logs(&topic.partitions, *leader_epoch);
                self.insert(topic.clone());
            }
            ControlRecord::TopicDeleted { id } => {
                self.remove(*id);
            }
            ControlRecord::PartitionsAdded { id, logs, leader_epoch } => {
                self.note_logs(logs, *leader_epoch);
                if let Some(old) = self.remove(*id) {
                    let mut topic = Topic::clone(&old);
                    topic.partitions.extend_from_slice(logs);
                    self.insert(topic);
                }
            }
            ControlRecord::ConfigsSet { id, configs } => {
                if let Some(old) = self.remove(*id) {
                    let mut topic = Topic::clone(&old);
                    topic.configs = configs.clone();
                    self.insert(topic);
                }
            }
            ControlRecord::LogStartMoved { .. } => {}
            ControlRecord::EpochSet { name, epoch } => {
                self.epochs.insert(name.clone(), *epoch);
            }
            ControlRecord::EpochRemoved { name } => {
                self.epochs.remove(name);
            }
            ControlRecord::ProducerIdsAllocated { next } => {
                self.next_producer_id = self.next_producer_id.max(*next);
            }
        }
    }

    fn note_logs(&mut self, logs: &[LogId], leader_epoch: i32) {
        for log in logs {
            self.next_log_id = self.next_log_id.max(log.saturating_add(1));
        }
        self.leader_epoch = self.leader_epoch.max(leader_epoch);
    }

    pub(crate) fn to_stored(&self) -> StoredCatalog {
        StoredCatalog {
            cluster_id: self.cluster_id.clone(),
            next_log_id: self.next_log_id,
            next_producer_id: self.next_producer_id,
            leader_epoch: self.leader_epoch,
            topics: self.topics.values().map(|topic| Topic::clone(topic)).collect(),
            epochs: self.epochs.clone(),
        }
    }

    pub(crate) fn from_stored(stored: StoredCatalog) -> Self {
        let mut catalog = Self {
            cluster_id: stored.cluster_id,
            next_log_id: stored.next_log_id,
            next_producer_id: stored.next_producer_id,
            leader_epoch: stored.leader_epoch,
            topics: BTreeMap::new(),
            epochs: stored.epochs,
            by_id: HashMap::new(),
            by_log: HashMap::new(),
        };
        for topic in stored.topics {
            catalog.insert(topic);
        }
        catalog
    }
}
