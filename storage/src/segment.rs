//! A segment: a file of record batches, byte for byte as Kafka's clients see them, and its index.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;

use crate::MAX_WRITE_SET_BYTES;
use crate::append::Tail;
use crate::batch::{self, BatchHeader, HEADER_LEN};
use crate::buffers::Buffers;
use crate::disk::{Disk, DiskFile, Open};
use crate::index::{ENTRY_BYTES, Index, IndexEntry};
use crate::manifest::StoredSegment;
use crate::planted::{Planted, planted};
use crate::read::Reach;

/// How much a log has grown unread that nobody has read of yet: as much as can be, and what is added still fits.
const NEVER_READ: u64 = u64::MAX / 2;

/// A segment file on disk, with the descriptors that are open on it.
#[derive(Debug)]
pub(crate) struct SegmentFile {
    pub path: PathBuf,
    handles: Mutex<Option<Handles>>,
    /// Whether the file's name, and that of its directory, survive a power cut. False until this process has synced them.
    name_durable: AtomicBool,
    /// Written since the last sync began.
    unsynced_bytes: AtomicU64,
    /// How much the log has grown since anybody read of the segment that was its last.
    unread_bytes: AtomicU64,
    /// See [`crate::append`].
    pub tail: Mutex<Option<Tail>>,
}

/// Linux reports a write-back error once for each open file description, and only to those that were
/// open before the write. So the checkpoint, which vouches for the bytes, has its own. What is written by that one goes past the
/// page cache, and fails at once or not at all.
#[derive(Clone)]
pub(crate) struct Handles {
    pub writer: Arc<dyn DiskFile>,
    pub syncer: Arc<dyn DiskFile>,
}

impl std::fmt::Debug for Handles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Handles")
    }
}

impl SegmentFile {
    pub fn new(path: PathBuf) -> Self {
        Self {
            path,
            handles: Mutex::new(None),
            name_durable: AtomicBool::new(false),
            unsynced_bytes: AtomicU64::new(0),
            unread_bytes: AtomicU64::new(NEVER_READ),
            tail: Mutex::new(None),
        }
    }

    /// Whether the file itself would be there after a power cut.
    pub fn is_name_durable(&self) -> bool {
        self.name_durable.load(Ordering::Relaxed)
    }

    /// Its directory, and the directory of that, were synced.
    pub fn note_name_durable(&self) {
        self.name_durable.store(true, Ordering::Relaxed);
    }

    /// About how much a sync has to write.
    pub fn unsynced_bytes(&self) -> u64 {
        self.unsynced_bytes.load(Ordering::Relaxed)
    }

    /// So much was written.
    pub fn note_written(&self, bytes: u64) {
        self.unsynced_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// It has grown by so much.
    pub fn note_grown(&self, bytes: u64) {
        self.unread_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// The log goes on in it: who read the one before reads on.
    pub fn note_follows(&self, before: &Self) {
        let bytes = before.unread_bytes.load(Ordering::Relaxed);
        self.unread_bytes.store(bytes, Ordering::Relaxed);
    }

    /// A consumer reads of it.
    pub fn note_read(&self) {
        self.unread_bytes.store(0, Ordering::Relaxed);
    }

    /// Whether nobody follows what is written, so that the page cache is of no use to it: see
    /// [`unread_bytes`](crate::options::Options::unread_bytes).
    pub fn is_unread(&self, least_bytes: u64) -> bool {
        self.unread_bytes.load(Ordering::Relaxed) >= least_bytes
    }

    /// What was written before is about to become durable.
    pub fn note_sync_begins(&self) {
        self.unsynced_bytes.store(0, Ordering::Relaxed);
    }

    /// Makes what was written durable, by the description that vouches for it: opened before the writes, see [`Handles`].
    /// A segment that was retired in the meantime has none, and needs no sync. No two may do this at the same time: a failure
    /// is told only to the first.
    pub fn sync(&self, disk: &dyn Disk) -> io::Result<()> {
        self.note_sync_begins();
        if planted(Planted::SkipSegmentSync) {
            return Ok(());
        }
        if planted(Planted::SyncThroughNewDescription) {
            return disk.open(&self.path, Open::ReadWrite)?.sync_all();
        }
        let synced = self.open_handles().map_or(Ok(()), |handles| handles.syncer.sync_all());
        synced.map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", self.path.display())))
    }

    /// The descriptors for writing and syncing, opened together before the first write.
    pub fn handles(&self, disk: &dyn Disk, mode: Open) -> io::Result<Handles> {
        let mut slot = self.handles.lock();
        if let Some(handles) = &*slot {
            return Ok(handles.clone());
        }
        let writer = disk.open(&self.path, mode)?;
        let syncer = disk.open(&self.path, Open::Blocks)?;
        let handles = Handles { writer, syncer };
        *slot = Some(handles.clone());
        Ok(handles)
    }

    /// Opens it for a last sync, because another segment follows it. None if it is gone, which reads will tell.
    ///
    /// A start looks behind the ends of the active segment and of those that it writes to, and cuts what an unacknowledged
    /// extent has left there. If that start did not come to its end, the cut may be on no disk yet, and a power cut may
    /// undo it.
    pub fn open_to_seal(&self, disk: &dyn Disk) -> io::Result<Option<Handles>> {
        match self.handles(disk, Open::ReadWrite) {
            Ok(handles) => Ok(Some(handles)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The descriptors, if they are open.
    pub fn open_handles(&self) -> Option<Handles> {
        self.handles.lock().clone()
    }

    /// A descriptor for reading: the writer's if it is open.
    pub fn reader(&self, disk: &dyn Disk) -> io::Result<Arc<dyn DiskFile>> {
        if let Some(handles) = &*self.handles.lock() {
            return Ok(handles.writer.clone());
        }
        disk.open(&self.path, Open::Read)
    }

    /// As [`Self::reader`], but without waiting for the disk, or for who opens the segment at the moment.
    pub fn cached_reader(&self, disk: &dyn Disk) -> io::Result<Arc<dyn DiskFile>> {
        let handles = self.handles.try_lock().ok_or(io::ErrorKind::WouldBlock)?;
        match &*handles {
            Some(handles) => Ok(handles.writer.clone()),
            None => disk.open_cached(&self.path),
        }
    }

    /// Gives up the descriptors of a segment that is not written any more. If its file was removed, closing the last of them
    /// frees all of its space, which can take a tenth of a second: nobody may hold the state while they are dropped.
    #[must_use]
    pub fn take_handles(&self) -> Option<Handles> {
        *self.tail.lock() = None;
        self.handles.lock().take()
    }

    /// The path of the index beside the segment.
    pub fn index_path(&self) -> PathBuf {
        self.path.with_extension("index")
    }
}

/// The index of a segment, or where to find it.
#[derive(Debug, Clone)]
pub(crate) enum IndexState {
    Loaded(Arc<Index>),
    Stored,
}

/// What is published of a segment.
#[derive(Debug, Clone)]
pub(crate) struct Segment {
    pub base: i64,
    pub size_bytes: u64,
    pub max_timestamp: i64,
    /// The largest timestamp of the first batch, if it was looked at and has one: an active segment's age counts from it.
    pub first_timestamp: Option<i64>,
    pub file: Arc<SegmentFile>,
    pub index: IndexState,
    /// How much of the index the last checkpoint wrote, and its checksum.
    pub index_entries: u32,
    pub index_crc: u32,
}

/// The name of a segment file: its base offset in 20 digits, as Kafka's.
pub(crate) fn file_name(base: i64) -> String {
    format!("{base:020}.log")
}

/// The base offset in a segment file's name.
pub(crate) fn base_of(name: &str) -> Option<i64> {
    let digits = name.strip_suffix(".log")?;
    if digits.len() != 20 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok()
}

impl Segment {
    pub fn new(base: i64, file: Arc<SegmentFile>) -> Self {
        Self {
            base,
            size_bytes: 0,
            max_timestamp: i64::MIN,
            first_timestamp: None,
            file,
            index: IndexState::Loaded(Arc::default()),
            index_entries: 0,
            index_crc: 0,
        }
    }

    pub fn from_stored(stored: &StoredSegment, dir: &Path) -> Self {
        Self {
            base: stored.base,
            size_bytes: stored.size_bytes,
            max_timestamp: stored.max_timestamp,
            first_timestamp: None,
            file: Arc::new(SegmentFile::new(dir.join(file_name(stored.base)))),
            index: IndexState::Stored,
            index_entries: stored.index_entries,
            index_crc: stored.index_crc,
        }
    }

    pub fn to_stored(&self) -> StoredSegment {
        StoredSegment {
            base: self.base,
            size_bytes: self.size_bytes,
            max_timestamp: self.max_timestamp,
            index_entries: self.index_entries,
            index_crc: self.index_crc,
        }
    }

    /// Takes note of a batch that was written at `position`.
    pub fn note(&mut self, header: &BatchHeader, position: u32) {
        if let IndexState::Loaded(index) = &mut self.index {
            let relative = u32::try_from(header.base_offset - self.base).unwrap_or(u32::MAX);
            Arc::make_mut(index).note(relative, position, header.max_timestamp);
        }
        if self.size_bytes == 0 {
            self.first_timestamp = Some(header.max_timestamp).filter(|time_ms| *time_ms >= 0);
        }
        self.size_bytes = self.size_bytes.max(u64::from(position) + header.size_bytes() as u64);
        self.max_timestamp = self.max_timestamp.max(header.max_timestamp);
    }

    /// Looks at the first batch for its timestamp. Without one that reads, the segment's age is not known.
    pub fn read_first_timestamp(&mut self, disk: &dyn Disk) {
        if self.first_timestamp.is_some() || self.size_bytes == 0 {
            return;
        }
        let mut header = [0; HEADER_LEN];
        let read = self.file.reader(disk).and_then(|file| file.read_at(&mut header, 0));
        let header = read.ok().and_then(|_| BatchHeader::parse(&header).ok());
        self.first_timestamp = header
            .map(|header| header.max_timestamp)
            .filter(|time_ms| *time_ms >= 0);
    }

    /// Reads the stored index, or rebuilds it from the segment if it does not check.
    pub fn load_index(&self, disk: &dyn Disk) -> io::Result<LoadedIndex> {
        match self.read_index(disk) {
            Ok(Some(index)) => Ok(LoadedIndex { index, rebuilt: false }),
            Ok(None) => Ok(LoadedIndex {
                index: self.rebuild_index(disk)?,
                rebuilt: true,
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(LoadedIndex {
                index: self.rebuild_index(disk)?,
                rebuilt: true,
            }),
            Err(error) => Err(error),
        }
    }

    /// Takes an index into memory. A rebuilt one is written anew by the next checkpoint.
    pub fn install_index(&mut self, loaded: LoadedIndex) {
        if matches!(self.index, IndexState::Loaded(_)) {
            return;
        }
        if loaded.rebuilt {
            self.index_entries = 0;
            self.index_crc = 0;
        }
        self.index = IndexState::Loaded(Arc::new(loaded.index));
    }

    /// The stored index; none if it does not check.
    pub fn read_index(&self, disk: &dyn Disk) -> io::Result<Option<Index>> {
        if self.index_entries == 0 {
            return Ok((self.size_bytes == 0).then(Index::default));
        }
        let file = disk.open(&self.file.index_path(), Open::Read)?;
        let len = self.index_entries as usize * ENTRY_BYTES;
        if file.len()? < len as u64 {
            return Ok(None);
        }
        let mut bytes = vec![0; len];
        if file.read_at(&mut bytes, 0)? != len || crc32fast::hash(&bytes) != self.index_crc {
            return Ok(None);
        }
        let entries = bytes.as_chunks().0.iter().map(IndexEntry::decode).collect();
        Ok(Some(Index::from_entries(entries, self.max_timestamp)))
    }

    /// Walks the segment. A batch that does not check ends the index; reading will name the damage.
    fn rebuild_index(&self, disk: &dyn Disk) -> io::Result<Index> {
        let file = self.file.reader(disk)?;
        let mut index = Index::default();
        let mut position = 0;
        let mut header = [0; HEADER_LEN];
        while position < self.size_bytes {
            if file.read_at(&mut header, position)? < HEADER_LEN {
                break;
            }
            let Ok(header) = BatchHeader::parse(&header) else { break };
            let (Ok(relative), Ok(at)) = (u32::try_from(header.base_offset - self.base), u32::try_from(position))
            else {
                break;
            };
            index.note(relative, at, header.max_timestamp);
            position += header.size_bytes() as u64;
        }
        Ok(index)
    }
}

/// An index that was brought into memory.
#[derive(Debug)]
pub(crate) struct LoadedIndex {
    pub index: Index,
    /// The stored one did not check.
    pub rebuilt: bool,
}

/// What walking a segment found wrong.
#[derive(Debug)]
pub(crate) enum WalkError {
    Io(io::Error),
    Damaged { offset: i64, position: u64, reason: String },
}

/// The header of a batch that is to have this base offset, or why it cannot be one. What its length says may then be read.
pub(crate) fn plausible_header(bytes: &[u8], base_offset: i64) -> Result<BatchHeader, String> {
    let header = BatchHeader::parse(bytes).map_err(|error| error.to_string())?;
    if header.size_bytes() as u64 > MAX_WRITE_SET_BYTES {
        return Err("its length is more than any batch may have".into());
    }
    if header.last_offset_delta < 0 {
        return Err("its last offset lies before its first".into());
    }
    if header.base_offset != base_offset {
        return Err(format!("its base offset is {}", header.base_offset));
    }
    Ok(header)
}

/// Walks batches of a segment forward, checking each: its checksum, its length against the segment, and
/// its base offset (which Kafka's checksum does not cover) against the end of the one before.
pub(crate) struct SegmentWalk {
    file: Arc<dyn DiskFile>,
    size_bytes: u64,
    buffer: Bytes,
    /// Position of the buffer's first byte.
    buffer_start: u64,
    position: u64,
    next_offset: i64,
    read_ahead: usize,
    /// Batches that end before this offset are passed over by their headers alone: nobody is served them.
    wanted_from: i64,
    /// The offset behind the segment, for who passes over batches: their headers must lead there.
    end: Option<i64>,
    /// Where memory to read into comes from.
    buffers: Arc<Buffers>,
    /// Whether they count the present one.
    is_counted: bool,
    reach: Reach,
}

const SMALLEST_READ: usize = 16 * 1024;

impl SegmentWalk {
    /// Begins at a batch that is known to stand at `position` with base offset `offset`.
    pub fn new(file: Arc<dyn DiskFile>, size_bytes: u64, position: u64, offset: i64, read_ahead: usize) -> Self {
        Self {
            file,
            size_bytes,
            buffer: Bytes::new(),
            buffer_start: position,
            position,
            next_offset: offset,
            read_ahead: read_ahead.max(SMALLEST_READ),
            wanted_from: i64::MIN,
            end: None,
            buffers: Buffers::none(),
            is_counted: false,
            reach: Reach::Disk,
        }
    }

    /// Reads into memory that was used before.
    pub fn with_buffers(mut self, buffers: &Arc<Buffers>) -> Self {
        self.buffers = Arc::clone(buffers);
        self
    }

    /// Reads no further than that.
    pub fn within(mut self, reach: Reach) -> Self {
        self.reach = reach;
        self
    }

    /// Begins with the batch that holds `offset`, even if one before it is damaged, as long as its header leads on. `end` is
    /// the offset behind the segment.
    pub fn wanted_from(mut self, offset: i64, end: i64) -> Self {
        self.wanted_from = offset;
        self.end = Some(end);
        self
    }

    /// Where the next batch stands.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The offset that the next batch must have.
    pub fn next_offset(&self) -> i64 {
        self.next_offset
    }

    /// Where the next batch ends, if its header can be one and the buffer has all of it.
    pub fn buffered_end(&self) -> Option<u64> {
        let begin = usize::try_from(self.position.checked_sub(self.buffer_start)?).ok()?;
        let rest = self.buffer.get(begin..)?;
        let size = plausible_header(rest, self.next_offset).ok()?.size_bytes();
        (size <= rest.len()).then_some(self.position + size as u64)
    }

    /// So many bytes from a position in the buffer, of which nobody else keeps much memory that nobody counts.
    pub fn part(&self, position: u64, bytes: usize) -> Bytes {
        let begin = usize::try_from(position.saturating_sub(self.buffer_start)).unwrap_or(usize::MAX);
        let part = self
            .buffer
            .get(begin..)
            .and_then(|rest| rest.get(..bytes))
            .unwrap_or_default();
        if self.is_counted || bytes >= self.buffer.len() / 8 * 7 {
            self.buffer.slice_ref(part)
        } else {
            Bytes::copy_from_slice(part)
        }
    }

    fn damaged(&self, reason: impl ToString) -> WalkError {
        WalkError::Damaged {
            offset: self.next_offset,
            position: self.position,
            reason: reason.to_string(),
        }
    }

    /// Makes sure that `len` bytes from the present position are in the buffer, if the segment has them.
    fn fill(&mut self, len: usize) -> Result<&[u8], WalkError> {
        let from = (self.position - self.buffer_start) as usize;
        if self.buffer.len().saturating_sub(from) < len {
            let left = (self.size_bytes - self.position).min(usize::MAX as u64) as usize;
            let wanted = left.min(len.max(self.read_ahead));
            // What it has must be free before it can be used again.
            self.buffer = Bytes::new();
            let read = |memory: &mut [u8]| match self.reach {
                Reach::PageCache if wanted <= self.read_ahead => self.file.read_cached_at(memory, self.position),
                // One batch that is larger than all that was asked for.
                Reach::PageCache => Err(io::ErrorKind::WouldBlock.into()),
                Reach::Disk => self.file.read_at(memory, self.position),
            };
            let filled = self.buffers.fill(wanted, read).map_err(WalkError::Io)?;
            (self.buffer, self.is_counted) = (filled.bytes, filled.is_counted);
            self.buffer_start = self.position;
        }
        let from = (self.position - self.buffer_start) as usize;
        Ok(self.buffer.get(from..).unwrap_or_default())
    }

    /// Goes on behind a batch that does not check, if its header leads on.
    pub fn pass_over(&mut self) -> bool {
        if self.position >= self.size_bytes {
            return false;
        }
        match self.next_header() {
            Ok(header) => {
                self.position += header.size_bytes() as u64;
                self.next_offset = header.last_offset() + 1;
                true
            }
            Err(_) => false,
        }
    }

    /// The header at the present position, if it can stand there.
    fn next_header(&mut self) -> Result<BatchHeader, WalkError> {
        let next_offset = self.next_offset;
        let header = plausible_header(self.fill(HEADER_LEN)?, next_offset);
        let header = header.map_err(|reason| self.damaged(reason))?;
        if header.size_bytes() as u64 > self.size_bytes - self.position {
            return Err(self.damaged("its length leads out of the segment"));
        }
        Ok(header)
    }

    /// The header of the next wanted batch, of which nothing else is checked, or none at the published end of the segment.
    pub fn seek(&mut self) -> Result<Option<BatchHeader>, WalkError> {
        loop {
            if self.position >= self.size_bytes {
                // A header that lies about its last offset can lead past the batch that is wanted.
                return match self.end {
                    Some(end) if end != self.next_offset => Err(self.damaged(format!("offset {end} follows"))),
                    _ => Ok(None),
                };
            }
            let header = self.next_header()?;
            if header.last_offset() >= self.wanted_from {
                return Ok(Some(header));
            }
            self.position += header.size_bytes() as u64;
            self.next_offset = header.last_offset() + 1;
        }
    }

    /// The next wanted batch, or none at the published end of the segment.
    pub fn next(&mut self) -> Result<Option<(BatchHeader, &[u8])>, WalkError> {
        let Some(header) = self.seek()? else { return Ok(None) };
        let size = header.size_bytes();
        self.fill(size)?;
        let from = (self.position - self.buffer_start) as usize;
        let bytes = self.buffer.get(from..from + size);
        let checked = bytes.map(if planted(Planted::ReadUnchecked) {
            BatchHeader::parse
        } else {
            batch::verify
        });
        let header = match checked {
            Some(Ok(header)) => header,
            Some(Err(error)) => return Err(self.damaged(error)),
            None => return Err(self.damaged("the file is shorter than the segment")),
        };
        self.position += size as u64;
        self.next_offset = header.last_offset() + 1;
        let bytes = self.buffer.get(from..from + size).unwrap_or_default();
        Ok(Some((header, bytes)))
    }
}
