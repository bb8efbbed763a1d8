//! Memory of what was large, requests and what was read for responses, used again for what comes next. The system gives fresh
//! memory page by page, at a cost of a fifth of what a producing server does, and of half of what a serving one does.

use std::collections::VecDeque;
use std::io;
use std::ops::RangeInclusive;
use std::sync::{Arc, LazyLock};

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;

/// Others are neither kept nor looked for.
const SIZES_BYTES: RangeInclusive<usize> = 64 * 1024..=4 << 20;
/// How many are looked at: requests end more or less in the order in which they came.
const LOOKED_AT: usize = 8;

/// See the [module](self).
#[derive(Debug)]
pub struct Buffers {
    kept: Mutex<Kept>,
    /// All that are kept or lent. Those whose requests are not gone yet count as well.
    most_bytes: usize,
}

#[derive(Debug, Default)]
struct Kept {
    /// What is left of each behind its request, and its whole size. The oldest is in front.
    rests: VecDeque<(BytesMut, usize)>,
    /// What was read into and is free. The oldest is in front.
    free: VecDeque<Vec<u8>>,
    /// Of these, and of those that are lent.
    bytes: usize,
}

/// Counts a buffer that was taken, until it is kept again or its request is given up.
#[derive(Debug)]
pub struct Lent {
    buffers: Arc<Buffers>,
    size_bytes: usize,
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.buffers.kept.lock().bytes -= self.size_bytes;
    }
}

/// What was read.
#[derive(Clone, Debug, Default)]
pub struct Filled {
    /// Its bytes.
    pub bytes: Bytes,
    /// Whether all of the memory, however little of it is used, counts among that of [`Buffers`] as long as there are such
    /// bytes. Otherwise nobody counts it.
    pub is_counted: bool,
}

/// Memory that was read into. It is free again when nobody has any of its bytes.
struct Memory {
    bytes: Vec<u8>,
    filled: usize,
    buffers: Arc<Buffers>,
}

impl AsRef<[u8]> for Memory {
    fn as_ref(&self) -> &[u8] {
        self.bytes.get(..self.filled).unwrap_or_default()
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        self.buffers.kept.lock().free.push_back(bytes);
    }
}

impl Buffers {
    /// At most so much is kept and lent, over and above what the contents themselves may have.
    pub fn new(most_bytes: usize) -> Arc<Self> {
        Arc::new(Self {
            kept: Mutex::default(),
            most_bytes,
        })
    }

    /// Nothing is kept.
    pub(crate) fn none() -> Arc<Self> {
        static NONE: LazyLock<Arc<Buffers>> = LazyLock::new(|| Buffers::new(0));
        Arc::clone(&NONE)
    }

    /// As many bytes as `read` puts somewhere and says it has, of at most so many.
    ///
    /// # Errors
    /// Those of `read`.
    pub fn fill(
        self: &Arc<Self>,
        bytes: usize,
        read: impl FnOnce(&mut [u8]) -> io::Result<usize>,
    ) -> io::Result<Filled> {
        let Some(mut memory) = self.memory(bytes) else {
            let mut fresh = vec![0; bytes];
            let filled = read(&mut fresh)?;
            fresh.truncate(filled);
            return Ok(Filled {
                bytes: fresh.into(),
                is_counted: false,
            });
        };
        let room = memory.bytes.get_mut(..bytes).unwrap_or_default();
        memory.filled = read(room)?.min(bytes);
        Ok(Filled {
            bytes: Bytes::from_owner(memory),
            is_counted: true,
        })
    }

    /// Room for so much, if it may be counted here.
    fn memory(self: &Arc<Self>, bytes: usize) -> Option<Memory> {
        if !SIZES_BYTES.contains(&bytes) {
            return None;
        }
        // So that it fits others as well.
        let size_bytes = bytes.next_power_of_two();
        let mut kept = self.kept.lock();
        let place = kept.free.iter().position(|free| free.len() == size_bytes);
        let free = place.and_then(|place| kept.free.remove(place));
        let given_up = match free {
            Some(_) => Vec::new(),
            None => kept.make_room(size_bytes, self.most_bytes)?,
        };
        // Outside of the lock: the system gives memory, and takes it back.
        drop(kept);
        drop(given_up);
        Some(Memory {
            bytes: free.unwrap_or_else(|| vec![0; size_bytes]),
            filled: 0,
            buffers: Arc::clone(self),
        })
    }

    /// An empty buffer with room for so much, and not for very much more, if one is kept of which nobody uses anything.
    pub fn take(self: &Arc<Self>, bytes: usize) -> Option<(BytesMut, Lent)> {
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
    pub fn keep(&self, mut rest: BytesMut, size_bytes: usize) {
        if !SIZES_BYTES.contains(&size_bytes) {
            return;
        }
        rest.clear();
        let mut kept = self.kept.lock();
        let Some(given_up) = kept.make_room(size_bytes, self.most_bytes) else {
            return;
        };
        kept.rests.push_back((rest, size_bytes));
        // Outside of the lock: memory is given back to the system.
        drop(kept);
        drop(given_up);
    }
}

/// One that may be too small for what comes now.
type GivenUp = (BytesMut, Vec<u8>);

impl Kept {
    /// Counts so many bytes more, and gives up the oldest for them. None if that is not enough, because of what is lent.
    fn make_room(&mut self, size_bytes: usize, most_bytes: usize) -> Option<Vec<GivenUp>> {
        let mut given_up = Vec::new();
        while self.bytes + size_bytes > most_bytes {
            let (rest, rest_bytes) = self.rests.pop_front().unwrap_or_default();
            let free = self.free.pop_front().unwrap_or_default();
            let bytes = rest_bytes + free.len();
            if bytes == 0 {
                return None;
            }
            self.bytes -= bytes;
            given_up.push((rest, free));
        }
        self.bytes += size_bytes;
        Some(given_up)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
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

    #[test]
    fn what_is_read_goes_where_something_was_read_before() {
        let buffers = Buffers::new(MOST_BYTES);
        let read = |byte: u8, count: usize| {
            let fill = |buffer: &mut [u8]| {
                assert_eq!(buffer.len(), 100_000);
                buffer[..count].fill(byte);
                Ok(count)
            };
            buffers.fill(100_000, fill).unwrap().bytes
        };
        let first = read(1, 90_000);
        assert_eq!(first, vec![1; 90_000]);
        let place = first.as_ptr();
        let second = read(2, 100_000);
        assert_ne!(second.as_ptr(), place, "the first is in use");
        drop(first);
        let third = read(3, 10);
        assert_eq!(third.as_ptr(), place);
        assert_eq!((&third[..], &second[..]), (&[3; 10][..], &[2; 100_000][..]));
        let failed = buffers.fill(100_000, |_| Err(io::Error::other("of the disk")));
        assert!(failed.is_err());
        assert_eq!(buffers.kept.lock().bytes, 3 << 17);
        drop((second, third));
        assert_eq!(buffers.kept.lock().free.len(), 3);
    }

    #[test]
    fn what_cannot_be_counted_is_read_all_the_same() {
        let buffers = Buffers::new(3 << 20);
        buffers.keep(request(1 << 20, 0).0, 1 << 20);
        let read = || buffers.fill(1 << 20, |buffer| Ok(buffer.len())).unwrap();
        let lent = [read(), read(), read()];
        assert!(lent.iter().all(|filled| filled.is_counted), "instead of the request's");
        let one_more = read();
        assert!(!one_more.is_counted && one_more.bytes.len() == 1 << 20);
        buffers.keep(request(1 << 20, 0).0, 1 << 20);
        assert!(buffers.take(1 << 20).is_none(), "all that may be is lent");
        drop(lent);
        buffers.keep(request(1 << 20, 0).0, 1 << 20);
        assert!(buffers.take(1 << 20).is_some());
        assert!(!buffers.fill(5 << 20, |_| Ok(1)).unwrap().is_counted, "too large");
    }
}
