//! Where records go when they do not go into a topic.

use std::io;

use riverlog_client::StoredRecord;

/// Writes records as lines; how, and where to, is the caller's business.
pub trait LineWriter: Send {
    /// Writes one record.
    ///
    /// # Errors
    /// When it cannot be written.
    fn write(&mut self, partition: i32, record: &StoredRecord) -> io::Result<()>;

    /// Makes what was written visible to the reader.
    ///
    /// # Errors
    /// When it cannot be written.
    fn flush(&mut self) -> io::Result<()>;
}
