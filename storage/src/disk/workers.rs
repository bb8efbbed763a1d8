//! Threads that wait for the disk, so that it has several things to do at a time.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::thread::Thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use rayon_core::{ThreadPool, ThreadPoolBuilder};

use super::Job;

/// More concurrent syncs than this gain nothing more: a thousand small files take half as long as with sixteen.
const MAX_JOBS_AT_ONCE: usize = 64;

/// With the one who has the jobs. More spend more time looking for work than they save.
const WORKERS: usize = 4;

/// Those for a few jobs. They stay: to begin a thread takes longer than many a sync, and large runs come a thousand times a
/// second. Checkpoints do not use them, whose many jobs those would wait for. None where the system gives no more threads.
static STANDING_BY: LazyLock<Option<ThreadPool>> = LazyLock::new(|| {
    let builder = ThreadPoolBuilder::new().num_threads(WORKERS);
    let built = builder.thread_name(|number| format!("riverlog-disk-{number}")).build();
    built
        .inspect_err(|error| tracing::warn!("extents are written and synced one after the other: {error}"))
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

/// If the first job took no longer the last time, the second is done behind it.
const QUICK: Duration = Duration::from_micros(500);

/// Does the first here, and the others by threads that are there already. If the first, the journal's sync, was quick the last
/// time, the second is done here behind it: nobody is woken for a single large run. With records of 100 B, whose groups have 1.2
/// of them, that saves a quarter of the CPU time. The caller waits so much longer at most as the first takes.
pub(super) fn run_few(jobs: Vec<Job<'_>>) -> io::Result<()> {
    static IS_QUICK: AtomicBool = AtomicBool::new(false);
    run_few_at_pace(jobs, &IS_QUICK)
}

/// Told whether the first job was quick the last time, and tells it.
fn run_few_at_pace(jobs: Vec<Job<'_>>, is_quick: &AtomicBool) -> io::Result<()> {
    let outcome = Outcome(Mutex::new(Ok(())));
    let mut jobs = jobs.into_iter();
    let first = jobs.next();
    let second = is_quick.load(Ordering::Relaxed).then(|| jobs.next()).flatten();
    let work_here = || {
        let begun = Instant::now();
        first.into_iter().for_each(|job| outcome.of(job));
        is_quick.store(begun.elapsed() <= QUICK, Ordering::Relaxed);
        second.into_iter().for_each(|job| outcome.of(job));
    };
    let workers = match jobs.len() {
        0 => None,
        _ => STANDING_BY.as_ref(),
    };
    match workers {
        Some(workers) => workers.in_place_scope(|scope| {
            let outcome = &outcome;
            jobs.for_each(|job| scope.spawn(move |_| outcome.of(job)));
            work_here();
        }),
        None => {
            work_here();
            jobs.for_each(|job| outcome.of(job));
        }
    }
    outcome.0.into_inner()
}

/// Those for many short jobs. They sleep as soon as there is none. The others look for more for a while and let everybody else
/// run in between (`sched_yield`), which the system holds against them when there is more: with 1,000 partitions an eighth fewer
/// records go through with those. With a few large runs it is the other way round: groups become smaller with these, and have
/// more syncs.
static FOR_MANY: LazyLock<Arc<Queue>> = LazyLock::new(|| {
    let queue = Arc::new(Queue::default());
    for number in 0..WORKERS {
        let (builder, queue) = (std::thread::Builder::new(), Arc::clone(&queue));
        let begun = builder
            .name(format!("riverlog-many-{number}"))
            .spawn(move || queue.work_for_ever());
        if let Err(error) = begun {
            tracing::warn!("a thread less for the disk: {error}");
        }
    }
    queue
});

/// Jobs that wait for a thread.
#[derive(Default)]
struct Queue {
    tasks: Mutex<VecDeque<Task>>,
    came: Condvar,
}

/// A job, and whom it is done for.
struct Task {
    job: Job<'static>,
    caller: Arc<Caller>,
}

/// Who waits until all jobs are done.
struct Caller {
    thread: Thread,
    left: AtomicUsize,
    outcome: Mutex<std::thread::Result<io::Result<()>>>,
}

impl Queue {
    fn work_for_ever(&self) {
        loop {
            let mut tasks = self.tasks.lock();
            let task = loop {
                match tasks.pop_front() {
                    Some(task) => break task,
                    None => self.came.wait(&mut tasks),
                }
            };
            drop(tasks);
            task.run();
        }
    }
}

impl Task {
    fn run(self) {
        let done = catch_unwind(AssertUnwindSafe(self.job));
        if !matches!(done, Ok(Ok(()))) {
            let mut outcome = self.caller.outcome.lock();
            // The first error, but a panic is worse.
            if matches!(*outcome, Ok(Ok(()))) || done.is_err() {
                *outcome = done;
            }
        }
        // Orders what the job did before what the caller does then.
        if self.caller.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.caller.thread.unpark();
        }
    }
}

/// Does many short jobs, together with threads that are there already.
pub(super) fn run_many(mut jobs: Vec<Job<'static>>) -> io::Result<()> {
    let helpers = match jobs.len() {
        0 => return Ok(()),
        1 => return jobs.pop().map_or(Ok(()), |job| job()),
        more => WORKERS.min(more - 1),
    };
    let caller = Arc::new(Caller {
        thread: std::thread::current(),
        left: AtomicUsize::new(jobs.len()),
        outcome: Mutex::new(Ok(Ok(()))),
    });
    let with_caller = |job| Task {
        job,
        caller: Arc::clone(&caller),
    };
    let queue = &*FOR_MANY;
    queue.tasks.lock().extend(jobs.into_iter().map(with_caller));
    for _ in 0..helpers {
        queue.came.notify_one();
    }
    while caller.left.load(Ordering::Acquire) > 0 {
        // Whosoever it is.
        let next = queue.tasks.lock().pop_front();
        match next {
            Some(task) => task.run(),
            // Whoever does the last one wakes this thread, if only the next time that it parks.
            None => std::thread::park(),
        }
    }
    let outcome = std::mem::replace(&mut *caller.outcome.lock(), Ok(Ok(())));
    outcome.unwrap_or_else(|panicked| resume_unwind(panicked))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    const FEW: Run = |jobs| run_few_at_pace(jobs, &AtomicBool::new(false));
    const FEW_QUICK: Run = |jobs| run_few_at_pace(jobs, &AtomicBool::new(true));
    const ALL: Run = |jobs| run_all(jobs);
    const MANY: Run = |jobs| run_many(jobs);
    type Run = fn(Vec<Job<'static>>) -> io::Result<()>;

    #[test]
    fn as_many_are_done_at_a_time_as_there_are_threads() {
        assert!(STANDING_BY.is_some());
        together(WORKERS + 1, FEW);
        together(WORKERS + 1, run_many);
        together(MAX_JOBS_AT_ONCE, run_all);
        for run in [FEW, FEW_QUICK, MANY, ALL] {
            run(vec![]).unwrap();
        }
    }

    /// None ends before all have begun.
    fn together(count: usize, run: impl FnOnce(Vec<Job<'static>>) -> io::Result<()>) {
        let together = Arc::new(Barrier::new(count));
        let job = || -> Job<'static> {
            let together = Arc::clone(&together);
            Box::new(move || {
                together.wait();
                Ok(())
            })
        };
        run((0..count).map(|_| job()).collect()).unwrap();
    }

    #[test]
    fn all_are_done_whatever_fails_and_the_first_error_is_told() {
        for (count, run) in [
            (1, FEW),
            (2, FEW),
            (100, FEW),
            (1, FEW_QUICK),
            (2, FEW_QUICK),
            (100, FEW_QUICK),
            (1, ALL),
            (100, ALL),
            (1, MANY),
            (100, MANY),
        ] {
            let done = Arc::new(AtomicUsize::new(0));
            let job = |number: usize| -> Job<'static> {
                let done = Arc::clone(&done);
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

    #[test]
    fn the_second_is_done_here_while_the_first_takes_little_time() {
        let is_quick = AtomicBool::new(false);
        let is_second_here = |first: Duration| {
            let (here, was_here) = (std::thread::current().id(), AtomicBool::new(false));
            let jobs: Vec<Job<'_>> = vec![
                Box::new(|| {
                    std::thread::sleep(first);
                    Ok(())
                }),
                Box::new(|| {
                    was_here.store(std::thread::current().id() == here, Ordering::Relaxed);
                    Ok(())
                }),
            ];
            run_few_at_pace(jobs, &is_quick).unwrap();
            was_here.into_inner()
        };
        assert!(!is_second_here(Duration::ZERO));
        // Whatever else the machine has to do, once the first is quick, and the time after that the second is done here.
        while !is_second_here(Duration::ZERO) {}
        is_second_here(2 * QUICK);
        assert!(!is_second_here(2 * QUICK));
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
            for run in [FEW, FEW_QUICK, MANY] {
                assert!(catch_unwind(|| run((0..3).map(job).collect())).is_err());
            }
        }
    }

    /// Whoever does their jobs.
    #[test]
    fn many_callers_at_a_time_have_each_their_own_outcome() {
        std::thread::scope(|scope| {
            for caller in 0..8_usize {
                scope.spawn(move || {
                    for round in 0..200 {
                        let job = |number: usize| -> Job<'static> {
                            Box::new(move || match (number, caller % 2) {
                                (1, 1) => Err(io::ErrorKind::StorageFull.into()),
                                _ => Ok(()),
                            })
                        };
                        let outcome = run_many((0..3 + round % 5).map(job).collect());
                        assert_eq!(outcome.is_err(), caller % 2 == 1);
                    }
                });
            }
        });
    }
}
