//! The manifest: the published state at the checkpoint C, from which recovery starts.
//!
//! Two copies, each replaced by write-new, sync, rename, sync-directory. Either is good enough to start
//! from, because the journal is trimmed only after both were replaced; the newer valid one wins.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::catalog::StoredCatalog;
use crate::codec::{self, CodecError};
use crate::disk::{Disk, Open};
use crate::error::OpenError;
use crate::frame::Salt;
use crate::planted::{Planted, planted};
use crate::{LogId, Lsn};

/// The version of everything in a data directory. A newer one is refused. 2: frames may stand for extents, which a program
/// that knows only version 1 would take for the end of the journal. 3: what a frame has of an extent is another checksum.
pub const FORMAT_VERSION: u8 = 3;
const MAGIC: &[u8; 8] = b"RIVERMAN";
const HEADER_BYTES: usize = 20;
/// A manifest larger than this is not believed.
const MAX_BYTES: u64 = 256 << 20;
/// The two copies.
pub(crate) const COPIES: [&str; 2] = ["manifest", "manifest.copy"];

/// The stored state of a data directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    /// Rises with every manifest; the newer of two valid copies wins.
    pub generation: u64,
    /// C: what the segments hold up to here is on the disk; above it the journal alone says.
    pub checkpoint_lsn: Lsn,
    /// The incarnation whose frames may stand above C.
    pub salt: Salt,
    /// Where the frame behind C stands, if there is one.
    pub journal_file: u64,
    pub journal_position: u64,
    pub catalog: StoredCatalog,
    pub logs: Vec<StoredLog>,
    pub fences: Vec<Fence>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredLog {
    pub log: LogId,
    pub start: i64,
    pub end: i64,
    /// The epoch in which new records are written.
    pub leader_epoch: i32,
    /// Each epoch in which records were written, with its first offset.
    pub leader_epochs: Vec<(i32, i64)>,
    /// Base offsets ascend; the last segment is the active one.
    pub segments: Vec<StoredSegment>,
    /// The lsn in the name of the producer snapshot. Another one is never loaded.
    pub producers: Option<Lsn>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredSegment {
    pub base: i64,
    pub size_bytes: u64,
    pub max_timestamp: i64,
    pub index_entries: u32,
    pub index_crc: u32,
}

/// A log in which damage was found. It stays fenced until it is repaired or deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fence {
    /// The log.
    pub log: LogId,
    /// The journal frame that was lost; 0 if it is not known which.
    pub lsn: Lsn,
    /// The file that shows the damage, relative to the data directory, as it is called now.
    pub file: String,
    /// Where in the file.
    pub position: u64,
    /// The log's offset behind which records are missing.
    pub offset: i64,
}

impl Fence {
    /// One line for people.
    pub fn reason(&self) -> String {
        if self.lsn == 0 {
            return format!(
                "acknowledged records from offset {} on are missing, as {} position {} shows",
                self.offset, self.file, self.position
            );
        }
        format!(
            "acknowledged records from offset {} on were lost in frame {} ({} position {})",
            self.offset, self.lsn, self.file, self.position
        )
    }
}

impl Manifest {
    pub(crate) fn encode(&self) -> Result<Vec<u8>, CodecError> {
        let body = codec::encode(FORMAT_VERSION, self)?;
        let mut bytes = Vec::with_capacity(HEADER_BYTES + body.len());
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&(body.len() as u64).to_le_bytes());
        bytes.extend_from_slice(&crc32fast::hash(&body).to_le_bytes());
        bytes.extend_from_slice(&body);
        Ok(bytes)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        let malformed = |what: &str| CodecError::Malformed(what.into());
        let (header, body) = bytes
            .split_at_checked(HEADER_BYTES)
            .ok_or_else(|| malformed("too short"))?;
        let (magic, rest) = header.split_at(8);
        let (len, crc) = rest.split_at(8);
        if magic != MAGIC {
            return Err(malformed("wrong magic"));
        }
        if len != (body.len() as u64).to_le_bytes() {
            return Err(malformed("wrong length"));
        }
        if crc != crc32fast::hash(body).to_le_bytes() {
            return Err(malformed("wrong checksum"));
        }
        codec::decode(FORMAT_VERSION, body)
    }

    /// Replaces both copies. What the manifest says is durable when this returns.
    pub fn store(&self, disk: &dyn Disk, dir: &Path) -> Result<(), OpenError> {
        let bytes = self.encode().map_err(|error| OpenError::Catalog(error.to_string()))?;
        for name in COPIES {
            let path = dir.join(name);
            replace_file(disk, &path, &bytes)?;
        }
        Ok(())
    }

    /// Reads the newer valid copy. `None` if there is no manifest at all.
    pub fn load(disk: &dyn Disk, dir: &Path) -> Result<Option<Self>, OpenError> {
        let mut best: Option<Self> = None;
        let mut reasons = Vec::new();
        let mut newer = None;
        for name in COPIES {
            let path = dir.join(name);
            if !disk.exists(&path).map_err(OpenError::io("cannot look at", &path))? {
                continue;
            }
            match Self::read(disk, &path)? {
                Ok(manifest) => {
                    if best.as_ref().is_none_or(|best| manifest.generation > best.generation) {
                        best = Some(manifest);
                    }
                }
                Err(CodecError::Version { found, known }) if found > known => newer = Some(found),
                Err(error) => reasons.push(format!("{name}: {error}")),
            }
        }
        if let Some(found) = newer {
            return Err(OpenError::NewerFormat {
                dir: dir.into(),
                found,
                known: FORMAT_VERSION,
            });
        }
        for reason in &reasons {
            tracing::warn!("{reason} in {}", dir.display());
        }
        if best.is_none() && !reasons.is_empty() {
            return Err(OpenError::BadManifest {
                dir: dir.into(),
                reason: reasons.join("; "),
            });
        }
        Ok(best)
    }

    /// Makes sure of what was read before anything is done by it. A start that died may have renamed a copy and not synced the
    /// directory, or replaced only the first one: a power cut, or damage, would bring the other one back, and it names files that
    /// this one lets go.
    pub fn secure(&self, disk: &dyn Disk, dir: &Path) -> Result<(), OpenError> {
        if planted(Planted::TrustManifestName) {
            return Ok(());
        }
        disk.sync_dir(dir).map_err(OpenError::io("cannot sync", dir))?;
        for name in COPIES {
            let path = dir.join(name);
            let exists = disk.exists(&path).map_err(OpenError::io("cannot look at", &path))?;
            let same = exists && Self::read(disk, &path)?.is_ok_and(|copy| copy.generation == self.generation);
            if !same {
                let bytes = self.encode().map_err(|error| OpenError::Catalog(error.to_string()))?;
                replace_file(disk, &path, &bytes)?;
            }
        }
        Ok(())
    }

    /// One copy.
    pub fn read(disk: &dyn Disk, path: &Path) -> Result<Result<Self, CodecError>, OpenError> {
        let file = disk
            .open(path, Open::Read)
            .map_err(OpenError::io("cannot open", path))?;
        let len = file.len().map_err(OpenError::io("cannot read", path))?;
        if len > MAX_BYTES {
            return Ok(Err(CodecError::Malformed(format!("{len} bytes are too many"))));
        }
        let mut bytes = vec![0; len as usize];
        let read = file
            .read_at(&mut bytes, 0)
            .map_err(OpenError::io("cannot read", path))?;
        bytes.truncate(read);
        Ok(Self::decode(&bytes))
    }
}

/// Write new, sync, rename, sync the directory: the file has the old bytes or the new ones.
pub(crate) fn replace_file(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> Result<(), OpenError> {
    let fresh: PathBuf = path.with_added_extension("new");
    let dir = path.parent().unwrap_or(Path::new("."));
    if disk.exists(&fresh).map_err(OpenError::io("cannot look at", &fresh))? {
        disk.remove_file(&fresh)
            .map_err(OpenError::io("cannot remove", &fresh))?;
    }
    let file = disk
        .open(&fresh, Open::CreateNew)
        .map_err(OpenError::io("cannot create", &fresh))?;
    file.write_at(bytes, 0).map_err(OpenError::io("cannot write", &fresh))?;
    file.sync_all().map_err(OpenError::io("cannot sync", &fresh))?;
    disk.rename(&fresh, path)
        .map_err(OpenError::io("cannot rename", &fresh))?;
    disk.sync_dir(dir).map_err(OpenError::io("cannot sync", dir))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::catalog::{Catalog, ControlRecord, Topic};
    use crate::disk::RealDisk;

    fn example() -> Manifest {
        let mut catalog = Catalog::new("AAAAAAAAAAAAAAAAAAAAAA".into(), uuid::Uuid::from_u128(1));
        let topic = Topic {
            name: "flights".into(),
            id: uuid::Uuid::from_u128(2),
            partitions: vec![1, 2],
            configs: BTreeMap::from([("retention.ms".into(), "-1".into())]),
        };
        catalog.apply(&ControlRecord::TopicCreated { topic, leader_epoch: 4 });
        catalog.apply(&ControlRecord::EpochSet {
            name: "job/hourly".into(),
            epoch: 3,
        });
        let segment = StoredSegment {
            base: 10,
            size_bytes: 500,
            max_timestamp: 77,
            index_entries: 1,
            index_crc: 0xabcd,
        };
        Manifest {
            generation: 5,
            checkpoint_lsn: 42,
            salt: *b"0123456789abcdef",
            journal_file: 3,
            journal_position: 4096,
            catalog: catalog.to_stored(),
            logs: vec![StoredLog {
                log: 1,
                start: 12,
                end: 20,
                leader_epoch: 4,
                leader_epochs: vec![(2, 10), (4, 15)],
                segments: vec![segment],
                producers: Some(42),
            }],
            fences: vec![Fence {
                log: 2,
                lsn: 41,
                file: "journal/0000000002.journal.damaged".into(),
                position: 8192,
                offset: 7,
            }],
        }
    }

    #[test]
    fn a_manifest_has_these_bytes() {
        let hex: String = example()
            .encode()
            .unwrap()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(hex, include_str!("../tests/golden/manifest.hex").trim());
    }

    #[test]
    fn the_newer_valid_copy_wins_and_damage_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let disk = RealDisk;
        assert_eq!(Manifest::load(&disk, dir.path()).unwrap(), None);
        let old = example();
        old.store(&disk, dir.path()).unwrap();
        let new = Manifest {
            generation: 6,
            ..old.clone()
        };
        std::fs::write(dir.path().join("manifest"), new.encode().unwrap()).unwrap();
        assert_eq!(Manifest::load(&disk, dir.path()).unwrap(), Some(new.clone()));
        std::fs::write(dir.path().join("manifest"), b"RIVERMAN").unwrap();
        assert_eq!(Manifest::load(&disk, dir.path()).unwrap(), Some(old));
        std::fs::write(dir.path().join("manifest.copy"), b"").unwrap();
        assert!(matches!(
            Manifest::load(&disk, dir.path()),
            Err(OpenError::BadManifest { .. })
        ));
        let mut newer = new.encode().unwrap();
        newer[HEADER_BYTES] = FORMAT_VERSION + 1;
        let crc = crc32fast::hash(&newer[HEADER_BYTES..]).to_le_bytes();
        newer[16..20].copy_from_slice(&crc);
        std::fs::write(dir.path().join("manifest"), newer).unwrap();
        assert!(matches!(
            Manifest::load(&disk, dir.path()),
            Err(OpenError::NewerFormat { found: 4, known: 3, .. })
        ));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_an_error(mut bytes in proptest::collection::vec(any::<u8>(), 0..300), real in any::<bool>()) {
            if real && bytes.len() > HEADER_BYTES {
                // Past the checksum, so that the codec sees them.
                bytes[..8].copy_from_slice(MAGIC);
                let (len, crc) = ((bytes.len() - HEADER_BYTES) as u64, crc32fast::hash(&bytes[HEADER_BYTES..]));
                bytes[8..16].copy_from_slice(&len.to_le_bytes());
                bytes[16..20].copy_from_slice(&crc.to_le_bytes());
                bytes[HEADER_BYTES] = FORMAT_VERSION;
                let crc = crc32fast::hash(&bytes[HEADER_BYTES..]);
                bytes[16..20].copy_from_slice(&crc.to_le_bytes());
            }
            prop_assert!(Manifest::decode(&bytes).is_err());
        }

        #[test]
        fn arbitrary_control_records_are_an_error_or_read_back(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(record) = ControlRecord::decode(&bytes) {
                prop_assert_eq!(record.encode().unwrap(), bytes);
            }
        }
    }
}
