//! A small asynchronous Kafka client for Riverlog's own command line, replay, demo and tests.
//!
//! It speaks to Riverlog and to Apache Kafka 3.0 or newer: requests go to the leader, controller or
//! coordinator that the cluster's metadata names, versions are negotiated per connection, every
//! response is walked before it is decoded, and everything that waits has a time-out.
//!
//! - [`Client`]: connections and routing; its topic operations are in `admin.rs`, its group operations
//!   in `groups.rs`, its offset look-ups in `offsets.rs`.
//! - [`Producer`]: idempotent, batching, with several requests in flight. [`PartitionWriter`] is the
//!   same for one partition and an identity that the caller chooses (replay needs that).
//! - [`Consumer`]: reads partitions that the caller names.

mod admin;
mod api;
mod client;
mod connection;
mod consumer;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod groups;
mod metadata;
mod offsets;
pub mod partitioner;
mod producer;
mod record_set;
mod walker;
mod writer;

pub use admin::{ConfigEntry, NewTopic};
pub use client::{Client, Config};
pub use consumer::{Consumer, ConsumerOptions, FetchedRecords};
pub use error::Error;
pub use groups::{CommittedOffset, GroupDescription, GroupListing, GroupMember};
pub use metadata::{BrokerAddress, Metadata, PartitionMetadata, TopicMetadata};
pub use offsets::{FoundOffset, OffsetAt};
pub use producer::{Delivered, Delivery, Producer, ProducerStats};
pub use record_set::Isolation;
pub use writer::{Identity, PartitionWriter, WriterOptions};

pub use kafka_protocol::error::ResponseError;
pub use riverlog_storage::compression::Compression;
pub use riverlog_storage::record::{Record, StoredRecord};
