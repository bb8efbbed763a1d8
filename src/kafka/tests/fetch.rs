//! Fetch and OffsetForLeaderEpoch.

use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
use kafka_protocol::messages::{FetchRequest, OffsetForLeaderEpochRequest};
use tokio::time::Instant;

use super::*;

fn fetch(offset: i64) -> FetchRequest {
    fetch_partitions(&[(0, offset, 1 << 20)])
}

fn fetch_partitions(partitions: &[(i32, i64, i32)]) -> FetchRequest {
    let of = |(index, offset, max_bytes): &(i32, i64, i32)| {
        FetchPartition::default()
            .with_partition(*index)
            .with_fetch_offset(*offset)
            .with_partition_max_bytes(*max_bytes)
            .with_current_leader_epoch(-1)
            .with_last_fetched_epoch(-1)
    };
    let topic = FetchTopic::default()
        .with_topic(topic_name("t"))
        .with_partitions(partitions.iter().map(of).collect());
    FetchRequest::default()
        .with_max_bytes(1 << 20)
        .with_session_epoch(-1)
        .with_topics(vec![topic])
}

async fn ask(client: &mut Client, version: i16, request: &FetchRequest) -> Vec<PartitionData> {
    let mut response = client.ask(version, request).await;
    assert_eq!((response.error_code, response.session_id), (0, 0));
    response.responses.pop().unwrap().partitions
}

fn sizes(partitions: &[PartitionData]) -> Vec<usize> {
    partitions
        .iter()
        .map(|partition| partition.records.as_ref().unwrap().len())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_version_gives_the_records_and_the_ends() {
    let broker = TestBroker::with_topic(1).await;
    let id = broker.broker.topic("t").unwrap().id;
    let mut client = broker.client().await;
    let sent = batch(&["a", "b"]);
    client.produce(sent.clone()).await;
    for version in 4..=18 {
        for isolation_level in [0, 1] {
            let mut request = fetch(1).with_isolation_level(isolation_level);
            request.topics[0].topic_id = id;
            if version >= 13 {
                request.topics[0].topic = topic_name("");
            }
            if version < 7 {
                request.session_epoch = 0;
            }
            let partitions = ask(&mut client, version, &request).await;
            let partition = &partitions[0];
            assert_eq!(partition.error_code, 0);
            assert_eq!((partition.high_watermark, partition.last_stable_offset), (2, 2));
            assert_eq!(partition.log_start_offset, if version >= 5 { 0 } else { -1 });
            let aborted = partition.aborted_transactions.as_ref().map(Vec::len);
            assert_eq!(
                aborted,
                (isolation_level == 1).then_some(0),
                "null, not empty, unless asked"
            );
            assert_eq!(
                partition.records.as_ref().unwrap()[16..],
                sent[16..],
                "the whole batch, as it came"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_batch_comes_whatever_the_limits_and_the_others_within_them() {
    let broker = TestBroker::with_topic(2).await;
    let mut client = broker.client().await;
    let size = batch(&["a"]).len();
    for partition in [0, 0, 0, 1] {
        client.ask(9, &produce(-1, "t", partition, batch(&["a"]))).await;
    }
    let one = size as i32;
    for (partitions, max_bytes, expected) in [
        (vec![(0, 0, 1), (1, 0, 1)], 1 << 20, vec![size, 0]),
        (vec![(0, 3, 1), (1, 0, 1)], 1 << 20, vec![0, size]),
        (vec![(0, 0, 0), (1, 0, 0)], 0, vec![size, 0]),
        (vec![(0, 0, 2 * one), (1, 0, one)], 1 << 20, vec![2 * size, size]),
        (vec![(0, 0, 3 * one), (1, 0, one)], 3 * one, vec![3 * size, 0]),
        (vec![(0, 0, 3 * one), (1, 0, one)], 3 * one - 1, vec![2 * size, 0]),
        (vec![(0, 0, -5), (1, 0, i32::MIN)], i32::MIN, vec![size, 0]),
        (vec![(0, 0, i32::MAX), (1, 0, i32::MAX)], i32::MAX, vec![3 * size, size]),
    ] {
        let request = fetch_partitions(&partitions).with_max_bytes(max_bytes);
        assert_eq!(
            sizes(&ask(&mut client, 12, &request).await),
            expected,
            "{partitions:?} {max_bytes}"
        );
    }
}

/// With a topic of two partitions.
async fn with_little_memory() -> TestBroker {
    let limits = Limits {
        response_bytes: 1 << 20,
        ..Limits::default()
    };
    let broker = TestBroker::start_with(limits).await;
    let created = broker.broker.create_topic("t", Some(2), Default::default(), false);
    created.await.unwrap();
    broker
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_batch_larger_than_the_room_that_there_is_comes_all_the_same() {
    // An eighth of the memory is less than such a batch takes, and than the request allows.
    let broker = with_little_memory().await;
    let mut client = broker.client().await;
    let (large, small) = (batch(&["x".repeat(300_000).as_str()]), batch(&["a"]));
    for (partition, batch) in [(0, &small), (0, &large), (1, &small), (1, &large)] {
        client.ask(9, &produce(-1, "t", partition, batch.clone())).await;
    }
    for (offsets, expected) in [
        ([1, 0], [large.len(), 0]),
        ([0, 1], [small.len(), 0]),
        ([2, 1], [0, large.len()]),
        ([2, 2], [0, 0]),
    ] {
        let request = fetch_partitions(&[(0, offsets[0], 1 << 20), (1, offsets[1], 1 << 20)]);
        assert_eq!(sizes(&ask(&mut client, 12, &request).await), expected, "{offsets:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_least_bytes_count_also_if_the_limits_allow_more_than_the_memory() {
    let broker = with_little_memory().await;
    let mut client = broker.client().await;
    client.ask(9, &produce(-1, "t", 0, batch(&["a"]))).await;
    let begun = Instant::now();
    let request = fetch_partitions(&[(0, 0, 1 << 20), (1, 0, 1 << 20)])
        .with_max_wait_ms(50)
        .with_min_bytes(10_000);
    assert_eq!(sizes(&ask(&mut client, 12, &request).await), [batch(&["a"]).len(), 0]);
    assert!(begun.elapsed() >= Duration::from_millis(50), "it waited for more");
    // What the memory cuts off counts.
    client
        .ask(9, &produce(-1, "t", 1, batch(&["x".repeat(300_000).as_str()])))
        .await;
    let request = request.with_max_wait_ms(PATIENCE.as_millis() as i32);
    let begun = Instant::now();
    assert_eq!(sizes(&ask(&mut client, 12, &request).await), [batch(&["a"]).len(), 0]);
    assert!(begun.elapsed() < PATIENCE, "answered at once");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offset_outside_of_the_log_is_answered_with_its_range() {
    let broker = TestBroker::with_topic(1).await;
    let mut client = broker.client().await;
    client.produce(batch(&["a", "b", "c"])).await;
    let log = broker.broker.log_of("t", 0).unwrap();
    assert_eq!(broker.broker.delete_records(log, 1).await.unwrap(), 1);
    for (offset, expected) in [(-1, 1), (0, 1), (1, 0), (3, 0), (4, 1), (i64::MAX, 1), (i64::MIN, 1)] {
        let request = fetch(offset).with_max_wait_ms(0).with_min_bytes(1);
        let partition = &ask(&mut client, 12, &request).await[0];
        assert_eq!(partition.error_code, expected, "offset {offset}");
        assert_eq!(
            (partition.log_start_offset, partition.high_watermark),
            (1, 3),
            "offset {offset}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn leader_epochs_are_checked() {
    let broker = TestBroker::with_topic(1).await;
    let mut client = broker.client().await;
    client.produce(batch(&["a"])).await;
    let log = broker.broker.log_of("t", 0).unwrap();
    let epoch = broker.broker.storage().ends(log).unwrap().leader_epoch;
    for (believed, expected) in [(-1, 0), (epoch, 0), (epoch - 1, 74), (epoch + 1, 75)] {
        if believed < -1 {
            continue;
        }
        let mut request = fetch(0);
        request.topics[0].partitions[0].current_leader_epoch = believed;
        assert_eq!(
            ask(&mut client, 12, &request).await[0].error_code,
            expected,
            "Fetch believing {believed}"
        );
    }
    let asked = |leader_epoch, current_leader_epoch| {
        let partition = OffsetForLeaderPartition::default()
            .with_leader_epoch(leader_epoch)
            .with_current_leader_epoch(current_leader_epoch);
        let topic = OffsetForLeaderTopic::default()
            .with_topic(topic_name("t"))
            .with_partitions(vec![partition]);
        OffsetForLeaderEpochRequest::default().with_topics(vec![topic])
    };
    for version in 2..=4 {
        let response = client.ask(version, &asked(epoch, epoch)).await;
        let answer = &response.topics[0].partitions[0];
        assert_eq!(
            (answer.error_code, answer.leader_epoch, answer.end_offset),
            (0, epoch, 1)
        );
        let response = client.ask(version, &asked(epoch, epoch + 1)).await;
        assert_eq!(response.topics[0].partitions[0].error_code, 75);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_places_and_sessions_are_refused() {
    let broker = TestBroker::with_topic(1).await;
    let mut client = broker.client().await;
    assert_eq!(
        ask(&mut client, 12, &fetch_partitions(&[(1, 0, 1)])).await[0].error_code,
        3
    );
    let mut unknown = fetch(0);
    unknown.topics[0].topic = topic_name("nowhere");
    assert_eq!(ask(&mut client, 12, &unknown).await[0].error_code, 3);
    unknown.topics[0].topic_id = uuid::Uuid::from_u128(1);
    unknown.topics[0].topic = topic_name("");
    assert_eq!(
        ask(&mut client, 13, &unknown).await[0].error_code,
        100,
        "UNKNOWN_TOPIC_ID"
    );
    let in_session = fetch(0).with_session_id(5).with_session_epoch(1);
    assert_eq!(
        client.ask(12, &in_session).await.error_code,
        70,
        "FETCH_SESSION_ID_NOT_FOUND"
    );
    let new_session = fetch(0).with_session_epoch(0);
    assert_eq!(
        client.ask(12, &new_session).await.session_id,
        0,
        "a session is not begun"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_fetch_wakes_when_there_is_enough() {
    let broker = TestBroker::with_topic(2).await;
    let (mut reader, mut writer) = (broker.client().await, broker.client().await);
    let size = batch(&["a"]).len();
    let waiting = fetch_partitions(&[(0, 0, 1 << 20), (1, 0, 1 << 20)])
        .with_max_wait_ms(PATIENCE.as_millis() as i32)
        .with_min_bytes(2 * size as i32);
    let begun = Instant::now();
    let sent = reader.send(12, &waiting).await;
    writer.ask(9, &produce(-1, "t", 1, batch(&["a"]))).await;
    writer.ask(9, &produce(-1, "t", 0, batch(&["b"]))).await;
    let (answered, response) = reader.receive::<FetchRequest>(12).await;
    assert_eq!(sent, answered);
    assert_eq!(sizes(&response.responses[0].partitions), [size, size]);
    assert!(begun.elapsed() < PATIENCE, "woken, not timed out");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_does_not_wait_for_what_its_limits_would_not_let_through() {
    let broker = TestBroker::with_topic(2).await;
    let mut client = broker.client().await;
    for partition in [0, 1] {
        for _ in 0..3 {
            client.ask(9, &produce(-1, "t", partition, batch(&["a"]))).await;
        }
    }
    let size = batch(&["a"]).len();
    // A batch and a half of each; whole batches alone would never be enough.
    let limit = (size + size / 2) as i32;
    let patience_ms = PATIENCE.as_millis() as i32;
    let request = fetch_partitions(&[(0, 0, limit), (1, 0, limit)]).with_max_wait_ms(patience_ms);
    let begun = Instant::now();
    let response = client.ask(12, &request.clone().with_min_bytes(2 * limit)).await;
    assert_eq!(sizes(&response.responses[0].partitions), [size, size]);
    // So it is with the limit of all together.
    let request = request.with_min_bytes(limit).with_max_bytes(limit);
    let response = client.ask(12, &request).await;
    assert_eq!(sizes(&response.responses[0].partitions), [size, 0]);
    assert!(begun.elapsed() < PATIENCE, "answered at once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_waits_for_the_partitions_that_may_have_more_for_it() {
    let broker = TestBroker::with_topic(2).await;
    let (mut reader, mut writer) = (broker.client().await, broker.client().await);
    for _ in 0..3 {
        writer.ask(9, &produce(-1, "t", 0, batch(&["a"]))).await;
    }
    let size = batch(&["a"]).len();
    let limit = (size + size / 2) as i32;
    let begun = Instant::now();
    let request = fetch_partitions(&[(0, 0, limit), (1, 0, 1 << 20)])
        .with_max_wait_ms(PATIENCE.as_millis() as i32)
        .with_min_bytes(limit + 2 * size as i32);
    let sent = reader.send(12, &request).await;
    // What comes for the first one does not count; what comes for the other one does, piece by piece.
    for partition in [0, 1, 0, 1] {
        writer.ask(9, &produce(-1, "t", partition, batch(&["b"]))).await;
    }
    let (answered, response) = reader.receive::<FetchRequest>(12).await;
    assert_eq!(sent, answered);
    assert_eq!(sizes(&response.responses[0].partitions), [size, 2 * size]);
    // None of them may have more: of the first one there is more than a limit, and all of the second one's limit.
    let request = |limits: [i32; 2]| {
        fetch_partitions(&[(0, 0, limits[0]), (1, 1, limits[1])])
            .with_max_wait_ms(PATIENCE.as_millis() as i32)
            .with_min_bytes(10 * size as i32)
    };
    let response = ask(&mut reader, 12, &request([limit, size as i32])).await;
    assert_eq!(sizes(&response), [size, size]);
    // That a topic is gone, it learns also of a partition of which it has enough.
    reader.send(12, &request([limit, 1 << 20])).await;
    let id = broker.broker.topic("t").unwrap().id;
    broker.broker.delete_topic(id).await.unwrap();
    let (_, response) = reader.receive::<FetchRequest>(12).await;
    assert_eq!(response.responses[0].partitions[0].error_code, 3);
    assert!(begun.elapsed() < PATIENCE, "answered when there is enough");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_is_named_again_is_not_read_again() {
    let broker = TestBroker::with_topic(2).await;
    let mut client = broker.client().await;
    client.produce(batch(&["a"])).await;
    let request = fetch_partitions(&[(0, 0, 1 << 20), (0, 0, 1 << 20), (1, 0, 1 << 20), (0, 0, 1 << 20)]);
    let response = client.ask(12, &request).await;
    assert_eq!(sizes(&response.responses[0].partitions), [batch(&["a"]).len(), 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_fetch_ends_in_time_with_what_there_is_or_when_the_topic_goes() {
    let broker = TestBroker::with_topic(1).await;
    let mut client = broker.client().await;
    client.produce(batch(&["a"])).await;
    let begun = Instant::now();
    let request = fetch(0).with_max_wait_ms(50).with_min_bytes(1 << 20);
    assert_eq!(sizes(&ask(&mut client, 12, &request).await), [batch(&["a"]).len()]);
    assert!(begun.elapsed() >= Duration::from_millis(50));

    client
        .send(
            12,
            &fetch(1).with_max_wait_ms(PATIENCE.as_millis() as i32).with_min_bytes(1),
        )
        .await;
    broker
        .broker
        .delete_topic(broker.broker.topic("t").unwrap().id)
        .await
        .unwrap();
    let (_, response) = client.receive::<FetchRequest>(12).await;
    assert_eq!(response.responses[0].partitions[0].error_code, 3);
}

/// A client that was sent some of an answer that is larger than the system's buffers between the two.
async fn client_that_does_not_read(broker: &TestBroker) -> Client {
    broker.create_topic(1).await;
    let mut client = broker.client().await;
    let value = "x".repeat(900_000);
    for _ in 0..30 {
        assert_eq!(client.produce(batch(&[&value])).await.0, 0);
    }
    let mut all = fetch_partitions(&[(0, 0, i32::MAX)]);
    all.max_bytes = i32::MAX;
    client.send(12, &all).await;
    assert_eq!(client.stream.peek(&mut [0]).await.unwrap(), 1, "the answer comes");
    client
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_is_cut_after_the_time_that_it_may_be_idle() {
    let limits = Limits {
        idle_timeout: Duration::from_millis(300),
        ..Limits::default()
    };
    let broker = TestBroker::start_with(limits).await;
    let mut client = client_that_does_not_read(&broker).await;
    for _ in 0..2 {
        // Each is there for as long.
        assert!(broker.client().await.is_closed().await);
    }
    let read = client.frame().await;
    assert!(read.is_none(), "the answer was sent to its end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_is_cut_when_the_broker_ends() {
    let broker = TestBroker::start().await;
    let mut client = client_that_does_not_read(&broker).await;
    broker.shutdown.request();
    tokio::time::timeout(PATIENCE, broker.serving).await.unwrap().unwrap();
    let read = client.frame().await;
    assert!(
        read.is_none(),
        "the answer was sent to its end, so nobody had to wait for the client"
    );
}
