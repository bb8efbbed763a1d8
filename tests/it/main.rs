//! What only a real process can show: `riverlog` is started on free ports of the loopback interface with data in a
//! temporary directory, talked to over sockets, killed with SIGKILL, started again.
//!
//! One binary for all of it, so that it links once. `tidy` starts nothing: it holds the tree to its own rules.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod backup;
mod bad_frames;
mod bad_http;
mod bad_records;
mod cli;
mod crash;
mod data_dir;
mod demo;
mod inspect;
mod published_vulnerabilities;
mod replay;
mod server;
mod tidy;
mod wire;
