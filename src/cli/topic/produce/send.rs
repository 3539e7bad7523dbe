//! Sends batches to the leaders of their partitions and tries again what may still succeed.

use std::collections::BTreeMap;
use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::ProduceRequest;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::PartitionProduceResponse;
use millstream_core::types::TopicName;
use tokio::task::JoinSet;

use super::gather::Batch;
use crate::cli::args::Acks;
use crate::cli::client::{Client, ClientError, Cluster, text};

/// Longest wait of the broker for the replicas.
const ACKS_WAIT_MS_MAX: i32 = 30_000;

/// What was acknowledged of one partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Acknowledged {
    pub records: u64,
    /// Of the first and last record; None with acks=0, or when a repeated batch was recognised.
    pub first_offset: Option<i64>,
    pub last_offset: Option<i64>,
}

impl Acknowledged {
    fn add(&mut self, record_count: i32, base_offset: Option<i64>) {
        self.records += u64::from(record_count.unsigned_abs());
        if let Some(base) = base_offset {
            self.first_offset.get_or_insert(base);
            self.last_offset = Some(base + i64::from(record_count) - 1);
        }
    }
}

pub struct Sender {
    client: Arc<Client>,
    topic: TopicName,
    acks: Acks,
    cluster: Cluster,
    pub acknowledged: BTreeMap<i32, Acknowledged>,
}

/// The partition that failed, and why.
pub type SendFailure = (i32, ClientError);

impl Sender {
    pub fn new(client: &Arc<Client>, topic: &TopicName, acks: Acks, cluster: Cluster) -> Self {
        let topic = topic.clone();
        Self { client: Arc::clone(client), topic, acks, cluster, acknowledged: BTreeMap::new() }
    }

    /// Sends one batch for each of some partitions and waits for all acknowledgements.
    pub async fn send(&mut self, mut batches: BTreeMap<i32, Batch>) -> Result<(), SendFailure> {
        let mut retry = self.client.retry();
        while !batches.is_empty() {
            let mut passing: Option<SendFailure> = None;
            for (partition, result) in self.send_once(&batches).await {
                match result {
                    Ok(base_offset) => {
                        if let Some(batch) = batches.remove(&partition) {
                            self.acknowledged.entry(partition).or_default().add(batch.record_count, base_offset);
                        }
                    }
                    Err(error) if may_succeed(&error) => passing = Some((partition, error)),
                    Err(error) => return Err((partition, error)),
                }
            }
            if let Some(failure) = passing {
                if !retry.pause().await {
                    return Err(failure);
                }
                let topics = [self.topic.to_string()];
                self.cluster = self.client.cluster(Some(&topics)).await.map_err(|error| (failure.0, error))?;
            }
        }
        Ok(())
    }

    /// One answer for every batch: its base offset where the broker tells it.
    async fn send_once(&self, batches: &BTreeMap<i32, Batch>) -> Vec<(i32, Result<Option<i64>, ClientError>)> {
        let mut results = Vec::new();
        let mut routes: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
        for partition in batches.keys() {
            match self.cluster.leader(self.topic.as_str(), *partition) {
                Ok(leader) => routes.entry(leader).or_default().push(*partition),
                Err(error) => results.push((*partition, Err(error))),
            }
        }
        let mut calls = JoinSet::new();
        for (leader, partitions) in routes {
            let (client, acks) = (Arc::clone(&self.client), self.acks);
            let request = request(&self.topic, acks, &partitions, batches);
            calls.spawn(async move { send_to(&client, leader, acks, &request, &partitions).await });
        }
        results.extend(calls.join_all().await.into_iter().flatten());
        results
    }
}

/// A batch that the broker has already is as good as acknowledged; the rest is tried again when Kafka says so.
fn may_succeed(error: &ClientError) -> bool {
    let is_new_topic = error.response() == Some(ResponseError::UnknownTopicOrPartition);
    error.is_retriable() || is_new_topic || matches!(error, ClientError::Timeout { .. })
}

async fn send_to(
    client: &Client,
    leader: i32,
    acks: Acks,
    request: &ProduceRequest,
    partitions: &[i32],
) -> Vec<(i32, Result<Option<i64>, ClientError>)> {
    if acks == Acks::None {
        let sent = client.send(leader, |_| request.clone()).await;
        return partitions.iter().map(|partition| (*partition, sent.clone().map(|()| None))).collect();
    }
    match client.broker(leader, |_| request.clone()).await {
        Ok(response) => {
            let rows: Vec<_> = response.responses.iter().flat_map(|topic| &topic.partition_responses).collect();
            let answer = |partition: &i32| {
                let row = rows.iter().find(|row| row.index == *partition);
                (*partition, row.map_or_else(|| Err(left_out()), |row| outcome(row)))
            };
            partitions.iter().map(answer).collect()
        }
        Err(error) => partitions.iter().map(|partition| (*partition, Err(error.clone()))).collect(),
    }
}

fn left_out() -> ClientError {
    ClientError::Response {
        error: ResponseError::UnknownServerError,
        message: Some("the broker left the partition out of its answer".to_owned()),
    }
}

fn outcome(row: &PartitionProduceResponse) -> Result<Option<i64>, ClientError> {
    // The text for a record (KIP-467) is more exact than that for the batch.
    let record = row.record_errors.iter().find_map(|record| record.batch_index_error_message.as_deref());
    match ClientError::of_code(row.error_code, record.or(row.error_message.as_deref())) {
        None => Ok(Some(row.base_offset).filter(|offset| *offset >= 0)),
        Some(error) if error.response() == Some(ResponseError::DuplicateSequenceNumber) => Ok(None),
        Some(error) => Err(error),
    }
}

fn request(topic: &TopicName, acks: Acks, partitions: &[i32], batches: &BTreeMap<i32, Batch>) -> ProduceRequest {
    let data = |partition: &i32| {
        let records = batches.get(partition).map(|batch| batch.bytes.clone());
        PartitionProduceData::default().with_index(*partition).with_records(records)
    };
    let topic = TopicProduceData::default()
        .with_name(text(topic.as_str()).into())
        .with_partition_data(partitions.iter().map(data).collect());
    let acks = match acks {
        Acks::All => -1,
        Acks::Leader => 1,
        Acks::None => 0,
    };
    ProduceRequest::default().with_acks(acks).with_timeout_ms(ACKS_WAIT_MS_MAX).with_topic_data(vec![topic])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duplicate_counts_as_acknowledged() {
        let row = |code| PartitionProduceResponse::default().with_error_code(code).with_base_offset(5);
        assert_eq!(outcome(&row(0)), Ok(Some(5)));
        assert_eq!(outcome(&row(46)), Ok(None));
        assert!(outcome(&row(87)).is_err());
    }

    #[test]
    fn offsets_span_the_batches() {
        let mut acknowledged = Acknowledged::default();
        acknowledged.add(3, Some(10));
        acknowledged.add(2, None);
        acknowledged.add(2, Some(15));
        let expected = Acknowledged { records: 7, first_offset: Some(10), last_offset: Some(16) };
        assert_eq!(acknowledged, expected);
    }
}
