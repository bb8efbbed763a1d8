//! Threads that wait for the disk, so that it has several things to do at a time. They stay: to begin one takes longer than
//! many a sync, and large runs come a thousand times a second.

use std::io;
use std::sync::LazyLock;

use parking_lot::Mutex;
use rayon_core::{ThreadPool, ThreadPoolBuilder};

use super::Job;

const THREADS: usize = 4;

/// None where the system gives no more threads.
static WORKERS: LazyLock<Option<ThreadPool>> = LazyLock::new(|| {
    let builder = ThreadPoolBuilder::new().num_threads(THREADS);
    builder.thread_name(|number| format!("riverlog-disk-{number}")).build().ok()
});

/// Does the first here and the others elsewhere. Fails with the first error, when all are done.
pub(super) fn run_all(jobs: Vec<Job<'_>>) -> io::Result<()> {
    let outcome = Mutex::new(Ok(()));
    let work = |job: Job<'_>| {
        if let Err(error) = job() {
            let mut outcome = outcome.lock();
            if outcome.is_ok() {
                *outcome = Err(error);
            }
        }
    };
    let mut jobs = jobs.into_iter();
    let (first, others) = (jobs.next(), jobs);
    match &*WORKERS {
        Some(workers) if others.len() > 0 => workers.in_place_scope(|scope| {
            let work = &work;
            others.for_each(|job| scope.spawn(move |_| work(job)));
            first.into_iter().for_each(work);
        }),
        _ => first.into_iter().chain(others).for_each(work),
    }
    outcome.into_inner()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn as_many_are_done_at_a_time_as_there_are_threads() {
        let together = Barrier::new(THREADS + 1);
        let job = || -> Job<'_> {
            Box::new(|| {
                together.wait();
                Ok(())
            })
        };
        run_all((0..=THREADS).map(|_| job()).collect()).unwrap();
        run_all(vec![]).unwrap();
    }

    #[test]
    fn all_are_done_whatever_fails_and_the_first_error_is_told() {
        for count in [1, 2, 100] {
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
            let error = run_all((0..count).map(job).collect()).unwrap_err();
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
            let all = || run_all((0..3).map(job).collect());
            assert!(std::panic::catch_unwind(all).is_err());
        }
    }
}
