//! Buffers of large requests, used again for the next ones. The system gives fresh memory page by page, at a cost of a fifth
//! of what a producing server does.

use std::collections::VecDeque;

use bytes::BytesMut;
use parking_lot::Mutex;

/// The buffers of smaller requests are not kept.
const SMALLEST_BYTES: usize = 64 * 1024;
/// Nor those of larger ones.
const LARGEST_BYTES: usize = 4 << 20;
/// What is kept, over and above the budget for requests. Those that are still in use count as well.
const KEPT_BYTES: usize = 32 << 20;
/// How many are looked at: requests end more or less in the order in which they came.
const LOOKED_AT: usize = 8;

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Buffers {
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    /// What is left of each behind its request, and the request's size. The oldest is in front.
    rests: VecDeque<(BytesMut, usize)>,
    bytes: usize,
}

impl Buffers {
    /// An empty buffer with room for so much, if one is kept whose request is gone.
    pub(super) fn take(&self, bytes: usize) -> Option<BytesMut> {
        let mut kept = self.kept.lock();
        let mut looked_at = kept.rests.iter_mut().take(LOOKED_AT);
        let place = looked_at.position(|(rest, _)| rest.try_reclaim(bytes))?;
        let (buffer, size) = kept.rests.remove(place)?;
        kept.bytes -= size;
        Some(buffer)
    }

    /// Keeps the buffer from which a request of so many bytes was split off, until that is gone and it can be used again.
    pub(super) fn keep(&self, mut rest: BytesMut, bytes: usize) {
        let mut kept = self.kept.lock();
        if !(SMALLEST_BYTES..=LARGEST_BYTES).contains(&bytes) {
            return;
        }
        // The oldest may be too small for what comes now.
        while kept.bytes + bytes > KEPT_BYTES {
            let Some((_, size)) = kept.rests.pop_front() else {
                return;
            };
            kept.bytes -= size;
        }
        rest.clear();
        kept.bytes += bytes;
        kept.rests.push_back((rest, bytes));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn request(bytes: usize) -> (BytesMut, bytes::Bytes) {
        let mut buffer = BytesMut::zeroed(bytes + 10);
        let request = buffer.split_to(bytes).freeze();
        (buffer, request)
    }

    #[test]
    fn a_buffer_is_used_again_when_its_request_is_gone() {
        let buffers = Buffers::default();
        let (rest, request) = request(100_000);
        let place = request.as_ptr();
        buffers.keep(rest, 100_000);
        let slice = request.slice(50..);
        drop(request);
        assert!(buffers.take(100_000).is_none(), "some of it is in use");
        drop(slice);
        assert!(buffers.take(200_000).is_none(), "it is too small");
        let again = buffers.take(100_000).unwrap();
        assert!(again.is_empty() && again.capacity() >= 100_000);
        assert_eq!(again.as_ptr(), place);
        assert!(buffers.take(100_000).is_none(), "it was given away");
    }

    #[test]
    fn no_more_is_kept_than_so_much() {
        let buffers = Buffers::default();
        for _ in 0..100 {
            buffers.keep(request(1 << 20).0, 1 << 20);
        }
        let bytes = buffers.kept.lock().bytes;
        assert_eq!(bytes, KEPT_BYTES);
        assert_eq!(buffers.kept.lock().rests.len(), 32);
        buffers.keep(request(5 << 20).0, 5 << 20);
        buffers.keep(request(1000).0, 1000);
        assert_eq!(buffers.kept.lock().bytes, KEPT_BYTES);
    }
}
