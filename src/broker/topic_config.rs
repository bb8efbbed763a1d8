//! The topic configs that exist. Each one does something; any other name is refused.

use std::collections::BTreeMap;

use riverlog_storage::Topic;

use super::{BrokerError, BrokerOptions};

/// A config's type, as DescribeConfigs reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// true or false.
    Boolean,
    /// Text, usually one of a few words.
    String,
    /// 16 bits.
    Short,
    /// 32 bits.
    Int,
    /// 64 bits.
    Long,
    /// Words separated by commas.
    List,
}

/// One topic config.
#[derive(Debug)]
pub struct TopicConfigDef {
    /// The name, as in Kafka.
    pub name: &'static str,
    /// The name of the broker config that gives its default, as in Kafka.
    pub synonym: &'static str,
    /// The type.
    pub kind: Kind,
    /// The value of a topic that does not set it.
    pub default: &'static str,
    /// What it does.
    pub doc: &'static str,
    allowed: Allowed,
}

#[derive(Debug)]
enum Allowed {
    Words(&'static [&'static str]),
    Range(i64, i64),
}

/// All topic configs, sorted by name.
pub const TOPIC_CONFIGS: &[TopicConfigDef] = &[
    TopicConfigDef {
        name: "cleanup.policy",
        synonym: "log.cleanup.policy",
        kind: Kind::List,
        default: "delete",
        doc: "What happens to old records: 'delete' removes whole segments by age and size.",
        allowed: Allowed::Words(&["delete"]),
    },
    TopicConfigDef {
        name: "compression.type",
        synonym: "compression.type",
        kind: Kind::String,
        default: "producer",
        doc: "How batches are stored: 'producer' keeps them byte for byte as the producer compressed them.",
        allowed: Allowed::Words(&["producer"]),
    },
    TopicConfigDef {
        name: "max.message.bytes",
        synonym: "message.max.bytes",
        kind: Kind::Int,
        default: "1048588",
        doc: "The largest batch, as it comes over the wire, that the topic accepts.",
        allowed: Allowed::Range(0, i32::MAX as i64),
    },
    TopicConfigDef {
        name: "message.timestamp.type",
        synonym: "log.message.timestamp.type",
        kind: Kind::String,
        default: "CreateTime",
        doc: "Whose clock a record's timestamp shows: the producer's (CreateTime) or the broker's (LogAppendTime).",
        allowed: Allowed::Words(&["CreateTime", "LogAppendTime"]),
    },
    TopicConfigDef {
        name: "min.insync.replicas",
        synonym: "min.insync.replicas",
        kind: Kind::Int,
        default: "1",
        doc: "How many replicas must have a record before acks=all is answered. There is one, and it has synced.",
        allowed: Allowed::Range(1, 1),
    },
    TopicConfigDef {
        name: "retention.bytes",
        synonym: "log.retention.bytes",
        kind: Kind::Long,
        default: "-1",
        doc: "Oldest segments are deleted while a partition is larger than this. -1: no limit by size.",
        allowed: Allowed::Range(-1, i64::MAX),
    },
    TopicConfigDef {
        name: "retention.ms",
        synonym: "log.retention.ms",
        kind: Kind::Long,
        default: "604800000",
        doc: "Segments whose newest record is older than this are deleted. -1: no limit by age.",
        allowed: Allowed::Range(-1, i64::MAX),
    },
    TopicConfigDef {
        name: "segment.bytes",
        synonym: "log.segment.bytes",
        kind: Kind::Int,
        default: "1073741824",
        doc: "A segment file grows to this size before the next one is begun.",
        allowed: Allowed::Range(1024 * 1024, i32::MAX as i64),
    },
    TopicConfigDef {
        name: "segment.ms",
        synonym: "log.roll.ms",
        kind: Kind::Long,
        default: "604800000",
        doc: "A segment file is closed after this time even if it is small, so that retention can delete it.",
        allowed: Allowed::Range(1, i64::MAX),
    },
];

impl TopicConfigDef {
    /// Finds a config by its name.
    pub fn find(name: &str) -> Option<&'static TopicConfigDef> {
        TOPIC_CONFIGS.iter().find(|def| def.name == name)
    }

    /// The value of a topic that does not set this config; the operator decides some of them.
    pub fn default_value(&self, options: &BrokerOptions) -> String {
        match self.name {
            "max.message.bytes" => options.max_message_bytes.to_string(),
            _ => self.default.to_string(),
        }
    }

    /// Whether the config may have this value.
    pub fn check(&self, value: &str) -> Result<(), BrokerError> {
        let reason = match &self.allowed {
            Allowed::Words(words) => {
                let mut given = value.split(',').map(str::trim);
                let ok = match self.kind {
                    Kind::List => given.all(|word| words.contains(&word)),
                    _ => words.contains(&value),
                };
                (!ok).then(|| format!("'{}' is not possible here; use {}", shorten(value), words.join(" or ")))
            }
            Allowed::Range(min, max) => match value.trim().parse::<i64>() {
                Ok(number) if (*min..=*max).contains(&number) => None,
                Ok(_) => Some(format!("{} is outside {min}..={max}", shorten(value))),
                Err(_) => Some(format!("'{}' is not a whole number", shorten(value))),
            },
        };
        match reason {
            None => Ok(()),
            Some(reason) => Err(BrokerError::InvalidConfig {
                name: self.name.to_string(),
                reason,
            }),
        }
    }
}

/// Checks the names and values of a topic's configs.
pub fn check_all(configs: &BTreeMap<String, String>) -> Result<(), BrokerError> {
    for (name, value) in configs {
        let def = TopicConfigDef::find(name).ok_or_else(|| BrokerError::InvalidConfig {
            name: shorten(name),
            reason: "there is no such topic config here".to_string(),
        })?;
        def.check(value)?;
    }
    Ok(())
}

/// The largest batch that a topic accepts.
pub fn max_message_bytes(topic: &Topic, options: &BrokerOptions) -> usize {
    topic
        .configs
        .get("max.message.bytes")
        .and_then(|value| value.trim().parse().ok())
        .unwrap_or(options.max_message_bytes)
}

/// Whether the broker's clock stamps a topic's records.
pub fn log_append_time(topic: &Topic) -> bool {
    topic
        .configs
        .get("message.timestamp.type")
        .is_some_and(|value| value == "LogAppendTime")
}

/// Names and values come from outside and go into messages and logs: no more of them than helps.
pub(super) fn shorten(text: &str) -> String {
    const MAX_CHARS: usize = 64;
    let cleaned: String = text
        .chars()
        .take(MAX_CHARS)
        .map(|c| if c.is_control() { '?' } else { c })
        .collect();
    if text.chars().nth(MAX_CHARS).is_some() {
        format!("{cleaned}…")
    } else {
        cleaned
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_its_defaults_are_valid() {
        assert!(TOPIC_CONFIGS.is_sorted_by_key(|def| def.name));
        for def in TOPIC_CONFIGS {
            def.check(def.default).unwrap();
        }
    }

    #[test]
    fn unknown_names_and_bad_values_are_refused_by_name() {
        for (name, value) in [
            ("retention.hours", "1"),
            ("retention.ms", "soon"),
            ("retention.ms", "-2"),
            ("cleanup.policy", "compact"),
            ("cleanup.policy", ""),
            ("compression.type", "gzip"),
            ("segment.bytes", "10"),
        ] {
            let error = check_all(&BTreeMap::from([(name.to_string(), value.to_string())])).unwrap_err();
            assert!(error.to_string().contains(name), "{error}");
        }
        check_all(&BTreeMap::from([("retention.ms".to_string(), "-1".to_string())])).unwrap();
    }

    #[test]
    fn a_message_never_repeats_a_hostile_name_whole() {
        let long = format!("{}\n", "x".repeat(300));
        assert!(shorten(&long).len() < 80);
        assert_eq!(shorten("a\nb"), "a?b");
    }
}
