//! DescribeProducers (61): the idempotent producers that partitions know.

use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::describe_producers_response::{PartitionResponse, ProducerState, TopicResponse};
use kafka_protocol::messages::{DescribeProducersRequest, DescribeProducersResponse, ProducerId};
use millstream_core::types::TopicName;

use super::{BoxFuture, Context, Outcome, Request, Session, errors};

pub fn handle<'a>(context: &'a Arc<Context>, _session: &'a mut Session, request: Request) -> BoxFuture<'a, Outcome> {
    Box::pin(async move {
        let asked: DescribeProducersRequest = match request.decode() {
            Ok(asked) => asked,
            Err(close) => return close,
        };
        let mut topics = Vec::new();
        for topic in &asked.topics {
            let mut partitions = Vec::new();
            let no_name = TopicName::new(&topic.name).err();
            for index in &topic.partition_indexes {
                let response = PartitionResponse::default().with_partition_index(*index).with_error_message(None);
                partitions.push(match (&no_name, producers(context, &topic.name, *index).await) {
                    (Some(words), _) => response
                        .with_error_code(ResponseError::InvalidTopicException.code())
                        .with_error_message(Some(errors::message(words))),
                    (None, Ok(producers)) => response.with_active_producers(producers),
                    (None, Err(error)) => response.with_error_code(error.code()),
                });
            }
            topics.push(TopicResponse::default().with_name(topic.name.clone()).with_partitions(partitions));
        }
        Outcome::reply(&request.header, &DescribeProducersResponse::default().with_topics(topics))
    })
}

async fn producers(context: &Context, topic: &str, index: i32) -> Result<Vec<ProducerState>, ResponseError> {
    let partition = context.partition_by_name(topic, index)?;
    let producers = partition.producers().await.map_err(|e| errors::of_append(&e))?;
    let state = |p: millstream_core::partition::ProducerSnapshot| {
        ProducerState::default()
            .with_producer_id(ProducerId(p.producer_id.0))
            .with_producer_epoch(i32::from(p.epoch.0))
            .with_last_sequence(p.last_sequence.0)
            .with_last_timestamp(p.last_timestamp.0)
            .with_coordinator_epoch(-1)
            .with_current_txn_start_offset(-1)
    };
    Ok(producers.into_iter().map(state).collect())
}
