//! From one generation to the next: prepare, wait for the members, elect a leader, choose a protocol.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::error::Error;
use super::group::{Group, Initial, Phase, Write};
use super::member::MemberId;
use super::{Action, Joined, Now};

impl Group {
    pub(super) fn enter(&mut self, phase: Phase, now: Now) {
        self.phase = phase;
        self.since_ms = now.wall_ms;
    }

    /// A change of membership: begins a rebalance, or lets the one under way go on.
    pub(super) fn rebalance(&mut self, now: Now) {
        match self.phase {
            Phase::Dead => {}
            Phase::Preparing { .. } => self.maybe_complete_join(now),
            Phase::Empty | Phase::Completing { .. } | Phase::Stable { .. } => self.prepare_rebalance(now),
        }
    }

    fn prepare_rebalance(&mut self, now: Now) {
        if matches!(self.phase, Phase::Completing { .. }) {
            self.fail_syncs(&Error::RebalanceInProgress, now);
        }
        self.unsynced.clear();
        let timeout_ms = self.rebalance_timeout_ms();
        if matches!(self.phase, Phase::Empty) {
            let delay_ms = self.config.initial_rebalance_delay_ms;
            let initial = Initial {
                remaining_ms: timeout_ms.saturating_sub(delay_ms),
                new_member: false,
            };
            let deadline = now.monotonic_ms.saturating_add(delay_ms);
            self.enter(
                Phase::Preparing {
                    deadline,
                    initial: Some(initial),
                },
                now,
            );
        } else {
            let deadline = now.monotonic_ms.saturating_add(timeout_ms);
            self.enter(
                Phase::Preparing {
                    deadline,
                    initial: None,
                },
                now,
            );
            self.maybe_complete_join(now);
        }
    }

    /// Ends the wait when nobody is missing. The first rebalance waits for its delay in any case.
    pub(super) fn maybe_complete_join(&mut self, now: Now) {
        let everybody = self.joining == self.members.len() && self.pending.is_empty();
        if everybody && matches!(self.phase, Phase::Preparing { initial: None, .. }) {
            self.complete_join(now);
        }
    }

    /// The wait for members is over by the clock.
    pub(super) fn join_deadline_passed(&mut self, now: Now) {
        let Phase::Preparing { initial, .. } = &mut self.phase else {
            return;
        };
        match initial {
            Some(waiting) if waiting.new_member && waiting.remaining_ms > 0 => {
                // Members are still arriving: wait once more, but never longer than the rebalance timeout in all.
                let wait_ms = self.config.initial_rebalance_delay_ms.clamp(1, waiting.remaining_ms);
                let more = Initial {
                    remaining_ms: waiting.remaining_ms - wait_ms,
                    new_member: false,
                };
                let deadline = now.monotonic_ms.saturating_add(wait_ms);
                self.phase = Phase::Preparing {
                    deadline,
                    initial: Some(more),
                };
            }
            _ => self.complete_join(now),
        }
    }

    /// Begins the next generation with the members that joined.
    fn complete_join(&mut self, now: Now) {
        let absent = self
            .members
            .values()
            .filter(|member| member.awaiting_join.is_none() && member.instance_id.is_none())
            .map(|member| member.id.clone());
        for member_id in absent.collect::<Vec<_>>() {
            self.remove(&member_id, Error::UnknownMember);
        }
        if self.members.is_empty() {
            self.become_empty(now);
            return;
        }
        if !self.elect_joined_leader() {
            // Only static members that are away: wait until they come back or their sessions end.
            let deadline = now.monotonic_ms.saturating_add(self.rebalance_timeout_ms().max(1));
            self.phase = Phase::Preparing {
                deadline,
                initial: None,
            };
            return;
        }
        self.generation = next_generation(self.generation);
        self.protocol = self.select_protocol();
        let deadline = now.monotonic_ms.saturating_add(self.rebalance_timeout_ms());
        self.enter(
            Phase::Completing {
                deadline,
                writing: None,
            },
            now,
        );
        self.unsynced = self.members.keys().cloned().collect();
        self.answer_joins(now);
    }

    fn become_empty(&mut self, now: Now) {
        self.generation = next_generation(self.generation);
        self.protocol = None;
        self.leader = None;
        self.unsynced.clear();
        self.enter(Phase::Empty, now);
        self.persist(Write::Emptied);
    }

    fn answer_joins(&mut self, now: Now) {
        let ids: Vec<MemberId> = self.members.keys().cloned().collect();
        for member_id in ids {
            let joined = self.joined(&member_id);
            let Some(member) = self.members.get_mut(&member_id) else {
                continue;
            };
            member.is_new = false;
            member.assignment = Bytes::new();
            member.touch(now.monotonic_ms);
            if let Some(token) = member.awaiting_join.take() {
                self.joining -= 1;
                self.out.push(Action::Join(token, Ok(joined)));
            }
        }
    }

    /// The answer to a member's JoinGroup in the current generation. The leader alone is told who the others are.
    pub(super) fn joined(&self, member_id: &MemberId) -> Joined {
        let leads = self.leader.as_ref() == Some(member_id);
        Joined {
            member_id: member_id.clone(),
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: self.leader.clone().unwrap_or_else(|| "".into()),
            members: if leads { self.roster() } else { Vec::new() },
            skip_assignment: false,
        }
    }

    /// Keeps the leader if it joined, else makes the first member that did the leader.
    fn elect_joined_leader(&mut self) -> bool {
        let joined = |group: &Self, id: &MemberId| group.members.get(id).is_some_and(|m| m.awaiting_join.is_some());
        if self.leader.as_ref().is_some_and(|leader| joined(self, leader)) {
            return true;
        }
        let elected = self.members.values().find(|member| member.awaiting_join.is_some());
        let Some(elected) = elected.map(|member| member.id.clone()) else {
            return false;
        };
        self.leader = Some(elected);
        true
    }

    /// Answers every waiting SyncGroup with an error and takes the assignments back.
    pub(super) fn fail_syncs(&mut self, error: &Error, now: Now) {
        for member in self.members.values_mut() {
            member.assignment = Bytes::new();
            if let Some(token) = member.awaiting_sync.take() {
                member.touch(now.monotonic_ms);
                self.out.push(Action::Sync(token, Err(error.clone())));
            }
        }
    }

    /// Whether a member with these protocols can be part of the group.
    pub(super) fn supports(&self, protocol_type: &str, mut names: impl Iterator<Item = Arc<str>>) -> bool {
        if self.members.is_empty() {
            return !protocol_type.is_empty() && names.next().is_some();
        }
        self.protocol_type.as_deref() == Some(protocol_type)
            && names.any(|name| self.supported.get(&name) == Some(&self.members.len()))
    }

    /// Every member votes for the first of its protocols that all support. Between equals the name decides, so
    /// that the choice does not hang on the order of a map.
    pub(super) fn select_protocol(&self) -> Option<Arc<str>> {
        let all = self.members.len();
        let mut votes: BTreeMap<Arc<str>, usize> = BTreeMap::new();
        for member in self.members.values() {
            let choice = member
                .protocols
                .iter()
                .find(|protocol| self.supported.get(&protocol.name) == Some(&all));
            if let Some(choice) = choice {
                *votes.entry(choice.name.clone()).or_insert(0) += 1;
            }
        }
        let most = votes.values().copied().max()?;
        votes
            .into_iter()
            .find(|(_, count)| *count == most)
            .map(|(name, _)| name)
    }
}

/// Generations only grow; after the last positive number they begin again.
fn next_generation(generation: i32) -> i32 {
    generation.checked_add(1).unwrap_or(1)
}
