//! Directories: which names the kernel shows, and which a power cut would leave.
//!
//! A create, rename or removal is one step and survives a power cut whole or not at all; of steps that
//! were not synced any subset may survive, also out of order, as some file systems allow. A rename
//! never leaves both names or none of a durable file. `sync_dir` makes every step durable that touches
//! the directory, so syncing either side of a rename between directories is enough.

use std::collections::BTreeMap;

use rand::RngExt;
use rand::rngs::SmallRng;

/// Number of a file or directory.
pub(super) type Node = u64;
pub(super) const ROOT: Node = 0;

/// By directory and name.
type Names = BTreeMap<Node, BTreeMap<String, Node>>;

/// What one step does: names that go, and a name that comes.
#[derive(Clone, Debug)]
struct Step {
    changes: Vec<((Node, String), Option<Node>)>,
}

#[derive(Clone, Default)]
pub(super) struct Directories {
    cached: Names,
    durable: Names,
    pending: Vec<Step>,
}

impl Directories {
    pub fn get(&self, directory: Node, name: &str) -> Option<Node> {
        self.cached.get(&directory)?.get(name).copied()
    }

    pub fn list(&self, directory: Node) -> Vec<(String, Node)> {
        let names = self.cached.get(&directory).into_iter().flatten();
        names.map(|(name, node)| (name.clone(), *node)).collect()
    }

    /// What every name that the kernel shows stands for.
    pub fn all(&self) -> impl Iterator<Item = Node> {
        self.cached.values().flat_map(BTreeMap::values).copied()
    }

    /// One atomic step: all names change together.
    pub fn change(&mut self, changes: Vec<((Node, String), Option<Node>)>) {
        for (key, target) in &changes {
            set(&mut self.cached, key, *target);
        }
        self.pending.push(Step { changes });
    }

    /// Makes the steps that touch `directory` durable.
    pub fn sync(&mut self, directory: Node) {
        let mut later = Vec::new();
        for step in std::mem::take(&mut self.pending) {
            if step.changes.iter().any(|((d, _), _)| *d == directory) {
                // What earlier steps said about the same names or nodes is history.
                for earlier in &mut later {
                    forget(earlier, &step);
                }
                apply(&mut self.durable, &step);
            } else {
                later.push(step);
            }
        }
        self.pending = later;
    }

    /// Makes all steps durable.
    pub fn sync_all(&mut self) {
        for step in std::mem::take(&mut self.pending) {
            apply(&mut self.durable, &step);
        }
    }

    /// What a power cut leaves.
    pub fn cut_power(&mut self, rng: &mut SmallRng) {
        let pending = std::mem::take(&mut self.pending);
        let survivors = match rng.random_range(0..4) {
            0 => Vec::new(),
            1 => pending,
            // As a journaling file system does: a prefix.
            2 => {
                let kept = rng.random_range(0..=pending.len());
                pending.into_iter().take(kept).collect()
            }
            _ => pending.into_iter().filter(|_| rng.random()).collect(),
        };
        for step in &survivors {
            apply(&mut self.durable, step);
        }
        self.cached = self.durable.clone();
    }
}

fn set(names: &mut Names, (directory, name): &(Node, String), target: Option<Node>) {
    let names = names.entry(*directory).or_default();
    match target {
        Some(node) => names.insert(name.clone(), node),
        None => names.remove(name),
    };
}

/// Applies a step to the durable names. A node has one name: had an earlier rename of it been lost,
/// the old name goes now.
fn apply(durable: &mut Names, step: &Step) {
    for (key, target) in &step.changes {
        if let Some(node) = target {
            for names in durable.values_mut() {
                names.retain(|_, n| n != node);
            }
        }
        set(durable, key, *target);
    }
}

fn forget(earlier: &mut Step, later: &Step) {
    earlier.changes.retain(|(key, target)| {
        let same = |(k, t): &((Node, String), Option<Node>)| k == key || (t.is_some() && t == target);
        !later.changes.iter().any(same)
    });
}
