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

/// Repairs, after a plan that must come true and change nothing; then all is well, and there is nothing more to do.
fn repair(dir: &Path) -> Vec<Repaired> {
    let before = contents(dir);
    let plan = Directory::open(dir).unwrap().plan_repair().unwrap();
    assert!(before == contents(dir), "a plan has changed something");
    let repaired = Directory::open(dir).unwrap().repair().unwrap();
    assert_eq!(plan, repaired);
    let (findings, checked) = verify(dir);
    assert_eq!(checked.problems, 0, "{findings:?}");
    assert_eq!(Directory::open(dir).unwrap().repair().unwrap(), []);
    repaired
}

/// The log has these records, goes on behind them, knows what it was sent, and all of that lasts.
fn check_log(dir: &Path, log: LogId, end: i64) {
    let storage = open(dir);
    assert!(storage.health().fences.is_empty());
    assert_eq!(values(&storage, log), written(0..end));
    assert_eq!(append(&storage, log, end - 1), end - 1, "a producer that sends again");
    assert_eq!(append(&storage, log, end), end);
    drop(storage);
    let storage = open(dir);
    assert_eq!(values(&storage, log), written(0..end + 1));
}

fn fenced(dir: &Path) {
    let (findings, checked) = verify(dir);
    assert_eq!(checked.problems, 1, "{findings:?}");
    assert!(findings[0].advice.contains("repair"), "{findings:?}");
}

fn journals(dir: &Path) -> Vec<PathBuf> {
    let files = contents(&dir.join("journal"));
    files.into_keys().collect()
}

#[test]
fn what_the_journal_lost_and_segments_hold_comes_back() {
    for begun in [false, true] {
        let (dir, log) = example();
        for journal in journals(dir.path()) {
            std::fs::write(journal, b"").unwrap();
        }
        fenced(dir.path());
        if begun {
            // Whether a start has fenced the log already makes no difference.
            let storage = open(dir.path());
            assert_eq!(storage.health().fences.len(), 1);
            drop(storage);
            fenced(dir.path());
        }
        let repaired = repair(dir.path());
        assert_eq!(repaired.len(), 1);
        assert_eq!((repaired[0].kept_records, repaired[0].end), (30, 230), "{repaired:?}");
        assert_eq!(repaired[0].cuts, []);
        check_log(dir.path(), log, 230);
    }
}

#[test]
fn a_lost_frame_does_not_take_along_what_its_segment_holds() {
    let (dir, log) = example();
    let journal = journals(dir.path()).pop().unwrap();
    flip(&journal, 10 * 4096 + 200);
    fenced(dir.path());
    // No start has set the file aside yet: it is told as it is called.
    let (findings, _) = verify(dir.path());
    assert!(dir.path().join(&findings[0].file) == journal, "{findings:?}");
    assert!(!findings[0].what.contains(".damaged"), "{findings:?}");
    let repaired = repair(dir.path());
    assert!(
        repaired[0].fence.lsn > 0 && repaired[0].kept_records > 10,
        "{repaired:?}"
    );
    assert_eq!(repaired[0].end, 230);
    let (findings, _) = verify(dir.path());
    assert!(
        findings.len() == 1 && findings[0].file.ends_with(".damaged"),
        "{findings:?}"
    );
    check_log(dir.path(), log, 230);
}

#[test]
fn what_does_not_check_is_cut_and_said_to_be() {
    let (dir, log) = example();
    for journal in journals(dir.path()) {
        std::fs::write(journal, b"").unwrap();
    }
    let active = segments(dir.path(), log).pop().unwrap();
    let len = std::fs::metadata(&active).unwrap().len() as usize;
    flip(&active, len - 500);
    let repaired = repair(dir.path());
    let (end, cut) = (repaired[0].end, &repaired[0].cuts[0]);
    assert_eq!((repaired[0].cuts.len(), cut.position + cut.bytes), (1, len as u64));
    assert!((225..229).contains(&end), "{repaired:?}");
    assert_eq!(std::fs::metadata(&active).unwrap().len(), cut.position);
    check_log(dir.path(), log, end);
}

/// Zeros up to the end of the last page, as writes past the page cache leave them.
fn pad(dir: &Path, log: LogId) {
    for path in segments(dir, log) {
        let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
        let len = file.metadata().unwrap().len();
        file.set_len(len.next_multiple_of(4096)).unwrap();
    }
}

#[test]
fn what_fills_the_last_page_of_a_segment_is_no_damage() {
    let (dir, log) = example();
    let path = dir.path();
    pad(path, log);
    assert_eq!(verify(path).0, []);
    let mut text = Vec::new();
    let all = Selection {
        from: 0,
        max_batches: u64::MAX,
        records: false,
    };
    let directory = Directory::open(path).unwrap();
    directory.dump_partition("t", 0, all, &mut text).unwrap();
    drop(directory);
    let text = String::from_utf8(text).unwrap();
    assert!(
        text.contains("zeros up to the end of the file") && !text.contains("NOT WHOLE"),
        "{text}"
    );
    check_log(path, log, 230);
    // What the journal lost is found in segments, and there is nothing else to cut.
    let (dir, log) = example();
    for journal in journals(dir.path()) {
        std::fs::write(journal, b"").unwrap();
    }
    pad(dir.path(), log);
    let repaired = repair(dir.path());
    assert_eq!((repaired[0].end, repaired[0].cuts.len()), (230, 0), "{repaired:?}");
    pad(dir.path(), log);
    check_log(dir.path(), log, 230);
}

fn segments(dir: &Path, log: LogId) -> Vec<PathBuf> {
    let files = contents(&dir.join(format!("logs/{log}")));
    let mut segments: Vec<PathBuf> = files
        .into_keys()
        .filter(|path| path.extension().is_some_and(|e| e == "log"))
        .collect();
    segments.sort();
    segments
}

#[test]
fn a_log_goes_on_without_its_last_segment() {
    let (dir, log) = example();
    drop(open(dir.path()));
    let active = segments(dir.path(), log).pop().unwrap();
    let base: i64 = active.file_stem().unwrap().to_str().unwrap().parse().unwrap();
    std::fs::remove_file(&active).unwrap();
    let (findings, checked) = verify(dir.path());
    assert_eq!(checked.problems, 1, "{findings:?}");
    let lifted = Directory::open(dir.path()).unwrap().repair().unwrap();
    assert_eq!(lifted, [], "there is no fence");
    let storage = open(dir.path());
    assert!(matches!(
        storage.read(log, base, 1000),
        Err(crate::ReadError::Damaged { retriable: false, .. })
    ));
    assert_eq!(append(&storage, log, 230), 230);
    let read = storage.read(log, 230, 1000).unwrap().data;
    assert_eq!(decode_all(&read, 230, 1 << 20).unwrap().records.len(), 1);
}

#[test]
fn a_directory_in_use_is_not_looked_into() {
    let dir = tempfile::tempdir().unwrap();
    for missing in [dir.path().to_owned(), dir.path().join("nobody")] {
        let refused = Directory::open(&missing).err().unwrap().to_string();
        assert!(
            refused.contains(if missing.exists() { "is empty" } else { "does not exist" }),
            "{refused}"
        );
    }
    std::fs::write(dir.path().join("restoring"), "").unwrap();
    assert!(matches!(Directory::open(dir.path()), Err(OpenError::Restoring(_))));
    std::fs::remove_file(dir.path().join("restoring")).unwrap();
    let storage = open(dir.path());
    assert!(matches!(Directory::open(dir.path()), Err(OpenError::InUse(_))));
    drop(storage);
    assert_eq!(Directory::open(dir.path()).unwrap().repair().unwrap(), []);
}

#[test]
fn every_kind_of_file_can_be_shown() {
    let (dir, log) = example();
    let directory = Directory::open(dir.path()).unwrap();
    let all = Selection {
        from: 0,
        max_batches: u64::MAX,
        records: true,
    };
    let show = |file: &Path, selection| {
        let mut text = Vec::new();
        directory
            .dump_file(file, selection, &mut text)
            .map(|()| String::from_utf8(text).unwrap())
    };
    for path in contents(dir.path()).into_keys() {
        let name = path.file_name().unwrap().to_str().unwrap();
        if ["lock", "ballast"].contains(&name) {
            assert!(show(&path, all).is_err());
        } else {
            assert!(!show(&path, all).unwrap().is_empty(), "{name}");
        }
    }
    assert!(
        show(Path::new("manifest"), all)
            .unwrap()
            .contains("log 1 (t-0): offsets 0 to 200,")
    );
    let journal = show(&journals(dir.path()).pop().unwrap(), all).unwrap();
    assert!(
        journal.contains("above the checkpoint") && journal.contains("t-0 offsets 229 to 229"),
        "{journal}"
    );
    assert!(journal.contains(&format!("value \"{:0100}\"", 229)), "{journal}");

    let mut text = Vec::new();
    let some = Selection {
        from: 150,
        max_batches: 75,
        records: false,
    };
    directory.dump_partition("t", 0, some, &mut text).unwrap();
    let text = String::from_utf8(text).unwrap();
    assert!(
        text.contains("offsets 150 to 150") && text.contains("offsets 224 to 224"),
        "{text}"
    );
    assert_eq!(text.matches("1 records").count(), 75);
    assert!(directory.dump_partition("t", 1, some, &mut Vec::new()).is_err());

    let first = segments(dir.path(), log).remove(0);
    flip(&first, 300);
    let damaged = show(&first, all).unwrap();
    assert!(
        damaged.contains("NOT WHOLE at offset 1:") && damaged.contains("offsets 57 to 57"),
        "{damaged}"
    );
}

#[test]
fn a_segment_that_is_gone_keeps_what_the_journal_has_of_it() {
    let (dir, log) = example();
    let active = segments(dir.path(), log).pop().unwrap();
    std::fs::remove_file(&active).unwrap();
    let (findings, checked) = verify(dir.path());
    assert_eq!(checked.problems, 1, "{findings:?}");
    assert_eq!(Directory::open(dir.path()).unwrap().plan_repair().unwrap(), []);
    let storage = open(dir.path());
    assert!(storage.health().fences.is_empty());
    assert_eq!(storage.ends(log).unwrap().high_watermark, 230);
    let served: Vec<i64> = (0..230)
        .filter(|offset| storage.read(log, *offset, 1).is_ok())
        .collect();
    assert!(served.starts_with(&(0..174).collect::<Vec<_>>()), "{served:?}");
    assert!(
        served.ends_with(&[227, 228, 229]) && !served.contains(&180),
        "{served:?}"
    );
}
