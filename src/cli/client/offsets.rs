//! Offsets of partitions by place or time (ListOffsets), asked of every partition's leader.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::{BrokerId, ListOffsetsRequest, ListOffsetsResponse};
use millstream_core::types::{Timestamp, TopicName, TopicPartition};
use tokio::task::JoinSet;

use super::{Client, ClientError, Cluster, text};

/// Partitions asked for in one request. More would make answers of many megabytes.
const PARTITIONS_PER_REQUEST: usize = 2_000;

/// Which offset of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetQuery {
    /// The first that is still there.
    Start,
    /// The one after the last that may be read.
    End,
    /// That of the first record of this time or later.
    At(Timestamp),
}

impl OffsetQuery {
    /// Kafka's special timestamps (`ListOffsetsRequest.EARLIEST_TIMESTAMP`, `LATEST_TIMESTAMP`).
    fn timestamp(self) -> i64 {
        match self {
            Self::Start => -2,
            Self::End => -1,
            Self::At(time) => time.0.max(0),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    ReadUncommitted,
    ReadCommitted,
}

impl Isolation {
    pub fn to_wire(self) -> i8 {
        match self {
            Self::ReadUncommitted => 0,
            Self::ReadCommitted => 1,
        }
    }
}

/// None: no record is so late.
pub type OffsetAnswers = BTreeMap<TopicPartition, Result<Option<i64>, ClientError>>;

impl Client {
    /// One answer for every partition asked for. Errors that pass are waited out.
    pub async fn list_offsets(
        self: &Arc<Self>,
        partitions: &[TopicPartition],
        query: OffsetQuery,
        isolation: Isolation,
    ) -> Result<OffsetAnswers, ClientError> {
        let mut answers = OffsetAnswers::new();
        let mut open: BTreeSet<TopicPartition> = partitions.iter().cloned().collect();
        let mut retry = self.retry();
        while !open.is_empty() {
            let topics: BTreeSet<String> = open.iter().map(|p| p.topic.to_string()).collect();
            let cluster = self.cluster(Some(&Vec::from_iter(topics))).await?;
            let round = self.list_offsets_once(&cluster, &open, query, isolation).await;
            let again = round.iter().filter(|(p, a)| passes(&cluster, p, a));
            let again: BTreeSet<_> = again.map(|(p, _)| p.clone()).collect();
            answers.extend(round);
            open = again;
            if !open.is_empty() && !retry.pause().await {
                break;
            }
        }
        Ok(answers)
    }

    async fn list_offsets_once(
        self: &Arc<Self>,
        cluster: &Cluster,
        partitions: &BTreeSet<TopicPartition>,
        query: OffsetQuery,
        isolation: Isolation,
    ) -> OffsetAnswers {
        let mut answers = OffsetAnswers::new();
        let mut routes: BTreeMap<i32, Vec<TopicPartition>> = BTreeMap::new();
        for partition in partitions {
            match cluster.leader(partition.topic.as_str(), partition.partition) {
                Ok(leader) => routes.entry(leader).or_default().push(partition.clone()),
                Err(error) => drop(answers.insert(partition.clone(), Err(error))),
            }
        }
        let mut calls = JoinSet::new();
        for (leader, route) in routes {
            for chunk in route.chunks(PARTITIONS_PER_REQUEST) {
                let (client, chunk) = (Arc::clone(self), chunk.to_vec());
                calls.spawn(async move {
                    let answer = client.list_offsets_at(leader, &chunk, query, isolation).await;
                    match answer {
                        Ok(response) => read(&chunk, &response),
                        Err(error) => chunk.into_iter().map(|partition| (partition, Err(error.clone()))).collect(),
                    }
                });
            }
        }
        for part in calls.join_all().await {
            answers.extend(part);
        }
        answers
    }

    async fn list_offsets_at(
        &self,
        leader: i32,
        partitions: &[TopicPartition],
        query: OffsetQuery,
        isolation: Isolation,
    ) -> Result<ListOffsetsResponse, ClientError> {
        let build = |version| request(partitions, query, isolation, self.timeout_ms(), version);
        self.broker(leader, build).await
    }
}

/// True when the answer may be better in a moment. A leader may not know yet what metadata knows.
fn passes(cluster: &Cluster, partition: &TopicPartition, answer: &Result<Option<i64>, ClientError>) -> bool {
    let Err(error) = answer else { return false };
    let is_known = cluster.leader(partition.topic.as_str(), partition.partition).is_ok();
    error.is_retriable() || is_known && error.response() == Some(ResponseError::UnknownTopicOrPartition)
}

fn request(
    partitions: &[TopicPartition],
    query: OffsetQuery,
    isolation: Isolation,
    timeout_ms: i32,
    version: i16,
) -> ListOffsetsRequest {
    let mut topics: BTreeMap<&TopicName, Vec<ListOffsetsPartition>> = BTreeMap::new();
    for partition in partitions {
        let row = ListOffsetsPartition::default()
            .with_partition_index(partition.partition)
            .with_current_leader_epoch(-1)
            .with_timestamp(query.timestamp());
        topics.entry(&partition.topic).or_default().push(row);
    }
    let topic = |(name, rows): (&TopicName, _)| {
        ListOffsetsTopic::default().with_name(text(name.as_str()).into()).with_partitions(rows)
    };
    let request = ListOffsetsRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_topics(topics.into_iter().map(topic).collect());
    let request = if version >= 2 { request.with_isolation_level(isolation.to_wire()) } else { request };
    if version >= 10 { request.with_timeout_ms(timeout_ms) } else { request }
}

/// The answers of one broker; a partition which it left out has an error.
fn read(asked: &[TopicPartition], response: &ListOffsetsResponse) -> OffsetAnswers {
    let missing = ClientError::Response {
        error: ResponseError::UnknownServerError,
        message: Some("the broker left the partition out of its answer".to_owned()),
    };
    let mut answers: OffsetAnswers = asked.iter().map(|partition| (partition.clone(), Err(missing.clone()))).collect();
    for topic in &response.topics {
        for row in &topic.partitions {
            let answer = match ClientError::of_code(row.error_code, None) {
                Some(error) => Err(error),
                None => Ok(Some(row.offset).filter(|offset| *offset >= 0)),
            };
            let Ok(name) = TopicName::new(&topic.name) else { continue };
            let partition = TopicPartition { topic: name, partition: row.partition_index };
            answers.entry(partition).and_modify(|slot| *slot = answer);
        }
    }
    answers
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};

    use super::*;

    #[test]
    fn every_partition_asked_for_gets_an_answer_and_no_other() {
        let partition = |partition| TopicPartition { topic: TopicName::new("a").expect("legal"), partition };
        let row = |index, code, offset| {
            ListOffsetsPartitionResponse::default()
                .with_partition_index(index)
                .with_error_code(code)
                .with_offset(offset)
        };
        let topic = ListOffsetsTopicResponse::default().with_name(text("a").into()).with_partitions(vec![
            row(0, 0, 7),
            row(1, 0, -1),
            row(2, 6, -1),
            row(9, 0, 1),
        ]);
        let response = ListOffsetsResponse::default().with_topics(vec![topic]);
        let asked: Vec<_> = (0..4).map(partition).collect();
        let answers = read(&asked, &response);
        assert_eq!(answers.len(), 4);
        assert_eq!(answers[&partition(0)], Ok(Some(7)));
        assert_eq!(answers[&partition(1)], Ok(None));
        let error = |index| answers[&partition(index)].as_ref().expect_err("an error").response();
        assert_eq!(error(2), Some(ResponseError::NotLeaderOrFollower));
        assert_eq!(error(3), Some(ResponseError::UnknownServerError));
    }
}
