//! What a named replay is, written once into a log that everybody can read: the first claim of a name
//! counts, so a name means the same range, destination and producer ids to every process that uses it.

use anyhow::{Context, bail};
use bytes::Bytes;
use riverlog_client::{
    Client, Consumer, ConsumerOptions, Isolation, NewTopic, OffsetAt, Producer, Record, WriterOptions,
};
use serde::{Deserialize, Serialize};

use crate::plan::{Range, Span, TimeFilter};

/// The topic that holds the claims.
const CLAIMS_TOPIC: &str = "riverlog-replays";

/// The layout of [`Claim`]; a newer one is refused.
const VERSION: u32 = 1;

/// Everything that must be the same after a restart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Claim {
    pub version: u32,
    /// As asked for, to be compared with what a restart asks for.
    pub range: Range,
    pub destination: String,
    /// The incarnations of both topics.
    pub source_id: String,
    pub destination_id: String,
    pub spans: Vec<Span>,
    pub filter: TimeFilter,
    /// One for each span.
    pub producer_ids: Vec<i64>,
    /// Where each destination partition ended when the claim was made.
    pub destination_starts: Vec<i64>,
    /// Whether a record keeps its partition number; else its key decides.
    pub same_partitions: bool,
}

impl Claim {
    pub fn new(
        range: Range,
        destination: String,
        ids: (String, String),
        spans: Vec<Span>,
        producer_ids: Vec<i64>,
        destination_starts: Vec<i64>,
        same_partitions: bool,
    ) -> Self {
        Self {
            version: VERSION,
            filter: TimeFilter::of(&range),
            range,
            destination,
            source_id: ids.0,
            destination_id: ids.1,
            spans,
            producer_ids,
            destination_starts,
            same_partitions,
        }
    }

    /// Refuses to go on as something else.
    pub fn check(&self, name: &str, range: &Range, destination: &str, ids: &(String, String)) -> anyhow::Result<()> {
        if self.version != VERSION {
            bail!(
                "replay {name} was started by another version of riverlog (claim version {}, this one \
                 writes {VERSION})",
                self.version
            );
        }
        if self.range != *range || self.destination != destination {
            bail!(
                "replay {name} exists already and is another one: {} into {}. \
                 Give the same arguments to go on with it, or another --name",
                describe(&self.range),
                self.destination
            );
        }
        for (topic, was, is) in [
            (&self.range.topic, &self.source_id, &ids.0),
            (&self.destination, &self.destination_id, &ids.1),
        ] {
            if was != is {
                bail!(
                    "topic {topic} was deleted and created again since replay {name} began; \
                     start one with another --name"
                );
            }
        }
        if self.spans.len() != self.producer_ids.len() {
            bail!("the claim of replay {name} in topic {CLAIMS_TOPIC} is damaged");
        }
        Ok(())
    }
}

fn describe(range: &Range) -> String {
    let partition = range.partition.map_or(String::new(), |p| format!("/{p}"));
    format!("{}{partition} from {} to {}", range.topic, range.from, range.to)
}

/// The claim that counts for this name, if there is one.
pub(crate) async fn find(client: &Client, name: &str) -> anyhow::Result<Option<Claim>> {
    let topics = client.metadata(Some(&[CLAIMS_TOPIC]), false).await?.topics;
    if topics.get(CLAIMS_TOPIC).is_none_or(|topic| topic.error.is_some()) {
        return Ok(None);
    }
    let isolation = Isolation::ReadCommitted;
    let at = async |at| client.offset(CLAIMS_TOPIC, 0, at, isolation).await;
    let mut position = at(OffsetAt::Earliest).await?.map_or(0, |found| found.offset);
    let end = at(OffsetAt::Latest).await?.map_or(0, |found| found.offset);
    let start = [((CLAIMS_TOPIC.to_owned(), 0), position)];
    let mut consumer = Consumer::new(client, start, ConsumerOptions::default());
    while position < end {
        let Some(fetched) = consumer.poll().await? else {
            continue;
        };
        position = fetched.next_offset;
        let mut records = fetched.records.into_iter();
        if let Some(record) = records.find(|r| r.key.as_deref() == Some(name.as_bytes())) {
            let value = record.value.unwrap_or_default();
            let claim = serde_json::from_slice(&value).with_context(|| {
                format!(
                    "the claim of replay {name} at {CLAIMS_TOPIC}/0 offset {} cannot be read",
                    record.offset
                )
            })?;
            return Ok(Some(claim));
        }
    }
    Ok(None)
}

/// Writes a claim and returns the one that counts, which may be another process's.
pub(crate) async fn make(client: &Client, name: &str, claim: &Claim, now_ms: i64) -> anyhow::Result<Claim> {
    let topic = NewTopic {
        name: CLAIMS_TOPIC.to_owned(),
        partitions: Some(1),
        configs: vec![("retention.ms".to_owned(), "-1".to_owned())],
    };
    client.ensure_topic(&topic).await?;
    let producer = Producer::new(client, WriterOptions::default()).await?;
    let record = Record {
        key: Some(Bytes::from(name.to_owned())),
        value: Some(serde_json::to_vec(claim)?.into()),
        headers: Vec::new(),
        timestamp_ms: now_ms,
    };
    producer.send(CLAIMS_TOPIC, Some(0), record).await?.wait().await?;
    find(client, name)
        .await?
        .with_context(|| format!("the claim of replay {name} is not in {CLAIMS_TOPIC} although it was acknowledged"))
}
