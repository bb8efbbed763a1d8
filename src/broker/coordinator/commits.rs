//! Offsets in and out.

use std::sync::Arc;

use riverlog_storage::{Catalog, Receipt, Topic, WriteError, WriteSet};
use tokio::sync::oneshot;
use uuid::Uuid;

use super::journal::{Changes, Reply, Written, appends};
use super::{Access, GroupCoordinator, Shared, Slot, SlotState};
use crate::broker::BrokerError;
use crate::groups::{Committed, Error, MemberId};

/// A member, or a tool, commits offsets.
#[derive(Clone, Debug)]
pub struct CommitRequest {
    /// The member's id, empty for a tool.
    pub member_id: MemberId,
    /// `group.instance.id` of a static member.
    pub instance_id: Option<Arc<str>>,
    /// The member's generation, -1 for a tool.
    pub generation: i32,
    /// What is committed.
    pub offsets: Vec<(Arc<str>, i32, Committed)>,
}

/// How far a job has read a partition.
#[derive(Clone, Debug)]
pub struct JobOffset {
    /// The topic.
    pub topic: Arc<str>,
    /// The incarnation that was read, which may not be the one of that name any more.
    pub topic_id: Uuid,
    /// The partition.
    pub partition: i32,
    /// The next offset to read.
    pub offset: i64,
}

/// Which offsets a client wants to see.
#[derive(Clone, Debug)]
pub enum Wanted {
    /// All that the group has.
    All,
    /// Those of some partitions.
    Some(Vec<(Arc<str>, Vec<i32>)>),
}

/// The offset of a partition, none if the group has not committed one.
pub type FetchedOffset = (Arc<str>, i32, Option<Committed>);

impl GroupCoordinator {
    /// Commits offsets: answered when they are durable and every reader sees them.
    pub async fn commit(&self, group: &str, request: CommitRequest) -> Result<(), Error> {
        self.shared.check_group(group, Access::Change)?;
        self.shared.ensure_topic().await?;
        // A group that has never been heard of is made for a tool, not for somebody who claims to be a member.
        let create = request.generation < 0;
        let (reply, answer) = oneshot::channel();
        self.shared.with(group, create, |slot, state| {
            let CommitRequest {
                member_id,
                instance_id,
                generation,
                offsets,
            } = request;
            let now = self.shared.now();
            state
                .group
                .check_commit(&member_id, instance_id.as_deref(), generation, now)?;
            let changes = self.shared.of_living_topics(offsets);
            self.shared
                .submit_offsets(slot, state, changes, WriteSet::default(), Some(reply))
        })??;
        outcome(answer).await.map(|_| ())
    }

    /// Commits a job's offsets in the same write set as everything else of its epoch, as the last append. The write set
    /// is submitted before this first waits.
    pub async fn commit_in(
        &self,
        group: &str,
        offsets: &[JobOffset],
        write_set: WriteSet,
    ) -> Result<Receipt, BrokerError> {
        self.shared.check_group(group, Access::Look).map_err(unavailable)?;
        let now_ms = self.shared.now().wall_ms;
        let offsets = offsets.iter().map(|read| {
            let committed = Committed {
                offset: read.offset,
                leader_epoch: -1,
                metadata: "".into(),
                commit_time_ms: now_ms,
                expire_time_ms: None,
                topic_id: read.topic_id,
            };
            (read.topic.clone(), read.partition, committed)
        });
        let offsets = offsets.collect();
        let (reply, answer) = oneshot::channel();
        let submitted = self.shared.with(group, true, |slot, state| {
            let changes = self.shared.of_living_topics(offsets);
            self.shared.submit_offsets(slot, state, changes, write_set, Some(reply))
        });
        submitted.and_then(|result| result).map_err(unavailable)?;
        answer
            .await
            .map_err(|_| BrokerError::Abandoned)?
            .map_err(BrokerError::Write)
    }

    /// Reads committed offsets. Commits that are on their way are waited for, so that an older value than the one
    /// that somebody is about to be told is never read.
    pub async fn fetch(&self, group: &str, wanted: Wanted) -> Result<Vec<FetchedOffset>, Error> {
        self.shared.check_group(group, Access::Look)?;
        let Some(slot) = self.shared.slots.read().get(group).cloned() else {
            return Ok(none_of(wanted));
        };
        let submitted = slot.state.lock().offsets.submitted();
        let mut settled = slot.settled.subscribe();
        // The slot keeps the sender alive.
        let _ = settled.wait_for(|settled| *settled >= submitted).await;
        let state = slot.state.lock();
        if state.offsets.in_doubt() {
            return Err(Error::not_available(
                "a commit is in doubt until the broker has restarted",
            ));
        }
        Ok(self.shared.select(&state, wanted))
    }

    /// Forgets the offsets committed for a topic that was deleted. By now there may be another of the same name, whose offsets
    /// stay. What a crash leaves behind here is never shown, and the upkeep finds it.
    pub(in crate::broker) async fn forget_topic(&self, topic: &Topic) {
        let slots: Vec<Arc<Slot>> = self.shared.slots.read().values().cloned().collect();
        let mut answers = Vec::new();
        for slot in slots {
            let mut state = slot.state.lock();
            let changes: Changes = state
                .offsets
                .all_assigned()
                .filter(|(name, _, committed)| {
                    ***name == topic.name && (committed.topic_id == topic.id || committed.topic_id.is_nil())
                })
                .map(|(name, partition, _)| (name.clone(), partition, None))
                .collect();
            if changes.is_empty() || state.removed {
                continue;
            }
            let (reply, answer) = oneshot::channel();
            match self
                .shared
                .submit_offsets(&slot, &mut state, changes, WriteSet::default(), Some(reply))
            {
                Ok(()) => answers.push(answer),
                Err(error) => {
                    tracing::warn!(group = &*slot.id, topic = topic.name, %error, "offsets of a deleted topic stay");
                }
            }
        }
        for answer in answers {
            // A refusal is logged where it is applied; the upkeep tries again.
            let _ = outcome(answer).await;
        }
    }
}

impl Shared {
    /// What of a commit is for topics that are still there. To be asked under the group's lock: then a topic's deletion finds what
    /// was committed for it before, and nothing is committed for it after.
    fn of_living_topics(&self, offsets: Vec<(Arc<str>, i32, Committed)>) -> Changes {
        let catalog = self.storage.catalog();
        let living = offsets.into_iter().filter(|(_, _, value)| !is_orphan(&catalog, value));
        living
            .map(|(topic, partition, value)| (topic, partition, Some(value)))
            .collect()
    }

    /// Submits a change of offsets, within a write set that may hold more.
    pub(super) fn submit_offsets(
        &self,
        slot: &Arc<Slot>,
        state: &mut SlotState,
        changes: Changes,
        mut write_set: WriteSet,
        reply: Option<Reply>,
    ) -> Result<(), Error> {
        if state.offsets.in_doubt() {
            return Err(Error::not_available(
                "a commit is in doubt until the broker has restarted",
            ));
        }
        let records = self.offset_records(&slot.id, &changes)?;
        write_set
            .appends
            .extend(appends(self.log_of(&slot.id)?, records).map_err(Error::not_available)?);
        let ticket = state.offsets.submit(&changes);
        self.write(slot, write_set, Written::Offsets { ticket, changes, reply });
        Ok(())
    }

    fn select(&self, state: &SlotState, wanted: Wanted) -> Vec<FetchedOffset> {
        let catalog = self.storage.catalog();
        match wanted {
            Wanted::All => {
                let all = state
                    .offsets
                    .all_published()
                    .filter(|(_, _, committed)| !is_orphan(&catalog, committed));
                all.map(|(topic, partition, committed)| (topic.clone(), partition, Some(committed.clone())))
                    .collect()
            }
            Wanted::Some(topics) => {
                let mut found = Vec::new();
                for (topic, partitions) in topics {
                    for partition in partitions {
                        let committed = state.offsets.published(&topic, partition);
                        let committed = committed.filter(|committed| !is_orphan(&catalog, committed)).cloned();
                        found.push((topic.clone(), partition, committed));
                    }
                }
                found
            }
        }
    }
}

/// Whether an offset's topic was deleted. Of a later topic with the same name the offset says nothing. One without an id, as older
/// brokers write them, goes by the name alone.
pub(super) fn is_orphan(catalog: &Catalog, committed: &Committed) -> bool {
    !committed.topic_id.is_nil() && catalog.topic_by_id(committed.topic_id).is_none()
}

fn none_of(wanted: Wanted) -> Vec<FetchedOffset> {
    match wanted {
        Wanted::All => Vec::new(),
        Wanted::Some(topics) => {
            let each = |(topic, partitions): (Arc<str>, Vec<i32>)| {
                partitions
                    .into_iter()
                    .map(move |partition| (topic.clone(), partition, None))
            };
            topics.into_iter().flat_map(each).collect()
        }
    }
}

fn unavailable(error: Error) -> BrokerError {
    BrokerError::Unsupported(error.to_string())
}

pub(super) async fn outcome(answer: oneshot::Receiver<Result<Receipt, WriteError>>) -> Result<Receipt, Error> {
    match answer.await {
        Ok(result) => result.map_err(Error::not_available),
        Err(_) => Err(Error::not_available("the broker is shutting down")),
    }
}
