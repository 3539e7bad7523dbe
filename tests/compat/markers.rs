//! What transactions come to in partitions: markers, what readers of committed records see, and which partitions may be
//! written to at all.

use std::collections::BTreeSet;

use kafka_protocol::messages::add_partitions_to_txn_request::{AddPartitionsToTxnRequest, AddPartitionsToTxnTopic};
use kafka_protocol::messages::describe_producers_request::TopicRequest;
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::write_txn_markers_request::{WritableTxnMarker, WritableTxnMarkerTopic};
use kafka_protocol::messages::{
    DescribeProducersRequest, EndTxnRequest, FetchRequest, FindCoordinatorRequest, InitProducerIdRequest,
    ProduceRequest, TransactionalId, WriteTxnMarkersRequest,
};
use kafka_protocol::protocol::Request;

use crate::harness::batch::{self, Batch};
use crate::harness::broker::Broker;
use crate::harness::flex::{Reader, Writer};
use crate::harness::topics::{self, LATEST, fetch_request, list_offsets_request, name, produce_request};
use crate::harness::wire::Wire;
use crate::harness::{eventually, text, unique};

const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const INVALID_PRODUCER_EPOCH: i16 = 47;
const INVALID_TXN_STATE: i16 = 48;
const INVALID_PRODUCER_ID_MAPPING: i16 = 49;
const TRANSACTION_COORDINATOR_FENCED: i16 = 52;
const TRANSACTIONAL_ID_AUTHORIZATION_FAILED: i16 = 53;
const TRANSACTION_ABORTABLE: i16 = 120;
/// Told while a coordinator or a leader is looked for, or loads, or the transaction before is completed:
/// NOT_LEADER_OR_FOLLOWER, COORDINATOR_LOAD_IN_PROGRESS, COORDINATOR_NOT_AVAILABLE, NOT_COORDINATOR, NOT_ENOUGH_REPLICAS,
/// CONCURRENT_TRANSACTIONS.
pub const PASSING: [i16; 6] = [6, 14, 15, 16, 19, 51];

const TRANSACTIONAL: i16 = 0x10;
/// The last version of Produce whose clients add partitions to their transactions themselves.
const EXPLICIT: i16 = 11;

/// A producer with a transactional id.
pub struct Producer {
    pub transactional: TransactionalId,
    pub id: i64,
    pub epoch: i16,
    sequence: i32,
}

impl Producer {
    #[track_caller]
    pub fn new(wire: &mut Wire) -> Self {
        let transactional = TransactionalId(text(&unique("transactional")));
        let find = FindCoordinatorRequest::default().with_key(transactional.0.clone()).with_key_type(1);
        eventually("the transaction coordinator", || (wire.call(2, &find).error_code == 0).then_some(()));
        let mut producer = Self { transactional, id: -1, epoch: -1, sequence: 0 };
        producer.init(wire);
        producer
    }

    /// A new instance of the producer: with another epoch.
    #[track_caller]
    fn init(&mut self, wire: &mut Wire) {
        let init = InitProducerIdRequest::default()
            .with_transactional_id(Some(self.transactional.clone()))
            .with_transaction_timeout_ms(60_000)
            .with_producer_id((-1).into())
            .with_producer_epoch(-1);
        let given = eventually("a producer id", || {
            let given = wire.call(4, &init);
            assert!(given.error_code == 0 || PASSING.contains(&given.error_code), "error {}", given.error_code);
            (given.error_code == 0).then_some(given)
        });
        (self.id, self.epoch, self.sequence) = (given.producer_id.0, given.producer_epoch, 0);
    }

    #[track_caller]
    pub fn add(&self, wire: &mut Wire, topic: &str, partition: i32) {
        let topic = AddPartitionsToTxnTopic::default().with_name(name(topic)).with_partitions(vec![partition]);
        let add = AddPartitionsToTxnRequest::default()
            .with_v3_and_below_transactional_id(self.transactional.clone())
            .with_v3_and_below_producer_id(self.id.into())
            .with_v3_and_below_producer_epoch(self.epoch)
            .with_v3_and_below_topics(vec![topic]);
        eventually("the partition is added", || {
            let response = wire.call(3, &add);
            let error = response.results_by_topic_v3_and_below[0].results_by_partition[0].partition_error_code;
            assert!(error == 0 || PASSING.contains(&error), "error {error}");
            (error == 0).then_some(())
        });
    }

    fn request(&self, topic: &str, partition: i32, value: &str) -> ProduceRequest {
        let batch = Batch::of(&[value]).producer(self.id, self.epoch, self.sequence);
        let batch = batch.with(|b| b.attributes = TRANSACTIONAL).build();
        produce_request(topic, partition, batch).with_transactional_id(Some(self.transactional.clone()))
    }

    /// The error of one batch. What passes is tried again.
    fn try_send(&mut self, wire: &mut Wire, version: i16, topic: &str, partition: i32, value: &str) -> (i16, i64) {
        let request = self.request(topic, partition, value);
        let (error, offset) = eventually("the batch is taken or refused", || {
            let response = wire.call(version, &request);
            let p = &response.responses[0].partition_responses[0];
            (!PASSING.contains(&p.error_code)).then_some((p.error_code, p.base_offset))
        });
        self.sequence += i32::from(error == 0);
        (error, offset)
    }

    #[track_caller]
    pub fn send(&mut self, wire: &mut Wire, topic: &str, partition: i32, value: &str) -> i64 {
        let (error, offset) = self.try_send(wire, EXPLICIT, topic, partition, value);
        assert_eq!(error, 0);
        offset
    }

    #[track_caller]
    pub fn end(&self, wire: &mut Wire, committed: bool) {
        let end = EndTxnRequest::default()
            .with_transactional_id(self.transactional.clone())
            .with_producer_id(self.id.into())
            .with_producer_epoch(self.epoch)
            .with_committed(committed);
        eventually("the transaction ends", || {
            let error = wire.call(3, &end).error_code;
            assert!(error == 0 || PASSING.contains(&error), "error {error}");
            (error == 0).then_some(())
        });
    }

    fn markers(&self, topic: &str, partitions: &[i32], commit: bool) -> WritableTxnMarker {
        let topic =
            WritableTxnMarkerTopic::default().with_name(name(topic)).with_partition_indexes(partitions.to_vec());
        WritableTxnMarker::default()
            .with_producer_id(self.id.into())
            .with_producer_epoch(self.epoch)
            .with_transaction_result(commit)
            .with_coordinator_epoch(0)
            .with_topics(vec![topic])
    }
}

fn committed_request(topic: &str, offset: i64) -> FetchRequest {
    fetch_request(topic, 0, offset).with_isolation_level(1)
}

/// A fetch of committed records from an offset on.
#[track_caller]
fn fetch_committed(wire: &mut Wire, version: i16, topic: &str, offset: i64) -> PartitionData {
    let mut request = committed_request(topic, offset);
    if version >= 13 {
        let id = topics::topic_id(wire, topic);
        request.topics[0].topic = name("");
        request.topics[0].topic_id = id;
    }
    let response = wire.call(version, &request);
    assert_eq!(response.error_code, 0);
    let data = response.responses[0].partitions[0].clone();
    assert_eq!(data.error_code, 0);
    data
}

/// The values that a consumer of committed records sees.
#[track_caller]
fn committed_values(data: &PartitionData) -> Vec<String> {
    let mut to_come: Vec<(i64, i64)> = data
        .aborted_transactions
        .iter()
        .flatten()
        .map(|aborted| (aborted.first_offset, aborted.producer_id.0))
        .collect();
    assert!(to_come.is_sorted(), "{to_come:?}");
    to_come.reverse();
    let (mut left_out, mut seen) = (BTreeSet::new(), Vec::new());
    for record in batch::read(&data.records.clone().unwrap_or_default()) {
        while let Some((_, producer)) = to_come.pop_if(|(first, _)| *first <= record.offset) {
            left_out.insert(producer);
        }
        if record.is_control {
            let key = record.key.expect("a marker has a key");
            if key[2..4] == [0, 0] {
                left_out.remove(&record.producer_id);
            }
        } else if !record.is_transactional || !left_out.contains(&record.producer_id) {
            seen.push(String::from_utf8(record.value.expect("a value")).expect("UTF-8"));
        }
    }
    seen
}

/// All of them. A fetch ends where a log goes on after a start.
#[track_caller]
pub fn all_committed(wire: &mut Wire, topic: &str) -> Vec<String> {
    let (mut seen, mut next) = (Vec::new(), 0);
    while next < last_stable(wire, topic) {
        let data = fetch_committed(wire, 12, topic, next);
        seen.extend(committed_values(&data));
        let records = batch::read(&data.records.unwrap_or_default());
        next = records.last().expect("there is something before the last stable offset").offset + 1;
    }
    seen
}

#[track_caller]
pub fn last_stable(wire: &mut Wire, topic: &str) -> i64 {
    let listed = wire.call(7, &list_offsets_request(topic, 0, LATEST).with_isolation_level(1));
    let partition = &listed.topics[0].partitions[0];
    assert_eq!(partition.error_code, 0);
    partition.offset
}

/// As a tool that aborts a hanging transaction does, and as coordinators.
#[test]
fn write_txn_markers() {
    let broker = Broker::start();
    let mut wire = broker.wire();
    let topic = topics::topic(&mut wire, 1);
    for version in 1..=*wire.versions::<WriteTxnMarkersRequest>().end() {
        let mut producer = Producer::new(&mut wire);
        producer.init(&mut wire);
        producer.add(&mut wire, &topic, 0);
        let first = producer.send(&mut wire, &topic, 0, "hangs");
        assert_eq!(last_stable(&mut wire, &topic), first);
        let write = |wire: &mut Wire, marker: WritableTxnMarker| match version {
            1 => {
                let response = wire.call(1, &WriteTxnMarkersRequest::default().with_markers(vec![marker]));
                let told = &response.markers[0];
                (told.producer_id.0, told.topics[0].partitions.iter().map(|p| p.error_code).collect::<Vec<_>>())
            }
            _ => write_v2(wire, &marker),
        };
        let fenced = producer.markers(&topic, &[0], false).with_producer_epoch(producer.epoch - 1);
        assert_eq!(write(&mut wire, fenced), (producer.id, vec![INVALID_PRODUCER_EPOCH]));
        let abort = producer.markers(&topic, &[0, 9], false);
        assert_eq!(write(&mut wire, abort.clone()), (producer.id, vec![0, UNKNOWN_TOPIC_OR_PARTITION]));
        assert_eq!(last_stable(&mut wire, &topic), first + 2);
        let told = fetch_committed(&mut wire, 12, &topic, first);
        assert_eq!(committed_values(&told), Vec::<String>::new());
        let aborted: Vec<_> =
            told.aborted_transactions.iter().flatten().map(|a| (a.producer_id.0, a.first_offset)).collect();
        assert_eq!(aborted, [(producer.id, first)]);
        // Once more is harmless; a coordinator of the past is told so.
        assert_eq!(write(&mut wire, abort).1[0], 0);
        let old = producer.markers(&topic, &[0], false).with_coordinator_epoch(-1);
        assert_eq!(write(&mut wire, old).1, [TRANSACTION_COORDINATOR_FENCED]);
        // Its coordinator did not hear of it, and ends what comes after.
        let (error, _) = producer.try_send(&mut wire, 9, &topic, 0, "late");
        assert_eq!(error, 0);
        producer.end(&mut wire, false);
        let end = |wire: &mut Wire| topics::list_offset(wire, &topic, 0, LATEST).offset;
        eventually("its marker", || (last_stable(&mut wire, &topic) == end(&mut wire)).then_some(()));
    }
}

/// Version 2, which the crate does not know, of a marker with one topic.
fn write_v2(wire: &mut Wire, marker: &WritableTxnMarker) -> (i64, Vec<i16>) {
    let topic = &marker.topics[0];
    let mut body = Writer::default().array(1).i64(marker.producer_id.0);
    let [high, low] = marker.producer_epoch.to_be_bytes();
    body = body.i8(high.cast_signed()).i8(low.cast_signed()).i8(i8::from(marker.transaction_result));
    body = body.array(1).string(&topic.name).array(topic.partition_indexes.len());
    for index in &topic.partition_indexes {
        body = body.i32(*index);
    }
    let body = body.tags().i32(marker.coordinator_epoch).i8(1).tags().tags().bytes();
    let correlation = wire.send_body(WriteTxnMarkersRequest::KEY, 2, 2, &body);
    let mut reader = Reader(wire.receive_body(1, correlation));
    assert_eq!(reader.array(), Some(1));
    let producer = reader.i64();
    assert_eq!(reader.array(), Some(1));
    assert_eq!(reader.string().as_deref(), Some(topic.name.as_str()));
    let mut errors = Vec::new();
    for _ in 0..reader.array().expect("partitions") {
        reader.i32();
        errors.push(reader.i16());
        reader.tags();
    }
    reader.tags();
    reader.tags();
    reader.tags();
    reader.end();
    (producer, errors)
}

#[test]
fn readers_of_committed_records_see_what_is_decided_in_every_version() {
    let broker = Broker::start();
    let mut wire = broker.wire();
    let topic = topics::topic(&mut wire, 1);
    let [mut one, mut other] = [(); 2].map(|()| Producer::new(&mut wire));
    topics::write(&mut wire, &topic, 0, &["plain"]);
    one.add(&mut wire, &topic, 0);
    one.send(&mut wire, &topic, 0, "committed");
    other.add(&mut wire, &topic, 0);
    other.send(&mut wire, &topic, 0, "aborted");
    one.send(&mut wire, &topic, 0, "committed too");
    topics::write(&mut wire, &topic, 0, &["after"]);
    for version in 4..=*wire.versions::<FetchRequest>().end() {
        let data = fetch_committed(&mut wire, version, &topic, 0);
        assert_eq!((data.high_watermark, data.last_stable_offset), (5, 1), "version {version}");
        assert_eq!(committed_values(&data), ["plain"]);
    }
    one.end(&mut wire, true);
    let data = eventually("the commit's marker", || {
        let data = fetch_committed(&mut wire, 12, &topic, 0);
        (data.last_stable_offset == 2).then_some(data)
    });
    assert_eq!(committed_values(&data), ["plain", "committed"], "up to the other's first");
    other.end(&mut wire, false);
    eventually("both markers", || (last_stable(&mut wire, &topic) == 7).then_some(()));
    for version in 4..=*wire.versions::<FetchRequest>().end() {
        let data = fetch_committed(&mut wire, version, &topic, 0);
        assert_eq!((data.high_watermark, data.last_stable_offset), (7, 7), "version {version}");
        assert_eq!(committed_values(&data), ["plain", "committed", "committed too", "after"]);
        let after = fetch_committed(&mut wire, version, &topic, 6);
        let only: Vec<_> = after.aborted_transactions.iter().flatten().map(|a| a.producer_id.0).collect();
        assert!(only.iter().all(|id| *id == other.id), "what ended before counts no more: {only:?}");
    }
    let uncommitted = topics::fetch(&mut wire, &topic, 0, 0);
    assert_eq!(uncommitted.aborted_transactions, None, "for those who read all there is none");
    let data = batch::read(&uncommitted.records.unwrap_or_default());
    assert_eq!(data.iter().filter(|record| !record.is_control).count(), 5);
}

/// A consumer waits at the last stable offset, in a session, and hears of the marker.
#[test]
fn a_fetch_that_waits_is_woken_by_the_marker() {
    let broker = Broker::start();
    let mut wire = broker.wire();
    let topic = topics::topic(&mut wire, 1);
    let mut producer = Producer::new(&mut wire);
    producer.add(&mut wire, &topic, 0);
    producer.send(&mut wire, &topic, 0, "undecided");
    let mut consumer = broker.wire();
    let created = consumer.call(12, &committed_request(&topic, 0).with_session_epoch(0));
    assert_eq!((created.error_code, created.responses[0].partitions[0].last_stable_offset), (0, 0));
    let again = FetchRequest::default()
        .with_replica_id((-1).into())
        .with_max_wait_ms(20_000)
        .with_min_bytes(1)
        .with_max_bytes(50 << 20)
        .with_isolation_level(1)
        .with_session_id(created.session_id)
        .with_session_epoch(1);
    let correlation = consumer.send(12, &again);
    producer.end(&mut wire, true);
    let woken = consumer.receive::<FetchRequest>(12, correlation);
    let data = &woken.responses[0].partitions[0];
    assert_eq!((data.last_stable_offset, committed_values(data)), (2, vec!["undecided".to_owned()]));
}

#[test]
fn a_partition_that_the_transaction_does_not_know_is_not_written_to() {
    let broker = Broker::start();
    let mut wire = broker.wire();
    let topic = topics::topic(&mut wire, 2);
    let mut producer = Producer::new(&mut wire);
    producer.add(&mut wire, &topic, 0);
    producer.send(&mut wire, &topic, 0, "known");
    producer.sequence = 0;
    assert_eq!(producer.try_send(&mut wire, 9, &topic, 1, "old client").0, INVALID_TXN_STATE);
    assert_eq!(producer.try_send(&mut wire, 10, &topic, 1, "old client").0, INVALID_TXN_STATE);
    assert_eq!(producer.try_send(&mut wire, EXPLICIT, &topic, 1, "newer client").0, TRANSACTION_ABORTABLE);
    assert_eq!(topics::list_offset(&mut wire, &topic, 1, LATEST).offset, 0);
    // Without the name of a transaction, in another's, outside of it.
    let nameless = producer.request(&topic, 1, "x").with_transactional_id(None);
    let error = wire.call(9, &nameless).responses[0].partition_responses[0].error_code;
    assert_eq!(error, TRANSACTIONAL_ID_AUTHORIZATION_FAILED);
    let stranger = TransactionalId(text(&unique("stranger")));
    let others = producer.request(&topic, 1, "x").with_transactional_id(Some(stranger));
    let error = eventually("an answer", || {
        let error = wire.call(9, &others).responses[0].partition_responses[0].error_code;
        (!PASSING.contains(&error)).then_some(error)
    });
    assert_eq!(error, INVALID_PRODUCER_ID_MAPPING);
    producer.sequence = 1;
    let plain = Batch::of(&["outside"]).producer(producer.id, producer.epoch, 1).build();
    assert_eq!(topics::produce(&mut wire, &topic, 0, plain).error_code, INVALID_TXN_STATE);
    producer.end(&mut wire, true);
    eventually("the marker", || (last_stable(&mut wire, &topic) == 2).then_some(()));
    // Nobody may write to what has ended.
    assert_eq!(producer.try_send(&mut wire, 10, &topic, 0, "late").0, INVALID_TXN_STATE);
}

/// From version 12 of Produce on what is written to belongs to the transaction (KIP-890).
#[test]
fn partitions_are_added_by_what_is_written_to_them() {
    let broker = Broker::start();
    let mut wire = broker.wire();
    let topic = topics::topic(&mut wire, 1);
    let mut producer = Producer::new(&mut wire);
    for (value, committed) in [("first", true), ("second", false), ("third", true)] {
        let (error, first) = producer.try_send(&mut wire, 12, &topic, 0, value);
        assert_eq!(error, 0);
        assert_eq!(last_stable(&mut wire, &topic), first);
        let end = EndTxnRequest::default()
            .with_transactional_id(producer.transactional.clone())
            .with_producer_id(producer.id.into())
            .with_producer_epoch(producer.epoch)
            .with_committed(committed);
        let ended = eventually("the transaction ends", || {
            let ended = wire.call(5, &end);
            assert!(ended.error_code == 0 || PASSING.contains(&ended.error_code), "error {}", ended.error_code);
            (ended.error_code == 0).then_some(ended)
        });
        assert_eq!((ended.producer_id.0, ended.producer_epoch), (producer.id, producer.epoch + 1));
        // The epoch of the past is fenced as soon as its marker is there.
        eventually("the marker", || (last_stable(&mut wire, &topic) == first + 2).then_some(()));
        let (error, _) = producer.try_send(&mut wire, 12, &topic, 0, "of the past");
        assert_eq!(error, INVALID_PRODUCER_EPOCH);
        (producer.epoch, producer.sequence) = (ended.producer_epoch, 0);
    }
    assert_eq!(all_committed(&mut wire, &topic), ["first", "third"]);
}

#[test]
fn producers_are_described_with_their_transactions() {
    let broker = Broker::start();
    let mut wire = broker.wire();
    let topic = topics::topic(&mut wire, 1);
    let mut producer = Producer::new(&mut wire);
    producer.add(&mut wire, &topic, 0);
    topics::write(&mut wire, &topic, 0, &["before"]);
    producer.send(&mut wire, &topic, 0, "first");
    let asked = TopicRequest::default().with_name(name(&topic)).with_partition_indexes(vec![0]);
    let request = DescribeProducersRequest::default().with_topics(vec![asked]);
    let described = |wire: &mut Wire| {
        let response = wire.call(0, &request);
        let partition = &response.topics[0].partitions[0];
        assert_eq!(partition.error_code, 0);
        let found = partition.active_producers.iter().find(|p| p.producer_id.0 == producer.id).expect("it is known");
        (found.current_txn_start_offset, found.coordinator_epoch, found.last_sequence)
    };
    assert_eq!(described(&mut wire), (1, -1, 0));
    producer.end(&mut wire, true);
    let (_, coordinator_epoch, sequence) =
        eventually("the marker", || Some(described(&mut wire)).filter(|(start, ..)| *start == -1));
    assert!(coordinator_epoch >= 0 && sequence == 0, "epoch {coordinator_epoch}, sequence {sequence}");
}
