//! Random histories from a seed with a virtual clock. A failing seed replays to the same event.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use super::group::Phase;
use super::*;

/// SplitMix64: the same numbers for the same seed, for ever.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// A client as it sees itself; what it believes may be stale.
#[derive(Clone, Default)]
struct Client {
    instance_id: Option<Arc<str>>,
    member_id: Option<MemberId>,
    joined: Option<Joined>,
    protocols: Vec<Protocol>,
}

/// Protocol type and protocol of a generation.
type Agreed = (Option<Arc<str>>, Option<Arc<str>>);

enum Waiting {
    Join(usize),
    Sync { member_id: MemberId, generation: i32 },
}

struct World {
    random: Random,
    now: Now,
    group: Group,
    clients: Vec<Client>,
    tokens: u64,
    waiting: BTreeMap<Token, Waiting>,
    writes: VecDeque<(WriteId, record::GroupMetadata)>,
    durable: Option<record::GroupMetadata>,
    /// What stands in the log for each generation, once acknowledged.
    assigned: BTreeMap<(i32, MemberId), Bytes>,
    agreed: BTreeMap<i32, Agreed>,
    rosters: BTreeMap<i32, BTreeSet<MemberId>>,
    /// The generation that each member was last told.
    told: BTreeMap<MemberId, i32>,
    ids: u64,
    answered: u64,
    stable_seen: bool,
}

const CLIENTS: usize = 6;
const SESSION_MS: u64 = 10_000;
const REBALANCE_MS: u64 = 20_000;

impl World {
    fn new(seed: u64) -> Self {
        let now = Now {
            monotonic_ms: 1_000,
            wall_ms: 1_700_000_000_000,
        };
        let mut config = Config {
            max_size: 5,
            ..Config::default()
        };
        if seed.is_multiple_of(3) {
            config.initial_rebalance_delay_ms = 0;
        }
        let mut clients = vec![Client::default(); CLIENTS];
        clients[0].instance_id = Some("static-a".into());
        clients[1].instance_id = Some("static-b".into());
        // Two processes with the same instance id fence each other.
        clients[2].instance_id = Some("static-b".into());
        Self {
            random: Random(seed),
            now,
            group: Group::new("g".into(), config, now),
            clients,
            tokens: 0,
            waiting: BTreeMap::new(),
            writes: VecDeque::new(),
            durable: None,
            assigned: BTreeMap::new(),
            agreed: BTreeMap::new(),
            rosters: BTreeMap::new(),
            told: BTreeMap::new(),
            ids: 0,
            answered: 0,
            stable_seen: false,
        }
    }

    fn token(&mut self, waiting: Waiting) -> Token {
        self.tokens += 1;
        self.waiting.insert(self.tokens, waiting);
        self.tokens
    }

    fn step(&mut self) {
        let client = self.random.below(CLIENTS as u64) as usize;
        match self.random.below(100) {
            0..25 => self.join(client),
            25..50 => self.sync(client),
            50..60 => self.heartbeat(client),
            60..64 => self.leave(client),
            64..74 => self.commit(client),
            74..88 => self.finish_write(),
            88..98 => {
                let ms = [1, 100, 3_000, 9_000, 25_000][self.random.below(5) as usize];
                self.pass(ms);
            }
            // The process behind the client starts anew and remembers nothing.
            _ => {
                self.clients[client].member_id = None;
                self.clients[client].joined = None;
            }
        }
        self.check();
    }

    fn join(&mut self, client: usize) {
        if self.clients[client].protocols.is_empty() || self.random.chance(15) {
            let version = Bytes::from(self.random.below(3).to_be_bytes().to_vec());
            let mut protocols = vec![Protocol {
                name: "range".into(),
                metadata: version.clone(),
            }];
            if self.random.chance(60) {
                let at = self.random.below(2) as usize;
                protocols.insert(
                    at,
                    Protocol {
                        name: "sticky".into(),
                        metadata: version,
                    },
                );
            }
            if self.random.chance(5) {
                protocols = vec![Protocol {
                    name: "odd".into(),
                    metadata: Bytes::new(),
                }];
            }
            self.clients[client].protocols = protocols;
        }
        self.ids += 1;
        let request = JoinRequest {
            member_id: self.clients[client].member_id.clone().unwrap_or_else(|| "".into()),
            instance_id: self.clients[client].instance_id.clone(),
            client_id: "c".into(),
            client_host: "/127.0.0.1".into(),
            session_timeout_ms: if self.random.chance(2) { 1 } else { SESSION_MS },
            rebalance_timeout_ms: REBALANCE_MS,
            protocol_type: if self.random.chance(2) {
                "connect".into()
            } else {
                "consumer".into()
            },
            protocols: self.clients[client].protocols.clone(),
            require_known_id: self.clients[client].instance_id.is_none() && self.random.chance(70),
            can_skip_assignment: self.random.chance(50),
            fresh_id: format!("m{}", self.ids).into(),
        };
        let token = self.token(Waiting::Join(client));
        let actions = self.group.join(request, token, self.now);
        self.obey(actions);
    }

    fn sync(&mut self, client: usize) {
        let Some(joined) = self.clients[client].joined.clone() else {
            return;
        };
        let generation = joined.generation - i32::from(self.random.chance(5));
        let mut assignments = BTreeMap::new();
        if joined.leader == joined.member_id {
            for member in &joined.members {
                let part = format!("{generation}/{}/{}", member.id, self.random.below(1_000));
                assignments.insert(member.id.clone(), Bytes::from(part));
            }
        }
        let request = SyncRequest {
            member_id: joined.member_id.clone(),
            instance_id: self.clients[client].instance_id.clone(),
            generation,
            protocol_type: self.random.chance(50).then(|| joined.protocol_type.clone()).flatten(),
            protocol: None,
            assignments,
        };
        let token = self.token(Waiting::Sync {
            member_id: joined.member_id,
            generation,
        });
        let actions = self.group.sync(request, token, self.now);
        self.obey(actions);
    }

    fn heartbeat(&mut self, client: usize) {
        let Some(joined) = self.clients[client].joined.clone() else {
            return;
        };
        let instance_id = self.clients[client].instance_id.clone();
        let result = self
            .group
            .heartbeat(&joined.member_id, instance_id.as_deref(), joined.generation, self.now);
        if result.is_ok() {
            assert_eq!(joined.generation, self.group.generation());
        }
    }

    fn leave(&mut self, client: usize) {
        let instance_id = self.clients[client].instance_id.clone();
        let member_id = self.clients[client].member_id.take().unwrap_or_else(|| "".into());
        self.clients[client].joined = None;
        let (result, actions) = self.group.leave(&member_id, instance_id.as_deref(), self.now);
        if let Ok(left) = &result {
            assert!(
                !self.group.members.contains_key(left),
                "a member that left is still there"
            );
        }
        self.obey(actions);
    }

    fn commit(&mut self, client: usize) {
        let instance_id = self.clients[client].instance_id.clone();
        let (member_id, generation) = match &self.clients[client].joined {
            Some(joined) => (
                joined.member_id.clone(),
                joined.generation - i32::from(self.random.chance(20)),
            ),
            None => ("".into(), -1),
        };
        let known = instance_id.is_some() && !member_id.is_empty();
        let result = self.group.check_commit(
            &member_id,
            if known { instance_id.as_deref() } else { None },
            generation,
            self.now,
        );
        if result.is_ok() {
            if generation < 0 {
                assert_eq!(
                    self.group.state(),
                    State::Empty,
                    "a stranger commits into a group with members"
                );
            } else {
                assert_eq!(generation, self.group.generation(), "a stale generation commits");
                assert!(self.group.members.contains_key(&member_id), "a stranger commits");
            }
        }
    }

    fn finish_write(&mut self) {
        let Some((id, metadata)) = self.writes.pop_front() else {
            return;
        };
        let result = if self.random.chance(10) {
            Err(Error::not_available("no space"))
        } else {
            for member in &metadata.members {
                self.assigned
                    .insert((metadata.generation, member.id.clone()), member.assignment.clone());
            }
            let bytes = record::group_value(&metadata).unwrap();
            assert_eq!(record::decode_group(&bytes).unwrap(), metadata);
            self.durable = Some(metadata);
            Ok(())
        };
        let actions = self.group.persisted(id, result, self.now);
        self.obey(actions);
    }

    fn pass(&mut self, ms: u64) {
        let until = self.now.monotonic_ms + ms;
        while let Some(deadline) = self.group.next_deadline().filter(|deadline| *deadline <= until) {
            let passed = deadline.saturating_sub(self.now.monotonic_ms);
            self.now.monotonic_ms += passed;
            self.now.wall_ms += passed as i64;
            let actions = self.group.tick(self.now);
            self.obey(actions);
            self.check();
            let next = self.group.next_deadline();
            assert!(
                next != Some(deadline) || passed > 0 || self.group.config.initial_rebalance_delay_ms == 0,
                "the clock stands still at {deadline}"
            );
        }
        self.now.wall_ms += (until - self.now.monotonic_ms) as i64;
        self.now.monotonic_ms = until;
    }

    fn obey(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Persist(id, metadata) => self.writes.push_back((id, metadata)),
                Action::Join(token, answer) => {
                    let Some(Waiting::Join(client)) = self.waiting.remove(&token) else {
                        panic!("token {token} is answered twice, or as something else")
                    };
                    self.answered += 1;
                    self.on_join(client, answer);
                }
                Action::Sync(token, answer) => {
                    let Some(Waiting::Sync { member_id, generation }) = self.waiting.remove(&token) else {
                        panic!("token {token} is answered twice, or as something else")
                    };
                    self.answered += 1;
                    if let Ok(synced) = answer {
                        let durable = self.assigned.get(&(generation, member_id.clone()));
                        // A static member may have fetched its predecessor's part: the log has it under either id.
                        assert!(
                            durable == Some(&synced.assignment) || synced.assignment.is_empty(),
                            "{member_id} was told an assignment that is not in the log"
                        );
                        self.stable_seen = true;
                    }
                }
            }
        }
    }

    fn on_join(&mut self, client: usize, answer: Result<Joined, Refused>) {
        match answer {
            Ok(joined) => {
                assert!(joined.generation <= self.group.generation());
                let agreed = (joined.protocol_type.clone(), joined.protocol.clone());
                assert_eq!(*self.agreed.entry(joined.generation).or_insert(agreed.clone()), agreed);
                if !joined.members.is_empty() {
                    assert_eq!(joined.leader, joined.member_id, "the roster is the leader's alone");
                    let roster: BTreeSet<MemberId> = joined.members.iter().map(|member| member.id.clone()).collect();
                    assert!(roster.contains(&joined.member_id));
                    self.rosters.insert(joined.generation, roster);
                }
                self.told.insert(joined.member_id.clone(), joined.generation);
                self.clients[client].member_id = Some(joined.member_id.clone());
                self.clients[client].joined = Some(joined);
            }
            Err(Refused {
                error: Error::MemberIdRequired(id),
                member_id,
            }) => {
                assert_eq!(id, member_id);
                self.clients[client].member_id = Some(id);
            }
            Err(Refused {
                error: Error::UnknownMember | Error::FencedInstance,
                ..
            }) => {
                self.clients[client].member_id = None;
                self.clients[client].joined = None;
            }
            Err(_) => {}
        }
    }

    fn check(&self) {
        let group = &self.group;
        assert!(group.out.is_empty(), "a decision was not handed out");
        let joining = group
            .members
            .values()
            .filter(|member| member.awaiting_join.is_some())
            .count();
        assert_eq!(joining, group.joining);
        let mut supported: BTreeMap<Arc<str>, usize> = BTreeMap::new();
        for member in group.members.values() {
            for name in member.protocols.iter().map(|p| p.name.clone()).collect::<BTreeSet<_>>() {
                *supported.entry(name).or_insert(0) += 1;
            }
            assert!(
                member.session_deadline.is_some() || member.awaiting_join.is_some() || member.awaiting_sync.is_some(),
                "nobody would notice if {} died",
                member.id
            );
            assert!(member.awaiting_join.is_none() || member.awaiting_sync.is_none());
        }
        assert_eq!(supported, group.supported);
        let statics: BTreeMap<_, _> = group
            .members
            .values()
            .filter_map(|member| Some((member.instance_id.clone()?, member.id.clone())))
            .collect();
        assert_eq!(statics, group.static_members);
        assert!(group.unsynced.iter().all(|id| group.members.contains_key(id)));
        match &group.leader {
            Some(leader) => assert!(group.members.contains_key(leader), "the leader is not a member"),
            None => assert!(group.members.is_empty(), "members without a leader"),
        }
        match group.phase {
            Phase::Empty => assert!(group.members.is_empty()),
            Phase::Completing { .. } | Phase::Stable { .. } => {
                assert!(!group.members.is_empty());
                assert_eq!(joining, 0);
                let protocol = group.protocol.clone().expect("a generation without a protocol");
                assert_eq!(group.supported.get(&protocol), Some(&group.members.len()));
            }
            Phase::Preparing { .. } | Phase::Dead => {}
        }
        if matches!(group.phase, Phase::Completing { .. } | Phase::Stable { .. }) {
            for member in group.members.values().filter(|member| member.instance_id.is_none()) {
                let told = self.told.get(&member.id);
                assert_eq!(
                    told,
                    Some(&group.generation),
                    "{} is in a generation that it did not join",
                    member.id
                );
            }
        }
        if !self.waiting.is_empty() {
            assert!(
                group.next_deadline().is_some() || !self.writes.is_empty(),
                "requests wait and nothing would ever wake them"
            );
        }
    }

    /// Everybody falls silent: every request gets its answer, and the group ends without members.
    fn drain(&mut self) {
        for _ in 0..12 {
            while !self.writes.is_empty() {
                self.finish_write();
                self.check();
            }
            self.pass(400_000);
        }
        while !self.writes.is_empty() {
            self.finish_write();
        }
        assert!(self.waiting.is_empty(), "a request was never answered");
        assert_eq!(self.answered, self.tokens);
        assert_eq!(self.group.state(), State::Empty);
        assert!(self.group.is_idle());
    }
}

fn run(seed: u64) -> bool {
    let mut world = World::new(seed);
    let mut generation = 0;
    for _ in 0..400 {
        world.step();
        assert!(world.group.generation() >= generation, "generations only grow");
        generation = world.group.generation();
        if world.random.chance(1) && world.writes.is_empty() && world.waiting.is_empty() {
            restart(&mut world);
            generation = world.group.generation();
        }
    }
    world.drain();
    world.stable_seen
}

/// The process dies; the group comes back from what the log holds.
fn restart(world: &mut World) {
    let Some(durable) = world.durable.clone() else { return };
    let config = world.group.config;
    let members = durable.members.len();
    world.group = Group::restore("g".into(), config, durable.clone(), world.now);
    assert_eq!(world.group.members().count(), members);
    if members > 0 {
        assert_eq!(
            world.group.metadata(None),
            record::GroupMetadata {
                leader: world.group.leader.clone(),
                ..durable
            }
        );
    }
    let generation = world.group.generation();
    world.told = world
        .group
        .members()
        .map(|member| (member.id.clone(), generation))
        .collect();
    // A generation that was never written may be given out a second time, with other members.
    world.agreed.retain(|known, _| *known <= generation);
    world.rosters.retain(|known, _| *known <= generation);
    world.assigned.retain(|(known, _), _| *known <= generation);
    for client in &mut world.clients {
        if client
            .joined
            .as_ref()
            .is_some_and(|joined| joined.generation > generation)
        {
            client.joined = None;
        }
    }
    world.check();
}

#[test]
fn random_histories_keep_the_rules() {
    let seeds: u64 = std::env::var("RIVERLOG_SEEDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(500);
    let mut stable = 0;
    for seed in 0..seeds {
        let result = std::panic::catch_unwind(|| run(seed));
        match result {
            Ok(seen) => stable += u64::from(seen),
            Err(cause) => {
                eprintln!("seed {seed} fails");
                std::panic::resume_unwind(cause);
            }
        }
    }
    assert!(
        stable > seeds / 2,
        "only {stable} of {seeds} histories ever reached an assignment: the test tests little"
    );
}
