//! Heartbeat, LeaveGroup, and what happens when a member is silent for too long.

use std::sync::Arc;

use super::error::Error;
use super::group::{Group, Phase};
use super::member::MemberId;
use super::{Action, Now};

impl Group {
    /// A member shows that it is alive, and learns of a rebalance.
    pub fn heartbeat(
        &mut self,
        member_id: &str,
        instance_id: Option<&str>,
        generation: i32,
        now: Now,
    ) -> Result<(), Error> {
        if matches!(self.phase, Phase::Dead) {
            return Err(Error::not_available("the group is being deleted"));
        }
        self.check_member(member_id, instance_id)?;
        if generation != self.generation {
            return Err(Error::IllegalGeneration);
        }
        self.touch(member_id, now);
        match self.phase {
            Phase::Empty | Phase::Dead => Err(Error::UnknownMember),
            Phase::Preparing { .. } => Err(Error::RebalanceInProgress),
            Phase::Completing { .. } | Phase::Stable { .. } => Ok(()),
        }
    }

    /// Starts a member's session anew, unless the coordinator owes it an answer: then there is none to keep.
    fn touch(&mut self, member_id: &str, now: Now) {
        if let Some(member) = self.members.get_mut(member_id)
            && member.awaiting_join.is_none()
            && member.awaiting_sync.is_none()
        {
            member.touch(now.monotonic_ms);
        }
    }

    /// A member leaves, or an administrator takes it out by its `group.instance.id` alone.
    pub fn leave(
        &mut self,
        member_id: &str,
        instance_id: Option<&str>,
        now: Now,
    ) -> (Result<MemberId, Error>, Vec<Action>) {
        let result = self.try_leave(member_id, instance_id, now);
        (result, self.finish())
    }

    fn try_leave(&mut self, member_id: &str, instance_id: Option<&str>, now: Now) -> Result<MemberId, Error> {
        if matches!(self.phase, Phase::Dead) {
            return Err(Error::not_available("the group is being deleted"));
        }
        let member_id: MemberId = match instance_id {
            Some(instance_id) if member_id.is_empty() => self
                .static_members
                .get(instance_id)
                .cloned()
                .ok_or(Error::UnknownMember)?,
            _ => Arc::from(member_id),
        };
        if instance_id.is_none() && self.pending.remove(&member_id).is_some() {
            if matches!(self.phase, Phase::Preparing { .. }) {
                self.maybe_complete_join(now);
            }
            return Ok(member_id);
        }
        self.check_member(&member_id, instance_id)?;
        self.remove(&member_id, Error::UnknownMember);
        self.rebalance(now);
        Ok(member_id)
    }

    /// Whether a commit of offsets may be accepted now. The caller submits it before anything else happens to the group.
    pub fn check_commit(
        &mut self,
        member_id: &str,
        instance_id: Option<&str>,
        generation: i32,
        now: Now,
    ) -> Result<(), Error> {
        let empty = matches!(self.phase, Phase::Empty);
        match self.phase {
            Phase::Dead => return Err(Error::not_available("the group is being deleted")),
            // Tools, and consumers that assign their partitions themselves.
            Phase::Empty if generation < 0 => return Ok(()),
            _ => {}
        }
        if generation < 0 && member_id.is_empty() && instance_id.is_none() {
            return if empty { Ok(()) } else { Err(Error::UnknownMember) };
        }
        self.check_member(member_id, instance_id)?;
        if generation != self.generation {
            return Err(Error::IllegalGeneration);
        }
        if matches!(self.phase, Phase::Completing { .. }) {
            return Err(Error::RebalanceInProgress);
        }
        self.touch(member_id, now);
        Ok(())
    }

    /// The next moment at which [`Group::tick`] has something to do.
    pub fn next_deadline(&self) -> Option<u64> {
        let phase = match self.phase {
            Phase::Preparing { deadline, .. } => Some(deadline),
            Phase::Completing { deadline, .. } => Some(deadline),
            Phase::Stable { sync_deadline } => sync_deadline,
            Phase::Empty | Phase::Dead => None,
        };
        let sessions = self.members.values().filter_map(|member| member.session_deadline);
        sessions
            .chain(self.pending.values().copied())
            .chain(phase)
            .min()
            .filter(|deadline| *deadline < u64::MAX)
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Now) -> Vec<Action> {
        let due = |deadline: &u64| *deadline <= now.monotonic_ms;
        let silent = self
            .members
            .values()
            .filter(|member| member.session_deadline.as_ref().is_some_and(due));
        let silent: Vec<MemberId> = silent.map(|member| member.id.clone()).collect();
        let announced = self.pending.len();
        self.pending.retain(|_, deadline| !due(deadline));
        for member_id in &silent {
            self.remove(member_id, Error::UnknownMember);
        }
        if !silent.is_empty() {
            self.rebalance(now);
        } else if announced > self.pending.len() && matches!(self.phase, Phase::Preparing { .. }) {
            self.maybe_complete_join(now);
        }
        match self.phase {
            Phase::Preparing { deadline, .. } if due(&deadline) => self.join_deadline_passed(now),
            Phase::Completing { deadline, .. } if due(&deadline) => self.sync_deadline_passed(now),
            Phase::Stable {
                sync_deadline: Some(deadline),
            } if due(&deadline) => self.sync_deadline_passed(now),
            _ => {}
        }
        self.finish()
    }
}
