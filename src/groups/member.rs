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

impl Member {
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
