//! What members and operators of groups ask.

use kafka_protocol::messages::*;
use millstream::protocol::streams_group::{StreamsGroupDescribeRequest, StreamsGroupHeartbeatRequest};

use super::super::{CLUSTER_ACTION, DELETE, DESCRIBE, READ, Row, Things, Told, on_cluster, on_group, on_topic};
use super::{ask, group, name, quiet, row};
use crate::harness::{streams_member, text};

pub fn rows() -> Vec<Row> {
    vec![
        row(ApiKey::FindCoordinator, "of a group", &[on_group(DESCRIBE)], |wire, of| {
            ask(wire, 4, &FindCoordinatorRequest::default().with_coordinator_keys(vec![text(&of.name)]))
        }),
        row(ApiKey::FindCoordinator, "of a group, before 4", &[on_group(DESCRIBE)], |wire, of| {
            ask(wire, 3, &FindCoordinatorRequest::default().with_key(text(&of.name)))
        }),
        row(ApiKey::FindCoordinator, "of a share-partition", &[on_cluster(CLUSTER_ACTION)], |wire, of| {
            let key = text(&format!("{}:{}:0", of.name, of.topic_id));
            ask(wire, 6, &FindCoordinatorRequest::default().with_key_type(2).with_coordinator_keys(vec![key]))
        }),
        row(ApiKey::JoinGroup, "JoinGroup", &[on_group(READ)], |wire, of| {
            let asked = JoinGroupRequest::default().with_group_id(group(of)).with_protocol_type(text("consumer"));
            ask(wire, 9, &asked.with_session_timeout_ms(10_000).with_rebalance_timeout_ms(1_000))
        }),
        row(ApiKey::SyncGroup, "SyncGroup", &[on_group(READ)], |wire, of| {
            let asked = SyncGroupRequest::default().with_group_id(group(of)).with_member_id(text("m"));
            ask(wire, 5, &asked.with_protocol_name(Some(text("p"))).with_protocol_type(Some(text("consumer"))))
        }),
        row(ApiKey::Heartbeat, "Heartbeat", &[on_group(READ)], |wire, of| {
            ask(wire, 4, &HeartbeatRequest::default().with_group_id(group(of)).with_member_id(text("m")))
        }),
        row(ApiKey::LeaveGroup, "LeaveGroup", &[on_group(READ)], |wire, of| {
            let member = leave_group_request::MemberIdentity::default().with_member_id(text("m"));
            ask(wire, 5, &LeaveGroupRequest::default().with_group_id(group(of)).with_members(vec![member]))
        }),
        row(ApiKey::DescribeGroups, "DescribeGroups", &[on_group(DESCRIBE)], |wire, of| {
            ask(wire, 6, &DescribeGroupsRequest::default().with_groups(vec![group(of)]))
        }),
        row(ApiKey::DeleteGroups, "DeleteGroups", &[on_group(DELETE)], |wire, of| {
            ask(wire, 2, &DeleteGroupsRequest::default().with_groups_names(vec![group(of)]))
        }),
        quiet(
            ApiKey::ListGroups,
            "ListGroups",
            &[on_group(DESCRIBE)],
            |of| of.name.clone(),
            |wire, _| ask(wire, 5, &ListGroupsRequest::default()),
        ),
        quiet(
            ApiKey::ListGroups,
            "by the cluster",
            &[on_cluster(DESCRIBE)],
            |of| of.name.clone(),
            |wire, _| ask(wire, 5, &ListGroupsRequest::default()),
        ),
        row(ApiKey::OffsetCommit, "OffsetCommit", &[on_group(READ), on_topic(READ)], |wire, of| {
            ask(wire, 9, &commit(of))
        }),
        row(ApiKey::OffsetFetch, "OffsetFetch", &[on_group(DESCRIBE), on_topic(DESCRIBE)], |wire, of| {
            use offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
            let topic = OffsetFetchRequestTopics::default().with_name(name(of)).with_partition_indexes(vec![0]);
            let group = OffsetFetchRequestGroup::default().with_group_id(group(of)).with_topics(Some(vec![topic]));
            ask(wire, 9, &OffsetFetchRequest::default().with_groups(vec![group]))
        }),
        row(ApiKey::OffsetFetch, "of all topics", &[on_group(DESCRIBE)], |wire, of| {
            let group = offset_fetch_request::OffsetFetchRequestGroup::default().with_group_id(group(of));
            ask(wire, 9, &OffsetFetchRequest::default().with_groups(vec![group.with_topics(None)]))
        }),
        row(ApiKey::OffsetDelete, "OffsetDelete", &[on_group(DELETE), on_topic(READ)], |wire, of| {
            use offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
            let partitions = vec![OffsetDeleteRequestPartition::default().with_partition_index(0)];
            let topic = OffsetDeleteRequestTopic::default().with_name(name(of)).with_partitions(partitions);
            ask(wire, 0, &OffsetDeleteRequest::default().with_group_id(group(of)).with_topics(vec![topic]))
        }),
        row(
            ApiKey::ConsumerGroupHeartbeat,
            "ConsumerGroupHeartbeat",
            &[on_group(READ), on_topic(DESCRIBE)],
            |wire, of| {
                let asked = ConsumerGroupHeartbeatRequest::default()
                    .with_member_id(text("m"))
                    .with_rebalance_timeout_ms(60_000)
                    .with_subscribed_topic_names(Some(vec![name(of)]))
                    .with_topic_partitions(Some(Vec::new()));
                ask(wire, 1, &asked.with_group_id(group(of)))
            },
        ),
        row(ApiKey::ConsumerGroupDescribe, "ConsumerGroupDescribe", &[on_group(DESCRIBE)], |wire, of| {
            ask(wire, 1, &ConsumerGroupDescribeRequest::default().with_group_ids(vec![group(of)]))
        }),
        Row {
            api: 88,
            name: "StreamsGroupHeartbeat".to_owned(),
            of: "StreamsGroupHeartbeat",
            needs: vec![on_group(READ), on_topic(DESCRIBE)],
            told: Told::Code,
            ask: |wire, of| {
                let mut topology = streams_member::topology(&of.name, &of.name);
                topology.subtopologies.truncate(1);
                topology.subtopologies[0].repartition_sink_topics.clear();
                let request: StreamsGroupHeartbeatRequest = streams_member::join(&of.name, "m", topology);
                format!("{:?}", streams_member::call(wire, &request))
            },
        },
        Row {
            api: 89,
            name: "StreamsGroupDescribe".to_owned(),
            of: "StreamsGroupDescribe",
            needs: vec![on_group(DESCRIBE)],
            told: Told::Code,
            ask: |wire, of| {
                let request = StreamsGroupDescribeRequest {
                    group_ids: vec![text(&of.name)],
                    ..StreamsGroupDescribeRequest::default()
                };
                format!("{:?}", streams_member::call(wire, &request))
            },
        },
    ]
}

fn commit(of: &Things) -> OffsetCommitRequest {
    use offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
    let partition = OffsetCommitRequestPartition::default().with_partition_index(0).with_committed_offset(0);
    let topic = OffsetCommitRequestTopic::default().with_partitions(vec![partition]);
    let topic = topic.with_name(name(of));
    OffsetCommitRequest::default()
        .with_group_id(group(of))
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![topic])
}
