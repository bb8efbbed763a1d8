#![no_main]
riverlog_fuzz::target!((riverlog::fuzzing::REQUESTS.run), (riverlog::fuzzing::REQUESTS.seeds));
