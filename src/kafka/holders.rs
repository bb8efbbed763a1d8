//! Who holds memory while a client sends or reads, and who must go when others wait for that memory.
//!
//! A slow client alone may take its time. But when memory is short, waiting for the slowest would let a few of them, who
//! mean no good, stop everyone. So the ones that have not got on for longest are cut, until there is room.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Whoever has got on in this time is spared. Who waits for memory of ours does not get on either, so it is longer than a sync
/// takes on a slow disk.
const GRACE: Duration = Duration::from_secs(2);
/// To have sent or read so much is to have got on.
pub(super) const PROGRESS_BYTES: usize = 64 << 10;
/// Of those who have not, this part goes at a time, the slowest first…
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
    by_progress: BTreeMap<Key, Arc<Notify>>,
    next_number: u64,
    last_round: Option<Instant>,
    held_bytes: usize,
}

/// When it last got on, and a number that tells apart those of the same moment.
type Key = (Instant, u64);

/// One of them, until it is dropped.
#[derive(Debug)]
pub(super) struct Holder {
    all: Arc<Holders>,
    key: Key,
    bytes: usize,
    cut: Arc<Notify>,
}

impl Holders {
    /// Begins to hold so much.
    pub(super) fn enter(self: &Arc<Self>, bytes: usize) -> Holder {
        let cut = Arc::new(Notify::new());
        let mut state = self.state.lock();
        state.next_number += 1;
        let key = (Instant::now(), state.next_number);
        state.by_progress.insert(key, Arc::clone(&cut));
        state.held_bytes += bytes;
        drop(state);
        Holder {
            all: Arc::clone(self),
            key,
            bytes,
            cut,
        }
    }

    /// Tells the slowest that they must go, unless that was just done. Less than `most_bytes` they may hold all the same: then
    /// it is not they who make memory short, but work of ours that is not done (a disk that is slow, for one).
    pub(super) fn cut_slowest(&self, most_bytes: usize) {
        let now = Instant::now();
        let mut state = self.state.lock();
        if state.held_bytes < most_bytes || state.last_round.is_some_and(|last| now < last + ROUND) {
            return;
        }
        state.last_round = Some(now);
        for _ in 0..state.by_progress.len().div_ceil(PART) {
            match state.by_progress.first_entry() {
                Some(slowest) if slowest.key().0 + GRACE <= now => slowest.remove().notify_one(),
                _ => break,
            }
        }
    }
}

impl Holder {
    /// It has sent or read a good piece.
    pub(super) fn got_on(&mut self) {
        let mut state = self.all.state.lock();
        // Who is to be cut is not there any more, and stays so.
        if let Some(cut) = state.by_progress.remove(&self.key) {
            self.key.0 = Instant::now();
            state.by_progress.insert(self.key, cut);
        }
    }

    /// It holds more than before.
    pub(super) fn holds_more(&mut self, bytes: usize) {
        self.bytes += bytes;
        self.all.state.lock().held_bytes += bytes;
    }

    /// Returns when it must go.
    pub(super) async fn must_go(&self) {
        self.cut.notified().await;
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let mut state = self.all.state.lock();
        state.by_progress.remove(&self.key);
        state.held_bytes -= self.bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        holders.cut_slowest(30);
        assert!(!goes(&slowest).await, "not yet slow");
        tokio::time::advance(GRACE).await;
        busy.got_on();
        holders.cut_slowest(30);
        assert!(goes(&slowest).await);
        assert!(!goes(&slow).await, "one of three, being a quarter of them, rounded up");
        tokio::time::advance(ROUND).await;
        holders.cut_slowest(30);
        assert!(goes(&slow).await);
        tokio::time::advance(ROUND).await;
        holders.cut_slowest(30);
        assert!(!goes(&busy).await, "has just got on");
        drop((slowest, busy, slow));
        let state = holders.state.lock();
        assert!(state.by_progress.is_empty() && state.held_bytes == 0);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_goes_while_others_hold_most_of_it() {
        let holders = Arc::new(Holders::default());
        let mut slow = holders.enter(10);
        tokio::time::advance(2 * GRACE).await;
        holders.cut_slowest(30);
        assert!(!goes(&slow).await);
        slow.holds_more(20);
        holders.cut_slowest(30);
        assert!(goes(&slow).await);
    }
}
