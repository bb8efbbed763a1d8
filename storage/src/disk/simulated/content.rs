//! One file's bytes: what the page cache shows, what the disk holds, and what lies between.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};

use rand::RngExt;
use rand::rngs::SmallRng;

/// What a disk writes whole or not at all.
pub(crate) const SECTOR_LEN: usize = 512;
/// What the kernel caches and evicts.
pub(super) const PAGE_LEN: usize = 4096;
const SECTORS_PER_PAGE: usize = PAGE_LEN / SECTOR_LEN;
/// Older unsynced versions that a sector remembers; write-back may have caught any of them.
const OLDER_VERSIONS: usize = 3;

type Page = [u8; PAGE_LEN];
type Sector = [u8; SECTOR_LEN];
/// A page that is missing holds zeros.
type Pages = BTreeMap<u64, Arc<Page>>;

static ZEROS: LazyLock<Arc<Page>> = LazyLock::new(|| Arc::new([0; PAGE_LEN]));

/// Sectors of a page that were written and not synced.
#[derive(Clone, Default)]
struct DirtyPage {
    sectors: [bool; SECTORS_PER_PAGE],
    older: Vec<(usize, Box<Sector>)>,
}

/// How much of what was not synced survives, drawn once per file: all-or-nothing files next to each
/// other are where order between files matters, coin flips are where it matters within one.
#[derive(Clone, Copy)]
enum Survival {
    Nothing,
    Everything,
    Some { percent: u32 },
}

impl Survival {
    fn draw(rng: &mut SmallRng) -> Self {
        match rng.random_range(0..5) {
            0 => Self::Nothing,
            1 => Self::Everything,
            2 => Self::Some { percent: 10 },
            3 => Self::Some { percent: 90 },
            _ => Self::Some { percent: 50 },
        }
    }

    fn survives(self, rng: &mut SmallRng) -> bool {
        match self {
            Self::Nothing => false,
            Self::Everything => true,
            Self::Some { percent } => rng.random_ratio(percent, 100),
        }
    }
}

/// A file's two contents.
#[derive(Clone, Default)]
pub(super) struct Content {
    cached: Pages,
    cached_len: u64,
    durable: Pages,
    durable_len: u64,
    dirty: BTreeMap<u64, DirtyPage>,
    /// Clean pages that differ from the disk, because a write-back failed. They may be evicted.
    stale: BTreeSet<u64>,
    /// Write-back errors so far.
    pub errors: u64,
}

/// The pages that `len` bytes at `pos` touch: page number, start in the page, length.
fn pieces(pos: u64, len: usize) -> impl Iterator<Item = (u64, usize, usize)> {
    let mut pos = pos;
    let mut left = len;
    std::iter::from_fn(move || {
        let start = (pos % PAGE_LEN as u64) as usize;
        let piece = left.min(PAGE_LEN - start);
        let page = pos / PAGE_LEN as u64;
        pos += piece as u64;
        left -= piece;
        (piece > 0).then_some((page, start, piece))
    })
}

fn sector_of(page: &Page, sector: usize) -> &[u8] {
    let start = sector * SECTOR_LEN;
    page.get(start..start + SECTOR_LEN).unwrap_or_default()
}

fn put_sector(page: &mut Page, sector: usize, bytes: &[u8]) {
    let start = sector * SECTOR_LEN;
    if let Some(slot) = page.get_mut(start..start + SECTOR_LEN) {
        slot.copy_from_slice(bytes);
    }
}

/// Removes what lies behind `len`.
fn cut_pages(pages: &mut Pages, len: u64) {
    let last = len / PAGE_LEN as u64;
    let tail = (len % PAGE_LEN as u64) as usize;
    pages.split_off(&(last + u64::from(tail > 0)));
    if tail > 0
        && let Some(page) = pages.get_mut(&last)
        && let Some(behind) = Arc::make_mut(page).get_mut(tail..)
    {
        behind.fill(0);
    }
}

impl Content {
    pub fn len(&self) -> u64 {
        self.cached_len
    }

    /// Pages that take space.
    pub fn page_count(&self) -> u64 {
        self.cached.len() as u64
    }

    /// Pages that a write would add.
    pub fn new_pages(&self, pos: u64, len: usize) -> u64 {
        let missing = pieces(pos, len).filter(|(page, ..)| !self.cached.contains_key(page));
        missing.count() as u64
    }

    pub fn read(&self, buf: &mut [u8], pos: u64) -> usize {
        let available = self.cached_len.saturating_sub(pos);
        let len = usize::try_from(available).map_or(buf.len(), |n| n.min(buf.len()));
        let mut rest = buf.get_mut(..len).unwrap_or_default();
        for (page, start, piece) in pieces(pos, len) {
            let Some((slot, behind)) = rest.split_at_mut_checked(piece) else {
                break;
            };
            let page = self.cached.get(&page).unwrap_or(&ZEROS);
            slot.copy_from_slice(page.get(start..start + piece).unwrap_or_default());
            rest = behind;
        }
        len
    }

    pub fn write(&mut self, buf: &[u8], pos: u64) {
        if pos > self.cached_len {
            self.set_len(pos);
        }
        let mut rest = buf;
        for (page, start, piece) in pieces(pos, buf.len()) {
            let (bytes, behind) = rest.split_at_checked(piece).unwrap_or_default();
            self.soil(page, start, piece);
            let page = self.cached.entry(page).or_insert_with(|| ZEROS.clone());
            if let Some(slot) = Arc::make_mut(page).get_mut(start..start + piece) {
                slot.copy_from_slice(bytes);
            }
            rest = behind;
        }
        self.cached_len = self.cached_len.max(pos + buf.len() as u64);
    }

    /// Marks sectors as dirty and remembers the versions that are about to be overwritten.
    fn soil(&mut self, page: u64, start: usize, len: usize) {
        let cached = self.cached.get(&page);
        let dirty = self.dirty.entry(page).or_default();
        for sector in start / SECTOR_LEN..=(start + len - 1) / SECTOR_LEN {
            let Some(flag) = dirty.sectors.get_mut(sector) else {
                continue;
            };
            if std::mem::replace(flag, true)
                && let Some(cached) = cached
                && let Ok(old) = Sector::try_from(sector_of(cached, sector))
            {
                let versions = dirty.older.iter().filter(|(s, _)| *s == sector).count();
                if versions < OLDER_VERSIONS {
                    dirty.older.push((sector, Box::new(old)));
                }
            }
        }
    }

    pub fn set_len(&mut self, len: u64) {
        if len < self.cached_len {
            cut_pages(&mut self.cached, len);
            let last = len.div_ceil(PAGE_LEN as u64);
            self.dirty.split_off(&last);
            self.stale.split_off(&last);
        } else {
            // The new zeros hide durable bytes, if a cut is not durable yet: they must be written.
            let hidden = self.durable_len.min(len);
            if hidden > self.cached_len {
                let from = self.cached_len;
                let gap = usize::try_from(hidden - from).unwrap_or(0);
                for (page, start, piece) in pieces(from, gap) {
                    self.soil(page, start, piece);
                    self.cached.entry(page).or_insert_with(|| ZEROS.clone());
                }
            }
        }
        self.cached_len = len;
    }

    /// Writes zeros that take space.
    pub fn allocate(&mut self, pos: u64, len: usize) {
        for (page, start, piece) in pieces(pos, len) {
            if piece == PAGE_LEN {
                self.soil(page, start, piece);
                self.cached.insert(page, ZEROS.clone());
                self.cached_len = self.cached_len.max((page + 1) * PAGE_LEN as u64);
            } else {
                let zeros = ZEROS.get(..piece).unwrap_or_default();
                self.write(zeros, page * PAGE_LEN as u64 + start as u64);
            }
        }
    }

    /// What `fdatasync` does: bytes, and a size that has grown.
    pub fn sync_data(&mut self) {
        for (page, dirty) in std::mem::take(&mut self.dirty) {
            let Some(cached) = self.cached.get(&page) else {
                continue;
            };
            if dirty.sectors.iter().all(|s| *s) {
                self.durable.insert(page, cached.clone());
                self.stale.remove(&page);
                continue;
            }
            let target = self.durable.entry(page).or_insert_with(|| ZEROS.clone());
            let target = Arc::make_mut(target);
            for (sector, _) in dirty.sectors.iter().enumerate().filter(|(_, s)| **s) {
                put_sector(target, sector, sector_of(cached, sector));
            }
            if self.stale.contains(&page) && target == &**cached {
                self.stale.remove(&page);
            }
        }
        self.durable_len = self.durable_len.max(self.cached_len);
    }

    /// What `fsync` does: a cut becomes durable as well.
    pub fn sync_all(&mut self) {
        self.sync_data();
        if self.cached_len < self.durable_len {
            cut_pages(&mut self.durable, self.cached_len);
            self.durable_len = self.cached_len;
        }
    }

    /// A write-back that fails: each dirty sector has reached the disk or has not, and all are clean
    /// from now on. The cache still shows what was written, until the page is evicted.
    pub fn fail_writeback(&mut self, rng: &mut SmallRng) {
        let survival = Survival::draw(rng);
        for (page, dirty) in std::mem::take(&mut self.dirty) {
            let Some(cached) = self.cached.get(&page) else {
                continue;
            };
            let target = self.durable.entry(page).or_insert_with(|| ZEROS.clone());
            let target = Arc::make_mut(target);
            for (sector, _) in dirty.sectors.iter().enumerate().filter(|(_, s)| **s) {
                if survival.survives(rng) {
                    put_sector(target, sector, sector_of(cached, sector));
                } else {
                    self.stale.insert(page);
                }
            }
        }
        if rng.random() {
            self.durable_len = self.durable_len.max(self.cached_len);
        }
        self.errors += 1;
    }

    /// Lets the kernel drop some of the pages that differ from the disk.
    pub fn evict(&mut self, rng: &mut SmallRng) {
        let (durable, cached, dirty) = (&self.durable, &mut self.cached, &self.dirty);
        self.stale.retain(|page| {
            let keep = dirty.contains_key(page) || rng.random_ratio(3, 4);
            if !keep {
                let bytes = durable.get(page).unwrap_or(&ZEROS).clone();
                cached.insert(*page, bytes);
            }
            keep
        });
        cut_pages(&mut self.cached, self.cached_len);
    }

    pub fn has_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    pub fn has_stale(&self) -> bool {
        !self.stale.is_empty()
    }

    /// Whether a power cut changes nothing.
    pub fn is_as_on_disk(&self) -> bool {
        !self.has_dirty() && !self.has_stale() && self.cached_len == self.durable_len && self.errors == 0
    }

    /// What a power cut leaves.
    pub fn cut_power(&mut self, rng: &mut SmallRng) {
        let survival = Survival::draw(rng);
        for (page, dirty) in std::mem::take(&mut self.dirty) {
            let cached = self.cached.get(&page).unwrap_or(&ZEROS);
            for (sector, _) in dirty.sectors.iter().enumerate().filter(|(_, s)| **s) {
                if !survival.survives(rng) {
                    continue;
                }
                // Mostly the last version, at times one that was overwritten before the cut.
                let older: Vec<_> = dirty.older.iter().filter(|(s, _)| *s == sector).collect();
                let pick = rng.random_range(0..older.len() * 2 + 2);
                let bytes = match older.get(pick) {
                    Some((_, old)) => old.as_slice(),
                    None => sector_of(cached, sector),
                };
                let target = self.durable.entry(page).or_insert_with(|| ZEROS.clone());
                put_sector(Arc::make_mut(target), sector, bytes);
            }
        }
        let (low, high) = (
            self.durable_len.min(self.cached_len),
            self.durable_len.max(self.cached_len),
        );
        // A growing size may have reached the disk at any step; a cut has or has not.
        let grown = self.cached_len > self.durable_len;
        self.durable_len = match (survival, rng.random_range(0..3)) {
            (Survival::Nothing, _) => self.durable_len,
            (Survival::Everything, _) | (_, 0) => self.cached_len,
            (_, 1) => self.durable_len,
            (_, _) if grown => rng.random_range(low..=high),
            (_, _) => self.cached_len,
        };
        cut_pages(&mut self.durable, self.durable_len);
        self.cached = self.durable.clone();
        self.cached_len = self.durable_len;
        self.stale.clear();
        self.errors = 0;
    }

    /// Flips one bit on the disk, and in the cache where that is a clean copy of it.
    pub fn flip_bit(&mut self, pos: u64, bit: u32) {
        let (page, at) = (pos / PAGE_LEN as u64, (pos % PAGE_LEN as u64) as usize);
        if pos >= self.durable_len {
            return;
        }
        let clean = !self.dirty.contains_key(&page) && !self.stale.contains(&page);
        let durable = self.durable.entry(page).or_insert_with(|| ZEROS.clone());
        if let Some(byte) = Arc::make_mut(durable).get_mut(at) {
            *byte ^= 1_u8 << (bit % 8);
        }
        if clean && pos < self.cached_len {
            self.cached.insert(page, durable.clone());
        }
    }

    /// The bytes that the page cache shows.
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = vec![0; usize::try_from(self.cached_len).unwrap_or(0)];
        self.read(&mut out, 0);
        out
    }
}
