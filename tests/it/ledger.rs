//! What was sent, what was acknowledged and what was seen, and whether a log agrees with it.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use riverlog_client::{Client, Consumer, ConsumerOptions, Delivered, OffsetAt, Record, StoredRecord};

/// The records of several producers in one topic.
pub struct Ledger {
    pub topic: String,
    pub partitions: i32,
    seed: u64,
    producers: Vec<Account>,
    /// What a reader saw while the server was being killed: nobody may see what a crash takes back.
    seen: Mutex<HashMap<(i32, i64), Bytes>>,
}

#[derive(Default)]
struct Account {
    handed_over: AtomicU64,
    acknowledged: Mutex<Vec<(u64, Delivered)>>,
}

impl Ledger {
    pub fn new(topic: &str, partitions: i32, producers: usize, seed: u64) -> Arc<Self> {
        Arc::new(Self {
            topic: topic.to_string(),
            partitions,
            seed,
            producers: (0..producers).map(|_| Account::default()).collect(),
            seen: Mutex::default(),
        })
    }

    /// The n-th record of a producer. Always the same one, so that it need not be kept for the comparison.
    pub fn record(&self, producer: usize, number: u64) -> Record {
        let mut random = SmallRng::seed_from_u64(self.seed ^ ((producer as u64) << 48) ^ number);
        // Mostly small, sometimes of a size that a batch has to itself.
        let size = match random.random_range(0..100) {
            0 => random.random_range(20_000..200_000),
            1..10 => random.random_range(500..5_000),
            _ => random.random_range(0..300),
        };
        // Half noise, half compressible.
        let value: Vec<u8> = (0..size)
            .map(|at| if at % 2 == 0 { random.random() } else { b'r' })
            .collect();
        Record {
            key: Some(format!("{producer}/{number}").into()),
            value: Some(value.into()),
            headers: vec![("h".into(), Some(number.to_string().into())), ("h".into(), None)],
            timestamp_ms: 1_700_000_000_000 + i64::try_from(number).unwrap(),
        }
    }

    /// The next record of a producer, which from now on may be in the log.
    pub fn hand_over(&self, producer: usize) -> (u64, Record) {
        let number = self.producers[producer].handed_over.fetch_add(1, Ordering::SeqCst);
        (number, self.record(producer, number))
    }

    /// From now on the record must be in the log.
    pub fn acknowledge(&self, producer: usize, number: u64, delivered: Delivered) {
        self.producers[producer]
            .acknowledged
            .lock()
            .unwrap()
            .push((number, delivered));
    }

    /// How many records were acknowledged so far.
    pub fn acknowledged(&self) -> u64 {
        self.producers
            .iter()
            .map(|account| account.acknowledged.lock().unwrap().len() as u64)
            .sum()
    }

    /// A reader saw this record.
    pub fn saw(&self, partition: i32, record: &StoredRecord) {
        let key = record.key.clone().unwrap_or_default();
        let before = self
            .seen
            .lock()
            .unwrap()
            .insert((partition, record.offset), key.clone());
        assert!(
            before.is_none_or(|before| before == key),
            "{partition}/{}: two records",
            record.offset
        );
    }

    /// Reads the whole topic and compares: every acknowledged record once, at its offset, with its bytes; every record
    /// that was seen still there; no offset empty; nothing twice, out of order, or from nowhere.
    pub async fn verify(&self, client: &Client) {
        let mut found: HashMap<(usize, u64), (i32, i64)> = HashMap::new();
        let mut keys: HashMap<(i32, i64), Bytes> = HashMap::new();
        for (partition, records) in read_all(client, &self.topic, self.partitions).await {
            let mut last: BTreeMap<usize, u64> = BTreeMap::new();
            for (position, record) in records.iter().enumerate() {
                let at = format!("{}/{partition}/{}", self.topic, record.offset);
                assert_eq!(
                    record.offset,
                    i64::try_from(position).unwrap(),
                    "{at}: an offset is missing"
                );
                let key = record.key.clone().unwrap();
                let (producer, number) = std::str::from_utf8(&key).unwrap().split_once('/').unwrap();
                let (producer, number): (usize, u64) = (producer.parse().unwrap(), number.parse().unwrap());
                assert!(
                    number < self.producers[producer].handed_over.load(Ordering::SeqCst),
                    "{at}: nobody sent it"
                );
                let wanted = self.record(producer, number);
                assert!(
                    record.value == wanted.value
                        && record.headers == wanted.headers
                        && record.timestamp_ms == wanted.timestamp_ms,
                    "{at}: not the bytes that producer {producer} sent as {number}"
                );
                let before = found.insert((producer, number), (partition, record.offset));
                assert!(
                    before.is_none(),
                    "{at}: record {number} of producer {producer} was at {before:?} already"
                );
                let before = last.insert(producer, number);
                assert!(
                    before.is_none_or(|before| before < number),
                    "{at}: {number} behind {before:?}, {producer}"
                );
                keys.insert((partition, record.offset), key);
            }
        }
        for (producer, account) in self.producers.iter().enumerate() {
            for (number, delivered) in account.acknowledged.lock().unwrap().iter() {
                let Some((partition, offset)) = found.get(&(producer, *number)) else {
                    panic!("LOST: record {number} of producer {producer}, acknowledged as {delivered:?}");
                };
                assert_eq!(
                    *partition, delivered.partition,
                    "record {number} of producer {producer}"
                );
                // -1: the broker had it already, and only said so.
                assert!(
                    delivered.offset == -1 || delivered.offset == *offset,
                    "{delivered:?}, but found at {offset}"
                );
            }
        }
        for (at, key) in self.seen.lock().unwrap().iter() {
            assert_eq!(keys.get(at), Some(key), "{at:?} was seen and is gone");
        }
    }

    /// One line for the test's output.
    pub fn summary(&self) -> String {
        let handed_over: u64 = self
            .producers
            .iter()
            .map(|account| account.handed_over.load(Ordering::SeqCst))
            .sum();
        let seen = self.seen.lock().unwrap().len();
        format!(
            "{handed_over} records sent, {} acknowledged, {seen} seen by a reader",
            self.acknowledged()
        )
    }
}

/// All records of a topic, by partition, up to the ends that it has now.
pub async fn read_all(client: &Client, topic: &str, partitions: i32) -> BTreeMap<i32, Vec<StoredRecord>> {
    let mut all = BTreeMap::new();
    let mut positions = BTreeMap::new();
    let mut ends = BTreeMap::new();
    for partition in 0..partitions {
        let options = ConsumerOptions::default();
        let end = client
            .offset(topic, partition, OffsetAt::Latest, options.isolation)
            .await
            .unwrap()
            .unwrap()
            .offset;
        all.insert(partition, Vec::new());
        if end > 0 {
            positions.insert((topic.to_string(), partition), 0);
            ends.insert(partition, end);
        }
    }
    let mut consumer = Consumer::new(client, positions, ConsumerOptions::default());
    while !ends.is_empty() {
        let Some(fetched) = consumer.poll().await.unwrap() else {
            continue;
        };
        all.get_mut(&fetched.partition).unwrap().extend(fetched.records);
        if ends
            .get(&fetched.partition)
            .is_some_and(|end| fetched.next_offset >= *end)
        {
            ends.remove(&fetched.partition);
            consumer.remove(topic, fetched.partition);
        }
    }
    all
}
