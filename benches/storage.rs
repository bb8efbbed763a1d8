//! The write and read path of storage, without a network: `cargo bench --bench storage`.
//!
//! Figures of a shared machine drift; compare medians of runs made side by side.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

mod material;

use std::hint::black_box;
use std::sync::mpsc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use riverlog_storage::batch;
use riverlog_storage::record::decode_batch;

use crate::material::{LIMITS, open, records, write_set};

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
    let mut group = criterion.benchmark_group("batch of 16 KiB");
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    group.bench_function("check as produced", |bencher| {
        bencher.iter(|| batch::check_produced(black_box(bytes.clone()), &LIMITS).unwrap());
    });
    group.bench_function("verify as read", |bencher| {
        bencher.iter(|| batch::verify(black_box(&bytes)).unwrap())
    });
    group.bench_function("decode", |bencher| {
        bencher.iter(|| decode_batch(black_box(&bytes), LIMITS.max_decompressed_bytes).unwrap())
    });
    group.finish();
}

criterion_group!(benches, append, check);
criterion_main!(benches);
