//! A data directory of each format version that was ever released, in `tests/fixtures`: it is read as it was written,
//! and the present version still writes the same bytes. `RIVERLOG_WRITE_FIXTURE=1` writes it anew, which is right only
//! together with a new format version; or where only bytes differ that nothing reads, as what stood behind a frame in its last
//! block: it became zeros when the simulated disk did as the real one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use crate::batch::BatchBuilder;
use crate::clock::ManualClock;
use crate::disk::{Disk, Open, SimulatedDisk};
use crate::engine::Engine;
use crate::manifest::FORMAT_VERSION;
use crate::options::Options;
use crate::record::{Record, decode_all};
use crate::write_set::{Append, Change, EpochCheck, WriteSet};
use crate::{LogId, Step};

const DIR: &str = "/data";
const NOW_MS: i64 = 1_730_000_000_000;

fn open(disk: &SimulatedDisk) -> Engine {
    let options = Options {
        journal_file_bytes: 64 << 10,
        // Some batches go straight to their segments.
        extent_bytes: 250,
        seed: Some(42),
        ..Options::new(DIR)
    };
    Engine::open(Arc::new(disk.clone()), Arc::new(ManualClock::new(NOW_MS)), options).unwrap()
}

fn write(engine: &Engine, ws: WriteSet) {
    engine.submit(ws, |outcome| {
        outcome.unwrap();
    });
    while engine.commit_step() != Step::Idle {}
}

fn change(engine: &Engine, change: Change) {
    write(
        engine,
        WriteSet {
            changes: vec![change],
            ..WriteSet::default()
        },
    );
}

fn append(log: LogId, values: &[String], producer: Option<i32>) -> Append {
    let mut builder = BatchBuilder::new();
    if let Some(sequence) = producer {
        builder = builder.producer(7, 1, sequence);
    }
    for value in values {
        builder.push(Record {
            key: Some("k".into()),
            value: Some(Bytes::from(value.clone())),
            headers: vec![("h".into(), Some("v".into()))],
            timestamp_ms: NOW_MS,
        });
    }
    let (batches, log_append_time) = (builder.build().unwrap(), false);
    Append {
        log,
        batches,
        log_append_time,
    }
}

fn values(from: usize, count: usize) -> Vec<String> {
    (from..from + count)
        .map(|number| format!("value {number:0100}"))
        .collect()
}

fn logs(engine: &Engine) -> Vec<LogId> {
    engine.catalog().topic("orders").unwrap().partitions.clone()
}

/// Two lives: a checkpoint in the middle of the second, and frames above it.
fn history() -> SimulatedDisk {
    let disk = SimulatedDisk::new(1);
    let engine = open(&disk);
    let configs = [("segment.bytes", "4000"), ("retention.ms", "-1")];
    change(
        &engine,
        Change::CreateTopic {
            name: "orders".into(),
            partitions: 2,
            configs: configs.map(|(name, value)| (name.into(), value.into())).into(),
        },
    );
    change(
        &engine,
        Change::SetEpoch {
            name: "job/a".into(),
            epoch: 3,
        },
    );
    change(&engine, Change::AllocateProducerIds { count: 10 });
    let log = logs(&engine)[0];
    for round in 0..20 {
        let appends = vec![append(log, &values(round * 3, 3), Some(round as i32 * 3))];
        write(
            &engine,
            WriteSet {
                appends,
                ..WriteSet::default()
            },
        );
    }
    drop(engine);
    let disk = disk.restart();
    let engine = open(&disk);
    change(&engine, Change::MoveLogStart { log, offset: 13 });
    while engine.checkpoint_step() == Ok(true) {}
    let both = logs(&engine).into_iter().map(|log| append(log, &values(60, 2), None));
    let epochs = vec![EpochCheck {
        name: "job/a".into(),
        epoch: 3,
    }];
    write(
        &engine,
        WriteSet {
            appends: both.collect(),
            epochs,
            ..WriteSet::default()
        },
    );
    engine.close_idle_step();
    drop(engine);
    disk.restart()
}

fn fixture(version: u8) -> PathBuf {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    dir.join(format!("v{version}"))
}

/// The files of a directory of this machine, by their paths below it.
fn files_of(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(files_of(&path));
        } else {
            files.insert(path.clone(), std::fs::read(&path).unwrap());
        }
    }
    files
}

fn written() -> BTreeMap<PathBuf, Vec<u8>> {
    let files = history().files(|path| !path.ends_with("lock") && !path.ends_with("ballast"));
    let below = |path: PathBuf| path.strip_prefix(DIR).unwrap().to_path_buf();
    files.into_iter().map(|(path, bytes)| (below(path), bytes)).collect()
}

#[test]
fn the_same_history_gives_the_same_bytes() {
    let (written, fixture) = (written(), fixture(FORMAT_VERSION));
    if std::env::var_os("RIVERLOG_WRITE_FIXTURE").is_some() {
        for (path, bytes) in &written {
            let path = fixture.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
    }
    let stored = files_of(&fixture);
    let stored: Vec<_> = stored.keys().map(|path| path.strip_prefix(&fixture).unwrap()).collect();
    assert_eq!(stored, written.keys().collect::<Vec<_>>());
    for (path, bytes) in &written {
        assert!(
            std::fs::read(fixture.join(path)).unwrap() == *bytes,
            "{}",
            path.display()
        );
    }
}

#[test]
fn stored_directories_are_read_as_they_were_written() {
    for version in 1..=FORMAT_VERSION {
        check_stored(&fixture(version));
    }
}

fn check_stored(fixture: &Path) {
    let disk = SimulatedDisk::new(9);
    for (path, bytes) in files_of(fixture) {
        let path = Path::new(DIR).join(path.strip_prefix(fixture).unwrap());
        let parents: Vec<_> = path.ancestors().skip(1).collect();
        for parent in parents.into_iter().rev().filter(|parent| parent.starts_with(DIR)) {
            disk.create_dir(parent).unwrap();
        }
        disk.open(&path, Open::CreateNew).unwrap().write_at(&bytes, 0).unwrap();
    }
    let engine = open(&disk);
    let logs = logs(&engine);
    let expected = [
        (13, values(13, 47).into_iter().chain(values(60, 2)).collect()),
        (0, values(60, 2)),
    ];
    for (log, (start, expected)) in logs.iter().zip(expected) {
        let ends = engine.ends(*log).unwrap();
        let expected: Vec<String> = expected;
        assert_eq!(
            (ends.start, ends.high_watermark),
            (start, start + expected.len() as i64)
        );
        let (mut from, mut read) = (start, Vec::new());
        while from < ends.high_watermark {
            let fetched = engine.read(*log, from, 1 << 20).unwrap();
            let records = decode_all(&fetched.data, from, 1 << 20).unwrap().records;
            from = records.last().unwrap().offset + 1;
            read.extend(
                records
                    .into_iter()
                    .map(|record| String::from_utf8(record.value.unwrap().to_vec()).unwrap()),
            );
        }
        assert_eq!(read, expected);
    }
    assert_eq!(engine.catalog().epoch("job/a"), Some(3));
    let appends = vec![append(logs[0], &values(57, 3), Some(57))];
    let offset = Arc::new(parking_lot::Mutex::new(None));
    let told = offset.clone();
    engine.submit(
        WriteSet {
            appends,
            ..WriteSet::default()
        },
        move |outcome| {
            *told.lock() = Some(outcome.unwrap().appends[0].first_offset);
        },
    );
    assert_eq!(*offset.lock(), Some(57), "a producer's last batch is known");
}
