//! `millstream txn abort`: for a transaction that no coordinator will end. One that its coordinator knows of is ended by
//! that, at the latest when its time is over.

use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::WriteTxnMarkersRequest;
use kafka_protocol::messages::write_txn_markers_request::{WritableTxnMarker, WritableTxnMarkerTopic};
use millstream_core::types::TopicPartition;
use serde_json::json;

use crate::cli::args::TxnAbort;
use crate::cli::client::{Client, ClientError, OpenTransaction, text};
use crate::cli::failure::{Doing, Failure, Stop};
use crate::cli::output::{Format, show};

/// Whose transaction is aborted.
struct Target {
    producer_id: i64,
    producer_epoch: i16,
    coordinator_epoch: i32,
}

pub async fn run(client: &Arc<Client>, format: Format, args: &TxnAbort) -> Result<(), Stop> {
    let [number] = args.partition.partitions[..] else {
        return Err(Stop::Usage("one partition is needed: TOPIC:P".to_owned()));
    };
    let partition = TopicPartition { topic: args.partition.topic.clone(), partition: number };
    let what = format!("cannot abort a transaction in {partition}");
    let target = match (args.start_offset, args.producer_id, args.producer_epoch) {
        (None, Some(producer_id), Some(producer_epoch)) => {
            Target { producer_id, producer_epoch, coordinator_epoch: args.coordinator_epoch }
        }
        (Some(start_offset), ..) => {
            let open = open_at(client, &partition, start_offset).await.doing(&what)?;
            target_of(open.ok_or_else(|| Failure::new(&what, format!("none begins at offset {start_offset}")))?)
        }
        _ => return Err(Stop::Usage("--start-offset or --producer-id is needed".to_owned())),
    };
    client.again(async || abort(client, &partition, &target).await).await.doing(&what)?;
    let Target { producer_id, producer_epoch, coordinator_epoch } = target;
    let document = json!({
        "topic": partition.topic.as_str(),
        "partition": number,
        "producer_id": producer_id,
        "producer_epoch": producer_epoch,
        "coordinator_epoch": coordinator_epoch,
        "status": "aborted",
    });
    show(format, &document, || {
        format!("aborted the transaction of producer {producer_id}, epoch {producer_epoch}, in {partition}\n")
    })?;
    Ok(())
}

async fn leader(client: &Client, partition: &TopicPartition) -> Result<i32, ClientError> {
    let topic = partition.topic.as_str();
    client.cluster(Some(&[topic.to_owned()])).await?.leader(topic, partition.partition)
}

async fn open_at(
    client: &Client,
    partition: &TopicPartition,
    start_offset: i64,
) -> Result<Option<OpenTransaction>, ClientError> {
    client
        .again(async || {
            let leader = leader(client, partition).await?;
            let mut found = client.open_transactions(leader, std::slice::from_ref(partition)).await?;
            let open = found.remove(partition).unwrap_or(Ok(Vec::new()))?;
            Ok(open.into_iter().find(|open| open.start_offset == start_offset))
        })
        .await
}

/// The coordinator that would have ended it may have been the first that ever did so there.
fn target_of(open: OpenTransaction) -> Target {
    Target {
        producer_id: open.producer_id,
        producer_epoch: i16::try_from(open.producer_epoch).unwrap_or(i16::MAX),
        coordinator_epoch: open.coordinator_epoch.max(0),
    }
}

async fn abort(client: &Client, partition: &TopicPartition, target: &Target) -> Result<(), ClientError> {
    let topic = WritableTxnMarkerTopic::default()
        .with_name(text(partition.topic.as_str()).into())
        .with_partition_indexes(vec![partition.partition]);
    let marker = WritableTxnMarker::default()
        .with_producer_id(target.producer_id.into())
        .with_producer_epoch(target.producer_epoch)
        .with_transaction_result(false)
        .with_topics(vec![topic])
        .with_coordinator_epoch(target.coordinator_epoch);
    let request = WriteTxnMarkersRequest::default().with_markers(vec![marker]);
    let leader = leader(client, partition).await?;
    let response = client.broker(leader, |_| request.clone()).await?;
    let rows = response.markers.iter().flat_map(|marker| &marker.topics).flat_map(|topic| &topic.partitions);
    let code = rows.map(|row| row.error_code).next().unwrap_or(ResponseError::UnknownServerError.code());
    ClientError::of_code(code, None).map_or(Ok(()), Err)
}
