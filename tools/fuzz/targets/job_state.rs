#![no_main]
riverlog_fuzz::target!((riverlog::fuzzing::JOB_STATE.run), (riverlog::fuzzing::JOB_STATE.seeds));
