//! The group coordinator: drives the state machines of [`crate::groups`] with timers and with the log.
//!
//! A group's lock is held from the check of a request to `storage.submit`, so that the check and the place in the log
//! are one step. What comes back from the log is applied by one task, in log order, and only then is it visible.
//!
//! - [`commits`]: offsets in and out. - [`admin`]: list, describe, delete.
//! - [`load`]: from the log, at start. - [`upkeep`]: expiry, and the rewriting of a log that has grown.
//! - [`timers`]: sessions and rebalances. - [`journal`]: from records to write sets, and back when they are durable.
//! - [`damage`]: what could not be loaded. - `simulation`: all of it on a simulated disk. - [`memory`]: the bound on what members hold.

mod admin;
mod commits;
mod damage;
#[cfg(test)]
pub(crate) mod damage_tests;
mod journal;
mod load;
mod memory;
#[cfg(test)]
mod memory_tests;
#[cfg(any(test, feature = "simulation"))]
pub mod simulation;
#[cfg(test)]
mod tests;
mod timers;
mod upkeep;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::{Mutex, RwLock};
use riverlog_storage::{Storage, Topic};
use tokio::sync::{mpsc, oneshot, watch};

use super::BrokerError;
use super::topics::job_state_topic;
use crate::groups::{
    Action, Config, Error, Group, JoinRequest, Joined, MemberId, Now, Offsets, Refused, SyncRequest, Synced, Ticket,
    Token, record,
};

pub use admin::{DescribedGroup, DescribedMember, ListedGroup};
pub use commits::{CommitRequest, FetchedOffset, JobOffset, Wanted};

use damage::Damaged;
use journal::Settled;
use timers::Timers;

/// The topic that holds groups and their offsets.
pub const OFFSETS_TOPIC: &str = "__consumer_offsets";

/// What an operator may set.
#[derive(Clone, Copy, Debug)]
pub struct GroupOptions {
    /// Sessions, delays and sizes.
    pub group: Config,
    /// `offset.metadata.max.bytes`
    pub offset_metadata_max_bytes: usize,
    /// `offsets.retention.minutes`, in milliseconds: how long the offsets of an empty group are kept.
    pub offsets_retention_ms: i64,
    /// `offsets.retention.check.interval.ms`
    pub upkeep_interval_ms: u64,
    /// How many groups there may be.
    pub max_groups: usize,
    /// How many bytes the members of all groups may hold together.
    pub max_members_bytes: usize,
}

impl Default for GroupOptions {
    fn default() -> Self {
        Self {
            group: Config::default(),
            offset_metadata_max_bytes: 4_096,
            offsets_retention_ms: 7 * 24 * 60 * 60 * 1_000,
            upkeep_interval_ms: 60_000,
            max_groups: 100_000,
            max_members_bytes: 256 * 1024 * 1024,
        }
    }
}

/// Coordinates every group of the broker.
pub struct GroupCoordinator {
    shared: Arc<Shared>,
}

struct Shared {
    storage: Storage,
    options: GroupOptions,
    /// Partitions of [`OFFSETS_TOPIC`], should it have to be created.
    partitions: u32,
    topic: RwLock<Option<Arc<Topic>>>,
    creating: tokio::sync::Mutex<()>,
    slots: RwLock<BTreeMap<Arc<str>, Arc<Slot>>>,
    /// Partitions of [`OFFSETS_TOPIC`] that could not be loaded, and why. Their groups are not served.
    unavailable: BTreeMap<u32, Arc<str>>,
    /// Groups of which a record cannot be read. They are not served either.
    damaged: RwLock<HashMap<Arc<str>, Damaged>>,
    /// What the members of all groups hold, and what those bring who are joining at this moment.
    members_bytes: AtomicUsize,
    settled: mpsc::UnboundedSender<Settled>,
    timers: Arc<Timers>,
    tokens: AtomicU64,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.timers.close();
    }
}

/// A group's place in the coordinator.
struct Slot {
    id: Arc<str>,
    state: Mutex<SlotState>,
    /// The last commit that is known to be published or refused.
    settled: watch::Sender<Ticket>,
}

struct SlotState {
    group: Group,
    offsets: Offsets,
    /// The membership as the log has it, and the write that put it there; none if the log has none.
    written: Option<(Ticket, record::GroupMetadata)>,
    /// Writes of the membership that are on their way.
    memberships: usize,
    /// What the members were counted to hold.
    members_bytes: usize,
    joins: HashMap<Token, oneshot::Sender<Result<Joined, Refused>>>,
    syncs: HashMap<Token, oneshot::Sender<Result<Synced, Error>>>,
    /// No longer in the map: whoever still holds the slot has to look again.
    removed: bool,
}

impl Slot {
    fn new(id: Arc<str>, group: Group) -> Arc<Self> {
        let state = SlotState {
            group,
            offsets: Offsets::default(),
            written: None,
            memberships: 0,
            members_bytes: 0,
            joins: HashMap::new(),
            syncs: HashMap::new(),
            removed: false,
        };
        Arc::new(Self {
            id,
            state: Mutex::new(state),
            settled: watch::Sender::new(0),
        })
    }
}

impl SlotState {
    /// Whether the log holds, or is about to hold, the group's membership.
    fn has_membership(&self) -> bool {
        self.written.is_some() || self.memberships > 0
    }
}

impl GroupCoordinator {
    /// Loads the groups from the log and begins to serve them.
    pub async fn open(storage: Storage, options: GroupOptions, partitions: u32) -> Result<Self, BrokerError> {
        let (settled, receiver) = mpsc::unbounded_channel();
        let reader = storage.clone();
        let loaded = tokio::task::spawn_blocking(move || load::load(&reader, &options));
        let loaded = loaded.await.map_err(|_| BrokerError::Abandoned)?;
        let shared = Arc::new(Shared {
            topic: RwLock::new(storage.catalog().topic(OFFSETS_TOPIC).cloned()),
            storage,
            options,
            partitions,
            creating: tokio::sync::Mutex::new(()),
            slots: RwLock::new(loaded.slots),
            unavailable: loaded.unavailable,
            damaged: RwLock::new(loaded.damaged),
            members_bytes: AtomicUsize::new(0),
            settled,
            timers: Arc::new(Timers::default()),
            tokens: AtomicU64::new(1),
        });
        let slots: Vec<Arc<Slot>> = shared.slots.read().values().cloned().collect();
        for slot in slots {
            let mut state = slot.state.lock();
            shared.account(&mut state);
            shared.arm(&slot, &state);
        }
        tokio::spawn(journal::apply(Arc::downgrade(&shared), receiver));
        tokio::spawn(timers::run(
            Arc::downgrade(&shared),
            shared.timers.clone(),
            shared.storage.clock(),
        ));
        tokio::spawn(upkeep::run(Arc::downgrade(&shared)));
        Ok(Self { shared })
    }

    /// What the operator decided.
    pub fn options(&self) -> &GroupOptions {
        &self.shared.options
    }

    /// A member joins; the answer comes when the rebalance ends.
    pub async fn join(&self, group: &str, request: JoinRequest) -> Result<Joined, Refused> {
        let member_id = request.member_id.clone();
        let refused = move |error| Refused {
            error,
            member_id: member_id.clone(),
        };
        self.shared.check_group(group, Access::Change).map_err(&refused)?;
        self.shared.ensure_topic().await.map_err(&refused)?;
        // Only a member without an id can be the first of a group.
        let create = request.member_id.is_empty();
        let (sender, receiver) = oneshot::channel();
        let token = self.shared.token();
        let joined = self.shared.with(group, create, |slot, state| {
            let _room = self.shared.find_room(state.group.grows_by(&request))?;
            state.joins.insert(token, sender);
            let actions = state.group.join(request, token, self.shared.now());
            self.shared.run(slot, state, actions);
            Ok(())
        });
        let joined = joined.and_then(|result| result);
        joined.map_err(|error| {
            refused(if error == Error::NotFound {
                Error::UnknownMember
            } else {
                error
            })
        })?;
        receiver
            .await
            .unwrap_or_else(|_| Err(refused(Error::not_available("the broker is shutting down"))))
    }

    /// A member asks for its assignment; the answer comes when the leader's is durable.
    pub async fn sync(&self, group: &str, request: SyncRequest) -> Result<Synced, Error> {
        self.shared.check_group(group, Access::Change)?;
        self.shared.ensure_topic().await?;
        let (sender, receiver) = oneshot::channel();
        let token = self.shared.token();
        self.shared.with_members(group, |slot, state| {
            let _room = self.shared.find_room(request.assignments_bytes())?;
            state.syncs.insert(token, sender);
            let actions = state.group.sync(request, token, self.shared.now());
            self.shared.run(slot, state, actions);
            Ok(())
        })??;
        receiver
            .await
            .unwrap_or_else(|_| Err(Error::not_available("the broker is shutting down")))
    }

    /// A member shows that it is alive.
    pub fn heartbeat(
        &self,
        group: &str,
        member_id: &str,
        instance_id: Option<&str>,
        generation: i32,
    ) -> Result<(), Error> {
        self.shared.check_group(group, Access::Change)?;
        let now = self.shared.now();
        // A heartbeat only moves deadlines away, so the timers need not hear of it.
        self.shared.with_members(group, |_, state| {
            state.group.heartbeat(member_id, instance_id, generation, now)
        })?
    }

    /// A member leaves.
    pub fn leave(&self, group: &str, member_id: &str, instance_id: Option<&str>) -> Result<MemberId, Error> {
        self.shared.check_group(group, Access::Change)?;
        self.shared.with_members(group, |slot, state| {
            let (result, actions) = state.group.leave(member_id, instance_id, self.shared.now());
            self.shared.run(slot, state, actions);
            result
        })?
    }

    /// Makes sure that a job can commit to its group. That clients cannot, any more, follows from the topic of the job's state.
    pub async fn prepare_for_job(&self, group: &str) -> Result<(), Error> {
        self.shared.check_group(group, Access::Look)?;
        self.shared.ensure_topic().await.map(|_| ())
    }

    /// The partition of [`OFFSETS_TOPIC`] that holds a group.
    pub fn partition_of(&self, group: &str) -> u32 {
        self.shared.partition_of(group)
    }

    /// Whether a group can be served here.
    pub fn check_available(&self, group: &str) -> Result<(), Error> {
        self.shared.check_group(group, Access::Look)
    }
}

/// What a request wants with a group.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    Look,
    Change,
}

impl Shared {
    fn now(&self) -> Now {
        let clock = self.storage.clock();
        Now {
            monotonic_ms: clock.monotonic_ms(),
            wall_ms: clock.now_ms(),
        }
    }

    fn token(&self) -> Token {
        self.tokens.fetch_add(1, Ordering::Relaxed)
    }

    fn partition_of(&self, group: &str) -> u32 {
        let partitions = self
            .topic
            .read()
            .as_ref()
            .map_or(self.partitions, |topic| topic.partitions.len() as u32);
        partition_for_group(group, partitions)
    }

    fn check_group(&self, group: &str, access: Access) -> Result<(), Error> {
        if let Some(reason) = self.unavailable.get(&self.partition_of(group)) {
            return Err(Error::NotAvailable(reason.clone()));
        }
        if let Some(damaged) = self.damaged.read().get(group) {
            return Err(Error::NotAvailable(damaged.reason.clone()));
        }
        if access == Access::Change && self.is_of_job(group) {
            return Err(Error::Reserved);
        }
        Ok(())
    }

    /// Whether a group belongs to one of the processor's jobs, running or not: clients may look, not touch.
    fn is_of_job(&self, group: &str) -> bool {
        self.storage.catalog().topic(&job_state_topic(group)).is_some()
    }

    /// Works on a group under its lock. A group that does not exist is created if `create` says so.
    fn with<R>(
        &self,
        group: &str,
        create: bool,
        work: impl FnOnce(&Arc<Slot>, &mut SlotState) -> R,
    ) -> Result<R, Error> {
        loop {
            let found = self.slots.read().get(group).cloned();
            let slot = match found {
                Some(slot) => slot,
                None if create => self.create_slot(group)?,
                None => return Err(Error::NotFound),
            };
            let mut state = slot.state.lock();
            if state.removed {
                continue;
            }
            let result = work(&slot, &mut state);
            return Ok(result);
        }
    }

    /// The same for requests that only a member can make.
    fn with_members<R>(&self, group: &str, work: impl FnOnce(&Arc<Slot>, &mut SlotState) -> R) -> Result<R, Error> {
        self.with(group, false, work).map_err(|error| match error {
            Error::NotFound => Error::UnknownMember,
            other => other,
        })
    }

    fn create_slot(&self, group: &str) -> Result<Arc<Slot>, Error> {
        let mut slots = self.slots.write();
        if let Some(slot) = slots.get(group) {
            return Ok(slot.clone());
        }
        if slots.len() >= self.options.max_groups {
            return Err(Error::not_available(format_args!(
                "there are {} groups already",
                slots.len()
            )));
        }
        let id: Arc<str> = group.into();
        let slot = Slot::new(id.clone(), Group::new(id.clone(), self.options.group, self.now()));
        slots.insert(id, slot.clone());
        Ok(slot)
    }

    /// Takes a group that holds nothing out of the map.
    fn remove_slot(&self, slot: &Arc<Slot>, state: &mut SlotState) {
        state.removed = true;
        // The lock order is map before slot, so the map is only tried here; the upkeep tries again.
        match self.slots.try_write() {
            Some(mut slots) => {
                slots.remove(&slot.id);
            }
            None => state.removed = false,
        }
    }

    /// Does what a group decided.
    fn run(&self, slot: &Arc<Slot>, state: &mut SlotState, actions: Vec<Action>) {
        for action in actions {
            match action {
                // Whoever asked may be gone; the decision stands.
                Action::Join(token, answer) => {
                    if let Some(sender) = state.joins.remove(&token) {
                        let _ = sender.send(answer);
                    }
                }
                Action::Sync(token, answer) => {
                    if let Some(sender) = state.syncs.remove(&token) {
                        let _ = sender.send(answer);
                    }
                }
                Action::Persist(id, metadata) => self.persist(slot, state, Some(id), metadata),
            }
        }
        self.account(state);
        self.arm(slot, state);
    }

    fn arm(&self, slot: &Slot, state: &SlotState) {
        if let Some(deadline) = state.group.next_deadline() {
            self.timers.add(deadline, &slot.id);
        }
    }

    /// Time has passed for a group.
    fn tick(&self, group: &str) {
        let _ = self.with(group, false, |slot, state| {
            let actions = state.group.tick(self.now());
            self.run(slot, state, actions);
            let void = state.group.is_idle() && state.offsets.is_empty() && !state.has_membership();
            if void {
                self.remove_slot(slot, state);
            }
        });
    }
}

/// The partition of [`OFFSETS_TOPIC`] that holds a group: Kafka's rule, Java's `String.hashCode` without its sign.
fn partition_for_group(group: &str, partitions: u32) -> u32 {
    let hash = group
        .encode_utf16()
        .fold(0i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
    let hash = if hash == i32::MIN { 0 } else { hash.unsigned_abs() };
    hash % partitions.max(1)
}
