//! WriteTxnMarkers (27): coordinators of transactions, and tools that abort a hanging one, end transactions in
//! partitions.

use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::error::ResponseError;
use millstream_core::partition::TxnEnd;
use millstream_core::security::Operation;
use millstream_core::types::{ProducerEpoch, ProducerId};
use tokio::task::JoinSet;

use super::find::OFFSETS_TOPIC;
use super::{BoxFuture, Context, Outcome, Request, Resource, Session, errors};
use crate::protocol::StrBytes;
use crate::protocol::write_txn_markers::{
    WritableTxnMarkerPartitionResult, WritableTxnMarkerResult, WritableTxnMarkerTopicResult, WriteTxnMarkersRequest,
    WriteTxnMarkersResponse,
};

/// How long a marker may take (`request.timeout.ms`); its coordinator writes it again then.
const WITHIN: Duration = Duration::from_secs(30);

pub fn handle<'a>(context: &'a Arc<Context>, _session: &'a mut Session, request: Request) -> BoxFuture<'a, Outcome> {
    Box::pin(async move {
        let asked: WriteTxnMarkersRequest = match request.decode() {
            Ok(asked) => asked,
            Err(close) => return close,
        };
        let access = &request.access;
        let is_admin = access.may_quietly(Operation::Alter, Resource::Cluster);
        let body = match is_admin || access.may(Operation::ClusterAction, Resource::Cluster) {
            true => write_markers(context, asked).await,
            false => refuse(asked, ResponseError::ClusterAuthorizationFailed),
        };
        Outcome::reply(&request.header, &body)
    })
}

fn refuse(asked: WriteTxnMarkersRequest, error: ResponseError) -> WriteTxnMarkersResponse {
    let error_code = error.code();
    let markers = asked.markers.into_iter().map(|marker| {
        let topics = marker.topics.into_iter().map(|topic| WritableTxnMarkerTopicResult {
            name: topic.name,
            partitions: topic
                .partitions
                .into_iter()
                .map(|index| WritableTxnMarkerPartitionResult { index, error_code })
                .collect(),
        });
        WritableTxnMarkerResult { producer_id: marker.producer_id, topics: topics.collect() }
    });
    WriteTxnMarkersResponse { markers: markers.collect() }
}

/// Writes what a request asks for, all at once: the commits share a flush.
pub(super) async fn write_markers(context: &Arc<Context>, asked: WriteTxnMarkersRequest) -> WriteTxnMarkersResponse {
    let mut writes = JoinSet::new();
    for marker in asked.markers {
        let end = TxnEnd {
            producer_id: ProducerId(marker.producer_id),
            producer_epoch: ProducerEpoch(marker.producer_epoch),
            commit: marker.is_commit,
            coordinator_epoch: marker.coordinator_epoch,
            transaction_version: marker.transaction_version,
        };
        for topic in marker.topics {
            for index in topic.partitions {
                let (context, name) = (Arc::clone(context), topic.name.clone());
                writes.spawn(async move {
                    let written = write_marker(&context, &name, index, end).await;
                    (marker.producer_id, name, index, written.err().map_or(0, |e| e.code()))
                });
            }
        }
    }
    let mut written = Vec::with_capacity(writes.len());
    while let Some(one) = writes.join_next().await {
        written.push(one.expect("a marker's write does not panic"));
    }
    written.sort_by(|a, b| (a.0, &a.1, a.2).cmp(&(b.0, &b.1, b.2)));
    respond(written)
}

/// Ends a producer's transaction in one partition that this node leads. Returns when the marker is committed; for a
/// partition of `__consumer_offsets`, when the offsets of the transaction are visible as well.
pub async fn write_marker(context: &Context, topic: &str, index: i32, end: TxnEnd) -> Result<(), ResponseError> {
    let partition = context.partition_by_name(topic, index)?;
    let write = async {
        if topic == OFFSETS_TOPIC {
            let ended = context.groups.end_transaction(index, end).await;
            return ended.map_err(|e| errors::of_coordinator_at_marker(&e));
        }
        partition.write_marker(end).await.map_err(|e| errors::of_append(&e))
    };
    tokio::time::timeout(WITHIN, write).await.unwrap_or(Err(ResponseError::RequestTimedOut))
}

/// One row a producer. `written`: in order.
fn respond(written: Vec<(i64, StrBytes, i32, i16)>) -> WriteTxnMarkersResponse {
    let mut markers: Vec<WritableTxnMarkerResult> = Vec::new();
    for (producer_id, name, index, error_code) in written {
        if markers.last().is_none_or(|last| last.producer_id != producer_id) {
            markers.push(WritableTxnMarkerResult { producer_id, topics: Vec::new() });
        }
        let Some(marker) = markers.last_mut() else { continue };
        if marker.topics.last().is_none_or(|last| last.name != name) {
            marker.topics.push(WritableTxnMarkerTopicResult { name, partitions: Vec::new() });
        }
        let Some(topic) = marker.topics.last_mut() else { continue };
        topic.partitions.push(WritableTxnMarkerPartitionResult { index, error_code });
    }
    WriteTxnMarkersResponse { markers }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_producer_is_told_once() {
        let name = StrBytes::from_static_str;
        let told =
            respond(vec![(1, name("a"), 0, 0), (1, name("a"), 1, 6), (1, name("b"), 0, 0), (2, name("b"), 0, 3)]);
        let shape: Vec<_> = told
            .markers
            .iter()
            .map(|m| (m.producer_id, m.topics.iter().map(|t| t.partitions.len()).collect::<Vec<_>>()))
            .collect();
        assert_eq!(shape, [(1, vec![2, 1]), (2, vec![1])]);
    }
}
