//! The rules of the protocol, one story each.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::*;

/// A group, its clock, and what it decided.
struct Story {
    group: Group,
    now: Now,
    tokens: Token,
    joins: BTreeMap<Token, Result<Joined, Refused>>,
    syncs: BTreeMap<Token, Result<Synced, Error>>,
    writes: Vec<(WriteId, record::GroupMetadata)>,
}

impl Story {
    fn new() -> Self {
        Self::with(Config::default())
    }

    fn with(config: Config) -> Self {
        let now = Now {
            monotonic_ms: 0,
            wall_ms: 1_000,
        };
        Self {
            group: Group::new("g".into(), config, now),
            now,
            tokens: 0,
            joins: BTreeMap::new(),
            syncs: BTreeMap::new(),
            writes: Vec::new(),
        }
    }

    fn obey(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Join(token, answer) => assert!(self.joins.insert(token, answer).is_none()),
                Action::Sync(token, answer) => assert!(self.syncs.insert(token, answer).is_none()),
                Action::Persist(id, metadata) => self.writes.push((id, metadata)),
            }
        }
    }

    fn join(&mut self, request: JoinRequest) -> Token {
        self.tokens += 1;
        let actions = self.group.join(request, self.tokens, self.now);
        self.obey(actions);
        self.tokens
    }

    fn sync(&mut self, member: &str, generation: i32, assignments: &[(&str, &str)]) -> Token {
        self.tokens += 1;
        let request = SyncRequest {
            member_id: member.into(),
            instance_id: None,
            generation,
            protocol_type: None,
            protocol: None,
            assignments: assignments
                .iter()
                .map(|(id, part)| (Arc::from(*id), Bytes::from(part.to_string())))
                .collect(),
        };
        let actions = self.group.sync(request, self.tokens, self.now);
        self.obey(actions);
        self.tokens
    }

    fn written(&mut self) {
        for (id, _) in std::mem::take(&mut self.writes) {
            let actions = self.group.persisted(id, Ok(()), self.now);
            self.obey(actions);
        }
    }

    fn pass(&mut self, ms: u64) {
        self.now.monotonic_ms += ms;
        self.now.wall_ms += ms as i64;
        let actions = self.group.tick(self.now);
        self.obey(actions);
    }

    fn heartbeat(&mut self, member: &str, generation: i32) -> Result<(), Error> {
        self.group.heartbeat(member, None, generation, self.now)
    }

    fn commit(&mut self, member: &str, generation: i32) -> Result<(), Error> {
        self.group.check_commit(member, None, generation, self.now)
    }

    fn joined(&self, token: Token) -> &Joined {
        self.joins[&token].as_ref().unwrap()
    }

    fn refused(&self, token: Token) -> &Error {
        &self.joins[&token].as_ref().unwrap_err().error
    }

    fn assignment(&self, token: Token) -> Bytes {
        self.syncs[&token].as_ref().unwrap().assignment.clone()
    }

    /// Two members, "a" leads, generation 1, stable.
    fn stable() -> Self {
        let mut story = Self::new();
        let a = story.join(member("a"));
        let b = story.join(member("b"));
        story.pass(3_000);
        story.pass(3_000);
        assert_eq!((story.joined(a).generation, story.joined(b).generation), (1, 1));
        let a = story.sync("a", 1, &[("a", "0"), ("b", "1")]);
        let b = story.sync("b", 1, &[]);
        story.written();
        assert_eq!((&*story.assignment(a), &*story.assignment(b)), (&b"0"[..], &b"1"[..]));
        assert_eq!(story.group.state(), State::Stable);
        story
    }
}

/// A new member that is given the id `name` at once, as before version 4.
fn member(name: &str) -> JoinRequest {
    JoinRequest {
        member_id: "".into(),
        instance_id: None,
        client_id: "client".into(),
        client_host: "/127.0.0.1".into(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 60_000,
        protocol_type: "consumer".into(),
        protocols: protocols(&["range"]),
        require_known_id: false,
        can_skip_assignment: false,
        fresh_id: name.into(),
    }
}

fn protocols(names: &[&str]) -> Vec<Protocol> {
    names
        .iter()
        .map(|name| Protocol {
            name: (*name).into(),
            metadata: Bytes::from_static(b"topics"),
        })
        .collect()
}

fn again(name: &str) -> JoinRequest {
    JoinRequest {
        member_id: name.into(),
        ..member("unused")
    }
}

fn static_member(name: &str, instance: &str) -> JoinRequest {
    JoinRequest {
        instance_id: Some(instance.into()),
        ..member(name)
    }
}

#[test]
fn a_member_without_an_id_is_told_one_first() {
    let mut story = Story::new();
    let first = story.join(JoinRequest {
        require_known_id: true,
        ..member("a")
    });
    assert_eq!(story.refused(first), &Error::MemberIdRequired("a".into()));
    let second = story.join(again("a"));
    story.pass(3_000);
    story.pass(3_000);
    let joined = story.joined(second);
    assert_eq!((&*joined.member_id, &*joined.leader, joined.generation), ("a", "a", 1));
    assert_eq!(joined.members.len(), 1);
    // An id that was given out and never used is forgotten with its session.
    let third = story.join(JoinRequest {
        require_known_id: true,
        ..member("ghost")
    });
    assert!(matches!(story.refused(third), Error::MemberIdRequired(_)));
    story.pass(10_000);
    let late = story.join(again("ghost"));
    assert_eq!(story.refused(late), &Error::UnknownMember);
}

#[test]
fn the_first_rebalance_waits_for_those_who_come_a_little_later() {
    let mut story = Story::new();
    let a = story.join(member("a"));
    story.pass(2_900);
    let b = story.join(member("b"));
    story.pass(100);
    assert!(story.joins.is_empty(), "somebody came: another delay");
    story.pass(3_000);
    assert_eq!(story.joined(a).members.len(), 2);
    assert!(
        story.joined(b).members.is_empty(),
        "only the leader learns who is there"
    );
}

#[test]
fn the_protocol_is_one_that_all_support() {
    let mut story = Story::new();
    let a = story.join(JoinRequest {
        protocols: protocols(&["sticky", "range"]),
        ..member("a")
    });
    let b = story.join(member("b"));
    let odd = story.join(JoinRequest {
        protocols: protocols(&["sticky"]),
        ..member("c")
    });
    assert_eq!(story.refused(odd), &Error::InconsistentProtocol);
    let connect = story.join(JoinRequest {
        protocol_type: "connect".into(),
        ..member("d")
    });
    assert_eq!(story.refused(connect), &Error::InconsistentProtocol);
    let none = story.join(JoinRequest {
        protocols: Vec::new(),
        ..member("e")
    });
    assert_eq!(story.refused(none), &Error::InconsistentProtocol);
    story.pass(3_000);
    story.pass(3_000);
    for token in [a, b] {
        assert_eq!(story.joined(token).protocol.as_deref(), Some("range"));
    }
}

#[test]
fn nobody_gets_an_assignment_before_it_is_in_the_log() {
    let mut story = Story::new();
    story.join(member("a"));
    story.pass(3_000);
    story.pass(3_000);
    let token = story.sync("a", 1, &[("a", "all"), ("stranger", "nothing")]);
    assert!(story.syncs.is_empty());
    assert_eq!(story.group.state(), State::CompletingRebalance);
    assert_eq!(story.writes[0].1.members[0].assignment, "all");
    assert_eq!(story.commit("a", 1), Err(Error::RebalanceInProgress));
    story.written();
    assert_eq!(story.assignment(token), "all");
    assert_eq!(story.commit("a", 1), Ok(()));
}

#[test]
fn a_refused_write_sends_everybody_back_to_join() {
    let mut story = Story::new();
    story.join(member("a"));
    story.pass(3_000);
    story.pass(3_000);
    let token = story.sync("a", 1, &[("a", "all")]);
    let (id, _) = story.writes.pop().unwrap();
    let actions = story
        .group
        .persisted(id, Err(Error::not_available("no space")), story.now);
    story.obey(actions);
    assert_eq!(story.syncs[&token], Err(Error::not_available("no space")));
    assert_eq!(story.heartbeat("a", 1), Err(Error::RebalanceInProgress));
}

#[test]
fn a_rebalance_is_told_by_heartbeats_and_ends_when_all_have_joined() {
    let mut story = Story::stable();
    assert_eq!(story.heartbeat("a", 1), Ok(()));
    let c = story.join(member("c"));
    assert_eq!(story.heartbeat("a", 1), Err(Error::RebalanceInProgress));
    assert_eq!(
        story.commit("a", 1),
        Ok(()),
        "what was read before the rebalance may be committed"
    );
    let late_sync = story.sync("a", 1, &[]);
    assert_eq!(story.syncs[&late_sync], Err(Error::RebalanceInProgress));
    story.join(again("a"));
    assert!(!story.joins.contains_key(&c));
    story.join(again("b"));
    assert_eq!(story.joined(c).generation, 2);
    assert_eq!(story.heartbeat("a", 1), Err(Error::IllegalGeneration));
    assert_eq!(story.commit("a", 1), Err(Error::IllegalGeneration));
    assert_eq!(story.commit("stranger", 2), Err(Error::UnknownMember));
    assert_eq!(
        story.commit("", -1),
        Err(Error::UnknownMember),
        "a tool may not, while there are members"
    );
}

#[test]
fn who_does_not_join_in_time_is_out() {
    let mut story = Story::stable();
    let c = story.join(member("c"));
    story.join(again("a"));
    for _ in 0..12 {
        story.pass(5_000);
        let _ = story.heartbeat("b", 1);
    }
    assert_eq!(story.joined(c).generation, 2);
    assert_eq!(story.heartbeat("b", 2), Err(Error::UnknownMember));
    assert_eq!(story.group.members().count(), 2);
}

#[test]
fn silence_ends_a_session() {
    let mut story = Story::stable();
    story.pass(9_999);
    assert_eq!(story.heartbeat("a", 1), Ok(()));
    story.pass(1);
    assert_eq!(story.heartbeat("b", 1), Err(Error::UnknownMember));
    assert_eq!(story.heartbeat("a", 1), Err(Error::RebalanceInProgress));
    let a = story.join(again("a"));
    assert_eq!(story.joined(a).members.len(), 1);
}

#[test]
fn who_joins_and_never_syncs_is_out() {
    let mut story = Story::new();
    story.join(member("a"));
    story.join(member("b"));
    story.pass(3_000);
    story.pass(3_000);
    story.sync("a", 1, &[("a", "0"), ("b", "1")]);
    story.written();
    for _ in 0..12 {
        story.pass(5_000);
        let _ = story.heartbeat("a", 1);
        let _ = story.heartbeat("b", 1);
    }
    assert_eq!(story.heartbeat("b", 1), Err(Error::UnknownMember));
    assert_eq!(story.heartbeat("a", 1), Err(Error::RebalanceInProgress));
}

#[test]
fn the_last_one_leaves_an_empty_group() {
    let mut story = Story::stable();
    assert_eq!(story.group.leave("b", None, story.now).0, Ok("b".into()));
    let (result, actions) = story.group.leave("a", None, story.now);
    story.obey(actions);
    assert!(result.is_ok());
    assert_eq!(story.group.state(), State::Empty);
    assert!(story.writes[0].1.members.is_empty());
    assert_eq!(story.group.leave("a", None, story.now).0, Err(Error::UnknownMember));
    assert_eq!(story.commit("", -1), Ok(()), "a tool may reset offsets now");
    assert_eq!(story.commit("a", 1), Err(Error::UnknownMember));
    story.written();
    assert_eq!(story.group.kill(), Ok(()));
    let token = story.join(member("c"));
    assert!(matches!(story.refused(token), Error::NotAvailable(_)));
}

#[test]
fn a_group_with_members_cannot_be_deleted() {
    let mut story = Story::stable();
    assert_eq!(story.group.kill(), Err(Error::NotEmpty));
}

#[test]
fn a_leader_that_joins_again_wants_to_assign_anew_a_follower_does_not() {
    let mut story = Story::stable();
    let follower = story.join(again("b"));
    assert_eq!(story.joined(follower).generation, 1);
    assert_eq!(story.group.state(), State::Stable);
    story.join(again("a"));
    assert_eq!(story.group.state(), State::PreparingRebalance);
    // A follower that changed its mind is a change for all.
    let mut story = Story::stable();
    story.join(JoinRequest {
        protocols: protocols(&["range", "sticky"]),
        ..again("b")
    });
    assert_eq!(story.group.state(), State::PreparingRebalance);
}

#[test]
fn a_lost_answer_is_given_again() {
    let mut story = Story::new();
    story.join(member("a"));
    story.join(member("b"));
    story.pass(3_000);
    story.pass(3_000);
    let again_a = story.join(again("a"));
    assert_eq!(
        story.joined(again_a).members.len(),
        2,
        "the leader needs the members again"
    );
    assert_eq!(story.joined(again_a).generation, 1);
}

#[test]
fn a_static_member_comes_back_without_a_rebalance() {
    let mut story = Story::new();
    let a = story.join(static_member("a1", "A"));
    story.join(static_member("b1", "B"));
    story.pass(3_000);
    story.pass(3_000);
    assert_eq!(&*story.joined(a).leader, "a1");
    story.sync("a1", 1, &[("a1", "0"), ("b1", "1")]);
    story.written();

    let b = story.join(static_member("b2", "B"));
    assert!(!story.joins.contains_key(&b), "not before the new id is in the log");
    story.written();
    let joined = story.joined(b);
    assert_eq!(
        (&*joined.member_id, joined.generation, &*joined.leader),
        ("b2", 1, "a1")
    );
    let sync = story.sync("b2", 1, &[]);
    assert_eq!(story.assignment(sync), "1");
    // The process that was replaced is told so.
    assert_eq!(
        story.group.heartbeat("b1", Some("B"), 1, story.now),
        Err(Error::FencedInstance)
    );
    assert_eq!(
        story.group.check_commit("b1", Some("B"), 1, story.now),
        Err(Error::FencedInstance)
    );
    assert_eq!(story.group.check_commit("b2", Some("B"), 1, story.now), Ok(()));

    // A leader that comes back does not assign: told another leader's id, or to skip.
    let a = story.join(static_member("a2", "A"));
    story.written();
    assert_eq!(&*story.joined(a).leader, "a1");
    assert!(story.joined(a).members.is_empty());
    let a = story.join(JoinRequest {
        can_skip_assignment: true,
        ..static_member("a3", "A")
    });
    story.written();
    assert_eq!(&*story.joined(a).leader, "a3");
    assert!(story.joined(a).skip_assignment);
    assert_eq!(story.joined(a).members.len(), 2);
    assert_eq!(story.group.state(), State::Stable);

    // By its instance id alone an administrator takes it out.
    assert_eq!(story.group.leave("", Some("B"), story.now).0, Ok("b2".into()));
    assert_eq!(story.group.leave("", Some("C"), story.now).0, Err(Error::UnknownMember));
    assert_eq!(
        story.group.leave("b2", Some("A"), story.now).0,
        Err(Error::FencedInstance)
    );
}

#[test]
fn two_processes_of_one_instance_fence_each_other_while_they_wait() {
    let mut story = Story::new();
    let first = story.join(static_member("a1", "A"));
    let second = story.join(static_member("a2", "A"));
    assert_eq!(story.refused(first), &Error::FencedInstance);
    story.pass(3_000);
    story.pass(3_000);
    assert_eq!(&*story.joined(second).member_id, "a2");
}

#[test]
fn a_full_group_takes_nobody_more() {
    let mut story = Story::with(Config {
        max_size: 2,
        ..Config::default()
    });
    story.join(member("a"));
    story.join(member("b"));
    let c = story.join(member("c"));
    assert_eq!(story.refused(c), &Error::Full { max: 2 });
}

#[test]
fn session_timeouts_have_bounds() {
    let mut story = Story::new();
    for session_timeout_ms in [0, 5_999, 1_800_001] {
        let token = story.join(JoinRequest {
            session_timeout_ms,
            ..member("a")
        });
        assert!(matches!(story.refused(token), Error::InvalidSessionTimeout { .. }));
    }
    assert!(story.group.is_idle());
}

#[test]
fn a_group_comes_back_from_the_log_as_it_was() {
    let mut story = Story::stable();
    let metadata = story.group.metadata(None);
    story.group = Group::restore("g".into(), Config::default(), metadata, story.now);
    assert_eq!(story.group.state(), State::Stable);
    assert_eq!(story.heartbeat("a", 1), Ok(()));
    assert_eq!(story.commit("b", 1), Ok(()));
    let sync = story.sync("b", 1, &[]);
    assert_eq!(story.assignment(sync), "1");
    story.pass(10_000);
    assert_eq!(
        story.heartbeat("a", 1),
        Err(Error::UnknownMember),
        "one session to show that they live"
    );
}
