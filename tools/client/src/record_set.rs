//! The batches of a fetch response: checked, decoded, and without what must not be seen.

use std::collections::HashSet;

use bytes::Bytes;
use riverlog_storage::batch::{BatchHeader, HEADER_LEN, verify};
use riverlog_storage::record::{StoredRecord, decode_batch};

use crate::error::Error;

/// Which records a consumer sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Isolation {
    /// All of them, those of aborted and unfinished transactions as well.
    ReadUncommitted = 0,
    /// Only what will stay.
    #[default]
    ReadCommitted = 1,
}

/// The largest payload that a batch may decompress to.
const MAX_DECOMPRESSED_BYTES: usize = 256 * 1024 * 1024;

/// A transaction that was aborted: who wrote it, and from which offset on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Aborted {
    pub producer_id: i64,
    pub first_offset: i64,
}

/// What a partition's part of a fetch response holds.
#[derive(Debug)]
pub(crate) struct Decoded {
    pub records: Vec<StoredRecord>,
    /// The headers of the batches, control batches included.
    pub batches: Vec<BatchHeader>,
    /// Where the next fetch goes on.
    pub next_offset: i64,
}

/// Decodes the batches in `data` from offset `from` on. A batch that is cut off at the end is left out.
pub(crate) fn decode(subject: &str, data: &Bytes, from: i64, mut aborted: Vec<Aborted>) -> Result<Decoded, Error> {
    // The broker lists aborted transactions by first offset, but that is not worth relying on.
    aborted.sort_by_key(|transaction| std::cmp::Reverse(transaction.first_offset));
    let mut hidden = HashSet::new();
    let mut rest = data.clone();
    let mut decoded = Decoded {
        records: Vec::new(),
        batches: Vec::new(),
        next_offset: from,
    };
    while rest.len() >= HEADER_LEN {
        let at = |error| Error::batch(format!("{subject} from offset {}", decoded.next_offset), &error);
        let header = BatchHeader::parse(&rest).map_err(at)?;
        let size_bytes = header.size_bytes();
        if size_bytes > rest.len() {
            break;
        }
        let batch = rest.split_to(size_bytes);
        let header = verify(&batch).map_err(at)?;
        while let Some(transaction) = aborted.pop_if(|transaction| transaction.first_offset <= header.last_offset()) {
            hidden.insert(transaction.producer_id);
        }
        if header.is_control() {
            // The end of the producer's transaction, whichever end it was.
            hidden.remove(&header.producer_id);
        } else if header.last_offset() >= from && !(header.is_transactional() && hidden.contains(&header.producer_id)) {
            let records = decode_batch(&batch, MAX_DECOMPRESSED_BYTES).map_err(at)?;
            let wanted = records.into_iter().filter(|record| record.offset >= from);
            decoded.records.extend(wanted);
        }
        decoded.next_offset = decoded.next_offset.max(header.last_offset().saturating_add(1));
        decoded.batches.push(header);
    }
    Ok(decoded)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use bytes::BytesMut;
    use riverlog_storage::batch::BatchBuilder;
    use riverlog_storage::record::Record;

    use super::*;

    /// A batch of one record at `offset`.
    fn batch(offset: i64, producer_id: i64, transactional: bool) -> Vec<u8> {
        let mut builder = BatchBuilder::new()
            .producer(producer_id, 0, 0)
            .transactional(transactional);
        builder.push(Record {
            value: Some(Bytes::from(offset.to_string())),
            ..Record::default()
        });
        let mut bytes = builder.build().unwrap().bytes().to_vec();
        bytes[..8].copy_from_slice(&offset.to_be_bytes());
        bytes
    }

    fn offsets(data: &[u8], from: i64, aborted: Vec<Aborted>) -> Vec<i64> {
        let decoded = decode("t/0", &Bytes::copy_from_slice(data), from, aborted).unwrap();
        decoded.records.iter().map(|record| record.offset).collect()
    }

    #[test]
    fn a_cut_off_batch_waits_for_the_next_fetch() {
        let mut data = batch(5, 1, false);
        data.extend(&batch(6, 1, false)[..40]);
        let decoded = decode("t/0", &Bytes::from(data), 5, vec![]).unwrap();
        assert_eq!((decoded.records.len(), decoded.next_offset), (1, 6));
    }

    #[test]
    fn a_flipped_bit_is_named() {
        let mut data = batch(5, 1, false);
        *data.last_mut().unwrap() ^= 1;
        let error = decode("t/0", &Bytes::from(data), 5, vec![]).unwrap_err();
        assert!(error.to_string().starts_with("t/0 from offset 5"), "{error}");
    }

    #[test]
    fn aborted_records_are_left_out_and_others_are_not() {
        let mut data = BytesMut::new();
        for (offset, producer, transactional) in [(0, 7, true), (1, 8, true), (2, 7, true), (3, 9, false)] {
            data.extend(batch(offset, producer, transactional));
        }
        let aborted = vec![Aborted {
            producer_id: 7,
            first_offset: 2,
        }];
        assert_eq!(offsets(&data, 0, aborted), [0, 1, 3]);
    }
}
