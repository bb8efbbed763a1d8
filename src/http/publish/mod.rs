//! `POST /topics/{topic}/records`.

pub mod record;
