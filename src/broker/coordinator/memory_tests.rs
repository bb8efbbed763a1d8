//! What the members of all groups hold has a bound, and comes back when they go.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use bytes::Bytes;
use riverlog_storage::Options;

use super::tests::{close, joining};
use super::*;
use crate::broker::{Broker, BrokerOptions};
use crate::groups::Protocol;

async fn open(dir: &std::path::Path, max_members_bytes: usize) -> Arc<Broker> {
    let mut options = BrokerOptions::default();
    options.groups.group.initial_rebalance_delay_ms = 0;
    options.groups.max_members_bytes = max_members_bytes;
    Broker::open(Storage::open(Options::new(dir)).unwrap(), options)
        .await
        .unwrap()
}

fn bringing(id: &str, bytes: usize) -> JoinRequest {
    JoinRequest {
        protocols: vec![Protocol {
            name: "range".into(),
            metadata: vec![0; bytes].into(),
        }],
        ..joining(id)
    }
}

fn syncing(joined: &Joined, bytes: usize) -> SyncRequest {
    SyncRequest {
        member_id: joined.member_id.clone(),
        instance_id: None,
        generation: joined.generation,
        protocol_type: None,
        protocol: None,
        assignments: [(joined.member_id.clone(), Bytes::from(vec![0; bytes]))].into(),
    }
}

#[tokio::test]
async fn members_hold_no_more_than_there_is_room_for() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open(dir.path(), 1_000_000).await;
    let groups = broker.groups();
    let held = || groups.shared.members_bytes.load(Ordering::Relaxed);
    let a = groups.join("a", bringing("m-a", 600_000)).await.unwrap();
    assert!((600_000..602_000).contains(&held()), "{}", held());
    let refused = groups.join("b", bringing("m-b", 600_000)).await.unwrap_err().error;
    assert!(matches!(refused, Error::NotAvailable(_)), "{refused}");
    // Whoever is in stays in: joining again brings nothing new.
    let again = JoinRequest {
        member_id: "m-a".into(),
        ..bringing("unused", 600_000)
    };
    let a = Joined {
        generation: groups.join("a", again).await.unwrap().generation,
        ..a
    };
    let refused = groups.sync("a", syncing(&a, 600_000)).await.unwrap_err();
    assert!(matches!(refused, Error::NotAvailable(_)), "{refused}");
    groups.sync("a", syncing(&a, 100_000)).await.unwrap();
    let full = held();
    assert!((700_000..702_000).contains(&full), "{full}");
    close(broker).await;

    // What was loaded counts as well.
    let broker = open(dir.path(), 1_000_000).await;
    let groups = broker.groups();
    let held = || groups.shared.members_bytes.load(Ordering::Relaxed);
    assert_eq!(held(), full);
    groups.leave("a", "m-a", None).unwrap();
    assert_eq!(held(), 0);
    groups.join("b", bringing("m-b", 600_000)).await.unwrap();
    close(broker).await;
}

#[tokio::test]
async fn one_member_brings_and_is_given_a_mebibyte_at_most() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open(dir.path(), usize::MAX).await;
    let groups = broker.groups();
    let refused = groups.join("g", bringing("m", 1 << 20)).await.unwrap_err().error;
    assert_eq!(refused, Error::MemberTooLarge { max_bytes: 1 << 20 });
    let many = JoinRequest {
        protocols: vec![bringing("m", 0).protocols[0].clone(); 10_000],
        ..joining("m")
    };
    let refused = groups.join("g", many).await.unwrap_err().error;
    assert_eq!(refused, Error::MemberTooLarge { max_bytes: 1 << 20 });
    let joined = groups.join("g", bringing("m", 1_000_000)).await.unwrap();
    let refused = groups.sync("g", syncing(&joined, (1 << 20) + 1)).await.unwrap_err();
    assert_eq!(refused, Error::MemberTooLarge { max_bytes: 1 << 20 });
    groups.sync("g", syncing(&joined, 1 << 20)).await.unwrap();
    close(broker).await;
}

#[tokio::test]
async fn ids_that_were_given_out_take_room_until_they_are_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open(dir.path(), 1_000_000).await;
    let groups = broker.groups();
    let announce = JoinRequest {
        require_known_id: true,
        ..bringing("m", 0)
    };
    groups.join("g", announce).await.unwrap_err();
    assert!(groups.shared.members_bytes.load(Ordering::Relaxed) > 0);
    groups.leave("g", "m", None).unwrap();
    assert_eq!(groups.shared.members_bytes.load(Ordering::Relaxed), 0);
    close(broker).await;
}
