//! Record batches that are not what they say. The producer gets Kafka's error code, and no offset is used up.

use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    ApiKey, BrokerId, ListOffsetsRequest, ListOffsetsResponse, ProduceRequest, ProduceResponse, TopicName,
};
use kafka_protocol::protocol::StrBytes;

use crate::server::{Server, temp_dir};
use crate::wire::Wire;

// Where the fields of a record batch stand.
const LENGTH: usize = 8;
const MAGIC: usize = 16;
const CRC: usize = 17;
pub const ATTRIBUTES: usize = 21;
const LAST_OFFSET_DELTA: usize = 23;
const RECORD_COUNT: usize = 57;
pub const HEADER_BYTES: usize = 61;

/// A batch of equal records, uncompressed, written by hand: the tests change its bytes.
pub fn batch(records: u8, value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&0_i64.to_be_bytes()); // base offset
    bytes.extend_from_slice(&0_i32.to_be_bytes()); // length, below
    bytes.extend_from_slice(&(-1_i32).to_be_bytes()); // leader epoch
    bytes.push(2); // magic
    bytes.extend_from_slice(&0_u32.to_be_bytes()); // checksum, below
    bytes.extend_from_slice(&0_i16.to_be_bytes()); // attributes
    bytes.extend_from_slice(&(i32::from(records) - 1).to_be_bytes()); // last offset delta
    bytes.extend_from_slice(&1_700_000_000_000_i64.to_be_bytes()); // base timestamp
    bytes.extend_from_slice(&1_700_000_000_000_i64.to_be_bytes()); // max timestamp
    bytes.extend_from_slice(&(-1_i64).to_be_bytes()); // producer id
    bytes.extend_from_slice(&(-1_i16).to_be_bytes()); // producer epoch
    bytes.extend_from_slice(&(-1_i32).to_be_bytes()); // base sequence
    bytes.extend_from_slice(&i32::from(records).to_be_bytes());
    assert_eq!(bytes.len(), HEADER_BYTES);
    for delta in 0..records {
        bytes.extend_from_slice(&record(delta, value));
    }
    sealed(bytes)
}

/// One record without a key and without headers. All numbers are small enough for one byte, zigzag.
fn record(delta: u8, value: &[u8]) -> Vec<u8> {
    let mut body = vec![0, 0, delta * 2, 1, u8::try_from(value.len() * 2).unwrap()];
    body.extend_from_slice(value);
    body.push(0);
    let mut bytes = vec![u8::try_from(body.len() * 2).unwrap()];
    bytes.extend_from_slice(&body);
    bytes
}

/// With the length and the checksum that belong to it.
pub fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let length = i32::try_from(bytes.len() - LENGTH - 4).unwrap();
    bytes[LENGTH..LENGTH + 4].copy_from_slice(&length.to_be_bytes());
    let crc = crc_fast::crc32_iscsi(&bytes[ATTRIBUTES..]);
    bytes[CRC..CRC + 4].copy_from_slice(&crc.to_be_bytes());
    bytes
}

/// A batch with some bytes replaced, and sealed again: only the replaced field lies.
fn lying(at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut lying = batch(3, b"value");
    lying[at..at + bytes.len()].copy_from_slice(bytes);
    sealed(lying)
}

/// A request with acks=all for partition 0 of a topic.
pub fn produce_request(topic: &str, records: Bytes) -> ProduceRequest {
    let partition = PartitionProduceData::default()
        .with_index(0)
        .with_records(Some(records));
    let topic = TopicProduceData::default()
        .with_name(TopicName(StrBytes::from_string(topic.to_string())))
        .with_partition_data(vec![partition]);
    ProduceRequest::default()
        .with_acks(-1)
        .with_timeout_ms(10_000)
        .with_topic_data(vec![topic])
}

/// The error code and the offset.
pub fn produce(wire: &mut Wire, topic: &str, records: Vec<u8>) -> (i16, i64) {
    let response: ProduceResponse = wire.call(ApiKey::Produce, 7, &produce_request(topic, records.into()));
    let answer = &response.responses[0].partition_responses[0];
    (answer.error_code, answer.base_offset)
}

pub fn end_offset(wire: &mut Wire, topic: &str) -> i64 {
    let partition = ListOffsetsPartition::default().with_timestamp(-1);
    let topic = ListOffsetsTopic::default()
        .with_name(TopicName(StrBytes::from_string(topic.to_string())))
        .with_partitions(vec![partition]);
    let request = ListOffsetsRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_topics(vec![topic]);
    let response: ListOffsetsResponse = wire.call(ApiKey::ListOffsets, 1, &request);
    response.topics[0].partitions[0].offset
}

#[test]
fn a_bad_batch_is_refused_with_kafkas_error_and_stores_nothing() {
    let [corrupt_message, too_large, format, codec, invalid] = [
        ResponseError::CorruptMessage,
        ResponseError::MessageTooLarge,
        ResponseError::UnsupportedForMessageFormat,
        ResponseError::UnsupportedCompressionType,
        ResponseError::InvalidRecord,
    ]
    .map(|error| error.code());
    let dir = temp_dir();
    let server = Server::start(&dir.path().join("data"));
    let mut wire = Wire::connect(server.kafka);
    wire.create_topic("t");
    assert_eq!(produce(&mut wire, "t", batch(3, b"value")), (0, 0));

    let mut wrong_crc = batch(3, b"value");
    wrong_crc[CRC] ^= 1;
    let mut wrong_payload = batch(3, b"value");
    *wrong_payload.last_mut().unwrap() ^= 0x40;
    let two_batches = [batch(1, b"a"), batch(1, b"b")].concat();
    let trailing = [batch(1, b"a"), b"xyz".to_vec()].concat();
    let mut longer = batch(3, b"value");
    longer[LENGTH..LENGTH + 4].copy_from_slice(&1_000_000_i32.to_be_bytes());
    let mut negative = batch(3, b"value");
    negative[LENGTH..LENGTH + 4].copy_from_slice(&(-5_i32).to_be_bytes());
    let mut cut = batch(3, b"value");
    cut.truncate(70);
    let wrong_deltas = {
        let mut bytes = batch(1, b"a");
        bytes.truncate(HEADER_BYTES);
        bytes[LAST_OFFSET_DELTA..LAST_OFFSET_DELTA + 4].copy_from_slice(&1_i32.to_be_bytes());
        bytes[RECORD_COUNT..RECORD_COUNT + 4].copy_from_slice(&2_i32.to_be_bytes());
        bytes.extend_from_slice(&record(5, b"a"));
        bytes.extend_from_slice(&record(5, b"a"));
        sealed(bytes)
    };
    let gzip_of_nothing = lying(ATTRIBUTES, &1_i16.to_be_bytes());
    let unknown_codec = lying(ATTRIBUTES, &7_i16.to_be_bytes());
    let control = lying(ATTRIBUTES, &0x20_i16.to_be_bytes());
    // Kafka finds some of these while reading (corrupt message) and some while validating (invalid record).
    let corrupt = [corrupt_message, invalid];
    let format = [format, invalid];
    let any = [corrupt, format].concat();
    let codec = [codec, corrupt_message, invalid];
    let cases: Vec<(&str, Vec<u8>, &[i16])> = vec![
        ("a flipped checksum", wrong_crc, std::slice::from_ref(&corrupt_message)),
        (
            "a flipped payload bit",
            wrong_payload,
            std::slice::from_ref(&corrupt_message),
        ),
        (
            "magic 0",
            {
                let mut b = batch(3, b"value");
                b[MAGIC] = 0;
                b
            },
            &format,
        ),
        (
            "magic 1",
            {
                let mut b = batch(3, b"value");
                b[MAGIC] = 1;
                b
            },
            &format,
        ),
        (
            "magic 3",
            {
                let mut b = batch(3, b"value");
                b[MAGIC] = 3;
                b
            },
            &any,
        ),
        ("two batches", two_batches, std::slice::from_ref(&invalid)),
        ("bytes behind the batch", trailing, &corrupt),
        ("a length beyond the request", longer, &corrupt),
        ("a negative length", negative, &corrupt),
        ("a batch cut short", cut, &corrupt),
        ("nothing at all", Vec::new(), &corrupt),
        (
            "a header without its records",
            sealed(batch(3, b"value")[..HEADER_BYTES].to_vec()),
            &corrupt,
        ),
        (
            "a record count of 2147483647",
            lying(RECORD_COUNT, &i32::MAX.to_be_bytes()),
            &corrupt,
        ),
        (
            "a record count of -1",
            lying(RECORD_COUNT, &(-1_i32).to_be_bytes()),
            &corrupt,
        ),
        (
            "a record count of 0",
            lying(RECORD_COUNT, &0_i32.to_be_bytes()),
            &corrupt,
        ),
        (
            "one record less than there are",
            lying(RECORD_COUNT, &2_i32.to_be_bytes()),
            &corrupt,
        ),
        (
            "a last offset delta that is too large",
            lying(LAST_OFFSET_DELTA, &100_i32.to_be_bytes()),
            &corrupt,
        ),
        (
            "a last offset delta below zero",
            lying(LAST_OFFSET_DELTA, &(-1_i32).to_be_bytes()),
            &corrupt,
        ),
        ("offset deltas that are not 0, 1, 2", wrong_deltas, &corrupt),
        (
            "a record longer than the batch",
            lying(HEADER_BYTES, &[0xfe, 0x7f]),
            &corrupt,
        ),
        ("a compressed batch that is not compressed", gzip_of_nothing, &corrupt),
        ("a codec that does not exist", unknown_codec, &codec),
        ("a control batch", control, &corrupt),
        (
            "more than max.message.bytes",
            batch_of(2 << 20),
            std::slice::from_ref(&too_large),
        ),
    ];
    for (what, records, wanted) in cases {
        let (code, _) = produce(&mut wire, "t", records);
        assert!(wanted.contains(&code), "{what}: error {code}, wanted one of {wanted:?}");
        assert_eq!(end_offset(&mut wire, "t"), 3, "the log's end after {what}");
    }
    assert_eq!(
        produce(&mut wire, "t", batch(1, b"value")),
        (0, 3),
        "the next good batch"
    );
}

/// One record of about so many bytes.
fn batch_of(bytes: usize) -> Vec<u8> {
    let mut varint = Vec::new();
    let push = |varint: &mut Vec<u8>, value: usize| {
        let mut left = (value as u64) << 1;
        while left >= 0x80 {
            varint.push(left as u8 | 0x80);
            left >>= 7;
        }
        varint.push(left as u8);
    };
    let mut body = vec![0, 0, 0, 1];
    push(&mut body, bytes);
    body.resize(body.len() + bytes, b'x');
    body.push(0);
    push(&mut varint, body.len());
    let mut records = batch(1, b"");
    records.truncate(HEADER_BYTES);
    records.extend_from_slice(&varint);
    records.extend_from_slice(&body);
    sealed(records)
}

#[test]
fn a_decompression_bomb_is_refused_without_being_inflated() {
    use std::io::Write;
    let dir = temp_dir();
    let server = Server::start(&dir.path().join("data"));
    let mut wire = Wire::connect(server.kafka);
    wire.create_topic("t");
    let before = server.peak_memory_bytes();
    // 600 MB of zeros, a thousand times smaller.
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    let zeros = vec![0; 1 << 20];
    for _ in 0..600 {
        gzip.write_all(&zeros).unwrap();
    }
    let mut bomb = batch(1, b"");
    bomb.truncate(HEADER_BYTES);
    bomb[ATTRIBUTES..ATTRIBUTES + 2].copy_from_slice(&1_i16.to_be_bytes());
    bomb.extend_from_slice(&gzip.finish().unwrap());
    let (code, _) = produce(&mut wire, "t", sealed(bomb));
    assert_ne!(code, 0);
    let after = server.peak_memory_bytes();
    assert!(
        after < before + (200 << 20),
        "peak memory went from {before} to {after} bytes"
    );
    assert_eq!(produce(&mut wire, "t", batch(1, b"v")).0, 0);
}
