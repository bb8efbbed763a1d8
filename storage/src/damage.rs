//! Damage below the checkpoint, as reads and the scrub have found it. Each place is remembered, and logged, once.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::LogId;
use crate::state::State;

/// More places than this are not remembered: whoever has so many needs another disk, not a longer list.
const MAX_PLACES: usize = 1000;

/// A batch that does not check and that the journal does not have any more. Nothing here can restore it; reads of its
/// range are refused, everything else is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The log.
    pub log: LogId,
    /// The segment file.
    pub file: PathBuf,
    /// The offset that was to be there.
    pub offset: i64,
    /// Where in the file.
    pub position: u64,
    /// What does not check.
    pub reason: String,
}

/// The damage that is known, by where it is.
#[derive(Debug, Default)]
pub(crate) struct Damages(BTreeMap<(LogId, PathBuf, u64), Damage>);

impl Damages {
    /// Remembers damage, and logs it when it is new.
    pub fn note(&mut self, damage: Damage) {
        let place = (damage.log, damage.file.clone(), damage.position);
        if self.0.len() >= MAX_PLACES || self.0.contains_key(&place) {
            return;
        }
        let Damage {
            log,
            file,
            offset,
            position,
            reason,
        } = &damage;
        tracing::error!(log, offset, position, "damaged batch in {}: {reason}", file.display());
        self.0.insert(place, damage);
        if self.0.len() == MAX_PLACES {
            tracing::error!("{MAX_PLACES} places are damaged; further ones are not listed");
        }
    }

    /// What is known. Damage in segments that are gone, by retention or with their topic, is forgotten.
    pub fn present(&mut self, state: &State) -> Vec<Damage> {
        self.0.retain(|(log, file, _), _| {
            let segments = state.logs.get(log).map(|log| log.segments.as_slice());
            let mut segments = segments.unwrap_or_default().iter();
            segments.any(|segment| segment.file.path == *file)
        });
        self.0.values().cloned().collect()
    }
}
