//! Consumer groups of the classic protocol, as pure state machines: events and the time go in, decisions come out.
//! No I/O, no clock, no randomness of their own, so that millions of histories can be tried in a test.
//!
//! [`Group`] holds membership and generations, [`Offsets`] what a group has committed, [`record`] is how both stand
//! in `__consumer_offsets`. The broker's coordinator drives them.

mod error;
mod group;
mod join;
mod member;
mod offsets;
mod presence;
#[cfg(test)]
mod property_tests;
mod rebalance;
pub mod record;
#[cfg(test)]
mod record_tests;
mod subscription;
mod sync;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::Bytes;

pub use error::Error;
pub use group::{Group, State};
pub use join::JoinRequest;
pub use member::{Member, MemberId, Protocol};
pub use offsets::{Committed, Offsets, Ticket};
pub use subscription::subscribed_topics;
pub use sync::SyncRequest;

/// Names a request that waits for its answer.
pub type Token = u64;
/// Names a write of a group's metadata.
pub type WriteId = u64;

/// The time, both ways of counting it: sessions and time-outs use the monotonic clock, what is stored the wall clock.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// Milliseconds that only ever grow.
    pub monotonic_ms: u64,
    /// Milliseconds since 1970.
    pub wall_ms: i64,
}

/// What an operator may set.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// `group.initial.rebalance.delay.ms`
    pub initial_rebalance_delay_ms: u64,
    /// `group.min.session.timeout.ms`
    pub min_session_timeout_ms: u64,
    /// `group.max.session.timeout.ms`
    pub max_session_timeout_ms: u64,
    /// `group.max.size`
    pub max_size: usize,
    /// How many bytes the protocols of a member, or its assignment, may have.
    pub max_member_bytes: usize,
    /// How long a member may wait in its first JoinGroup, when it cannot send heartbeats yet.
    pub new_member_join_timeout_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            initial_rebalance_delay_ms: 3_000,
            min_session_timeout_ms: 6_000,
            max_session_timeout_ms: 1_800_000,
            max_size: 10_000,
            max_member_bytes: 1024 * 1024,
            new_member_join_timeout_ms: 300_000,
        }
    }
}

/// What the group decided.
#[derive(Clone, Debug)]
pub enum Action {
    /// Answer a JoinGroup.
    Join(Token, Result<Joined, Refused>),
    /// Answer a SyncGroup.
    Sync(Token, Result<Synced, Error>),
    /// Write this to the log before anything else of this group, then call [`Group::persisted`].
    Persist(WriteId, record::GroupMetadata),
}

/// A JoinGroup that was refused, with the member id that the answer carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Why.
    pub error: Error,
    /// The id the member has, or shall join again with.
    pub member_id: MemberId,
}

/// A member's place in a generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// The member's id.
    pub member_id: MemberId,
    /// The generation.
    pub generation: i32,
    /// The group's protocol type.
    pub protocol_type: Option<Arc<str>>,
    /// The protocol that was chosen.
    pub protocol: Option<Arc<str>>,
    /// The member that assigns.
    pub leader: MemberId,
    /// Everybody, for the leader; empty for the others.
    pub members: Vec<JoinedMember>,
    /// The leader shall keep the assignment that stands.
    pub skip_assignment: bool,
}

/// What the leader learns of a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinedMember {
    /// The member's id.
    pub id: MemberId,
    /// `group.instance.id` of a static member.
    pub instance_id: Option<Arc<str>>,
    /// Its subscription in the chosen protocol.
    pub metadata: Bytes,
}

/// A member's assignment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Synced {
    /// The group's protocol type.
    pub protocol_type: Option<Arc<str>>,
    /// The protocol that was chosen.
    pub protocol: Option<Arc<str>>,
    /// What the leader assigned to the member.
    pub assignment: Bytes,
}
