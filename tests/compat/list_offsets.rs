//! ListOffsets and OffsetForLeaderEpoch.

use kafka_protocol::messages::offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
use kafka_protocol::messages::{ListOffsetsRequest, OffsetForLeaderEpochRequest};
use kafka_protocol::protocol::Request;

use crate::harness::batch::Batch;
use crate::harness::broker::Broker;
use crate::harness::flex::{Reader, Writer};
use crate::harness::topics::{self, EARLIEST, LATEST, list_offset, list_offsets_request, name};
use crate::harness::unique;
use crate::harness::wire::Wire;

const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;
const EARLIEST_PENDING_UPLOAD: i64 = -6;
const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const UNSUPPORTED_VERSION: i16 = 35;
const FENCED_LEADER_EPOCH: i16 = 74;
const UNKNOWN_LEADER_EPOCH: i16 = 75;

/// Three batches: 1000, 1010, 1020 | 900, 2000 | 1500.
fn timed(wire: &mut Wire) -> String {
    let topic = topics::topic(wire, 1);
    let batches = [
        Batch::new().timestamp(1_000).record(None, Some("a"), 0).record(None, Some("b"), 10).record(
            None,
            Some("c"),
            20,
        ),
        Batch::new().timestamp(900).record(None, Some("d"), 0).record(None, Some("e"), 1_100),
        Batch::new().timestamp(1_500).record(None, Some("f"), 0),
    ];
    for batch in batches {
        assert_eq!(topics::produce(wire, &topic, 0, batch.build()).error_code, 0);
    }
    topic
}

#[test]
fn list_offsets() {
    let broker = Broker::start();
    let mut wire = broker.wire();
    let topic = timed(&mut wire);
    for version in wire.versions::<ListOffsetsRequest>() {
        for isolation in [0, 1] {
            if version < 2 && isolation == 1 {
                continue;
            }
            let mut at = |timestamp| {
                let request = list_offsets_request(&topic, 0, timestamp).with_isolation_level(isolation);
                let response = wire.call(version, &request);
                let partition = response.topics[0].partitions[0].clone();
                assert_eq!(partition.error_code, 0, "version {version}, timestamp {timestamp}");
                if version >= 4 && partition.offset >= 0 {
                    assert!(partition.leader_epoch >= 0, "version {version}, timestamp {timestamp}");
                }
                (partition.offset, partition.timestamp)
            };
            assert_eq!(at(LATEST), (6, -1));
            assert_eq!(at(EARLIEST), (0, -1));
            // The first record that is not older, exact inside of batches.
            for (timestamp, expected) in [
                (0, (0, 1_000)),
                (1_000, (0, 1_000)),
                (1_001, (1, 1_010)),
                (1_020, (2, 1_020)),
                (1_021, (4, 2_000)),
                (2_000, (4, 2_000)),
                (2_001, (-1, -1)),
                (i64::MAX, (-1, -1)),
            ] {
                assert_eq!(at(timestamp), expected, "version {version}, timestamp {timestamp}");
            }
            if version >= 7 {
                assert_eq!(at(MAX_TIMESTAMP), (4, 2_000));
            }
            if version >= 8 {
                assert_eq!(at(EARLIEST_LOCAL), (0, -1));
            }
            if version >= 9 {
                assert_eq!(at(LATEST_TIERED), (-1, -1), "nothing is tiered");
            }
        }
    }
}

#[test]
fn list_offsets_refuses_what_it_does_not_know() {
    let broker = Broker::start();
    let mut wire = broker.wire();
    let topic = timed(&mut wire);
    assert_eq!(list_offset(&mut wire, &topic, 3, LATEST).error_code, UNKNOWN_TOPIC_OR_PARTITION);
    assert_eq!(list_offset(&mut wire, &unique("missing"), 0, LATEST).error_code, UNKNOWN_TOPIC_OR_PARTITION);
    // A special timestamp that came with a later version.
    for (version, timestamp) in
        [(6, MAX_TIMESTAMP), (7, EARLIEST_LOCAL), (8, LATEST_TIERED), (10, EARLIEST_PENDING_UPLOAD)]
    {
        let response = wire.call(version, &list_offsets_request(&topic, 0, timestamp));
        assert_eq!(response.topics[0].partitions[0].error_code, UNSUPPORTED_VERSION, "version {version}, {timestamp}");
    }
}

/// Version 11 adds a special timestamp and no field.
#[test]
fn list_offsets_version_11() {
    let broker = Broker::start();
    let mut wire = broker.wire();
    let topic = timed(&mut wire);
    for (timestamp, expected) in [(LATEST, 6), (EARLIEST, 0), (1_001, 1), (EARLIEST_PENDING_UPLOAD, -1)] {
        let body = Writer::default()
            .i32(-1)
            .i8(0)
            .array(1)
            .string(&topic)
            .array(1)
            .i32(0)
            .i32(-1)
            .i64(timestamp)
            .tags()
            .tags()
            .i32(1_000)
            .tags()
            .bytes();
        let correlation = wire.send_body(ListOffsetsRequest::KEY, 11, 2, &body);
        let mut reader = Reader(wire.receive_body(1, correlation));
        reader.i32();
        assert_eq!(reader.array(), Some(1));
        assert_eq!(reader.string().as_deref(), Some(&*topic));
        assert_eq!(reader.array(), Some(1));
        assert_eq!((reader.i32(), reader.i16()), (0, 0), "partition, error at {timestamp}");
        reader.i64();
        assert_eq!(reader.i64(), expected, "timestamp {timestamp}");
        reader.i32();
        reader.tags();
        reader.tags();
        reader.tags();
        reader.end();
    }
}

#[test]
fn list_offsets_of_an_empty_partition() {
    let broker = Broker::start();
    let mut wire = broker.wire();
    let topic = topics::topic(&mut wire, 1);
    for (timestamp, expected) in [(LATEST, 0), (EARLIEST, 0), (0, -1), (MAX_TIMESTAMP, -1)] {
        let found = list_offset(&mut wire, &topic, 0, timestamp);
        assert_eq!((found.error_code, found.offset, found.timestamp), (0, expected, -1), "timestamp {timestamp}");
    }
}

#[test]
fn the_leader_epoch_of_list_offsets_is_checked() {
    let broker = Broker::start();
    let mut wire = broker.wire();
    let topic = topics::topic(&mut wire, 1);
    let current = topics::metadata(&mut wire, &[&topic]).topics[0].partitions[0].leader_epoch;
    let mut outcome = |epoch| {
        let mut request = list_offsets_request(&topic, 0, LATEST);
        request.topics[0].partitions[0].current_leader_epoch = epoch;
        wire.call(7, &request).topics[0].partitions[0].error_code
    };
    assert_eq!(outcome(current), 0);
    assert_eq!(outcome(current + 1), UNKNOWN_LEADER_EPOCH);
    if current > 0 {
        assert_eq!(outcome(current - 1), FENCED_LEADER_EPOCH);
    }
}

fn end_of_epoch(topic: &str, partition: i32, current: i32, epoch: i32) -> OffsetForLeaderEpochRequest {
    let partition = OffsetForLeaderPartition::default()
        .with_partition(partition)
        .with_current_leader_epoch(current)
        .with_leader_epoch(epoch);
    let topic = OffsetForLeaderTopic::default().with_topic(name(topic)).with_partitions(vec![partition]);
    OffsetForLeaderEpochRequest::default().with_replica_id((-1).into()).with_topics(vec![topic])
}

#[test]
fn offset_for_leader_epoch() {
    let broker = Broker::start();
    let mut wire = broker.wire();
    let topic = timed(&mut wire);
    let current = topics::metadata(&mut wire, &[&topic]).topics[0].partitions[0].leader_epoch;
    for version in wire.versions::<OffsetForLeaderEpochRequest>() {
        let mut ask = |partition, fence, epoch| {
            let response = wire.call(version, &end_of_epoch(&topic, partition, fence, epoch));
            let end = &response.topics[0].partitions[0];
            (end.error_code, end.leader_epoch, end.end_offset)
        };
        assert_eq!(ask(0, -1, current), (0, current, 6), "version {version}");
        assert_eq!(ask(0, current, current), (0, current, 6));
        assert_eq!(ask(0, -1, current + 5), (0, -1, -1), "an epoch yet to come");
        assert_eq!(ask(0, -1, -1), (0, -1, -1), "undefined");
        assert_eq!(ask(0, current + 1, current).0, UNKNOWN_LEADER_EPOCH);
        assert_eq!(ask(4, -1, current).0, UNKNOWN_TOPIC_OR_PARTITION);
    }
}

/// Each start of the broker begins a new epoch; the ends of the old ones are known.
#[test]
fn epochs_rise_with_each_restart_and_their_ends_are_kept() {
    let Some(mut broker) = Broker::own(&[]) else { return };
    let mut wire = broker.wire();
    let topic = topics::topic(&mut wire, 1);
    topics::write(&mut wire, &topic, 0, &["a", "b"]);
    let first = topics::metadata(&mut wire, &[&topic]).topics[0].partitions[0].leader_epoch;
    broker.kill();
    broker.restart();
    let mut wire = broker.wire();
    topics::await_topic(&mut wire, &topic, 1);
    let second = topics::metadata(&mut wire, &[&topic]).topics[0].partitions[0].leader_epoch;
    assert!(second > first, "{second} after {first}");
    topics::write(&mut wire, &topic, 0, &["c"]);
    let mut ask = |epoch| {
        let response = wire.call(4, &end_of_epoch(&topic, 0, -1, epoch));
        let end = &response.topics[0].partitions[0];
        (end.error_code, end.leader_epoch, end.end_offset)
    };
    assert_eq!(ask(first), (0, first, 2));
    assert_eq!(ask(second), (0, second, 3));
    assert_eq!(list_offset(&mut wire, &topic, 0, EARLIEST).leader_epoch, first, "the epoch of the offset");
}
