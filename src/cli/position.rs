//! A place in a topic as it is given on the command line.

use std::str::FromStr;

use anyhow::{Context, bail};
use riverlog_client::{Client, Isolation, OffsetAt, TopicMetadata};

use super::time;

/// An offset, a time, or one of the ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// The first record that is there.
    Earliest,
    /// Behind the last record.
    Latest,
    /// The same offset in every partition.
    Offset(i64),
    /// The first record at or after this time, in milliseconds since the Unix epoch.
    Time(i64),
}

impl FromStr for Position {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(offset) = text.parse::<u64>() {
            return i64::try_from(offset)
                .map(Self::Offset)
                .map_err(|_| format!("{offset} is beyond every log"));
        }
        let time = || match text.strip_prefix('@') {
            Some(ms) => ms.parse().ok(),
            None => time::parse_ms(text),
        };
        match text {
            "earliest" => Ok(Self::Earliest),
            "latest" => Ok(Self::Latest),
            _ => time().map(Self::Time).ok_or_else(|| {
                "give an offset (42), a time (2013-01-31T08:30:00Z, or @ and milliseconds since 1970), \
                 earliest or latest"
                    .to_owned()
            }),
        }
    }
}

impl Position {
    /// The offset in one partition. Behind the last record, if no record is as young as the time.
    ///
    /// # Errors
    /// When the broker cannot tell, or does not have the partition.
    pub async fn resolve(self, client: &Client, topic: &str, partition: i32) -> anyhow::Result<i64> {
        let isolation = Isolation::ReadCommitted;
        let at = match self {
            Self::Offset(offset) => return Ok(offset),
            Self::Earliest => OffsetAt::Earliest,
            Self::Latest => OffsetAt::Latest,
            Self::Time(ms) => OffsetAt::Time(ms),
        };
        let found = match client.offset(topic, partition, at, isolation).await? {
            None => client.offset(topic, partition, OffsetAt::Latest, isolation).await?,
            found => found,
        };
        let found = found.with_context(|| format!("{topic}/{partition} does not tell its end"))?;
        Ok(found.offset)
    }
}

/// The partitions that a command is about: the one that was named, or all.
///
/// # Errors
/// When the topic does not have the partition.
pub fn chosen_partitions(topic: &TopicMetadata, named: Option<i32>) -> anyhow::Result<Vec<i32>> {
    let all: Vec<i32> = topic.partitions.iter().map(|partition| partition.index).collect();
    match named {
        None => Ok(all),
        Some(partition) if all.contains(&partition) => Ok(vec![partition]),
        Some(partition) => bail!(
            "topic {} has no partition {partition}; it has 0 to {}",
            topic.name,
            all.len().saturating_sub(1)
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_four_kinds() {
        assert_eq!("earliest".parse(), Ok(Position::Earliest));
        assert_eq!("42".parse(), Ok(Position::Offset(42)));
        assert_eq!("2013-01-01T10:00Z".parse(), Ok(Position::Time(1_357_034_400_000)));
        assert_eq!("@1357034400000".parse(), Ok(Position::Time(1_357_034_400_000)));
        assert!("yesterday".parse::<Position>().is_err());
        assert!("18446744073709551615".parse::<Position>().is_err());
    }
}
