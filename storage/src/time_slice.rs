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

/// Asks for short time slices for this thread. Those that it starts have the usual ones: who computes or looks for work, as the
/// threads for large runs do, takes a fifth more time with short ones. Does nothing where that is not possible.
pub fn shorten() {
    // An older kernel does not look at it, and a system may refuse it: all that is lost is some speed.
    if let Err(error) = attributes().and_then(change) {
        tracing::debug!("no short time slices for this thread: {error}");
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

/// Changes the slice and leaves the rest as it was.
fn change(mut attributes: libc::sched_attr) -> io::Result<()> {
    // With most other policies the field means something else. Who has a higher priority than others needs nothing, and those that
    // it starts would lose that.
    if attributes.sched_policy != libc::SCHED_OTHER as u32 || attributes.sched_nice < 0 {
        return Ok(());
    }
    attributes.sched_runtime = SHORT_NS;
    attributes.sched_flags |= libc::SCHED_FLAG_RESET_ON_FORK as u64;
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
    fn a_thread_gets_short_slices_and_those_that_it_starts_do_not() {
        let of_thread = |prepare: fn()| {
            let own = std::thread::spawn(move || {
                prepare();
                let started = std::thread::spawn(attributes);
                (attributes().unwrap(), started.join().unwrap().unwrap())
            });
            own.join().unwrap()
        };
        let (usual, _) = of_thread(|| ());
        let (short, started) = of_thread(shorten);
        assert_eq!(short.sched_nice, usual.sched_nice);
        assert_eq!(short.sched_policy, usual.sched_policy);
        let is_ordinary = usual.sched_policy == libc::SCHED_OTHER as u32 && usual.sched_nice >= 0;
        // An older kernel tells of no slices at all.
        if is_ordinary && usual.sched_runtime > SHORT_NS {
            assert_eq!(short.sched_runtime, SHORT_NS);
            assert_eq!(started.sched_runtime, usual.sched_runtime);
        }
    }
}
