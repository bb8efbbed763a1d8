//! Who holds memory while a client sends or reads, and who must go when others wait for that memory.
//!
//! A slow client alone may take its time. But when memory is short, waiting for the slowest would let a few of them, who
//! mean no good, stop everyone. So the ones that have not got on for longest are cut, until there is room.
//!
//! Who waits for memory itself is not slow, however long that takes. But those who hold some and wait for more could all wait for
//! each other. So when they hold most of it, the ones go that have the most still to come.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Whoever has got on in this time is spared…
const GRACE: Duration = Duration::from_secs(2);
/// …as long as nobody has waited for memory longer than half a second. From there on the time is as much shorter as somebody has
/// waited longer (a second after a second), so that the queue grows no further than it must. A short time is hard on who reads:
/// that is seen only when a good part of what the system keeps for the client is read.
const GRACE_TIMES_WAITED_MS2: u128 = 1_000_000;
/// Of those who may go, this part goes at a time…
const PART: usize = 4;
/// …and then others get this long to make use of the room.
const ROUND: Duration = Duration::from_millis(100);

/// All who hold a share of one budget while a client sends or reads.
#[derive(Debug, Default)]
pub(super) struct Holders {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Those that we wait for, by when they last got on.
    by_progress: BTreeMap<(Instant, u64), Arc<Notify>>,
    /// Those that wait for us, by how much of theirs is still to come, with what they hold.
    waiting: BTreeMap<(usize, u64), (Arc<Notify>, usize)>,
    next_number: u64,
    last_round: Option<Instant>,
    held_bytes: usize,
    waiting_bytes: usize,
}

/// One of them, until it is dropped.
#[derive(Debug)]
pub(super) struct Holder {
    all: Arc<Holders>,
    place: Place,
    /// Tells apart those of the same place.
    number: u64,
    bytes: usize,
    cut: Arc<Notify>,
}

/// Where in the state a holder is, unless it was cut.
#[derive(Clone, Copy, Debug)]
enum Place {
    GotOn(Instant),
    Waits { bytes_to_come: usize },
}

impl Holders {
    /// Begins to hold so much.
    pub(super) fn enter(self: &Arc<Self>, bytes: usize) -> Holder {
        let (cut, now) = (Arc::new(Notify::new()), Instant::now());
        let mut state = self.state.lock();
        state.next_number += 1;
        let number = state.next_number;
        state.by_progress.insert((now, number), Arc::clone(&cut));
        state.held_bytes += bytes;
        drop(state);
        Holder {
            all: Arc::clone(self),
            place: Place::GotOn(now),
            number,
            bytes,
            cut,
        }
    }

    #[cfg(test)]
    pub(super) fn held_bytes(&self) -> usize {
        self.state.lock().held_bytes
    }

    /// Tells those that must go, because somebody has waited so long; unless that was just done. Less than `most_bytes` they may
    /// hold all the same: then it is not they who make memory short, but work of ours that is not done (a disk that is slow, for
    /// one).
    pub(super) fn cut_slowest(&self, most_bytes: usize, waited: Duration) {
        let now = Instant::now();
        let grace = grace(waited);
        let mut state = self.state.lock();
        if state.held_bytes < most_bytes || state.last_round.is_some_and(|last| now < last + ROUND) {
            return;
        }
        let before = state.by_progress.len() + state.waiting.len();
        for _ in 0..state.by_progress.len().div_ceil(PART) {
            match state.by_progress.first_entry() {
                Some(slowest) if slowest.key().0 + grace <= now => slowest.remove().notify_one(),
                _ => break,
            }
        }
        for _ in 0..state.waiting.len().div_ceil(PART) {
            if state.waiting_bytes < most_bytes {
                break;
            }
            if let Some((_, (cut, bytes))) = state.waiting.pop_last() {
                state.waiting_bytes -= bytes;
                cut.notify_one();
            }
        }
        // If nobody had to go, somebody who has waited for longer may ask at once.
        if state.by_progress.len() + state.waiting.len() < before {
            state.last_round = Some(now);
        }
    }
}

fn grace(waited: Duration) -> Duration {
    let shorter_ms = GRACE_TIMES_WAITED_MS2 / waited.as_millis().max(1);
    GRACE.min(Duration::from_millis(u64::try_from(shorter_ms).unwrap_or(u64::MAX)))
}

impl Holder {
    /// It has sent or read a good piece, or got the memory that it waited for.
    pub(super) fn got_on(&mut self) {
        self.move_to(Place::GotOn(Instant::now()));
    }

    /// It waits for memory, of which it needs so much more until all is there. That it still does may be said again.
    pub(super) fn waits(&mut self, bytes_to_come: usize) {
        self.move_to(Place::Waits { bytes_to_come });
    }

    fn move_to(&mut self, place: Place) {
        let mut state = self.all.state.lock();
        // Who is to be cut is not there any more, and stays so.
        if let Some(cut) = state.remove(self.place, self.number) {
            self.place = place;
            match place {
                Place::GotOn(when) => {
                    state.by_progress.insert((when, self.number), cut);
                }
                Place::Waits { bytes_to_come } => {
                    state.waiting.insert((bytes_to_come, self.number), (cut, self.bytes));
                    state.waiting_bytes += self.bytes;
                }
            }
        }
    }

    /// It holds more than before, having waited for that.
    pub(super) fn holds_more(&mut self, bytes: usize) {
        self.got_on();
        self.bytes += bytes;
        self.all.state.lock().held_bytes += bytes;
    }

    /// Returns when it must go.
    pub(super) async fn must_go(&self) {
        self.cut.notified().await;
    }
}

impl State {
    fn remove(&mut self, place: Place, number: u64) -> Option<Arc<Notify>> {
        match place {
            Place::GotOn(when) => self.by_progress.remove(&(when, number)),
            Place::Waits { bytes_to_come } => {
                let (cut, bytes) = self.waiting.remove(&(bytes_to_come, number))?;
                self.waiting_bytes -= bytes;
                Some(cut)
            }
        }
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let mut state = self.all.state.lock();
        state.remove(self.place, self.number);
        state.held_bytes -= self.bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(100);

    async fn goes(holder: &Holder) -> bool {
        tokio::time::timeout(Duration::from_millis(1), holder.must_go())
            .await
            .is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn the_slowest_goes_first_and_who_gets_on_stays() {
        let holders = Arc::new(Holders::default());
        let slowest = holders.enter(10);
        tokio::time::advance(Duration::from_millis(10)).await;
        let mut busy = holders.enter(10);
        let slow = holders.enter(10);
        holders.cut_slowest(30, SHORT);
        assert!(!goes(&slowest).await, "not yet slow");
        tokio::time::advance(GRACE).await;
        busy.got_on();
        holders.cut_slowest(30, SHORT);
        assert!(goes(&slowest).await);
        assert!(!goes(&slow).await, "one of three, being a quarter of them, rounded up");
        tokio::time::advance(ROUND).await;
        holders.cut_slowest(30, SHORT);
        assert!(goes(&slow).await);
        tokio::time::advance(ROUND).await;
        holders.cut_slowest(30, SHORT);
        assert!(!goes(&busy).await, "has just got on");
        drop((slowest, busy, slow));
        assert_nothing_is_left(&holders);
    }

    fn assert_nothing_is_left(holders: &Holders) {
        let state = holders.state.lock();
        assert!(state.by_progress.is_empty() && state.waiting.is_empty());
        assert_eq!((state.held_bytes, state.waiting_bytes), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_goes_while_others_hold_most_of_it() {
        let holders = Arc::new(Holders::default());
        let mut slow = holders.enter(10);
        slow.holds_more(10);
        tokio::time::advance(2 * GRACE).await;
        holders.cut_slowest(30, SHORT);
        assert!(!goes(&slow).await);
        let more = holders.enter(10);
        holders.cut_slowest(30, SHORT);
        assert!(goes(&slow).await && !goes(&more).await);
    }

    #[tokio::test(start_paused = true)]
    async fn the_grace_is_shorter_when_somebody_has_waited_for_long() {
        let holders = Arc::new(Holders::default());
        let mut slow = holders.enter(10);
        for (waited_ms, grace_ms) in [(0, 2_000), (500, 2_000), (1_000, 1_000), (4_000, 250)] {
            assert_eq!(grace(Duration::from_millis(waited_ms)), Duration::from_millis(grace_ms));
        }
        let half = GRACE / 4;
        tokio::time::advance(half).await;
        holders.cut_slowest(10, GRACE - SHORT);
        assert!(!goes(&slow).await);
        slow.got_on();
        tokio::time::advance(half - SHORT).await;
        holders.cut_slowest(10, GRACE);
        assert!(!goes(&slow).await);
        tokio::time::advance(SHORT).await;
        holders.cut_slowest(10, SHORT);
        assert!(!goes(&slow).await);
        holders.cut_slowest(10, GRACE);
        assert!(
            goes(&slow).await,
            "that others have waited for less is no reason to wait"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_memory_is_not_slow() {
        let holders = Arc::new(Holders::default());
        let (mut waiting, slow) = (holders.enter(10), holders.enter(20));
        waiting.waits(100);
        tokio::time::advance(5 * GRACE).await;
        holders.cut_slowest(30, SHORT);
        assert!(goes(&slow).await && !goes(&waiting).await);
        drop(slow);
        let other = holders.enter(20);
        tokio::time::advance(GRACE / 2).await;
        waiting.holds_more(5);
        tokio::time::advance(GRACE / 2).await;
        holders.cut_slowest(30, SHORT);
        assert!(goes(&other).await && !goes(&waiting).await, "its time began anew");
        tokio::time::advance(GRACE / 2).await;
        holders.cut_slowest(30, SHORT);
        assert!(goes(&waiting).await, "it is our turn to wait now");
        waiting.waits(80);
        waiting.got_on();
        drop((waiting, other));
        assert_nothing_is_left(&holders);
    }

    #[tokio::test(start_paused = true)]
    async fn when_all_wait_for_each_other_those_go_that_need_most() {
        let holders = Arc::new(Holders::default());
        let mut all: Vec<Holder> = (0..4).map(|_| holders.enter(10)).collect();
        for (holder, bytes_to_come) in all.iter_mut().zip([50, 10, 50, 20]) {
            holder.waits(1);
            holder.waits(bytes_to_come);
        }
        let mut gone = Vec::new();
        for _ in 0..10 {
            tokio::time::advance(ROUND).await;
            holders.cut_slowest(25, SHORT);
            for (number, holder) in all.iter().enumerate() {
                if goes(holder).await {
                    gone.push(number);
                }
            }
        }
        assert_eq!(gone, [2, 0], "of equal ones the later; until they hold less than most");
        all.remove(1).holds_more(10);
        drop(all);
        assert_nothing_is_left(&holders);
    }
}
