//! Offsets of streams groups (KIP-1071): who may commit, in a transaction or not, and what may be deleted.

use kafka_protocol::messages::offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
use kafka_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use kafka_protocol::messages::{OffsetDeleteRequest, TxnOffsetCommitRequest};

use crate::groups::{coordinator, group};
use crate::harness::broker::Broker;
use crate::harness::streams_member::{beat, call, join, topology};
use crate::harness::topics::{self, name};
use crate::harness::wire::Wire;
use crate::harness::{eventually, text, unique};
use crate::markers::{PASSING, Producer};
use crate::offsets::{commit, committed};

const ILLEGAL_GENERATION: i16 = 22;
const UNKNOWN_MEMBER_ID: i16 = 25;
const UNSUPPORTED_VERSION: i16 = 35;
const GROUP_ID_NOT_FOUND: i16 = 69;
const GROUP_SUBSCRIBED_TO_TOPIC: i16 = 86;
const STALE_MEMBER_EPOCH: i16 = 113;

const MEMBER: &str = "m";

/// A group with one member that has every task; gives its epoch.
fn settled(wire: &mut Wire, of: &str, topic: &str) -> i32 {
    coordinator(wire, of);
    let first = call(wire, &join(of, MEMBER, topology(of, topic)));
    assert_eq!(first.error_code, 0, "{first:?}");
    let (mut epoch, mut tasks) = (first.member_epoch, first.active_tasks.unwrap_or_default());
    eventually("it has every task", || {
        let mut said = beat(of, MEMBER, epoch);
        (said.active_tasks, said.standby_tasks, said.warmup_tasks) =
            (Some(tasks.clone()), Some(Vec::new()), Some(Vec::new()));
        let told = call(wire, &said);
        assert_eq!(told.error_code, 0, "{told:?}");
        epoch = told.member_epoch;
        tasks = told.active_tasks.unwrap_or_else(|| tasks.clone());
        (tasks.iter().map(|of| of.partitions.len()).sum::<usize>() == 5).then_some(())
    });
    epoch
}

#[test]
fn offsets_of_streams_groups_are_committed_by_their_members() {
    let broker = Broker::start_with(crate::streams_groups::AT_ONCE);
    let mut wire = broker.wire();
    let (of, topic) = (unique("app"), topics::topic(&mut wire, 2));
    let other = topics::topic(&mut wire, 1);
    let epoch = settled(&mut wire, &of, &topic);
    let mut outcome = |version, member: &str, epoch: i32, topic: &str| {
        let request = commit(&of, topic, 0, 7).with_member_id(text(member)).with_generation_id_or_member_epoch(epoch);
        wire.call(version, &request).topics[0].partitions[0].error_code
    };
    assert_eq!(outcome(9, MEMBER, epoch, &topic), 0);
    assert_eq!(outcome(9, MEMBER, epoch, &other), 0, "of the present epoch nobody asks what it reads");
    assert_eq!(outcome(9, MEMBER, epoch + 1, &topic), STALE_MEMBER_EPOCH);
    // It has had its tasks only since a later one.
    assert_eq!(outcome(9, MEMBER, epoch - 1, &other), STALE_MEMBER_EPOCH);
    assert_eq!(outcome(9, MEMBER, 0, &topic), STALE_MEMBER_EPOCH);
    assert_eq!(outcome(9, MEMBER, -1, &topic), STALE_MEMBER_EPOCH);
    assert_eq!(outcome(9, "x", epoch, &topic), UNKNOWN_MEMBER_ID);
    assert_eq!(outcome(9, "", -1, &topic), UNKNOWN_MEMBER_ID, "it has a member");
    assert_eq!(outcome(9, "", epoch, &topic), UNKNOWN_MEMBER_ID);
    assert_eq!(outcome(8, MEMBER, epoch, &topic), UNSUPPORTED_VERSION);
    assert_eq!(outcome(8, "x", epoch, &topic), UNKNOWN_MEMBER_ID);
    assert_eq!(committed(&mut wire, &of, &topic, 0).0, 7);
    // Without members anybody may who names no epoch.
    assert_eq!(call(&mut wire, &beat(&of, MEMBER, -1)).error_code, 0);
    let mut outcome = |epoch: i32, offset| {
        let request = commit(&of, &topic, 0, offset).with_generation_id_or_member_epoch(epoch);
        wire.call(9, &request).topics[0].partitions[0].error_code
    };
    assert_eq!(outcome(-1, 9), 0);
    assert_eq!(outcome(epoch, 10), UNKNOWN_MEMBER_ID);
    assert_eq!(committed(&mut wire, &of, &topic, 0).0, 9);
}

#[test]
fn offsets_of_streams_groups_are_committed_with_transactions() {
    let broker = Broker::start_with(crate::streams_groups::AT_ONCE);
    let mut wire = broker.wire();
    let (of, topic) = (unique("app"), topics::topic(&mut wire, 2));
    let epoch = settled(&mut wire, &of, &topic);
    let producer = Producer::new(&mut wire);
    let mut outcome = |member: &str, epoch: i32| {
        let row = TxnOffsetCommitRequestPartition::default()
            .with_partition_index(0)
            .with_committed_offset(7)
            .with_committed_leader_epoch(-1);
        let topic = TxnOffsetCommitRequestTopic::default().with_name(name(&topic)).with_partitions(vec![row]);
        let request = TxnOffsetCommitRequest::default()
            .with_transactional_id(producer.transactional.clone())
            .with_group_id(group(&of))
            .with_producer_id(producer.id.into())
            .with_producer_epoch(producer.epoch)
            .with_generation_id(epoch)
            .with_member_id(text(member))
            .with_topics(vec![topic]);
        eventually("the commit is taken or refused", || {
            let error = wire.call(5, &request).topics[0].partitions[0].error_code;
            (!PASSING.contains(&error)).then_some(error)
        })
    };
    assert_eq!(outcome(MEMBER, epoch), 0);
    assert_eq!(outcome("", -1), 0, "who it is need not be said");
    assert_eq!(outcome(MEMBER, epoch + 1), ILLEGAL_GENERATION);
    assert_eq!(outcome(MEMBER, 0), ILLEGAL_GENERATION);
    assert_eq!(outcome(MEMBER, -1), ILLEGAL_GENERATION);
    assert_eq!(outcome("x", epoch), UNKNOWN_MEMBER_ID);
    assert_eq!(outcome("", epoch), UNKNOWN_MEMBER_ID);
    producer.end(&mut wire, true);
    eventually("the marker", || (committed(&mut wire, &of, &topic, 0).0 == 7).then_some(()));
}

#[test]
fn offsets_of_streams_groups_are_deleted_where_nobody_reads() {
    let broker = Broker::start_with(crate::streams_groups::AT_ONCE);
    let mut wire = broker.wire();
    let (of, topic) = (unique("app"), topics::topic(&mut wire, 2));
    let other = topics::topic(&mut wire, 1);
    let again = format!("{of}-again");
    let deleted = |wire: &mut Wire, topic: &str| {
        let row = OffsetDeleteRequestPartition::default().with_partition_index(0);
        let topic = OffsetDeleteRequestTopic::default().with_name(name(topic)).with_partitions(vec![row]);
        let told = wire.call(0, &OffsetDeleteRequest::default().with_group_id(group(&of)).with_topics(vec![topic]));
        (told.error_code, told.topics.first().map(|topic| topic.partitions[0].error_code))
    };
    coordinator(&mut wire, &of);
    assert_eq!(deleted(&mut wire, &topic), (GROUP_ID_NOT_FOUND, None));
    let epoch = settled(&mut wire, &of, &topic);
    for topic in [&topic, &other] {
        let request = commit(&of, topic, 0, 7).with_member_id(text(MEMBER)).with_generation_id_or_member_epoch(epoch);
        assert_eq!(wire.call(9, &request).topics[0].partitions[0].error_code, 0);
    }
    assert_eq!(deleted(&mut wire, &topic), (0, Some(GROUP_SUBSCRIBED_TO_TOPIC)));
    assert_eq!(deleted(&mut wire, &again), (0, Some(GROUP_SUBSCRIBED_TO_TOPIC)), "what it writes again it reads");
    assert_eq!(deleted(&mut wire, &other), (0, Some(0)));
    assert_eq!((committed(&mut wire, &of, &topic, 0).0, committed(&mut wire, &of, &other, 0).0), (7, -1));
    assert_eq!(call(&mut wire, &beat(&of, MEMBER, -1)).error_code, 0);
    assert_eq!(deleted(&mut wire, &topic), (0, Some(0)), "nobody reads any more");
    assert_eq!(committed(&mut wire, &of, &topic, 0).0, -1);
}
