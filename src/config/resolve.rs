//! From the settings that were given to a configuration that can be used.

use std::ops::RangeInclusive;
use std::time::Duration;

use riverlog_storage::MAX_WRITE_SET_BYTES;

use super::{Config, ConfigError, HostPort, ListenerConfig, ListenerSetting, Settings};

const DAY_MS: u64 = 86_400_000;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;

/// A Produce request besides its one batch: a header, a client id and a topic name, seldom more than 300 bytes.
const REQUEST_OVERHEAD_BYTES: u64 = 1024;

impl Settings {
    /// Fills in the defaults and checks what can be checked without opening anything.
    ///
    /// # Errors
    /// When a value is out of range or the settings contradict each other.
    pub fn resolve(self) -> Result<Config, ConfigError> {
        let mut config = Config::new(self.data_dir.clone().unwrap_or_else(|| "./riverlog-data".into()));
        config.listeners = self.listeners()?;
        config.http_addr = self.http_addr.clone().unwrap_or(config.http_addr);
        self.resolve_broker(&mut config)?;
        self.resolve_groups(&mut config)?;
        self.resolve_kafka(&mut config)?;
        self.resolve_storage(&mut config)?;
        self.resolve_http(&mut config)?;
        self.check_relations(&mut config)?;
        millis(&mut config.drain_timeout, "drain_timeout_ms", self.drain_timeout_ms)?;
        config.allow_insecure_public_listen = self.allow_insecure_public_listen.unwrap_or(false);
        config.log_format = self.log_format.unwrap_or_default();
        config.log = self.log.unwrap_or(config.log);
        Ok(config)
    }

    fn listeners(&self) -> Result<Vec<ListenerConfig>, ConfigError> {
        let first = ListenerSetting {
            addr: self
                .kafka_addr
                .clone()
                .unwrap_or_else(|| HostPort::new("127.0.0.1", 9092)),
            advertised_addr: self.advertised_addr.clone(),
        };
        std::iter::once(first)
            .chain(self.listener.iter().cloned())
            .map(listener)
            .collect()
    }

    fn resolve_broker(&self, config: &mut Config) -> Result<(), ConfigError> {
        let broker = &mut config.broker;
        number(&mut broker.node_id, "node_id", self.node_id, 0..=i32::MAX as u64)?;
        broker.auto_create_topics = self.auto_create_topics.unwrap_or(broker.auto_create_topics);
        broker.lenient_replication_factor = self
            .lenient_replication_factor
            .unwrap_or(broker.lenient_replication_factor);
        number(
            &mut broker.default_partitions,
            "default_partitions",
            self.default_partitions,
            1..=10_000,
        )?;
        number(
            &mut broker.max_message_bytes,
            "max_message_bytes",
            self.max_message_bytes,
            1024..=MAX_WRITE_SET_BYTES,
        )?;
        let decompressed = self.max_decompressed_bytes;
        number(
            &mut broker.max_decompressed_bytes,
            "max_decompressed_bytes",
            decompressed,
            MIB..=i32::MAX as u64,
        )?;
        let offsets = self.offsets_topic_partitions;
        number(
            &mut broker.offsets_topic_partitions,
            "offsets_topic_partitions",
            offsets,
            1..=1000,
        )?;
        number(
            &mut broker.max_partitions,
            "max_partitions",
            self.max_partitions,
            1..=1_000_000,
        )?;
        number(
            &mut broker.max_fetch_bytes,
            "max_fetch_bytes",
            self.max_fetch_bytes,
            1024..=GIB,
        )
    }

    fn resolve_groups(&self, config: &mut Config) -> Result<(), ConfigError> {
        let groups = &mut config.broker.groups;
        let limits = &mut groups.group;
        let delay = self.group_initial_rebalance_delay_ms;
        number(
            &mut limits.initial_rebalance_delay_ms,
            "group_initial_rebalance_delay_ms",
            delay,
            0..=DAY_MS,
        )?;
        let shortest = self.group_min_session_timeout_ms;
        number(
            &mut limits.min_session_timeout_ms,
            "group_min_session_timeout_ms",
            shortest,
            1..=DAY_MS,
        )?;
        // No shorter than the shortest, or nobody could join at all.
        let (longest, least) = (self.group_max_session_timeout_ms, limits.min_session_timeout_ms);
        number(
            &mut limits.max_session_timeout_ms,
            "group_max_session_timeout_ms",
            longest,
            least..=DAY_MS,
        )?;
        let retention = self.offsets_retention_ms;
        number(
            &mut groups.offsets_retention_ms,
            "offsets_retention_ms",
            retention,
            1..=3650 * DAY_MS,
        )
    }

    fn resolve_kafka(&self, config: &mut Config) -> Result<(), ConfigError> {
        let kafka = &mut config.kafka;
        number(
            &mut kafka.max_connections,
            "kafka_max_connections",
            self.kafka_max_connections,
            1..=1_000_000,
        )?;
        number(
            &mut kafka.max_frame_bytes,
            "kafka_max_request_bytes",
            self.kafka_max_request_bytes,
            1024 + REQUEST_OVERHEAD_BYTES..=GIB,
        )?;
        number(
            &mut kafka.request_bytes,
            "kafka_request_memory_bytes",
            self.kafka_request_memory_bytes,
            MIB..=TIB,
        )?;
        number(
            &mut kafka.response_bytes,
            "kafka_response_memory_bytes",
            self.kafka_response_memory_bytes,
            MIB..=TIB,
        )?;
        millis(
            &mut kafka.idle_timeout,
            "kafka_idle_timeout_ms",
            self.kafka_idle_timeout_ms,
        )
    }

    fn resolve_storage(&self, config: &mut Config) -> Result<(), ConfigError> {
        let storage = &mut config.storage;
        number(
            &mut storage.journal_file_bytes,
            "journal_file_bytes",
            self.journal_file_bytes,
            MIB..=GIB,
        )?;
        number(
            &mut storage.checkpoint_bytes,
            "checkpoint_bytes",
            self.checkpoint_bytes,
            MIB..=TIB,
        )?;
        let interval = self.retention_interval_ms;
        number(
            &mut storage.retention_interval_ms,
            "retention_interval_ms",
            interval,
            1..=DAY_MS,
        )
    }

    fn resolve_http(&self, config: &mut Config) -> Result<(), ConfigError> {
        let http = &mut config.http;
        number(
            &mut http.max_connections,
            "http_max_connections",
            self.http_max_connections,
            1..=100_000,
        )?;
        number(
            &mut http.max_body_bytes,
            "http_max_body_bytes",
            self.http_max_body_bytes,
            1024..=GIB,
        )?;
        number(
            &mut http.memory_bytes,
            "http_memory_bytes",
            self.http_memory_bytes,
            MIB..=TIB,
        )?;
        millis(
            &mut http.body_idle_timeout,
            "http_body_idle_timeout_ms",
            self.http_body_idle_timeout_ms,
        )?;
        millis(
            &mut http.header_timeout,
            "http_header_timeout_ms",
            self.http_header_timeout_ms,
        )
    }

    /// What one setting allows must be possible with the others: found out here, and not by the first client that sends
    /// something large.
    fn check_relations(&self, config: &mut Config) -> Result<(), ConfigError> {
        let Config {
            broker,
            kafka,
            http,
            storage,
            ..
        } = config;
        // One request takes at most half of what all of them share.
        let mut request = Limit {
            name: "kafka_max_request_bytes",
            given: self.kafka_max_request_bytes,
            value: &mut kafka.max_frame_bytes,
        };
        request.fit("kafka_request_memory_bytes", kafka.request_bytes as u64, 2, 0)?;
        let mut message = Limit {
            name: "max_message_bytes",
            given: self.max_message_bytes,
            value: &mut broker.max_message_bytes,
        };
        let request_bytes = kafka.max_frame_bytes as u64;
        message.fit("kafka_max_request_bytes", request_bytes, 1, REQUEST_OVERHEAD_BYTES)?;
        // A write set takes at most half of a journal file.
        message.fit("journal_file_bytes", storage.journal_file_bytes, 2, 0)?;
        // A body is in memory once as it came and once as a batch, and half of the memory is for answers. As much again is for
        // the next line of a stream. (A document of many small records may still take more than all bodies may.)
        let mut body = Limit {
            name: "http_max_body_bytes",
            given: self.http_max_body_bytes,
            value: &mut http.max_body_bytes,
        };
        body.fit("http_memory_bytes", http.memory_bytes as u64, 8, 0)
    }
}

/// A setting that another one must have room for.
struct Limit<'a> {
    name: &'static str,
    given: Option<u64>,
    value: &'a mut usize,
}

impl Limit<'_> {
    /// `bound` must have room for `times` the limit and `more`. A limit that nobody asked for gives way.
    fn fit(&mut self, bound: &'static str, bound_value: u64, times: u64, more: u64) -> Result<(), ConfigError> {
        let most = bound_value.saturating_sub(more) / times;
        match self.given {
            Some(value) if value > most => Err(ConfigError::TooLargeFor {
                name: self.name,
                value,
                bound,
                bound_value,
                most,
                least: value * times + more,
            }),
            _ => {
                *self.value = (*self.value).min(usize::try_from(most).unwrap_or(usize::MAX));
                Ok(())
            }
        }
    }
}

fn listener(setting: ListenerSetting) -> Result<ListenerConfig, ConfigError> {
    let ListenerSetting { addr, advertised_addr } = setting;
    let given = advertised_addr.is_some();
    let advertised = advertised_addr.unwrap_or_else(|| HostPort::new(addr.host.clone(), 0));
    if advertised.is_wildcard() {
        let (what, addr) = match given {
            true => ("advertised address", advertised),
            false => ("kafka address", addr),
        };
        return Err(ConfigError::WildcardAdvertised { what, addr });
    }
    Ok(ListenerConfig { addr, advertised })
}

/// Replaces a default by what was given, if it is in range.
fn number<T: TryFrom<u64>>(
    to: &mut T,
    name: &'static str,
    given: Option<u64>,
    range: RangeInclusive<u64>,
) -> Result<(), ConfigError> {
    let Some(value) = given else { return Ok(()) };
    match T::try_from(value) {
        Ok(number) if range.contains(&value) => *to = number,
        _ => return Err(ConfigError::OutOfRange { name, value, range }),
    }
    Ok(())
}

fn millis(to: &mut Duration, name: &'static str, given: Option<u64>) -> Result<(), ConfigError> {
    let mut ms = 0_u64;
    number(&mut ms, name, given, 1..=DAY_MS)?;
    if given.is_some() {
        *to = Duration::from_millis(ms);
    }
    Ok(())
}
