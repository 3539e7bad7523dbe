//! Where partitions end, wherever they are led (Kafka's `NetworkPartitionMetadataClient`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::{BrokerId, ListOffsetsRequest, ListOffsetsResponse, TopicName};
use millstream_core::types::{NodeId, PartitionId};
use tokio::task::JoinSet;

use super::list_offsets::{LATEST, carry_out};
use super::{Access, Context};
use crate::protocol::StrBytes;

/// The version that nodes speak.
const VERSION: i16 = 9;
/// Of a client in ListOffsets.
const NO_REPLICA: BrokerId = BrokerId(-1);

/// Asks the leaders of partitions, each once, for what they have committed up to.
pub async fn latest_offsets(
    context: &Arc<Context>,
    partitions: BTreeSet<PartitionId>,
) -> BTreeMap<PartitionId, Result<i64, ResponseError>> {
    let mut ends: BTreeMap<PartitionId, Result<i64, ResponseError>> = BTreeMap::new();
    let mut nodes: BTreeMap<NodeId, BTreeMap<String, Vec<PartitionId>>> = BTreeMap::new();
    for id in partitions {
        let leader = context.lead(id).leader.filter(|node| context.is_alive(*node));
        match (leader, context.find_by_id(id.topic.0)) {
            (Some(node), Ok(topic)) => {
                nodes.entry(node).or_default().entry(topic.name.to_string()).or_default().push(id);
            }
            (None, Ok(_)) => drop(ends.insert(id, Err(ResponseError::LeaderNotAvailable))),
            (_, Err(_)) => drop(ends.insert(id, Err(ResponseError::UnknownTopicOrPartition))),
        }
    }
    let mut asked = JoinSet::new();
    for (node, topics) in nodes {
        let context = Arc::clone(context);
        asked.spawn(async move {
            let response = ask(&context, node, &topics).await;
            (topics, response)
        });
    }
    for (topics, response) in asked.join_all().await {
        ends.extend(read(&topics, response.as_ref()));
    }
    ends
}

async fn ask(
    context: &Arc<Context>,
    node: NodeId,
    topics: &BTreeMap<String, Vec<PartitionId>>,
) -> Option<ListOffsetsResponse> {
    let partition =
        |id: &PartitionId| ListOffsetsPartition::default().with_partition_index(id.partition).with_timestamp(LATEST);
    let topics = topics.iter().map(|(name, ids)| {
        ListOffsetsTopic::default()
            .with_name(TopicName(StrBytes::from_string(name.clone())))
            .with_partitions(ids.iter().map(partition).collect())
    });
    let request = ListOffsetsRequest::default().with_replica_id(NO_REPLICA).with_topics(topics.collect());
    if node == context.node_id() {
        return carry_out(context, Access::unrestricted(), VERSION, request).await.ok();
    }
    context.ask_node(node, VERSION, &request).await
}

/// What of the partitions was answered; nothing is told of one that was not.
fn read(
    topics: &BTreeMap<String, Vec<PartitionId>>,
    response: Option<&ListOffsetsResponse>,
) -> Vec<(PartitionId, Result<i64, ResponseError>)> {
    let mut told = BTreeMap::new();
    for topic in response.into_iter().flat_map(|response| &response.topics) {
        for row in &topic.partitions {
            let end = ResponseError::try_from_code(row.error_code).map_or(Ok(row.offset), Err);
            told.insert((&**topic.name, row.partition_index), end);
        }
    }
    let all = topics.iter().flat_map(|(name, ids)| ids.iter().map(move |id| (name.as_str(), *id)));
    all.map(|(name, id)| (id, told.remove(&(name, id.partition)).unwrap_or(Err(ResponseError::NetworkException))))
        .collect()
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
    use millstream_core::types::TopicId;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn what_is_not_answered_is_an_error() {
        let id = |partition| PartitionId { topic: TopicId(Uuid::from_u128(1)), partition };
        let topics = BTreeMap::from([("t".to_owned(), vec![id(0), id(1), id(2)])]);
        let row = |index, offset, code| {
            let row = ListOffsetsPartitionResponse::default().with_partition_index(index).with_offset(offset);
            row.with_error_code(code)
        };
        let topic = ListOffsetsTopicResponse::default()
            .with_name(TopicName(StrBytes::from_static_str("t")))
            .with_partitions(vec![row(0, 7, 0), row(1, -1, 6), row(9, 3, 0)]);
        let response = ListOffsetsResponse::default().with_topics(vec![topic]);
        let lost = Err(ResponseError::NetworkException);
        let refused = Err(ResponseError::NotLeaderOrFollower);
        assert_eq!(read(&topics, Some(&response)), [(id(0), Ok(7)), (id(1), refused), (id(2), lost)]);
        assert_eq!(read(&topics, None), [(id(0), lost), (id(1), lost), (id(2), lost)]);
    }
}
