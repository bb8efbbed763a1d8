#![no_main]
riverlog_fuzz::target!(riverlog_client::fuzzing::response, riverlog_client::fuzzing::seeds);
