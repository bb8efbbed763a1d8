//! What a recovery may make of write sets that nobody was answered about: each is there or not, whole.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::ledger::{Attempt, Hope, Ledger, Shown, Violation, ensure};
use crate::LogId;
use crate::write_set::Change;

/// What a recovered storage shows.
pub(crate) struct Recovered {
    pub topics: BTreeMap<Uuid, ShownTopic>,
    pub epochs: BTreeMap<String, u64>,
    /// Logs that can be read; fenced ones are not among them.
    pub logs: BTreeMap<LogId, Shown>,
    pub fenced: BTreeSet<LogId>,
}

pub(crate) struct ShownTopic {
    pub name: String,
    pub logs: Vec<LogId>,
    pub configs: BTreeMap<String, String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Part {
    Present,
    Absent,
    Unknown,
}

impl Ledger {
    /// Holds what is shown after a recovery against what was promised, and learns what became of the rest.
    pub fn recovered(&mut self, shown: &Recovered) -> Result<(), Violation> {
        let created = self.check_topics(shown)?;
        self.check_epochs(shown)?;
        let moved_before: BTreeMap<LogId, i64> = self.logs.iter().map(|(l, m)| (*l, m.start)).collect();
        for (log, model) in &mut self.logs {
            let fenced = shown.fenced.contains(log);
            ensure!(fenced || !model.fenced, "log {log} was fenced and is not any more");
            model.fenced = fenced;
        }
        for (log, shown) in &shown.logs {
            self.check_log(*log, shown)?;
        }
        for id in 0..self.attempts.len() {
            if !self.attempts[id].open {
                continue;
            }
            let parts = self.parts_of(&self.attempts[id], shown, &created, &moved_before);
            let whole = !(parts.contains(&Part::Present) && parts.contains(&Part::Absent));
            ensure!(
                whole,
                "write set {id} is there in part: {parts:?}, {:?}",
                self.attempts[id].changes
            );
        }
        self.forget_open();
        for (name, epoch) in &shown.epochs {
            self.epochs.insert(name.clone(), *epoch);
        }
        Ok(())
    }

    fn forget_open(&mut self) {
        for attempt in &mut self.attempts {
            attempt.open = false;
        }
        for batch in &mut self.batches {
            // In a fenced log nobody can tell.
            let fenced = self.logs.get(&batch.log).is_some_and(|l| l.fenced);
            if batch.hope == Hope::Pending && !fenced {
                batch.hope = Hope::Dead;
            }
        }
    }

    fn open_changes(&self) -> impl Iterator<Item = &Change> {
        self.attempts.iter().filter(|a| a.open).flat_map(|a| &a.changes)
    }

    /// How many write sets that nobody was answered about may have moved the start of a log; retention counts as many.
    fn start_moves(&self, log: LogId) -> usize {
        if self.logs.get(&log).is_none_or(|model| model.retained) {
            return usize::MAX;
        }
        let moves = |change: &&Change| match change {
            Change::MoveLogStart { log: moved, .. } | Change::MoveLogStartToAppend { log: moved } => *moved == log,
            _ => false,
        };
        self.open_changes().filter(moves).count()
    }

    /// Returns the topics that turn out to have been created.
    fn check_topics(&mut self, shown: &Recovered) -> Result<BTreeSet<String>, Violation> {
        let mut created = BTreeSet::new();
        for (id, topic) in &shown.topics {
            let Some(known) = self.topics.get(id) else {
                let hoped = self.open_changes().any(|c| {
                    matches!(c, Change::CreateTopic { name, partitions, configs }
                        if *name == topic.name && *partitions as usize == topic.logs.len() && *configs == topic.configs)
                });
                ensure!(hoped, "topic {} ({id}) exists and nobody created it", topic.name);
                self.add_topic(*id, &topic.name, &topic.logs, &topic.configs)?;
                created.insert(topic.name.clone());
                continue;
            };
            if known.logs.len() != topic.logs.len() {
                let total = topic.logs.len();
                let hoped = self.open_changes().any(|c| {
                    matches!(c, Change::AddPartitions { id: grown, total: t } if grown == id && *t as usize == total)
                });
                ensure!(hoped, "topic {} has {total} partitions", topic.name);
            }
            let known_configs = known.configs.clone();
            self.grow_topic(*id, &topic.logs)?;
            if known_configs != topic.configs {
                let hoped = self.open_changes().any(
                    |c| matches!(c, Change::SetConfigs { id: set, configs } if set == id && *configs == topic.configs),
                );
                ensure!(hoped, "topic {} has other settings", topic.name);
                self.set_configs(*id, &topic.configs);
            }
        }
        let gone: Vec<Uuid> = self
            .topics
            .keys()
            .filter(|id| !shown.topics.contains_key(*id))
            .copied()
            .collect();
        for id in gone {
            let hoped = self
                .open_changes()
                .any(|c| matches!(c, Change::DeleteTopic { id: d } if *d == id));
            ensure!(hoped, "topic {} is gone and nobody deleted it", self.topics[&id].name);
            self.remove_topic(id);
        }
        Ok(created)
    }

    fn check_epochs(&self, shown: &Recovered) -> Result<(), Violation> {
        for (name, promised) in &self.epochs {
            let epoch = shown.epochs.get(name).copied().unwrap_or(0);
            let hoped = self
                .open_changes()
                .any(|c| matches!(c, Change::SetEpoch { name: n, epoch: e } if n == name && *e == epoch));
            ensure!(
                epoch == *promised || (epoch > *promised && hoped),
                "epoch {name} was {promised} and is {epoch}"
            );
        }
        Ok(())
    }

    fn parts_of(
        &self,
        attempt: &Attempt,
        shown: &Recovered,
        created: &BTreeSet<String>,
        starts: &BTreeMap<LogId, i64>,
    ) -> Vec<Part> {
        let verdict = |present: bool| if present { Part::Present } else { Part::Absent };
        let mut parts = Vec::new();
        for id in &attempt.batches {
            let batch = &self.batches[*id];
            let tries = self.attempts.iter().filter(|a| a.batches.contains(id)).count();
            let still = starts.get(&batch.log) == shown.logs.get(&batch.log).map(|l| &l.start);
            // A start that was moved to the batch itself does not hide it.
            let own = Change::MoveLogStartToAppend { log: batch.log };
            let still = still || attempt.changes.contains(&own) && self.start_moves(batch.log) == 1;
            parts.push(match batch.hope {
                _ if tries > 1 => Part::Unknown,
                Hope::Placed(_) => Part::Present,
                _ if !still || !shown.logs.contains_key(&batch.log) => Part::Unknown,
                _ => Part::Absent,
            });
        }
        for change in &attempt.changes {
            let rivals = self
                .open_changes()
                .filter(|c| std::mem::discriminant(*c) == std::mem::discriminant(change));
            let alone = rivals.count() == 1;
            parts.push(match change {
                Change::CreateTopic { name, .. } if alone => verdict(created.contains(name)),
                Change::DeleteTopic { id } => verdict(!shown.topics.contains_key(id)),
                Change::AddPartitions { id, total } => match shown.topics.get(id) {
                    Some(topic) if alone => verdict(topic.logs.len() >= *total as usize),
                    _ => Part::Unknown,
                },
                Change::MoveLogStart { log, offset } => match (starts.get(log), shown.logs.get(log)) {
                    (Some(old), Some(now)) if now.start < *offset && old < offset => Part::Absent,
                    (Some(old), Some(now)) if alone && old < offset => verdict(now.start >= *offset),
                    _ => Part::Unknown,
                },
                Change::MoveLogStartToAppend { log } => match (starts.get(log), shown.logs.get(log)) {
                    (Some(old), Some(now)) if now.start > *old && self.start_moves(*log) == 1 => Part::Present,
                    _ => Part::Unknown,
                },
                Change::SetEpoch { name, epoch } => match shown.epochs.get(name).copied().unwrap_or(0).cmp(epoch) {
                    std::cmp::Ordering::Less => Part::Absent,
                    std::cmp::Ordering::Equal if alone => Part::Present,
                    _ => Part::Unknown,
                },
                _ => Part::Unknown,
            });
        }
        parts
    }
}
