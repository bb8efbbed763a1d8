//! Which records a replay is about: the range as asked for, and as offsets of each partition.

use std::fmt;

use anyhow::{Context, bail};
use riverlog_client::{Client, Isolation, OffsetAt};
use serde::{Deserialize, Serialize};

/// An end of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// The first record that is there.
    Earliest,
    /// The last record that is there at the start of the replay.
    Latest,
    /// An offset, the same in every partition.
    Offset(i64),
    /// A time in milliseconds since the Unix epoch.
    Time(i64),
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Earliest => f.write_str("earliest"),
            Self::Latest => f.write_str("latest"),
            Self::Offset(offset) => write!(f, "offset {offset}"),
            Self::Time(ms) => write!(f, "@{ms}"),
        }
    }
}

/// What to replay. `to` is not part of the range.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    /// The topic.
    pub topic: String,
    /// One partition, or all.
    pub partition: Option<i32>,
    /// The first record.
    pub from: Bound,
    /// Behind the last record.
    pub to: Bound,
}

/// The part of the range that lies in one partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Span {
    pub partition: i32,
    /// The first offset to look at.
    pub from: i64,
    /// The offset behind the last one to look at.
    pub to: i64,
}

/// The times that a record must lie between, besides the offsets. Timestamps need not be in order, so
/// offsets alone cannot tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TimeFilter {
    pub from_ms: Option<i64>,
    pub to_ms: Option<i64>,
}

impl TimeFilter {
    pub fn of(range: &Range) -> Self {
        let time = |bound| match bound {
            Bound::Time(ms) => Some(ms),
            _ => None,
        };
        Self {
            from_ms: time(range.from),
            to_ms: time(range.to),
        }
    }

    pub fn admits(&self, timestamp_ms: i64) -> bool {
        self.from_ms.is_none_or(|from| timestamp_ms >= from) && self.to_ms.is_none_or(|to| timestamp_ms < to)
    }
}

/// Resolves the range to offsets, partition by partition. What is not there is left out, and told in `notes`.
pub(crate) async fn resolve(client: &Client, range: &Range, notes: &mut Vec<String>) -> anyhow::Result<Vec<Span>> {
    let topic = client.topic(&range.topic, false).await?;
    let mut spans = Vec::new();
    for partition in topic.partitions.iter().map(|partition| partition.index) {
        if range.partition.is_none_or(|wanted| wanted == partition) {
            let span = resolve_partition(client, range, partition, notes).await?;
            spans.push(span);
        }
    }
    match (spans.is_empty(), range.partition) {
        (true, Some(partition)) => bail!(
            "topic {} has no partition {partition}; it has 0 to {}",
            range.topic,
            topic.partitions.len().saturating_sub(1)
        ),
        _ => Ok(spans),
    }
}

async fn resolve_partition(
    client: &Client,
    range: &Range,
    partition: i32,
    notes: &mut Vec<String>,
) -> anyhow::Result<Span> {
    let topic = &range.topic;
    let at = async |at| client.offset(topic, partition, at, Isolation::ReadCommitted).await;
    let start = at(OffsetAt::Earliest).await?;
    let end = at(OffsetAt::Latest).await?;
    let (start, end) = start
        .zip(end)
        .map(|(start, end)| (start.offset, end.offset))
        .with_context(|| format!("{topic}/{partition} does not tell where it starts and ends"))?;
    let from = match range.from {
        Bound::Earliest => start,
        Bound::Latest => end,
        Bound::Offset(offset) if offset < start => {
            notes.push(format!("{topic}/{partition} starts at offset {start}"));
            start
        }
        Bound::Offset(offset) => offset,
        // No record before this one can be as young.
        Bound::Time(ms) => at(OffsetAt::Time(ms)).await?.map_or(end, |found| found.offset),
    };
    let to = match range.to {
        Bound::Earliest => start,
        Bound::Offset(offset) => offset.min(end),
        Bound::Latest | Bound::Time(_) => end,
    };
    Ok(Span {
        partition,
        from,
        to: to.max(from),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_range_does_not_depend_on_the_order_of_records() {
        let filter = TimeFilter {
            from_ms: Some(100),
            to_ms: Some(200),
        };
        let admitted: Vec<i64> = [99, 150, 200, 100, 201, 199]
            .into_iter()
            .filter(|ms| filter.admits(*ms))
            .collect();
        assert_eq!(admitted, [150, 100, 199]);
        assert!(TimeFilter::default().admits(i64::MIN));
    }
}
