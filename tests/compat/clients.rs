//! rdkafka as applications use it: codecs and sizes, idempotence, time look-ups, administration.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::admin::{AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::config::FromClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::RDKafkaErrorCode;

use crate::harness::broker::Broker;
use crate::harness::client::{Producer, admin, config, consume_all, wait};
use crate::harness::topics::{self, topic_with};
use crate::harness::{PATIENCE, batch, eventually, unique};

const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];

/// Text that compresses, and differs from one seed to the next.
fn filler(seed: usize, size: usize) -> Vec<u8> {
    let words = format!("value {seed} of the quick brown fox ");
    words.bytes().cycle().take(size).collect()
}

#[test]
fn every_codec_and_size_round_trips() {
    let broker = Broker::start();
    let sizes = [0, 1, 100, 10_000, 300_000, 1_048_000];
    for codec in CODECS {
        let topic = topics::topic(&mut broker.wire(), 2);
        let more = [("compression.codec", codec), ("message.max.bytes", "1048588"), ("linger.ms", "5")];
        let producer = Producer::new(broker.bootstrap(), &more);
        let mut expected = Vec::new();
        for (number, size) in sizes.iter().chain(&sizes).enumerate() {
            let value = filler(number, *size);
            producer.send(number, &topic, Some(1), Some(&format!("key {number}")), &value);
            expected.push(value);
        }
        for delivery in producer.flush() {
            assert!(delivery.result.is_ok(), "{codec}: {delivery:?}");
        }
        let received = &consume_all(broker.bootstrap(), &topic, 2)[&1];
        let offsets: Vec<_> = received.iter().map(|r| r.offset).collect();
        assert_eq!(offsets, (0..12).collect::<Vec<_>>(), "{codec}");
        for (number, (record, value)) in received.iter().zip(&expected).enumerate() {
            assert_eq!(record.key.as_deref(), Some(&*format!("key {number}")), "{codec}");
            assert!(record.value == *value, "{codec}: value {number} of {} bytes differs", value.len());
        }
    }
}

#[test]
fn a_message_beyond_the_limit_is_refused_and_the_next_one_taken() {
    let broker = Broker::start();
    let topic = topics::topic(&mut broker.wire(), 1);
    let producer = Producer::new(broker.bootstrap(), &[("message.max.bytes", "5000000"), ("linger.ms", "0")]);
    producer.send(0, &topic, Some(0), None, &filler(0, 1_200_000));
    producer.flush();
    producer.send(1, &topic, Some(0), None, b"small");
    let deliveries = producer.flush();
    let code = deliveries[0].result.as_ref().expect_err("too large").rdkafka_error_code();
    assert_eq!(code, Some(RDKafkaErrorCode::MessageSizeTooLarge));
    assert_eq!(deliveries[1].result.as_ref().ok(), Some(&(0, 0)));
}

/// With `compression.type` on the topic the broker stores batches in that codec; offsets and contents stay.
#[test]
fn the_topics_compression_type_converts() {
    let broker = Broker::start();
    let mut wire = broker.wire();
    for (number, stored) in ["uncompressed", "gzip", "snappy", "lz4", "zstd"].iter().enumerate() {
        let topic = topic_with(&mut wire, 1, &[("compression.type", stored)]);
        for sent in CODECS {
            let producer = Producer::new(broker.bootstrap(), &[("compression.codec", sent), ("linger.ms", "20")]);
            for i in 0..10 {
                producer.send(i, &topic, Some(0), None, &filler(i, 1_000));
            }
            assert!(producer.flush().iter().all(|d| d.result.is_ok()), "{sent} to {stored}");
        }
        let data = topics::fetch(&mut wire, &topic, 0, 0).records.expect("records");
        let mut rest = &data[..];
        while let Some((first, after)) = batch::split(rest) {
            assert_eq!(batch::be(first, 21, 2) & 7, number as u64, "codec of what is stored as {stored}");
            rest = after;
        }
        let received = &consume_all(broker.bootstrap(), &topic, 1)[&0];
        assert_eq!(received.iter().map(|r| r.offset).collect::<Vec<_>>(), (0..50).collect::<Vec<_>>());
        assert!(received.iter().enumerate().all(|(i, r)| r.value == filler(i % 10, 1_000)), "{stored}");
    }
}

#[test]
fn keys_headers_nulls_and_timestamps_come_back() {
    let broker = Broker::start();
    let topic = topics::topic(&mut broker.wire(), 1);
    let producer: BaseProducer = BaseProducer::from_config(&config(broker.bootstrap(), &[])).expect("producer");
    let headers = OwnedHeaders::new()
        .insert(Header { key: "a", value: Some("1") })
        .insert(Header { key: "a", value: Some("2") })
        .insert(Header::<&str> { key: "null", value: None });
    let full = BaseRecord::<str, str>::to(&topic).key("k").payload("v").timestamp(123_456).headers(headers);
    producer.send(full.partition(0)).expect("send");
    producer.send(BaseRecord::<str, str>::to(&topic).key("tombstone").partition(0)).expect("send");
    producer.send(BaseRecord::<str, str>::to(&topic).payload("no key").partition(0)).expect("send");
    producer.flush(PATIENCE).expect("flush");
    let consumer: BaseConsumer =
        BaseConsumer::from_config(&config(broker.bootstrap(), &[("group.id", "unused")])).expect("consumer");
    let mut assignment = TopicPartitionList::new();
    assignment.add_partition_offset(&topic, 0, Offset::Beginning).expect("partition");
    consumer.assign(&assignment).expect("assign");
    let next = || consumer.poll(PATIENCE).expect("a message").expect("no error").detach();
    let first = next();
    assert_eq!(
        (first.key(), first.payload(), first.timestamp().to_millis()),
        (Some(&b"k"[..]), Some(&b"v"[..]), Some(123_456))
    );
    let found: Vec<_> =
        first.headers().expect("headers").iter().map(|h| (h.key.to_owned(), h.value.map(<[u8]>::to_vec))).collect();
    let row = |key: &str, value: Option<&str>| (key.to_owned(), value.map(|v| v.as_bytes().to_vec()));
    assert_eq!(found, [row("a", Some("1")), row("a", Some("2")), row("null", None)]);
    let second = next();
    assert_eq!((second.key(), second.payload()), (Some(&b"tombstone"[..]), None));
    let third = next();
    assert_eq!((third.key(), third.payload()), (None, Some(&b"no key"[..])));
}

#[test]
fn an_idempotent_producer_writes_each_message_once_in_order() {
    let broker = Broker::start();
    let topic = topics::topic(&mut broker.wire(), 3);
    let more = [("enable.idempotence", "true"), ("linger.ms", "1"), ("batch.num.messages", "50")];
    let producer = Producer::new(broker.bootstrap(), &more);
    for i in 0..6_000 {
        producer.send(i, &topic, Some((i % 3) as i32), None, i.to_string().as_bytes());
    }
    assert!(producer.flush().iter().all(|d| d.result.is_ok()));
    for (partition, records) in consume_all(broker.bootstrap(), &topic, 3) {
        let expected: Vec<_> = (0..6_000).filter(|i| i % 3 == partition).map(|i| i.to_string().into_bytes()).collect();
        assert!(records.iter().map(|r| &r.value).eq(&expected), "partition {partition}");
    }
}

#[test]
fn offsets_are_found_by_time() {
    let broker = Broker::start();
    let topic = topics::topic(&mut broker.wire(), 2);
    let producer: BaseProducer =
        BaseProducer::from_config(&config(broker.bootstrap(), &[("compression.codec", "lz4"), ("linger.ms", "50")]))
            .expect("producer");
    for i in 0..100 {
        let record = BaseRecord::<str, str>::to(&topic).payload("v").partition(1).timestamp(1_000_000 + i * 10);
        producer.send(record).expect("send");
    }
    producer.flush(PATIENCE).expect("flush");
    let consumer: BaseConsumer =
        BaseConsumer::from_config(&config(broker.bootstrap(), &[("group.id", "unused")])).expect("consumer");
    for (timestamp, expected) in [
        (0, Offset::Offset(0)),
        (1_000_005, Offset::Offset(1)),
        (1_000_990, Offset::Offset(99)),
        (1_000_991, Offset::End),
    ] {
        let mut times = TopicPartitionList::new();
        for partition in 0..2 {
            times.add_partition_offset(&topic, partition, Offset::Offset(timestamp)).expect("partition");
        }
        let found = consumer.offsets_for_times(times, PATIENCE).expect("offsets").to_topic_map();
        assert_eq!(found[&(topic.clone(), 1)], expected, "at {timestamp}");
        assert_eq!(found[&(topic.clone(), 0)], Offset::End, "nothing in partition 0");
    }
    assert_eq!(consumer.fetch_watermarks(&topic, 1, PATIENCE).expect("watermarks"), (0, 100));
}

#[test]
fn topics_are_administered() {
    let broker = Broker::start();
    let admin = admin(broker.bootstrap());
    let options = AdminOptions::new().operation_timeout(Some(PATIENCE)).request_timeout(Some(PATIENCE));
    let topic = unique("admin");
    let new = NewTopic::new(&topic, 2, TopicReplication::Fixed(1)).set("retention.ms", "5000");
    let made = wait(admin.create_topics([&new], &options)).expect("create");
    assert_eq!(made, [Ok(topic.clone())]);
    let again = wait(admin.create_topics([&new], &options)).expect("create");
    assert_eq!(again, [Err((topic.clone(), RDKafkaErrorCode::TopicAlreadyExists))]);
    let retention = |expected: &str| {
        eventually("the config", || {
            let described =
                wait(admin.describe_configs([&ResourceSpecifier::Topic(&topic)], &options)).expect("describe");
            let resource = described[0].as_ref().expect("the topic");
            let value = resource.get("retention.ms").expect("retention.ms").value.clone();
            (value.as_deref() == Some(expected)).then_some(())
        });
    };
    retention("5000");
    let change = AlterConfig::new(ResourceSpecifier::Topic(&topic)).set("retention.ms", "6000");
    assert!(wait(admin.alter_configs([&change], &options)).expect("alter")[0].is_ok());
    retention("6000");
    let more = NewPartitions::new(&topic, 4);
    assert_eq!(wait(admin.create_partitions([&more], &options)).expect("partitions"), [Ok(topic.clone())]);
    topics::await_topic(&mut broker.wire(), &topic, 4);
    let metadata = admin.inner().fetch_metadata(Some(&topic), PATIENCE).expect("metadata");
    assert_eq!(metadata.topics()[0].partitions().len(), 4);
    topics::write(&mut broker.wire(), &topic, 3, &["a", "b", "c"]);
    let mut before = TopicPartitionList::new();
    before.add_partition_offset(&topic, 3, Offset::Offset(2)).expect("partition");
    let trimmed = wait(admin.delete_records(&before, &options)).expect("delete records");
    assert_eq!(trimmed.to_topic_map()[&(topic.clone(), 3)], Offset::Offset(2));
    assert_eq!(wait(admin.delete_topics(&[&topic], &options)).expect("delete"), [Ok(topic.clone())]);
    let missing = unique("missing");
    let gone = wait(admin.delete_topics(&[&missing], &options)).expect("delete");
    assert_eq!(gone, [Err((missing, RDKafkaErrorCode::UnknownTopicOrPartition))]);
}

#[test]
fn groups_are_administered() {
    let broker = Broker::start();
    let topic = topics::topic(&mut broker.wire(), 1);
    let name = unique("group");
    let consumer: BaseConsumer =
        BaseConsumer::from_config(&config(broker.bootstrap(), &[("group.id", &name)])).expect("consumer");
    let mut offsets = TopicPartitionList::new();
    offsets.add_partition_offset(&topic, 0, Offset::Offset(17)).expect("partition");
    consumer.commit(&offsets, rdkafka::consumer::CommitMode::Sync).expect("commit");
    let committed = consumer.committed_offsets(offsets, PATIENCE).expect("committed").to_topic_map();
    assert_eq!(committed[&(topic, 0)], Offset::Offset(17));
    let listed = consumer.fetch_group_list(Some(&name), PATIENCE).expect("list");
    assert_eq!((listed.groups().len(), listed.groups()[0].state()), (1, "Empty"));
    drop(consumer);
    let admin = admin(broker.bootstrap());
    let deleted = wait(admin.delete_groups(&[&name], &AdminOptions::new())).expect("delete");
    assert_eq!(deleted, [Ok(name.clone())]);
    let again = wait(admin.delete_groups(&[&name], &AdminOptions::new())).expect("delete");
    assert_eq!(again, [Err((name, RDKafkaErrorCode::GroupIdNotFound))]);
}

/// A key always goes to the same partition, and what an application sends without one is spread.
#[test]
fn keys_choose_partitions() {
    let broker = Broker::start();
    let topic = topics::topic(&mut broker.wire(), 4);
    let producer = Producer::new(broker.bootstrap(), &[("partitioner", "murmur2_random")]);
    for i in 0..400 {
        producer.send(i, &topic, None, Some(&format!("key {}", i % 20)), b"v");
    }
    assert!(producer.flush().iter().all(|d| d.result.is_ok()));
    let mut home = BTreeMap::new();
    for (partition, records) in consume_all(broker.bootstrap(), &topic, 4) {
        for record in records {
            assert_eq!(*home.entry(record.key).or_insert(partition), partition);
        }
    }
    assert_eq!(home.len(), 20);
}

/// A consumer that waits at the end gets a message as soon as it is committed.
#[test]
fn a_waiting_consumer_is_woken() {
    let broker = Broker::start();
    let topic = topics::topic(&mut broker.wire(), 1);
    let more = [("group.id", "unused"), ("fetch.wait.max.ms", "10000")];
    let consumer: BaseConsumer = BaseConsumer::from_config(&config(broker.bootstrap(), &more)).expect("consumer");
    let mut assignment = TopicPartitionList::new();
    assignment.add_partition_offset(&topic, 0, Offset::Beginning).expect("partition");
    consumer.assign(&assignment).expect("assign");
    let early = consumer.poll(Duration::from_millis(500));
    assert!(early.is_none_or(|m| matches!(m, Err(KafkaError::PartitionEOF(_)))));
    let started = std::time::Instant::now();
    topics::write(&mut broker.wire(), &topic, 0, &["wake"]);
    let message = consumer.poll(PATIENCE).expect("a message").expect("no error");
    assert_eq!(message.payload(), Some(&b"wake"[..]));
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
}
