//! Memory to read into, used again for what is read next. The system gives fresh memory page by page, at a cost of half of
//! what a serving broker does.

use std::collections::VecDeque;
use std::io;
use std::ops::RangeInclusive;
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use parking_lot::Mutex;

/// For others nothing is kept.
const SIZES_BYTES: RangeInclusive<usize> = 64 * 1024..=4 << 20;
/// Sizes are multiples of it, so that what was read for one fits others.
const UNIT_BYTES: usize = 64 * 1024;

/// See the [module](self).
#[derive(Debug)]
pub struct Buffers {
    kept: Mutex<Kept>,
    /// All that is free or lent.
    most_bytes: usize,
}

#[derive(Debug, Default)]
struct Kept {
    /// What was free first is in front.
    free: VecDeque<Vec<u8>>,
    free_bytes: usize,
    lent_bytes: usize,
}

/// What was read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filled {
    pub bytes: Bytes,
    /// Whether all of the memory, however little of it is used, counts among that of [`Buffers`] as long as there are such
    /// bytes. Otherwise nobody counts it.
    pub is_counted: bool,
}

/// Memory that is lent. It is free again when nobody has any of its bytes.
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
        let mut kept = self.buffers.kept.lock();
        kept.lent_bytes -= bytes.len();
        kept.free_bytes += bytes.len();
        kept.free.push_back(bytes);
    }
}

impl Buffers {
    /// At most so much is kept, over and above what the readers themselves may have.
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
    pub(crate) fn fill(
        self: &Arc<Self>,
        bytes: usize,
        read: impl FnOnce(&mut [u8]) -> io::Result<usize>,
    ) -> io::Result<Filled> {
        let Some(mut memory) = self.lend(bytes) else {
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
    fn lend(self: &Arc<Self>, bytes: usize) -> Option<Memory> {
        if !SIZES_BYTES.contains(&bytes) {
            return None;
        }
        let size_bytes = bytes.next_multiple_of(UNIT_BYTES);
        let fits = |free: &Vec<u8>| (size_bytes..=2 * size_bytes).contains(&free.len());
        let mut given_up = Vec::new();
        let mut kept = self.kept.lock();
        // The last that was used may be in the processor's cache still.
        let place = kept.free.iter().rposition(fits);
        let free = place.and_then(|place| kept.free.remove(place));
        match &free {
            Some(free) => kept.free_bytes -= free.len(),
            // Nothing is given up in vain.
            None if kept.lent_bytes + size_bytes > self.most_bytes => return None,
            None => {
                while kept.free_bytes + kept.lent_bytes + size_bytes > self.most_bytes {
                    let oldest = kept.free.pop_front()?;
                    kept.free_bytes -= oldest.len();
                    given_up.push(oldest);
                }
            }
        }
        kept.lent_bytes += free.as_ref().map_or(size_bytes, Vec::len);
        // Outside of the lock: the system takes memory back, and gives some.
        drop(kept);
        drop(given_up);
        Some(Memory {
            bytes: free.unwrap_or_else(|| vec![0; size_bytes]),
            filled: 0,
            buffers: Arc::clone(self),
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    const MEBIBYTE: usize = 1 << 20;

    fn read(buffers: &Arc<Buffers>, bytes: usize, byte: u8, count: usize) -> Filled {
        let fill = |buffer: &mut [u8]| {
            assert_eq!(buffer.len(), bytes);
            buffer[..count].fill(byte);
            Ok(count)
        };
        buffers.fill(bytes, fill).unwrap()
    }

    fn figures(buffers: &Buffers) -> (usize, usize, usize) {
        let kept = buffers.kept.lock();
        let free_bytes = kept.free.iter().map(Vec::len).sum::<usize>();
        assert_eq!(free_bytes, kept.free_bytes);
        (kept.free.len(), free_bytes, kept.lent_bytes)
    }

    #[test]
    fn what_is_read_goes_where_something_was_read_before() {
        let buffers = Buffers::new(MEBIBYTE);
        let first = read(&buffers, 100_000, 1, 90_000).bytes;
        assert_eq!(first, vec![1; 90_000]);
        let place = first.as_ptr();
        let second = read(&buffers, 100_000, 2, 100_000).bytes;
        assert_ne!(second.as_ptr(), place, "the first is in use");
        drop(first);
        let larger = read(&buffers, 200_000, 4, 1).bytes;
        assert_ne!(larger.as_ptr(), place, "it is too small");
        let third = read(&buffers, 70_000, 3, 10).bytes;
        assert_eq!(third.as_ptr(), place);
        assert_eq!((&third[..], &second[..]), (&[3; 10][..], &[2; 100_000][..]));
        assert!(buffers.fill(100_000, |_| Err(io::Error::other("of the disk"))).is_err());
        let slice = second.slice(5..6);
        drop((second, third, larger));
        assert_eq!(figures(&buffers).2, 131_072, "some of it is in use");
        drop(slice);
        assert_eq!(figures(&buffers).2, 0);
    }

    #[test]
    fn what_cannot_be_counted_is_read_all_the_same() {
        let buffers = Buffers::new(3 * MEBIBYTE);
        drop(read(&buffers, 2 * MEBIBYTE, 1, 1));
        assert_eq!(figures(&buffers), (1, 2 * MEBIBYTE, 0));
        let lent = [(); 3].map(|()| read(&buffers, MEBIBYTE - 1, 1, 1));
        assert_eq!(lent.each_ref().map(|filled| filled.is_counted), [true, true, false]);
        assert_eq!(figures(&buffers).1 + figures(&buffers).2, 3 * MEBIBYTE);
        drop(lent);
        let (count, free_bytes, lent_bytes) = figures(&buffers);
        assert_eq!((count, free_bytes, lent_bytes), (2, 3 * MEBIBYTE, 0));
        // Nothing is given up in vain.
        let lent = read(&buffers, 3 * MEBIBYTE, 1, 1);
        assert!(lent.is_counted);
        assert!(!read(&buffers, MEBIBYTE, 1, 1).is_counted);
        assert!(!read(&buffers, 5 * MEBIBYTE, 1, 1).is_counted, "too large");
        assert!(!read(&buffers, 1000, 1, 1).is_counted, "too small");
    }
}
