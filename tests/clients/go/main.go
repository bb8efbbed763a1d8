// Drives a broker with franz-go, as any Go program would: checks BOOTSTRAP.
// One line a check, `ok go NAME` or `FAIL go NAME: why`; exit code 1 if any failed.
package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"reflect"
	"runtime/debug"
	"sort"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// No single wait in here may be longer.
const wait = 30 * time.Second
const count = 200

var (
	bootstrap string
	run       string
	failures  int
	admin     *kadm.Client

	codecNames = []string{"none", "gzip", "snappy", "lz4", "zstd"}
	codecs     = map[string]kgo.CompressionCodec{
		"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
		"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	}
	acksNames = []string{"0", "1", "all", "idempotent"}
)

// check runs one check and prints its line; the next one runs whatever happens.
func check(name string, body func(context.Context) error) {
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	if err := body(ctx); err != nil {
		failures++
		fmt.Printf("FAIL go %s: %s\n", name, strings.ReplaceAll(err.Error(), "\n", " "))
		return
	}
	fmt.Printf("ok go %s\n", name)
}

func equal(got, wanted any, what string) error {
	if reflect.DeepEqual(got, wanted) {
		return nil
	}
	return fmt.Errorf("%s: got %.300s, wanted %.300s", what, fmt.Sprint(got), fmt.Sprint(wanted))
}

// failsWith: the error code is part of the protocol; another one makes clients do another thing.
func failsWith(wanted, got error) error {
	if errors.Is(got, wanted) {
		return nil
	}
	return fmt.Errorf("error: got %v, wanted %v", got, wanted)
}

func client(options ...kgo.Opt) (*kgo.Client, error) {
	return kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(bootstrap),
		kgo.FetchMaxWait(100 * time.Millisecond),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		// The default waits for the metadata's age; checks create a topic and use it at once.
		kgo.MetadataMinAge(50 * time.Millisecond),
	}, options...)...)
}

func topic(ctx context.Context, name string, partitions int32, configs map[string]*string) (string, error) {
	full := fmt.Sprintf("go-%s-%s", run, name)
	answer, err := admin.CreateTopic(ctx, partitions, 1, configs, full)
	if err == nil {
		err = answer.Err
	}
	return full, err
}

// records of many shapes: keys and values absent, empty, long; one header twice.
func records(topic string) []*kgo.Record {
	var made []*kgo.Record
	for i := range count {
		record := &kgo.Record{Topic: topic, Key: []byte(fmt.Sprintf("key-%d", i%13))}
		if i%7 == 0 {
			record.Key = nil
		} else if i%11 == 0 {
			record.Key = []byte{}
		}
		if i%19 == 4 {
			record.Value = []byte{}
		} else if i%17 != 3 {
			record.Value = append([]byte(fmt.Sprintf("%d:", i)), bytes.Repeat([]byte{byte(i)}, i*5)...)
		}
		if i%5 == 0 {
			record.Headers = []kgo.RecordHeader{
				{Key: "h", Value: []byte("first")}, {Key: "h", Value: []byte("second")},
				{Key: "none"}, {Key: "empty", Value: []byte{}},
			}
		}
		made = append(made, record)
	}
	return made
}

func plain(topic string, partition int32, number int) []*kgo.Record {
	var made []*kgo.Record
	for i := range number {
		made = append(made, &kgo.Record{Topic: topic, Partition: partition, Value: []byte(fmt.Sprint(i))})
	}
	return made
}

func send(ctx context.Context, batch []*kgo.Record, options ...kgo.Opt) error {
	sender, err := client(options...)
	if err != nil {
		return err
	}
	defer sender.Close()
	return sender.ProduceSync(ctx, batch...).FirstErr()
}

// collect polls until there are `number` records.
func collect(ctx context.Context, reader *kgo.Client, number int) ([]*kgo.Record, error) {
	var found []*kgo.Record
	for len(found) < number {
		fetches := reader.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return nil, fmt.Errorf("%d of %d records: %w", len(found), number, err)
		}
		found = append(found, fetches.Records()...)
	}
	return found, nil
}

func read(ctx context.Context, topic string, number int, from kgo.Offset) ([]*kgo.Record, error) {
	reader, err := client(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {0: from}}))
	if err != nil {
		return nil, err
	}
	defer reader.Close()
	return collect(ctx, reader, number)
}

type content struct {
	offset         int64
	key, value     string
	noKey, noValue bool
	headers        string
}

func contents(batch []*kgo.Record, offsets bool) []content {
	var all []content
	for i, r := range batch {
		c := content{int64(i), string(r.Key), string(r.Value), r.Key == nil, r.Value == nil, ""}
		if offsets {
			c.offset = r.Offset
		}
		for _, h := range r.Headers {
			c.headers += fmt.Sprintf("%s=%q,%t;", h.Key, h.Value, h.Value == nil)
		}
		all = append(all, c)
	}
	return all
}

func writeAndReadBack(codec, acks string) func(context.Context) error {
	return func(ctx context.Context) error {
		name, err := topic(ctx, codec+"-"+acks, 1, nil)
		if err != nil {
			return err
		}
		options := []kgo.Opt{kgo.ProducerBatchCompression(codecs[codec]), kgo.ProducerLinger(5 * time.Millisecond)}
		switch acks {
		case "0":
			options = append(options, kgo.RequiredAcks(kgo.NoAck()), kgo.DisableIdempotentWrite())
		case "1":
			options = append(options, kgo.RequiredAcks(kgo.LeaderAck()), kgo.DisableIdempotentWrite())
		case "all":
			options = append(options, kgo.RequiredAcks(kgo.AllISRAcks()), kgo.DisableIdempotentWrite())
		}
		batch := records(name)
		if err := send(ctx, batch, options...); err != nil {
			return err
		}
		found, err := read(ctx, name, count, kgo.NewOffset().AtStart())
		if err != nil {
			return err
		}
		stored := map[uint8]bool{}
		for _, r := range found {
			stored[r.Attrs.CompressionType()] = true
		}
		wantedCodec := map[string]uint8{"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}[codec]
		return errors.Join(
			equal(contents(found, true), contents(batch, acks != "0"), "records"),
			equal(stored, map[uint8]bool{wantedCodec: true}, "codecs of the stored batches"),
		)
	}
}

func seekByTime(ctx context.Context) error {
	name, err := topic(ctx, "time", 1, nil)
	if err != nil {
		return err
	}
	base := time.UnixMilli(1_700_000_000_000)
	for start := 0; start < count; start += 50 { // several batches
		batch := plain(name, 0, 50)
		for i := range batch {
			batch[i].Timestamp = base.Add(time.Duration(start+i) * time.Second)
		}
		if err := send(ctx, batch, kgo.ProducerBatchCompression(kgo.ZstdCompression())); err != nil {
			return err
		}
	}
	for _, row := range [][3]int64{{-5000, 0, 0}, {0, 0, 0}, {70_000, 70, 70_000}, {69_999, 70, 70_000}, {70_001, 71, 71_000}} {
		listed, err := admin.ListOffsetsAfterMilli(ctx, base.UnixMilli()+row[0], name)
		if err != nil {
			return err
		}
		found, _ := listed.Lookup(name, 0)
		if err := equal([]int64{found.Offset, found.Timestamp - base.UnixMilli()}, []int64{row[1], row[2]},
			fmt.Sprintf("offset and time for %d", row[0])); err != nil {
			return err
		}
	}
	found, err := read(ctx, name, 1, kgo.NewOffset().AfterMilli(base.UnixMilli()+70_000))
	if err != nil {
		return err
	}
	start, err := admin.ListStartOffsets(ctx, name)
	if err != nil {
		return err
	}
	end, err := admin.ListEndOffsets(ctx, name)
	if err != nil {
		return err
	}
	first, _ := start.Lookup(name, 0)
	last, _ := end.Lookup(name, 0)
	return errors.Join(
		equal(found[0].Offset, int64(70), "first record read from a time"),
		equal([]int64{first.Offset, last.Offset}, []int64{0, count}, "ends"),
	)
}

func commitAndResume(ctx context.Context) error {
	name, err := topic(ctx, "commit", 1, nil)
	if err != nil {
		return err
	}
	if err := send(ctx, plain(name, 0, count)); err != nil {
		return err
	}
	group := kgo.ConsumerGroup("go-" + run + "-commit")
	options := []kgo.Opt{group, kgo.ConsumeTopics(name), kgo.DisableAutoCommit(), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart())}
	reader, err := client(options...)
	if err != nil {
		return err
	}
	found, err := collect(ctx, reader, 80)
	if err == nil {
		err = reader.CommitRecords(ctx, found[79])
	}
	reader.Close()
	if err != nil {
		return err
	}
	reader, err = client(options...)
	if err != nil {
		return err
	}
	defer reader.Close()
	found, err = collect(ctx, reader, count-80)
	if err != nil {
		return err
	}
	return errors.Join(
		equal(found[0].Offset, int64(80), "first offset after resuming"),
		equal(len(found), count-80, "records after resuming"),
	)
}

// twoMembers: two members share four partitions; when one leaves the other takes all, and nothing is missed.
func twoMembers(name string, balancer kgo.GroupBalancer) func(context.Context) error {
	return func(ctx context.Context) error {
		target, err := topic(ctx, "members-"+name, 4, nil)
		if err != nil {
			return err
		}
		group := "go-" + run + "-members-" + name
		member := func() (*kgo.Client, error) {
			reader, err := client(kgo.ConsumerGroup(group), kgo.ConsumeTopics(target), kgo.Balancers(balancer),
				kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.SessionTimeout(10*time.Second), kgo.HeartbeatInterval(200*time.Millisecond))
			if err != nil {
				return nil, err
			}
			go func() {
				for !reader.PollFetches(ctx).IsClientClosed() && ctx.Err() == nil {
				}
			}()
			return reader, nil
		}
		first, err := member()
		if err != nil {
			return err
		}
		defer first.Close()
		second, err := member()
		if err != nil {
			return err
		}
		defer second.Close()
		sizes := func() ([]int, error) {
			described, err := admin.DescribeGroups(ctx, group)
			if err != nil {
				return nil, err
			}
			var sizes []int
			if described[group].State != "Stable" {
				return nil, nil
			}
			for _, m := range described[group].Members {
				if assigned, ok := m.Assigned.AsConsumer(); ok {
					number := 0
					for _, t := range assigned.Topics {
						number += len(t.Partitions)
					}
					sizes = append(sizes, number)
				}
			}
			return sizes, nil
		}
		if err := until(ctx, sizes, []int{2, 2}); err != nil {
			return err
		}
		for partition := range int32(4) {
			if err := send(ctx, plain(target, partition, 20)); err != nil {
				return err
			}
		}
		second.Close()
		if err := until(ctx, sizes, []int{4}); err != nil {
			return err
		}
		// Both commit what they have polled, so in the end the group stands at the end of every partition.
		return until(ctx, func() ([]int, error) {
			_ = first.CommitUncommittedOffsets(ctx)
			committed, err := admin.FetchOffsets(ctx, group)
			if err != nil {
				return nil, err
			}
			var at []int
			committed.Each(func(o kadm.OffsetResponse) { at = append(at, int(o.At)) })
			return at, nil
		}, []int{20, 20, 20, 20})
	}
}

func until(ctx context.Context, look func() ([]int, error), wanted []int) error {
	for {
		got, err := look()
		if err == nil {
			sort.Ints(got)
			err = equal(got, wanted, "in time")
		}
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func adminTopics(ctx context.Context) error {
	name, err := topic(ctx, "admin", 2, map[string]*string{"retention.ms": kadm.StringPtr("123456")})
	if err != nil {
		return err
	}
	_, again := topic(ctx, "admin", 2, nil)
	grown, err := admin.UpdatePartitions(ctx, 5, name)
	if err != nil {
		return err
	}
	listed, err := admin.ListTopics(ctx, name)
	if err != nil {
		return err
	}
	deleted, err := admin.DeleteTopics(ctx, name)
	if err != nil {
		return err
	}
	missing, err := admin.DeleteTopics(ctx, name)
	if err != nil {
		return err
	}
	_, slash := topic(ctx, "a/b", 1, nil)
	_, long := topic(ctx, strings.Repeat("x", 300), 1, nil)
	_, config := topic(ctx, "config", 1, map[string]*string{"no.such.config": kadm.StringPtr("1")})
	return errors.Join(
		failsWith(kerr.TopicAlreadyExists, again),
		grown[name].Err,
		equal(listed[name].Partitions.Numbers(), []int32{0, 1, 2, 3, 4}, "partitions"),
		deleted[name].Err,
		failsWith(kerr.UnknownTopicOrPartition, missing[name].Err),
		failsWith(kerr.InvalidTopicException, slash),
		failsWith(kerr.InvalidTopicException, long),
		failsWith(kerr.InvalidConfig, config),
	)
}

func adminConfigs(ctx context.Context) error {
	name, err := topic(ctx, "configs", 1, map[string]*string{"retention.ms": kadm.StringPtr("5000000")})
	if err != nil {
		return err
	}
	describe := func(key string) string {
		described, err := admin.DescribeTopicConfigs(ctx, name)
		if err != nil || described[0].Err != nil {
			return fmt.Sprint(err, described)
		}
		for _, config := range described[0].Configs {
			if config.Key == key {
				return config.MaybeValue()
			}
		}
		return "not described"
	}
	if err := errors.Join(equal(describe("retention.ms"), "5000000", "retention.ms"),
		equal(describe("cleanup.policy"), "delete", "cleanup.policy")); err != nil {
		return err
	}
	altered, err := admin.AlterTopicConfigs(ctx, []kadm.AlterConfig{
		{Op: kadm.SetConfig, Name: "max.message.bytes", Value: kadm.StringPtr("77777")},
		{Op: kadm.DeleteConfig, Name: "retention.ms"},
	}, name)
	if err != nil {
		return err
	}
	bad, err := admin.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "retention.ms", Value: kadm.StringPtr("soon")}}, name)
	if err != nil {
		return err
	}
	return errors.Join(
		altered[0].Err,
		equal(describe("max.message.bytes"), "77777", "max.message.bytes after the change"),
		equal(describe("retention.ms"), "604800000", "retention.ms after it was removed"),
		failsWith(kerr.InvalidConfig, bad[0].Err),
	)
}

func adminDeleteRecords(ctx context.Context) error {
	name, err := topic(ctx, "delete-records", 1, nil)
	if err != nil {
		return err
	}
	if err := send(ctx, plain(name, 0, 10)); err != nil {
		return err
	}
	var offsets kadm.Offsets
	offsets.AddOffset(name, 0, 4, -1)
	deleted, err := admin.DeleteRecords(ctx, offsets)
	if err != nil {
		return err
	}
	answer, _ := deleted.Lookup(name, 0)
	found, err := read(ctx, name, 6, kgo.NewOffset().AtStart())
	if err != nil {
		return err
	}
	return errors.Join(answer.Err, equal(answer.LowWatermark, int64(4), "low watermark"),
		equal([]int64{found[0].Offset, found[5].Offset}, []int64{4, 9}, "first and last offset"))
}

func adminCluster(ctx context.Context) error {
	metadata, err := admin.BrokerMetadata(ctx)
	if err != nil {
		return err
	}
	node := metadata.Brokers[0]
	return errors.Join(
		equal(len(metadata.Brokers), 1, "brokers"),
		equal(fmt.Sprintf("%s:%d", node.Host, node.Port), bootstrap, "address"),
		equal(metadata.Controller, node.NodeID, "controller"),
		equal(len(metadata.Cluster), 22, "length of the cluster id"),
	)
}

func adminGroups(ctx context.Context) error {
	name, err := topic(ctx, "groups", 1, nil)
	if err != nil {
		return err
	}
	if err := send(ctx, plain(name, 0, 10)); err != nil {
		return err
	}
	group := "go-" + run + "-groups"
	reader, err := client(kgo.ConsumerGroup(group), kgo.ConsumeTopics(name), kgo.DisableAutoCommit(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		return err
	}
	_, err = collect(ctx, reader, 10)
	if err == nil {
		err = reader.CommitUncommittedOffsets(ctx)
	}
	var busy error
	if err == nil {
		_, busy = admin.DeleteGroup(ctx, group)
	}
	reader.Close()
	if err != nil {
		return err
	}
	listed, err := admin.ListGroups(ctx)
	if err != nil {
		return err
	}
	lags, err := admin.Lag(ctx, group)
	if err != nil {
		return err
	}
	var offsets kadm.Offsets
	offsets.AddOffset(name, 0, 3, -1)
	if err := admin.CommitAllOffsets(ctx, group, offsets); err != nil {
		return err
	}
	committed, err := admin.FetchOffsets(ctx, group)
	if err != nil {
		return err
	}
	at, _ := committed.Lookup(name, 0)
	_, err = admin.DeleteGroup(ctx, group)
	_, gone := admin.DeleteGroup(ctx, group)
	return errors.Join(
		failsWith(kerr.NonEmptyGroup, busy),
		equal(listed[group].State, "Empty", "state in the list"),
		equal(lags[group].Lag.Total(), int64(0), "lag"),
		equal(at.At, int64(3), "offset after it was set from outside"),
		err,
		failsWith(kerr.GroupIDNotFound, gone),
	)
}

func main() {
	bootstrap = os.Args[1]
	id := make([]byte, 4)
	rand.Read(id)
	run = hex.EncodeToString(id)
	plainClient, err := client()
	if err != nil {
		fmt.Println("FAIL go client:", err)
		os.Exit(1)
	}
	admin = kadm.NewClient(plainClient)
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, module := range info.Deps {
			if module.Path == "github.com/twmb/franz-go" {
				fmt.Println("# franz-go", module.Version)
			}
		}
	}
	for _, codec := range codecNames {
		for _, acks := range acksNames {
			check(fmt.Sprintf("write-and-read-%s-acks-%s", codec, acks), writeAndReadBack(codec, acks))
		}
	}
	check("seek-by-time", seekByTime)
	check("commit-and-resume", commitAndResume)
	check("two-members-range", twoMembers("range", kgo.RangeBalancer()))
	check("two-members-cooperative", twoMembers("cooperative", kgo.CooperativeStickyBalancer()))
	check("admin-topics", adminTopics)
	check("admin-configs", adminConfigs)
	check("admin-delete-records", adminDeleteRecords)
	check("admin-cluster", adminCluster)
	check("admin-groups", adminGroups)
	plainClient.Close()
	fmt.Println("done go")
	if failures > 0 {
		os.Exit(1)
	}
}
