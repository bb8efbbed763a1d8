//! Decoders for [`Source`](super::Source)s: from a record's value to an event.

mod json;

pub use json::json;
