#![no_main]
riverlog_fuzz::target!((riverlog_storage::fuzzing::RECOVERY.run), (riverlog_storage::fuzzing::RECOVERY.seeds));
