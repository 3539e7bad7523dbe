//! DescribeShareGroupOffsets: where groups are to go on, and how much there is to do.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use millstream_core::coordinator::group::GroupId;
use millstream_core::coordinator::group::consumer::Target;
use millstream_core::coordinator::group::share::{ShareCommand, ShareReply};
use millstream_core::security::Operation;
use millstream_core::types::{PartitionId, TopicId};
use uuid::Uuid;

use super::{ask, check, of_coordinator, said};
use crate::api::groups::{str_bytes, too_long};
use crate::api::latest_offsets::latest_offsets;
use crate::api::{Access, BoxFuture, Context, Outcome, Request, Resource, Session, errors};
use crate::coordinator::ShareSummary;
use crate::protocol::StrBytes;
use crate::protocol::share_group_offsets::{
    DescribeShareGroupOffsetsRequest, DescribeShareGroupOffsetsResponse, DescribedOffsets, DescribedPartitionOffset,
    DescribedTopicOffsets, OffsetsOf,
};

/// "None" on the wire, of an offset and of a lag.
const NONE: i64 = -1;

pub fn handle<'a>(context: &'a Arc<Context>, _session: &'a mut Session, request: Request) -> BoxFuture<'a, Outcome> {
    Box::pin(async move {
        let asked: DescribeShareGroupOffsetsRequest = match request.decode() {
            Ok(asked) => asked,
            Err(close) => return close,
        };
        let mut groups = Vec::with_capacity(asked.groups.len());
        for of in &asked.groups {
            let group = match GroupId::new(&of.group_id) {
                Ok(group) => group,
                Err(e) => return too_long(e),
            };
            let row = DescribedOffsets { group_id: str_bytes(group.as_str()), ..DescribedOffsets::default() };
            groups.push(match describe(context, &request.access, group, of).await {
                Ok(topics) => DescribedOffsets { topics, ..row },
                Err((error, message)) => DescribedOffsets {
                    error_code: error.code(),
                    error_message: Some(errors::message(&message.unwrap_or_else(|| error.to_string()))),
                    ..row
                },
            });
        }
        Outcome::reply(&request.header, &DescribeShareGroupOffsetsResponse { groups })
    })
}

async fn describe(
    context: &Arc<Context>,
    access: &Access,
    group: GroupId,
    of: &OffsetsOf,
) -> Result<Vec<DescribedTopicOffsets>, super::Refused> {
    check(context, &group)?;
    access.check(Operation::Describe, Resource::Group(group.as_str())).map_err(|error| (error, None))?;
    let (mut known, mut unknown) = (BTreeMap::new(), Vec::new());
    match &of.topics {
        Some(topics) => {
            for topic in topics {
                let partitions: BTreeSet<i32> = topic.partitions.iter().copied().collect();
                if let Err(error) = access.check(Operation::Describe, Resource::Topic(&topic.name)) {
                    unknown.push(refused(&topic.name, partitions, error));
                    continue;
                }
                match context.find_by_name(&topic.name) {
                    Ok(found) => {
                        let topic = known.entry(found.id).or_insert_with(|| (found.name.to_string(), BTreeSet::new()));
                        topic.1.extend(partitions);
                    }
                    Err(_) => unknown.push(nowhere(&topic.name, partitions)),
                }
            }
        }
        None => {
            let of = group.clone();
            let reply = ask(context, &group, move |token| ShareCommand::Partitions { token, group: of });
            match reply.await.map_err(of_coordinator)? {
                ShareReply::Partitions(topics) => {
                    let may_see = |name: &str| access.may_quietly(Operation::Describe, Resource::Topic(name));
                    let seen = topics.into_iter().filter(|topic| may_see(&topic.name));
                    known.extend(
                        seen.map(|topic| (topic.id, (topic.name.to_string(), topic.partitions.into_iter().collect()))),
                    );
                }
                other => unreachable!("a share group was asked for its partitions, and answered {other:?}"),
            }
        }
    }
    let mut rows = look(context, group, &known).await;
    // A topic that is not there is absence of data.
    rows.extend(unknown);
    Ok(rows)
}

fn nowhere(name: &str, partitions: BTreeSet<i32>) -> DescribedTopicOffsets {
    let partitions = partitions.into_iter().map(|index| row(index, None, None)).collect();
    DescribedTopicOffsets { name: str_bytes(name), id: Uuid::nil(), partitions }
}

fn refused(name: &str, partitions: BTreeSet<i32>, error: ResponseError) -> DescribedTopicOffsets {
    let row = |index| {
        let (error_code, error_message) = said(Some(error));
        DescribedPartitionOffset { start_offset: 0, error_code, error_message, ..row(index, None, None) }
    };
    let partitions = partitions.into_iter().map(row).collect();
    DescribedTopicOffsets { name: str_bytes(name), id: Uuid::nil(), partitions }
}

/// Asks the share coordinators, and the leaders of partitions for their ends.
async fn look(
    context: &Arc<Context>,
    group: GroupId,
    known: &BTreeMap<TopicId, (String, BTreeSet<i32>)>,
) -> Vec<DescribedTopicOffsets> {
    if known.is_empty() {
        return Vec::new();
    }
    let places: Target = known.iter().map(|(id, (_, partitions))| (*id, partitions.clone())).collect();
    let summaries = context.share_keepers.summaries(group, places).await;
    let counted = summaries.iter().filter(|(_, summary)| summary.done_with().is_some()).map(|(id, _)| *id);
    let ends = latest_offsets(context, counted.collect()).await;
    let topic = |(id, (name, partitions)): (&TopicId, &(String, BTreeSet<i32>))| {
        let row = |index: &i32| {
            let id = PartitionId { topic: *id, partition: *index };
            row(*index, summaries.get(&id), ends.get(&id).copied())
        };
        DescribedTopicOffsets { name: str_bytes(name), id: id.0, partitions: partitions.iter().map(row).collect() }
    };
    known.iter().map(topic).collect()
}

/// Nothing is known of a partition: absence of data, too. That its end cannot be told is an error.
fn row(
    index: i32,
    summary: Option<&ShareSummary>,
    end: Option<Result<i64, ResponseError>>,
) -> DescribedPartitionOffset {
    let described = DescribedPartitionOffset {
        index,
        start_offset: summary.and_then(|summary| summary.start).map_or(NONE, |start| start.0),
        leader_epoch: summary.map_or(0, |summary| summary.leader_epoch),
        lag: NONE,
        error_code: 0,
        error_message: None,
    };
    match (summary.and_then(ShareSummary::done_with), end) {
        (None, _) => described,
        (Some(done), Some(Ok(end))) => DescribedPartitionOffset { lag: end - done, ..described },
        (Some(_), end) => {
            let error = end.and_then(Result::err).unwrap_or(ResponseError::UnknownTopicOrPartition);
            let (error_code, error_message): (i16, Option<StrBytes>) = said(Some(error));
            DescribedPartitionOffset { start_offset: 0, leader_epoch: 0, lag: NONE, error_code, error_message, index }
        }
    }
}

#[cfg(test)]
mod tests {
    use millstream_core::types::Offset;

    use super::*;

    #[test]
    fn a_lag_is_what_is_not_done_with() {
        let summary = |start: Option<i64>, delivery_complete| ShareSummary {
            start: start.map(Offset),
            leader_epoch: 3,
            delivery_complete,
        };
        let told = |summary: Option<ShareSummary>, end| {
            let row = row(7, summary.as_ref(), end);
            assert_eq!(row.index, 7);
            (row.start_offset, row.leader_epoch, row.lag, row.error_code)
        };
        assert_eq!(told(None, None), (-1, 0, -1, 0));
        assert_eq!(told(Some(summary(Some(5), Some(2))), Some(Ok(10))), (5, 3, 3, 0));
        assert_eq!(told(Some(summary(Some(5), None)), None), (5, 3, -1, 0));
        assert_eq!(told(Some(summary(None, Some(0))), None), (-1, 3, -1, 0));
        let error = ResponseError::NotLeaderOrFollower;
        assert_eq!(told(Some(summary(Some(5), Some(2))), Some(Err(error))), (0, 0, -1, 6));
    }
}
