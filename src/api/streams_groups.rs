//! StreamsGroupHeartbeat (88), StreamsGroupDescribe (89): the processes of Kafka Streams applications, whose tasks are
//! assigned here and whose own topics are created here (KIP-1071).

mod check;
mod create;
mod from_wire;
mod to_wire;

use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use millstream_core::controller::STREAMS_VERSION;
use millstream_core::coordinator::group::streams::{
    DescribedStreamsGroup, InternalTopic, StreamsBeaten, StreamsCommand, StreamsHeartbeat, StreamsRefused,
    StreamsReply, StreamsStatus, StreamsStatusKind,
};
use millstream_core::coordinator::group::{Command, DescribeGroups, GroupId, Reply, TextTooLong};
use millstream_core::security::Operation;
use tokio::time::Instant;

use super::consumer_groups::{HIDDEN_TOPICS, may_join};
use super::describe_groups::{ask_each, permitted};
use super::groups::{answered, too_long};
use super::{Access, BoxFuture, Context, Outcome, Request, Resource, Session, errors};
use crate::protocol::streams_group::{
    StreamsGroupDescribeRequest, StreamsGroupDescribeResponse, StreamsGroupHeartbeatRequest,
    StreamsGroupHeartbeatResponse,
};

pub use create::InternalTopics;

/// Why a heartbeat is refused, and in which words.
type Refused = (ResponseError, String);

/// Whether the cluster has agreed on the protocol, and this node offers it.
fn is_enabled(context: &Context) -> bool {
    context.groups.config().streams.is_enabled && context.controller.look(|now| now.image.feature(STREAMS_VERSION) > 0)
}

pub fn handle_heartbeat<'a>(
    context: &'a Arc<Context>,
    session: &'a mut Session,
    request: Request,
) -> BoxFuture<'a, Outcome> {
    Box::pin(async move {
        let asked: StreamsGroupHeartbeatRequest = match request.decode() {
            Ok(asked) => asked,
            Err(close) => return close,
        };
        if !is_enabled(context) {
            return Outcome::reply(&request.header, &heartbeat_refused(ResponseError::UnsupportedVersion, None));
        }
        if let Err(error) = may_join(&request.access, &asked.group_id, check::topics_of(&asked)) {
            return Outcome::reply(&request.header, &heartbeat_refused(error, None));
        }
        if let Err((error, message)) = check::heartbeat(&asked) {
            return Outcome::reply(&request.header, &heartbeat_refused(error, Some(&message)));
        }
        let beat = match from_wire::heartbeat(&asked, session) {
            Ok(beat) => beat,
            Err(e) => return too_long(e),
        };
        let group = beat.group.clone();
        let command =
            move |token| Command::Streams(StreamsCommand::Heartbeat(Box::new(StreamsHeartbeat { token, ..beat })));
        let body = match answered(context, context.groups.ask_for(group.as_str(), command).await).await {
            Ok(Reply::Streams(StreamsReply::Heartbeat(Ok(beaten)))) => {
                to_wire::heartbeat(with_topics(context, session, &request.access, beaten))
            }
            Ok(Reply::Streams(StreamsReply::Heartbeat(Err(StreamsRefused { error, message })))) => {
                heartbeat_refused(errors::of_streams_group(error), Some(&message))
            }
            Ok(other) => unreachable!("a heartbeat was answered with {other:?}"),
            Err(e) => heartbeat_refused(errors::of_coordinator(e), None),
        };
        Outcome::reply(&request.header, &body)
    })
}

/// Has the topics created that the application lacks, and tells which could not be when it was tried before.
fn with_topics(context: &Arc<Context>, session: &Session, access: &Access, mut beaten: StreamsBeaten) -> StreamsBeaten {
    let missing = std::mem::take(&mut beaten.create);
    let may_create = |topic: &InternalTopic| {
        access.may_quietly(Operation::Create, Resource::Cluster)
            || access.may(Operation::Create, Resource::Topic(&topic.name))
    };
    let (missing, forbidden): (Vec<_>, Vec<_>) = missing.into_iter().partition(may_create);
    if !forbidden.is_empty()
        && let Some(status) = status_of_missing(&mut beaten)
    {
        let names: Vec<&str> = forbidden.iter().map(|topic| &*topic.name).collect();
        status.detail = format!("{}; Unauthorized to CREATE on topics {}.", status.detail, names.join(", "));
    }
    if missing.is_empty() {
        return beaten;
    }
    let failed = context.internal_topics.failed(missing.iter().map(|topic| &*topic.name), Instant::now());
    if !failed.is_empty()
        && let Some(status) = status_of_missing(&mut beaten)
    {
        let failed: Vec<String> = failed.into_iter().map(|(name, why)| format!("{name} ({why})")).collect();
        status.detail = format!("{}; Creation failed: {}.", status.detail, failed.join(", "));
    }
    create::create(context, session, missing);
    beaten
}

fn status_of_missing(beaten: &mut StreamsBeaten) -> Option<&mut StreamsStatus> {
    beaten.status.iter_mut().find(|status| status.kind == StreamsStatusKind::MissingInternalTopics)
}

fn heartbeat_refused(error: ResponseError, message: Option<&str>) -> StreamsGroupHeartbeatResponse {
    StreamsGroupHeartbeatResponse {
        error_code: error.code(),
        error_message: message.map(|message| errors::message(&message)),
        ..StreamsGroupHeartbeatResponse::default()
    }
}

pub fn handle_describe<'a>(
    context: &'a Arc<Context>,
    _session: &'a mut Session,
    request: Request,
) -> BoxFuture<'a, Outcome> {
    Box::pin(async move {
        let asked: StreamsGroupDescribeRequest = match request.decode() {
            Ok(asked) => asked,
            Err(close) => return close,
        };
        let groups: Result<_, TextTooLong> = asked.group_ids.iter().map(|id| GroupId::new(id)).collect();
        let groups: std::collections::BTreeSet<GroupId> = match groups {
            Ok(groups) => groups,
            Err(e) => return too_long(e),
        };
        let mut rows = Vec::new();
        if !is_enabled(context) {
            rows.extend(groups.iter().map(|id| to_wire::describe_refused(id, ResponseError::UnsupportedVersion, None)));
            return Outcome::reply(&request.header, &StreamsGroupDescribeResponse { groups: rows });
        }
        let access = &request.access;
        let (groups, refused) = permitted(access, Operation::Describe, groups);
        let forbidden = ResponseError::GroupAuthorizationFailed;
        rows.extend(refused.iter().map(|id| to_wire::describe_refused(id, forbidden, None)));
        context.groups.confirm(groups.iter().map(GroupId::as_str)).await;
        let command = |groups, token| Command::Streams(StreamsCommand::Describe(DescribeGroups { token, groups }));
        for (groups, asked_of) in ask_each(&context.groups, groups, command).await {
            match answered(context, asked_of).await {
                Ok(Reply::Streams(StreamsReply::Describe(described))) => {
                    let row = |(id, described): (GroupId, Option<Option<DescribedStreamsGroup>>)| {
                        let with_operations = asked.include_authorized_operations;
                        let operations = access.operations_if(with_operations, Resource::Group(id.as_str()));
                        let row = to_wire::group(&id, described, operations);
                        let hidden = ResponseError::TopicAuthorizationFailed;
                        match check::may_see(access, &row) {
                            true => row,
                            false => to_wire::describe_refused(&id, hidden, Some(HIDDEN_TOPICS)),
                        }
                    };
                    rows.extend(described.into_iter().map(row));
                }
                Ok(other) => unreachable!("a describe was answered with {other:?}"),
                Err(e) => {
                    let refused = |id| to_wire::describe_refused(id, errors::of_coordinator(e), None);
                    rows.extend(groups.iter().map(refused));
                }
            }
        }
        Outcome::reply(&request.header, &StreamsGroupDescribeResponse { groups: rows })
    })
}
