//! Produce (0): validates batches, takes their places in the log, and answers when they are as safe as was asked.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use millstream_core::config::{CompressionTarget, TopicConfig};
use millstream_core::record::{BatchHeader, BatchProblem, Rules, TimestampType, validate_produce_batch};
use millstream_core::types::{PartitionId, Timestamp, TopicPartition};

use tokio::sync::OwnedSemaphorePermit;

use super::find::Found;
use super::{BoxFuture, Context, Outcome, Request, Session, errors, now};
use crate::partition::{Acks, Append, AppendOutcome, Partition, Ticket};
use crate::protocol::produce::{
    ProducePartition, ProducePartitionResponse, ProduceRequest, ProduceResponse, ProduceTopicResponse, RecordError,
};
use crate::protocol::{CurrentLeader, RequestHeader, StrBytes, TopicRef};

/// From this version on a batch may be compressed by zstd (KIP-110).
const ZSTD_FROM: i16 = 7;
/// Most bytes a batch may inflate to, in multiples of what the topic takes compressed.
const INFLATE_FACTOR_MAX: usize = 100;
/// And in any case.
const INFLATED_BYTES_MAX: usize = 256 << 20;

/// Takes the places in the log; what is left to wait for is the outcome's future.
pub fn handle<'a>(context: &'a Arc<Context>, _session: &'a mut Session, request: Request) -> BoxFuture<'a, Outcome> {
    Box::pin(start(context, request))
}

/// One partition of the request on its way.
enum Slot {
    Refused(ProducePartitionResponse),
    /// Waits for its place of the ticket.
    Pending {
        place: usize,
        index: i32,
        log_append_time_ms: i64,
        partition: Arc<Partition>,
    },
}

async fn start(context: &Arc<Context>, request: Request) -> Outcome {
    let asked: ProduceRequest = match request.decode() {
        Ok(asked) => asked,
        Err(close) => return close,
    };
    let acks = match asked.acks {
        -1 => Some(Acks::All),
        0 => Some(Acks::None),
        1 => Some(Acks::Leader),
        _ => None,
    };
    let Some(acks) = acks else {
        return Outcome::reply(&request.header, &refuse_all(&asked, ResponseError::InvalidRequiredAcks));
    };
    let admitted = context.partitions.admit(request.body.len()).await;
    let Prepared { topics, batches, ticket } = Prepared::of(context, &request.header, &asked, acks, admitted);
    context.partitions.append(batches).await;
    let timeout = (acks == Acks::All).then(|| Duration::from_millis(u64::try_from(asked.timeout_ms).unwrap_or(0)));
    let header = request.header;
    let node_id = context.config.broker.node_id().0;
    Outcome::Later(Box::pin(async move {
        wait(&ticket, timeout).await;
        let body = respond(topics, &ticket, node_id);
        if acks != Acks::None {
            return Outcome::reply(&header, &body);
        }
        // A client that wants no answers learns of an error by the end of the connection, as with Kafka.
        let refused = body.topics.iter().flat_map(|t| &t.partitions).find(|p| p.error_code != 0);
        match refused {
            Some(p) => Outcome::Close(format!("produce with acks=0 was refused with error {}", p.error_code)),
            None => Outcome::NoReply,
        }
    }))
}

async fn wait(ticket: &Ticket, timeout: Option<Duration>) {
    match timeout {
        // What is late is answered as timed out; it may still be committed.
        Some(timeout) => drop(tokio::time::timeout(timeout, ticket.completed()).await),
        None => ticket.completed().await,
    }
}

fn refuse_all(asked: &ProduceRequest, error: ResponseError) -> ProduceResponse {
    let topics = asked.topics.iter().map(|topic| ProduceTopicResponse {
        topic: topic.topic.clone(),
        partitions: topic.partitions.iter().map(|p| refused(p.index, error, None)).collect(),
    });
    ProduceResponse { topics: topics.collect(), ..ProduceResponse::default() }
}

fn refused(index: i32, error: ResponseError, message: Option<String>) -> ProducePartitionResponse {
    ProducePartitionResponse {
        index,
        error_code: error.code(),
        base_offset: -1,
        log_append_time_ms: -1,
        log_start_offset: -1,
        record_errors: Vec::new(),
        error_message: message.map(StrBytes::from_string),
        current_leader: None,
    }
}

/// A request whose batches are validated.
struct Prepared {
    topics: Vec<(TopicRef, Vec<Slot>)>,
    batches: Vec<Append>,
    ticket: Arc<Ticket>,
}

impl Prepared {
    fn of(
        context: &Context,
        header: &RequestHeader,
        asked: &ProduceRequest,
        acks: Acks,
        admitted: OwnedSemaphorePermit,
    ) -> Self {
        let now = now();
        let mut batches: Vec<(PartitionId, BatchHeader, Bytes, Acks)> = Vec::new();
        let mut scratch = Vec::new();
        let topics = asked.topics.iter().map(|topic| {
            let found = context.find(&topic.topic);
            let slots = topic.partitions.iter().map(|p| {
                let checked = found
                    .as_ref()
                    .map_err(|e| refused(p.index, *e, None))
                    .and_then(|topic| check(context, header, topic, p, now, &mut scratch));
                match checked {
                    Ok(Checked { partition, header, bytes, log_append_time_ms, write_caching }) => {
                        // Of the one replica the leader's is the majority.
                        let acks = if write_caching && acks == Acks::All { Acks::Leader } else { acks };
                        batches.push((partition.id, header, bytes, acks));
                        Slot::Pending { place: batches.len() - 1, index: p.index, log_append_time_ms, partition }
                    }
                    Err(refused) => Slot::Refused(refused),
                }
            });
            (topic.topic.clone(), slots.collect())
        });
        let topics = topics.collect();
        let ticket = Ticket::new(batches.len(), Some(admitted));
        let batches = batches.into_iter().enumerate();
        let batches = batches
            .map(|(place, (id, header, bytes, acks))| Append { id, header, bytes, acks, ticket: ticket.clone(), place })
            .collect();
        Self { topics, batches, ticket }
    }
}

struct Checked {
    partition: Arc<Partition>,
    header: BatchHeader,
    bytes: Bytes,
    log_append_time_ms: i64,
    /// Acknowledged before it is on disk (`write.caching`).
    write_caching: bool,
}

fn check(
    context: &Context,
    header: &RequestHeader,
    topic: &Found,
    asked: &ProducePartition,
    now: Timestamp,
    scratch: &mut Vec<u8>,
) -> Result<Checked, ProducePartitionResponse> {
    if topic.name.is_internal() {
        let message = format!("Cannot append to internal topic {}", topic.name);
        return Err(refused(asked.index, ResponseError::InvalidTopicException, Some(message)));
    }
    let partition = context.partition(topic, asked.index).map_err(|e| refused(asked.index, e, None))?;
    let Some(records) = &asked.records else {
        let message = format!("No records for partition {}-{}", topic.name, asked.index);
        return Err(refused(asked.index, ResponseError::InvalidRecord, Some(message)));
    };
    let config = partition.config();
    let rules = rules(&config, &partition.name, header.version, now);
    let validated = validate_produce_batch(records, &rules, scratch).map_err(|e| refused_batch(asked.index, &e))?;
    if validated.header.is_transactional() {
        // No transaction is open: none can be, before the coordinator for them is there.
        return Err(refused(asked.index, ResponseError::InvalidTxnState, None));
    }
    let log_append_time_ms = match rules.timestamp_type {
        TimestampType::LogAppendTime => validated.header.max_timestamp.0,
        TimestampType::CreateTime => -1,
    };
    let write_caching = config.write_caching;
    Ok(Checked { partition, header: validated.header, bytes: validated.bytes, log_append_time_ms, write_caching })
}

fn rules<'a>(config: &TopicConfig, partition: &'a TopicPartition, version: i16, now: Timestamp) -> Rules<'a> {
    let (target_compression, compression_level) = match config.compression {
        CompressionTarget::Producer => (None, None),
        CompressionTarget::Codec { codec, level } => (Some(codec), Some(level)),
    };
    Rules {
        partition,
        compacted: config.cleanup.compact,
        max_message_bytes: config.max_message_bytes,
        segment_bytes: usize::try_from(config.segment_bytes).unwrap_or(usize::MAX),
        timestamp_type: config.timestamp_type,
        now,
        before_max_ms: config.timestamp_before_max_ms,
        after_max_ms: config.timestamp_after_max_ms,
        target_compression,
        compression_level,
        zstd_allowed: version >= ZSTD_FROM,
        max_decompressed_bytes: config
            .max_message_bytes
            .saturating_mul(INFLATE_FACTOR_MAX)
            .clamp(1 << 20, INFLATED_BYTES_MAX),
    }
}

fn refused_batch(index: i32, problem: &BatchProblem) -> ProducePartitionResponse {
    let mut response = refused(index, errors::of_batch_problem(problem), Some(problem.to_string()));
    if let BatchProblem::InvalidRecords { problems, .. } | BatchProblem::InvalidTimestamps { problems, .. } = problem {
        response.record_errors = problems
            .iter()
            .map(|p| RecordError { batch_index: p.index, message: Some(StrBytes::from_string(p.message.clone())) })
            .collect();
    }
    response
}

fn respond(topics: Vec<(TopicRef, Vec<Slot>)>, ticket: &Ticket, node_id: i32) -> ProduceResponse {
    let mut outcomes = ticket.take();
    let topics = topics.into_iter().map(|(topic, slots)| {
        let partitions = slots.into_iter().map(|slot| match slot {
            Slot::Refused(response) => response,
            Slot::Pending { place, index, log_append_time_ms, partition } => {
                let outcome = outcomes.get_mut(place).and_then(Option::take);
                appended(index, log_append_time_ms, &partition, outcome, node_id)
            }
        });
        ProduceTopicResponse { topic, partitions: partitions.collect() }
    });
    ProduceResponse { topics: topics.collect(), ..ProduceResponse::default() }
}

fn appended(
    index: i32,
    log_append_time_ms: i64,
    partition: &Partition,
    outcome: Option<AppendOutcome>,
    node_id: i32,
) -> ProducePartitionResponse {
    match outcome {
        Some(Ok(appended)) => ProducePartitionResponse {
            index,
            error_code: 0,
            base_offset: appended.base_offset.0,
            log_append_time_ms,
            log_start_offset: appended.log_start.0,
            record_errors: Vec::new(),
            error_message: None,
            current_leader: None,
        },
        Some(Err(error)) => {
            let code = errors::of_append(&error);
            let mut response = refused(index, code, Some(error.to_string()));
            if code == ResponseError::NotLeaderOrFollower {
                response.current_leader =
                    Some(CurrentLeader { leader_id: node_id, leader_epoch: partition.leader_epoch().0 });
            }
            response
        }
        None => refused(index, ResponseError::RequestTimedOut, None),
    }
}
