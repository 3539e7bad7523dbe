//! DeleteRecords (21): moves the log start.

use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::delete_records_response::{DeleteRecordsPartitionResult, DeleteRecordsTopicResult};
use kafka_protocol::messages::{DeleteRecordsRequest, DeleteRecordsResponse};
use millstream_core::types::Offset;

use super::{BoxFuture, Context, Outcome, Request, Session, errors};
use crate::partition::Partition;

/// "Up to the high watermark" (`DeleteRecordsRequest.HIGH_WATERMARK`).
const TO_HIGH_WATERMARK: i64 = -1;

pub fn handle<'a>(context: &'a Arc<Context>, _session: &'a mut Session, request: Request) -> BoxFuture<'a, Outcome> {
    Box::pin(async move {
        let asked: DeleteRecordsRequest = match request.decode() {
            Ok(asked) => asked,
            Err(close) => return close,
        };
        let timeout = Duration::from_millis(u64::try_from(asked.timeout_ms).unwrap_or(0));
        let deadline = tokio::time::Instant::now() + timeout;
        let mut topics = Vec::new();
        for topic in &asked.topics {
            let mut partitions = Vec::new();
            for p in &topic.partitions {
                let trimmed =
                    tokio::time::timeout_at(deadline, trim(context, &topic.name, p.partition_index, p.offset));
                let trimmed = trimmed.await.unwrap_or(Err(ResponseError::RequestTimedOut));
                let result = DeleteRecordsPartitionResult::default().with_partition_index(p.partition_index);
                partitions.push(match trimmed {
                    Ok(log_start) => result.with_low_watermark(log_start.0),
                    Err(error) => result.with_low_watermark(-1).with_error_code(error.code()),
                });
            }
            topics.push(DeleteRecordsTopicResult::default().with_name(topic.name.clone()).with_partitions(partitions));
        }
        Outcome::reply(&request.header, &DeleteRecordsResponse::default().with_topics(topics))
    })
}

async fn trim(context: &Context, topic: &str, index: i32, offset: i64) -> Result<Offset, ResponseError> {
    let partition: Arc<Partition> = context.partition_by_name(topic, index)?;
    if partition.name.topic.is_internal() {
        return Err(ResponseError::InvalidTopicException);
    }
    if !partition.config().cleanup.delete {
        return Err(ResponseError::PolicyViolation);
    }
    let to = match offset {
        TO_HIGH_WATERMARK => partition.high_watermark(),
        0.. => Offset(offset),
        _ => return Err(ResponseError::OffsetOutOfRange),
    };
    partition.trim(to).await.map_err(|e| errors::of_append(&e))
}
