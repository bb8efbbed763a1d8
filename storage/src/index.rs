//! The sparse index of a segment: from offset and from timestamp to a position in the file.
//!
//! One entry for each [`STRIDE_BYTES`] of the segment. Both look-ups lead to an entry *before* the
//! wanted batch, from where the reader walks batch by batch. An index is a cache: it is rebuilt from
//! the segment when it is missing, short or does not check against the manifest.

/// Bytes of segment for each entry, as Kafka's `index.interval.bytes`.
pub const STRIDE_BYTES: u64 = 4096;
/// Bytes of an entry on disk.
pub const ENTRY_BYTES: usize = 16;

/// A batch that begins at a known place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexEntry {
    /// The batch's base offset, relative to the segment's.
    pub relative_offset: u32,
    /// Where the batch begins in the segment.
    pub position: u32,
    /// The largest timestamp of all batches before this one in the segment.
    pub max_timestamp_before: i64,
}

/// The entries of one segment, and what is needed to add to them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    entries: Vec<IndexEntry>,
    max_timestamp: i64,
}

impl Default for Index {
    fn default() -> Self {
        Self {
            entries: Vec::new(),
            max_timestamp: i64::MIN,
        }
    }
}

impl Index {
    /// An index read back from its file; `max_timestamp` is that of the indexed part of the segment.
    pub fn from_entries(entries: Vec<IndexEntry>, max_timestamp: i64) -> Self {
        Self { entries, max_timestamp }
    }

    /// Adds a batch that stands at `position`, behind all others.
    pub fn note(&mut self, relative_offset: u32, position: u32, max_timestamp: i64) {
        let due = self
            .entries
            .last()
            .is_none_or(|last| u64::from(position.saturating_sub(last.position)) >= STRIDE_BYTES);
        if due {
            self.entries.push(IndexEntry {
                relative_offset,
                position,
                max_timestamp_before: self.max_timestamp,
            });
        }
        self.max_timestamp = self.max_timestamp.max(max_timestamp);
    }

    /// The last known batch that begins at or before the offset.
    pub fn by_offset(&self, relative_offset: u32) -> Option<IndexEntry> {
        let behind = self
            .entries
            .partition_point(|entry| entry.relative_offset <= relative_offset);
        self.entries.get(behind.checked_sub(1)?).copied()
    }

    /// The last known batch before which every timestamp is smaller than `timestamp_ms`.
    pub fn by_timestamp(&self, timestamp_ms: i64) -> Option<IndexEntry> {
        let behind = self
            .entries
            .partition_point(|entry| entry.max_timestamp_before < timestamp_ms);
        self.entries.get(behind.checked_sub(1)?).copied()
    }

    /// All entries.
    pub fn entries(&self) -> &[IndexEntry] {
        &self.entries
    }
}

impl IndexEntry {
    /// The entry as it stands in the file.
    pub fn encode(&self) -> [u8; ENTRY_BYTES] {
        let mut bytes = [0; ENTRY_BYTES];
        let (offset, rest) = bytes.split_at_mut(4);
        let (position, timestamp) = rest.split_at_mut(4);
        offset.copy_from_slice(&self.relative_offset.to_le_bytes());
        position.copy_from_slice(&self.position.to_le_bytes());
        timestamp.copy_from_slice(&self.max_timestamp_before.to_le_bytes());
        bytes
    }

    /// Reads an entry.
    pub fn decode(bytes: &[u8; ENTRY_BYTES]) -> Self {
        let [a, b, c, d, e, f, g, h, t @ ..] = *bytes;
        Self {
            relative_offset: u32::from_le_bytes([a, b, c, d]),
            position: u32::from_le_bytes([e, f, g, h]),
            max_timestamp_before: i64::from_le_bytes(t),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lookup_never_leads_behind_the_wanted_batch() {
        let mut index = Index::default();
        for batch in 0..1000u32 {
            index.note(batch * 3, batch * 1000, i64::from(batch) * 10);
        }
        for batch in 0..1000u32 {
            let entry = index.by_offset(batch * 3 + 1);
            assert!(entry.is_some_and(|entry| entry.relative_offset <= batch * 3
                && u64::from(batch * 1000 - entry.position) < STRIDE_BYTES + 1000));
            let entry = index.by_timestamp(i64::from(batch) * 10);
            assert!(entry.is_some_and(|entry| entry.position <= batch * 1000));
        }
        assert!(index.entries().len() < 260);
    }

    #[test]
    fn an_entry_survives_the_file() {
        let entry = IndexEntry {
            relative_offset: 7,
            position: 1 << 30,
            max_timestamp_before: -5,
        };
        assert_eq!(IndexEntry::decode(&entry.encode()), entry);
    }
}
