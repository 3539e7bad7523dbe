//! DeleteRecords (21): moves the log start.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::delete_records_response::{DeleteRecordsPartitionResult, DeleteRecordsTopicResult};
use kafka_protocol::messages::{DeleteRecordsRequest, DeleteRecordsResponse, TopicName};
use millstream_core::config::CleanupPolicy;
use millstream_core::security::Operation;
use millstream_core::types::Offset;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{BoxFuture, Context, Outcome, Request, Resource, Session, errors};
use crate::partition::Partition;

/// "Up to the high watermark" (`DeleteRecordsRequest.HIGH_WATERMARK`).
const TO_HIGH_WATERMARK: i64 = -1;

/// Where a partition's log starts now, or why not where it was to start.
type Trimmed = Result<Offset, ResponseError>;

pub fn handle<'a>(context: &'a Arc<Context>, _session: &'a mut Session, request: Request) -> BoxFuture<'a, Outcome> {
    Box::pin(async move {
        let asked: DeleteRecordsRequest = match request.decode() {
            Ok(asked) => asked,
            Err(close) => return close,
        };
        let timeout = Duration::from_millis(u64::try_from(asked.timeout_ms).unwrap_or(0));
        // A partition that is named twice is trimmed once, as with Kafka: the last word counts.
        let mut offsets: BTreeMap<(TopicName, i32), i64> = BTreeMap::new();
        for topic in asked.topics {
            for p in topic.partitions {
                offsets.insert((topic.name.clone(), p.partition_index), p.offset);
            }
        }
        let mut forbidden = BTreeMap::new();
        if !request.access.is_unrestricted() {
            let mut may: BTreeMap<TopicName, bool> = BTreeMap::new();
            offsets.retain(|(topic, index), _| {
                let may_delete = || request.access.may(Operation::Delete, Resource::Topic(topic));
                let may = *may.entry(topic.clone()).or_insert_with(may_delete);
                if !may {
                    forbidden.insert((topic.clone(), *index), Err(ResponseError::TopicAuthorizationFailed));
                }
                may
            });
        }
        let mut trimmed = trim_all(context, offsets, Instant::now() + timeout).await;
        for (topic, index) in trimmed.iter().filter(|(_, result)| result.is_ok()).map(|(partition, _)| partition) {
            request.changed("records deleted", &format!("{}-{index}", topic.as_str()));
        }
        trimmed.append(&mut forbidden);
        Outcome::reply(&request.header, &DeleteRecordsResponse::default().with_topics(respond(trimmed)))
    })
}

/// All at once: their commits share a flush.
async fn trim_all(
    context: &Context,
    offsets: BTreeMap<(TopicName, i32), i64>,
    deadline: Instant,
) -> BTreeMap<(TopicName, i32), Trimmed> {
    let mut trimmed = BTreeMap::new();
    let mut waiting = JoinSet::new();
    for ((topic, index), offset) in offsets {
        match check(context, &topic, index, offset) {
            Err(error) => drop(trimmed.insert((topic, index), Err(error))),
            Ok((partition, to)) => {
                waiting.spawn(async move {
                    let done = tokio::time::timeout_at(deadline, partition.trim(to)).await;
                    let done = done.map(|done| done.map_err(|e| errors::of_append(&e)));
                    ((topic, index), done.unwrap_or(Err(ResponseError::RequestTimedOut)))
                });
            }
        }
    }
    while let Some(done) = waiting.join_next().await {
        let (partition, result) = done.expect("a trim does not panic");
        trimmed.insert(partition, result);
    }
    trimmed
}

fn check(context: &Context, topic: &str, index: i32, offset: i64) -> Result<(Arc<Partition>, Offset), ResponseError> {
    let partition: Arc<Partition> = context.partition_by_name(topic, index)?;
    if partition.name.topic.is_internal() {
        return Err(ResponseError::InvalidTopicException);
    }
    if (CleanupPolicy { compact: true, delete: false }) == partition.config().cleanup {
        return Err(ResponseError::PolicyViolation);
    }
    let to = match offset {
        TO_HIGH_WATERMARK => partition.high_watermark(),
        0.. => Offset(offset),
        _ => return Err(ResponseError::OffsetOutOfRange),
    };
    Ok((partition, to))
}

fn respond(trimmed: BTreeMap<(TopicName, i32), Trimmed>) -> Vec<DeleteRecordsTopicResult> {
    let mut topics: Vec<DeleteRecordsTopicResult> = Vec::new();
    for ((topic, index), result) in trimmed {
        let partition = DeleteRecordsPartitionResult::default().with_partition_index(index);
        let partition = match result {
            Ok(log_start) => partition.with_low_watermark(log_start.0),
            Err(error) => partition.with_low_watermark(-1).with_error_code(error.code()),
        };
        match topics.last_mut() {
            Some(last) if last.name == topic => last.partitions.push(partition),
            _ => topics.push(DeleteRecordsTopicResult::default().with_name(topic).with_partitions(vec![partition])),
        }
    }
    topics
}
