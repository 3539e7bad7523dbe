//! Transactions as an onlooker sees them: at their coordinators, and in the partitions they write to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::describe_producers_request::TopicRequest;
use kafka_protocol::messages::list_transactions_response::TransactionState;
use kafka_protocol::messages::{
    DescribeProducersRequest, DescribeTransactionsRequest, DescribeTransactionsResponse, ListTransactionsRequest,
    ListTransactionsResponse,
};
use millstream_core::types::{TopicName, TopicPartition};
use tokio::task::JoinSet;

use super::{Client, ClientError, text};

/// What a coordinator knows of a transactional id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    pub state: String,
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub timeout_ms: i32,
    /// Milliseconds since 1970.
    pub started_at_ms: Option<i64>,
    pub partitions: BTreeSet<TopicPartition>,
}

/// A producer whose transaction goes on in a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenTransaction {
    pub producer_id: i64,
    pub producer_epoch: i32,
    /// -1: none has ended a transaction of it here.
    pub coordinator_epoch: i32,
    pub start_offset: i64,
    /// Of its latest batch, milliseconds since 1970.
    pub last_timestamp_ms: i64,
}

impl Client {
    /// What a request brings to light at each of the brokers; they are asked at the same time.
    pub async fn list_transactions(
        self: &Arc<Self>,
        brokers: impl IntoIterator<Item = i32>,
        request: &ListTransactionsRequest,
    ) -> Vec<(i32, Result<Vec<TransactionState>, ClientError>)> {
        let mut calls = JoinSet::new();
        for id in brokers {
            let (client, request) = (Arc::clone(self), request.clone());
            calls.spawn(async move { (id, client.transactions_at(id, request).await) });
        }
        calls.join_all().await
    }

    async fn transactions_at(
        &self,
        id: i32,
        request: ListTransactionsRequest,
    ) -> Result<Vec<TransactionState>, ClientError> {
        let mut retry = self.retry();
        let response: ListTransactionsResponse = loop {
            let error = match self.broker(id, |_| request.clone()).await {
                Ok(response) => match ClientError::of_code(response.error_code, None) {
                    None => break response,
                    Some(error) => error,
                },
                Err(error) => error,
            };
            retry.after(error).await?;
        };
        match response.unknown_state_filters.first() {
            None => Ok(response.transaction_states),
            Some(name) => {
                let message = Some(format!("the broker knows no state {}", name.as_str()));
                Err(ClientError::Response { error: ResponseError::InvalidRequest, message })
            }
        }
    }

    /// What the coordinator of a transactional id knows of it.
    pub async fn describe_transaction(&self, id: &str) -> Result<Transaction, ClientError> {
        let request = DescribeTransactionsRequest::default().with_transactional_ids(vec![text(id).into()]);
        let code = |response: &DescribeTransactionsResponse| {
            response.transaction_states.first().map_or(0, |row| row.error_code)
        };
        let response = self.ask_transaction_coordinator(id, |_| request.clone(), code).await?;
        if let Some(error) = ClientError::of_code(code(&response), None) {
            return Err(error);
        }
        let unknown = ClientError::Response { error: ResponseError::TransactionalIdNotFound, message: None };
        let row = response.transaction_states.into_iter().next().ok_or(unknown)?;
        let mut partitions = BTreeSet::new();
        for topic in &row.topics {
            let name = TopicName::new(&topic.topic).map_err(|invalid| ClientError::Response {
                error: ResponseError::InvalidTopicException,
                message: Some(invalid.to_string()),
            })?;
            let each = topic.partitions.iter().map(|index| TopicPartition { topic: name.clone(), partition: *index });
            partitions.extend(each);
        }
        Ok(Transaction {
            state: row.transaction_state.to_string(),
            producer_id: row.producer_id.0,
            producer_epoch: row.producer_epoch,
            timeout_ms: row.transaction_timeout_ms,
            started_at_ms: Some(row.transaction_start_time_ms).filter(|at| *at >= 0),
            partitions,
        })
    }

    /// The transactions that go on in partitions which a broker leads.
    pub async fn open_transactions(
        &self,
        leader: i32,
        partitions: &[TopicPartition],
    ) -> Result<BTreeMap<TopicPartition, Result<Vec<OpenTransaction>, ClientError>>, ClientError> {
        let mut topics: BTreeMap<&TopicName, Vec<i32>> = BTreeMap::new();
        for TopicPartition { topic, partition } in partitions {
            topics.entry(topic).or_default().push(*partition);
        }
        let topic = |(name, indexes): (&TopicName, Vec<i32>)| {
            TopicRequest::default().with_name(text(name.as_str()).into()).with_partition_indexes(indexes)
        };
        let request = DescribeProducersRequest::default().with_topics(topics.into_iter().map(topic).collect());
        let response = self.broker(leader, |_| request.clone()).await?;
        let mut found = BTreeMap::new();
        for topic in response.topics {
            let Ok(name) = TopicName::new(&topic.name) else { continue };
            for row in topic.partitions {
                let open = row.active_producers.iter().filter(|producer| producer.current_txn_start_offset >= 0);
                let open = open.map(|producer| OpenTransaction {
                    producer_id: producer.producer_id.0,
                    producer_epoch: producer.producer_epoch,
                    coordinator_epoch: producer.coordinator_epoch,
                    start_offset: producer.current_txn_start_offset,
                    last_timestamp_ms: producer.last_timestamp,
                });
                let of_partition = match ClientError::of_code(row.error_code, row.error_message.as_deref()) {
                    Some(error) => Err(error),
                    None => Ok(open.collect()),
                };
                found.insert(TopicPartition { topic: name.clone(), partition: row.partition_index }, of_partition);
            }
        }
        Ok(found)
    }
}
