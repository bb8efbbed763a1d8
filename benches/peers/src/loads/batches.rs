//! The same batches by HTTP and by the Kafka protocol: several connections over plain sockets, each with one request
//! under way. What is sent is made before, so that the broker is what is measured.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail, ensure};

use super::{Outcome, Site};
use crate::child;
use crate::wire::{Connection, batch, produce_frame};

const CONNECTIONS: usize = 8;

pub fn kafka(site: &Site<'_>, records: usize, size_bytes: usize) -> anyhow::Result<Outcome> {
    let address = site.broker()?.home.kafka;
    run(site, records, size_bytes, |number| {
        let values: Vec<String> = values(site, number, records, size_bytes);
        let partition = i32::try_from(number)? % site.partitions;
        let batch = batch(values.iter().map(String::as_bytes), now_ms())?;
        let frame = produce_frame(site.topic, partition, batch)?;
        let mut connection = Connection::open(address)?;
        Ok(move || connection.produce(&frame))
    })
}

pub fn http(site: &Site<'_>, records: usize, size_bytes: usize) -> anyhow::Result<Outcome> {
    let address = site.broker()?.home.http;
    run(site, records, size_bytes, |number| {
        let values = values(site, number, records, size_bytes);
        let body: String = values.iter().map(|value| format!("{{\"value\":{value}}}\n")).collect();
        let partition = i32::try_from(number)? % site.partitions;
        let request = format!(
            "POST /topics/{}/records?partition={partition} HTTP/1.1\r\nhost: {address}\r\n\
             content-type: application/x-ndjson\r\ncontent-length: {}\r\n\r\n{body}",
            site.topic,
            body.len(),
        );
        let mut connection = Http::open(address)?;
        Ok(move || connection.post(request.as_bytes(), records))
    })
}

pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(0)
}

/// JSON documents of exactly this size.
fn values(site: &Site<'_>, number: usize, records: usize, size_bytes: usize) -> Vec<String> {
    const FRAME: usize = r#"{"v":""}"#.len();
    let texts = (0..records).map(|record| {
        let text = site
            .payloads
            .value((number * records + record) as u64, size_bytes.saturating_sub(FRAME));
        String::from_utf8_lossy(text)
    });
    texts.map(|text| format!(r#"{{"v":"{text}"}}"#)).collect()
}

/// `connect` gives for the number of a connection what sends one batch on it and waits for the answer.
fn run<S: FnMut() -> anyhow::Result<()> + Send>(
    site: &Site<'_>,
    records: usize,
    size_bytes: usize,
    connect: impl Fn(usize) -> anyhow::Result<S>,
) -> anyhow::Result<Outcome> {
    let mut senders = (0..CONNECTIONS).map(connect).collect::<anyhow::Result<Vec<S>>>()?;
    for send in &mut senders {
        send()?;
    }
    let begun = Instant::now();
    let durations_us = std::thread::scope(|scope| {
        let threads: Vec<_> = senders
            .into_iter()
            .map(|mut send| {
                scope.spawn(move || -> anyhow::Result<Vec<u32>> {
                    let mut durations_us = Vec::new();
                    while begun.elapsed() < site.duration {
                        child::ensure_not_interrupted()?;
                        let sent = Instant::now();
                        send()?;
                        durations_us.push(u32::try_from(sent.elapsed().as_micros())?);
                    }
                    Ok(durations_us)
                })
            })
            .collect();
        let joined = threads.into_iter().map(|thread| thread.join());
        joined
            .map(|part| part.unwrap_or_else(|_| bail!("a sender panicked")))
            .collect::<anyhow::Result<Vec<_>>>()
    })?;
    let durations_us = durations_us.concat();
    let outcome = Outcome {
        records: (durations_us.len() * records) as u64,
        bytes: (durations_us.len() * records * size_bytes) as u64,
        seconds: begun.elapsed().as_secs_f64(),
        figures: vec![],
    };
    Ok(outcome.with_latencies(durations_us))
}

/// A connection that is kept, as any client library keeps it.
struct Http {
    stream: TcpStream,
    answer: Vec<u8>,
}

impl Http {
    fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).context("cannot connect to HTTP")?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        Ok(Self { stream, answer: vec![] })
    }

    fn post(&mut self, request: &[u8], records: usize) -> anyhow::Result<()> {
        self.stream.write_all(request).context("cannot send a request")?;
        self.answer.clear();
        let mut piece = [0; 4096];
        while !is_complete(&self.answer) {
            let read = self.stream.read(&mut piece).context("no answer")?;
            ensure!(read > 0, "the server closed the connection");
            self.answer.extend_from_slice(piece.get(..read).unwrap_or_default());
        }
        let answer = String::from_utf8_lossy(&self.answer);
        ensure!(
            answer.starts_with("HTTP/1.1 200") && answer.contains(&format!("\"accepted\":{records},")),
            "not accepted: {answer}"
        );
        Ok(())
    }
}

/// Whether head and body have arrived.
fn is_complete(answer: &[u8]) -> bool {
    let text = String::from_utf8_lossy(answer);
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.trim().parse::<usize>().ok())?
    });
    length.is_some_and(|length| body.len() >= length)
}
