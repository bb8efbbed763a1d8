//! Recovery of a data directory that somebody has been at: storage opens it or says why not.

use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use super::{Door, batch_of, mend_frame, mend_manifest, mend_snapshot};
use crate::batch::{CheckLimits, CheckedBatches, check_produced};
use crate::clock::ManualClock;
use crate::compression::Compression;
use crate::disk::{Disk, Open, SimulatedDisk};
use crate::engine::Engine;
use crate::frame::BLOCK_BYTES;
use crate::options::Options;
use crate::write_set::{Append, Change, WriteSet};

/// A data directory after a crash, changed as the input says: see [`Edits`].
pub const RECOVERY: Door = Door {
    name: "recovery",
    run: |data| {
        let disk = CRASHED.restart();
        let mut edits = Edits {
            disk: &disk,
            rest: data,
        };
        for _ in 0..32 {
            if edits.next().is_none() {
                break;
            }
        }
        start(&disk);
    },
    seeds: || {
        let flip =
            |file, position: u16| [0, file, position.to_be_bytes()[0], position.to_be_bytes()[1], 1, 0xff].to_vec();
        let mended = |file, position: u16| {
            let mut seed = flip(file, position);
            seed.extend([4, file, position.to_be_bytes()[0] & 0xf0, 0, 0]);
            seed
        };
        (0..10)
            .flat_map(|file| {
                [
                    flip(file, 30),
                    flip(file, 4096 + 70),
                    mended(file, 24),
                    mended(file, 4096 + 100),
                ]
            })
            .collect()
    },
};

const DIR: &str = "/data";

fn options() -> Options {
    Options {
        journal_file_bytes: 64 << 10,
        // Some batches go straight to their segments.
        extent_bytes: 150,
        seed: Some(7),
        ..Options::new(DIR)
    }
}

fn open(disk: &SimulatedDisk) -> Option<Engine> {
    let clock = Arc::new(ManualClock::new(1_710_000_000_000));
    Engine::open(Arc::new(disk.clone()), clock, options()).ok()
}

fn write(engine: &Engine, ws: WriteSet) {
    engine.submit(ws, |_| {});
    for _ in 0..100 {
        if engine.is_idle() || engine.commit_step() == crate::Step::Poisoned {
            break;
        }
    }
}

fn batches(value: &'static [u8]) -> Option<CheckedBatches> {
    let limits = CheckLimits {
        max_batch_bytes: 1 << 20,
        max_decompressed_bytes: 1 << 20,
        single_batch: true,
        require_keys: false,
    };
    check_produced(batch_of(Compression::None, &[value]).into(), &limits).ok()
}

fn append(engine: &Engine, logs: &[u64], value: &'static [u8]) {
    let appends = logs.iter().filter_map(|log| {
        Some(Append {
            log: *log,
            batches: batches(value)?,
            log_append_time: false,
        })
    });
    let appends = appends.collect();
    write(
        engine,
        WriteSet {
            appends,
            ..WriteSet::default()
        },
    );
}

/// Topics, records below and above a checkpoint, producers, a deletion; then the process dies.
static CRASHED: LazyLock<SimulatedDisk> = LazyLock::new(|| {
    let disk = SimulatedDisk::new(1);
    let Some(engine) = open(&disk) else { return disk };
    for (name, partitions) in [("a", 2), ("b", 1)] {
        let change = Change::CreateTopic {
            name: name.into(),
            partitions,
            configs: [("segment.bytes".into(), "500".into())].into(),
        };
        write(
            &engine,
            WriteSet {
                changes: vec![change],
                ..WriteSet::default()
            },
        );
    }
    for round in 0..10 {
        append(&engine, &[1, 2, 3], b"below");
        append(&engine, &[1 + round % 3], b"more of it");
    }
    while engine.checkpoint_step() == Ok(true) {}
    for round in 0..6 {
        append(&engine, &[1 + round % 3], b"above");
    }
    let change = Change::MoveLogStart { log: 1, offset: 3 };
    write(
        &engine,
        WriteSet {
            changes: vec![change],
            ..WriteSet::default()
        },
    );
    append(&engine, &[1, 2], b"last");
    disk.restart()
});

/// A list of changes: what to do, the file, a position of two bytes, a length, and so many bytes.
struct Edits<'a> {
    disk: &'a SimulatedDisk,
    rest: &'a [u8],
}

impl Edits<'_> {
    fn next(&mut self) -> Option<()> {
        let ([what, file, high, low, length], rest) = self.rest.split_first_chunk()?;
        let (bytes, rest) = rest.split_at_checked(usize::from(*length)).unwrap_or((rest, &[]));
        self.rest = rest;
        let paths: Vec<PathBuf> = self.disk.paths().into_keys().collect();
        let path = paths.get(usize::from(*file) % paths.len().max(1))?;
        let position = u64::from(u16::from_be_bytes([*high, *low]));
        // What cannot be done is left undone: the next start is what counts.
        let _ = self.edit(what % 8, path, position, bytes);
        Some(())
    }

    fn edit(&self, what: u8, path: &Path, position: u64, bytes: &[u8]) -> std::io::Result<()> {
        match what {
            0 | 1 => self.disk.open(path, Open::ReadWrite)?.write_at(bytes, position),
            2 => self.disk.open(path, Open::ReadWrite)?.set_len(position),
            3 => self.disk.remove_file(path),
            4 => self.mend(path, position / BLOCK_BYTES * BLOCK_BYTES),
            5 => {
                let name = String::from_utf8_lossy(bytes).replace(['/', '\0'], "");
                self.disk.rename(path, &path.with_file_name(name))
            }
            6 => {
                let suffix = [".deleted", ".new", ".damaged", ".log"];
                let suffix = suffix[position as usize % suffix.len()];
                let mut name = path.as_os_str().to_owned();
                name.push(suffix);
                self.disk.open(Path::new(&name), Open::CreateNew)?.write_at(bytes, 0)
            }
            _ => {
                let from = self.disk.open(path, Open::Read)?;
                let mut block = vec![0; BLOCK_BYTES as usize];
                let read = from.read_at(&mut block, 0)?;
                let to = self.disk.open(path, Open::ReadWrite)?;
                to.write_at(&block[..read], position / BLOCK_BYTES * BLOCK_BYTES)
            }
        }
    }

    /// Mends the checksums of what stands there, so that the next start believes it.
    fn mend(&self, path: &Path, position: u64) -> std::io::Result<()> {
        let file = self.disk.open(path, Open::ReadWrite)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let position = if name.ends_with(".journal") { position } else { 0 };
        let mut bytes = vec![0; (file.len()?.saturating_sub(position)).min(1 << 16) as usize];
        let read = file.read_at(&mut bytes, position)?;
        bytes.truncate(read);
        if name.starts_with("manifest") {
            mend_manifest(&mut bytes);
        } else if name.ends_with(".producers") {
            mend_snapshot(&mut bytes);
        } else if let (true, Some(salt)) = (name.ends_with(".journal"), bytes.get(8..24)) {
            let salt = std::array::from_fn(|index| salt[index]);
            mend_frame(&mut bytes, &salt);
        } else {
            super::mend_batches(&mut bytes);
        }
        file.write_at(&bytes, position)
    }
}

/// Starts, reads everything, writes, takes a checkpoint, and starts once more.
fn start(disk: &SimulatedDisk) {
    for _ in 0..2 {
        let Some(engine) = open(disk) else { return };
        for log in 0..4 {
            let mut from = engine.ends(log).map_or(0, |ends| ends.start);
            for _ in 0..20 {
                let Ok(fetched) = engine.read(log, from, 4096) else {
                    break;
                };
                let Ok(decoded) = crate::record::decode_all(&fetched.data, from, 1 << 20) else {
                    break;
                };
                if decoded.next_offset <= from {
                    break;
                }
                from = decoded.next_offset;
            }
        }
        append(&engine, &[1, 2, 3], b"after");
        for _ in 0..10 {
            if engine.checkpoint_step() != Ok(true) {
                break;
            }
        }
        drop(engine);
    }
}
