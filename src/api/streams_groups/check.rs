//! What can be said of a heartbeat without the group (`GroupCoordinatorService.throwIfStreamsGroupHeartbeatRequestIsInvalid`
//! and its like, `KafkaApis.handleStreamsGroupHeartbeat`). The words are Kafka's.

use std::collections::BTreeSet;

use kafka_protocol::error::ResponseError;
use millstream_core::coordinator::group::consumer::{LEAVE_EPOCH, LEAVE_STATIC_EPOCH};
use millstream_core::security::Operation;
use millstream_core::types::TopicName;

use super::Refused;
use crate::api::{Access, Resource};
use crate::protocol::StrBytes;
use crate::protocol::streams_group::{DescribedGroup, StreamsGroupHeartbeatRequest, Subtopology, Topology};

pub(super) fn heartbeat(asked: &StreamsGroupHeartbeatRequest) -> Result<(), Refused> {
    if let Some(topology) = &asked.topology {
        topics(topology)?;
    }
    unsupported(asked).and_then(|()| fields(asked)).map_err(|message| (ResponseError::InvalidRequest, message))?;
    asked.topology.as_ref().map_or(Ok(()), changelogs)
}

/// All topics that an application names.
pub(super) fn topics_of(asked: &StreamsGroupHeartbeatRequest) -> impl Iterator<Item = &StrBytes> {
    asked.topology.iter().flat_map(|topology| &topology.subtopologies).flat_map(|part| {
        let own = part.state_changelog_topics.iter().chain(&part.repartition_source_topics).map(|topic| &topic.name);
        part.source_topics.iter().chain(&part.repartition_sink_topics).chain(own)
    })
}

/// Whether a client may know of all topics of an application.
pub(super) fn may_see(access: &Access, group: &DescribedGroup) -> bool {
    let parts = group.topology.iter().flat_map(|topology| topology.subtopologies.iter().flatten());
    let mut names = parts.flat_map(|part| {
        let own = part.state_changelog_topics.iter().chain(&part.repartition_source_topics).map(|topic| &topic.name);
        part.source_topics.iter().chain(&part.repartition_sink_topics).chain(own)
    });
    names.all(|name| access.may_quietly(Operation::Describe, Resource::Topic(name)))
}

/// What Kafka 4.3 reads and does not know yet.
fn unsupported(asked: &StreamsGroupHeartbeatRequest) -> Result<(), String> {
    let subtopologies = asked.topology.iter().flat_map(|topology| &topology.subtopologies);
    let is_by_pattern = |part: &Subtopology| !part.source_topic_regex.is_empty();
    let checks = [
        (asked.instance_id.is_some(), "Static membership is not yet supported."),
        (asked.task_offsets.is_some(), "TaskOffsets are not supported yet."),
        (asked.task_end_offsets.is_some(), "TaskEndOffsets are not supported yet."),
        (asked.warmup_tasks.as_ref().is_some_and(|tasks| !tasks.is_empty()), "WarmupTasks are not supported yet."),
        (subtopologies.into_iter().any(is_by_pattern), "Regular expressions for source topics are not supported yet."),
    ];
    first_of(&checks)
}

fn fields(asked: &StreamsGroupHeartbeatRequest) -> Result<(), String> {
    let is_blank = |text: &StrBytes| text.trim().is_empty();
    let (active, standby, warmup) = (&asked.active_tasks, &asked.standby_tasks, &asked.warmup_tasks);
    let lists = [active, standby, warmup];
    let joins = asked.member_epoch == 0;
    let has_tasks = |tasks: &Option<Vec<_>>| joins && tasks.as_ref().is_none_or(|tasks: &Vec<_>| !tasks.is_empty());
    first_of(&[
        (is_blank(&asked.member_id), "MemberId can't be empty."),
        (is_blank(&asked.group_id), "GroupId can't be empty."),
        (asked.rack_id.as_ref().is_some_and(is_blank), "RackId can't be empty."),
        (joins && asked.rebalance_timeout_ms == -1, "RebalanceTimeoutMs must be provided in first request."),
        (has_tasks(active), "ActiveTasks must be empty when (re-)joining."),
        (has_tasks(standby), "StandbyTasks must be empty when (re-)joining."),
        (has_tasks(warmup), "WarmupTasks must be empty when (re-)joining."),
        (joins && asked.topology.is_none(), "Topology must be non-null when (re-)joining."),
        // Nobody has an instance: none may leave for a while.
        (asked.member_epoch == LEAVE_STATIC_EPOCH, "InstanceId can't be null."),
    ])?;
    if asked.member_epoch < LEAVE_EPOCH {
        let epoch = asked.member_epoch;
        return Err(format!("MemberEpoch is {epoch}, but must be greater than or equal to -2."));
    }
    let is_any = |is: fn(&Option<Vec<_>>) -> bool| lists.into_iter().any(is);
    first_of(&[
        (is_any(Option::is_some) && is_any(Option::is_none), "If one task-type is non-null, all must be non-null."),
        (!joins && asked.topology.is_some(), "Topology can only be provided when (re-)joining."),
    ])
}

fn first_of(checks: &[(bool, &str)]) -> Result<(), String> {
    checks.iter().find(|(is_so, _)| *is_so).map_or(Ok(()), |(_, message)| Err((*message).to_owned()))
}

/// Topics that no application can have for its own, or read.
fn topics(topology: &Topology) -> Result<(), Refused> {
    let names = |part: &Subtopology| {
        let infos = part.repartition_source_topics.iter().chain(&part.state_changelog_topics);
        let plain = part.source_topics.iter().chain(&part.repartition_sink_topics);
        plain.chain(infos.map(|topic| &topic.name)).cloned().collect::<Vec<_>>()
    };
    let names: BTreeSet<StrBytes> = topology.subtopologies.iter().flat_map(names).collect();
    let list = |names: Vec<&str>| names.join(",");
    let refused = |message| Err((ResponseError::StreamsInvalidTopology, message));
    let is_internal = |name: &&StrBytes| TopicName::new(name).is_ok_and(|name| name.is_internal());
    let internal: Vec<&str> = names.iter().filter(is_internal).map(|name| &**name).collect();
    if !internal.is_empty() {
        let names = list(internal);
        return refused(format!("Use of Kafka internal topics {names} in a Kafka Streams topology is prohibited."));
    }
    let invalid: Vec<&str> = names.iter().filter(|name| TopicName::new(name).is_err()).map(|name| &**name).collect();
    if !invalid.is_empty() {
        return refused(format!("Topic names {} are not valid topic names.", list(invalid)));
    }
    Ok(())
}

/// What needs no other topics to be known.
fn changelogs(topology: &Topology) -> Result<(), Refused> {
    let refused = |message| Err((ResponseError::StreamsInvalidTopology, message));
    let mut seen = BTreeSet::new();
    for part in &topology.subtopologies {
        if !seen.insert(&part.subtopology_id) {
            return refused(format!("Subtopology {} is there twice.", part.subtopology_id));
        }
        if let Some(topic) = part.state_changelog_topics.iter().find(|topic| topic.partitions != 0) {
            let (name, count) = (&topic.name, topic.partitions);
            return refused(format!(
                "Changelog topic {name} must have an undefined partition count, but it is set to {count}."
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::streams_group::{PartitionsOf, TaskOffset, TopicInfo};

    fn text(text: &str) -> StrBytes {
        StrBytes::from_string(text.to_owned())
    }

    fn joining() -> StreamsGroupHeartbeatRequest {
        let part = Subtopology { subtopology_id: text("0"), source_topics: vec![text("t")], ..Subtopology::default() };
        StreamsGroupHeartbeatRequest {
            group_id: text("g"),
            member_id: text("m"),
            rebalance_timeout_ms: 1_000,
            topology: Some(Topology { epoch: 0, subtopologies: vec![part] }),
            active_tasks: Some(Vec::new()),
            standby_tasks: Some(Vec::new()),
            warmup_tasks: Some(Vec::new()),
            ..StreamsGroupHeartbeatRequest::default()
        }
    }

    fn beating(epoch: i32) -> StreamsGroupHeartbeatRequest {
        let none = (None, None, None);
        let (active_tasks, standby_tasks, warmup_tasks) = none;
        let joining = StreamsGroupHeartbeatRequest { topology: None, member_epoch: epoch, ..joining() };
        StreamsGroupHeartbeatRequest { active_tasks, standby_tasks, warmup_tasks, rebalance_timeout_ms: -1, ..joining }
    }

    #[test]
    fn heartbeats_that_cannot_be_are_refused_in_kafkas_words() {
        type Change = fn(&mut StreamsGroupHeartbeatRequest);
        let tasks = || Some(vec![PartitionsOf::default()]);
        assert_eq!(heartbeat(&joining()), Ok(()));
        assert_eq!(heartbeat(&beating(3)), Ok(()));
        assert_eq!(heartbeat(&beating(-1)), Ok(()));
        let of_joining: [(Change, &str); 10] = [
            (|r| r.member_id = text(" "), "MemberId can't be empty."),
            (|r| r.group_id = text(""), "GroupId can't be empty."),
            (|r| r.rack_id = Some(text("")), "RackId can't be empty."),
            (|r| r.instance_id = Some(text("i")), "Static membership is not yet supported."),
            (|r| r.rebalance_timeout_ms = -1, "RebalanceTimeoutMs must be provided in first request."),
            (|r| r.active_tasks = None, "ActiveTasks must be empty when (re-)joining."),
            (|r| r.warmup_tasks = None, "WarmupTasks must be empty when (re-)joining."),
            (|r| r.topology = None, "Topology must be non-null when (re-)joining."),
            (|r| r.task_offsets = Some(vec![TaskOffset::default()]), "TaskOffsets are not supported yet."),
            (
                |r| r.topology.iter_mut().for_each(|t| t.subtopologies[0].source_topic_regex.push(text("a.*"))),
                "Regular expressions for source topics are not supported yet.",
            ),
        ];
        let refused = |request: &StreamsGroupHeartbeatRequest, message: &str| {
            assert_eq!(heartbeat(request), Err((ResponseError::InvalidRequest, message.to_owned())));
        };
        for (change, message) in of_joining {
            let mut request = joining();
            change(&mut request);
            refused(&request, message);
        }
        let standby = StreamsGroupHeartbeatRequest { standby_tasks: tasks(), ..joining() };
        refused(&standby, "StandbyTasks must be empty when (re-)joining.");
        let warmup = StreamsGroupHeartbeatRequest { warmup_tasks: tasks(), ..beating(3) };
        refused(&warmup, "WarmupTasks are not supported yet.");
        refused(&beating(-2), "InstanceId can't be null.");
        refused(&beating(-3), "MemberEpoch is -3, but must be greater than or equal to -2.");
        let one = StreamsGroupHeartbeatRequest { active_tasks: tasks(), ..beating(3) };
        refused(&one, "If one task-type is non-null, all must be non-null.");
        let topology = StreamsGroupHeartbeatRequest { topology: joining().topology, ..beating(3) };
        refused(&topology, "Topology can only be provided when (re-)joining.");
    }

    #[test]
    fn topologies_that_cannot_be_are_refused_in_kafkas_words() {
        type Change = fn(&mut Vec<Subtopology>);
        let changes: [(Change, &str); 4] = [
            (|parts| parts.push(parts[0].clone()), "Subtopology 0 is there twice."),
            (
                |parts| {
                    let log = TopicInfo { name: text("log"), partitions: 3, ..TopicInfo::default() };
                    parts[0].state_changelog_topics.push(log);
                },
                "Changelog topic log must have an undefined partition count, but it is set to 3.",
            ),
            (
                |parts| parts[0].source_topics.push(text("__consumer_offsets")),
                "Use of Kafka internal topics __consumer_offsets in a Kafka Streams topology is prohibited.",
            ),
            (
                |parts| parts[0].repartition_sink_topics.extend([text("a b"), text("")]),
                "Topic names ,a b are not valid topic names.",
            ),
        ];
        for (change, message) in changes {
            let mut request = joining();
            change(&mut request.topology.as_mut().expect("it has one").subtopologies);
            assert_eq!(heartbeat(&request), Err((ResponseError::StreamsInvalidTopology, message.to_owned())));
        }
    }
}
