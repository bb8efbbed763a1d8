//! Groups and offsets from the log, before anybody is served.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use riverlog_storage::record::{StoredRecord, decode_all};
use riverlog_storage::{LogId, Storage};

use super::damage::Damaged;
use super::{GroupOptions, OFFSETS_TOPIC, Slot};
use crate::groups::{Group, Now, record};

const READ_BYTES: usize = 4 * 1024 * 1024;
/// We write these batches uncompressed; one that claims to be more is not ours.
const MAX_DECOMPRESSED_BYTES: usize = 256 * 1024 * 1024;

pub(super) struct Loaded {
    pub slots: BTreeMap<Arc<str>, Arc<Slot>>,
    pub unavailable: BTreeMap<u32, Arc<str>>,
    pub damaged: HashMap<Arc<str>, Damaged>,
}

/// Reads every partition. One that cannot be read is named, and its groups are not served; the others are. The same holds for
/// a group of which a record cannot be read.
pub(super) fn load(storage: &Storage, options: &GroupOptions) -> Loaded {
    let mut loaded = Loaded {
        slots: BTreeMap::new(),
        unavailable: BTreeMap::new(),
        damaged: HashMap::new(),
    };
    let catalog = storage.catalog();
    let Some(topic) = catalog.topic(OFFSETS_TOPIC) else {
        return loaded;
    };
    for (partition, log) in topic.partitions.iter().enumerate() {
        let mut replay = Replay::default();
        match read_log(storage, *log, &mut replay) {
            Ok(()) => replay.finish(partition, storage, options, &mut loaded),
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
            replay.apply(record);
        }
        next = decoded.next_offset;
    }
    Ok(())
}

/// The last word of the log about each group and each offset.
#[derive(Default)]
struct Replay {
    groups: BTreeMap<Arc<str>, record::GroupMetadata>,
    offsets: BTreeMap<Arc<str>, crate::groups::Offsets>,
    /// Keys whose last word cannot be read, and where it stands. What stood before is out of date, so it must not count again.
    unreadable: BTreeMap<record::Key, Unreadable>,
    /// Records that do not even say what they are about: how many, and the first of them.
    nameless: Option<(u64, Unreadable)>,
}

struct Unreadable {
    offset: i64,
    error: record::DecodeError,
}

impl Replay {
    fn apply(&mut self, stored: StoredRecord) {
        let Some(key) = stored.key else { return };
        let unreadable = |error| Unreadable {
            offset: stored.offset,
            error,
        };
        match record::decode_key(&key) {
            Ok(key) => match self.apply_to(key.clone(), stored.value.as_ref()) {
                Ok(()) => {
                    self.unreadable.remove(&key);
                }
                Err(error) => {
                    self.unreadable.insert(key, unreadable(error));
                }
            },
            Err(error) => {
                let (count, _) = self.nameless.get_or_insert((0, unreadable(error)));
                *count += 1;
            }
        }
    }

    fn apply_to(&mut self, key: record::Key, value: Option<&Bytes>) -> Result<(), record::DecodeError> {
        match key {
            record::Key::Offset {
                group,
                topic,
                partition,
            } => {
                let committed = value.map(record::decode_offset).transpose()?;
                let offsets = self.offsets.entry(group.clone()).or_default();
                offsets.restore(topic, partition, committed);
                if offsets.is_empty() {
                    self.offsets.remove(&group);
                }
            }
            record::Key::Group { group } => match value {
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

    fn finish(mut self, partition: usize, storage: &Storage, options: &GroupOptions, loaded: &mut Loaded) {
        if let Some((records, first)) = &self.nameless {
            tracing::error!(
                topic = OFFSETS_TOPIC,
                partition,
                offset = first.offset,
                reason = %first.error,
                records,
                "records that name no group are skipped; the first is named here"
            );
        }
        self.set_damaged_aside(partition, &mut loaded.damaged);
        self.fill(storage, options, &mut loaded.slots);
    }

    /// Takes out the groups of which something cannot be read, so that nobody is told half of the truth about them.
    fn set_damaged_aside(&mut self, partition: usize, damaged: &mut HashMap<Arc<str>, Damaged>) {
        for (key, Unreadable { offset, error }) in std::mem::take(&mut self.unreadable) {
            let (record::Key::Offset { group, .. } | record::Key::Group { group }) = &key else {
                continue;
            };
            tracing::error!(
                topic = OFFSETS_TOPIC,
                partition,
                offset,
                reason = %error,
                group = &**group,
                "a record of a group cannot be read: the group is not served until it is deleted"
            );
            let entry = damaged.entry(group.clone()).or_insert_with(|| Damaged {
                reason: format!("offset {offset} of partition {partition} of {OFFSETS_TOPIC}: {error}").into(),
                keys: vec![record::Key::Group { group: group.clone() }],
            });
            entry.keys.push(key);
        }
        for (group, entry) in damaged {
            self.groups.remove(group);
            let offsets = self.offsets.remove(group).unwrap_or_default();
            let keys = offsets
                .all_published()
                .map(|(topic, partition, _)| record::Key::Offset {
                    group: group.clone(),
                    topic: topic.clone(),
                    partition,
                });
            entry.keys.extend(keys);
        }
    }

    fn fill(self, storage: &Storage, options: &GroupOptions, slots: &mut BTreeMap<Arc<str>, Arc<Slot>>) {
        let Self {
            mut groups,
            mut offsets,
            ..
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
