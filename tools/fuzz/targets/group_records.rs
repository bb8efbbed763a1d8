#![no_main]
riverlog_fuzz::target!((riverlog::fuzzing::GROUP_RECORDS.run), (riverlog::fuzzing::GROUP_RECORDS.seeds));
