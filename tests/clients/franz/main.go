// franz uses franz-go as an application does: topics, every codec, idempotent writes, groups, offsets and times.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

var (
	seed  = os.Getenv("BOOTSTRAP")
	topic = fmt.Sprintf("franz-%d-%d", os.Getpid(), time.Now().UnixNano())
)

func main() {
	log.SetFlags(0)
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
	defer cancel()
	client, err := kgo.NewClient(kgo.SeedBrokers(seed))
	check(err)
	defer client.Close()
	admin := kadm.NewClient(client)
	administer(ctx, admin)
	codecs(ctx, admin)
	times(ctx, admin)
	group(ctx, admin)
	remove(ctx, admin)
}

func administer(ctx context.Context, admin *kadm.Client) {
	value := "86400000"
	made, err := admin.CreateTopic(ctx, 6, 1, map[string]*string{"retention.ms": &value}, topic)
	check(err)
	check(made.Err)
	_, err = admin.CreateTopic(ctx, 6, 1, nil, topic)
	must(errors.Is(err, kerr.TopicAlreadyExists), "a second creation: %v", err)
	configs, err := admin.DescribeTopicConfigs(ctx, topic)
	check(err)
	found := false
	for _, config := range configs[0].Configs {
		found = found || config.Key == "retention.ms" && config.MaybeValue() == value
	}
	must(found, "retention.ms is not %s", value)
	dirs, err := admin.DescribeAllLogDirs(ctx, nil)
	check(err)
	for _, of := range dirs {
		check(of.Error())
	}
	ok("topics, configs, log dirs")
}

// codecs writes and reads 1,000 records in each codec, one partition each, idempotently (franz-go's default).
func codecs(ctx context.Context, admin *kadm.Client) {
	all := []kgo.CompressionCodec{
		kgo.NoCompression(), kgo.GzipCompression(), kgo.SnappyCompression(), kgo.Lz4Compression(), kgo.ZstdCompression(),
	}
	for partition, codec := range all {
		producer, err := kgo.NewClient(kgo.SeedBrokers(seed), kgo.ProducerBatchCompression(codec),
			kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.DefaultProduceTopic(topic))
		check(err)
		records := make([]*kgo.Record, 1000)
		for i := range records {
			records[i] = &kgo.Record{
				Partition: int32(partition), Key: fmt.Appendf(nil, "k%d", i), Value: fmt.Appendf(nil, "value %d", i),
				Headers: []kgo.RecordHeader{{Key: "h", Value: []byte("x")}}, Timestamp: time.UnixMilli(int64(1_000 + i)),
			}
		}
		check(producer.ProduceSync(ctx, records...).FirstErr())
		producer.Close()
		start := map[string]map[int32]kgo.Offset{topic: {int32(partition): kgo.NewOffset().AtStart()}}
		consumer, err := kgo.NewClient(kgo.SeedBrokers(seed), kgo.ConsumePartitions(start))
		check(err)
		next := int64(0)
		for next < 1000 {
			fetches := consumer.PollFetches(ctx)
			check(fetches.Err())
			fetches.EachRecord(func(r *kgo.Record) {
				must(r.Offset == next && string(r.Value) == fmt.Sprintf("value %d", next), "at %d: %d %q", next, r.Offset, r.Value)
				must(len(r.Headers) == 1 && r.Timestamp.UnixMilli() == 1_000+next, "header or time at %d", next)
				next++
			})
		}
		consumer.Close()
	}
	ok("five codecs, idempotent")
	ends, err := admin.ListEndOffsets(ctx, topic)
	check(err)
	ends.Each(func(o kadm.ListedOffset) {
		check(o.Err)
		must(o.Offset == 1000 || o.Partition == 5, "end of partition %d: %d", o.Partition, o.Offset)
	})
}

func times(ctx context.Context, admin *kadm.Client) {
	offsets, err := admin.ListOffsetsAfterMilli(ctx, 1_500, topic)
	check(err)
	at, _ := offsets.Lookup(topic, 3)
	must(at.Offset == 500, "the offset at 1500: %d", at.Offset)
	newest, err := admin.ListMaxTimestampOffsets(ctx, topic)
	check(err)
	last, _ := newest.Lookup(topic, 3)
	must(last.Offset == 999, "the newest record: %d", last.Offset)
	ok("times")
}

// group has three members which share six partitions; one leaves half way.
func group(ctx context.Context, admin *kadm.Client) {
	name := topic + "-group"
	var mu sync.Mutex
	seen := map[string]int{}
	count := func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(seen)
	}
	members := make([]*kgo.Client, 3)
	var wg sync.WaitGroup
	for i := range members {
		member, err := kgo.NewClient(kgo.SeedBrokers(seed), kgo.ConsumerGroup(name), kgo.ConsumeTopics(topic),
			kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.HeartbeatInterval(200*time.Millisecond), kgo.BlockRebalanceOnPoll())
		check(err)
		members[i] = member
		wg.Add(1)
		go func() {
			defer wg.Done()
			for {
				fetches := member.PollRecords(ctx, 100)
				if fetches.IsClientClosed() {
					return
				}
				mu.Lock()
				fetches.EachRecord(func(r *kgo.Record) { seen[fmt.Sprintf("%d/%d", r.Partition, r.Offset)]++ })
				mu.Unlock()
				check(member.CommitUncommittedOffsets(ctx))
				member.AllowRebalance()
			}
		}()
	}
	await(func() bool { return count() >= 1500 }, "the first records")
	members[0].CloseAllowingRebalance()
	await(func() bool { return count() == 5000 }, "all records")
	described, err := admin.DescribeGroups(ctx, name)
	check(err)
	check(described.Error())
	must(len(described[name].Members) == 2, "members: %d", len(described[name].Members))
	for _, member := range members[1:] {
		member.CloseAllowingRebalance()
	}
	wg.Wait()
	lag, err := admin.Lag(ctx, name)
	check(err)
	must(lag[name].Lag.Total() == 0, "lag: %d", lag[name].Lag.Total())
	ok("a group of three")
	_, err = admin.DeleteGroup(ctx, name)
	check(err)
	listed, err := admin.ListGroups(ctx)
	check(err)
	_, there := listed[name]
	must(!there, "the group is still listed")
}

func remove(ctx context.Context, admin *kadm.Client) {
	deleted, err := admin.DeleteTopic(ctx, topic)
	check(err)
	check(deleted.Err)
	await(func() bool {
		topics, err := admin.ListTopics(ctx)
		check(err)
		return !topics.Has(topic)
	}, "the topic is gone")
	ok("topic and group deleted")
}

func await(done func() bool, what string) {
	for end := time.Now().Add(time.Minute); !done(); time.Sleep(50 * time.Millisecond) {
		must(time.Now().Before(end), "still not: %s", what)
	}
}

func ok(what string) { fmt.Println("ok   franz: " + what) }

func check(err error) {
	if err != nil {
		log.Fatalf("FAIL franz: %v", err)
	}
}

func must(holds bool, format string, args ...any) {
	if !holds {
		log.Fatalf("FAIL franz: "+format, args...)
	}
}
