//! Records of `__consumer_offsets` that cannot be read, as an earlier version wrote them, cost nobody else their group.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use riverlog_storage::record::Record;
use riverlog_storage::{Options, WriteSet};

use super::tests::{at, close, joining, offsets, open, tool};
use super::*;

fn entry(key: &[u8], value: Option<&[u8]>) -> Record {
    Record {
        key: Some(bytes::Bytes::copy_from_slice(key)),
        value: value.map(bytes::Bytes::copy_from_slice),
        headers: Vec::new(),
        timestamp_ms: 1,
    }
}

/// A string of 40,000 bytes, its length written with 16 bits.
fn too_long() -> Vec<u8> {
    let mut text = 40_000_u16.to_be_bytes().to_vec();
    text.resize(text.len() + 40_000, b'g');
    text
}

async fn write(storage: &Storage, log: riverlog_storage::LogId, records: Vec<Record>) {
    let write_set = WriteSet {
        appends: journal::appends(log, records).unwrap(),
        ..WriteSet::default()
    };
    let (sender, answer) = oneshot::channel();
    storage.submit(write_set, move |result| sender.send(result).unwrap());
    answer.await.unwrap().unwrap();
}

/// A data directory in which a membership of the group "bad" cannot be read.
pub(crate) async fn leave_a_damaged_group(dir: &std::path::Path) {
    let storage = Storage::open(Options::new(dir)).unwrap();
    let coordinator = GroupCoordinator::open(storage.clone(), GroupOptions::default(), 1);
    let coordinator = coordinator.await.unwrap();
    coordinator.commit("bad", tool(&[(0, 1)])).await.unwrap();
    let log = coordinator.shared.log_of("bad").unwrap();
    let mut value = vec![0, 3];
    value.extend_from_slice(&too_long());
    let key = record::group_key("bad").unwrap();
    write(&storage, log, vec![entry(&key, Some(&value))]).await;
    drop(coordinator);
    tokio::task::spawn_blocking(move || storage.close()).await.unwrap();
}

#[tokio::test]
async fn a_record_that_names_no_group_is_skipped() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open(dir.path()).await;
    broker.groups().commit("g", tool(&[(0, 5)])).await.unwrap();
    let log = broker.groups().shared.log_of("g").unwrap();
    for kind in [1_u8, 2] {
        let mut key = vec![0, kind];
        key.extend_from_slice(&too_long());
        write(broker.storage(), log, vec![entry(&key, Some(b"x")), entry(&key, None)]).await;
    }
    close(broker).await;

    let broker = open(dir.path()).await;
    assert_eq!(offsets(&broker, "g").await, [(0, 5)]);
    assert_eq!(broker.groups().troubles(), Vec::<String>::new());
    broker.groups().commit("g", tool(&[(0, 6)])).await.unwrap();
    close(broker).await;
}

#[tokio::test]
async fn a_group_that_cannot_be_read_is_refused_alone_until_it_is_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open(dir.path()).await;
    let groups = broker.groups();
    groups.commit("bad", tool(&[(0, 1), (1, 2)])).await.unwrap();
    groups.commit("healed", tool(&[(0, 3)])).await.unwrap();
    for (group, key) in [("bad", 1), ("healed", 0)] {
        let log = groups.shared.log_of(group).unwrap();
        let key = record::offset_key(group, "t", key).unwrap();
        write(broker.storage(), log, vec![entry(&key, Some(b"\0\x63"))]).await;
    }
    // The last word about this offset can be read again.
    groups.commit("healed", tool(&[(0, 4)])).await.unwrap();
    let partition = groups.partition_of("bad");
    let mut near = (0..).map(|n| format!("near-{n}"));
    let near = near.find(|group| groups.partition_of(group) == partition).unwrap();
    groups.commit(&near, tool(&[(0, 7)])).await.unwrap();
    close(broker).await;

    let broker = open(dir.path()).await;
    let groups = broker.groups();
    assert_eq!(offsets(&broker, "healed").await, [(0, 4)]);
    assert_eq!(offsets(&broker, &near).await, [(0, 7)]);
    // The offset that stood before must not come back.
    assert!(matches!(
        groups.fetch("bad", Wanted::All).await,
        Err(Error::NotAvailable(_))
    ));
    assert!(matches!(
        groups.commit("bad", tool(&[(0, 9)])).await,
        Err(Error::NotAvailable(_))
    ));
    let refused = groups.join("bad", joining("m")).await.unwrap_err().error;
    assert!(refused.to_string().contains("offset 2 of partition"), "{refused}");
    assert!(groups.troubles()[0].contains("1 groups"), "{:?}", groups.troubles());
    assert!(
        !groups.shared.is_readable(partition),
        "rewritten, it would be forgotten"
    );

    groups.delete("bad").await.unwrap();
    assert_eq!(groups.troubles(), Vec::<String>::new());
    assert!(groups.shared.is_readable(partition));
    groups.commit("bad", tool(&[(0, 9)])).await.unwrap();
    close(broker).await;
    let broker = open(dir.path()).await;
    assert_eq!(offsets(&broker, "bad").await, [(0, 9)]);
    close(broker).await;
}

#[tokio::test]
async fn what_no_record_can_hold_is_refused_and_never_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open(dir.path()).await;
    let groups = broker.groups();
    let long = "g".repeat(40_000);
    assert!(matches!(
        groups.commit(&long, tool(&[(0, 1)])).await,
        Err(Error::NotStorable(_))
    ));
    let mut request = tool(&[]);
    request.offsets = vec![(Arc::from(&*long), 0, at(1))];
    assert!(matches!(groups.commit("g", request).await, Err(Error::NotStorable(_))));
    close(broker).await;
    let broker = open(dir.path()).await;
    assert!(broker.groups().list().is_empty());
    close(broker).await;
}
