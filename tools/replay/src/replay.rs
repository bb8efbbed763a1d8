//! A replay from its first to its last record.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use indicatif::ProgressBar;
use riverlog_client::{Client, Error, Isolation, NewTopic, OffsetAt, ResponseError};
use tokio::time::{Instant, sleep, sleep_until};

use crate::claim::{self, Claim};
use crate::lanes::Lanes;
use crate::pace::Speed;
use crate::plan::{self, Range, Span, TimeFilter};
use crate::progress;
use crate::sink::LineWriter;
use crate::source::Source;
use crate::tail;

/// Where the records go.
pub enum Target {
    /// Into a topic, which is created if it is not there.
    Topic {
        /// Its name.
        topic: String,
        /// Under this name the replay can be continued.
        name: Option<String>,
    },
    /// To whoever writes lines.
    Lines(Box<dyn LineWriter>),
}

/// A replay that was asked for.
pub struct Replay {
    /// The cluster.
    pub client: Client,
    /// Which records.
    pub range: Range,
    /// How fast.
    pub speed: Speed,
    /// Where to.
    pub target: Target,
    /// Whether to draw a progress bar, if standard error is a terminal.
    pub progress: bool,
}

/// What a replay did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Records that this start wrote; at least so many, if another process wrote under its name meanwhile.
    pub records: u64,
    /// Offsets that earlier starts under the same name had dealt with.
    pub resumed_behind: u64,
    /// How long it took.
    pub took: Duration,
    /// What the person who asked should know.
    pub notes: Vec<String>,
}

/// How often a replay goes back to what the destination really has, before it concludes that another
/// process keeps writing under its name.
const MAX_DISAGREEMENTS: u32 = 8;

impl Replay {
    /// Replays until the end of the range.
    ///
    /// # Errors
    /// When either end fails, or a named replay cannot be continued exactly.
    pub async fn run(self) -> anyhow::Result<Summary> {
        let started = Instant::now();
        let Self {
            client,
            range,
            speed,
            target,
            progress,
        } = self;
        let mut summary = Summary::default();
        match target {
            Target::Lines(mut lines) => {
                let spans = plan::resolve(&client, &range, &mut summary.notes).await?;
                let filter = TimeFilter::of(&range);
                let bar = progress::bar(offsets(&spans), 0, progress);
                let mut source = Source::start(&client, &range.topic, &spans, filter);
                let mut pace = Pace::new(speed);
                let base = source.looked_at();
                while let Some((partition, record)) = source.next().await? {
                    if pace.must_wait(record.timestamp_ms) {
                        lines.flush().context("output")?;
                        pace.wait(record.timestamp_ms).await;
                    }
                    lines.write(partition, &record).context("output")?;
                    summary.records += 1;
                    bar.set_position(u64::try_from(source.looked_at() - base).unwrap_or(0));
                }
                lines.flush().context("output")?;
                bar.finish_and_clear();
            }
            Target::Topic { topic, name } => {
                let name = name.as_deref();
                let claim = claimed(&client, &range, &topic, name, &mut summary.notes).await?;
                let mut disagreements = 0;
                while let Err(error) = into_topic(&client, name, &claim, speed, progress, &mut summary).await {
                    disagreements += 1;
                    if !is_disagreement(&error) || name.is_none() {
                        return Err(error);
                    }
                    if disagreements > MAX_DISAGREEMENTS {
                        return Err(
                            error.context("another process is writing under the same --name; stop one of the two")
                        );
                    }
                    // A killed predecessor's last requests may still be arriving.
                    tracing::debug!(%error, "reading again how far the destination is");
                    sleep(Duration::from_millis(100) * disagreements).await;
                }
            }
        }
        summary.took = started.elapsed();
        Ok(summary)
    }
}

/// One attempt: from what the destination has to the end of the range.
async fn into_topic(
    client: &Client,
    name: Option<&str>,
    claim: &Claim,
    speed: Speed,
    progress: bool,
    summary: &mut Summary,
) -> anyhow::Result<()> {
    let mut lanes = Lanes::open(client, name, claim).await?;
    let resumed = claim.spans.iter().map(|span| Span {
        from: lanes.resume_at(span.partition, span.from).clamp(span.from, span.to),
        ..span.clone()
    });
    let resumed: Vec<Span> = resumed.collect();
    let total = offsets(&claim.spans);
    let done = total - offsets(&resumed);
    if summary.records == 0 {
        summary.resumed_behind = done;
    }
    let bar = progress::bar(total, done, progress);
    let mut source = Source::start(client, &claim.range.topic, &resumed, claim.filter);
    let copied = copy(&mut source, &mut lanes, &mut Pace::new(speed), &bar, done).await;
    // Everything on its way ends before anybody looks again at what the destination has.
    let finished = lanes.finish().await;
    summary.records += lanes.acknowledged;
    bar.finish_and_clear();
    copied?;
    Ok(finished?)
}

async fn copy(
    source: &mut Source,
    lanes: &mut Lanes,
    pace: &mut Pace,
    bar: &ProgressBar,
    done: u64,
) -> Result<(), Error> {
    let base = source.looked_at();
    while let Some((partition, record)) = source.next().await? {
        if pace.must_wait(record.timestamp_ms) {
            lanes.flush().await?;
            pace.wait(record.timestamp_ms).await;
        }
        lanes.send(partition, record).await?;
        let looked_at = u64::try_from(source.looked_at() - base).unwrap_or(0);
        bar.set_position(done + looked_at);
    }
    Ok(())
}

/// How a topic for what is replayed of another is made.
async fn copied_configs(client: &Client, source: &str, is_named: bool) -> anyhow::Result<Vec<(String, String)>> {
    const MAX_BYTES: &str = "max.message.bytes";
    // Replayed records keep their timestamps, which may be older than any retention.
    let mut configs = vec![("retention.ms".to_owned(), "-1".to_owned())];
    // What the source took, the copy must take, if need be with a header of ours.
    let of_source = client.topic_configs(source).await?;
    let limit = of_source
        .iter()
        .find(|config| config.name == MAX_BYTES && (config.is_set || is_named));
    if let Some(bytes) = limit.and_then(|limit| limit.value.as_deref()?.parse::<i32>().ok()) {
        let header_bytes = if is_named { tail::MAX_HEADER_BYTES } else { 0 };
        configs.push((MAX_BYTES.to_owned(), bytes.saturating_add(header_bytes).to_string()));
    }
    Ok(configs)
}

/// The claim of a named replay, made now or found; for a replay without a name, one that nobody sees.
async fn claimed(
    client: &Client,
    range: &Range,
    destination: &str,
    name: Option<&str>,
    notes: &mut Vec<String>,
) -> anyhow::Result<Claim> {
    let source = client.topic(&range.topic, false).await?;
    let partitions = i32::try_from(source.partitions.len())?;
    let configs = copied_configs(client, &range.topic, name.is_some()).await?;
    let said: String = configs
        .iter()
        .map(|(name, value)| format!(" and {name}={value}"))
        .collect();
    let created = client
        .ensure_topic(&NewTopic {
            name: destination.to_owned(),
            partitions: Some(partitions),
            configs,
        })
        .await?;
    let target = client.topic(destination, true).await?;
    let ids = (source.id.to_string(), target.id.to_string());
    if created {
        notes.push(format!(
            "created topic {destination} with {partitions} partitions{said}"
        ));
    }
    if let Some(name) = name {
        check_name(name)?;
        check_not_compacted(client, destination).await?;
        if let Some(claim) = claim::find(client, name).await? {
            claim.check(name, range, destination, &ids)?;
            return Ok(claim);
        }
    }
    let spans = plan::resolve(client, range, notes).await?;
    let mut producer_ids = Vec::new();
    for _ in &spans {
        producer_ids.push(client.new_identity().await?.producer_id);
    }
    let mut starts = Vec::new();
    for partition in &target.partitions {
        let isolation = Isolation::ReadUncommitted;
        let end = client
            .offset(destination, partition.index, OffsetAt::Latest, isolation)
            .await?;
        starts.push(end.map_or(0, |end| end.offset));
    }
    let same_partitions = target.partitions.len() == source.partitions.len();
    if !same_partitions {
        notes.push(format!(
            "{} has {} partitions and {destination} has {}: keys decide where records go",
            range.topic,
            source.partitions.len(),
            target.partitions.len()
        ));
    }
    let claim = Claim::new(
        range.clone(),
        destination.to_owned(),
        ids.clone(),
        spans,
        producer_ids,
        starts,
        same_partitions,
    );
    match name {
        None => Ok(claim),
        Some(name) => {
            let claim = claim::make(client, name, &claim, now_ms()).await?;
            claim.check(name, range, destination, &ids)?;
            Ok(claim)
        }
    }
}

fn check_name(name: &str) -> anyhow::Result<()> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if name.is_empty() || name.len() > 100 || !name.chars().all(allowed) {
        bail!("--name {name:?}: use 1 to 100 letters, digits, dots, underscores and dashes");
    }
    Ok(())
}

async fn check_not_compacted(client: &Client, topic: &str) -> anyhow::Result<()> {
    let configs = client.topic_configs(topic).await?;
    let compacted = configs.iter().any(|config| {
        config.name == "cleanup.policy" && config.value.as_deref().is_some_and(|value| value.contains("compact"))
    });
    if compacted {
        bail!(
            "topic {topic} is compacted: the records that tell how far a replay came could vanish. \
             Replay without --name, or into another topic"
        );
    }
    Ok(())
}

/// Whether the broker has other sequence numbers than this process thought: somebody else wrote under
/// the same name since the destination was read.
fn is_disagreement(error: &anyhow::Error) -> bool {
    let code = error.downcast_ref::<Error>().and_then(Error::code);
    matches!(
        code,
        Some(ResponseError::OutOfOrderSequenceNumber | ResponseError::DuplicateSequenceNumber)
    )
}

fn offsets(spans: &[Span]) -> u64 {
    let lengths = spans.iter().map(|span| u64::try_from(span.to - span.from).unwrap_or(0));
    lengths.sum()
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// Holds records back until they are due.
struct Pace {
    speed: Speed,
    first: Option<(i64, Instant)>,
}

impl Pace {
    fn new(speed: Speed) -> Self {
        Self { speed, first: None }
    }

    fn due(&mut self, timestamp_ms: i64) -> Option<Instant> {
        let (first_ms, started) = *self.first.get_or_insert_with(|| (timestamp_ms, Instant::now()));
        started.checked_add(self.speed.due(first_ms, timestamp_ms))
    }

    fn must_wait(&mut self, timestamp_ms: i64) -> bool {
        self.speed != Speed::Max && self.due(timestamp_ms).is_none_or(|due| due > Instant::now())
    }

    async fn wait(&mut self, timestamp_ms: i64) {
        match self.due(timestamp_ms) {
            Some(due) => sleep_until(due).await,
            None => std::future::pending().await,
        }
    }
}
