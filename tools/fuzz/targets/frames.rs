#![no_main]
riverlog_fuzz::target!((riverlog_storage::fuzzing::FRAMES.run), (riverlog_storage::fuzzing::FRAMES.seeds));
