//! Asking for moves of replicas, and what is known of them.

use std::collections::BTreeMap;

use kafka_protocol::messages::alter_partition_reassignments_request::{ReassignablePartition, ReassignableTopic};
use kafka_protocol::messages::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse, BrokerId,
    ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse,
};

use super::plan::Placed;
use crate::cli::client::{Client, ClientError, text};

/// A move under way.
pub struct Ongoing {
    /// The brokers that the partition shall be on.
    pub target: Vec<i32>,
    /// All that it is on for now, those that leave at the end.
    pub replicas: Vec<i32>,
}

/// By topic and partition.
pub type OngoingMoves = BTreeMap<(String, i32), Ongoing>;

impl Client {
    /// Every move that is under way.
    pub async fn ongoing_moves(&self) -> Result<OngoingMoves, ClientError> {
        let timeout_ms = self.timeout_ms();
        let build = |_| ListPartitionReassignmentsRequest::default().with_timeout_ms(timeout_ms).with_topics(None);
        let code = |response: &ListPartitionReassignmentsResponse| response.error_code;
        let response = self.controller(build, code).await?;
        if let Some(error) = ClientError::of_code(response.error_code, response.error_message.as_deref()) {
            return Err(error);
        }
        let ids = |ids: &[BrokerId]| ids.iter().map(|id| id.0).collect::<Vec<_>>();
        let mut ongoing = BTreeMap::new();
        for topic in &response.topics {
            for row in &topic.partitions {
                let (replicas, removing) = (ids(&row.replicas), ids(&row.removing_replicas));
                let target = replicas.iter().copied().filter(|id| !removing.contains(id)).collect();
                ongoing.insert((topic.name.to_string(), row.partition_index), Ongoing { target, replicas });
            }
        }
        Ok(ongoing)
    }

    /// Has replicas move. Gives what was refused, with the reason.
    pub async fn move_replicas(&self, moves: &[Placed]) -> Result<Vec<(Placed, ClientError)>, ClientError> {
        let mut by_topic: BTreeMap<&str, Vec<ReassignablePartition>> = BTreeMap::new();
        for one in moves {
            let replicas = one.replicas.iter().copied().map(BrokerId).collect();
            let row =
                ReassignablePartition::default().with_partition_index(one.partition).with_replicas(Some(replicas));
            by_topic.entry(&one.topic).or_default().push(row);
        }
        let topics = by_topic.into_iter().map(|(name, partitions)| {
            ReassignableTopic::default().with_name(text(name).into()).with_partitions(partitions)
        });
        let request = AlterPartitionReassignmentsRequest::default()
            .with_timeout_ms(self.timeout_ms())
            .with_topics(topics.collect());
        let code = |response: &AlterPartitionReassignmentsResponse| response.error_code;
        let response = self.controller(|_| request.clone(), code).await?;
        if let Some(error) = ClientError::of_code(response.error_code, response.error_message.as_deref()) {
            return Err(error);
        }
        let mut refused = Vec::new();
        for topic in &response.responses {
            for row in &topic.partitions {
                let is_it = |one: &&Placed| one.topic == *topic.name.0 && one.partition == row.partition_index;
                if let (Some(one), Some(error)) =
                    (moves.iter().find(is_it), ClientError::of_code(row.error_code, row.error_message.as_deref()))
                {
                    refused.push((one.clone(), error));
                }
            }
        }
        Ok(refused)
    }
}
