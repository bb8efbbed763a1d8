//! Record batches, format v2: the header, the checks on what comes in, and building our own.
//!
//! A batch is stored byte for byte as it came. Its CRC-32C covers everything from the attributes on,
//! so base offset and leader epoch may be set without touching it.

use bytes::Bytes;
use crc_fast::{CrcAlgorithm, Digest};
use thiserror::Error;

use crate::compression::{Compression, CompressionError, compress, decompress};
use crate::record::{Record, RecordWalker, SMALLEST_RECORD_LEN, put_record};

/// Bytes before the records.
pub const HEADER_LEN: usize = 61;
/// Bytes that the length field does not count: base offset and the length itself.
const LENGTH_OVERHEAD: usize = 12;
/// Where the part begins that the CRC covers.
const CRC_START: usize = 21;
/// The only format there is since Kafka 4.0.
pub(crate) const MAGIC: i8 = 2;

const LOG_APPEND_TIME_BIT: i16 = 1 << 3;
const TRANSACTIONAL_BIT: i16 = 1 << 4;
const CONTROL_BIT: i16 = 1 << 5;

/// What is wrong with a batch.
#[derive(Debug, Error)]
#[allow(missing_docs)]
pub enum BatchError {
    #[error("the batch needs {needed_bytes} bytes, only {available_bytes} are there")]
    Truncated {
        needed_bytes: usize,
        available_bytes: usize,
    },
    #[error("record format {0} is not supported, only format 2 is")]
    UnsupportedMagic(i8),
    #[error("the batch's length field says {0}, which is less than its header")]
    BadLength(i32),
    #[error("the batch's CRC-32C is {stored:08x}, its bytes give {computed:08x}")]
    BadCrc { stored: u32, computed: u32 },
    #[error("the batch says it has {record_count} records, its last offset delta is {last_offset_delta}")]
    BadCount { record_count: i32, last_offset_delta: i32 },
    #[error("record {index} of the batch: {reason}")]
    BadRecord { index: i32, reason: &'static str },
    #[error("the batch has {size_bytes} bytes, the limit is {max_bytes}")]
    TooLarge { size_bytes: usize, max_bytes: usize },
    #[error("the batch names compression codec {0}, which does not exist")]
    UnknownCompression(i16),
    #[error("the batch's payload {0}")]
    Compression(#[from] CompressionError),
    #[error("{count} batches where exactly one is allowed")]
    NotSingle { count: usize },
    #[error("record {index} has no key, which a compacted topic needs")]
    MissingKey { index: i32 },
    #[error("clients may not write control batches")]
    ControlBatch,
    #[error("clients may not set the log-append-time bit")]
    LogAppendTimeSet,
    #[error("producer id {producer_id}, epoch {producer_epoch} and base sequence {base_sequence} do not go together")]
    BadProducer {
        producer_id: i64,
        producer_epoch: i16,
        base_sequence: i32,
    },
    #[error("there is no record")]
    Empty,
}

/// The fixed part of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct BatchHeader {
    pub base_offset: i64,
    /// As on the wire: bytes after the length field.
    pub length: i32,
    pub leader_epoch: i32,
    pub magic: i8,
    pub crc: u32,
    pub attributes: i16,
    pub last_offset_delta: i32,
    pub base_timestamp: i64,
    pub max_timestamp: i64,
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
    pub record_count: i32,
}

/// Takes fields off the front of a slice.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*field)
    }
}

impl BatchHeader {
    /// Reads the header at the front of `bytes`. The magic, the codec and the length are plausible
    /// afterwards; nothing behind the header was looked at.
    pub fn parse(bytes: &[u8]) -> Result<Self, BatchError> {
        let header = Self::fields(bytes).ok_or(BatchError::Truncated {
            needed_bytes: HEADER_LEN,
            available_bytes: bytes.len(),
        })?;
        if header.magic != MAGIC {
            return Err(BatchError::UnsupportedMagic(header.magic));
        }
        if header.length < (HEADER_LEN - LENGTH_OVERHEAD) as i32 {
            return Err(BatchError::BadLength(header.length));
        }
        if Compression::from_attributes(header.attributes).is_none() {
            return Err(BatchError::UnknownCompression(header.attributes & 0x07));
        }
        Ok(header)
    }

    fn fields(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes);
        Some(Self {
            base_offset: i64::from_be_bytes(fields.take()?),
            length: i32::from_be_bytes(fields.take()?),
            leader_epoch: i32::from_be_bytes(fields.take()?),
            magic: i8::from_be_bytes(fields.take()?),
            crc: u32::from_be_bytes(fields.take()?),
            attributes: i16::from_be_bytes(fields.take()?),
            last_offset_delta: i32::from_be_bytes(fields.take()?),
            base_timestamp: i64::from_be_bytes(fields.take()?),
            max_timestamp: i64::from_be_bytes(fields.take()?),
            producer_id: i64::from_be_bytes(fields.take()?),
            producer_epoch: i16::from_be_bytes(fields.take()?),
            base_sequence: i32::from_be_bytes(fields.take()?),
            record_count: i32::from_be_bytes(fields.take()?),
        })
    }

    /// The header's bytes.
    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let mut out = [0; HEADER_LEN];
        let mut rest: &mut [u8] = &mut out;
        let mut put = |field: &[u8]| {
            if let Some((slot, behind)) = std::mem::take(&mut rest).split_at_mut_checked(field.len()) {
                slot.copy_from_slice(field);
                rest = behind;
            }
        };
        put(&self.base_offset.to_be_bytes());
        put(&self.length.to_be_bytes());
        put(&self.leader_epoch.to_be_bytes());
        put(&self.magic.to_be_bytes());
        put(&self.crc.to_be_bytes());
        put(&self.attributes.to_be_bytes());
        put(&self.last_offset_delta.to_be_bytes());
        put(&self.base_timestamp.to_be_bytes());
        put(&self.max_timestamp.to_be_bytes());
        put(&self.producer_id.to_be_bytes());
        put(&self.producer_epoch.to_be_bytes());
        put(&self.base_sequence.to_be_bytes());
        put(&self.record_count.to_be_bytes());
        out
    }

    /// The whole batch's size, header included.
    pub fn size_bytes(&self) -> usize {
        usize::try_from(self.length).unwrap_or(0) + LENGTH_OVERHEAD
    }

    /// The offset of the batch's last record.
    pub fn last_offset(&self) -> i64 {
        self.base_offset.saturating_add(i64::from(self.last_offset_delta))
    }

    /// The sequence number of the last record; it wraps from 2^31-1 to 0.
    pub fn last_sequence(&self) -> i32 {
        if self.base_sequence < 0 {
            return self.base_sequence;
        }
        self.base_sequence.wrapping_add(self.last_offset_delta) & i32::MAX
    }

    /// The codec; `parse` refuses headers that name none.
    pub fn compression(&self) -> Compression {
        Compression::from_attributes(self.attributes).unwrap_or_default()
    }

    /// Whether it belongs to a transaction.
    pub fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL_BIT != 0
    }

    /// Whether it holds a marker in place of records.
    pub fn is_control(&self) -> bool {
        self.attributes & CONTROL_BIT != 0
    }

    /// Whether its timestamps are those of the append.
    pub fn is_log_append_time(&self) -> bool {
        self.attributes & LOG_APPEND_TIME_BIT != 0
    }

    /// Whether an idempotent or transactional producer wrote it.
    pub fn has_producer(&self) -> bool {
        self.producer_id >= 0
    }

    /// With the largest timestamp that its records really have. Retention, segments and look-ups by time believe it, so
    /// it is not the client's to say; Kafka sets it as well (`LogValidator`).
    fn with_max_timestamp(mut self, max_timestamp: i64, payload: &[u8]) -> Self {
        if self.max_timestamp != max_timestamp {
            self.max_timestamp = max_timestamp;
            self.crc = self.computed_crc(payload);
        }
        self
    }

    /// The CRC-32C that belongs to these header fields and this payload.
    fn computed_crc(&self, payload: &[u8]) -> u32 {
        let encoded = self.encode();
        let covered = encoded.get(CRC_START..).unwrap_or_default();
        let mut crc = Digest::new(CrcAlgorithm::Crc32Iscsi);
        crc.update(covered);
        crc.update(payload);
        crc.finalize() as u32
    }
}

/// Whole batches whose lengths, magic, CRC-32C and counts were checked. Offsets are not assigned yet.
#[derive(Clone, Debug)]
pub struct CheckedBatches {
    bytes: Bytes,
    headers: Vec<BatchHeader>,
}

impl CheckedBatches {
    /// The batches, one behind the other.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Their headers, in order, with the largest timestamps that their records have.
    pub fn headers(&self) -> &[BatchHeader] {
        &self.headers
    }

    /// Each header with the bytes of its batch.
    pub fn iter(&self) -> impl Iterator<Item = (&BatchHeader, Bytes)> {
        let mut start = 0;
        self.headers.iter().map(move |header| {
            let end = start + header.size_bytes();
            let batch = self.bytes.slice(start..end);
            start = end;
            (header, batch)
        })
    }

    /// The size of all batches.
    pub fn size_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The records of all batches.
    pub fn record_count(&self) -> u64 {
        self.headers
            .iter()
            .map(|h| u64::try_from(h.record_count).unwrap_or(0))
            .sum()
    }
}

/// What is allowed to come in.
#[derive(Clone, Copy, Debug)]
pub struct CheckLimits {
    /// The largest batch, header included, as it stands on the wire.
    pub max_batch_bytes: usize,
    /// The largest payload after decompression.
    pub max_decompressed_bytes: usize,
    /// Refuse more than one batch, as Produce does since version 3.
    pub single_batch: bool,
    /// Refuse records without a key, as compacted topics do.
    pub require_keys: bool,
}

/// Checks what a client sent: whole batches, each right down to its last record.
pub fn check_produced(bytes: Bytes, limits: &CheckLimits) -> Result<CheckedBatches, BatchError> {
    let mut headers = Vec::with_capacity(1);
    let mut rest: &[u8] = &bytes;
    while !rest.is_empty() {
        if limits.single_batch && !headers.is_empty() {
            return Err(BatchError::NotSingle {
                count: headers.len() + 1,
            });
        }
        let header = BatchHeader::parse(rest)?;
        let size_bytes = header.size_bytes();
        if size_bytes > limits.max_batch_bytes {
            let max_bytes = limits.max_batch_bytes;
            return Err(BatchError::TooLarge { size_bytes, max_bytes });
        }
        let header = verify(rest)?;
        check_fields(&header)?;
        let (batch, behind) = rest.split_at_checked(size_bytes).unwrap_or((rest, &[]));
        let payload = batch.get(HEADER_LEN..).unwrap_or_default();
        let max_timestamp = check_records(&header, payload, limits)?;
        headers.push(header.with_max_timestamp(max_timestamp, payload));
        rest = behind;
    }
    if headers.is_empty() {
        return Err(BatchError::Empty);
    }
    Ok(CheckedBatches { bytes, headers })
}

/// Checks one batch at the front of `bytes`, as read from disk: header, length, CRC-32C.
pub fn verify(bytes: &[u8]) -> Result<BatchHeader, BatchError> {
    let header = BatchHeader::parse(bytes)?;
    let size_bytes = header.size_bytes();
    let covered = bytes.get(CRC_START..size_bytes).ok_or(BatchError::Truncated {
        needed_bytes: size_bytes,
        available_bytes: bytes.len(),
    })?;
    let computed = crc_fast::crc32_iscsi(covered);
    if computed != header.crc {
        return Err(BatchError::BadCrc {
            stored: header.crc,
            computed,
        });
    }
    Ok(header)
}

/// The rules for the header of a client's batch.
fn check_fields(header: &BatchHeader) -> Result<(), BatchError> {
    if header.is_control() {
        return Err(BatchError::ControlBatch);
    }
    if header.is_log_append_time() {
        return Err(BatchError::LogAppendTimeSet);
    }
    let (record_count, last_offset_delta) = (header.record_count, header.last_offset_delta);
    if record_count < 1 || last_offset_delta != record_count - 1 {
        return Err(BatchError::BadCount {
            record_count,
            last_offset_delta,
        });
    }
    let complete = header.producer_epoch >= 0 && header.base_sequence >= 0;
    if header.has_producer() && !complete || header.is_transactional() && !header.has_producer() {
        return Err(BatchError::BadProducer {
            producer_id: header.producer_id,
            producer_epoch: header.producer_epoch,
            base_sequence: header.base_sequence,
        });
    }
    Ok(())
}

/// Walks the records; a compressed payload is unpacked for that and thrown away. Returns their largest timestamp.
fn check_records(header: &BatchHeader, payload: &[u8], limits: &CheckLimits) -> Result<i64, BatchError> {
    let unpacked;
    let records = match header.compression() {
        Compression::None => payload,
        codec => {
            unpacked = decompress(codec, payload, limits.max_decompressed_bytes)?;
            unpacked.as_slice()
        }
    };
    // Said before the walk, so that a count in the billions costs nothing.
    if records.len() / SMALLEST_RECORD_LEN < usize::try_from(header.record_count).unwrap_or(0) {
        return Err(BatchError::BadCount {
            record_count: header.record_count,
            last_offset_delta: header.last_offset_delta,
        });
    }
    let mut walker = RecordWalker::new(records).limited(limits.max_decompressed_bytes);
    let mut max_timestamp = i64::MIN;
    for index in 0..header.record_count {
        let record = walker
            .next(|_, _| {})
            .map_err(|reason| BatchError::BadRecord { index, reason })?;
        if record.offset_delta != index {
            let reason = "offset is not the next one";
            return Err(BatchError::BadRecord { index, reason });
        }
        if limits.require_keys && record.key.is_none() {
            return Err(BatchError::MissingKey { index });
        }
        max_timestamp = max_timestamp.max(header.base_timestamp.wrapping_add(record.timestamp_delta));
    }
    walker.finish(header.record_count)?;
    Ok(max_timestamp)
}

/// Turns a batch into one whose timestamp is that of its append. `payload` is what follows the header.
pub fn restamp_log_append_time(header: &mut BatchHeader, payload: &[u8], now_ms: i64) {
    header.attributes |= LOG_APPEND_TIME_BIT;
    header.max_timestamp = now_ms;
    header.crc = header.computed_crc(payload);
}

/// Builds batches of our own, from offset 0 on.
#[derive(Debug, Default)]
pub struct BatchBuilder {
    /// Room for the header, and the records. Empty without any.
    bytes: Vec<u8>,
    compression: Compression,
    producer: Option<(i64, i16, i32)>,
    transactional: bool,
    record_count: i32,
    base_timestamp: i64,
    max_timestamp: i64,
}

impl BatchBuilder {
    /// A batch without compression or producer.
    pub fn new() -> Self {
        Self::default()
    }

    /// Compresses the records.
    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    /// Says which producer writes it, with the sequence number of the first record.
    pub fn producer(mut self, id: i64, epoch: i16, sequence: i32) -> Self {
        self.producer = Some((id, epoch, sequence));
        self
    }

    /// Makes it part of the producer's transaction.
    pub fn transactional(mut self, transactional: bool) -> Self {
        self.transactional = transactional;
        self
    }

    /// Adds a record.
    pub fn push(&mut self, record: Record) {
        if self.record_count == 0 {
            self.base_timestamp = record.timestamp_ms;
            self.max_timestamp = record.timestamp_ms;
        }
        self.max_timestamp = self.max_timestamp.max(record.timestamp_ms);
        // Readers add the delta in the same wrapping way, so no timestamp is out of reach.
        let timestamp_delta = record.timestamp_ms.wrapping_sub(self.base_timestamp);
        if self.bytes.is_empty() {
            self.bytes.resize(HEADER_LEN, 0);
        }
        put_record(&mut self.bytes, &record, timestamp_delta, self.record_count);
        self.record_count += 1;
    }

    /// Whether it has no record yet.
    pub fn is_empty(&self) -> bool {
        self.record_count == 0
    }

    /// The size of the batch if it were built now, without compression.
    pub fn size_bytes(&self) -> usize {
        HEADER_LEN.max(self.bytes.len())
    }

    /// The batch. An empty one, or one beyond 2 GiB, is refused.
    pub fn build(self) -> Result<CheckedBatches, BatchError> {
        if self.is_empty() {
            return Err(BatchError::Empty);
        }
        let mut bytes = self.bytes;
        if self.compression != Compression::None {
            let payload = compress(self.compression, bytes.get(HEADER_LEN..).unwrap_or_default())?;
            // Not into the memory that the records had before, which is larger.
            bytes = [&[0; HEADER_LEN], payload.as_slice()].concat();
        }
        let size_bytes = bytes.len();
        let length = i32::try_from(size_bytes - LENGTH_OVERHEAD).map_err(|_| BatchError::TooLarge {
            size_bytes,
            max_bytes: i32::MAX as usize,
        })?;
        let transactional = if self.transactional { TRANSACTIONAL_BIT } else { 0 };
        let (producer_id, producer_epoch, base_sequence) = self.producer.unwrap_or((-1, -1, -1));
        let mut header = BatchHeader {
            base_offset: 0,
            length,
            leader_epoch: -1,
            magic: MAGIC,
            crc: 0,
            attributes: self.compression as i16 | transactional,
            last_offset_delta: self.record_count - 1,
            base_timestamp: self.base_timestamp,
            max_timestamp: self.max_timestamp,
            producer_id,
            producer_epoch,
            base_sequence,
            record_count: self.record_count,
        };
        if let Some((place, payload)) = bytes.split_first_chunk_mut() {
            header.crc = header.computed_crc(payload);
            *place = header.encode();
        }
        Ok(CheckedBatches {
            bytes: bytes.into(),
            headers: vec![header],
        })
    }
}

#[cfg(test)]
#[path = "batch_tests.rs"]
mod tests;
