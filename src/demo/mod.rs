//! The demo: real flights turned into exact hourly answers, through crashes.

pub mod answer;
pub mod batch;
pub mod data;
pub mod feed;
pub mod job;
pub mod model;
pub mod node;
pub mod report;
pub mod run;
pub mod service;
pub mod stage;
