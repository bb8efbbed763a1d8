//! The coordinator on a real data directory.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use riverlog_storage::{Options, Storage};

use super::*;
use crate::broker::{Broker, BrokerOptions};
use crate::groups::{Committed, Protocol, State};

pub(super) async fn open(dir: &Path) -> Arc<Broker> {
    let mut options = BrokerOptions::default();
    options.groups.group.initial_rebalance_delay_ms = 0;
    options.groups.upkeep_interval_ms = 3_600_000;
    Broker::open(Storage::open(Options::new(dir)).unwrap(), options)
        .await
        .unwrap()
}

pub(super) async fn close(broker: Arc<Broker>) {
    let storage = broker.storage().clone();
    drop(broker);
    tokio::task::spawn_blocking(move || storage.close()).await.unwrap();
}

pub(super) fn at(offset: i64) -> Committed {
    Committed {
        offset,
        leader_epoch: 3,
        metadata: "note".into(),
        commit_time_ms: 1_700_000_000_000,
        expire_time_ms: None,
        topic_id: uuid::Uuid::nil(),
    }
}

pub(super) fn tool(offsets: &[(i32, i64)]) -> CommitRequest {
    member("", -1, offsets)
}

pub(super) fn member(id: &str, generation: i32, offsets: &[(i32, i64)]) -> CommitRequest {
    CommitRequest {
        member_id: id.into(),
        instance_id: None,
        generation,
        offsets: offsets
            .iter()
            .map(|(partition, offset)| (Arc::from("t"), *partition, at(*offset)))
            .collect(),
    }
}

pub(super) async fn offsets(broker: &Broker, group: &str) -> Vec<(i32, i64)> {
    let found = broker.groups().fetch(group, Wanted::All).await.unwrap();
    found
        .into_iter()
        .map(|(_, partition, committed)| (partition, committed.unwrap().offset))
        .collect()
}

pub(super) fn joining(id: &str) -> JoinRequest {
    JoinRequest {
        member_id: "".into(),
        instance_id: None,
        client_id: "client".into(),
        client_host: "/127.0.0.1".into(),
        session_timeout_ms: 6_000,
        rebalance_timeout_ms: 6_000,
        protocol_type: "consumer".into(),
        protocols: vec![Protocol {
            name: "range".into(),
            metadata: b"\0\0\0\0\0\x01\0\x01t"[..].into(),
        }],
        require_known_id: false,
        can_skip_assignment: false,
        fresh_id: id.into(),
    }
}

pub(super) async fn stable(broker: &Broker, group: &str, id: &str) -> i32 {
    let joined = broker.groups().join(group, joining(id)).await.unwrap();
    let request = SyncRequest {
        member_id: joined.member_id.clone(),
        instance_id: None,
        generation: joined.generation,
        protocol_type: None,
        protocol: None,
        assignments: [(joined.member_id.clone(), bytes::Bytes::from_static(b"part"))].into(),
    };
    assert_eq!(broker.groups().sync(group, request).await.unwrap().assignment, "part");
    joined.generation
}

#[test]
fn groups_live_where_kafka_would_put_them() {
    // From Java: "…".hashCode().
    for (group, partition) in [
        ("g1", 42),
        ("", 0),
        ("console-consumer-12345", 6),
        ("größe-Ω-😀", 41),
        ("polygenelubricants", 0),
    ] {
        assert_eq!(partition_for_group(group, 50), partition, "{group}");
    }
}

#[tokio::test]
async fn offsets_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open(dir.path()).await;
    assert!(
        offsets(&broker, "g").await.is_empty(),
        "a group that nobody knows has no offsets, and no error"
    );
    broker.groups().commit("g", tool(&[(0, 5), (1, 7)])).await.unwrap();
    broker.groups().commit("g", tool(&[(0, 6)])).await.unwrap();
    broker.groups().commit("other", tool(&[(0, 1)])).await.unwrap();
    assert_eq!(offsets(&broker, "g").await, [(0, 6), (1, 7)]);
    close(broker).await;

    let broker = open(dir.path()).await;
    assert_eq!(offsets(&broker, "g").await, [(0, 6), (1, 7)]);
    let wanted = Wanted::Some(vec![("t".into(), vec![1, 2])]);
    let found = broker.groups().fetch("g", wanted).await.unwrap();
    assert_eq!(found, [("t".into(), 1, Some(at(7))), ("t".into(), 2, None)]);
    broker.groups().delete("g").await.unwrap();
    assert_eq!(broker.groups().delete("g").await, Err(Error::NotFound));
    assert!(offsets(&broker, "g").await.is_empty());
    close(broker).await;

    let broker = open(dir.path()).await;
    assert!(offsets(&broker, "g").await.is_empty());
    assert_eq!(offsets(&broker, "other").await, [(0, 1)]);
    assert_eq!(broker.groups().list().len(), 1);
    close(broker).await;
}

#[tokio::test]
async fn a_stable_group_survives_a_restart_and_members_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open(dir.path()).await;
    let generation = stable(&broker, "g", "m").await;
    broker
        .groups()
        .commit("g", member("m", generation, &[(0, 5)]))
        .await
        .unwrap();
    assert_eq!(
        broker
            .groups()
            .commit("g", member("m", generation - 1, &[(0, 9)]))
            .await,
        Err(Error::IllegalGeneration)
    );
    assert_eq!(
        broker.groups().commit("g", tool(&[(0, 9)])).await,
        Err(Error::UnknownMember)
    );
    assert_eq!(broker.groups().delete("g").await, Err(Error::NotEmpty));
    close(broker).await;

    let broker = open(dir.path()).await;
    let described = broker.groups().describe("g").unwrap();
    assert_eq!(
        (described.state, &*described.protocol, described.members.len()),
        (State::Stable, "range", 1)
    );
    assert_eq!(described.members[0].assignment, "part");
    assert_eq!(broker.groups().heartbeat("g", "m", None, generation), Ok(()));
    broker
        .groups()
        .commit("g", member("m", generation, &[(0, 6)]))
        .await
        .unwrap();
    assert_eq!(offsets(&broker, "g").await, [(0, 6)]);
    let subscribed = broker
        .groups()
        .delete_offsets("g", vec![("t".into(), 0), ("u".into(), 0)])
        .await
        .unwrap();
    assert_eq!(subscribed, [Err(Error::Subscribed), Ok(())]);
    broker.groups().leave("g", "m", None).unwrap();
    broker.groups().commit("g", tool(&[(0, 2)])).await.unwrap();
    let deleted = broker
        .groups()
        .delete_offsets("g", vec![("t".into(), 0)])
        .await
        .unwrap();
    assert_eq!(deleted, [Ok(())]);
    assert!(offsets(&broker, "g").await.is_empty());
    close(broker).await;
}

#[tokio::test]
async fn a_silent_member_is_given_up_by_the_clock() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = BrokerOptions::default();
    options.groups.group.initial_rebalance_delay_ms = 0;
    options.groups.group.min_session_timeout_ms = 1;
    let broker = Broker::open(Storage::open(Options::new(dir.path())).unwrap(), options)
        .await
        .unwrap();
    let joined = broker
        .groups()
        .join(
            "g",
            JoinRequest {
                session_timeout_ms: 50,
                ..joining("m")
            },
        )
        .await
        .unwrap();
    assert_eq!(joined.generation, 1);
    let gone = async {
        while broker.groups().describe("g").unwrap().state != State::Empty {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), gone).await.unwrap();
    close(broker).await;
}

#[tokio::test]
async fn a_log_that_has_grown_is_rewritten_and_says_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open(dir.path()).await;
    let generation = stable(&broker, "g", "m").await;
    for offset in 0..200 {
        broker
            .groups()
            .commit("g", member("m", generation, &[(0, offset), (1, offset * 2)]))
            .await
            .unwrap();
    }
    let shared = &broker.groups().shared;
    let partition = shared.partition_of("g");
    let log = shared.log_of("g").unwrap();
    let before = broker.storage().ends(log).unwrap();
    let rewrite = shared.rewrite(log, shared.slots_of(partition), before.high_watermark);
    // Commits go on meanwhile, and none of them is lost.
    let commits = async {
        for offset in 200..300 {
            broker
                .groups()
                .commit("g", member("m", generation, &[(0, offset)]))
                .await
                .unwrap();
        }
    };
    let (rewritten, ()) = tokio::join!(rewrite, commits);
    rewritten.unwrap();
    let after = broker.storage().ends(log).unwrap();
    assert_eq!(after.start, before.high_watermark);
    assert!(after.high_watermark - after.start < 110);
    close(broker).await;

    let broker = open(dir.path()).await;
    assert_eq!(offsets(&broker, "g").await, [(0, 299), (1, 398)]);
    assert_eq!(broker.groups().describe("g").unwrap().state, State::Stable);
    close(broker).await;
}

#[tokio::test]
async fn old_offsets_of_an_empty_group_expire_and_the_group_with_them() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open(dir.path()).await;
    let now_ms = broker.storage().clock().now_ms();
    let fresh = |offset| Committed {
        commit_time_ms: now_ms,
        ..at(offset)
    };
    let request = |offsets| CommitRequest { offsets, ..tool(&[]) };
    broker.groups().commit("old", tool(&[(0, 1)])).await.unwrap();
    broker
        .groups()
        .commit("new", request(vec![("t".into(), 0, fresh(1))]))
        .await
        .unwrap();
    let soon = Committed {
        expire_time_ms: Some(now_ms - 1),
        ..fresh(2)
    };
    broker
        .groups()
        .commit("new", request(vec![("t".into(), 1, soon)]))
        .await
        .unwrap();
    broker.groups().shared.expire().await;
    assert_eq!(broker.groups().describe("old").unwrap_err(), Error::NotFound);
    assert_eq!(offsets(&broker, "new").await, [(0, 1)]);
    broker
        .groups()
        .delete_offsets("new", vec![("t".into(), 0)])
        .await
        .unwrap()
        .remove(0)
        .unwrap();
    assert!(offsets(&broker, "new").await.is_empty());
    close(broker).await;
    let broker = open(dir.path()).await;
    assert_eq!(
        broker
            .groups()
            .list()
            .iter()
            .map(|group| &*group.id)
            .collect::<Vec<_>>(),
        Vec::<&str>::new()
    );
    close(broker).await;
}

async fn create(broker: &Broker, name: &str) -> Arc<Topic> {
    let created = broker.create_topic(name, Some(2), Default::default(), false).await;
    created.unwrap()
}

/// Deletes a topic, and the coordinator is not told.
async fn delete_unheard(broker: &Broker, topic: &Topic) {
    let delete = riverlog_storage::Change::DeleteTopic { id: topic.id };
    let write_set = riverlog_storage::WriteSet {
        changes: vec![delete],
        ..Default::default()
    };
    broker.write(write_set).await.unwrap();
}

#[tokio::test]
async fn an_offset_belongs_to_one_incarnation_of_its_topic() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open(dir.path()).await;
    let groups = broker.groups();
    let of = |topic: &Topic, offsets: &[(i32, i64)]| {
        let mut request = tool(offsets);
        for (_, _, committed) in &mut request.offsets {
            committed.topic_id = topic.id;
        }
        request
    };
    let held = || {
        groups.shared.slots.read()["g"]
            .state
            .lock()
            .offsets
            .all_assigned()
            .count()
    };
    let first = create(&broker, "t").await;
    groups.commit("g", of(&first, &[(0, 5), (1, 6)])).await.unwrap();

    // The topic is deleted, and created again before the coordinator has heard of it.
    delete_unheard(&broker, &first).await;
    assert!(
        offsets(&broker, "g").await.is_empty(),
        "with the topic its offsets are gone"
    );
    let second = create(&broker, "t").await;
    assert!(
        offsets(&broker, "g").await.is_empty(),
        "they are not those of the new topic"
    );
    groups.commit("g", of(&second, &[(0, 1)])).await.unwrap();
    groups.forget_topic(&first).await;
    assert_eq!(offsets(&broker, "g").await, [(0, 1)]);
    assert_eq!(held(), 1);

    // Who read the first one, and commits only now, disturbs nothing.
    groups.commit("g", of(&first, &[(0, 9), (1, 9)])).await.unwrap();
    let late = JobOffset {
        topic: "t".into(),
        topic_id: first.id,
        partition: 0,
        offset: 8,
    };
    groups.commit_in("g", &[late], Default::default()).await.unwrap();
    assert_eq!(offsets(&broker, "g").await, [(0, 1)]);
    assert_eq!(held(), 1);

    broker.delete_topic(second.id).await.unwrap();
    assert_eq!(held(), 0);
    close(broker).await;
}

#[tokio::test]
async fn offsets_that_a_crash_left_behind_a_deleted_topic_are_found() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open(dir.path()).await;
    let topic = create(&broker, "t").await;
    let mut request = tool(&[(0, 5)]);
    request.offsets[0].2.topic_id = topic.id;
    broker.groups().commit("g", request).await.unwrap();
    delete_unheard(&broker, &topic).await;
    close(broker).await;

    let broker = open(dir.path()).await;
    assert!(offsets(&broker, "g").await.is_empty());
    broker.groups().shared.expire().await;
    assert_eq!(broker.groups().describe("g").unwrap_err(), Error::NotFound);
    close(broker).await;
}

async fn assert_clients_keep_off(broker: &Broker) {
    let groups = broker.groups();
    assert_eq!(groups.commit("job", tool(&[(0, 1)])).await, Err(Error::Reserved));
    assert_eq!(groups.delete("job").await, Err(Error::Reserved));
    assert_eq!(
        groups.delete_offsets("job", vec![("t".into(), 0)]).await,
        Err(Error::Reserved)
    );
    assert_eq!(
        groups.join("job", joining("m")).await.unwrap_err().error,
        Error::Reserved
    );
}

#[tokio::test]
async fn a_job_commits_with_its_own_write_and_clients_keep_off() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open(dir.path()).await;
    let (input, topic) = (create(&broker, "t").await, create(&broker, "out").await);
    // As the start of a job does.
    create(&broker, "__job_state.job").await;
    broker.groups().prepare_for_job("job").await.unwrap();
    let mut builder = riverlog_storage::batch::BatchBuilder::new();
    let record = riverlog_storage::record::Record {
        key: None,
        value: None,
        headers: Vec::new(),
        timestamp_ms: 1,
    };
    builder.push(record);
    let append = riverlog_storage::Append {
        log: topic.partitions[0],
        batches: builder.build().unwrap(),
        log_append_time: false,
    };
    let write_set = riverlog_storage::WriteSet {
        appends: vec![append],
        ..Default::default()
    };
    let read = JobOffset {
        topic: "t".into(),
        topic_id: input.id,
        partition: 0,
        offset: 11,
    };
    let receipt = broker.groups().commit_in("job", &[read], write_set).await.unwrap();
    assert_eq!(
        (receipt.appends.len(), receipt.appends[0].log),
        (2, topic.partitions[0])
    );
    assert_eq!(offsets(&broker, "job").await, [(0, 11)]);
    assert_clients_keep_off(&broker).await;
    close(broker).await;

    // Nobody has started the job again, and still the group is its own.
    let broker = open(dir.path()).await;
    assert_clients_keep_off(&broker).await;
    broker.groups().shared.expire().await;
    assert_eq!(offsets(&broker, "job").await, [(0, 11)]);
    close(broker).await;
}

#[tokio::test]
async fn a_commit_in_doubt_is_never_answered_with_an_older_offset() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open(dir.path()).await;
    broker.groups().commit("g", tool(&[(0, 1)])).await.unwrap();
    let storage = broker.storage().clone();
    tokio::task::spawn_blocking(move || storage.close()).await.unwrap();
    assert!(matches!(
        broker.groups().commit("g", tool(&[(0, 2)])).await,
        Err(Error::NotAvailable(_))
    ));
    assert!(matches!(
        broker.groups().fetch("g", Wanted::All).await,
        Err(Error::NotAvailable(_))
    ));
}
