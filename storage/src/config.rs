//! The topic settings that storage obeys.

use std::collections::BTreeMap;

/// What storage needs to know of a topic's configuration. Names and defaults are Kafka's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    /// `retention.ms`: delete segments whose newest record is older; none keeps them for ever.
    pub retention_ms: Option<i64>,
    /// `retention.bytes`: delete the oldest segments above this size; none has no limit.
    pub retention_bytes: Option<u64>,
    /// `segment.bytes`: begin a new segment rather than grow beyond this.
    pub segment_bytes: u64,
    /// `segment.ms`: begin a new segment when the active one is older.
    pub segment_ms: u64,
}

const DAY_MS: u64 = 24 * 60 * 60 * 1000;
/// The smallest segment that may be configured: Kafka 4's bound is 1 MiB, tests need less.
const MIN_SEGMENT_BYTES: u64 = 14;

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            retention_ms: Some(7 * DAY_MS as i64),
            retention_bytes: None,
            segment_bytes: 1 << 30,
            segment_ms: 7 * DAY_MS,
        }
    }
}

impl LogConfig {
    /// Reads the settings that concern storage; others are not looked at.
    pub fn parse(configs: &BTreeMap<String, String>) -> Result<Self, String> {
        let mut config = Self::default();
        let number = |name: &str| -> Result<Option<i64>, String> {
            configs
                .get(name)
                .map(|text| {
                    text.trim()
                        .parse::<i64>()
                        .map_err(|_| format!("{name} = {text:?} is not a whole number"))
                })
                .transpose()
        };
        if let Some(value) = number("retention.ms")? {
            config.retention_ms = (value >= 0).then_some(value);
        }
        if let Some(value) = number("retention.bytes")? {
            config.retention_bytes = u64::try_from(value).ok();
        }
        if let Some(value) = number("segment.bytes")? {
            config.segment_bytes = u64::try_from(value)
                .ok()
                .filter(|bytes| (MIN_SEGMENT_BYTES..=i32::MAX as u64).contains(bytes))
                .ok_or_else(|| {
                    format!(
                        "segment.bytes = {value} is outside of {MIN_SEGMENT_BYTES} to {}",
                        i32::MAX
                    )
                })?;
        }
        if let Some(value) = number("segment.ms")? {
            config.segment_ms = u64::try_from(value)
                .ok()
                .filter(|ms| *ms >= 1)
                .ok_or_else(|| format!("segment.ms = {value} is below 1"))?;
        }
        Ok(config)
    }
}
