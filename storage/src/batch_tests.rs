//! Tests of `batch` and of what `record` decodes.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use super::*;
use crate::record::{StoredRecord, decode_all, decode_batch};
use proptest::prelude::*;

const LIMITS: CheckLimits = CheckLimits {
    max_batch_bytes: 1 << 20,
    max_decompressed_bytes: 1 << 20,
    single_batch: true,
    require_keys: false,
};

fn record(value: &'static str) -> Record {
    Record {
        value: Some(Bytes::from_static(value.as_bytes())),
        timestamp_ms: 1_000,
        ..Record::default()
    }
}

fn built(records: Vec<Record>) -> CheckedBatches {
    let mut builder = BatchBuilder::new();
    for record in records {
        builder.push(record);
    }
    builder.build().unwrap()
}

/// Changes a header and makes its CRC right again, as a hostile client would.
fn forged(batch: &CheckedBatches, change: impl FnOnce(&mut BatchHeader)) -> Bytes {
    let payload = &batch.bytes()[HEADER_LEN..];
    let mut header = batch.headers()[0];
    change(&mut header);
    header.crc = header.computed_crc(payload);
    [&header.encode()[..], payload].concat().into()
}

fn refusal(bytes: Bytes) -> BatchError {
    check_produced(bytes, &LIMITS).unwrap_err()
}

/// Pins the format. The CRC-32C was computed with an independent implementation.
#[test]
fn golden_bytes() {
    let mut builder = BatchBuilder::new().producer(7, 2, 40).transactional(true);
    builder.push(Record {
        key: Some(Bytes::from_static(b"key")),
        value: Some(Bytes::from_static(b"value")),
        headers: vec![(Bytes::from_static(b"h"), None)],
        timestamp_ms: 0x0102_0304_0506,
    });
    let batch = builder.build().unwrap();
    #[rustfmt::skip]
    let expected = [
        0, 0, 0, 0, 0, 0, 0, 0,             // base offset
        0, 0, 0, 0x43,                      // length: 49 + 18
        0xff, 0xff, 0xff, 0xff,             // leader epoch
        2,                                  // magic
        0x0e, 0x8c, 0x4b, 0xb3,             // CRC-32C
        0, 0x10,                            // attributes: transactional
        0, 0, 0, 0,                         // last offset delta
        0, 0, 1, 2, 3, 4, 5, 6,             // base timestamp
        0, 0, 1, 2, 3, 4, 5, 6,             // max timestamp
        0, 0, 0, 0, 0, 0, 0, 7,             // producer id
        0, 2,                               // producer epoch
        0, 0, 0, 40,                        // base sequence
        0, 0, 0, 1,                         // record count
        34, 0, 0, 0, 6, b'k', b'e', b'y', 10, b'v', b'a', b'l', b'u', b'e', 2, 2, b'h', 1,
    ];
    assert_eq!(batch.bytes()[..], expected);
    let header = verify(&expected).unwrap();
    assert_eq!(header, batch.headers()[0]);
    assert_eq!((header.last_sequence(), header.size_bytes()), (40, 79));
    assert!(header.is_transactional() && header.has_producer() && !header.is_control());
}

#[test]
fn header_fields_have_their_places() {
    let bytes: Vec<u8> = (1..=61).collect();
    let fields = BatchHeader::fields(&bytes).unwrap();
    assert_eq!(fields.encode()[..], bytes);
    assert_eq!(fields.producer_id, i64::from_be_bytes([44, 45, 46, 47, 48, 49, 50, 51]));
}

#[test]
fn sequences_wrap_to_zero() {
    let mut header = built(vec![record("a")]).headers()[0];
    (header.base_sequence, header.last_offset_delta) = (i32::MAX, 0);
    assert_eq!(header.last_sequence(), i32::MAX);
    header.last_offset_delta = 3;
    assert_eq!(header.last_sequence(), 2);
    header.base_sequence = -1;
    assert_eq!(header.last_sequence(), -1);
}

#[test]
fn log_append_time_is_stamped_with_a_right_crc() {
    let batch = built(vec![record("a"), record("b")]);
    let payload = &batch.bytes()[HEADER_LEN..];
    let mut header = batch.headers()[0];
    restamp_log_append_time(&mut header, payload, 99);
    header.base_offset = 10;
    let stored = Bytes::from([&header.encode()[..], payload].concat());
    assert!(verify(&stored).unwrap().is_log_append_time());
    let records = decode_batch(&stored, 0).unwrap();
    let seen: Vec<_> = records.iter().map(|r| (r.offset, r.timestamp_ms)).collect();
    assert_eq!(seen, [(10, 99), (11, 99)]);
}

#[test]
fn duplicate_header_names_are_kept_in_order() {
    let header = |n: &'static str, v: Option<&'static str>| {
        (
            Bytes::from_static(n.as_bytes()),
            v.map(|v| Bytes::from_static(v.as_bytes())),
        )
    };
    let headers = vec![
        header("a", Some("1")),
        header("a", None),
        header("", Some("")),
        header("a", Some("1")),
    ];
    let batch = built(vec![Record {
        headers: headers.clone(),
        ..record("x")
    }]);
    assert_eq!(decode_batch(batch.bytes(), 0).unwrap()[0].headers, headers);
}

#[test]
fn what_clients_may_not_send_is_refused() {
    let good = built(vec![record("a"), record("b")]);
    check_produced(good.bytes().clone(), &LIMITS).unwrap();
    let bytes = good.bytes();

    assert!(matches!(refusal(Bytes::new()), BatchError::Empty));
    assert!(matches!(
        refusal(bytes.slice(..60)),
        BatchError::Truncated { needed_bytes: 61, .. }
    ));
    assert!(matches!(
        refusal(bytes.slice(..bytes.len() - 1)),
        BatchError::Truncated { .. }
    ));
    let twice = Bytes::from([&bytes[..], &bytes[..]].concat());
    assert!(matches!(refusal(twice.clone()), BatchError::NotSingle { count: 2 }));
    let several = CheckLimits {
        single_batch: false,
        ..LIMITS
    };
    let checked = check_produced(twice, &several).unwrap();
    assert_eq!((checked.headers().len(), checked.record_count()), (2, 4));
    assert!(checked.iter().all(|(_, batch)| batch == bytes));
    let small = CheckLimits {
        max_batch_bytes: bytes.len() - 1,
        ..LIMITS
    };
    let error = check_produced(bytes.clone(), &small).unwrap_err();
    assert!(matches!(error, BatchError::TooLarge { .. }));
    let keyed = CheckLimits {
        require_keys: true,
        ..LIMITS
    };
    let error = check_produced(bytes.clone(), &keyed).unwrap_err();
    assert!(matches!(error, BatchError::MissingKey { index: 0 }));
    let mut flipped = bytes.to_vec();
    flipped[70] ^= 1;
    assert!(matches!(refusal(flipped.into()), BatchError::BadCrc { .. }));
}

#[test]
fn headers_that_lie_are_refused() {
    let good = built(vec![record("a"), record("b")]);
    let forge = |change: fn(&mut BatchHeader)| refusal(forged(&good, change));
    assert!(matches!(forge(|h| h.magic = 1), BatchError::UnsupportedMagic(1)));
    assert!(matches!(forge(|h| h.length = 48), BatchError::BadLength(48)));
    assert!(matches!(forge(|h| h.length = -1), BatchError::BadLength(-1)));
    assert!(matches!(forge(|h| h.length = i32::MAX), BatchError::TooLarge { .. }));
    assert!(matches!(forge(|h| h.attributes = 5), BatchError::UnknownCompression(5)));
    assert!(matches!(forge(|h| h.attributes = 1), BatchError::Compression(_)));
    assert!(matches!(forge(|h| h.attributes = 0x20), BatchError::ControlBatch));
    assert!(matches!(forge(|h| h.attributes = 0x08), BatchError::LogAppendTimeSet));
    assert!(matches!(forge(|h| h.attributes = 0x10), BatchError::BadProducer { .. }));
    assert!(matches!(forge(|h| h.producer_id = 3), BatchError::BadProducer { .. }));
    assert!(matches!(forge(|h| h.record_count = 0), BatchError::BadCount { .. }));
    assert!(matches!(forge(|h| h.record_count = 3), BatchError::BadCount { .. }));
    let huge = |h: &mut BatchHeader| (h.record_count, h.last_offset_delta) = (i32::MAX, i32::MAX - 1);
    assert!(matches!(forge(huge), BatchError::BadCount { .. }));
    let three = |h: &mut BatchHeader| (h.record_count, h.last_offset_delta) = (3, 2);
    assert!(matches!(
        forge(three),
        BatchError::BadCount { .. } | BatchError::BadRecord { index: 2, .. }
    ));
    let one = |h: &mut BatchHeader| (h.record_count, h.last_offset_delta) = (1, 0);
    assert!(matches!(forge(one), BatchError::BadRecord { index: 1, .. }));
}

#[test]
fn a_read_skips_what_lies_below_and_control_batches() {
    let mut data = Vec::new();
    for (base_offset, attributes) in [(0, 0), (2, 0x20), (4, 0)] {
        let at = |h: &mut BatchHeader| (h.base_offset, h.attributes) = (base_offset, attributes);
        data.extend_from_slice(&forged(&built(vec![record("a"), record("b")]), at));
    }
    let data = Bytes::from(data);
    let offsets = |from| -> Vec<i64> {
        let decoded = decode_all(&data, from, 1 << 20).unwrap();
        assert_eq!(decoded.next_offset, from.max(6));
        decoded.records.iter().map(|r| r.offset).collect()
    };
    assert_eq!(offsets(0), [0, 1, 4, 5]);
    assert_eq!(offsets(1), [1, 4, 5]);
    assert_eq!(offsets(9), [0_i64; 0]);
    let cut = data.slice(..data.len() - 1);
    assert!(matches!(decode_all(&cut, 0, 0), Err(BatchError::Truncated { .. })));
}

/// Small batches that are large when decompressed: what is held at once is bounded, and nothing is skipped.
#[test]
fn the_limit_holds_for_all_batches_of_a_read() {
    let zeros = Record {
        value: Some(Bytes::from(vec![0; 1 << 20])),
        ..Record::default()
    };
    let headers = Record {
        headers: vec![(Bytes::new(), None); 1 << 16],
        ..Record::default()
    };
    for (record, limit) in [(zeros, 5 << 19), (headers, 5 << 18)] {
        for codec in Compression::ALL {
            if codec == Compression::None && record.headers.is_empty() {
                continue; // Its value is a slice of what was read.
            }
            let mut builder = BatchBuilder::new().compression(codec);
            builder.push(record.clone());
            let batch = builder.build().unwrap();
            let mut data = Vec::new();
            // Gaps between the batches, and control batches (which are not looked into) everywhere.
            for number in 0..8 {
                for (base_offset, attributes) in [(number * 10, 0x20), (number * 10 + 5, codec as i16)] {
                    let at = |h: &mut BatchHeader| (h.base_offset, h.attributes) = (base_offset, attributes);
                    data.extend_from_slice(&forged(&batch, at));
                }
            }
            let data = Bytes::from(data);
            let (mut next, mut offsets, mut calls) = (0, Vec::new(), 0);
            while next < 76 {
                let decoded = decode_all(&data, next, limit).unwrap();
                assert!(decoded.next_offset > next && decoded.decompressed_bytes <= limit);
                offsets.extend(decoded.records.iter().map(|r| r.offset));
                (next, calls) = (decoded.next_offset, calls + 1);
            }
            assert_eq!(offsets, [5, 15, 25, 35, 45, 55, 65, 75], "{codec:?}");
            assert!(calls >= 4, "{codec:?}: {calls}");
            let end = decode_all(&data, next, limit).unwrap();
            assert_eq!((end.records.len(), end.next_offset), (0, next));
        }
    }
}

#[test]
fn a_batch_that_cannot_be_decoded_is_an_error_once_it_is_the_first() {
    let packed = |zeros: usize, base_offset: i64| {
        let mut builder = BatchBuilder::new().compression(Compression::Zstd);
        builder.push(Record {
            value: Some(Bytes::from(vec![0; zeros])),
            ..Record::default()
        });
        forged(&builder.build().unwrap(), |h| h.base_offset = base_offset)
    };
    let data = Bytes::from([packed(10, 0), packed(2000, 1)].concat());
    let decoded = decode_all(&data, 0, 1000).unwrap();
    assert_eq!((decoded.records.len(), decoded.next_offset), (1, 1));
    assert!(matches!(decode_all(&data, 1, 1000), Err(BatchError::Compression(_))));
}

#[test]
fn an_empty_batch_is_not_built() {
    assert!(matches!(BatchBuilder::new().build(), Err(BatchError::Empty)));
}

fn bytes() -> impl Strategy<Value = Bytes> {
    prop::collection::vec(any::<u8>(), 0..300).prop_map(Bytes::from)
}

fn records() -> impl Strategy<Value = Vec<Record>> {
    let header = (bytes(), prop::option::of(bytes()));
    let headers = prop::collection::vec(header, 0..4);
    let record = (
        prop::option::of(bytes()),
        prop::option::of(bytes()),
        headers,
        any::<i64>(),
    )
        .prop_map(|(key, value, headers, timestamp_ms)| Record {
            key,
            value,
            headers,
            timestamp_ms,
        });
    prop::collection::vec(record, 1..20)
}

/// A few hundred bytes of zstd that would take hundreds of megabytes as records and headers.
#[test]
fn a_bomb_of_headers_is_refused() {
    let limits = CheckLimits {
        max_decompressed_bytes: 8 << 20,
        ..LIMITS
    };
    let bomb = |headers: usize| {
        let mut builder = BatchBuilder::new().compression(Compression::Zstd);
        builder.push(Record {
            headers: vec![(Bytes::new(), None); headers],
            ..Record::default()
        });
        builder.build().unwrap().bytes().clone()
    };
    let too_many = bomb(1 << 20);
    assert!(too_many.len() < 1000);
    assert!(matches!(
        check_produced(too_many.clone(), &limits),
        Err(BatchError::BadRecord { .. })
    ));
    assert!(decode_batch(&too_many, 8 << 20).is_err());
    assert_eq!(check_produced(bomb(1 << 16), &limits).unwrap().record_count(), 1);
}

proptest! {
    #[test]
    fn what_is_built_passes_and_decodes(records in records(), base_offset in 0..1_i64 << 40) {
        for codec in Compression::ALL {
            let mut builder = BatchBuilder::new().compression(codec).producer(1, 0, 5);
            records.iter().cloned().for_each(|r| builder.push(r));
            let uncompressed_bytes = builder.size_bytes();
            let batch = builder.build().unwrap();
            if codec == Compression::None {
                prop_assert_eq!(batch.size_bytes(), uncompressed_bytes);
            }
            let checked = check_produced(batch.bytes().clone(), &LIMITS).unwrap();
            prop_assert_eq!(checked.headers(), batch.headers());
            let stored = forged(&batch, |h| h.base_offset = base_offset);
            let decoded = decode_batch(&stored, 1 << 20).unwrap();
            let expected: Vec<_> = records.iter().cloned().zip(base_offset..).map(|(r, offset)| {
                StoredRecord { offset, timestamp_ms: r.timestamp_ms, key: r.key, value: r.value, headers: r.headers }
            }).collect();
            prop_assert_eq!(decoded, expected);
            let max = records.iter().map(|r| r.timestamp_ms).max().unwrap();
            prop_assert_eq!(batch.headers()[0].max_timestamp, max);
        }
    }

    #[test]
    fn any_flipped_bit_behind_the_prefix_is_found(records in records(), at in any::<prop::sample::Index>(), bit in 0..8) {
        let batch = built(records);
        let mut bytes = batch.bytes().to_vec();
        let at = 16 + at.index(bytes.len() - 16);
        bytes[at] ^= 1_u8 << bit;
        prop_assert!(verify(&bytes).is_err());
    }

    #[test]
    fn arbitrary_bytes_never_panic(noise in prop::collection::vec(any::<u8>(), 0..400)) {
        let noise = Bytes::from(noise);
        let _ = verify(&noise);
        let _ = check_produced(noise.clone(), &LIMITS);
        let _ = decode_batch(&noise, 1 << 16);
        let _ = decode_all(&noise, 0, 1 << 16);
    }

    /// Noise that gets past the checksum: a right header and CRC around arbitrary records and counts.
    #[test]
    fn arbitrary_payloads_never_panic(
        payload in prop::collection::vec(any::<u8>(), 0..300),
        codec in 0..5_i16,
        record_count in any::<i32>(),
        last_offset_delta in any::<i32>(),
    ) {
        let mut header = built(vec![record("a")]).headers()[0];
        header.length = 49 + payload.len() as i32;
        (header.attributes, header.record_count) = (codec, record_count);
        header.last_offset_delta = last_offset_delta;
        for deltas in [last_offset_delta, record_count.wrapping_sub(1)] {
            header.last_offset_delta = deltas;
            header.crc = header.computed_crc(&payload);
            let bytes = Bytes::from([&header.encode()[..], &payload].concat());
            prop_assert!(verify(&bytes).is_ok());
            let _ = check_produced(bytes.clone(), &LIMITS);
            let _ = decode_batch(&bytes, 1 << 16);
        }
    }
}
