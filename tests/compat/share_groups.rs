//! Share groups (KIP-932) as raw requests meet them: ShareGroupHeartbeat, ShareGroupDescribe, and where groups stand:
//! DescribeShareGroupOffsets, AlterShareGroupOffsets, DeleteShareGroupOffsets.

use kafka_protocol::messages::alter_share_group_offsets_request::{
    AlterShareGroupOffsetsRequestPartition, AlterShareGroupOffsetsRequestTopic,
};
use kafka_protocol::messages::delete_share_group_offsets_request::DeleteShareGroupOffsetsRequestTopic;
use kafka_protocol::messages::describe_share_group_offsets_request::{
    DescribeShareGroupOffsetsRequestGroup, DescribeShareGroupOffsetsRequestTopic,
};
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::share_group_describe_response::DescribedGroup;
use kafka_protocol::messages::share_group_heartbeat_response::ShareGroupHeartbeatResponse;
use kafka_protocol::messages::{
    AlterShareGroupOffsetsRequest, ConsumerGroupHeartbeatRequest, CreateTopicsRequest, DeleteGroupsRequest,
    DeleteShareGroupOffsetsRequest, DescribeGroupsRequest, DescribeShareGroupOffsetsRequest,
    IncrementalAlterConfigsRequest, ListGroupsRequest, ShareGroupDescribeRequest, ShareGroupHeartbeatRequest,
};
use kafka_protocol::protocol::Request;

use crate::groups::{coordinator, group, stable};
use crate::harness::broker::Broker;
use crate::harness::flex::{Reader, Writer};
use crate::harness::topics::{self, name, topic_id};
use crate::harness::wire::Wire;
use crate::harness::{eventually, text, unique};

const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const UNKNOWN_MEMBER_ID: i16 = 25;
const INVALID_REQUEST: i16 = 42;
const NON_EMPTY_GROUP: i16 = 68;
const GROUP_ID_NOT_FOUND: i16 = 69;
const FENCED_MEMBER_EPOCH: i16 = 110;

/// The resource type of groups in requests about configs.
const GROUP: i8 = 32;

pub fn beat(of: &str, member: &str, epoch: i32) -> ShareGroupHeartbeatRequest {
    ShareGroupHeartbeatRequest::default().with_group_id(group(of)).with_member_id(text(member)).with_member_epoch(epoch)
}

fn join(of: &str, member: &str, topic: &str) -> ShareGroupHeartbeatRequest {
    beat(of, member, 0).with_subscribed_topic_names(Some(vec![name(topic)]))
}

fn given(answer: &ShareGroupHeartbeatResponse) -> Option<Vec<i32>> {
    let assignment = answer.assignment.as_ref()?;
    Some(assignment.topic_partitions.iter().flat_map(|topic| topic.partitions.clone()).collect())
}

/// A member joins, and beats until it has partitions of the topic; its epoch.
#[track_caller]
pub fn joined(wire: &mut Wire, of: &str, member: &str, topic: &str) -> i32 {
    coordinator(wire, of);
    let first = wire.call(1, &join(of, member, topic));
    assert_eq!(first.error_code, 0, "{first:?}");
    let mut epoch = first.member_epoch;
    eventually("the member is given something", || {
        let answer = wire.call(1, &beat(of, member, epoch).with_subscribed_topic_names(Some(vec![name(topic)])));
        assert_eq!(answer.error_code, 0, "{answer:?}");
        epoch = answer.member_epoch;
        given(&answer).filter(|given| !given.is_empty()).map(|_| epoch)
    })
}

/// Sets one of the group's own settings.
#[track_caller]
pub fn configure(wire: &mut Wire, of: &str, key: &str, value: &str) {
    let config = AlterableConfig::default().with_name(text(key)).with_value(Some(text(value)));
    let resource = AlterConfigsResource::default()
        .with_resource_type(GROUP)
        .with_resource_name(text(of))
        .with_configs(vec![config]);
    let done = wire.call(1, &IncrementalAlterConfigsRequest::default().with_resources(vec![resource]));
    assert_eq!(done.responses[0].error_code, 0, "{done:?}");
}

fn describe(wire: &mut Wire, of: &str) -> DescribedGroup {
    let asked = ShareGroupDescribeRequest::default().with_group_ids(vec![group(of)]);
    wire.call(1, &asked).groups.remove(0)
}

#[test]
fn share_group_heartbeat() {
    let broker = Broker::start();
    let mut wire = broker.wire();
    let (of, topic) = (unique("readers"), topics::topic(&mut wire, 2));
    coordinator(&mut wire, &of);
    let code = |wire: &mut Wire, request: &ShareGroupHeartbeatRequest| wire.call(1, request).error_code;
    assert_eq!(code(&mut wire, &beat(&of, "m1", 1)), GROUP_ID_NOT_FOUND);
    assert_eq!(code(&mut wire, &beat(&of, "m1", 0)), INVALID_REQUEST, "it names no topics");
    assert_eq!(code(&mut wire, &join(&of, "", &topic)), INVALID_REQUEST);
    assert_eq!(code(&mut wire, &join(&of, &"m".repeat(37), &topic)), INVALID_REQUEST);
    assert_eq!(code(&mut wire, &join(&of, "m1", &topic).with_rack_id(Some(text("")))), INVALID_REQUEST);
    assert_eq!(code(&mut wire, &beat(&of, "m1", -2)), INVALID_REQUEST);
    let first = wire.call(1, &join(&of, "m1", &topic));
    assert_eq!((first.error_code, first.member_epoch, given(&first)), (0, 2, Some(vec![])), "{first:?}");
    assert_eq!(first.heartbeat_interval_ms, 5_000);
    let epoch = joined(&mut wire, &of, "m1", &topic);
    assert_eq!(code(&mut wire, &beat(&of, "m1", epoch + 1)), FENCED_MEMBER_EPOCH);
    assert_eq!(code(&mut wire, &beat(&of, "m2", epoch)), UNKNOWN_MEMBER_ID);
    // Nobody gives anything up before another gets it.
    let second = joined(&mut wire, &of, "m2", &topic);
    assert!(second > epoch);
    for member in ["m1", "m2"] {
        let left = wire.call(1, &beat(&of, member, -1));
        assert_eq!((left.error_code, left.member_epoch), (0, -1));
    }
    // What is a group of another kind is no share group, and the other way round.
    let classic = unique("classic");
    stable(&mut wire, &classic, None);
    assert_eq!(code(&mut wire, &join(&classic, "m1", &topic)), GROUP_ID_NOT_FOUND);
    let consumer = ConsumerGroupHeartbeatRequest::default()
        .with_group_id(group(&of))
        .with_member_id(text("c"))
        .with_rebalance_timeout_ms(30_000)
        .with_subscribed_topic_names(Some(vec![name(&topic)]))
        .with_topic_partitions(Some(Vec::new()));
    assert_eq!(wire.call(1, &consumer).error_code, GROUP_ID_NOT_FOUND);
}

#[test]
fn share_group_describe() {
    let broker = Broker::start();
    let mut wire = broker.wire();
    let (of, topic) = (unique("readers"), topics::topic(&mut wire, 2));
    coordinator(&mut wire, &of);
    assert_eq!(describe(&mut wire, &of).error_code, GROUP_ID_NOT_FOUND);
    let epoch = joined(&mut wire, &of, "m", &topic);
    let told = describe(&mut wire, &of);
    assert_eq!((told.error_code, &*told.group_state, &*told.assignor_name), (0, "Stable", "simple"), "{told:?}");
    assert_eq!((told.group_epoch, told.assignment_epoch, told.members.len()), (epoch, epoch, 1));
    assert_eq!(told.authorized_operations, i32::MIN);
    let member = &told.members[0];
    assert_eq!((&*member.member_id, member.member_epoch), ("m", epoch));
    assert_eq!(member.subscribed_topic_names, [name(&topic)]);
    let assigned = &member.assignment.topic_partitions[0];
    assert_eq!((&assigned.topic_name, &*assigned.partitions), (&name(&topic), &[0, 1][..]));
    let listed = wire.call(5, &ListGroupsRequest::default().with_types_filter(vec![text("share")]));
    let row = listed.groups.iter().find(|row| *row.group_id == text(&of)).expect("it is listed");
    assert_eq!((&*row.group_type, &*row.group_state, &*row.protocol_type), ("share", "Stable", "share"));
    let classic = wire.call(5, &DescribeGroupsRequest::default().with_groups(vec![group(&of)]));
    assert_eq!(&*classic.groups[0].group_state, "Dead");
    let delete = DeleteGroupsRequest::default().with_groups_names(vec![group(&of)]);
    assert_eq!(wire.call(2, &delete).results[0].error_code, NON_EMPTY_GROUP);
    assert_eq!(wire.call(1, &beat(&of, "m", -1)).error_code, 0);
    assert_eq!(&*describe(&mut wire, &of).group_state, "Empty");
    assert_eq!(wire.call(2, &delete).results[0].error_code, 0);
    assert_eq!(describe(&mut wire, &of).error_code, GROUP_ID_NOT_FOUND);
}

/// Error, topic id and rows of a partition's index, start and error.
type Offsets = (i16, Vec<(i32, i64, i16)>);

fn offsets(wire: &mut Wire, of: &str, topic: Option<(&str, &[i32])>) -> Offsets {
    let topics = topic.map(|(topic, partitions)| {
        vec![
            DescribeShareGroupOffsetsRequestTopic::default()
                .with_topic_name(name(topic))
                .with_partitions(partitions.to_vec()),
        ]
    });
    let asked = DescribeShareGroupOffsetsRequestGroup::default().with_group_id(group(of)).with_topics(topics);
    let told = wire.call(0, &DescribeShareGroupOffsetsRequest::default().with_groups(vec![asked])).groups.remove(0);
    let rows = told.topics.iter().flat_map(|topic| &topic.partitions);
    (told.error_code, rows.map(|row| (row.partition_index, row.start_offset, row.error_code)).collect())
}

/// Version 1: start and lag of each partition that the group has of its only topic.
fn lags(wire: &mut Wire, of: &str) -> Vec<(i64, i64)> {
    let body = Writer::default().array(1).string(of).null().tags().tags().bytes();
    let correlation = wire.send_body(DescribeShareGroupOffsetsRequest::KEY, 1, 2, &body);
    let mut reader = Reader(wire.receive_body(1, correlation));
    assert_eq!((reader.i32(), reader.array()), (0, Some(1)));
    assert_eq!(reader.string().as_deref(), Some(of));
    let mut rows = Vec::new();
    for _ in 0..reader.array().expect("topics") {
        reader.string();
        reader.uuid();
        for _ in 0..reader.array().expect("partitions") {
            reader.i32();
            let start = reader.i64();
            reader.i32();
            rows.push((start, reader.i64()));
            assert_eq!((reader.i16(), reader.string()), (0, None));
            reader.tags();
        }
        reader.tags();
    }
    assert_eq!((reader.i16(), reader.string()), (0, None));
    reader.tags();
    reader.tags();
    reader.end();
    rows
}

fn alter(wire: &mut Wire, of: &str, topic: &str, starts: &[(i32, i64)]) -> (i16, Vec<i16>) {
    let start = |(index, start): &(i32, i64)| {
        AlterShareGroupOffsetsRequestPartition::default().with_partition_index(*index).with_start_offset(*start)
    };
    let topic = AlterShareGroupOffsetsRequestTopic::default()
        .with_topic_name(name(topic))
        .with_partitions(starts.iter().map(start).collect());
    let request = AlterShareGroupOffsetsRequest::default().with_group_id(group(of)).with_topics(vec![topic]);
    let done = wire.call(0, &request);
    let rows = done.responses.iter().flat_map(|topic| &topic.partitions);
    (done.error_code, rows.map(|row| row.error_code).collect())
}

fn delete(wire: &mut Wire, of: &str, topic: &str) -> (i16, Vec<i16>) {
    let topic = DeleteShareGroupOffsetsRequestTopic::default().with_topic_name(name(topic));
    let request = DeleteShareGroupOffsetsRequest::default().with_group_id(group(of)).with_topics(vec![topic]);
    let done = wire.call(0, &request);
    (done.error_code, done.responses.iter().map(|row| row.error_code).collect())
}

#[test]
fn describe_share_group_offsets() {
    let broker = Broker::start();
    let mut wire = broker.wire();
    let (of, topic) = (unique("readers"), topics::topic(&mut wire, 2));
    coordinator(&mut wire, &of);
    assert_eq!(offsets(&mut wire, &of, None), (0, vec![]), "there is no such group");
    assert_eq!(offsets(&mut wire, &of, Some((&unique("none"), &[0]))), (0, vec![(0, -1, 0)]));
    assert_eq!(offsets(&mut wire, &of, Some((&topic, &[1]))), (0, vec![(1, -1, 0)]));
    topics::write(&mut wire, &topic, 0, &["a", "b", "c"]);
    assert_eq!(alter(&mut wire, &of, &topic, &[(0, 1)]), (0, vec![0]));
    assert_eq!(offsets(&mut wire, &of, None), (0, vec![(0, 1, 0)]));
    assert_eq!(offsets(&mut wire, &of, Some((&topic, &[0, 1]))), (0, vec![(0, 1, 0), (1, -1, 0)]));
    assert_eq!(lags(&mut wire, &of), [(1, 2)]);
}

#[test]
fn alter_share_group_offsets() {
    let broker = Broker::start();
    let mut wire = broker.wire();
    let (of, topic) = (unique("readers"), topics::topic(&mut wire, 2));
    coordinator(&mut wire, &of);
    assert_eq!(alter(&mut wire, &of, &unique("none"), &[(0, 1)]), (0, vec![UNKNOWN_TOPIC_OR_PARTITION]));
    assert_eq!(alter(&mut wire, &of, &topic, &[(0, 1), (2, 1)]), (0, vec![0, UNKNOWN_TOPIC_OR_PARTITION]));
    assert_eq!(offsets(&mut wire, &of, None), (0, vec![(0, 1, 0)]));
    assert_eq!(alter(&mut wire, &of, &topic, &[(0, 0)]), (0, vec![0]), "back is a direction, too");
    assert_eq!(offsets(&mut wire, &of, None), (0, vec![(0, 0, 0)]));
    let epoch = joined(&mut wire, &of, "m", &topic);
    assert_eq!(alter(&mut wire, &of, &topic, &[(0, 2)]), (NON_EMPTY_GROUP, vec![]));
    assert!(epoch > 1);
    let classic = unique("classic");
    stable(&mut wire, &classic, None);
    assert_eq!(alter(&mut wire, &classic, &topic, &[(0, 2)]), (GROUP_ID_NOT_FOUND, vec![]));
}

#[test]
fn delete_share_group_offsets() {
    let broker = Broker::start();
    let mut wire = broker.wire();
    let (of, topic, other) = (unique("readers"), topics::topic(&mut wire, 2), topics::topic(&mut wire, 1));
    coordinator(&mut wire, &of);
    assert_eq!(delete(&mut wire, &of, &topic), (GROUP_ID_NOT_FOUND, vec![]));
    let epoch = joined(&mut wire, &of, "m", &topic);
    assert_eq!(delete(&mut wire, &of, &topic), (NON_EMPTY_GROUP, vec![]));
    assert!(epoch > 1 && wire.call(1, &beat(&of, "m", -1)).error_code == 0);
    assert_eq!(delete(&mut wire, &of, &other), (0, vec![UNKNOWN_TOPIC_OR_PARTITION]), "it has nothing of that");
    assert_eq!(delete(&mut wire, &of, &unique("none")), (0, vec![UNKNOWN_TOPIC_OR_PARTITION]));
    assert_eq!(offsets(&mut wire, &of, None).1.len(), 2);
    assert_eq!(delete(&mut wire, &of, &topic), (0, vec![0]));
    assert_eq!(offsets(&mut wire, &of, None), (0, vec![]));
    assert_eq!(offsets(&mut wire, &of, Some((&topic, &[0]))), (0, vec![(0, -1, 0)]));
    assert!(!topic_id(&mut wire, &topic).is_nil());
}

#[test]
fn a_topic_is_known_to_groups_as_soon_as_to_clients() {
    let broker = Broker::start();
    let mut wire = broker.wire();
    // What is written here has its coordinators, and other topics keep them busy.
    let (of, first) = (unique("readers"), topics::topic(&mut wire, 1));
    coordinator(&mut wire, &of);
    eventually("the state is kept", || (alter(&mut wire, &of, &first, &[(0, 0)]) == (0, vec![0])).then_some(()));
    for _ in 0..20 {
        let many = (0..50).map(|_| topics::creatable(&unique("topic"), 1, &[]));
        let topics: Vec<_> = many.collect();
        let last = topics.last().expect("there are some").name.to_string();
        let made = wire.call(7, &CreateTopicsRequest::default().with_timeout_ms(30_000).with_topics(topics));
        assert!(made.topics.iter().all(|topic| topic.error_code == 0), "{made:?}");
        assert_eq!(alter(&mut wire, &of, &last, &[(0, 0)]), (0, vec![0]));
    }
}
