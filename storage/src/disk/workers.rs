//! Threads that wait for the disk, so that it has several things to do at a time.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, LazyLock};

use parking_lot::{Condvar, Mutex, MutexGuard};

use super::Job;

/// More concurrent syncs than this gain nothing more: a thousand small files take half as long as with sixteen.
const MAX_JOBS_AT_ONCE: usize = 64;

/// For a few jobs, with the one who has them.
const WORKERS: usize = 4;

/// They stay: to begin a thread takes longer than many a sync, and large runs come a thousand times a second. Checkpoints do not
/// use them, whose many jobs those would wait for.
static STANDING_BY: LazyLock<Arc<Pool>> = LazyLock::new(|| {
    let pool = Arc::new(Pool::default());
    for number in 0..WORKERS {
        let builder = std::thread::Builder::new().name(format!("riverlog-disk-{number}"));
        let this = pool.clone();
        if let Err(error) = builder.spawn(move || this.work()) {
            tracing::warn!("no more than {number} threads write large runs: {error}");
            break;
        }
    }
    pool
});

/// Threads that sleep until there is something to do. Those of rayon look around for it before they sleep, which took a fifth of
/// the broker's CPU time with small records.
#[derive(Default)]
struct Pool {
    /// Each as often as it has jobs.
    errands: Mutex<VecDeque<Arc<Errand>>>,
    work: Condvar,
}

impl Pool {
    fn take(&self, errand: &Arc<Errand>, jobs: usize) {
        self.errands.lock().extend((0..jobs).map(|_| errand.clone()));
        for _ in 0..jobs {
            self.work.notify_one();
        }
    }

    fn work(&self) {
        let mut errands = self.errands.lock();
        loop {
            match errands.pop_front() {
                Some(errand) => MutexGuard::unlocked(&mut errands, || while errand.do_next() {}),
                None => self.work.wait(&mut errands),
            }
        }
    }
}

/// How a job ended: it may have panicked.
type Ended = std::thread::Result<io::Result<()>>;

/// Jobs that somebody waits for.
struct Errand {
    /// Those that nobody has begun.
    jobs: Mutex<std::vec::IntoIter<Job<'static>>>,
    /// How many have not ended, and the first failure of the others.
    state: Mutex<(usize, Ended)>,
    ended: Condvar,
}

impl Errand {
    fn of(jobs: Vec<Job<'static>>) -> Self {
        Self {
            state: Mutex::new((jobs.len(), Ok(Ok(())))),
            jobs: Mutex::new(jobs.into_iter()),
            ended: Condvar::new(),
        }
    }

    /// False if others have begun all that is left.
    fn do_next(&self) -> bool {
        let next = self.jobs.lock().next();
        let Some(job) = next else { return false };
        let ended = catch_unwind(AssertUnwindSafe(job));
        let (left, outcome) = &mut *self.state.lock();
        if matches!(outcome, Ok(Ok(()))) {
            *outcome = ended;
        }
        *left -= 1;
        if *left == 0 {
            self.ended.notify_one();
        }
        true
    }

    /// Waits until all have ended.
    fn outcome(&self) -> Ended {
        let mut state = self.state.lock();
        while state.0 > 0 {
            self.ended.wait(&mut state);
        }
        std::mem::replace(&mut state.1, Ok(Ok(())))
    }
}

/// Does one here and the others by threads that are there already, or here too while they are busy.
pub(super) fn run_few(mine: Job<'_>, others: Vec<Job<'static>>) -> io::Result<()> {
    let count = others.len();
    let errand = Arc::new(Errand::of(others));
    if count > 0 {
        STANDING_BY.take(&errand, count);
    }
    let ended = catch_unwind(AssertUnwindSafe(mine));
    while errand.do_next() {}
    let others_ended = errand.outcome();
    match ended {
        Ok(Ok(())) => others_ended,
        failed => failed,
    }
    .unwrap_or_else(|panic| resume_unwind(panic))
}

/// Does them by as many threads as there are jobs, up to a limit.
pub(super) fn run_all(jobs: Vec<Job<'_>>) -> io::Result<()> {
    let threads = MAX_JOBS_AT_ONCE.min(jobs.len());
    let (jobs, outcome) = (Mutex::new(jobs.into_iter()), Mutex::new(Ok(())));
    let work = || {
        loop {
            let next = jobs.lock().next();
            let Some(job) = next else { break };
            if let Err(error) = job() {
                let mut outcome = outcome.lock();
                if outcome.is_ok() {
                    *outcome = Err(error);
                }
            }
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
    outcome.into_inner()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    const FEW: Run = |mut jobs| run_few(jobs.pop().unwrap(), jobs);
    const ALL: Run = |jobs| run_all(jobs);
    type Run = fn(Vec<Job<'static>>) -> io::Result<()>;

    #[test]
    fn as_many_are_done_at_a_time_as_there_are_threads() {
        together(WORKERS + 1, FEW);
        together(MAX_JOBS_AT_ONCE, ALL);
        run_all(vec![]).unwrap();
    }

    /// None ends before all have begun.
    fn together(count: usize, run: Run) {
        let together = Arc::new(Barrier::new(count));
        let job = || -> Job<'static> {
            let together = together.clone();
            Box::new(move || {
                together.wait();
                Ok(())
            })
        };
        run((0..count).map(|_| job()).collect()).unwrap();
    }

    #[test]
    fn all_are_done_whatever_fails_and_the_first_error_is_told() {
        for (count, run) in [(1, FEW), (2, FEW), (100, FEW), (1, ALL), (100, ALL)] {
            let done = Arc::new(AtomicUsize::new(0));
            let job = |number: usize| -> Job<'static> {
                let done = done.clone();
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
            assert_eq!(done.load(Ordering::Relaxed), count);
        }
    }

    /// As if it had been called here: the committer takes it for a commit that did not end.
    #[test]
    fn a_panic_of_any_of_them_is_one_of_the_caller() {
        for broken in 0..3 {
            let job = |number| -> Job<'static> {
                Box::new(move || match number == broken {
                    true => panic!("of a job"),
                    false => Ok(()),
                })
            };
            let few = || FEW((0..3).map(job).collect());
            assert!(std::panic::catch_unwind(few).is_err());
        }
        together(WORKERS + 1, FEW);
    }
}
