//! Tables in state, to join a stream with: each key's versions of a value, by event time.
//!
//! Events that belong to the table are kept instead of processed; the rest of the job looks them up with
//! [`Table::get`] and [`Table::as_of`]. A window that closes sees every version up to its end, because the watermark that
//! closes it has passed the table's input too.

use std::time::Duration;

use serde::{Serialize, de::DeserializeOwned};

use super::{
    processor::{Context, Operator, ProcessError},
    state::MapState,
    timer::{Timer, TimerKind},
};

/// A table of `V` by key and event time.
#[derive(Debug)]
pub struct Table<V> {
    versions: MapState<i64, V>,
    retain_ms: i64,
}

impl<V: Serialize + DeserializeOwned> Table<V> {
    /// A table whose versions can be looked up until the watermark is `retain` past them. The last version is kept for ever.
    pub const fn new(name: &'static str, retain: Duration) -> Self {
        Self {
            versions: MapState::new(name),
            retain_ms: retain.as_millis() as i64,
        }
    }

    /// The version of exactly this time.
    pub fn get(&self, ctx: &Context<'_>, time_ms: i64) -> Result<Option<V>, ProcessError> {
        self.versions.get(ctx, &time_ms)
    }

    /// The version that was valid at this time: the last one up to it.
    pub fn as_of(&self, ctx: &Context<'_>, time_ms: i64) -> Result<Option<(i64, V)>, ProcessError> {
        self.versions.last_up_to(ctx, &time_ms)
    }

    fn put(&self, ctx: &mut Context<'_>, value: &V) -> Result<(), ProcessError> {
        let time_ms = ctx.time_ms();
        self.versions.put(ctx, &time_ms, value)?;
        ctx.set_timer(
            TimerKind::Event,
            self.versions.name(),
            time_ms.saturating_add(self.retain_ms),
            &[],
        );
        Ok(())
    }

    /// Forgets what can no longer be asked for: all versions before the last one that is old enough.
    fn expire(&self, timer: &Timer, ctx: &mut Context<'_>) -> Result<(), ProcessError> {
        let old_ms = timer.at_ms.saturating_sub(self.retain_ms);
        let mut expired = self.versions.range(ctx, ..=old_ms)?;
        expired.pop();
        for (time_ms, _) in expired {
            self.versions.remove(ctx, &time_ms);
        }
        Ok(())
    }
}

/// A table together with how its values are found among a job's events.
pub(super) trait TableInput<E>: Send + Sync {
    /// Keeps the event if it belongs to the table, and says so.
    fn keep(&self, event: &E, ctx: &mut Context<'_>) -> Result<bool, ProcessError>;
    /// Handles the timer if it is the table's, and says so.
    fn on_timer(&self, timer: &Timer, ctx: &mut Context<'_>) -> Result<bool, ProcessError>;
    fn operator(&self) -> Operator;
}

pub(super) struct Extracted<V: 'static, F> {
    pub table: &'static Table<V>,
    pub extract: F,
}

impl<E, V, F> TableInput<E> for Extracted<V, F>
where
    V: Serialize + DeserializeOwned,
    F: Fn(&E) -> Option<V> + Send + Sync,
{
    fn keep(&self, event: &E, ctx: &mut Context<'_>) -> Result<bool, ProcessError> {
        let Some(value) = (self.extract)(event) else {
            return Ok(false);
        };
        self.table.put(ctx, &value)?;
        Ok(true)
    }

    fn on_timer(&self, timer: &Timer, ctx: &mut Context<'_>) -> Result<bool, ProcessError> {
        let ours = timer.name == self.table.versions.name();
        if ours {
            self.table.expire(timer, ctx)?;
        }
        Ok(ours)
    }

    fn operator(&self) -> Operator {
        let fingerprint = format!("table, retained for {} ms", self.table.retain_ms);
        Operator {
            name: self.table.versions.name().into(),
            fingerprint,
        }
    }
}
