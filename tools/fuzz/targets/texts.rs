#![no_main]
riverlog_fuzz::target!((riverlog::fuzzing::TEXTS.run), (riverlog::fuzzing::TEXTS.seeds));
