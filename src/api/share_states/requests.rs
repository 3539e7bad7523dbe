//! The five requests, each translated to commands and back.

use std::collections::BTreeSet;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::delete_share_group_state_request::PartitionData as ToDelete;
use kafka_protocol::messages::initialize_share_group_state_request::PartitionData as ToInitialize;
use kafka_protocol::messages::read_share_group_state_request::PartitionData as ToRead;
use kafka_protocol::messages::{
    DeleteShareGroupStateRequest, DeleteShareGroupStateResponse, InitializeShareGroupStateRequest,
    InitializeShareGroupStateResponse, ReadShareGroupStateRequest, ReadShareGroupStateResponse,
    delete_share_group_state_response, initialize_share_group_state_response, read_share_group_state_response,
};
use millstream_core::coordinator::group::GroupId;
use millstream_core::coordinator::share_state::{
    Command, DeleteState, InitializeState, NOT_COUNTED, ReadState, ReadSummary, Reply, ShareState, ShareStateKey,
    ShareSummary, WriteState,
};
use millstream_core::share::{DeliveryState, StateBatch};
use millstream_core::types::{LeaderEpoch, Offset, TopicId};
use uuid::Uuid;

use super::{About, Allowed, NO_TOKEN, Refused, StateRequest, ask_each, code_of};
use crate::api::{Context, errors};
use crate::coordinator::coordinator_key;
use crate::protocol::share_state::{
    OfTopic, ReadShareGroupStateSummaryRequest, ReadShareGroupStateSummaryResponse, SummaryResult, WireStateBatch,
    WriteShareGroupStateRequest, WriteShareGroupStateResponse, WriteStatePartition, WriteStateResult,
};

/// "None" on the wire, of epochs and offsets.
const NONE: i32 = -1;

fn epoch(wire: i32) -> Option<i32> {
    Some(wire).filter(|epoch| *epoch != NONE)
}

fn offset(wire: i64) -> Option<Offset> {
    Some(wire).filter(|offset| *offset != i64::from(NONE)).map(Offset)
}

/// Of a start that nobody said.
fn offset_to_wire(offset: Option<Offset>) -> i64 {
    offset.map_or(NONE.into(), |offset| offset.0)
}

/// The outcome of a command that has nothing to tell.
fn outcome(reply: Result<Reply, Refused>) -> Result<(), Refused> {
    match reply? {
        Reply::Initialize(outcome) | Reply::Write(outcome) | Reply::Delete(outcome) => {
            outcome.map_err(errors::of_share_state)
        }
        other => unreachable!("a change was answered with {other:?}"),
    }
}

impl StateRequest for InitializeShareGroupStateRequest {
    const VERSION: i16 = 0;

    async fn carry_out(self, context: &Context, allowed: Allowed) -> InitializeShareGroupStateResponse {
        use initialize_share_group_state_response::{InitializeStateResult, PartitionResult};
        let topics = self.topics.into_iter().map(|topic| (topic.topic_id, topic.partitions)).collect();
        let command = |About { key, is_known }, of: ToInitialize| {
            let (state_epoch, start) = (epoch(of.state_epoch), offset(of.start_offset));
            Ok(Command::Initialize(InitializeState { token: NO_TOKEN, key, is_known, state_epoch, start }))
        };
        let answered = ask_each(context, allowed, &self.group_id, topics, |of| of.partition, command).await;
        let results = answered.into_iter().map(|(topic, rows)| {
            let rows = rows.into_iter().map(|(partition, reply)| {
                let (code, message) = code_of(&outcome(reply));
                PartitionResult::default().with_partition(partition).with_error_code(code).with_error_message(message)
            });
            InitializeStateResult::default().with_topic_id(topic).with_partitions(rows.collect())
        });
        InitializeShareGroupStateResponse::default().with_results(results.collect())
    }
}

impl StateRequest for DeleteShareGroupStateRequest {
    const VERSION: i16 = 0;

    async fn carry_out(self, context: &Context, allowed: Allowed) -> DeleteShareGroupStateResponse {
        use delete_share_group_state_response::{DeleteStateResult, PartitionResult};
        let topics = self.topics.into_iter().map(|topic| (topic.topic_id, topic.partitions)).collect();
        let command = |About { key, is_known }, _| Ok(Command::Delete(DeleteState { token: NO_TOKEN, key, is_known }));
        let partition_of = |of: &ToDelete| of.partition;
        let answered = ask_each(context, allowed, &self.group_id, topics, partition_of, command).await;
        let results = answered.into_iter().map(|(topic, rows)| {
            let rows = rows.into_iter().map(|(partition, reply)| {
                let (code, message) = code_of(&outcome(reply));
                PartitionResult::default().with_partition(partition).with_error_code(code).with_error_message(message)
            });
            DeleteStateResult::default().with_topic_id(topic).with_partitions(rows.collect())
        });
        DeleteShareGroupStateResponse::default().with_results(results.collect())
    }
}

impl StateRequest for WriteShareGroupStateRequest {
    const VERSION: i16 = 1;

    async fn carry_out(self, context: &Context, allowed: Allowed) -> WriteShareGroupStateResponse {
        let topics = self.topics.into_iter().map(|topic| (topic.topic_id, topic.partitions)).collect();
        let command = |about: About, of: WriteStatePartition| write(about, &of).map(Command::Write);
        let answered = ask_each(context, allowed, &self.group_id, topics, |of| of.partition, command).await;
        let results = answered.into_iter().map(|(topic_id, rows)| {
            let rows = rows.into_iter().map(|(partition, reply)| {
                let (error_code, error_message) = code_of(&outcome(reply));
                WriteStateResult { partition, error_code, error_message }
            });
            OfTopic { topic_id, partitions: rows.collect() }
        });
        WriteShareGroupStateResponse { results: results.collect() }
    }
}

/// Kafka keeps whatever number a state has.
fn write(About { key, is_known }: About, of: &WriteStatePartition) -> Result<WriteState, Refused> {
    let batch = |batch: &WireStateBatch| {
        Some(StateBatch {
            first: Offset(batch.first_offset),
            last: Offset(batch.last_offset),
            state: DeliveryState::of_number(batch.delivery_state)?,
            delivery_count: batch.delivery_count,
        })
    };
    let batches = of.state_batches.iter().map(batch).collect::<Option<_>>();
    let unknown = || (ResponseError::InvalidRequest, "a state batch has a state that is unknown".to_owned());
    Ok(WriteState {
        token: NO_TOKEN,
        key,
        is_known,
        state_epoch: epoch(of.state_epoch),
        leader_epoch: epoch(of.leader_epoch).map(LeaderEpoch),
        start: offset(of.start_offset),
        delivery_complete: of.delivery_complete_count,
        batches: batches.ok_or_else(unknown)?,
    })
}

/// Reads must not be answered by who was the coordinator once, and an answer is not to outgrow what there is: each
/// share-partition is named once.
async fn confirm<P>(context: &Context, group: &str, topics: &mut [(Uuid, Vec<P>)], partition_of: impl Fn(&P) -> i32) {
    let Ok(group) = GroupId::new(group) else { return };
    let mut named = BTreeSet::new();
    for (topic, partitions) in topics.iter_mut() {
        let key =
            |one: &P| ShareStateKey { group: group.clone(), topic: TopicId(*topic), partition: partition_of(one) };
        partitions.retain(|one| named.insert(key(one)));
    }
    let names: Vec<String> = named.iter().map(coordinator_key).collect();
    context.share_states.confirm(names.iter().map(String::as_str)).await;
}

impl StateRequest for ReadShareGroupStateRequest {
    const VERSION: i16 = 0;

    async fn carry_out(self, context: &Context, allowed: Allowed) -> ReadShareGroupStateResponse {
        let mut topics: Vec<_> = self.topics.into_iter().map(|topic| (topic.topic_id, topic.partitions)).collect();
        if allowed.is_ok() {
            confirm(context, &self.group_id, &mut topics, |of| of.partition).await;
        }
        let command = |About { key, is_known }, of: ToRead| {
            let leader_epoch = epoch(of.leader_epoch).map(LeaderEpoch);
            Ok(Command::Read(ReadState { token: NO_TOKEN, key, is_known, leader_epoch }))
        };
        let answered = ask_each(context, allowed, &self.group_id, topics, |of| of.partition, command).await;
        let results = answered.into_iter().map(|(topic, rows)| {
            let rows = rows.into_iter().map(|(partition, reply)| read_row(partition, reply)).collect();
            read_share_group_state_response::ReadStateResult::default().with_topic_id(topic).with_partitions(rows)
        });
        ReadShareGroupStateResponse::default().with_results(results.collect())
    }
}

fn read_row(partition: i32, reply: Result<Reply, Refused>) -> read_share_group_state_response::PartitionResult {
    let read: Result<ShareState, Refused> = reply.and_then(|reply| match reply {
        Reply::Read(read) => read.map_err(errors::of_share_state),
        other => unreachable!("a read was answered with {other:?}"),
    });
    let (code, message) = code_of(&read);
    let row = read_share_group_state_response::PartitionResult::default().with_partition(partition);
    let row = row.with_error_code(code).with_error_message(message);
    let Ok(state) = read else { return row };
    let batch = |batch: &StateBatch| {
        read_share_group_state_response::StateBatch::default()
            .with_first_offset(batch.first.0)
            .with_last_offset(batch.last.0)
            .with_delivery_state(batch.state.number())
            .with_delivery_count(batch.delivery_count)
    };
    row.with_state_epoch(state.state_epoch)
        .with_start_offset(offset_to_wire(state.start))
        .with_state_batches(state.batches.iter().map(batch).collect())
}

impl StateRequest for ReadShareGroupStateSummaryRequest {
    const VERSION: i16 = 1;

    async fn carry_out(self, context: &Context, allowed: Allowed) -> ReadShareGroupStateSummaryResponse {
        let mut topics: Vec<_> = self.topics.into_iter().map(|topic| (topic.topic_id, topic.partitions)).collect();
        if allowed.is_ok() {
            confirm(context, &self.group_id, &mut topics, |of| of.partition).await;
        }
        let command =
            |About { key, is_known }, _| Ok(Command::ReadSummary(ReadSummary { token: NO_TOKEN, key, is_known }));
        let answered = ask_each(context, allowed, &self.group_id, topics, |of| of.partition, command).await;
        let results = answered.into_iter().map(|(topic_id, rows)| OfTopic {
            topic_id,
            partitions: rows.into_iter().map(|(partition, reply)| summary_row(partition, reply)).collect(),
        });
        ReadShareGroupStateSummaryResponse { results: results.collect() }
    }
}

fn summary_row(partition: i32, reply: Result<Reply, Refused>) -> SummaryResult {
    let read: Result<ShareSummary, Refused> = reply.and_then(|reply| match reply {
        Reply::ReadSummary(read) => read.map_err(errors::of_share_state),
        other => unreachable!("a read was answered with {other:?}"),
    });
    let (error_code, error_message) = code_of(&read);
    let nothing = ShareSummary {
        state_epoch: 0,
        leader_epoch: LeaderEpoch(0),
        start: Some(Offset(0)),
        delivery_complete: NOT_COUNTED,
    };
    let summary = read.unwrap_or(nothing);
    SummaryResult {
        partition,
        error_code,
        error_message,
        state_epoch: summary.state_epoch,
        leader_epoch: summary.leader_epoch.0,
        start_offset: offset_to_wire(summary.start),
        delivery_complete_count: summary.delivery_complete,
    }
}
