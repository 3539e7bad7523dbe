//! ListGroups (16), DescribeGroups (15), DeleteGroups (42): groups as an operator sees them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::describe_groups_response;
use kafka_protocol::messages::list_groups_response;
use kafka_protocol::messages::{
    DeleteGroupsRequest, DeleteGroupsResponse, DescribeGroupsRequest, DescribeGroupsResponse, ListGroupsRequest,
    ListGroupsResponse,
};
use millstream_core::coordinator::group::{
    Command, DeleteGroupError, DeleteGroups, DescribeGroups, DescribedGroup, GroupId, GroupKind, ListGroups,
    ListedGroup, Reply, TextTooLong,
};

use millstream_core::security::Operation;

use super::groups::{NO_TOKEN, answered, str_bytes, too_long};
use super::share_groups::delete_states;
use super::{Access, BoxFuture, Context, Outcome, Request, Resource, Session, errors};
use crate::coordinator::{Asked, CoordinatorError, Groups};
use crate::protocol::StrBytes;

/// What a group that is not there is said to be in.
const DEAD: &str = "Dead";

pub fn handle_list<'a>(
    context: &'a Arc<Context>,
    _session: &'a mut Session,
    request: Request,
) -> BoxFuture<'a, Outcome> {
    Box::pin(async move {
        let version = request.header.version;
        let asked: ListGroupsRequest = match request.decode() {
            Ok(asked) => asked,
            Err(close) => return close,
        };
        let list = list_from_wire(&asked);
        let mut listed = list_all(context, &list).await;
        // Who may describe the cluster sees all of them.
        let access = &request.access;
        if let Ok(groups) = &mut listed
            && !access.may_quietly(Operation::Describe, Resource::Cluster)
        {
            groups.retain(|group| access.may_quietly(Operation::Describe, Resource::Group(group.group.as_str())));
        }
        Outcome::reply(&request.header, &list_to_wire(listed, version))
    })
}

/// Of every coordinator of this node. One that cannot say makes the list one that would lack groups: an error.
async fn list_all(context: &Context, list: &ListGroups) -> Result<Vec<ListedGroup>, CoordinatorError> {
    let mut asked = Vec::new();
    for partition in context.groups.coordinated() {
        let list = list.clone();
        let command = move |token| Command::ListGroups(ListGroups { token, ..list });
        asked.push(context.groups.ask(partition, command).await);
    }
    let mut groups = Vec::new();
    for asked in asked {
        match answered(context, asked).await {
            Ok(Reply::ListGroups(listed)) => groups.extend(listed),
            Ok(other) => unreachable!("a list was answered with {other:?}"),
            // It has gone elsewhere meanwhile.
            Err(CoordinatorError::NotCoordinator) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(groups)
}

fn list_from_wire(asked: &ListGroupsRequest) -> ListGroups {
    let states: Vec<&str> = GroupKind::states().collect();
    ListGroups {
        token: NO_TOKEN,
        states: filter(&asked.states_filter, &states),
        types: filter(&asked.types_filter, &GroupKind::ALL.map(GroupKind::name)),
    }
}

/// What of a filter can matter: it goes to every coordinator. One unknown name stands for all.
fn filter(names: &[StrBytes], known: &[&str]) -> Vec<String> {
    let is_known = |name: &str| known.iter().any(|known| name.trim().eq_ignore_ascii_case(known));
    let mut kept: Vec<String> =
        names.iter().filter(|name| is_known(name)).map(|name| name.to_ascii_lowercase()).collect();
    kept.sort_unstable();
    kept.dedup();
    if kept.is_empty() { names.first().map(|name| name.to_string()).into_iter().collect() } else { kept }
}

fn list_to_wire(listed: Result<Vec<ListedGroup>, CoordinatorError>, version: i16) -> ListGroupsResponse {
    let listed = match listed {
        Ok(listed) => listed,
        Err(e) => return ListGroupsResponse::default().with_error_code(errors::of_coordinator(e).code()),
    };
    let groups = listed.into_iter().map(|group| {
        let protocol_type = group.protocol_type.as_ref().map_or("", |name| name.as_str());
        let row = list_groups_response::ListedGroup::default()
            .with_group_id(wire_id(&group.group))
            .with_protocol_type(str_bytes(protocol_type));
        let row = if version >= 4 { row.with_group_state(StrBytes::from_static_str(group.state)) } else { row };
        if version >= 5 { row.with_group_type(StrBytes::from_static_str(group.kind.name())) } else { row }
    });
    ListGroupsResponse::default().with_groups(groups.collect())
}

pub fn handle_describe<'a>(
    context: &'a Arc<Context>,
    _session: &'a mut Session,
    request: Request,
) -> BoxFuture<'a, Outcome> {
    Box::pin(async move {
        let version = request.header.version;
        let asked: DescribeGroupsRequest = match request.decode() {
            Ok(asked) => asked,
            Err(close) => return close,
        };
        // Once each, however often it is named: a reply is not to outgrow what there is.
        let groups = match group_ids(&asked.groups) {
            Ok(groups) => groups,
            Err(e) => return too_long(e),
        };
        let (groups, refused) = permitted(&request.access, Operation::Describe, groups);
        context.groups.confirm(groups.iter().map(GroupId::as_str)).await;
        let command = |groups, token| Command::DescribeGroups(DescribeGroups { token, groups });
        let row_of = |id: &GroupId, error: ResponseError| {
            describe_groups_response::DescribedGroup::default().with_group_id(wire_id(id)).with_error_code(error.code())
        };
        let mut rows: Vec<_> = refused.iter().map(|id| row_of(id, ResponseError::GroupAuthorizationFailed)).collect();
        let with_operations = version >= 3 && asked.include_authorized_operations;
        for (groups, asked_of) in ask_each(&context.groups, groups, command).await {
            match answered(context, asked_of).await {
                Ok(Reply::DescribeGroups(described)) => rows.extend(described.into_iter().map(|(id, described)| {
                    let operations = request.access.operations_if(with_operations, Resource::Group(id.as_str()));
                    describe_to_wire(&id, described, version, operations)
                })),
                Ok(other) => unreachable!("a describe was answered with {other:?}"),
                Err(e) => rows.extend(groups.iter().map(|id| row_of(id, errors::of_coordinator(e)))),
            }
        }
        Outcome::reply(&request.header, &DescribeGroupsResponse::default().with_groups(rows))
    })
}

fn describe_to_wire(
    id: &GroupId,
    described: Option<DescribedGroup>,
    version: i16,
    operations: i32,
) -> describe_groups_response::DescribedGroup {
    let row = describe_groups_response::DescribedGroup::default().with_group_id(wire_id(id));
    let Some(described) = described else {
        let row = row.with_group_state(StrBytes::from_static_str(DEAD));
        if version < 6 {
            return row.with_authorized_operations(operations);
        }
        return row
            .with_error_code(ResponseError::GroupIdNotFound.code())
            .with_error_message(Some(errors::message(&format!("Group {id} not found."))));
    };
    let members = described.members.into_iter().map(|member| {
        describe_groups_response::DescribedGroupMember::default()
            .with_member_id(str_bytes(member.member.as_str()))
            .with_group_instance_id(member.instance.filter(|_| version >= 4).map(|i| str_bytes(i.as_str())))
            .with_client_id(str_bytes(member.client_id.as_str()))
            .with_client_host(str_bytes(member.client_host.as_str()))
            .with_member_metadata(member.metadata)
            .with_member_assignment(member.assignment)
    });
    let row = row
        .with_group_state(StrBytes::from_static_str(described.state.name()))
        .with_protocol_type(str_bytes(described.protocol_type.as_ref().map_or("", |name| name.as_str())))
        .with_protocol_data(str_bytes(described.protocol.as_ref().map_or("", |name| name.as_str())))
        .with_members(members.collect());
    row.with_authorized_operations(operations)
}

/// The groups with which this may be done, and the others.
pub(super) fn permitted(
    access: &Access,
    operation: Operation,
    groups: BTreeSet<GroupId>,
) -> (BTreeSet<GroupId>, BTreeSet<GroupId>) {
    groups.into_iter().partition(|id| access.may(operation, Resource::Group(id.as_str())))
}

pub fn handle_delete<'a>(
    context: &'a Arc<Context>,
    _session: &'a mut Session,
    request: Request,
) -> BoxFuture<'a, Outcome> {
    Box::pin(async move {
        let asked: DeleteGroupsRequest = match request.decode() {
            Ok(asked) => asked,
            Err(close) => return close,
        };
        let groups = match group_ids(&asked.groups_names) {
            Ok(groups) => groups,
            Err(e) => return too_long(e),
        };
        let (groups, forbidden) = permitted(&request.access, Operation::Delete, groups);
        let mut results = Vec::new();
        let mut refused: BTreeMap<_, _> =
            forbidden.into_iter().map(|id| (id, ResponseError::GroupAuthorizationFailed)).collect();
        for ids in of_each(&context.groups, &groups).into_values() {
            match delete_states(context, &ids).await {
                Ok(some) => refused.extend(some),
                Err(e) => refused.extend(ids.into_iter().map(|id| (id, errors::of_coordinator(e)))),
            }
        }
        let groups = groups.into_iter().filter(|id| !refused.contains_key(id)).collect();
        results.extend(refused.iter().map(|(id, error)| delete_to_wire(id, Some(*error))));
        let command = |groups, token| Command::DeleteGroups(DeleteGroups { token, groups });
        for (groups, asked_of) in ask_each(&context.groups, groups, command).await {
            match answered(context, asked_of).await {
                Ok(Reply::DeleteGroups(deleted)) => {
                    for (id, _) in deleted.iter().filter(|(_, result)| result.is_ok()) {
                        request.changed("group deleted", id.as_str());
                    }
                    let row = |(id, result): &(GroupId, Result<(), DeleteGroupError>)| {
                        delete_to_wire(id, result.err().map(errors::of_delete_group))
                    };
                    results.extend(deleted.iter().map(row));
                }
                Ok(other) => unreachable!("a delete was answered with {other:?}"),
                Err(e) => {
                    results.extend(groups.iter().map(|id| delete_to_wire(id, Some(errors::of_coordinator(e)))));
                }
            }
        }
        Outcome::reply(&request.header, &DeleteGroupsResponse::default().with_results(results))
    })
}

fn delete_to_wire(id: &GroupId, error: Option<ResponseError>) -> DeletableGroupResult {
    let code = error.map_or(0, |error| error.code());
    DeletableGroupResult::default().with_group_id(wire_id(id)).with_error_code(code)
}

/// The groups that are named, once each.
pub(super) fn group_ids(named: &[kafka_protocol::messages::GroupId]) -> Result<BTreeSet<GroupId>, TextTooLong> {
    named.iter().map(|id| GroupId::new(id)).collect()
}

pub(super) fn wire_id(id: &GroupId) -> kafka_protocol::messages::GroupId {
    kafka_protocol::messages::GroupId(str_bytes(id.as_str()))
}

/// Puts a command to every coordinator that some of the groups have; all work at the same time.
pub(super) async fn ask_each<C>(
    groups: &Groups,
    ids: BTreeSet<GroupId>,
    command: C,
) -> Vec<(Vec<GroupId>, Result<Asked, CoordinatorError>)>
where
    C: Fn(Vec<GroupId>, millstream_core::coordinator::group::ReplyToken) -> Command + Copy + Send + 'static,
{
    let of_partition = of_each(groups, &ids);
    let mut asked = Vec::with_capacity(of_partition.len());
    for (partition, ids) in of_partition {
        let answer = match partition {
            Some(partition) => {
                let ids = ids.clone();
                groups.ask(partition, move |token| command(ids, token)).await
            }
            None => Err(CoordinatorError::NotCoordinator),
        };
        asked.push((ids, answer));
    }
    asked
}

/// Groups by their coordinator, if it is here.
fn of_each(groups: &Groups, ids: &BTreeSet<GroupId>) -> BTreeMap<Option<i32>, Vec<GroupId>> {
    let mut of_partition: BTreeMap<Option<i32>, Vec<GroupId>> = BTreeMap::new();
    for id in ids {
        of_partition.entry(groups.partition_for(id.as_str()).ok()).or_default().push(id.clone());
    }
    of_partition
}

#[cfg(test)]
mod tests;
