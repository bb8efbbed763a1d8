#![no_main]
riverlog_fuzz::target!((riverlog::fuzzing::HTTP.run), (riverlog::fuzzing::HTTP.seeds));
