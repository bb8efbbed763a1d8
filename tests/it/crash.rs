//! SIGKILL at random moments under load: several idempotent producers, every codec, a reader, a group that commits, and
//! a job. Afterwards the log must agree with the ledger, and the job's output with the batch answer, after one start and
//! after another.
//!
//! `RIVERLOG_KILLS` says how often (10 by default), `RIVERLOG_SEED` repeats the choices of a run, though not its timing.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use riverlog::demo::batch::batch_answer;
use riverlog::demo::job::JOB;
use riverlog::demo::model::{
    ANSWER_TOPIC, FLIGHTS_TOPIC, FlightRow, HOUR_MS, WEATHER_TOPIC, WeatherRow, closing_record, closing_time_ms,
    flight_record, format_utc, weather_record,
};
use riverlog::processing::dead_letter::REASON;
use riverlog_client::{
    Client, CommittedOffset, Compression, Config, Consumer, ConsumerOptions, NewTopic, Producer, Record, WriterOptions,
};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use crate::ledger::{Ledger, read_all};
use crate::server::{PATIENCE, Server, Starting, lasting_port, temp_dir, until};

const CODECS: [Compression; 5] = [
    Compression::None,
    Compression::Gzip,
    Compression::Snappy,
    Compression::Lz4,
    Compression::Zstd,
];
const PARTITIONS: i32 = 3;
const INPUT_PARTITIONS: i32 = 2;
const GROUP: &str = "crash-group";
/// 2013-01-01T00:00:00Z.
const FIRST_HOUR_MS: i64 = 1_356_998_400_000;

#[test]
fn nothing_acknowledged_is_lost_or_doubled_by_sigkill() {
    let kills: u32 = std::env::var("RIVERLOG_KILLS").map_or(10, |kills| kills.parse().unwrap());
    let seed = std::env::var("RIVERLOG_SEED").map_or_else(|_| now_ns(), |seed| seed.parse().unwrap());
    println!("{kills} kills, RIVERLOG_SEED={seed}");
    let mut random = SmallRng::seed_from_u64(seed);
    let dir = temp_dir();
    let data = dir.path().join("data");
    let address = format!("127.0.0.1:{}", lasting_port());
    let start = || Server::start_with(&data, &arguments(&address));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();

    let server = Server::start_with(&data, &["--kafka-addr", &address]);
    runtime.block_on(create_topics(&address));
    server.stop();
    let mut server = start();
    let load = Load::start(&runtime, &address, seed);
    for kill in 0..kills {
        // Progress between any two kills, then a moment that nobody chose.
        let enough = load.ledger.acknowledged() + random.random_range(1..300);
        until("acknowledgements after a restart", || {
            assert!(
                server.is_running(),
                "kill {kill}: the server ended by itself:\n{}",
                server.log()
            );
            load.ledger.acknowledged() >= enough
        });
        std::thread::sleep(Duration::from_micros(random.random_range(0..5_000)));
        server.kill();
        if random.random_bool(0.2) {
            kill_while_starting(&data, &address, &mut random);
        }
        server = start();
    }
    let load = load.finish(&runtime);
    let (flights, bad) = (load.input.flights.len(), load.input.bad.len());
    println!("{}; {flights} flights, {bad} that are none", load.ledger.summary());

    runtime.block_on(load.verify(&address));
    server.kill();
    let server = start();
    runtime.block_on(load.verify(&address));
    server.stop();
    let server = start();
    runtime.block_on(load.verify(&address));
    server.stop();
}

/// Small journal files and checkpoints, so that kills fall into rolling, recycling and trimming as well.
fn arguments(address: &str) -> [&str; 8] {
    [
        "--kafka-addr",
        address,
        "--journal-file-bytes",
        "16777216",
        "--checkpoint-bytes",
        "4194304",
        "--demo-job",
        "--log=warn",
    ]
}

fn kill_while_starting(data: &Path, address: &str, random: &mut SmallRng) {
    let starting = Starting::spawn(data, &arguments(address));
    std::thread::sleep(Duration::from_micros(random.random_range(0..60_000)));
    starting.kill();
}

fn now_ns() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() % u128::from(u64::MAX)).unwrap()
}

/// The job's inputs must be there when it starts.
async fn create_topics(address: &str) {
    let client = connect(address).await;
    let inputs = [(FLIGHTS_TOPIC, INPUT_PARTITIONS), (WEATHER_TOPIC, INPUT_PARTITIONS)];
    for (name, partitions) in inputs.into_iter().chain([("crash", PARTITIONS)]) {
        let configs = [("retention.ms", "-1"), ("segment.bytes", "1048576")];
        let topic = NewTopic {
            name: name.to_string(),
            partitions: Some(partitions),
            configs: configs.map(|(key, value)| (key.to_string(), value.to_string())).into(),
        };
        client.create_topic(&topic).await.unwrap();
    }
}

/// A client that does not give up while the server is away.
async fn connect(address: &str) -> Client {
    let config = Config {
        retry_timeout: PATIENCE,
        request_timeout: Duration::from_secs(10),
        ..Config::new(address)
    };
    Client::connect(config).await.unwrap()
}

/// Until it works. The client itself gives up at once when nobody listens, since a person waits for it.
async fn patiently<T, F: Future<Output = Result<T, riverlog_client::Error>>>(mut attempt: impl FnMut() -> F) -> T {
    let started = tokio::time::Instant::now();
    loop {
        match attempt().await {
            Ok(done) => return done,
            Err(error) => assert!(error.is_retriable() && started.elapsed() < PATIENCE, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Everything that goes on while the server is being killed.
struct Load {
    ledger: Arc<Ledger>,
    stop: Arc<AtomicBool>,
    /// Offsets that were committed, and that may have been.
    committed: Arc<(AtomicI64, AtomicI64)>,
    input: Arc<Mutex<Input>>,
    tasks: Vec<JoinHandle<()>>,
}

/// What the load has left behind, to be compared with.
struct Done {
    ledger: Arc<Ledger>,
    committed: (i64, i64),
    input: Input,
}

/// What the job was given.
#[derive(Clone, Default)]
struct Input {
    flights: Vec<FlightRow>,
    weather: Vec<WeatherRow>,
    /// Values that it cannot decode, which must come out in the dead-letter topic.
    bad: Vec<String>,
}

impl Load {
    fn start(runtime: &Runtime, address: &str, seed: u64) -> Self {
        let ledger = Ledger::new("crash", PARTITIONS, CODECS.len(), seed);
        let stop = Arc::new(AtomicBool::new(false));
        let committed = Arc::new((AtomicI64::new(-1), AtomicI64::new(-1)));
        let input = Arc::default();
        let client = runtime.block_on(connect(address));
        let mut tasks = Vec::new();
        for (producer, codec) in CODECS.into_iter().enumerate() {
            tasks.push(runtime.spawn(produce(client.clone(), ledger.clone(), producer, codec, stop.clone())));
        }
        tasks.push(runtime.spawn(read(client.clone(), ledger.clone(), stop.clone())));
        tasks.push(runtime.spawn(commit(client.clone(), committed.clone(), stop.clone())));
        tasks.push(runtime.spawn(fly(client, Arc::clone(&input), seed, stop.clone())));
        Self {
            ledger,
            stop,
            committed,
            input,
            tasks,
        }
    }

    /// Lets everything that was handed over come to its end.
    fn finish(self, runtime: &Runtime) -> Done {
        self.stop.store(true, Ordering::SeqCst);
        runtime.block_on(async {
            for task in self.tasks {
                tokio::time::timeout(2 * PATIENCE, task)
                    .await
                    .expect("the load ends in time")
                    .unwrap();
            }
        });
        let input = self.input.lock().unwrap().clone();
        let committed = (
            self.committed.0.load(Ordering::SeqCst),
            self.committed.1.load(Ordering::SeqCst),
        );
        Done {
            ledger: self.ledger,
            committed,
            input,
        }
    }
}

async fn produce(client: Client, ledger: Arc<Ledger>, producer: usize, codec: Compression, stop: Arc<AtomicBool>) {
    // Batches of different sizes, from single records to what a busy producer sends.
    let options = WriterOptions {
        compression: codec,
        max_batch_bytes: [1, 2_000, 16_384, 100_000, 500_000][producer],
        delivery_timeout: 2 * PATIENCE,
        ..WriterOptions::default()
    };
    let writer = Producer::new(&client, options).await.unwrap();
    let mut on_their_way = std::collections::VecDeque::new();
    loop {
        let stopping = stop.load(Ordering::SeqCst);
        while on_their_way.len() >= if stopping { 1 } else { 100 } {
            let (number, delivery): (u64, riverlog_client::Delivery) = on_their_way.pop_front().unwrap();
            ledger.acknowledge(producer, number, delivery.wait().await.unwrap());
        }
        if stopping {
            return;
        }
        let (number, record) = ledger.hand_over(producer);
        let partition = i32::try_from(number % PARTITIONS as u64).unwrap();
        let delivery = writer.send(&ledger.topic, Some(partition), record).await.unwrap();
        on_their_way.push_back((number, delivery));
    }
}

async fn read(client: Client, ledger: Arc<Ledger>, stop: Arc<AtomicBool>) {
    let positions = (0..ledger.partitions).map(|partition| ((ledger.topic.clone(), partition), 0));
    let options = ConsumerOptions {
        retry_timeout: PATIENCE,
        max_wait: Duration::from_millis(50),
        ..Default::default()
    };
    let mut consumer = Consumer::new(&client, positions, options);
    while !stop.load(Ordering::SeqCst) {
        if let Some(fetched) = consumer.poll().await.unwrap() {
            fetched
                .records
                .iter()
                .for_each(|record| ledger.saw(fetched.partition, record));
        }
    }
}

/// Commits rising offsets. Some topic has to be named; it need not be this far.
async fn commit(client: Client, committed: Arc<(AtomicI64, AtomicI64)>, stop: Arc<AtomicBool>) {
    let at = |offset| {
        BTreeMap::from([(
            ("crash".to_string(), 0),
            CommittedOffset {
                offset,
                metadata: format!("at {offset}"),
            },
        )])
    };
    for offset in 0.. {
        if stop.load(Ordering::SeqCst) {
            return;
        }
        committed.1.store(offset, Ordering::SeqCst);
        let commit = at(offset);
        patiently(|| client.commit(GROUP, &commit)).await;
        committed.0.store(offset, Ordering::SeqCst);
    }
}

/// The job's input: hour by hour the weather at each airport, some flights, and something that is neither.
async fn fly(client: Client, input: Arc<Mutex<Input>>, seed: u64, stop: Arc<AtomicBool>) {
    let mut random = SmallRng::seed_from_u64(seed ^ 0xf119_4275);
    let options = WriterOptions {
        compression: Compression::Lz4,
        delivery_timeout: 2 * PATIENCE,
        ..Default::default()
    };
    let writer = Producer::new(&client, options).await.unwrap();
    let mut partitions = (0..INPUT_PARTITIONS).cycle();
    let mut hour_ms = FIRST_HOUR_MS;
    while !stop.load(Ordering::SeqCst) {
        let records = an_hour(&mut input.lock().unwrap(), &mut random, hour_ms);
        let mut deliveries = Vec::new();
        for (topic, record) in records {
            deliveries.push(writer.send(topic, partitions.next(), record).await.unwrap());
        }
        for delivery in deliveries {
            delivery.wait().await.unwrap();
        }
        hour_ms += HOUR_MS;
    }
    // The end of the input: without it the last hours would stay open.
    let closing_ms = closing_time_ms(&input.lock().unwrap().flights).max(hour_ms + 48 * HOUR_MS);
    for topic in [FLIGHTS_TOPIC, WEATHER_TOPIC] {
        for partition in 0..INPUT_PARTITIONS {
            let closing = closing_record(closing_ms).unwrap();
            writer
                .send(topic, Some(partition), closing)
                .await
                .unwrap()
                .wait()
                .await
                .unwrap();
        }
    }
}

/// The records of one hour, entered into the books.
fn an_hour(input: &mut Input, random: &mut SmallRng, hour_ms: i64) -> Vec<(&'static str, Record)> {
    let time_hour = format_utc(hour_ms);
    let mut records = Vec::new();
    for origin in ["EWR", "JFK", "LGA"] {
        let weather = WeatherRow {
            origin: origin.to_string(),
            wind_speed: format!("{}.5", random.random_range(0..30)),
            visib: random.random_range(1..11).to_string(),
            time_hour: time_hour.clone(),
        };
        records.push((WEATHER_TOPIC, weather_record(&weather).unwrap()));
        input.weather.push(weather);
        for number in 0..random.random_range(0..6) {
            let delay: i32 = random.random_range(-10..90);
            let [dep_time, dep_delay] = match random.random_bool(0.1) {
                true => ["NA".to_string(), "NA".to_string()], // cancelled
                false => ["517".to_string(), delay.to_string()],
            };
            let flight = FlightRow {
                dep_time,
                dep_delay,
                carrier: "UA".to_string(),
                flight: number.to_string(),
                origin: origin.to_string(),
                dest: "IAH".to_string(),
                time_hour: time_hour.clone(),
            };
            records.push((FLIGHTS_TOPIC, flight_record(&flight).unwrap()));
            input.flights.push(flight);
        }
    }
    let bad = format!("this is not a flight: {}", input.bad.len());
    let value = Some(bad.clone().into());
    records.push((
        FLIGHTS_TOPIC,
        Record {
            value,
            timestamp_ms: hour_ms,
            ..Record::default()
        },
    ));
    input.bad.push(bad);
    records
}

impl Done {
    async fn verify(&self, address: &str) {
        let client = connect(address).await;
        self.ledger.verify(&client).await;
        self.verify_commit(&client).await;
        self.verify_job(&client).await;
        self.verify_dead_letters(&client).await;
    }

    async fn verify_commit(&self, client: &Client) {
        let found = client.committed(GROUP).await.unwrap();
        let found = &found[&("crash".to_string(), 0)];
        let (certain, possible) = self.committed;
        assert!(
            (certain..=possible).contains(&found.offset),
            "{found:?}, acknowledged {certain}, sent {possible}"
        );
        assert_eq!(found.metadata, format!("at {}", found.offset));
    }

    /// What the job could not decode is in the dead-letter topic, each once, with the reason.
    async fn verify_dead_letters(&self, client: &Client) {
        let topic = format!("{JOB}.dead-letter");
        let partitions = i32::try_from(client.topic(&topic, false).await.unwrap().partitions.len()).unwrap();
        let mut got = Vec::new();
        for record in read_all(client, &topic, partitions).await.into_values().flatten() {
            let reason = record
                .headers
                .iter()
                .find(|(name, _)| name.as_ref() == REASON.as_bytes());
            assert!(
                reason.is_some_and(|(_, reason)| reason.as_ref().is_some_and(|text| !text.is_empty())),
                "{record:?}"
            );
            got.push(String::from_utf8(record.value.unwrap().to_vec()).unwrap());
        }
        let mut wanted = self.input.bad.clone();
        got.sort();
        wanted.sort();
        assert!(
            got == wanted,
            "{} dead letters, {} bad records",
            got.len(),
            wanted.len()
        );
    }

    /// The job's output is the batch answer, each record once, and its offsets stand at the end of its inputs.
    async fn verify_job(&self, client: &Client) {
        let wanted: BTreeMap<String, String> = batch_answer(&self.input.flights, &self.input.weather)
            .values()
            .map(|answer| (answer.key(), answer.to_json().unwrap()))
            .collect();
        let mut got: BTreeMap<String, String> = BTreeMap::new();
        let partitions = i32::try_from(client.topic(ANSWER_TOPIC, false).await.unwrap().partitions.len()).unwrap();
        let waiting = tokio::time::Instant::now();
        // The job may still be at work; it must get there.
        while got.len() < wanted.len() {
            assert!(
                waiting.elapsed() < PATIENCE,
                "{} of {} answers after {PATIENCE:?}",
                got.len(),
                wanted.len()
            );
            got.clear();
            for record in read_all(client, ANSWER_TOPIC, partitions).await.into_values().flatten() {
                let text = |bytes: Option<bytes::Bytes>| String::from_utf8(bytes.unwrap().to_vec()).unwrap();
                let (key, value) = (text(record.key), text(record.value));
                let before = got.insert(key.clone(), value);
                assert!(before.is_none(), "{key} was answered twice");
            }
        }
        assert!(
            got == wanted,
            "the answers differ: {:?}",
            got.iter().find(|(key, value)| wanted.get(*key) != Some(value))
        );
        loop {
            let committed = client.committed(JOB).await.unwrap();
            let mut behind = Vec::new();
            for topic in [FLIGHTS_TOPIC, WEATHER_TOPIC] {
                for (partition, records) in read_all(client, topic, INPUT_PARTITIONS).await {
                    let end = i64::try_from(records.len()).unwrap();
                    let at = committed.get(&(topic.to_string(), partition)).map(|found| found.offset);
                    if at != Some(end) {
                        behind.push(format!("{topic}/{partition}: {at:?} of {end}"));
                    }
                }
            }
            if behind.is_empty() {
                return;
            }
            assert!(waiting.elapsed() < PATIENCE, "the job's offsets: {behind:?}");
        }
    }
}
