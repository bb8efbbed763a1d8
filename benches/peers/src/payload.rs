//! Values that are made before a round begins, and that no compression makes small.

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

/// Fits a processor's cache, so that making values costs the client little.
const POOL_BYTES: usize = 4 * 1024 * 1024;

/// A prime, so that a value begins somewhere else each time.
const STEP_BYTES: usize = 8191;

/// Random text of 64 letters: six bits a byte, and it may stand in JSON and in lines.
#[derive(Debug)]
pub struct Payloads {
    pool: Vec<u8>,
}

impl Payloads {
    pub fn new() -> Self {
        const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let mut rng = SmallRng::seed_from_u64(1);
        let letters = std::iter::repeat_with(|| LETTERS.get(rng.random_range(0..64)).copied().unwrap_or(b'A'));
        Self {
            pool: letters.take(POOL_BYTES).collect(),
        }
    }

    /// The value of this number. At most a megabyte.
    pub fn value(&self, number: u64, size_bytes: usize) -> &[u8] {
        let begin = (number as usize).wrapping_mul(STEP_BYTES) % (POOL_BYTES - size_bytes.min(POOL_BYTES - 1));
        self.pool.get(begin..begin + size_bytes).unwrap_or_default()
    }
}
