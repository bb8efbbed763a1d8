//! One member of a group.

use std::sync::Arc;

use bytes::Bytes;

use super::Token;

/// The id that the coordinator gave a member.
pub type MemberId = Arc<str>;

/// One way of assigning partitions that a member supports, with what it wants assigned. The metadata is opaque.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Protocol {
    /// Name of the assignor.
    pub name: Arc<str>,
    /// The member's subscription, in the assignor's own encoding.
    pub metadata: Bytes,
}

/// A member that has joined at least once.
#[derive(Clone, Debug)]
pub struct Member {
    /// The member's id.
    pub id: MemberId,
    /// `group.instance.id` of a static member.
    pub instance_id: Option<Arc<str>>,
    /// The client's own name.
    pub client_id: Arc<str>,
    /// The address the client joined from.
    pub client_host: Arc<str>,
    /// How long the member may be silent.
    pub session_timeout_ms: u64,
    /// How long a rebalance waits for the member.
    pub rebalance_timeout_ms: u64,
    /// What the member supports, best first.
    pub protocols: Vec<Protocol>,
    /// What the leader assigned to the member in this generation.
    pub assignment: Bytes,
    /// The JoinGroup that waits for the rebalance to end.
    pub(super) awaiting_join: Option<Token>,
    /// The SyncGroup that waits for the leader's assignment.
    pub(super) awaiting_sync: Option<Token>,
    /// The member has never been told its generation, so it cannot send heartbeats yet.
    pub(super) is_new: bool,
    /// When the member is given up, unless it is heard of; none while the coordinator owes it an answer.
    pub(super) session_deadline: Option<u64>,
}

/// What the structures around it take, of a member and of each of its protocols; measured roughly, and rounded up.
const MEMBER_OVERHEAD_BYTES: usize = 512;
const PROTOCOL_OVERHEAD_BYTES: usize = 192;

/// The memory that protocols take.
pub(super) fn protocols_bytes(protocols: &[Protocol]) -> usize {
    let bytes = |protocol: &Protocol| protocol.name.len() + protocol.metadata.len() + PROTOCOL_OVERHEAD_BYTES;
    protocols.iter().map(bytes).sum()
}

/// The memory that a member takes besides its protocols and its assignment. Its id stands in several places.
pub(super) fn names_bytes(id: &str, instance_id: Option<&str>, client_id: &str) -> usize {
    MEMBER_OVERHEAD_BYTES + id.len() + instance_id.map_or(0, str::len) + client_id.len()
}

impl Member {
    /// The memory that the member takes, without its assignment.
    pub(super) fn own_bytes(&self) -> usize {
        names_bytes(&self.id, self.instance_id.as_deref(), &self.client_id) + protocols_bytes(&self.protocols)
    }

    /// The metadata that goes with a protocol.
    pub fn metadata_for(&self, protocol: &str) -> Bytes {
        self.protocols
            .iter()
            .find(|candidate| &*candidate.name == protocol)
            .map(|candidate| candidate.metadata.clone())
            .unwrap_or_default()
    }

    /// The member was heard of: its session starts anew.
    pub(super) fn touch(&mut self, now_ms: u64) {
        self.session_deadline = Some(now_ms.saturating_add(self.session_timeout_ms));
    }
}
