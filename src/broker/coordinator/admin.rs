//! List, describe, delete.

use std::sync::Arc;

use bytes::Bytes;
use riverlog_storage::WriteSet;
use tokio::sync::oneshot;

use super::commits::outcome;
use super::journal::{Changes, Written, appends};
use super::{Access, GroupCoordinator};
use crate::groups::{Error, Group, MemberId, State, subscribed_topics};

/// A group in a list.
#[derive(Clone, Debug)]
pub struct ListedGroup {
    /// The group.
    pub id: Arc<str>,
    /// Its protocol type, empty for a group that only commits offsets.
    pub protocol_type: Arc<str>,
    /// Where it stands.
    pub state: State,
}

/// A group with its members.
#[derive(Clone, Debug)]
pub struct DescribedGroup {
    /// Where it stands.
    pub state: State,
    /// Its protocol type, empty for a group that only commits offsets.
    pub protocol_type: Arc<str>,
    /// The protocol in use; empty unless stable.
    pub protocol: Arc<str>,
    /// The members.
    pub members: Vec<DescribedMember>,
}

/// A member of a group.
#[derive(Clone, Debug)]
pub struct DescribedMember {
    /// The member's id.
    pub id: MemberId,
    /// `group.instance.id` of a static member.
    pub instance_id: Option<Arc<str>>,
    /// The client's own name.
    pub client_id: Arc<str>,
    /// The address the client joined from.
    pub client_host: Arc<str>,
    /// What it wants assigned; empty unless the group is stable.
    pub metadata: Bytes,
    /// What it was assigned.
    pub assignment: Bytes,
}

impl GroupCoordinator {
    /// All groups, by name.
    pub fn list(&self) -> Vec<ListedGroup> {
        let slots: Vec<_> = self.shared.slots.read().values().cloned().collect();
        let mut groups: Vec<ListedGroup> = slots
            .iter()
            .filter_map(|slot| {
                let state = slot.state.lock();
                let alive = !state.removed && state.group.state() != State::Dead;
                alive.then(|| ListedGroup {
                    id: slot.id.clone(),
                    protocol_type: protocol_type(&state.group),
                    state: state.group.state(),
                })
            })
            .collect();
        groups.sort_by(|a, b| a.id.cmp(&b.id));
        groups
    }

    /// One group.
    pub fn describe(&self, group: &str) -> Result<DescribedGroup, Error> {
        self.shared.check_group(group, Access::Look)?;
        self.shared.with(group, false, |_, state| {
            let group = &state.group;
            if group.state() == State::Dead {
                return Err(Error::NotFound);
            }
            let stable = group.state() == State::Stable;
            let protocol = group
                .protocol()
                .filter(|_| stable)
                .cloned()
                .unwrap_or_else(|| "".into());
            let members = group.members().map(|member| DescribedMember {
                id: member.id.clone(),
                instance_id: member.instance_id.clone(),
                client_id: member.client_id.clone(),
                client_host: member.client_host.clone(),
                metadata: if stable {
                    member.metadata_for(&protocol)
                } else {
                    Bytes::new()
                },
                assignment: if stable {
                    member.assignment.clone()
                } else {
                    Bytes::new()
                },
            });
            let members = members.collect();
            Ok(DescribedGroup {
                state: group.state(),
                protocol_type: protocol_type(group),
                protocol,
                members,
            })
        })?
    }

    /// Deletes a group without members, and its offsets; also one that cannot be read.
    pub async fn delete(&self, group: &str) -> Result<(), Error> {
        if self.shared.is_damaged(group) && !self.shared.is_of_job(group) {
            return self.shared.delete_damaged(group).await;
        }
        self.shared.check_group(group, Access::Change)?;
        let (reply, answer) = oneshot::channel();
        self.shared.with(group, false, |slot, state| {
            if state.offsets.in_doubt() {
                return Err(Error::not_available(
                    "a commit is in doubt until the broker has restarted",
                ));
            }
            let changes: Changes = state
                .offsets
                .all_assigned()
                .map(|(topic, partition, _)| (topic.clone(), partition, None))
                .collect();
            let mut records = self.shared.offset_records(&slot.id, &changes)?;
            records.push(self.shared.end_of_membership(&slot.id)?);
            let log = self.shared.log_of(&slot.id)?;
            let appends = appends(log, records).map_err(Error::not_available)?;
            state.group.kill()?;
            let ticket = state.offsets.submit(&changes);
            let written = Written::Deletion { ticket, changes, reply };
            self.shared.write(
                slot,
                WriteSet {
                    appends,
                    ..WriteSet::default()
                },
                written,
            );
            Ok(())
        })??;
        outcome(answer).await.map(|_| ())
    }

    /// Deletes some of a group's offsets. A topic that members are subscribed to keeps its own.
    pub async fn delete_offsets(
        &self,
        group: &str,
        partitions: Vec<(Arc<str>, i32)>,
    ) -> Result<Vec<Result<(), Error>>, Error> {
        self.shared.check_group(group, Access::Change)?;
        let (reply, answer) = oneshot::channel();
        let results = self.shared.with(group, false, |slot, state| {
            let consumers = state.group.protocol_type().is_none_or(|name| &**name == "consumer");
            match state.group.state() {
                State::Dead => return Err(Error::NotFound),
                State::Empty => {}
                _ if consumers => {}
                _ => return Err(Error::NotEmpty),
            }
            let mut results = Vec::with_capacity(partitions.len());
            let mut changes = Changes::new();
            for (topic, partition) in partitions {
                if is_subscribed(&state.group, &topic) {
                    results.push(Err(Error::Subscribed));
                    continue;
                }
                results.push(Ok(()));
                if state
                    .offsets
                    .all_assigned()
                    .any(|(name, number, _)| *name == topic && number == partition)
                {
                    changes.push((topic, partition, None));
                }
            }
            let submitted = !changes.is_empty();
            if submitted {
                self.shared
                    .submit_offsets(slot, state, changes, WriteSet::default(), Some(reply))?;
            }
            Ok((results, submitted))
        })?;
        let (results, submitted) = results?;
        if submitted {
            outcome(answer).await?;
        }
        Ok(results)
    }
}

fn protocol_type(group: &Group) -> Arc<str> {
    group.protocol_type().cloned().unwrap_or_else(|| "".into())
}

/// A member whose subscription cannot be read may be subscribed to anything.
fn is_subscribed(group: &Group, topic: &str) -> bool {
    group.members().any(|member| {
        member
            .protocols
            .iter()
            .any(|protocol| subscribed_topics(&protocol.metadata).is_none_or(|topics| topics.contains(topic)))
    })
}
