//! The write and read path of storage, without a network: `cargo bench --bench storage`.
//!
//! Figures of a shared machine drift; compare medians of runs made side by side.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use std::hint::black_box;
use std::sync::mpsc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use riverlog_storage::batch::{self, BatchBuilder, CheckLimits, CheckedBatches};
use riverlog_storage::record::{Record, decode_batch};
use riverlog_storage::{Append, Change, LogId, Options, Storage, WriteSet};

/// A batch as a client would send it.
fn records(count: usize, value_bytes: usize) -> CheckedBatches {
    let mut builder = BatchBuilder::new();
    for number in 0..count {
        builder.push(Record {
            key: None,
            value: Some(vec![number as u8; value_bytes].into()),
            headers: vec![],
            timestamp_ms: 1_700_000_000_000,
        });
    }
    builder.build().unwrap()
}

fn open(dir: &tempfile::TempDir) -> (Storage, LogId) {
    let storage = Storage::open(Options::new(dir.path())).unwrap();
    let create = Change::CreateTopic {
        name: "bench".into(),
        partitions: 1,
        configs: Default::default(),
    };
    let receipt = storage
        .submit_wait(WriteSet {
            changes: vec![create],
            ..Default::default()
        })
        .unwrap();
    (storage, receipt.created.unwrap().partitions[0])
}

fn write_set(log: LogId, batches: &CheckedBatches) -> WriteSet {
    let append = Append {
        log,
        batches: batches.clone(),
        log_append_time: false,
    };
    WriteSet {
        appends: vec![append],
        ..Default::default()
    }
}

/// One record, synced, published, answered; then 512 write sets in flight, which share syncs.
fn append(criterion: &mut Criterion) {
    let dir = tempfile::tempdir().unwrap();
    let (storage, log) = open(&dir);
    let one = records(1, 100);
    criterion.bench_function("append one record and wait", |bencher| {
        bencher.iter(|| storage.submit_wait(write_set(log, &one)).unwrap());
    });
    let bulk = records(16, 1024);
    let mut group = criterion.benchmark_group("append");
    group
        .sample_size(20)
        .throughput(Throughput::Bytes(512 * bulk.size_bytes() as u64));
    group.bench_function("512 batches of 16 KiB in flight", |bencher| {
        bencher.iter(|| {
            let (sender, receiver) = mpsc::channel();
            for _ in 0..512 {
                let sender = sender.clone();
                storage.submit(write_set(log, &bulk), move |outcome| {
                    sender.send(outcome.unwrap()).unwrap()
                });
            }
            drop(sender);
            assert_eq!(receiver.iter().count(), 512);
        });
    });
    group.finish();
}

/// What every produced batch costs before it is sequenced, and every fetched one before it is decoded.
fn check(criterion: &mut Criterion) {
    let batches = records(16, 1024);
    let bytes = batches.bytes().clone();
    let limits = CheckLimits {
        max_batch_bytes: 1 << 20,
        max_decompressed_bytes: 1 << 20,
        single_batch: true,
        require_keys: false,
    };
    let mut group = criterion.benchmark_group("batch of 16 KiB");
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    group.bench_function("check as produced", |bencher| {
        bencher.iter(|| batch::check_produced(black_box(bytes.clone()), &limits).unwrap());
    });
    group.bench_function("verify as read", |bencher| {
        bencher.iter(|| batch::verify(black_box(&bytes)).unwrap())
    });
    group.bench_function("decode", |bencher| {
        bencher.iter(|| decode_batch(black_box(&bytes), 1 << 20).unwrap())
    });
    group.finish();
}

criterion_group!(benches, append, check);
criterion_main!(benches);
