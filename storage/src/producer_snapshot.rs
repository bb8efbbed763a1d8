//! A log's producers as of a checkpoint, in a file of their own: without it they are rebuilt from the log.

use std::io;
use std::path::{Path, PathBuf};

use crate::Lsn;
use crate::codec;
use crate::disk::{Disk, Open};
use crate::manifest::{FORMAT_VERSION, replace_file};
use crate::producers::ProducerTable;

/// The producers of a log as of a checkpoint, and the file for them.
pub(crate) struct ProducerSnapshot {
    pub path: PathBuf,
    pub lsn: Lsn,
    pub table: ProducerTable,
}

/// The file that holds a log's producers as of a checkpoint.
pub(crate) fn snapshot_name(lsn: Lsn) -> String {
    format!("{lsn:020}.producers")
}

fn encode_producers(snapshot: &ProducerSnapshot) -> io::Result<Vec<u8>> {
    let body = codec::encode(FORMAT_VERSION, &(snapshot.lsn, &snapshot.table)).map_err(io::Error::other)?;
    let mut bytes = crc32fast::hash(&body).to_le_bytes().to_vec();
    bytes.extend_from_slice(&body);
    Ok(bytes)
}

pub(crate) fn store_producers(disk: &dyn Disk, snapshot: &ProducerSnapshot) -> io::Result<()> {
    replace_file(disk, &snapshot.path, &encode_producers(snapshot)?).map_err(io::Error::other)
}

/// As [`store_producers`], but durable only with the sync of the file system. A file that is there already is replaced as a
/// whole: the manifest on the disk may name it.
pub(crate) fn write_new_producers(disk: &dyn Disk, snapshot: &ProducerSnapshot) -> io::Result<()> {
    if disk.exists(&snapshot.path)? {
        return store_producers(disk, snapshot);
    }
    let file = disk.open(&snapshot.path, Open::CreateNew)?;
    file.write_at(&encode_producers(snapshot)?, 0)
}

/// Reads the snapshot of an lsn, which the manifest names, and no other: an older one may stand under its name.
pub(crate) fn load_producers(disk: &dyn Disk, path: &Path, lsn: Lsn) -> io::Result<ProducerTable> {
    let file = disk.open(path, Open::Read)?;
    let mut bytes = vec![0; file.len()?.min(1 << 30) as usize];
    let read = file.read_at(&mut bytes, 0)?;
    bytes.truncate(read);
    let malformed = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let (crc, body) = bytes.split_at_checked(4).ok_or_else(|| malformed("too short"))?;
    if crc != crc32fast::hash(body).to_le_bytes() {
        return Err(malformed("wrong checksum"));
    }
    let (stored, table): (Lsn, ProducerTable) =
        codec::decode(FORMAT_VERSION, body).map_err(|error| malformed(&error.to_string()))?;
    if stored != lsn {
        return Err(malformed(&format!(
            "holds the producers as of frame {stored}, not {lsn}"
        )));
    }
    Ok(table)
}
