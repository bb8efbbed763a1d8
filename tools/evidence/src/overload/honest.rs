//! Clients that behave: a producer, a consumer, newcomers, and somebody who looks at the metrics. All that they ask is timed.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use parking_lot::Mutex;
use riverlog_client::{Client, Config, Consumer, ConsumerOptions, NewTopic, Producer, Record, WriterOptions};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::server::{Server, Told};

const TOPIC: &str = "honest";
/// Between two requests of each of them.
const PAUSE: Duration = Duration::from_millis(100);
/// Most records are small; each of so many is not.
const LARGE_OF: i64 = 20;
const LARGE_BYTES: usize = 300 << 10;
/// Nobody waits longer. The bound on answers is lower.
const PATIENCE: Duration = Duration::from_secs(60);

/// All of them, at work until dropped.
#[derive(Debug)]
pub struct Honest {
    state: Arc<State>,
    workers: JoinSet<()>,
}

#[derive(Debug, Default)]
struct State {
    /// How long each kind of request took, since the last report.
    took: Mutex<BTreeMap<&'static str, Vec<Duration>>>,
    failed: Mutex<Vec<String>>,
    told: Mutex<Option<Told>>,
    /// When a record was sent, by its number.
    sent: Mutex<BTreeMap<i64, Instant>>,
    acknowledged: AtomicI64,
    consumed: AtomicI64,
    paused: AtomicBool,
}

impl State {
    fn note(&self, what: &'static str, since: Instant) {
        self.took.lock().entry(what).or_default().push(since.elapsed());
    }

    fn fail(&self, what: &str, error: impl fmt::Display) {
        self.failed.lock().push(format!("{what}: {error}"));
    }
}

/// Writes so many bytes to a topic of one partition.
pub async fn fill(server: &Server, topic: &str, bytes: u64) -> anyhow::Result<()> {
    const RECORD_BYTES: usize = 900 << 10;
    let client = connect(server).await?;
    create(&client, topic).await?;
    let producer = Producer::new(&client, WriterOptions::default()).await?;
    for _ in 0..bytes.div_ceil(RECORD_BYTES as u64) {
        producer.send(topic, Some(0), record(&vec![b'x'; RECORD_BYTES])).await?;
    }
    producer.flush().await?;
    Ok(())
}

async fn connect(server: &Server) -> Result<Client, riverlog_client::Error> {
    Client::connect(Config {
        connect_timeout: PATIENCE,
        request_timeout: PATIENCE,
        retry_timeout: PATIENCE,
        ..Config::new(&server.kafka.to_string())
    })
    .await
}

async fn create(client: &Client, topic: &str) -> anyhow::Result<()> {
    client
        .create_topic(&NewTopic {
            name: topic.to_owned(),
            partitions: Some(1),
            configs: Vec::new(),
        })
        .await?;
    Ok(())
}

fn record(value: &[u8]) -> Record {
    // Of now, or retention would delete them.
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Record {
        key: None,
        value: Some(value.to_vec().into()),
        headers: Vec::new(),
        timestamp_ms: i64::try_from(since.as_millis()).unwrap_or(0),
    }
}

impl Honest {
    pub async fn start(server: &Server) -> anyhow::Result<Self> {
        let client = connect(server).await.context("the first client")?;
        create(&client, TOPIC).await?;
        let state = Arc::new(State::default());
        let mut workers = JoinSet::new();
        workers.spawn(produce(client, Arc::clone(&state)));
        workers.spawn(consume(connect(server).await?, Arc::clone(&state)));
        workers.spawn(come_anew(server.kafka.to_string(), Arc::clone(&state)));
        workers.spawn(scrape(server.http, Arc::clone(&state)));
        Ok(Self { state, workers })
    }

    /// What was answered since the last report.
    pub fn report(&self) -> Report {
        Report {
            took: std::mem::take(&mut *self.state.took.lock()),
            failed: std::mem::take(&mut *self.state.failed.lock()),
        }
    }

    /// Leaves the times out of the next report, but not the failures.
    pub fn forget_times(&self) {
        self.state.took.lock().clear();
    }

    /// What the metrics said last, once.
    pub fn told(&self) -> Option<Told> {
        self.state.told.lock().take()
    }

    pub fn pause_newcomers(&self) {
        self.state.paused.store(true, Ordering::Relaxed);
    }

    pub fn resume_newcomers(&self) {
        self.state.paused.store(false, Ordering::Relaxed);
    }

    /// Ends, after the consumer has read all that was acknowledged; tells what is missing.
    pub async fn lost(&mut self) -> Vec<String> {
        let state = &self.state;
        let acknowledged = state.acknowledged.load(Ordering::Relaxed);
        let by = Instant::now() + PATIENCE;
        while state.consumed.load(Ordering::Relaxed) < acknowledged && Instant::now() < by {
            tokio::time::sleep(PAUSE).await;
        }
        self.workers.abort_all();
        let consumed = state.consumed.load(Ordering::Relaxed);
        let missing = (consumed < acknowledged).then(|| format!("{acknowledged} acknowledged, {consumed} consumed"));
        missing.into_iter().chain(self.report().failed).collect()
    }
}

/// How long requests took.
#[derive(Debug)]
pub struct Report {
    took: BTreeMap<&'static str, Vec<Duration>>,
    failed: Vec<String>,
}

const KINDS: [&str; 4] = ["produce", "consume", "newcomer", "metrics"];

impl Report {
    pub fn broken(&self, bound: Duration) -> Vec<String> {
        let mut broken = self.failed.clone();
        for kind in KINDS {
            match self.took.get(kind).and_then(|took| took.iter().max()) {
                None => broken.push(format!("{kind}: not one answer")),
                Some(slowest) if *slowest > bound => broken.push(format!("{kind}: an answer took {slowest:.1?}")),
                Some(_) => {}
            }
        }
        broken
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for kind in KINDS {
            let mut took = self.took.get(kind).cloned().unwrap_or_default();
            took.sort();
            let at = |share: usize| {
                took.get((took.len().saturating_sub(1)) * share / 100)
                    .copied()
                    .unwrap_or_default()
            };
            write!(
                f,
                "{kind} {} (median {:.0?}, 99 % {:.0?}, slowest {:.0?})  ",
                took.len(),
                at(50),
                at(99),
                at(100)
            )?;
        }
        Ok(())
    }
}

async fn produce(client: Client, state: Arc<State>) {
    let producer = match Producer::new(&client, WriterOptions::default()).await {
        Ok(producer) => producer,
        Err(error) => return state.fail("produce", error),
    };
    for number in 0_i64.. {
        let mut value = number.to_be_bytes().to_vec();
        if number % LARGE_OF == 0 {
            value.resize(LARGE_BYTES, b'h');
        }
        let since = Instant::now();
        state.sent.lock().insert(number, since);
        let outcome = match producer.send(TOPIC, Some(0), record(&value)).await {
            Ok(delivery) => delivery.wait().await,
            Err(error) => Err(error),
        };
        match outcome {
            Ok(_) => state.note("produce", since),
            Err(error) => return state.fail("produce", error),
        }
        state.acknowledged.store(number + 1, Ordering::Relaxed);
        tokio::time::sleep(PAUSE).await;
    }
}

/// In order, each once; timed from the moment of sending.
async fn consume(client: Client, state: Arc<State>) {
    let options = ConsumerOptions {
        retry_timeout: PATIENCE,
        ..ConsumerOptions::default()
    };
    let mut consumer = Consumer::new(&client, [((TOPIC.to_owned(), 0), 0)], options);
    let mut next = 0;
    loop {
        let found = match consumer.poll().await {
            Ok(found) => found,
            Err(error) => return state.fail("consume", error),
        };
        for record in found.into_iter().flat_map(|found| found.records) {
            let number = record.value.as_ref().and_then(|value| value.first_chunk());
            let number = number.map_or(-1, |bytes| i64::from_be_bytes(*bytes));
            if number != next {
                return state.fail("consume", format!("record {number} where {next} should be"));
            }
            next += 1;
            state.consumed.store(next, Ordering::Relaxed);
            if let Some(since) = state.sent.lock().remove(&number) {
                state.note("consume", since);
            }
        }
    }
}

/// A new connection every time.
async fn come_anew(kafka: String, state: Arc<State>) {
    loop {
        tokio::time::sleep(5 * PAUSE).await;
        if state.paused.load(Ordering::Relaxed) {
            continue;
        }
        let since = Instant::now();
        let config = Config {
            connect_timeout: PATIENCE,
            ..Config::new(&kafka)
        };
        let outcome = match Client::connect(config).await {
            Ok(client) => client.metadata(Some(&[TOPIC]), false).await.map(|_| ()),
            Err(error) => Err(error),
        };
        match outcome {
            Ok(()) => state.note("newcomer", since),
            Err(_) if state.paused.load(Ordering::Relaxed) => {}
            Err(error) => state.fail("newcomer", error),
        }
    }
}

async fn scrape(http: std::net::SocketAddr, state: Arc<State>) {
    loop {
        tokio::time::sleep(5 * PAUSE).await;
        let since = Instant::now();
        let answer = tokio::time::timeout(PATIENCE, get(http, "/metrics")).await;
        match answer {
            Ok(Ok(text)) => match Told::parse(&text) {
                Some(told) => {
                    state.note("metrics", since);
                    *state.told.lock() = Some(told);
                }
                None => state.fail("metrics", "connections, refused or memory are not told"),
            },
            Ok(Err(error)) => state.fail("metrics", error),
            Err(_) => state.fail("metrics", "no answer"),
        }
    }
}

async fn get(http: std::net::SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(http).await?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}
