//! Records as Kafka writes them, byte by byte, and the hash of topics.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use uuid::Uuid;

use super::{names, topics};
use crate::coordinator::group::consumer::{
    ClassicFace, Current, Epoch, KnownTopic, MemberState, Resolved, Subscription, TargetEpoch, Topics,
};
use crate::coordinator::group::{
    ClientHost, ClientId, ConsumerChange, GroupId, InstanceId, MemberId, Protocol, ProtocolName, Record,
};
use crate::types::{Timestamp, TopicId, TopicName};

fn record(change: ConsumerChange) -> Record {
    Record::Consumer { group: GroupId::new("g").unwrap(), change }
}

/// The record comes back, and the value is this.
#[track_caller]
fn check(change: ConsumerChange, key: &[u8], value: Option<&[u8]>) {
    let record = record(change);
    let encoded = record.encode();
    assert_eq!((&encoded.key[..], encoded.value.as_deref()), (key, value));
    assert_eq!(Record::decode(&encoded.key, encoded.value.as_deref()), Ok(Some(record)));
}

fn member() -> MemberId {
    MemberId::new("m").unwrap()
}

const TOPIC: TopicId = TopicId(Uuid::from_u128(7));

#[test]
fn a_group_is_stored_as_kafka_does() {
    check(
        ConsumerChange::Group(Some(Epoch { epoch: 5, metadata_hash: 0 })),
        b"\0\x03\0\x01g",
        Some(b"\0\0\0\0\0\x05\0"),
    );
    check(
        ConsumerChange::Group(Some(Epoch { epoch: 5, metadata_hash: 258 })),
        b"\0\x03\0\x01g",
        Some(b"\0\0\0\0\0\x05\x01\0\x08\0\0\0\0\0\0\x01\x02"),
    );
    check(ConsumerChange::Group(None), b"\0\x03\0\x01g", None);
    check(ConsumerChange::PartitionsGone, b"\0\x04\0\x01g", None);
    check(
        ConsumerChange::TargetEpoch(Some(TargetEpoch { epoch: 1, at: Timestamp(2) })),
        b"\0\x06\0\x01g",
        Some(b"\0\0\0\0\0\x01\x01\0\x08\0\0\0\0\0\0\0\x02"),
    );
    check(ConsumerChange::TargetEpoch(None), b"\0\x06\0\x01g", None);
}

#[test]
fn members_are_stored_as_kafka_does() {
    let plain = Subscription {
        instance: None,
        rack: None,
        client_id: ClientId::new("c").unwrap(),
        client_host: ClientHost::new("/h").unwrap(),
        topics: names(&["b", "a"]),
        pattern: None,
        rebalance_timeout_ms: 3,
        assignor: None,
        classic: None,
    };
    let value = b"\0\0\0\0\x02c\x03/h\x03\x02a\x02b\0\0\0\0\x03\0\0";
    check(ConsumerChange::Member(member(), Some(Arc::new(plain.clone()))), b"\0\x05\0\x01g\0\x01m", Some(value));
    let protocol = Protocol { name: ProtocolName::new("range").unwrap(), metadata: Bytes::from_static(b"xy") };
    let full = Subscription {
        instance: Some(InstanceId::new("i").unwrap()),
        rack: Some("r".into()),
        topics: names(&[]),
        pattern: Some("p".into()),
        assignor: Some("uniform".into()),
        classic: Some(ClassicFace { session_timeout_ms: 9, protocols: [protocol].into() }),
        ..plain
    };
    let value =
        b"\0\0\x02i\x02r\x02c\x03/h\x01\x02p\0\0\0\x03\x08uniform\x01\0\x11\x01\0\0\0\x09\x02\x06range\x03xy\0\0";
    check(ConsumerChange::Member(member(), Some(Arc::new(full))), b"\0\x05\0\x01g\0\x01m", Some(value));
    check(ConsumerChange::Member(member(), None), b"\0\x05\0\x01g\0\x01m", None);
}

#[test]
fn assignments_are_stored_as_kafka_does() {
    let target = Arc::new(BTreeMap::from([(TOPIC, BTreeSet::from([0, 2]))]));
    let value = b"\0\0\x02\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x07\x03\0\0\0\0\0\0\0\x02\0\0";
    check(ConsumerChange::Target(member(), Some(target)), b"\0\x07\0\x01g\0\x01m", Some(value));
    check(ConsumerChange::Target(member(), None), b"\0\x07\0\x01g\0\x01m", None);
    let current = Current {
        epoch: 4,
        previous_epoch: 3,
        state: MemberState::UnreleasedPartitions,
        assigned: BTreeMap::from([(TOPIC, BTreeMap::from([(1, 2)]))]),
        revoking: BTreeMap::new(),
    };
    let value = b"\0\0\0\0\0\x04\0\0\0\x03\x02\x02\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x07\x02\0\0\0\x01\x01\0\x05\x02\0\0\0\x02\x01\0";
    check(ConsumerChange::Current(member(), Some(current)), b"\0\x08\0\x01g\0\x01m", Some(value));
    check(ConsumerChange::Current(member(), None), b"\0\x08\0\x01g\0\x01m", None);
    let resolved = Resolved { topics: names(&["t"]), version: 1, at: Timestamp(2) };
    let value = b"\0\0\x02\x02t\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x02\0";
    check(ConsumerChange::Pattern("t.*".into(), Some(resolved)), b"\0\x10\0\x01g\0\x03t.*", Some(value));
    check(ConsumerChange::Pattern("t.*".into(), None), b"\0\x10\0\x01g\0\x03t.*", None);
}

#[test]
fn damaged_values_are_refused() {
    let encoded =
        record(ConsumerChange::Target(member(), Some(Arc::new(BTreeMap::from([(TOPIC, BTreeSet::from([0, 2]))])))))
            .encode();
    let value = encoded.value.unwrap();
    for cut in 0..value.len() {
        assert!(Record::decode(&encoded.key, Some(&value[..cut])).is_err(), "cut at {cut}");
    }
    assert!(Record::decode(&encoded.key, Some(b"\0\x01")).is_err(), "a version of later");
}

/// What hash4j's XXH3, which Kafka uses, makes of the same.
#[test]
fn topics_are_hashed_as_kafka_does() {
    let id = TopicId(Uuid::from_u128(0x0001_0203_0405_0607_0809_0a0b_0c0d_0e0f));
    let name = TopicName::new("orders").unwrap();
    let plain = KnownTopic::new(id, name.clone(), &[Vec::new(), Vec::new()]);
    let racks = KnownTopic::new(id, name, &[vec!["b".into(), "a".into()], vec!["a".into()]]);
    assert_eq!((plain.hash, racks.hash), (HASH_PLAIN, HASH_RACKS));
    let both = Topics::new(1, [Arc::new(plain)], &topics(1, &[], &Topics::default()));
    assert_eq!(both.hash_of(&[Arc::from("orders"), Arc::from("missing")]), HASH_GROUP);
    assert_eq!(both.hash_of(&[Arc::from("missing")]), 0);
}

const HASH_PLAIN: i64 = 1_502_989_681_467_347_195;
const HASH_RACKS: i64 = -745_485_288_077_027_768;
const HASH_GROUP: i64 = 3_433_511_394_066_070_737;
