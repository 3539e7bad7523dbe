//! What the group's state machine answers, as it goes to clients.

use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use millstream_core::coordinator::group::GroupId;
use millstream_core::coordinator::group::streams::{
    DescribedStreamsGroup, DescribedStreamsMember, DescribedSubtopology, DescribedTopology, Endpoint,
    EndpointPartitions, StreamsBeaten, StreamsStatus, StreamsStatusKind, TaskSet, Tasks, TopicInfo,
};

use super::super::access::NOT_ASKED;
use super::super::errors;
use super::super::groups::str_bytes;
use crate::protocol::StrBytes;
use crate::protocol::streams_group::{self as wire, KeyValue, PartitionsOf, StreamsGroupHeartbeatResponse};

pub(super) fn heartbeat(beaten: StreamsBeaten) -> StreamsGroupHeartbeatResponse {
    let of_kind = |of: fn(&Tasks) -> &TaskSet| beaten.tasks.as_ref().map(|given| tasks(of(given)));
    let endpoints = beaten.endpoints.as_ref().map(|endpoints| endpoints.iter().map(partitions_of).collect());
    StreamsGroupHeartbeatResponse {
        error_code: 0,
        error_message: None,
        member_id: str_bytes(beaten.member.as_str()),
        member_epoch: beaten.epoch,
        heartbeat_interval_ms: beaten.heartbeat_interval_ms,
        // Not set by Kafka 4.3: there are no warm-up tasks yet.
        acceptable_recovery_lag: 0,
        task_offset_interval_ms: 0,
        status: Some(beaten.status.iter().map(status).collect()),
        active_tasks: of_kind(|given| &given.active),
        standby_tasks: of_kind(|given| &given.standby),
        warmup_tasks: of_kind(|given| &given.warmup),
        endpoint_information_epoch: beaten.endpoint_epoch,
        partitions_by_user_endpoint: endpoints,
    }
}

fn status(of: &StreamsStatus) -> wire::Status {
    let status_code = match of.kind {
        StreamsStatusKind::StaleTopology => 0,
        StreamsStatusKind::MissingSourceTopics => 1,
        StreamsStatusKind::IncorrectlyPartitionedTopics => 2,
        StreamsStatusKind::MissingInternalTopics => 3,
        StreamsStatusKind::ShutdownApplication => 4,
        StreamsStatusKind::AssignmentDelayed => 5,
    };
    wire::Status { status_code, status_detail: errors::message(&of.detail) }
}

fn tasks(of: &TaskSet) -> Vec<PartitionsOf> {
    let one = |(id, partitions): (&Arc<str>, &std::collections::BTreeSet<i32>)| PartitionsOf {
        name: str_bytes(id),
        partitions: partitions.iter().copied().collect(),
    };
    of.iter().map(one).collect()
}

fn endpoint(of: &Endpoint) -> wire::Endpoint {
    wire::Endpoint { host: str_bytes(&of.host), port: of.port }
}

fn partitions_of(of: &EndpointPartitions) -> wire::EndpointToPartitions {
    let topics = |topics: &[(Arc<str>, Vec<i32>)]| {
        let one = |(name, partitions): &(Arc<str>, Vec<i32>)| PartitionsOf {
            name: str_bytes(name),
            partitions: partitions.clone(),
        };
        topics.iter().map(one).collect()
    };
    wire::EndpointToPartitions {
        user_endpoint: endpoint(&of.endpoint),
        active_partitions: topics(&of.active),
        standby_partitions: topics(&of.standby),
    }
}

pub(super) fn describe_refused(id: &GroupId, error: ResponseError, message: Option<&str>) -> wire::DescribedGroup {
    wire::DescribedGroup {
        error_code: error.code(),
        error_message: message.map(|message| errors::message(&message)),
        group_id: str_bytes(id.as_str()),
        authorized_operations: NOT_ASKED,
        ..wire::DescribedGroup::default()
    }
}

pub(super) fn group(
    id: &GroupId,
    described: Option<Option<DescribedStreamsGroup>>,
    operations: i32,
) -> wire::DescribedGroup {
    let not_found = |message: &str| describe_refused(id, ResponseError::GroupIdNotFound, Some(message));
    let group = match described {
        _ if id.is_empty() => return describe_refused(id, ResponseError::InvalidGroupId, None),
        None => return not_found(&format!("Group {id} not found.")),
        Some(None) => return not_found(&format!("Group {id} is not a streams group.")),
        Some(Some(group)) => group,
    };
    wire::DescribedGroup {
        error_code: 0,
        error_message: None,
        group_id: str_bytes(id.as_str()),
        group_state: StrBytes::from_static_str(group.state.name()),
        group_epoch: group.epoch,
        assignment_epoch: group.target_epoch,
        topology: group.topology.as_ref().map(topology),
        members: group.members.iter().map(member).collect(),
        authorized_operations: operations,
    }
}

fn topology(of: &DescribedTopology) -> wire::DescribedTopology {
    let subtopologies = of.subtopologies.iter().map(subtopology).collect();
    wire::DescribedTopology { epoch: of.epoch, subtopologies: Some(subtopologies) }
}

fn subtopology(of: &DescribedSubtopology) -> wire::DescribedSubtopology {
    let names = |names: &[Arc<str>]| names.iter().map(|name| str_bytes(name)).collect();
    let infos = |topics: &[TopicInfo]| topics.iter().map(topic).collect();
    wire::DescribedSubtopology {
        subtopology_id: str_bytes(&of.id),
        source_topics: names(&of.source_topics),
        repartition_sink_topics: names(&of.repartition_sinks),
        state_changelog_topics: infos(&of.changelogs),
        repartition_source_topics: infos(&of.repartition_sources),
    }
}

fn topic(of: &TopicInfo) -> wire::TopicInfo {
    wire::TopicInfo {
        name: str_bytes(&of.name),
        partitions: of.partitions,
        replication_factor: of.replication_factor,
        topic_configs: of.configs.iter().map(|(key, value)| pair(key, value)).collect(),
    }
}

fn pair(key: &str, value: &str) -> KeyValue {
    KeyValue { key: str_bytes(key), value: str_bytes(value) }
}

fn member(of: &DescribedStreamsMember) -> wire::DescribedMember {
    let assignment = |of: &Tasks| wire::Assignment {
        active_tasks: tasks(&of.active),
        standby_tasks: tasks(&of.standby),
        warmup_tasks: tasks(&of.warmup),
    };
    wire::DescribedMember {
        member_id: str_bytes(of.member.as_str()),
        member_epoch: of.epoch,
        instance_id: of.said.instance.as_ref().map(|instance| str_bytes(instance.as_str())),
        rack_id: of.said.rack.as_deref().map(str_bytes),
        client_id: str_bytes(of.said.client_id.as_str()),
        client_host: str_bytes(of.said.client_host.as_str()),
        topology_epoch: of.said.topology_epoch,
        process_id: str_bytes(&of.said.process),
        user_endpoint: of.said.endpoint.as_ref().map(endpoint),
        client_tags: of.said.tags.iter().map(|(key, value)| pair(key, value)).collect(),
        task_offsets: Vec::new(),
        task_end_offsets: Vec::new(),
        assignment: assignment(&of.assigned),
        target_assignment: assignment(&of.target),
        is_classic: false,
    }
}
