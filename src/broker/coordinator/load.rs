//! Groups and offsets from the log, before anybody is served.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use riverlog_storage::record::{StoredRecord, decode_all};
use riverlog_storage::{LogId, Storage};

use super::{GroupOptions, OFFSETS_TOPIC, Slot};
use crate::groups::{Group, Now, record};

const READ_BYTES: usize = 4 * 1024 * 1024;
/// We write these batches uncompressed; one that claims to be more is not ours.
const MAX_DECOMPRESSED_BYTES: usize = 256 * 1024 * 1024;

pub(super) struct Loaded {
    pub slots: HashMap<Arc<str>, Arc<Slot>>,
    pub unavailable: BTreeMap<u32, Arc<str>>,
}

/// Reads every partition. One that cannot be read is named, and its groups are not served; the others are.
pub(super) fn load(storage: &Storage, options: &GroupOptions) -> Loaded {
    let mut loaded = Loaded {
        slots: HashMap::new(),
        unavailable: BTreeMap::new(),
    };
    let catalog = storage.catalog();
    let Some(topic) = catalog.topic(OFFSETS_TOPIC) else {
        return loaded;
    };
    for (partition, log) in topic.partitions.iter().enumerate() {
        let mut replay = Replay::default();
        match read_log(storage, *log, &mut replay) {
            Ok(()) => replay.finish(storage, options, &mut loaded.slots),
            Err(reason) => {
                tracing::error!(topic = OFFSETS_TOPIC, partition, %reason, "groups cannot be loaded");
                let reason = format!("partition {partition} of {OFFSETS_TOPIC} cannot be read: {reason}");
                loaded.unavailable.insert(partition as u32, reason.into());
            }
        }
    }
    loaded
}

fn read_log(storage: &Storage, log: LogId, replay: &mut Replay) -> Result<(), String> {
    let ends = storage.ends(log).ok_or("the log does not exist")?;
    let mut next = ends.start;
    while next < ends.high_watermark {
        let fetched = storage.read(log, next, READ_BYTES).map_err(|error| error.to_string())?;
        let decoded = decode_all(&fetched.data, next, MAX_DECOMPRESSED_BYTES).map_err(|error| error.to_string())?;
        if decoded.next_offset <= next {
            return Err("it ends before its end".into());
        }
        for record in decoded.records {
            let offset = record.offset;
            replay
                .apply(record)
                .map_err(|error| format!("offset {offset}: {error}"))?;
        }
        next = decoded.next_offset;
    }
    Ok(())
}

/// The last word of the log about each group and each offset.
#[derive(Default)]
pub(super) struct Replay {
    groups: BTreeMap<Arc<str>, record::GroupMetadata>,
    offsets: BTreeMap<Arc<str>, crate::groups::Offsets>,
}

impl Replay {
    pub(super) fn apply(&mut self, stored: StoredRecord) -> Result<(), record::DecodeError> {
        let Some(key) = stored.key else { return Ok(()) };
        match record::decode_key(&key)? {
            record::Key::Offset {
                group,
                topic,
                partition,
            } => {
                let committed = stored.value.as_ref().map(record::decode_offset).transpose()?;
                let offsets = self.offsets.entry(group.clone()).or_default();
                offsets.restore(topic, partition, committed);
                if offsets.is_empty() {
                    self.offsets.remove(&group);
                }
            }
            record::Key::Group { group } => match stored.value.as_ref() {
                Some(value) => {
                    self.groups.insert(group, record::decode_group(value)?);
                }
                None => {
                    self.groups.remove(&group);
                }
            },
            // Groups of the newer protocols, should a newer version have written them, are not ours to touch.
            record::Key::Other(_) => {}
        }
        Ok(())
    }

    fn finish(self, storage: &Storage, options: &GroupOptions, slots: &mut HashMap<Arc<str>, Arc<Slot>>) {
        let Self {
            mut groups,
            mut offsets,
        } = self;
        let clock = storage.clock();
        let now = Now {
            monotonic_ms: clock.monotonic_ms(),
            wall_ms: clock.now_ms(),
        };
        let mut ids: Vec<Arc<str>> = groups.keys().chain(offsets.keys()).cloned().collect();
        ids.dedup();
        for id in ids {
            if slots.contains_key(&id) {
                continue;
            }
            let metadata = groups.remove(&id);
            let group = match metadata.clone() {
                Some(metadata) => Group::restore(id.clone(), options.group, metadata, now),
                None => Group::new(id.clone(), options.group, now),
            };
            let slot = Slot::new(id.clone(), group);
            let mut state = slot.state.lock();
            state.written = metadata.map(|metadata| (0, metadata));
            state.offsets = offsets.remove(&id).unwrap_or_default();
            drop(state);
            slots.insert(id, slot);
        }
    }
}
