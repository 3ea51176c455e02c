// franz-go, a client in Go. See `cargo xtask foreign --help` for what a client has to do.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"runtime/debug"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

const module = "github.com/twmb/franz-go"

var servers, topic = kgo.SeedBrokers(strings.Split(os.Args[1], ",")...), os.Args[2]

func write(from, to int) error {
	client, err := kgo.NewClient(servers, kgo.DefaultProduceTopic(topic), kgo.ProducerBatchCompression(kgo.ZstdCompression()))
	if err != nil {
		return err
	}
	defer client.Close()
	var records []*kgo.Record
	for n := from; n < to; n++ {
		text := []byte(strconv.Itoa(n))
		records = append(records, &kgo.Record{Key: text, Value: text})
	}
	return client.ProduceSync(context.Background(), records...).FirstErr()
}

// What all members together have seen, and how many partitions each has.
type state struct {
	sync.Mutex
	seen  map[int]bool
	owned []int
}

func (s *state) own(member, change int) {
	s.Lock()
	defer s.Unlock()
	s.owned[member] += change
}

func (s *state) isComplete(from, to int) bool {
	s.Lock()
	defer s.Unlock()
	for _, owned := range s.owned {
		if owned != 4/len(s.owned) {
			return false
		}
	}
	for n := from; n < to; n++ {
		if !s.seen[n] {
			return false
		}
	}
	return true
}

func count(partitions map[string][]int32) (n int) {
	for _, of := range partitions {
		n += len(of)
	}
	return n
}

// One member reads until it is told to stop; what it has seen is committed before a partition goes, and when it leaves.
func (s *state) member(number int, stop context.Context) error {
	client, err := kgo.NewClient(
		servers, kgo.ConsumerGroup(topic+"-group"), kgo.ConsumeTopics(topic), kgo.DisableAutoCommit(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.HeartbeatInterval(200*time.Millisecond),
		kgo.FetchMaxWait(200*time.Millisecond),
		kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, added map[string][]int32) { s.own(number, count(added)) }),
		kgo.OnPartitionsRevoked(func(ctx context.Context, client *kgo.Client, gone map[string][]int32) {
			if err := client.CommitUncommittedOffsets(ctx); err != nil {
				fmt.Fprintln(os.Stderr, "commit:", err)
			}
			s.own(number, -count(gone))
		}),
		kgo.OnPartitionsLost(func(_ context.Context, _ *kgo.Client, gone map[string][]int32) { s.own(number, -count(gone)) }),
	)
	if err != nil {
		return err
	}
	defer client.Close()
	for stop.Err() == nil {
		fetches := client.PollFetches(stop)
		s.Lock()
		fetches.EachRecord(func(record *kgo.Record) {
			n, _ := strconv.Atoi(string(record.Value))
			s.seen[n] = true
		})
		s.Unlock()
	}
	return client.CommitUncommittedOffsets(context.Background())
}

// Reads with so many members until all have as many partitions and all that is wanted was read.
func read(members, from, to int) (map[int]bool, error) {
	s := &state{seen: map[int]bool{}, owned: make([]int, members)}
	stop, end := context.WithCancel(context.Background())
	ended := make(chan error, members)
	for number := range members {
		go func() { ended <- s.member(number, stop) }()
	}
	for !s.isComplete(from, to) {
		select {
		case err := <-ended:
			end()
			return nil, fmt.Errorf("a member ended early: %w", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
	end()
	for range members {
		if err := <-ended; err != nil {
			return nil, err
		}
	}
	return s.seen, nil
}

func run() error {
	if err := write(500, 1000); err != nil {
		return err
	}
	shared, err := read(2, 0, 1000)
	if err != nil {
		return err
	}
	if err := write(1000, 1010); err != nil {
		return err
	}
	last, err := read(1, 1000, 1010)
	if err != nil {
		return err
	}
	rest := []int{}
	for n := range last {
		rest = append(rest, n)
	}
	sort.Ints(rest)
	name := "franz-go"
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, dependency := range info.Deps {
			if dependency.Path == module {
				name += " " + dependency.Version
			}
		}
	}
	return json.NewEncoder(os.Stdout).Encode(map[string]any{"client": name, "shared": len(shared), "rest": rest})
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
