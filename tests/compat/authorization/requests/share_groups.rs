//! What members of share groups, and the nodes that keep their state, ask.

use kafka_protocol::messages::*;

use super::super::{CLUSTER_ACTION, DELETE, DESCRIBE, READ, Row, Things, on_cluster, on_group, on_topic};
use super::{ask, group, name, row};
use crate::harness::wire::Wire;
use crate::harness::{eventually, text};

/// A share group without members.
fn share_group(things: &Things) -> GroupId {
    GroupId(text(&format!("{}-share", things.name)))
}

/// Makes it.
pub fn make_share_group(wire: &mut Wire, of: &Things) {
    let asked = ShareGroupHeartbeatRequest::default().with_group_id(share_group(of)).with_member_id(text("m"));
    let joins = asked.clone().with_subscribed_topic_names(Some(vec![name(of)]));
    let joined = eventually("a share group", || Some(wire.call(1, &joins)).filter(|told| told.error_code == 0));
    let left = wire.call(1, &asked.with_member_epoch(-1).with_member_id(joined.member_id.unwrap_or_default()));
    assert_eq!(left.error_code, 0);
}

pub fn rows() -> Vec<Row> {
    vec![
        row(ApiKey::ShareGroupHeartbeat, "ShareGroupHeartbeat", &[on_group(READ), on_topic(DESCRIBE)], |wire, of| {
            let asked = ShareGroupHeartbeatRequest::default().with_group_id(group(of)).with_member_id(text("m"));
            ask(wire, 1, &asked.with_subscribed_topic_names(Some(vec![name(of)])))
        }),
        row(ApiKey::ShareGroupDescribe, "ShareGroupDescribe", &[on_group(DESCRIBE)], |wire, of| {
            ask(wire, 1, &ShareGroupDescribeRequest::default().with_group_ids(vec![group(of)]))
        }),
        row(ApiKey::ShareFetch, "ShareFetch", &[on_group(READ), on_topic(READ)], |wire, of| {
            use share_fetch_request::{FetchPartition, FetchTopic};
            let partition = FetchPartition::default().with_partition_index(0);
            let topic = FetchTopic::default().with_topic_id(of.topic_id).with_partitions(vec![partition]);
            let asked = ShareFetchRequest::default().with_group_id(Some(group(of))).with_topics(vec![topic]);
            let asked = asked.with_member_id(Some(text("AAAAAAAAAAAAAAAAAAAAAQ"))).with_max_wait_ms(0);
            ask(wire, 1, &asked.with_max_bytes(1_000).with_max_records(1).with_batch_size(1))
        }),
        row(ApiKey::ShareAcknowledge, "ShareAcknowledge", &[on_group(READ)], |wire, of| {
            let asked = ShareAcknowledgeRequest::default().with_group_id(Some(group(of))).with_share_session_epoch(1);
            ask(wire, 1, &asked.with_member_id(Some(text("AAAAAAAAAAAAAAAAAAAAAQ"))))
        }),
        row(
            ApiKey::InitializeShareGroupState,
            "InitializeShareGroupState",
            &[on_cluster(CLUSTER_ACTION)],
            |wire, of| {
                use initialize_share_group_state_request::{InitializeStateData, PartitionData};
                let topic = InitializeStateData::default().with_topic_id(of.topic_id);
                let topic = topic.with_partitions(vec![PartitionData::default()]);
                let asked = InitializeShareGroupStateRequest::default().with_group_id(text(&of.name));
                ask(wire, 0, &asked.with_topics(vec![topic]))
            },
        ),
        row(ApiKey::ReadShareGroupState, "ReadShareGroupState", &[on_cluster(CLUSTER_ACTION)], |wire, of| {
            use read_share_group_state_request::{PartitionData, ReadStateData};
            let topic = ReadStateData::default().with_topic_id(of.topic_id);
            let topic = topic.with_partitions(vec![PartitionData::default()]);
            ask(wire, 0, &ReadShareGroupStateRequest::default().with_group_id(text(&of.name)).with_topics(vec![topic]))
        }),
        row(ApiKey::WriteShareGroupState, "WriteShareGroupState", &[on_cluster(CLUSTER_ACTION)], |wire, of| {
            use write_share_group_state_request::{PartitionData, WriteStateData};
            let topic = WriteStateData::default().with_topic_id(of.topic_id);
            let topic = topic.with_partitions(vec![PartitionData::default()]);
            ask(wire, 0, &WriteShareGroupStateRequest::default().with_group_id(text(&of.name)).with_topics(vec![topic]))
        }),
        row(ApiKey::DeleteShareGroupState, "DeleteShareGroupState", &[on_cluster(CLUSTER_ACTION)], |wire, of| {
            use delete_share_group_state_request::{DeleteStateData, PartitionData};
            let topic = DeleteStateData::default().with_topic_id(of.topic_id);
            let topic = topic.with_partitions(vec![PartitionData::default()]);
            ask(
                wire,
                0,
                &DeleteShareGroupStateRequest::default().with_group_id(text(&of.name)).with_topics(vec![topic]),
            )
        }),
        row(
            ApiKey::ReadShareGroupStateSummary,
            "ReadShareGroupStateSummary",
            &[on_cluster(CLUSTER_ACTION)],
            |wire, of| {
                use read_share_group_state_summary_request::{PartitionData, ReadStateSummaryData};
                let topic = ReadStateSummaryData::default().with_topic_id(of.topic_id);
                let topic = topic.with_partitions(vec![PartitionData::default()]);
                let asked = ReadShareGroupStateSummaryRequest::default().with_group_id(text(&of.name));
                ask(wire, 0, &asked.with_topics(vec![topic]))
            },
        ),
        row(
            ApiKey::DescribeShareGroupOffsets,
            "DescribeShareGroupOffsets",
            &[on_group(DESCRIBE), on_topic(DESCRIBE)],
            |wire, of| {
                use describe_share_group_offsets_request::{
                    DescribeShareGroupOffsetsRequestGroup as Group, DescribeShareGroupOffsetsRequestTopic as Topic,
                };
                let topic = Topic::default().with_topic_name(name(of)).with_partitions(vec![0]);
                let group = Group::default().with_group_id(group(of)).with_topics(Some(vec![topic]));
                ask(wire, 0, &DescribeShareGroupOffsetsRequest::default().with_groups(vec![group]))
            },
        ),
        row(ApiKey::AlterShareGroupOffsets, "AlterShareGroupOffsets", &[on_group(READ), on_topic(READ)], |wire, of| {
            use alter_share_group_offsets_request::{
                AlterShareGroupOffsetsRequestPartition as Partition, AlterShareGroupOffsetsRequestTopic as Topic,
            };
            let partition = Partition::default().with_partition_index(0).with_start_offset(0);
            let topic = Topic::default().with_topic_name(name(of)).with_partitions(vec![partition]);
            let asked = AlterShareGroupOffsetsRequest::default().with_group_id(share_group(of));
            ask(wire, 0, &asked.with_topics(vec![topic]))
        }),
        row(
            ApiKey::DeleteShareGroupOffsets,
            "DeleteShareGroupOffsets",
            &[on_group(DELETE), on_topic(READ)],
            |wire, of| {
                let topic = delete_share_group_offsets_request::DeleteShareGroupOffsetsRequestTopic::default();
                let topic = topic.with_topic_name(name(of));
                let asked = DeleteShareGroupOffsetsRequest::default().with_group_id(share_group(of));
                ask(wire, 0, &asked.with_topics(vec![topic]))
            },
        ),
    ]
}
