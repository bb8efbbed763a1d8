//! `riverlog produce`: lines of standard input become records.

use std::convert::Infallible;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use bytes::Bytes;
use clap::ValueEnum;
use riverlog_client::{Compression, Producer, Record, WriterOptions};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};

use super::bootstrap::BootstrapArgs;

/// Arguments of `riverlog produce`.
#[derive(Debug, clap::Args)]
pub struct ProduceArgs {
    /// The topic; brokers create it if they are told to
    topic: String,
    /// What stands between key and value on each line; without it lines are values
    #[arg(long, value_name = "TEXT")]
    key_separator: Option<String>,
    /// Write to this partition, instead of one chosen by the key or in turn
    #[arg(long, value_name = "P")]
    partition: Option<i32>,
    /// How batches are compressed
    #[arg(long, value_enum, default_value_t = Codec::None)]
    compression: Codec,
    /// A header for every record; may be given several times
    #[arg(long = "header", value_name = "NAME=VALUE")]
    headers: Vec<String>,
    #[command(flatten)]
    bootstrap: BootstrapArgs,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Codec {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

impl From<Codec> for Compression {
    fn from(codec: Codec) -> Self {
        match codec {
            Codec::None => Self::None,
            Codec::Gzip => Self::Gzip,
            Codec::Snappy => Self::Snappy,
            Codec::Lz4 => Self::Lz4,
            Codec::Zstd => Self::Zstd,
        }
    }
}

/// A line that has no end must not fill the memory.
const MAX_LINE_BYTES: u64 = 64 * 1024 * 1024;

/// Writes every line and reports how many are durable.
///
/// # Errors
/// When the broker cannot be reached, or any line could not be written.
pub async fn run(args: ProduceArgs) -> anyhow::Result<()> {
    let client = args.bootstrap.connect("produce").await?;
    let topic = client.topic(&args.topic, true).await?;
    if let Some(partition) = args.partition {
        super::position::chosen_partitions(&topic, Some(partition))?;
    }
    let options = WriterOptions {
        compression: args.compression.into(),
        ..WriterOptions::default()
    };
    let options = options.fit(&client, &args.topic).await?;
    let producer = Producer::new(&client, options).await?;
    let work = async {
        let sent = tokio::select! {
            sent = send_lines(&args, &producer) => sent,
            // While no line comes, too: whoever types the lines must not have to find out with the next one.
            () = producer.failed() => Ok(()),
        };
        // The first failure is the reason; what comes after it only tells that there was one.
        producer.flush().await?;
        sent
    };
    let outcome = tokio::select! {
        outcome = work => outcome,
        never = tell_delays(&producer, options.delivery_timeout) => match never {},
    };
    let acked = producer.acknowledged();
    let records = if acked == 1 { "record" } else { "records" };
    eprintln!("{acked} {records} acknowledged in {}", args.topic);
    outcome
}

/// How long records may go unacknowledged before that is told, and how long until it is told again.
const FIRST_WORD: Duration = Duration::from_secs(5);
const NEXT_WORD: Duration = Duration::from_secs(30);

/// Says what the producer waits for, as long as it waits. A topic that was deleted, for one, looks like a topic whose
/// creation has not got around yet, so it is tried for a long time, which must not look like progress.
async fn tell_delays(producer: &Producer, patience: Duration) -> Infallible {
    let mut looks = tokio::time::interval(Duration::from_secs(1));
    let mut due = FIRST_WORD;
    loop {
        looks.tick().await;
        match producer.delayed() {
            Some((waited, error)) if waited >= due => {
                eprintln!("riverlog: still trying after {waited:.0?}, giving up after {patience:?}: {error}");
                due = waited + NEXT_WORD;
            }
            Some(_) => {}
            None => due = FIRST_WORD,
        }
    }
}

async fn send_lines(args: &ProduceArgs, producer: &Producer) -> anyhow::Result<()> {
    let headers = parse_headers(&args.headers)?;
    let separator = args.key_separator.as_deref().map(str::as_bytes);
    if separator == Some(b"") {
        bail!("--key-separator: an empty separator separates nothing");
    }
    let mut input = BufReader::with_capacity(256 * 1024, tokio::io::stdin());
    for number in 1u64.. {
        let mut line = Vec::new();
        let read = (&mut input)
            .take(MAX_LINE_BYTES)
            .read_until(b'\n', &mut line)
            .await
            .context("standard input")?;
        if read == 0 {
            return Ok(());
        }
        if line.last() == Some(&b'\n') {
            line.pop();
        } else if read as u64 == MAX_LINE_BYTES {
            bail!("line {number} is longer than {MAX_LINE_BYTES} bytes");
        }
        let (key, value) =
            split(line.into(), separator).with_context(|| format!("line {number} has no key separator"))?;
        let record = Record {
            key,
            value: Some(value),
            headers: headers.clone(),
            timestamp_ms: now_ms(),
        };
        // Failures are told by the flush: waiting here for each record would send them one by one.
        drop(producer.send(&args.topic, args.partition, record).await?);
    }
    Ok(())
}

fn split(line: Bytes, separator: Option<&[u8]>) -> Option<(Option<Bytes>, Bytes)> {
    let Some(separator) = separator else {
        return Some((None, line));
    };
    let at = line.windows(separator.len()).position(|window| window == separator)?;
    Some((Some(line.slice(..at)), line.slice(at + separator.len()..)))
}

fn parse_headers(headers: &[String]) -> anyhow::Result<Vec<(Bytes, Option<Bytes>)>> {
    headers
        .iter()
        .map(|header| {
            let (name, value) = header
                .split_once('=')
                .with_context(|| format!("--header {header}: expected NAME=VALUE"))?;
            let value = Bytes::from(value.to_owned());
            Ok((Bytes::from(name.to_owned()), Some(value)))
        })
        .collect()
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_at_the_first_separator() {
        let split_text = |line: &'static str| split(line.into(), Some(b"::"));
        assert_eq!(split_text("k::v::w"), Some((Some("k".into()), "v::w".into())));
        assert_eq!(split_text("::v"), Some((Some("".into()), "v".into())));
        assert_eq!(split_text("kv"), None);
        assert_eq!(split("k:v".into(), None), Some((None, "k:v".into())));
    }
}
