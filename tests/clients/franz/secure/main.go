// secure uses franz-go over TLS with every mechanism, as alice.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log"
	"os"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

func main() {
	log.SetFlags(0)
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
	defer cancel()
	for _, name := range strings.Fields(os.Getenv("MECHANISMS")) {
		use(ctx, name)
		refuse(ctx, name)
		fmt.Printf("ok   franz: %s over TLS\n", name)
	}
}

func client(name, password string, options ...kgo.Opt) *kgo.Client {
	pem, err := os.ReadFile(os.Getenv("CA"))
	check(err)
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		log.Fatal("FAIL franz: no certificate in $CA")
	}
	options = append(options, kgo.SeedBrokers(os.Getenv("BOOTSTRAP")), kgo.SASL(mechanism(name, password)),
		kgo.DialTLSConfig(&tls.Config{RootCAs: roots}))
	made, err := kgo.NewClient(options...)
	check(err)
	return made
}

func mechanism(name, password string) sasl.Mechanism {
	switch name {
	case "PLAIN":
		return plain.Auth{User: "alice", Pass: password}.AsMechanism()
	case "SCRAM-SHA-256":
		return scram.Auth{User: "alice", Pass: password}.AsSha256Mechanism()
	default:
		return scram.Auth{User: "alice", Pass: password}.AsSha512Mechanism()
	}
}

func use(ctx context.Context, name string) {
	topic := fmt.Sprintf("franz-%s-%d", name, time.Now().UnixNano())
	writer := client(name, os.Getenv("ALICE"), kgo.DefaultProduceTopic(topic))
	defer writer.Close()
	made, err := kadm.NewClient(writer).CreateTopic(ctx, 1, -1, nil, topic)
	check(err)
	check(made.Err)
	for i := range 500 {
		writer.Produce(ctx, kgo.StringRecord(fmt.Sprint(i)), func(_ *kgo.Record, err error) { check(err) })
	}
	check(writer.Flush(ctx))
	reader := client(name, os.Getenv("ALICE"), kgo.ConsumeTopics(topic))
	defer reader.Close()
	for next := 0; next < 500; {
		fetches := reader.PollFetches(ctx)
		check(fetches.Err())
		fetches.EachRecord(func(record *kgo.Record) {
			if string(record.Value) != fmt.Sprint(next) {
				log.Fatalf("FAIL franz: %s: %s instead of %d", name, record.Value, next)
			}
			next++
		})
	}
}

func refuse(ctx context.Context, name string) {
	stranger := client(name, "wrong")
	defer stranger.Close()
	if err := stranger.Ping(ctx); !errors.Is(err, kerr.SaslAuthenticationFailed) {
		log.Fatalf("FAIL franz: %s with a wrong password: %v", name, err)
	}
}

func check(err error) {
	if err != nil {
		log.Fatalf("FAIL franz: %v", err)
	}
}
