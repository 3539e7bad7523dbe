//! Consumer groups of the new protocol (KIP-848): ConsumerGroupHeartbeat, ConsumerGroupDescribe, and rdkafka's
//! consumers that speak it.

use std::collections::BTreeSet;

use kafka_protocol::messages::consumer_group_describe_response::DescribedGroup;
use kafka_protocol::messages::consumer_group_heartbeat_request::TopicPartitions;
use kafka_protocol::messages::consumer_group_heartbeat_response::ConsumerGroupHeartbeatResponse;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use kafka_protocol::messages::{
    ConsumerGroupDescribeRequest, ConsumerGroupHeartbeatRequest, DeleteGroupsRequest, ListGroupsRequest,
    OffsetCommitRequest, OffsetFetchRequest,
};
use uuid::Uuid;

use crate::consumers::{Log, Member, assert_complete, await_shared, await_values, produce};
use crate::groups::{coordinator, group};
use crate::harness::broker::Broker;
use crate::harness::nodes::Nodes;
use crate::harness::topics::{self, creatable, name, topic_id};
use crate::harness::wire::Wire;
use crate::harness::{eventually, text, unique};

const UNKNOWN_MEMBER_ID: i16 = 25;
const INVALID_REQUEST: i16 = 42;
const NON_EMPTY_GROUP: i16 = 68;
const GROUP_ID_NOT_FOUND: i16 = 69;
const FENCED_MEMBER_EPOCH: i16 = 110;
const UNSUPPORTED_ASSIGNOR: i16 = 112;
const STALE_MEMBER_EPOCH: i16 = 113;
const INVALID_REGULAR_EXPRESSION: i16 = 128;

const NEW: [(&str, &str); 1] = [("group.protocol", "consumer")];

/// A first heartbeat.
fn join(of: &str, member: &str, topics: &[&str]) -> ConsumerGroupHeartbeatRequest {
    beat(of, member, 0)
        .with_rebalance_timeout_ms(30_000)
        .with_subscribed_topic_names(Some(topics.iter().map(|topic| name(topic)).collect()))
        .with_topic_partitions(Some(Vec::new()))
}

fn beat(of: &str, member: &str, epoch: i32) -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest::default()
        .with_group_id(group(of))
        .with_member_id(text(member))
        .with_member_epoch(epoch)
        .with_rebalance_timeout_ms(-1)
}

fn owning(request: ConsumerGroupHeartbeatRequest, topic: Uuid, partitions: &[i32]) -> ConsumerGroupHeartbeatRequest {
    let owned = TopicPartitions::default().with_topic_id(topic).with_partitions(partitions.to_vec());
    request.with_topic_partitions(Some(vec![owned]))
}

/// The partitions that an answer gives, all of one topic.
fn given(answer: &ConsumerGroupHeartbeatResponse) -> Option<Vec<i32>> {
    let assignment = answer.assignment.as_ref()?;
    Some(assignment.topic_partitions.iter().flat_map(|topic| topic.partitions.clone()).collect())
}

fn describe(wire: &mut Wire, of: &str) -> DescribedGroup {
    let asked = ConsumerGroupDescribeRequest::default().with_group_ids(vec![group(of)]);
    wire.call(1, &asked).groups.remove(0)
}

#[test]
fn consumer_group_heartbeat() {
    let broker = Broker::start();
    let mut wire = broker.wire();
    for version in wire.versions::<ConsumerGroupHeartbeatRequest>() {
        let of = unique("group");
        let topic = topics::topic(&mut wire, 2);
        let id = topic_id(&mut wire, &topic);
        coordinator(&mut wire, &of);
        let code = |wire: &mut Wire, request: &ConsumerGroupHeartbeatRequest| wire.call(version, request).error_code;
        assert_eq!(code(&mut wire, &beat(&of, "m1", 1)), GROUP_ID_NOT_FOUND);
        assert_eq!(code(&mut wire, &beat(&of, "m1", 0)), INVALID_REQUEST);
        let other = join(&of, "m1", &[&topic]).with_server_assignor(Some(text("other")));
        assert_eq!(code(&mut wire, &other), UNSUPPORTED_ASSIGNOR);
        let first = wire.call(version, &join(&of, "m1", &[&topic]));
        assert_eq!((first.error_code, first.member_epoch, given(&first)), (0, 2, Some(vec![0, 1])), "{first:?}");
        assert_eq!(first.heartbeat_interval_ms, 5_000);
        assert_eq!(code(&mut wire, &beat(&of, "m1", 7)), FENCED_MEMBER_EPOCH);
        assert_eq!(code(&mut wire, &beat(&of, "m2", 2)), UNKNOWN_MEMBER_ID);
        // Without an id of its own a member of the first version gets one.
        let second = if version == 0 { "" } else { "m2" };
        let second = wire.call(version, &join(&of, second, &[&topic]));
        assert_eq!((second.error_code, given(&second)), (0, Some(vec![])));
        let mut epoch = second.member_epoch;
        let second = second.member_id.expect("an id").to_string();
        eventually("the first one is told to give one up", || {
            let answer = wire.call(version, &beat(&of, "m1", 2));
            assert_eq!(answer.error_code, 0);
            given(&answer).map(|left| assert_eq!(left.len(), 1))
        });
        let left = describe(&mut wire, &of).members.into_iter().find(|member| &*member.member_id == "m1");
        let left = left.expect("a member").target_assignment.topic_partitions.remove(0).partitions;
        let released = wire.call(version, &owning(beat(&of, "m1", 2), id, &left));
        assert_eq!((released.error_code, released.member_epoch), (0, 3));
        eventually("the second one has it", || {
            let answer = wire.call(version, &owning(beat(&of, &second, epoch), id, &[]));
            assert_eq!(answer.error_code, 0);
            epoch = answer.member_epoch;
            given(&answer).filter(|given| given.len() == 1)
        });
        for member in ["m1", &second] {
            assert_eq!(wire.call(version, &beat(&of, member, -1)).member_epoch, -1);
        }
    }
    let of = unique("group");
    coordinator(&mut wire, &of);
    let pattern = join(&of, "m", &[]).with_subscribed_topic_regex(Some(text("(")));
    assert_eq!(wire.call(1, &pattern).error_code, INVALID_REGULAR_EXPRESSION);
}

#[test]
fn consumer_group_describe() {
    let broker = Broker::start();
    let mut wire = broker.wire();
    let (of, topic) = (unique("group"), topics::topic(&mut wire, 2));
    coordinator(&mut wire, &of);
    for version in wire.versions::<ConsumerGroupDescribeRequest>() {
        let asked = ConsumerGroupDescribeRequest::default().with_group_ids(vec![group(&unique("group"))]);
        assert_eq!(wire.call(version, &asked).groups[0].error_code, GROUP_ID_NOT_FOUND);
        assert_eq!(wire.call(1, &join(&of, "m", &[&topic])).error_code, 0);
        let asked = ConsumerGroupDescribeRequest::default().with_group_ids(vec![group(&of)]);
        let told = wire.call(version, &asked).groups.remove(0);
        assert_eq!((told.error_code, &*told.group_state, told.group_epoch), (0, "Stable", 2), "{told:?}");
        assert_eq!((&*told.assignor_name, told.members.len()), ("uniform", 1));
        let member = &told.members[0];
        assert_eq!((&*member.member_id, member.member_epoch), ("m", 2));
        assert_eq!(member.assignment, member.target_assignment);
        assert_eq!(member.assignment.topic_partitions[0].partitions, [0, 1]);
        assert_eq!(member.member_type, if version >= 1 { 1 } else { -1 });
    }
    let listed = wire.call(5, &ListGroupsRequest::default().with_types_filter(vec![text("consumer")]));
    let row = listed.groups.iter().find(|row| *row.group_id == text(&of)).expect("it is listed");
    assert_eq!((&*row.group_type, &*row.group_state, &*row.protocol_type), ("consumer", "Stable", "consumer"));
    let delete = DeleteGroupsRequest::default().with_groups_names(vec![group(&of)]);
    assert_eq!(wire.call(2, &delete).results[0].error_code, NON_EMPTY_GROUP);
    assert_eq!(wire.call(1, &beat(&of, "m", -1)).error_code, 0);
    assert_eq!(describe(&mut wire, &of).group_state, text("Empty"));
    assert_eq!(wire.call(2, &delete).results[0].error_code, 0);
    assert_eq!(describe(&mut wire, &of).error_code, GROUP_ID_NOT_FOUND);
}

/// What became of a commit, and the offset that is told then.
fn commit(wire: &mut Wire, of: &str, topic: &str, epoch: i32) -> (i16, i16) {
    let partition = OffsetCommitRequestPartition::default().with_partition_index(0).with_committed_offset(42);
    let committed = OffsetCommitRequestTopic::default().with_name(name(topic)).with_partitions(vec![partition]);
    let request = OffsetCommitRequest::default()
        .with_group_id(group(of))
        .with_member_id(text("m"))
        .with_generation_id_or_member_epoch(epoch)
        .with_topics(vec![committed]);
    let fetch = OffsetFetchRequestGroup::default()
        .with_group_id(group(of))
        .with_member_id(Some(text("m")))
        .with_member_epoch(epoch)
        .with_topics(None);
    let done = wire.call(9, &request).topics[0].partitions[0].error_code;
    let fetched = wire.call(9, &OffsetFetchRequest::default().with_groups(vec![fetch]));
    (done, fetched.groups[0].error_code)
}

#[test]
fn a_group_goes_on_after_a_kill() {
    let Some(mut broker) = Broker::own(&[]) else { return };
    let mut wire = broker.wire();
    let (of, topic) = (unique("group"), topics::topic(&mut wire, 2));
    coordinator(&mut wire, &of);
    assert_eq!(wire.call(1, &join(&of, "m", &[&topic])).error_code, 0);
    assert_eq!(commit(&mut wire, &of, &topic, 2), (0, 0));
    assert_eq!(commit(&mut wire, &of, &topic, 3), (STALE_MEMBER_EPOCH, STALE_MEMBER_EPOCH));
    let before = describe(&mut wire, &of);
    broker.kill();
    broker.restart();
    let mut wire = broker.wire();
    coordinator(&mut wire, &of);
    assert_eq!(describe(&mut wire, &of), before);
    let answer = wire.call(1, &beat(&of, "m", 2));
    assert_eq!((answer.error_code, answer.member_epoch, given(&answer)), (0, 2, None), "nothing has changed");
    assert_eq!(commit(&mut wire, &of, &topic, 2), (0, 0));
}

#[test]
fn a_group_goes_on_when_its_coordinator_dies() {
    let Some(mut nodes) = Nodes::started(3, &[]) else { return };
    let of = unique("group");
    let wanted = creatable(&unique("topic"), 2, &[]).with_replication_factor(3);
    let topic = wanted.name.to_string();
    let create = kafka_protocol::messages::CreateTopicsRequest::default().with_timeout_ms(30_000);
    assert_eq!(nodes.wire(1).call(7, &create.with_topics(vec![wanted])).topics[0].error_code, 0);
    let home = crate::leadership::coordinator(&nodes, 1, &of);
    let home = usize::try_from(home).expect("a node id");
    let mut wire = nodes.wire(home);
    coordinator(&mut wire, &of);
    let joined = eventually("the topic is known to the coordinator", || {
        let answer = wire.call(1, &join(&of, "m", &[&topic]));
        assert_eq!(answer.error_code, 0);
        given(&answer).filter(|given| given.len() == 2).map(|_| answer.member_epoch)
    });
    nodes.kill(home);
    let asked = if home == 1 { 2 } else { 1 };
    let heir = eventually("another node coordinates the group", || {
        let now = usize::try_from(crate::leadership::coordinator(&nodes, asked, &of)).expect("a node id");
        (now != home).then_some(now)
    });
    let mut wire = nodes.wire(heir);
    let answer = eventually("the member goes on", || {
        let answer = wire.call(1, &beat(&of, "m", joined));
        assert!([0, 14, 15, 16].contains(&answer.error_code), "error {}", answer.error_code);
        (answer.error_code == 0).then_some(answer)
    });
    assert_eq!((answer.member_epoch, given(&answer)), (joined, None), "nothing has changed");
}

#[test]
fn members_of_rdkafka_share_the_partitions_and_take_over_from_each_other() {
    let broker = Broker::start();
    let topic = topics::topic(&mut broker.wire(), 6);
    let (of, log) = (unique("group"), Log::default());
    let start = |number| Member::start_new(&broker, &of, &topic, number, &log, &NEW);
    let first = start(1);
    await_shared(&[&first], 6);
    produce(&broker, &topic, 6, 0..600);
    let (second, third) = (start(2), start(3));
    await_shared(&[&first, &second, &third], 6);
    produce(&broker, &topic, 6, 600..1_200);
    await_values(&log, 1_200);
    second.stop();
    await_shared(&[&first, &third], 6);
    produce(&broker, &topic, 6, 1_200..1_800);
    await_values(&log, 1_800);
    let told = describe(&mut broker.wire(), &of);
    assert_eq!((told.error_code, told.members.len()), (0, 2));
    first.stop();
    third.stop();
    assert_complete(&log, 1_800);
}

#[test]
fn a_classic_group_goes_over_and_back_while_it_reads() {
    let broker = Broker::start();
    let topic = topics::topic(&mut broker.wire(), 4);
    let (of, log) = (unique("group"), Log::default());
    let classic = [("partition.assignment.strategy", "cooperative-sticky")];
    let kind = |wire: &mut Wire| {
        let listed = wire.call(5, &ListGroupsRequest::default());
        assert_eq!(listed.error_code, 0);
        listed.groups.iter().find(|row| *row.group_id == text(&of)).map(|row| row.group_type.to_string())
    };
    let mut wire = broker.wire();
    let old = Member::start(&broker, &of, &topic, 1, &log, &classic);
    await_shared(&[&old], 4);
    assert_eq!(kind(&mut wire).as_deref(), Some("classic"));
    produce(&broker, &topic, 4, 0..400);
    let new = Member::start_new(&broker, &of, &topic, 2, &log, &NEW);
    await_shared(&[&old, &new], 4);
    assert_eq!(kind(&mut wire).as_deref(), Some("consumer"));
    produce(&broker, &topic, 4, 400..800);
    await_values(&log, 800);
    new.stop();
    await_shared(&[&old], 4);
    assert_eq!(kind(&mut wire).as_deref(), Some("classic"));
    produce(&broker, &topic, 4, 800..1_200);
    await_values(&log, 1_200);
    old.stop();
    let values: BTreeSet<String> = log.lock().expect("log").iter().map(|(.., value)| value.clone()).collect();
    assert_eq!(values.len(), 1_200);
}
