//! Segments that come as a stream, as in a backup: every batch checked, with no more than one of them in memory.

use std::io::{self, Read};

use crate::batch::{self, HEADER_LEN};
use crate::segment::{self, plausible_header};

/// A batch of a streamed segment that does not check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadBatch {
    /// Where in the segment, in bytes.
    pub position: u64,
    /// The offset that was to be there.
    pub offset: i64,
    /// What does not check.
    pub reason: String,
}

/// Reads a segment to its end, checks each batch as every read of a log does, and tells those that do not check. `path` ends in
/// the segment's name. Returns how many batches are good. Behind a batch whose header leads nowhere, nothing can be told apart.
///
/// # Errors
/// When the source cannot be read.
pub fn check_segment(path: &str, source: &mut dyn Read, tell: &mut dyn FnMut(BadBatch)) -> io::Result<u64> {
    let name = path.rsplit('/').next().unwrap_or_default();
    let (mut position, mut offset) = (0, segment::base_of(name).unwrap_or(0));
    let (mut good, mut bytes) = (0, Vec::new());
    loop {
        bytes.clear();
        let bad = |reason| BadBatch {
            position,
            offset,
            reason,
        };
        if source.take(HEADER_LEN as u64).read_to_end(&mut bytes)? == 0 {
            return Ok(good);
        }
        let header = match plausible_header(&bytes, offset) {
            Ok(header) => header,
            Err(reason) => {
                tell(bad(format!("{reason}; what is behind it cannot be told apart")));
                io::copy(source, &mut io::sink())?;
                return Ok(good);
            }
        };
        let behind = header.size_bytes().saturating_sub(HEADER_LEN);
        source.take(behind as u64).read_to_end(&mut bytes)?;
        match batch::verify(&bytes) {
            Ok(_) => good += 1,
            Err(error) => tell(bad(error.to_string())),
        }
        position += header.size_bytes() as u64;
        offset = header.last_offset().saturating_add(1);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use crate::batch::BatchBuilder;
    use crate::record::Record;

    const PATH: &str = "logs/1/00000000000000000007.log";

    /// Two batches, of offsets 7 and 8, and the length of the first.
    fn example() -> (Vec<u8>, usize) {
        let batch = |offset: i64| {
            let mut builder = BatchBuilder::new();
            builder.push(Record {
                value: Some("value".into()),
                ..Record::default()
            });
            let mut bytes = builder.build().unwrap().bytes().to_vec();
            bytes[..8].copy_from_slice(&offset.to_be_bytes());
            bytes
        };
        let first = batch(7);
        (([&first[..], &batch(8)]).concat(), first.len())
    }

    fn checked(bytes: &[u8]) -> (u64, Vec<BadBatch>) {
        let (mut source, mut bad) = (bytes, Vec::new());
        let good = check_segment(PATH, &mut source, &mut |found| bad.push(found)).unwrap();
        assert!(source.is_empty(), "it is read to its end");
        (good, bad)
    }

    #[test]
    fn every_byte_but_the_epochs_is_checked() {
        let (bytes, first) = example();
        assert_eq!(checked(&bytes), (2, Vec::new()));
        assert_eq!(checked(&[]), (0, Vec::new()));
        for at in 0..bytes.len() {
            let mut bent = bytes.clone();
            bent[at] ^= 1;
            let (good, bad) = checked(&bent);
            // Kafka's checksum does not cover the leader epoch.
            let epoch = (12..16).contains(&(at % first));
            assert_eq!(bad.is_empty(), epoch, "byte {at}");
            let (position, offset) = if at < first { (0, 7) } else { (first as u64, 8) };
            assert!(
                epoch || (bad[0].position, bad[0].offset) == (position, offset),
                "{bad:?}"
            );
            assert!(good <= 1 + u64::from(epoch), "byte {at}");
        }
        for len in (1..bytes.len()).filter(|len| *len != first) {
            assert_eq!(checked(&bytes[..len]).1.len(), 1, "cut at {len}");
        }
    }

    #[test]
    fn a_bad_batch_whose_header_leads_on_is_passed_over() {
        let (mut bytes, first) = example();
        bytes[first - 1] ^= 1;
        let (good, bad) = checked(&bytes);
        assert_eq!((good, bad.len()), (1, 1));
        assert!(bad[0].reason.contains("CRC-32C"), "{bad:?}");
    }
}
