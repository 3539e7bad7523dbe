//! AddPartitionsToTxn (24), AddOffsetsToTxn (25), EndTxn (26): what transactional producers tell their coordinator, and
//! what nodes ask it for them (24 from version 4 on).

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::add_partitions_to_txn_request::{AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction};
use kafka_protocol::messages::add_partitions_to_txn_response::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnResult, AddPartitionsToTxnTopicResult,
};
use kafka_protocol::messages::{
    AddOffsetsToTxnRequest, AddOffsetsToTxnResponse, AddPartitionsToTxnRequest, AddPartitionsToTxnResponse,
    EndTxnRequest, EndTxnResponse,
};
use millstream_core::coordinator::ids::ReplyToken;
use millstream_core::coordinator::txn::{
    AddPartitions, Command, EndTransaction, Producer, Reply, TransactionVersion, TransactionalId, VerifyPartitions,
};
use millstream_core::security::Operation;
use millstream_core::types::{ProducerEpoch, ProducerId, TopicName, TopicPartition};

use super::find::OFFSETS_TOPIC;
use super::{Access, BoxFuture, Context, Outcome, Request, Resource, Session, errors};
use crate::coordinator::CoordinatorError;

/// How long a coordinator's answer is waited for. Clients wait for 30 s by default.
const WITHIN: Duration = Duration::from_secs(10);
/// From this version of AddPartitionsToTxn on it comes from other nodes, for many transactions at once.
const OF_NODES_FROM: i16 = 4;
/// From this version of EndTxn on the client's epoch rises with each transaction (KIP-890).
const BUMPS_EPOCH_FROM: i16 = 5;
/// From this version on of all three clients know PRODUCER_FENCED.
const KNOWS_FENCED_FROM: i16 = 2;

/// The token is given when a command is taken.
pub(super) const NO_TOKEN: ReplyToken = ReplyToken(0);

/// One transaction's part of a request.
pub(super) struct ToAdd {
    pub transactional_id: String,
    pub producer: Producer,
    pub topics: Vec<(String, Vec<i32>)>,
    /// Nothing is added: it is asked whether they belong to it.
    pub verify_only: bool,
    pub version: i16,
}

pub fn handle_add_partitions<'a>(
    context: &'a Arc<Context>,
    _session: &'a mut Session,
    request: Request,
) -> BoxFuture<'a, Outcome> {
    Box::pin(async move {
        let version = request.header.version;
        let asked: AddPartitionsToTxnRequest = match request.decode() {
            Ok(asked) => asked,
            Err(close) => return close,
        };
        if version < OF_NODES_FROM {
            let asked = AddPartitionsToTxnTransaction::default()
                .with_transactional_id(asked.v3_and_below_transactional_id)
                .with_producer_id(asked.v3_and_below_producer_id)
                .with_producer_epoch(asked.v3_and_below_producer_epoch)
                .with_topics(asked.v3_and_below_topics);
            let results = rows(context, &request.access, &asked, version).await;
            let body = AddPartitionsToTxnResponse::default().with_results_by_topic_v3_and_below(results);
            return Outcome::reply(&request.header, &body);
        }
        if let Err(error) = request.access.check(Operation::ClusterAction, Resource::Cluster) {
            let body = AddPartitionsToTxnResponse::default().with_error_code(error.code());
            return Outcome::reply(&request.header, &body);
        }
        let mut results = Vec::with_capacity(asked.transactions.len());
        for transaction in asked.transactions {
            let rows = rows(context, &Access::unrestricted(), &transaction, version).await;
            let result = AddPartitionsToTxnResult::default().with_transactional_id(transaction.transactional_id);
            results.push(result.with_topic_results(rows));
        }
        let body = AddPartitionsToTxnResponse::default().with_results_by_transaction(results);
        Outcome::reply(&request.header, &body)
    })
}

/// The results of a transaction, by topic as it was asked.
async fn rows(
    context: &Context,
    access: &Access,
    asked: &AddPartitionsToTxnTransaction,
    version: i16,
) -> Vec<AddPartitionsToTxnTopicResult> {
    let add = ToAdd {
        transactional_id: asked.transactional_id.to_string(),
        producer: producer(asked.producer_id, asked.producer_epoch),
        topics: asked.topics.iter().map(|topic| (topic.name.to_string(), topic.partitions.clone())).collect(),
        verify_only: asked.verify_only,
        version,
    };
    let outcome = match access.check(Operation::Write, Resource::TransactionalId(&asked.transactional_id)) {
        Ok(()) => context.add_here(&add, access).await,
        Err(error) => AddOutcome::All(Some(error)),
    };
    let row = |topic: &AddPartitionsToTxnTopic| {
        let each = topic.partitions.iter().map(|index| {
            let error = outcome.of(&topic.name, *index);
            AddPartitionsToTxnPartitionResult::default()
                .with_partition_index(*index)
                .with_partition_error_code(error.map_or(0, |e| e.code()))
        });
        AddPartitionsToTxnTopicResult::default().with_name(topic.name.clone()).with_results_by_partition(each.collect())
    };
    asked.topics.iter().map(row).collect()
}

/// By topic and number. Topics may be any texts.
type PartitionErrors = HashMap<String, HashMap<i32, ResponseError>>;

/// What became of what was to be added.
pub(super) enum AddOutcome {
    /// The same of all.
    All(Option<ResponseError>),
    /// Of those that are not named: `others`.
    Each { errors: PartitionErrors, others: Option<ResponseError> },
}

impl AddOutcome {
    pub fn of(&self, topic: &str, index: i32) -> Option<ResponseError> {
        match self {
            Self::All(error) => *error,
            Self::Each { errors, others } => {
                errors.get(topic).and_then(|of_topic| of_topic.get(&index)).copied().or(*others)
            }
        }
    }
}

impl Context {
    /// Adds to a transaction that this node coordinates, or asks about it.
    pub(super) async fn add_here(&self, add: &ToAdd, access: &Access) -> AddOutcome {
        let partitions = match self.partitions_to_add(add, access) {
            Ok(partitions) => partitions,
            Err(errors) => return AddOutcome::Each { errors, others: Some(ResponseError::OperationNotAttempted) },
        };
        let Some(id) = transactional_id(&add.transactional_id) else {
            return AddOutcome::All(Some(ResponseError::InvalidRequest));
        };
        let (producer, verify_only) = (add.producer, add.verify_only);
        let client_version = match add.version >= OF_NODES_FROM {
            true => TransactionVersion::V2,
            false => TransactionVersion::V0,
        };
        let name = id.clone();
        let command = move |token| match verify_only {
            true => Command::VerifyPartitions(VerifyPartitions { token, id, producer, partitions }),
            false => Command::AddPartitions(AddPartitions { token, id, producer, partitions, client_version }),
        };
        let knows_fenced = add.version >= KNOWS_FENCED_FROM;
        match self.transaction_reply(&name, command).await {
            Ok(Reply::AddPartitions(added)) => {
                AddOutcome::All(added.err().map(|e| errors::of_transaction(e, knows_fenced)))
            }
            Ok(Reply::VerifyPartitions(Ok(verified))) => {
                let mut errors = PartitionErrors::new();
                for TopicPartition { topic, partition } in
                    verified.into_iter().filter(|verified| !verified.is_in_transaction).map(|v| v.partition)
                {
                    let of_topic = errors.entry(topic.to_string()).or_default();
                    of_topic.insert(partition, ResponseError::TransactionAbortable);
                }
                AddOutcome::Each { errors, others: None }
            }
            Ok(Reply::VerifyPartitions(Err(e))) => AddOutcome::All(Some(errors::of_transaction(e, knows_fenced))),
            Ok(other) => unreachable!("partitions were answered with {other:?}"),
            Err(e) => AddOutcome::All(Some(errors::of_coordinator(e))),
        }
    }

    /// Those that are there, or the errors of those that are not to be added: then none is.
    fn partitions_to_add(&self, add: &ToAdd, access: &Access) -> Result<BTreeSet<TopicPartition>, PartitionErrors> {
        let (mut partitions, mut errors) = (BTreeSet::new(), PartitionErrors::new());
        for (topic, indexes) in &add.topics {
            let name = TopicName::new(topic).ok();
            // Clients write to internal topics by other requests only.
            let is_closed = add.version < OF_NODES_FROM && name.as_ref().is_some_and(TopicName::is_internal);
            let is_closed = is_closed || !access.may(Operation::Write, Resource::Topic(topic));
            let count = self.find_by_name(topic).map_or(0, |found| found.partition_count);
            for index in indexes {
                let error = match &name {
                    _ if is_closed => ResponseError::TopicAuthorizationFailed,
                    Some(name) if (0..count).contains(index) => {
                        partitions.insert(TopicPartition { topic: name.clone(), partition: *index });
                        continue;
                    }
                    _ => ResponseError::UnknownTopicOrPartition,
                };
                errors.entry(topic.clone()).or_default().insert(*index, error);
            }
        }
        if errors.is_empty() { Ok(partitions) } else { Err(errors) }
    }

    /// What the coordinator of a transactional id, if that is here, says to a command.
    pub(super) async fn transaction_reply(
        &self,
        id: &TransactionalId,
        command: impl FnOnce(ReplyToken) -> Command + Send + 'static,
    ) -> Result<Reply, CoordinatorError> {
        self.transactions.ask_for(id.as_str(), command).await?.reply_within(WITHIN).await
    }

    /// The same of a command that may need a producer id, which is got when it does.
    pub(super) async fn transaction_reply_with_id(
        &self,
        id: &TransactionalId,
        command: impl Fn(ReplyToken, Option<ProducerId>) -> Command + Clone + Send + 'static,
    ) -> Result<Reply, ResponseError> {
        let mut fresh = None;
        loop {
            let (command, with) = (command.clone(), fresh);
            let reply = self.transaction_reply(id, move |token| command(token, with)).await;
            match reply.map_err(errors::of_coordinator)? {
                // It may need one though it has one only if another client was faster; then it asks again.
                Reply::ProducerIdNeeded if fresh.is_none() => {
                    let given = self.controller.next_producer_id().await;
                    fresh = Some(given.map_err(|e| errors::of_producer_id(&e))?);
                }
                reply => return Ok(reply),
            }
        }
    }
}

pub fn handle_add_offsets<'a>(
    context: &'a Arc<Context>,
    _session: &'a mut Session,
    request: Request,
) -> BoxFuture<'a, Outcome> {
    Box::pin(async move {
        let asked: AddOffsetsToTxnRequest = match request.decode() {
            Ok(asked) => asked,
            Err(close) => return close,
        };
        let may = request
            .access
            .check(Operation::Write, Resource::TransactionalId(&asked.transactional_id))
            .and_then(|()| request.access.check(Operation::Read, Resource::Group(&asked.group_id)));
        let error = match may {
            Ok(()) => add_offsets(context, &asked, request.header.version).await.err(),
            Err(error) => Some(error),
        };
        let body = AddOffsetsToTxnResponse::default().with_error_code(error.map_or(0, |e| e.code()));
        Outcome::reply(&request.header, &body)
    })
}

/// The partition that keeps the offsets of a group becomes part of the transaction.
async fn add_offsets(context: &Context, asked: &AddOffsetsToTxnRequest, version: i16) -> Result<(), ResponseError> {
    let id = transactional_id(&asked.transactional_id).ok_or(ResponseError::InvalidRequest)?;
    let (topic, partition_count) = context.ensure_offsets_topic().await?;
    context.groups.follow(topic, partition_count);
    let partition = crate::coordinator::partition_of(&asked.group_id, partition_count);
    let topic = TopicName::new(OFFSETS_TOPIC).expect("it is a name");
    let partitions = BTreeSet::from([TopicPartition { topic, partition }]);
    let producer = producer(asked.producer_id, asked.producer_epoch);
    let name = id.clone();
    let client_version = TransactionVersion::V0;
    let command =
        move |token| Command::AddPartitions(AddPartitions { token, id, producer, partitions, client_version });
    match context.transaction_reply(&name, command).await {
        Ok(Reply::AddPartitions(added)) => added.map_err(|e| errors::of_transaction(e, version >= KNOWS_FENCED_FROM)),
        Ok(other) => unreachable!("offsets were answered with {other:?}"),
        Err(e) => Err(errors::of_coordinator(e)),
    }
}

pub fn handle_end<'a>(
    context: &'a Arc<Context>,
    _session: &'a mut Session,
    request: Request,
) -> BoxFuture<'a, Outcome> {
    Box::pin(async move {
        let asked: EndTxnRequest = match request.decode() {
            Ok(asked) => asked,
            Err(close) => return close,
        };
        let may = request.access.check(Operation::Write, Resource::TransactionalId(&asked.transactional_id));
        let ended = match may {
            Ok(()) => end(context, &asked, request.header.version).await,
            Err(error) => Err(error),
        };
        let body = match ended {
            Ok(None) => EndTxnResponse::default(),
            Ok(Some(Producer { id, epoch })) => EndTxnResponse::default()
                .with_producer_id(kafka_protocol::messages::ProducerId(id.0))
                .with_producer_epoch(epoch.0),
            Err(error) => EndTxnResponse::default().with_error_code(error.code()),
        };
        Outcome::reply(&request.header, &body)
    })
}

async fn end(context: &Context, asked: &EndTxnRequest, version: i16) -> Result<Option<Producer>, ResponseError> {
    let id = transactional_id(&asked.transactional_id).ok_or(ResponseError::InvalidRequest)?;
    let (producer, commit) = (producer(asked.producer_id, asked.producer_epoch), asked.committed);
    let client_version = if version >= BUMPS_EPOCH_FROM { TransactionVersion::V2 } else { TransactionVersion::V0 };
    let name = id.clone();
    let command = move |token, fresh| {
        let id = id.clone();
        Command::EndTransaction(EndTransaction { token, id, producer, commit, client_version, fresh })
    };
    match context.transaction_reply_with_id(&name, command).await? {
        Reply::EndTransaction(ended) => ended.map_err(|e| errors::of_transaction(e, version >= KNOWS_FENCED_FROM)),
        other => unreachable!("an end was answered with {other:?}"),
    }
}

/// `None`: it is empty, or longer than any record holds.
pub(super) fn transactional_id(name: &str) -> Option<TransactionalId> {
    TransactionalId::new(name).ok().filter(|id| !id.is_empty())
}

pub(super) fn producer(id: kafka_protocol::messages::ProducerId, epoch: i16) -> Producer {
    Producer { id: ProducerId(id.0), epoch: ProducerEpoch(epoch) }
}
