//! What is stored has Kafka's form, byte by byte: these are the bytes that the classes of Kafka 4.3.1 make.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::super::consumer::TargetEpoch;
use super::super::super::ids::{ClientHost, ClientId, GroupId, InstanceId, MemberId};
use super::super::super::record::{Record, StreamsChange};
use super::super::{
    CopartitionGroup, Endpoint, HeldTasks, NOT_VALIDATED, StreamsCurrent, StreamsEpoch, StreamsMemberState,
    StreamsSubscription, Subtopology, TasksSince, TopicInfo, Topology,
};
use super::{pairs, task_set, tasks};
use crate::types::Timestamp;

fn member() -> MemberId {
    MemberId::new("m").unwrap()
}

fn of_member(kind: u8) -> Vec<u8> {
    vec![0, kind, 0, 1, b'g', 0, 1, b'm']
}

fn of_group(kind: u8) -> Vec<u8> {
    vec![0, kind, 0, 1, b'g']
}

fn decoded(key: &[u8], value: &[u8]) -> StreamsChange {
    match Record::decode(key, Some(value)).unwrap() {
        Some(Record::Streams { change, .. }) => change,
        other => panic!("{other:?}"),
    }
}

fn holds(change: StreamsChange, key: &[u8], value: &[u8]) {
    let record = Record::Streams { group: GroupId::new("g").unwrap(), change };
    let encoded = record.encode();
    assert_eq!((&encoded.key[..], encoded.value.as_deref()), (key, Some(value)), "{record:?}");
    assert_eq!(Record::decode(key, Some(value)).unwrap().as_ref(), Some(&record));
    for end in 0..value.len() {
        assert!(Record::decode(key, value.get(..end)).is_err(), "{record:?} cut at {end}");
    }
}

#[test]
fn tombstones_are_read() {
    let group = || GroupId::new("g").unwrap();
    let gone = [
        (of_group(17), StreamsChange::Group(None)),
        (of_member(19), StreamsChange::Member(member(), None)),
        (of_group(20), StreamsChange::TargetEpoch(None)),
        (of_member(21), StreamsChange::Target(member(), None)),
        (of_member(22), StreamsChange::Current(member(), None)),
        (of_group(23), StreamsChange::Topology(None)),
    ];
    for (key, change) in gone {
        assert!(change.is_tombstone());
        let record = Record::Streams { group: group(), change };
        assert_eq!(Record::decode(&key, None).unwrap(), Some(record.clone()));
        assert_eq!((&record.encode().key[..], record.encode().value), (&key[..], None));
    }
}

#[test]
fn epochs_have_kafkas_form() {
    let epoch = |validated_topology_epoch, configs| StreamsEpoch {
        epoch: 3,
        metadata_hash: 258,
        validated_topology_epoch,
        configs: Arc::new(configs),
    };
    let head = [0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 1, 2];
    let configs = [1, 6, 2, 2, b'k', 2, b'v', 0];
    let value = [&head[..], &[2, 0, 4, 0, 0, 0, 5], &configs].concat();
    holds(StreamsChange::Group(Some(epoch(5, pairs(&[("k", "v")])))), &of_group(17), &value);
    // What is as it is without being said is left out; null, which may be said of the settings, is nothing.
    let value = [&head[..], &[0]].concat();
    let change = StreamsChange::Group(Some(epoch(NOT_VALIDATED, BTreeMap::new())));
    holds(change.clone(), &of_group(17), &value);
    assert_eq!(decoded(&of_group(17), &[&head[..], &[1, 1, 1, 0]].concat()), change);
    let target_epoch = TargetEpoch { epoch: 4, at: Timestamp(5) };
    let value = [0, 0, 0, 0, 0, 4, 1, 0, 8, 0, 0, 0, 0, 0, 0, 0, 5];
    holds(StreamsChange::TargetEpoch(Some(target_epoch)), &of_group(20), &value);
}

#[test]
fn members_have_kafkas_form() {
    let said = StreamsSubscription {
        instance: Some(InstanceId::new("i").unwrap()),
        rack: Some("r".into()),
        client_id: ClientId::new("c").unwrap(),
        client_host: ClientHost::new("/h").unwrap(),
        rebalance_timeout_ms: 259,
        topology_epoch: 1,
        process: "p".into(),
        endpoint: Some(Endpoint { host: "e".into(), port: 65_535 }),
        tags: Arc::new(pairs(&[("k", "v")])),
    };
    let value = [
        &[0, 0, 2, b'i', 2, b'r', 2, b'c', 3, b'/', b'h', 0, 0, 1, 3, 0, 0, 0, 1, 2, b'p'][..],
        &[1, 2, b'e', 0xff, 0xff, 0],
        &[2, 2, b'k', 2, b'v', 0, 0],
    ]
    .concat();
    holds(StreamsChange::Member(member(), Some(Arc::new(said.clone()))), &of_member(19), &value);
    let said = StreamsSubscription { instance: None, rack: None, endpoint: None, tags: Arc::default(), ..said };
    let value = [0, 0, 0, 0, 2, b'c', 3, b'/', b'h', 0, 0, 1, 3, 0, 0, 0, 1, 2, b'p', 0xff, 1, 0];
    holds(StreamsChange::Member(member(), Some(Arc::new(said))), &of_member(19), &value);
}

#[test]
fn tasks_have_kafkas_form() {
    let target = tasks("0_1,0_2/1_3/");
    let value =
        [&[0, 0, 2, 2, b'0', 3, 0, 0, 0, 1, 0, 0, 0, 2, 0][..], &[2, 2, b'1', 2, 0, 0, 0, 3, 0], &[1, 0]].concat();
    holds(StreamsChange::Target(member(), Some(Arc::new(target))), &of_member(21), &value);
    let since = |id: &str, epochs: &[(i32, i32)]| TasksSince::from([(id.into(), epochs.iter().copied().collect())]);
    let current = StreamsCurrent {
        epoch: 4,
        previous_epoch: 3,
        state: StreamsMemberState::UnrevokedTasks,
        assigned: HeldTasks { active: since("0", &[(1, 2)]), standby: task_set("1_3"), warmup: task_set("2_4") },
        revoking: HeldTasks { active: since("5", &[(6, 3)]), ..HeldTasks::default() },
    };
    let value = [
        &[0, 0, 0, 0, 0, 4, 0, 0, 0, 3, 2][..],
        &[2, 2, b'0', 2, 0, 0, 0, 1, 1, 0, 5, 2, 0, 0, 0, 2],
        &[2, 2, b'1', 2, 0, 0, 0, 3, 0],
        &[2, 2, b'2', 2, 0, 0, 0, 4, 0],
        &[2, 2, b'5', 2, 0, 0, 0, 6, 1, 0, 5, 2, 0, 0, 0, 3],
        &[1, 1, 0],
    ]
    .concat();
    holds(StreamsChange::Current(member(), Some(current)), &of_member(22), &value);
    // Without the epochs of its tasks: the member's.
    let value = [&[0, 0, 0, 0, 0, 4, 0, 0, 0, 3, 1][..], &[2, 2, b'0', 2, 0, 0, 0, 1, 0], &[1, 1, 1, 1, 1, 0]].concat();
    let StreamsChange::Current(_, Some(current)) = decoded(&of_member(22), &value) else { panic!() };
    assert_eq!(current.assigned.active, since("0", &[(1, 4)]));
}

#[test]
fn topologies_have_kafkas_form() {
    let topic = |name: &str, partitions, replication_factor, configs: &[(&str, &str)]| TopicInfo {
        name: name.into(),
        partitions,
        replication_factor,
        configs: configs.iter().map(|(key, value)| (Arc::from(*key), Arc::from(*value))).collect(),
    };
    let part = Subtopology {
        source_topics: vec!["b".into(), "a".into()],
        source_patterns: vec!["x.*".into()],
        changelogs: vec![topic("l", 0, 3, &[("k", "v")])],
        repartition_sinks: vec!["s".into()],
        repartition_sources: vec![topic("q", 2, 0, &[])],
        copartition_groups: vec![CopartitionGroup {
            source_topics: vec![0, 1],
            source_patterns: vec![0],
            repartition_sources: vec![0],
        }],
    };
    let topology = Topology { epoch: 7, subtopologies: BTreeMap::from([("0".into(), part)]) };
    let value = [
        &[0, 0, 0, 0, 0, 7, 2, 2, b'0'][..],
        &[3, 2, b'b', 2, b'a', 2, 4, b'x', b'.', b'*'],
        &[2, 2, b'l', 0, 0, 0, 0, 0, 3, 2, 2, b'k', 2, b'v', 0, 0],
        &[2, 2, b's'],
        &[2, 2, b'q', 0, 0, 0, 2, 0, 0, 1, 0],
        &[2, 3, 0, 0, 0, 1, 2, 0, 0, 2, 0, 0, 0],
        &[0, 0],
    ]
    .concat();
    holds(StreamsChange::Topology(Some(Arc::new(topology))), &of_group(23), &value);
}
