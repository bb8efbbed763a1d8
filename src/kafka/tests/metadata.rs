//! Metadata.

use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::MetadataResponseTopic;
use kafka_protocol::messages::{BrokerId, MetadataRequest};

use super::*;

fn named(names: &[&str]) -> MetadataRequest {
    let topics = names
        .iter()
        .map(|name| MetadataRequestTopic::default().with_name(Some(topic_name(name))));
    MetadataRequest::default().with_topics(Some(topics.collect()))
}

/// The names of users' topics; the broker's own are told to be internal, from version 1 on.
fn names(topics: &[MetadataResponseTopic]) -> Vec<&str> {
    let of_users = topics.iter().filter(|topic| !topic.is_internal);
    of_users
        .map(|topic| topic.name.as_ref().map_or("", |name| name.as_str()))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_version_describes_the_broker_and_its_topics() {
    let broker = TestBroker::with_topic(3).await;
    let topic = broker.broker.topic("t").unwrap();
    let mut client = broker.client().await;
    for version in 0..=13 {
        let response = client.ask(version, &named(&["t"])).await;
        let told = &response.brokers[0];
        assert_eq!((told.node_id, told.host.as_str()), (BrokerId(1), "broker.example"));
        assert_eq!(told.port, i32::from(broker.addr.port()));
        assert_eq!(response.cluster_id.is_some(), version >= 2);
        let described = &response.topics[0];
        assert_eq!((described.error_code, described.partitions.len()), (0, 3));
        assert_eq!(
            described.topic_id,
            if version >= 10 { topic.id } else { uuid::Uuid::nil() }
        );
        for partition in &described.partitions {
            assert_eq!((partition.error_code, partition.leader_id), (0, BrokerId(1)));
            assert_eq!(
                (&partition.replica_nodes, &partition.isr_nodes),
                (&vec![BrokerId(1)], &vec![BrokerId(1)])
            );
            assert!(version < 7 || partition.leader_epoch >= 0);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn null_is_all_topics_and_empty_is_none_but_for_version_0() {
    let broker = TestBroker::with_topic(1).await;
    let mut client = broker.client().await;
    let (all, none) = (MetadataRequest::default().with_topics(None), named(&[]));
    assert!(names(&client.ask(0, &none).await.topics).contains(&"t"));
    for version in 1..=13 {
        assert_eq!(names(&client.ask(version, &all).await.topics), ["t"]);
        assert!(client.ask(version, &none).await.topics.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_topic_is_created_only_if_that_is_allowed() {
    let broker = TestBroker::start().await;
    let mut client = broker.client().await;
    let forbidden = named(&["new"]).with_allow_auto_topic_creation(false);
    assert_eq!(client.ask(9, &forbidden).await.topics[0].error_code, 3);
    assert!(broker.broker.topic("new").is_err());
    let response = client
        .ask(9, &named(&["new", "bad/name", "..", &"x".repeat(300), "new"]))
        .await;
    let codes: Vec<i16> = response.topics.iter().map(|topic| topic.error_code).collect();
    assert_eq!(codes, [0, 17, 17, 17], "and a name asked twice is answered once");
    assert_eq!(response.topics[0].partitions.len(), 1);
    // Version 3 and before could not say, and wanted creation.
    assert_eq!(client.ask(3, &named(&["older"])).await.topics[0].error_code, 0);
    assert_eq!(
        client.ask(9, &named(&["__consumer_offsets"])).await.topics[0].error_code,
        3,
        "made when it is needed"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_are_found_by_id_from_version_12_on() {
    let broker = TestBroker::with_topic(1).await;
    let id = broker.broker.topic("t").unwrap().id;
    let mut client = broker.client().await;
    let by_id = |id| {
        let topic = MetadataRequestTopic::default().with_topic_id(id).with_name(None);
        MetadataRequest::default().with_topics(Some(vec![topic]))
    };
    let response = client.ask(12, &by_id(id)).await;
    assert_eq!((response.topics[0].error_code, names(&response.topics)), (0, vec!["t"]));
    let unknown = client.ask(12, &by_id(uuid::Uuid::from_u128(3))).await;
    assert_eq!((unknown.topics[0].error_code, &unknown.topics[0].name), (100, &None));
    assert_eq!(
        client.ask(10, &by_id(id)).await.topics[0].error_code,
        42,
        "the field is there, the meaning is not"
    );
}
