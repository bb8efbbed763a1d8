//! What a group has committed: the published value that may be read, and those on their way into the log.

use std::collections::BTreeMap;
use std::sync::Arc;

use uuid::Uuid;

/// Names a commit on its way into the log.
pub type Ticket = u64;

/// A committed offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The next offset to read.
    pub offset: i64,
    /// Leader epoch of the last record read, -1 if the client did not say.
    pub leader_epoch: i32,
    /// Whatever the client wanted to keep with it.
    pub metadata: Arc<str>,
    /// Wall-clock time of the commit.
    pub commit_time_ms: i64,
    /// When the offset is to be forgotten, if the client asked for a time of its own.
    pub expire_time_ms: Option<i64>,
    /// The incarnation of the topic; nil if it is not known.
    pub topic_id: Uuid,
}

/// One change: a new value, or none to forget the offset.
pub type Change = (Arc<str>, i32, Option<Committed>);

#[derive(Clone, Debug, Default)]
struct Entry {
    published: Option<Committed>,
    /// The commit that published it; 0 for what was loaded.
    published_by: Ticket,
    /// Newest last.
    pending: Vec<(Ticket, Option<Committed>)>,
}

impl Entry {
    fn assigned(&self) -> Option<&Committed> {
        self.pending
            .last()
            .map_or(self.published.as_ref(), |(_, value)| value.as_ref())
    }

    fn is_void(&self) -> bool {
        self.published.is_none() && self.pending.is_empty()
    }
}

/// The offsets of one group.
#[derive(Clone, Debug, Default)]
pub struct Offsets {
    topics: BTreeMap<Arc<str>, BTreeMap<i32, Entry>>,
    submitted: Ticket,
    settled: Ticket,
    in_doubt: bool,
}

impl Offsets {
    /// A value read back from the log.
    pub fn restore(&mut self, topic: Arc<str>, partition: i32, committed: Option<Committed>) {
        self.entry(&topic, partition).published = committed;
        self.drop_void(&topic, partition);
    }

    /// A commit was submitted: it counts as assigned, and as readable when [`Offsets::settle`] says it is published.
    pub fn submit(&mut self, changes: &[Change]) -> Ticket {
        self.submitted += 1;
        for (topic, partition, value) in changes {
            let ticket = self.submitted;
            self.entry(topic, *partition).pending.push((ticket, value.clone()));
        }
        self.submitted
    }

    /// A commit is published, or was refused and never happened. Commits settle in the order of their tickets.
    pub fn settle(&mut self, ticket: Ticket, changes: &[Change], published: bool) {
        self.settled = self.settled.max(ticket);
        for (topic, partition, _) in changes {
            let entry = self.entry(topic, *partition);
            if let Some(at) = entry.pending.iter().position(|(pending, _)| *pending == ticket) {
                let (_, value) = entry.pending.remove(at);
                if published {
                    entry.published = value;
                    entry.published_by = ticket;
                }
            }
            self.drop_void(topic, *partition);
        }
    }

    /// Nobody knows whether a commit reached the log: nothing may be read until a restart has read it back.
    pub fn doubt(&mut self) {
        self.in_doubt = true;
    }

    /// Whether a commit is in doubt.
    pub fn in_doubt(&self) -> bool {
        self.in_doubt
    }

    /// The last ticket that was given out.
    pub fn submitted(&self) -> Ticket {
        self.submitted
    }

    /// The last ticket that was settled.
    pub fn settled(&self) -> Ticket {
        self.settled
    }

    /// The published offset of a partition.
    pub fn published(&self, topic: &str, partition: i32) -> Option<&Committed> {
        self.topics.get(topic)?.get(&partition)?.published.as_ref()
    }

    /// All published offsets.
    pub fn all_published(&self) -> impl Iterator<Item = (&Arc<str>, i32, &Committed)> {
        self.entries()
            .filter_map(|(topic, partition, entry)| Some((topic, partition, entry.published.as_ref()?)))
    }

    /// All offsets as they will be when everything submitted is published.
    pub fn all_assigned(&self) -> impl Iterator<Item = (&Arc<str>, i32, &Committed)> {
        self.entries()
            .filter_map(|(topic, partition, entry)| Some((topic, partition, entry.assigned()?)))
    }

    /// Published offsets that no commit after `ticket` has touched, and whether one is on its way that may.
    pub fn untouched_since(&self, ticket: Ticket) -> (Vec<Change>, bool) {
        let mut untouched = Vec::new();
        let mut on_the_way = false;
        for (topic, partition, entry) in self.entries() {
            let Some(committed) = entry.published.as_ref().filter(|_| entry.published_by <= ticket) else {
                continue;
            };
            if entry.pending.is_empty() {
                untouched.push((topic.clone(), partition, Some(committed.clone())));
            } else {
                on_the_way = true;
            }
        }
        (untouched, on_the_way)
    }

    /// Nothing committed and nothing on its way.
    pub fn is_empty(&self) -> bool {
        self.topics.is_empty()
    }

    fn entries(&self) -> impl Iterator<Item = (&Arc<str>, i32, &Entry)> {
        self.topics.iter().flat_map(|(topic, partitions)| {
            partitions
                .iter()
                .map(move |(partition, entry)| (topic, *partition, entry))
        })
    }

    fn entry(&mut self, topic: &Arc<str>, partition: i32) -> &mut Entry {
        self.topics
            .entry(topic.clone())
            .or_default()
            .entry(partition)
            .or_default()
    }

    fn drop_void(&mut self, topic: &Arc<str>, partition: i32) {
        let Some(partitions) = self.topics.get_mut(topic) else {
            return;
        };
        if partitions.get(&partition).is_some_and(Entry::is_void) {
            partitions.remove(&partition);
        }
        if partitions.is_empty() {
            self.topics.remove(topic);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn at(offset: i64) -> Option<Committed> {
        Some(Committed {
            offset,
            leader_epoch: -1,
            metadata: "".into(),
            commit_time_ms: 0,
            expire_time_ms: None,
            topic_id: Uuid::nil(),
        })
    }

    #[test]
    fn a_commit_is_read_only_when_it_is_published() {
        let mut offsets = Offsets::default();
        let changes = [(Arc::from("t"), 0, at(5))];
        let ticket = offsets.submit(&changes);
        assert_eq!(offsets.published("t", 0), None);
        assert_eq!(offsets.all_assigned().count(), 1);
        offsets.settle(ticket, &changes, true);
        assert_eq!(offsets.published("t", 0).unwrap().offset, 5);
    }

    #[test]
    fn a_refused_commit_leaves_the_one_before_and_the_one_after() {
        let mut offsets = Offsets::default();
        let one = [(Arc::from("t"), 0, at(1))];
        let two = [(Arc::from("t"), 0, at(2))];
        let first = offsets.submit(&one);
        let second = offsets.submit(&two);
        offsets.settle(second, &two, false);
        assert_eq!(offsets.all_assigned().next().unwrap().2.offset, 1);
        offsets.settle(first, &one, true);
        assert_eq!(offsets.published("t", 0).unwrap().offset, 1);
    }

    #[test]
    fn a_deleted_offset_leaves_nothing_behind() {
        let mut offsets = Offsets::default();
        offsets.restore("t".into(), 3, at(9));
        let gone = [(Arc::from("t"), 3, None)];
        let ticket = offsets.submit(&gone);
        assert_eq!(offsets.published("t", 3).unwrap().offset, 9);
        assert_eq!(offsets.all_assigned().count(), 0);
        offsets.settle(ticket, &gone, true);
        assert!(offsets.is_empty());
    }
}
