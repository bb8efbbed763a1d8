#![no_main]
riverlog_fuzz::target!((riverlog_storage::fuzzing::BATCHES.run), (riverlog_storage::fuzzing::BATCHES.seeds));
