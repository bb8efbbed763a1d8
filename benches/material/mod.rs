//! What the benchmarks work on.

use riverlog_storage::batch::{BatchBuilder, CheckLimits, CheckedBatches};
use riverlog_storage::record::Record;
use riverlog_storage::{Append, Change, LogId, Options, Storage, WriteSet};

/// Of what is checked as produced.
pub const LIMITS: CheckLimits = CheckLimits {
    max_batch_bytes: 1 << 20,
    max_decompressed_bytes: 1 << 20,
    single_batch: true,
    require_keys: false,
};

/// A batch as a client would send it.
pub fn records(count: usize, value_bytes: usize) -> CheckedBatches {
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

/// A storage with one log.
pub fn open(dir: &tempfile::TempDir) -> (Storage, LogId) {
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

/// What appends them to it.
pub fn write_set(log: LogId, batches: &CheckedBatches) -> WriteSet {
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
