//! Everything that goes on while a server is being killed. Each part keeps books of what it did, and afterwards compares
//! them with what is there.

mod bulk;
mod commits;
pub mod endless;
mod flights;
mod passing_topics;
mod producers;
mod replays;
mod retention;
mod trims;
mod web;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};
use riverlog::demo::model::ANSWER_TOPIC;
use riverlog_client::{Compression, NewTopic};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::ledger::Ledger;
use crate::patience::connect;
use crate::server::{Binary, PATIENCE};

const MAIN_TOPIC: &str = "main";
const COPY_TOPIC: &str = "copy";
const SHORT_TOPIC: &str = "short";
const TRIMMED_TOPIC: &str = "trimmed";
const PARTITIONS: i32 = 3;

/// What every part of the load is told.
#[derive(Clone, Debug)]
struct Setting {
    binary: Binary,
    address: String,
    seed: u64,
    stop: Arc<AtomicBool>,
}

impl Setting {
    fn new(binary: &Binary, address: &str, seed: u64) -> Self {
        Self {
            binary: binary.clone(),
            address: address.to_owned(),
            seed,
            stop: Arc::default(),
        }
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }
}

/// The load while it runs. Dropped, it stops where it is.
#[derive(Debug)]
pub struct Load {
    setting: Setting,
    books: Books,
    tasks: JoinSet<anyhow::Result<()>>,
}

/// What the load did.
#[derive(Clone, Debug)]
pub struct Books {
    main: Arc<Ledger>,
    short: Arc<Ledger>,
    trimmed: Arc<Ledger>,
    trims: Arc<trims::Trims>,
    commits: Arc<commits::Commits>,
    passing_topics: Arc<passing_topics::PassingTopics>,
    replays: Arc<replays::Replays>,
    /// Only of a load that is killed.
    bulk: Option<Arc<Ledger>>,
    /// The job's, if it is fed by this load.
    flights: Option<Arc<flights::Flights>>,
    /// Where HTTP is served, if it is used.
    web: Option<(SocketAddr, Arc<web::Web>)>,
}

/// Creates the topics that the load, and the job, must find.
///
/// # Errors
/// When one cannot be created.
pub async fn create_topics(address: &str) -> anyhow::Result<()> {
    create(address, flights::INPUTS.map(|name| (name, flights::PARTITIONS, -1))).await?;
    create(address, [(bulk::TOPIC, bulk::PARTITIONS, -1)]).await?;
    create_round_topics(address).await
}

/// Those that are not the job's.
///
/// # Errors
/// When one cannot be created.
pub async fn create_round_topics(address: &str) -> anyhow::Result<()> {
    let topics = [
        (MAIN_TOPIC, PARTITIONS, -1),
        (COPY_TOPIC, PARTITIONS, -1),
        (TRIMMED_TOPIC, PARTITIONS, -1),
        (SHORT_TOPIC, 1, i64::try_from(retention::KEPT_BYTES)?),
    ];
    create(address, topics).await
}

/// Deletes every topic that is not the job's, nor the server's own, and the group that commits.
///
/// # Errors
/// When one cannot be deleted.
pub async fn delete_round_topics(address: &str) -> anyhow::Result<()> {
    let client = connect(address).await?;
    let dead_letters = flights::dead_letter_topic();
    let [flights, weather] = flights::INPUTS;
    let of_job = [flights, weather, ANSWER_TOPIC, &dead_letters];
    for name in client.metadata(None, false).await?.topics.keys() {
        if !of_job.contains(&name.as_str()) && !name.starts_with("__") {
            client.delete_topic(name).await?;
        }
    }
    Ok(client.delete_group(commits::GROUP).await?)
}

async fn create<const N: usize>(address: &str, topics: [(&str, i32, i64); N]) -> anyhow::Result<()> {
    let client = connect(address).await?;
    for (name, partitions, kept_bytes) in topics {
        let kept_bytes = kept_bytes.to_string();
        let configs = [
            ("retention.ms", "-1"),
            ("retention.bytes", &kept_bytes),
            ("segment.bytes", "1048576"),
        ];
        let topic = NewTopic {
            name: name.to_owned(),
            partitions: Some(partitions),
            configs: configs.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
        };
        client.create_topic(&topic).await?;
    }
    Ok(())
}

impl Load {
    /// Starts everything that survives a kill: all but HTTP.
    pub fn start(binary: &Binary, address: &str, seed: u64) -> Self {
        let mut load = Self::without_job(binary, address, seed);
        let flights = Arc::<flights::Flights>::default();
        load.tasks
            .spawn(flights.clone().fly(load.setting.clone(), Duration::ZERO));
        load.books.flights = Some(flights);
        let bulk = Arc::new(bulk::ledger(seed.wrapping_add(3 << 40)));
        load.tasks.spawn(bulk::produce(load.setting.clone(), bulk.clone()));
        load.books.bulk = Some(bulk);
        load
    }

    /// Everything but the job's input, and HTTP as well: a round of what runs for long ([`endless`] feeds the job).
    pub fn start_round(binary: &Binary, address: &str, http: SocketAddr, seed: u64) -> Self {
        let mut load = Self::without_job(binary, address, seed);
        let web = Arc::<web::Web>::default();
        load.tasks.spawn(web.clone().publish(load.setting.clone(), http));
        load.books.web = Some((http, web));
        load
    }

    fn without_job(binary: &Binary, address: &str, seed: u64) -> Self {
        let setting = Setting::new(binary, address, seed);
        // Seeds of their own, so that a record that strays into another topic does not look right there.
        let small = |topic, partitions, seed| Ledger::new(topic, partitions, 1, seed).with_largest_bytes(20_000);
        let books = Books {
            main: Arc::new(Ledger::new(MAIN_TOPIC, PARTITIONS, producers::KINDS.len(), seed)),
            short: Arc::new(small(SHORT_TOPIC, 1, seed.wrapping_add(1 << 40))),
            trimmed: Arc::new(small(TRIMMED_TOPIC, PARTITIONS, seed.wrapping_add(2 << 40))),
            trims: Arc::default(),
            commits: Arc::default(),
            passing_topics: Arc::default(),
            replays: Arc::default(),
            bulk: None,
            flights: None,
            web: None,
        };
        let mut tasks = JoinSet::new();
        for (producer, kind) in producers::KINDS.into_iter().enumerate() {
            tasks.spawn(producers::produce(setting.clone(), books.main.clone(), producer, kind));
        }
        // Retention counts bytes as they are stored, so nothing is compressed where it is checked.
        let plain = (Compression::None, 100_000);
        tasks.spawn(producers::produce(setting.clone(), books.short.clone(), 0, plain));
        tasks.spawn(producers::produce(setting.clone(), books.trimmed.clone(), 0, plain));
        tasks.spawn(producers::read(setting.clone(), books.main.clone()));
        tasks.spawn(books.trims.clone().trim(setting.clone(), books.trimmed.clone()));
        tasks.spawn(books.commits.clone().commit(setting.clone()));
        tasks.spawn(books.passing_topics.clone().pass(setting.clone()));
        tasks.spawn(books.replays.clone().replay(setting.clone(), books.main.clone()));
        Self { setting, books, tasks }
    }

    /// How many records of the main topic were acknowledged so far.
    pub fn acknowledged(&self) -> u64 {
        self.books.main.acknowledged()
    }

    /// # Errors
    /// What a part of the load found, if it ended.
    pub fn check(&mut self) -> anyhow::Result<()> {
        check(&mut self.tasks)
    }

    /// Lets everything that was handed over come to its end.
    ///
    /// # Errors
    /// When something does not end well, or in time.
    pub async fn finish(mut self) -> anyhow::Result<Books> {
        self.setting.stop.store(true, Ordering::SeqCst);
        while let Some(ended) = timeout(3 * PATIENCE, self.tasks.join_next())
            .await
            .context("the load does not end")?
        {
            ended??;
        }
        Ok(self.books)
    }
}

fn check(tasks: &mut JoinSet<anyhow::Result<()>>) -> anyhow::Result<()> {
    match tasks.try_join_next() {
        None => Ok(()),
        Some(ended) => {
            ended??;
            bail!("a part of the load has ended by itself")
        }
    }
}

impl Books {
    /// Compares everything with what is there, and returns some figures.
    ///
    /// # Errors
    /// What does not agree.
    pub async fn verify(&self, address: &str) -> anyhow::Result<BTreeMap<String, u64>> {
        let client = connect(address).await?;
        let sources = self.main.verify(&client, |_| 0..=0).await?;
        self.replays.verify(&client, &sources).await?;
        drop(sources);
        let expired = retention::verify(&client, &self.short).await?;
        self.trimmed
            .verify(&client, |partition| self.trims.starts(partition))
            .await?;
        if let Some(bulk) = &self.bulk {
            bulk.verify(&client, |_| 0..=0).await?;
        }
        self.commits.verify(&client).await?;
        self.passing_topics.verify(&client).await?;
        let answers = match &self.flights {
            Some(flights) => flights.verify(&client).await?,
            None => 0,
        };
        let mut over_http = 0;
        if let Some((http, web)) = &self.web {
            web.verify(*http).await?;
            over_http = web.published();
        }
        let ledgers = [&self.main, &self.short, &self.trimmed].into_iter().chain(&self.bulk);
        let figures = [
            (
                "acknowledged records",
                ledgers.map(|ledger| ledger.acknowledged()).sum(),
            ),
            ("seen by a reader", self.main.seen()),
            ("replayed", self.replays.records()),
            ("expired", expired),
            ("answers of the job", answers),
            ("topics deleted", self.passing_topics.deleted()),
            ("over HTTP", over_http),
        ];
        let figures = figures.into_iter().filter(|(_, figure)| *figure > 0);
        Ok(figures.map(|(name, figure)| (name.to_owned(), figure)).collect())
    }
}
