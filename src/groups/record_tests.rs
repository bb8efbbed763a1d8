//! Golden bytes, written by Kafka 4.2's own classes, and input that nobody wrote.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use bytes::Bytes;
use proptest::prelude::*;
use uuid::Uuid;

use super::Committed;
use super::record::*;

fn bytes(hex: &str) -> Bytes {
    (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
        .collect::<Vec<_>>()
        .into()
}

fn committed() -> Committed {
    Committed {
        offset: 1_234_567_890_123,
        leader_epoch: 5,
        metadata: "méta".into(),
        commit_time_ms: 1_700_000_000_123,
        expire_time_ms: None,
        topic_id: Uuid::nil(),
    }
}

fn group() -> GroupMetadata {
    GroupMetadata {
        protocol_type: "consumer".into(),
        generation: 3,
        protocol: Some("range".into()),
        leader: Some("m-1".into()),
        state_since_ms: Some(1_700_000_000_456),
        members: vec![
            MemberMetadata {
                id: "m-1".into(),
                instance_id: Some("inst".into()),
                client_id: "cli".into(),
                client_host: "/127.0.0.1".into(),
                rebalance_timeout_ms: 300_000,
                session_timeout_ms: 45_000,
                subscription: Bytes::from_static(&[1, 2, 3]),
                assignment: Bytes::from_static(&[4, 5]),
            },
            MemberMetadata {
                id: "m-2".into(),
                instance_id: None,
                client_id: "".into(),
                client_host: "/::1".into(),
                rebalance_timeout_ms: 60_000,
                session_timeout_ms: 10_000,
                subscription: Bytes::new(),
                assignment: Bytes::new(),
            },
        ],
    }
}

#[test]
fn keys_are_kafkas() {
    let offset = bytes("0001000367727000066f726465727300000007");
    assert_eq!(offset_key("grp", "orders", 7).unwrap(), offset);
    let group = bytes("00020003677270");
    assert_eq!(group_key("grp").unwrap(), group);
    let decoded = Key::Offset {
        group: "grp".into(),
        topic: "orders".into(),
        partition: 7,
    };
    assert_eq!(decode_key(&offset).unwrap(), decoded);
    let mut legacy = offset.to_vec();
    legacy[1] = 0;
    assert_eq!(decode_key(&legacy.into()).unwrap(), decoded);
    assert_eq!(decode_key(&group).unwrap(), Key::Group { group: "grp".into() });
    assert_eq!(decode_key(&bytes("0003ffff")).unwrap(), Key::Other(3));
}

#[test]
fn offsets_are_written_as_kafka_writes_them() {
    let plain = committed();
    assert_eq!(
        offset_value(&plain).unwrap(),
        bytes("00040000011f71fb04cb00000005066dc3a974610000018bcfe5687b00")
    );
    let with_id = Committed {
        topic_id: Uuid::from_u128(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10),
        ..committed()
    };
    let golden =
        bytes("00040000011f71fb04cb00000005066dc3a974610000018bcfe5687b0100100102030405060708090a0b0c0d0e0f10");
    assert_eq!(offset_value(&with_id).unwrap(), golden);
    assert_eq!(decode_offset(&golden).unwrap(), with_id);
    let expiring = Committed {
        expire_time_ms: Some(1_700_000_999_999),
        ..committed()
    };
    let golden = bytes("00010000011f71fb04cb00056dc3a974610000018bcfe5687b0000018bcff4aa3f");
    assert_eq!(offset_value(&expiring).unwrap(), golden);
    // That version has no place for the leader epoch.
    assert_eq!(
        decode_offset(&golden).unwrap(),
        Committed {
            leader_epoch: -1,
            ..expiring
        }
    );
}

#[test]
fn offsets_of_every_version_are_read() {
    let without_epoch = Committed {
        leader_epoch: -1,
        ..committed()
    };
    for (hex, expected) in [
        ("00000000011f71fb04cb00056dc3a974610000018bcfe5687b", &without_epoch),
        (
            "00010000011f71fb04cb00056dc3a974610000018bcfe5687bffffffffffffffff",
            &without_epoch,
        ),
        ("00020000011f71fb04cb00056dc3a974610000018bcfe5687b", &without_epoch),
        (
            "00030000011f71fb04cb0000000500056dc3a974610000018bcfe5687b",
            &committed(),
        ),
        (
            "00040000011f71fb04cb00000005066dc3a974610000018bcfe5687b00",
            &committed(),
        ),
    ] {
        assert_eq!(&decode_offset(&bytes(hex)).unwrap(), expected, "{hex}");
    }
}

#[test]
fn a_string_that_has_no_place_in_a_record_is_not_written() {
    let (fits, long) = ("g".repeat(32_767), "g".repeat(32_768));
    assert!(offset_key(&fits, "t", 0).is_ok() && group_key(&fits).is_ok());
    assert!(offset_key(&long, "t", 0).is_err());
    assert!(offset_key("g", &long, 0).is_err());
    let refused = group_key(&long).unwrap_err().to_string();
    assert!(refused.contains("32768") && refused.contains("32767"), "{refused}");
    for expire_time_ms in [None, Some(1)] {
        let with = |metadata: &str| Committed {
            metadata: metadata.into(),
            expire_time_ms,
            ..committed()
        };
        assert_eq!(
            decode_offset(&offset_value(&with(&fits)).unwrap())
                .unwrap()
                .metadata
                .len(),
            32_767
        );
        assert!(offset_value(&with(&long)).is_err());
    }
    let damage: [fn(&mut GroupMetadata, std::sync::Arc<str>); 7] = [
        |group, text| group.protocol_type = text,
        |group, text| group.protocol = Some(text),
        |group, text| group.leader = Some(text),
        |group, text| group.members[0].id = text,
        |group, text| group.members[0].instance_id = Some(text),
        |group, text| group.members[0].client_id = text,
        |group, text| group.members[0].client_host = text,
    ];
    for damage in damage {
        let (mut good, mut bad) = (group(), group());
        damage(&mut good, fits.as_str().into());
        damage(&mut bad, long.as_str().into());
        assert_eq!(decode_group(&group_value(&good).unwrap()).unwrap(), good);
        assert!(group_value(&bad).is_err());
    }
}

const GROUP_V3: &str = "00030008636f6e73756d657200000003000572616e676500036d2d310000018bcfe569c80000000200036d2d310004\
    696e73740003636c69000a2f3132372e302e302e31000493e00000afc80000000301020300000002040500036d2d32ffff000000042f3a3a31\
    0000ea60000027100000000000000000";

#[test]
fn groups_are_written_as_kafka_writes_them() {
    let golden = bytes(GROUP_V3);
    assert_eq!(group_value(&group()).unwrap(), golden);
    assert_eq!(decode_group(&golden).unwrap(), group());
    let empty = GroupMetadata {
        generation: 4,
        protocol: None,
        leader: None,
        members: Vec::new(),
        ..group()
    };
    let golden = bytes("00030008636f6e73756d657200000004ffffffff0000018bcfe569c800000000");
    assert_eq!(group_value(&empty).unwrap(), golden);
    assert_eq!(decode_group(&golden).unwrap(), empty);
}

#[test]
fn groups_of_every_version_are_read() {
    let dynamic = |mut group: GroupMetadata| {
        group.members[0].instance_id = None;
        group
    };
    let v2 = dynamic(group());
    let v1 = GroupMetadata {
        state_since_ms: None,
        ..v2.clone()
    };
    let mut v0 = v1.clone();
    for member in &mut v0.members {
        member.rebalance_timeout_ms = member.session_timeout_ms;
    }
    for (hex, expected) in [
        (
            "00000008636f6e73756d657200000003000572616e676500036d2d310000000200036d2d310003636c69000a2f3132372e302e302e31\
             0000afc80000000301020300000002040500036d2d32000000042f3a3a31000027100000000000000000",
            v0,
        ),
        (
            "00010008636f6e73756d657200000003000572616e676500036d2d310000000200036d2d310003636c69000a2f3132372e302e302e31\
             000493e00000afc80000000301020300000002040500036d2d32000000042f3a3a310000ea60000027100000000000000000",
            v1,
        ),
        (
            "00020008636f6e73756d657200000003000572616e676500036d2d310000018bcfe569c80000000200036d2d310003636c69000a\
             2f3132372e302e302e31000493e00000afc80000000301020300000002040500036d2d32000000042f3a3a310000ea600000271000000000\
             00000000",
            v2,
        ),
        (
            "000409636f6e73756d6572000000030672616e6765046d2d310000018bcfe569c803046d2d3105696e737404636c690b2f3132372e30\
             2e302e31000493e00000afc80401020303040500046d2d320001052f3a3a310000ea600000271001010000",
            group(),
        ),
    ] {
        assert_eq!(decode_group(&bytes(hex)).unwrap(), expected, "{hex}");
    }
}

proptest! {
    #[test]
    fn arbitrary_input_is_an_error_or_a_value(input in proptest::collection::vec(any::<u8>(), 0..200)) {
        let input = Bytes::from(input);
        let _ = decode_key(&input);
        let _ = decode_offset(&input);
        let _ = decode_group(&input);
    }

    #[test]
    fn a_damaged_group_is_an_error_or_a_value(at in 0usize..110, byte: u8, cut in 0usize..115) {
        let mut damaged = bytes(GROUP_V3).to_vec();
        let at = at % damaged.len();
        damaged[at] = byte;
        let _ = decode_group(&Bytes::from(damaged.clone()));
        damaged.truncate(cut);
        let _ = decode_group(&damaged.into());
    }

    #[test]
    fn what_is_written_is_read(offset: i64, epoch: i32, text in ".{0,40}", time in 0i64.., id: u128) {
        let value = Committed {
            offset,
            leader_epoch: epoch,
            metadata: text.as_str().into(),
            commit_time_ms: time,
            expire_time_ms: None,
            topic_id: Uuid::from_u128(id),
        };
        prop_assert_eq!(decode_offset(&offset_value(&value).unwrap()).unwrap(), value);
    }
}
