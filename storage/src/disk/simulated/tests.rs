#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeSet;

use super::*;

fn rng(seed: u64) -> SmallRng {
    SmallRng::seed_from_u64(seed)
}

fn path(name: &str) -> PathBuf {
    Path::new("/").join(name)
}

/// A disk with a durable file "a" of these bytes.
fn disk_with(bytes: &[u8]) -> (SimulatedDisk, Arc<dyn DiskFile>) {
    let disk = SimulatedDisk::new(1);
    let file = disk.open(&path("a"), Open::CreateNew).unwrap();
    file.write_at(bytes, 0).unwrap();
    file.sync_data().unwrap();
    disk.sync_dir(&path("")).unwrap();
    (disk, file)
}

fn bytes(disk: &SimulatedDisk, name: &str) -> Option<Vec<u8>> {
    disk.files(|_| true).remove(&path(name))
}

/// What 200 different power cuts leave of "a".
fn outcomes(disk: &SimulatedDisk) -> BTreeSet<Option<Vec<u8>>> {
    (0..200)
        .map(|seed| bytes(&disk.cut_power(&mut rng(seed)), "a"))
        .collect()
}

#[test]
fn synced_bytes_survive_everything() {
    let (disk, _file) = disk_with(&[7; 1000]);
    assert_eq!(outcomes(&disk), BTreeSet::from([Some(vec![7; 1000])]));
}

#[test]
fn unsynced_sectors_survive_whole_or_not_at_all_in_any_subset() {
    let (disk, file) = disk_with(&[1; 4096]);
    file.write_at(&[2; 1024], 256).unwrap();
    let outcomes = outcomes(&disk);
    for outcome in &outcomes {
        let outcome = outcome.as_ref().unwrap();
        assert_eq!(outcome[..256], [1; 256]);
        assert_eq!(outcome[1280..], [1; 4096 - 1280]);
        for sector in [256..512, 512..1024, 1024..1280] {
            assert_eq!(BTreeSet::from_iter(&outcome[sector]).len(), 1);
        }
    }
    assert_eq!(outcomes.len(), 8);
}

#[test]
fn an_older_unsynced_version_may_be_what_survives() {
    let (disk, file) = disk_with(&[0; 512]);
    for version in 1..=3 {
        file.write_at(&[version; 512], 0).unwrap();
    }
    let firsts: BTreeSet<u8> = outcomes(&disk).iter().map(|o| o.as_ref().unwrap()[0]).collect();
    assert_eq!(firsts, BTreeSet::from([0, 1, 2, 3]));
}

#[test]
fn a_grown_size_needs_a_sync_and_holes_read_as_zeros() {
    let (disk, file) = disk_with(&[1; 10]);
    file.write_at(&[2; 10], 1000).unwrap();
    let lengths: BTreeSet<usize> = outcomes(&disk).iter().flatten().map(Vec::len).collect();
    assert!(lengths.len() > 2 && lengths.contains(&10) && lengths.contains(&1010));
    for outcome in outcomes(&disk).iter().flatten() {
        let hole = outcome.get(10..outcome.len().min(1000)).unwrap_or_default();
        assert!(hole.iter().all(|b| *b == 0));
    }
    file.sync_data().unwrap();
    assert_eq!(outcomes(&disk).len(), 1);
}

#[test]
fn a_cut_needs_sync_all() {
    let (disk, file) = disk_with(&[1; 2000]);
    file.set_len(700).unwrap();
    file.sync_data().unwrap();
    let lengths: BTreeSet<usize> = outcomes(&disk).iter().flatten().map(Vec::len).collect();
    assert_eq!(lengths, BTreeSet::from([700, 2000]));
    file.sync_all().unwrap();
    assert_eq!(outcomes(&disk), BTreeSet::from([Some(vec![1; 700])]));
    file.set_len(1000).unwrap();
    assert_eq!(bytes(&disk, "a").unwrap()[700..], [0; 300]);
}

#[test]
fn regrown_bytes_behind_an_unsynced_cut_are_zeros_once_synced() {
    let (disk, file) = disk_with(&[1; 9000]);
    file.set_len(100).unwrap();
    file.write_at(&[2; 10], 8000).unwrap();
    let expected = [vec![1; 100], vec![0; 7900], vec![2; 10]].concat();
    assert_eq!(bytes(&disk, "a").unwrap(), expected);
    assert!(outcomes(&disk).contains(&Some(vec![1; 9000])));
    file.sync_all().unwrap();
    assert_eq!(outcomes(&disk), BTreeSet::from([Some(expected)]));
}

#[test]
fn a_sync_of_the_file_system_covers_bytes_sizes_and_names() {
    let (disk, file) = disk_with(&[1; 2000]);
    let file_system = disk.file_system(&path("")).unwrap().unwrap();
    file.set_len(700).unwrap();
    disk.open(&path("b"), Open::CreateNew)
        .unwrap()
        .write_at(b"new", 0)
        .unwrap();
    file_system.sync().unwrap();
    for seed in 0..50 {
        let after = disk.cut_power(&mut rng(seed));
        assert_eq!(bytes(&after, "a"), Some(vec![1; 700]));
        assert_eq!(bytes(&after, "b"), Some(b"new".to_vec()));
    }
}

#[test]
fn a_sync_of_the_file_system_tells_of_every_failure_since_the_last() {
    let (disk, file) = disk_with(&[1; 512]);
    disk.fail_writeback(&path("a")).unwrap();
    let file_system = disk.file_system(&path("")).unwrap().unwrap();
    assert!(file_system.sync().is_err(), "nobody was told before");
    let later = disk.file_system(&path("")).unwrap().unwrap();
    later.sync().unwrap();
    file.write_at(&[2; 512], 0).unwrap();
    disk.fail_writeback(&path("a")).unwrap();
    assert!(file.sync_data().is_err(), "told to this description");
    assert!(file_system.sync().is_err(), "and to whoever syncs all");
    file_system.sync().unwrap();
    file.write_at(&[3; 512], 0).unwrap();
    disk.inject(Fault {
        on: Some(Operation::Sync),
        path: String::new(),
        skip: 0,
    });
    assert!(file_system.sync().is_err());
    file_system.sync().unwrap();
}

#[test]
fn names_need_sync_dir() {
    let (disk, _file) = disk_with(b"old");
    let new = disk.open(&path("b"), Open::CreateNew).unwrap();
    new.write_at(b"new", 0).unwrap();
    new.sync_all().unwrap();
    disk.rename(&path("b"), &path("a")).unwrap();
    let both = BTreeSet::from([Some(b"old".to_vec()), Some(b"new".to_vec())]);
    assert_eq!(outcomes(&disk), both);
    disk.sync_dir(&path("")).unwrap();
    assert_eq!(outcomes(&disk), BTreeSet::from([Some(b"new".to_vec())]));
    disk.remove_file(&path("a")).unwrap();
    assert_eq!(outcomes(&disk), BTreeSet::from([Some(b"new".to_vec()), None]));
}

#[test]
fn a_file_never_has_two_names_or_none() {
    for seed in 0..300 {
        let (disk, _file) = disk_with(b"x");
        disk.create_dir(&path("d")).unwrap();
        disk.rename(&path("a"), &path("b")).unwrap();
        disk.rename(&path("b"), &path("d/c")).unwrap();
        disk.rename(&path("d/c"), &path("e")).unwrap();
        if seed % 2 == 0 {
            disk.sync_dir(&path("d")).unwrap();
        }
        let left = disk.cut_power(&mut rng(seed));
        // With the directory "d" itself lost, what was renamed into it may be lost too.
        let count = left.files(|_| true).len();
        assert!(count == 1 || (count == 0 && !left.exists(&path("d")).unwrap()));
    }
}

#[test]
fn a_lost_directory_takes_its_files_along() {
    let disk = SimulatedDisk::new(1);
    disk.create_dir(&path("d")).unwrap();
    let file = disk.open(&path("d/f"), Open::CreateNew).unwrap();
    file.sync_all().unwrap();
    disk.sync_dir(&path("d")).unwrap();
    let lost = (0..50).filter(|s| disk.cut_power(&mut rng(*s)).files(|_| true).is_empty());
    assert!(lost.count() > 0);
    disk.sync_dir(&path("")).unwrap();
    assert!((0..50).all(|s| disk.cut_power(&mut rng(s)).files(|_| true).len() == 1));
}

#[test]
fn the_machine_can_stop_after_any_operation() {
    let (disk, file) = disk_with(&[1; 512]);
    disk.crash_after(1);
    file.write_at(&[2; 512], 0).unwrap();
    let error = file.sync_data().unwrap_err();
    assert!(error.to_string().contains("crash"));
    assert!(disk.has_crashed());
    assert!(file.read_at(&mut [0], 0).is_err() && disk.list(&path("")).is_err());
    // A sync that was cut short may or may not have happened.
    assert_eq!(outcomes(&disk).len(), 2);
    // Had only the process died, the page cache would still be there.
    assert_eq!(bytes(&disk.restart(), "a").unwrap(), [2; 512]);
}

#[test]
fn a_failed_sync_is_told_once_to_each_file_opened_before_and_loses_bytes() {
    let (disk, early) = disk_with(&[1; 512]);
    let also_early = disk.open(&path("a"), Open::ReadWrite).unwrap();
    early.write_at(&[2; 512], 0).unwrap();
    disk.inject(Fault {
        on: Some(Operation::Sync),
        path: "a".into(),
        skip: 0,
    });
    assert!(early.sync_data().is_err());
    let late = disk.open(&path("a"), Open::ReadWrite).unwrap();
    assert!(late.sync_data().is_ok());
    assert!(early.sync_data().is_ok());
    assert!(also_early.sync_data().is_err());
    assert!(also_early.sync_data().is_ok());
}

#[test]
fn pages_of_a_failed_write_back_turn_back_into_what_the_disk_holds() {
    let mut reverted = 0;
    for seed in 0..40 {
        let disk = SimulatedDisk::new(seed);
        let file = disk.open(&path("a"), Open::CreateNew).unwrap();
        file.write_at(&[1; 512], 0).unwrap();
        file.sync_all().unwrap();
        disk.sync_dir(&path("")).unwrap();
        file.write_at(&[2; 512], 0).unwrap();
        disk.fail_writeback(&path("a")).unwrap();
        assert!(file.sync_all().is_err());
        assert!(file.sync_all().is_ok(), "as Linux does");
        let on_disk = bytes(&disk.cut_power(&mut rng(seed)), "a").unwrap();
        let mut first = [0];
        file.read_at(&mut first, 0).unwrap();
        for _ in 0..100 {
            file.read_at(&mut first, 0).unwrap();
        }
        assert_eq!(first[0], on_disk[0], "after a while the page is evicted");
        reverted += usize::from(first[0] == 1);
    }
    assert!((5..35).contains(&reverted), "{reverted}");
}

#[test]
fn calls_fail_where_they_are_told_to() {
    let (disk, file) = disk_with(&[1; 512]);
    disk.inject(Fault {
        on: Some(Operation::Write),
        path: "a".into(),
        skip: 1,
    });
    file.write_at(&[2; 4], 0).unwrap();
    assert!(file.write_at(&[3; 4], 0).is_err());
    file.write_at(&[4; 4], 0).unwrap();
    disk.inject(Fault {
        on: None,
        path: String::new(),
        skip: 0,
    });
    assert!(disk.remove_file(&path("a")).is_err());
    assert!(disk.exists(&path("a")).unwrap());
    disk.inject(Fault {
        on: Some(Operation::SyncDir),
        path: String::new(),
        skip: 9,
    });
    disk.sync_dir(&path("")).unwrap();
    assert_eq!(disk.clear_faults(), 1);
}

#[test]
fn space_runs_out_and_comes_back() {
    let (disk, file) = disk_with(&[1; 4096]);
    disk.set_capacity(Some(8192));
    assert_eq!(disk.free_bytes(&path("")).unwrap(), 4096);
    file.allocate(4096, 4096).unwrap();
    assert_eq!(disk.free_bytes(&path("")).unwrap(), 0);
    let full = file.write_at(&[1; 1], 8192).unwrap_err();
    assert_eq!(full.kind(), io::ErrorKind::StorageFull);
    file.write_at(&[1; 100], 8000).unwrap();
    file.set_len(10).unwrap();
    assert_eq!(disk.free_bytes(&path("")).unwrap(), 4096);
}

#[test]
fn allocated_bytes_are_zeros() {
    let (disk, file) = disk_with(&[9; 10_000]);
    file.allocate(5000, 20_000).unwrap();
    let seen = bytes(&disk, "a").unwrap();
    assert_eq!(seen.len(), 25_000);
    assert!(seen[..5000].iter().all(|b| *b == 9) && seen[5000..].iter().all(|b| *b == 0));
}

#[test]
fn flipped_bits_stay() {
    let (disk, file) = disk_with(&[0; 600]);
    disk.flip_bit(&path("a"), 555, 3).unwrap();
    let mut byte = [0];
    file.read_at(&mut byte, 555).unwrap();
    assert_eq!(byte, [8]);
    assert_eq!(bytes(&disk.cut_power(&mut rng(0)), "a").unwrap()[555], 8);
}

#[test]
fn a_fork_is_independent_and_a_run_repeats_itself() {
    let run = |seed| {
        let disk = SimulatedDisk::new(seed);
        let file = disk.open(&path("a"), Open::CreateNew).unwrap();
        for i in 0..50_u8 {
            file.write_at(&[i; 700], u64::from(i) * 300).unwrap();
        }
        disk.fail_writeback(&path("a")).unwrap();
        disk
    };
    let (one, two) = (run(5), run(5));
    assert_eq!(one.history(), two.history());
    let left = |disk: &SimulatedDisk| disk.cut_power(&mut rng(3)).files(|_| true);
    assert_eq!(left(&one), left(&two));
    let fork = one.fork();
    fork.remove_file(&path("a")).unwrap();
    assert!(one.exists(&path("a")).unwrap());
    assert_ne!(fork.history(), one.history());
}

#[test]
fn locks_exclude_until_dropped_or_restarted() {
    let disk = SimulatedDisk::new(1);
    let held = disk.lock(&path("lock")).unwrap();
    let refused = disk.lock(&path("lock")).err().unwrap();
    assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
    disk.restart().lock(&path("lock")).unwrap();
    drop(held);
    disk.lock(&path("lock")).unwrap();
}

#[test]
fn wrong_kinds_are_refused() {
    let (disk, _file) = disk_with(b"x");
    let kind = |r: io::Result<()>| r.unwrap_err().kind();
    disk.create_dir(&path("d")).unwrap();
    disk.open(&path("d/f"), Open::CreateNew).unwrap();
    assert_eq!(kind(disk.remove_dir(&path("d"))), io::ErrorKind::DirectoryNotEmpty);
    assert_eq!(kind(disk.remove_file(&path("d"))), io::ErrorKind::InvalidInput);
    assert_eq!(kind(disk.remove_file(&path("no"))), io::ErrorKind::NotFound);
    assert!(disk.open(&path("a"), Open::CreateNew).is_err());
    let reader = disk.open(&path("a"), Open::Read).unwrap();
    assert_eq!(kind(reader.write_at(b"y", 0)), io::ErrorKind::PermissionDenied);
}
