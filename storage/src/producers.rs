//! What a log remembers of each idempotent producer: its epoch and its last five batches.
//!
//! The same table serves twice: once as assigned state, where the sequencer checks against it, and
//! once as published state, which checkpoints store.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use crate::batch::BatchHeader;
use crate::error::WriteError;

/// As many batches as a client may have in flight (`max.in.flight.requests.per.connection`).
const REMEMBERED_BATCHES: usize = 5;
/// A producer that has been silent for this long is unknown again (`producer.id.expiration.ms`).
const EXPIRATION_MS: i64 = 24 * 60 * 60 * 1000;

/// One remembered batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProducerBatch {
    first_sequence: i32,
    last_sequence: i32,
    first_offset: i64,
    last_offset: i64,
    max_timestamp: i64,
}

/// One producer's state in one log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Producer {
    epoch: i16,
    /// Wall clock of the last batch, as it stands in the journal.
    last_ms: i64,
    batches: VecDeque<ProducerBatch>,
}

/// Every producer that wrote to a log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProducerTable {
    producers: BTreeMap<i64, Producer>,
}

/// The verdict on a batch of an idempotent producer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is new and in order.
    Append,
    /// It was written before, at these offsets.
    Duplicate {
        /// Offset of the original's first record.
        first_offset: i64,
        /// Offset of the original's last record.
        last_offset: i64,
        /// Largest timestamp of the original (its append time in a log-append-time topic).
        max_timestamp: i64,
    },
}

/// The sequence number behind `sequence`, which wraps to 0 (KIP-98).
fn next_sequence(sequence: i32) -> i32 {
    if sequence == i32::MAX {
        0
    } else {
        sequence.saturating_add(1)
    }
}

impl Producer {
    fn is_expired(&self, now_ms: i64) -> bool {
        now_ms.saturating_sub(self.last_ms) > EXPIRATION_MS
    }
}

impl ProducerTable {
    /// True if no producer is remembered.
    pub fn is_empty(&self) -> bool {
        self.producers.is_empty()
    }

    /// Judges a batch by Kafka's rules (`ProducerAppendInfo`): an unknown producer may begin anywhere,
    /// a new epoch begins at 0, everything else follows the last sequence or repeats a known batch. Whether
    /// an expired producer was already forgotten makes no difference.
    pub fn check(&self, batch: &BatchHeader, now_ms: i64) -> Result<Verdict, WriteError> {
        let known = self.producers.get(&batch.producer_id);
        let Some(producer) = known.filter(|producer| !producer.is_expired(now_ms)) else {
            return Ok(Verdict::Append);
        };
        if batch.producer_epoch < producer.epoch {
            return Err(WriteError::InvalidProducerEpoch {
                current: producer.epoch,
                got: batch.producer_epoch,
            });
        }
        if batch.producer_epoch > producer.epoch {
            return match batch.base_sequence {
                0 => Ok(Verdict::Append),
                got => Err(WriteError::OutOfOrderSequence { expected: 0, got }),
            };
        }
        let repeated = producer
            .batches
            .iter()
            .find(|known| known.first_sequence == batch.base_sequence && known.last_sequence == batch.last_sequence());
        if let Some(known) = repeated {
            return Ok(Verdict::Duplicate {
                first_offset: known.first_offset,
                last_offset: known.last_offset,
                max_timestamp: known.max_timestamp,
            });
        }
        let Some(last) = producer.batches.back() else {
            return Ok(Verdict::Append);
        };
        if batch.base_sequence == next_sequence(last.last_sequence) {
            return Ok(Verdict::Append);
        }
        // Also if it lies behind the last five: nobody knows whether it was written before them, or never, because what is known of
        // the producer began behind it. Clients take what is called a duplicate as written. As Kafka does.
        Err(self.out_of_order(batch))
    }

    /// Says which sequence would have been the next one.
    pub fn out_of_order(&self, batch: &BatchHeader) -> WriteError {
        let last = self
            .producers
            .get(&batch.producer_id)
            .and_then(|known| known.batches.back());
        WriteError::OutOfOrderSequence {
            expected: last.map_or(0, |last| next_sequence(last.last_sequence)),
            got: batch.base_sequence,
        }
    }

    /// Remembers a batch that has its offsets.
    pub fn note(&mut self, batch: &BatchHeader, now_ms: i64) {
        if batch.producer_id < 0 || batch.is_control() {
            return;
        }
        let producer = self.producers.entry(batch.producer_id).or_insert_with(|| Producer {
            epoch: batch.producer_epoch,
            last_ms: now_ms,
            batches: VecDeque::new(),
        });
        if producer.epoch != batch.producer_epoch || producer.is_expired(now_ms) {
            producer.epoch = batch.producer_epoch;
            producer.batches.clear();
        }
        producer.last_ms = now_ms;
        producer.batches.push_back(ProducerBatch {
            first_sequence: batch.base_sequence,
            last_sequence: batch.last_sequence(),
            first_offset: batch.base_offset,
            last_offset: batch.last_offset(),
            max_timestamp: batch.max_timestamp,
        });
        if producer.batches.len() > REMEMBERED_BATCHES {
            producer.batches.pop_front();
        }
    }

    /// Forgets producers that have been silent for too long. True if there were any.
    pub fn expire(&mut self, now_ms: i64) -> bool {
        let before = self.producers.len();
        self.producers.retain(|_, producer| !producer.is_expired(now_ms));
        self.producers.len() < before
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn batch(epoch: i16, sequence: i32, records: i32, offset: i64) -> BatchHeader {
        BatchHeader {
            base_offset: offset,
            length: 49,
            leader_epoch: 0,
            magic: 2,
            crc: 0,
            attributes: 0,
            last_offset_delta: records - 1,
            base_timestamp: 0,
            max_timestamp: 7,
            producer_id: 1,
            producer_epoch: epoch,
            base_sequence: sequence,
            record_count: records,
        }
    }

    #[test]
    fn a_repeated_batch_has_the_original_offset() {
        let mut table = ProducerTable::default();
        table.note(&batch(0, 0, 3, 100), 0);
        table.note(&batch(0, 3, 1, 110), 0);
        assert_eq!(
            table.check(&batch(0, 0, 3, 0), 0),
            Ok(Verdict::Duplicate {
                first_offset: 100,
                last_offset: 102,
                max_timestamp: 7
            })
        );
        assert_eq!(table.check(&batch(0, 4, 2, 0), 0), Ok(Verdict::Append));
    }

    #[test]
    fn a_gap_is_refused_and_so_is_an_old_batch() {
        let mut table = ProducerTable::default();
        for number in 0..8 {
            table.note(&batch(0, number, 1, i64::from(number)), 0);
        }
        assert_eq!(
            table.check(&batch(0, 9, 1, 0), 0),
            Err(WriteError::OutOfOrderSequence { expected: 8, got: 9 })
        );
        assert_eq!(
            table.check(&batch(0, 1, 1, 0), 0),
            Err(WriteError::OutOfOrderSequence { expected: 8, got: 1 })
        );
    }

    /// The partition was made anew, say, and the batches in flight before were refused: if these were called duplicates, the
    /// client would believe them written.
    #[test]
    fn what_was_never_written_is_no_duplicate() {
        let mut table = ProducerTable::default();
        assert_eq!(
            table.check(&batch(0, 5, 1, 0), 0),
            Ok(Verdict::Append),
            "nobody knows it"
        );
        table.note(&batch(0, 5, 1, 0), 0);
        assert_eq!(
            table.check(&batch(0, 3, 1, 0), 0),
            Err(WriteError::OutOfOrderSequence { expected: 6, got: 3 })
        );
    }

    #[test]
    fn an_old_epoch_is_refused_and_a_new_one_begins_at_zero() {
        let mut table = ProducerTable::default();
        table.note(&batch(3, 0, 1, 0), 0);
        assert_eq!(
            table.check(&batch(2, 1, 1, 0), 0),
            Err(WriteError::InvalidProducerEpoch { current: 3, got: 2 })
        );
        assert_eq!(
            table.check(&batch(4, 5, 1, 0), 0),
            Err(WriteError::OutOfOrderSequence { expected: 0, got: 5 })
        );
        assert_eq!(table.check(&batch(4, 0, 1, 0), 0), Ok(Verdict::Append));
    }

    #[test]
    fn sequences_wrap_to_zero() {
        let mut table = ProducerTable::default();
        table.note(&batch(0, i32::MAX, 1, 0), 0);
        assert_eq!(table.check(&batch(0, 0, 1, 0), 0), Ok(Verdict::Append));
        let mut table = ProducerTable::default();
        table.note(&batch(0, i32::MAX - 1, 4, 0), 0);
        assert_eq!(table.check(&batch(0, 2, 1, 0), 0), Ok(Verdict::Append));
    }

    #[test]
    fn a_silent_producer_is_unknown_again() {
        let mut table = ProducerTable::default();
        table.note(&batch(3, 7, 1, 0), 0);
        assert!(table.check(&batch(0, 5, 1, 0), EXPIRATION_MS).is_err());
        assert_eq!(table.check(&batch(0, 5, 1, 0), EXPIRATION_MS + 1), Ok(Verdict::Append));
        assert!(!table.expire(EXPIRATION_MS));
        assert!(table.expire(EXPIRATION_MS + 1) && table.is_empty());
    }
}
