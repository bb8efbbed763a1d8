//! Bulk and consuming by Apache Kafka's own performance tools, as a second opinion beside librdkafka. They count
//! records, not time, so how many is guessed from the time.

use std::fs::{self, File};
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};

use super::{Outcome, Site};
use crate::child::Process;

/// About what these tools reach on two cores.
const GUESSED_BYTES_PER_S: u64 = 150_000_000;
const GUESSED_RECORDS_PER_S: u64 = 500_000;

/// Values in the file from which the producer picks.
const VALUES: u64 = 10_000;

const PATIENCE: Duration = Duration::from_secs(600);

pub fn produce(site: &Site<'_>, size_bytes: usize) -> anyhow::Result<Outcome> {
    let values = site.dir.join(format!("values-{size_bytes}"));
    if !values.exists() {
        write_values(site, &values, size_bytes)?;
    }
    let per_s = (GUESSED_BYTES_PER_S / size_bytes as u64).min(GUESSED_RECORDS_PER_S);
    let records = per_s * site.duration.as_secs();
    let mut tool = site.programs.jars.tool("org.apache.kafka.tools.ProducerPerformance");
    tool.args([
        "--topic",
        site.topic,
        "--throughput",
        "-1",
        "--num-records",
        &records.to_string(),
    ])
    .arg("--payload-file")
    .arg(&values)
    .args(["--producer-props", "acks=all"])
    .arg(format!("bootstrap.servers={}", site.broker()?.bootstrap()));
    // The last line: 1000000 records sent, 199282.6 records/sec (194.61 MB/sec), …
    let said = run(site, &mut tool)?;
    let line = said
        .lines()
        .rev()
        .find(|line| line.contains("records sent"))
        .with_context(|| said.clone())?;
    let words: Vec<&str> = line.split_whitespace().collect();
    let sent: u64 = words
        .first()
        .context("no count")?
        .parse()
        .with_context(|| line.to_owned())?;
    let rate: f64 = words
        .get(3)
        .context("no rate")?
        .parse()
        .with_context(|| line.to_owned())?;
    ensure!(sent == records, "{sent} of {records} records were sent: {line}");
    Ok(Outcome {
        records,
        bytes: records * size_bytes as u64,
        seconds: records as f64 / rate,
        figures: vec![],
    })
}

pub fn consume(site: &Site<'_>, size_bytes: usize) -> anyhow::Result<Outcome> {
    let source = site.source.context("nothing to consume")?;
    let mut tool = site.programs.jars.tool("org.apache.kafka.tools.ConsumerPerformance");
    tool.args([
        "--topic",
        &source.topic,
        "--bootstrap-server",
        &site.broker()?.bootstrap(),
    ])
    // Another group for every round, so that it begins at the beginning.
    .args(["--group", site.topic, "--num-records", &source.records.to_string()])
    // Without a record for so long, in milliseconds, it gives up. The first start of a group is slow.
    .arg("--timeout=60000");
    let said = run(site, &mut tool)?;
    // Columns: start, end, MB, MB a second, records, records a second, milliseconds of rebalance, of fetching, …
    let line = said
        .lines()
        .rev()
        .find(|line| line.split(',').count() == 10)
        .with_context(|| said.clone())?;
    let column = |number: usize| -> anyhow::Result<f64> {
        let field = line.split(',').nth(number).unwrap_or_default().trim();
        field.parse().with_context(|| line.to_owned())
    };
    let records = column(4)?;
    ensure!(
        records >= source.records as f64,
        "{records} of {} records were read",
        source.records
    );
    Ok(Outcome {
        records: records as u64,
        bytes: records as u64 * size_bytes as u64,
        seconds: column(7)? / 1000.0,
        figures: vec![],
    })
}

fn write_values(site: &Site<'_>, path: &std::path::Path, size_bytes: usize) -> anyhow::Result<()> {
    let mut text = Vec::with_capacity((size_bytes + 1) * VALUES as usize);
    for number in 0..VALUES {
        text.extend_from_slice(site.payloads.value(number, size_bytes));
        text.push(b'\n');
    }
    File::create(path)?.write_all(&text).context("cannot write values")
}

fn run(site: &Site<'_>, tool: &mut Command) -> anyhow::Result<String> {
    let path = site.dir.join("tool.log");
    let log = File::create(&path)?;
    tool.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    let status = Process::spawn(tool)?.wait(PATIENCE)?;
    let said = fs::read_to_string(&path)?;
    ensure!(status.success(), "{tool:?}: {status}\n{said}");
    Ok(said)
}
