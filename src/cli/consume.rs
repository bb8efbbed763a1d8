//! `riverlog consume`: records become lines of standard output.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};

use anyhow::{Context, anyhow, bail};
use riverlog_client::{Client, Consumer, ConsumerOptions, Error, FetchedRecords, Isolation, OffsetAt};

use super::bootstrap::BootstrapArgs;
use super::format::Format;
use super::output;
use super::position::{Position, chosen_partitions};

/// Arguments of `riverlog consume`.
#[derive(Debug, clap::Args)]
pub struct ConsumeArgs {
    /// The topic
    topic: String,
    /// Where to begin: an offset, a time (2013-01-31T08:30:00Z), earliest or latest. A time is the first record of each
    /// partition that is as late; behind it there may be earlier ones, because records need not be in order of their
    /// times [default: earliest; with --follow, latest]
    #[arg(long, value_name = "OFFSET|TIME|earliest|latest")]
    from: Option<Position>,
    /// Wait for new records instead of ending at the last one
    #[arg(long)]
    follow: bool,
    /// End after this many records
    #[arg(long, value_name = "N")]
    max: Option<u64>,
    /// Read only this partition
    #[arg(long, value_name = "P")]
    partition: Option<i32>,
    /// text: the value, one a line; json: key, value, partition, offset, timestamp and headers
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    #[command(flatten)]
    bootstrap: BootstrapArgs,
}

/// Writes the records that are there and, with `--follow`, those that come.
///
/// # Errors
/// When the broker cannot be reached, a position is not in the log, or standard output fails.
pub async fn run(args: ConsumeArgs) -> anyhow::Result<()> {
    let client = args.bootstrap.connect("consume").await?;
    let topic = client.topic(&args.topic, false).await?;
    let partitions = chosen_partitions(&topic, args.partition)?;
    // To follow means what comes next, as `tail -f` and Kafka's console consumer have it; to read
    // what is there means all of it.
    let from = args.from.unwrap_or(if args.follow {
        Position::Latest
    } else {
        Position::Earliest
    });
    let mut positions = BTreeMap::new();
    let mut ends = BTreeMap::new();
    let mut last_end = 0;
    for partition in partitions {
        let start = from.resolve(&client, &args.topic, partition).await?;
        let end = end_of(&client, &args.topic, partition).await?;
        last_end = last_end.max(end);
        if args.follow || start < end {
            positions.insert((args.topic.clone(), partition), start);
            ends.insert(partition, end);
        }
    }
    if let Position::Offset(offset) = from
        && offset > last_end
    {
        bail!("{} has no offset {offset}: it ends before {last_end}", args.topic);
    }
    let mut consumer = Consumer::new(&client, positions, ConsumerOptions::default());
    let mut sink = Sink {
        out: BufWriter::with_capacity(64 * 1024, io::stdout().lock()),
        format: args.format,
        left: args.max.unwrap_or(u64::MAX),
    };
    let closed = output::closed();
    tokio::pin!(closed);
    while sink.left > 0 && (args.follow || !ends.is_empty()) {
        let polled = tokio::select! {
            polled = consumer.poll() => polled.map_err(advised)?,
            () = &mut closed => return Ok(()),
        };
        let Some(fetched) = polled else {
            continue;
        };
        let end = if args.follow {
            i64::MAX
        } else {
            ends.get(&fetched.partition).copied().unwrap_or(0)
        };
        let written = sink.write(&fetched, end);
        match written {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            written => written.context("standard output")?,
        }
        if fetched.next_offset >= end {
            consumer.remove(&args.topic, fetched.partition);
            ends.remove(&fetched.partition);
        }
    }
    Ok(())
}

/// With the way on, where there is one.
fn advised(error: Error) -> anyhow::Error {
    let cause = match &error {
        Error::Expired { last, .. } => last.as_ref(),
        other => other,
    };
    match cause {
        Error::Unreadable { partition, .. } => anyhow!(
            "{error}; the batch there is damaged, or the partition is fenced: the server's log and its /readyz say which; \
             records behind a damaged batch are read with --partition {partition} --from OFFSET"
        ),
        _ => error.into(),
    }
}

async fn end_of(client: &Client, topic: &str, partition: i32) -> anyhow::Result<i64> {
    let isolation = Isolation::ReadCommitted;
    let end = client.offset(topic, partition, OffsetAt::Latest, isolation).await?;
    Ok(end.map_or(0, |end| end.offset))
}

struct Sink<W> {
    out: W,
    format: Format,
    left: u64,
}

impl<W: Write> Sink<W> {
    /// Writes the records below `end`, as many as are wanted, and flushes: someone may be watching.
    fn write(&mut self, fetched: &FetchedRecords, end: i64) -> io::Result<()> {
        let records = fetched.records.iter().filter(|record| record.offset < end);
        for record in records {
            if self.left == 0 {
                break;
            }
            self.left -= 1;
            self.format.write(&mut self.out, fetched.partition, record)?;
        }
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use riverlog_client::ResponseError;

    use super::*;

    #[test]
    fn an_unreadable_partition_is_named_with_the_way_on() {
        let last = Error::Unreadable {
            topic: "t".into(),
            partition: 3,
            offset: 17,
            code: ResponseError::KafkaStorageError,
        };
        let after = std::time::Duration::from_secs(30);
        let last = Box::new(last);
        let told = advised(Error::Expired { last, after }).to_string();
        assert!(told.starts_with("t/3 cannot be read from offset 17 on: "), "{told}");
        assert!(told.contains("--partition 3 --from OFFSET"), "{told}");
    }
}
