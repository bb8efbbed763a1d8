//! What was sent, what was acknowledged and what was seen, and whether a log agrees with it.

use std::collections::{BTreeMap, HashMap};
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{Rng, RngExt, SeedableRng};
use riverlog_client::{Client, Delivered, Record, StoredRecord};

use crate::reading::{Partition, read_all};

/// The largest value: with its key, headers and framing it just fits into a batch of Kafka's default size, 1 MiB and 12.
const LARGEST_BYTES: usize = 1_048_000;

/// The records of several producers in one topic.
#[derive(Debug)]
pub struct Ledger {
    /// Its name.
    pub topic: String,
    /// How many partitions it has.
    pub partitions: i32,
    smallest_bytes: usize,
    largest_bytes: usize,
    seed: u64,
    producers: Vec<Account>,
    /// What a reader saw while the server was being killed: nobody may see what a crash takes back.
    seen: Mutex<HashMap<(i32, i64), Bytes>>,
}

#[derive(Debug, Default)]
struct Account {
    handed_over: AtomicU64,
    acknowledged: Mutex<Vec<(u64, Delivered)>>,
}

impl Ledger {
    /// An empty one. The seed decides what the records are.
    pub fn new(topic: &str, partitions: i32, producers: usize, seed: u64) -> Self {
        Self {
            topic: topic.to_owned(),
            partitions,
            smallest_bytes: 0,
            largest_bytes: LARGEST_BYTES,
            seed,
            producers: (0..producers).map(|_| Account::default()).collect(),
            seen: Mutex::default(),
        }
    }

    /// The same with smaller records.
    #[must_use]
    pub fn with_largest_bytes(mut self, largest_bytes: usize) -> Self {
        self.largest_bytes = largest_bytes;
        self
    }

    /// The same with larger records.
    #[must_use]
    pub fn with_smallest_bytes(mut self, smallest_bytes: usize) -> Self {
        self.smallest_bytes = smallest_bytes;
        self
    }

    /// The n-th record of a producer. Always the same one, so that it need not be kept for the comparison.
    pub fn record(&self, producer: usize, number: u64) -> Record {
        let mut random = SmallRng::seed_from_u64(self.seed ^ ((producer as u64) << 48) ^ number);
        // Mostly small, now and then of a size that a batch has to itself, up to the largest.
        let size = match random.random_range(0..2000) {
            0 => LARGEST_BYTES,
            1..10 => random.random_range(200_000..LARGEST_BYTES),
            10..30 => random.random_range(20_000..200_000),
            30..200 => random.random_range(500..5_000),
            _ => random.random_range(0..300),
        };
        // Half noise, half compressible.
        let mut value = vec![b'r'; size.max(self.smallest_bytes).min(self.largest_bytes)];
        let noise = value.len() / 2;
        random.fill_bytes(value.split_at_mut(noise).0);
        Record {
            key: Some(format!("{producer}/{number}").into()),
            value: Some(value.into()),
            headers: vec![("h".into(), Some(number.to_string().into())), ("h".into(), None)],
            timestamp_ms: 1_700_000_000_000_i64.saturating_add_unsigned(number),
        }
    }

    /// The next record of a producer, which from now on may be in the log; and the partition that it goes to.
    ///
    /// # Errors
    /// When there is no such producer.
    pub fn hand_over(&self, producer: usize) -> anyhow::Result<(u64, i32, Record)> {
        let account = self.producers.get(producer).context("no such producer")?;
        let number = account.handed_over.fetch_add(1, Ordering::SeqCst);
        let partition = i32::try_from(number % u64::try_from(self.partitions)?)?;
        Ok((number, partition, self.record(producer, number)))
    }

    /// From now on the record must be in the log.
    ///
    /// # Errors
    /// When there is no such producer.
    pub fn acknowledge(&self, producer: usize, number: u64, delivered: Delivered) -> anyhow::Result<()> {
        let account = self.producers.get(producer).context("no such producer")?;
        account.acknowledged.lock().push((number, delivered));
        Ok(())
    }

    /// How many records were acknowledged so far.
    pub fn acknowledged(&self) -> u64 {
        let accounts = self.producers.iter();
        accounts.map(|account| account.acknowledged.lock().len() as u64).sum()
    }

    /// The highest offset of a partition that was acknowledged lately.
    pub fn last_offset(&self, partition: i32) -> Option<i64> {
        let lately = self.producers.iter().filter_map(|account| {
            let acknowledged = account.acknowledged.lock();
            let last = acknowledged
                .iter()
                .rev()
                .find(|(_, delivered)| delivered.partition == partition);
            last.map(|(_, delivered)| delivered.offset)
        });
        lately.max()
    }

    /// A reader saw this record.
    ///
    /// # Errors
    /// When another record was seen there.
    pub fn saw(&self, partition: i32, record: &StoredRecord) -> anyhow::Result<()> {
        let key = record.key.clone().unwrap_or_default();
        let before = self.seen.lock().insert((partition, record.offset), key.clone());
        ensure!(
            before.as_ref().is_none_or(|before| *before == key),
            "{}/{partition}/{}: {before:?} was seen, and now {key:?}",
            self.topic,
            record.offset
        );
        Ok(())
    }

    /// How many records a reader saw.
    pub fn seen(&self) -> u64 {
        self.seen.lock().len() as u64
    }

    /// Reads the whole topic and compares: every acknowledged record once, at its offset, with its bytes; every record
    /// that was seen still there; no offset empty; nothing twice, out of order, or from nowhere. Only what lies before
    /// the partition's start may be missing, and the start must be one of these.
    ///
    /// # Errors
    /// When the log does not agree.
    pub async fn verify(
        &self,
        client: &Client,
        starts: impl Fn(i32) -> RangeInclusive<i64>,
    ) -> anyhow::Result<BTreeMap<i32, Partition>> {
        let read = read_all(client, &self.topic, self.partitions).await?;
        let mut found = Found::default();
        for (partition, read) in &read {
            let (at, starts) = (format!("{}/{partition}", self.topic), starts(*partition));
            ensure!(
                starts.contains(&read.start),
                "{at} starts at {}, not at {starts:?}",
                read.start
            );
            self.look_through(&at, *partition, read, &mut found)?;
        }
        self.verify_acknowledged(&read, &found)?;
        for ((partition, offset), key) in self.seen.lock().iter() {
            let start = read.get(partition).map_or(0, |read| read.start);
            let now = found.keys.get(&(*partition, *offset));
            ensure!(
                *offset < start || now == Some(key),
                "{}/{partition}/{offset}: {key:?} was seen, now {now:?} is there",
                self.topic
            );
        }
        Ok(read)
    }

    /// Each record by itself, and their order.
    fn look_through(&self, at: &str, partition: i32, read: &Partition, found: &mut Found) -> anyhow::Result<()> {
        for (offset, record) in (read.start..).zip(&read.records) {
            let at = format!("{at}/{}", record.offset);
            ensure!(record.offset == offset, "{at}: offset {offset} is missing");
            let key = record.key.clone().unwrap_or_default();
            let (producer, number) = parse_key(&key).with_context(|| format!("{at}: {key:?} is from nowhere"))?;
            let account = self.producers.get(producer);
            let sent = account.map_or(0, |account| account.handed_over.load(Ordering::SeqCst));
            ensure!(number < sent, "{at}: nobody sent {key:?}");
            let wanted = self.record(producer, number);
            ensure!(
                record.value == wanted.value
                    && record.headers == wanted.headers
                    && record.timestamp_ms == wanted.timestamp_ms,
                "{at}: not the bytes that producer {producer} sent as {number}"
            );
            let before = found.places.insert((producer, number), (partition, offset));
            ensure!(before.is_none(), "DOUBLED: {at}: {key:?} is at {before:?} as well");
            let order = found.order.entry((producer, partition)).or_insert((number, number));
            ensure!(
                order.1 <= number,
                "{at}: {number} of producer {producer} behind {}",
                order.1
            );
            order.1 = number;
            found.keys.insert((partition, offset), key);
        }
        let last = read.records.last().map_or(read.start, |last| last.offset + 1);
        ensure!(last >= read.end, "{at} ends at {last}, and says {}", read.end);
        Ok(())
    }

    fn verify_acknowledged(&self, read: &BTreeMap<i32, Partition>, found: &Found) -> anyhow::Result<()> {
        for (producer, account) in self.producers.iter().enumerate() {
            for (number, delivered) in account.acknowledged.lock().iter() {
                let Delivered { partition, offset } = *delivered;
                // -1: the broker had it already, and only said so. Then it lay before the start if its successors do,
                // or if all of them do.
                let start = read.get(&partition).map_or(0, |read| read.start);
                let first = found.order.get(&(producer, partition)).map(|(first, _)| *first);
                let gone = match offset {
                    -1 => start > 0 && first.is_none_or(|first| *number < first),
                    offset => offset < start,
                };
                match found.places.get(&(producer, *number)) {
                    None if gone => {}
                    None => bail!(
                        "LOST: record {number} of producer {producer} in {}, acknowledged as {delivered:?}; the log starts at {start}",
                        self.topic
                    ),
                    Some(place) => ensure!(
                        *place == (partition, offset) || (place.0 == partition && offset == -1),
                        "record {number} of producer {producer} in {} was acknowledged as {delivered:?} and is at {place:?}",
                        self.topic
                    ),
                }
            }
        }
        Ok(())
    }

    /// One line for the output.
    pub fn summary(&self) -> String {
        let accounts = self.producers.iter();
        let sent: u64 = accounts.map(|account| account.handed_over.load(Ordering::SeqCst)).sum();
        format!(
            "{sent} records sent, {} acknowledged, {} seen by a reader",
            self.acknowledged(),
            self.seen()
        )
    }
}

/// What was found in a log.
#[derive(Default)]
struct Found {
    /// By producer and number: partition and offset.
    places: HashMap<(usize, u64), (i32, i64)>,
    /// By partition and offset.
    keys: HashMap<(i32, i64), Bytes>,
    /// By producer and partition: the first number and the last.
    order: HashMap<(usize, i32), (u64, u64)>,
}

fn parse_key(key: &[u8]) -> Option<(usize, u64)> {
    let (producer, number) = std::str::from_utf8(key).ok()?.split_once('/')?;
    Some((producer.parse().ok()?, number.parse().ok()?))
}
