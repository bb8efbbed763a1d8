//! Finding offsets by time. These functions read the disk: call them from a blocking thread.

use bytes::Bytes;
use riverlog_storage::{LogId, batch::BatchHeader, record::decode_batch};

use super::{Broker, BrokerError};

/// An offset and the timestamp of the record there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OffsetAtTime {
    /// The record's offset.
    pub offset: i64,
    /// The record's timestamp.
    pub timestamp_ms: i64,
}

impl Broker {
    /// The first record whose timestamp is `timestamp_ms` or later, found record by record, not batch by batch.
    pub fn offset_for_time(&self, log: LogId, timestamp_ms: i64) -> Result<Option<OffsetAtTime>, BrokerError> {
        let Some(mut batch) = self.storage.batch_at_timestamp(log, timestamp_ms)? else {
            return Ok(None);
        };
        let start = self.storage.ends(log).map_or(0, |ends| ends.start);
        loop {
            let found = self.find(&batch, |record| {
                record.timestamp_ms >= timestamp_ms && record.offset >= start
            })?;
            if found.is_some() {
                return Ok(found);
            }
            // The only late enough record of this batch is below the log's start: the search goes on behind it.
            let next = BatchHeader::parse(&batch)?.last_offset() + 1;
            let fetched = self.storage.read(log, next, 1)?;
            if fetched.data.is_empty() {
                return Ok(None);
            }
            batch = fetched.data;
        }
    }

    /// The first record that has the log's highest timestamp.
    pub fn max_timestamp_offset(&self, log: LogId) -> Result<Option<OffsetAtTime>, BrokerError> {
        let Some(batch) = self.storage.batch_of_max_timestamp(log)? else {
            return Ok(None);
        };
        let max = BatchHeader::parse(&batch)?.max_timestamp;
        self.find(&batch, |record| record.timestamp_ms == max)
    }

    fn find(
        &self,
        batch: &Bytes,
        wanted: impl Fn(&riverlog_storage::record::StoredRecord) -> bool,
    ) -> Result<Option<OffsetAtTime>, BrokerError> {
        let records = decode_batch(batch, self.options.max_decompressed_bytes)?;
        Ok(records.iter().find(|record| wanted(record)).map(|record| OffsetAtTime {
            offset: record.offset,
            timestamp_ms: record.timestamp_ms,
        }))
    }
}
