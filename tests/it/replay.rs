//! `riverlog replay --name`: killed at any moment and started again, it leaves no gap and no duplicate.

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};

use bytes::Bytes;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use riverlog_client::{
    Client, Config, Consumer, ConsumerOptions, Isolation, NewTopic, OffsetAt, Producer, Record, StoredRecord,
    WriterOptions,
};
use riverlog_replay::{Bound, Range, Replay, Speed, Summary, Target};
use tokio::runtime::Runtime;

use crate::server::{Server, lasting_port, temp_dir, until};

const KILLS: usize = 20;
const RECORDS: usize = 20_000;
const SOURCE_PARTITIONS: i32 = 3;

#[test]
fn twenty_kills_leave_no_gap_and_no_duplicate_when_partitions_are_kept() {
    replay_through_kills(SOURCE_PARTITIONS, false);
}

#[test]
fn twenty_kills_leave_no_gap_and_no_duplicate_when_keys_decide() {
    replay_through_kills(5, false);
}

#[test]
fn kills_of_the_server_and_a_second_replay_of_the_same_name_change_nothing() {
    replay_through_kills(SOURCE_PARTITIONS, true);
}

/// Kills the replay, or, if `kill_server`, the server below two replays of the same name.
fn replay_through_kills(destination_partitions: i32, kill_server: bool) {
    let seed = rand::random();
    println!("seed {seed}");
    let mut random = SmallRng::seed_from_u64(seed);
    let runtime = Runtime::new().unwrap();
    let data = temp_dir();
    let address = format!("127.0.0.1:{}", lasting_port());
    let start = || Server::start_with(data.path(), &["--kafka-addr", &address, "--log=warn"]);
    let mut server = start();
    let client = runtime.block_on(connect(&address));
    runtime.block_on(fill(&client, destination_partitions));

    let replay = || spawn_replay(&address);
    let mut replays = if kill_server { vec![replay()] } else { vec![] };
    let elsewhere = kill_server.then(|| runtime.spawn(replay_elsewhere(address.clone())));
    for kill in 0..KILLS {
        if !kill_server {
            replays.push(replay());
        }
        let enough = runtime.block_on(total(&client)) + random.random_range(1..(RECORDS / KILLS) as i64);
        until("the replay to write", || {
            let all_ended = replays.iter_mut().all(ended) && elsewhere.as_ref().is_none_or(|task| task.is_finished());
            runtime.block_on(total(&client)) >= enough || all_ended
        });
        if kill_server {
            server.kill();
            server = start();
        } else {
            let mut killed = replays.pop().unwrap();
            killed.kill().unwrap();
            killed.wait().unwrap();
        }
        println!("kill {kill}: {} records", runtime.block_on(total(&client)));
    }
    for replay in replays {
        let output = replay.wait_with_output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() || came_late(&errors), "{errors}");
    }
    if let Some(Err(error)) = elsewhere.map(|task| runtime.block_on(task).unwrap()) {
        assert!(came_late(&error.to_string()), "{error:#}");
    }
    let last = replay().wait_with_output().unwrap();
    assert!(last.status.success(), "{}", String::from_utf8_lossy(&last.stderr));
    runtime.block_on(compare(&client, destination_partitions));
    server.stop();
}

/// On a busy machine the server may have been killed before a replay had found it.
fn came_late(errors: &str) -> bool {
    errors.contains("cannot connect")
}

fn spawn_replay(address: &str) -> Child {
    Command::new(env!("CARGO_BIN_EXE_riverlog"))
        .args(["replay", "source", "--to-topic", "copy", "--name", "night", "--quiet"])
        .args(["--bootstrap", address])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// The same replay as another machine would run it: the processes of one machine keep each other out.
async fn replay_elsewhere(address: String) -> anyhow::Result<Summary> {
    let replay = Replay {
        client: connect(&address).await,
        range: Range {
            topic: "source".to_owned(),
            partition: None,
            from: Bound::Earliest,
            to: Bound::Latest,
        },
        speed: Speed::Max,
        target: Target::Topic {
            topic: "copy".to_owned(),
            name: Some("night".to_owned()),
        },
        progress: false,
    };
    replay.run().await
}

fn ended(child: &mut Child) -> bool {
    child.try_wait().unwrap().is_some()
}

async fn connect(address: &str) -> Client {
    Client::connect(Config::new(address)).await.unwrap()
}

/// Records of every kind: with and without key, value and headers, of one size and another.
async fn fill(client: &Client, destination_partitions: i32) {
    for (name, partitions) in [("source", SOURCE_PARTITIONS), ("copy", destination_partitions)] {
        let topic = NewTopic {
            name: name.to_owned(),
            partitions: Some(partitions),
            configs: vec![("retention.ms".to_owned(), "-1".to_owned())],
        };
        client.create_topic(&topic).await.unwrap();
    }
    let options = WriterOptions {
        max_batch_bytes: 4096,
        ..WriterOptions::default()
    };
    let producer = Producer::new(client, options).await.unwrap();
    for index in 0..RECORDS {
        let header = (
            Bytes::from("h"),
            (index % 2 == 0).then(|| Bytes::from(index.to_string())),
        );
        let record = Record {
            key: (index % 5 != 0).then(|| Bytes::from(format!("key {}", index % 97))),
            value: (index % 11 != 0).then(|| Bytes::from(format!("{index}").repeat(index % 60))),
            headers: if index % 3 == 0 {
                vec![header.clone(), header]
            } else {
                vec![]
            },
            timestamp_ms: 1_357_000_000_000 + (index as i64 * 7919) % 1_000_000,
        };
        drop(producer.send("source", None, record).await.unwrap());
    }
    producer.flush().await.unwrap();
}

async fn total(client: &Client) -> i64 {
    let topic = client.topic("copy", false).await.unwrap();
    let partitions = topic
        .partitions
        .iter()
        .map(|partition| ("copy".to_owned(), partition.index));
    client.ends(partitions).await.unwrap().values().sum()
}

async fn read(client: &Client, topic: &str, partition: i32) -> Vec<StoredRecord> {
    let end = client.offset(topic, partition, OffsetAt::Latest, Isolation::ReadCommitted);
    let end = end.await.unwrap().unwrap().offset;
    let start = [((topic.to_owned(), partition), 0)];
    let mut consumer = Consumer::new(client, start, ConsumerOptions::default());
    let mut records = Vec::new();
    while (records.len() as i64) < end {
        if let Some(fetched) = consumer.poll().await.unwrap() {
            records.extend(fetched.records);
        }
    }
    records
}

/// Every record of the source stands in the copy once, as it was, behind those that stood before it in
/// its partition and went to the same one.
async fn compare(client: &Client, destination_partitions: i32) {
    let mut sources = BTreeMap::new();
    for partition in 0..SOURCE_PARTITIONS {
        for record in read(client, "source", partition).await {
            sources.insert((partition, record.offset), record);
        }
    }
    assert_eq!(sources.len(), RECORDS);
    for partition in 0..destination_partitions {
        let mut reached = BTreeMap::new();
        for mut copy in read(client, "copy", partition).await {
            let (name, origin) = copy.headers.pop().unwrap();
            assert_eq!(name, "riverlog.replay");
            let origin = String::from_utf8(origin.unwrap().to_vec()).unwrap();
            let mut parts = origin.strip_prefix("night/").unwrap().split('/');
            let from: i32 = parts.next().unwrap().parse().unwrap();
            let offset: i64 = parts.next().unwrap().parse().unwrap();
            assert!(
                reached.insert(from, offset) < Some(offset),
                "{origin} is out of order or twice"
            );
            let source = sources.remove(&(from, offset));
            let source = source.unwrap_or_else(|| panic!("{origin} is there twice"));
            let same = StoredRecord {
                offset: source.offset,
                ..copy
            };
            assert_eq!(same, source);
        }
    }
    assert!(sources.is_empty(), "{} records are missing", sources.len());
}
