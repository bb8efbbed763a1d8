#![no_main]
riverlog_fuzz::target!((riverlog_storage::fuzzing::SEGMENTS.run), (riverlog_storage::fuzzing::SEGMENTS.seeds));
