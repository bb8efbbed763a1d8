//! A disk in memory that does, from a seed, everything a real one may do.
//!
//! - Writes that were not synced survive a power cut as any subset of 512-byte sectors, each whole or
//!   not at all, each perhaps in an older version; bytes that no write touched are unharmed.
//! - Sizes, cuts, creates, renames and removals that were not synced may be undone.
//! - A failed write-back leaves pages clean whose bytes are not on the disk; they may be evicted, so
//!   that later reads see the old bytes. The error is told once to every open file that was opened
//!   before it, and to nobody else.
//! - The machine can stop after any operation, a call can fail, space can run out, bits can flip.
//!
//! The same seed and the same calls give the same disk, to the byte.

mod content;
mod names;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};

pub(crate) use self::content::SECTOR_LEN;
use self::content::{Content, PAGE_LEN};
use self::names::{Directories, Node, ROOT};
use super::{DirectoryLock, Disk, DiskFile, FileSystem, Job, Open};

/// The kinds of call that change a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// `write_at` and `allocate`.
    Write,
    /// `set_len`.
    SetLen,
    /// `sync_data` and `sync_all`, and of the whole file system.
    Sync,
    /// `sync_dir`.
    SyncDir,
    /// Creating, renaming and removing.
    Name,
    /// `read_at`. It changes nothing, so it is not counted with the others, and fails only when asked for by name.
    Read,
}

/// A call that will fail with EIO, or at which the machine will stop.
#[derive(Clone, Debug)]
pub struct Fault {
    /// Which kind of call; none is any that changes the disk.
    pub on: Option<Operation>,
    /// Only on paths that contain this; the empty string is in every path.
    pub path: String,
    /// So many such calls succeed first.
    pub skip: u64,
}

/// See the module. Clones are handles to the same disk; [`SimulatedDisk::fork`] makes a copy.
#[derive(Clone)]
pub struct SimulatedDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Clone)]
struct State {
    names: Directories,
    /// Shared between copies of the disk until one of them changes a file.
    files: BTreeMap<Node, Arc<Content>>,
    directories: BTreeSet<Node>,
    paths: BTreeMap<Node, PathBuf>,
    next_node: Node,
    locks: BTreeSet<PathBuf>,
    rng: SmallRng,
    /// Some file systems have no writes past the page cache.
    takes_blocks: bool,
    capacity_bytes: Option<u64>,
    /// One read in so many lets the kernel evict pages: memory is at times short and at times not.
    reads_per_eviction: u32,
    faults: Vec<Fault>,
    /// The call at which the machine stops.
    stop_at: Option<Fault>,
    /// Operations until the machine stops.
    budget: Option<u64>,
    /// Operations until there is no space left.
    full_after: Option<u64>,
    /// The first operation that failed.
    struck: Option<(Operation, PathBuf)>,
    crashed: bool,
    operations: u64,
    reads: u64,
    /// Write-back errors so far, of all files.
    errors: u64,
    /// Of these, the ones that somebody who synced the file system was told of.
    errors_told: u64,
    history: u32,
}

impl Fault {
    /// Whether it is this call; counts those that come before.
    fn is_due(&mut self, on: Operation, path: &Path) -> bool {
        let meant = self.on.map_or(on != Operation::Read, |kind| kind == on);
        if !meant || !path.to_string_lossy().contains(&self.path) {
            return false;
        }
        let due = self.skip == 0;
        self.skip = self.skip.saturating_sub(1);
        due
    }
}

fn crashed() -> io::Error {
    io::Error::other("simulated crash: the machine has stopped")
}

fn eio(what: &str) -> io::Error {
    io::Error::other(format!("simulated EIO: {what}"))
}

fn not_found(path: &Path) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("{} does not exist", path.display()))
}

fn wrong_kind(path: &Path, reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("{}: {reason}", path.display()))
}

/// What becomes of an operation.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Done,
    /// The machine stops while it is under way, so that it may or may not have happened.
    Crash,
    Fail,
}

impl State {
    fn alive(&self) -> io::Result<()> {
        if self.crashed { Err(crashed()) } else { Ok(()) }
    }

    /// Counts an operation and decides its fate.
    fn operate(&mut self, on: Operation, path: &Path, detail: &[u8]) -> io::Result<Fate> {
        self.alive()?;
        self.operations += 1;
        let mut history = crc32fast::Hasher::new_with_initial(self.history);
        history.update(&[on as u8]);
        history.update(path.as_os_str().as_encoded_bytes());
        history.update(detail);
        self.history = history.finalize();
        let stops = self.stop_at.as_mut().is_some_and(|call| call.is_due(on, path))
            || self.budget.is_some_and(|left| left == 0);
        if stops {
            self.crashed = true;
            self.struck.get_or_insert_with(|| (on, path.into()));
            return Ok(Fate::Crash);
        }
        self.budget = self.budget.map(|left| left - 1);
        Ok(if self.strikes(on, path) { Fate::Fail } else { Fate::Done })
    }

    /// Whether a fault strikes this call.
    fn strikes(&mut self, on: Operation, path: &Path) -> bool {
        let due = self.faults.iter_mut().position(|fault| fault.is_due(on, path));
        if let Some(index) = due {
            self.faults.remove(index);
            self.struck.get_or_insert_with(|| (on, path.into()));
        }
        due.is_some()
    }

    /// The node of a path.
    fn find(&self, path: &Path) -> Option<Node> {
        // Much faster than by components; paths here have no dots.
        let mut names = path.to_str()?.split('/').filter(|name| !name.is_empty());
        names.try_fold(ROOT, |node, name| self.names.get(node, name))
    }

    /// Every file with its path, in the order of the paths.
    fn walk(&self) -> Vec<(PathBuf, &Content)> {
        let mut files = Vec::new();
        let mut open = vec![(PathBuf::from("/"), ROOT)];
        while let Some((path, node)) = open.pop() {
            match self.files.get(&node) {
                Some(file) => files.push((path, &**file)),
                // In the order of the names, so that nothing is left to sort.
                None => {
                    let inside = self.names.list(node).into_iter().rev();
                    open.extend(inside.map(|(name, node)| (path.join(name), node)));
                }
            }
        }
        files
    }

    /// The directory that holds a path, and the path's last name.
    fn place(&self, path: &Path) -> io::Result<(Node, String)> {
        let name = path.file_name().and_then(|n| n.to_str());
        let name = name.ok_or_else(|| wrong_kind(path, "has no name"))?;
        let parent = path.parent().unwrap_or(Path::new(""));
        let directory = self.find(parent).ok_or_else(|| not_found(parent))?;
        if !self.directories.contains(&directory) {
            return Err(wrong_kind(parent, "is not a directory"));
        }
        Ok((directory, name.to_owned()))
    }

    fn content(&self, node: Node) -> io::Result<&Content> {
        let file = self.files.get(&node).ok_or_else(|| eio("the file is gone"))?;
        Ok(file)
    }

    fn file(&mut self, node: Node) -> io::Result<&mut Content> {
        let file = self.files.get_mut(&node).ok_or_else(|| eio("the file is gone"))?;
        Ok(Arc::make_mut(file))
    }

    fn path_of(&self, node: Node) -> PathBuf {
        self.paths.get(&node).cloned().unwrap_or_default()
    }

    /// One step on names: all happen or none.
    fn change_names(&mut self, path: &Path, changes: Vec<((Node, String), Option<Node>)>) -> io::Result<()> {
        let fate = self.operate(Operation::Name, path, &[])?;
        if fate == Fate::Fail {
            return Err(eio("directory change"));
        }
        // A step under way when the machine stops is like one that was done and not synced.
        self.names.change(changes);
        if fate == Fate::Crash { Err(crashed()) } else { Ok(()) }
    }

    fn used_bytes(&self) -> u64 {
        let linked = self.names.all().filter_map(|node| self.files.get(&node));
        linked.map(|file| file.page_count() * PAGE_LEN as u64).sum()
    }

    fn reserve(&mut self, node: Node, pos: u64, len: usize) -> io::Result<()> {
        let full = self.full_after.is_some_and(|operations| self.operations > operations);
        let Some(capacity_bytes) = self.capacity_bytes.or(full.then_some(0)) else {
            return Ok(());
        };
        let file = self.files.get(&node);
        let needed = file.map_or(0, |f| f.new_pages(pos, len)) * PAGE_LEN as u64;
        if needed > 0 && self.used_bytes() + needed > capacity_bytes {
            let path = self.path_of(node);
            self.struck.get_or_insert((Operation::Write, path));
            return Err(io::Error::new(io::ErrorKind::StorageFull, "simulated disk is full"));
        }
        Ok(())
    }

    fn write(&mut self, node: Node, buf: &[u8], pos: u64) -> io::Result<()> {
        let fate = self.operate(Operation::Write, &self.path_of(node), buf)?;
        if fate != Fate::Crash {
            self.reserve(node, pos, buf.len())?;
        }
        // A write that fails or is interrupted may have got any part of its bytes into the cache.
        let len = match fate {
            Fate::Done => buf.len(),
            Fate::Crash | Fate::Fail => self.rng.random_range(0..=buf.len()),
        };
        self.file(node)?.write(buf.get(..len).unwrap_or(buf), pos);
        match fate {
            Fate::Done => Ok(()),
            Fate::Crash => Err(crashed()),
            Fate::Fail => Err(eio("write")),
        }
    }

    fn allocate(&mut self, node: Node, pos: u64, len: u64) -> io::Result<()> {
        let len = usize::try_from(len).map_err(|_| eio("allocate beyond memory"))?;
        let fate = self.operate(Operation::Write, &self.path_of(node), &pos.to_be_bytes())?;
        self.reserve(node, pos, len)?;
        if fate == Fate::Fail {
            return Err(eio("allocate"));
        }
        self.file(node)?.allocate(pos, len);
        if fate == Fate::Crash { Err(crashed()) } else { Ok(()) }
    }

    fn set_len(&mut self, node: Node, len: u64) -> io::Result<()> {
        let fate = self.operate(Operation::SetLen, &self.path_of(node), &len.to_be_bytes())?;
        if fate == Fate::Fail {
            return Err(eio("set length"));
        }
        self.file(node)?.set_len(len);
        if fate == Fate::Crash { Err(crashed()) } else { Ok(()) }
    }

    /// `told` is how many errors this open file has been told of.
    fn sync(&mut self, node: Node, told: &AtomicU64, all: bool) -> io::Result<()> {
        let fate = self.operate(Operation::Sync, &self.path_of(node), &[u8::from(all)])?;
        if fate == Fate::Crash {
            // Nothing is marked clean: the power cut decides what had reached the disk.
            return Err(crashed());
        }
        let mut rng = self.rng.clone();
        let file = self.file(node)?;
        if fate == Fate::Fail {
            file.fail_writeback(&mut rng);
        } else if all {
            file.sync_all();
        } else {
            file.sync_data();
        }
        let errors = file.errors;
        self.rng = rng;
        self.errors += u64::from(fate == Fate::Fail);
        if told.swap(errors, Ordering::SeqCst) < errors {
            return Err(eio("sync: a write-back had failed"));
        }
        Ok(())
    }

    /// `told` is how many errors whoever syncs has been told of.
    fn sync_file_system(&mut self, told: &AtomicU64) -> io::Result<()> {
        let fate = self.operate(Operation::Sync, Path::new("/"), &[])?;
        if fate == Fate::Crash {
            return Err(crashed());
        }
        let mut rng = self.rng.clone();
        for file in self.files.values_mut().filter(|file| !file.is_as_on_disk()) {
            let file = Arc::make_mut(file);
            if fate == Fate::Fail && rng.random() {
                file.fail_writeback(&mut rng);
            } else {
                file.sync_all();
            }
        }
        self.rng = rng;
        self.errors += u64::from(fate == Fate::Fail);
        if fate == Fate::Done {
            self.names.sync_all();
        }
        self.errors_told = self.errors;
        if told.swap(self.errors, Ordering::SeqCst) < self.errors {
            return Err(eio("sync of the file system: a write-back had failed"));
        }
        Ok(())
    }

    fn read(&mut self, node: Node, buf: &mut [u8], pos: u64) -> io::Result<usize> {
        self.alive()?;
        self.reads += 1;
        if !self.faults.is_empty() && self.strikes(Operation::Read, &self.path_of(node)) {
            return Err(eio("read"));
        }
        if self.content(node)?.has_stale() && self.rng.random_ratio(1, self.reads_per_eviction) {
            let mut rng = self.rng.clone();
            self.file(node)?.evict(&mut rng);
            self.rng = rng;
        }
        Ok(self.content(node)?.read(buf, pos))
    }
}

impl SimulatedDisk {
    /// An empty disk; the seed decides what power cuts and failures leave.
    pub fn new(seed: u64) -> Self {
        Self::from_state(State {
            names: Directories::default(),
            files: BTreeMap::new(),
            directories: BTreeSet::from([ROOT]),
            paths: BTreeMap::from([(ROOT, PathBuf::from("/"))]),
            next_node: ROOT + 1,
            locks: BTreeSet::new(),
            rng: SmallRng::seed_from_u64(seed),
            takes_blocks: seed % 5 != 4,
            capacity_bytes: None,
            reads_per_eviction: 1,
            faults: Vec::new(),
            stop_at: None,
            budget: None,
            full_after: None,
            struck: None,
            crashed: false,
            operations: 0,
            reads: 0,
            errors: 0,
            errors_told: 0,
            history: 0,
        })
    }

    fn from_state(state: State) -> Self {
        Self {
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// The disk after a power cut now. What was not synced survives as `rng` decides.
    pub fn cut_power(&self, rng: &mut SmallRng) -> Self {
        let after = self.restart();
        {
            let mut state = after.state.lock();
            state.rng = SmallRng::seed_from_u64(rng.random());
            let mut rng = state.rng.clone();
            state.names.cut_power(&mut rng);
            for file in state.files.values_mut().filter(|file| !file.is_as_on_disk()) {
                Arc::make_mut(file).cut_power(&mut rng);
            }
            state.rng = rng;
        }
        after
    }

    /// The disk as the next process finds it when only this one died: the page cache is still there.
    pub fn restart(&self) -> Self {
        let mut state = self.state.lock().clone();
        state.locks.clear();
        state.faults.clear();
        state.stop_at = None;
        state.budget = None;
        state.full_after = None;
        state.struck = None;
        state.crashed = false;
        state.reads_per_eviction = match state.rng.random_range(0..3) {
            0 => 1,
            1 => 4,
            _ => 20,
        };
        Self::from_state(state)
    }

    /// An independent copy, with everything that is pending.
    pub fn fork(&self) -> Self {
        Self::from_state(self.state.lock().clone())
    }

    /// Lets `operations` more calls that change the disk succeed; the next one is cut short and it and
    /// every call after it, reads too, fail.
    pub fn crash_after(&self, operations: u64) {
        self.state.lock().budget = Some(operations);
    }

    /// Stops the machine at a certain call, as [`Self::crash_after`] does.
    pub fn crash_at(&self, call: Fault) {
        self.state.lock().stop_at = Some(call);
    }

    /// Lets `operations` more calls that change the disk succeed; from then on there is no space for what needs some.
    pub fn fill_after(&self, operations: u64) {
        let mut state = self.state.lock();
        state.full_after = Some(state.operations + operations);
    }

    /// The first call since the last start that failed.
    pub fn struck(&self) -> Option<(Operation, PathBuf)> {
        self.state.lock().struck.clone()
    }

    /// Whether the machine has stopped.
    pub fn has_crashed(&self) -> bool {
        self.state.lock().crashed
    }

    /// Arms a fault.
    pub fn inject(&self, fault: Fault) {
        self.state.lock().faults.push(fault);
    }

    /// Disarms every fault, and says how many had not struck.
    pub fn clear_faults(&self) -> usize {
        std::mem::take(&mut self.state.lock().faults).len()
    }

    /// Lets the write-back of a file's unsynced bytes fail behind everybody's back.
    pub fn fail_writeback(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        let node = state.find(path).ok_or_else(|| not_found(path))?;
        let mut rng = state.rng.clone();
        state.file(node)?.fail_writeback(&mut rng);
        state.rng = rng;
        state.errors += 1;
        Ok(())
    }

    /// Bounds the bytes that files may take, in pages of 4 KiB.
    pub fn set_capacity(&self, capacity_bytes: Option<u64>) {
        self.state.lock().capacity_bytes = capacity_bytes;
    }

    /// Flips a bit of what is on the disk, if the file is that long.
    pub fn flip_bit(&self, path: &Path, pos: u64, bit: u32) -> io::Result<()> {
        let mut state = self.state.lock();
        let node = state.find(path).ok_or_else(|| not_found(path))?;
        state.file(node)?.flip_bit(pos, bit);
        Ok(())
    }

    /// Calls so far that changed the disk.
    pub fn operations(&self) -> u64 {
        self.state.lock().operations
    }

    /// Reads so far.
    pub fn reads(&self) -> u64 {
        self.state.lock().reads
    }

    /// A checksum over all calls that changed it, with their bytes: two runs that agree did the same.
    pub fn history(&self) -> u32 {
        self.state.lock().history
    }

    /// Every file with its size, as a reader would see them.
    pub fn paths(&self) -> BTreeMap<PathBuf, u64> {
        let state = self.state.lock();
        let files = state.walk().into_iter();
        files.map(|(path, file)| (path, file.len())).collect()
    }

    /// Files with bytes that are not on the disk yet.
    pub fn unsynced(&self) -> Vec<PathBuf> {
        let state = self.state.lock();
        let dirty = state.walk().into_iter().filter(|(_, file)| file.has_dirty());
        dirty.map(|(path, _)| path).collect()
    }

    /// The bytes of those files that are wanted.
    pub fn files(&self, wanted: impl Fn(&Path) -> bool) -> BTreeMap<PathBuf, Vec<u8>> {
        let state = self.state.lock();
        let wanted = state.walk().into_iter().filter(|(path, _)| wanted(path));
        wanted.map(|(path, file)| (path, file.bytes())).collect()
    }

    /// The bytes of one file, if it is there.
    pub fn bytes(&self, path: &Path) -> Option<Vec<u8>> {
        let state = self.state.lock();
        Some(state.files.get(&state.find(path)?)?.bytes())
    }
}

impl Disk for SimulatedDisk {
    fn open(&self, path: &Path, mode: Open) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state.lock();
        state.alive()?;
        let node = match (state.find(path), mode) {
            (Some(_), Open::CreateNew) => {
                let kind = io::ErrorKind::AlreadyExists;
                return Err(io::Error::new(kind, format!("{} exists", path.display())));
            }
            (Some(node), _) if state.directories.contains(&node) => {
                return Err(wrong_kind(path, "is a directory"));
            }
            (Some(node), _) => node,
            (None, Open::CreateNew) => {
                let place = state.place(path)?;
                let node = state.next_node;
                state.next_node += 1;
                state.files.insert(node, Arc::default());
                state.paths.insert(node, path.to_owned());
                state.change_names(path, vec![(place, Some(node))])?;
                node
            }
            (None, _) => return Err(not_found(path)),
        };
        let told = AtomicU64::new(state.content(node)?.errors);
        Ok(Arc::new(SimulatedFile {
            disk: self.clone(),
            node,
            told,
            mode,
        }))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.alive()?;
        match state.find(path) {
            Some(node) if state.directories.contains(&node) => return Ok(()),
            Some(_) => return Err(wrong_kind(path, "is a file")),
            None => {}
        }
        let place = state.place(path)?;
        let node = state.next_node;
        state.next_node += 1;
        state.directories.insert(node);
        state.change_names(path, vec![(place, Some(node))])
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let state = self.state.lock();
        state.alive()?;
        let node = state.find(path).ok_or_else(|| not_found(path))?;
        if !state.directories.contains(&node) {
            return Err(wrong_kind(path, "is not a directory"));
        }
        Ok(state.names.list(node).into_iter().map(|(name, _)| name).collect())
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        let state = self.state.lock();
        state.alive()?;
        Ok(state.find(path).is_some())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.alive()?;
        let node = state.find(from).ok_or_else(|| not_found(from))?;
        let (old, new) = (state.place(from)?, state.place(to)?);
        if state.find(to).is_some_and(|n| state.directories.contains(&n)) {
            return Err(wrong_kind(to, "is a directory"));
        }
        state.paths.insert(node, to.to_owned());
        state.change_names(to, vec![(old, None), (new, Some(node))])
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.alive()?;
        let node = state.find(path).ok_or_else(|| not_found(path))?;
        if !state.files.contains_key(&node) {
            return Err(wrong_kind(path, "is a directory"));
        }
        let place = state.place(path)?;
        state.change_names(path, vec![(place, None)])
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.alive()?;
        let node = state.find(path).ok_or_else(|| not_found(path))?;
        if !state.directories.contains(&node) {
            return Err(wrong_kind(path, "is a file"));
        }
        if !state.names.list(node).is_empty() {
            let kind = io::ErrorKind::DirectoryNotEmpty;
            return Err(io::Error::new(kind, format!("{} is not empty", path.display())));
        }
        let place = state.place(path)?;
        state.change_names(path, vec![(place, None)])
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.alive()?;
        let node = state.find(path).ok_or_else(|| not_found(path))?;
        match state.operate(Operation::SyncDir, path, &[])? {
            Fate::Done => state.names.sync(node),
            Fate::Crash => return Err(crashed()),
            Fate::Fail => return Err(eio("sync directory")),
        }
        Ok(())
    }

    fn file_system(&self, _dir: &Path) -> io::Result<Option<Box<dyn FileSystem>>> {
        let state = self.state.lock();
        state.alive()?;
        Ok(Some(Box::new(SimulatedFileSystem {
            disk: self.clone(),
            // As Linux does (`errseq_sample`): of what nobody was told of, this one will be.
            told: AtomicU64::new(state.errors_told),
        })))
    }

    fn run_all(&self, mut jobs: Vec<Job<'_>>) -> io::Result<()> {
        jobs.shuffle(&mut self.state.lock().rng);
        // All are done, whichever fails.
        let outcomes: Vec<io::Result<()>> = jobs.into_iter().map(|job| job()).collect();
        outcomes.into_iter().collect()
    }

    fn free_bytes(&self, _path: &Path) -> io::Result<u64> {
        let state = self.state.lock();
        state.alive()?;
        let capacity_bytes = state.capacity_bytes.unwrap_or(1 << 40);
        Ok(capacity_bytes.saturating_sub(state.used_bytes()))
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DirectoryLock>> {
        let mut state = self.state.lock();
        state.alive()?;
        if !state.locks.insert(path.to_owned()) {
            let kind = io::ErrorKind::WouldBlock;
            return Err(io::Error::new(kind, format!("{} is locked", path.display())));
        }
        Ok(Box::new(Lock {
            disk: self.clone(),
            path: path.to_owned(),
        }))
    }
}

struct SimulatedFileSystem {
    disk: SimulatedDisk,
    told: AtomicU64,
}

impl FileSystem for SimulatedFileSystem {
    fn sync(&self) -> io::Result<()> {
        self.disk.state.lock().sync_file_system(&self.told)
    }
}

struct Lock {
    disk: SimulatedDisk,
    path: PathBuf,
}

impl DirectoryLock for Lock {
    fn is_in_place(&self) -> io::Result<bool> {
        Ok(true)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        self.disk.state.lock().locks.remove(&self.path);
    }
}

struct SimulatedFile {
    disk: SimulatedDisk,
    node: Node,
    told: AtomicU64,
    mode: Open,
}

impl SimulatedFile {
    fn writable(&self) -> io::Result<()> {
        if self.mode != Open::Read {
            return Ok(());
        }
        let kind = io::ErrorKind::PermissionDenied;
        Err(io::Error::new(kind, "the file is open for reading only"))
    }
}

impl DiskFile for SimulatedFile {
    fn read_at(&self, buf: &mut [u8], pos: u64) -> io::Result<usize> {
        self.disk.state.lock().read(self.node, buf, pos)
    }

    fn write_at(&self, buf: &[u8], pos: u64) -> io::Result<()> {
        self.writable()?;
        self.disk.state.lock().write(self.node, buf, pos)
    }

    /// As small as can be: most runs are.
    fn page_bytes(&self) -> u64 {
        SECTOR_LEN as u64
    }

    fn write_blocks_at(&self, pieces: &[&[u8]], pos: u64) -> io::Result<bool> {
        if self.mode != Open::Blocks || !self.disk.state.lock().takes_blocks {
            return Ok(false);
        }
        if !pos.is_multiple_of(SECTOR_LEN as u64) {
            return Err(io::Error::other("a block does not begin there"));
        }
        let mut blocks = pieces.concat();
        blocks.resize(blocks.len().next_multiple_of(SECTOR_LEN), 0);
        self.write_at(&blocks, pos).map(|()| true)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk.state.lock().sync(self.node, &self.told, false)
    }

    fn sync_all(&self) -> io::Result<()> {
        self.disk.state.lock().sync(self.node, &self.told, true)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.writable()?;
        self.disk.state.lock().set_len(self.node, len)
    }

    fn len(&self) -> io::Result<u64> {
        let state = self.disk.state.lock();
        state.alive()?;
        Ok(state.content(self.node)?.len())
    }

    fn allocate(&self, pos: u64, len: u64) -> io::Result<()> {
        self.writable()?;
        self.disk.state.lock().allocate(self.node, pos, len)
    }
}
