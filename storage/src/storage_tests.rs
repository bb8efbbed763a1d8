//! The whole of storage on a real disk: write, read, crash (drop), recover.

use std::collections::BTreeMap;

use super::*;
use crate::batch::{BatchBuilder, CheckedBatches};
use crate::record::{Record, decode_all};
use crate::write_set::{Append, Change, EpochCheck};
use crate::{Topic, Uuid};

fn open(dir: &std::path::Path) -> Storage {
    Storage::open(Options {
        journal_file_bytes: 4 << 20,
        checkpoint_bytes: 64 << 10,
        ..Options::new(dir)
    })
    .unwrap()
}

fn batch(values: &[&str]) -> CheckedBatches {
    let mut builder = BatchBuilder::new();
    for value in values {
        builder.push(Record {
            key: None,
            value: Some(Bytes::copy_from_slice(value.as_bytes())),
            headers: vec![],
            timestamp_ms: 1000,
        });
    }
    builder.build().unwrap()
}

fn create(storage: &Storage, name: &str, partitions: u32, configs: &[(&str, &str)]) -> Arc<Topic> {
    let configs: BTreeMap<String, String> = configs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    let change = Change::CreateTopic {
        name: name.into(),
        partitions,
        configs,
    };
    storage
        .submit_wait(WriteSet {
            changes: vec![change],
            ..Default::default()
        })
        .unwrap()
        .created
        .unwrap()
}

fn write_set(log: LogId, value: &str) -> WriteSet {
    let append = Append {
        log,
        batches: batch(&[value]),
        log_append_time: false,
    };
    WriteSet {
        appends: vec![append],
        ..Default::default()
    }
}

fn append(storage: &Storage, log: LogId, values: &[&str]) -> Result<i64, WriteError> {
    let append = Append {
        log,
        batches: batch(values),
        log_append_time: false,
    };
    Ok(storage
        .submit_wait(WriteSet {
            appends: vec![append],
            ..Default::default()
        })?
        .appends[0]
        .first_offset)
}

fn values(storage: &Storage, log: LogId, from: i64) -> Vec<String> {
    let (mut all, mut next) = (Vec::new(), from);
    loop {
        let fetched = storage.read(log, next, 1000).unwrap();
        if fetched.data.is_empty() {
            assert_eq!(storage.batch_size(log, next, Reach::Disk).unwrap(), 0);
            return all;
        }
        let first = storage.read(log, next, 1).unwrap().data;
        assert_eq!(storage.batch_size(log, next, Reach::Disk).unwrap(), first.len());
        let decoded = decode_all(&fetched.data, next, 1 << 20).unwrap();
        next = decoded.next_offset;
        for record in decoded.records {
            all.push(String::from_utf8(record.value.unwrap().to_vec()).unwrap());
        }
    }
}

#[test]
fn records_survive_a_start() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path());
    let topic = create(&storage, "t", 2, &[("segment.bytes", "400")]);
    let mut expected = Vec::new();
    for number in 0..200 {
        let value = format!("value-{number}");
        assert_eq!(append(&storage, topic.partitions[0], &[&value]).unwrap(), number);
        expected.push(value);
    }
    assert_eq!(values(&storage, topic.partitions[0], 0), expected);
    drop(storage);
    for _ in 0..2 {
        let storage = open(dir.path());
        assert_eq!(storage.catalog().topic("t"), Some(&topic));
        assert_eq!(values(&storage, topic.partitions[0], 0), expected);
        assert_eq!(values(&storage, topic.partitions[0], 150), expected[150..]);
        assert_eq!(storage.ends(topic.partitions[1]).unwrap().high_watermark, 0);
    }
    let storage = open(dir.path());
    assert_eq!(append(&storage, topic.partitions[0], &["more"]).unwrap(), 200);
    assert_eq!(values(&storage, topic.partitions[0], 200), ["more"]);
}

#[test]
fn a_read_that_must_not_wait_says_that_it_would() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path());
    let log = create(&storage, "t", 1, &[("segment.bytes", "200")]).partitions[0];
    for number in 0..10 {
        append(&storage, log, &[&format!("{number:0>90}")]).unwrap();
    }
    storage.close();
    let storage = open(dir.path());
    let read = |reach| storage.read_with(log, 0, 1000, &Buffers::new(0), reach);
    // The index of the first segment is on the disk.
    assert!(read(Reach::PageCache).unwrap_err().is_not_cached());
    assert!(
        storage
            .batch_size(log, 0, Reach::PageCache)
            .unwrap_err()
            .is_not_cached()
    );
    let whole = read(Reach::Disk).unwrap();
    assert!(!whole.data.is_empty());
    // Now it is in memory, and so is the segment, if the file system can say so.
    match read(Reach::PageCache) {
        Ok(cached) => assert_eq!(cached.data, whole.data),
        Err(error) => assert!(error.is_not_cached()),
    }
}

#[test]
fn a_directory_in_use_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path());
    assert!(matches!(
        Storage::open(Options::new(dir.path())),
        Err(OpenError::InUse(_))
    ));
    storage.close();
    assert!(matches!(append(&storage, 1, &["x"]), Err(WriteError::Closed)));
    open(dir.path());
}

#[test]
fn a_foreign_directory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("thesis.doc"), "x").unwrap();
    assert!(matches!(
        Storage::open(Options::new(dir.path())),
        Err(OpenError::Foreign { .. })
    ));
    let left = std::fs::read_dir(dir.path()).unwrap().count();
    assert_eq!(left, 1, "nothing of ours is left there");
}

#[test]
fn log_starts_move_and_segments_go() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path());
    let topic = create(&storage, "t", 1, &[("segment.bytes", "300")]);
    let log = topic.partitions[0];
    for number in 0..50 {
        append(&storage, log, &[&format!("{number:0100}")]).unwrap();
    }
    let change = Change::MoveLogStart { log, offset: 33 };
    storage
        .submit_wait(WriteSet {
            changes: vec![change],
            ..Default::default()
        })
        .unwrap();
    assert!(matches!(
        storage.read(log, 32, 100),
        Err(ReadError::OffsetOutOfRange { start: 33, end: 50, .. })
    ));
    assert_eq!(values(&storage, log, 33).len(), 17);
    let bad = Change::MoveLogStart { log, offset: 51 };
    assert!(
        storage
            .submit_wait(WriteSet {
                changes: vec![bad],
                ..Default::default()
            })
            .is_err()
    );
    storage.close();
    drop(storage);
    let storage = open(dir.path());
    assert_eq!(storage.ends(log).unwrap().start, 33);
    assert_eq!(values(&storage, log, 33).len(), 17);
    let files = std::fs::read_dir(dir.path().join(format!("logs/{log}"))).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    assert_eq!(names.filter(|name| name.ends_with(".log")).count(), 17);
    let gone = Change::DeleteTopic { id: topic.id };
    storage
        .submit_wait(WriteSet {
            changes: vec![gone],
            ..Default::default()
        })
        .unwrap();
    assert!(matches!(append(&storage, log, &["x"]), Err(WriteError::UnknownLog(_))));
    let again = create(&storage, "t", 1, &[]);
    assert_ne!(again.id, topic.id);
    assert_ne!(again.partitions, topic.partitions);
    storage.close();
    assert!(!dir.path().join(format!("logs/{log}")).exists());
}

#[test]
fn a_zombie_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path());
    let topic = create(&storage, "t", 1, &[]);
    let set = |epoch| WriteSet {
        changes: vec![Change::SetEpoch {
            name: "job/a".into(),
            epoch,
        }],
        ..Default::default()
    };
    storage.submit_wait(set(1)).unwrap();
    storage.submit_wait(set(2)).unwrap();
    assert!(storage.submit_wait(set(2)).is_err());
    let write = |epoch| WriteSet {
        appends: vec![Append {
            log: topic.partitions[0],
            batches: batch(&["x"]),
            log_append_time: false,
        }],
        epochs: vec![EpochCheck {
            name: "job/a".into(),
            epoch,
        }],
        ..Default::default()
    };
    assert_eq!(
        storage.submit_wait(write(1)),
        Err(WriteError::StaleEpoch {
            name: "job/a".into(),
            current: 2,
            got: 1
        })
    );
    storage.submit_wait(write(2)).unwrap();
    drop(storage);
    let storage = open(dir.path());
    assert!(storage.submit_wait(write(1)).is_err());
    assert_eq!(storage.ends(topic.partitions[0]).unwrap().high_watermark, 1);
    let first = WriteSet {
        changes: vec![Change::AllocateProducerIds { count: 10 }],
        ..Default::default()
    };
    assert_eq!(storage.submit_wait(first.clone()).unwrap().first_producer_id, Some(0));
    assert_eq!(storage.submit_wait(first).unwrap().first_producer_id, Some(10));
    assert_eq!(storage.catalog().topic_by_id(Uuid::nil()), None);
}

#[test]
fn duplicates_have_the_original_offset_after_a_start() {
    let dir = tempfile::tempdir().unwrap();
    let write = |storage: &Storage, log, sequence| {
        let mut builder = BatchBuilder::new().producer(7, 0, sequence);
        builder.push(Record {
            key: None,
            value: Some("v".into()),
            headers: vec![],
            timestamp_ms: 5,
        });
        let append = Append {
            log,
            batches: builder.build().unwrap(),
            log_append_time: false,
        };
        storage
            .submit_wait(WriteSet {
                appends: vec![append],
                ..Default::default()
            })
            .map(|receipt| receipt.appends[0])
    };
    let storage = open(dir.path());
    let log = create(&storage, "t", 1, &[]).partitions[0];
    append(&storage, log, &["other"]).unwrap();
    for sequence in 0..4 {
        assert!(!write(&storage, log, sequence).unwrap().duplicate);
    }
    let again = write(&storage, log, 2).unwrap();
    assert!(again.duplicate && again.first_offset == 3);
    storage.close();
    drop(storage);
    let storage = open(dir.path());
    let again = write(&storage, log, 3).unwrap();
    assert!(again.duplicate && again.first_offset == 4);
    assert!(write(&storage, log, 9).is_err());
    assert_eq!(storage.ends(log).unwrap().high_watermark, 5);
    assert_eq!(storage.epoch_at(log, 0), Some(storage.epoch_at(log, 4).unwrap()));
}

#[test]
fn timestamps_are_found() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path());
    let log = create(&storage, "t", 1, &[("segment.bytes", "5000")]).partitions[0];
    for number in 0..500 {
        let mut builder = BatchBuilder::new();
        builder.push(Record {
            key: None,
            value: Some(format!("{number:050}").into()),
            headers: vec![],
            timestamp_ms: number * 10,
        });
        let append = Append {
            log,
            batches: builder.build().unwrap(),
            log_append_time: false,
        };
        storage
            .submit_wait(WriteSet {
                appends: vec![append],
                ..Default::default()
            })
            .unwrap();
    }
    for (asked, offset) in [(0, 0), (5, 1), (2345, 235), (4990, 499)] {
        let found = storage.batch_at_timestamp(log, asked, 0).unwrap().unwrap();
        assert_eq!(crate::batch::verify(&found).unwrap().base_offset, offset);
        let later = storage.batch_at_timestamp(log, asked, 490).unwrap().unwrap();
        assert_eq!(crate::batch::verify(&later).unwrap().base_offset, offset.max(490));
    }
    assert_eq!(storage.batch_at_timestamp(log, 4991, 0).unwrap(), None);
    let newest = storage.batch_of_max_timestamp(log, 0).unwrap().unwrap();
    assert_eq!(crate::batch::verify(&newest).unwrap().base_offset, 499);
}

#[test]
fn damage_that_nobody_reads_is_found_and_is_forgotten_with_its_segment() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path());
    let log = create(&storage, "t", 1, &[("segment.bytes", "1000")]).partitions[0];
    for number in 0..50 {
        append(&storage, log, &[&format!("{number:0100}")]).unwrap();
    }
    storage.close();
    drop(storage);
    let file = dir.path().join(format!("logs/{log}/{:020}.log", 0));
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[300] ^= 1;
    std::fs::write(&file, bytes).unwrap();

    let storage = open(dir.path());
    let found = loop {
        let damages = storage.health().damages;
        if !damages.is_empty() {
            break damages;
        }
        std::thread::sleep(MAINTENANCE_TICK);
    };
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].log, &found[0].file, found[0].offset), (log, &file, 1));
    for _ in 0..2 {
        assert!(matches!(
            storage.read(log, 1, 1),
            Err(ReadError::Damaged { offset: 1, .. })
        ));
    }
    assert_eq!(storage.health().damages, found, "one place, however often it is read");
    assert!(storage.stats().scrubbed_bytes > 0);
    let served = (0..50).filter(|offset| storage.read(log, *offset, 1).is_ok()).count();
    assert_eq!(served, 49, "it alone is lost");

    let change = Change::MoveLogStart { log, offset: 10 };
    let changes = vec![change];
    storage
        .submit_wait(WriteSet {
            changes,
            ..Default::default()
        })
        .unwrap();
    assert!(storage.health().damages.is_empty());
}

#[test]
fn an_empty_ballast_is_filled() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    let ballast = dir.path().join("ballast");
    std::fs::write(&ballast, b"").unwrap();
    let storage = open(dir.path());
    assert!(
        storage.health().free_bytes > 8 * BALLAST_BYTES,
        "the test needs some space on the disk"
    );
    // The maintenance thread looks every second.
    while std::fs::metadata(&ballast).unwrap().len() < BALLAST_BYTES {
        std::thread::yield_now();
    }
}

#[test]
fn a_write_that_is_alone_is_committed_where_it_is_submitted() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path());
    let log = create(&storage, "t", 1, &[]).partitions[0];
    let here = std::thread::current().id();
    let mut committed_here = 0;
    // Now and then the committing thread may be at a closing frame.
    for offset in 0..10_000 {
        let (sender, receiver) = mpsc::channel();
        storage.submit_here(write_set(log, "x"), move |outcome| {
            sender.send((std::thread::current().id(), outcome)).unwrap();
        });
        let (thread, outcome) = receiver.recv().unwrap();
        assert_eq!(outcome.unwrap().appends[0].first_offset, offset);
        committed_here += u32::from(thread == here);
        if committed_here == 100 {
            break;
        }
    }
    assert_eq!(committed_here, 100);
    assert!(storage.last_sync().is_some());
    let count = values(&storage, log, 0).len();
    drop(storage);
    let storage = open(dir.path());
    assert_eq!(values(&storage, log, 0).len(), count);
}

#[test]
fn storage_is_not_quiet_when_writes_came_together() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path());
    let log = create(&storage, "t", 1, &[]).partitions[0];
    let until_quiet = || {
        while !storage.is_quiet() {
            std::thread::yield_now();
        }
    };
    // It answers a little before it is.
    until_quiet();
    // The hook holds the committing thread until two wait behind the group that it is called for.
    let gate = Arc::new(Mutex::new(()));
    let closed = gate.lock();
    storage.on_publish({
        let gate = Arc::clone(&gate);
        move |_| drop(gate.lock())
    });
    let (sender, receiver) = mpsc::channel();
    let submit = || {
        let sender = sender.clone();
        storage.submit(write_set(log, "x"), move |outcome| {
            sender.send(outcome.is_ok()).unwrap()
        });
    };
    submit();
    while storage.0.engine.shared.sequencer.lock().has_work() {
        std::thread::yield_now();
    }
    assert!(!storage.is_quiet(), "one waits");
    (0..2).for_each(|_| submit());
    drop(closed);
    assert!((0..3).all(|_| receiver.recv().unwrap()));
    assert!(!storage.is_quiet(), "two came together");
    submit();
    assert!(receiver.recv().unwrap());
    until_quiet();
}

/// Here, or by the committing thread.
fn commit_all_gathered(storage: &Storage) {
    while storage.has_work() {
        if !storage.commit_gathered() {
            return storage.wake_committer();
        }
    }
}

/// There is no committing thread.
fn without_threads(dir: &std::path::Path) -> Storage {
    let engine = Engine::open(Arc::new(RealDisk), Arc::new(SystemClock), Options::new(dir));
    Storage::by_hand(engine.unwrap())
}

/// All that waits.
fn commit_by_hand(storage: &Storage) {
    while storage.engine().commit_step() == Step::Worked {}
}

/// `answers` gets the frame that it is in.
fn gather(storage: &Storage, ws: WriteSet, answers: &Arc<Mutex<Vec<Lsn>>>) {
    let answers = answers.clone();
    assert!(storage.gather(ws, move |outcome| answers.lock().push(outcome.unwrap().lsn)));
}

fn new_topic(name: &str) -> WriteSet {
    let topic = Change::CreateTopic {
        name: name.into(),
        partitions: 1,
        configs: BTreeMap::new(),
    };
    WriteSet {
        changes: vec![topic],
        ..WriteSet::default()
    }
}

/// The log of a topic, which no committing thread makes.
fn create_by_hand(storage: &Storage) -> LogId {
    storage.submit(new_topic("t"), |outcome| assert!(outcome.is_ok()));
    commit_by_hand(storage);
    storage.catalog().topic("t").unwrap().partitions[0]
}

#[test]
fn writes_that_gather_are_committed_together() {
    let dir = tempfile::tempdir().unwrap();
    let storage = without_threads(dir.path());
    let log = create_by_hand(&storage);
    let answers = Arc::default();
    (0..3).for_each(|_| gather(&storage, write_set(log, "x"), &answers));
    assert!(answers.lock().is_empty() && storage.has_work());
    assert!(storage.commit_gathered());
    let told = answers.lock().clone();
    assert!(told.len() == 3 && told.iter().all(|lsn| *lsn == told[0]), "{told:?}");
    assert!(!storage.has_work());
    assert!(storage.commit_gathered(), "there is nothing to do");
}

#[test]
fn what_takes_long_is_left_to_the_committing_thread() {
    let dir = tempfile::tempdir().unwrap();
    let storage = without_threads(dir.path());
    let log = create_by_hand(&storage);
    for long in [write_set(log, &"x".repeat(200 << 10)), new_topic("u")] {
        let answers = Arc::default();
        gather(&storage, long, &answers);
        assert!(!storage.commit_gathered());
        assert!(answers.lock().is_empty() && storage.has_work());
        commit_by_hand(&storage);
        assert_eq!(answers.lock().len(), 1);
    }
}

#[test]
fn what_has_gathered_waits_while_somebody_commits() {
    let dir = tempfile::tempdir().unwrap();
    let storage = without_threads(dir.path());
    let log = create_by_hand(&storage);
    let answers = Arc::default();
    gather(&storage, write_set(log, "x"), &answers);
    assert_eq!(storage.engine().commit_step(), Step::Worked);
    gather(&storage, write_set(log, "y"), &answers);
    assert!(!storage.commit_gathered(), "a group is under way");
    commit_by_hand(&storage);
    assert_eq!(answers.lock().len(), 2);
}

/// Of which nobody has told the committing thread.
#[test]
fn closing_commits_what_has_gathered() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path());
    let log = create(&storage, "t", 1, &[]).partitions[0];
    let (sender, receiver) = mpsc::channel();
    assert!(storage.gather(write_set(log, "x"), move |outcome| sender.send(outcome).unwrap()));
    storage.close();
    assert!(receiver.recv().unwrap().is_ok());
    drop(storage);
    assert_eq!(values(&open(dir.path()), log, 0).len(), 1);
}

#[test]
fn writes_from_many_threads_are_all_answered_wherever_they_are_committed() {
    const WRITES: i64 = 300;
    let dir = tempfile::tempdir().unwrap();
    let storage = Storage::open(Options {
        // The committing thread does not look for them by itself.
        idle_close_ms: 3_600_000,
        ..Options::new(dir.path())
    });
    let storage = storage.unwrap();
    let log = create(&storage, "t", 1, &[]).partitions[0];
    let offsets = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (storage, offsets) = (storage.clone(), &offsets);
            scope.spawn(move || {
                for number in 0..WRITES {
                    let (sender, receiver) = mpsc::channel();
                    let done = move |outcome| sender.send(outcome).unwrap();
                    match (thread + number) % 3 {
                        0 => storage.submit(write_set(log, "x"), done),
                        1 => storage.submit_here(write_set(log, "x"), done),
                        _ => {
                            let _ = storage.gather(write_set(log, "x"), done);
                            commit_all_gathered(&storage);
                        }
                    }
                    let receipt: Receipt = receiver.recv().unwrap().unwrap();
                    offsets.lock().push(receipt.appends[0].first_offset);
                }
            });
        }
    });
    let mut offsets = offsets.into_inner();
    offsets.sort_unstable();
    assert!(offsets.into_iter().eq(0..4 * WRITES));
    storage.close();
}

/// Whatever was acknowledged is there at the next start, and nobody waits for ever.
#[test]
fn closing_while_others_commit_here_answers_them() {
    for _ in 0..20 {
        let dir = tempfile::tempdir().unwrap();
        let storage = open(dir.path());
        let log = create(&storage, "t", 1, &[]).partitions[0];
        let begun = std::sync::Barrier::new(4);
        let acknowledged: usize = std::thread::scope(|scope| {
            let writers: Vec<_> = (0..3)
                .map(|_| {
                    scope.spawn(|| {
                        begun.wait();
                        let outcomes = std::iter::from_fn(|| {
                            let (sender, receiver) = mpsc::channel();
                            storage.submit_here(write_set(log, "x"), move |outcome| sender.send(outcome).unwrap());
                            receiver.recv().unwrap().ok()
                        });
                        outcomes.count()
                    })
                })
                .collect();
            begun.wait();
            while storage.ends(log).unwrap().high_watermark < 20 {
                std::thread::yield_now();
            }
            storage.close();
            writers.into_iter().map(|writer| writer.join().unwrap()).sum()
        });
        drop(storage);
        assert_eq!(values(&open(dir.path()), log, 0).len(), acknowledged);
    }
}

/// As it would be in the committing thread.
#[test]
fn a_panic_where_a_write_is_committed_answers_it_and_poisons() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path());
    let log = create(&storage, "t", 1, &[]).partitions[0];
    storage.on_publish(|published| assert_eq!(published.lsn, 0, "a bug"));
    let (sender, receiver) = mpsc::channel();
    storage.submit_here(write_set(log, "lost"), move |outcome| sender.send(outcome).unwrap());
    let outcome = receiver.recv().unwrap();
    assert!(
        matches!(&outcome, Err(WriteError::Poisoned(reason)) if reason.contains("panicked")),
        "{outcome:?}"
    );
    storage.close();
}

#[test]
fn a_panic_in_the_committing_thread_answers_everybody_and_poisons() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path());
    let log = create(&storage, "t", 1, &[]).partitions[0];
    append(&storage, log, &["before"]).unwrap();
    // The hook holds the committing thread until others wait behind the group that it is called for.
    let gate = Arc::new(Mutex::new(()));
    let closed = gate.lock();
    let (hook_gate, submitted) = (gate.clone(), mpsc::channel());
    storage.on_publish(move |published| {
        let _open = hook_gate.lock();
        assert_eq!(published.lsn, 0, "a bug");
    });
    for _ in 0..3 {
        let sender = submitted.0.clone();
        storage.submit(write_set(log, "lost"), move |outcome| sender.send(outcome).unwrap());
    }
    drop((closed, submitted.0));
    let told: Vec<_> = submitted.1.iter().collect();
    assert_eq!(told.len(), 3);
    assert!(
        told.iter()
            .all(|outcome| matches!(outcome, Err(WriteError::Poisoned(_))))
    );
    let later = append(&storage, log, &["later"]);
    assert!(
        matches!(&later, Err(WriteError::Poisoned(reason)) if reason.contains("panicked")),
        "{later:?}"
    );
    assert_eq!(values(&storage, log, 0)[0], "before");
    storage.close();
}

/// Its files are open, so that nothing fails by itself.
#[test]
fn a_directory_that_was_removed_or_replaced_takes_nothing_more() {
    takes_nothing_more(|data| std::fs::remove_dir_all(data));
    takes_nothing_more(|data| {
        std::fs::rename(data, data.with_extension("old")).and_then(|()| std::fs::create_dir(data))
    });
    takes_nothing_more(|data| std::fs::remove_file(data.join("lock")));
    takes_nothing_more(|data| {
        let lock = data.join("lock");
        std::fs::copy(&lock, data.join("other"))?;
        std::fs::rename(data.join("other"), lock)
    });
}

fn takes_nothing_more(after: impl Fn(&std::path::Path) -> std::io::Result<()>) {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let storage = Storage::open(Options::new(&data)).unwrap();
    let log = create(&storage, "t", 1, &[]).partitions[0];
    append(&storage, log, &["a"]).unwrap();
    let started = std::time::Instant::now();
    // It may be making a file just now.
    while after(&data).is_err() {
        assert!(started.elapsed().as_secs() < 30);
    }
    let refused = loop {
        match append(&storage, log, &["b"]) {
            Ok(_) => assert!(started.elapsed().as_secs() < 30),
            Err(error) => break error.to_string(),
        }
    };
    assert!(refused.contains("data directory is gone"), "{refused}");
}
