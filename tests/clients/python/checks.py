#!/usr/bin/env python3
"""Drives a broker with confluent-kafka, as any Python program would: checks.py BOOTSTRAP.

One line a check: `ok python NAME` or `FAIL python NAME: why`. Exit code 1 if any failed.
"""

import sys
import time
import uuid

import confluent_kafka
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicCollection, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    OffsetSpec,
)

CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
ACKS = ["0", "1", "all", "idempotent"]
RECORDS = 200
# No single wait in here may be longer.
WAIT_SECONDS = 30

bootstrap = sys.argv[1]
run = uuid.uuid4().hex[:8]
failures = 0
admin = AdminClient({"bootstrap.servers": bootstrap})


def check(name, function, *arguments):
    """Runs one check and prints its line; the next one runs whatever happens."""
    global failures
    try:
        function(*arguments)
        print(f"ok python {name}", flush=True)
    except Exception as error:  # a check may fail in any way
        failures += 1
        print(f"FAIL python {name}: {type(error).__name__}: {error}".replace("\n", " "), flush=True)


def equal(got, wanted, what):
    if got != wanted:
        raise AssertionError(f"{what}: got {str(got)[:300]!r}, wanted {str(wanted)[:300]!r}")


def fails_with(code, function):
    """The error code is part of the protocol: another one makes clients do another thing."""
    try:
        function()
    except KafkaException as error:
        equal(error.args[0].name(), code, "error")
        return
    raise AssertionError(f"no error, wanted {code}")


def topic(name, partitions=1, **config):
    full = f"python-{run}-{name}"
    settings = {key.replace("_", "."): value for key, value in config.items()}
    admin.create_topics([NewTopic(full, partitions, 1, config=settings)])[full].result(WAIT_SECONDS)
    return full


def producer(codec="none", acks="all", **extra):
    settings = {"bootstrap.servers": bootstrap, "compression.type": codec, "linger.ms": 5, **extra}
    if acks == "idempotent":
        settings["enable.idempotence"] = True
    else:
        settings["acks"] = acks
    return Producer(settings)


def records(count=RECORDS, seed=0):
    """Keys, values and headers of many shapes: absent, empty, long, with one header twice."""
    made = []
    for i in range(count):
        key = None if i % 7 == 0 else b"" if i % 11 == 0 else f"key-{i % 13}".encode()
        value = None if i % 17 == 3 else b"" if i % 19 == 4 else f"{seed}:{i}:".encode() + bytes([i % 256]) * (i * 5)
        headers = None if i % 5 else [("h", b"first"), ("h", b"second"), ("none", None), ("empty", b"")]
        made.append((key, value, headers))
    return made


def send(target, batch, partition=0, timestamps=None, **settings):
    """Produces and returns what the broker answered: (offset) in order."""
    sender = producer(**settings)
    answers = [None] * len(batch)

    def answered(index):
        def keep(error, message):
            answers[index] = error if error is not None else message.offset()

        return keep

    for i, (key, value, headers) in enumerate(batch):
        extra = {} if timestamps is None else {"timestamp": timestamps[i]}
        sender.produce(target, value, key, partition=partition, headers=headers, on_delivery=answered(i), **extra)
    left = sender.flush(WAIT_SECONDS)
    equal(left, 0, "records without an answer")
    for answer in answers:
        if isinstance(answer, KafkaError):
            raise KafkaException(answer)
    return answers


def consumer(group=None, **extra):
    return Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": group or f"python-{run}-nobody",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "fetch.wait.max.ms": 100,
            **extra,
        }
    )


def collect(reader, count):
    """Polls until there are `count` messages."""
    messages, until = [], time.monotonic() + WAIT_SECONDS
    while len(messages) < count:
        if time.monotonic() > until:
            raise AssertionError(f"{len(messages)} of {count} records after {WAIT_SECONDS} s")
        message = reader.poll(0.2)
        if message is None:
            continue
        if message.error():
            raise KafkaException(message.error())
        messages.append(message)
    return messages


def read(target, count, partition=0, offset=0):
    reader = consumer()
    try:
        reader.assign([TopicPartition(target, partition, offset)])
        return collect(reader, count)
    finally:
        reader.close()


def content(message):
    return (message.key(), message.value(), message.headers())


def wanted_content(batch):
    return [(key, value, headers or None) for key, value, headers in batch]


def write_and_read_back(codec, acks):
    target = topic(f"{codec}-{acks}")
    batch = records(seed=10 * CODECS.index(codec) + ACKS.index(acks))
    offsets = send(target, batch, codec=codec, acks=acks)
    if acks != "0":
        equal(offsets, list(range(len(batch))), "acknowledged offsets")
    messages = read(target, len(batch))
    equal([m.offset() for m in messages], list(range(len(batch))), "offsets")
    equal([content(m) for m in messages], wanted_content(batch), "records")


def large_record():
    target = topic("large")
    value = bytes(range(256)) * 3900  # just below the default max.message.bytes of 1 MiB
    send(target, [(b"k", value, None)])
    equal(read(target, 1)[0].value() == value, True, "a record of 998,400 bytes comes back")


def too_large_record():
    target = topic("too-large", max_message_bytes="2000")
    fails_with("MSG_SIZE_TOO_LARGE", lambda: send(target, [(b"k", b"x" * 5000, None)]))
    send(target, [(b"k", b"small", None)])
    equal(read(target, 1)[0].value(), b"small", "the record after the refused one")


def log_append_time():
    target = topic("log-append-time", message_timestamp_type="LogAppendTime")
    before = int(time.time() * 1000)
    send(target, [(b"k", b"v", None)] * 3, timestamps=[1000, 2000, 3000], codec="gzip")
    for message in read(target, 3):
        kind, stamp = message.timestamp()
        equal(kind, confluent_kafka.TIMESTAMP_LOG_APPEND_TIME, "kind of timestamp")
        if not before - 1000 <= stamp <= time.time() * 1000 + 1000:
            raise AssertionError(f"broker's timestamp {stamp} is not now")


def automatic_topic():
    """A topic that nobody created is there after the first record."""
    target = f"python-{run}-automatic"
    equal(send(target, [(b"k", b"v", None)]), [0], "offset")
    equal(read(target, 1)[0].value(), b"v", "value")


def seek_by_time():
    target = topic("time")
    base = 1_700_000_000_000
    stamps = [base + i * 1000 for i in range(RECORDS)]
    batch = [(None, str(i).encode(), None) for i in range(RECORDS)]
    for start in range(0, RECORDS, 50):  # several batches
        send(target, batch[start : start + 50], timestamps=stamps[start : start + 50], codec="zstd")
    reader = consumer()
    try:
        for asked, wanted in [
            (stamps[0] - 5000, 0),
            (stamps[0], 0),
            (stamps[70], 70),
            (stamps[70] - 1, 70),
            (stamps[70] + 1, 71),
            (stamps[-1], RECORDS - 1),
        ]:
            found = reader.offsets_for_times([TopicPartition(target, 0, asked)], timeout=WAIT_SECONDS)[0]
            equal((asked - base, found.offset), (asked - base, wanted), "offset for time")
        beyond = reader.offsets_for_times([TopicPartition(target, 0, stamps[-1] + 1)], timeout=WAIT_SECONDS)[0]
        equal(beyond.offset, confluent_kafka.OFFSET_END, "offset for a time after the last record")
        reader.assign([TopicPartition(target, 0, 70)])
        message = collect(reader, 1)[0]
        equal((message.value(), message.timestamp()[1]), (b"70", stamps[70]), "record at the found offset")
        equal(reader.get_watermark_offsets(TopicPartition(target, 0), timeout=WAIT_SECONDS), (0, RECORDS), "ends")
    finally:
        reader.close()


def list_offsets():
    target = topic("list-offsets")
    send(target, [(None, b"v", None)] * 3, timestamps=[5000, 9000, 7000])
    partition = TopicPartition(target, 0)

    def ask(spec):
        return admin.list_offsets({partition: spec})[partition].result(WAIT_SECONDS)

    equal(ask(OffsetSpec.earliest()).offset, 0, "earliest")
    equal(ask(OffsetSpec.latest()).offset, 3, "latest")
    equal(ask(OffsetSpec.for_timestamp(6000)).offset, 1, "first record at or after 6000")
    newest = ask(OffsetSpec.max_timestamp())
    equal((newest.offset, newest.timestamp), (1, 9000), "record with the largest timestamp")


def commit_and_resume():
    target, group = topic("commit"), f"python-{run}-commit"
    batch = [(None, str(i).encode(), None) for i in range(RECORDS)]
    send(target, batch)
    reader = consumer(group)
    reader.subscribe([target])
    message = collect(reader, 80)[-1]
    reader.commit(
        offsets=[TopicPartition(target, 0, message.offset() + 1, metadata="remember")], asynchronous=False
    )
    reader.close()
    reader = consumer(group)
    try:
        found = reader.committed([TopicPartition(target, 0)], timeout=WAIT_SECONDS)[0]
        equal((found.offset, found.metadata), (80, "remember"), "committed offset and metadata")
        reader.subscribe([target])
        equal([m.offset() for m in collect(reader, RECORDS - 80)], list(range(80, RECORDS)), "offsets after resuming")
    finally:
        reader.close()


def commit_without_subscribing():
    target, group = topic("simple-commit"), f"python-{run}-simple"
    send(target, [(None, b"v", None)] * 10)
    reader = consumer(group)
    try:
        unknown = reader.committed([TopicPartition(target, 0)], timeout=WAIT_SECONDS)[0]
        equal(unknown.offset, confluent_kafka.OFFSET_INVALID, "offset of a group that never committed")
        reader.assign([TopicPartition(target, 0, 0)])
        collect(reader, 4)
        reader.commit(offsets=[TopicPartition(target, 0, 4)], asynchronous=False)
        equal(reader.committed([TopicPartition(target, 0)], timeout=WAIT_SECONDS)[0].offset, 4, "committed offset")
    finally:
        reader.close()


def two_members(strategy):
    """Two members share four partitions; when one leaves the other takes all, and nothing is missed."""
    target, group = topic(f"members-{strategy}", 4), f"python-{run}-{strategy}"
    settings = {"partition.assignment.strategy": strategy, "session.timeout.ms": 10000}
    first, second = consumer(group, **settings), consumer(group, **settings)
    first.subscribe([target])
    second.subscribe([target])

    def poll_until(readers, done, seen):
        until = time.monotonic() + WAIT_SECONDS
        while not done():
            if time.monotonic() > until:
                raise AssertionError(f"assignments {[len(r.assignment()) for r in readers]}, {len(seen)} values seen")
            for reader in readers:
                message = reader.poll(0.05)
                if message is not None and message.error():
                    raise KafkaException(message.error())
                if message is not None:
                    seen.add((message.partition(), message.offset()))

    seen = set()
    poll_until([first, second], lambda: len(first.assignment()) == len(second.assignment()) == 2, seen)
    mine = {p.partition for p in first.assignment()} | {p.partition for p in second.assignment()}
    equal(mine, {0, 1, 2, 3}, "partitions of both members")
    for partition in range(4):
        send(target, [(None, b"a", None)] * 20, partition=partition)
    poll_until([first, second], lambda: len(seen) == 80, seen)
    first.commit(asynchronous=False)
    second.commit(asynchronous=False)
    described = admin.describe_consumer_groups([group])[group].result(WAIT_SECONDS)
    equal((described.state.name, len(described.members)), ("STABLE", 2), "group as described")
    second.close()
    poll_until([first], lambda: len(first.assignment()) == 4, seen)
    for partition in range(4):
        send(target, [(None, b"b", None)] * 20, partition=partition)
    poll_until([first], lambda: len(seen) == 160, seen)
    first.close()


def static_member():
    """A static member that comes back within its session keeps its partitions without a rebalance."""
    target, group = topic("static", 2), f"python-{run}-static"
    send(target, [(None, b"v", None)] * 5)
    settings = {"group.instance.id": "instance-1", "session.timeout.ms": 30000}
    for _ in range(2):
        reader = consumer(group, **settings)
        reader.subscribe([target])
        collect(reader, 5)
        reader.close()  # a static member does not leave
    members = admin.describe_consumer_groups([group])[group].result(WAIT_SECONDS).members
    equal([m.group_instance_id for m in members], ["instance-1"], "members")


def admin_topics():
    name = f"python-{run}-admin"
    new = NewTopic(name, 2, 1, config={"retention.ms": "123456", "cleanup.policy": "delete"})
    admin.create_topics([new])[name].result(WAIT_SECONDS)
    fails_with("TOPIC_ALREADY_EXISTS", lambda: admin.create_topics([new])[name].result(WAIT_SECONDS))
    admin.create_partitions([NewPartitions(name, 5)])[name].result(WAIT_SECONDS)
    fails_with(
        "INVALID_PARTITIONS", lambda: admin.create_partitions([NewPartitions(name, 3)])[name].result(WAIT_SECONDS)
    )
    described = admin.describe_topics(TopicCollection([name]))[name].result(WAIT_SECONDS)
    equal(([p.id for p in described.partitions], described.is_internal), ([0, 1, 2, 3, 4], False), "description")
    equal(len(admin.list_topics(name, WAIT_SECONDS).topics[name].partitions), 5, "partitions in metadata")
    equal(name in admin.list_topics(timeout=WAIT_SECONDS).topics, True, "in the list of topics")
    send(name, [(b"k", b"old", None)])
    admin.delete_topics([name])[name].result(WAIT_SECONDS)
    fails_with("UNKNOWN_TOPIC_OR_PART", lambda: admin.delete_topics([name])[name].result(WAIT_SECONDS))
    # Created again it is another topic: empty, and from offset 0.
    topic("admin")
    equal(send(name, [(b"k", b"new", None)]), [0], "offset in the topic created again")
    equal(read(name, 1)[0].value(), b"new", "value in the topic created again")


def admin_bad_topics():
    for name in ["a/b", "..", "x" * 300, "with space"]:
        fails_with("TOPIC_EXCEPTION", lambda: admin.create_topics([NewTopic(name, 1, 1)])[name].result(WAIT_SECONDS))
    name = f"python-{run}-bad-config"
    new = NewTopic(name, 1, 1, config={"no.such.config": "1"})
    fails_with("INVALID_CONFIG", lambda: admin.create_topics([new])[name].result(WAIT_SECONDS))


def admin_configs():
    name = topic("configs", retention_ms="5000000")
    resource = ConfigResource(ConfigResource.Type.TOPIC, name)

    def describe():
        return admin.describe_configs([resource])[resource].result(WAIT_SECONDS)

    entries = describe()
    equal((entries["retention.ms"].value, entries["retention.ms"].is_default), ("5000000", False), "retention.ms")
    equal(entries["cleanup.policy"].value, "delete", "cleanup.policy by default")
    change = ConfigResource(
        ConfigResource.Type.TOPIC,
        name,
        incremental_configs=[
            ConfigEntry("max.message.bytes", "77777", incremental_operation=AlterConfigOpType.SET),
            ConfigEntry("retention.ms", None, incremental_operation=AlterConfigOpType.DELETE),
        ],
    )
    admin.incremental_alter_configs([change])[change].result(WAIT_SECONDS)
    entries = describe()
    equal(entries["max.message.bytes"].value, "77777", "max.message.bytes after the change")
    equal(entries["retention.ms"].value, "604800000", "retention.ms after it was removed")
    replacement = ConfigResource(ConfigResource.Type.TOPIC, name, set_config={"retention.bytes": "999999"})
    admin.alter_configs([replacement])[replacement].result(WAIT_SECONDS)
    entries = describe()
    equal(entries["retention.bytes"].value, "999999", "retention.bytes after the replacement")
    equal(entries["max.message.bytes"].value, "1048588", "max.message.bytes after the replacement")
    bad = ConfigResource(
        ConfigResource.Type.TOPIC,
        name,
        incremental_configs=[ConfigEntry("retention.ms", "soon", incremental_operation=AlterConfigOpType.SET)],
    )
    fails_with("INVALID_CONFIG", lambda: admin.incremental_alter_configs([bad])[bad].result(WAIT_SECONDS))


def admin_delete_records():
    target = topic("delete-records")
    send(target, [(None, str(i).encode(), None) for i in range(10)])
    partition = TopicPartition(target, 0, 4)
    deleted = admin.delete_records([partition])
    equal([future.result(WAIT_SECONDS).low_watermark for future in deleted.values()], [4], "low watermark")
    equal([m.offset() for m in read(target, 6, offset=confluent_kafka.OFFSET_BEGINNING)], list(range(4, 10)), "offsets")


def admin_cluster():
    cluster = admin.describe_cluster().result(WAIT_SECONDS)
    equal(len(cluster.nodes), 1, "nodes")
    equal(len(cluster.cluster_id), 22, "length of the cluster id")
    equal(f"{cluster.nodes[0].host}:{cluster.nodes[0].port}", bootstrap, "address of the node")
    equal(cluster.controller.id, cluster.nodes[0].id, "controller")


def admin_groups():
    target, group = topic("groups"), f"python-{run}-groups"
    send(target, [(None, b"v", None)] * 10)
    reader = consumer(group)
    reader.subscribe([target])
    collect(reader, 10)
    reader.commit(asynchronous=False)
    fails_with(
        "NON_EMPTY_GROUP", lambda: admin.delete_consumer_groups([group])[group].result(WAIT_SECONDS)
    )
    reader.close()
    listed = {g.group_id: g.state.name for g in admin.list_consumer_groups().result(WAIT_SECONDS).valid}
    equal(listed.get(group), "EMPTY", "state in the list")

    def committed():
        request = confluent_kafka.ConsumerGroupTopicPartitions(group)
        answer = admin.list_consumer_group_offsets([request])[group].result(WAIT_SECONDS)
        return [(p.topic, p.partition, p.offset) for p in answer.topic_partitions]

    equal(committed(), [(target, 0, 10)], "offsets of the group")
    altered = confluent_kafka.ConsumerGroupTopicPartitions(group, [TopicPartition(target, 0, 3)])
    admin.alter_consumer_group_offsets([altered])[group].result(WAIT_SECONDS)
    equal(committed(), [(target, 0, 3)], "offsets after they were altered")
    admin.delete_consumer_groups([group])[group].result(WAIT_SECONDS)
    fails_with("GROUP_ID_NOT_FOUND", lambda: admin.delete_consumer_groups([group])[group].result(WAIT_SECONDS))


def main():
    print(f"# confluent-kafka {confluent_kafka.__version__}, librdkafka {confluent_kafka.libversion()[0]}")
    for codec in CODECS:
        for acks in ACKS:
            check(f"write-and-read-{codec}-acks-{acks}", write_and_read_back, codec, acks)
    check("large-record", large_record)
    check("too-large-record", too_large_record)
    check("log-append-time", log_append_time)
    check("automatic-topic", automatic_topic)
    check("seek-by-time", seek_by_time)
    check("list-offsets", list_offsets)
    check("commit-and-resume", commit_and_resume)
    check("commit-without-subscribing", commit_without_subscribing)
    check("two-members-range", two_members, "range")
    check("two-members-cooperative", two_members, "cooperative-sticky")
    check("static-member", static_member)
    check("admin-topics", admin_topics)
    check("admin-bad-topics", admin_bad_topics)
    check("admin-configs", admin_configs)
    check("admin-delete-records", admin_delete_records)
    check("admin-cluster", admin_cluster)
    check("admin-groups", admin_groups)
    print("done python")
    sys.exit(1 if failures else 0)


main()
