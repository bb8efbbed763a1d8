//! What is let in, what is answered with an error, and what ends a connection.

use kafka_protocol::messages::{ApiVersionsRequest, MetadataRequest};

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_version_of_api_versions_is_answered_as_version_0() {
    let broker = TestBroker::start().await;
    let mut client = broker.client().await;
    client
        .send_frame(&raw_request(18, 99, 7, b"\xff\xffwhatever comes then is not looked at"))
        .await;
    // Correlation id, error 35, one entry: key 18, versions 0 to 4. No header tags, no throttle time.
    assert_eq!(
        client.frame().await.unwrap(),
        &b"\0\0\0\x07\0\x23\0\0\0\x01\0\x12\0\0\0\x04"[..]
    );
    let known = ApiVersionsRequest::default()
        .with_client_software_name(StrBytes::from_static_str("test"))
        .with_client_software_version(StrBytes::from_static_str("1.0"));
    for version in 0..=4 {
        let response = client.ask(version, &known).await;
        assert_eq!(response.error_code, 0, "the connection goes on");
        let produce = response.api_keys.iter().find(|api| api.api_key == 0).unwrap();
        assert_eq!((produce.min_version, produce.max_version), (0, 13));
    }
    let nameless = client.ask(3, &ApiVersionsRequest::default()).await;
    assert_eq!(nameless.error_code, 42, "INVALID_REQUEST");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_served_or_malformed_closes_the_connection() {
    let broker = TestBroker::start().await;
    let cases: [(&str, Vec<u8>); 9] = [
        ("an unknown API", raw_request(999, 0, 1, b"\xff\xff")),
        ("a negative API", raw_request(-1, 0, 1, b"\xff\xff")),
        ("a broker's API", raw_request(6, 0, 1, b"\xff\xff")),
        (
            "Produce 2, which is only shown",
            raw_request(0, 2, 1, b"\xff\xff\0\x01\0\0\0\0\0\0\0\0"),
        ),
        ("Metadata 14", raw_request(3, 14, 1, b"\xff\xff\0\x01\0\0\0")),
        ("a count that lies", raw_request(3, 1, 1, b"\xff\xff\x7f\xff\xff\xff")),
        ("a body that is missing", raw_request(3, 1, 1, b"\xff\xff")),
        (
            "a client id that is not text",
            raw_request(3, 1, 1, b"\0\x02\xff\xfe\0\0\0\0"),
        ),
        (
            "a topic name that is not text",
            raw_request(3, 1, 1, b"\xff\xff\0\0\0\x01\0\x02\xff\xfe"),
        ),
    ];
    for (what, frame) in cases {
        let mut client = broker.client().await;
        client.send_frame(&frame).await;
        assert!(client.is_closed().await, "{what}");
    }
    for length in [-1_i32, 0, 7, i32::MAX, i32::MIN] {
        let mut client = broker.client().await;
        client.send_bytes(&length.to_be_bytes()).await;
        assert!(client.is_closed().await, "a frame of {length} bytes");
    }
    let mut client = broker.client().await;
    client.send_bytes(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(client.is_closed().await, "HTTP");
    assert!(
        !broker
            .client()
            .await
            .ask(1, &MetadataRequest::default())
            .await
            .brokers
            .is_empty(),
        "others are served"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn pipelined_requests_are_answered_in_order() {
    pipelined_requests(&TestBroker::with_topic(1).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_of_a_client_that_is_gone_counts_until_its_records_are_durable() {
    let broker = TestBroker::with_topic(1).await;
    let (go_on, until) = std::sync::mpsc::channel::<()>();
    let until = parking_lot::Mutex::new(until);
    let batches = || broker.broker.storage().stats().batches;
    let before = batches();
    // Whoever waits for a commit waits for this.
    broker.broker.storage().on_publish(move |_| {
        let _ = until.lock().recv_timeout(PATIENCE);
    });
    let value = "x".repeat(300_000);
    let mut client = broker.client().await;
    client.send(9, &produce(-1, "t", 0, batch(&[&value]))).await;
    client.send_bytes(&(-1_i32).to_be_bytes()).await;
    assert!(client.is_closed().await, "such a length ends the connection at once");
    assert!(broker.gate.request_bytes_in_use() >= value.len());
    drop(go_on);
    let counted_no_more = async {
        while broker.gate.request_bytes_in_use() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, counted_no_more).await.unwrap();
    assert_eq!(batches() - before, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn large_requests_are_not_read_ahead() {
    // An eighth of this may be under way, and the batches of two requests are more.
    let limits = Limits {
        request_bytes: 512 * 1024,
        ..Limits::default()
    };
    let broker = TestBroker::start_with(limits).await;
    broker.create_topic(1).await;
    let value = "x".repeat(80 * 1024);
    let groups = || broker.broker.storage().stats().groups;
    let before = groups();
    let mut client = broker.client().await;
    for _ in 0..10 {
        for _ in 0..4 {
            client.send(9, &produce(-1, "t", 0, batch(&[&value]))).await;
        }
        for _ in 0..4 {
            assert_eq!(answer_of(&client.receive::<ProduceRequest>(9).await.1).0, 0);
        }
    }
    // Each had a sync for itself.
    assert!(groups() - before >= 40);
}

/// So many that they wait for the same commits, and more than are given to the socket at once.
#[tokio::test(flavor = "multi_thread")]
async fn many_answers_come_in_order() {
    let broker = TestBroker::with_topic(1).await;
    let mut client = broker.client().await;
    for round in 0..5 {
        let mut sent = Vec::new();
        for _ in 0..60 {
            sent.push(client.send(9, &produce(-1, "t", 0, batch(&["a"]))).await);
        }
        for (index, id) in (0..).zip(sent) {
            let (answered, response) = client.receive::<ProduceRequest>(9).await;
            assert_eq!((answered, answer_of(&response)), (id, (0, round * 60 + index)));
        }
    }
}

async fn pipelined_requests(broker: &TestBroker) {
    let mut client = broker.client().await;
    for round in 0..20 {
        let mut sent = Vec::new();
        for _ in 0..5 {
            sent.push(client.send(9, &produce(-1, "t", 0, batch(&["a", "b"]))).await);
        }
        let metadata = client.send(1, &MetadataRequest::default()).await;
        let last = client.send(9, &produce(-1, "t", 0, batch(&["c"]))).await;
        for (index, id) in sent.into_iter().enumerate() {
            let (answered, response) = client.receive::<ProduceRequest>(9).await;
            assert_eq!(
                (answered, answer_of(&response)),
                (id, (0, round * 11 + index as i64 * 2))
            );
        }
        assert_eq!(client.receive::<MetadataRequest>(1).await.0, metadata);
        let (answered, response) = client.receive::<ProduceRequest>(9).await;
        assert_eq!((answered, answer_of(&response)), (last, (0, round * 11 + 10)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_connection_too_many_is_closed_and_the_others_go_on() {
    let broker = TestBroker::start_with(Limits {
        max_connections: 2,
        ..Limits::default()
    })
    .await;
    let (mut one, mut two) = (broker.client().await, broker.client().await);
    for client in [&mut one, &mut two] {
        client.ask(1, &MetadataRequest::default()).await;
    }
    assert!(broker.client().await.is_closed().await);
    drop(one);
    // The place is free as soon as the broker has seen the end of the connection.
    let free = async {
        loop {
            let mut client = broker.client().await;
            if client
                .stream
                .write_all(b"\0\0\0\x0e\0\x03\0\x01\0\0\0\x01\xff\xff\0\0\0\0")
                .await
                .is_ok()
                && client.frame().await.is_some()
            {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, free).await.unwrap();
    two.ask(1, &MetadataRequest::default()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_connection_is_closed() {
    let broker = TestBroker::start_with(Limits {
        idle_timeout: Duration::from_millis(50),
        ..Limits::default()
    })
    .await;
    let mut client = broker.client().await;
    client.ask(1, &MetadataRequest::default()).await;
    assert!(client.is_closed().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_was_idle_for_less_stays() {
    const TIMEOUT: Duration = Duration::from_millis(500);
    let broker = TestBroker::start_with(Limits {
        idle_timeout: TIMEOUT,
        ..Limits::default()
    })
    .await;
    let (mut client, begun) = (broker.client().await, tokio::time::Instant::now());
    let mut last = begun;
    while begun.elapsed() < 3 * TIMEOUT {
        last = tokio::time::Instant::now();
        client.ask(1, &MetadataRequest::default()).await;
        tokio::time::sleep(TIMEOUT / 50).await;
    }
    assert!(client.is_closed().await);
    assert!(last.elapsed() >= TIMEOUT, "{:?}", last.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_arriving_is_no_idleness() {
    const TIMEOUT: Duration = Duration::from_millis(300);
    let broker = TestBroker::start_with(Limits {
        idle_timeout: TIMEOUT,
        ..Limits::default()
    })
    .await;
    let mut client = broker.client().await;
    client.send_bytes(b"\0\0\0\x0e\0\x03\0\x01").await;
    for _ in 0..3 {
        // Each is there for as long as a connection may be idle.
        assert!(broker.client().await.is_closed().await);
    }
    client.send_bytes(b"\0\0\0\x01\xff\xff\0\0\0\0").await;
    assert!(client.frame().await.is_some());
}
