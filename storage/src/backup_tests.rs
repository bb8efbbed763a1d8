//! Backups on a simulated disk, with everything going on that removes files; and one under load on a real one.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use rand::SeedableRng;
use rand::rngs::SmallRng;

use super::*;
use crate::batch::BatchBuilder;
use crate::clock::{Clock, ManualClock};
use crate::disk::SimulatedDisk;
use crate::disk::simulated::{Fault, Operation};
use crate::engine::Engine;
use crate::error::RestoreError;
use crate::options::Options;
use crate::record::Record;
use crate::restore::Restore;
use crate::storage::Storage;
use crate::write_set::{Append, Change, Receipt, WriteSet};
use crate::{CONTROL_LOG, Step};

const DIR: &str = "/data";

/// Each log's start, and its bytes from there.
type Logs = BTreeMap<LogId, (i64, Vec<u8>)>;

struct Fixture {
    disk: SimulatedDisk,
    clock: Arc<ManualClock>,
    engine: Engine,
}

fn start(disk: SimulatedDisk, clock: Arc<ManualClock>) -> Result<Fixture, OpenError> {
    let engine = Engine::open(Arc::new(disk.clone()), clock.clone(), Options::new(DIR))?;
    Ok(Fixture { disk, clock, engine })
}

fn changes(changes: Vec<Change>) -> WriteSet {
    WriteSet {
        changes,
        ..WriteSet::default()
    }
}

fn topic(name: &str) -> WriteSet {
    let configs = [("segment.bytes", "300"), ("retention.bytes", "100000")];
    changes(vec![Change::CreateTopic {
        name: name.into(),
        partitions: 1,
        configs: configs.map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
    }])
}

fn record(log: LogId, number: i32, timestamp_ms: i64) -> WriteSet {
    let mut builder = BatchBuilder::new().producer(7, 0, number);
    builder.push(Record {
        timestamp_ms,
        value: Some(format!("{number:0100}").into()),
        ..Record::default()
    });
    let append = Append {
        log,
        batches: builder.build().unwrap(),
        log_append_time: false,
    };
    WriteSet {
        appends: vec![append],
        ..WriteSet::default()
    }
}

impl Fixture {
    fn new() -> Self {
        start(SimulatedDisk::new(1), Arc::new(ManualClock::new(1_700_000_000_000))).unwrap()
    }

    fn write(&self, ws: WriteSet) -> Receipt {
        let answer = Arc::new(Mutex::new(None));
        let slot = answer.clone();
        self.engine.submit(ws, move |outcome| *slot.lock() = Some(outcome));
        while self.engine.commit_step() != Step::Idle {}
        answer.lock().take().unwrap().unwrap()
    }

    fn create(&self, name: &str) -> crate::Topic {
        (*self.write(topic(name)).created.unwrap()).clone()
    }

    fn append(&self, log: LogId, numbers: std::ops::Range<i32>) {
        for number in numbers {
            self.write(record(log, number, self.clock.now_ms()));
        }
    }

    fn checkpoint(&self) {
        while self.engine.checkpoint_step().unwrap() {}
    }

    fn published(&self) -> Logs {
        let logs = self.engine.catalog();
        let logs = logs.topics().flat_map(|topic| topic.partitions.clone());
        let read = |log| {
            let start = self.engine.ends(log).unwrap().start;
            let all = read_all(|from| self.engine.read(log, from, 1 << 20).unwrap().data, start);
            (log, (start, all))
        };
        logs.map(read).collect()
    }

    fn paths(&self, inside: &str) -> Vec<PathBuf> {
        let paths = self.disk.paths().into_keys();
        paths.filter(|path| path.starts_with(inside)).collect()
    }

    /// What nothing published names.
    fn unnamed(&self) -> Vec<PathBuf> {
        let state = self.engine.shared.state.read();
        let mut paths = self.paths("/data/logs");
        for log in state.logs.values() {
            paths.retain(|path| {
                let segments = log.segments.iter();
                let named = segments.flat_map(|segment| [segment.file.path.clone(), segment.file.index_path()]);
                let producers = log.stored_producers.map(|lsn| log.dir.join(snapshot_name(lsn)));
                !named.chain(producers).any(|named| named == *path)
            });
        }
        paths
    }
}

fn read_all(read: impl Fn(i64) -> Bytes, start: i64) -> Vec<u8> {
    let (mut all, mut from) = (Vec::new(), start);
    loop {
        let data = read(from);
        if data.is_empty() {
            return all;
        }
        let mut rest = &data[..];
        while !rest.is_empty() {
            let header = crate::batch::BatchHeader::parse(rest).unwrap();
            from = header.last_offset() + 1;
            rest = &rest[header.size_bytes()..];
        }
        all.extend_from_slice(&data);
    }
}

fn copy(backup: &Backup, restore: &mut Restore) -> Result<(), RestoreError> {
    for file in backup.files() {
        let (source, len) = backup.open(file).unwrap().unwrap();
        let mut bytes = vec![0; len as usize];
        assert_eq!(source.read_at(&mut bytes, 0).unwrap() as u64, len, "{}", file.path);
        let mut target = restore.file(&file.path)?;
        target.write(&bytes)?;
        target.finish()?;
    }
    Ok(())
}

fn restored(backup: &Backup, clock: Arc<ManualClock>) -> Fixture {
    let disk = SimulatedDisk::new(2);
    let mut restore = Restore::on(Arc::new(disk.clone()), DIR.into()).unwrap();
    copy(backup, &mut restore).unwrap();
    restore.finish(backup.manifest()).unwrap();
    let disk = disk.cut_power(&mut SmallRng::seed_from_u64(3));
    start(disk, clock).unwrap()
}

/// A storage with two topics, whose backup was begun; and all that removes files happens behind it.
fn busy() -> (Fixture, Backup, Logs) {
    let fixture = Fixture::new();
    let (kept, deleted) = (fixture.create("kept"), fixture.create("deleted"));
    let (log, dead) = (kept.partitions[0], deleted.partitions[0]);
    fixture.append(log, 0..20);
    fixture.append(dead, 0..9);
    fixture.write(changes(vec![Change::MoveLogStart { log, offset: 3 }]));
    fixture.checkpoint();
    let published = fixture.published();
    let backup = fixture.engine.backup().unwrap();
    fixture.append(log, 20..30);
    fixture.checkpoint();
    fixture.write(changes(vec![Change::MoveLogStart { log, offset: 15 }]));
    fixture.write(changes(vec![Change::DeleteTopic { id: deleted.id }]));
    fixture.checkpoint();
    let configs = [("retention.bytes", "400"), ("segment.bytes", "300")];
    let configs = configs.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
    fixture.write(changes(vec![Change::SetConfigs { id: kept.id, configs }]));
    assert_eq!(fixture.engine.retention_step(), 1);
    fixture.append(log, 30..40);
    fixture.checkpoint();
    (fixture, backup, published)
}

#[test]
fn what_was_published_is_in_the_copy_whatever_happens_meanwhile() {
    let (fixture, backup, published) = busy();
    let copy = restored(&backup, fixture.clock.clone());
    let found = copy.published();
    assert_eq!(found.len(), 3, "the control log and two more");
    assert!(found == published);
    let (ours, theirs) = (copy.engine.catalog(), fixture.engine.catalog());
    assert_eq!(ours.cluster_id, theirs.cluster_id);
    let epoch = |engine: &Engine| engine.ends(CONTROL_LOG).unwrap().leader_epoch;
    assert!(epoch(&copy.engine) > epoch(&fixture.engine) + 1000);
    // It goes on, and knows its producers.
    let log = ours.topic("kept").unwrap().partitions[0];
    assert!(copy.write(record(log, 19, 0)).appends[0].duplicate);
    assert_eq!(copy.write(record(log, 20, 0)).appends[0].first_offset, 20);
}

#[test]
fn what_was_withheld_goes_when_the_backup_has_ended() {
    let (fixture, backup, _) = busy();
    assert!(matches!(fixture.engine.backup(), Err(BackupError::Running)));
    assert!(!fixture.unnamed().is_empty());
    assert!(!fixture.engine.checkpoint_is_due());
    drop(backup);
    assert!(fixture.engine.checkpoint_is_due());
    fixture.checkpoint();
    assert_eq!(fixture.unnamed(), Vec::<PathBuf>::new());
    assert!(!fixture.engine.checkpoint_is_due());
    fixture.engine.backup().unwrap();
}

#[test]
fn what_was_withheld_goes_with_a_start() {
    let (Fixture { disk, clock, engine }, backup, _) = busy();
    drop(engine);
    for disk in [disk.restart(), disk.cut_power(&mut SmallRng::seed_from_u64(4))] {
        let fixture = start(disk, clock.clone()).unwrap();
        assert_eq!(fixture.unnamed(), Vec::<PathBuf>::new());
    }
    drop(backup);
}

#[test]
fn nothing_but_what_a_backup_names_is_withheld() {
    let (fixture, backup, _) = busy();
    let log = fixture.engine.catalog().topic("kept").unwrap().partitions[0];
    let inside = format!("{DIR}/logs/{log}");
    let before = fixture.paths(&inside).len();
    for number in 40..80 {
        fixture.append(log, number..number + 1);
        fixture.engine.retention_step();
        while fixture.engine.commit_step() != Step::Idle {}
        fixture.checkpoint();
    }
    assert!(
        fixture.paths(&inside).len() <= before,
        "what came behind the backup goes"
    );
    drop(backup);
}

#[test]
fn a_storage_that_failed_gives_no_backup() {
    let fixture = Fixture::new();
    fixture.disk.inject(Fault {
        on: Some(Operation::Sync),
        path: String::new(),
        skip: 0,
    });
    assert!(fixture.engine.checkpoint_step().is_ok());
    while let Ok(true) = fixture.engine.checkpoint_step() {}
    assert!(matches!(fixture.engine.backup(), Err(BackupError::Poisoned(_))));
}

#[test]
fn a_restore_that_was_cut_short_is_no_data_directory() {
    let (fixture, backup, published) = busy();
    let (mut refused, mut whole) = (0, 0);
    for operations in 0.. {
        let disk = SimulatedDisk::new(operations);
        disk.crash_after(operations);
        let restored = Restore::on(Arc::new(disk.clone()), DIR.into()).and_then(|mut restore| {
            copy(&backup, &mut restore)?;
            restore.finish(backup.manifest())
        });
        for power in [true, false] {
            let left = match power {
                true => disk.cut_power(&mut SmallRng::seed_from_u64(operations)),
                false => disk.restart(),
            };
            let begun = left.paths().keys().any(|path| path.starts_with(DIR));
            match start(left, fixture.clock.clone()) {
                Ok(started) if begun => {
                    assert!(started.published() == published, "after {operations} operations");
                    whole += 1;
                }
                // The directory itself is not there.
                Ok(_) => assert!(operations < 6, "after {operations} operations"),
                Err(OpenError::Restoring(_)) => refused += 1,
                Err(error) => panic!("after {operations} operations: {error}"),
            }
        }
        if restored.is_ok() {
            break;
        }
    }
    assert!(refused > 20 && whole >= 2, "{refused} refused, {whole} whole");
}

#[test]
fn only_files_of_a_data_directory_are_restored() {
    for good in [
        "logs/0/00000000000000000000.log",
        "logs/17/00000000000000000123.index",
        "logs/17/00000000000000000123.producers",
        "journal/0000000001.journal.damaged",
    ] {
        assert!(is_restorable(good), "{good}");
    }
    for bad in [
        "",
        "manifest",
        "lock",
        "/etc/passwd",
        "../manifest",
        "logs/../logs/0/00000000000000000000.log",
        "logs/0/../00000000000000000000.log",
        "logs/0//00000000000000000000.log",
        "logs//00000000000000000000.log",
        "logs/00/00000000000000000000.log",
        "logs/+1/00000000000000000000.log",
        "logs/0/00000000000000000000.log.new",
        "logs/0/0000000000000000000x.log",
        "logs/0/00000000000000000000.log/x",
        "/logs/0/00000000000000000000.log",
        "./logs/0/00000000000000000000.log",
        "journal/0000000001.journal",
        "journal/../0000000001.journal.damaged",
    ] {
        assert!(!is_restorable(bad), "{bad}");
    }
    let disk = Arc::new(SimulatedDisk::new(1));
    let mut restore = Restore::on(disk.clone(), DIR.into()).unwrap();
    assert!(matches!(restore.file("../x"), Err(RestoreError::BadName(_))));
    restore.file("logs/0/00000000000000000000.log").unwrap();
    assert!(restore.file("logs/0/00000000000000000000.log").is_err(), "twice");
    assert!(matches!(restore.finish(b"RIVERMAN"), Err(RestoreError::BadManifest(_))));
    assert!(matches!(
        Restore::on(disk, DIR.into()),
        Err(RestoreError::Write(OpenError::Restoring(_)))
    ));
}

#[test]
fn everything_acknowledged_before_a_backup_is_in_it() {
    let (dir, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let options = |dir: &Path| Options {
        journal_file_bytes: 4 << 20,
        checkpoint_bytes: 64 << 10,
        ..Options::new(dir)
    };
    let storage = Storage::open(options(dir.path())).unwrap();
    let log = storage.submit_wait(topic("t")).unwrap().created.unwrap().partitions[0];
    let stop = std::sync::atomic::AtomicBool::new(false);
    let (acknowledged, backup) = std::thread::scope(|scope| {
        let written = Arc::new(Mutex::new(0_i64));
        let (ours, storage, stop) = (written.clone(), &storage, &stop);
        scope.spawn(move || {
            for number in (0..).take_while(|_| !stop.load(std::sync::atomic::Ordering::Relaxed)) {
                storage.submit_wait(record(log, number, 0)).unwrap();
                *ours.lock() = i64::from(number) + 1;
            }
        });
        while *written.lock() < 50 {
            std::thread::yield_now();
        }
        let acknowledged = *written.lock();
        let backup = storage.backup().unwrap();
        assert!(matches!(storage.backup(), Err(BackupError::Running)));
        let mut restore = Restore::begin(to.path()).unwrap();
        copy(&backup, &mut restore).unwrap();
        restore.finish(backup.manifest()).unwrap();
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        (acknowledged, backup)
    });
    drop(backup);
    let copied = Storage::open(options(to.path())).unwrap();
    let end = copied.ends(log).unwrap().high_watermark;
    assert!(end >= acknowledged, "{end} of {acknowledged}");
    let all = |storage: &Storage| read_all(|from| storage.read(log, from, 1 << 20).unwrap().data, 0);
    assert!(all(&storage).starts_with(&all(&copied)));
    storage.close();
    // Another process may have the directory by now.
    assert!(storage.engine().checkpoint_step().is_err());
    assert!(matches!(storage.backup(), Err(BackupError::Closed)));
}

#[test]
fn the_names_of_all_directories_that_a_restore_makes_last() {
    for seed in 0..20 {
        let disk = SimulatedDisk::new(seed);
        let mut restore = Restore::on(Arc::new(disk.clone()), "/a/b/data".into()).unwrap();
        assert!(!restore.is_begun() && !disk.exists(Path::new("/a")).unwrap());
        restore.file("logs/0/00000000000000000000.log").unwrap();
        assert!(restore.is_begun());
        let disk = disk.cut_power(&mut SmallRng::seed_from_u64(seed));
        assert!(disk.exists(Path::new("/a/b/data/restoring")).unwrap(), "seed {seed}");
    }
}
