//! Keyed state: what a job remembers between records, and the delta of it that each epoch commits.
//!
//! State is a set of named, ordered tables of bytes. Every entry belongs to a record key, and every key to one of the job's
//! *key groups*, which stand first in the entry's address so that a group's state is one range and can move to
//! another task. The typed handles ([`ValueState`], [`MapState`]) are how processors see it:
//!
//! ```
//! use riverlog::processing::{MapState, ValueState};
//! const DEPARTURES: ValueState<u64> = ValueState::new("departures");
//! const WEATHER_BY_HOUR: MapState<i64, String> = MapState::new("weather");
//! ```
//!
//! All of it is held in memory, under the job's limit. (Spilling cold key groups to disk is not built yet.)

use std::{
    collections::{BTreeMap, BTreeSet},
    marker::PhantomData,
    ops::{Bound, RangeBounds},
};

use bytes::Bytes;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{
    codec,
    processor::{Context, ProcessError},
};

/// One changed entry: its table, its address, and its value, or `None` when it is gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateChange {
    /// The name of the handle.
    pub table: String,
    /// Key group, key and sub-key, see [`address`].
    pub address: Vec<u8>,
    /// The encoded value.
    pub value: Option<Vec<u8>>,
}

type Table = BTreeMap<Vec<u8>, Bytes>;

/// The state of a task.
#[derive(Debug, Default)]
pub struct StateStore {
    tables: BTreeMap<String, Table>,
    /// Addresses that changed since the last [`StateStore::take_changes`].
    dirty: BTreeMap<String, BTreeSet<Vec<u8>>>,
    /// About how large these changes are.
    dirty_bytes: usize,
    /// Former values since [`StateStore::begin`], to take a rejected record's changes back.
    undo: Vec<(String, Vec<u8>, Option<Bytes>)>,
    size_bytes: usize,
}

/// The constant stands for the tree's node and the two allocations of an entry.
fn entry_bytes(address: &[u8], value: &[u8]) -> usize {
    address.len() + value.len() + 80
}

impl StateStore {
    /// The value at an address.
    pub fn get(&self, table: &str, address: &[u8]) -> Option<&Bytes> {
        self.tables.get(table)?.get(address)
    }

    /// Entries of a table whose address begins with `prefix`, in order.
    pub fn prefixed<'s>(
        &'s self,
        table: &str,
        prefix: &'s [u8],
        from: Bound<Vec<u8>>,
    ) -> impl DoubleEndedIterator<Item = (&'s Vec<u8>, &'s Bytes)> {
        let to = prefix_end(prefix).map_or(Bound::Unbounded, Bound::Excluded);
        // A range whose start lies behind its end would be a panic of the standard library.
        let empty = match (&from, &to) {
            (Bound::Included(from) | Bound::Excluded(from), Bound::Excluded(to)) => from >= to,
            _ => false,
        };
        let table = self.tables.get(table).filter(|_| !empty);
        table
            .into_iter()
            .flat_map(move |entries| entries.range((from.clone(), to.clone())))
    }

    /// Sets or removes a value as part of the running epoch.
    pub fn set(&mut self, table: &str, address: Vec<u8>, value: Option<Bytes>) {
        let (address_bytes, value_bytes) = (address.len(), value.as_ref().map_or(0, Bytes::len));
        let before = self.apply(table, address.clone(), value);
        let bytes_before = before.as_ref().map_or(0, Bytes::len);
        self.undo.push((table.to_owned(), address.clone(), before));
        if !self.dirty.contains_key(table) {
            self.dirty.insert(table.to_owned(), BTreeSet::new());
        }
        // Of a value that changes many times only its growth counts: the delta holds the last.
        let newly_dirty = self.dirty.get_mut(table).is_some_and(|dirty| dirty.insert(address));
        self.dirty_bytes += match newly_dirty {
            true => table.len() + address_bytes + value_bytes,
            false => value_bytes.saturating_sub(bytes_before),
        };
    }

    /// About how large the changes since the last [`StateStore::take_changes`] are.
    pub fn dirty_bytes(&self) -> usize {
        self.dirty_bytes
    }

    /// Applies a committed change, without recording it as new; returns the value before.
    pub fn apply(&mut self, table: &str, address: Vec<u8>, value: Option<Bytes>) -> Option<Bytes> {
        if !self.tables.contains_key(table) {
            self.tables.insert(table.to_owned(), Table::new());
        }
        let entries = self.tables.get_mut(table)?;
        let size_after = value.as_ref().map_or(0, |value| entry_bytes(&address, value));
        let address_len = address.len();
        let before = match value {
            Some(value) => entries.insert(address, value),
            None => entries.remove(&address),
        };
        let size_before = before.as_ref().map_or(0, |before| before.len() + address_len + 80);
        self.size_bytes = self.size_bytes + size_after - size_before;
        before
    }

    /// Marks the point that [`StateStore::roll_back`] returns to.
    pub fn begin(&mut self) {
        self.undo.clear();
    }

    /// Takes back what was set since [`StateStore::begin`].
    pub fn roll_back(&mut self) {
        for (table, address, before) in std::mem::take(&mut self.undo).into_iter().rev() {
            self.apply(&table, address, before);
        }
    }

    /// The changes since the last call, in a fixed order; of several to one entry only the last.
    pub fn take_changes(&mut self) -> Vec<StateChange> {
        self.undo.clear();
        self.dirty_bytes = 0;
        let mut changes = Vec::new();
        for (table, addresses) in std::mem::take(&mut self.dirty) {
            for address in addresses {
                let value = self.get(&table, &address).map(|value| value.to_vec());
                changes.push(StateChange {
                    table: table.clone(),
                    address,
                    value,
                });
            }
        }
        changes
    }

    /// All entries, as changes that set them.
    pub fn entries(&self) -> impl Iterator<Item = StateChange> {
        self.tables.iter().flat_map(|(table, entries)| {
            entries.iter().map(move |(address, value)| StateChange {
                table: table.clone(),
                address: address.clone(),
                value: Some(value.to_vec()),
            })
        })
    }

    /// About how much memory the state takes.
    pub fn size_bytes(&self) -> usize {
        self.size_bytes
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.tables.values().map(BTreeMap::len).sum()
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The first address behind all those that begin with `prefix`.
fn prefix_end(prefix: &[u8]) -> Option<Vec<u8>> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return Some(end);
        }
    }
    None
}

/// Where a key's entries stand: key group, length of the key, key. A map's sub-key follows.
pub fn address(group: u16, key: &[u8]) -> Vec<u8> {
    let mut address = Vec::with_capacity(6 + key.len() + 8);
    address.extend_from_slice(&group.to_be_bytes());
    address.extend_from_slice(&u32::try_from(key.len()).unwrap_or(u32::MAX).to_be_bytes());
    address.extend_from_slice(key);
    address
}

/// The sub-key of a [`MapState`]. The encoding must sort as the values do.
pub trait SubKey: Sized {
    /// Appends the encoding.
    fn write(&self, out: &mut Vec<u8>);
    /// Reads it back; `None` if these bytes are no such key.
    fn read(bytes: &[u8]) -> Option<Self>;
}

impl SubKey for i64 {
    fn write(&self, out: &mut Vec<u8>) {
        // With the sign bit flipped two's complement sorts as bytes.
        out.extend_from_slice(&(self ^ i64::MIN).to_be_bytes());
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        Some(i64::from_be_bytes(bytes.try_into().ok()?) ^ i64::MIN)
    }
}

impl SubKey for String {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.as_bytes());
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        String::from_utf8(bytes.to_vec()).ok()
    }
}

fn damaged(table: &str, error: impl std::fmt::Display) -> ProcessError {
    ProcessError::Fatal(format!("state '{table}': {error}"))
}

/// One value per key.
#[derive(Debug)]
pub struct ValueState<T> {
    name: &'static str,
    value: PhantomData<fn() -> T>,
}

impl<T: Serialize + DeserializeOwned> ValueState<T> {
    /// A handle; the name must be unique in the job and must stay the same for ever.
    pub const fn new(name: &'static str) -> Self {
        Self {
            name,
            value: PhantomData,
        }
    }

    /// The value of the current key.
    pub fn get(&self, ctx: &Context<'_>) -> Result<Option<T>, ProcessError> {
        let value = ctx.state().get(self.name, &ctx.address());
        value
            .map(|bytes| codec::decode(bytes))
            .transpose()
            .map_err(|e| damaged(self.name, e))
    }

    /// Sets the value of the current key.
    pub fn put(&self, ctx: &mut Context<'_>, value: &T) -> Result<(), ProcessError> {
        let bytes = codec::encode(value).map_err(|e| damaged(self.name, e))?;
        let address = ctx.address();
        ctx.state_mut().set(self.name, address, Some(bytes.into()));
        Ok(())
    }

    /// Forgets the value of the current key.
    pub fn remove(&self, ctx: &mut Context<'_>) {
        let address = ctx.address();
        ctx.state_mut().set(self.name, address, None);
    }
}

/// An ordered map per key.
#[derive(Debug)]
pub struct MapState<K, V> {
    name: &'static str,
    value: PhantomData<fn() -> (K, V)>,
}

impl<K: SubKey, V: Serialize + DeserializeOwned> MapState<K, V> {
    /// A handle; the name must be unique in the job and must stay the same for ever.
    pub const fn new(name: &'static str) -> Self {
        Self {
            name,
            value: PhantomData,
        }
    }

    /// The handle's name.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    fn address(ctx: &Context<'_>, sub_key: &K) -> Vec<u8> {
        let mut address = ctx.address();
        sub_key.write(&mut address);
        address
    }

    /// The value under a sub-key of the current key.
    pub fn get(&self, ctx: &Context<'_>, sub_key: &K) -> Result<Option<V>, ProcessError> {
        let value = ctx.state().get(self.name, &Self::address(ctx, sub_key));
        value
            .map(|bytes| codec::decode(bytes))
            .transpose()
            .map_err(|e| damaged(self.name, e))
    }

    /// Sets it.
    pub fn put(&self, ctx: &mut Context<'_>, sub_key: &K, value: &V) -> Result<(), ProcessError> {
        let bytes = codec::encode(value).map_err(|e| damaged(self.name, e))?;
        let address = Self::address(ctx, sub_key);
        ctx.state_mut().set(self.name, address, Some(bytes.into()));
        Ok(())
    }

    /// Removes it, and says whether it was there.
    pub fn remove(&self, ctx: &mut Context<'_>, sub_key: &K) -> bool {
        let address = Self::address(ctx, sub_key);
        let there = ctx.state().get(self.name, &address).is_some();
        if there {
            ctx.state_mut().set(self.name, address, None);
        }
        there
    }

    /// The last entry whose sub-key is not above `sub_key`.
    pub fn last_up_to(&self, ctx: &Context<'_>, sub_key: &K) -> Result<Option<(K, V)>, ProcessError> {
        let prefix = ctx.address();
        let bound = Self::address(ctx, sub_key);
        let from = Bound::Included(prefix.clone());
        let last = ctx
            .state()
            .prefixed(self.name, &prefix, from)
            .rev()
            .find(|(address, _)| **address <= bound);
        last.map(|(address, value)| self.entry(&prefix, address, value))
            .transpose()
    }

    /// The entries in a range of sub-keys, in order.
    pub fn range(&self, ctx: &Context<'_>, range: impl RangeBounds<K>) -> Result<Vec<(K, V)>, ProcessError> {
        let prefix = ctx.address();
        let from = match range.start_bound() {
            Bound::Included(sub_key) => Bound::Included(Self::address(ctx, sub_key)),
            Bound::Excluded(sub_key) => Bound::Excluded(Self::address(ctx, sub_key)),
            Bound::Unbounded => Bound::Included(prefix.clone()),
        };
        let inside = |address: &Vec<u8>| match range.end_bound() {
            Bound::Included(sub_key) => *address <= Self::address(ctx, sub_key),
            Bound::Excluded(sub_key) => *address < Self::address(ctx, sub_key),
            Bound::Unbounded => true,
        };
        ctx.state()
            .prefixed(self.name, &prefix, from)
            .take_while(|(address, _)| inside(address))
            .map(|(address, value)| self.entry(&prefix, address, value))
            .collect()
    }

    fn entry(&self, prefix: &[u8], address: &[u8], value: &Bytes) -> Result<(K, V), ProcessError> {
        let sub_key = address.get(prefix.len()..).and_then(K::read);
        let sub_key = sub_key.ok_or_else(|| damaged(self.name, "an entry's sub-key does not decode"))?;
        Ok((sub_key, codec::decode(value).map_err(|e| damaged(self.name, e))?))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn bytes(text: &str) -> Option<Bytes> {
        Some(Bytes::copy_from_slice(text.as_bytes()))
    }

    #[test]
    fn the_delta_holds_the_last_value_of_each_changed_entry() {
        let mut state = StateStore::default();
        state.set("t", address(1, b"a"), bytes("1"));
        state.set("t", address(1, b"a"), bytes("2"));
        state.set("t", address(1, b"b"), bytes("3"));
        state.set("t", address(1, b"b"), None);
        let changes = state.take_changes();
        let change = |key: &[u8], value: Option<&[u8]>| StateChange {
            table: "t".into(),
            address: address(1, key),
            value: value.map(<[u8]>::to_vec),
        };
        assert_eq!(changes, [change(b"a", Some(b"2")), change(b"b", None)]);
        assert!(state.take_changes().is_empty());
        assert_eq!(state.len(), 1);
    }

    #[test]
    fn a_rejected_record_leaves_no_trace() {
        let mut state = StateStore::default();
        state.set("t", address(1, b"a"), bytes("1"));
        let size = state.size_bytes();
        state.begin();
        state.set("t", address(1, b"a"), bytes("changed"));
        state.set("t", address(1, b"a"), None);
        state.set("u", address(1, b"b"), bytes("new"));
        state.roll_back();
        assert_eq!(state.get("t", &address(1, b"a")), bytes("1").as_ref());
        assert_eq!(state.get("u", &address(1, b"b")), None);
        assert_eq!(state.size_bytes(), size);
    }

    #[test]
    fn sub_keys_sort_as_their_values() {
        let encoded = |value: i64| {
            let mut out = Vec::new();
            value.write(&mut out);
            assert_eq!(i64::read(&out), Some(value));
            out
        };
        let values = [i64::MIN, -5, -1, 0, 1, 7_200_000, i64::MAX];
        assert!(
            values
                .windows(2)
                .all(|pair| encoded(*pair.first().unwrap()) < encoded(*pair.last().unwrap()))
        );
        assert_eq!(prefix_end(&[1, 255, 255]), Some(vec![2]));
        assert_eq!(prefix_end(&[255]), None);
    }
}
