//! JoinGroup.

use std::sync::Arc;

use bytes::Bytes;

use super::error::Error;
use super::group::{Group, Phase, Write};
use super::member::{Member, MemberId, Protocol, names_bytes, protocols_bytes};
use super::{Action, Now, Refused, Token};

/// What a client asks when it joins.
#[derive(Clone, Debug)]
pub struct JoinRequest {
    /// The member's id, empty when it has none yet.
    pub member_id: MemberId,
    /// `group.instance.id` of a static member.
    pub instance_id: Option<Arc<str>>,
    /// The client's own name.
    pub client_id: Arc<str>,
    /// The address the client joins from.
    pub client_host: Arc<str>,
    /// How long the member may be silent.
    pub session_timeout_ms: u64,
    /// How long a rebalance shall wait for the member.
    pub rebalance_timeout_ms: u64,
    /// "consumer", "connect", …
    pub protocol_type: Arc<str>,
    /// What the member supports, best first.
    pub protocols: Vec<Protocol>,
    /// From version 4 on a member without an id is told one and joins again, so that a client that never got the
    /// answer leaves no ghost member behind.
    pub require_known_id: bool,
    /// From version 9 on a leader can be told that there is nothing to assign.
    pub can_skip_assignment: bool,
    /// The id to give if the member has none: random, so it comes from outside.
    pub fresh_id: MemberId,
}

impl Group {
    /// How much more memory the group would take with what this request brings.
    pub fn grows_by(&self, request: &JoinRequest) -> usize {
        let known = request.instance_id.as_ref().and_then(|id| self.static_members.get(id));
        let member = self.members.get(known.unwrap_or(&request.member_id));
        let names = names_bytes(&request.fresh_id, request.instance_id.as_deref(), &request.client_id);
        (names + protocols_bytes(&request.protocols)).saturating_sub(member.map_or(0, Member::own_bytes))
    }

    /// A member joins, joins again, or comes back. The answer comes as an action: now or when the rebalance ends.
    pub fn join(&mut self, request: JoinRequest, token: Token, now: Now) -> Vec<Action> {
        if let Err(refused) = self.try_join(request, token, now) {
            self.out.push(Action::Join(token, Err(refused)));
        }
        self.finish()
    }

    fn try_join(&mut self, request: JoinRequest, token: Token, now: Now) -> Result<(), Refused> {
        let refuse = |error: Error| Refused {
            error,
            member_id: request.member_id.clone(),
        };
        let (min_ms, max_ms) = (self.config.min_session_timeout_ms, self.config.max_session_timeout_ms);
        if !(min_ms..=max_ms).contains(&request.session_timeout_ms) {
            return Err(refuse(Error::InvalidSessionTimeout { min_ms, max_ms }));
        }
        let max_bytes = self.config.max_member_bytes;
        if protocols_bytes(&request.protocols) > max_bytes {
            return Err(refuse(Error::MemberTooLarge { max_bytes }));
        }
        if matches!(self.phase, Phase::Dead) {
            return Err(refuse(Error::not_available("the group is being deleted")));
        }
        if !self.accepts_joining(&request) {
            return Err(Refused {
                error: Error::Full {
                    max: self.config.max_size,
                },
                member_id: "".into(),
            });
        }
        if !self.supports(
            &request.protocol_type,
            request.protocols.iter().map(|protocol| protocol.name.clone()),
        ) {
            return Err(refuse(Error::InconsistentProtocol));
        }
        if request.member_id.is_empty() {
            self.join_unknown(request, token, now)
        } else {
            self.join_known(request, token, now)
                .map_err(|(member_id, error)| Refused { error, member_id })
        }
    }

    /// `group.max.size`. While a rebalance gathers, those who join first are in.
    fn accepts_joining(&self, request: &JoinRequest) -> bool {
        let max = self.config.max_size;
        let comes_back = request
            .instance_id
            .as_ref()
            .is_some_and(|id| self.static_members.contains_key(id));
        match self.phase {
            Phase::Empty | Phase::Dead => true,
            Phase::Preparing { .. } => {
                let waiting = self
                    .members
                    .get(&request.member_id)
                    .is_some_and(|m| m.awaiting_join.is_some());
                comes_back || waiting || self.joining < max
            }
            Phase::Completing { .. } | Phase::Stable { .. } => {
                comes_back || self.members.contains_key(&request.member_id) || self.members.len() < max
            }
        }
    }

    fn join_unknown(&mut self, request: JoinRequest, token: Token, now: Now) -> Result<(), Refused> {
        let fresh = request.fresh_id.clone();
        if let Some(instance_id) = &request.instance_id {
            match self.static_members.get(instance_id).cloned() {
                Some(old) => self.replace_static(&old, request, token, now),
                None => self.add(fresh, request, token, now),
            }
            return Ok(());
        }
        if request.require_known_id {
            if self.pending.len() >= self.config.max_size {
                return Err(Refused {
                    error: Error::Full {
                        max: self.config.max_size,
                    },
                    member_id: "".into(),
                });
            }
            let deadline = now.monotonic_ms.saturating_add(request.session_timeout_ms);
            self.pending.insert(fresh.clone(), deadline);
            return Err(Refused {
                error: Error::MemberIdRequired(fresh.clone()),
                member_id: fresh,
            });
        }
        self.add(fresh, request, token, now);
        Ok(())
    }

    fn join_known(&mut self, request: JoinRequest, token: Token, now: Now) -> Result<(), (MemberId, Error)> {
        let member_id = request.member_id.clone();
        if request.instance_id.is_none() && self.pending.remove(&member_id).is_some() {
            self.add(member_id, request, token, now);
            return Ok(());
        }
        self.check_member(&member_id, request.instance_id.as_deref())
            .map_err(|error| (member_id.clone(), error))?;
        let same = self
            .members
            .get(&member_id)
            .is_some_and(|member| member.protocols == request.protocols);
        let leads = self.leader.as_ref() == Some(&member_id);
        let unchanged = match self.phase {
            // The member did not get the answer to its JoinGroup, most likely.
            Phase::Completing { .. } => same,
            // A leader that joins again wants to assign anew.
            Phase::Stable { .. } => same && !leads,
            Phase::Preparing { .. } => false,
            Phase::Empty | Phase::Dead => return Err((member_id, Error::UnknownMember)),
        };
        if unchanged {
            let joined = self.joined(&member_id);
            if let Some(member) = self.members.get_mut(&member_id) {
                member.session_timeout_ms = request.session_timeout_ms;
                if member.awaiting_sync.is_none() {
                    member.touch(now.monotonic_ms);
                }
            }
            self.out.push(Action::Join(token, Ok(joined)));
        } else {
            self.update(&member_id, request);
            self.await_join(&member_id, token);
            self.rebalance(now);
        }
        Ok(())
    }

    /// A new member, and with it a rebalance.
    fn add(&mut self, member_id: MemberId, request: JoinRequest, token: Token, now: Now) {
        if self.members.is_empty() {
            self.protocol_type = Some(request.protocol_type.clone());
        }
        let deadline = now.monotonic_ms.saturating_add(self.config.new_member_join_timeout_ms);
        self.insert(Member {
            id: member_id,
            instance_id: request.instance_id,
            client_id: request.client_id,
            client_host: request.client_host,
            session_timeout_ms: request.session_timeout_ms,
            rebalance_timeout_ms: request.rebalance_timeout_ms,
            protocols: request.protocols,
            assignment: Bytes::new(),
            awaiting_join: Some(token),
            awaiting_sync: None,
            is_new: true,
            session_deadline: Some(deadline),
        });
        if let Phase::Preparing {
            initial: Some(initial), ..
        } = &mut self.phase
        {
            initial.new_member = true;
        }
        self.rebalance(now);
    }

    /// The member brings what it supports now.
    fn update(&mut self, member_id: &str, request: JoinRequest) {
        let leader = self.leader.clone();
        let Some(mut member) = self.take(member_id) else { return };
        member.client_id = request.client_id;
        member.client_host = request.client_host;
        member.session_timeout_ms = request.session_timeout_ms;
        member.rebalance_timeout_ms = request.rebalance_timeout_ms;
        member.protocols = request.protocols;
        self.insert(member);
        self.leader = leader;
    }

    /// A static member came back without its old id: it takes its old place under a new one.
    fn replace_static(&mut self, old: &MemberId, request: JoinRequest, token: Token, now: Now) {
        let led = self.leader.as_ref() == Some(old);
        let old_leader = self.leader.clone();
        let can_skip_assignment = request.can_skip_assignment;
        let unsynced = self.unsynced.contains(old);
        let Some(mut member) = self.take(old) else { return };
        self.answer_removed(&member, Error::FencedInstance);
        let fresh = request.fresh_id.clone();
        member.id = fresh.clone();
        member.awaiting_join = None;
        member.awaiting_sync = None;
        member.is_new = false;
        member.touch(now.monotonic_ms);
        self.insert(member);
        self.leader = if led { Some(fresh.clone()) } else { old_leader.clone() };
        self.update(&fresh, request);
        if unsynced {
            self.unsynced.insert(fresh.clone());
        }
        if let Some(member) = self.members.get_mut(&fresh) {
            member.touch(now.monotonic_ms);
        }

        let keeps_protocol = self.select_protocol() == self.protocol;
        if matches!(self.phase, Phase::Stable { .. }) && keeps_protocol {
            let mut joined = self.joined(&fresh);
            if led && can_skip_assignment {
                joined.skip_assignment = true;
            } else {
                // It gets its old assignment by SyncGroup: named the leader, it would assign anew.
                joined.leader = old_leader.unwrap_or_else(|| "".into());
                joined.members = Vec::new();
            }
            self.persist(Write::StaticRejoin {
                token,
                joined: Box::new(joined),
            });
            return;
        }
        // In CompletingRebalance too: the leader may be assigning to the old id at this moment.
        self.await_join(&fresh, token);
        self.rebalance(now);
    }
}
