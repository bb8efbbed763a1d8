//! SyncGroup: the leader brings the assignment, everybody fetches their part.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::error::Error;
use super::group::{Group, Phase, Write};
use super::member::MemberId;
use super::{Action, Now, Refused, Synced, Token, WriteId};

/// What a member asks after it has joined.
#[derive(Clone, Debug)]
pub struct SyncRequest {
    /// The member's id.
    pub member_id: MemberId,
    /// `group.instance.id` of a static member.
    pub instance_id: Option<Arc<str>>,
    /// The generation it joined.
    pub generation: i32,
    /// The protocol type it was told, from version 5 on.
    pub protocol_type: Option<Arc<str>>,
    /// The protocol it was told, from version 5 on.
    pub protocol: Option<Arc<str>>,
    /// What the leader assigned; empty from everybody else.
    pub assignments: BTreeMap<MemberId, Bytes>,
}

impl SyncRequest {
    /// How much memory the assignments take.
    pub fn assignments_bytes(&self) -> usize {
        self.assignments.values().map(Bytes::len).sum()
    }
}

impl Group {
    /// A member asks for its assignment. The answer comes as an action: now, or when the leader's is written.
    pub fn sync(&mut self, request: SyncRequest, token: Token, now: Now) -> Vec<Action> {
        if let Err(error) = self.try_sync(request, token, now) {
            self.out.push(Action::Sync(token, Err(error)));
        }
        self.finish()
    }

    fn try_sync(&mut self, request: SyncRequest, token: Token, now: Now) -> Result<(), Error> {
        if matches!(self.phase, Phase::Dead) {
            return Err(Error::not_available("the group is being deleted"));
        }
        self.check_member(&request.member_id, request.instance_id.as_deref())?;
        if request.generation != self.generation {
            return Err(Error::IllegalGeneration);
        }
        if request.protocol_type.is_some() && request.protocol_type != self.protocol_type
            || request.protocol.is_some() && request.protocol != self.protocol
        {
            return Err(Error::InconsistentProtocol);
        }
        let max_bytes = self.config.max_member_bytes;
        if request
            .assignments
            .values()
            .any(|assignment| assignment.len() > max_bytes)
        {
            return Err(Error::MemberTooLarge { max_bytes });
        }
        match self.phase {
            Phase::Empty | Phase::Dead => return Err(Error::UnknownMember),
            Phase::Preparing { .. } => return Err(Error::RebalanceInProgress),
            Phase::Completing { .. } => self.sync_completing(request, token),
            Phase::Stable { .. } => {
                self.unsynced.remove(&request.member_id);
                let synced = self.synced(&request.member_id);
                if let Some(member) = self.members.get_mut(&request.member_id) {
                    member.touch(now.monotonic_ms);
                }
                self.out.push(Action::Sync(token, Ok(synced)));
                self.forget_sync_deadline();
            }
        }
        Ok(())
    }

    fn sync_completing(&mut self, request: SyncRequest, token: Token) {
        self.unsynced.remove(&request.member_id);
        if let Some(member) = self.members.get_mut(&request.member_id) {
            member.session_deadline = None;
            if let Some(old) = member.awaiting_sync.replace(token) {
                self.out.push(Action::Sync(old, Err(Error::RebalanceInProgress)));
            }
        }
        let leads = self.leader.as_ref() == Some(&request.member_id);
        if let Phase::Completing {
            deadline,
            writing: None,
        } = self.phase
            && leads
        {
            let assignments = request
                .assignments
                .into_iter()
                .filter(|(id, _)| self.members.contains_key(id))
                .collect();
            let id = self.persist(Write::Assignment(assignments));
            self.phase = Phase::Completing {
                deadline,
                writing: Some(id),
            };
        }
    }

    /// A write of the group's metadata has ended.
    pub fn persisted(&mut self, id: WriteId, result: Result<(), Error>, now: Now) -> Vec<Action> {
        match self.writes.remove(&id) {
            None | Some(Write::Emptied) => {}
            Some(Write::Assignment(assignments)) => {
                // A rebalance may have begun meanwhile: then this assignment never counts.
                if matches!(self.phase, Phase::Completing { writing: Some(writing), .. } if writing == id) {
                    match result {
                        Ok(()) => self.assign(&assignments, now),
                        Err(error) => {
                            self.fail_syncs(&error, now);
                            self.rebalance(now);
                        }
                    }
                }
            }
            Some(Write::StaticRejoin { token, joined }) => {
                let refuse = |error| {
                    Err(Refused {
                        error,
                        member_id: joined.member_id.clone(),
                    })
                };
                let answer = match result {
                    Err(error) => refuse(error),
                    // Its place was taken once more while this was written.
                    Ok(()) if !self.members.contains_key(&joined.member_id) => refuse(Error::UnknownMember),
                    Ok(()) => Ok(*joined),
                };
                self.out.push(Action::Join(token, answer));
            }
        }
        self.finish()
    }

    /// The assignment is in the log: now it counts.
    fn assign(&mut self, assignments: &BTreeMap<MemberId, Bytes>, now: Now) {
        let Phase::Completing { deadline, .. } = self.phase else {
            return;
        };
        let sync_deadline = (!self.unsynced.is_empty()).then_some(deadline);
        self.enter(Phase::Stable { sync_deadline }, now);
        let ids: Vec<MemberId> = self.members.keys().cloned().collect();
        for member_id in ids {
            if let Some(member) = self.members.get_mut(&member_id) {
                member.assignment = assignments.get(&member_id).cloned().unwrap_or_default();
            }
            let synced = self.synced(&member_id);
            let Some(member) = self.members.get_mut(&member_id) else {
                continue;
            };
            if let Some(token) = member.awaiting_sync.take() {
                member.touch(now.monotonic_ms);
                self.out.push(Action::Sync(token, Ok(synced)));
            }
        }
    }

    fn synced(&self, member_id: &MemberId) -> Synced {
        Synced {
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            assignment: self
                .members
                .get(member_id)
                .map(|member| member.assignment.clone())
                .unwrap_or_default(),
        }
    }

    fn forget_sync_deadline(&mut self) {
        if let Phase::Stable { sync_deadline } = &mut self.phase
            && self.unsynced.is_empty()
        {
            *sync_deadline = None;
        }
    }

    /// Members that joined and never asked for their assignment are given up.
    pub(super) fn sync_deadline_passed(&mut self, now: Now) {
        let late: Vec<MemberId> = std::mem::take(&mut self.unsynced).into_iter().collect();
        match &mut self.phase {
            Phase::Stable { sync_deadline } => *sync_deadline = None,
            // The leader is not among the late ones if its assignment is being written; then only that is waited for.
            Phase::Completing { deadline, .. } => *deadline = u64::MAX,
            _ => {}
        }
        if late.is_empty() {
            return;
        }
        for member_id in late {
            self.remove(&member_id, Error::UnknownMember);
        }
        self.rebalance(now);
    }
}
