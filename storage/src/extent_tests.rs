//! Runs that went straight to their segments: which do, and what a start makes of those that are damaged.

use std::path::PathBuf;

use rand::SeedableRng;
use rand::rngs::SmallRng;

use super::*;
use crate::batch::BatchBuilder;
use crate::clock::ManualClock;
use crate::disk::simulated::{Fault, Operation};
use crate::disk::{RealDisk, SimulatedDisk};
use crate::engine::Engine;
use crate::error::OpenError;
use crate::inspect::Directory;
use crate::options::Options;
use crate::record::{Record, decode_batch};
use crate::segment::SegmentFile;
use crate::write_set::{Append, Change, WriteSet};
use crate::{Step, Topic};

const DIR: &str = "/data";
const EXTENT_BYTES: u64 = 1000;

fn open(disk: &SimulatedDisk) -> Engine {
    try_open(disk).unwrap()
}

fn try_open(disk: &SimulatedDisk) -> Result<Engine, OpenError> {
    let options = Options {
        extent_bytes: EXTENT_BYTES,
        ..Options::new(DIR)
    };
    Engine::open(Arc::new(disk.clone()), Arc::new(ManualClock::new(1)), options)
}

fn append(log: LogId, value_bytes: usize) -> Append {
    append_value(log, vec![b'v'; value_bytes])
}

fn append_value(log: LogId, value: Vec<u8>) -> Append {
    let mut builder = BatchBuilder::new();
    builder.push(Record {
        key: None,
        value: Some(value.into()),
        headers: vec![],
        timestamp_ms: 1,
    });
    Append {
        log,
        batches: builder.build().unwrap(),
        log_append_time: false,
    }
}

fn create(name: &str, partitions: u32) -> Change {
    Change::CreateTopic {
        name: name.into(),
        partitions,
        configs: Default::default(),
    }
}

fn submit(engine: &Engine, appends: Vec<Append>, changes: Vec<Change>) {
    let ws = WriteSet {
        appends,
        changes,
        ..WriteSet::default()
    };
    engine.submit(ws, |outcome| {
        outcome.unwrap();
    });
}

fn commit(engine: &Engine) {
    while engine.commit_step() != Step::Idle {}
}

fn topic(engine: &Engine, name: &str) -> Arc<Topic> {
    engine.catalog().topic(name).unwrap().clone()
}

fn segment_path(log: LogId) -> PathBuf {
    crate::state::segment_path(Path::new(DIR), log, 0)
}

/// A disk with a topic of two partitions, each with a run that went straight to its segment and one that did not.
fn disk() -> (SimulatedDisk, Vec<LogId>) {
    let disk = SimulatedDisk::new(1);
    let engine = open(&disk);
    submit(&engine, vec![], vec![create("t", 2)]);
    commit(&engine);
    let logs = topic(&engine, "t").partitions.clone();
    for log in &logs {
        submit(&engine, vec![append(*log, 2000)], vec![]);
        commit(&engine);
    }
    drop(engine);
    (disk.restart(), logs)
}

fn journal_bytes(engine: &Engine) -> u64 {
    engine.stats().journal_bytes
}

#[test]
fn the_largest_runs_of_a_group_are_written_once() {
    let disk = SimulatedDisk::new(1);
    let engine = open(&disk);
    submit(&engine, vec![], vec![create("t", 6)]);
    commit(&engine);
    let logs = topic(&engine, "t").partitions.clone();
    let before = journal_bytes(&engine);
    // Two batches of the same log are one run, whatever is between them.
    for _ in 0..2 {
        let appends = logs
            .iter()
            .map(|log| append(*log, 2000 + 100 * *log as usize))
            .collect();
        submit(&engine, appends, vec![]);
    }
    commit(&engine);
    let inline: u64 = logs[..2].iter().map(|log| 2 * (2000 + 100 * log)).sum();
    let written = journal_bytes(&engine) - before;
    assert!(written > inline && written < inline + 1500, "{written} for {inline}");
}

#[test]
fn a_log_that_its_own_group_creates_is_written_through_the_journal() {
    let disk = SimulatedDisk::new(1);
    let engine = open(&disk);
    // In one group.
    submit(&engine, vec![], vec![create("t", 1)]);
    submit(&engine, vec![append(1, 5000)], vec![]);
    assert!(!disk.exists(&segment_path(1)).unwrap());
    engine.commit_step();
    assert!(
        !disk.exists(segment_path(1).parent().unwrap()).unwrap(),
        "before its frame is durable"
    );
    commit(&engine);
    assert_eq!(engine.ends(1).unwrap().high_watermark, 1);
}

#[test]
fn what_is_not_acknowledged_is_no_batch_behind_the_end() {
    let (disk, logs) = disk();
    let engine = open(&disk);
    submit(&engine, vec![append(logs[0], 3000)], vec![]);
    // Written and synced; the process dies, and the frame is lost.
    engine.commit_step();
    let before = disk.paths()[&segment_path(logs[0])];
    engine.commit_step();
    assert!(disk.paths()[&segment_path(logs[0])] > before);
    let files = disk.files(|path| path.extension().is_some_and(|e| e == "journal"));
    drop(engine);
    let disk = disk.restart();
    for path in files.keys() {
        disk.open(path, Open::ReadWrite).unwrap().set_len(0).unwrap();
    }
    let engine = open(&disk);
    assert!(engine.health().fences.is_empty());
    assert_eq!(engine.ends(logs[0]).unwrap().high_watermark, 1);
}

#[test]
fn a_damaged_extent_of_the_last_group_fences_its_log_alone() {
    let (disk, logs) = disk();
    let segment = disk.open(&segment_path(logs[1]), Open::ReadWrite).unwrap();
    segment.write_at(b"rot", 500).unwrap();
    let engine = open(&disk);
    let fences = engine.health().fences;
    assert_eq!(fences.len(), 1, "{fences:?}");
    assert_eq!((fences[0].log, fences[0].offset, fences[0].position), (logs[1], 0, 0));
    assert!(
        fences[0].reason().contains("00000000000000000000.log"),
        "{}",
        fences[0].reason()
    );
    assert_eq!(engine.ends(logs[0]).unwrap().high_watermark, 1);
    assert!(engine.read(logs[0], 0, 10_000).unwrap().data.len() > 2000);
}

/// Of a batch's header the batch's own checksum covers the last 40 bytes.
#[test]
fn the_front_of_every_header_is_under_the_extents_checksum() {
    const LEADER_EPOCH_AT: u64 = 12;
    let (disk, logs) = disk();
    let engine = open(&disk);
    let before = disk.paths()[&segment_path(logs[0])];
    // One run of two batches, of the same size.
    for _ in 0..2 {
        submit(&engine, vec![append(logs[0], 2000)], vec![]);
    }
    commit(&engine);
    let batch_bytes = (disk.paths()[&segment_path(logs[0])] - before) / 2;
    drop(engine);
    for at in [before, before + batch_bytes] {
        for changed in [0, 1] {
            let disk = disk.restart().fork();
            let segment = disk.open(&segment_path(logs[0]), Open::ReadWrite).unwrap();
            let mut byte = [0];
            segment.read_at(&mut byte, at + LEADER_EPOCH_AT + 3).unwrap();
            byte[0] ^= changed;
            segment.write_at(&byte, at + LEADER_EPOCH_AT + 3).unwrap();
            let fences = open(&disk).health().fences.len();
            assert_eq!(fences, usize::from(changed != 0), "at {at}");
        }
    }
}

#[test]
fn a_start_reads_an_extent_and_writes_only_the_byte_that_was_withheld() {
    let (disk, logs) = disk();
    // Only the byte had not reached the disk.
    disk.open(&segment_path(logs[0]), Open::ReadWrite)
        .unwrap()
        .write_at(&[0], WITHHELD_AT as u64)
        .unwrap();
    let engine = open(&disk);
    assert!(engine.health().fences.is_empty());
    assert!(engine.read(logs[0], 0, 10_000).unwrap().data.len() > 2000);
}

#[test]
fn a_part_that_was_applied_proves_the_last_group_of_which_an_extent_is_gone() {
    let (disk, logs) = disk();
    let engine = open(&disk);
    submit(&engine, vec![append(logs[0], 2000), append(logs[1], 10)], vec![]);
    commit(&engine);
    drop(engine);
    let disk = disk.restart();
    // As if it had never been written.
    disk.remove_file(&segment_path(logs[0])).unwrap();
    let engine = open(&disk);
    let fences = engine.health().fences;
    assert_eq!(fences.iter().map(|fence| fence.log).collect::<Vec<_>>(), [logs[0]]);
    assert_eq!(engine.ends(logs[1]).unwrap().high_watermark, 2);
    assert_eq!(engine.read(logs[1], 1, 1).unwrap().high_watermark, 2);
}

#[test]
fn a_repair_keeps_the_extents_before_the_damaged_one_though_they_lacked_their_byte() {
    let (disk, logs) = disk();
    let engine = open(&disk);
    let mut ends = Vec::new();
    for _ in 0..3 {
        submit(&engine, vec![append(logs[0], 2000)], vec![]);
        commit(&engine);
        ends.push(engine.shared.state.read().logs[&logs[0]].segments[0].size_bytes);
    }
    engine.close_idle_step();
    drop(engine);
    let disk = disk.restart();
    let segment = disk.open(&segment_path(logs[0]), Open::ReadWrite).unwrap();
    // A power cut took the bytes that were written last, and then something rots.
    let starts = [ends[0] - (ends[1] - ends[0]), ends[0], ends[1]];
    for start in starts {
        segment.write_at(&[0], start + WITHHELD_AT as u64).unwrap();
    }
    segment.write_at(b"rot", ends[1] + 500).unwrap();
    let directory = Directory::on(Arc::new(disk.clone()), DIR.into()).unwrap();
    let repaired = directory.repair().unwrap();
    assert_eq!(repaired.len(), 1, "{repaired:?}");
    assert_eq!(repaired[0].end, 3, "{repaired:?}");
    let engine = open(&disk.restart());
    assert!(engine.health().fences.is_empty());
    assert_eq!(engine.ends(logs[0]).unwrap().high_watermark, 3);
}

/// A start dies while it cuts a tail off the active segment, so that only the page cache has the cut. The next start finds
/// nothing to cut, the log goes on in another segment, and then the power goes.
#[test]
fn a_cut_is_durable_before_the_log_goes_on_in_another_segment() {
    for (seed, checkpoint) in (0..20).flat_map(|seed| [(seed, false), (seed, true)]) {
        let disk = SimulatedDisk::new(seed);
        let engine = open(&disk);
        let mut create = create("t", 1);
        if let Change::CreateTopic { configs, .. } = &mut create {
            configs.insert("segment.bytes".into(), "5000".into());
        }
        submit(&engine, vec![], vec![create]);
        commit(&engine);
        let log = topic(&engine, "t").partitions[0];
        submit(&engine, vec![append(log, 2000)], vec![]);
        commit(&engine);
        let size = engine.shared.state.read().logs[&log].segments[0].size_bytes;
        drop(engine);
        let disk = disk.restart();
        drop(open(&disk));

        let segment = disk.open(&segment_path(log), Open::ReadWrite).unwrap();
        segment.write_at(&[0; 3000], size).unwrap();
        segment.sync_all().unwrap();
        let disk = disk.restart();
        disk.crash_at(Fault {
            on: Some(Operation::SetLen),
            path: ".log".into(),
            skip: 0,
        });
        assert!(try_open(&disk).is_err());
        let disk = disk.restart();
        let engine = open(&disk);
        submit(&engine, vec![append(log, 4000)], vec![]);
        commit(&engine);
        while checkpoint && engine.checkpoint_step().unwrap() {}
        drop(engine);

        let disk = disk.cut_power(&mut SmallRng::seed_from_u64(seed));
        let engine = open(&disk);
        assert_eq!(engine.ends(log).unwrap().high_watermark, 2);
        assert_eq!(disk.paths()[&segment_path(log)], size, "seed {seed}");
    }
}

#[test]
fn the_page_cache_is_for_those_who_read_soon() {
    let file = SegmentFile::new("/data/logs/1/0.log".into());
    assert!(file.is_unread(32 << 20), "nobody has read it");
    file.note_read();
    assert!(!file.is_unread(32 << 20));
    file.note_grown(31 << 20);
    assert!(!file.is_unread(32 << 20));
    let next = SegmentFile::new("/data/logs/1/1.log".into());
    next.note_follows(&file);
    assert!(!next.is_unread(32 << 20));
    for file in [file, next] {
        file.note_grown(1 << 20);
        assert!(file.is_unread(32 << 20), "nobody has for a while");
        file.note_read();
        assert!(!file.is_unread(32 << 20));
    }
}

/// By the machine's disk, past its page cache where it can be done, and through it. More logs than a group may have extents, so
/// that some large runs go through the journal as well.
#[test]
fn what_nobody_reads_soon_is_read_later_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let open = || {
        let options = Options::new(dir.path());
        Engine::open(Arc::new(RealDisk), Arc::new(ManualClock::new(1)), options).unwrap()
    };
    let value = |log: LogId, offset: usize| -> Vec<u8> {
        let size = [300_000, 1, 262_144, 2_500_000, 4_000, 700_001, 100_000][offset % 7] + log as usize;
        (0..size).map(|at| (at * 7 + offset + log as usize) as u8).collect()
    };
    let mut engine = open();
    submit(&engine, vec![], vec![create("t", 6)]);
    commit(&engine);
    let logs = topic(&engine, "t").partitions.clone();
    let segment = |engine: &Engine, log| engine.shared.state.read().logs[&log].segments[0].file.clone();
    let check = |engine: &Engine, log, offset| {
        let data = engine.read(log, offset as i64, 1).unwrap().data;
        let records = decode_batch(&data, 4 << 20).unwrap();
        assert!(
            *records[0].value.as_ref().unwrap() == value(log, offset),
            "{offset} of {log}"
        );
    };
    const COUNT: usize = 24;
    for offset in 0..COUNT {
        let appends = logs.iter().map(|log| append_value(*log, value(*log, offset)));
        submit(&engine, appends.collect(), vec![]);
        commit(&engine);
        for log in &logs {
            // Each of them is at times read, and at times not.
            let file = segment(&engine, *log);
            match (offset + *log as usize) % 5 {
                0 => check(&engine, *log, offset),
                1 => check(&engine, *log, offset / 2),
                2 => file.note_grown(32 << 20),
                _ => {}
            }
        }
        if offset % 10 == 7 {
            drop(engine);
            engine = open();
        }
    }
    assert!(segment(&engine, logs[0]).is_unread(32 << 20) != segment(&engine, logs[1]).is_unread(32 << 20));
    for _ in 0..2 {
        for log in &logs {
            (0..COUNT).for_each(|offset| check(&engine, *log, offset));
        }
        drop(engine);
        engine = open();
    }
}
