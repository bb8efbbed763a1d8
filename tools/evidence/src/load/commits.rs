//! A group that commits rising offsets.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use anyhow::{Context, ensure};
use riverlog_client::{Client, CommittedOffset};

use super::{MAIN_TOPIC, Setting};
use crate::patience::{connect, patiently};

/// Its name.
pub const GROUP: &str = "evidence-group";

/// What was committed.
#[derive(Debug)]
pub struct Commits {
    /// Acknowledged.
    certain: AtomicI64,
    /// Sent, and perhaps written.
    possible: AtomicI64,
}

impl Default for Commits {
    fn default() -> Self {
        Self {
            certain: AtomicI64::new(-1),
            possible: AtomicI64::new(-1),
        }
    }
}

impl Commits {
    /// Looks what is committed, and commits the next. It need not be an offset that the topic has.
    pub(super) async fn commit(self: Arc<Self>, setting: Setting) -> anyhow::Result<()> {
        let client = connect(&setting.address).await?;
        for offset in 0.. {
            if setting.is_stopped() {
                break;
            }
            self.possible.store(offset, Ordering::SeqCst);
            let metadata = format!("at {offset}");
            let commit = BTreeMap::from([((MAIN_TOPIC.to_owned(), 0), CommittedOffset { offset, metadata })]);
            patiently(|| client.commit(GROUP, &commit)).await?;
            self.certain.store(offset, Ordering::SeqCst);
            // The next commit would hide that this one was lost.
            self.verify(&client).await?;
        }
        Ok(())
    }

    /// # Errors
    /// When what is committed is older than what was acknowledged, or from nowhere.
    pub async fn verify(&self, client: &Client) -> anyhow::Result<()> {
        let committed = patiently(|| client.committed(GROUP)).await?;
        let found = committed.get(&(MAIN_TOPIC.to_owned(), 0));
        let found = found.context("LOST: the group has no offset")?;
        let (certain, possible) = (
            self.certain.load(Ordering::SeqCst),
            self.possible.load(Ordering::SeqCst),
        );
        ensure!(
            (certain..=possible).contains(&found.offset),
            "{found:?} is committed; acknowledged was {certain}, sent {possible}"
        );
        ensure!(
            found.metadata == format!("at {}", found.offset),
            "{found:?}: not its metadata"
        );
        Ok(())
    }
}
