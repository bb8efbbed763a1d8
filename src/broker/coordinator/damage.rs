//! What the log does not tell any more: partitions and groups that could not be loaded.

use std::sync::Arc;

use riverlog_storage::WriteSet;
use tokio::sync::oneshot;

use super::commits::outcome;
use super::journal::appends;
use super::{GroupCoordinator, OFFSETS_TOPIC, Shared};
use crate::groups::{Error, record};

/// A group of which a record cannot be read. Nobody knows what it was, so it is not served.
pub(super) struct Damaged {
    pub reason: Arc<str>,
    /// Everything that the log holds of it.
    pub keys: Vec<record::Key>,
}

impl GroupCoordinator {
    /// Why groups are not served, if some are not.
    pub fn troubles(&self) -> Vec<String> {
        let partitions = self.shared.unavailable.values();
        let mut troubles: Vec<String> = partitions.map(|reason| reason.to_string()).collect();
        let damaged = self.shared.damaged.read().len();
        if damaged > 0 {
            troubles.push(format!(
                "records of {damaged} groups in {OFFSETS_TOPIC} cannot be read (the log of the start names them); \
                 these groups are not served until they are deleted"
            ));
        }
        troubles
    }
}

impl Shared {
    pub(super) fn is_damaged(&self, group: &str) -> bool {
        self.damaged.read().contains_key(group)
    }

    /// Whether everything in a partition is known. Only then may it be rewritten: what could not be read would be gone.
    pub(super) fn is_readable(&self, partition: u32) -> bool {
        let damaged = self.damaged.read();
        let mut damaged = damaged.keys().map(|group| self.partition_of(group));
        !self.unavailable.contains_key(&partition) && damaged.all(|other| other != partition)
    }

    /// The way out for a group that cannot be read: all that the log holds of it is ended, and it may begin anew.
    pub(super) async fn delete_damaged(&self, group: &str) -> Result<(), Error> {
        let (sender, answer) = oneshot::channel();
        {
            // Held until the end is submitted: a second deletion must not come behind what the group, begun anew, commits.
            let damaged = self.damaged.read();
            let keys = damaged
                .get(group)
                .map(|damaged| damaged.keys.iter())
                .ok_or(Error::NotFound)?;
            let records = keys.map(|key| Ok(self.record(key.encode()?, None)));
            let records = records
                .collect::<Result<Vec<_>, record::EncodeError>>()
                .map_err(Error::not_storable)?;
            let write_set = WriteSet {
                appends: appends(self.log_of(group)?, records).map_err(Error::not_available)?,
                ..WriteSet::default()
            };
            self.storage.submit(write_set, move |result| {
                let _ = sender.send(result);
            });
        }
        outcome(answer).await?;
        self.damaged.write().remove(group);
        Ok(())
    }
}
