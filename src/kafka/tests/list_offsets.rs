//! ListOffsets.

use kafka_protocol::messages::ListOffsetsRequest;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};

use super::*;

async fn offset(client: &mut Client, version: i16, timestamp: i64) -> (i16, i64, i64) {
    let partition = ListOffsetsPartition::default()
        .with_timestamp(timestamp)
        .with_current_leader_epoch(-1);
    let topic = ListOffsetsTopic::default()
        .with_name(topic_name("t"))
        .with_partitions(vec![partition]);
    let response = client
        .ask(version, &ListOffsetsRequest::default().with_topics(vec![topic]))
        .await;
    let partition = &response.topics[0].partitions[0];
    (partition.error_code, partition.offset, partition.timestamp)
}

fn at(timestamps: &[i64]) -> Bytes {
    let mut builder = BatchBuilder::new();
    for timestamp in timestamps {
        builder.push(record("x", *timestamp));
    }
    builder.build().unwrap().bytes().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn times_are_searched_record_by_record() {
    let broker = TestBroker::with_topic(1).await;
    let mut client = broker.client().await;
    client.produce(at(&[100, 300, 200])).await;
    client.produce(at(&[250, 500, 400])).await;
    for version in 1..=10 {
        for (timestamp, expected) in [
            (-1, (0, 6, -1)),
            (-2, (0, 0, -1)),
            (0, (0, 0, 100)),
            (100, (0, 0, 100)),
            (101, (0, 1, 300)),
            (300, (0, 1, 300)),
            (301, (0, 4, 500)),
            (500, (0, 4, 500)),
            (501, (0, -1, -1)),
            (i64::MAX, (0, -1, -1)),
        ] {
            assert_eq!(
                offset(&mut client, version, timestamp).await,
                expected,
                "v{version}, time {timestamp}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn special_times_exist_from_the_version_that_brought_them() {
    let broker = TestBroker::with_topic(1).await;
    let mut client = broker.client().await;
    for version in 7..=10 {
        assert_eq!(
            offset(&mut client, version, -3).await,
            (0, -1, -1),
            "an empty log has no maximum"
        );
    }
    client.produce(at(&[100, 900, 900, 300])).await;
    client.produce(at(&[200])).await;
    for version in 1..=10 {
        let unsupported = (35, -1, -1);
        let from = |first: i16, answer| if version >= first { answer } else { unsupported };
        assert_eq!(
            offset(&mut client, version, -3).await,
            from(7, (0, 1, 900)),
            "v{version} max timestamp"
        );
        assert_eq!(
            offset(&mut client, version, -4).await,
            from(8, (0, 0, -1)),
            "v{version} earliest local"
        );
        assert_eq!(
            offset(&mut client, version, -5).await,
            from(9, (0, -1, -1)),
            "v{version} latest tiered"
        );
        for unknown in [-6, -7, i64::MIN] {
            assert_eq!(
                offset(&mut client, version, unknown).await,
                unsupported,
                "v{version} {unknown}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn records_below_the_start_of_the_log_are_not_found() {
    let broker = TestBroker::with_topic(1).await;
    let mut client = broker.client().await;
    client.produce(at(&[100, 900, 50])).await;
    client.produce(at(&[60, 70])).await;
    client.produce(at(&[800])).await;
    let log = broker.broker.log_of("t", 0).unwrap();
    broker.broker.delete_records(log, 2).await.unwrap();
    assert_eq!(offset(&mut client, 7, -2).await, (0, 2, -1));
    assert_eq!(offset(&mut client, 7, 0).await, (0, 2, 50));
    assert_eq!(
        offset(&mut client, 7, 500).await,
        (0, 5, 800),
        "900 is below the start, in a batch that is not"
    );
    assert_eq!(offset(&mut client, 7, -3).await, (0, 5, 800));
    broker.broker.delete_records(log, 4).await.unwrap();
    assert_eq!(offset(&mut client, 7, -3).await, (0, 5, 800));
    client.produce(at(&[900, 40])).await;
    client.produce(at(&[30])).await;
    broker.broker.delete_records(log, 7).await.unwrap();
    assert_eq!(offset(&mut client, 7, -3).await, (0, 7, 40));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_asked_twice_or_unknown_is_an_error() {
    let broker = TestBroker::with_topic(1).await;
    let mut client = broker.client().await;
    let partition = |index| {
        ListOffsetsPartition::default()
            .with_partition_index(index)
            .with_timestamp(-1)
    };
    let topic = ListOffsetsTopic::default()
        .with_name(topic_name("t"))
        .with_partitions(vec![partition(0), partition(0), partition(1), partition(-1)]);
    let response = client
        .ask(1, &ListOffsetsRequest::default().with_topics(vec![topic]))
        .await;
    let codes: Vec<i16> = response.topics[0]
        .partitions
        .iter()
        .map(|partition| partition.error_code)
        .collect();
    assert_eq!(codes, [0, 42, 3, 3]);
}
