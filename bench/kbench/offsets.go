package main

import (
	"context"
	"fmt"
	"log"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// topicID: later versions name topics by their ids only.
func topicID(cl *kgo.Client) kadm.TopicID {
	topics, err := kadm.NewClient(cl).ListTopics(context.Background(), *topic)
	check(err)
	return topics[*topic].ID
}

// A few groups at a time: the coordinator works, not the client.
const groupsAtOnce = 16

func eachGroup(do func(group string)) {
	work := make(chan string)
	var wg sync.WaitGroup
	for i := 0; i < groupsAtOnce; i++ {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for group := range work {
				do(group)
			}
		}()
	}
	for i := 0; i < *groups; i++ {
		work <- fmt.Sprintf("group-%d", i)
	}
	close(work)
	wg.Wait()
}

// commitOffsets commits an offset for every partition of the topic in each group.
func commitOffsets(cl *kgo.Client) result {
	id := topicID(cl)
	start := time.Now()
	eachGroup(func(group string) {
		req := kmsg.NewPtrOffsetCommitRequest()
		req.Group, req.Generation = group, -1
		topicRow := kmsg.NewOffsetCommitRequestTopic()
		topicRow.Topic, topicRow.TopicID = *topic, id
		for p := 0; p < *partitions; p++ {
			row := kmsg.NewOffsetCommitRequestTopicPartition()
			row.Partition, row.Offset = int32(p), int64(p)
			topicRow.Partitions = append(topicRow.Partitions, row)
		}
		req.Topics = append(req.Topics, topicRow)
		resp, err := req.RequestWith(context.Background(), cl)
		check(err)
		for _, row := range resp.Topics[0].Partitions {
			if row.ErrorCode != 0 {
				log.Fatalf("%s: partition %d: error %d", group, row.Partition, row.ErrorCode)
			}
		}
	})
	took := time.Since(start).Seconds()
	n := *groups * *partitions
	return result{"offsets": n, "commit_s": round(took), "offsets_per_s": round(float64(n) / took)}
}

// awaitOffsets asks for the last offset of each group until it is there.
func awaitOffsets(cl *kgo.Client) result {
	id := topicID(cl)
	start := time.Now()
	eachGroup(func(group string) {
		for !hasOffset(cl, group, id) {
			if time.Since(start) > 5*time.Minute {
				log.Fatalf("%s: no offset", group)
			}
			time.Sleep(5 * time.Millisecond)
		}
	})
	return result{"groups": *groups, "await_s": round(time.Since(start).Seconds())}
}

func hasOffset(cl *kgo.Client, group string, id kadm.TopicID) bool {
	last := int32(*partitions - 1)
	req := kmsg.NewPtrOffsetFetchRequest()
	row := kmsg.NewOffsetFetchRequestGroup()
	row.Group = group
	topicRow := kmsg.NewOffsetFetchRequestGroupTopic()
	topicRow.Topic, topicRow.TopicID, topicRow.Partitions = *topic, id, []int32{last}
	row.Topics = append(row.Topics, topicRow)
	req.Groups = append(req.Groups, row)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	resp, err := req.RequestWith(ctx, cl)
	if err != nil || len(resp.Groups) != 1 || resp.Groups[0].ErrorCode != 0 {
		return false
	}
	found := resp.Groups[0]
	return len(found.Topics) == 1 && len(found.Topics[0].Partitions) == 1 && found.Topics[0].Partitions[0].Offset == int64(last)
}
