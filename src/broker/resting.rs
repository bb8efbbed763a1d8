//! Where a runtime has two threads, one of them rests while the other suffices.
//!
//! Each time that several tasks are ready, the runtime wakes a thread that sleeps. Of small writes that are committed together there
//! are some thousand groups a second, so it is woken as often, takes a core from the clients that run there, and finds the caches
//! cold. Runtimes of more threads have cores to spare.

use std::sync::Arc;

use parking_lot::{Condvar, Mutex};
use tokio::runtime::Handle;

#[derive(Debug, Default)]
pub(super) struct Resting(Arc<Rest>);

#[derive(Debug, Default)]
struct Rest {
    state: Mutex<State>,
    ended: Condvar,
}

#[derive(Debug, Default)]
struct State {
    is_on: bool,
    /// Somebody asked for it since [`Resting::end_unless_wanted`].
    is_wanted: bool,
    /// How many there were. The task of one may come to run when the next has begun, and only one thread may rest.
    number: u64,
}

impl Resting {
    /// Lets one of two threads rest, or go on with it. Somebody has to see to its end.
    pub(super) fn want(&self, runtime: &Handle) {
        let mut state = self.0.state.lock();
        state.is_wanted = true;
        if state.is_on || runtime.metrics().num_workers() != 2 {
            return;
        }
        state.is_on = true;
        state.number += 1;
        let (rest, number) = (Arc::clone(&self.0), state.number);
        drop(state);
        // Whichever thread takes it, the other one goes on.
        runtime.spawn(async move { rest.take(number) });
    }

    pub(super) fn end(&self) {
        self.0.end(&mut self.0.state.lock());
    }

    /// Ends it if nobody wanted it since the last call.
    pub(super) fn end_unless_wanted(&self) {
        let mut state = self.0.state.lock();
        if !std::mem::take(&mut state.is_wanted) {
            self.0.end(&mut state);
        }
    }
}

impl Drop for Resting {
    fn drop(&mut self) {
        self.end();
    }
}

impl Rest {
    /// Occupies this thread, so that the runtime does not wake it.
    fn take(&self, number: u64) {
        let mut state = self.state.lock();
        self.ended
            .wait_while(&mut state, |state| state.is_on && state.number == number);
    }

    fn end(&self, state: &mut State) {
        if std::mem::take(&mut state.is_on) {
            self.ended.notify_all();
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use tokio::runtime::{Builder, Runtime};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    fn runtime(threads: usize) -> Runtime {
        Builder::new_multi_thread().worker_threads(threads).build().unwrap()
    }

    /// Whether two tasks run at the same time: each hears of the other.
    fn both_run(runtime: &Runtime, patience: Duration) -> bool {
        let (to_first, first) = mpsc::channel();
        let (to_second, second) = mpsc::channel();
        let (sender, heard) = mpsc::channel();
        for (to_other, own) in [(to_second, first), (to_first, second)] {
            let sender = sender.clone();
            runtime.spawn(async move {
                // It may have given up.
                let _ = to_other.send(());
                sender.send(own.recv_timeout(patience).is_ok()).unwrap();
            });
        }
        (0..2).fold(true, |both, _| heard.recv_timeout(2 * PATIENCE).unwrap() && both)
    }

    #[test]
    fn one_thread_rests_until_the_end() {
        let runtime = runtime(2);
        let resting = Resting::default();
        resting.want(runtime.handle());
        assert!(!both_run(&runtime, Duration::from_millis(50)));
        resting.end();
        assert!(both_run(&runtime, PATIENCE));
    }

    #[test]
    fn what_nobody_wants_any_more_ends() {
        let runtime = runtime(2);
        let resting = Resting::default();
        resting.want(runtime.handle());
        resting.end_unless_wanted();
        assert!(resting.0.state.lock().is_on);
        resting.want(runtime.handle());
        resting.end_unless_wanted();
        assert!(resting.0.state.lock().is_on);
        resting.end_unless_wanted();
        assert!(both_run(&runtime, PATIENCE));
    }

    #[test]
    fn two_threads_never_rest_however_often_it_begins_and_ends() {
        let runtime = runtime(2);
        let resting = Resting::default();
        for _ in 0..1000 {
            resting.want(runtime.handle());
            resting.end();
        }
        resting.want(runtime.handle());
        let (sender, receiver) = mpsc::channel();
        runtime.spawn(async move { sender.send(()) });
        receiver.recv_timeout(PATIENCE).unwrap();
        resting.end();
    }

    #[test]
    fn of_one_thread_or_of_three_none_rests() {
        for threads in [1, 3] {
            let runtime = runtime(threads);
            let resting = Resting::default();
            resting.want(runtime.handle());
            assert!(!resting.0.state.lock().is_on);
        }
    }
}
