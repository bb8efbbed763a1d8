//! How soon a thread gets a processor when it wakes up among others that compute.
//!
//! Linux from 6.12 on lets a thread ask for short time slices (`sched_runtime` of `sched_setattr(2)`): it gets no more of the
//! processors than before, but runs sooner after it was woken, and for less long. That is right for threads that mostly wait, and
//! whose answers others wait for: on two cores that 64 waiting producers share with the server, a tenth more records went through.
//! Elsewhere nothing happens.

use std::io;
use std::mem::size_of;

/// The shortest slice that Linux gives, in nanoseconds.
const SHORT_NS: u64 = 100_000;

/// No slice of its own: the system's.
const USUAL_NS: u64 = 0;

/// Asks for short time slices for this thread, and for those that it will start. Does nothing where that is not possible.
pub fn shorten() {
    set(SHORT_NS);
}

/// Undoes for this thread what it has got from the one that started it.
pub(crate) fn reset() {
    set(USUAL_NS);
}

fn set(slice_ns: u64) {
    // An older kernel does not look at it, a sandbox may refuse it: all that is lost is some speed.
    let changed = attributes().and_then(|attributes| change(attributes, slice_ns));
    if let Err(error) = changed {
        tracing::debug!("no time slices of its own for this thread: {error}");
    }
}

/// What the scheduler knows of this thread.
fn attributes() -> io::Result<libc::sched_attr> {
    let mut attributes = libc::sched_attr {
        size: 0,
        sched_policy: 0,
        sched_flags: 0,
        sched_nice: 0,
        sched_priority: 0,
        sched_runtime: 0,
        sched_deadline: 0,
        sched_period: 0,
    };
    let (this_thread, flags) = (0, 0);
    let size = size_of::<libc::sched_attr>();
    // SAFETY: the kernel writes at most `size` bytes to a struct of that size, which nobody else has, and any bytes are valid in it.
    #[allow(unsafe_code)]
    let answer = unsafe { libc::syscall(libc::SYS_sched_getattr, this_thread, &raw mut attributes, size, flags) };
    told(answer).map(|()| attributes)
}

/// Changes the slice and leaves the rest, such as its `nice` value, as it was.
fn change(mut attributes: libc::sched_attr, slice_ns: u64) -> io::Result<()> {
    // With any other policy the field means something else.
    if attributes.sched_policy != libc::SCHED_OTHER as u32 {
        return Ok(());
    }
    attributes.sched_runtime = slice_ns;
    let (this_thread, flags) = (0, 0);
    // SAFETY: the kernel reads the struct, whose size is in it, and may write that size to it; it keeps no pointer.
    #[allow(unsafe_code)]
    let answer = unsafe { libc::syscall(libc::SYS_sched_setattr, this_thread, &raw mut attributes, flags) };
    told(answer)
}

fn told(answer: libc::c_long) -> io::Result<()> {
    match answer {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_gets_short_slices_and_those_it_starts_can_give_them_back() {
        let start = |what: fn()| {
            let thread = std::thread::spawn(move || {
                what();
                attributes().unwrap()
            });
            thread.join().unwrap()
        };
        let before = start(|| ());
        let after = start(shorten);
        let undone = std::thread::spawn(move || {
            shorten();
            start(reset)
        });
        let undone = undone.join().unwrap();
        assert_eq!(before.sched_nice, after.sched_nice);
        assert_eq!(before.sched_policy, after.sched_policy);
        assert_eq!(before.sched_runtime, undone.sched_runtime);
        // An older kernel tells of no slices at all.
        assert_eq!(after.sched_runtime, SHORT_NS.min(before.sched_runtime));
    }
}
