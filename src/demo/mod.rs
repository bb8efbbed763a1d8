//! The demo: real flights turned into exact hourly answers, through crashes.

pub mod batch;
pub mod job;
pub mod model;
