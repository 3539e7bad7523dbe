//! TxnOffsetCommit: offsets that are committed with a transaction, or not at all.

use kafka_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use kafka_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use kafka_protocol::messages::{AddOffsetsToTxnRequest, OffsetFetchRequest, TxnOffsetCommitRequest};

use crate::groups::{coordinator, group};
use crate::harness::broker::Broker;
use crate::harness::topics::{self, name};
use crate::harness::wire::Wire;
use crate::harness::{eventually, text, unique};
use crate::markers::{PASSING, Producer, all_committed, last_stable};

const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const ILLEGAL_GENERATION: i16 = 22;
const INVALID_GROUP_ID: i16 = 24;
const UNKNOWN_MEMBER_ID: i16 = 25;
const INVALID_PRODUCER_EPOCH: i16 = 47;
const INVALID_TXN_STATE: i16 = 48;
const UNSTABLE_OFFSET_COMMIT: i16 = 88;
const TRANSACTION_ABORTABLE: i16 = 120;

fn offsets_request(producer: &Producer, of: &str, topic: &str, offset: i64) -> TxnOffsetCommitRequest {
    let partition = TxnOffsetCommitRequestPartition::default()
        .with_partition_index(0)
        .with_committed_offset(offset)
        .with_committed_leader_epoch(-1)
        .with_committed_metadata(Some(text("note")));
    TxnOffsetCommitRequest::default()
        .with_transactional_id(producer.transactional.clone())
        .with_group_id(group(of))
        .with_producer_id(producer.id.into())
        .with_producer_epoch(producer.epoch)
        .with_generation_id(-1)
        .with_topics(vec![
            TxnOffsetCommitRequestTopic::default().with_name(name(topic)).with_partitions(vec![partition]),
        ])
}

/// The error of the first partition; what passes is tried again.
fn commit(wire: &mut Wire, version: i16, request: &TxnOffsetCommitRequest) -> i16 {
    eventually("the commit is taken or refused", || {
        let error = wire.call(version, request).topics[0].partitions[0].error_code;
        (!PASSING.contains(&error)).then_some(error)
    })
}

/// What is committed, and whether it may be replaced.
fn committed(wire: &mut Wire, of: &str, topic: &str, require_stable: bool) -> (i64, i16) {
    let topics = OffsetFetchRequestTopics::default().with_name(name(topic)).with_partition_indexes(vec![0]);
    let of = OffsetFetchRequestGroup::default().with_group_id(group(of)).with_topics(Some(vec![topics]));
    let request = OffsetFetchRequest::default().with_groups(vec![of]).with_require_stable(require_stable);
    eventually("an answer of the coordinator", || {
        let told = &wire.call(8, &request).groups[0];
        assert!(told.error_code == 0 || PASSING.contains(&told.error_code), "error {}", told.error_code);
        let partition = told.topics.first()?.partitions.first()?;
        (told.error_code == 0).then_some((partition.committed_offset, partition.error_code))
    })
}

#[test]
fn txn_offset_commit() {
    let broker = Broker::start();
    let mut wire = broker.wire();
    let topic = topics::topic(&mut wire, 1);
    for version in 0..=*wire.versions::<TxnOffsetCommitRequest>().end() {
        let of = unique("group");
        coordinator(&mut wire, &of);
        let producer = Producer::new(&mut wire);
        let mut request = offsets_request(&producer, &of, &topic, 5);
        if version < 3 {
            request = request.with_member_id(text("")).with_group_instance_id(None);
        }
        if version < 5 {
            let error = commit(&mut wire, version, &request);
            let expected = if version == 4 { TRANSACTION_ABORTABLE } else { INVALID_TXN_STATE };
            assert_eq!(error, expected, "version {version}: the group is not part of the transaction");
            let add = AddOffsetsToTxnRequest::default()
                .with_transactional_id(producer.transactional.clone())
                .with_producer_id(producer.id.into())
                .with_producer_epoch(producer.epoch)
                .with_group_id(group(&of));
            eventually("the group is added", || {
                let error = wire.call(3, &add).error_code;
                assert!(error == 0 || PASSING.contains(&error), "error {error}");
                (error == 0).then_some(())
            });
        }
        assert_eq!(commit(&mut wire, version, &request), 0, "version {version}");
        assert_eq!(committed(&mut wire, &of, &topic, false), (-1, 0));
        assert_eq!(committed(&mut wire, &of, &topic, true), (-1, UNSTABLE_OFFSET_COMMIT));
        producer.end(&mut wire, version % 2 == 0);
        let expected = if version % 2 == 0 { (5, 0) } else { (-1, 0) };
        eventually("the marker", || (committed(&mut wire, &of, &topic, true) == expected).then_some(()));
        // A producer of the past.
        let old = request.clone().with_producer_epoch(-1);
        let error = commit(&mut wire, version, &old);
        assert!([INVALID_PRODUCER_EPOCH, INVALID_TXN_STATE, TRANSACTION_ABORTABLE].contains(&error), "error {error}");
    }
}

#[test]
fn offsets_of_a_transaction_are_checked_as_those_of_others() {
    let broker = Broker::start();
    let mut wire = broker.wire();
    let topic = topics::topic(&mut wire, 1);
    let of = unique("group");
    coordinator(&mut wire, &of);
    let producer = Producer::new(&mut wire);
    let request = offsets_request(&producer, &of, &topic, 5);
    assert_eq!(commit(&mut wire, 5, &request.clone().with_group_id(group(""))), INVALID_GROUP_ID);
    assert_eq!(commit(&mut wire, 5, &offsets_request(&producer, &of, "missing", 5)), UNKNOWN_TOPIC_OR_PARTITION);
    assert_eq!(commit(&mut wire, 5, &request.clone().with_generation_id(3)), ILLEGAL_GENERATION);
    assert_eq!(commit(&mut wire, 5, &request), 0);
    let member = request.with_generation_id(3).with_member_id(text("nobody"));
    assert_eq!(commit(&mut wire, 5, &member), UNKNOWN_MEMBER_ID);
    producer.end(&mut wire, false);
}

/// What is under way stays so over a crash, in partitions and in groups.
#[test]
fn a_transaction_goes_on_after_a_kill() {
    let Some(mut broker) = Broker::own(&[]) else { return };
    let mut wire = broker.wire();
    let topic = topics::topic(&mut wire, 1);
    let of = unique("group");
    coordinator(&mut wire, &of);
    let mut producer = Producer::new(&mut wire);
    for (round, committed_too) in [true, false, true].into_iter().enumerate() {
        producer.add(&mut wire, &topic, 0);
        let first = producer.send(&mut wire, &topic, 0, &format!("round {round}"));
        let offset = i64::try_from(round).expect("small") + 1;
        assert_eq!(commit(&mut wire, 5, &offsets_request(&producer, &of, &topic, offset)), 0);
        let before = committed(&mut wire, &of, &topic, false).0;
        broker.kill();
        broker.restart();
        wire = broker.wire();
        assert_eq!(last_stable(&mut wire, &topic), first);
        assert_eq!(committed(&mut wire, &of, &topic, true).1, UNSTABLE_OFFSET_COMMIT);
        assert_eq!(committed(&mut wire, &of, &topic, false), (before, 0));
        producer.end(&mut wire, committed_too);
        eventually("the marker", || (last_stable(&mut wire, &topic) == first + 2).then_some(()));
        let expected = if committed_too { offset } else { before };
        eventually("the group's marker", || (committed(&mut wire, &of, &topic, true) == (expected, 0)).then_some(()));
        broker.kill();
        broker.restart();
        wire = broker.wire();
        assert_eq!(committed(&mut wire, &of, &topic, true), (expected, 0));
    }
    assert_eq!(all_committed(&mut wire, &topic), ["round 0", "round 2"]);
}
