//! OffsetCommit: partitions that are not there are refused one by one, the rest is put to the coordinator.

use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use millstream_core::coordinator::group::{
    Command, CommitError, CommitPartition, CommitTopic, CommittedTopic, Generation, GroupId, OffsetCommit, Reply,
    TextTooLong,
};
use millstream_core::security::Operation;
use millstream_core::types::{LeaderEpoch, Offset};

use super::super::groups::{NO_TOKEN, answered, instance_id, member_id, too_long};
use super::super::{BoxFuture, Context, Outcome, Request, Resource, Session, errors};
use super::Find;
use crate::coordinator::CoordinatorError;
use crate::protocol::TopicRef;
use crate::protocol::offset_commit::{
    OffsetCommitPartitionResponse, OffsetCommitRequest, OffsetCommitResponse, OffsetCommitTopicResponse,
};

/// From this version on members of the consumer protocol may commit.
const EPOCHS_FROM: i16 = 9;
/// Most bytes that the records of one commit may take. A partition takes a few bytes in the request, but group and
/// topic are named anew in every record.
const RECORDS_BYTES_MAX: usize = 16 << 20;
/// What a record takes besides its texts.
const RECORD_BYTES: usize = 80;

/// What is put to the coordinator, and what is answered without it.
pub(super) struct Plan {
    pub commit: OffsetCommit,
    /// By topic and partition, as asked; `None`: the coordinator's to say, in the order of `commit`.
    pub verdicts: Vec<Vec<Option<ResponseError>>>,
}

pub fn handle<'a>(context: &'a Arc<Context>, _session: &'a mut Session, request: Request) -> BoxFuture<'a, Outcome> {
    Box::pin(async move {
        let version = request.header.version;
        let asked: OffsetCommitRequest = match request.decode() {
            Ok(asked) => asked,
            Err(close) => return close,
        };
        let access = &request.access;
        if let Err(error) = access.check(Operation::Read, Resource::Group(&asked.group_id)) {
            return Outcome::reply(&request.header, &refuse_all(&asked, error, version));
        }
        let find = |topic: &TopicRef| access.find(context, Operation::Read, topic);
        let Plan { mut commit, verdicts } = match from_wire(&asked, &find) {
            Ok(plan) => plan,
            Err(e) => return too_long(e),
        };
        commit.knows_epochs = version >= EPOCHS_FROM;
        if commit.topics.is_empty() {
            return Outcome::reply(&request.header, &to_wire(&asked, &verdicts, Ok(Ok(Vec::new())), version));
        }
        let group = commit.group.clone();
        let command = move |token| Command::OffsetCommit(OffsetCommit { token, ..commit });
        let committed = match answered(context, context.groups.ask_for(group.as_str(), command).await).await {
            Ok(Reply::OffsetCommit(committed)) => Ok(committed),
            Ok(other) => unreachable!("a commit was answered with {other:?}"),
            Err(e) => Err(e),
        };
        Outcome::reply(&request.header, &to_wire(&asked, &verdicts, committed, version))
    })
}

pub(super) fn from_wire(asked: &OffsetCommitRequest, find: &Find<'_>) -> Result<Plan, TextTooLong> {
    let mut commit = OffsetCommit {
        token: NO_TOKEN,
        group: GroupId::new(&asked.group_id)?,
        member: member_id(&asked.member_id)?,
        instance: instance_id(asked.group_instance_id.as_ref())?,
        generation: Generation(asked.generation_id_or_member_epoch),
        knows_epochs: false,
        retention_ms: (asked.retention_time_ms != -1).then_some(asked.retention_time_ms),
        topics: Vec::new(),
    };
    let mut verdicts = Vec::with_capacity(asked.topics.len());
    let mut records_bytes: usize = 0;
    for topic in &asked.topics {
        let found = match find(&topic.topic) {
            Ok(found) => found,
            Err(e) => {
                verdicts.push(vec![Some(e); topic.partitions.len()]);
                continue;
            }
        };
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        let mut of_topic = Vec::with_capacity(topic.partitions.len());
        for partition in &topic.partitions {
            if !(0..found.partition_count).contains(&partition.index) {
                of_topic.push(Some(ResponseError::UnknownTopicOrPartition));
                continue;
            }
            of_topic.push(None);
            let metadata = partition.committed_metadata.as_deref().unwrap_or_default();
            records_bytes += RECORD_BYTES + asked.group_id.len() + found.name.as_str().len() + metadata.len();
            if records_bytes > RECORDS_BYTES_MAX {
                continue;
            }
            let epoch = partition.committed_leader_epoch;
            partitions.push(CommitPartition {
                partition: partition.index,
                offset: Offset(partition.committed_offset),
                leader_epoch: (epoch != -1).then_some(LeaderEpoch(epoch)),
                metadata: metadata.into(),
            });
        }
        verdicts.push(of_topic);
        if !partitions.is_empty() {
            commit.topics.push(CommitTopic { name: found.name, id: found.id, partitions });
        }
    }
    if records_bytes > RECORDS_BYTES_MAX {
        // All or nothing: a commit is one decision.
        commit.topics.clear();
        for verdict in verdicts.iter_mut().flatten() {
            verdict.get_or_insert(ResponseError::InvalidCommitOffsetSize);
        }
    }
    Ok(Plan { commit, verdicts })
}

pub(super) fn refuse_all(asked: &OffsetCommitRequest, error: ResponseError, version: i16) -> OffsetCommitResponse {
    let verdicts: Vec<_> = asked.topics.iter().map(|topic| vec![Some(error); topic.partitions.len()]).collect();
    to_wire(asked, &verdicts, Ok(Ok(Vec::new())), version)
}

/// Every partition that was asked for, in the request's order.
pub(super) fn to_wire(
    asked: &OffsetCommitRequest,
    verdicts: &[Vec<Option<ResponseError>>],
    committed: Result<Result<Vec<CommittedTopic>, CommitError>, CoordinatorError>,
    version: i16,
) -> OffsetCommitResponse {
    let (committed, refused) = match committed {
        Ok(Ok(committed)) => (committed, None),
        Ok(Err(e)) => (Vec::new(), Some(errors::of_commit(e, version))),
        Err(e) => (Vec::new(), Some(errors::of_coordinator_at_commit(e))),
    };
    let mut said = committed.iter().flat_map(|topic| &topic.partitions);
    let mut code = |verdict: Option<ResponseError>| match (verdict, refused) {
        (Some(error), _) | (None, Some(error)) => error.code(),
        (None, None) => {
            let (_, result) = said.next().expect("the coordinator answers what it was asked");
            result.err().map_or(0, |e| errors::of_commit_partition(e).code())
        }
    };
    let mut topics = Vec::with_capacity(asked.topics.len());
    for (topic, verdicts) in asked.topics.iter().zip(verdicts) {
        let partitions = topic.partitions.iter().zip(verdicts).map(|(partition, verdict)| {
            OffsetCommitPartitionResponse { index: partition.index, error_code: code(*verdict) }
        });
        topics.push(OffsetCommitTopicResponse { topic: topic.topic.clone(), partitions: partitions.collect() });
    }
    OffsetCommitResponse { throttle_time_ms: 0, topics }
}
