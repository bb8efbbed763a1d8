//! What clients of the groups were told, and what follows from it for what they may be told later.

use std::collections::{BTreeMap, BTreeSet};

use crate::groups::Error;

/// A group and a partition of the topic that it reads.
pub(super) type Key = (usize, i32);

/// Committed offsets are numbers that were never committed before, so each says when it was sent.
#[derive(Default)]
pub(super) struct Ledger {
    next: i64,
    keys: BTreeMap<Key, Committed>,
    groups: BTreeMap<usize, GroupFacts>,
    pub acknowledged: u64,
    pub refused: u64,
}

#[derive(Default)]
struct Committed {
    /// The largest that was acknowledged or read: no older one may be read any more.
    floor: Option<i64>,
    /// Refused for good: never to be read.
    refused: BTreeSet<i64>,
    sent: BTreeSet<i64>,
}

#[derive(Default)]
struct GroupFacts {
    /// The largest generation of which a member was told its assignment.
    generation: i32,
    /// Offsets sent before this were deleted.
    deleted_below: i64,
    /// The same for deletions of which nobody knows whether they happened.
    deletions_in_doubt: Vec<i64>,
}

/// A commit on its way.
#[derive(Clone, Copy)]
pub(super) struct Sent {
    pub key: Key,
    pub value: i64,
    /// Of a member that others have replaced: it must be refused.
    pub stale: bool,
}

impl Ledger {
    /// A commit is sent, by a member of that generation if it is not by a tool.
    pub fn send(&mut self, key: Key, generation: Option<i32>) -> Sent {
        let value = self.next;
        self.next += 1;
        self.keys.entry(key).or_default().sent.insert(value);
        let current = self.groups.entry(key.0).or_default().generation;
        Sent {
            key,
            value,
            stale: generation.is_some_and(|generation| generation < current),
        }
    }

    /// A commit was answered.
    pub fn committed(&mut self, sent: Sent, outcome: &Result<(), Error>) -> Result<(), String> {
        let Sent { key, value, stale } = sent;
        let deleted_below = self.groups.entry(key.0).or_default().deleted_below;
        let committed = self.keys.entry(key).or_default();
        match outcome {
            Ok(()) if stale => Err(format!("commit {value} to {key:?} of an old generation was accepted")),
            Ok(()) => {
                self.acknowledged += 1;
                if value >= deleted_below {
                    committed.floor = committed.floor.max(Some(value));
                }
                Ok(())
            }
            // Whether it is in the log, the next start knows.
            Err(Error::NotAvailable(_)) => Ok(()),
            Err(_) => {
                self.refused += 1;
                committed.refused.insert(value);
                Ok(())
            }
        }
    }

    /// What must at least be read by those who ask now.
    pub fn floor(&self, key: Key) -> Option<i64> {
        self.keys.get(&key)?.floor
    }

    /// An offset was read by somebody who asked when `floor` was the floor.
    pub fn read(&mut self, key: Key, floor: Option<i64>, value: Option<i64>) -> Result<(), String> {
        let group = self.groups.entry(key.0).or_default();
        let committed = self.keys.entry(key).or_default();
        let Some(value) = value else {
            let gone = floor.is_none_or(|floor| {
                floor < group.deleted_below || group.deletions_in_doubt.iter().any(|below| floor < *below)
            });
            return match gone {
                true => Ok(()),
                false => Err(format!("{key:?} has no offset, and {floor:?} was told")),
            };
        };
        if !committed.sent.contains(&value) || committed.refused.contains(&value) {
            return Err(format!("{key:?} is at {value}, which was never committed"));
        }
        if value < group.deleted_below {
            return Err(format!("{key:?} is at {value}, which was deleted"));
        }
        if floor.is_some_and(|floor| value < floor && floor >= group.deleted_below) {
            return Err(format!("{key:?} is back at {value} behind {floor:?}"));
        }
        // Nobody may see what a crash could take back.
        committed.floor = committed.floor.max(Some(value));
        Ok(())
    }

    /// The group's deletion is asked for. What was sent so far is before it.
    pub fn delete(&mut self, group: usize) -> i64 {
        // A number of its own, which no commit has.
        let below = self.next;
        self.next += 1;
        let facts = self.groups.entry(group).or_default();
        facts.deletions_in_doubt.push(below);
        facts.generation = 0;
        below
    }

    /// The deletion was answered.
    pub fn deleted(&mut self, group: usize, below: i64, outcome: &Result<(), Error>) {
        let facts = self.groups.entry(group).or_default();
        if matches!(outcome, Err(Error::NotAvailable(_))) {
            return;
        }
        facts.deletions_in_doubt.retain(|other| *other != below);
        if outcome.is_ok() {
            facts.deleted_below = facts.deleted_below.max(below);
            let keys = self.keys.iter_mut().filter(|((of, _), _)| *of == group);
            for (_, committed) in keys {
                committed.floor = committed.floor.filter(|floor| *floor >= below);
            }
        }
    }

    /// The upkeep may remove groups that are empty and hold nothing; they begin anew.
    pub fn upkeep(&mut self) {
        for facts in self.groups.values_mut() {
            facts.generation = 0;
        }
    }

    /// A member was told its assignment in a generation.
    pub fn synced(&mut self, group: usize, generation: i32) {
        let facts = self.groups.entry(group).or_default();
        facts.generation = facts.generation.max(generation);
    }

    /// The generation of those who know their assignments.
    pub fn generation(&self, group: usize) -> i32 {
        self.groups.get(&group).map_or(0, |facts| facts.generation)
    }
}
