//! From records to write sets, and what happens when they are durable.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use riverlog_storage::batch::{BatchBuilder, BatchError};
use riverlog_storage::record::Record;
use riverlog_storage::{Append, Change, LogId, Receipt, Topic, WriteError, WriteSet};
use tokio::sync::{mpsc, oneshot};

use super::{OFFSETS_TOPIC, Shared, Slot, SlotState};
use crate::groups::{Committed, Error, Ticket, WriteId, record};

/// A batch of ours is closed when it has grown to this.
const BATCH_BYTES: usize = 512 * 1024;

pub(super) type Changes = Vec<(Arc<str>, i32, Option<Committed>)>;
pub(super) type Reply = oneshot::Sender<Result<Receipt, WriteError>>;

/// What was written for a group, to be applied when the log says how it went.
pub(super) enum Written {
    Membership {
        id: Option<WriteId>,
        ticket: Ticket,
        metadata: record::GroupMetadata,
    },
    Offsets {
        ticket: Ticket,
        changes: Changes,
        reply: Option<Reply>,
    },
    Deletion {
        ticket: Ticket,
        changes: Changes,
        reply: Reply,
    },
}

/// A write that has come to its end.
pub(super) struct Settled {
    slot: Arc<Slot>,
    written: Written,
    result: Result<Receipt, WriteError>,
}

impl Shared {
    /// The offsets topic, created at its first use.
    pub(super) async fn ensure_topic(&self) -> Result<Arc<Topic>, Error> {
        if let Some(topic) = self.topic.read().clone() {
            return Ok(topic);
        }
        let _one_at_a_time = self.creating.lock().await;
        if let Some(topic) = self.topic.read().clone() {
            return Ok(topic);
        }
        // Old records go when the coordinator has rewritten what lives, never by age or size.
        let configs = BTreeMap::from([
            ("retention.ms".to_owned(), "-1".to_owned()),
            ("retention.bytes".to_owned(), "-1".to_owned()),
            ("segment.bytes".to_owned(), (16 * 1024 * 1024).to_string()),
        ]);
        let create = Change::CreateTopic {
            name: OFFSETS_TOPIC.to_owned(),
            partitions: self.partitions,
            configs,
        };
        let (sender, receiver) = oneshot::channel();
        self.storage.submit(
            WriteSet {
                changes: vec![create],
                ..WriteSet::default()
            },
            move |result| {
                let _ = sender.send(result);
            },
        );
        let topic = match receiver.await {
            Ok(Ok(Receipt {
                created: Some(topic), ..
            })) => topic,
            Ok(Err(WriteError::TopicExists(_))) => {
                let found = self.storage.catalog().topic(OFFSETS_TOPIC).cloned();
                found.ok_or_else(|| Error::not_available("the offsets topic is being created"))?
            }
            Ok(Err(error)) => return Err(Error::not_available(error)),
            _ => return Err(Error::not_available("the broker is shutting down")),
        };
        *self.topic.write() = Some(topic.clone());
        Ok(topic)
    }

    /// The log that holds a group.
    pub(super) fn log_of(&self, group: &str) -> Result<LogId, Error> {
        let topic = self.topic.read().clone();
        let partition = self.partition_of(group) as usize;
        let log = topic.as_ref().and_then(|topic| topic.partitions.get(partition));
        log.copied()
            .ok_or_else(|| Error::not_available("the offsets topic does not exist yet"))
    }

    /// Hands a group's records to the log. Called under the group's lock: their order is the order of decisions.
    pub(super) fn write(&self, slot: &Arc<Slot>, write_set: WriteSet, written: Written) {
        let settled = self.settled.clone();
        let slot = slot.clone();
        // The answer may come before `submit` returns, so nothing here may take the lock that the caller holds.
        self.storage.submit(write_set, move |result| {
            let _ = settled.send(Settled { slot, written, result });
        });
    }

    /// Writes a group's membership; `id` names the decision that waits for it, if one does.
    pub(super) fn persist(
        &self,
        slot: &Arc<Slot>,
        state: &mut SlotState,
        id: Option<WriteId>,
        metadata: record::GroupMetadata,
    ) {
        let appends = self.membership(&slot.id, &metadata);
        state.memberships += 1;
        let ticket = state.offsets.submit(&[]);
        let written = Written::Membership { id, ticket, metadata };
        match appends {
            Ok(appends) => self.write(
                slot,
                WriteSet {
                    appends,
                    ..WriteSet::default()
                },
                written,
            ),
            Err(error) => {
                let result = Err(WriteError::InvalidConfig(error.to_string()));
                let _ = self.settled.send(Settled {
                    slot: slot.clone(),
                    written,
                    result,
                });
            }
        }
    }

    fn membership(&self, group: &str, metadata: &record::GroupMetadata) -> Result<Vec<Append>, Error> {
        let key = record::group_key(group).map_err(Error::not_storable)?;
        let value = record::group_value(metadata).map_err(Error::not_storable)?;
        appends(self.log_of(group)?, vec![self.record(key, Some(value))]).map_err(Error::not_available)
    }

    /// The end of a group's membership.
    pub(super) fn end_of_membership(&self, group: &str) -> Result<Record, Error> {
        let key = record::group_key(group).map_err(Error::not_storable)?;
        Ok(self.record(key, None))
    }

    /// A record of now.
    pub(super) fn record(&self, key: Bytes, value: Option<Bytes>) -> Record {
        Record {
            key: Some(key),
            value,
            headers: Vec::new(),
            timestamp_ms: self.storage.clock().now_ms(),
        }
    }

    /// The records of a change of offsets.
    pub(super) fn offset_records(&self, group: &str, changes: &Changes) -> Result<Vec<Record>, Error> {
        let records = changes.iter().map(|(topic, partition, committed)| {
            let value = committed.as_ref().map(record::offset_value).transpose()?;
            Ok(self.record(record::offset_key(group, topic, *partition)?, value))
        });
        let records: Result<_, record::EncodeError> = records.collect();
        records.map_err(Error::not_storable)
    }

    fn settle(&self, settled: Settled) {
        let Settled { slot, written, result } = settled;
        let mut state = slot.state.lock();
        if let Err(error) = &result {
            tracing::warn!(group = &*slot.id, %error, "a group's write was refused");
        }
        match written {
            Written::Membership { id, ticket, metadata } => {
                state.memberships = state.memberships.saturating_sub(1);
                if result.is_ok() {
                    state.written = Some((ticket, metadata));
                }
                state.settle_offsets(&slot, ticket, &Vec::new(), &result);
                if let Some(id) = id {
                    let result = result.map(|_| ()).map_err(|error| match error {
                        // To try again would not make it smaller.
                        WriteError::TooLarge { .. } => Error::not_storable(error),
                        _ => Error::not_available(error),
                    });
                    let actions = state.group.persisted(id, result, self.now());
                    self.run(&slot, &mut state, actions);
                }
            }
            Written::Offsets { ticket, changes, reply } => {
                state.settle_offsets(&slot, ticket, &changes, &result);
                if let Some(reply) = reply {
                    let _ = reply.send(result);
                }
            }
            Written::Deletion { ticket, changes, reply } => {
                state.settle_offsets(&slot, ticket, &changes, &result);
                if result.is_ok() {
                    state.removed = true;
                    drop(state);
                    self.slots.write().remove(&slot.id);
                } else {
                    state.group.revive();
                }
                let _ = reply.send(result);
            }
        }
    }
}

impl SlotState {
    fn settle_offsets(&mut self, slot: &Slot, ticket: Ticket, changes: &Changes, result: &Result<Receipt, WriteError>) {
        self.offsets.settle(ticket, changes, result.is_ok());
        // After these nobody can say whether the commit is in the log. The next start will know.
        if matches!(result, Err(WriteError::Poisoned(_) | WriteError::Closed)) {
            self.offsets.doubt();
        }
        slot.settled.send_replace(self.offsets.settled());
    }
}

/// Applies what comes back from the log, in log order.
pub(super) async fn apply(shared: Weak<Shared>, mut receiver: mpsc::UnboundedReceiver<Settled>) {
    while let Some(settled) = receiver.recv().await {
        let Some(shared) = shared.upgrade() else { return };
        shared.settle(settled);
    }
}

/// Batches for a log, none of them much larger than [`BATCH_BYTES`].
pub(super) fn appends(log: LogId, records: Vec<Record>) -> Result<Vec<Append>, BatchError> {
    let mut appends = Vec::new();
    let mut builder = BatchBuilder::new();
    let mut close = |builder: BatchBuilder| -> Result<(), BatchError> {
        appends.push(Append {
            log,
            batches: builder.build()?,
            log_append_time: false,
        });
        Ok(())
    };
    for record in records {
        builder.push(record);
        if builder.size_bytes() >= BATCH_BYTES {
            close(std::mem::take(&mut builder))?;
        }
    }
    if !builder.is_empty() {
        close(builder)?;
    }
    Ok(appends)
}
