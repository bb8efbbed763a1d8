#![no_main]
riverlog_fuzz::target!((riverlog_storage::fuzzing::STORED.run), (riverlog_storage::fuzzing::STORED.seeds));
