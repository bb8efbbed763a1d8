//! Produce and InitProducerId.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{InitProducerIdRequest, MetadataRequest, ProducerId, TransactionalId};
use riverlog_storage::compression::Compression;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_batch_is_refused_with_kafkas_code_and_nothing_is_written() {
    let broker = TestBroker::with_topic(1).await;
    let mut client = broker.client().await;
    let good = batch(&["a", "b"]);
    let mut bad_crc = good.to_vec();
    *bad_crc.last_mut().unwrap() ^= 1;
    let cases: [(&str, Bytes, ResponseError); 12] = [
        ("a flipped bit", bad_crc.into(), ResponseError::CorruptMessage),
        ("nothing", Bytes::new(), ResponseError::InvalidRecord),
        ("half a header", good.slice(..30), ResponseError::CorruptMessage),
        (
            "half a batch",
            good.slice(..good.len() - 1),
            ResponseError::CorruptMessage,
        ),
        ("format 1", patched(&good, 16, &[1]), ResponseError::InvalidRecord),
        (
            "two batches",
            [&good[..], &good[..]].concat().into(),
            ResponseError::InvalidRecord,
        ),
        (
            "a count that lies",
            patched(&good, 57, &3_i32.to_be_bytes()),
            ResponseError::InvalidRecord,
        ),
        (
            "a huge count",
            patched(&good, 57, &i32::MAX.to_be_bytes()),
            ResponseError::InvalidRecord,
        ),
        (
            "a last offset that lies",
            patched(&good, 23, &7_i32.to_be_bytes()),
            ResponseError::InvalidRecord,
        ),
        (
            "codec 7",
            patched(&good, 21, &7_i16.to_be_bytes()),
            ResponseError::UnsupportedCompressionType,
        ),
        (
            "a control batch",
            patched(&good, 21, &0x20_i16.to_be_bytes()),
            ResponseError::InvalidRecord,
        ),
        (
            "too large",
            batch(&[&"x".repeat(1_100_000)]),
            ResponseError::MessageTooLarge,
        ),
    ];
    for (what, records, expected) in cases {
        let (code, offset) = client.produce(records).await;
        assert_eq!(
            (ResponseError::try_from_code(code), offset),
            (Some(expected), -1),
            "{what}"
        );
    }
    assert_eq!(
        client.produce(good).await,
        (0, 0),
        "the log is still empty and the connection alive"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_record_is_named_from_version_8_on() {
    let broker = TestBroker::with_topic(1).await;
    let mut client = broker.client().await;
    let good = batch(&["a", "b"]);
    // The second record's offset delta: behind the first record (8 bytes with its length), length, attributes, timestamp.
    let bad = patched(&good, 61 + 8 + 3, &[8]);
    for version in [3, 7, 8, 12] {
        let response = client.ask(version, &produce(-1, "t", 0, bad.clone())).await;
        let partition = &response.responses[0].partition_responses[0];
        assert_eq!(
            ResponseError::try_from_code(partition.error_code),
            Some(ResponseError::InvalidRecord)
        );
        assert_eq!(partition.error_message.is_some(), version >= 8);
        let named: Vec<i32> = partition.record_errors.iter().map(|error| error.batch_index).collect();
        assert_eq!(named, if version >= 8 { vec![1] } else { vec![] }, "version {version}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn places_that_do_not_exist_are_refused_one_by_one() {
    let broker = TestBroker::with_topic(2).await;
    let mut client = broker.client().await;
    let partition = |index| {
        PartitionProduceData::default()
            .with_index(index)
            .with_records(Some(batch(&["a"])))
    };
    let topic = |name: &str, partitions: &[i32]| {
        TopicProduceData::default()
            .with_name(topic_name(name))
            .with_partition_data(partitions.iter().map(|index| partition(*index)).collect())
    };
    let request = ProduceRequest::default().with_acks(-1).with_topic_data(vec![
        topic("t", &[0, 2, -1, 1]),
        topic("nowhere", &[0]),
        topic("__consumer_offsets", &[0]),
    ]);
    let response = client.ask(9, &request).await;
    let codes: Vec<Vec<i16>> = response
        .responses
        .iter()
        .map(|topic| {
            topic
                .partition_responses
                .iter()
                .map(|partition| partition.error_code)
                .collect()
        })
        .collect();
    let internal = codes[2][0];
    assert_eq!(codes[..2], [vec![0, 3, 3, 0], vec![3]]);
    assert!(
        [3, 17].contains(&internal),
        "unknown before anybody commits, invalid afterwards: {internal}"
    );
    assert!(broker.broker.topic("nowhere").is_err(), "Produce creates nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn version_13_names_topics_by_id() {
    let broker = TestBroker::with_topic(1).await;
    let id = broker.broker.topic("t").unwrap().id;
    let mut client = broker.client().await;
    for (id, expected) in [(id, 0), (uuid::Uuid::from_u128(7), 100)] {
        let mut request = produce(-1, "", 0, batch(&["a"]));
        request.topic_data[0].topic_id = id;
        let response = client.ask(13, &request).await;
        assert_eq!(response.responses[0].topic_id, id);
        assert_eq!(answer_of(&response).0, expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn acks_decide_what_is_answered() {
    let broker = TestBroker::with_topic(1).await;
    let mut client = broker.client().await;
    assert_eq!(
        answer_of(&client.ask(9, &produce(1, "t", 0, batch(&["a"]))).await),
        (0, 0)
    );
    assert_eq!(
        answer_of(&client.ask(9, &produce(5, "t", 0, batch(&["a"]))).await),
        (21, -1),
        "INVALID_REQUIRED_ACKS"
    );
    client.send(9, &produce(0, "t", 0, batch(&["b"]))).await;
    // The next response is the next request's.
    client.ask(1, &MetadataRequest::default()).await;
    assert_eq!(client.produce(batch(&["c"])).await, (0, 2));
    client.send(9, &produce(0, "nowhere", 0, batch(&["d"]))).await;
    assert!(
        client.is_closed().await,
        "closing is the only way to report an error without a response"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_producer_that_repeats_itself_gets_the_original_offset() {
    let broker = TestBroker::with_topic(1).await;
    let mut client = broker.client().await;
    let idempotent = InitProducerIdRequest::default().with_transactional_id(None);
    let granted = client.ask(4, &idempotent).await;
    assert_eq!((granted.error_code, granted.producer_epoch), (0, 0));
    let other = client.ask(4, &idempotent).await;
    assert_ne!(granted.producer_id, other.producer_id);
    let id = granted.producer_id.0;
    let numbered = |epoch, sequence| build(BatchBuilder::new().producer(id, epoch, sequence), &["a", "b"]);
    assert_eq!(client.produce(numbered(0, 0)).await, (0, 0));
    assert_eq!(client.produce(numbered(0, 2)).await, (0, 2));
    assert_eq!(
        client.produce(numbered(0, 0)).await,
        (0, 0),
        "the duplicate of the first"
    );
    assert_eq!(
        client.produce(numbered(0, 8)).await,
        (45, -1),
        "OUT_OF_ORDER_SEQUENCE_NUMBER"
    );
    for sequence in [4, 6, 8, 10] {
        assert_eq!(client.produce(numbered(0, sequence)).await, (0, i64::from(sequence)));
    }
    assert_eq!(
        client.produce(numbered(0, 0)).await,
        (45, -1),
        "beyond the window nobody knows whether it was written; to a client 46 would mean that it was"
    );
    assert_eq!(client.produce(numbered(1, 0)).await, (0, 12), "a new epoch begins at 0");
    assert_eq!(
        client.produce(numbered(0, 12)).await,
        (47, -1),
        "INVALID_PRODUCER_EPOCH"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_are_refused_so_that_a_client_stops() {
    let broker = TestBroker::with_topic(1).await;
    let mut client = broker.client().await;
    let id = Some(TransactionalId(StrBytes::from_static_str("tx")));
    let response = client
        .ask(4, &InitProducerIdRequest::default().with_transactional_id(id.clone()))
        .await;
    assert_eq!((response.error_code, response.producer_id), (35, ProducerId(-1)));
    let empty = Some(TransactionalId::default());
    let response = client
        .ask(4, &InitProducerIdRequest::default().with_transactional_id(empty))
        .await;
    assert_eq!(response.error_code, 42, "an empty id is no id");
    let request = produce(-1, "t", 0, batch(&["a"])).with_transactional_id(id);
    assert_eq!(answer_of(&client.ask(9, &request).await), (42, -1));
    let transactional = build(BatchBuilder::new().producer(1, 0, 0).transactional(true), &["a"]);
    assert_eq!(client.produce(transactional).await, (42, -1));
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_are_kept_as_they_came_or_stamped_if_the_topic_says_so() {
    let broker = TestBroker::with_topic(1).await;
    let configs = [("message.timestamp.type".to_string(), "LogAppendTime".to_string())];
    broker
        .broker
        .create_topic("stamped", Some(1), configs.into(), false)
        .await
        .unwrap();
    let mut client = broker.client().await;
    let mut expected = Vec::new();
    for codec in [
        Compression::None,
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ] {
        let sent = build(BatchBuilder::new().compression(codec), &["a", "b"]);
        let offset = expected.len() as i64;
        expected.push(sent.clone());
        assert_eq!(client.produce(sent.clone()).await, (0, offset * 2));
        let response = client.ask(9, &produce(-1, "stamped", 0, sent)).await;
        assert!(response.responses[0].partition_responses[0].log_append_time_ms > 0);
    }
    let log = broker.broker.log_of("t", 0).unwrap();
    let stored = broker.broker.storage().read(log, 0, usize::MAX >> 1).unwrap().data;
    let mut rest = &stored[..];
    for sent in expected {
        // From the magic byte on; before it stand the offset, the length and the leader epoch.
        assert_eq!(rest[16..sent.len()], sent[16..]);
        rest = &rest[sent.len()..];
    }
    let zstd = build(BatchBuilder::new().compression(Compression::Zstd), &["a"]);
    assert_eq!(
        answer_of(&client.ask(6, &produce(-1, "t", 0, zstd)).await).0,
        76,
        "zstd before version 7"
    );
}
