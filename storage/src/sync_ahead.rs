//! Syncing ahead: segments that got much are synced before the checkpoint, which would otherwise find all of its interval
//! dirty and write it at once, while the journal's syncs wait behind it on the same disk.
//!
//! It promises nothing. The checkpoint syncs the same segments again, through the same descriptions, and then has little to do.

use crate::planted::{Planted, planted};
use crate::shared::Shared;

impl Shared {
    /// Syncs the segment that got most, if that is much. True if there was one. Fails when storage is poisoned, or becomes so.
    pub fn sync_ahead(&self) -> Result<bool, ()> {
        if self.poisoned().is_some() {
            return Err(());
        }
        let dirty = self.dirty.lock();
        let most = dirty
            .segments
            .values()
            .max_by_key(|file| file.unsynced_bytes())
            .cloned();
        drop(dirty);
        let Some(file) = most.filter(|file| file.unsynced_bytes() >= self.options.sync_ahead_bytes) else {
            return Ok(false);
        };
        match file.sync(&*self.disk) {
            Err(error) if !planted(Planted::ForgetFailedSyncAhead) => {
                self.poison(&format!("segment sync failed: {error}"));
                Err(())
            }
            _ => Ok(true),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use crate::batch::BatchBuilder;
    use crate::clock::ManualClock;
    use crate::disk::simulated::SimulatedDisk;
    use crate::engine::Engine;
    use crate::options::Options;
    use crate::record::Record;
    use crate::write_set::{Append, Change, WriteSet};
    use crate::{LogId, Step};
    use std::sync::Arc;

    fn write(engine: &Engine, ws: WriteSet) {
        engine.submit(ws, |outcome| {
            outcome.unwrap();
        });
        while engine.commit_step() != Step::Idle {}
    }

    fn append(engine: &Engine, log: LogId, value_bytes: usize) {
        let mut builder = BatchBuilder::new();
        builder.push(Record {
            value: Some(vec![b'v'; value_bytes].into()),
            ..Record::default()
        });
        let append = Append {
            log,
            batches: builder.build().unwrap(),
            log_append_time: false,
        };
        write(
            engine,
            WriteSet {
                appends: vec![append],
                ..WriteSet::default()
            },
        );
    }

    #[test]
    fn only_what_got_much_is_synced_and_again_only_after_as_much() {
        let options = Options {
            sync_ahead_bytes: 1_000,
            ..Options::new("/data")
        };
        let disk = SimulatedDisk::new(1);
        let engine = Engine::open(Arc::new(disk), Arc::new(ManualClock::new(1)), options).unwrap();
        let create = Change::CreateTopic {
            name: "t".into(),
            partitions: 2,
            configs: Default::default(),
        };
        write(
            &engine,
            WriteSet {
                changes: vec![create],
                ..WriteSet::default()
            },
        );
        let logs = engine.catalog().topic("t").unwrap().partitions.clone();
        let unsynced = |log: LogId| {
            let dirty = engine.shared.dirty.lock();
            dirty.segments[&(log, 0)].unsynced_bytes()
        };
        append(&engine, logs[0], 2_000);
        append(&engine, logs[1], 100);
        assert!(unsynced(logs[0]) > 2_000);
        assert_eq!(engine.sync_ahead_step(), Ok(true));
        assert_eq!(unsynced(logs[0]), 0);
        assert!(unsynced(logs[1]) > 100, "the checkpoint's");
        append(&engine, logs[0], 100);
        assert_eq!(engine.sync_ahead_step(), Ok(false));
        assert!(unsynced(logs[0]) > 100);
        while engine.checkpoint_step().unwrap() {}
        append(&engine, logs[0], 10);
        assert!(unsynced(logs[0]) < 100, "the checkpoint has synced the rest");
    }
}
