#![no_main]
riverlog_fuzz::target!((riverlog_storage::fuzzing::COMPRESSION.run), (riverlog_storage::fuzzing::COMPRESSION.seeds));
