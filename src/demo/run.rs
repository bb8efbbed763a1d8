//! The demo from its first to its last line.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::bail;
use indicatif::HumanCount;
use rand::RngExt;
use riverlog_client::{Client, Config, Producer, ProducerStats, ResponseError, WriterOptions};
use tokio::time::sleep;

use super::answer::{Answer, Verdict};
use super::batch::batch_answer;
use super::data::Dataset;
use super::feed::Feed;
use super::job::JOB;
use super::model::{ANSWER_TOPIC, FLIGHTS_TOPIC, WEATHER_TOPIC};
use super::node::{Node, Process};
use super::report;
use super::stage::Stage;
use crate::processing::{JobHandle, JobState};

/// What was asked for.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the data goes, and stays.
    pub data_dir: PathBuf,
    /// Whether to kill the server on the way.
    pub crash: bool,
    /// How this program was called, for the lines to copy.
    pub program: String,
}

/// When the server is killed, as shares of the records; between them and the next a random moment.
const KILLS: [f64; 5] = [0.10, 0.30, 0.50, 0.70, 0.90];

/// Small enough for many acknowledgements, so that there is a distribution of them, and for kills to
/// fall between them.
const BATCH_BYTES: usize = 16 * 1024;

/// The job commits several times a second; without any progress for so long something is wrong.
const STUCK_AFTER: Duration = Duration::from_secs(60);

/// A server that refuses records for so long because of its disk is not about to take them.
const REFUSED_AFTER: Duration = Duration::from_secs(2);

/// How many records the producer may be ahead of the job while the server is being killed, and how long
/// it waits for the job at most.
const LEAD: u64 = 4000;
const MAX_STEP: Duration = Duration::from_millis(500);

/// How often the job's progress is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Runs the demo. Whether the answer was right.
///
/// # Errors
/// When something is in the way of an answer.
pub async fn run(options: &Options) -> anyhow::Result<bool> {
    let dataset = Dataset::load()?;
    let mut feed = Feed::new(&dataset)?;
    println!(
        "riverlog demo: {} flights that left New York in January 2013 and {} hours of airport weather\n",
        HumanCount(dataset.flights.len() as u64),
        HumanCount(dataset.weather.len() as u64)
    );
    let existed = is_used(&options.data_dir);
    let mut node = match options.crash {
        true => Node::process(&options.data_dir).await?,
        false => Node::embedded(&options.data_dir).await?,
    };
    let place = match options.crash {
        true => "a process of its own",
        false => "inside this process",
    };
    println!("  data    {}", options.data_dir.display());
    println!("  server  {place}, Kafka protocol on {}", node.kafka_addr());
    let client = connect(&node).await?;
    feed.find_present(&client).await?;
    println!("  state   {}\n", describe(existed, &feed));

    let played = play(&client, &feed, &mut node).await?;
    let difference = feed.find_difference(&client).await?;
    let answer = Answer::read(&client).await?;
    node.stop().await?;

    let verdict = answer.compare(&batch_answer(&dataset.flights, &dataset.weather))?;
    let rows = answer.rows()?;
    println!("{}", played.summary(&feed));
    println!("\nJanuary 2013 by airport\n{}", report::airports(&rows));
    println!("\nThe hours with the longest delays\n{}\n", report::worst_hours(&rows));
    let right = conclude(&verdict, difference.as_deref(), played.kills);
    println!("\n{}", report::how_to_go_on(&options.program, &options.data_dir));
    Ok(right)
}

fn is_used(dir: &Path) -> bool {
    std::fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some())
}

async fn connect(node: &Node) -> anyhow::Result<Client> {
    let mut config = Config::new(&node.kafka_addr().to_string());
    config.client_id = "riverlog-demo".to_owned();
    Ok(Client::connect(config).await?)
}

fn describe(existed: bool, feed: &Feed) -> String {
    let present = HumanCount(feed.present() as u64);
    match (existed, feed.present()) {
        (false, _) => "new".to_owned(),
        (true, 0) => "there already, without records of the demo".to_owned(),
        (true, n) if n < feed.total() => {
            format!("an earlier demo stopped after {present} records: going on behind them")
        }
        (true, _) => format!(
            "an earlier demo published all {present} records: nothing is published twice, the answer is checked \
             again\n          (to see it from the start, remove the directory or choose another --data-dir)"
        ),
    }
}

/// What happened between the first record and the last row.
struct Played {
    stats: ProducerStats,
    publish_took: Duration,
    took: Duration,
    kills: usize,
}

impl Played {
    fn summary(&self, feed: &Feed) -> String {
        let published = self.stats.records;
        let mut text = match published {
            0 => format!("{} records were durable already", HumanCount(feed.total() as u64)),
            _ => {
                let seconds = self.publish_took.as_secs_f64().max(0.001);
                let ms = |share| self.stats.latency(share).unwrap_or_default().as_secs_f64() * 1000.0;
                let with_restarts = if self.kills > 0 {
                    ", restarts of the server included"
                } else {
                    ""
                };
                format!(
                    "{} records published and durable in {seconds:.1} s: {} a second\n\
                     time to durable, from sending a batch to its acknowledgement: p50 {:.1} ms, p99 {:.1} ms{with_restarts}",
                    HumanCount(published),
                    HumanCount((published as f64 / seconds) as u64),
                    ms(0.50),
                    ms(0.99),
                )
            }
        };
        let behind = self.took.saturating_sub(self.publish_took).as_secs_f64();
        text.push_str(&format!(
            "\nthe exactly-once job was through {behind:.1} s after the last acknowledgement"
        ));
        text
    }
}

/// Publishes and, at the same time, waits for the job and kills the server if it can be killed.
async fn play(client: &Client, feed: &Feed, node: &mut Node) -> anyhow::Result<Played> {
    let options = WriterOptions {
        max_batch_bytes: BATCH_BYTES,
        ..WriterOptions::default()
    };
    let producer = Producer::new(client, options).await?;
    let stage = Stage::new(feed.total() as u64);
    stage.published.set_position(feed.present() as u64);
    let crash = matches!(node, Node::Process(_));
    let started = Instant::now();
    let publish = async {
        // Where the server is killed, producer and job go side by side, so that kills hit both at work.
        let side_by_side = async |sent| {
            if crash {
                keep_step(sent, &stage).await
            }
        };
        feed.send(&producer, side_by_side).await?;
        producer.flush().await?;
        anyhow::Ok(started.elapsed())
    };
    let trouble = async {
        match node {
            Node::Embedded { job, .. } => watch_for_failure(job, &stage).await.map(|()| 0),
            Node::Process(process) => kill_often(process, &stage).await,
        }
    };
    let follow = follow(client, feed, &producer, &stage);
    let played = tokio::try_join!(publish, trouble, follow);
    stage.end();
    let (publish_took, kills, ()) = played?;
    Ok(Played {
        stats: producer.stats(),
        publish_took,
        took: started.elapsed(),
        kills,
    })
}

/// Moves the bars until the job has committed the effect of every record.
async fn follow(client: &Client, feed: &Feed, producer: &Producer, stage: &Stage) -> anyhow::Result<()> {
    let mut progress = (0, Instant::now());
    while !is_done(stage) {
        sleep(LOOK_EVERY).await;
        stage
            .published
            .set_position(feed.present() as u64 + producer.acknowledged());
        match client.committed(JOB).await {
            Ok(committed) => {
                let inputs = committed
                    .iter()
                    .filter(|((topic, _), _)| topic == FLIGHTS_TOPIC || topic == WEATHER_TOPIC);
                let offsets: i64 = inputs.map(|(_, committed)| committed.offset).sum();
                stage.processed.set_position(u64::try_from(offsets).unwrap_or(0));
            }
            // The server is being killed and started again.
            Err(error) if error.is_retriable() => {}
            Err(error) => return Err(error.into()),
        }
        if let Some((waited, error)) = producer.delayed()
            && waited >= REFUSED_AFTER
            && error.code() == Some(ResponseError::KafkaStorageError)
        {
            bail!("the server takes no records: {error}. Make room, or choose another --data-dir");
        }
        let now = stage.published.position() + stage.processed.position();
        if now != progress.0 {
            progress = (now, Instant::now());
        } else if progress.1.elapsed() > STUCK_AFTER {
            bail!(
                "no progress for {} s: {} of {} records are durable and {} went through the job",
                STUCK_AFTER.as_secs(),
                stage.published.position(),
                feed.total(),
                stage.processed.position()
            );
        }
    }
    Ok(())
}

/// Waits while the producer is far ahead of the job; not for ever, because the job may want more input.
async fn keep_step(sent: usize, stage: &Stage) {
    let until = Instant::now() + MAX_STEP;
    while sent as u64 > stage.processed.position() + LEAD && Instant::now() < until {
        sleep(Duration::from_millis(2)).await;
    }
}

fn is_done(stage: &Stage) -> bool {
    Some(stage.processed.position()) >= stage.processed.length()
}

async fn watch_for_failure(job: &JobHandle, stage: &Stage) -> anyhow::Result<()> {
    while !is_done(stage) {
        if let JobState::Failed(error) = job.status().state {
            return Err(error.into());
        }
        sleep(LOOK_EVERY).await;
    }
    Ok(())
}

/// Kills the server process again and again, with producer and job at work; how often.
async fn kill_often(process: &mut Process, stage: &Stage) -> anyhow::Result<usize> {
    let both = 2.0 * stage.published.length().unwrap_or(1) as f64;
    for share in KILLS {
        let share = share + rand::rng().random_range(-0.05..0.05);
        let progress = || (stage.published.position() + stage.processed.position()) as f64 / both;
        while progress() < share {
            sleep(Duration::from_millis(1)).await;
        }
        let (durable, processed) = (stage.published.position(), stage.processed.position());
        let away = process.kill_and_restart().await?;
        stage.say(&format!(
            "  SIGKILL at {:>6} records durable, {:>6} through the job; back after {} ms",
            HumanCount(durable).to_string(),
            HumanCount(processed).to_string(),
            away.as_millis()
        ));
    }
    stage.say("");
    Ok(KILLS.len())
}

/// As many differences are shown one by one.
const SHOWN_DIFFERENCES: usize = 20;

/// Says whether the answer is right.
fn conclude(verdict: &Verdict, difference: Option<&str>, kills: usize) -> bool {
    let rows = HumanCount(verdict.expected as u64);
    if verdict.differences.is_empty() && difference.is_none() {
        let crashes = match kills {
            0 => String::new(),
            kills => format!("\nThe server was killed {kills} times, and the answer is the same to the byte."),
        };
        println!(
            "OK: all {rows} rows of topic {ANSWER_TOPIC} equal a plain batch computation over the same files,\n\
             byte by byte; none is missing, none is there twice (checksum {:08x}).{crashes}",
            verdict.fingerprint
        );
        return true;
    }
    println!("WRONG: the stream's answer is not that of the plain batch computation ({rows} rows)");
    for line in difference
        .into_iter()
        .chain(verdict.differences.iter().map(String::as_str))
        .take(SHOWN_DIFFERENCES)
    {
        println!("  {line}");
    }
    let hidden = verdict.differences.len().saturating_sub(SHOWN_DIFFERENCES);
    if hidden > 0 {
        println!("  and {hidden} more");
    }
    false
}
