//! Damage done to a directory, found, and mended.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;

use super::*;
use crate::batch::BatchBuilder;
use crate::options::Options;
use crate::record::{Record, decode_all};
use crate::storage::Storage;
use crate::write_set::{Append, Change, WriteSet};

fn open(dir: &Path) -> Storage {
    Storage::open(Options {
        idle_checkpoint_ms: 1_000_000,
        ..Options::new(dir)
    })
    .unwrap()
}

fn create(storage: &Storage, name: &str, configs: &[(&str, &str)]) -> LogId {
    let configs: BTreeMap<String, String> = configs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    let (name, partitions) = (name.to_owned(), 1);
    let changes = vec![Change::CreateTopic {
        name,
        partitions,
        configs,
    }];
    let ws = WriteSet {
        changes,
        ..Default::default()
    };
    storage.submit_wait(ws).unwrap().created.unwrap().partitions[0]
}

/// One record in a batch of an idempotent producer; its sequence is its offset. Told again, it keeps its offset.
fn append(storage: &Storage, log: LogId, number: i64) -> i64 {
    let mut builder = BatchBuilder::new().producer(7, 0, number as i32);
    builder.push(Record {
        key: None,
        value: Some(Bytes::from(format!("{number:0100}"))),
        headers: vec![],
        timestamp_ms: storage.clock().now_ms(),
    });
    let append = Append {
        log,
        batches: builder.build().unwrap(),
        log_append_time: false,
    };
    let ws = WriteSet {
        appends: vec![append],
        ..Default::default()
    };
    storage.submit_wait(ws).unwrap().appends[0].first_offset
}

fn values(storage: &Storage, log: LogId) -> Vec<String> {
    let (mut all, mut next) = (Vec::new(), storage.ends(log).unwrap().start);
    loop {
        let fetched = storage.read(log, next, 1000).unwrap();
        if fetched.data.is_empty() {
            return all;
        }
        let decoded = decode_all(&fetched.data, next, 1 << 20).unwrap();
        next = decoded.next_offset;
        for record in decoded.records {
            all.push(String::from_utf8(record.value.unwrap().to_vec()).unwrap());
        }
    }
}

fn written(range: std::ops::Range<i64>) -> Vec<String> {
    range.map(|number| format!("{number:0100}")).collect()
}

fn verify(dir: &Path) -> (Vec<Finding>, Checked) {
    let mut findings = Vec::new();
    let checked = Directory::open(dir)
        .unwrap()
        .verify(&mut |finding| findings.push(finding.clone()));
    (findings, checked.unwrap())
}

fn flip(path: &Path, position: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[position] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

fn contents(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut pending = vec![dir.to_path_buf()];
    while let Some(dir) = pending.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                pending.push(path);
            } else {
                found.insert(path.clone(), std::fs::read(path).unwrap());
            }
        }
    }
    found
}

/// What is left when the process is killed now: all that it has written, and no last checkpoint.
fn killed(dir: &Path) -> tempfile::TempDir {
    let left = tempfile::tempdir().unwrap();
    for (path, bytes) in contents(dir) {
        let copy = left.path().join(path.strip_prefix(dir).unwrap());
        std::fs::create_dir_all(copy.parent().unwrap()).unwrap();
        std::fs::write(copy, bytes).unwrap();
    }
    left
}

/// Sealed segments, a checkpoint, and frames above it.
fn example() -> (tempfile::TempDir, LogId) {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path());
    let log = create(&storage, "t", &[("segment.bytes", "10000")]);
    for number in 0..200 {
        append(&storage, log, number);
    }
    drop(storage);
    let storage = open(dir.path());
    for number in 200..230 {
        append(&storage, log, number);
    }
    (killed(dir.path()), log)
}

#[test]
fn a_sound_directory_is_found_sound_and_left_alone() {
    let (dir, _) = example();
    let before = contents(dir.path());
    let (findings, checked) = verify(dir.path());
    assert_eq!(findings, []);
    assert_eq!((checked.problems, checked.logs), (0, 2));
    assert!(
        checked.journal_frames >= 30 && checked.batches >= 200 && checked.segments > 3,
        "{checked:?}"
    );
    assert!(before == contents(dir.path()), "verify has changed something");
}

#[test]
fn every_kind_of_damage_is_named() {
    let (dir, log) = example();
    let files = contents(dir.path());
    let logs = dir.path().join(format!("logs/{log}"));
    let producers = files
        .keys()
        .find(|path| path.starts_with(&logs) && path.extension().is_some_and(|e| e == "producers"));
    let cases = [
        (dir.path().join("manifest"), 100),
        (dir.path().join("manifest.copy"), 3),
        (logs.join(format!("{:020}.log", 0)), 5000),
        (logs.join(format!("{:020}.index", 0)), 20),
        (producers.unwrap().clone(), 9),
    ];
    for (path, position) in cases {
        flip(&path, position);
        let (findings, checked) = verify(dir.path());
        assert_eq!(checked.problems, 1, "{findings:?}");
        assert_eq!(Path::new(&findings[0].file), path.strip_prefix(dir.path()).unwrap());
        flip(&path, position);
    }
    let first = logs.join(format!("{:020}.log", 0));
    flip(&first, 300);
    let (findings, _) = verify(dir.path());
    let found = &findings[0];
    assert_eq!(
        (found.partition.as_deref(), found.offset),
        (Some("t-0"), Some(1)),
        "{found}"
    );
    flip(&first, 300);

    std::fs::remove_file(&first).unwrap();
    std::fs::create_dir(dir.path().join("logs/77")).unwrap();
    let (findings, checked) = verify(dir.path());
    assert_eq!((checked.problems, checked.notes), (1, 1), "{findings:?}");
}
