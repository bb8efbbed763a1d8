import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Optional;
import java.util.Properties;
import java.util.Set;
import java.util.UUID;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.Config;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.CreateTopicsResult;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.CooperativeStickyAssignor;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.consumer.OffsetAndTimestamp;
import org.apache.kafka.clients.consumer.RangeAssignor;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.GroupState;
import org.apache.kafka.common.Node;
import org.apache.kafka.common.TopicCollection;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.GroupIdNotFoundException;
import org.apache.kafka.common.errors.GroupNotEmptyException;
import org.apache.kafka.common.errors.InvalidConfigurationException;
import org.apache.kafka.common.errors.InvalidPartitionsException;
import org.apache.kafka.common.errors.InvalidTopicException;
import org.apache.kafka.common.errors.RecordTooLargeException;
import org.apache.kafka.common.errors.TopicExistsException;
import org.apache.kafka.common.errors.UnknownTopicIdException;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.record.TimestampType;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.common.utils.AppInfoParser;

/**
 * Drives a broker with the Java client, as any Java program would: Checks BOOTSTRAP. One line a check,
 * `ok java NAME` or `FAIL java NAME: why`; exit code 1 if any failed.
 */
class Checks {
    static final List<String> CODECS = List.of("none", "gzip", "snappy", "lz4", "zstd");
    static final List<String> ACKS = List.of("0", "1", "all", "idempotent");
    static final int RECORDS = 200;
    /** No single wait in here may be longer. */
    static final Duration WAIT = Duration.ofSeconds(30);

    static String bootstrap;
    static final String run = UUID.randomUUID().toString().substring(0, 8);
    static Admin admin;
    static int failures;

    interface Body {
        void run() throws Exception;
    }

    /** Runs one check and prints its line; the next one runs whatever happens. */
    static void check(String name, Body body) {
        try {
            body.run();
            System.out.println("ok java " + name);
        } catch (Throwable error) {
            failures++;
            System.out.println("FAIL java " + name + ": " + error.toString().replace('\n', ' '));
        }
        System.out.flush();
    }

    static void equal(Object got, Object wanted, String what) {
        if (!Objects.equals(got, wanted)) {
            throw new AssertionError(what + ": got " + cut(got) + ", wanted " + cut(wanted));
        }
    }

    static String cut(Object object) {
        String text = String.valueOf(object);
        return text.length() > 300 ? text.substring(0, 300) + "…" : text;
    }

    static <T> T get(Future<T> future) throws Exception {
        return future.get(WAIT.toSeconds(), TimeUnit.SECONDS);
    }

    /** The error code is part of the protocol: another one makes clients do another thing. */
    static void failsWith(Class<?> error, Callable<?> call) throws Exception {
        try {
            call.call();
        } catch (ExecutionException thrown) {
            equal(thrown.getCause().getClass(), error, "error (" + thrown.getCause().getMessage() + ")");
            return;
        }
        throw new AssertionError("no error, wanted " + error);
    }

    static String topic(String name, int partitions, Map<String, String> configs) throws Exception {
        String full = "java-" + run + "-" + name;
        get(admin.createTopics(List.of(new NewTopic(full, partitions, (short) 1).configs(configs))).all());
        return full;
    }

    static String topic(String name) throws Exception {
        return topic(name, 1, Map.of());
    }

    /** A record's content in a form that compares by value. */
    record Content(List<Byte> key, List<Byte> value, List<String> headers) {
        static List<Byte> list(byte[] bytes) {
            return bytes == null ? null : IntStream.range(0, bytes.length).mapToObj(i -> bytes[i]).toList();
        }

        static Content of(byte[] key, byte[] value, Iterable<Header> headers) {
            List<String> named = new ArrayList<>();
            headers.forEach(header -> named.add(header.key() + "=" + list(header.value())));
            return new Content(list(key), list(value), named);
        }
    }

    static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    /** Keys, values and headers of many shapes: absent, empty, long, with one header twice. */
    static List<ProducerRecord<byte[], byte[]>> records(String topic, int count, String seed) {
        List<ProducerRecord<byte[], byte[]>> made = new ArrayList<>();
        for (int i = 0; i < count; i++) {
            byte[] key = i % 7 == 0 ? null : i % 11 == 0 ? new byte[0] : bytes("key-" + i % 13);
            byte[] value = null;
            if (i % 17 != 3) {
                byte[] filler = new byte[i * 5];
                Arrays.fill(filler, (byte) i);
                value = i % 19 == 4 ? new byte[0] : bytes(seed + ":" + i + ":" + new String(filler, StandardCharsets.ISO_8859_1));
            }
            ProducerRecord<byte[], byte[]> record = new ProducerRecord<>(topic, 0, key, value);
            if (i % 5 == 0) {
                record.headers().add("h", bytes("first")).add("h", bytes("second")).add("none", null).add("empty", new byte[0]);
            }
            made.add(record);
        }
        return made;
    }

    static List<ProducerRecord<byte[], byte[]>> plain(String topic, int partition, int count) {
        return IntStream.range(0, count)
                .mapToObj(i -> new ProducerRecord<byte[], byte[]>(topic, partition, null, bytes("" + i)))
                .toList();
    }

    static KafkaProducer<byte[], byte[]> producer(String codec, String acks) {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", bootstrap);
        settings.put("compression.type", codec);
        settings.put("linger.ms", "5");
        settings.put("max.request.size", "" + (8 << 20));
        if (acks.equals("idempotent")) {
            settings.put("enable.idempotence", "true");
        } else {
            settings.put("enable.idempotence", "false");
            settings.put("acks", acks);
        }
        return new KafkaProducer<>(settings, new ByteArraySerializer(), new ByteArraySerializer());
    }

    static List<RecordMetadata> send(List<ProducerRecord<byte[], byte[]>> batch, String codec, String acks) throws Exception {
        try (KafkaProducer<byte[], byte[]> producer = producer(codec, acks)) {
            List<Future<RecordMetadata>> futures = new ArrayList<>();
            batch.forEach(record -> futures.add(producer.send(record)));
            producer.flush();
            List<RecordMetadata> answers = new ArrayList<>();
            for (Future<RecordMetadata> future : futures) {
                answers.add(get(future));
            }
            return answers;
        }
    }

    static List<RecordMetadata> send(List<ProducerRecord<byte[], byte[]>> batch) throws Exception {
        return send(batch, "none", "idempotent");
    }

    static KafkaConsumer<byte[], byte[]> consumer(String group, Map<String, String> extra) {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", bootstrap);
        if (group != null) {
            settings.put("group.id", "java-" + run + "-" + group);
        }
        settings.put("auto.offset.reset", "earliest");
        settings.put("enable.auto.commit", "false");
        settings.put("fetch.max.wait.ms", "100");
        settings.putAll(extra);
        return new KafkaConsumer<>(settings, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    /** Polls until there are `count` records. */
    static List<ConsumerRecord<byte[], byte[]>> collect(KafkaConsumer<byte[], byte[]> reader, int count) {
        List<ConsumerRecord<byte[], byte[]>> records = new ArrayList<>();
        long until = System.nanoTime() + WAIT.toNanos();
        while (records.size() < count) {
            if (System.nanoTime() > until) {
                throw new AssertionError(records.size() + " of " + count + " records after " + WAIT);
            }
            reader.poll(Duration.ofMillis(200)).forEach(records::add);
        }
        return records;
    }

    static List<ConsumerRecord<byte[], byte[]>> read(String topic, int count, long offset) {
        try (KafkaConsumer<byte[], byte[]> reader = consumer(null, Map.of())) {
            TopicPartition partition = new TopicPartition(topic, 0);
            reader.assign(List.of(partition));
            reader.seek(partition, offset);
            return collect(reader, count);
        }
    }

    static List<Long> range(long from, long to) {
        return java.util.stream.LongStream.range(from, to).boxed().toList();
    }

    static List<Long> offsets(List<ConsumerRecord<byte[], byte[]>> records) {
        return records.stream().map(ConsumerRecord::offset).toList();
    }

    static void writeAndReadBack(String codec, String acks) throws Exception {
        String topic = topic(codec + "-" + acks);
        List<ProducerRecord<byte[], byte[]>> batch = records(topic, RECORDS, codec + acks);
        List<RecordMetadata> answers = send(batch, codec, acks);
        if (!acks.equals("0")) {
            equal(answers.stream().map(RecordMetadata::offset).toList(), range(0, RECORDS), "acknowledged offsets");
        }
        List<ConsumerRecord<byte[], byte[]>> found = read(topic, RECORDS, 0);
        equal(offsets(found), range(0, RECORDS), "offsets");
        equal(
                found.stream().map(r -> Content.of(r.key(), r.value(), r.headers())).toList(),
                batch.stream().map(r -> Content.of(r.key(), r.value(), r.headers())).toList(),
                "records");
    }

    static void tooLargeRecord() throws Exception {
        String topic = topic("too-large", 1, Map.of("max.message.bytes", "2000"));
        failsWith(RecordTooLargeException.class, () -> send(List.of(new ProducerRecord<>(topic, 0, null, new byte[5000]))));
        send(plain(topic, 0, 1));
        equal(read(topic, 1, 0).get(0).value().length, 1, "length of the record after the refused one");
    }

    static void logAppendTime() throws Exception {
        String topic = topic("log-append-time", 1, Map.of("message.timestamp.type", "LogAppendTime"));
        long before = System.currentTimeMillis();
        long answered = send(List.of(new ProducerRecord<>(topic, 0, 1000L, null, bytes("v")))).get(0).timestamp();
        ConsumerRecord<byte[], byte[]> record = read(topic, 1, 0).get(0);
        equal(record.timestampType(), TimestampType.LOG_APPEND_TIME, "type of timestamp");
        equal(record.timestamp(), answered, "timestamp answered to the producer");
        if (Math.abs(record.timestamp() - before) > 10_000) {
            throw new AssertionError("broker's timestamp " + record.timestamp() + " is not now, " + before);
        }
    }

    static void partitionByKey() throws Exception {
        String topic = topic("keys", 3, Map.of());
        List<ProducerRecord<byte[], byte[]>> batch = new ArrayList<>();
        for (int i = 0; i < 90; i++) {
            batch.add(new ProducerRecord<>(topic, bytes("key-" + i % 9), bytes("" + i)));
        }
        List<RecordMetadata> answers = send(batch);
        try (KafkaConsumer<byte[], byte[]> reader = consumer("keys", Map.of())) {
            reader.subscribe(List.of(topic));
            Set<String> seen = new HashSet<>();
            collect(reader, 90).forEach(r -> seen.add(r.partition() + ":" + r.offset() + ":" + new String(r.value())));
            Set<String> wanted = new HashSet<>();
            for (int i = 0; i < 90; i++) {
                wanted.add(answers.get(i).partition() + ":" + answers.get(i).offset() + ":" + i);
            }
            equal(seen, wanted, "partition, offset and value of every record");
        }
    }

    static void automaticTopic() throws Exception {
        String topic = "java-" + run + "-automatic";
        equal(send(List.of(new ProducerRecord<>(topic, bytes("v")))).get(0).offset(), 0L, "offset");
        equal(new String(read(topic, 1, 0).get(0).value()), "v", "value");
    }

    static void seekByTime() throws Exception {
        String topic = topic("time");
        TopicPartition partition = new TopicPartition(topic, 0);
        long base = 1_700_000_000_000L;
        for (int start = 0; start < RECORDS; start += 50) { // several batches
            List<ProducerRecord<byte[], byte[]>> batch = new ArrayList<>();
            for (int i = start; i < start + 50; i++) {
                batch.add(new ProducerRecord<>(topic, 0, base + i * 1000L, null, bytes("" + i)));
            }
            send(batch, "zstd", "idempotent");
        }
        try (KafkaConsumer<byte[], byte[]> reader = consumer(null, Map.of())) {
            long[][] asked = {{-5000, 0, 0}, {0, 0, 0}, {70_000, 70, 70_000}, {69_999, 70, 70_000}, {70_001, 71, 71_000}};
            for (long[] row : asked) {
                OffsetAndTimestamp found = reader.offsetsForTimes(Map.of(partition, base + row[0]), WAIT).get(partition);
                equal(List.of(found.offset(), found.timestamp() - base), List.of(row[1], row[2]), "offset and time for " + row[0]);
            }
            equal(reader.offsetsForTimes(Map.of(partition, base + RECORDS * 1000L), WAIT).get(partition), null, "after the last record");
            equal(reader.beginningOffsets(List.of(partition), WAIT).get(partition), 0L, "beginning");
            equal(reader.endOffsets(List.of(partition), WAIT).get(partition), (long) RECORDS, "end");
            reader.assign(List.of(partition));
            reader.seek(partition, 70);
            equal(collect(reader, 1).get(0).timestamp(), base + 70_000, "time of the record at the found offset");
        }
    }

    static void listOffsets() throws Exception {
        String topic = topic("list-offsets");
        TopicPartition partition = new TopicPartition(topic, 0);
        send(List.of(
                new ProducerRecord<>(topic, 0, 5000L, null, bytes("v")),
                new ProducerRecord<>(topic, 0, 9000L, null, bytes("v")),
                new ProducerRecord<>(topic, 0, 7000L, null, bytes("v"))));
        equal(get(admin.listOffsets(Map.of(partition, OffsetSpec.earliest())).partitionResult(partition)).offset(), 0L, "earliest");
        equal(get(admin.listOffsets(Map.of(partition, OffsetSpec.latest())).partitionResult(partition)).offset(), 3L, "latest");
        equal(get(admin.listOffsets(Map.of(partition, OffsetSpec.forTimestamp(6000))).partitionResult(partition)).offset(), 1L, "at or after 6000");
        var newest = get(admin.listOffsets(Map.of(partition, OffsetSpec.maxTimestamp())).partitionResult(partition));
        equal(List.of(newest.offset(), newest.timestamp()), List.of(1L, 9000L), "record with the largest timestamp");
    }

    static void commitAndResume() throws Exception {
        String topic = topic("commit");
        TopicPartition partition = new TopicPartition(topic, 0);
        send(plain(topic, 0, RECORDS));
        try (KafkaConsumer<byte[], byte[]> reader = consumer("commit", Map.of("max.poll.records", "80"))) {
            reader.subscribe(List.of(topic));
            collect(reader, 80);
            reader.commitSync(Map.of(partition, new OffsetAndMetadata(80, Optional.empty(), "remember")), WAIT);
        }
        try (KafkaConsumer<byte[], byte[]> reader = consumer("commit", Map.of())) {
            OffsetAndMetadata found = reader.committed(Set.of(partition), WAIT).get(partition);
            equal(found.offset() + " " + found.metadata(), "80 remember", "committed offset and metadata");
            reader.subscribe(List.of(topic));
            equal(offsets(collect(reader, RECORDS - 80)), range(80, RECORDS), "offsets after resuming");
        }
    }

    static void commitWithoutSubscribing() throws Exception {
        String topic = topic("simple-commit");
        TopicPartition partition = new TopicPartition(topic, 0);
        send(plain(topic, 0, 10));
        try (KafkaConsumer<byte[], byte[]> reader = consumer("simple", Map.of("max.poll.records", "4"))) {
            equal(reader.committed(Set.of(partition), WAIT).get(partition), null, "offset of a group that never committed");
            reader.assign(List.of(partition));
            collect(reader, 4);
            reader.commitSync(WAIT);
            equal(reader.committed(Set.of(partition), WAIT).get(partition).offset(), 4L, "committed offset");
        }
    }

    /** Two members share four partitions; when one leaves the other takes all, and nothing is missed. */
    static void twoMembers(String name, Class<?> assignor) throws Exception {
        String topic = topic("members-" + name, 4, Map.of());
        Map<String, String> settings = Map.of("partition.assignment.strategy", assignor.getName(), "session.timeout.ms", "10000");
        Set<String> seen = new HashSet<>();
        KafkaConsumer<byte[], byte[]> first = consumer("members-" + name, settings);
        // Each on its own thread, as members of a group are: a member that is not polled holds up the others.
        Member one = new Member(first, topic, seen);
        Member two = new Member(consumer("members-" + name, settings), topic, seen);
        try {
            until(() -> one.partitions.size() == 2 && two.partitions.size() == 2, () -> one.partitions + " and " + two.partitions);
            Set<Integer> both = new HashSet<>(one.partitions);
            both.addAll(two.partitions);
            equal(both, Set.of(0, 1, 2, 3), "partitions of both members");
            for (int partition = 0; partition < 4; partition++) {
                send(plain(topic, partition, 20));
            }
            until(() -> size(seen) == 80, () -> size(seen) + " of 80 records");
            two.finish();
            until(() -> one.partitions.size() == 4, () -> one.partitions.toString());
            for (int partition = 0; partition < 4; partition++) {
                send(plain(topic, partition, 20));
            }
            until(() -> size(seen) == 160, () -> size(seen) + " of 160 records");
        } finally {
            two.finish();
            one.finish();
        }
    }

    static int size(Set<String> seen) {
        synchronized (seen) {
            return seen.size();
        }
    }

    static class Member extends Thread {
        final KafkaConsumer<byte[], byte[]> reader;
        final Set<String> seen;
        volatile Set<Integer> partitions = Set.of();
        volatile boolean stopping;

        Member(KafkaConsumer<byte[], byte[]> reader, String topic, Set<String> seen) {
            this.reader = reader;
            this.seen = seen;
            reader.subscribe(List.of(topic), new ConsumerRebalanceListener() {
                public void onPartitionsRevoked(Collection<TopicPartition> gone) {
                    reader.commitSync();
                }

                public void onPartitionsAssigned(Collection<TopicPartition> gained) {}
            });
            setDaemon(true);
            start();
        }

        @Override
        public void run() {
            while (!stopping) {
                reader.poll(Duration.ofMillis(50)).forEach(record -> {
                    synchronized (seen) {
                        seen.add(record.partition() + ":" + record.offset());
                    }
                });
                partitions = reader.assignment().stream().map(TopicPartition::partition).collect(Collectors.toSet());
            }
            reader.close();
        }

        void finish() throws InterruptedException {
            stopping = true;
            join(WAIT.toMillis());
        }
    }

    static void until(Callable<Boolean> condition, Callable<String> state) throws Exception {
        long until = System.nanoTime() + WAIT.toNanos();
        while (!condition.call()) {
            if (System.nanoTime() > until) {
                throw new AssertionError("after " + WAIT + ": " + state.call());
            }
            Thread.sleep(10);
        }
    }

    static void adminTopics() throws Exception {
        String name = "java-" + run + "-admin";
        NewTopic wanted = new NewTopic(name, 2, (short) 1).configs(Map.of("retention.ms", "123456"));
        CreateTopicsResult created = admin.createTopics(List.of(wanted));
        get(created.all());
        equal(get(created.numPartitions(name)), 2, "partitions as answered");
        equal(get(created.config(name)).get("retention.ms").value(), "123456", "retention.ms as answered");
        Uuid id = get(created.topicId(name));
        failsWith(TopicExistsException.class, () -> get(admin.createTopics(List.of(wanted)).all()));
        get(admin.createPartitions(Map.of(name, NewPartitions.increaseTo(5))).all());
        failsWith(InvalidPartitionsException.class, () -> get(admin.createPartitions(Map.of(name, NewPartitions.increaseTo(3))).all()));
        TopicDescription described = get(admin.describeTopics(List.of(name)).allTopicNames()).get(name);
        equal(described.partitions().stream().map(p -> p.partition()).toList(), List.of(0, 1, 2, 3, 4), "partitions as described");
        equal(described.topicId(), id, "topic id as described");
        equal(get(admin.describeTopics(TopicCollection.ofTopicIds(List.of(id))).allTopicIds()).get(id).name(), name, "name by id");
        equal(get(admin.listTopics().names()).contains(name), true, "in the list of topics");
        send(plain(name, 0, 1));
        get(admin.deleteTopics(TopicCollection.ofTopicIds(List.of(id))).all());
        failsWith(UnknownTopicIdException.class, () -> get(admin.deleteTopics(TopicCollection.ofTopicIds(List.of(id))).all()));
        failsWith(UnknownTopicOrPartitionException.class, () -> get(admin.deleteTopics(List.of(name)).all()));
        // Created again it is another topic: another id, empty, and from offset 0.
        CreateTopicsResult again = admin.createTopics(List.of(new NewTopic(name, Optional.empty(), Optional.empty())));
        equal(get(again.topicId(name)).equals(id), false, "the same id for the topic created again");
        equal(send(plain(name, 0, 1)).get(0).offset(), 0L, "offset in the topic created again");
    }

    static void adminBadTopics() throws Exception {
        for (String name : List.of("a/b", "..", "x".repeat(300), "with space")) {
            failsWith(InvalidTopicException.class, () -> get(admin.createTopics(List.of(new NewTopic(name, 1, (short) 1))).all()));
        }
        failsWith(InvalidConfigurationException.class, () -> topic("bad-config", 1, Map.of("no.such.config", "1")));
        failsWith(InvalidPartitionsException.class, () -> topic("no-partitions", 0, Map.of()));
    }

    static void adminConfigs() throws Exception {
        String name = topic("configs", 1, Map.of("retention.ms", "5000000"));
        ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, name);
        Callable<Config> describe = () -> get(admin.describeConfigs(List.of(resource)).all()).get(resource);
        ConfigEntry retention = describe.call().get("retention.ms");
        equal(retention.value() + " " + retention.source(), "5000000 DYNAMIC_TOPIC_CONFIG", "retention.ms");
        ConfigEntry policy = describe.call().get("cleanup.policy");
        equal(policy.value() + " " + policy.source() + " " + policy.type(), "delete DEFAULT_CONFIG LIST", "cleanup.policy");
        get(admin.incrementalAlterConfigs(Map.of(resource, List.of(
                new AlterConfigOp(new ConfigEntry("max.message.bytes", "77777"), AlterConfigOp.OpType.SET),
                new AlterConfigOp(new ConfigEntry("retention.ms", null), AlterConfigOp.OpType.DELETE)))).all());
        equal(describe.call().get("max.message.bytes").value(), "77777", "max.message.bytes after the change");
        equal(describe.call().get("retention.ms").value(), "604800000", "retention.ms after it was removed");
        failsWith(InvalidConfigurationException.class, () -> get(admin.incrementalAlterConfigs(Map.of(resource, List.of(
                new AlterConfigOp(new ConfigEntry("retention.ms", "soon"), AlterConfigOp.OpType.SET)))).all()));
        Node node = get(admin.describeCluster().controller());
        ConfigResource broker = new ConfigResource(ConfigResource.Type.BROKER, node.idString());
        Config settings = get(admin.describeConfigs(List.of(broker)).all()).get(broker);
        for (String known : List.of("num.partitions", "auto.create.topics.enable", "message.max.bytes", "log.retention.ms")) {
            equal(settings.get(known) != null, true, "the broker's " + known + " is described");
        }
    }

    static void adminDeleteRecords() throws Exception {
        String topic = topic("delete-records");
        TopicPartition partition = new TopicPartition(topic, 0);
        send(plain(topic, 0, 10));
        var deleted = admin.deleteRecords(Map.of(partition, RecordsToDelete.beforeOffset(4)));
        equal(get(deleted.lowWatermarks().get(partition)).lowWatermark(), 4L, "low watermark");
        equal(get(admin.listOffsets(Map.of(partition, OffsetSpec.earliest())).partitionResult(partition)).offset(), 4L, "earliest");
        try (KafkaConsumer<byte[], byte[]> reader = consumer(null, Map.of())) {
            reader.assign(List.of(partition));
            reader.seek(partition, 0); // out of range now: auto.offset.reset takes it to the start
            equal(offsets(collect(reader, 6)), range(4, 10), "offsets");
        }
    }

    static void adminCluster() throws Exception {
        var cluster = admin.describeCluster();
        Collection<Node> nodes = get(cluster.nodes());
        equal(nodes.size(), 1, "nodes");
        Node node = nodes.iterator().next();
        equal(node.host() + ":" + node.port(), bootstrap, "address of the node");
        equal(get(cluster.controller()).id(), node.id(), "controller");
        equal(get(cluster.clusterId()).length(), 22, "length of the cluster id");
    }

    static void adminGroups() throws Exception {
        String topic = topic("groups");
        TopicPartition partition = new TopicPartition(topic, 0);
        String group = "java-" + run + "-groups";
        send(plain(topic, 0, 10));
        Callable<Map<TopicPartition, OffsetAndMetadata>> committed = () ->
                get(admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata());
        try (KafkaConsumer<byte[], byte[]> reader = consumer("groups", Map.of())) {
            reader.subscribe(List.of(topic));
            collect(reader, 10);
            reader.commitSync(WAIT);
            failsWith(GroupNotEmptyException.class, () -> get(admin.deleteConsumerGroups(List.of(group)).all()));
            var described = get(admin.describeConsumerGroups(List.of(group)).all()).get(group);
            equal(described.groupState(), GroupState.STABLE, "state");
            equal(described.partitionAssignor(), "range", "assignor");
            var member = described.members().iterator().next();
            equal(member.assignment().topicPartitions(), Set.of(partition), "assignment");
            equal(member.host().contains("127.0.0.1"), true, "the member's host is its address: " + member.host());
        }
        var listed = get(admin.listGroups().all()).stream().filter(g -> g.groupId().equals(group)).findFirst().orElseThrow();
        equal(listed.groupState().orElseThrow() + " " + listed.protocol(), "Empty consumer", "in the list of groups");
        equal(committed.call().get(partition).offset(), 10L, "offset of the group");
        get(admin.alterConsumerGroupOffsets(group, Map.of(partition, new OffsetAndMetadata(3))).all());
        equal(committed.call().get(partition).offset(), 3L, "offset after it was altered");
        get(admin.deleteConsumerGroups(List.of(group)).all());
        failsWith(GroupIdNotFoundException.class, () -> get(admin.deleteConsumerGroups(List.of(group)).all()));
        equal(committed.call(), Map.of(), "offsets of a group that is gone");
    }

    public static void main(String[] arguments) {
        bootstrap = arguments[0];
        admin = Admin.create(Map.of("bootstrap.servers", bootstrap));
        System.out.println("# kafka-clients " + AppInfoParser.getVersion() + ", Java " + System.getProperty("java.version"));
        for (String codec : CODECS) {
            for (String acks : ACKS) {
                check("write-and-read-" + codec + "-acks-" + acks, () -> writeAndReadBack(codec, acks));
            }
        }
        check("too-large-record", Checks::tooLargeRecord);
        check("log-append-time", Checks::logAppendTime);
        check("partition-by-key", Checks::partitionByKey);
        check("automatic-topic", Checks::automaticTopic);
        check("seek-by-time", Checks::seekByTime);
        check("list-offsets", Checks::listOffsets);
        check("commit-and-resume", Checks::commitAndResume);
        check("commit-without-subscribing", Checks::commitWithoutSubscribing);
        check("two-members-range", () -> twoMembers("range", RangeAssignor.class));
        check("two-members-cooperative", () -> twoMembers("cooperative", CooperativeStickyAssignor.class));
        check("admin-topics", Checks::adminTopics);
        check("admin-bad-topics", Checks::adminBadTopics);
        check("admin-configs", Checks::adminConfigs);
        check("admin-delete-records", Checks::adminDeleteRecords);
        check("admin-cluster", Checks::adminCluster);
        check("admin-groups", Checks::adminGroups);
        admin.close(Duration.ofSeconds(5));
        System.out.println("done java");
        System.exit(failures == 0 ? 0 : 1);
    }
}
