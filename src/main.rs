//! The `riverlog` binary.
fn main() {}
