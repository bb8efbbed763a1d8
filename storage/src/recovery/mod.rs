//! Recovery: the only way to start, after a crash and after a clean stop alike.
//!
//! The manifest gives the state at C. Above C the journal alone says what the segments hold: every frame is
//! applied again, byte for byte at its position, whatever the segment looks like; extents are in it already. What cannot be
//! applied was either never acknowledged, and is dropped, or is damage, and is named and fenced.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::catalog::Catalog;
use crate::config::LogConfig;
use crate::disk::Disk;
use crate::error::OpenError;
use crate::journal;
use crate::manifest::{COPIES, Manifest};
use crate::planted::{Planted, planted};
use crate::producer_snapshot::{load_producers, snapshot_name};
use crate::producers::ProducerTable;
use crate::restore::refuse_interrupted_restore;
use crate::segment::SegmentWalk;
use crate::shared::Dirty;
use crate::state::{LogState, State, log_dir};
use crate::{CONTROL_LOG, LogId, Lsn};

pub(crate) mod journal_reader;
mod loss;
mod replay;
mod tidy;

use journal_reader::{Found, JournalReader, Lost, logs_hit};
use replay::Replay;
use tidy::{fence_losses, tidy};

/// What recovery found, ready to go on from.
pub(crate) struct Recovered {
    pub state: State,
    pub generation: u64,
    /// Segments that were written, or sealed, and must be synced by the first checkpoint.
    pub dirty: crate::shared::Dirty,
    /// The number that the next journal file gets, and files that can be recycled once a new manifest stands.
    pub next_journal_file: u64,
    pub spare_journal_files: Vec<u64>,
}

/// Reads the manifest, or writes the first one. Then replays the journal above C.
pub(crate) fn recover(
    disk: &dyn Disk,
    data_dir: &Path,
    now_ms: i64,
    new_catalog: impl FnOnce() -> Catalog,
) -> Result<Recovered, OpenError> {
    let manifest = match Manifest::load(disk, data_dir)? {
        Some(manifest) => {
            manifest.secure(disk, data_dir)?;
            manifest
        }
        None => first_manifest(disk, data_dir, new_catalog())?,
    };
    let mut state = state_of(disk, data_dir, &manifest, now_ms)?;
    let mut journal = JournalReader::open(disk, data_dir, manifest.salt)?;
    let (mut found, lost) = journal.walk(&manifest)?;
    journal.secure_last(&mut found, &manifest)?;
    let mut dirty = replay(disk, &mut state, &journal, &found, lost, false)?;
    dirty.directories.insert(data_dir.join("logs"));
    tidy(disk, &mut state, data_dir, &mut dirty)?;
    read_first_timestamps(disk, &mut state);
    begin_leader_epoch(&mut state);

    let next_journal_file = journal.next_file(&manifest);
    state.journal_end = (next_journal_file, 0);
    let damaged = damaged_files(&state);
    let spare = journal
        .files
        .keys()
        .copied()
        .filter(|number| !damaged.contains(number))
        .collect();
    tracing::debug!(lsn = state.lsn, frames = found.len(), "recovered");
    Ok(Recovered {
        state,
        generation: manifest.generation,
        dirty,
        next_journal_file,
        spare_journal_files: spare,
    })
}

/// What a start would find, and which segments it would write first.
pub(crate) struct Rehearsal {
    pub state: State,
    pub frames: usize,
    pub to_write: BTreeSet<(LogId, i64)>,
}

/// Recovery without its writes, for those who look at a directory and leave it as it is.
pub(crate) fn rehearse(disk: &dyn Disk, data_dir: &Path, manifest: &Manifest) -> Result<Rehearsal, OpenError> {
    // Producers expire by the clock, and nobody here looks at them.
    let now_ms = 0;
    let mut state = state_of(disk, data_dir, manifest, now_ms)?;
    let journal = JournalReader::open(disk, data_dir, manifest.salt)?;
    let (found, lost) = journal.walk(manifest)?;
    let dirty = replay(disk, &mut state, &journal, &found, lost, true)?;
    let to_write = dirty.segments.into_keys().collect();
    fence_losses(disk, &mut state, &to_write)?;
    Ok(Rehearsal {
        state,
        frames: found.len(),
        to_write,
    })
}

/// Applies the frames above C to the state and to the segments; a rehearsal leaves these as they are. Fences logs of
/// which frames were lost.
fn replay(
    disk: &dyn Disk,
    state: &mut State,
    journal: &JournalReader<'_>,
    found: &[Found],
    lost: Vec<Lost>,
    rehearsal: bool,
) -> Result<Dirty, OpenError> {
    // First the control log: which logs are alive decides what becomes of all other parts.
    for frame in found {
        let controls = journal.controls(frame)?;
        state.apply_controls(frame.header.lsn, &controls);
    }

    let mut dirty = Dirty::default();
    let ends = state.logs.iter().map(|(log, state)| (*log, state.end)).collect();
    let doomed = logs_hit(&ends, found, &lost);
    if !rehearsal {
        loss::replace_missing(disk, state, &doomed, &mut dirty)?;
    }
    let mut replay = Replay {
        disk,
        state: &mut *state,
        dirty,
        opened: HashMap::new(),
        doomed,
        rehearsal,
    };
    let mut lost = lost.into_iter().peekable();
    for frame in found {
        while lost.peek().is_some_and(|lost| lost.lsn < frame.header.lsn) {
            if let Some(lost) = lost.next() {
                replay.fence(&lost, journal)?;
            }
        }
        let whole = journal.read_again(frame)?;
        replay.apply(frame, &whole)?;
    }
    let last_lost = lost.clone().last().map_or(0, |lost| lost.lsn);
    for lost in lost {
        replay.fence(&lost, journal)?;
    }
    for log in &replay.doomed {
        if let Some(log) = replay.state.logs.get(log) {
            loss::preserve(disk, &log.dir, &mut replay.dirty)?;
        }
    }
    let dirty = replay.dirty;

    let last_found = found.last().map_or(0, |frame| frame.header.lsn);
    state.lsn = state.lsn.max(last_found).max(last_lost);
    let logs: Vec<LogId> = state.logs.keys().copied().collect();
    state.drop_below_starts(state.lsn, logs);
    Ok(dirty)
}

/// The age of active segments counts on where it stood.
fn read_first_timestamps(disk: &dyn Disk, state: &mut State) {
    for log in state.logs.values_mut().filter(|log| log.fence.is_none()) {
        if let Some(active) = log.segments.last_mut() {
            active.read_first_timestamp(disk);
        }
    }
}

/// Records written from now on belong to a new leader epoch.
fn begin_leader_epoch(state: &mut State) {
    let mut catalog = Catalog::clone(&state.catalog);
    catalog.leader_epoch += 1;
    for log in state.logs.values_mut() {
        log.leader_epoch = catalog.leader_epoch;
    }
    state.catalog = Arc::new(catalog);
}

/// Refuses a directory that holds something, but no manifest: it is not ours. Looked at before the lock file is
/// made, so that nothing is left in somebody else's directory.
pub(crate) fn refuse_foreign(disk: &dyn Disk, data_dir: &Path) -> Result<(), OpenError> {
    refuse_interrupted_restore(disk, data_dir)?;
    for copy in COPIES {
        let path = data_dir.join(copy);
        if disk.exists(&path).map_err(OpenError::io("cannot look at", &path))? {
            return Ok(());
        }
    }
    let ours =
        |name: &str| name == "lock" || name == "ballast" || COPIES.iter().any(|copy| name == format!("{copy}.new"));
    for name in disk.list(data_dir).map_err(OpenError::io("cannot list", data_dir))? {
        if ours(&name) {
            continue;
        }
        // A first start that was cut short may have made the empty directories.
        let path = data_dir.join(&name);
        let leftover = (name == "journal" || name == "logs") && disk.list(&path).is_ok_and(|names| names.is_empty());
        if !leftover {
            return Err(OpenError::Foreign {
                dir: data_dir.into(),
                found: name,
            });
        }
    }
    Ok(())
}

/// A data directory begins with its manifest, so that a directory without one is known to be foreign.
fn first_manifest(disk: &dyn Disk, data_dir: &Path, catalog: Catalog) -> Result<Manifest, OpenError> {
    for name in ["journal", "logs"] {
        let path = data_dir.join(name);
        disk.create_dir(&path).map_err(OpenError::io("cannot create", &path))?;
    }
    // The directory itself may be new, and its name must last as well.
    let parent = data_dir.parent().filter(|parent| !parent.as_os_str().is_empty());
    for dir in [data_dir, parent.unwrap_or(Path::new("."))] {
        disk.sync_dir(dir).map_err(OpenError::io("cannot sync", dir))?;
    }
    let control = LogState::new(log_dir(data_dir, CONTROL_LOG), LogConfig::default(), 0);
    let manifest = Manifest {
        generation: 1,
        checkpoint_lsn: 0,
        salt: [0; 16],
        journal_file: 0,
        journal_position: 0,
        catalog: catalog.to_stored(),
        logs: vec![control.to_stored(CONTROL_LOG)],
        fences: Vec::new(),
    };
    manifest.store(disk, data_dir)?;
    Ok(manifest)
}

/// The published state at C.
pub(crate) fn state_of(disk: &dyn Disk, data_dir: &Path, manifest: &Manifest, now_ms: i64) -> Result<State, OpenError> {
    let catalog = Catalog::from_stored(manifest.catalog.clone());
    let mut logs = BTreeMap::new();
    for stored in &manifest.logs {
        let Some((topic, _)) = catalog.log(stored.log) else {
            return Err(OpenError::Catalog(format!(
                "the manifest has log {} of no topic",
                stored.log
            )));
        };
        let config = LogConfig::parse(&topic.configs).map_err(OpenError::Catalog)?;
        let dir = log_dir(data_dir, stored.log);
        let mut log = LogState::from_stored(stored, dir, config);
        if let Some(lsn) = stored.producers {
            let lsn = newest_if_planted(disk, &log.dir, lsn);
            let path = log.dir.join(snapshot_name(lsn));
            log.producers = match load_producers(disk, &path, lsn) {
                Ok(table) => table,
                Err(error) => {
                    tracing::warn!("rebuilding {}: {error}", path.display());
                    rebuild_producers(disk, &log, now_ms)
                }
            };
        }
        log.fence = manifest.fences.iter().find(|fence| fence.log == stored.log).cloned();
        logs.insert(stored.log, log);
    }
    Ok(State {
        lsn: manifest.checkpoint_lsn,
        journal_end: (manifest.journal_file, manifest.journal_position),
        catalog: Arc::new(catalog),
        logs,
        touched: BTreeSet::new(),
        removals: Vec::new(),
        data_dir: data_dir.into(),
        time_ms: i64::MIN,
    })
}

/// The lsn of the snapshot to load: the one that the manifest names. (Planted: the newest that there is.)
fn newest_if_planted(disk: &dyn Disk, dir: &Path, named: Lsn) -> Lsn {
    if !planted(Planted::NewestSnapshot) {
        return named;
    }
    let names = disk.list(dir).unwrap_or_default();
    let found = names
        .iter()
        .filter_map(|name| name.strip_suffix(".producers")?.parse().ok());
    found.max().unwrap_or(named)
}

/// What the log's batches say of its producers, for want of a snapshot that reads. When they were written is not known,
/// so they are kept as if they had just been: a producer that is forgotten too early doubles what it repeats.
pub(crate) fn rebuild_producers(disk: &dyn Disk, log: &LogState, now_ms: i64) -> ProducerTable {
    let mut table = ProducerTable::default();
    for segment in &log.segments {
        let path = &segment.file.path;
        let mut walk = match segment.file.reader(disk) {
            Ok(file) => SegmentWalk::new(file, segment.size_bytes, 0, segment.base, 1 << 20),
            Err(error) => {
                tracing::error!("producers of {} are not known: {error}", path.display());
                continue;
            }
        };
        loop {
            match walk.next() {
                Ok(Some((header, _))) => table.note(&header, now_ms),
                Ok(None) => break,
                Err(error) => {
                    tracing::error!(
                        "producers behind a place in {} are not known: {error:?}",
                        path.display()
                    );
                    break;
                }
            }
        }
    }
    table
}

/// The journal files in which the fences found damage.
fn damaged_files(state: &State) -> BTreeSet<u64> {
    let fences = state.logs.values().filter_map(|log| log.fence.as_ref());
    fences.filter_map(|fence| journal_number(&fence.file)).collect()
}

/// Renames journal files with damage, so that they are not recycled: they may help a repair. Only once a
/// manifest holds the fences, because until then the files are the proof of the damage.
pub(crate) fn set_damaged_aside(disk: &dyn Disk, state: &State, journal_dir: &Path) -> io::Result<()> {
    for number in damaged_files(state) {
        let from = journal_dir.join(journal::file_name(number));
        if disk.exists(&from)? {
            disk.rename(&from, &from.with_added_extension("damaged"))?;
            disk.sync_dir(journal_dir)?;
        }
    }
    Ok(())
}

fn journal_number(fence_file: &str) -> Option<u64> {
    journal::number_of(fence_file.strip_prefix("journal/")?.strip_suffix(".damaged")?)
}
