//! Produce and InitProducerId: what is taken, what is refused and with which error, and that a refused batch leaves
//! the log as it was.

use bytes::Bytes;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    ApiVersionsRequest, FindCoordinatorRequest, InitProducerIdRequest, MetadataRequest, ProduceRequest, TransactionalId,
};
use uuid::Uuid;

use crate::harness::batch::{self, Batch};
use crate::harness::broker::Broker;
use crate::harness::topics::{self, LATEST, name, produce_request, producer_id};
use crate::harness::wire::{API_VERSIONS, software};
use crate::harness::{eventually, now_ms, text, unique};

const CORRUPT_MESSAGE: i16 = 2;
const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const MESSAGE_TOO_LARGE: i16 = 10;
const INVALID_REQUIRED_ACKS: i16 = 21;
const INVALID_TIMESTAMP: i16 = 32;
const INVALID_REQUEST: i16 = 42;
const OUT_OF_ORDER_SEQUENCE: i16 = 45;
const DUPLICATE_SEQUENCE: i16 = 46;
const INVALID_PRODUCER_EPOCH: i16 = 47;
const UNKNOWN_PRODUCER_ID: i16 = 59;
const INVALID_RECORD: i16 = 87;
const UNKNOWN_TOPIC_ID: i16 = 100;

/// Names in the versions that have them, ids in the later ones.
fn request(version: i16, topic: &str, id: Uuid, records: Bytes) -> ProduceRequest {
    if version < 13 {
        return produce_request(topic, 0, records);
    }
    let data = PartitionProduceData::default().with_index(0).with_records(Some(records));
    let topic = TopicProduceData::default().with_topic_id(id).with_partition_data(vec![data]);
    ProduceRequest::default().with_acks(-1).with_timeout_ms(30_000).with_topic_data(vec![topic])
}

#[test]
fn produce() {
    let broker = Broker::start();
    let mut wire = broker.wire();
    let topic = topics::topic(&mut wire, 1);
    let id = topics::topic_id(&mut wire, &topic);
    let mut expected = Vec::new();
    for version in 3..=*wire.versions::<ProduceRequest>().end() {
        for acks in [-1, 1] {
            let value = format!("version {version} acks {acks}");
            let batch = Batch::of(&[&value, "second"]).build();
            let response = wire.call(version, &request(version, &topic, id, batch).with_acks(acks));
            let partition = &response.responses[0].partition_responses[0];
            assert_eq!((partition.index, partition.error_code), (0, 0), "{value}");
            assert_eq!(usize::try_from(partition.base_offset).ok(), Some(expected.len()), "offsets have no holes");
            assert_eq!(partition.log_append_time_ms, -1, "the record's own time");
            if version >= 5 {
                assert_eq!(partition.log_start_offset, 0);
            }
            expected.extend([value, "second".to_owned()]);
        }
    }
    assert_eq!(topics::values(&mut wire, &topic, 0, 0), expected);
}

#[test]
fn produce_with_acks_0_gets_no_answer() {
    let broker = Broker::start();
    let mut wire = broker.wire();
    let topic = topics::topic(&mut wire, 1);
    let silent = produce_request(&topic, 0, Batch::of(&["silent"]).build()).with_acks(0);
    for version in [3, 9, 12] {
        wire.send(version, &silent);
    }
    // The next answer on the connection is that of the next request.
    assert_eq!(wire.call(API_VERSIONS, &software()).error_code, 0);
    let all = eventually("the records", || {
        let values = topics::values(&mut wire, &topic, 0, 0);
        (values.len() == 3).then_some(values)
    });
    assert_eq!(all, ["silent"; 3]);
}

/// There is nobody to tell the error: the connection is closed, so that the client looks for the leader again.
#[test]
fn an_error_with_acks_0_closes_the_connection() {
    let broker = Broker::start();
    let mut wire = broker.wire();
    wire.send(9, &produce_request(&unique("missing"), 0, Batch::of(&["x"]).build()).with_acks(0));
    assert!(wire.is_closed());
}

#[test]
fn produce_to_what_is_not_there_is_refused() {
    let broker = Broker::start();
    let mut wire = broker.wire();
    let topic = topics::topic(&mut wire, 1);
    let batch = Batch::of(&["x"]).build();
    for partition in [1, -1, i32::MAX, i32::MIN] {
        assert_eq!(topics::produce(&mut wire, &topic, partition, batch.clone()).error_code, UNKNOWN_TOPIC_OR_PARTITION);
    }
    assert_eq!(topics::produce(&mut wire, &unique("missing"), 0, batch.clone()).error_code, UNKNOWN_TOPIC_OR_PARTITION);
    let response = wire.call(13, &request(13, "", Uuid::new_v4(), batch));
    assert_eq!(response.responses[0].partition_responses[0].error_code, UNKNOWN_TOPIC_ID);
}

#[test]
fn acks_are_minus_one_zero_or_one() {
    let broker = Broker::start();
    let mut wire = broker.wire();
    let topic = topics::topic(&mut wire, 1);
    for acks in [2, -2, i16::MAX, i16::MIN] {
        let response = wire.call(9, &produce_request(&topic, 0, Batch::of(&["x"]).build()).with_acks(acks));
        let partition = &response.responses[0].partition_responses[0];
        assert_eq!((partition.error_code, partition.base_offset), (INVALID_REQUIRED_ACKS, -1), "acks {acks}");
    }
    assert_eq!(topics::list_offset(&mut wire, &topic, 0, LATEST).offset, 0);
}

/// Each way in which a batch can be wrong, with the errors that clients bear.
#[test]
fn a_bad_batch_is_refused_and_leaves_the_log_as_it_was() {
    let broker = Broker::start();
    let mut wire = broker.wire();
    let topic = topics::topic(&mut wire, 1);
    let good = || Batch::of(&["a", "b"]);
    let both = &[INVALID_RECORD, CORRUPT_MESSAGE][..];
    let corrupt = &[CORRUPT_MESSAGE][..];
    let records = good().encode_records();
    let cases: Vec<(&str, Batch, &[i16])> = vec![
        ("bad CRC", good().with(|b| b.crc = Some(1)), corrupt),
        ("length too short", good().with(|b| b.length = Some(20)), corrupt),
        ("length 0", good().with(|b| b.length = Some(0)), corrupt),
        ("negative length", good().with(|b| b.length = Some(-5)), corrupt),
        ("length too long", good().with(|b| b.length = Some(100_000)), both),
        ("count too small", good().with(|b| b.count = Some(1)), both),
        ("count too large", good().with(|b| b.count = Some(3)), both),
        ("count absurd", good().with(|b| b.count = Some(i32::MAX)), both),
        ("negative count", good().with(|b| b.count = Some(-1)), both),
        ("last offset delta wrong", good().with(|b| b.last_offset_delta = Some(7)), both),
        ("negative last offset delta", good().with(|b| b.last_offset_delta = Some(-1)), both),
        (
            "count and delta agree, records do not",
            good().with(|b| (b.count, b.last_offset_delta) = (Some(9), Some(8))),
            both,
        ),
        ("empty", Batch::new().with(|b| (b.count, b.last_offset_delta) = (Some(0), Some(0))), both),
        ("control batch", good().with(|b| b.attributes = 0x20), both),
        ("magic 1", good().with(|b| b.magic = 1), both),
        ("magic 0", good().with(|b| b.magic = 0), both),
        ("magic 3", good().with(|b| b.magic = 3), corrupt),
        ("record length beyond the batch", good().with(|b| b.raw_records = Some(vec![0x7e, 0, 0, 0])), both),
        ("records cut short", good().with(|b| b.raw_records = Some(records[..records.len() - 1].to_vec())), both),
        ("bytes after the records", good().with(|b| b.raw_records = Some([&records[..], &[0; 9]].concat())), both),
    ];
    for (what, batch, accepted) in cases {
        let response = topics::produce(&mut wire, &topic, 0, batch.build());
        assert!(accepted.contains(&response.error_code), "{what}: error {}", response.error_code);
        assert_eq!(response.base_offset, -1, "{what}");
        assert_eq!(topics::list_offset(&mut wire, &topic, 0, LATEST).offset, 0, "{what}");
    }
    let two = [good().build(), good().build()].concat();
    let response = topics::produce(&mut wire, &topic, 0, Bytes::from(two));
    assert!(both.contains(&response.error_code), "two batches: error {}", response.error_code);
    let response = topics::produce(&mut wire, &topic, 0, Bytes::new());
    assert!(both.contains(&response.error_code) || response.error_code == 0, "no batch: error {}", response.error_code);
    assert_eq!(topics::list_offset(&mut wire, &topic, 0, LATEST).offset, 0);
    // The connection and the partition go on.
    assert_eq!(topics::write(&mut wire, &topic, 0, &["good"]), 0);
}

/// What Kafka itself answers badly or not at all.
#[test]
fn null_records_and_garbage_in_every_codec_are_refused() {
    let Some(broker) = Broker::own(&[]) else { return };
    let mut wire = broker.wire();
    let topic = topics::topic(&mut wire, 1);
    let accepted = [INVALID_RECORD, CORRUPT_MESSAGE];
    let null = PartitionProduceData::default().with_index(0).with_records(None);
    let request = ProduceRequest::default()
        .with_acks(-1)
        .with_timeout_ms(30_000)
        .with_topic_data(vec![TopicProduceData::default().with_name(name(&topic)).with_partition_data(vec![null])]);
    let response = wire.call(9, &request);
    assert!(accepted.contains(&response.responses[0].partition_responses[0].error_code), "null records");
    for codec in 1..=7 {
        for garbage in [&b"garbage, and no frame of any codec"[..], &[], &[0; 64], &[0xff; 64]] {
            let batch = Batch::of(&["a"]).with(|b| (b.attributes, b.raw_records) = (codec, Some(garbage.to_vec())));
            let error = topics::produce(&mut wire, &topic, 0, batch.build()).error_code;
            assert!(accepted.contains(&error), "codec {codec}: error {error}");
        }
    }
    assert_eq!(topics::list_offset(&mut wire, &topic, 0, LATEST).offset, 0);
}

/// A few kilobytes that inflate to a gigabyte: answered, and the process stays small.
#[test]
fn a_decompression_bomb_takes_no_memory() {
    let Some(broker) = Broker::own(&[]) else { return };
    let mut wire = broker.wire();
    let topic = topics::topic(&mut wire, 1);
    let bomb = Batch::of(&["a"]).with(|b| (b.attributes, b.raw_records) = (4, Some(batch::zstd_bomb(1 << 30))));
    let bomb = bomb.build();
    assert!(bomb.len() < 100_000);
    let mut others = broker.wire();
    let sent = wire.send(9, &produce_request(&topic, 0, bomb));
    // Others are served meanwhile.
    assert_eq!(others.call(API_VERSIONS, &software()).error_code, 0);
    wire.receive::<ProduceRequest>(9, sent);
    assert!(broker.resident_bytes() < 300 << 20, "{} bytes resident", broker.resident_bytes());
    assert_eq!(topics::produce(&mut others, &topic, 0, Batch::of(&["after"]).build()).error_code, 0);
}

#[test]
fn a_batch_beyond_max_message_bytes_is_refused() {
    let broker = Broker::start();
    let mut wire = broker.wire();
    let topic = topics::topic_with(&mut wire, 1, &[("max.message.bytes", "1000")]);
    let overhead = Batch::of(&[""]).build().len();
    let at_limit = Batch::of(&[&"x".repeat(1000 - overhead - 2)]).build();
    assert_eq!(at_limit.len(), 1000);
    assert_eq!(topics::produce(&mut wire, &topic, 0, at_limit).error_code, 0);
    let above = Batch::of(&[&"x".repeat(1000 - overhead - 1)]).build();
    assert_eq!(topics::produce(&mut wire, &topic, 0, above).error_code, MESSAGE_TOO_LARGE);
    assert_eq!(topics::list_offset(&mut wire, &topic, 0, LATEST).offset, 1);
}

#[test]
fn timestamps_are_judged_and_stamped_as_the_topic_says() {
    let broker = Broker::start();
    let mut wire = broker.wire();
    let strict = topics::topic_with(
        &mut wire,
        1,
        &[("message.timestamp.before.max.ms", "60000"), ("message.timestamp.after.max.ms", "60000")],
    );
    let now = now_ms();
    for (at, expected) in
        [(now - 30_000, 0), (now + 30_000, 0), (now - 120_000, INVALID_TIMESTAMP), (now + 120_000, INVALID_TIMESTAMP)]
    {
        let response = topics::produce(&mut wire, &strict, 0, Batch::of(&["x"]).timestamp(at).build());
        assert_eq!(response.error_code, expected, "{} ms from now", at - now);
    }
    let stamped = topics::topic_with(&mut wire, 1, &[("message.timestamp.type", "LogAppendTime")]);
    let response = topics::produce(&mut wire, &stamped, 0, Batch::of(&["x", "y"]).timestamp(1_000).build());
    assert_eq!(response.error_code, 0);
    assert!((response.log_append_time_ms - now).abs() < 60_000, "{}", response.log_append_time_ms);
    let data = topics::fetch(&mut wire, &stamped, 0, 0).records.expect("records");
    let (stored, _) = batch::split(&data).expect("a batch");
    assert_eq!(batch::be(stored, 21, 2) & 8, 8, "the batch says log append time");
    assert_eq!(i64::try_from(batch::be(stored, 35, 8)).ok(), Some(response.log_append_time_ms), "max timestamp");
    assert_eq!(batch::read(&data).len(), 2, "and its CRC is right");
}

#[test]
fn a_keyless_record_on_a_compacted_topic_is_named() {
    let broker = Broker::start();
    let mut wire = broker.wire();
    let topic = topics::topic_with(&mut wire, 1, &[("cleanup.policy", "compact")]);
    let batch = Batch::new().record(Some("k"), Some("v"), 0).record(None, Some("v"), 0).record(None, None, 0);
    let response = topics::produce(&mut wire, &topic, 0, batch.build());
    assert_eq!(response.error_code, INVALID_RECORD);
    let named: Vec<_> = response.record_errors.iter().map(|e| e.batch_index).collect();
    assert_eq!(named, [1, 2]);
    assert_eq!(topics::list_offset(&mut wire, &topic, 0, LATEST).offset, 0);
    let keyed = Batch::new().record(Some("k"), Some("v"), 0).record(Some("k"), None, 0);
    assert_eq!(topics::produce(&mut wire, &topic, 0, keyed.build()).error_code, 0);
}

/// Partitions of one request stand on their own: one that fails does not keep the others.
#[test]
fn each_partition_of_a_request_has_its_own_outcome() {
    let broker = Broker::start();
    let mut wire = broker.wire();
    let topic = topics::topic(&mut wire, 2);
    let data =
        |index, batch: Batch| PartitionProduceData::default().with_index(index).with_records(Some(batch.build()));
    let partitions = vec![
        data(0, Batch::of(&["a"]).with(|b| b.crc = Some(0))),
        data(1, Batch::of(&["b"])),
        data(7, Batch::of(&["c"])),
    ];
    let topic_data = vec![TopicProduceData::default().with_name(name(&topic)).with_partition_data(partitions)];
    let request = ProduceRequest::default().with_acks(-1).with_timeout_ms(30_000).with_topic_data(topic_data);
    let response = wire.call(9, &request);
    let mut outcomes: Vec<_> =
        response.responses.iter().flat_map(|t| &t.partition_responses).map(|p| (p.index, p.error_code)).collect();
    outcomes.sort_unstable();
    assert_eq!(outcomes, [(0, CORRUPT_MESSAGE), (1, 0), (7, UNKNOWN_TOPIC_OR_PARTITION)]);
}

#[test]
fn init_producer_id() {
    let broker = Broker::start();
    let mut wire = broker.wire();
    let mut ids = Vec::new();
    for version in wire.versions::<InitProducerIdRequest>() {
        let (id, epoch) = producer_id(&mut wire, version);
        assert!(id >= 0 && epoch == 0, "version {version}");
        ids.push(id);
    }
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), count, "an id is given once");
    let empty = InitProducerIdRequest::default()
        .with_transactional_id(Some(TransactionalId(text(""))))
        .with_transaction_timeout_ms(60_000)
        .with_producer_id((-1).into())
        .with_producer_epoch(-1);
    assert_eq!(wire.call(4, &empty).error_code, INVALID_REQUEST);
}

/// Ids are never given twice, not even over a crash.
#[test]
fn producer_ids_are_fresh_after_a_kill() {
    let Some(mut broker) = Broker::own(&[]) else { return };
    let (before, _) = producer_id(&mut broker.wire(), 4);
    broker.kill();
    broker.restart();
    let (after, _) = producer_id(&mut broker.wire(), 4);
    assert!(after > before, "{after} after {before}");
}

/// The rules of an idempotent producer's sequences, as one story on one partition.
#[test]
fn sequences_of_an_idempotent_producer() {
    let broker = Broker::start();
    let mut wire = broker.wire();
    let topic = topics::topic(&mut wire, 2);
    let (id, epoch) = producer_id(&mut wire, 4);
    // A producer that the partition does not know may begin anywhere: its past may have been trimmed away.
    let unknown = Batch::of(&["x"]).producer(id, epoch, 5).build();
    assert_eq!(topics::produce(&mut wire, &topic, 1, unknown).error_code, 0);
    let mut send = |epoch: i16, sequence: i32, values: &[&str]| {
        let batch = Batch::of(values).producer(id, epoch, sequence).build();
        let response = topics::produce(&mut wire, &topic, 0, batch);
        (response.error_code, response.base_offset)
    };
    assert_eq!(send(epoch, 0, &["a", "b"]), (0, 0));
    assert_eq!(send(epoch, 0, &["a", "b"]), (0, 0), "again: the same offset");
    assert_eq!(send(epoch, 2, &["c"]), (0, 2));
    assert_eq!(send(epoch, 4, &["e"]).0, OUT_OF_ORDER_SEQUENCE, "a gap");
    assert_eq!(send(epoch, 1, &["b"]).0, OUT_OF_ORDER_SEQUENCE, "inside of what was written");
    for sequence in 3..8 {
        assert_eq!(send(epoch, sequence, &["s"]), (0, i64::from(sequence)));
    }
    // Five batches are remembered: 3 to 7.
    assert_eq!(send(epoch, 3, &["s"]), (0, 3));
    assert_eq!(send(epoch, 7, &["s"]), (0, 7));
    let forgotten = send(epoch, 2, &["c"]).0;
    assert!([OUT_OF_ORDER_SEQUENCE, DUPLICATE_SEQUENCE].contains(&forgotten), "error {forgotten}");
    assert_eq!(send(epoch + 1, 0, &["t"]), (0, 8), "a new epoch begins with 0");
    assert_eq!(send(epoch + 2, 3, &["u"]).0, OUT_OF_ORDER_SEQUENCE, "and with nothing else");
    let old = send(epoch, 8, &["v"]).0;
    assert!([INVALID_PRODUCER_EPOCH, 90].contains(&old), "an old epoch: error {old}");
    assert_eq!(topics::values(&mut wire, &topic, 0, 0), ["a", "b", "c", "s", "s", "s", "s", "s", "t"]);
}

/// What a producer wrote before a crash counts after it.
#[test]
fn producers_are_remembered_over_a_kill() {
    let Some(mut broker) = Broker::own(&[]) else { return };
    let mut wire = broker.wire();
    let topic = topics::topic(&mut wire, 1);
    let (id, epoch) = producer_id(&mut wire, 4);
    for sequence in 0..3 {
        let batch = Batch::of(&["v"]).producer(id, epoch, sequence).build();
        assert_eq!(topics::produce(&mut wire, &topic, 0, batch).error_code, 0);
    }
    broker.kill();
    broker.restart();
    let mut wire = broker.wire();
    topics::await_topic(&mut wire, &topic, 1);
    let mut send = |sequence| {
        let response = topics::produce(&mut wire, &topic, 0, Batch::of(&["v"]).producer(id, epoch, sequence).build());
        (response.error_code, response.base_offset)
    };
    assert_eq!(send(1), (0, 1), "a retry of what was written before");
    assert_eq!(send(4).0, OUT_OF_ORDER_SEQUENCE);
    assert_eq!(send(3), (0, 3));
}

#[test]
fn a_transactional_batch_of_an_unknown_producer_is_refused() {
    let broker = Broker::start();
    let mut wire = broker.wire();
    let topic = topics::topic(&mut wire, 1);
    let (id, epoch) = producer_id(&mut wire, 4);
    let batch = Batch::of(&["x"]).producer(id, epoch, 0).with(|b| b.attributes = 0x10).build();
    let request = produce_request(&topic, 0, batch).with_transactional_id(Some(TransactionalId(text("unknown"))));
    let find = FindCoordinatorRequest::default().with_key(text("unknown")).with_key_type(1);
    eventually("the transaction coordinator", || (wire.call(2, &find).error_code == 0).then_some(()));
    let error = eventually("the transaction coordinator has loaded", || {
        const NOT_ENOUGH_REPLICAS: i16 = 19;
        let error = wire.call(9, &request).responses[0].partition_responses[0].error_code;
        (error != NOT_ENOUGH_REPLICAS).then_some(error)
    });
    const INVALID_TXN_STATE: i16 = 48;
    const INVALID_PRODUCER_ID_MAPPING: i16 = 49;
    let accepted = [INVALID_TXN_STATE, INVALID_PRODUCER_ID_MAPPING, UNKNOWN_PRODUCER_ID];
    assert!(accepted.contains(&error), "error {error}");
    assert_eq!(topics::list_offset(&mut wire, &topic, 0, LATEST).offset, 0);
}

/// Clients send their first Produce right after the Metadata that made the topic.
#[test]
fn the_first_produce_to_an_auto_created_topic_succeeds_soon() {
    let broker = Broker::start();
    let mut wire = broker.wire();
    let topic = unique("auto");
    let asked = MetadataRequestTopic::default().with_name(Some(name(&topic)));
    let request = MetadataRequest::default().with_topics(Some(vec![asked])).with_allow_auto_topic_creation(true);
    wire.call(9, &request);
    eventually("the produce succeeds", || {
        let response = topics::produce(&mut wire, &topic, 0, Batch::of(&["first"]).build());
        assert!([0, 3, 5, 6].contains(&response.error_code), "error {}", response.error_code);
        (response.error_code == 0).then_some(())
    });
}

/// More cannot be in sync than there are (`Partition.effectiveMinIsr`, since Kafka 3.7).
#[test]
fn min_insync_replicas_is_at_most_the_number_of_replicas() {
    let broker = Broker::start();
    let mut wire = broker.wire();
    let topic = topics::topic_with(&mut wire, 1, &[("min.insync.replicas", "2")]);
    let response = topics::produce(&mut wire, &topic, 0, Batch::of(&["acks=all"]).build());
    assert_eq!((response.error_code, response.base_offset), (0, 0));
}

/// Requests on one connection are carried out in their order, without waiting for each other's flush.
#[test]
fn pipelined_produce_keeps_its_order() {
    let broker = Broker::start();
    let mut wire = broker.wire();
    let topic = topics::topic(&mut wire, 1);
    let request = |i: i64| produce_request(&topic, 0, Batch::of(&[&i.to_string()]).build());
    let sent: Vec<_> = (0..100).map(|i| wire.send(9, &request(i))).collect();
    let after = wire.send(API_VERSIONS, &software());
    for (i, correlation) in sent.into_iter().enumerate() {
        let response = wire.receive::<ProduceRequest>(9, correlation);
        let partition = &response.responses[0].partition_responses[0];
        assert_eq!((partition.error_code, usize::try_from(partition.base_offset).ok()), (0, Some(i)));
    }
    assert_eq!(wire.receive::<ApiVersionsRequest>(API_VERSIONS, after).error_code, 0);
    let expected: Vec<_> = (0..100).map(|i| i.to_string()).collect();
    assert_eq!(topics::values(&mut wire, &topic, 0, 0), expected);
}
