//! What transaction coordinators need of other nodes: the leaders of partitions are told how transactions ended.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use kafka_protocol::error::ResponseError;
use millstream_core::coordinator::txn::Markers;
use millstream_core::types::{NodeId, PartitionId, ProducerId, TopicPartition};

use super::Context;
use super::add_partitions::by_topic;
use super::txn_markers::write_markers;
use crate::coordinator::{End, Outcome, Outside, Place, Written};
use crate::protocol::StrBytes;
use crate::protocol::write_txn_markers::{
    WritableTxnMarker, WritableTxnMarkerTopic, WriteTxnMarkersRequest, WriteTxnMarkersResponse,
};

/// The version of WriteTxnMarkers that nodes speak.
const MARKERS_VERSION: i16 = 2;

/// What transaction coordinators see of the cluster.
pub struct Cluster {
    context: Weak<Context>,
}

impl Cluster {
    pub fn of(context: &Arc<Context>) -> Arc<Self> {
        Arc::new(Self { context: Arc::downgrade(context) })
    }
}

impl Outside for Cluster {
    fn place(&self, partition: &TopicPartition) -> Place {
        let Some(context) = self.context.upgrade() else { return Place::Nowhere };
        let Ok(topic) = context.find_by_name(partition.topic.as_str()) else { return Place::Gone };
        if !(0..topic.partition_count).contains(&partition.partition) {
            return Place::Gone;
        }
        let lead = context.lead(PartitionId { topic: topic.id, partition: partition.partition });
        lead.leader.filter(|node| context.is_alive(*node)).map_or(Place::Nowhere, Place::At)
    }

    fn write(&self, node: NodeId, end: End) -> Outcome<Vec<(TopicPartition, Written)>> {
        let context = self.context.clone();
        Box::pin(async move {
            let Some(context) = context.upgrade() else { return Vec::new() };
            let request = WriteTxnMarkersRequest { markers: vec![marker(&end)] };
            let response = match node == context.node_id() {
                true => Some(write_markers(&context, request).await),
                false => context.ask_node(node, MARKERS_VERSION, &request).await,
            };
            response.map(|response| written(&end, &response)).unwrap_or_default()
        })
    }

    fn caught_up(&self) -> Outcome<()> {
        let context = self.context.clone();
        Box::pin(async move {
            if let Some(context) = context.upgrade() {
                context.controller.caught_up().await;
            }
        })
    }

    fn producer_id(&self) -> Outcome<Option<ProducerId>> {
        let context = self.context.clone();
        Box::pin(async move { context.upgrade()?.controller.next_producer_id().await.ok() })
    }
}

fn marker(end: &End) -> WritableTxnMarker {
    let Markers { producer, commit, client_version, .. } = &end.markers;
    let topic = |(name, partitions): (&str, Vec<i32>)| WritableTxnMarkerTopic {
        name: StrBytes::from_string(name.to_owned()),
        partitions,
    };
    WritableTxnMarker {
        producer_id: producer.id.0,
        producer_epoch: producer.epoch.0,
        is_commit: *commit,
        topics: by_topic(&end.partitions).into_iter().map(topic).collect(),
        coordinator_epoch: end.epoch.0,
        transaction_version: i8::try_from(client_version.0).unwrap_or(i8::MAX),
    }
}

fn written(end: &End, response: &WriteTxnMarkersResponse) -> Vec<(TopicPartition, Written)> {
    let topics = response.markers.iter().flat_map(|marker| &marker.topics);
    let codes: BTreeMap<(&str, i32), i16> = topics
        .flat_map(|topic| topic.partitions.iter().map(move |row| ((&*topic.name, row.index), row.error_code)))
        .collect();
    let became = |partition: &TopicPartition| {
        let code = codes.get(&(partition.topic.as_str(), partition.partition))?;
        Some((partition.clone(), became(ResponseError::try_from_code(*code))))
    };
    end.partitions.iter().filter_map(became).collect()
}

fn became(error: Option<ResponseError>) -> Written {
    match error {
        None => Written::Done,
        Some(ResponseError::InvalidProducerEpoch) => Written::Overtaken,
        Some(ResponseError::TransactionCoordinatorFenced) => Written::Fenced,
        Some(_) => Written::NotNow,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use millstream_core::coordinator::txn::{Producer, TransactionVersion, TransactionalId};
    use millstream_core::types::{LeaderEpoch, ProducerEpoch, TopicName};

    use super::*;
    use crate::protocol::write_txn_markers::{
        WritableTxnMarkerPartitionResult, WritableTxnMarkerResult, WritableTxnMarkerTopicResult,
    };

    fn partition(topic: &str, partition: i32) -> TopicPartition {
        TopicPartition { topic: TopicName::new(topic).unwrap(), partition }
    }

    #[test]
    fn each_partition_is_told_and_what_is_not_answered_stays_open() {
        let partitions = vec![partition("a", 0), partition("a", 1), partition("b", 0), partition("b", 1)];
        let markers = Markers {
            id: TransactionalId::new("t").unwrap(),
            producer: Producer { id: ProducerId(5), epoch: ProducerEpoch(3) },
            commit: true,
            partitions: Arc::new(BTreeSet::from_iter(partitions.clone())),
            client_version: TransactionVersion::V2,
        };
        let end = End { markers, epoch: LeaderEpoch(9), partitions };
        let sent = marker(&end);
        assert_eq!((sent.producer_id, sent.producer_epoch, sent.is_commit), (5, 3, true));
        assert_eq!((sent.coordinator_epoch, sent.transaction_version, sent.topics.len()), (9, 2, 2));
        let row = |index, error: Option<ResponseError>| WritableTxnMarkerPartitionResult {
            index,
            error_code: error.map_or(0, |e| e.code()),
        };
        let topic =
            |name, partitions| WritableTxnMarkerTopicResult { name: StrBytes::from_static_str(name), partitions };
        let topics = vec![
            topic("a", vec![row(0, None), row(1, Some(ResponseError::NotLeaderOrFollower))]),
            topic("b", vec![row(0, Some(ResponseError::InvalidProducerEpoch))]),
        ];
        let response = WriteTxnMarkersResponse { markers: vec![WritableTxnMarkerResult { producer_id: 5, topics }] };
        let expected = vec![
            (partition("a", 0), Written::Done),
            (partition("a", 1), Written::NotNow),
            (partition("b", 0), Written::Overtaken),
        ];
        assert_eq!(written(&end, &response), expected);
    }
}
