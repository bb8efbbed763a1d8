#![no_main]
riverlog_fuzz::target!(riverlog_replay::fuzzing::records, riverlog_replay::fuzzing::seeds);
