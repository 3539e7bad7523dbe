//! ListOffsets (2) and OffsetForLeaderEpoch (23): where things are in a log.

use std::collections::HashSet;
use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::list_offsets_request::ListOffsetsTopic;
use kafka_protocol::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use kafka_protocol::messages::offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult};
use kafka_protocol::messages::{
    ListOffsetsRequest, ListOffsetsResponse, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse,
};
use millstream_core::security::Operation;
use millstream_core::types::{LeaderEpoch, Offset, Timestamp};

use super::{Access, BoxFuture, Context, Outcome, Request, Resource, Session, errors};
use crate::partition::{Isolation, ListSpec, Listed, Partition, confirm_leaderships};

/// What a timestamp asks for; `Nothing` is answered without a look at the log.
enum Wanted {
    Offset(ListSpec),
    /// Of the tiers below, which there are none of: offset -1.
    Nothing,
}

/// Timestamps that stand for the end of the log.
pub(super) const LATEST: i64 = -1;
const MAX_TIMESTAMP: i64 = -3;

/// Special timestamps by the version that brought them (`ListOffsetsRequest`, KIP-734, 405, 1005, 1023).
fn wanted(timestamp: i64, version: i16) -> Result<Wanted, ResponseError> {
    Ok(match timestamp {
        LATEST => Wanted::Offset(ListSpec::Latest),
        -2 => Wanted::Offset(ListSpec::Earliest),
        MAX_TIMESTAMP if version >= 7 => Wanted::Offset(ListSpec::MaxTimestamp),
        // The log start of what is local: all of it is.
        -4 if version >= 8 => Wanted::Offset(ListSpec::Earliest),
        -5 if version >= 9 => Wanted::Nothing,
        -6 if version >= 11 => Wanted::Nothing,
        t if t >= 0 => Wanted::Offset(ListSpec::At(Timestamp(t))),
        _ => return Err(ResponseError::UnsupportedVersion),
    })
}

pub fn handle<'a>(context: &'a Arc<Context>, _session: &'a mut Session, request: Request) -> BoxFuture<'a, Outcome> {
    Box::pin(async move {
        let asked: ListOffsetsRequest = match request.decode() {
            Ok(asked) => asked,
            Err(close) => return close,
        };
        match carry_out(context, request.access.clone(), request.header.version, asked).await {
            Ok(body) => Outcome::reply(&request.header, &body),
            Err(e) => Outcome::Close(format!("offsets could not be listed: {e}")),
        }
    })
}

/// Of partitions that this node has.
pub(super) async fn carry_out(
    context: &Arc<Context>,
    access: Access,
    version: i16,
    asked: ListOffsetsRequest,
) -> Result<ListOffsetsResponse, tokio::task::JoinError> {
    let context = Arc::clone(context);
    confirm_leaderships(ends_of(&context, &access, &asked)).await;
    // Look-ups by time may read the disk.
    tokio::task::spawn_blocking(move || list(&context, &access, version, &asked)).await
}

/// The partitions of which more is asked than where they begin: what is said of their end is not to be older than the
/// question.
fn ends_of(context: &Context, access: &Access, asked: &ListOffsetsRequest) -> Vec<Arc<Partition>> {
    let may_see = |topic: &&ListOffsetsTopic| access.may_quietly(Operation::Describe, Resource::Topic(&topic.name));
    let named =
        asked.topics.iter().filter(may_see).flat_map(|topic| topic.partitions.iter().map(move |p| (&topic.name, p)));
    let of_end = named.filter(|(_, p)| p.timestamp >= 0 || p.timestamp == LATEST || p.timestamp == MAX_TIMESTAMP);
    let mut partitions: Vec<_> =
        of_end.filter_map(|(topic, p)| context.partition_by_name(topic, p.partition_index).ok()).collect();
    partitions.sort_by_key(|partition| partition.id);
    partitions.dedup_by_key(|partition| partition.id);
    partitions
}

fn list(context: &Context, access: &Access, version: i16, asked: &ListOffsetsRequest) -> ListOffsetsResponse {
    let isolation = Isolation::from_wire(asked.isolation_level);
    let mut seen = HashSet::new();
    let mut twice = HashSet::new();
    for topic in &asked.topics {
        for p in &topic.partitions {
            if !seen.insert((topic.name.as_str(), p.partition_index)) {
                twice.insert((topic.name.as_str(), p.partition_index));
            }
        }
    }
    let topics = asked.topics.iter().map(|topic| {
        let allowed = access.check(Operation::Describe, Resource::Topic(&topic.name));
        let partitions = topic.partitions.iter().map(|p| {
            let listed = if let Err(error) = allowed {
                Err(error)
            } else if twice.contains(&(topic.name.as_str(), p.partition_index)) {
                Err(ResponseError::InvalidRequest)
            } else {
                let partition = context.partition_by_name(&topic.name, p.partition_index);
                let epoch = (p.current_leader_epoch >= 0).then_some(LeaderEpoch(p.current_leader_epoch));
                partition.and_then(|partition| look(&partition, version, p.timestamp, isolation, epoch))
            };
            respond(p.partition_index, version, listed)
        });
        ListOffsetsTopicResponse::default().with_name(topic.name.clone()).with_partitions(partitions.collect())
    });
    ListOffsetsResponse::default().with_topics(topics.collect())
}

fn look(
    partition: &Partition,
    version: i16,
    timestamp: i64,
    isolation: Isolation,
    current_epoch: Option<LeaderEpoch>,
) -> Result<Option<Listed>, ResponseError> {
    match wanted(timestamp, version)? {
        Wanted::Nothing => Ok(None),
        Wanted::Offset(spec) => {
            partition.list_offset(spec, isolation, current_epoch).map_err(|e| errors::of_list(&e, version))
        }
    }
}

fn respond(index: i32, version: i16, listed: Result<Option<Listed>, ResponseError>) -> ListOffsetsPartitionResponse {
    let response = ListOffsetsPartitionResponse::default().with_partition_index(index);
    let nothing = Listed { offset: Offset(-1), timestamp: Timestamp::NONE, epoch: None };
    let (error_code, listed) = match listed {
        Ok(listed) => (0, listed.unwrap_or(nothing)),
        Err(error) => (error.code(), nothing),
    };
    let response = response.with_error_code(error_code).with_offset(listed.offset.0).with_timestamp(listed.timestamp.0);
    if version >= 4 { response.with_leader_epoch(listed.epoch.map_or(-1, |e| e.0)) } else { response }
}

/// OffsetForLeaderEpoch (KIP-101, KIP-320).
pub fn handle_for_epoch<'a>(
    context: &'a Arc<Context>,
    _session: &'a mut Session,
    request: Request,
) -> BoxFuture<'a, Outcome> {
    Box::pin(std::future::ready(for_epoch(context, &request)))
}

fn for_epoch(context: &Context, request: &Request) -> Outcome {
    let asked: OffsetForLeaderEpochRequest = match request.decode() {
        Ok(asked) => asked,
        Err(close) => return close,
    };
    // Other brokers ask for all.
    let is_broker = request.access.may_quietly(Operation::ClusterAction, Resource::Cluster);
    let topics = asked.topics.iter().map(|topic| {
        let may = |name| request.access.check(Operation::Describe, Resource::Topic(name));
        let allowed = if is_broker { Ok(()) } else { may(&topic.topic) };
        let partitions = topic.partitions.iter().map(|p| {
            let current = (p.current_leader_epoch >= 0).then_some(LeaderEpoch(p.current_leader_epoch));
            let partition = allowed.and_then(|()| context.partition_by_name(&topic.topic, p.partition));
            let found = partition.and_then(|partition| {
                let found = partition.end_offset_for_epoch(LeaderEpoch(p.leader_epoch), current);
                found.map_err(|e| errors::of_read(&e))
            });
            let response = EpochEndOffset::default().with_partition(p.partition);
            match found {
                Ok(Some((epoch, end))) => response.with_leader_epoch(epoch.0).with_end_offset(end.0),
                Ok(None) => response.with_leader_epoch(-1).with_end_offset(-1),
                Err(e) => response.with_error_code(e.code()).with_leader_epoch(-1).with_end_offset(-1),
            }
        });
        OffsetForLeaderTopicResult::default().with_topic(topic.topic.clone()).with_partitions(partitions.collect())
    });
    Outcome::reply(&request.header, &OffsetForLeaderEpochResponse::default().with_topics(topics.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_timestamps_need_their_version() {
        assert!(matches!(wanted(-3, 7), Ok(Wanted::Offset(ListSpec::MaxTimestamp))));
        assert!(matches!(wanted(-3, 6), Err(ResponseError::UnsupportedVersion)));
        assert!(matches!(wanted(-4, 8), Ok(Wanted::Offset(ListSpec::Earliest))));
        assert!(matches!(wanted(-6, 11), Ok(Wanted::Nothing)));
        assert!(matches!(wanted(-6, 10), Err(ResponseError::UnsupportedVersion)));
        assert!(matches!(wanted(-7, 11), Err(ResponseError::UnsupportedVersion)));
        assert!(matches!(wanted(0, 1), Ok(Wanted::Offset(ListSpec::At(Timestamp(0))))));
    }
}
