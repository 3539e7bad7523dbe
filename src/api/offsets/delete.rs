//! OffsetDelete (KIP-496): a group forgets how far it has come.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::offset_delete_response::{OffsetDeleteResponsePartition, OffsetDeleteResponseTopic};
use kafka_protocol::messages::{OffsetDeleteRequest, OffsetDeleteResponse};
use millstream_core::coordinator::group::{
    Command, DeletedOffsets, GroupId, OffsetDelete, OffsetDeleteError, Reply, TextTooLong,
};
use millstream_core::security::Operation;

use super::super::groups::{NO_TOKEN, answered, too_long};
use super::super::{BoxFuture, Context, Outcome, Request, Resource, Session, errors};
use super::Find;
use crate::coordinator::CoordinatorError;
use crate::protocol::{StrBytes, TopicRef};

/// What is put to the coordinator, and what is answered without it.
pub(super) struct Plan {
    pub delete: OffsetDelete,
    /// Partitions that are not there, by the topic that was named.
    pub refused: BTreeMap<StrBytes, Vec<(i32, ResponseError)>>,
}

pub fn handle<'a>(context: &'a Arc<Context>, _session: &'a mut Session, request: Request) -> BoxFuture<'a, Outcome> {
    Box::pin(async move {
        let asked: OffsetDeleteRequest = match request.decode() {
            Ok(asked) => asked,
            Err(close) => return close,
        };
        let access = &request.access;
        if let Err(error) = access.check(Operation::Delete, Resource::Group(&asked.group_id)) {
            let refused = OffsetDeleteResponse::default().with_error_code(error.code());
            return Outcome::reply(&request.header, &refused);
        }
        let find = |topic: &TopicRef| access.find(context, Operation::Read, topic);
        let Plan { delete, refused } = match from_wire(&asked, &find) {
            Ok(plan) => plan,
            Err(e) => return too_long(e),
        };
        // Even if no partition is there: the group may not be either, and that goes first.
        let group = delete.group.clone();
        let command = move |token| Command::OffsetDelete(OffsetDelete { token, ..delete });
        let deleted = match answered(context, context.groups.ask_for(group.as_str(), command).await).await {
            Ok(Reply::OffsetDelete(deleted)) => Ok(deleted),
            Ok(other) => unreachable!("a delete was answered with {other:?}"),
            Err(e) => Err(e),
        };
        Outcome::reply(&request.header, &to_wire(refused, deleted))
    })
}

/// Every partition once, however often it is named.
pub(super) fn from_wire(asked: &OffsetDeleteRequest, find: &Find<'_>) -> Result<Plan, TextTooLong> {
    let mut by_name: BTreeMap<&StrBytes, BTreeSet<i32>> = BTreeMap::new();
    for topic in &asked.topics {
        let named = topic.partitions.iter().map(|partition| partition.partition_index);
        by_name.entry(&topic.name).or_default().extend(named);
    }
    let mut topics = Vec::with_capacity(by_name.len());
    let mut refused = BTreeMap::new();
    for (name, named) in by_name {
        let found = find(&TopicRef::Name(name.clone()));
        let count = found.as_ref().map_or(0, |found| found.partition_count);
        let (there, missing): (Vec<i32>, Vec<i32>) = named.iter().partition(|index| (0..count).contains(*index));
        if let (Ok(found), false) = (&found, there.is_empty()) {
            topics.push((found.name.clone(), there));
        }
        let error = found.err().unwrap_or(ResponseError::UnknownTopicOrPartition);
        if !missing.is_empty() {
            refused.insert(name.clone(), missing.into_iter().map(|index| (index, error)).collect());
        }
    }
    Ok(Plan { delete: OffsetDelete { token: NO_TOKEN, group: GroupId::new(&asked.group_id)?, topics }, refused })
}

pub(super) fn to_wire(
    refused: BTreeMap<StrBytes, Vec<(i32, ResponseError)>>,
    deleted: Result<Result<Vec<DeletedOffsets>, OffsetDeleteError>, CoordinatorError>,
) -> OffsetDeleteResponse {
    let at_the_top = |error: ResponseError| OffsetDeleteResponse::default().with_error_code(error.code());
    let deleted = match deleted {
        Ok(Ok(deleted)) => deleted,
        Ok(Err(e)) => return at_the_top(errors::of_offset_delete(e)),
        Err(e) => return at_the_top(errors::of_coordinator(e)),
    };
    let mut rows: BTreeMap<StrBytes, Vec<(i32, i16)>> = BTreeMap::new();
    for (name, partitions) in refused {
        rows.insert(name, partitions.into_iter().map(|(index, error)| (index, error.code())).collect());
    }
    for topic in deleted {
        let results = topic
            .partitions
            .into_iter()
            .map(|(index, result)| (index, result.err().map_or(0, |e| errors::of_delete_partition(e).code())));
        rows.entry(super::super::groups::str_bytes(topic.name.as_str())).or_default().extend(results);
    }
    let topics = rows.into_iter().map(|(name, partitions)| {
        let partitions = partitions.into_iter().map(|(index, code)| {
            OffsetDeleteResponsePartition::default().with_partition_index(index).with_error_code(code)
        });
        OffsetDeleteResponseTopic::default()
            .with_name(kafka_protocol::messages::TopicName(name))
            .with_partitions(partitions.collect())
    });
    OffsetDeleteResponse::default().with_topics(topics.collect())
}
