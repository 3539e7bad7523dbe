//! Whoever writes to a partition in the name of a transaction asks the coordinator of that, wherever it is, to take the
//! partition into it, or whether it belongs to it.

use std::collections::BTreeMap;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::AddPartitionsToTxnRequest;
use kafka_protocol::messages::add_partitions_to_txn_request::{AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction};
use millstream_core::coordinator::txn::Producer;
use millstream_core::types::{ProducerEpoch, ProducerId, TopicPartition};

use super::transactions::ToAdd;
use super::{Access, Context};
use crate::protocol::StrBytes;

/// The version of AddPartitionsToTxn that nodes speak.
const ADD_VERSION: i16 = 5;

impl Context {
    /// Asks the coordinator of a transaction, wherever it is, to take partitions into it, or whether they belong to it.
    /// Gives the errors of those that must not be written to, in the coordinator's words.
    pub async fn add_partitions(
        &self,
        transactional_id: &str,
        producer_id: ProducerId,
        producer_epoch: ProducerEpoch,
        partitions: Vec<TopicPartition>,
        verify_only: bool,
    ) -> Vec<(TopicPartition, ResponseError)> {
        let coordinator = self.transactions.partition_id_for(transactional_id).ok();
        let leader = coordinator.and_then(|id| self.lead(id).leader).filter(|node| self.is_alive(*node));
        let all = |error| partitions.iter().map(|partition| (partition.clone(), error)).collect();
        let Some(node) = leader else { return all(ResponseError::CoordinatorNotAvailable) };
        let add = ToAdd {
            transactional_id: transactional_id.to_owned(),
            producer: Producer { id: producer_id, epoch: producer_epoch },
            topics: by_topic(&partitions).into_iter().map(|(topic, indexes)| (topic.to_owned(), indexes)).collect(),
            verify_only,
            version: ADD_VERSION,
        };
        if node == self.node_id() {
            let outcome = self.add_here(&add, &Access::unrestricted()).await;
            let failed = |partition: &TopicPartition| outcome.of(partition.topic.as_str(), partition.partition);
            return partitions.iter().filter_map(|p| Some((p.clone(), failed(p)?))).collect();
        }
        match self.ask_node(node, ADD_VERSION, &to_wire(add)).await {
            None => all(ResponseError::NetworkException),
            Some(response) => {
                if let Some(error) = ResponseError::try_from_code(response.error_code) {
                    return all(error);
                }
                let topics = response.results_by_transaction.iter().flat_map(|result| &result.topic_results);
                let codes: BTreeMap<(&str, i32), i16> = topics
                    .flat_map(|topic| topic.results_by_partition.iter().map(move |row| (topic, row)))
                    .map(|(topic, row)| ((topic.name.as_str(), row.partition_index), row.partition_error_code))
                    .collect();
                let failed =
                    |partition: &TopicPartition| match codes.get(&(partition.topic.as_str(), partition.partition)) {
                        Some(code) => ResponseError::try_from_code(*code),
                        None => Some(ResponseError::NetworkException),
                    };
                partitions.iter().filter_map(|p| Some((p.clone(), failed(p)?))).collect()
            }
        }
    }
}

fn to_wire(add: ToAdd) -> AddPartitionsToTxnRequest {
    let topic = |(name, indexes): (String, Vec<i32>)| {
        let name = kafka_protocol::messages::TopicName(StrBytes::from_string(name));
        AddPartitionsToTxnTopic::default().with_name(name).with_partitions(indexes)
    };
    let id = kafka_protocol::messages::TransactionalId(StrBytes::from_string(add.transactional_id));
    let transaction = AddPartitionsToTxnTransaction::default()
        .with_transactional_id(id)
        .with_producer_id(kafka_protocol::messages::ProducerId(add.producer.id.0))
        .with_producer_epoch(add.producer.epoch.0)
        .with_verify_only(add.verify_only)
        .with_topics(add.topics.into_iter().map(topic).collect());
    AddPartitionsToTxnRequest::default().with_transactions(vec![transaction])
}

/// Numbers of partitions by topic.
pub(super) fn by_topic(partitions: &[TopicPartition]) -> BTreeMap<&str, Vec<i32>> {
    let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for TopicPartition { topic, partition } in partitions {
        topics.entry(topic.as_str()).or_default().push(*partition);
    }
    topics
}
