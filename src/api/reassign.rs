//! AlterPartitionReassignments (45) and ListPartitionReassignments (46): replicas move to other nodes (KIP-455). What is
//! allowed is decided in `core::controller`.

use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::alter_partition_reassignments_request::ReassignableTopic;
use kafka_protocol::messages::alter_partition_reassignments_response::{
    ReassignablePartitionResponse, ReassignableTopicResponse,
};
use kafka_protocol::messages::list_partition_reassignments_response::{
    OngoingPartitionReassignment, OngoingTopicReassignment,
};
use kafka_protocol::messages::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse, BrokerId,
    ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse, TopicName,
};
use millstream_core::controller::{
    Image, MoveError, Ongoing, PARTITIONS_PER_REQUEST_MAX, Reassignment, Topic, reassign,
};
use millstream_core::security::Operation;
use millstream_core::types::NodeId;

use super::{BoxFuture, Context, Outcome, Request, Resource, Session, errors};
use crate::protocol::StrBytes;

/// What a client waits at least, and at most.
const WAIT_MIN: Duration = Duration::from_millis(100);
const WAIT_MAX: Duration = Duration::from_secs(60);

pub fn handle_alter<'a>(
    context: &'a Arc<Context>,
    _session: &'a mut Session,
    request: Request,
) -> BoxFuture<'a, Outcome> {
    Box::pin(async move {
        let asked: AlterPartitionReassignmentsRequest = match request.decode() {
            Ok(asked) => asked,
            Err(close) => return close,
        };
        if let Err(error) = request.access.check(Operation::Alter, Resource::Cluster) {
            let message = errors::message(&error);
            let responses = asked.topics.into_iter().map(|topic| refused(topic, error)).collect();
            let body = AlterPartitionReassignmentsResponse::default()
                .with_error_code(error.code())
                .with_error_message(Some(message))
                .with_responses(responses);
            return Outcome::reply(&request.header, &body);
        }
        // Version 0 cannot forbid it, and does not.
        let may_change_count = request.header.version == 0 || asked.allow_replication_factor_change;
        let body = AlterPartitionReassignmentsResponse::default()
            .with_allow_replication_factor_change(may_change_count)
            .with_error_message(None);
        let refuse = |error: ResponseError, message: StrBytes| {
            let body = body.clone().with_error_code(error.code()).with_error_message(Some(message));
            Outcome::reply(&request.header, &body)
        };
        let wanted: Vec<Reassignment> = asked.topics.iter().flat_map(reassignments).collect();
        if wanted.len() > PARTITIONS_PER_REQUEST_MAX {
            let error = ResponseError::PolicyViolation;
            return refuse(error, errors::message(&"Excessively large number of partitions per request."));
        }
        let timeout = Duration::from_millis(u64::try_from(asked.timeout_ms).unwrap_or(0)).clamp(WAIT_MIN, WAIT_MAX);
        let change = context.controller.change(move |image: &Image| reassign(image, &wanted, !may_change_count));
        match tokio::time::timeout(timeout, change).await {
            Ok(Ok(results)) => {
                let mut results = results.into_iter();
                let responses: Vec<_> = asked.topics.into_iter().map(|topic| response(topic, &mut results)).collect();
                let is_moved =
                    |topic: &&ReassignableTopicResponse| topic.partitions.iter().any(|row| row.error_code == 0);
                for topic in responses.iter().filter(is_moved) {
                    request.changed("replicas reassigned", &topic.name);
                }
                Outcome::reply(&request.header, &body.with_responses(responses))
            }
            Ok(Err(error)) => refuse(errors::of_controller(&error), errors::message(&error)),
            Err(_elapsed) => {
                let error = ResponseError::RequestTimedOut;
                refuse(error, errors::message(&errors::words(error)))
            }
        }
    })
}

fn refused(topic: ReassignableTopic, error: ResponseError) -> ReassignableTopicResponse {
    let rows = topic.partitions.iter().map(|partition| {
        ReassignablePartitionResponse::default()
            .with_partition_index(partition.partition_index)
            .with_error_code(error.code())
            .with_error_message(Some(errors::message(&error)))
    });
    ReassignableTopicResponse::default().with_partitions(rows.collect()).with_name(topic.name)
}

fn reassignments(topic: &ReassignableTopic) -> impl Iterator<Item = Reassignment> + '_ {
    topic.partitions.iter().map(|partition| Reassignment {
        topic: topic.name.to_string(),
        partition: partition.partition_index,
        replicas: partition.replicas.as_ref().map(|nodes| nodes.iter().map(|node| NodeId(node.0)).collect()),
    })
}

fn response(
    topic: ReassignableTopic,
    results: &mut impl Iterator<Item = Result<(), MoveError>>,
) -> ReassignableTopicResponse {
    let rows = topic.partitions.iter().zip(results).map(|(partition, result)| {
        let row = ReassignablePartitionResponse::default().with_partition_index(partition.partition_index);
        match result {
            Ok(()) => row.with_error_message(None),
            Err(e) => row.with_error_code(errors::of_move(&e).code()).with_error_message(Some(errors::message(&e))),
        }
    });
    ReassignableTopicResponse::default().with_partitions(rows.collect()).with_name(topic.name)
}

pub fn handle_list<'a>(
    context: &'a Arc<Context>,
    _session: &'a mut Session,
    request: Request,
) -> BoxFuture<'a, Outcome> {
    Box::pin(async move {
        let asked: ListPartitionReassignmentsRequest = match request.decode() {
            Ok(asked) => asked,
            Err(close) => return close,
        };
        if let Err(error) = request.access.check(Operation::Describe, Resource::Cluster) {
            let body = ListPartitionReassignmentsResponse::default()
                .with_error_code(error.code())
                .with_error_message(Some(errors::message(&error)));
            return Outcome::reply(&request.header, &body);
        }
        let now = context.controller.published();
        let topics = match &asked.topics {
            None => now.image.moving_topics().filter_map(|topic| all_of(topic)).collect(),
            Some(topics) => {
                let found = topics.iter().filter_map(|wanted| {
                    let topic = now.image.topic_by_name(&wanted.name)?;
                    of_topic(topic, wanted.partition_indexes.iter().copied())
                });
                found.collect()
            }
        };
        let body = ListPartitionReassignmentsResponse::default().with_error_message(None).with_topics(topics);
        Outcome::reply(&request.header, &body)
    })
}

fn all_of(topic: &Topic) -> Option<OngoingTopicReassignment> {
    of_topic(topic, (0..).zip(&topic.partitions).map(|(number, _)| number))
}

/// The moves of these partitions of a topic, if there are any.
fn of_topic(topic: &Topic, partitions: impl Iterator<Item = i32>) -> Option<OngoingTopicReassignment> {
    let ids = |nodes: Vec<NodeId>| nodes.into_iter().map(|node| BrokerId(node.0)).collect::<Vec<_>>();
    let ongoing = partitions.filter_map(|number| {
        let Ongoing { replicas, adding, removing } = topic.partitions.get(usize::try_from(number).ok()?)?.ongoing()?;
        Some(
            OngoingPartitionReassignment::default()
                .with_partition_index(number)
                .with_replicas(ids(replicas))
                .with_adding_replicas(ids(adding))
                .with_removing_replicas(ids(removing)),
        )
    });
    let ongoing: Vec<_> = ongoing.collect();
    let name = TopicName(StrBytes::from_string(topic.name.to_string()));
    (!ongoing.is_empty()).then(|| OngoingTopicReassignment::default().with_name(name).with_partitions(ongoing))
}
