#![no_main]
riverlog_fuzz::target!((riverlog::fuzzing::ARCHIVE.run), (riverlog::fuzzing::ARCHIVE.seeds));
