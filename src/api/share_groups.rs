//! ShareGroupHeartbeat (76), ShareGroupDescribe (77): the members of share groups (KIP-932). Where the groups stand is
//! in `offsets`.

mod delete;
mod offsets;

use std::collections::BTreeSet;
use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::share_group_describe_response::{
    Assignment as DescribedAssignment, DescribedGroup, Member, TopicPartitions as DescribedPartitions,
};
use kafka_protocol::messages::share_group_heartbeat_response::{Assignment, TopicPartitions};
use kafka_protocol::messages::{
    ShareGroupDescribeRequest, ShareGroupDescribeResponse, ShareGroupHeartbeatRequest, ShareGroupHeartbeatResponse,
    TopicName as WireTopicName,
};
use millstream_core::controller::SHARE_VERSION;
use millstream_core::coordinator::group::consumer::LEAVE_EPOCH;
use millstream_core::coordinator::group::share::{
    ASSIGNOR, DescribedShareGroup, DescribedShareMember, ShareCommand, ShareHeartbeat, ShareReply,
};
use millstream_core::coordinator::group::{
    ClientHost, ClientId, Command, ConsumerBeaten, ConsumerRefused, DescribeGroups, GroupId, MemberId, Reply,
    TEXT_LEN_MAX, TextTooLong,
};
use millstream_core::security::Operation;

use super::consumer_groups::{HIDDEN_TOPICS, may_join};
use super::describe_groups::{ask_each, group_ids, permitted, wire_id};
use super::groups::{NO_TOKEN, answered, client_host, head, str_bytes, too_long};
use super::{Access, BoxFuture, Context, Outcome, Request, Resource, Session, errors};
use crate::protocol::StrBytes;

pub use delete::delete_states;
pub use offsets::{handle_alter, handle_delete, handle_describe as handle_describe_offsets};

/// UTF-16 units of a member id: those of a UUID in its long form.
const MEMBER_ID_LEN_MAX: usize = 36;

/// Whether the cluster has agreed on share groups.
pub(super) fn is_enabled(context: &Context) -> bool {
    context.controller.look(|now| now.image.feature(SHARE_VERSION) > 0)
}

/// Whether a member may be called so (`KafkaApis.isMemberIdValid`).
pub(super) fn is_member_id(id: &str) -> bool {
    (1..=MEMBER_ID_LEN_MAX).contains(&id.encode_utf16().count())
}

pub fn handle_heartbeat<'a>(
    context: &'a Arc<Context>,
    session: &'a mut Session,
    request: Request,
) -> BoxFuture<'a, Outcome> {
    Box::pin(async move {
        let asked: ShareGroupHeartbeatRequest = match request.decode() {
            Ok(asked) => asked,
            Err(close) => return close,
        };
        if !is_enabled(context) {
            return Outcome::reply(&request.header, &heartbeat_refused(ResponseError::UnsupportedVersion, None));
        }
        if let Err(error) = may_join(
            &request.access,
            &asked.group_id,
            asked.subscribed_topic_names.iter().flatten().map(|name| &name.0),
        ) {
            return Outcome::reply(&request.header, &heartbeat_refused(error, None));
        }
        if let Err(message) = check(&asked) {
            let refused = heartbeat_refused(ResponseError::InvalidRequest, Some(message));
            return Outcome::reply(&request.header, &refused);
        }
        let beat = match heartbeat_from_wire(&asked, session) {
            Ok(beat) => beat,
            Err(e) => return too_long(e),
        };
        let group = beat.group.clone();
        let command = move |token| Command::Share(ShareCommand::Heartbeat(ShareHeartbeat { token, ..beat }));
        let body = match answered(context, context.groups.ask_for(group.as_str(), command).await).await {
            Ok(Reply::Share(ShareReply::Heartbeat(Ok(beaten)))) => heartbeat_to_wire(beaten),
            Ok(Reply::Share(ShareReply::Heartbeat(Err(ConsumerRefused { error, message })))) => {
                heartbeat_refused(errors::of_consumer_group(error), Some(&message))
            }
            Ok(other) => unreachable!("a heartbeat was answered with {other:?}"),
            Err(e) => heartbeat_refused(errors::of_coordinator(e), None),
        };
        Outcome::reply(&request.header, &body)
    })
}

/// What can be said of a request without the group (`throwIfShareGroupHeartbeatRequestIsInvalid`).
fn check(asked: &ShareGroupHeartbeatRequest) -> Result<(), &'static str> {
    let is_blank = |text: &StrBytes| text.trim().is_empty();
    let names_no_topics = asked.subscribed_topic_names.as_ref().is_none_or(Vec::is_empty);
    match asked.member_epoch {
        _ if !is_member_id(&asked.member_id) => Err("Invalid member id in the request."),
        _ if is_blank(&asked.member_id) => Err("MemberId can't be empty."),
        _ if is_blank(&asked.group_id) => Err("GroupId can't be empty."),
        _ if asked.rack_id.as_ref().is_some_and(is_blank) => Err("RackId can't be empty."),
        0 if names_no_topics => Err("SubscribedTopicNames must be set in first request."),
        epoch if epoch < LEAVE_EPOCH => Err("MemberEpoch is invalid."),
        _ => Ok(()),
    }
}

fn heartbeat_from_wire(asked: &ShareGroupHeartbeatRequest, session: &Session) -> Result<ShareHeartbeat, TextTooLong> {
    let text = |text: &StrBytes| match text.len() {
        len if len > TEXT_LEN_MAX => Err(TextTooLong(len)),
        _ => Ok(Arc::<str>::from(&**text)),
    };
    let topics = asked.subscribed_topic_names.as_ref();
    let topics = topics.map(|names| names.iter().map(|name| text(name)).collect::<Result<BTreeSet<_>, _>>());
    Ok(ShareHeartbeat {
        token: NO_TOKEN,
        group: GroupId::new(&asked.group_id)?,
        member: MemberId::new(&asked.member_id)?,
        epoch: asked.member_epoch,
        rack: asked.rack_id.as_ref().map(text).transpose()?,
        client_id: ClientId::new(head(&session.client_id, TEXT_LEN_MAX))?,
        client_host: ClientHost::new(&client_host(session.peer.ip()))?,
        topics: topics.transpose()?.map(Arc::new),
    })
}

fn heartbeat_to_wire(beaten: ConsumerBeaten) -> ShareGroupHeartbeatResponse {
    let assignment = beaten.assignment.map(|assignment| {
        let topics = assignment.into_iter().map(|(topic, partitions)| {
            TopicPartitions::default().with_topic_id(topic.0).with_partitions(partitions.into_iter().collect())
        });
        Assignment::default().with_topic_partitions(topics.collect())
    });
    ShareGroupHeartbeatResponse::default()
        .with_member_id(Some(str_bytes(beaten.member.as_str())))
        .with_member_epoch(beaten.epoch)
        .with_heartbeat_interval_ms(beaten.heartbeat_interval_ms)
        .with_assignment(assignment)
}

fn heartbeat_refused(error: ResponseError, message: Option<&str>) -> ShareGroupHeartbeatResponse {
    ShareGroupHeartbeatResponse::default()
        .with_error_code(error.code())
        .with_error_message(message.map(|message| errors::message(&message)))
}

pub fn handle_describe<'a>(
    context: &'a Arc<Context>,
    _session: &'a mut Session,
    request: Request,
) -> BoxFuture<'a, Outcome> {
    Box::pin(async move {
        let asked: ShareGroupDescribeRequest = match request.decode() {
            Ok(asked) => asked,
            Err(close) => return close,
        };
        let groups = match group_ids(&asked.group_ids) {
            Ok(groups) => groups,
            Err(e) => return too_long(e),
        };
        let mut rows = Vec::new();
        if !is_enabled(context) {
            rows.extend(groups.iter().map(|id| describe_refused(id, ResponseError::UnsupportedVersion, None)));
            return Outcome::reply(&request.header, &ShareGroupDescribeResponse::default().with_groups(rows));
        }
        let access = &request.access;
        let (groups, refused) = permitted(access, Operation::Describe, groups);
        let forbidden = ResponseError::GroupAuthorizationFailed;
        rows.extend(refused.iter().map(|id| describe_refused(id, forbidden, None)));
        context.groups.confirm(groups.iter().map(GroupId::as_str)).await;
        let command = |groups, token| Command::Share(ShareCommand::Describe(DescribeGroups { token, groups }));
        for (groups, asked_of) in ask_each(&context.groups, groups, command).await {
            match answered(context, asked_of).await {
                Ok(Reply::Share(ShareReply::Describe(described))) => {
                    let row = |(id, described): (GroupId, Option<Option<DescribedShareGroup>>)| {
                        let with_operations = asked.include_authorized_operations;
                        let operations = access.operations_if(with_operations, Resource::Group(id.as_str()));
                        let row = describe_to_wire(&id, described, operations);
                        if may_see(access, &row) { row } else { hidden(&id) }
                    };
                    rows.extend(described.into_iter().map(row));
                }
                Ok(other) => unreachable!("a describe was answered with {other:?}"),
                Err(e) => rows.extend(groups.iter().map(|id| describe_refused(id, errors::of_coordinator(e), None))),
            }
        }
        Outcome::reply(&request.header, &ShareGroupDescribeResponse::default().with_groups(rows))
    })
}

/// Whether the client may know of all topics that a group is about.
fn may_see(access: &Access, group: &DescribedGroup) -> bool {
    let of = |member: &Member| {
        let assigned = member.assignment.topic_partitions.iter().map(|topic| topic.topic_name.clone());
        assigned.chain(member.subscribed_topic_names.iter().cloned()).collect::<Vec<_>>()
    };
    let names: BTreeSet<WireTopicName> = group.members.iter().flat_map(of).collect();
    names.iter().all(|name| access.may_quietly(Operation::Describe, Resource::Topic(name)))
}

fn hidden(id: &GroupId) -> DescribedGroup {
    describe_refused(id, ResponseError::TopicAuthorizationFailed, Some(HIDDEN_TOPICS))
}

fn describe_refused(id: &GroupId, error: ResponseError, message: Option<&str>) -> DescribedGroup {
    DescribedGroup::default()
        .with_group_id(wire_id(id))
        .with_error_code(error.code())
        .with_error_message(message.map(|message| errors::message(&message)))
}

fn describe_to_wire(id: &GroupId, described: Option<Option<DescribedShareGroup>>, operations: i32) -> DescribedGroup {
    let not_found = |message: &str| describe_refused(id, ResponseError::GroupIdNotFound, Some(message));
    let group = match described {
        _ if id.is_empty() => return describe_refused(id, ResponseError::InvalidGroupId, None),
        None => return not_found(&format!("Group {id} not found.")),
        Some(None) => return not_found(&format!("Group {id} is not a share group.")),
        Some(Some(group)) => group,
    };
    DescribedGroup::default()
        .with_group_id(wire_id(id))
        .with_group_state(StrBytes::from_static_str(group.state.name()))
        .with_group_epoch(group.epoch)
        .with_assignment_epoch(group.target_epoch)
        .with_assignor_name(StrBytes::from_static_str(ASSIGNOR))
        .with_members(group.members.iter().map(member_to_wire).collect())
        .with_authorized_operations(operations)
}

fn member_to_wire(member: &DescribedShareMember) -> Member {
    let topics = member.assigned.iter().map(|topic| {
        DescribedPartitions::default()
            .with_topic_id(topic.id.0)
            .with_topic_name(WireTopicName(str_bytes(topic.name.as_str())))
            .with_partitions(topic.partitions.clone())
    });
    Member::default()
        .with_member_id(str_bytes(member.member.as_str()))
        .with_rack_id(member.said.rack.as_deref().map(str_bytes))
        .with_member_epoch(member.epoch)
        .with_client_id(str_bytes(member.said.client_id.as_str()))
        .with_client_host(str_bytes(member.said.client_host.as_str()))
        .with_subscribed_topic_names(member.said.topics.iter().map(|name| WireTopicName(str_bytes(name))).collect())
        .with_assignment(DescribedAssignment::default().with_topic_partitions(topics.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heartbeats_that_cannot_be_are_refused() {
        let beat = |member: &'static str, epoch| {
            ShareGroupHeartbeatRequest::default()
                .with_group_id(kafka_protocol::messages::GroupId(StrBytes::from_static_str("g")))
                .with_member_id(StrBytes::from_static_str(member))
                .with_member_epoch(epoch)
        };
        let topics = |names: &[&'static str]| {
            Some(names.iter().map(|name| WireTopicName(StrBytes::from_static_str(name))).collect())
        };
        assert_eq!(check(&beat("m", 0).with_subscribed_topic_names(topics(&["t"]))), Ok(()));
        assert_eq!(check(&beat("m", 4)), Ok(()));
        assert_eq!(check(&beat("m", -1)), Ok(()));
        let unset = Err("SubscribedTopicNames must be set in first request.");
        assert_eq!(check(&beat("m", 0)), unset);
        assert_eq!(check(&beat("m", 0).with_subscribed_topic_names(topics(&[]))), unset);
        assert_eq!(check(&beat("m", -2)), Err("MemberEpoch is invalid."));
        assert_eq!(check(&beat("", 4)), Err("Invalid member id in the request."));
        assert_eq!(check(&beat("1234567890123456789012345678901234567", 4)), Err("Invalid member id in the request."));
        assert_eq!(check(&beat(" ", 4)), Err("MemberId can't be empty."));
        let blank = StrBytes::from_static_str(" ");
        assert_eq!(check(&beat("m", 4).with_rack_id(Some(blank.clone()))), Err("RackId can't be empty."));
        let group = kafka_protocol::messages::GroupId(blank);
        assert_eq!(check(&beat("m", 4).with_group_id(group)), Err("GroupId can't be empty."));
    }
}
