//! Many seeds; one seed again; and the bugs that were planted for the simulation to find.

use super::*;

/// The seed to look at, if one was asked for.
fn asked() -> Option<u64> {
    std::env::var("RIVERLOG_SEED").ok()?.parse().ok()
}

#[test]
fn seeds_pass() {
    if let Some(seed) = asked() {
        println!("{:#?}", run(seed).unwrap());
        return;
    }
    let count = std::env::var("RIVERLOG_SEEDS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(2_000);
    let first = std::env::var("RIVERLOG_FIRST_SEED")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(0_u64);
    let threads = 2;
    let failures = Mutex::new(Vec::new());
    let total = Mutex::new(Report::default());
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let (failures, total) = (&failures, &total);
            scope.spawn(move || {
                for seed in (first..first + count).filter(|s| s % threads == thread) {
                    match std::panic::catch_unwind(|| run(seed)) {
                        Ok(Ok(report)) => total.lock().add(&report),
                        Ok(Err(violation)) => failures.lock().push(violation),
                        Err(_) => failures.lock().push(format!("seed {seed} panicked")),
                    }
                }
            });
        }
    });
    println!("{:#?}", total.lock());
    let failures = failures.lock();
    for failure in failures.iter().take(20) {
        println!("{failure}");
    }
    assert!(
        failures.is_empty(),
        "{} seeds failed; RIVERLOG_SEED=n runs one again",
        failures.len()
    );
}

impl Report {
    fn add(&mut self, other: &Report) {
        self.acknowledged += other.acknowledged;
        self.refused += other.refused;
        self.crashes += other.crashes;
        self.power_cuts += other.power_cuts;
        self.crashes_in_recovery += other.crashes_in_recovery;
        self.faults += other.faults;
        self.damages += other.damages;
        self.fences += other.fences;
        self.refused_starts += other.refused_starts;
        self.unstable_starts += other.unstable_starts;
        self.backups += other.backups;
        self.operations += other.operations;
    }
}

#[test]
fn a_seed_repeats_itself_to_the_byte() {
    for seed in 0..24 {
        assert_eq!(run(seed), run(seed), "seed {seed}");
    }
}

#[cfg(feature = "planted")]
mod planted {
    use super::*;
    use crate::planted::{Planted, plant};

    /// The first seed that finds the bug.
    fn found(bug: Planted) -> Option<(u64, Violation)> {
        let count = std::env::var("RIVERLOG_SEEDS")
            .ok()
            .and_then(|n| n.parse().ok())
            .unwrap_or(2_000);
        let finder = std::thread::spawn(move || {
            plant(Some(bug));
            (0..count).find_map(|seed| match std::panic::catch_unwind(|| run(seed)) {
                Ok(Ok(_)) => None,
                Ok(Err(violation)) => Some((seed, violation)),
                Err(_) => Some((seed, "panicked".into())),
            })
        });
        finder.join().unwrap()
    }

    macro_rules! each_is_found {
        ($($test:ident: $bug:ident,)+) => {
            $(#[test]
            fn $test() {
                let found = found(Planted::$bug);
                println!("{:?}: {found:?}", Planted::$bug);
                assert!(found.is_some(), "{:?} is not found", Planted::$bug);
            })+
        };
    }

    each_is_found! {
        skip_sync: SkipSync,
        publish_before_sync: PublishBeforeSync,
        trust_segment: TrustSegment,
        drop_job_state: DropJobState,
        retry_sync: RetrySync,
        damage_is_torn_tail: DamageIsTornTail,
        trim_before_manifest: TrimBeforeManifest,
        skip_segment_sync: SkipSegmentSync,
        answer_before_published: AnswerBeforePublished,
        ignore_position: IgnorePosition,
        body_unchecked: BodyUnchecked,
        no_previous_ends: NoPreviousEnds,
        skip_journal_directory_sync: SkipJournalDirectorySync,
        fix_checkpoint_late: FixCheckpointLate,
        skip_directory_sync: SkipDirectorySync,
        newest_snapshot: NewestSnapshot,
        trust_manifest_name: TrustManifestName,
        remove_at_once: RemoveAtOnce,
        accept_unstable_frame: AcceptUnstableFrame,
        skip_below_start: SkipBelowStart,
        keep_unnamed_segments: KeepUnnamedSegments,
        forget_fences: ForgetFences,
        sync_through_new_description: SyncThroughNewDescription,
        forget_failed_sync_ahead: ForgetFailedSyncAhead,
        forget_failed_file_system_sync: ForgetFailedFileSystemSync,
        read_unchecked: ReadUnchecked,
        damage_above_checkpoint: DamageAboveCheckpoint,
        unpinned_backup: UnpinnedBackup,
        extent_unsynced: ExtentUnsynced,
        extent_name_unsynced: ExtentNameUnsynced,
        extent_unchecked: ExtentUnchecked,
        extent_shown_early: ExtentShownEarly,
        forget_tail: ForgetTail,
        slice_unwritten: SliceUnwritten,
    }
}

/// Runs the cases of a campaign on two threads, and says which failed.
fn exhaust(cases: usize, case: impl Fn(usize) -> Result<(), Violation> + Sync) {
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let (failures, case) = (&failures, &case);
            scope.spawn(move || {
                for number in (thread..cases).step_by(2) {
                    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| case(number))) {
                        Ok(Ok(())) => {}
                        Ok(Err(violation)) => failures.lock().push(violation),
                        Err(_) => failures.lock().push(format!("case {number} panicked")),
                    }
                }
            });
        }
    });
    let failures = failures.into_inner();
    for failure in failures.iter().take(20) {
        println!("{failure}");
    }
    assert!(failures.is_empty(), "{} of {cases} cases failed", failures.len());
}

#[test]
fn no_harm_to_one_file_goes_unnoticed() {
    let rot = bit_rot::BitRot::new().unwrap();
    let verdicts = Mutex::new(std::collections::BTreeMap::new());
    exhaust(rot.cases(), |case| {
        let (kind, _, verdict) = rot.run(case)?;
        *verdicts.lock().entry((kind, verdict)).or_insert(0_u64) += 1;
        Ok(())
    });
    println!("{} cases: {:?}", rot.cases(), verdicts.into_inner());
}

#[test]
fn no_failing_call_loses_anything() {
    use crate::disk::simulated::Operation;
    use disk_faults::{FAILURES, Failure, run};
    exhaust(FAILURES.len(), |failure| {
        let mut together = 0;
        let struck = (0..)
            .map(|call| run(FAILURES[failure], call))
            .take_while(|ran| !matches!(ran, Ok(None)))
            .inspect(|ran| together += u32::from(*ran == Ok(Some((Operation::Sync, "file system")))));
        let failed: Vec<Violation> = struck.filter_map(Result::err).take(20).collect();
        let syncs_fail = matches!(FAILURES[failure], Failure::Error | Failure::Death | Failure::PowerCut);
        assert!(
            together > 0 || !syncs_fail,
            "no sync of the whole file system was struck"
        );
        if failed.is_empty() {
            Ok(())
        } else {
            Err(failed.join("\n"))
        }
    });
}
