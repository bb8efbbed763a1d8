//! `riverlog replay`: a range of a topic once more, at any pace.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, BufWriter, Stdout, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use riverlog_client::{Client, StoredRecord};
use riverlog_replay::{Bound, LineWriter, Range, Replay, Speed, Target};

use super::bootstrap::BootstrapArgs;
use super::format::Format;
use super::output;
use super::position::Position;

/// Arguments of `riverlog replay`.
#[derive(Debug, clap::Args)]
pub struct ReplayArgs {
    /// The topic to replay
    topic: String,
    /// The first record: an offset, a time (2013-01-31T08:30:00Z), earliest or latest. With a time, no record that is
    /// earlier is replayed, wherever it stands
    #[arg(long, value_name = "OFFSET|TIME|earliest|latest", default_value = "earliest")]
    from: Position,
    /// Where to end, just before this offset or time; latest is the end as it is now
    #[arg(long, value_name = "OFFSET|TIME|earliest|latest", default_value = "latest")]
    to: Position,
    /// Only this partition
    #[arg(long, value_name = "P")]
    partition: Option<i32>,
    /// original keeps the distances between the records' timestamps, 10x is ten times as fast, max does not wait
    #[arg(long, value_name = "original|Nx|max", default_value = "max")]
    speed: Speed,
    /// Write into this topic instead of standard output; it is created if it is not there
    #[arg(long, value_name = "TOPIC")]
    to_topic: Option<String>,
    /// With --to-topic: killed and started again with the same name, it goes on without gap or duplicate. Every record
    /// gets the header riverlog.replay, which says where it comes from
    #[arg(long, value_name = "NAME", requires = "to_topic")]
    name: Option<String>,
    /// On standard output, text is the value, json is the whole record
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// No progress bar
    #[arg(long, short)]
    quiet: bool,
    #[command(flatten)]
    bootstrap: BootstrapArgs,
}

/// Replays.
///
/// # Errors
/// When either end fails, or a named replay cannot be continued exactly.
pub async fn run(args: ReplayArgs) -> anyhow::Result<()> {
    if args.to_topic.as_deref() == Some(&args.topic) {
        bail!(
            "a replay of {} into itself would double its records; choose another --to-topic",
            args.topic
        );
    }
    check_order(args.from, args.to)?;
    let client = args.bootstrap.connect("replay").await?;
    let _alone = match &args.name {
        Some(name) => Some(be_alone(&client, name).await?),
        None => None,
    };
    let destination = args.to_topic.clone();
    let target = match args.to_topic {
        Some(topic) => Target::Topic {
            topic,
            name: args.name.clone(),
        },
        None => Target::Lines(Box::new(Lines {
            out: BufWriter::with_capacity(64 * 1024, io::stdout()),
            format: args.format,
        })),
    };
    let replay = Replay {
        client,
        range: Range {
            topic: args.topic.clone(),
            partition: args.partition,
            from: bound(args.from),
            to: bound(args.to),
        },
        speed: args.speed,
        target,
        progress: !args.quiet,
    };
    let outcome = tokio::select! {
        outcome = replay.run() => outcome,
        () = output::closed(), if destination.is_none() => return Ok(()),
    };
    let summary = match outcome {
        Err(error) if is_broken_pipe(&error) => return Ok(()),
        outcome => outcome?,
    };
    for note in &summary.notes {
        eprintln!("note: {note}");
    }
    let seconds = summary.took.as_secs_f64();
    let rate = summary.records as f64 / seconds.max(0.001);
    let destination = destination.unwrap_or_else(|| "standard output".to_owned());
    if summary.resumed_behind > 0 {
        eprintln!(
            "went on behind the first {} offsets, done by earlier starts",
            summary.resumed_behind
        );
    }
    if summary.records == 0 && summary.resumed_behind == 0 {
        eprintln!("note: no record of {} was in the range", args.topic);
    }
    eprintln!(
        "replayed {} records of {} into {destination} in {seconds:.1} s ({rate:.0}/s)",
        summary.records, args.topic
    );
    Ok(())
}

/// Refuses a range that is empty whatever the topic holds.
fn check_order(from: Position, to: Position) -> anyhow::Result<()> {
    let is_backwards = match (from, to) {
        (Position::Offset(from), Position::Offset(to)) | (Position::Time(from), Position::Time(to)) => from > to,
        _ => false,
    };
    if is_backwards {
        bail!("--to lies before --from: there is nothing between them");
    }
    Ok(())
}

/// A process that was killed a moment ago may not be gone yet.
const LAST_BREATH: Duration = Duration::from_millis(500);

/// Keeps a second process on this machine out while this one replays under the name. The system takes the address back
/// however the process ends, so one that was killed can go on at once. Two machines do not see each other here; then the
/// sequence numbers still keep the copy exact.
async fn be_alone(client: &Client, name: &str) -> anyhow::Result<UnixListener> {
    let mut hasher = DefaultHasher::new();
    // Names are a cluster's own, and an address has no room for a long one.
    (client.metadata(Some(&[]), false).await?.cluster_id, name).hash(&mut hasher);
    let address = SocketAddr::from_abstract_name(format!("riverlog-replay-{:016x}", hasher.finish()))?;
    let patience = Instant::now() + LAST_BREATH;
    loop {
        match UnixListener::bind_addr(&address) {
            Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
                return Err(error).with_context(|| format!("making sure that replay {name} runs once"));
            }
            Err(_) if Instant::now() >= patience => bail!(
                "another process is running replay {name}: wait for it, or stop it and start this one again, which goes on \
                 behind it"
            ),
            Err(_) => tokio::time::sleep(LAST_BREATH / 10).await,
            Ok(alone) => return Ok(alone),
        }
    }
}

fn bound(position: Position) -> Bound {
    match position {
        Position::Earliest => Bound::Earliest,
        Position::Latest => Bound::Latest,
        Position::Offset(offset) => Bound::Offset(offset),
        Position::Time(ms) => Bound::Time(ms),
    }
}

/// Whoever read the output, `head` for one, has seen enough.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<io::Error>();
    error.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

struct Lines {
    out: BufWriter<Stdout>,
    format: Format,
}

impl LineWriter for Lines {
    fn write(&mut self, partition: i32, record: &StoredRecord) -> io::Result<()> {
        self.format.write(&mut self.out, partition, record)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
