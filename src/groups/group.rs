//! The group: its members, its phase, and the moves between phases.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use super::error::Error;
use super::member::{Member, MemberId, names_bytes};
use super::record::{GroupMetadata, MemberMetadata};
use super::{Action, Config, JoinedMember, Now, Refused, Token, WriteId};

/// Where a group stands, as tools see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// No members; there may be offsets.
    Empty,
    /// Waiting for the members to join.
    PreparingRebalance,
    /// Waiting for the leader's assignment.
    CompletingRebalance,
    /// Every member may fetch what it was assigned.
    Stable,
    /// Deleted; a new group of the same name is another group.
    Dead,
}

impl State {
    /// The name that Kafka gives the state.
    pub fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::PreparingRebalance => "PreparingRebalance",
            Self::CompletingRebalance => "CompletingRebalance",
            Self::Stable => "Stable",
            Self::Dead => "Dead",
        }
    }
}

/// The state with what belongs to it alone.
#[derive(Clone, Debug)]
pub(super) enum Phase {
    Empty,
    Preparing { deadline: u64, initial: Option<Initial> },
    Completing { deadline: u64, writing: Option<WriteId> },
    Stable { sync_deadline: Option<u64> },
    Dead,
}

/// The first rebalance of an empty group waits a little for more members, so that a fleet that starts together
/// is assigned once and not once per member.
#[derive(Clone, Copy, Debug)]
pub(super) struct Initial {
    pub remaining_ms: u64,
    pub new_member: bool,
}

/// What waits for a write of the group's metadata.
#[derive(Clone, Debug)]
pub(super) enum Write {
    /// The leader's assignment of this generation.
    Assignment(BTreeMap<MemberId, Bytes>),
    /// A static member came back under a new id, without a rebalance.
    StaticRejoin { token: Token, joined: Box<super::Joined> },
    /// The last member left.
    Emptied,
}

/// One consumer group of the classic protocol. Events go in as method calls with the time; decisions come out as
/// [`Action`]s. It does no I/O and has no clock.
#[derive(Clone, Debug)]
pub struct Group {
    pub(super) id: Arc<str>,
    pub(super) config: Config,
    pub(super) phase: Phase,
    pub(super) generation: i32,
    pub(super) protocol_type: Option<Arc<str>>,
    pub(super) protocol: Option<Arc<str>>,
    pub(super) leader: Option<MemberId>,
    pub(super) members: BTreeMap<MemberId, Member>,
    pub(super) static_members: BTreeMap<Arc<str>, MemberId>,
    /// Ids that were given out (MEMBER_ID_REQUIRED) and not joined with yet, with their deadlines.
    pub(super) pending: BTreeMap<MemberId, u64>,
    /// Members that were told the generation and have not asked for their assignment yet.
    pub(super) unsynced: BTreeSet<MemberId>,
    /// How many members have a JoinGroup waiting.
    pub(super) joining: usize,
    /// How many members support each protocol.
    pub(super) supported: BTreeMap<Arc<str>, usize>,
    /// Wall-clock time of the last change of state: the retention of offsets counts from it.
    pub(super) since_ms: i64,
    pub(super) writes: BTreeMap<WriteId, Write>,
    pub(super) next_write: WriteId,
    pub(super) out: Vec<Action>,
}

impl Group {
    /// A group without members.
    pub fn new(id: Arc<str>, config: Config, now: Now) -> Self {
        Self {
            id,
            config,
            phase: Phase::Empty,
            generation: 0,
            protocol_type: None,
            protocol: None,
            leader: None,
            members: BTreeMap::new(),
            static_members: BTreeMap::new(),
            pending: BTreeMap::new(),
            unsynced: BTreeSet::new(),
            joining: 0,
            supported: BTreeMap::new(),
            since_ms: now.wall_ms,
            writes: BTreeMap::new(),
            next_write: 0,
            out: Vec::new(),
        }
    }

    /// The group as the log says it was. Its members get one session to show that they are alive.
    pub fn restore(id: Arc<str>, config: Config, metadata: GroupMetadata, now: Now) -> Self {
        let mut group = Self::new(id, config, now);
        group.generation = metadata.generation;
        group.protocol_type = (!metadata.protocol_type.is_empty()).then_some(metadata.protocol_type);
        group.protocol = metadata.protocol;
        group.since_ms = metadata.state_since_ms.unwrap_or(now.wall_ms);
        let protocol = group.protocol.clone().unwrap_or_else(|| "".into());
        for member in metadata.members {
            let mut restored = Member {
                id: member.id,
                instance_id: member.instance_id,
                client_id: member.client_id,
                client_host: member.client_host,
                session_timeout_ms: member.session_timeout_ms,
                rebalance_timeout_ms: member.rebalance_timeout_ms,
                protocols: vec![super::Protocol {
                    name: protocol.clone(),
                    metadata: member.subscription,
                }],
                assignment: member.assignment,
                awaiting_join: None,
                awaiting_sync: None,
                is_new: false,
                session_deadline: None,
            };
            restored.touch(now.monotonic_ms);
            group.insert(restored);
        }
        if !group.members.is_empty() {
            group.phase = Phase::Stable { sync_deadline: None };
            if let Some(leader) = metadata.leader.filter(|leader| group.members.contains_key(leader)) {
                group.leader = Some(leader);
            }
        }
        group
    }

    /// The group's name.
    pub fn id(&self) -> &Arc<str> {
        &self.id
    }

    /// Where the group stands.
    pub fn state(&self) -> State {
        match self.phase {
            Phase::Empty => State::Empty,
            Phase::Preparing { .. } => State::PreparingRebalance,
            Phase::Completing { .. } => State::CompletingRebalance,
            Phase::Stable { .. } => State::Stable,
            Phase::Dead => State::Dead,
        }
    }

    /// The number of the current generation.
    pub fn generation(&self) -> i32 {
        self.generation
    }

    /// "consumer" for consumers, "connect" for Connect workers, none for a group that only commits offsets.
    pub fn protocol_type(&self) -> Option<&Arc<str>> {
        self.protocol_type.as_ref()
    }

    /// The protocol that the members agreed on.
    pub fn protocol(&self) -> Option<&Arc<str>> {
        self.protocol.as_ref()
    }

    /// The member that assigns.
    pub fn leader(&self) -> Option<&MemberId> {
        self.leader.as_ref()
    }

    /// The members, by id.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    /// Wall-clock time since when the group has been in its state.
    pub fn since_ms(&self) -> i64 {
        self.since_ms
    }

    /// No members, none announced, nothing being written: the group may be forgotten if it has no offsets either.
    pub fn is_idle(&self) -> bool {
        matches!(self.phase, Phase::Empty) && self.pending.is_empty() && self.writes.is_empty()
    }

    /// Whether anything about the group needs the log: a group that never had a generation does not.
    pub fn had_members(&self) -> bool {
        self.generation > 0
    }

    /// The memory that the members take, and the ids that were given out.
    pub fn held_bytes(&self) -> usize {
        let members = self.members.values();
        let members = members.map(|member| member.own_bytes() + member.assignment.len());
        let pending = self.pending.keys().map(|id| names_bytes(id, None, ""));
        members.chain(pending).sum()
    }

    /// Marks an empty group as deleted, so that nothing more is accepted while the deletion is written.
    pub fn kill(&mut self) -> Result<(), Error> {
        match self.phase {
            Phase::Empty if self.pending.is_empty() => {
                self.phase = Phase::Dead;
                Ok(())
            }
            Phase::Dead => Err(Error::NotFound),
            _ => Err(Error::NotEmpty),
        }
    }

    /// The deletion was refused: the group is what it was.
    pub fn revive(&mut self) {
        if matches!(self.phase, Phase::Dead) {
            self.phase = Phase::Empty;
        }
    }

    /// Checks that a member may speak for the group.
    pub(super) fn check_member(&self, member_id: &str, instance_id: Option<&str>) -> Result<(), Error> {
        if let Some(instance_id) = instance_id {
            match self.static_members.get(instance_id) {
                None => return Err(Error::UnknownMember),
                Some(known) if &**known != member_id => return Err(Error::FencedInstance),
                Some(_) => {}
            }
        }
        if !self.members.contains_key(member_id) {
            return Err(Error::UnknownMember);
        }
        Ok(())
    }

    /// The longest time that any member asks a rebalance to wait.
    pub(super) fn rebalance_timeout_ms(&self) -> u64 {
        self.members
            .values()
            .map(|member| member.rebalance_timeout_ms)
            .max()
            .unwrap_or(0)
    }

    /// What the leader is told of the members.
    pub(super) fn roster(&self) -> Vec<JoinedMember> {
        let protocol = self.protocol.clone().unwrap_or_else(|| "".into());
        self.members
            .values()
            .map(|member| JoinedMember {
                id: member.id.clone(),
                instance_id: member.instance_id.clone(),
                metadata: member.metadata_for(&protocol),
            })
            .collect()
    }

    /// Adds a member and counts what it brings.
    pub(super) fn insert(&mut self, member: Member) {
        for name in distinct_names(&member) {
            *self.supported.entry(name).or_insert(0) += 1;
        }
        if member.awaiting_join.is_some() {
            self.joining += 1;
        }
        if let Some(instance_id) = &member.instance_id {
            self.static_members.insert(instance_id.clone(), member.id.clone());
        }
        if self.leader.is_none() {
            self.leader = Some(member.id.clone());
        }
        self.members.insert(member.id.clone(), member);
    }

    /// Takes a member out. Whoever waits in its name has to be answered by the caller.
    pub(super) fn take(&mut self, member_id: &str) -> Option<Member> {
        let member = self.members.remove(member_id)?;
        for name in distinct_names(&member) {
            if let Some(count) = self.supported.get_mut(&name) {
                *count -= 1;
                if *count == 0 {
                    self.supported.remove(&name);
                }
            }
        }
        if member.awaiting_join.is_some() {
            self.joining -= 1;
        }
        if let Some(instance_id) = &member.instance_id {
            self.static_members.remove(instance_id);
        }
        self.unsynced.remove(member_id);
        if self.leader.as_deref() == Some(member_id) {
            self.leader = self.members.keys().next().cloned();
        }
        Some(member)
    }

    /// Removes a member for good and answers whatever still waits in its name.
    pub(super) fn remove(&mut self, member_id: &str, reason: Error) {
        if let Some(member) = self.take(member_id) {
            self.answer_removed(&member, reason);
        }
    }

    /// Answers what waits in the name of a member that is gone.
    pub(super) fn answer_removed(&mut self, member: &Member, reason: Error) {
        if let Some(token) = member.awaiting_join {
            self.out.push(Action::Join(
                token,
                Err(Refused {
                    error: reason.clone(),
                    member_id: "".into(),
                }),
            ));
        }
        if let Some(token) = member.awaiting_sync {
            self.out.push(Action::Sync(token, Err(reason)));
        }
    }

    /// Lets a JoinGroup wait for the end of the rebalance. A second one from the same member replaces the first,
    /// whose connection is gone most likely.
    pub(super) fn await_join(&mut self, member_id: &str, token: Token) {
        let Some(member) = self.members.get_mut(member_id) else {
            return;
        };
        match member.awaiting_join.replace(token) {
            Some(old) => {
                let refused = Refused {
                    error: Error::RebalanceInProgress,
                    member_id: member.id.clone(),
                };
                self.out.push(Action::Join(old, Err(refused)));
            }
            None => self.joining += 1,
        }
        if !member.is_new {
            member.session_deadline = None;
        }
    }

    /// Writes the group's metadata; what waits for it goes on in [`Group::persisted`].
    pub(super) fn persist(&mut self, write: Write) -> WriteId {
        let id = self.next_write;
        self.next_write += 1;
        let assignments = match &write {
            Write::Assignment(assignments) => Some(assignments),
            _ => None,
        };
        let metadata = self.metadata(assignments);
        self.writes.insert(id, write);
        self.out.push(Action::Persist(id, metadata));
        id
    }

    /// The group as the log keeps it. `assignments` are those about to take effect.
    pub fn metadata(&self, assignments: Option<&BTreeMap<MemberId, Bytes>>) -> GroupMetadata {
        let protocol = self.protocol.clone().unwrap_or_else(|| "".into());
        let members = self.members.values().map(|member| MemberMetadata {
            id: member.id.clone(),
            instance_id: member.instance_id.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            rebalance_timeout_ms: member.rebalance_timeout_ms,
            session_timeout_ms: member.session_timeout_ms,
            subscription: member.metadata_for(&protocol),
            assignment: match assignments {
                Some(assignments) => assignments.get(&member.id).cloned().unwrap_or_default(),
                None => member.assignment.clone(),
            },
        });
        GroupMetadata {
            protocol_type: self.protocol_type.clone().unwrap_or_else(|| "".into()),
            generation: self.generation,
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            state_since_ms: Some(self.since_ms),
            members: members.collect(),
        }
    }

    pub(super) fn finish(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.out)
    }
}

/// A member that lists one protocol twice supports it once.
fn distinct_names(member: &Member) -> BTreeSet<Arc<str>> {
    member.protocols.iter().map(|protocol| protocol.name.clone()).collect()
}
