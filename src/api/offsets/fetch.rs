//! OffsetFetch: of one group up to version 7, then of many.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use millstream_core::coordinator::group::{
    Command, FetchTopic, Fetched, FetchedOffset, FetchedTopic, GroupId, MemberId, OffsetFetch, Reply, TextTooLong,
};
use millstream_core::security::Operation;
use millstream_core::types::{TopicId, TopicName};

use super::super::groups::{NO_TOKEN, answered, str_bytes, too_long};
use super::super::{Access, BoxFuture, Context, Outcome, Request, Resource, Session, errors};
use super::Find;
use crate::coordinator::{Asked, CoordinatorError};
use crate::protocol::offset_fetch::{
    OffsetFetchGroup, OffsetFetchGroupResponse, OffsetFetchPartitionResponse, OffsetFetchRequest, OffsetFetchResponse,
    OffsetFetchTopicResponse,
};
use crate::protocol::{StrBytes, TopicRef};

/// From this version on topics go by id.
const TOPIC_ID_FROM: i16 = 10;

/// What is put to a group's coordinator, and what is answered without it.
pub(super) struct Plan {
    pub fetch: OffsetFetch,
    /// `None`: all topics are asked for.
    pub topics: Option<Vec<PlannedTopic>>,
}

/// A topic as it was asked for.
pub(super) struct PlannedTopic {
    pub topic: TopicRef,
    /// Once each, however often they are named: a reply is not to outgrow what there is.
    pub partitions: Vec<i32>,
    pub verdict: Verdict,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The coordinator says, in the order of the fetch.
    Asked,
    /// It cannot have been committed: no topic can have this name.
    Nothing,
    Refused(ResponseError),
}

/// Where a group's answer comes from.
enum Answer {
    Coordinator(Plan, Result<Asked, CoordinatorError>),
    Refused(ResponseError),
}

pub fn handle<'a>(context: &'a Arc<Context>, _session: &'a mut Session, request: Request) -> BoxFuture<'a, Outcome> {
    Box::pin(async move {
        let version = request.header.version;
        let asked: OffsetFetchRequest = match request.decode() {
            Ok(asked) => asked,
            Err(close) => return close,
        };
        let access = &request.access;
        let find = |topic: &TopicRef| access.find(context, Operation::Describe, topic);
        context.groups.confirm(asked.groups.iter().map(|group| &*group.group_id)).await;
        let mut answers = Vec::with_capacity(asked.groups.len());
        let mut seen = HashSet::new();
        for group in &asked.groups {
            // Once for all and once for some topics: a reply is not to outgrow what there is.
            if !seen.insert((&group.group_id, group.topics.is_none())) {
                answers.push(Answer::Refused(ResponseError::InvalidRequest));
                continue;
            }
            if let Err(error) = access.check(Operation::Describe, Resource::Group(&group.group_id)) {
                answers.push(Answer::Refused(error));
                continue;
            }
            let plan = match from_wire(group, asked.require_stable, &find) {
                Ok(plan) => plan,
                Err(e) => return too_long(e),
            };
            let fetch = plan.fetch.clone();
            let command = move |token| Command::OffsetFetch(OffsetFetch { token, ..fetch });
            let answer = context.groups.ask_for(&group.group_id, command).await;
            answers.push(Answer::Coordinator(plan, answer));
        }
        let mut groups = Vec::with_capacity(answers.len());
        for (group, answer) in asked.groups.iter().zip(answers) {
            let (topics, error) = match answer {
                Answer::Coordinator(plan, asked) => match answered(context, asked).await {
                    Ok(Reply::OffsetFetch(Err(e))) => (nothing_of(group, version), Some(errors::of_offset_fetch(e))),
                    Ok(Reply::OffsetFetch(Ok(fetched))) => {
                        let fetched = if plan.topics.is_none() { visible(access, fetched) } else { fetched };
                        (to_wire(plan, fetched, version, &|topic| context.find(topic)), None)
                    }
                    Ok(other) => unreachable!("a fetch was answered with {other:?}"),
                    Err(e) => (nothing_of(group, version), Some(errors::of_coordinator_at_fetch(e))),
                },
                Answer::Refused(error) => (nothing_of(group, version), Some(error)),
            };
            let error_code = error.map_or(0, |error| error.code());
            groups.push(OffsetFetchGroupResponse { group_id: group.group_id.clone(), topics, error_code });
        }
        Outcome::reply(&request.header, &OffsetFetchResponse { throttle_time_ms: 0, groups })
    })
}

/// Of all that a group has committed, that of topics that the client may know of. What it named was checked before.
fn visible(access: &Access, mut fetched: Vec<FetchedTopic>) -> Vec<FetchedTopic> {
    let may_see = |topic: &FetchedTopic| access.may_quietly(Operation::Describe, Resource::Topic(topic.name.as_str()));
    fetched.retain(may_see);
    fetched
}

/// A topic that is not there may still have offsets, under its name; by an id it cannot be asked for. The id that a
/// name stands for now goes along, so that what was committed for a topic of that name before is not mistaken for its.
pub(super) fn from_wire(asked: &OffsetFetchGroup, require_stable: bool, find: &Find<'_>) -> Result<Plan, TextTooLong> {
    let group = GroupId::new(&asked.group_id)?;
    let mut fetch =
        OffsetFetch { token: NO_TOKEN, group, topics: None, require_stable, member: None, epoch: asked.member_epoch };
    fetch.member = asked.member_id.as_deref().map(MemberId::new).transpose()?;
    let Some(topics) = &asked.topics else { return Ok(Plan { fetch, topics: None }) };
    let mut named: HashMap<&TopicRef, HashSet<i32>> = HashMap::new();
    let mut to_fetch = Vec::new();
    let mut planned = Vec::with_capacity(topics.len());
    for topic in topics {
        let seen = named.entry(&topic.topic).or_default();
        let partitions: Vec<i32> = topic.partitions.iter().copied().filter(|index| seen.insert(*index)).collect();
        let found = match (find(&topic.topic), &topic.topic) {
            (Ok(found), _) => Ok(Some((found.name, found.id))),
            (Err(error @ ResponseError::TopicAuthorizationFailed), _) => Err(error),
            (Err(_), TopicRef::Name(name)) => Ok(TopicName::new(name).ok().map(|name| (name, TopicId::ZERO))),
            (Err(e), TopicRef::Id(_)) => Err(e),
        };
        let verdict = match found {
            Ok(Some((name, id))) => {
                to_fetch.push(FetchTopic { name, id, partitions: partitions.clone() });
                Verdict::Asked
            }
            Ok(None) => Verdict::Nothing,
            Err(e) => Verdict::Refused(e),
        };
        planned.push(PlannedTopic { topic: topic.topic.clone(), partitions, verdict });
    }
    fetch.topics = Some(to_fetch);
    Ok(Plan { fetch, topics: Some(planned) })
}

pub(super) fn to_wire(
    plan: Plan,
    fetched: Vec<FetchedTopic>,
    version: i16,
    find: &Find<'_>,
) -> Vec<OffsetFetchTopicResponse> {
    let mut fetched = fetched.into_iter();
    let Some(topics) = plan.topics else {
        let named = |topic: FetchedTopic| {
            let name = TopicRef::Name(str_bytes(topic.name.as_str()));
            // One that is not there any more cannot be said by id.
            let topic_ref = if version < TOPIC_ID_FROM { name } else { TopicRef::Id(find(&name).ok()?.id.0) };
            Some(OffsetFetchTopicResponse { topic: topic_ref, partitions: of_topic(topic) })
        };
        return fetched.filter_map(named).collect();
    };
    let mut answered = Vec::with_capacity(topics.len());
    for PlannedTopic { topic, partitions, verdict } in topics {
        let partitions = match verdict {
            Verdict::Asked => of_topic(fetched.next().expect("the coordinator answers what it was asked")),
            Verdict::Nothing => partitions.iter().map(|index| nothing(*index, 0)).collect(),
            Verdict::Refused(e) => partitions.iter().map(|index| nothing(*index, e.code())).collect(),
        };
        answered.push(OffsetFetchTopicResponse { topic, partitions });
    }
    answered
}

fn of_topic(topic: FetchedTopic) -> Vec<OffsetFetchPartitionResponse> {
    let row = |(index, offset): (i32, Fetched)| match offset {
        Fetched::Nothing => nothing(index, 0),
        Fetched::Unstable => nothing(index, ResponseError::UnstableOffsetCommit.code()),
        Fetched::Offset(FetchedOffset { offset, leader_epoch, metadata }) => OffsetFetchPartitionResponse {
            index,
            committed_offset: offset.0,
            committed_leader_epoch: leader_epoch.map_or(-1, |epoch| epoch.0),
            metadata: Some(StrBytes::from_string(metadata.into_string())),
            error_code: 0,
        },
    };
    topic.partitions.into_iter().map(row).collect()
}

fn nothing(index: i32, error_code: i16) -> OffsetFetchPartitionResponse {
    OffsetFetchPartitionResponse {
        index,
        committed_offset: -1,
        committed_leader_epoch: -1,
        metadata: Some(StrBytes::default()),
        error_code,
    }
}

/// What a group's error stands beside: nothing, but in version 1, which says it of every partition.
fn nothing_of(asked: &OffsetFetchGroup, version: i16) -> Vec<OffsetFetchTopicResponse> {
    if version >= 2 {
        return Vec::new();
    }
    let topics = asked.topics.iter().flatten().map(|topic| OffsetFetchTopicResponse {
        topic: topic.topic.clone(),
        partitions: topic.partitions.iter().map(|index| nothing(*index, 0)).collect(),
    });
    topics.collect()
}
