//! Records inside a batch (format v2): writing them, walking them, reading them back.

use bytes::Bytes;

use crate::batch::{BatchError, BatchHeader, HEADER_LEN};
use crate::compression::{Compression, decompress};

/// No record is shorter: length, attributes, timestamp, offset, key length, value length, header count.
pub(crate) const SMALLEST_RECORD_LEN: usize = 7;
/// A record of seven bytes takes a hundred in memory, a header of two takes sixty: both together may take this many times
/// what the payload may, so that a batch of nothing but headers is not a bomb.
const PARTS_FACTOR: usize = 4;
const PARTS_FLOOR_BYTES: usize = 1 << 20;

/// A record to be written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// The key, if it has one.
    pub key: Option<Bytes>,
    /// The value; none is a tombstone.
    pub value: Option<Bytes>,
    /// Names (UTF-8) and values, in order; a name may occur twice.
    pub headers: Vec<(Bytes, Option<Bytes>)>,
    /// Milliseconds since the Unix epoch.
    pub timestamp_ms: i64,
}

/// A record as it stands in a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRecord {
    /// Its offset in the log.
    pub offset: i64,
    /// Its own timestamp, or the batch's in a log that stamps at append.
    pub timestamp_ms: i64,
    /// The key, if it has one.
    pub key: Option<Bytes>,
    /// The value; none is a tombstone.
    pub value: Option<Bytes>,
    /// Names and values, in order; a name may occur twice.
    pub headers: Vec<(Bytes, Option<Bytes>)>,
}

/// The records of one whole batch, whose checksum the caller has verified.
/// Keys and values are slices of the batch, or of its one decompressed payload.
pub fn decode_batch(batch: &Bytes, max_decompressed_bytes: usize) -> Result<Vec<StoredRecord>, BatchError> {
    decode_counted(batch, max_decompressed_bytes).map(|(records, _)| records)
}

/// Also says what the records take of a limit.
fn decode_counted(batch: &Bytes, max_decompressed_bytes: usize) -> Result<(Vec<StoredRecord>, usize), BatchError> {
    let header = BatchHeader::parse(batch)?;
    let size_bytes = header.size_bytes();
    if batch.len() < size_bytes {
        return Err(BatchError::Truncated {
            needed_bytes: size_bytes,
            available_bytes: batch.len(),
        });
    }
    let payload = batch.slice(HEADER_LEN..size_bytes);
    let (payload, decompressed_bytes) = match header.compression() {
        Compression::None => (payload, 0),
        codec => {
            let payload = decompress(codec, &payload, max_decompressed_bytes)?;
            let decompressed_bytes = payload.len();
            (Bytes::from(payload), decompressed_bytes)
        }
    };
    let (records, parts_bytes) = decode_payload(&header, &payload, max_decompressed_bytes)?;
    Ok((records, decompressed_bytes.max(parts_bytes / PARTS_FACTOR)))
}

/// The records, and what they and their headers take in memory.
fn decode_payload(
    header: &BatchHeader,
    payload: &Bytes,
    max_decompressed_bytes: usize,
) -> Result<(Vec<StoredRecord>, usize), BatchError> {
    let count = usize::try_from(header.record_count).unwrap_or(0);
    let mut walker = RecordWalker::new(payload).limited(max_decompressed_bytes);
    let possible = (payload.len() / SMALLEST_RECORD_LEN).min(walker.max_parts_bytes / size_of::<StoredRecord>());
    let mut records = Vec::with_capacity(count.min(possible));
    let slice = |part: &[u8]| payload.slice_ref(part);
    for index in 0..header.record_count {
        let mut headers = Vec::new();
        let record = walker.next(|name, value| headers.push((slice(name), value.map(slice))));
        let record = record.map_err(|reason| BatchError::BadRecord { index, reason })?;
        if !(0..=header.last_offset_delta).contains(&record.offset_delta) {
            let reason = "offset outside of the batch";
            return Err(BatchError::BadRecord { index, reason });
        }
        let timestamp_ms = if header.is_log_append_time() {
            header.max_timestamp
        } else {
            header.base_timestamp.wrapping_add(record.timestamp_delta)
        };
        records.push(StoredRecord {
            offset: header.base_offset.wrapping_add(i64::from(record.offset_delta)),
            timestamp_ms,
            key: record.key.map(slice),
            value: record.value.map(slice),
            headers,
        });
    }
    walker.finish(header.record_count)?;
    Ok((records, walker.parts_bytes))
}

/// What [`decode_all`] found.
#[derive(Debug, Default)]
pub struct Decoded {
    /// The records, by offset.
    pub records: Vec<StoredRecord>,
    /// Where to read on: behind the last batch that was looked at. Past `from_offset` unless there was no data.
    pub next_offset: i64,
    /// What the batches took of the limit.
    pub decompressed_bytes: usize,
}

/// The records of the batches in `data` (what a read gives), from `from_offset` on and without those of control
/// batches. The limit holds for all of them together: the answer ends before the batch that would take it beyond, or
/// that cannot be decoded, unless that is the first. A short answer is not the end of the data.
pub fn decode_all(data: &Bytes, from_offset: i64, max_decompressed_bytes: usize) -> Result<Decoded, BatchError> {
    let mut all = Decoded {
        next_offset: from_offset,
        ..Decoded::default()
    };
    let mut is_first = true;
    let mut rest = data.clone();
    while !rest.is_empty() {
        let header = BatchHeader::parse(&rest)?;
        let size_bytes = header.size_bytes();
        if rest.len() < size_bytes {
            return Err(BatchError::Truncated {
                needed_bytes: size_bytes,
                available_bytes: rest.len(),
            });
        }
        let batch = rest.split_to(size_bytes);
        if !header.is_control() && header.last_offset() >= from_offset {
            let left_bytes = max_decompressed_bytes.saturating_sub(all.decompressed_bytes);
            let (records, bytes) = match decode_counted(&batch, left_bytes) {
                Ok((_, bytes)) if !is_first && bytes > left_bytes => return Ok(all),
                // With the whole limit it may be decodable, and only the codec knows. If not, the next call says so.
                Err(_) if !is_first => return Ok(all),
                decoded => decoded?,
            };
            is_first = false;
            all.decompressed_bytes = all.decompressed_bytes.saturating_add(bytes);
            all.records
                .extend(records.into_iter().filter(|r| r.offset >= from_offset));
        }
        all.next_offset = all.next_offset.max(header.last_offset().saturating_add(1));
    }
    Ok(all)
}

/// The parts of one record.
pub(crate) struct RecordParts<'a> {
    pub timestamp_delta: i64,
    pub offset_delta: i32,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
}

/// Steps through an uncompressed payload without copying or allocating.
pub(crate) struct RecordWalker<'a> {
    /// What comes behind the last record.
    rest: Fields<'a>,
    /// What the records and headers so far take in memory when decoded, and what they may take.
    parts_bytes: usize,
    max_parts_bytes: usize,
}

type Reason = &'static str;

impl<'a> RecordWalker<'a> {
    pub fn new(payload: &'a [u8]) -> Self {
        Self {
            rest: Fields(payload),
            parts_bytes: 0,
            max_parts_bytes: usize::MAX,
        }
    }

    /// Refuses records and headers so many that they take out of proportion to what the payload may.
    pub fn limited(mut self, max_decompressed_bytes: usize) -> Self {
        let max_bytes = max_decompressed_bytes.saturating_mul(PARTS_FACTOR);
        self.max_parts_bytes = max_bytes.max(PARTS_FLOOR_BYTES);
        self
    }

    /// The next record. Every length is checked against the record that holds it.
    #[inline]
    pub fn next(&mut self, mut on_header: impl FnMut(&'a [u8], Option<&'a [u8]>)) -> Result<RecordParts<'a>, Reason> {
        let length = usize::try_from(self.rest.varint()?).map_err(|_| "negative length")?;
        let (record, rest) = self.rest.0.split_at_checked(length).ok_or("longer than the batch")?;
        self.rest.0 = rest;
        // The first byte has attributes, of which none is defined.
        let (_, fields) = record.split_first().ok_or("shorter than its fields")?;
        let mut fields = Fields(fields);
        let timestamp_delta = fields.varlong()?;
        let offset_delta = fields.varint()?;
        let key = fields.sized()?;
        let value = fields.sized()?;
        let header_count = usize::try_from(fields.varint()?).map_err(|_| "negative header count")?;
        let headers_bytes = header_count.saturating_mul(size_of::<(Bytes, Option<Bytes>)>());
        let record_bytes = headers_bytes.saturating_add(size_of::<StoredRecord>());
        self.parts_bytes = self.parts_bytes.saturating_add(record_bytes);
        if self.parts_bytes > self.max_parts_bytes {
            return Err("too many records and headers to hold in memory");
        }
        // Each header takes two bytes at least, so a count that lies comes to the end of the record soon.
        for _ in 0..header_count {
            let name = fields.sized()?.ok_or("header without a name")?;
            on_header(name, fields.sized()?);
        }
        if !fields.0.is_empty() {
            return Err("longer than its fields");
        }
        Ok(RecordParts {
            timestamp_delta,
            offset_delta,
            key,
            value,
        })
    }

    /// Says whether the payload ends where its last record does.
    pub fn finish(&self, record_count: i32) -> Result<(), BatchError> {
        if self.rest.0.is_empty() {
            return Ok(());
        }
        Err(BatchError::BadRecord {
            index: record_count,
            reason: "bytes behind the last record",
        })
    }
}

/// The fields of a record that have not been read yet. A record has seven, so that small records are mostly this work.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// A field with its length before it; -1 is null.
    #[inline]
    fn sized(&mut self) -> Result<Option<&'a [u8]>, Reason> {
        let length = self.varint()?;
        if length == -1 {
            return Ok(None);
        }
        let length = usize::try_from(length).map_err(|_| "negative field length")?;
        let (field, rest) = self.0.split_at_checked(length).ok_or("field longer than the record")?;
        self.0 = rest;
        Ok(Some(field))
    }

    #[inline]
    fn varint(&mut self) -> Result<i32, Reason> {
        let raw = self.unsigned(5)?;
        let raw = u32::try_from(raw).map_err(|_| "varint too large")?;
        Ok((raw >> 1) as i32 ^ -((raw & 1) as i32))
    }

    #[inline]
    fn varlong(&mut self) -> Result<i64, Reason> {
        let raw = self.unsigned(10)?;
        Ok((raw >> 1) as i64 ^ -((raw & 1) as i64))
    }

    /// Nearly all are of one byte or two.
    #[inline]
    fn unsigned(&mut self, max_bytes: usize) -> Result<u64, Reason> {
        match *self.0 {
            [only, ref rest @ ..] if only < 0x80 => {
                self.0 = rest;
                Ok(u64::from(only))
            }
            [first, second, ref rest @ ..] if second < 0x80 => {
                self.0 = rest;
                Ok(u64::from(first & 0x7f) | u64::from(second) << 7)
            }
            _ => self.long_unsigned(max_bytes),
        }
    }

    #[cold]
    fn long_unsigned(&mut self, max_bytes: usize) -> Result<u64, Reason> {
        let mut value = 0_u64;
        let mut rest = self.0;
        for shift in (0..).step_by(7).take(max_bytes) {
            let (byte, behind) = rest.split_first().ok_or("varint cut off")?;
            rest = behind;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err("varint too large");
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                self.0 = rest;
                return Ok(value);
            }
        }
        Err("varint too long")
    }
}

fn put_unsigned(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn put_varlong(out: &mut Vec<u8>, value: i64) {
    put_unsigned(out, ((value << 1) ^ (value >> 63)) as u64);
}

fn put_sized(out: &mut Vec<u8>, field: Option<&Bytes>) {
    match field {
        None => put_varlong(out, -1),
        Some(bytes) => {
            put_varlong(out, bytes.len() as i64);
            out.extend_from_slice(bytes);
        }
    }
}

fn unsigned_len(value: u64) -> usize {
    ((value | 1).ilog2() / 7 + 1) as usize
}

fn varlong_len(value: i64) -> usize {
    unsigned_len(((value << 1) ^ (value >> 63)) as u64)
}

fn sized_len(field: Option<&Bytes>) -> usize {
    field.map_or(1, |bytes| varlong_len(bytes.len() as i64) + bytes.len())
}

/// Appends a record to an uncompressed payload.
pub(crate) fn put_record(out: &mut Vec<u8>, record: &Record, timestamp_delta: i64, offset_delta: i32) {
    let headers = record.headers.iter();
    let headers_len: usize = headers
        .map(|(name, value)| sized_len(Some(name)) + sized_len(value.as_ref()))
        .sum();
    let attributes_len = 1;
    let len = attributes_len
        + varlong_len(timestamp_delta)
        + varlong_len(i64::from(offset_delta))
        + sized_len(record.key.as_ref())
        + sized_len(record.value.as_ref())
        + varlong_len(record.headers.len() as i64)
        + headers_len;
    put_varlong(out, len as i64);
    out.push(0); // No attribute is defined.
    put_varlong(out, timestamp_delta);
    put_varlong(out, i64::from(offset_delta));
    put_sized(out, record.key.as_ref());
    put_sized(out, record.value.as_ref());
    put_varlong(out, record.headers.len() as i64);
    for (name, value) in &record.headers {
        put_sized(out, Some(name));
        put_sized(out, value.as_ref());
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn nothing(_: &[u8], _: Option<&[u8]>) {}

    #[test]
    fn a_record_has_kafkas_bytes() {
        let record = Record {
            key: Some(Bytes::from_static(b"k")),
            value: None,
            headers: vec![(Bytes::from_static(b"h"), Some(Bytes::from_static(b"v")))],
            timestamp_ms: 0,
        };
        let mut out = Vec::new();
        put_record(&mut out, &record, 300, 1);
        let expected = [24, 0, 0xd8, 4, 2, 2, b'k', 1, 2, 2, b'h', 2, b'v'];
        assert_eq!(out, expected);
    }

    #[test]
    fn varints_of_every_size_survive() {
        let values = [0, -1, 1, 63, 64, -65, i64::from(i32::MAX), i64::MAX, i64::MIN];
        for value in values {
            let mut out = Vec::new();
            put_varlong(&mut out, value);
            assert_eq!(varlong_len(value), out.len());
            let mut fields = Fields(&out);
            assert_eq!(fields.varlong().unwrap(), value);
            assert!(fields.0.is_empty());
        }
    }

    #[test]
    fn oversized_varints_are_refused() {
        let eleven = [0xff; 11];
        assert!(Fields(&eleven).varlong().is_err());
        let seventy_bits = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x03];
        assert!(Fields(&seventy_bits).varlong().is_err());
        let thirty_three_bits = [0xff, 0xff, 0xff, 0xff, 0x1f];
        assert!(Fields(&thirty_three_bits).varint().is_err());
    }

    #[test]
    fn lengths_that_lie_are_named() {
        let why = |bytes: &[u8]| RecordWalker::new(bytes).next(nothing).err().unwrap();
        assert_eq!(why(&[]), "varint cut off");
        assert_eq!(why(&[1]), "negative length");
        assert_eq!(why(&[0]), "shorter than its fields");
        assert_eq!(why(&[40, 0]), "longer than the batch");
        assert_eq!(why(&[12, 0, 0, 0, 40, 1, 0]), "field longer than the record");
        assert_eq!(why(&[12, 0, 0, 0, 1, 1, 40]), "varint cut off");
        assert_eq!(why(&[12, 0, 0, 0, 1, 1, 1]), "negative header count");
        assert_eq!(why(&[16, 0, 0, 0, 1, 1, 2, 1, 1]), "header without a name");
        assert_eq!(why(&[14, 0, 0, 0, 1, 1, 0, 9]), "longer than its fields");
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut walker = RecordWalker::new(&bytes);
            while walker.next(nothing).is_ok() {}
            prop_assert!(walker.rest.0.len() <= bytes.len());
        }
    }
}
