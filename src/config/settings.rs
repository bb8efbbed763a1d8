//! The settings as they are given: one struct is the flags, the environment variables and the config file, so
//! that the three cannot drift apart. A field that is `None` was not given there.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::{ConfigError, HostPort};
use crate::telemetry::LogFormat;

/// What can be said by flag (`--http-addr`), by environment (`RIVERLOG_HTTP_ADDR`) and in the file (`http_addr`).
#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Directory of the data, created when missing [default: ./riverlog-data]
    #[arg(long, value_name = "DIR", env = "RIVERLOG_DATA_DIR")]
    pub data_dir: Option<PathBuf>,

    /// Where Kafka clients connect; port 0 takes a free port [default: 127.0.0.1:9092]
    #[arg(long, value_name = "HOST:PORT", env = "RIVERLOG_KAFKA_ADDR")]
    pub kafka_addr: Option<HostPort>,

    /// What clients of --kafka-addr are told to connect to [default: the host of --kafka-addr, the bound port]
    #[arg(long, value_name = "HOST:PORT", env = "RIVERLOG_ADVERTISED_ADDR")]
    pub advertised_addr: Option<HostPort>,

    /// A further address for Kafka clients and what they are told to connect to; may be repeated
    /// (variable: separated by commas; file: `[[listener]]` with `addr` and `advertised_addr`)
    #[arg(
        long,
        value_name = "HOST:PORT[=HOST:PORT]",
        env = "RIVERLOG_LISTENER",
        value_delimiter = ','
    )]
    #[serde(default)]
    pub listener: Vec<ListenerSetting>,

    /// Where HTTP is served; port 0 takes a free port [default: 127.0.0.1:8080]
    #[arg(long, value_name = "HOST:PORT", env = "RIVERLOG_HTTP_ADDR")]
    pub http_addr: Option<HostPort>,

    /// Listen on addresses that other machines reach although there is no authentication: anyone who connects
    /// can read, write and delete everything
    #[arg(long, value_name = "BOOL", env = "RIVERLOG_ALLOW_INSECURE_PUBLIC_LISTEN", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub allow_insecure_public_listen: Option<bool>,

    /// The broker id that Kafka clients see, 0 to 2147483647 [default: 1]
    #[arg(long, value_name = "N", env = "RIVERLOG_NODE_ID")]
    pub node_id: Option<u64>,

    /// Create a topic when it is first written to [default: true]
    #[arg(long, value_name = "BOOL", env = "RIVERLOG_AUTO_CREATE_TOPICS", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub auto_create_topics: Option<bool>,

    /// Partitions of a topic whose creator does not say, 1 to 10000 [default: 1]
    #[arg(long, value_name = "N", env = "RIVERLOG_DEFAULT_PARTITIONS")]
    pub default_partitions: Option<u64>,

    /// Accept replication factors above 1, although there is one broker and one copy [default: false]
    #[arg(long, value_name = "BOOL", env = "RIVERLOG_LENIENT_REPLICATION_FACTOR", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub lenient_replication_factor: Option<bool>,

    /// Default of the topic config max.message.bytes, in bytes, 1024 to 67108864 [default: 1048588]
    #[arg(long, value_name = "BYTES", env = "RIVERLOG_MAX_MESSAGE_BYTES")]
    pub max_message_bytes: Option<u64>,

    /// A batch that decompresses to more is refused, in bytes, 1048576 to 2147483647 [default: 134217728]
    #[arg(long, value_name = "BYTES", env = "RIVERLOG_MAX_DECOMPRESSED_BYTES")]
    pub max_decompressed_bytes: Option<u64>,

    /// Partitions of __consumer_offsets, fixed when it is first created, 1 to 1000 [default: 50]
    #[arg(long, value_name = "N", env = "RIVERLOG_OFFSETS_TOPIC_PARTITIONS")]
    pub offsets_topic_partitions: Option<u64>,

    /// Partitions of all topics together, 1 to 1000000 [default: 100000]
    #[arg(long, value_name = "N", env = "RIVERLOG_MAX_PARTITIONS")]
    pub max_partitions: Option<u64>,

    /// Most that one Fetch answer holds, in bytes, 1024 to 1073741824 [default: 57671680]
    #[arg(long, value_name = "BYTES", env = "RIVERLOG_MAX_FETCH_BYTES")]
    pub max_fetch_bytes: Option<u64>,

    /// How long the first member of an empty group waits for others, in milliseconds, 0 to 86400000 [default: 3000]
    #[arg(long, value_name = "MS", env = "RIVERLOG_GROUP_INITIAL_REBALANCE_DELAY_MS")]
    pub group_initial_rebalance_delay_ms: Option<u64>,

    /// Shortest session timeout that a group member may ask for, in milliseconds [default: 6000]
    #[arg(long, value_name = "MS", env = "RIVERLOG_GROUP_MIN_SESSION_TIMEOUT_MS")]
    pub group_min_session_timeout_ms: Option<u64>,

    /// Longest session timeout that a group member may ask for, in milliseconds [default: 1800000]
    #[arg(long, value_name = "MS", env = "RIVERLOG_GROUP_MAX_SESSION_TIMEOUT_MS")]
    pub group_max_session_timeout_ms: Option<u64>,

    /// How long the offsets of an empty group are kept, in milliseconds, up to ten years [default: 604800000]
    #[arg(long, value_name = "MS", env = "RIVERLOG_OFFSETS_RETENTION_MS")]
    pub offsets_retention_ms: Option<u64>,

    /// Kafka connections of all listeners together, 1 to 1000000 [default: 20000]
    #[arg(long, value_name = "N", env = "RIVERLOG_KAFKA_MAX_CONNECTIONS")]
    pub kafka_max_connections: Option<u64>,

    /// Largest Kafka request, in bytes, 2048 to 1073741824 [default: 104857600]
    #[arg(long, value_name = "BYTES", env = "RIVERLOG_KAFKA_MAX_REQUEST_BYTES")]
    pub kafka_max_request_bytes: Option<u64>,

    /// What Kafka requests under way may hold in memory, in bytes, 1048576 to 1099511627776 [default: 268435456]
    #[arg(long, value_name = "BYTES", env = "RIVERLOG_KAFKA_REQUEST_MEMORY_BYTES")]
    pub kafka_request_memory_bytes: Option<u64>,

    /// What Kafka answers under way may hold in memory, in bytes, 1048576 to 1099511627776 [default: 268435456]
    #[arg(long, value_name = "BYTES", env = "RIVERLOG_KAFKA_RESPONSE_MEMORY_BYTES")]
    pub kafka_response_memory_bytes: Option<u64>,

    /// A Kafka connection that asks nothing, or takes nothing of a large answer, for this long is closed, in milliseconds [default: 600000]
    #[arg(long, value_name = "MS", env = "RIVERLOG_KAFKA_IDLE_TIMEOUT_MS")]
    pub kafka_idle_timeout_ms: Option<u64>,

    /// Size of a journal file, and so of the largest atomic write, in bytes, 1048576 to 1073741824
    /// [default: 134217728]
    #[arg(long, value_name = "BYTES", env = "RIVERLOG_JOURNAL_FILE_BYTES")]
    pub journal_file_bytes: Option<u64>,

    /// Take a checkpoint when a start would have to read this much, in bytes, 1048576 to 1099511627776 [default: 268435456]
    #[arg(long, value_name = "BYTES", env = "RIVERLOG_CHECKPOINT_BYTES")]
    pub checkpoint_bytes: Option<u64>,

    /// How often retention looks for segments to delete, in milliseconds [default: 30000]
    #[arg(long, value_name = "MS", env = "RIVERLOG_RETENTION_INTERVAL_MS")]
    pub retention_interval_ms: Option<u64>,

    /// HTTP connections served at a time, 1 to 100000 [default: 1024]
    #[arg(long, value_name = "N", env = "RIVERLOG_HTTP_MAX_CONNECTIONS")]
    pub http_max_connections: Option<u64>,

    /// Largest raw or JSON request body and longest NDJSON line, in bytes, 1024 to 1073741824 [default: 8388608]
    #[arg(long, value_name = "BYTES", env = "RIVERLOG_HTTP_MAX_BODY_BYTES")]
    pub http_max_body_bytes: Option<u64>,

    /// What all HTTP request bodies (one half) and answers (the other) may hold in memory, in bytes, 1048576 to 1099511627776 [default: 268435456]
    #[arg(long, value_name = "BYTES", env = "RIVERLOG_HTTP_MEMORY_BYTES")]
    pub http_memory_bytes: Option<u64>,

    /// Longest silence inside an HTTP request body, and longest time that an answer may stay unread, in
    /// milliseconds [default: 30000]
    #[arg(long, value_name = "MS", env = "RIVERLOG_HTTP_BODY_IDLE_TIMEOUT_MS")]
    pub http_body_idle_timeout_ms: Option<u64>,

    /// Longest time for an HTTP request head to arrive, and longest pause between two requests of a
    /// connection, in milliseconds [default: 30000]
    #[arg(long, value_name = "MS", env = "RIVERLOG_HTTP_HEADER_TIMEOUT_MS")]
    pub http_header_timeout_ms: Option<u64>,

    /// How long requests under way may take to finish after SIGTERM or SIGINT, in milliseconds [default: 10000]
    #[arg(long, value_name = "MS", env = "RIVERLOG_DRAIN_TIMEOUT_MS")]
    pub drain_timeout_ms: Option<u64>,

    /// How log lines look [default: text]
    #[arg(long, value_enum, value_name = "FORMAT", env = "RIVERLOG_LOG_FORMAT")]
    pub log_format: Option<LogFormat>,

    /// What is logged: a level, or directives such as `info,riverlog::kafka=debug` [default: info]
    #[arg(long, value_name = "FILTER", env = "RIVERLOG_LOG")]
    pub log: Option<String>,
}

/// One more socket for Kafka clients.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListenerSetting {
    /// Where to listen.
    pub addr: HostPort,
    /// What clients are told to connect to, when it is not `addr`.
    pub advertised_addr: Option<HostPort>,
}

impl FromStr for ListenerSetting {
    type Err = super::HostPortError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('=') {
            Some((addr, advertised)) => Ok(Self {
                addr: addr.parse()?,
                advertised_addr: Some(advertised.parse()?),
            }),
            None => Ok(Self {
                addr: text.parse()?,
                advertised_addr: None,
            }),
        }
    }
}

impl Settings {
    /// Reads a config file.
    ///
    /// # Errors
    /// When it cannot be read, is not TOML, or names a setting that does not exist.
    pub fn from_file(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::from_text(&text).map_err(|reason| ConfigError::Parse {
            path: path.to_owned(),
            reason,
        })
    }

    /// Reads the text of a config file; the error says in which line it goes wrong.
    pub(crate) fn from_text(text: &str) -> Result<Self, String> {
        toml::from_str(text).map_err(|error| describe(text, &error))
    }

    /// These settings where they are given, `below` where they are not.
    #[must_use]
    pub fn over(self, below: Self) -> Self {
        // Spelled out without `..`, so that a new setting cannot be forgotten here.
        Self {
            data_dir: self.data_dir.or(below.data_dir),
            kafka_addr: self.kafka_addr.or(below.kafka_addr),
            advertised_addr: self.advertised_addr.or(below.advertised_addr),
            listener: if self.listener.is_empty() {
                below.listener
            } else {
                self.listener
            },
            http_addr: self.http_addr.or(below.http_addr),
            allow_insecure_public_listen: self.allow_insecure_public_listen.or(below.allow_insecure_public_listen),
            node_id: self.node_id.or(below.node_id),
            auto_create_topics: self.auto_create_topics.or(below.auto_create_topics),
            default_partitions: self.default_partitions.or(below.default_partitions),
            lenient_replication_factor: self.lenient_replication_factor.or(below.lenient_replication_factor),
            max_message_bytes: self.max_message_bytes.or(below.max_message_bytes),
            max_decompressed_bytes: self.max_decompressed_bytes.or(below.max_decompressed_bytes),
            offsets_topic_partitions: self.offsets_topic_partitions.or(below.offsets_topic_partitions),
            max_partitions: self.max_partitions.or(below.max_partitions),
            max_fetch_bytes: self.max_fetch_bytes.or(below.max_fetch_bytes),
            group_initial_rebalance_delay_ms: self
                .group_initial_rebalance_delay_ms
                .or(below.group_initial_rebalance_delay_ms),
            group_min_session_timeout_ms: self.group_min_session_timeout_ms.or(below.group_min_session_timeout_ms),
            group_max_session_timeout_ms: self.group_max_session_timeout_ms.or(below.group_max_session_timeout_ms),
            offsets_retention_ms: self.offsets_retention_ms.or(below.offsets_retention_ms),
            kafka_max_connections: self.kafka_max_connections.or(below.kafka_max_connections),
            kafka_max_request_bytes: self.kafka_max_request_bytes.or(below.kafka_max_request_bytes),
            kafka_request_memory_bytes: self.kafka_request_memory_bytes.or(below.kafka_request_memory_bytes),
            kafka_response_memory_bytes: self.kafka_response_memory_bytes.or(below.kafka_response_memory_bytes),
            kafka_idle_timeout_ms: self.kafka_idle_timeout_ms.or(below.kafka_idle_timeout_ms),
            journal_file_bytes: self.journal_file_bytes.or(below.journal_file_bytes),
            checkpoint_bytes: self.checkpoint_bytes.or(below.checkpoint_bytes),
            retention_interval_ms: self.retention_interval_ms.or(below.retention_interval_ms),
            http_max_connections: self.http_max_connections.or(below.http_max_connections),
            http_max_body_bytes: self.http_max_body_bytes.or(below.http_max_body_bytes),
            http_memory_bytes: self.http_memory_bytes.or(below.http_memory_bytes),
            http_body_idle_timeout_ms: self.http_body_idle_timeout_ms.or(below.http_body_idle_timeout_ms),
            http_header_timeout_ms: self.http_header_timeout_ms.or(below.http_header_timeout_ms),
            drain_timeout_ms: self.drain_timeout_ms.or(below.drain_timeout_ms),
            log_format: self.log_format.or(below.log_format),
            log: self.log.or(below.log),
        }
    }
}

/// The parser's message on one line, with the line number in front.
fn describe(text: &str, error: &toml::de::Error) -> String {
    let line = error
        .span()
        .and_then(|span| text.get(..span.start))
        .map(|before| before.matches('\n').count() + 1);
    let message = error.message().replace('\n', "; ");
    match line {
        Some(line) => format!("line {line}: {message}"),
        None => message,
    }
}
