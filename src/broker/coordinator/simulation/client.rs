//! A member of a group: joins, asks for its assignment, commits, is replaced, and comes back.

use bytes::Bytes;
use rand::RngExt;
use riverlog_storage::clock::Clock;

use super::{GROUPS, SESSION_MS, Simulation, Told};
use crate::groups::{Error, JoinRequest, Joined, MemberId, Protocol, Refused, SyncRequest, Synced};

pub(super) struct Client {
    pub group: usize,
    member_id: MemberId,
    at: At,
    /// When it was last told that it belongs to the group, in monotonic milliseconds.
    heard_ms: u64,
    /// Who it was in an earlier generation, for commits that must be refused.
    was: Option<(MemberId, i32)>,
}

#[derive(Clone)]
enum At {
    Out,
    Joining,
    Joined(Joined),
    Syncing,
    Stable(i32),
}

impl Client {
    pub fn new(group: usize) -> Self {
        Self {
            group,
            member_id: "".into(),
            at: At::Out,
            heard_ms: 0,
            was: None,
        }
    }

    /// It has to join again; under another id, if it is not known any more.
    fn leave_generation(&mut self, error: &Error) {
        if let At::Stable(generation) = self.at {
            self.was = Some((self.member_id.clone(), generation));
        }
        if matches!(error, Error::UnknownMember | Error::FencedInstance) {
            self.member_id = "".into();
        }
        self.at = At::Out;
    }
}

/// The leader assigns to each member its own name and the generation, so that a wrong one is noticed.
fn assignment(generation: i32, member: &str) -> Bytes {
    format!("{member} in {generation}").into()
}

impl Simulation {
    pub(super) fn act_as_client(&mut self) -> Result<(), String> {
        let number = self.rng.random_range(0..self.clients.len());
        let client = &self.clients[number];
        match client.at.clone() {
            At::Out => self.join(number),
            At::Joined(joined) => self.sync(number, &joined),
            At::Joining | At::Syncing => match client.was.clone().filter(|_| self.rng.random_ratio(1, 4)) {
                Some(was) => self.commit(client.group, Some(was)),
                None => Ok(()),
            },
            At::Stable(generation) => {
                let member = (client.member_id.clone(), generation);
                let group = client.group;
                match self.rng.random_range(0..20) {
                    0..8 => self.commit(group, Some(member)),
                    8..18 => self.heartbeat(number, false),
                    18 => match client.was.clone() {
                        Some(was) => self.commit(group, Some(was)),
                        None => self.join(number),
                    },
                    _ => self.leave(number),
                }
            }
        }
    }

    fn join(&mut self, number: usize) -> Result<(), String> {
        self.next_member += 1;
        let client = &mut self.clients[number];
        if let At::Stable(generation) = client.at {
            client.was = Some((client.member_id.clone(), generation));
        }
        client.at = At::Joining;
        let request = JoinRequest {
            member_id: client.member_id.clone(),
            instance_id: None,
            client_id: "client".into(),
            client_host: "/127.0.0.1".into(),
            session_timeout_ms: SESSION_MS as _,
            rebalance_timeout_ms: SESSION_MS as _,
            protocol_type: "consumer".into(),
            protocols: vec![Protocol {
                name: "range".into(),
                // Of a subscription to the topic "read".
                metadata: b"\0\0\0\0\0\x01\0\x04read"[..].into(),
            }],
            require_known_id: false,
            can_skip_assignment: false,
            fresh_id: format!("m{}", self.next_member).into(),
        };
        let group = client.group;
        self.note(|| format!("client {number} joins {group} as {:?}", request.member_id));
        self.ask(|groups| async move { Told::Joined(number, groups.join(GROUPS[group], request).await) })
    }

    pub(super) fn joined(&mut self, number: usize, outcome: Result<Joined, Refused>) -> Result<(), String> {
        self.note(|| format!("client {number} joined: {outcome:?}"));
        let client = &mut self.clients[number];
        match outcome {
            Ok(joined) => {
                let known = self.ledger.generation(client.group);
                if joined.generation < known {
                    return Err(format!(
                        "client {number} joins generation {}, and {known} was told to others",
                        joined.generation
                    ));
                }
                client.member_id = joined.member_id.clone();
                client.at = At::Joined(joined);
            }
            Err(refused) => client.leave_generation(&refused.error),
        }
        Ok(())
    }

    fn sync(&mut self, number: usize, joined: &Joined) -> Result<(), String> {
        let client = &mut self.clients[number];
        client.at = At::Syncing;
        let generation = joined.generation;
        let members = joined.members.iter();
        let assignments = members.map(|member| (member.id.clone(), assignment(generation, &member.id)));
        let request = SyncRequest {
            member_id: client.member_id.clone(),
            instance_id: None,
            generation,
            protocol_type: None,
            protocol: None,
            assignments: assignments.collect(),
        };
        let group = client.group;
        self.note(|| format!("client {number} syncs in {generation}"));
        self.ask(|groups| async move { Told::Synced(number, generation, groups.sync(GROUPS[group], request).await) })
    }

    pub(super) fn synced(
        &mut self,
        number: usize,
        generation: i32,
        outcome: Result<Synced, Error>,
    ) -> Result<(), String> {
        self.note(|| format!("client {number} synced: {outcome:?}"));
        let client = &mut self.clients[number];
        match outcome {
            Ok(synced) => {
                let expected = assignment(generation, &client.member_id);
                if synced.assignment != expected {
                    return Err(format!(
                        "client {number} is told {:?}, not {expected:?}",
                        synced.assignment
                    ));
                }
                client.at = At::Stable(generation);
                client.heard_ms = self.clock.monotonic_ms();
                self.report.assignments += 1;
                self.ledger.synced(client.group, generation);
            }
            Err(error) => client.leave_generation(&error),
        }
        Ok(())
    }

    /// `must` if the member cannot have been forgotten.
    fn heartbeat(&mut self, number: usize, must: bool) -> Result<(), String> {
        let client = &self.clients[number];
        let At::Stable(generation) = client.at else {
            return Ok(());
        };
        let groups = &self.running()?.groups;
        let outcome = groups.heartbeat(GROUPS[client.group], &client.member_id, None, generation);
        self.note(|| format!("client {number} is alive in {generation}, must be known: {must}: {outcome:?}"));
        if must && !matches!(outcome, Ok(()) | Err(Error::RebalanceInProgress)) {
            return Err(format!(
                "client {number}, which belonged to generation {generation}, is told: {outcome:?}"
            ));
        }
        let now_ms = self.clock.monotonic_ms();
        let client = &mut self.clients[number];
        match outcome {
            Ok(()) => client.heard_ms = now_ms,
            Err(error) => client.leave_generation(&error),
        }
        Ok(())
    }

    fn leave(&mut self, number: usize) -> Result<(), String> {
        let client = &self.clients[number];
        let outcome = self
            .running()?
            .groups
            .leave(GROUPS[client.group], &client.member_id, None);
        self.note(|| format!("client {number} leaves: {outcome:?}"));
        self.clients[number].leave_generation(&Error::UnknownMember);
        Ok(())
    }

    /// After a start: members of the last generation go on as if nothing had been, the others join again.
    pub(super) fn members_go_on(&mut self) -> Result<(), String> {
        let now_ms = self.clock.monotonic_ms();
        for number in 0..self.clients.len() {
            let client = &mut self.clients[number];
            match client.at {
                At::Stable(generation) => {
                    let in_time = now_ms - client.heard_ms < SESSION_MS;
                    let must = in_time && generation == self.ledger.generation(client.group);
                    self.heartbeat(number, must)?;
                }
                // What it had asked died with the process; the id it may keep.
                _ => client.at = At::Out,
            }
        }
        Ok(())
    }
}
