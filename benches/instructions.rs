//! How many instructions the hot paths take, by `valgrind --tool=callgrind`: `cargo bench --bench instructions`.
//!
//! Other than times, these figures do not drift with what else the machine does, so they can be compared over months. Each path runs
//! a number of times and then twice as often, in processes of their own; the difference is what is told, without what comes once.
//! Instructions of the kernel are not counted.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

mod material;

use std::hint::black_box;
use std::process::Command;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{ApiKey, ProduceRequest, RequestHeader};
use kafka_protocol::protocol::{Encodable, StrBytes};
use riverlog::kafka::frame::{Request, RequestHead};
use riverlog::kafka::walker::Schema;
use riverlog_storage::batch;
use riverlog_storage::record::decode_batch;

use crate::material::{LIMITS, open, records, write_set};

/// A path, and what is done so many times.
type Work = (&'static str, fn(u32));

const PATHS: [Work; 8] = [
    ("parse a Produce request of four batches", parse),
    ("check 16 records of 1 KiB as produced", |times| check(16, 1024, times)),
    ("check 160 records of 100 B as produced", |times| check(160, 100, times)),
    ("decode 160 records of 100 B", decode),
    ("append 16 records of 1 KiB, alone", |times| append(16, 1024, times)),
    ("append 160 records of 100 B, alone", |times| append(160, 100, times)),
    ("read 64 KiB, batches of 16 KiB", |times| read(16, 1024, times)),
    ("read 64 KiB, batches of 100 B", |times| read(1, 40, times)),
];
const TIMES: u32 = 100;
/// The number of the path, and how often it is to run.
const ASKED: &str = "RIVERLOG_INSTRUCTIONS";

fn main() {
    if let Ok(asked) = std::env::var(ASKED) {
        let (path, times) = asked.split_once(' ').unwrap();
        let (_, work) = PATHS[path.parse::<usize>().unwrap()];
        return work(times.parse().unwrap());
    }
    for (path, (name, _)) in PATHS.iter().enumerate() {
        match (count(path, TIMES), count(path, 2 * TIMES)) {
            (Some(once), Some(twice)) => println!("{:>9}  {name}", twice.saturating_sub(once) / u64::from(TIMES)),
            _ => return println!("NOT RUN: valgrind does not run here (Debian package valgrind)"),
        }
    }
}

/// The instructions of a process that does it so often.
fn count(path: usize, times: u32) -> Option<u64> {
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]);
    let output = valgrind
        .arg(std::env::current_exe().ok()?)
        .env(ASKED, format!("{path} {times}"))
        .output()
        .ok()?;
    let text = String::from_utf8(output.stderr).ok()?;
    let (_, count) = text.split_once("Collected :")?;
    count.split_whitespace().next()?.parse().ok()
}

fn parse(times: u32) {
    let partition = |index| {
        PartitionProduceData::default()
            .with_index(index)
            .with_records(Some(records(16, 1024).bytes().clone()))
    };
    let topic = TopicProduceData::default()
        .with_name(StrBytes::from_static_str("bench").into())
        .with_partition_data((0..4).map(partition).collect());
    let request = ProduceRequest::default().with_acks(-1).with_topic_data(vec![topic]);
    let header = RequestHeader::default()
        .with_request_api_key(ApiKey::Produce as i16)
        .with_request_api_version(9)
        .with_client_id(Some(StrBytes::from_static_str("bench")));
    let mut frame = BytesMut::new();
    header.encode(&mut frame, 2).unwrap();
    request.encode(&mut frame, 9).unwrap();
    let frame = frame.freeze();
    for _ in 0..times {
        let head = RequestHead::parse(black_box(&frame)).unwrap();
        let schema = Schema::find(head.api_key).unwrap();
        black_box(Request::parse(head, schema, &frame).unwrap());
    }
}

fn check(count: usize, value_bytes: usize, times: u32) {
    let bytes = records(count, value_bytes).bytes().clone();
    for _ in 0..times {
        black_box(batch::check_produced(black_box(bytes.clone()), &LIMITS).unwrap());
    }
}

fn decode(times: u32) {
    let bytes: Bytes = records(160, 100).bytes().clone();
    for _ in 0..times {
        black_box(decode_batch(black_box(&bytes), LIMITS.max_decompressed_bytes).unwrap());
    }
}

fn append(count: usize, value_bytes: usize, times: u32) {
    let dir = tempfile::tempdir().unwrap();
    let (storage, log) = open(&dir);
    let batches = records(count, value_bytes);
    for _ in 0..times {
        storage.submit_wait(write_set(log, &batches)).unwrap();
    }
}

fn read(count: usize, value_bytes: usize, times: u32) {
    const BYTES: usize = 64 << 10;
    let dir = tempfile::tempdir().unwrap();
    let (storage, log) = open(&dir);
    let batches = records(count, value_bytes);
    for _ in 0..BYTES.div_ceil(batches.size_bytes()) {
        storage.submit_wait(write_set(log, &batches)).unwrap();
    }
    for _ in 0..times {
        black_box(storage.read(log, 0, BYTES).unwrap());
    }
}
