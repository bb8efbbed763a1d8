//! What was once published against Kafka and its peers, tried on us: everything that concerns what a broker hears from
//! strangers. Where another test tries it already, the table names that test.
//!
//! | published as | of | what it was | tried by |
//! |---|---|---|---|
//! | CVE-2022-34917 | Apache Kafka | unauthenticated clients make the broker allocate any amount of memory | [`cve_2022_34917_lengths_before_authentication`], `bad_frames::counts_that_lie_cost_no_memory` |
//! | CVE-2018-1288 | Apache Kafka | a client's Fetch claims to be a follower's and disturbs replication | [`cve_2018_1288_a_fetch_that_claims_to_be_a_follower`] |
//! | CVE-2023-34455, CVE-2023-43642 | snappy-java | the length of a chunk is believed and allocated | [`cve_2023_34455_and_43642_snappy_chunks_of_any_length`] |
//! | CVE-2024-36124, CVE-2025-12183 | iq80 snappy, lz4-java | a block copies from outside of its output | [`cve_2024_36124_and_2025_12183_blocks_that_reach_outside`] |
//! | (CWE-409) | many brokers and clients | decompression bombs | [`decompression_bombs_of_every_codec`], `bad_records::a_decompression_bomb_is_refused_without_being_inflated` |
//! | (envoy issue 45859) | Envoy's Kafka filters | a tagged field's length is believed and allocated | [`envoy_45859_tagged_fields_of_any_length`] |
//! | CVE-2025-27533 | Apache ActiveMQ | the sizes of buffers inside a command are not checked | `bad_frames::counts_that_lie_cost_no_memory` |
//! | CVE-2025-66168 | Apache ActiveMQ | the length of a packet is not checked, and the rest is read as further packets | `bad_frames::a_length_that_lies_closes_the_connection` |
//! | CVE-2022-28357, CVE-2022-26652 | nats-server | names from outside become paths and leave the data directory | [`cve_2022_28357_names_do_not_leave_the_data_directory`], `bad_frames::bad_topic_names_are_refused_and_leave_nothing_behind` |
//! | CVE-2023-46118 | RabbitMQ | HTTP bodies without a limit | `bad_http::a_body_that_never_ends_is_refused_at_the_limit` |
//! | CVE-2021-32714 | hyper | a chunk's size overflows | `src/http/hostile_tests.rs`, `a_request_cannot_hide_another` |
//! | CVE-2021-32715 | hyper | `Content-Length: +5` is taken for a length | the same |
//! | CVE-2019-16869, CVE-2019-20445 | Netty | a space before the colon; Content-Length beside Transfer-Encoding | the same |
//! | CVE-2019-20444, CVE-2022-32215, CVE-2023-38697, CVE-2025-22871 | Netty, Node.js, Falcon, Go | a header without a colon; one of several lines; `0x` and `+` before lengths; a bare line feed behind a chunk's size | [`http::cve_2019_20444_and_others_a_request_hides_another`] |
//! | CVE-2023-39326 | Go | chunk extensions without end | [`http::cve_2023_39326_chunk_extensions_without_end`] |
//! | CVE-2007-6750 | Apache HTTP Server | Slowloris: heads that never end hold every place | `bad_http::who_sends_nothing_is_not_waited_for`, `src/http/hostile_tests.rs`, `a_head_that_dribbles_is_given_up`, `evidence overload` |
//! | CVE-2023-44487 | HTTP/2 servers | rapid reset | [`http::cve_2023_44487_http_2_is_not_spoken`] |
//! | CVE-2025-58160, CVE-2009-4487 | tracing-subscriber, nginx | text from outside steers the terminal that shows the log | [`cve_2025_58160_and_2009_4487_nobody_else_writes_the_log`] |

mod http;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic, ReplicaState};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{
    ApiKey, ApiVersionsRequest, ApiVersionsResponse, BrokerId, CreateTopicsRequest, CreateTopicsResponse,
    DeleteTopicsRequest, DeleteTopicsResponse, FetchRequest, FetchResponse, FindCoordinatorRequest,
    FindCoordinatorResponse, MetadataRequest, MetadataResponse, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use riverlog_storage::compression::{Compression, compress};
use uuid::Uuid;

use crate::bad_http::{get, post};
use crate::bad_records::{ATTRIBUTES, HEADER_BYTES, batch, end_offset, produce, produce_request, sealed};
use crate::server::{Server, files, temp_dir, until};
use crate::wire::{Reply, Wire, encode, frame, head};

/// How much more memory an attack may cost.
const MEMORY_BYTES: u64 = 64 << 20;
/// What a compact length looks like that claims four gigabytes.
const COMPACT_MAXIMUM: [u8; 5] = [0xff, 0xff, 0xff, 0xff, 0x0f];

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

/// The server must be there for everyone else, with little more memory than it had.
fn assert_unharmed(server: &mut Server, peak_before: u64) {
    assert!(server.is_running(), "the server ended:\n{}", server.log());
    let versions: ApiVersionsResponse =
        Wire::connect(server.kafka).call(ApiKey::ApiVersions, 0, &ApiVersionsRequest::default());
    assert_eq!(versions.error_code, 0);
    assert!(get(server.http, "/healthz").starts_with("HTTP/1.1 200"));
    assert!(!server.log().contains("panicked"), "{}", server.log());
    let peak = server.peak_memory_bytes();
    assert!(
        peak < peak_before + MEMORY_BYTES,
        "peak memory went from {peak_before} to {peak} bytes"
    );
}

#[test]
fn cve_2022_34917_lengths_before_authentication() {
    let dir = temp_dir();
    let mut server = Server::start(&dir.path().join("data"));
    let before = server.peak_memory_bytes();
    // What comes before, and in, the authentication of a client: ApiVersions, SaslHandshake, SaslAuthenticate.
    for (key, versions) in [(18, 0..=4), (17, 0..=1), (36, 0..=2)] {
        for version in versions {
            for claim in [&i32::MAX.to_be_bytes()[..], &COMPACT_MAXIMUM, &[0x7f, 0xff]] {
                let mut wire = Wire::connect(server.kafka);
                wire.send(&frame(&[&head(key, version), claim, b"PLAIN"].concat()));
                wire.finish_sending();
                if let Reply::Frame(answer) = wire.reply() {
                    assert_eq!(key, 18, "version {version}: {answer:?}");
                }
            }
        }
    }
    // Tokens and frames as they come before the first request has a header.
    for start in [
        &b"\x7f\xff\xff\xff\0PLAIN\0user\0password"[..],
        b"\0\0\0\x0e\0user\0password",
    ] {
        let mut wire = Wire::connect(server.kafka);
        wire.send(start);
        wire.finish_sending();
        assert_eq!(wire.reply(), Reply::Closed);
    }
    assert_unharmed(&mut server, before);
}

#[test]
fn envoy_45859_tagged_fields_of_any_length() {
    let dir = temp_dir();
    let mut server = Server::start(&dir.path().join("data"));
    let before = server.peak_memory_bytes();
    for tags in [
        [&[1, 0][..], &COMPACT_MAXIMUM].concat(),
        COMPACT_MAXIMUM.to_vec(),
        [&[1][..], &COMPACT_MAXIMUM, &COMPACT_MAXIMUM].concat(),
    ] {
        // In the header, and behind a body that is right.
        let in_header = [&head(ApiKey::ApiVersions as i16, 3)[..], &tags, &[2, b'a', 2, b'b', 0]].concat();
        let behind = [&head(ApiKey::ApiVersions as i16, 3)[..], &[0, 2, b'a', 2, b'b'], &tags].concat();
        for request in [in_header, behind] {
            let mut wire = Wire::connect(server.kafka);
            wire.send(&frame(&request));
            assert_eq!(wire.reply(), Reply::Closed, "{request:?}");
        }
    }
    assert_unharmed(&mut server, before);
}

/// A Fetch of partition 0 from an offset; the follower's id is where the version has it.
fn fetch(wire: &mut Wire, version: i16, topic: (&str, Uuid), offset: i64, follower: Option<i32>) -> FetchResponse {
    let partition = FetchPartition::default()
        .with_fetch_offset(offset)
        .with_log_start_offset(if follower.is_some() { offset } else { -1 })
        .with_partition_max_bytes(1 << 20);
    let mut wanted = FetchTopic::default().with_partitions(vec![partition]);
    if version >= 13 {
        wanted.topic_id = topic.1;
    } else {
        wanted.topic = TopicName(text(topic.0));
    }
    let mut request = FetchRequest::default()
        .with_max_bytes(1 << 20)
        .with_topics(vec![wanted]);
    match follower {
        Some(id) if version >= 15 => {
            request.replica_state = ReplicaState::default()
                .with_replica_id(BrokerId(id))
                .with_replica_epoch(1);
        }
        Some(id) => request.replica_id = BrokerId(id),
        None => {}
    }
    wire.call(ApiKey::Fetch, version, &request)
}

#[test]
fn cve_2018_1288_a_fetch_that_claims_to_be_a_follower() {
    let dir = temp_dir();
    let mut server = Server::start(&dir.path().join("data"));
    let before = server.peak_memory_bytes();
    let mut wire = Wire::connect(server.kafka);
    wire.create_topic("t");
    assert_eq!(produce(&mut wire, "t", batch(3, b"value")), (0, 0));
    let name = MetadataRequestTopic::default().with_name(Some(TopicName(text("t"))));
    let request = MetadataRequest::default().with_topics(Some(vec![name]));
    let metadata: MetadataResponse = wire.call(ApiKey::Metadata, 12, &request);
    let topic = ("t", metadata.topics[0].topic_id);
    for version in [5, 11, 13, 15] {
        // Our own id, another broker's, and offsets before, at and behind the end: a follower's position moves the high
        // watermark, its log start the log's.
        for follower in [0, 1, 2, i32::MAX] {
            for offset in [0, 2, 3, 4, 1_000_000, i64::MAX] {
                let answer = fetch(&mut wire, version, topic, offset, Some(follower));
                let partition = &answer.responses[0].partitions[0];
                assert_eq!(
                    partition.error_code,
                    ResponseError::InvalidRequest.code(),
                    "version {version}, follower {follower}, offset {offset}"
                );
                assert!(partition.records.as_ref().is_none_or(|records| records.is_empty()));
            }
        }
        let answer = fetch(&mut wire, version, topic, 0, None);
        let partition = &answer.responses[0].partitions[0];
        assert_eq!(
            (
                partition.error_code,
                partition.high_watermark,
                partition.log_start_offset
            ),
            (0, 3, 0),
            "a consumer, version {version}"
        );
        assert!(partition.records.as_ref().is_some_and(|records| !records.is_empty()));
    }
    assert_eq!(produce(&mut wire, "t", batch(1, b"value")), (0, 3));
    assert_unharmed(&mut server, before);
}

/// A batch of one record whose records are this payload of this codec.
fn compressed(codec: Compression, payload: &[u8]) -> Vec<u8> {
    let mut bytes = batch(1, b"");
    bytes.truncate(HEADER_BYTES);
    bytes[ATTRIBUTES..ATTRIBUTES + 2].copy_from_slice(&(codec as i16).to_be_bytes());
    bytes.extend_from_slice(payload);
    sealed(bytes)
}

/// Every payload is refused, nothing is stored, and the next good batch is taken.
fn assert_refused(server: &mut Server, codec: Compression, payloads: &[Vec<u8>]) {
    let before = server.peak_memory_bytes();
    let mut wire = Wire::connect(server.kafka);
    let topic = codec.name();
    wire.create_topic(topic);
    for (number, payload) in payloads.iter().enumerate() {
        let (code, _) = produce(&mut wire, topic, compressed(codec, payload));
        assert_ne!(code, 0, "{topic} payload {number} of {} bytes", payload.len());
        assert_eq!(end_offset(&mut wire, topic), 0, "{topic} payload {number}");
    }
    assert_eq!(produce(&mut wire, topic, batch(1, b"good")), (0, 0));
    assert_unharmed(server, before);
}

#[test]
fn cve_2023_34455_and_43642_snappy_chunks_of_any_length() {
    let dir = temp_dir();
    let mut server = Server::start(&dir.path().join("data"));
    let header = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01";
    let mut payloads = Vec::new();
    // 0x7fffffff, and what a signed reader takes for -1, 0 and less than there is.
    for length in [i32::MAX, i32::MAX - 16, -1, i32::MIN, 0, 1, 1 << 30] {
        payloads.push([&header[..], &length.to_be_bytes()].concat());
        payloads.push([&header[..], &length.to_be_bytes(), b"a few bytes"].concat());
    }
    // A chunk that is all there, but says that it becomes four gigabytes, and one whose length has no end.
    let giant = [&COMPACT_MAXIMUM[..], b"\0a"].concat();
    let endless = [0xff_u8; 12].to_vec();
    for chunk in [&giant, &endless] {
        let length = i32::try_from(chunk.len()).unwrap().to_be_bytes();
        payloads.push([&header[..], &length, chunk].concat());
        payloads.push(chunk.clone());
    }
    // Headers without end, and one cut short.
    payloads.push(header.repeat(1000));
    payloads.push(header[..12].to_vec());
    payloads.push(header[..8].to_vec());
    assert_refused(&mut server, Compression::Snappy, &payloads);
}

#[test]
fn cve_2024_36124_and_2025_12183_blocks_that_reach_outside() {
    let dir = temp_dir();
    let mut server = Server::start(&dir.path().join("data"));
    // Snappy: eight bytes, of which "ab" is literal and the rest is copied from before the block, from offset 0, and from
    // far outside; then a literal longer than the block.
    let snappy = [
        &[8, 0x04, b'a', b'b', 0x09, 0x40][..],
        &[8, 0x04, b'a', b'b', 0x09, 0x00],
        &[8, 0x04, b'a', b'b', 0x17, 0xff, 0xff, 0xff, 0xff],
        &[8, 0xfc, 0xff, 0xff, 0xff, 0xff, b'a'],
    ];
    assert_refused(&mut server, Compression::Snappy, &snappy.map(<[u8]>::to_vec));
    // LZ4: a good frame's header, then such blocks in it: a match from before the output, from offset 0, a literal run and
    // a match run without end.
    let frame = &compress(Compression::Lz4, b"abc").unwrap()[..7];
    let blocks = [
        &[0x14, b'a', 0xff, 0xff, 0x50, b'b', b'c', b'd', b'e', b'f'][..],
        &[0x14, b'a', 0x00, 0x00, 0x50, b'b', b'c', b'd', b'e', b'f'],
        &[0xf0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, b'a'],
        &[0x1f, b'a', 0x01, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
    ];
    let mut payloads: Vec<Vec<u8>> = blocks
        .iter()
        .map(|block| {
            let length = u32::try_from(block.len()).unwrap().to_le_bytes();
            [frame, &length, block, &[0; 4]].concat()
        })
        .collect();
    // A block of two gigabytes, compressed and not.
    payloads.push([frame, &[0xff, 0xff, 0xff, 0x7f], b"abc"].concat());
    payloads.push([frame, &[0xff; 4], b"abc"].concat());
    assert_refused(&mut server, Compression::Lz4, &payloads);
}

#[test]
fn decompression_bombs_of_every_codec() {
    let dir = temp_dir();
    let mut server = Server::start_with(&dir.path().join("data"), &["--max-decompressed-bytes", "1048576"]);
    for (codec, size_bytes) in [
        (Compression::Gzip, 200 << 20),
        (Compression::Lz4, 200 << 20),
        (Compression::Zstd, 200 << 20),
        // It does not get smaller than a twentieth.
        (Compression::Snappy, 16 << 20),
    ] {
        let bomb = compress(codec, &vec![0; size_bytes]).unwrap();
        assert!(bomb.len() < 1 << 20, "{codec:?}: {} bytes", bomb.len());
        assert_refused(&mut server, codec, &[bomb]);
    }
}

#[test]
fn cve_2022_28357_names_do_not_leave_the_data_directory() {
    let dir = temp_dir();
    let data = dir.path().join("data");
    std::fs::write(dir.path().join("escaped"), "not ours").unwrap();
    let mut server = Server::start(&data);
    let before = server.peak_memory_bytes();
    let mut wire = Wire::connect(server.kafka);
    for name in [
        "../escaped",
        "../../escaped",
        "/tmp/escaped",
        "..",
        ".",
        "a/../../escaped",
        "escaped\0.log",
        "..\\escaped",
    ] {
        let topic = CreatableTopic::default()
            .with_name(TopicName(text(name)))
            .with_num_partitions(1)
            .with_replication_factor(1);
        let request = CreateTopicsRequest::default().with_topics(vec![topic]);
        let created: CreateTopicsResponse = wire.call(ApiKey::CreateTopics, 2, &request);
        assert_eq!(
            created.topics[0].error_code,
            ResponseError::InvalidTopicException.code(),
            "{name:?}"
        );
        let request = DeleteTopicsRequest::default().with_topic_names(vec![TopicName(text(name))]);
        let deleted: DeleteTopicsResponse = wire.call(ApiKey::DeleteTopics, 2, &request);
        assert_ne!(deleted.responses[0].error_code, 0, "{name:?}");
        let (code, _) = produce(&mut wire, name, batch(1, b"v"));
        assert_ne!(code, 0, "{name:?}");
        // A group is a key in a log; any name will do, and none is a path.
        let request = FindCoordinatorRequest::default().with_key(text(name));
        let found: FindCoordinatorResponse = wire.call(ApiKey::FindCoordinator, 0, &request);
        assert_eq!(found.error_code, 0, "{name:?}");
        let encoded: String = name.bytes().map(|byte| format!("%{byte:02x}")).collect();
        for path in [
            format!("/topics/{encoded}/records"),
            format!("/topics/../{encoded}/records"),
        ] {
            let answer = post(server.http, &path, "text/plain", "v");
            assert!(answer.starts_with("HTTP/1.1 4"), "{path}: {answer}");
            let answer = get(server.http, &path);
            assert!(answer.starts_with("HTTP/1.1 4"), "{path}: {answer}");
        }
    }
    assert_unharmed(&mut server, before);
    drop(server);
    let mut outside: Vec<_> = files(dir.path());
    outside.retain(|path| !path.starts_with("data"));
    assert_eq!(outside, [std::path::Path::new("escaped")]);
    assert_eq!(std::fs::read_to_string(dir.path().join("escaped")).unwrap(), "not ours");
    for file in files(&data) {
        assert!(!file.to_string_lossy().contains("escaped"), "{}", file.display());
    }
}

/// A name that would end the log's line, write another, clear the terminal and name its window.
const FORGED: &str = "evil\n1970-01-01T00:00:00.000000Z ERROR riverlog: FORGED\r\n{\"level\":\"FORGED\"}\r\u{1b}[2J\u{1b}]0;owned\u{7}\u{9b}31m";

/// Says it wherever a client can name something, in requests that the log has reason to mention.
fn say_everywhere(server: &Server) {
    // Where a Produce wants no answer, the log says why its connection is closed.
    let mut wire = Wire::connect(server.kafka);
    let unknown = produce_request(FORGED, batch(1, b"v").into()).with_acks(0);
    wire.send(&frame(&encode(ApiKey::Produce, 7, 1, &unknown)));
    assert_eq!(wire.reply(), Reply::Closed);
    let mut wire = Wire::connect(server.kafka);
    let request = MetadataRequest::default()
        .with_topics(Some(vec![
            MetadataRequestTopic::default().with_name(Some(TopicName(text(FORGED)))),
        ]))
        .with_allow_auto_topic_creation(true);
    let answer: MetadataResponse = wire.call(ApiKey::Metadata, 9, &request);
    assert_ne!(answer.topics[0].error_code, 0);
    let group = FindCoordinatorRequest::default().with_key(text(FORGED));
    let _: FindCoordinatorResponse = wire.call(ApiKey::FindCoordinator, 0, &group);
    // As the client's name: the header of a request that is malformed behind it.
    let mut request = head(ApiKey::Metadata as i16, 9)[..8].to_vec();
    request.extend_from_slice(&i16::try_from(FORGED.len()).unwrap().to_be_bytes());
    request.extend_from_slice(FORGED.as_bytes());
    request.extend_from_slice(&[0, 0xff]);
    wire.send(&frame(&request));
    assert_eq!(wire.reply(), Reply::Closed);
    // Over HTTP, as it is and encoded, in the path and in a header.
    let encoded: String = FORGED.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let answer = post(server.http, &format!("/topics/{encoded}/records"), "text/plain", "v");
    assert!(answer.starts_with("HTTP/1.1 4"), "{answer}");
    http::say(
        server.http,
        format!("GET /{FORGED} HTTP/1.1\r\nhost: {FORGED}\r\n\r\n").as_bytes(),
    );
}

#[test]
fn cve_2025_58160_and_2009_4487_nobody_else_writes_the_log() {
    for format in ["text", "json"] {
        let dir = temp_dir();
        let options = ["--log-format", format, "--log", "trace"];
        let mut server = Server::start_with(&dir.path().join("data"), &options);
        let before = server.peak_memory_bytes();
        say_everywhere(&server);
        until("the log to say why the connection was closed", || {
            server.log().contains("acks=0")
        });
        let log = server.log();
        assert!(log.contains("FORGED"), "{format}: it is quoted, made harmless:\n{log}");
        for line in log.lines() {
            assert!(!line.chars().any(char::is_control), "{format}: {line:?}");
            let time = if format == "json" {
                let event: serde_json::Value = serde_json::from_str(line).unwrap();
                assert_ne!(event["level"], "FORGED");
                event["timestamp"].as_str().unwrap().to_owned()
            } else {
                line.to_owned()
            };
            assert!(time.starts_with("20"), "{format}: {line:?}");
        }
        assert_unharmed(&mut server, before);
    }
}
