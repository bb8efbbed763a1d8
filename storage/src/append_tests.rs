use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::disk::{Disk, Open, RealDisk, SimulatedDisk};

const PAST_CACHE: Way = Way::PastCache { but_bytes: 0 };

fn open(disk: &dyn Disk, dir: &Path) -> (SegmentFile, Handles) {
    let file = SegmentFile::new(dir.join("segment"));
    let handles = file.handles(disk, Open::CreateNew).unwrap();
    (file, handles)
}

fn real() -> (tempfile::TempDir, Arc<dyn Disk>) {
    (tempfile::tempdir().unwrap(), Arc::new(RealDisk))
}

/// Runs of any size by any way stand one behind the other, and behind the last there is at most padding.
fn appends_any_runs(disk: &dyn Disk, dir: &Path, seed: u64) {
    let (file, handles) = open(disk, dir);
    let (page, mut rng) = (handles.writer.page_bytes(), SmallRng::seed_from_u64(seed));
    let mut expected = Vec::new();
    for _ in 0..60 {
        let len = match rng.random_range(0..4) {
            0 => rng.random_range(1..40),
            1 => page - expected.len() as u64 % page,
            _ => rng.random_range(1..5 * page),
        };
        let run: Vec<u8> = (0..len).map(|_| rng.random_range(1..=255)).collect();
        let pieces: Vec<&[u8]> = run.chunks(rng.random_range(1..3000)).collect();
        let but_bytes = [0, 0, 17][rng.random_range(0..3)];
        let way = [Way::ThroughCache, Way::PastCache { but_bytes }, PAST_CACHE][rng.random_range(0..3)];
        let position = expected.len() as u64;
        let unsynced_bytes = file.append(&handles, &pieces, position, way).unwrap();
        assert!(unsynced_bytes < len + page);
        expected.extend_from_slice(&run);
        let mut there = vec![0xff; expected.len() + 2 * page as usize];
        let read = handles.writer.read_at(&mut there, 0).unwrap();
        assert!(there[..expected.len()] == expected, "seed {seed}: {way:?}");
        assert!(there[expected.len()..read].iter().all(|byte| *byte == 0));
        assert!(is_padding(&*handles.writer, expected.len() as u64, page).unwrap());
        assert!(!is_padding(&*handles.writer, expected.len() as u64 - 1, page).unwrap());
    }
}

#[test]
fn runs_of_any_size_stand_one_behind_the_other() {
    for seed in 0..200 {
        let disk = SimulatedDisk::new(seed);
        disk.create_dir(Path::new("/d")).unwrap();
        appends_any_runs(&disk, Path::new("/d"), seed);
    }
    for seed in 0..10 {
        let (dir, disk) = real();
        appends_any_runs(&*disk, dir.path(), seed);
    }
}

#[test]
fn whole_pages_past_the_cache_leave_nothing_for_a_sync() {
    let disk = SimulatedDisk::new(1);
    disk.create_dir(Path::new("/d")).unwrap();
    let (file, handles) = open(&disk, Path::new("/d"));
    let page = handles.writer.page_bytes();
    let run = vec![7; 3 * page as usize + 10];
    let mut position = 0;
    let mut append = |run: &[u8], way| {
        let unsynced_bytes = file.append(&handles, &[run], position, way).unwrap();
        position += run.len() as u64;
        unsynced_bytes
    };
    assert_eq!(append(&run, PAST_CACHE), 0);
    // The ten bytes before are written once more.
    assert_eq!(append(&run, PAST_CACHE), 0);
    assert_eq!(append(b"small", Way::ThroughCache), 20 + 5);
    // What stands in the page before is in the page cache now, and is not known here.
    assert_eq!(append(&run, PAST_CACHE), page - 25);
    // The page before, and what is written again later.
    let unsynced_bytes = append(&run, Way::PastCache { but_bytes: 17 });
    assert!(unsynced_bytes >= 17 && unsynced_bytes <= 2 * page, "{unsynced_bytes}");
}

/// A start knows nothing of the page before; neither does what comes to another place.
#[test]
fn only_what_stands_right_before_a_run_is_written_again() {
    let disk = SimulatedDisk::new(1);
    disk.create_dir(Path::new("/d")).unwrap();
    let (file, handles) = open(&disk, Path::new("/d"));
    let page = handles.writer.page_bytes();
    let run = vec![7; page as usize + 10];
    file.append(&handles, &[&run], 0, PAST_CACHE).unwrap();
    let elsewhere = page + 20;
    file.append(&handles, &[&run], elsewhere, PAST_CACHE).unwrap();
    let mut there = vec![0; 3 * page as usize];
    handles.writer.read_at(&mut there, 0).unwrap();
    let end = elsewhere as usize + run.len();
    assert!(
        there[..run.len()]
            .iter()
            .chain(&there[elsewhere as usize..end])
            .all(|byte| *byte == 7)
    );
    assert!(there[run.len()..elsewhere as usize].iter().all(|byte| *byte == 0));
}

/// Whoever reads what was there sees it the whole time, also in the page that is written again past the page cache.
#[test]
fn readers_see_what_was_there_while_its_page_is_written_again() {
    let (dir, disk) = real();
    let (file, handles) = open(&*disk, dir.path());
    let byte_at = |at: u64| (at % 251) as u8;
    let (end, is_done) = (AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut there = vec![0; 9000];
                while !is_done.load(Ordering::Acquire) {
                    let end = end.load(Ordering::Acquire);
                    let from = end.saturating_sub(there.len() as u64);
                    let read = handles.writer.read_at(&mut there, from).unwrap() as u64;
                    assert!(from + read >= end);
                    let shown = (from..end).zip(&there);
                    shown.for_each(|(at, byte)| assert_eq!(*byte, byte_at(at), "{at} of {end}"));
                }
            });
        }
        for number in 0..1500_u64 {
            let position = end.load(Ordering::Acquire);
            let len = [70_001, 5_000, 100, 16_384][number as usize % 4];
            let run: Vec<u8> = (position..position + len).map(byte_at).collect();
            let way = [PAST_CACHE, PAST_CACHE, Way::ThroughCache][number as usize % 3];
            file.append(&handles, &[&run], position, way).unwrap();
            end.store(position + len, Ordering::Release);
        }
        is_done.store(true, Ordering::Release);
    });
}
