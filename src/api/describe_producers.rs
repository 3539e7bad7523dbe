//! DescribeProducers (61): the producers with an identity that partitions know, and their transactions.

use std::collections::HashSet;
use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::describe_producers_request::TopicRequest;
use kafka_protocol::messages::describe_producers_response::{PartitionResponse, ProducerState, TopicResponse};
use kafka_protocol::messages::{DescribeProducersRequest, DescribeProducersResponse, ProducerId};
use millstream_core::partition::ProducerSnapshot;
use millstream_core::security::Operation;
use millstream_core::types::TopicName;

use super::{BoxFuture, Context, Outcome, Request, Resource, Session, errors};
use crate::protocol::StrBytes;

/// Producers that one answer may tell of, some 10 MiB: four bytes of a request ask for all that a partition knows.
const TOLD_MAX: usize = 250_000;

pub fn handle<'a>(context: &'a Arc<Context>, _session: &'a mut Session, request: Request) -> BoxFuture<'a, Outcome> {
    Box::pin(async move {
        let asked: DescribeProducersRequest = match request.decode() {
            Ok(asked) => asked,
            Err(close) => return close,
        };
        let mut topics = Vec::new();
        let mut room = Room(TOLD_MAX);
        for (topic, indexes) in each_once(&asked.topics) {
            let mut partitions = Vec::new();
            let forbidden = request.access.check(Operation::Read, Resource::Topic(topic)).err();
            let no_name = TopicName::new(topic).err().map(|words| errors::message(&words));
            for index in indexes {
                let response = PartitionResponse::default().with_partition_index(index).with_error_message(None);
                partitions.push(if let Some(error) = forbidden {
                    response.with_error_code(error.code()).with_error_message(Some(errors::message(&error)))
                } else if let Some(words) = &no_name {
                    response
                        .with_error_code(ResponseError::InvalidTopicException.code())
                        .with_error_message(Some(words.clone()))
                } else if room.is_full() {
                    room.refuse(response)
                } else {
                    match producers(context, topic, index).await {
                        Ok(producers) => room.tell(response, producers),
                        Err(error) => response.with_error_code(error.code()),
                    }
                });
            }
            topics.push(TopicResponse::default().with_name(topic.clone().into()).with_partitions(partitions));
        }
        Outcome::reply(&request.header, &DescribeProducersResponse::default().with_topics(topics))
    })
}

/// Each partition once, under the topic where it first stands.
fn each_once(topics: &[TopicRequest]) -> Vec<(&StrBytes, Vec<i32>)> {
    let mut seen = HashSet::new();
    let of = |topic: &TopicRequest, seen: &mut HashSet<_>| {
        topic.partition_indexes.iter().copied().filter(|index| seen.insert((topic.name.clone(), *index))).collect()
    };
    topics.iter().map(|topic| (&topic.name.0, of(topic, &mut seen))).collect()
}

/// How many producers may still be told of. Nobody is told in part: who is missing would seem to be gone.
struct Room(usize);

impl Room {
    fn is_full(&self) -> bool {
        self.0 == 0
    }

    fn tell(&mut self, response: PartitionResponse, producers: Vec<ProducerSnapshot>) -> PartitionResponse {
        let Some(left) = self.0.checked_sub(producers.len()) else { return self.refuse(response) };
        self.0 = left;
        let state = |p: ProducerSnapshot| {
            ProducerState::default()
                .with_producer_id(ProducerId(p.producer_id.0))
                .with_producer_epoch(i32::from(p.epoch.0))
                .with_last_sequence(p.last_sequence.0)
                .with_last_timestamp(p.last_timestamp.0)
                .with_coordinator_epoch(p.coordinator_epoch)
                .with_current_txn_start_offset(p.transaction_start.map_or(-1, |first| first.0))
        };
        response.with_active_producers(producers.into_iter().map(state).collect())
    }

    fn refuse(&mut self, response: PartitionResponse) -> PartitionResponse {
        self.0 = 0;
        response
            .with_error_code(ResponseError::InvalidRequest.code())
            .with_error_message(Some(StrBytes::from_static_str("More is asked for than one answer may hold.")))
    }
}

async fn producers(context: &Context, topic: &str, index: i32) -> Result<Vec<ProducerSnapshot>, ResponseError> {
    let partition = context.partition_by_name(topic, index)?;
    partition.producers().await.map_err(|e| errors::of_append(&e))
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::TopicName;
    use millstream_core::types::{self, ProducerEpoch, Sequence, Timestamp};

    use super::*;

    #[test]
    fn a_partition_is_described_once() {
        let topic = |name: &'static str, partition_indexes: Vec<i32>| {
            let name = TopicName(StrBytes::from_static_str(name));
            TopicRequest::default().with_name(name).with_partition_indexes(partition_indexes)
        };
        let asked = [topic("a", vec![0, 1, 0, 0]), topic("b", vec![0]), topic("a", vec![1, 2])];
        let each: Vec<_> = each_once(&asked).into_iter().map(|(name, indexes)| (name.to_string(), indexes)).collect();
        assert_eq!(each, [("a".to_owned(), vec![0, 1]), ("b".to_owned(), vec![0]), ("a".to_owned(), vec![2])]);
    }

    #[test]
    fn an_answer_has_an_end() {
        let producer = ProducerSnapshot {
            producer_id: types::ProducerId(1),
            epoch: ProducerEpoch(0),
            last_sequence: Sequence(0),
            last_timestamp: Timestamp(0),
            coordinator_epoch: -1,
            transaction_start: None,
        };
        let mut room = Room(5);
        let told = [3, 1, 2, 0].map(|n| {
            let told = room.tell(PartitionResponse::default(), vec![producer; n]);
            (told.error_code, told.active_producers.len())
        });
        assert_eq!(told, [(0, 3), (0, 1), (42, 0), (0, 0)]);
        assert!(room.is_full());
    }
}
