//! Connections to the brokers of a cluster, and which request goes to which of them.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use kafka_protocol::error::{ParseResponseErrorCode, ResponseError};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{FindCoordinatorRequest, MetadataRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use parking_lot::{Mutex, RwLock};
use tokio::time::{Instant, sleep};

use crate::api::Api;
use crate::connection::Connection;
use crate::error::Error;
use crate::metadata::{Metadata, TopicMetadata};

/// How to reach a cluster, and how long to wait for it.
#[derive(Clone, Debug)]
pub struct Config {
    /// `HOST:PORT` of one or more brokers.
    pub bootstrap: Vec<String>,
    /// The name that brokers log.
    pub client_id: String,
    /// How long opening a connection may take.
    pub connect_timeout: Duration,
    /// How long one answer may take.
    pub request_timeout: Duration,
    /// How long an operation is tried again while brokers are away or not ready.
    pub retry_timeout: Duration,
    /// The largest response that is accepted.
    pub max_response_bytes: usize,
}

impl Config {
    /// The defaults, for brokers given as `host:port,host:port`.
    pub fn new(bootstrap: &str) -> Self {
        Self {
            bootstrap: bootstrap
                .split(',')
                .map(str::trim)
                .filter(|addr| !addr.is_empty())
                .map(str::to_owned)
                .collect(),
            client_id: "riverlog-cli".to_owned(),
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(30),
            retry_timeout: Duration::from_secs(30),
            max_response_bytes: 128 * 1024 * 1024,
        }
    }
}

/// Whom to ask.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target<'a> {
    Any,
    Controller,
    Node(i32),
    /// The coordinator of a consumer group.
    Group(&'a str),
}

/// Ordinary requests share a connection per broker. Whoever holds requests open (long polls, produce
/// requests in order) takes a channel, that is connections, of its own.
pub(crate) const SHARED: u32 = 0;

/// The node id under which the connection to a bootstrap address is kept.
const BOOTSTRAP_NODE: i32 = -1;

const FIRST_BACKOFF: Duration = Duration::from_millis(20);
const LAST_BACKOFF: Duration = Duration::from_secs(1);

/// A client of one cluster. Clones share its connections.
#[derive(Clone, Debug)]
pub struct Client {
    inner: Arc<Inner>,
}

type Slot = Arc<tokio::sync::Mutex<Option<Arc<Connection>>>>;

#[derive(Debug)]
struct Inner {
    config: Config,
    /// By node and channel. The inner lock keeps two callers from connecting twice.
    connections: Mutex<HashMap<(i32, u32), Slot>>,
    next_channel: AtomicU32,
    known: RwLock<Metadata>,
    coordinators: Mutex<HashMap<String, i32>>,
}

impl Client {
    /// Connects to the first bootstrap address that answers and learns the brokers.
    pub async fn connect(config: Config) -> Result<Self, Error> {
        let client = Self {
            inner: Arc::new(Inner {
                config,
                connections: Mutex::default(),
                next_channel: AtomicU32::new(SHARED + 1),
                known: RwLock::default(),
                coordinators: Mutex::default(),
            }),
        };
        client.metadata(Some(&[]), false).await?;
        Ok(client)
    }

    /// The configuration it was made with.
    pub fn config(&self) -> &Config {
        &self.inner.config
    }

    pub(crate) fn new_channel(&self) -> u32 {
        self.inner.next_channel.fetch_add(1, Ordering::Relaxed)
    }

    /// Closes the connections of a channel that is not used any more.
    pub(crate) fn close_channel(&self, channel: u32) {
        self.inner.connections.lock().retain(|(_, of), _| *of != channel);
    }

    /// Asks for metadata: of the named topics, or of all (`None`).
    pub async fn metadata(&self, topics: Option<&[&str]>, create_missing: bool) -> Result<Metadata, Error> {
        let topics = topics.map(|names| {
            names
                .iter()
                .map(|name| MetadataRequestTopic::default().with_name(Some(topic_name(name))))
                .collect()
        });
        let request = MetadataRequest::default()
            .with_topics(topics)
            .with_allow_auto_topic_creation(create_missing);
        let connection = self.any().await?;
        let response = connection.call(&request, Duration::ZERO).await?;
        let metadata = Metadata::from(response);
        let mut known = self.inner.known.write();
        known.cluster_id.clone_from(&metadata.cluster_id);
        known.controller = metadata.controller;
        known.brokers.clone_from(&metadata.brokers);
        for (name, topic) in &metadata.topics {
            if topic.error.is_none() {
                known.topics.insert(name.clone(), topic.clone());
            } else {
                known.topics.remove(name);
            }
        }
        Ok(metadata)
    }

    /// One topic, asked for anew. With `create_missing`, a broker that creates topics by itself does.
    pub async fn topic(&self, name: &str, create_missing: bool) -> Result<TopicMetadata, Error> {
        let mut retry = Retry::new(self.inner.config.retry_timeout);
        loop {
            let found = self.metadata(Some(&[name]), create_missing).await;
            let error = match found.map(|mut metadata| metadata.topics.remove(name)) {
                Ok(Some(topic)) => match topic.error {
                    None => return Ok(topic),
                    Some(code) => Error::refused(format!("topic {name}"), code, None),
                },
                Ok(None) => Error::refused(format!("topic {name}"), ResponseError::UnknownTopicOrPartition, None),
                Err(error) => error,
            };
            // "Unknown" is worth a second look only while the topic is being created.
            let unknown = error.code() == Some(ResponseError::UnknownTopicOrPartition);
            if unknown && !create_missing {
                return Err(error);
            }
            retry.pause(error).await?;
        }
    }

    /// The topic as known already, or asked for.
    pub(crate) async fn known_topic(&self, name: &str) -> Result<TopicMetadata, Error> {
        let known = self.inner.known.read().topics.get(name).cloned();
        match known {
            Some(topic) => Ok(topic),
            None => self.topic(name, false).await,
        }
    }

    /// The node that leads the partition, as known already or asked for.
    pub(crate) async fn leader(&self, topic: &str, partition: i32) -> Result<i32, Error> {
        let known = self.known_topic(topic).await?;
        known.leader(partition).ok_or_else(|| {
            let code = match known.partitions.iter().any(|p| p.index == partition) {
                true => ResponseError::LeaderNotAvailable,
                false => ResponseError::UnknownTopicOrPartition,
            };
            self.forget_topic(topic);
            Error::refused(format!("{topic}/{partition}"), code, None)
        })
    }

    /// Makes the next look-up ask again.
    pub(crate) fn forget_topic(&self, topic: &str) {
        self.inner.known.write().topics.remove(topic);
    }

    /// Every broker's node id.
    pub(crate) fn nodes(&self) -> Vec<i32> {
        self.inner.known.read().brokers.keys().copied().collect()
    }

    /// Sends a request, and again while the failure is one that passes.
    pub(crate) async fn call<R: Api>(&self, target: Target<'_>, request: &R) -> Result<R::Response, Error> {
        let mut retry = Retry::new(self.inner.config.retry_timeout);
        loop {
            match self.call_once(target, request).await {
                Ok(response) => return Ok(response),
                // The first refusal to connect is an answer: nobody is there.
                Err(error @ Error::Connect { .. }) if retry.is_first() => return Err(error),
                Err(error) => retry.pause(error).await?,
            }
        }
    }

    pub(crate) async fn call_once<R: Api>(&self, target: Target<'_>, request: &R) -> Result<R::Response, Error> {
        let connection = match target {
            Target::Any => self.any().await?,
            Target::Node(node) => self.connection(node, SHARED).await?,
            Target::Controller => {
                let controller = self.inner.known.read().controller;
                let known = self.inner.known.read().brokers.contains_key(&controller);
                match known {
                    true => self.connection(controller, SHARED).await?,
                    false => self.any().await?,
                }
            }
            Target::Group(group) => {
                let node = self.coordinator(group).await?;
                self.connection(node, SHARED).await?
            }
        };
        connection.call(request, Duration::ZERO).await
    }

    /// A connection to whoever answers: one that is open, a known broker, a bootstrap address.
    async fn any(&self) -> Result<Arc<Connection>, Error> {
        let mut failure = Error::Invalid("no bootstrap address was given".to_owned());
        for node in self.nodes() {
            match self.connection(node, SHARED).await {
                Ok(connection) => return Ok(connection),
                Err(error) => failure = error,
            }
        }
        let slot = self.slot(BOOTSTRAP_NODE, SHARED);
        let mut slot = slot.lock().await;
        if let Some(open) = slot.as_ref().filter(|connection| connection.is_open()) {
            return Ok(open.clone());
        }
        for addr in &self.inner.config.bootstrap {
            match Connection::open(addr, &self.inner.config).await {
                Ok(connection) => return Ok(slot.insert(Arc::new(connection)).clone()),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    /// The connection to a broker on a channel, opened if it is not.
    pub(crate) async fn connection(&self, node: i32, channel: u32) -> Result<Arc<Connection>, Error> {
        let slot = self.slot(node, channel);
        let mut slot = slot.lock().await;
        if let Some(open) = slot.as_ref().filter(|connection| connection.is_open()) {
            return Ok(open.clone());
        }
        let addr = self.inner.known.read().brokers.get(&node).map(|broker| {
            // A literal IPv6 address needs brackets before a port.
            match broker.host.contains(':') {
                true => format!("[{}]:{}", broker.host, broker.port),
                false => format!("{}:{}", broker.host, broker.port),
            }
        });
        let addr = addr.ok_or_else(|| Error::Connect {
            addr: format!("node {node}"),
            reason: "the cluster does not list it".to_owned(),
        })?;
        let connection = Arc::new(Connection::open(&addr, &self.inner.config).await?);
        Ok(slot.insert(connection).clone())
    }

    fn slot(&self, node: i32, channel: u32) -> Slot {
        let mut connections = self.inner.connections.lock();
        connections.entry((node, channel)).or_default().clone()
    }

    async fn coordinator(&self, group: &str) -> Result<i32, Error> {
        if let Some(node) = self.inner.coordinators.lock().get(group) {
            return Ok(*node);
        }
        let request =
            FindCoordinatorRequest::default().with_coordinator_keys(vec![StrBytes::from_string(group.to_owned())]);
        let connection = self.any().await?;
        let response = connection.call(&request, Duration::ZERO).await?;
        let subject = || format!("coordinator of group {group}");
        let found = response
            .coordinators
            .into_iter()
            .next()
            .ok_or_else(|| Error::refused(subject(), ResponseError::CoordinatorNotAvailable, None))?;
        if let Some(code) = found.error_code.err() {
            return Err(Error::refused(subject(), code, found.error_message.as_deref()));
        }
        let node = found.node_id.0;
        if !self.inner.known.read().brokers.contains_key(&node) {
            self.metadata(Some(&[]), false).await?;
        }
        self.inner.coordinators.lock().insert(group.to_owned(), node);
        Ok(node)
    }

    /// Makes the next request for the group look for its coordinator again.
    pub(crate) fn forget_coordinator(&self, group: &str) {
        self.inner.coordinators.lock().remove(group);
    }

    /// A retry schedule with this client's patience.
    pub(crate) fn retry(&self) -> Retry {
        Retry::new(self.inner.config.retry_timeout)
    }
}

/// Waits between attempts, longer each time, until patience ends.
#[derive(Debug)]
pub(crate) struct Retry {
    deadline: Instant,
    backoff: Duration,
    attempts: u32,
}

impl Retry {
    pub fn new(patience: Duration) -> Self {
        Self {
            deadline: Instant::now() + patience,
            backoff: FIRST_BACKOFF,
            attempts: 0,
        }
    }

    pub fn is_first(&self) -> bool {
        self.attempts == 0
    }

    /// Gives the error back if it will not pass, or if there is no time left; else waits.
    pub async fn pause(&mut self, error: Error) -> Result<(), Error> {
        if !error.is_retriable() || Instant::now() + self.backoff > self.deadline {
            return Err(error);
        }
        tracing::debug!(%error, "trying again in {:?}", self.backoff);
        sleep(self.backoff).await;
        self.attempts += 1;
        self.backoff = (self.backoff * 2).min(LAST_BACKOFF);
        Ok(())
    }
}

pub(crate) fn topic_name(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}

pub(crate) fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}
