//! A heartbeat as the group's state machine takes it.

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_core::coordinator::group::streams::{
    CopartitionGroup, Endpoint, StreamsHeartbeat, Subtopology, TaskSet, Tasks, TopicInfo, Topology,
};
use millstream_core::coordinator::group::{ClientHost, ClientId, GroupId, MemberId, TEXT_LEN_MAX, TextTooLong};

use super::super::Session;
use super::super::groups::{NO_TOKEN, client_host, head};
use crate::protocol::StrBytes;
use crate::protocol::streams_group::{self as wire, KeyValue, PartitionsOf, StreamsGroupHeartbeatRequest};

/// # Errors
/// A text is longer than a record could hold.
pub(super) fn heartbeat(
    asked: &StreamsGroupHeartbeatRequest,
    session: &Session,
) -> Result<StreamsHeartbeat, TextTooLong> {
    let owned = match (&asked.active_tasks, &asked.standby_tasks, &asked.warmup_tasks) {
        (Some(active), Some(standby), Some(warmup)) => {
            Some(Tasks { active: tasks(active)?, standby: tasks(standby)?, warmup: tasks(warmup)? })
        }
        _ => None,
    };
    Ok(StreamsHeartbeat {
        token: NO_TOKEN,
        group: GroupId::new(&asked.group_id)?,
        member: MemberId::new(&asked.member_id)?,
        epoch: asked.member_epoch,
        endpoint_epoch: asked.endpoint_information_epoch,
        rack: asked.rack_id.as_ref().map(text).transpose()?,
        client_id: ClientId::new(head(&session.client_id, TEXT_LEN_MAX))?,
        client_host: ClientHost::new(&client_host(session.peer.ip()))?,
        rebalance_timeout_ms: Some(asked.rebalance_timeout_ms).filter(|ms| *ms != -1),
        topology: asked.topology.as_ref().map(topology).transpose()?.map(Arc::new),
        owned,
        process: asked.process_id.as_ref().map(text).transpose()?,
        endpoint: asked.user_endpoint.as_ref().map(endpoint).transpose()?,
        tags: asked.client_tags.as_deref().map(pairs).transpose()?.map(Arc::new),
        shutdown: asked.shutdown_application,
    })
}

fn text(text: &StrBytes) -> Result<Arc<str>, TextTooLong> {
    match text.len() {
        len if len > TEXT_LEN_MAX => Err(TextTooLong(len)),
        _ => Ok(Arc::from(&**text)),
    }
}

fn texts(of: &[StrBytes]) -> Result<Vec<Arc<str>>, TextTooLong> {
    of.iter().map(text).collect()
}

fn endpoint(of: &wire::Endpoint) -> Result<Endpoint, TextTooLong> {
    Ok(Endpoint { host: text(&of.host)?, port: of.port })
}

fn pairs<C: FromIterator<(Arc<str>, Arc<str>)>>(of: &[KeyValue]) -> Result<C, TextTooLong> {
    of.iter().map(|pair| Ok((text(&pair.key)?, text(&pair.value)?))).collect()
}

/// A subtopology that is named twice has the tasks of both.
fn tasks(of: &[PartitionsOf]) -> Result<TaskSet, TextTooLong> {
    let mut tasks = TaskSet::new();
    for PartitionsOf { name, partitions } in of {
        tasks.entry(text(name)?).or_default().extend(partitions);
    }
    Ok(tasks)
}

fn topology(of: &wire::Topology) -> Result<Topology, TextTooLong> {
    let part = |part: &wire::Subtopology| Ok((text(&part.subtopology_id)?, subtopology(part)?));
    let subtopologies = of.subtopologies.iter().map(part).collect::<Result<BTreeMap<_, _>, _>>()?;
    Ok(Topology { epoch: of.epoch, subtopologies })
}

fn subtopology(of: &wire::Subtopology) -> Result<Subtopology, TextTooLong> {
    let infos = |topics: &[wire::TopicInfo]| topics.iter().map(topic).collect::<Result<Vec<_>, _>>();
    let copartitioned = of.copartition_groups.iter().map(|group| CopartitionGroup {
        source_topics: group.source_topics.clone(),
        source_patterns: group.source_topic_regex.clone(),
        repartition_sources: group.repartition_source_topics.clone(),
    });
    Ok(Subtopology {
        source_topics: texts(&of.source_topics)?,
        source_patterns: texts(&of.source_topic_regex)?,
        changelogs: infos(&of.state_changelog_topics)?,
        repartition_sinks: texts(&of.repartition_sink_topics)?,
        repartition_sources: infos(&of.repartition_source_topics)?,
        copartition_groups: copartitioned.collect(),
    })
}

fn topic(of: &wire::TopicInfo) -> Result<TopicInfo, TextTooLong> {
    Ok(TopicInfo {
        name: text(&of.name)?,
        partitions: of.partitions,
        replication_factor: of.replication_factor,
        configs: pairs(&of.topic_configs)?,
    })
}
