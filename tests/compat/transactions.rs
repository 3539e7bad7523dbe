//! Transactions as applications make them, with rdkafka: on one node and on three, while nodes are killed. What was
//! committed is seen whole, what was aborted never.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use kafka_protocol::messages::DeleteTopicsRequest;
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use rdkafka::config::FromClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::RDKafkaErrorCode;

use crate::harness::broker::Broker;
use crate::harness::client::config;
use crate::harness::nodes::Nodes;
use crate::harness::replicas::await_same_bytes;
use crate::harness::topics::{name, topic};
use crate::harness::wire::Wire;
use crate::harness::{PATIENCE, eventually, unique};
use crate::replication::{PARTITIONS, leaders, replicated_topic};

/// Reports of deliveries are taken by a thread of its own.
type Producer = ThreadedProducer<DefaultProducerContext>;

/// A producer that has begun; while it waits for its coordinator it asks again.
fn producer(bootstrap: &str, id: &str) -> Producer {
    let more = [
        ("transactional.id", id),
        ("transaction.timeout.ms", "60000"),
        ("retry.backoff.ms", "50"),
        ("request.timeout.ms", "5000"),
        ("message.timeout.ms", "50000"),
        ("linger.ms", "2"),
    ];
    let producer: Producer = Producer::from_config(&config(bootstrap, &more)).expect("a producer");
    retried("init", || producer.init_transactions(Duration::from_secs(10)));
    producer
}

fn is_retriable(error: &KafkaError) -> bool {
    matches!(error, KafkaError::Transaction(e) if e.is_retriable())
}

/// Asks again as long as that is the right thing to do.
fn retried<T>(what: &str, mut ask: impl FnMut() -> Result<T, KafkaError>) -> T {
    let deadline = Instant::now() + 3 * PATIENCE;
    loop {
        match ask() {
            Ok(done) => return done,
            Err(error) => assert!(is_retriable(&error) && Instant::now() < deadline, "{what}: {error:?}"),
        }
    }
}

fn send(producer: &Producer, topic: &str, partition: i32, value: &str) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let record = BaseRecord::<str, str>::to(topic).payload(value).partition(partition);
        match producer.send(record) {
            Ok(()) => return,
            Err((error, _)) => {
                assert_eq!(error.rdkafka_error_code(), Some(RDKafkaErrorCode::QueueFull), "{error}");
                assert!(Instant::now() < deadline, "queue: {error}");
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
}

/// A transaction that writes `value` to each partition.
fn transaction(producer: &Producer, topic: &str, partitions: i32, value: &str, commit: bool) {
    producer.begin_transaction().expect("begins");
    for partition in 0..partitions {
        send(producer, topic, partition, value);
    }
    match commit {
        true => retried("commit", || producer.commit_transaction(Duration::from_secs(10))),
        false => {
            // So that its coordinator knows of it: librdkafka asks for the end of what was lost with a coordinator, too, and
            // takes the answer of Apache Kafka and ours, that there is nothing to abort (INVALID_TXN_STATE), for fatal.
            producer.flush(PATIENCE).expect("flush");
            retried("abort", || producer.abort_transaction(Duration::from_secs(10)));
        }
    }
}

/// The values of each partition, up to its present end.
fn read(bootstrap: &str, topic: &str, partitions: i32, isolation: &str) -> BTreeMap<i32, Vec<String>> {
    let more = [
        ("group.id", "unused"),
        ("enable.auto.commit", "false"),
        ("enable.partition.eof", "true"),
        ("isolation.level", isolation),
    ];
    let consumer: BaseConsumer = BaseConsumer::from_config(&config(bootstrap, &more)).expect("consumer");
    let mut assignment = TopicPartitionList::new();
    for partition in 0..partitions {
        assignment.add_partition_offset(topic, partition, Offset::Beginning).expect("partition");
    }
    consumer.assign(&assignment).expect("assign");
    let mut out: BTreeMap<i32, Vec<String>> = (0..partitions).map(|p| (p, Vec::new())).collect();
    let (mut at_end, mut quiet_since) = (BTreeSet::new(), Instant::now());
    while at_end.len() < out.len() {
        assert!(quiet_since.elapsed() < PATIENCE, "nothing more comes; at the end: {at_end:?}");
        match consumer.poll(Duration::from_millis(200)) {
            Some(Ok(message)) => {
                quiet_since = Instant::now();
                let value = String::from_utf8_lossy(message.payload().unwrap_or_default()).into_owned();
                out.entry(message.partition()).or_default().push(value);
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => _ = at_end.insert(partition),
            Some(Err(error)) => eprintln!("consumer: {error}"),
            None => {}
        }
    }
    out
}

/// Waits until nothing is open: then whoever reads what is committed comes to the end of all that was written.
fn await_closed(bootstrap: &str, topic: &str, partitions: i32) {
    let end_of = |isolation: &str| {
        let more = [("group.id", "unused"), ("isolation.level", isolation)];
        let consumer: BaseConsumer = BaseConsumer::from_config(&config(bootstrap, &more)).expect("consumer");
        let end = |partition| consumer.fetch_watermarks(topic, partition, Duration::from_secs(5)).ok().map(|w| w.1);
        (0..partitions).map(end).collect::<Option<Vec<i64>>>()
    };
    eventually("every transaction has ended", || {
        let (stable, all) = (end_of("read_committed")?, end_of("read_uncommitted")?);
        (stable == all).then_some(())
    });
}

#[test]
fn transactions_are_seen_whole_or_not_at_all() {
    let broker = Broker::start();
    let topic = topic(&mut broker.wire(), 2);
    let producer = producer(broker.bootstrap(), &unique("t"));
    for (value, commit) in [("one", true), ("two", false), ("three", true), ("four", false)] {
        transaction(&producer, &topic, 2, value, commit);
    }
    await_closed(broker.bootstrap(), &topic, 2);
    for (partition, values) in read(broker.bootstrap(), &topic, 2, "read_committed") {
        assert_eq!(values, ["one", "three"], "partition {partition}");
    }
    producer.begin_transaction().expect("begins");
    send(&producer, &topic, 0, "open");
    producer.flush(PATIENCE).expect("flush");
    let committed = read(broker.bootstrap(), &topic, 2, "read_committed");
    assert_eq!(committed[&0], ["one", "three"], "not before it is decided");
    assert!(read(broker.bootstrap(), &topic, 2, "read_uncommitted")[&0].contains(&"open".to_owned()));
    retried("commit", || producer.commit_transaction(PATIENCE));
    await_closed(broker.bootstrap(), &topic, 2);
    assert_eq!(read(broker.bootstrap(), &topic, 2, "read_committed")[&0], ["one", "three", "open"]);
}

#[test]
fn an_older_instance_is_fenced() {
    let broker = Broker::start();
    let topic = topic(&mut broker.wire(), 1);
    let id = unique("t");
    let older = producer(broker.bootstrap(), &id);
    older.begin_transaction().expect("begins");
    send(&older, &topic, 0, "older");
    older.flush(PATIENCE).expect("flush");
    let newer = producer(broker.bootstrap(), &id);
    transaction(&newer, &topic, 1, "newer", true);
    let refused = older.commit_transaction(PATIENCE).expect_err("it is fenced");
    assert!(matches!(&refused, KafkaError::Transaction(e) if e.is_fatal()), "{refused:?}");
    await_closed(broker.bootstrap(), &topic, 1);
    assert_eq!(read(broker.bootstrap(), &topic, 1, "read_committed")[&0], ["newer"]);
}

#[test]
fn what_was_decided_is_carried_on_after_a_kill() {
    let Some(mut broker) = Broker::own(&[]) else { return };
    let topic = topic(&mut broker.wire(), 3);
    let id = unique("t");
    let mut expected = Vec::new();
    for round in 0..4 {
        let producer = producer(broker.bootstrap(), &id);
        let value = format!("committed {round}");
        transaction(&producer, &topic, 3, &value, true);
        expected.push(value);
        producer.begin_transaction().expect("begins");
        send(&producer, &topic, 1, "never decided");
        producer.flush(PATIENCE).expect("flush");
        // The markers of what was committed may be written, or not.
        broker.kill();
        broker.restart();
    }
    // Ends what the last one left open.
    drop(producer(broker.bootstrap(), &id));
    await_closed(broker.bootstrap(), &topic, 3);
    for (partition, values) in read(broker.bootstrap(), &topic, 3, "read_committed") {
        assert_eq!(values, expected, "partition {partition}");
    }
}

fn delete(wire: &mut Wire, topic: &str) {
    let gone = DeleteTopicState::default().with_name(Some(name(topic)));
    let deleted = wire.call(6, &DeleteTopicsRequest::default().with_timeout_ms(30_000).with_topics(vec![gone]));
    assert_eq!(deleted.responses[0].error_code, 0);
}

#[test]
fn a_deleted_topic_does_not_hold_up_the_end() {
    let broker = Broker::start();
    let mut wire = broker.wire();
    let (kept, deleted) = (topic(&mut wire, 1), topic(&mut wire, 1));
    let producer = producer(broker.bootstrap(), &unique("t"));
    producer.begin_transaction().expect("begins");
    send(&producer, &kept, 0, "kept");
    send(&producer, &deleted, 0, "deleted");
    producer.flush(PATIENCE).expect("flush");
    delete(&mut wire, &deleted);
    retried("commit", || producer.commit_transaction(PATIENCE));
    transaction(&producer, &kept, 1, "after", true);
    await_closed(broker.bootstrap(), &kept, 1);
    assert_eq!(read(broker.bootstrap(), &kept, 1, "read_committed")[&0], ["kept", "after"]);
}

/// Each node in turn is killed while two producers make one transaction after the other: the coordinators of both and
/// leaders of what they write to are among them.
#[test]
fn transactions_go_on_while_nodes_are_killed() {
    let Some(mut nodes) = Nodes::started(3, &[]) else { return };
    let topic = replicated_topic(&nodes);
    let ids = [unique("t"), unique("t")];
    let bootstrap = nodes.bootstrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    let made = std::thread::scope(|scope| {
        let make = |id: &str, name: &'static str| {
            let (id, topic, bootstrap, stop) = (id.to_owned(), topic.as_str(), bootstrap.as_str(), &stop);
            scope.spawn(move || make_transactions(bootstrap, &id, topic, name, stop))
        };
        let makers = [make(&ids[0], "a"), make(&ids[1], "b")];
        for victim in 1..=3 {
            // For a while, so that each kill meets transactions under way.
            std::thread::sleep(Duration::from_secs(2));
            nodes.kill(victim);
            std::thread::sleep(Duration::from_secs(2));
            nodes.spawn(victim);
            nodes.await_ready(victim);
            eventually("all replicas are in sync again", || {
                let all = leaders(&nodes.bootstrap(), &topic)?;
                all.iter().all(|(_, in_sync)| *in_sync == 3).then_some(())
            });
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        makers.map(|maker| maker.join().expect("a producer"))
    });
    await_closed(&nodes.bootstrap(), &topic, PARTITIONS);
    let seen = read(&nodes.bootstrap(), &topic, PARTITIONS, "read_committed");
    for made in &made {
        assert!(made.committed.len() > 3, "{} transactions", made.committed.len());
        let ours = |value: &&String| value.starts_with(made.name);
        for (partition, values) in &seen {
            let values: Vec<&String> = values.iter().filter(ours).collect();
            assert!(
                values.iter().copied().eq(&made.committed),
                "partition {partition}: {values:?} {:?}",
                made.committed
            );
        }
    }
    let known: usize = made.iter().map(|made| made.committed.len()).sum();
    assert!(seen.values().all(|values| values.len() == known), "nobody else wrote");
    await_same_bytes(&nodes, &[1, 2, 3], &topic, PARTITIONS);
}

struct Made {
    name: &'static str,
    /// In order.
    committed: Vec<String>,
}

/// Two of three are committed. A commit is asked for until its outcome is known.
fn make_transactions(
    bootstrap: &str,
    id: &str,
    topic: &str,
    name: &'static str,
    stop: &std::sync::atomic::AtomicBool,
) -> Made {
    let mut made = Made { name, committed: Vec::new() };
    let producer = producer(bootstrap, id);
    let mut number = 0;
    while !stop.load(std::sync::atomic::Ordering::Relaxed) {
        number += 1;
        let value = format!("{name} {number}");
        producer.begin_transaction().expect("begins");
        for partition in 0..PARTITIONS {
            send(&producer, topic, partition, &value);
        }
        let outcome = match number % 3 {
            0 => Err(None),
            _ => committed(&producer).map_err(Some),
        };
        match outcome {
            Ok(()) => made.committed.push(value),
            Err(error) => {
                if let Some(KafkaError::Transaction(e)) = &error {
                    assert!(e.txn_requires_abort(), "{name} {number}: {e:?}");
                }
                retried("abort", || producer.abort_transaction(Duration::from_secs(10)));
            }
        }
    }
    made
}

fn committed(producer: &Producer) -> Result<(), KafkaError> {
    let deadline = Instant::now() + 3 * PATIENCE;
    loop {
        match producer.commit_transaction(Duration::from_secs(10)) {
            Err(error) if is_retriable(&error) && Instant::now() < deadline => {}
            outcome => return outcome,
        }
    }
}
