//! ConsumerGroupHeartbeat (68), ConsumerGroupDescribe (69): groups whose assignments are made here (KIP-848).

use std::collections::BTreeSet;
use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::consumer_group_describe_response::{
    Assignment as DescribedAssignment, DescribedGroup, Member, TopicPartitions as DescribedPartitions,
};
use kafka_protocol::messages::consumer_group_heartbeat_response::{Assignment, TopicPartitions};
use kafka_protocol::messages::{
    ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse, TopicName as WireTopicName,
};
use millstream_core::controller::GROUP_VERSION;
use millstream_core::coordinator::group::consumer::{Assignor, LEAVE_EPOCH, LEAVE_STATIC_EPOCH, Target};
use millstream_core::coordinator::group::{
    ClientHost, ClientId, Command, ConsumerBeaten, ConsumerHeartbeat, ConsumerRefused, DescribeGroups,
    DescribedConsumer, DescribedConsumerGroup, DescribedTopic, GroupId, MemberId, Pattern, Reply, TEXT_LEN_MAX,
    TextTooLong,
};
use millstream_core::security::Operation;
use millstream_core::types::TopicId;
use uuid::Uuid;

use super::describe_groups::{ask_each, group_ids, permitted, wire_id};
use super::groups::{NO_TOKEN, answered, client_host, head, instance_id, member_id, str_bytes, too_long};
use super::{Access, BoxFuture, Context, Outcome, Request, Resource, Session, errors};
use crate::coordinator::patterns;
use crate::protocol::StrBytes;

/// From this version on members make their ids themselves.
const OWN_ID_FROM: i16 = 1;
/// A member of this protocol; 0 is one of the classic protocol.
const CONSUMER_MEMBER: i8 = 1;

/// What is said instead of a group with topics that the client may not know of.
pub(super) const HIDDEN_TOPICS: &str =
    "The group has described topic(s) that the client is not authorized to describe.";

/// Whether a client may be a member of a group, and of one with these topics.
pub(super) fn may_join<'a>(
    access: &Access,
    group: &str,
    mut topics: impl Iterator<Item = &'a StrBytes>,
) -> Result<(), ResponseError> {
    access.check(Operation::Read, Resource::Group(group))?;
    topics.try_for_each(|topic| access.check(Operation::Describe, Resource::Topic(topic)))
}

pub fn handle_heartbeat<'a>(
    context: &'a Arc<Context>,
    session: &'a mut Session,
    request: Request,
) -> BoxFuture<'a, Outcome> {
    Box::pin(async move {
        let version = request.header.version;
        let asked: ConsumerGroupHeartbeatRequest = match request.decode() {
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
        if let Err((error, message)) = check(&asked, version, &context.groups.config().consumer.assignors) {
            return Outcome::reply(&request.header, &heartbeat_refused(error, Some(&message)));
        }
        let beat = match heartbeat_from_wire(&asked, session, Uuid::new_v4()) {
            Ok(beat) => beat,
            Err(e) => return too_long(e),
        };
        let group = beat.group.clone();
        let command = move |token| Command::ConsumerHeartbeat(ConsumerHeartbeat { token, ..beat });
        let body = match answered(context, context.groups.ask_for(group.as_str(), command).await).await {
            Ok(Reply::ConsumerHeartbeat(Ok(beaten))) => heartbeat_to_wire(beaten),
            Ok(Reply::ConsumerHeartbeat(Err(ConsumerRefused { error, message }))) => {
                heartbeat_refused(errors::of_consumer_group(error), Some(&message))
            }
            Ok(other) => unreachable!("a heartbeat was answered with {other:?}"),
            Err(e) => heartbeat_refused(errors::of_coordinator(e), None),
        };
        Outcome::reply(&request.header, &body)
    })
}

/// Whether the cluster has agreed on the protocol, and this node offers it.
fn is_enabled(context: &Context) -> bool {
    context.groups.config().consumer.is_enabled && context.controller.look(|now| now.image.feature(GROUP_VERSION) > 0)
}

/// What can be said of a request without the group (`throwIfConsumerGroupHeartbeatRequestIsInvalid`).
fn check(
    asked: &ConsumerGroupHeartbeatRequest,
    version: i16,
    assignors: &[Assignor],
) -> Result<(), (ResponseError, String)> {
    let invalid = |message: &str| Err((ResponseError::InvalidRequest, message.to_owned()));
    let is_blank = |text: Option<&StrBytes>| text.is_some_and(|text| text.trim().is_empty());
    let epoch = asked.member_epoch;
    if (version >= OWN_ID_FROM || epoch > 0 || epoch == LEAVE_EPOCH) && is_blank(Some(&asked.member_id)) {
        return invalid("MemberId can't be empty.");
    }
    if is_blank(Some(&asked.group_id)) {
        return invalid("GroupId can't be empty.");
    }
    if is_blank(asked.instance_id.as_ref()) {
        return invalid("InstanceId can't be empty.");
    }
    if is_blank(asked.rack_id.as_ref()) {
        return invalid("RackId can't be empty.");
    }
    match epoch {
        0 if asked.rebalance_timeout_ms == -1 => {
            return invalid("RebalanceTimeoutMs must be provided in first request.");
        }
        0 if asked.topic_partitions.as_ref().is_none_or(|owned| !owned.is_empty()) => {
            return invalid("TopicPartitions must be empty when (re-)joining.");
        }
        0 if asked.subscribed_topic_names.is_none() && asked.subscribed_topic_regex.is_none() => {
            return invalid("Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining.");
        }
        LEAVE_STATIC_EPOCH if asked.instance_id.is_none() => return invalid("InstanceId can't be null."),
        i32::MIN..LEAVE_STATIC_EPOCH => return invalid("MemberEpoch is invalid."),
        _ => {}
    }
    match &asked.server_assignor {
        Some(name) if !assignors.iter().any(|assignor| assignor.name() == &**name) => {
            let known: Vec<&str> = assignors.iter().map(|assignor| assignor.name()).collect();
            let known = known.join(", ");
            let message = format!("ServerAssignor {name} is not supported. Supported assignors: {known}.");
            Err((ResponseError::UnsupportedAssignor, message))
        }
        _ => Ok(()),
    }
}

fn heartbeat_from_wire(
    asked: &ConsumerGroupHeartbeatRequest,
    session: &Session,
    random: Uuid,
) -> Result<ConsumerHeartbeat, TextTooLong> {
    let text = |text: &StrBytes| match text.len() {
        len if len > TEXT_LEN_MAX => Err(TextTooLong(len)),
        _ => Ok(Arc::<str>::from(&**text)),
    };
    let topics = asked.subscribed_topic_names.as_ref();
    let topics = topics.map(|names| names.iter().map(|name| text(name)).collect::<Result<BTreeSet<_>, _>>());
    let pattern = asked.subscribed_topic_regex.as_ref().map(|pattern| {
        let invalid = patterns::problem_of(pattern).map(Into::into);
        Ok(Pattern { text: text(pattern)?, invalid })
    });
    Ok(ConsumerHeartbeat {
        token: NO_TOKEN,
        group: GroupId::new(&asked.group_id)?,
        member: member_id(&asked.member_id)?,
        fresh_member: MemberId::new(&random.to_string())?,
        epoch: asked.member_epoch,
        instance: instance_id(asked.instance_id.as_ref())?,
        rack: asked.rack_id.as_ref().map(text).transpose()?,
        client_id: ClientId::new(head(&session.client_id, TEXT_LEN_MAX))?,
        client_host: ClientHost::new(&client_host(session.peer.ip()))?,
        rebalance_timeout_ms: (asked.rebalance_timeout_ms != -1).then_some(asked.rebalance_timeout_ms),
        topics: topics.transpose()?.map(Arc::new),
        pattern: pattern.transpose()?,
        assignor: asked.server_assignor.as_ref().map(text).transpose()?,
        owned: asked.topic_partitions.as_ref().map(|owned| {
            let mut all = Target::new();
            for topic in owned.iter().filter(|topic| !topic.partitions.is_empty()) {
                all.entry(TopicId(topic.topic_id)).or_default().extend(&topic.partitions);
            }
            all
        }),
    })
}

fn heartbeat_to_wire(beaten: ConsumerBeaten) -> ConsumerGroupHeartbeatResponse {
    let assignment = beaten.assignment.map(|assignment| {
        let topics = assignment.into_iter().map(|(topic, partitions)| {
            TopicPartitions::default().with_topic_id(topic.0).with_partitions(partitions.into_iter().collect())
        });
        Assignment::default().with_topic_partitions(topics.collect())
    });
    ConsumerGroupHeartbeatResponse::default()
        .with_member_id(Some(str_bytes(beaten.member.as_str())))
        .with_member_epoch(beaten.epoch)
        .with_heartbeat_interval_ms(beaten.heartbeat_interval_ms)
        .with_assignment(assignment)
}

fn heartbeat_refused(error: ResponseError, message: Option<&str>) -> ConsumerGroupHeartbeatResponse {
    ConsumerGroupHeartbeatResponse::default()
        .with_error_code(error.code())
        .with_error_message(message.map(|message| errors::message(&message)))
}

pub fn handle_describe<'a>(
    context: &'a Arc<Context>,
    _session: &'a mut Session,
    request: Request,
) -> BoxFuture<'a, Outcome> {
    Box::pin(async move {
        let version = request.header.version;
        let asked: ConsumerGroupDescribeRequest = match request.decode() {
            Ok(asked) => asked,
            Err(close) => return close,
        };
        let groups = match group_ids(&asked.group_ids) {
            Ok(groups) => groups,
            Err(e) => return too_long(e),
        };
        let mut rows = Vec::new();
        if !is_enabled(context) {
            let refuse = |id| describe_refused(id, ResponseError::UnsupportedVersion, None);
            rows.extend(groups.iter().map(refuse));
            return Outcome::reply(&request.header, &ConsumerGroupDescribeResponse::default().with_groups(rows));
        }
        let access = &request.access;
        let (groups, refused) = permitted(access, Operation::Describe, groups);
        let forbidden = ResponseError::GroupAuthorizationFailed;
        rows.extend(refused.iter().map(|id| describe_refused(id, forbidden, None)));
        context.groups.confirm(groups.iter().map(GroupId::as_str)).await;
        let command = |groups, token| Command::DescribeConsumerGroups(DescribeGroups { token, groups });
        for (groups, asked_of) in ask_each(&context.groups, groups, command).await {
            match answered(context, asked_of).await {
                Ok(Reply::DescribeConsumerGroups(described)) => {
                    let row = |(id, described): (GroupId, Option<Option<DescribedConsumerGroup>>)| {
                        let with_operations = asked.include_authorized_operations;
                        let operations = access.operations_if(with_operations, Resource::Group(id.as_str()));
                        let row = describe_to_wire(&id, described, version, operations);
                        if may_see(access, &row) { row } else { hidden(&id) }
                    };
                    rows.extend(described.into_iter().map(row));
                }
                Ok(other) => unreachable!("a describe was answered with {other:?}"),
                Err(e) => rows.extend(groups.iter().map(|id| describe_refused(id, errors::of_coordinator(e), None))),
            }
        }
        Outcome::reply(&request.header, &ConsumerGroupDescribeResponse::default().with_groups(rows))
    })
}

/// Whether the client may know of all topics that a group is about.
fn may_see(access: &Access, group: &DescribedGroup) -> bool {
    let assigned = |member: &Member| {
        let both = member.assignment.topic_partitions.iter().chain(&member.target_assignment.topic_partitions);
        let named = member.subscribed_topic_names.iter().cloned();
        both.map(|topic| topic.topic_name.clone()).chain(named).collect::<Vec<_>>()
    };
    let names: BTreeSet<WireTopicName> = group.members.iter().flat_map(assigned).collect();
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

fn describe_to_wire(
    id: &GroupId,
    described: Option<Option<DescribedConsumerGroup>>,
    version: i16,
    operations: i32,
) -> DescribedGroup {
    let not_found = |message: &str| describe_refused(id, ResponseError::GroupIdNotFound, Some(message));
    let group = match described {
        _ if id.is_empty() => return describe_refused(id, ResponseError::InvalidGroupId, None),
        None => return not_found(&format!("Group {id} not found.")),
        Some(None) => return not_found(&format!("Group {id} is not a consumer group.")),
        Some(Some(group)) => group,
    };
    DescribedGroup::default()
        .with_group_id(wire_id(id))
        .with_group_state(StrBytes::from_static_str(group.state.name()))
        .with_group_epoch(group.epoch)
        .with_assignment_epoch(group.target_epoch)
        .with_assignor_name(StrBytes::from_static_str(group.assignor.name()))
        .with_members(group.members.iter().map(|member| member_to_wire(member, version)).collect())
        .with_authorized_operations(operations)
}

fn member_to_wire(member: &DescribedConsumer, version: i16) -> Member {
    let said = &member.subscription;
    let member_type = if said.classic.is_some() { 0 } else { CONSUMER_MEMBER };
    let row = Member::default()
        .with_member_id(str_bytes(member.member.as_str()))
        .with_instance_id(said.instance.as_ref().map(|instance| str_bytes(instance.as_str())))
        .with_rack_id(said.rack.as_deref().map(str_bytes))
        .with_member_epoch(member.epoch)
        .with_client_id(str_bytes(said.client_id.as_str()))
        .with_client_host(str_bytes(said.client_host.as_str()))
        .with_subscribed_topic_names(said.topics.iter().map(|name| WireTopicName(str_bytes(name))).collect())
        .with_subscribed_topic_regex(said.pattern.as_deref().map(str_bytes))
        .with_assignment(assignment_to_wire(&member.assigned))
        .with_target_assignment(assignment_to_wire(&member.target));
    if version >= 1 { row.with_member_type(member_type) } else { row }
}

fn assignment_to_wire(topics: &[DescribedTopic]) -> DescribedAssignment {
    let row = |topic: &DescribedTopic| {
        DescribedPartitions::default()
            .with_topic_id(topic.id.0)
            .with_topic_name(WireTopicName(str_bytes(topic.name.as_str())))
            .with_partitions(topic.partitions.clone())
    };
    DescribedAssignment::default().with_topic_partitions(topics.iter().map(row).collect())
}
