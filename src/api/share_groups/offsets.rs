//! DescribeShareGroupOffsets (90), AlterShareGroupOffsets (91), DeleteShareGroupOffsets (92): where share groups stand.
//!
//! The share coordinators know where; the group's coordinator knows which of its partitions they have.

mod describe;

use std::collections::BTreeMap;
use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::alter_share_group_offsets_response::{
    AlterShareGroupOffsetsResponsePartition, AlterShareGroupOffsetsResponseTopic,
};
use kafka_protocol::messages::delete_share_group_offsets_request::DeleteShareGroupOffsetsRequestTopic;
use kafka_protocol::messages::delete_share_group_offsets_response::DeleteShareGroupOffsetsResponseTopic;
use kafka_protocol::messages::{
    AlterShareGroupOffsetsRequest, AlterShareGroupOffsetsResponse, DeleteShareGroupOffsetsRequest,
    DeleteShareGroupOffsetsResponse, TopicName as WireTopicName,
};
use millstream_core::coordinator::group::share::{
    AlterShareOffsets, AlterShareTopic, DeleteShareOffsets, ShareCommand, ShareOffsetsAltered, ShareOffsetsToDelete,
    ShareReply,
};
use millstream_core::coordinator::group::{Command, GroupId, Reply, ReplyToken};
use millstream_core::security::Operation;
use millstream_core::types::{Offset, TopicId};

use super::is_enabled;
use crate::api::groups::{NO_TOKEN, answered, str_bytes, too_long};
use crate::api::{Access, BoxFuture, Context, Outcome, Request, Resource, Session, errors};
use crate::coordinator::{CoordinatorError, KeptPartitions};

pub use describe::handle as handle_describe;

/// Why nothing is changed, and in which words.
type Refused = (ResponseError, Option<String>);

/// Asks the coordinator of a share group.
async fn ask(
    context: &Context,
    group: &GroupId,
    command: impl FnOnce(ReplyToken) -> ShareCommand + Send + 'static,
) -> Result<ShareReply, CoordinatorError> {
    let asked = context.groups.ask_for(group.as_str(), move |token| Command::Share(command(token))).await;
    match answered(context, asked).await? {
        Reply::Share(reply) => Ok(reply),
        other => unreachable!("a share group was asked, and answered {other:?}"),
    }
}

fn check(context: &Context, group: &GroupId) -> Result<(), Refused> {
    if !is_enabled(context) {
        return Err((ResponseError::UnsupportedVersion, None));
    }
    if group.is_empty() { Err((ResponseError::InvalidGroupId, None)) } else { Ok(()) }
}

fn may(access: &Access, operation: Operation, resource: Resource<'_>) -> Result<(), Refused> {
    access.check(operation, resource).map_err(|error| (error, None))
}

fn of_coordinator(error: CoordinatorError) -> Refused {
    (errors::of_coordinator(error), None)
}

/// The code and the text of a row.
fn said(error: Option<ResponseError>) -> (i16, Option<crate::protocol::StrBytes>) {
    (error.map_or(0, |error| error.code()), error.map(|error| errors::message(&error)))
}

pub fn handle_alter<'a>(
    context: &'a Arc<Context>,
    _session: &'a mut Session,
    request: Request,
) -> BoxFuture<'a, Outcome> {
    Box::pin(async move {
        let asked: AlterShareGroupOffsetsRequest = match request.decode() {
            Ok(asked) => asked,
            Err(close) => return close,
        };
        let group = match GroupId::new(&asked.group_id) {
            Ok(group) => group,
            Err(e) => return too_long(e),
        };
        let body = match alter(context, &request.access, group, &asked).await {
            Ok(body) => body,
            Err((error, message)) => AlterShareGroupOffsetsResponse::default()
                .with_error_code(error.code())
                .with_error_message(Some(errors::message(&message.unwrap_or_else(|| error.to_string())))),
        };
        Outcome::reply(&request.header, &body)
    })
}

async fn alter(
    context: &Context,
    access: &Access,
    group: GroupId,
    asked: &AlterShareGroupOffsetsRequest,
) -> Result<AlterShareGroupOffsetsResponse, Refused> {
    check(context, &group)?;
    may(access, Operation::Read, Resource::Group(group.as_str()))?;
    context.groups.reach(context.controller.published().image.version()).await;
    let mut topics: BTreeMap<&str, BTreeMap<i32, Offset>> = BTreeMap::new();
    let mut forbidden = Vec::new();
    for topic in &asked.topics {
        if let Err(error) = access.check(Operation::Read, Resource::Topic(&topic.topic_name)) {
            let partitions = topic.partitions.iter().map(|row| partition_row(row.partition_index, Some(error)));
            forbidden.push(
                AlterShareGroupOffsetsResponseTopic::default()
                    .with_topic_name(topic.topic_name.clone())
                    .with_partitions(partitions.collect()),
            );
            continue;
        }
        let starts = topics.entry(&topic.topic_name).or_default();
        starts.extend(topic.partitions.iter().map(|row| (row.partition_index, Offset(row.start_offset))));
    }
    let topics = topics
        .into_iter()
        .map(|(name, starts)| AlterShareTopic { name: name.into(), partitions: starts.into_iter().collect() });
    let command = AlterShareOffsets { token: NO_TOKEN, group: group.clone(), topics: topics.collect() };
    let reply = ask(context, &group, move |token| ShareCommand::AlterOffsets(AlterShareOffsets { token, ..command }));
    let altered = match reply.await.map_err(of_coordinator)? {
        ShareReply::AlterOffsets(altered) => altered.map_err(|error| errors::of_share_offsets(&error))?,
        other => unreachable!("an alteration was answered with {other:?}"),
    };
    let ShareOffsetsAltered { initialize, topics } = altered;
    let mut codes = BTreeMap::new();
    if !initialize.topics.is_empty() {
        let mut done = context.share_keepers.initialize(initialize).await;
        let results = done.results.take();
        codes = by_place(results.as_ref());
        done.results = results;
        // What failed stays as it is being initialized: a member's heartbeat asks again.
        if !done.failed() {
            let told = done.told();
            if let Ok(partition) = context.groups.partition_for(group.as_str()) {
                context.groups.tell(partition, Command::Share(told)).await;
            }
        }
    }
    let rows = topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|(index, is_there)| {
            let error = match topic.id.filter(|_| *is_there) {
                None => Some(ResponseError::UnknownTopicOrPartition),
                Some(id) => match codes.get(&(id, *index)) {
                    None => Some(ResponseError::CoordinatorNotAvailable),
                    Some(code) => ResponseError::try_from_code(*code),
                },
            };
            partition_row(*index, error)
        });
        AlterShareGroupOffsetsResponseTopic::default()
            .with_topic_name(WireTopicName(str_bytes(&topic.name)))
            .with_topic_id(topic.id.map_or_else(uuid::Uuid::nil, |id| id.0))
            .with_partitions(partitions.collect())
    });
    Ok(AlterShareGroupOffsetsResponse::default()
        .with_error_message(None)
        .with_responses(rows.chain(forbidden).collect()))
}

fn partition_row(index: i32, error: Option<ResponseError>) -> AlterShareGroupOffsetsResponsePartition {
    let (code, message) = said(error);
    AlterShareGroupOffsetsResponsePartition::default()
        .with_partition_index(index)
        .with_error_code(code)
        .with_error_message(message)
}

fn by_place(kept: Option<&KeptPartitions>) -> BTreeMap<(TopicId, i32), i16> {
    let topics = kept.into_iter().flatten();
    topics.flat_map(|(id, of)| of.iter().map(move |(index, code)| ((*id, *index), *code))).collect()
}

pub fn handle_delete<'a>(
    context: &'a Arc<Context>,
    _session: &'a mut Session,
    request: Request,
) -> BoxFuture<'a, Outcome> {
    Box::pin(async move {
        let asked: DeleteShareGroupOffsetsRequest = match request.decode() {
            Ok(asked) => asked,
            Err(close) => return close,
        };
        let group = match GroupId::new(&asked.group_id) {
            Ok(group) => group,
            Err(e) => return too_long(e),
        };
        let body = match delete(context, &request.access, group, &asked).await {
            Ok(rows) => DeleteShareGroupOffsetsResponse::default().with_error_message(None).with_responses(rows),
            Err((error, message)) => DeleteShareGroupOffsetsResponse::default()
                .with_error_code(error.code())
                .with_error_message(Some(errors::message(&message.unwrap_or_else(|| error.to_string())))),
        };
        Outcome::reply(&request.header, &body)
    })
}

async fn delete(
    context: &Context,
    access: &Access,
    group: GroupId,
    asked: &DeleteShareGroupOffsetsRequest,
) -> Result<Vec<DeleteShareGroupOffsetsResponseTopic>, Refused> {
    check(context, &group)?;
    may(access, Operation::Delete, Resource::Group(group.as_str()))?;
    context.groups.reach(context.controller.published().image.version()).await;
    let may_read =
        |topic: &&DeleteShareGroupOffsetsRequestTopic| access.may(Operation::Read, Resource::Topic(&topic.topic_name));
    let (readable, forbidden): (Vec<_>, Vec<_>) = asked.topics.iter().partition(may_read);
    let mut topics: Vec<Arc<str>> = readable.iter().map(|topic| Arc::from(&**topic.topic_name)).collect();
    topics.sort();
    topics.dedup();
    let unauthorized = |topic: &DeleteShareGroupOffsetsRequestTopic| {
        let (code, message) = said(Some(ResponseError::TopicAuthorizationFailed));
        DeleteShareGroupOffsetsResponseTopic::default()
            .with_topic_name(topic.topic_name.clone())
            .with_error_code(code)
            .with_error_message(message)
    };
    let forbidden: Vec<_> = forbidden.into_iter().map(unauthorized).collect();
    let command = DeleteShareOffsets { token: NO_TOKEN, group: group.clone(), topics };
    let reply = ask(context, &group, move |token| ShareCommand::DeleteOffsets(DeleteShareOffsets { token, ..command }));
    let ShareOffsetsToDelete { topics, nothing } = match reply.await.map_err(of_coordinator)? {
        ShareReply::DeleteOffsets(begun) => begun.map_err(|error| errors::of_share_offsets(&error))?,
        other => unreachable!("a deletion was answered with {other:?}"),
    };
    let mut rows: Vec<_> = nothing.iter().map(|(name, is_unknown)| no_offsets(name, *is_unknown)).collect();
    rows.extend(forbidden);
    if topics.is_empty() {
        return Ok(rows);
    }
    let state = topics.iter().map(|topic| (topic.id, topic.partitions.iter().copied().collect())).collect();
    let deleted = context.share_keepers.delete(group.clone(), state).await;
    let codes = by_place(deleted.as_ref());
    let failed = |id: TopicId, partitions: &[i32]| {
        let code = |index: &i32| codes.get(&(id, *index)).copied();
        let failed = partitions.iter().map(code).find(|code| *code != Some(0))?;
        Some(failed.and_then(ResponseError::try_from_code).unwrap_or(ResponseError::CoordinatorNotAvailable))
    };
    let mut gone = Vec::new();
    for topic in &topics {
        let (code, message) = said(failed(topic.id, &topic.partitions));
        if code == 0 {
            gone.push(topic.id);
        }
        rows.push(
            DeleteShareGroupOffsetsResponseTopic::default()
                .with_topic_name(WireTopicName(str_bytes(&topic.name)))
                .with_topic_id(topic.id.0)
                .with_error_code(code)
                .with_error_message(message),
        );
    }
    if !gone.is_empty() {
        let (of, gone) = (group.clone(), Arc::from(gone));
        let told = ask(context, &group, move |token| ShareCommand::OffsetsDeleted { token, group: of, topics: gone });
        told.await.map_err(of_coordinator)?;
    }
    Ok(rows)
}

/// There is nothing to delete of a topic: that is no such topic.
fn no_offsets(name: &str, is_unknown: bool) -> DeleteShareGroupOffsetsResponseTopic {
    let error = ResponseError::UnknownTopicOrPartition;
    let message = if is_unknown {
        errors::message(&error)
    } else {
        errors::message(&"There is no offset information to delete.")
    };
    DeleteShareGroupOffsetsResponseTopic::default()
        .with_topic_name(WireTopicName(str_bytes(name)))
        .with_error_code(error.code())
        .with_error_message(Some(message))
}
