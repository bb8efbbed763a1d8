//! Buffers of large requests, used again for the next ones. The system gives fresh memory page by page, at a cost of a fifth
//! of what a producing server does.

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::sync::Arc;

use bytes::BytesMut;
use parking_lot::Mutex;

/// Others are neither kept nor looked for.
const SIZES_BYTES: RangeInclusive<usize> = 64 * 1024..=4 << 20;
/// How many are looked at: requests end more or less in the order in which they came, but are not all of a size. With 8, a producer
/// of small records, whose requests differ in length, met fresh memory four times as often.
const LOOKED_AT: usize = 32;

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Buffers {
    kept: Mutex<Kept>,
    /// All that are kept or lent. Those whose requests are not gone yet count as well.
    most_bytes: usize,
}

#[derive(Debug, Default)]
struct Kept {
    /// What is left of each behind its request, and its whole size. The oldest is in front.
    rests: VecDeque<(BytesMut, usize)>,
    /// Of these, and of those that are lent.
    bytes: usize,
}

/// Counts a buffer that was taken, until it is kept again or its request is given up.
pub(super) struct Lent {
    buffers: Arc<Buffers>,
    size_bytes: usize,
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.buffers.kept.lock().bytes -= self.size_bytes;
    }
}

impl Buffers {
    /// At most so much is kept and lent, over and above the budget for requests.
    pub(super) fn new(most_bytes: usize) -> Arc<Self> {
        Arc::new(Self {
            kept: Mutex::default(),
            most_bytes,
        })
    }

    /// An empty buffer with room for so much, and not for very much more, if one is kept of which nobody uses anything.
    pub(super) fn take(self: &Arc<Self>, bytes: usize) -> Option<(BytesMut, Lent)> {
        if !SIZES_BYTES.contains(&bytes) {
            return None;
        }
        let mut kept = self.kept.lock();
        let fits = |size: usize| (bytes..=4 * bytes).contains(&size);
        let mut looked_at = kept.rests.iter_mut().take(LOOKED_AT);
        let place = looked_at.position(|(rest, size)| fits(*size) && rest.try_reclaim(*size))?;
        let (buffer, size_bytes) = kept.rests.remove(place)?;
        let buffers = Arc::clone(self);
        Some((buffer, Lent { buffers, size_bytes }))
    }

    /// Keeps the buffer from which a request was split off, until that is gone and it can be used again. It had room for so
    /// many bytes before.
    pub(super) fn keep(&self, mut rest: BytesMut, size_bytes: usize) {
        if !SIZES_BYTES.contains(&size_bytes) {
            return;
        }
        rest.clear();
        let mut given_up = Vec::new();
        let mut kept = self.kept.lock();
        // The oldest may be too small for what comes now.
        while kept.bytes + size_bytes > self.most_bytes {
            let Some((oldest, size)) = kept.rests.pop_front() else {
                return;
            };
            kept.bytes -= size;
            given_up.push(oldest);
        }
        kept.bytes += size_bytes;
        kept.rests.push_back((rest, size_bytes));
        // Outside of the lock: memory is given back to the system.
        drop(kept);
        drop(given_up);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const MOST_BYTES: usize = 32 << 20;

    /// A buffer with a tail of its own, and a request that was split off it.
    fn request(bytes: usize, tail: usize) -> (BytesMut, bytes::Bytes) {
        let mut buffer = BytesMut::zeroed(bytes + tail);
        let request = buffer.split_to(bytes).freeze();
        (buffer, request)
    }

    #[test]
    fn a_buffer_is_used_again_when_its_request_is_gone() {
        let buffers = Buffers::new(MOST_BYTES);
        // The tail alone would do, but is not what is asked for.
        let (rest, request) = request(100_000, 200_000);
        let place = request.as_ptr();
        buffers.keep(rest, 300_000);
        let slice = request.slice(50..);
        drop(request);
        assert!(buffers.take(100_000).is_none(), "some of it is in use");
        drop(slice);
        assert!(buffers.take(400_000).is_none(), "it is too small");
        assert!(buffers.take(70_000).is_none(), "it is too large");
        let (again, _lent) = buffers.take(100_000).unwrap();
        assert!(again.is_empty() && again.capacity() >= 300_000);
        assert_eq!(again.as_ptr(), place);
        assert!(buffers.take(100_000).is_none(), "it was given away");
    }

    #[test]
    fn a_buffer_that_fits_is_found_behind_others() {
        let buffers = Buffers::new(MOST_BYTES);
        for _ in 0..LOOKED_AT - 1 {
            buffers.keep(request(70_000, 0).0, 70_000);
        }
        buffers.keep(request(500_000, 0).0, 500_000);
        buffers.keep(request(900_000, 0).0, 900_000);
        let (found, _lent) = buffers.take(400_000).unwrap();
        assert!(found.capacity() >= 500_000 && found.capacity() < 900_000);
        assert!(buffers.take(899_000).is_some(), "it has moved up");
    }

    #[test]
    fn no_more_is_kept_and_lent_than_so_much() {
        let buffers = Buffers::new(MOST_BYTES);
        let mebibyte = 1 << 20;
        for _ in 0..100 {
            buffers.keep(request(mebibyte, 0).0, mebibyte);
        }
        assert_eq!(buffers.kept.lock().rests.len(), 32);
        let lent: Vec<_> = std::iter::from_fn(|| buffers.take(mebibyte)).collect();
        assert_eq!(lent.len(), 32);
        buffers.keep(request(mebibyte, 0).0, mebibyte);
        assert!(buffers.take(mebibyte).is_none(), "all that may be is lent");
        assert_eq!(buffers.kept.lock().bytes, MOST_BYTES);
        drop(lent);
        assert_eq!(buffers.kept.lock().bytes, 0);
        buffers.keep(request(5 << 20, 0).0, 5 << 20);
        buffers.keep(request(1000, 0).0, 1000);
        assert_eq!(buffers.kept.lock().bytes, 0, "too large, and too small");
    }
}
