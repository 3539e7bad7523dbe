//! `kill -9` under load: what was acknowledged is found again, in order and exactly once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crate::harness::batch::Batch;
use crate::harness::broker::Broker;
use crate::harness::client::{Producer, consume_all};
use crate::harness::eventually;
use crate::harness::topics::{self, produce_request};
use crate::harness::wire::Wire;
use kafka_protocol::messages::ProduceRequest;

/// An idempotent producer writes on while the broker is killed again and again.
#[test]
fn an_idempotent_producer_loses_and_doubles_nothing_over_kills() {
    let Some(mut broker) = Broker::own(&[]) else { return };
    const PARTITIONS: i32 = 4;
    let topic = topics::topic(&mut broker.wire(), PARTITIONS);
    let more = [
        ("enable.idempotence", "true"),
        ("linger.ms", "2"),
        ("batch.num.messages", "100"),
        ("message.timeout.ms", "120000"),
        ("retry.backoff.ms", "50"),
    ];
    let producer = Producer::new(broker.bootstrap(), &more);
    let mut sent = 0;
    for kills in 0..=4 {
        // Some are acknowledged, some are on the way when the broker dies.
        let enough = producer.delivered() + 3_000;
        while producer.delivered() < enough {
            producer.send(
                sent,
                &topic,
                Some((sent % PARTITIONS as usize) as i32),
                None,
                format!("value {sent}").as_bytes(),
            );
            sent += 1;
        }
        if kills < 4 {
            broker.kill();
            broker.restart();
        }
    }
    let deliveries = producer.flush();
    assert_eq!(deliveries.len(), sent);
    let mut acknowledged = BTreeMap::new();
    for delivery in deliveries {
        let place = delivery.result.unwrap_or_else(|e| panic!("message {}: {e}", delivery.number));
        acknowledged.insert(delivery.number, place);
    }
    let found = consume_all(broker.bootstrap(), &topic, PARTITIONS);
    for (partition, records) in &found {
        let numbers: Vec<usize> = records.iter().map(|r| number(&r.value)).collect();
        let expected: Vec<usize> = (0..sent).filter(|n| (*n % PARTITIONS as usize) as i32 == *partition).collect();
        assert!(numbers == expected, "partition {partition}: {} of {} in order once", numbers.len(), expected.len());
        for record in records {
            // A delivery that was learnt of only by its retry has no offset.
            let (at, offset) = acknowledged[&number(&record.value)];
            assert!(at == *partition && (offset == record.offset || offset < 0), "{at} {offset} {}", record.offset);
        }
    }
}

fn number(value: &[u8]) -> usize {
    let text = std::str::from_utf8(value).expect("UTF-8");
    text.strip_prefix("value ").and_then(|n| n.parse().ok()).expect("a value of ours")
}

/// Raw producers without retries: each offset that was acknowledged holds that value after each kill.
#[test]
fn each_acknowledged_offset_holds_its_value_after_a_kill() {
    let Some(mut broker) = Broker::own(&[]) else { return };
    const PARTITIONS: i32 = 3;
    let topic = topics::topic(&mut broker.wire(), PARTITIONS);
    let mut acknowledged: Vec<BTreeMap<i64, String>> = vec![BTreeMap::new(); PARTITIONS as usize];
    for round in 0..4 {
        let (stop, counts) = (AtomicBool::new(false), [const { AtomicUsize::new(0) }; PARTITIONS as usize]);
        let address = broker.bootstrap().to_owned();
        let results = std::thread::scope(|scope| {
            let writers: Vec<_> = (0..PARTITIONS)
                .zip(&counts)
                .map(|(partition, count)| {
                    let (address, topic, stop) = (&address, &topic, &stop);
                    scope.spawn(move || write_until_gone(address, topic, partition, round, stop, count))
                })
                .collect();
            eventually("each has acknowledged some", || {
                counts.iter().all(|count| count.load(Ordering::SeqCst) >= 50).then_some(())
            });
            broker.kill();
            stop.store(true, Ordering::SeqCst);
            writers.into_iter().map(|w| w.join().expect("writer")).collect::<Vec<_>>()
        });
        for (all, new) in acknowledged.iter_mut().zip(results) {
            assert!(!new.is_empty(), "round {round}: nothing was acknowledged");
            all.extend(new);
        }
        broker.restart();
        let mut wire = broker.wire();
        topics::await_topic(&mut wire, &topic, PARTITIONS);
        for (partition, expected) in (0..).zip(&acknowledged) {
            let found = topics::values(&mut wire, &topic, partition, 0);
            for (offset, value) in expected {
                let at = found.get(usize::try_from(*offset).expect("offset"));
                assert_eq!(at, Some(value), "round {round}, partition {partition}, offset {offset}");
            }
            let different: BTreeSet<_> = found.iter().collect();
            assert_eq!(different.len(), found.len(), "round {round}, partition {partition}: nothing twice");
        }
    }
}

/// Writes numbered values, five requests on the way, until the connection breaks; gives what was acknowledged, and counts
/// it meanwhile.
fn write_until_gone(
    address: &str,
    topic: &str,
    partition: i32,
    round: usize,
    stop: &AtomicBool,
    count: &AtomicUsize,
) -> BTreeMap<i64, String> {
    let mut wire = Wire::connect(address);
    let mut acknowledged = BTreeMap::new();
    let mut waiting = std::collections::VecDeque::new();
    for i in 0.. {
        if stop.load(Ordering::SeqCst) {
            break;
        }
        let value = format!("{round} {partition} {i}");
        let correlation = wire.send(9, &produce_request(topic, partition, Batch::of(&[&value]).build()));
        waiting.push_back((correlation, value));
        if waiting.len() < 5 {
            continue;
        }
        let Some((_, value)) = waiting.pop_front() else { break };
        let Ok(frame) = wire.read_frame() else { break };
        let response = decode(frame);
        let answer = &response.responses[0].partition_responses[0];
        assert_eq!(answer.error_code, 0);
        acknowledged.insert(answer.base_offset, value);
        count.store(acknowledged.len(), Ordering::SeqCst);
    }
    acknowledged
}

fn decode(frame: Vec<u8>) -> kafka_protocol::messages::ProduceResponse {
    use kafka_protocol::protocol::{Decodable, HeaderVersion, Request};
    let mut bytes = bytes::Bytes::from(frame);
    let header_version = <ProduceRequest as Request>::Response::header_version(9);
    kafka_protocol::messages::ResponseHeader::decode(&mut bytes, header_version).expect("header");
    kafka_protocol::messages::ProduceResponse::decode(&mut bytes, 9).expect("response")
}

/// Killed right at its start, over and over, the broker still comes up with everything.
#[test]
fn kills_during_recovery_lose_nothing() {
    let Some(mut broker) = Broker::own(&[]) else { return };
    let mut wire = broker.wire();
    let topic = topics::topic(&mut wire, 2);
    let mut expected = Vec::new();
    for i in 0..50 {
        let value = format!("{i} {}", "x".repeat(10_000));
        topics::write(&mut wire, &topic, 1, &[&value]);
        expected.push(value);
    }
    for _ in 0..10 {
        broker.kill();
        broker.restart();
    }
    let mut wire = broker.wire();
    topics::await_topic(&mut wire, &topic, 2);
    assert!(topics::values(&mut wire, &topic, 1, 0) == expected);
    assert_eq!(topics::write(&mut wire, &topic, 1, &["next"]), 50);
}

/// SIGTERM under load: what is in flight is answered, the exit code is 0, and it takes no 10 seconds.
#[test]
fn a_clean_stop_under_load_loses_nothing() {
    let Some(mut broker) = Broker::own(&[]) else { return };
    let topic = topics::topic(&mut broker.wire(), 2);
    let producer = Producer::new(
        broker.bootstrap(),
        &[("enable.idempotence", "true"), ("linger.ms", "1"), ("message.timeout.ms", "120000")],
    );
    let mut sent = 0;
    while producer.delivered() < 2_000 {
        producer.send(sent, &topic, Some((sent % 2) as i32), None, format!("value {sent}").as_bytes());
        sent += 1;
    }
    let (status, took) = broker.stop();
    assert_eq!(status.code(), Some(0));
    assert!(took < Duration::from_secs(10), "{took:?}");
    broker.restart();
    assert!(producer.flush().iter().all(|d| d.result.is_ok()));
    for (partition, records) in consume_all(broker.bootstrap(), &topic, 2) {
        let numbers = records.iter().map(|r| number(&r.value));
        assert!(numbers.eq((0..sent).filter(|n| (*n % 2) as i32 == partition)), "partition {partition}");
    }
}
