//! Hostile frames at the Kafka port. Whatever comes, the connection is answered or closed, every other client is served
//! on, nothing is stored, and memory stays near what it was.

use std::io::Read;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{
    ApiKey, ApiVersionsRequest, ApiVersionsResponse, CreateTopicsRequest, FetchRequest, FindCoordinatorRequest,
    JoinGroupRequest, ListOffsetsRequest, MetadataRequest, MetadataResponse, OffsetCommitRequest, ProduceRequest,
    TopicName,
};
use kafka_protocol::protocol::{Decodable, StrBytes};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::server::{Server, files, temp_dir};
use crate::wire::{Reply, Wire, encode, frame, head};

/// How much more memory hostile input may cost, whatever it claims to be.
const MEMORY_BYTES: u64 = 64 << 20;

/// A request of each layout that matters: plain and flexible, with nested arrays, records, nullable things.
fn well_formed() -> Vec<(ApiKey, Vec<u8>)> {
    let topic = TopicName(StrBytes::from_static_str("flipped"));
    let metadata = MetadataRequest::default()
        .with_topics(Some(vec![
            MetadataRequestTopic::default().with_name(Some(topic.clone())),
        ]))
        .with_allow_auto_topic_creation(false);
    let fetch = {
        use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
        FetchRequest::default()
            .with_max_wait_ms(1)
            .with_max_bytes(1 << 20)
            .with_topics(vec![FetchTopic::default().with_topic(topic.clone()).with_partitions(
                vec![FetchPartition::default().with_partition_max_bytes(1 << 20)],
            )])
    };
    let list_offsets = {
        use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
        ListOffsetsRequest::default().with_topics(vec![
            ListOffsetsTopic::default()
                .with_name(topic.clone())
                .with_partitions(vec![ListOffsetsPartition::default().with_timestamp(-1)]),
        ])
    };
    let produce = crate::bad_records::produce_request("flipped", crate::bad_records::batch(3, b"value").into());
    let commit = {
        use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
        OffsetCommitRequest::default()
            .with_group_id(StrBytes::from_static_str("group").into())
            .with_topics(vec![
                OffsetCommitRequestTopic::default()
                    .with_name(topic)
                    .with_partitions(vec![OffsetCommitRequestPartition::default().with_committed_offset(1)]),
            ])
    };
    vec![
        (
            ApiKey::Metadata,
            encode(ApiKey::Metadata, 1, 7, &MetadataRequest::default()),
        ),
        (ApiKey::Metadata, encode(ApiKey::Metadata, 9, 7, &metadata)),
        (ApiKey::Fetch, encode(ApiKey::Fetch, 4, 7, &fetch)),
        (ApiKey::Fetch, encode(ApiKey::Fetch, 12, 7, &fetch)),
        (ApiKey::ListOffsets, encode(ApiKey::ListOffsets, 7, 7, &list_offsets)),
        (ApiKey::Produce, encode(ApiKey::Produce, 7, 7, &produce)),
        (ApiKey::Produce, encode(ApiKey::Produce, 9, 7, &produce)),
        (ApiKey::OffsetCommit, encode(ApiKey::OffsetCommit, 8, 7, &commit)),
        (
            ApiKey::FindCoordinator,
            encode(ApiKey::FindCoordinator, 3, 7, &FindCoordinatorRequest::default()),
        ),
        (
            ApiKey::JoinGroup,
            encode(ApiKey::JoinGroup, 7, 7, &JoinGroupRequest::default()),
        ),
        (
            ApiKey::CreateTopics,
            encode(ApiKey::CreateTopics, 6, 7, &CreateTopicsRequest::default()),
        ),
        (
            ApiKey::ApiVersions,
            encode(ApiKey::ApiVersions, 3, 7, &ApiVersionsRequest::default()),
        ),
    ]
}

/// The server must serve everyone else as if nothing had been.
fn assert_serving(server: &mut Server) {
    assert!(server.is_running(), "the server ended:\n{}", server.log());
    let mut wire = Wire::connect(server.kafka);
    let versions: ApiVersionsResponse = wire.call(ApiKey::ApiVersions, 0, &ApiVersionsRequest::default());
    assert_eq!(versions.error_code, 0);
    assert!(!server.log().contains("panicked"), "{}", server.log());
}

/// Sends a frame and no more, and lets the server do with it what it wants: it may answer, close, or go on waiting (a
/// flipped bit can turn a Fetch into a long poll).
fn send_and_leave(address: SocketAddr, bytes: &[u8]) {
    use std::io::Write;
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    if stream
        .write_all(bytes)
        .and_then(|()| stream.shutdown(Shutdown::Write))
        .is_ok()
    {
        let mut answer = Vec::new();
        let _ = stream.take(1 << 20).read_to_end(&mut answer);
    }
}

#[test]
fn a_length_that_lies_closes_the_connection() {
    let dir = temp_dir();
    let mut server = Server::start(&dir.path().join("data"));
    let before = server.peak_memory_bytes();
    for length in [
        i32::MIN,
        -1,
        0,
        1,
        7,
        (100 << 20) + 1,
        0x4745_5420, /* "GET " */
        i32::MAX,
    ] {
        let mut wire = Wire::connect(server.kafka);
        wire.send(&length.to_be_bytes());
        wire.send(&head(ApiKey::ApiVersions as i16, 0));
        wire.finish_sending();
        assert_eq!(wire.reply(), Reply::Closed, "a frame of {length} bytes");
    }
    assert_serving(&mut server);
    assert!(server.peak_memory_bytes() < before + MEMORY_BYTES);
}

#[test]
fn a_truncated_frame_is_not_answered() {
    let dir = temp_dir();
    let mut server = Server::start(&dir.path().join("data"));
    for (key, request) in well_formed() {
        let framed = frame(&request);
        for length in 1..framed.len() {
            // All lengths of the small ones, some of the others.
            if framed.len() > 64 && length % 7 != 0 {
                continue;
            }
            let mut wire = Wire::connect(server.kafka);
            wire.send(&framed[..length]);
            wire.finish_sending();
            assert_eq!(wire.reply(), Reply::Closed, "{key:?} cut at {length}");
        }
    }
    assert_serving(&mut server);
}

#[test]
fn a_request_shorter_than_its_layout_closes_the_connection() {
    let dir = temp_dir();
    let mut server = Server::start(&dir.path().join("data"));
    for (key, request) in well_formed() {
        let body = head(key as i16, 0).len() + 1;
        for length in body..request.len() {
            let mut wire = Wire::connect(server.kafka);
            wire.send(&frame(&request[..length]));
            wire.finish_sending();
            // Cut exactly at the end of a last optional part it can be a request of its own.
            if let Reply::Frame(answer) = wire.reply() {
                assert!(
                    answer.starts_with(&7_i32.to_be_bytes()),
                    "{key:?} cut at {length}: {answer:?}"
                );
            }
        }
    }
    assert_serving(&mut server);
}

#[test]
fn counts_that_lie_cost_no_memory() {
    let dir = temp_dir();
    let mut server = Server::start(&dir.path().join("data"));
    let before = server.peak_memory_bytes();
    let mut wire = Wire::connect(server.kafka);
    let versions: ApiVersionsResponse = wire.call(ApiKey::ApiVersions, 0, &ApiVersionsRequest::default());
    let compact_maximum = [0xff, 0xff, 0xff, 0xff, 0x0f];
    let plain_maximum = i32::MAX.to_be_bytes();
    for api in &versions.api_keys {
        for version in api.min_version..=api.max_version {
            for claim in [&compact_maximum[..], &plain_maximum[..], &[0x7f; 4][..], &[0xff; 4][..]] {
                for at in [0, 1, 2, 4, 5, 6, 8, 13, 21] {
                    // Zeros up to some field, then the claim of more elements than there is memory, then nothing or a little.
                    let mut request = head(api.api_key, version);
                    request.resize(request.len() + at, 0);
                    request.extend_from_slice(claim);
                    request.extend_from_slice(&[0; 16]);
                    send_and_leave(server.kafka, &frame(&request));
                }
            }
        }
    }
    assert_serving(&mut server);
    let after = server.peak_memory_bytes();
    assert!(
        after < before + MEMORY_BYTES,
        "peak memory went from {before} to {after} bytes"
    );
}

#[test]
fn flipped_bits_and_random_bytes_end_nothing_but_their_connection() {
    let dir = temp_dir();
    let mut server = Server::start(&dir.path().join("data"));
    let before = server.peak_memory_bytes();
    let mut random = SmallRng::seed_from_u64(20_130_101);
    for (key, request) in well_formed() {
        for _ in 0..60 {
            let mut flipped = request.clone();
            for _ in 0..random.random_range(1..4) {
                // Not the API key: every key has its own turn.
                let bit = random.random_range(16..flipped.len() * 8);
                flipped[bit / 8] ^= 1 << (bit % 8);
            }
            send_and_leave(server.kafka, &frame(&flipped));
        }
        for version in 0..14 {
            let mut noise = head(key as i16, version);
            noise.extend((0..random.random_range(0..200)).map(|_| random.random::<u8>()));
            send_and_leave(server.kafka, &frame(&noise));
        }
    }
    assert_serving(&mut server);
    let after = server.peak_memory_bytes();
    assert!(
        after < before + 2 * MEMORY_BYTES,
        "peak memory went from {before} to {after} bytes"
    );
}

#[test]
fn frames_that_are_announced_and_never_sent_do_not_starve_others() {
    let dir = temp_dir();
    let mut server = Server::start(&dir.path().join("data"));
    let before = server.peak_memory_bytes();
    let announcing: Vec<Wire> = (0..50)
        .map(|_| {
            let mut wire = Wire::connect(server.kafka);
            wire.send(&(99_i32 << 20).to_be_bytes());
            wire.send(&head(ApiKey::Produce as i16, 9));
            wire
        })
        .collect();
    assert_serving(&mut server);
    drop(announcing);
    let after = server.peak_memory_bytes();
    assert!(
        after < before + MEMORY_BYTES,
        "peak memory went from {before} to {after} bytes"
    );
}

#[test]
fn an_unknown_api_closes_the_connection() {
    let dir = temp_dir();
    let mut server = Server::start(&dir.path().join("data"));
    // Not there at all, only for controllers, removed in 4.0, and every version that nobody has.
    for (key, version) in [
        (-1, 0),
        (999, 0),
        (52, 0),
        (4, 0),
        (3, 99),
        (3, -1),
        (0, 2),
        (1, 3),
        (0, 14),
    ] {
        let mut wire = Wire::connect(server.kafka);
        let mut request = head(key, version);
        request.extend_from_slice(&[0; 32]);
        wire.send(&frame(&request));
        assert_eq!(wire.reply(), Reply::Closed, "key {key} version {version}");
    }
    assert_serving(&mut server);
}

#[test]
fn an_unknown_version_of_api_versions_is_told_the_known_ones() {
    let dir = temp_dir();
    let server = Server::start(&dir.path().join("data"));
    for version in [5, 99, i16::MAX] {
        let mut wire = Wire::connect(server.kafka);
        let mut request = head(ApiKey::ApiVersions as i16, version);
        request.extend_from_slice(b"whatever a later version has here");
        wire.send(&frame(&request));
        let Reply::Frame(mut answer) = wire.reply() else {
            panic!("version {version} was not answered")
        };
        // Always in the layout of version 0, header and body: the client cannot know what this server speaks.
        assert_eq!(answer.split_to(4).as_ref(), 7_i32.to_be_bytes());
        let response = ApiVersionsResponse::decode(&mut answer, 0).unwrap();
        assert!(answer.is_empty(), "{} bytes too many", answer.len());
        assert_eq!(response.error_code, ResponseError::UnsupportedVersion.code());
        let keys: Vec<i16> = response.api_keys.iter().map(|api| api.api_key).collect();
        assert_eq!(keys, [ApiKey::ApiVersions as i16]);
        // The connection goes on.
        let known: ApiVersionsResponse = wire.call(
            ApiKey::ApiVersions,
            3,
            &ApiVersionsRequest::default()
                .with_client_software_name(StrBytes::from_static_str("it"))
                .with_client_software_version(StrBytes::from_static_str("1")),
        );
        assert_eq!(known.error_code, 0);
    }
}

#[test]
fn bad_topic_names_are_refused_and_leave_nothing_behind() {
    let dir = temp_dir();
    let data = dir.path().join("data");
    let mut server = Server::start(&data);
    let mut wire = Wire::connect(server.kafka);
    let long = "x".repeat(300);
    let names = [
        "a/b",
        "../../escaped",
        ".",
        "..",
        "",
        "a b",
        "a\0b",
        "ä",
        "line\nbreak",
        &long,
    ];
    for name in names {
        let topic = MetadataRequestTopic::default().with_name(Some(TopicName(StrBytes::from_string(name.to_string()))));
        let request = MetadataRequest::default()
            .with_topics(Some(vec![topic]))
            .with_allow_auto_topic_creation(true);
        let response: MetadataResponse = wire.call(ApiKey::Metadata, 9, &request);
        assert_eq!(
            response.topics[0].error_code,
            ResponseError::InvalidTopicException.code(),
            "{name:?}"
        );
    }
    assert_serving(&mut server);
    drop(server);
    assert_eq!(
        std::fs::read_dir(dir.path()).unwrap().count(),
        1,
        "something beside the data directory"
    );
    for file in files(&data) {
        assert!(!file.to_string_lossy().contains("escaped"), "{}", file.display());
    }
}

#[test]
fn responses_come_in_the_order_of_the_requests() {
    let dir = temp_dir();
    let server = Server::start(&dir.path().join("data"));
    let mut wire = Wire::connect(server.kafka);
    wire.create_topic("order");
    let mut pipeline = Vec::new();
    for correlation_id in 0..40 {
        let request = match correlation_id % 3 {
            0 => encode(ApiKey::ApiVersions, 0, correlation_id, &ApiVersionsRequest::default()),
            1 => encode(ApiKey::Metadata, 1, correlation_id, &MetadataRequest::default()),
            _ => {
                let records = crate::bad_records::batch(2, b"v").into();
                encode(
                    ApiKey::Produce,
                    7,
                    correlation_id,
                    &crate::bad_records::produce_request("order", records),
                )
            }
        };
        pipeline.extend_from_slice(&frame(&request));
    }
    wire.send(&pipeline);
    for correlation_id in 0..40_i32 {
        let Reply::Frame(answer) = wire.reply() else {
            panic!("{correlation_id} was not answered")
        };
        assert_eq!(answer[..4], correlation_id.to_be_bytes());
    }
}

#[test]
fn a_produce_without_acknowledgement_is_not_answered() {
    let dir = temp_dir();
    let server = Server::start(&dir.path().join("data"));
    let mut wire = Wire::connect(server.kafka);
    wire.create_topic("silent");
    let silent: ProduceRequest =
        crate::bad_records::produce_request("silent", crate::bad_records::batch(1, b"v").into()).with_acks(0);
    wire.send(&frame(&encode(ApiKey::Produce, 7, 1, &silent)));
    let versions: ApiVersionsResponse = wire.call(ApiKey::ApiVersions, 0, &ApiVersionsRequest::default());
    assert_eq!(versions.error_code, 0, "the first answer is the second request's");
    // With an error there is no answer either: the connection is closed.
    let bad = crate::bad_records::produce_request("silent", b"not a batch"[..].to_vec().into()).with_acks(0);
    wire.send(&frame(&encode(ApiKey::Produce, 7, 2, &bad)));
    assert_eq!(wire.reply(), Reply::Closed);
}
