//! Deliberate bugs, so that the tests can prove that they would find them. Outside of tests none of them exists.

/// What can be broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// The write set of an epoch lacks the changes of state.
    DropState,
    /// The write set of an epoch lacks the changes of timers.
    DropTimers,
    /// A timer that has fired is not gone from the committed timers.
    FiredTimersStay,
    /// An epoch is handed over while the one before it is not answered yet.
    CommitAhead,
    /// Restoring applies only the deltas behind a snapshot's last record, not those between its parts.
    DeltasBehindSnapshotOnly,
    /// Restoring forgets how far each partition's event time had come.
    ForgetWatermarks,
    /// Commits of an older start of the job are accepted.
    NoFence,
    /// The next position is the end of what was read, although the epoch yielded before it.
    PositionAhead,
}

#[cfg(test)]
thread_local! {
    static PLANTED: std::cell::Cell<Option<Bug>> = const { std::cell::Cell::new(None) };
}

/// Plants a bug in this thread, or removes it.
#[cfg(test)]
pub fn plant(bug: Option<Bug>) {
    PLANTED.set(bug);
}

/// Whether this bug is planted.
#[cfg(test)]
pub fn planted(bug: Bug) -> bool {
    PLANTED.get() == Some(bug)
}

/// Whether this bug is planted: never, in a program that is run.
#[cfg(not(test))]
pub const fn planted(_: Bug) -> bool {
    false
}
