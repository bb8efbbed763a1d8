//! What is done now and then: offsets expire, groups that hold nothing go, logs that have grown are rewritten.

use std::sync::{Arc, Weak};
use std::time::Duration;

use riverlog_storage::{Change, LogId, WriteSet};
use tokio::sync::oneshot;

use super::commits::{is_orphan, outcome};
use super::journal::{Changes, Written, appends};
use super::{Shared, Slot, SlotState};
use crate::groups::{Committed, Error, State};

/// A log of fewer records, and of fewer bytes, is not worth rewriting.
const REWRITE_MIN_RECORDS: i64 = 10_000;
const REWRITE_MIN_BYTES: u64 = 64 * 1024 * 1024;
/// A log is rewritten when it holds this many times what lives in it.
const REWRITE_FACTOR: i64 = 4;
/// How often a rewrite waits for a group's commits before it gives up until the next round.
const REWRITE_ROUNDS: usize = 20;

pub(super) async fn run(shared: Weak<Shared>) {
    loop {
        let Some(interval_ms) = shared.upgrade().map(|shared| shared.options.upkeep_interval_ms) else {
            return;
        };
        tokio::time::sleep(Duration::from_millis(interval_ms)).await;
        let Some(shared) = shared.upgrade() else { return };
        shared.expire().await;
        shared.rewrite_grown().await;
    }
}

impl Shared {
    /// Forgets offsets whose time has come, and groups that hold nothing.
    pub(super) async fn expire(&self) {
        let slots: Vec<Arc<Slot>> = self.slots.read().values().cloned().collect();
        for slot in slots {
            let answer = {
                let mut state = slot.state.lock();
                self.expire_slot(&slot, &mut state)
            };
            if let Ok(Some(answer)) = answer {
                // A refusal is logged where it is applied; the next round tries again.
                let _ = outcome(answer).await;
            }
        }
    }

    fn expire_slot(
        &self,
        slot: &Arc<Slot>,
        state: &mut SlotState,
    ) -> Result<Option<oneshot::Receiver<Result<riverlog_storage::Receipt, riverlog_storage::WriteError>>>, Error> {
        if state.removed || state.offsets.in_doubt() {
            return Ok(None);
        }
        let of_job = self.is_of_job(&slot.id);
        let expired = self.expired(state, of_job);
        let left = state.offsets.all_assigned().count() - expired.len();
        let (reply, answer) = oneshot::channel();
        if left == 0 && state.group.is_idle() && !of_job {
            if !state.has_membership() && expired.is_empty() {
                if state.offsets.is_empty() {
                    self.remove_slot(slot, state);
                }
                return Ok(None);
            }
            let mut records = self.offset_records(&slot.id, &expired)?;
            records.push(self.end_of_membership(&slot.id)?);
            let appends = appends(self.log_of(&slot.id)?, records).map_err(Error::not_available)?;
            state.group.kill()?;
            let ticket = state.offsets.submit(&expired);
            let written = Written::Deletion {
                ticket,
                changes: expired,
                reply,
            };
            self.write(
                slot,
                WriteSet {
                    appends,
                    ..WriteSet::default()
                },
                written,
            );
        } else if !expired.is_empty() {
            self.submit_offsets(slot, state, expired, WriteSet::default(), Some(reply))?;
        } else {
            return Ok(None);
        }
        Ok(Some(answer))
    }

    /// Offsets of deleted topics, and those of an empty group that are older than the retention. A job's group stays.
    fn expired(&self, state: &SlotState, of_job: bool) -> Changes {
        let catalog = self.storage.catalog();
        let now_ms = self.now().wall_ms;
        let group = &state.group;
        let empty = group.state() == State::Empty;
        let expired = |committed: &Committed| {
            if is_orphan(&catalog, committed) || of_job {
                return is_orphan(&catalog, committed);
            }
            let base_ms = if group.protocol_type().is_some() {
                group.since_ms()
            } else {
                committed.commit_time_ms
            };
            let deadline_ms = match committed.expire_time_ms {
                Some(deadline_ms) => deadline_ms,
                None => base_ms
                    .max(committed.commit_time_ms)
                    .saturating_add(self.options.offsets_retention_ms),
            };
            empty && now_ms >= deadline_ms
        };
        let assigned = state
            .offsets
            .all_assigned()
            .filter(|(_, _, committed)| expired(committed));
        assigned
            .map(|(topic, partition, _)| (topic.clone(), partition, None))
            .collect()
    }

    /// Rewrites the logs that hold mostly what no longer counts.
    pub(super) async fn rewrite_grown(&self) {
        let Some(topic) = self.topic.read().clone() else { return };
        for (partition, log) in topic.partitions.iter().enumerate() {
            let Some(ends) = self.storage.ends(*log) else { continue };
            let records = ends.high_watermark - ends.start;
            let small = records < REWRITE_MIN_RECORDS && ends.size_bytes < REWRITE_MIN_BYTES;
            if small || !self.is_readable(partition as u32) {
                continue;
            }
            let slots = self.slots_of(partition as u32);
            let live: usize = slots
                .iter()
                .map(|slot| slot.state.lock().offsets.all_assigned().count() + 1)
                .sum();
            if records < (live as i64).saturating_mul(REWRITE_FACTOR) {
                continue;
            }
            match self.rewrite(*log, slots, ends.high_watermark).await {
                Ok(()) => tracing::debug!(partition, records, live, "offsets rewritten"),
                Err(error) => tracing::warn!(partition, %error, "offsets cannot be rewritten"),
            }
        }
    }

    pub(super) fn slots_of(&self, partition: u32) -> Vec<Arc<Slot>> {
        let slots = self.slots.read();
        slots
            .values()
            .filter(|slot| self.partition_of(&slot.id) == partition)
            .cloned()
            .collect()
    }

    /// Writes everything that lives once more, then drops the log below `end`, which was the published end before the
    /// groups were listed. What stands below it belongs to a listed group, and is written again above it unless
    /// something newer is there. A crash in between leaves the same state twice.
    pub(super) async fn rewrite(&self, log: LogId, slots: Vec<Arc<Slot>>, end: i64) -> Result<(), Error> {
        for slot in slots {
            self.rewrite_slot(&slot).await?;
        }
        let changes = vec![Change::MoveLogStart { log, offset: end }];
        let (sender, receiver) = oneshot::channel();
        self.storage.submit(
            WriteSet {
                changes,
                ..WriteSet::default()
            },
            move |result| {
                let _ = sender.send(result);
            },
        );
        outcome(receiver).await.map(|_| ())
    }

    /// Commits that are on their way may still be refused, so an offset is written again only when none is; one that
    /// was committed anew since the beginning needs no rewriting.
    async fn rewrite_slot(&self, slot: &Arc<Slot>) -> Result<(), Error> {
        let mut settled = slot.settled.subscribe();
        let mut submitted = slot.state.lock().offsets.submitted();
        let began = submitted;
        for _ in 0..REWRITE_ROUNDS {
            // The slot keeps the sender alive.
            let _ = settled.wait_for(|settled| *settled >= submitted).await;
            let mut state = slot.state.lock();
            if state.removed {
                return Ok(());
            }
            if state.offsets.in_doubt() {
                return Err(Error::not_available("a commit is in doubt"));
            }
            let dying = state.group.state() == State::Dead;
            let (untouched, on_the_way) = state.offsets.untouched_since(began);
            let old = state.written.clone().filter(|(ticket, _)| *ticket <= began);
            if !dying && !untouched.is_empty() {
                self.submit_offsets(slot, &mut state, untouched.clone(), WriteSet::default(), None)?;
            }
            if let Some((_, metadata)) = old.clone().filter(|_| !dying && state.memberships == 0) {
                self.persist(slot, &mut state, None, metadata);
            }
            if !dying && untouched.is_empty() && !on_the_way && old.is_none() {
                return Ok(());
            }
            submitted = state.offsets.submitted();
        }
        Err(Error::not_available("the group never came to rest"))
    }
}
