//! TxnOffsetCommit: offsets that count once their transaction is committed. Partitions that are not there are refused one
//! by one, the rest is put to the coordinator.

use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::txn_offset_commit_response::{
    TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use kafka_protocol::messages::{TxnOffsetCommitRequest, TxnOffsetCommitResponse};
use millstream_core::coordinator::group::{Command, OffsetCommit, Reply};
use millstream_core::security::Operation;
use millstream_core::types::{ProducerEpoch, ProducerId, Sequence};

use super::super::groups::{answered, too_long};
use super::super::verification::{Named, TransactionSupport, verify};
use super::super::{BoxFuture, Context, Outcome, Request, Resource, Session, errors};
use super::commit::{Plan, from_wire, refuse_all, to_wire};
use crate::coordinator::{CoordinatorError, Transaction};
use crate::protocol::TopicRef;
use crate::protocol::offset_commit::{
    OffsetCommitPartition, OffsetCommitRequest, OffsetCommitResponse, OffsetCommitTopic,
};

/// Before this version producers knew no COORDINATOR_LOAD_IN_PROGRESS here (KAFKA-7296).
const LOADING_FROM: i16 = 2;
/// Before this version a client is told nothing that OffsetCommit tells from version 9 on only.
const AS_OFFSET_COMMIT: i16 = 8;

pub fn handle<'a>(context: &'a Arc<Context>, _session: &'a mut Session, request: Request) -> BoxFuture<'a, Outcome> {
    Box::pin(async move {
        let version = request.header.version;
        let asked: TxnOffsetCommitRequest = match request.decode() {
            Ok(asked) => asked,
            Err(close) => return close,
        };
        let as_commit = as_commit(&asked);
        let access = &request.access;
        let may = access
            .check(Operation::Write, Resource::TransactionalId(&asked.transactional_id))
            .and_then(|()| access.check(Operation::Read, Resource::Group(&asked.group_id)));
        if let Err(error) = may {
            let refused = refuse_all(&as_commit, error, AS_OFFSET_COMMIT);
            return Outcome::reply(&request.header, &respond(refused, version));
        }
        let find = |topic: &TopicRef| access.find(context, Operation::Read, topic);
        let Plan { commit, verdicts } = match from_wire(&as_commit, &find) {
            Ok(plan) => plan,
            Err(e) => return too_long(e),
        };
        let told = if asked.group_id.is_empty() {
            refuse_all(&as_commit, ResponseError::InvalidGroupId, AS_OFFSET_COMMIT)
        } else if commit.topics.is_empty() {
            to_wire(&as_commit, &verdicts, Ok(Ok(Vec::new())), AS_OFFSET_COMMIT)
        } else {
            match put(context, &asked, commit, version).await {
                Ok(Reply::OffsetCommit(committed)) => to_wire(&as_commit, &verdicts, Ok(committed), AS_OFFSET_COMMIT),
                Ok(other) => unreachable!("a commit was answered with {other:?}"),
                Err(error) => {
                    // What is not there stays so, whatever the coordinator says.
                    let all = |of_topic: Vec<Option<ResponseError>>| {
                        of_topic.into_iter().map(|known| known.or(Some(error))).collect()
                    };
                    let verdicts: Vec<Vec<_>> = verdicts.into_iter().map(all).collect();
                    to_wire(&as_commit, &verdicts, Ok(Ok(Vec::new())), AS_OFFSET_COMMIT)
                }
            }
        };
        Outcome::reply(&request.header, &respond(told, version))
    })
}

/// Verified, and put to the coordinator of the group.
async fn put(
    context: &Arc<Context>,
    asked: &TxnOffsetCommitRequest,
    commit: OffsetCommit,
    version: i16,
) -> Result<Reply, ResponseError> {
    let of_coordinator = |e: CoordinatorError| errors::of_coordinator_at_transactional_commit(&e);
    let (producer, epoch) = (ProducerId(asked.producer_id.0), ProducerEpoch(asked.producer_epoch));
    let id = context.groups.partition_id_for(&asked.group_id).map_err(of_coordinator)?;
    let partition = context.partitions.get(id).ok_or(ResponseError::NotCoordinator)?;
    let support = TransactionSupport::of_offset_commit(version);
    let begun = partition.begin_verification((producer, epoch, Sequence(-1)), support.bumps_epoch()).await;
    let guard = begun.map_err(|e| errors::of_append_at_coordinator(&e))?;
    if guard.is_some() {
        let of =
            Named { transactional_id: &asked.transactional_id, producer_id: producer, producer_epoch: epoch, support };
        let refused = verify(context, &of, std::slice::from_ref(&partition.name)).await;
        if let Some((_, error)) = refused.into_iter().next() {
            // As Kafka tells them (`GroupCoordinatorService.handleOperationException`): after a load in progress clients try
            // again without looking for another coordinator.
            return Err(match error {
                ResponseError::NetworkException => ResponseError::CoordinatorLoadInProgress,
                ResponseError::UnknownTopicOrPartition
                | ResponseError::NotEnoughReplicas
                | ResponseError::RequestTimedOut => ResponseError::CoordinatorNotAvailable,
                ResponseError::NotLeaderOrFollower | ResponseError::KafkaStorageError => ResponseError::NotCoordinator,
                other => other,
            });
        }
    }
    let of = Transaction { producer, epoch, guard };
    let command = move |token| Command::TransactionalCommit(OffsetCommit { token, ..commit });
    let asked = context.groups.ask_in(id.partition, of, command).await;
    answered(context, asked).await.map_err(of_coordinator)
}

/// What it has in common with an OffsetCommit.
fn as_commit(asked: &TxnOffsetCommitRequest) -> OffsetCommitRequest {
    let topics = asked.topics.iter().map(|topic| OffsetCommitTopic {
        topic: TopicRef::Name(topic.name.0.clone()),
        partitions: topic
            .partitions
            .iter()
            .map(|p| OffsetCommitPartition {
                index: p.partition_index,
                committed_offset: p.committed_offset,
                committed_leader_epoch: p.committed_leader_epoch,
                committed_metadata: p.committed_metadata.clone(),
            })
            .collect(),
    });
    OffsetCommitRequest {
        group_id: asked.group_id.0.clone(),
        generation_id_or_member_epoch: asked.generation_id,
        member_id: asked.member_id.clone(),
        group_instance_id: asked.group_instance_id.clone(),
        retention_time_ms: -1,
        topics: topics.collect(),
    }
}

fn respond(told: OffsetCommitResponse, version: i16) -> TxnOffsetCommitResponse {
    let loading = ResponseError::CoordinatorLoadInProgress.code();
    let code = |code: i16| match code == loading && version < LOADING_FROM {
        true => ResponseError::CoordinatorNotAvailable.code(),
        false => code,
    };
    let topics = told.topics.into_iter().filter_map(|topic| {
        let TopicRef::Name(name) = topic.topic else { return None };
        let partitions = topic.partitions.iter().map(|p| {
            TxnOffsetCommitResponsePartition::default()
                .with_partition_index(p.index)
                .with_error_code(code(p.error_code))
        });
        Some(TxnOffsetCommitResponseTopic::default().with_name(name.into()).with_partitions(partitions.collect()))
    });
    TxnOffsetCommitResponse::default().with_topics(topics.collect())
}
