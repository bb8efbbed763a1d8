//! Threads that wait for the disk, so that it has several things to do at a time.

use std::io;
use std::sync::LazyLock;

use parking_lot::Mutex;
use rayon_core::{ThreadPool, ThreadPoolBuilder};

use super::Job;

/// More concurrent syncs than this gain nothing more: a thousand small files take half as long as with sixteen.
const MAX_JOBS_AT_ONCE: usize = 64;

/// For a few jobs, with the one who has them. More spend more time looking for work than they save.
const WORKERS: usize = 4;

/// They stay: to begin a thread takes longer than many a sync, and large runs come a thousand times a second. Checkpoints do not
/// use them, whose many jobs those would wait for. None where the system gives no more threads.
static STANDING_BY: LazyLock<Option<ThreadPool>> = LazyLock::new(|| {
    let builder = ThreadPoolBuilder::new().num_threads(WORKERS);
    let built = builder.thread_name(|number| format!("riverlog-disk-{number}")).build();
    built
        .inspect_err(|error| tracing::warn!("large runs are written one after the other: {error}"))
        .ok()
});

/// The first error of many jobs.
struct Outcome(Mutex<io::Result<()>>);

impl Outcome {
    fn of(&self, job: Job<'_>) {
        if let Err(error) = job() {
            let mut outcome = self.0.lock();
            if outcome.is_ok() {
                *outcome = Err(error);
            }
        }
    }
}

/// Does them by as many threads as there are jobs, up to a limit.
pub(super) fn run_all(jobs: Vec<Job<'_>>) -> io::Result<()> {
    let threads = MAX_JOBS_AT_ONCE.min(jobs.len());
    let (jobs, outcome) = (Mutex::new(jobs.into_iter()), Outcome(Mutex::new(Ok(()))));
    let work = || {
        loop {
            let next = jobs.lock().next();
            let Some(job) = next else { break };
            outcome.of(job);
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads {
            // Where the system gives no more threads, fewer do the work.
            if std::thread::Builder::new().spawn_scoped(scope, work).is_err() {
                break;
            }
        }
        work();
    });
    outcome.0.into_inner()
}

/// Does the first here and the others by threads that are there already.
pub(super) fn run_few(jobs: Vec<Job<'_>>) -> io::Result<()> {
    let outcome = Outcome(Mutex::new(Ok(())));
    let mut jobs = jobs.into_iter();
    let (first, others) = (jobs.next(), jobs);
    let workers = match others.len() {
        0 => None,
        _ => STANDING_BY.as_ref(),
    };
    match workers {
        Some(workers) => workers.in_place_scope(|scope| {
            let outcome = &outcome;
            others.for_each(|job| scope.spawn(move |_| outcome.of(job)));
            first.into_iter().for_each(|job| outcome.of(job));
        }),
        None => first.into_iter().chain(others).for_each(|job| outcome.of(job)),
    }
    outcome.0.into_inner()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    const FEW: Run = |jobs| run_few(jobs);
    const ALL: Run = |jobs| run_all(jobs);
    type Run = fn(Vec<Job<'_>>) -> io::Result<()>;

    #[test]
    fn as_many_are_done_at_a_time_as_there_are_threads() {
        assert!(STANDING_BY.is_some());
        together(WORKERS + 1, run_few);
        together(MAX_JOBS_AT_ONCE, run_all);
        run_few(vec![]).unwrap();
        run_all(vec![]).unwrap();
    }

    /// None ends before all have begun.
    fn together(count: usize, run: impl FnOnce(Vec<Job<'_>>) -> io::Result<()>) {
        let together = Barrier::new(count);
        let job = || -> Job<'_> {
            Box::new(|| {
                together.wait();
                Ok(())
            })
        };
        run((0..count).map(|_| job()).collect()).unwrap();
    }

    #[test]
    fn all_are_done_whatever_fails_and_the_first_error_is_told() {
        for (count, run) in [(1, FEW), (2, FEW), (100, FEW), (1, ALL), (100, ALL)] {
            let done = AtomicUsize::new(0);
            let job = |number: usize| -> Job<'_> {
                let done = &done;
                Box::new(move || {
                    done.fetch_add(1, Ordering::Relaxed);
                    match number {
                        0 => Err(io::ErrorKind::StorageFull.into()),
                        _ => Ok(()),
                    }
                })
            };
            let error = run((0..count).map(job).collect()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::StorageFull);
            assert_eq!(done.into_inner(), count);
        }
    }

    /// As if it had been called here: the committer takes it for a commit that did not end.
    #[test]
    fn a_panic_of_any_of_them_is_one_of_the_caller() {
        for broken in 0..3 {
            let job = |number| -> Job<'_> {
                Box::new(move || match number == broken {
                    true => panic!("of a job"),
                    false => Ok(()),
                })
            };
            let all = || run_few((0..3).map(job).collect());
            assert!(std::panic::catch_unwind(all).is_err());
        }
    }
}
