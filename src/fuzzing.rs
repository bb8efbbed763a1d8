//! The decoders of this crate as fuzzers see them: bytes in, no abort, memory in proportion.
//!
//! `tools/fuzz` has a target for each [`Door`]; the property tests below push arbitrary and bent bytes through
//! the same doors in every test run.

use std::collections::BTreeMap;

use axum::extract::Query;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Uri};
use bytes::Bytes;
use kafka_protocol::messages::RequestKind;
use riverlog_storage::batch::BatchBuilder;
use riverlog_storage::record::{Record, StoredRecord};

use crate::archive;
use crate::broker::topic_config;
use crate::config::{HostPort, Settings};
use crate::demo::model;
use crate::groups::record::{self, Key};
use crate::groups::{Committed, subscribed_topics};
use crate::http::publish::record::{Defaults, parse_document, parse_line};
use crate::http::publish::{PublishQuery, ndjson, raw};
use crate::http::read::ReadQuery;
use crate::kafka::api_versions::APIS;
use crate::kafka::frame::{Request, RequestHead};
use crate::kafka::walker::Schema;
use crate::processing::codec;
use crate::processing::epoch::{Counters, Frame};
use crate::processing::state::StateChange;
use crate::processing::state_log;
use crate::processing::timer::{Timer, TimerChange, TimerKind};

/// A decoder of untrusted bytes.
#[derive(Debug, Clone, Copy)]
pub struct Door {
    /// The name of its fuzz target.
    pub name: &'static str,
    /// Decodes; anything but a return is a find.
    pub run: fn(&[u8]),
    /// Good input to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// Every door of this crate.
pub const DOORS: [Door; 6] = [REQUESTS, GROUP_RECORDS, JOB_STATE, HTTP, TEXTS, ARCHIVE];

/// Kafka request frames: header, walker, and the codec behind it, for every API and version that is served.
/// The first two bytes pick both; a real frame's own header is tried as well.
pub const REQUESTS: Door = Door {
    name: "requests",
    run: requests,
    seeds: || {
        let versions = (0..).zip(APIS).flat_map(|(api, row)| {
            let versions = 0..=(row.max - row.min) as u8;
            versions.map(move |version| [&[api, version][..], &[0; 48]].concat())
        });
        let frame = b"\0\x12\0\x03\0\0\0\x01\xff\xff\x01\x07\x02xx\x02a\x02b\0".to_vec();
        versions.chain([frame]).collect()
    },
};

/// The records of `__consumer_offsets` and the subscriptions of group members.
pub const GROUP_RECORDS: Door = Door {
    name: "group_records",
    run: group_records,
    seeds: || {
        let committed = Committed {
            offset: 7,
            leader_epoch: 1,
            metadata: "m".into(),
            commit_time_ms: 5,
            expire_time_ms: None,
            topic_id: riverlog_storage::Uuid::from_u128(3),
        };
        let member = record::MemberMetadata {
            id: "m-1".into(),
            instance_id: Some("i".into()),
            client_id: "c".into(),
            client_host: "/127.0.0.1".into(),
            rebalance_timeout_ms: 1,
            session_timeout_ms: 2,
            subscription: Bytes::from_static(SUBSCRIPTION),
            assignment: Bytes::from_static(b"\0\0"),
        };
        let group = record::GroupMetadata {
            protocol_type: "consumer".into(),
            generation: 3,
            protocol: Some("range".into()),
            leader: Some("m-1".into()),
            state_since_ms: Some(1),
            members: vec![member],
        };
        let records = [
            record::offset_key("g", "t", 1),
            record::group_key("g"),
            record::offset_value(&committed),
            record::group_value(&group),
            Ok(Bytes::from_static(SUBSCRIPTION)),
        ];
        records.into_iter().flatten().map(|record| record.to_vec()).collect()
    },
};

/// The records of `__job_state`: each is a kind, an offset step, a length of two bytes, and a value.
pub const JOB_STATE: Door = Door {
    name: "job_state",
    run: job_state,
    seeds: seed_job_state,
};

/// HTTP: bodies (raw by headers and query, JSON, NDJSON) and query parameters.
pub const HTTP: Door = Door {
    name: "http",
    run: http,
    seeds: || {
        [
            r#"{"key":"k\u0041","value":{"a":[1,null]},"headers":{"h":"x"},"partition":1,"timestamp":5}"#,
            r#"{"records":[{"value_base64":"AAE="},{"key_base64":"AA==","value":null,"headers":[{"name":"n","value_base64":""}]}]}"#,
            "key=a%20b&partition=3&timestamp=17",
            "partition=0&offset=earliest&limit=10&wait_ms=5",
            "riverlog-key-base64: AAE=\nriverlog-partition: 1\nriverlog-header-x: y",
        ]
        .map(|text| text.as_bytes().to_vec())
        .to_vec()
    },
};

/// Texts: config files, addresses, topic settings, and the demo's files and records.
pub const TEXTS: Door = Door {
    name: "texts",
    run: texts,
    seeds: || {
        [
            "data_dir = \"d\"\nkafka_addr = \"[::1]:9092\"\nnode_id = 3\nlog_format = \"json\"\n[[listener]]\naddr = \"h:1\"\n",
            "retention.ms=-1\nsegment.bytes=1048576\ncleanup.policy=delete\n",
            r#"{"type":"flight","time":"2013-01-01T10:00:00Z","carrier":"UA","flight":"1","origin":"EWR","dest":"IAH","delay_minutes":2}"#,
            r#"{"type":"clock","time":"2013-01-31T23:59:59Z"}"#,
            "dep_time,dep_delay,carrier,flight,origin,dest,time_hour\n517,2,UA,1545,EWR,IAH,2013-01-01T10:00:00Z\n",
            "origin,wind_speed,visib,time_hour\nEWR,10.357,NA,2013-01-01T06:00:00Z\n",
            "-10.357019999999999",
        ]
        .map(|text| text.as_bytes().to_vec())
        .to_vec()
    },
};

/// Backups, as they are checked and restored. Checksums would keep a fuzzer out, so the bytes are tried once as they come and
/// once with those of the archive mended.
pub const ARCHIVE: Door = Door {
    name: "archive",
    run: |data| {
        let _ = archive::verify(data);
        let _ = archive::verify(&mended_archive(data)[..]);
    },
    seeds: || vec![seed_archive()],
};

const SUBSCRIPTION: &[u8] = b"\x00\x01\x00\x00\x00\x02\x00\x01a\x00\x02bc\xff\xff\xff\xff";

fn requests(data: &[u8]) {
    let frame = Bytes::copy_from_slice(data);
    if let Some(head) = RequestHead::parse(&frame)
        && let Some(api) = APIS.iter().find(|api| api.key as i16 == head.api_key)
        && api.serves(head.version)
        && let Some(schema) = Schema::find(head.api_key)
        && let Ok(mut request) = Request::parse(head, schema, &frame)
    {
        let _ = RequestKind::decode(api.key, &mut request.body, head.version);
    }
    let Some(([api, version], body)) = data.split_first_chunk() else {
        return;
    };
    let Some(api) = APIS.get(usize::from(*api) % APIS.len()) else {
        return;
    };
    let version = api.min + i16::from(*version) % (api.max - api.min + 1);
    if Schema::find(api.key as i16).is_some_and(|schema| schema.check(version, body).is_ok()) {
        let _ = RequestKind::decode(api.key, &mut Bytes::copy_from_slice(body), version);
    }
}

fn group_records(data: &[u8]) {
    let bytes = Bytes::copy_from_slice(data);
    let _ = subscribed_topics(data);
    let _ = record::decode_offset(&bytes);
    let _ = record::decode_group(&bytes);
    if let Ok(Key::Offset {
        group,
        topic,
        partition,
    }) = record::decode_key(&bytes)
    {
        let written = record::offset_key(&group, &topic, partition);
        assert_eq!(written.as_ref().ok().and_then(|key| key.get(2..)), data.get(2..));
    }
}

const KINDS: [&str; 6] = ["state", "timers", "frame", "chunk", "snapshot", "?"];

fn job_state(data: &[u8]) {
    let mut records = Vec::new();
    let (mut rest, mut offset) = (data, 0i64);
    while let Some(([kind, step, high, low], behind)) = rest.split_first_chunk() {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let (value, behind) = behind.split_at_checked(length).unwrap_or((behind, &[]));
        rest = behind;
        offset += i64::from(*step);
        records.push(StoredRecord {
            offset,
            timestamp_ms: 0,
            key: KINDS
                .get(usize::from(*kind) % KINDS.len())
                .map(|kind| Bytes::from_static(kind.as_bytes())),
            value: Some([&[codec::FORMAT], value].concat().into()),
            headers: Vec::new(),
        });
    }
    let _ = state_log::replay(&records, "job");
}

fn seed_job_state() -> Vec<Vec<u8>> {
    let frame = |epoch| Frame {
        job: "job".into(),
        incarnation: 1,
        epoch,
        processing_time_ms: 5,
        watermark_ms: 4,
        key_groups: 256,
        operators: Vec::new(),
        inputs: Vec::new(),
        counters: Counters::default(),
    };
    let state = vec![StateChange {
        table: "t".into(),
        address: vec![0, 1, 2],
        value: Some(vec![3]),
    }];
    let timer = Timer {
        at_ms: 9,
        key: vec![1],
        name: "n".into(),
        payload: vec![],
    };
    let timers = vec![TimerChange {
        kind: TimerKind::Event,
        timer,
        set: true,
    }];
    let id = state_log::SnapshotId {
        incarnation: 1,
        covers: 2,
    };
    let chunk = state_log::Chunk {
        id,
        state: state.clone(),
        timers: timers.clone(),
    };
    let end = state_log::SnapshotEnd {
        id,
        chunks: 1,
        frame: frame(1),
    };
    let record = |kind: u8, value: Result<Vec<u8>, codec::Error>| {
        let value = value.unwrap_or_default().split_off(1);
        let length = (value.len() as u16).to_be_bytes();
        [&[kind, 1][..], &length, &value].concat()
    };
    let epoch = [
        record(0, codec::encode(&state)),
        record(1, codec::encode(&timers)),
        record(2, codec::encode(&frame(1))),
    ];
    let snapshot = [
        record(3, codec::encode(&chunk)),
        record(4, codec::encode(&end)),
        record(0, codec::encode(&state)),
        record(2, codec::encode(&frame(2))),
    ];
    vec![epoch.concat(), snapshot.concat()]
}

fn http(data: &[u8]) {
    let bytes = Bytes::copy_from_slice(data);
    let defaults = Defaults {
        partition: None,
        timestamp_ms: 5,
    };
    let _ = parse_document(&bytes, defaults);
    let mut lines = ndjson::Lines::default();
    for chunk in data.chunks(100) {
        lines.push(chunk);
        while let Ok(Some(line)) = lines.next(1 << 16) {
            let _ = parse_line(&line, defaults);
        }
    }
    if let Some(line) = lines.rest() {
        let _ = parse_line(&line, defaults);
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (query, headers) = text.split_once('\n').unwrap_or((text, ""));
    let Ok(uri) = format!("/?{query}").parse::<Uri>() else {
        return;
    };
    let _ = Query::<ReadQuery>::try_from_uri(&uri);
    let mut map = HeaderMap::new();
    for line in headers.lines() {
        if let Some((name, value)) = line.split_once(": ")
            && let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value))
        {
            map.append(name, value);
        }
    }
    let query = Query::<PublishQuery>::try_from_uri(&uri).map(|query| query.0);
    let _ = raw::record(query.unwrap_or_default(), &map, 5);
}

fn texts(data: &[u8]) {
    let _ = model::read_flights(data).map(|rows| rows.iter().map(model::flight_record).count());
    let _ = model::read_weather(data).map(|rows| rows.iter().map(model::weather_record).count());
    let _ = model::decode(&StoredRecord {
        offset: 0,
        timestamp_ms: 0,
        key: None,
        value: Some(Bytes::copy_from_slice(data)),
        headers: Vec::new(),
    });
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Some(number) = model::Thousandths::parse(text) {
        let _ = number.to_string();
    }
    if let Ok(settings) = Settings::from_text(text) {
        let _ = settings.resolve();
    }
    if let Ok(address) = text.parse::<HostPort>() {
        assert_eq!(address.to_string().parse(), Ok(address));
    }
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    let configs: BTreeMap<String, String> = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    if topic_config::check_all(&configs).is_ok() {
        let _ = riverlog_storage::LogConfig::parse(&configs);
    }
}

/// The entries of an archive under headers that check, and behind them a list that agrees with them.
fn mended_archive(data: &[u8]) -> Vec<u8> {
    let (mut mended, mut rest) = (Vec::new(), data);
    let mut list = "riverlog-backup 1\nlsn 7\n".to_owned();
    while let Some((header, behind)) = rest.split_first_chunk::<512>() {
        let mut header = tar::Header::from_byte_slice(header).clone();
        let bytes = header.entry_size().unwrap_or(0).min(behind.len() as u64);
        header.set_size(bytes);
        header.set_cksum();
        let path = String::from_utf8_lossy(&header.path_bytes()).into_owned();
        if path == "checksums" {
            break;
        }
        let (entry, _) = behind.split_at_checked(bytes as usize).unwrap_or_default();
        list += &format!("file {:08x} {bytes} {path}\n", crc32fast::hash(entry));
        mended.extend_from_slice(header.as_bytes());
        mended.extend_from_slice(entry);
        mended.resize(mended.len().next_multiple_of(512), 0);
        rest = behind.get(entry.len().next_multiple_of(512)..).unwrap_or_default();
    }
    archive::seal(&mut list);
    if let Ok(header) = archive::header("checksums", list.len() as u64) {
        mended.extend_from_slice(header.as_bytes());
        mended.extend_from_slice(list.as_bytes());
    }
    mended.resize(mended.len().next_multiple_of(512) + 1024, 0);
    mended
}

/// A segment with one batch, its index, and a manifest, whose insides another door tries.
fn seed_archive() -> Vec<u8> {
    let mut builder = BatchBuilder::new();
    builder.push(Record {
        value: Some(Bytes::from_static(b"value")),
        ..Record::default()
    });
    let batch = builder.build().map(|batch| batch.bytes().clone()).unwrap_or_default();
    let mut bytes = Vec::new();
    for (path, content) in [
        ("logs/1/00000000000000000000.index", &[0; 16][..]),
        ("logs/1/00000000000000000000.log", &batch),
        ("manifest", b"RIVERMAN"),
    ] {
        if let Ok(header) = archive::header(path, content.len() as u64) {
            bytes.extend_from_slice(header.as_bytes());
            bytes.extend_from_slice(content);
            bytes.resize(bytes.len().next_multiple_of(512), 0);
        }
    }
    mended_archive(&bytes)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn good_input_goes_through() {
        for door in DOORS {
            for seed in (door.seeds)() {
                (door.run)(&seed);
            }
        }
    }

    #[test]
    fn the_seed_of_archives_is_one() {
        let contents = archive::read(&seed_archive()[..], |_, source| archive::copy(source, |_| Ok(()))).unwrap();
        assert_eq!((contents.files, contents.lsn), (3, 7));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_do_not_abort(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            for door in DOORS {
                (door.run)(&bytes);
            }
        }

        #[test]
        fn bent_input_does_not_abort(
            seed in any::<prop::sample::Index>(),
            changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
            cut in any::<prop::sample::Index>(),
        ) {
            for door in DOORS {
                let seeds = (door.seeds)();
                let mut bytes = seeds[seed.index(seeds.len())].clone();
                for (at, to) in &changes {
                    let at = at.index(bytes.len());
                    bytes[at] = *to;
                }
                (door.run)(&bytes);
                bytes.truncate(cut.index(bytes.len()));
                (door.run)(&bytes);
            }
        }
    }
}
