//! Fetch: every version, byte limits, waiting, offsets out of range, leader epochs, sessions.

use std::time::{Duration, Instant};

use kafka_protocol::messages::FetchRequest;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic};
use kafka_protocol::messages::fetch_response::FetchResponse;
use uuid::Uuid;

use crate::harness::batch::{self, Batch};
use crate::harness::broker::Broker;
use crate::harness::topics::{self, fetch_request, name};
use crate::harness::{eventually, unique};

const OFFSET_OUT_OF_RANGE: i16 = 1;
const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const FETCH_SESSION_ID_NOT_FOUND: i16 = 70;
const INVALID_FETCH_SESSION_EPOCH: i16 = 71;
const FENCED_LEADER_EPOCH: i16 = 74;
const UNKNOWN_LEADER_EPOCH: i16 = 75;
const UNKNOWN_TOPIC_ID: i16 = 100;

/// The request in a version: names up to 12, ids from 13 on.
fn versioned(version: i16, topic: &str, id: Uuid, partition: i32, offset: i64) -> FetchRequest {
    let mut request = fetch_request(topic, partition, offset);
    if version >= 13 {
        request.topics[0].topic = name("");
        request.topics[0].topic_id = id;
    }
    if version >= 15 {
        // The field of followers is a tagged one by then.
        request.replica_id = (-1).into();
    }
    request
}

fn records(response: &FetchResponse) -> Vec<batch::Read> {
    batch::read(response.responses[0].partitions[0].records.as_deref().unwrap_or_default())
}

#[test]
fn fetch() {
    let broker = Broker::start();
    let mut wire = broker.wire();
    let topic = topics::topic(&mut wire, 1);
    let id = topics::topic_id(&mut wire, &topic);
    topics::write(&mut wire, &topic, 0, &["a", "b"]);
    topics::write(&mut wire, &topic, 0, &["c"]);
    for version in wire.versions::<FetchRequest>() {
        let response = wire.call(version, &versioned(version, &topic, id, 0, 0));
        assert_eq!(response.error_code, 0, "version {version}");
        let partition = &response.responses[0].partitions[0];
        assert_eq!((partition.error_code, partition.high_watermark, partition.last_stable_offset), (0, 3, 3));
        if version >= 5 {
            assert_eq!(partition.log_start_offset, 0);
        }
        if version >= 11 {
            assert_eq!(partition.preferred_read_replica.0, -1);
        }
        if version >= 13 {
            assert_eq!(response.responses[0].topic_id, id);
        }
        let read: Vec<_> = records(&response).into_iter().map(|r| (r.offset, r.value)).collect();
        let row = |offset, value: &str| (offset, Some(value.as_bytes().to_vec()));
        assert_eq!(read, [row(0, "a"), row(1, "b"), row(2, "c")], "version {version}");
        let leader_epoch = batch::be(partition.records.as_deref().expect("records"), 12, 4);
        assert!(leader_epoch < 1 << 20, "the leader's epoch stands in the batch");
        let stable = wire.call(version, &versioned(version, &topic, id, 0, 0).with_isolation_level(1));
        assert_eq!(records(&stable).len(), 3, "read_committed, version {version}");
    }
}

#[test]
fn fetch_inside_a_batch_gives_the_whole_batch() {
    let broker = Broker::start();
    let mut wire = broker.wire();
    let topic = topics::topic(&mut wire, 1);
    topics::write(&mut wire, &topic, 0, &["a", "b", "c"]);
    topics::write(&mut wire, &topic, 0, &["d"]);
    let data = topics::fetch(&mut wire, &topic, 0, 2);
    let offsets: Vec<_> = batch::read(&data.records.expect("records")).iter().map(|r| r.offset).collect();
    assert_eq!(offsets, [0, 1, 2, 3]);
}

#[test]
fn offsets_out_of_range_are_refused() {
    let broker = Broker::start();
    let mut wire = broker.wire();
    let topic = topics::topic(&mut wire, 1);
    topics::write(&mut wire, &topic, 0, &["a", "b"]);
    for (offset, expected) in
        [(2, 0), (3, OFFSET_OUT_OF_RANGE), (-1, OFFSET_OUT_OF_RANGE), (i64::MAX, 1), (i64::MIN, 1)]
    {
        let data = topics::fetch(&mut wire, &topic, 0, offset);
        assert_eq!(data.error_code, expected, "offset {offset}");
        if expected != 0 {
            assert_eq!(data.high_watermark, -1, "offset {offset}");
        }
        assert!(data.records.is_none_or(|r| r.is_empty()));
    }
    assert_eq!(topics::fetch(&mut wire, &topic, 5, 0).error_code, UNKNOWN_TOPIC_OR_PARTITION);
    assert_eq!(topics::fetch(&mut wire, &topic, -1, 0).error_code, UNKNOWN_TOPIC_OR_PARTITION);
    assert_eq!(topics::fetch(&mut wire, &unique("missing"), 0, 0).error_code, UNKNOWN_TOPIC_OR_PARTITION);
    let unknown = wire.call(13, &versioned(13, "", Uuid::new_v4(), 0, 0));
    assert_eq!(unknown.responses[0].partitions[0].error_code, UNKNOWN_TOPIC_ID);
}

#[test]
fn byte_limits_are_kept_but_the_first_batch_always_comes() {
    let broker = Broker::start();
    let mut wire = broker.wire();
    let topic = topics::topic(&mut wire, 2);
    let big = "x".repeat(10_000);
    for partition in 0..2 {
        for _ in 0..5 {
            topics::write(&mut wire, &topic, partition, &[&big]);
        }
    }
    let count = |response: &FetchResponse, i: usize| {
        batch::read(response.responses[0].partitions[i].records.as_deref().unwrap_or_default()).len()
    };
    let both = |partition_max, max| {
        let mut request = fetch_request(&topic, 0, 0).with_max_bytes(max);
        let mut second = request.topics[0].partitions[0].clone();
        second.partition = 1;
        request.topics[0].partitions.push(second);
        for partition in &mut request.topics[0].partitions {
            partition.partition_max_bytes = partition_max;
        }
        request
    };
    let one = wire.call(12, &both(1, 1));
    assert_eq!((count(&one, 0), count(&one, 1)), (1, 0), "one batch, though it is larger than every limit");
    let two = wire.call(12, &both(25_000, 1 << 20));
    assert_eq!((count(&two, 0), count(&two, 1)), (2, 2), "whole batches within the partition's limit");
    let three = wire.call(12, &both(1 << 20, 35_000));
    assert_eq!((count(&three, 0), count(&three, 1)), (3, 0), "whole batches within the request's limit");
    let all = wire.call(12, &both(1 << 20, 1 << 20));
    assert_eq!((count(&all, 0), count(&all, 1)), (5, 5));
}

#[test]
fn a_fetch_waits_for_min_bytes_and_no_longer_than_max_wait() {
    let broker = Broker::start();
    let (mut wire, mut writer) = (broker.wire(), broker.wire());
    let topic = topics::topic(&mut wire, 1);
    let started = Instant::now();
    let empty = wire.call(12, &fetch_request(&topic, 0, 0).with_max_wait_ms(300));
    assert!(started.elapsed() >= Duration::from_millis(290), "{:?}", started.elapsed());
    assert!(records(&empty).is_empty());
    let started = Instant::now();
    wire.call(12, &fetch_request(&topic, 0, 0).with_min_bytes(0).with_max_wait_ms(20_000));
    assert!(started.elapsed() < Duration::from_secs(5), "nothing to wait for");
    // The commit wakes the fetch.
    let waiting = wire.send(12, &fetch_request(&topic, 0, 0).with_max_wait_ms(20_000));
    let started = Instant::now();
    topics::write(&mut writer, &topic, 0, &["wake"]);
    let woken = wire.receive::<FetchRequest>(12, waiting);
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    assert_eq!(records(&woken).len(), 1);
    // Too little does not.
    let started = Instant::now();
    let waiting = wire.send(12, &fetch_request(&topic, 0, 1).with_min_bytes(100_000).with_max_wait_ms(700));
    topics::write(&mut writer, &topic, 0, &["too little"]);
    let late = wire.receive::<FetchRequest>(12, waiting);
    assert!(started.elapsed() >= Duration::from_millis(690), "{:?}", started.elapsed());
    assert_eq!(records(&late).len(), 1);
}

/// A fetch that waits does not hold up what follows on other connections, and an error ends the wait at once.
#[test]
fn an_error_is_answered_without_waiting() {
    let broker = Broker::start();
    let mut wire = broker.wire();
    let topic = topics::topic(&mut wire, 1);
    let started = Instant::now();
    let mut request = fetch_request(&topic, 0, 0).with_max_wait_ms(20_000).with_min_bytes(1 << 20);
    let mut bad = request.topics[0].partitions[0].clone();
    bad.fetch_offset = 99;
    request.topics[0].partitions.push(bad.clone());
    request.topics[0].partitions.remove(0);
    let response = wire.call(12, &request);
    assert_eq!(response.responses[0].partitions[0].error_code, OFFSET_OUT_OF_RANGE);
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}

#[test]
fn the_leader_epoch_of_a_fetch_is_checked() {
    let broker = Broker::start();
    let mut wire = broker.wire();
    let topic = topics::topic(&mut wire, 1);
    topics::write(&mut wire, &topic, 0, &["a"]);
    let current = topics::metadata(&mut wire, &[&topic]).topics[0].partitions[0].leader_epoch;
    let mut outcome = |epoch| {
        let mut request = fetch_request(&topic, 0, 0);
        request.topics[0].partitions[0].current_leader_epoch = epoch;
        wire.call(12, &request).responses[0].partitions[0].error_code
    };
    assert_eq!(outcome(current), 0);
    assert_eq!(outcome(-1), 0);
    assert_eq!(outcome(current + 1), UNKNOWN_LEADER_EPOCH);
    if current > 0 {
        assert_eq!(outcome(current - 1), FENCED_LEADER_EPOCH);
    }
}

/// An epoch of a longer log that this one does not have: the answer says where they part (KIP-595).
#[test]
fn a_fetch_from_a_diverging_log_is_told_where_it_parts() {
    let broker = Broker::start();
    let mut wire = broker.wire();
    let topic = topics::topic(&mut wire, 1);
    topics::write(&mut wire, &topic, 0, &["a", "b"]);
    let data = topics::fetch(&mut wire, &topic, 0, 0);
    let epoch = i32::try_from(batch::be(&data.records.expect("records"), 12, 4)).expect("epoch");
    let mut request = fetch_request(&topic, 0, 2);
    request.topics[0].partitions[0].last_fetched_epoch = epoch;
    let same = wire.call(12, &request);
    assert_eq!(same.responses[0].partitions[0].diverging_epoch.end_offset, -1, "no divergence");
}

fn in_session(id: i32, epoch: i32, partitions: &[(&str, i32, i64)]) -> FetchRequest {
    let partition = |index: i32, offset: i64| {
        FetchPartition::default()
            .with_partition(index)
            .with_current_leader_epoch(-1)
            .with_fetch_offset(offset)
            .with_last_fetched_epoch(-1)
            .with_log_start_offset(-1)
            .with_partition_max_bytes(1 << 20)
    };
    let topic = |(topic, index, offset): &(&str, i32, i64)| {
        FetchTopic::default().with_topic(name(topic)).with_partitions(vec![partition(*index, *offset)])
    };
    FetchRequest::default()
        .with_replica_id((-1).into())
        .with_max_wait_ms(50)
        .with_min_bytes(1)
        .with_max_bytes(1 << 20)
        .with_session_id(id)
        .with_session_epoch(epoch)
        .with_topics(partitions.iter().map(topic).collect())
}

fn partitions_of(response: &FetchResponse) -> Vec<(String, i32, i16)> {
    let rows = response.responses.iter().flat_map(|t| {
        t.partitions.iter().map(|p| (t.topic.0.to_string(), p.partition_index, p.error_code)).collect::<Vec<_>>()
    });
    rows.collect()
}

#[test]
fn fetch_sessions() {
    let broker = Broker::start();
    let mut wire = broker.wire();
    let topic = topics::topic(&mut wire, 2);
    topics::write(&mut wire, &topic, 0, &["a"]);
    let opened = wire.call(12, &in_session(0, 0, &[(&topic, 0, 0), (&topic, 1, 0)]));
    assert_eq!((opened.error_code, partitions_of(&opened).len()), (0, 2), "a full fetch names every partition");
    let id = opened.session_id;
    assert_ne!(id, 0);
    // Only what changed comes back; what the request does not name stays in the session.
    let next = wire.call(12, &in_session(id, 1, &[(&topic, 0, 1)]));
    assert_eq!((next.error_code, next.session_id, partitions_of(&next)), (0, id, vec![]));
    topics::write(&mut wire, &topic, 1, &["b"]);
    let changed = wire.call(12, &in_session(id, 2, &[]));
    assert_eq!(partitions_of(&changed), [(topic.clone(), 1, 0)]);
    assert_eq!(records(&changed).len(), 1);
    // A partition that is not there is still reported.
    let missing = unique("missing");
    let reported = wire.call(12, &in_session(id, 3, &[(&topic, 1, 1), (&missing, 0, 0)]));
    assert_eq!(partitions_of(&reported), [(missing.clone(), 0, UNKNOWN_TOPIC_OR_PARTITION)]);
    // Forgotten partitions are.
    let forgotten = ForgottenTopic::default().with_topic(name(&topic)).with_partitions(vec![1]);
    let forget = in_session(id, 4, &[]).with_forgotten_topics_data(vec![forgotten]);
    assert_eq!(wire.call(12, &forget).error_code, 0);
    topics::write(&mut wire, &topic, 1, &["c"]);
    let after = wire.call(12, &in_session(id, 5, &[]));
    assert!(
        partitions_of(&after).iter().all(|(name, index, _)| (name, *index) != (&topic, 1)),
        "{:?}",
        partitions_of(&after)
    );
    assert_eq!(wire.call(12, &in_session(id, 77, &[])).error_code, INVALID_FETCH_SESSION_EPOCH);
    assert_eq!(wire.call(12, &in_session(id ^ 0x5555_5555, 1, &[])).error_code, FETCH_SESSION_ID_NOT_FOUND);
    // Epoch -1 ends the session.
    assert_eq!(wire.call(12, &in_session(id, -1, &[(&topic, 0, 0)])).error_code, 0);
    assert_eq!(wire.call(12, &in_session(id, 6, &[])).error_code, FETCH_SESSION_ID_NOT_FOUND);
}

/// More sessions than the cache holds: the fetch is answered all the same, without a session.
#[test]
fn a_full_session_cache_falls_back_to_full_fetches() {
    let Some(broker) = Broker::own(&["max.incremental.fetch.session.cache.slots=2"]) else { return };
    let mut wire = broker.wire();
    let topic = topics::topic(&mut wire, 1);
    topics::write(&mut wire, &topic, 0, &["a"]);
    for i in 0..5 {
        let response = wire.call(12, &in_session(0, 0, &[(&topic, 0, 0)]));
        assert_eq!((response.error_code, records(&response).len()), (0, 1));
        assert_eq!(response.session_id == 0, i >= 2, "session {i}");
    }
}

/// A reader of the whole topic crosses segment boundaries without a hole.
#[test]
fn a_read_crosses_segments() {
    let broker = Broker::start();
    let mut wire = broker.wire();
    let topic = topics::topic_with(&mut wire, 1, &[("segment.bytes", "1048576")]);
    let filler = "y".repeat(50_000);
    let mut expected = Vec::new();
    for i in 0..100 {
        let value = format!("{i} {filler}");
        topics::write(&mut wire, &topic, 0, &[&value]);
        expected.push(value);
    }
    assert!(topics::values(&mut wire, &topic, 0, 0) == expected, "five segments");
    assert!(topics::values(&mut wire, &topic, 0, 57) == expected[57..], "from the middle");
}

/// Old segments go when the topic is larger than it may be; readers are told by the log start offset.
#[test]
fn retention_by_size_moves_the_log_start() {
    let Some(broker) = Broker::own(&["log.retention.check.interval.ms=100"]) else { return };
    let mut wire = broker.wire();
    let topic = topics::topic_with(&mut wire, 1, &[("segment.bytes", "1048576"), ("retention.bytes", "2097152")]);
    let filler = "z".repeat(100_000);
    for _ in 0..60 {
        topics::write(&mut wire, &topic, 0, &[&filler]);
    }
    let start = eventually("old segments are gone", || {
        let start = topics::list_offset(&mut wire, &topic, 0, topics::EARLIEST).offset;
        (start >= 20).then_some(start)
    });
    assert!(start <= 40, "what may stay stays: {start}");
    assert_eq!(topics::fetch(&mut wire, &topic, 0, start - 1).error_code, OFFSET_OUT_OF_RANGE);
    assert_eq!(topics::values(&mut wire, &topic, 0, start).len(), 60 - usize::try_from(start).expect("offset"));
}

#[test]
fn retention_by_time_moves_the_log_start() {
    let Some(broker) = Broker::own(&["log.retention.check.interval.ms=100"]) else { return };
    let mut wire = broker.wire();
    let topic = topics::topic_with(&mut wire, 1, &[("retention.ms", "1000")]);
    let old = Batch::of(&["old"]).timestamp(1_000_000).build();
    assert_eq!(topics::produce(&mut wire, &topic, 0, old).error_code, 0);
    eventually("what is old is gone", || {
        (topics::list_offset(&mut wire, &topic, 0, topics::EARLIEST).offset == 1).then_some(())
    });
    assert_eq!(topics::write(&mut wire, &topic, 0, &["new"]), 1);
}

/// Compaction keeps the last value of each key, at the offset it always had.
#[test]
fn compaction_keeps_the_last_value_of_each_key() {
    let broker = Broker::start();
    let mut wire = broker.wire();
    let topic = topics::topic_with(
        &mut wire,
        1,
        &[
            ("cleanup.policy", "compact"),
            ("min.cleanable.dirty.ratio", "0.01"),
            ("segment.ms", "100"),
            ("delete.retention.ms", "0"),
        ],
    );
    let put = |wire: &mut _, key: &str, value: Option<&str>| {
        let response = topics::produce(wire, &topic, 0, Batch::new().record(Some(key), value, 0).build());
        assert_eq!(response.error_code, 0);
    };
    for round in 0..20 {
        for key in ["a", "b", "c"] {
            put(&mut wire, key, Some(&format!("{key}{round}")));
        }
    }
    put(&mut wire, "c", None);
    let left = eventually("old values are gone", || {
        // A record makes the active segment roll once it is old enough.
        put(&mut wire, "roll", Some("x"));
        let data = topics::fetch(&mut wire, &topic, 0, 0);
        let records = batch::read(&data.records.unwrap_or_default());
        (records.iter().filter(|r| r.key.as_deref() == Some(b"a")).count() == 1).then_some(records)
    });
    let a = left.iter().find(|r| r.key.as_deref() == Some(b"a")).expect("a");
    assert_eq!((a.offset, a.value.as_deref()), (57, Some(&b"a19"[..])));
    assert!(left.windows(2).all(|w| w[0].offset < w[1].offset), "offsets rise");
    assert!(!left.iter().any(|r| r.key.as_deref() == Some(b"c") && r.value.is_some()), "what was deleted is gone");
}
