//! Finding offsets by time. These functions read the disk: call them from a blocking thread.

use std::cmp::Reverse;

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
        let start = self.log_start(log);
        let mut from = start;
        while let Some(batch) = self.storage.batch_at_timestamp(log, timestamp_ms, from)? {
            let mut records = self.records(&batch, start)?;
            let found = records.find(|record| record.timestamp_ms >= timestamp_ms);
            if found.is_some() {
                return Ok(found);
            }
            // The only late enough record of this batch is below the log's start: the search goes on behind it.
            from = BatchHeader::parse(&batch)?.last_offset() + 1;
        }
        Ok(None)
    }

    /// The first record that has the log's highest timestamp.
    pub fn max_timestamp_offset(&self, log: LogId) -> Result<Option<OffsetAtTime>, BrokerError> {
        let start = self.log_start(log);
        let first = self.storage.read(log, start, 1)?.data;
        if first.is_empty() {
            return Ok(None);
        }
        // Of the first batch, records below the log's start do not count; of all others, their headers tell.
        let mut records: Vec<OffsetAtTime> = self.records(&first, start)?.collect();
        let behind = BatchHeader::parse(&first)?.last_offset() + 1;
        if let Some(batch) = self.storage.batch_of_max_timestamp(log, behind)? {
            records.extend(self.records(&batch, start)?);
        }
        Ok(records.into_iter().min_by_key(|record| Reverse(record.timestamp_ms)))
    }

    fn log_start(&self, log: LogId) -> i64 {
        self.storage.ends(log).map_or(0, |ends| ends.start)
    }

    /// The places of a batch's records at and behind the log's start.
    fn records(&self, batch: &Bytes, start: i64) -> Result<impl Iterator<Item = OffsetAtTime>, BrokerError> {
        let records = decode_batch(batch, self.options.max_decompressed_bytes)?.into_iter();
        let places = records.map(|record| OffsetAtTime {
            offset: record.offset,
            timestamp_ms: record.timestamp_ms,
        });
        Ok(places.filter(move |place| place.offset >= start))
    }
}
