//! The batches of a produce request: which of them count, whether each is sound, and where it goes.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use millstream_core::config::{CompressionTarget, TopicConfig};
use millstream_core::partition::Guard;
use millstream_core::record::{
    ATTRIBUTES_AT, BatchHeader, BatchProblem, Budget, Rules, TimestampType, validate_produce_batch,
};
use millstream_core::security::Operation;
use millstream_core::types::{PartitionId, Timestamp, TopicPartition};

use crate::api::compute::{LARGE_BYTES, compute};
use crate::api::find::Found;
use crate::api::{Access, Context, errors, now};
use crate::partition::Acks;
use crate::protocol::produce::{ProducePartition, ProducePartitionResponse, ProduceRequest, RecordError};
use crate::protocol::{StrBytes, TopicRef};

/// From this version on a batch may be compressed by zstd (KIP-110).
const ZSTD_FROM: i16 = 7;
/// Most bytes a batch may inflate to, in multiples of what the topic takes compressed.
const INFLATE_FACTOR_MAX: usize = 100;
/// And in any case; and all batches of a request, unless it is so large that
const INFLATED_BYTES_MAX: usize = 256 << 20;
/// so many times its size is more.
const INFLATE_FACTOR_OF_REQUEST: usize = 16;
/// From this size on batches are looked at off the workers though none is compressed: four milliseconds' work.
const LARGE_PLAIN_BYTES: usize = 4 << 20;
/// Bytes that are inflated between other requests: about a millisecond's work.
const INFLATED_INLINE_MAX: usize = 1 << 20;

/// One partition of the request on its way.
pub(super) enum Slot {
    Refused(ProducePartitionResponse),
    /// Waits for its place of the ticket.
    Pending {
        place: usize,
        index: i32,
        log_append_time_ms: i64,
    },
}

/// A sound batch.
pub(super) struct Batch {
    pub id: PartitionId,
    pub header: BatchHeader,
    pub bytes: Bytes,
    pub acks: Acks,
    /// Under which its transaction was verified.
    pub guard: Option<Guard>,
    /// Its slot says why.
    pub is_refused: bool,
}

/// A request whose batches are validated. A slot's place is that of its batch.
pub(super) struct Checked {
    pub topics: Vec<(TopicRef, Vec<Slot>)>,
    pub batches: Vec<Batch>,
}

impl Checked {
    /// Looks at every batch, at once if that is little work.
    pub(super) async fn of(
        context: &Arc<Context>,
        access: &Access,
        version: i16,
        asked: ProduceRequest,
        acks: Acks,
        size_bytes: usize,
    ) -> Self {
        let check = Check { version, acks, now: now(), has_transactional_id: asked.transactional_id.is_some() };
        if size_bytes < LARGE_BYTES || size_bytes < LARGE_PLAIN_BYTES && !is_any_compressed(&asked) {
            let mut budget = Budget::new(INFLATED_INLINE_MAX);
            let checked = check.request(context, access, &asked, &mut budget);
            if !budget.is_overdrawn() {
                return checked;
            }
        }
        let (context, access) = (Arc::clone(context), access.clone());
        let inflated_max = INFLATED_BYTES_MAX.max(size_bytes.saturating_mul(INFLATE_FACTOR_OF_REQUEST));
        compute(LARGE_BYTES, move || check.request(&context, &access, &asked, &mut Budget::new(inflated_max))).await
    }
}

fn is_any_compressed(asked: &ProduceRequest) -> bool {
    // The codec stands in the lowest bits.
    has_any_attribute(asked, 0b111)
}

/// Whether some batch says that it belongs to a transaction.
pub(super) fn is_any_transactional(asked: &ProduceRequest) -> bool {
    has_any_attribute(asked, 0b1_0000)
}

fn has_any_attribute(asked: &ProduceRequest, bits: u8) -> bool {
    let mut batches = asked.topics.iter().flat_map(|t| &t.partitions).filter_map(|p| p.records.as_ref());
    batches.any(|batch| batch.get(ATTRIBUTES_AT + 1).is_some_and(|attributes| attributes & bits != 0))
}

/// Of several batches for one partition the last counts, and each partition is answered once: Kafka keeps them in a
/// map (`KafkaApis.handleProduceRequest`).
pub(super) fn last_of_each(asked: &ProduceRequest) -> Vec<(&TopicRef, Vec<&ProducePartition>)> {
    if let [topic] = &asked.topics[..]
        && let [partition] = &topic.partitions[..]
    {
        return vec![(&topic.topic, vec![partition])];
    }
    let mut topics: Vec<(&TopicRef, Vec<&ProducePartition>)> = Vec::with_capacity(asked.topics.len());
    let mut topic_places = HashMap::new();
    let mut places = HashMap::new();
    for topic in &asked.topics {
        for partition in &topic.partitions {
            let at = *topic_places.entry(&topic.topic).or_insert(topics.len());
            if at == topics.len() {
                topics.push((&topic.topic, Vec::with_capacity(topic.partitions.len())));
            }
            let partitions = &mut topics[at].1;
            match places.insert((at, partition.index), partitions.len()) {
                Some(place) => {
                    places.insert((at, partition.index), place);
                    partitions[place] = partition;
                }
                None => partitions.push(partition),
            }
        }
    }
    topics
}

#[derive(Clone, Copy)]
struct Check {
    version: i16,
    acks: Acks,
    now: Timestamp,
    has_transactional_id: bool,
}

/// A batch and what its answer will say.
struct Sound {
    batch: Batch,
    log_append_time_ms: i64,
}

impl Check {
    fn request(self, context: &Context, access: &Access, asked: &ProduceRequest, budget: &mut Budget) -> Checked {
        let mut batches = Vec::new();
        let topics = last_of_each(asked).into_iter().map(|(topic, partitions)| {
            let found = access.find(context, Operation::Write, topic);
            let slots = partitions.into_iter().map(|p| {
                let sound = found
                    .as_ref()
                    .map_err(|e| refused(p.index, *e, None))
                    .and_then(|topic| self.partition(context, topic, p, budget));
                match sound {
                    Ok(Sound { batch, log_append_time_ms }) => {
                        batches.push(batch);
                        Slot::Pending { place: batches.len() - 1, index: p.index, log_append_time_ms }
                    }
                    Err(refused) => Slot::Refused(refused),
                }
            });
            (topic.clone(), slots.collect())
        });
        let topics = topics.collect();
        Checked { topics, batches }
    }

    fn partition(
        self,
        context: &Context,
        topic: &Found,
        asked: &ProducePartition,
        budget: &mut Budget,
    ) -> Result<Sound, ProducePartitionResponse> {
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
        let rules = self.rules(&config, &partition.name);
        let validated = validate_produce_batch(records, &rules, budget).map_err(|e| refused_batch(asked.index, e))?;
        if validated.header.is_transactional() && !self.has_transactional_id {
            // Nobody may write to a transaction without a name.
            return Err(refused(asked.index, ResponseError::TransactionalIdAuthorizationFailed, None));
        }
        if validated.header.is_transactional() && !validated.header.is_idempotent() {
            return Err(refused(asked.index, ResponseError::InvalidTxnState, None));
        }
        let log_append_time_ms = match rules.timestamp_type {
            TimestampType::LogAppendTime => validated.header.max_timestamp.0,
            TimestampType::CreateTime => -1,
        };
        let (header, bytes) = (validated.header, validated.bytes);
        let batch = Batch { id: partition.id, header, bytes, acks: self.acks, guard: None, is_refused: false };
        Ok(Sound { batch, log_append_time_ms })
    }

    fn rules<'a>(self, config: &TopicConfig, partition: &'a TopicPartition) -> Rules<'a> {
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
            now: self.now,
            before_max_ms: config.timestamp_before_max_ms,
            after_max_ms: config.timestamp_after_max_ms,
            target_compression,
            compression_level,
            zstd_allowed: self.version >= ZSTD_FROM,
            max_decompressed_bytes: config
                .max_message_bytes
                .saturating_mul(INFLATE_FACTOR_MAX)
                .clamp(1 << 20, INFLATED_BYTES_MAX),
        }
    }
}

pub(super) fn refused(index: i32, error: ResponseError, message: Option<String>) -> ProducePartitionResponse {
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

fn refused_batch(index: i32, problem: BatchProblem) -> ProducePartitionResponse {
    let mut response = refused(index, errors::of_batch_problem(&problem), Some(problem.to_string()));
    if let BatchProblem::InvalidRecords { problems, .. } | BatchProblem::InvalidTimestamps { problems, .. } = problem {
        response.record_errors = problems
            .into_iter()
            .map(|p| RecordError { batch_index: p.index, message: Some(StrBytes::from_string(p.message)) })
            .collect();
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::produce::ProduceTopic;

    #[test]
    fn of_several_batches_for_a_partition_the_last_counts() {
        let topic = |name: &'static str, partitions: &[(i32, &'static [u8])]| ProduceTopic {
            topic: TopicRef::Name(StrBytes::from_static_str(name)),
            partitions: partitions
                .iter()
                .map(|(index, records)| ProducePartition { index: *index, records: Some(Bytes::from_static(records)) })
                .collect(),
        };
        let asked = ProduceRequest {
            transactional_id: None,
            acks: -1,
            timeout_ms: 0,
            topics: vec![
                topic("a", &[(0, b"a0"), (1, b"a1"), (0, b"a0 again")]),
                topic("b", &[(1, b"b1")]),
                topic("none", &[]),
                topic("a", &[(2, b"a2"), (1, b"a1 again")]),
            ],
        };
        let kept = last_of_each(&asked);
        let kept = kept.iter().map(|(topic, partitions)| {
            let TopicRef::Name(name) = topic else { panic!("a name") };
            partitions.iter().map(|p| (name.as_str(), p.index, p.records.as_deref().unwrap())).collect::<Vec<_>>()
        });
        assert_eq!(
            kept.collect::<Vec<_>>(),
            [vec![("a", 0, &b"a0 again"[..]), ("a", 1, b"a1 again"), ("a", 2, b"a2")], vec![("b", 1, &b"b1"[..])]]
        );
    }
}
