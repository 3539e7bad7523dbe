//! Is what a producer sent one sound batch, and in what form is it stored (Kafka `LogValidator`)?
//!
//! Knows nothing of offsets in the log, sequences or epochs: see `partition`.

use bytes::Bytes;

use super::batch::{BATCH_HEADER_LEN, BATCH_OVERHEAD, BatchError, BatchHeader, Compression, LENGTH_AT, TimestampType};
use super::build::{BatchBuilder, write_header};
use super::compression::DecompressError;
use super::records::{BodyError, Record, RecordIter, batch_body};
use crate::types::{Offset, Timestamp, TopicPartition};

/// Most problems of single records that one request is told; their number is told in full. A record takes 7 bytes, a
/// problem a hundred: without a bound a request could ask for an answer many times its size.
pub const RECORD_PROBLEMS_MAX: usize = 1000;

/// Smallest value of the length field at which Kafka looks on for a magic byte at all.
const LEGACY_LENGTH_MIN: i32 = 14;
/// Bytes up to and with the magic.
const UP_TO_MAGIC: usize = 17;
/// Attributes that have a meaning.
const ATTRIBUTES_MASK: i16 = 0x7f;
const LOG_APPEND_TIME: i16 = 0b1000;

/// What the topic asks of a batch.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'a> {
    /// For messages.
    pub partition: &'a TopicPartition,
    /// `cleanup.policy` contains `compact`: every record needs a key.
    pub compacted: bool,
    /// `max.message.bytes`: of the batch as sent, and as converted.
    pub max_message_bytes: usize,
    /// `segment.bytes`: a batch must fit into a segment.
    pub segment_bytes: usize,
    /// `message.timestamp.type`.
    pub timestamp_type: TimestampType,
    pub now: Timestamp,
    /// `message.timestamp.before.max.ms` and `message.timestamp.after.max.ms`.
    pub before_max_ms: i64,
    pub after_max_ms: i64,
    /// `compression.type`; `None` is `producer`: the batch stays as it is.
    pub target_compression: Option<Compression>,
    /// `compression.gzip.level` or `compression.zstd.level`, for a conversion. `None`: the codec's default.
    pub compression_level: Option<i32>,
    /// Produce before version 7 may not use zstd.
    pub zstd_allowed: bool,
    /// Most bytes a batch may inflate to.
    pub max_decompressed_bytes: usize,
}

/// What the batches of one request may take together, whatever each of them may.
#[derive(Debug)]
pub struct Budget {
    /// Bytes still to be inflated or built anew.
    inflated_left: usize,
    problems_left: usize,
    overdrawn: bool,
    /// For inflating.
    scratch: Vec<u8>,
}

impl Budget {
    /// `inflated_max`: bytes that all batches together may inflate to or be built anew from. A batch beyond it is
    /// refused as one that inflates too much.
    pub fn new(inflated_max: usize) -> Self {
        Self { inflated_left: inflated_max, problems_left: RECORD_PROBLEMS_MAX, overdrawn: false, scratch: Vec::new() }
    }

    /// Whether a batch was refused that a larger budget might have taken.
    pub fn is_overdrawn(&self) -> bool {
        self.overdrawn
    }

    fn take(&mut self, bytes: usize) -> Result<(), BatchProblem> {
        let limit = self.inflated_left;
        self.inflated_left = limit.saturating_sub(bytes);
        if bytes > limit {
            self.overdrawn = true;
            return Err(BatchProblem::InflatesTooLarge { limit });
        }
        Ok(())
    }
}

/// A batch to store.
#[derive(Clone, Debug)]
pub struct Validated {
    /// The buffer that came, unless its header or records had to change.
    pub bytes: Bytes,
    /// The header of `bytes`.
    pub header: BatchHeader,
}

/// One record that is refused (KIP-467).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordProblem {
    /// Its place in the batch, from 0 (`batch_index` of the response).
    pub index: i32,
    pub message: String,
}

/// Why a batch is refused. Nothing of it is stored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchProblem {
    /// CORRUPT_MESSAGE.
    #[error("record batch is corrupt: {0}")]
    Corrupt(BatchError),
    /// MESSAGE_TOO_LARGE.
    #[error("the record batch size is {size_bytes} bytes which exceeds the maximum configured value of {max}")]
    TooLarge { size_bytes: usize, max: usize },
    /// MESSAGE_TOO_LARGE: a producer then splits the batch.
    #[error("the record batch inflates to more than {limit} bytes")]
    InflatesTooLarge { limit: usize },
    /// RECORD_LIST_TOO_LARGE.
    #[error("message batch size is {size_bytes} bytes, which exceeds the maximum configured segment size of {max}")]
    LargerThanSegment { size_bytes: usize, max: usize },
    /// UNSUPPORTED_COMPRESSION_TYPE.
    #[error("produce requests below version 7 are not allowed to use ZStandard compression")]
    UnsupportedCompression,
    /// INVALID_RECORD.
    #[error("{0}")]
    Invalid(String),
    /// INVALID_RECORD with record errors.
    #[error("{}", invalid_records_message(*.total, .problems))]
    InvalidRecords { total: usize, problems: Vec<RecordProblem> },
    /// INVALID_TIMESTAMP with record errors.
    #[error("One or more records have been rejected due to invalid timestamp")]
    InvalidTimestamps { total: usize, problems: Vec<RecordProblem> },
}

fn invalid_records_message(total: usize, problems: &[RecordProblem]) -> String {
    let shown: Vec<String> = problems
        .iter()
        .take(3)
        .map(|p| format!("RecordError(batchIndex={}, message='{}')", p.index, p.message))
        .collect();
    format!(
        "One or more records have been rejected due to {total} record errors in total, and only showing the first \
         three errors at most: [{}]",
        shown.join(", ")
    )
}

/// Checks what a client sent for one partition, and gives it the form in which it is stored: untouched, or with
/// another header (LogAppendTime, wrong maximum), or rebuilt (another codec, offsets not in a row). `budget` is that of
/// the whole request.
pub fn validate_produce_batch(
    bytes: &Bytes,
    rules: &Rules<'_>,
    budget: &mut Budget,
) -> Result<Validated, BatchProblem> {
    let mut scratch = std::mem::take(&mut budget.scratch);
    let validated = validate(bytes, rules, budget, &mut scratch);
    budget.scratch = scratch;
    validated
}

fn validate(
    bytes: &Bytes,
    rules: &Rules<'_>,
    budget: &mut Budget,
    scratch: &mut Vec<u8>,
) -> Result<Validated, BatchProblem> {
    let batch = the_one_batch(bytes)?;
    let header = BatchHeader::parse(&batch).map_err(BatchProblem::Corrupt)?;
    if !rules.zstd_allowed && header.compression() == Ok(Compression::Zstd) {
        return Err(BatchProblem::UnsupportedCompression);
    }
    if header.base_offset != Offset::ZERO {
        let text = "The baseOffset of the record batch in the append to";
        return Err(invalid(format!("{text} {} should be 0, but it is {}", rules.partition, header.base_offset)));
    }
    check_size(batch.len(), rules)?;
    BatchHeader::parse_checked(&batch).map_err(BatchProblem::Corrupt)?;
    let codec = header.compression().map_err(|e| invalid(e.to_string()))?;
    check_header(&header, rules)?;

    let body = match codec {
        Compression::None => batch.get(BATCH_HEADER_LEN..).unwrap_or_default(),
        _ => inflate(&header, &batch, rules, budget, scratch)?,
    };
    let walked = walk(&header, body, rules, &mut budget.problems_left)?;
    let target = rules.target_compression.unwrap_or(codec);
    let validated = if target != codec || !walked.in_sequence {
        budget.take(body.len())?;
        rebuild(&header, body, target, rules)?
    } else {
        with_times(batch, header, walked.max_timestamp, rules)
    };
    if validated.bytes.len() > rules.segment_bytes {
        return Err(BatchProblem::LargerThanSegment { size_bytes: validated.bytes.len(), max: rules.segment_bytes });
    }
    Ok(validated)
}

/// The body of a compressed batch. Work that ends in an error counts, too.
fn inflate<'a>(
    header: &BatchHeader,
    batch: &[u8],
    rules: &Rules<'_>,
    budget: &mut Budget,
    scratch: &'a mut Vec<u8>,
) -> Result<&'a [u8], BatchProblem> {
    let limit = rules.max_decompressed_bytes.min(budget.inflated_left);
    scratch.clear();
    let inflated = batch_body(header, batch, limit, scratch).map(drop);
    let too_large = inflated == Err(BodyError::Decompress(DecompressError::TooLarge { limit }));
    budget.overdrawn |= too_large && limit < rules.max_decompressed_bytes;
    budget.inflated_left -= scratch.len().min(limit);
    match inflated {
        Ok(()) => Ok(scratch),
        Err(BodyError::Batch(e)) => Err(BatchProblem::Corrupt(e)),
        Err(BodyError::Decompress(DecompressError::TooLarge { limit })) => {
            Err(BatchProblem::InflatesTooLarge { limit })
        }
        Err(BodyError::Decompress(e @ DecompressError::Malformed(_))) => Err(invalid(e.to_string())),
    }
}

fn invalid(text: String) -> BatchProblem {
    BatchProblem::Invalid(text)
}

fn check_size(size_bytes: usize, rules: &Rules<'_>) -> Result<(), BatchProblem> {
    if size_bytes > rules.max_message_bytes {
        return Err(BatchProblem::TooLarge { size_bytes, max: rules.max_message_bytes });
    }
    Ok(())
}

/// Whole size of the batch that `bytes` begins with, if they hold one (`ByteBufferLogInputStream`). `Ok(None)`: too
/// little for any batch.
fn batch_size(bytes: &[u8]) -> Result<Option<usize>, BatchProblem> {
    let Some(length) = bytes.get(LENGTH_AT..BATCH_OVERHEAD) else {
        return Ok(None);
    };
    let length = i32::from_be_bytes(length.try_into().expect("four bytes"));
    if length < LEGACY_LENGTH_MIN {
        return Err(BatchProblem::Corrupt(BatchError::Length { length }));
    }
    let Some(magic) = bytes.get(UP_TO_MAGIC - 1) else {
        return Ok(None);
    };
    match magic.cast_signed() {
        // Not negative: it is above the minimum.
        0..=2 => Ok(Some(BATCH_OVERHEAD + length as usize)),
        magic => Err(BatchProblem::Corrupt(BatchError::Magic(magic))),
    }
}

/// The one batch in `bytes`. A piece of another after it is cut off, as Kafka does.
fn the_one_batch(bytes: &Bytes) -> Result<Bytes, BatchProblem> {
    let Some(need) = batch_size(bytes)? else {
        return Err(invalid("Produce requests must have at least one record batch".into()));
    };
    let magic = bytes[UP_TO_MAGIC - 1].cast_signed();
    if magic != 2 {
        let text = "Produce requests are only allowed to contain record batches with magic version 2";
        return Err(invalid(format!("{text}, not {magic}")));
    }
    let Some(rest) = bytes.get(need..) else {
        return Err(BatchProblem::Corrupt(BatchError::Torn { need, have: bytes.len() }));
    };
    if batch_size(rest)?.is_some_and(|second| second <= rest.len()) {
        return Err(invalid("Produce requests are only allowed to contain exactly one record batch".into()));
    }
    Ok(bytes.slice(..need))
}

/// What the header says of the batch (`LogValidator.validateBatch`).
fn check_header(header: &BatchHeader, rules: &Rules<'_>) -> Result<(), BatchProblem> {
    let partition = rules.partition;
    let (base, last) = (header.base_offset, header.last_offset());
    let span = i64::from(header.last_offset_delta) + 1;
    let count = header.record_count;
    if span <= 0 {
        return Err(invalid(format!(
            "Batch has an invalid offset range: [{base}, {last}] in topic partition {partition}"
        )));
    }
    if count <= 0 {
        return Err(invalid(format!(
            "Invalid reported count for record batch: {count} in topic partition {partition}"
        )));
    }
    if span != i64::from(count) {
        return Err(invalid(format!(
            "Inconsistent batch offset range [{base}, {last}] and count of records {count} in topic partition {partition}"
        )));
    }
    if header.is_control() {
        return Err(invalid(format!(
            "Clients are not allowed to write control records in topic partition {partition}"
        )));
    }
    if header.is_idempotent() && header.base_sequence.0 < 0 {
        return Err(invalid(format!(
            "Invalid sequence number {} in record batch with producerId {} in topic partition {partition}",
            header.base_sequence, header.producer_id
        )));
    }
    Ok(())
}

struct Walked {
    max_timestamp: Timestamp,
    /// Offset deltas are 0, 1, 2, ...
    in_sequence: bool,
}

/// Looks at every record. Allocates for problems only.
fn walk(
    header: &BatchHeader,
    body: &[u8],
    rules: &Rules<'_>,
    problems_left: &mut usize,
) -> Result<Walked, BatchProblem> {
    let mut walked = Walked { max_timestamp: Timestamp::NONE, in_sequence: true };
    let mut problems = Problems { left: problems_left, total: 0, of_timestamps: false, told: Vec::new() };
    for (index, record) in (0..).zip(RecordIter::new(header, body)) {
        let record = record.map_err(|e| invalid(format!("{e} (record {index} of {})", rules.partition)))?;
        if rules.compacted && record.key.is_none() {
            problems.add(index, false, || {
                let text = "Compacted topic cannot accept message without key in topic partition";
                format!("{text} {}", rules.partition)
            });
        } else {
            check_timestamp(header, &record, index, rules, &mut problems);
        }
        walked.in_sequence &= record.offset_delta == index;
        walked.max_timestamp = walked.max_timestamp.max(record.timestamp);
    }
    problems.answer()?;
    Ok(walked)
}

/// `LogValidator.validateTimestamp`. Differences wrap as Java's do.
fn check_timestamp(
    header: &BatchHeader,
    record: &Record<'_>,
    index: i32,
    rules: &Rules<'_>,
    problems: &mut Problems<'_>,
) {
    let Rules { now, before_max_ms, after_max_ms, .. } = *rules;
    if rules.timestamp_type == TimestampType::CreateTime && record.timestamp != Timestamp::NONE {
        let age = now.0.wrapping_sub(record.timestamp.0);
        if age > before_max_ms || age.wrapping_neg() > after_max_ms {
            problems.add(index, true, || {
                format!(
                    "Timestamp {} of message with offset {} is out of range. The timestamp should be within [{}, {}]",
                    record.timestamp,
                    record.offset,
                    now.0.wrapping_sub(before_max_ms),
                    now.0.wrapping_add(after_max_ms)
                )
            });
        }
    } else if header.timestamp_type() == TimestampType::LogAppendTime {
        problems.add(index, true, || {
            format!(
                "Invalid timestamp type in message DefaultRecord(offset={}, timestamp={}, key={} bytes, value={} \
                 bytes). Producer should not set timestamp type to LogAppendTime.",
                record.offset,
                record.timestamp,
                record.key.map_or(0, <[u8]>::len),
                record.value.map_or(0, <[u8]>::len)
            )
        });
    }
}

struct Problems<'a> {
    /// How many more may be told.
    left: &'a mut usize,
    total: usize,
    of_timestamps: bool,
    told: Vec<RecordProblem>,
}

impl Problems<'_> {
    fn add(&mut self, index: i32, of_timestamp: bool, message: impl FnOnce() -> String) {
        self.total += 1;
        self.of_timestamps |= of_timestamp;
        if let Some(left) = self.left.checked_sub(1) {
            *self.left = left;
            self.told.push(RecordProblem { index, message: message() });
        }
    }

    fn answer(self) -> Result<(), BatchProblem> {
        let Self { total, told: problems, .. } = self;
        match (total, self.of_timestamps) {
            (0, _) => Ok(()),
            (_, true) => Err(BatchProblem::InvalidTimestamps { total, problems }),
            (_, false) => Err(BatchProblem::InvalidRecords { total, problems }),
        }
    }
}

/// The batch with the timestamp type and maximum that the topic wants: a copy if they change, for the CRC covers them.
fn with_times(batch: Bytes, header: BatchHeader, max_timestamp: Timestamp, rules: &Rules<'_>) -> Validated {
    let max_timestamp = match rules.timestamp_type {
        TimestampType::LogAppendTime => rules.now,
        TimestampType::CreateTime => max_timestamp,
    };
    if header.timestamp_type() == rules.timestamp_type && header.max_timestamp == max_timestamp {
        return Validated { bytes: batch, header };
    }
    let mut attributes = header.attributes & ATTRIBUTES_MASK & !LOG_APPEND_TIME;
    if rules.timestamp_type == TimestampType::LogAppendTime {
        attributes |= LOG_APPEND_TIME;
    }
    let mut header = BatchHeader { attributes, max_timestamp, ..header };
    let mut bytes = batch.to_vec();
    header.crc = write_header(&header, &mut bytes);
    Validated { bytes: bytes.into(), header }
}

/// The same records in a new batch: another codec, offsets in a row.
fn rebuild(
    header: &BatchHeader,
    body: &[u8],
    codec: Compression,
    rules: &Rules<'_>,
) -> Result<Validated, BatchProblem> {
    let mut builder = BatchBuilder::new()
        .compression(codec, rules.compression_level)
        .producer(header.producer_id, header.producer_epoch, header.base_sequence)
        .transactional(header.is_transactional());
    if rules.timestamp_type == TimestampType::LogAppendTime {
        builder = builder.log_append_time(rules.now);
    }
    for (delta, record) in (0..).zip(RecordIter::new(header, body)) {
        let record = record.map_err(|e| invalid(e.to_string()))?;
        builder.push_record(delta, &record);
    }
    let bytes = builder.finish();
    check_size(bytes.len(), rules)?;
    let header = BatchHeader::parse(&bytes).map_err(BatchProblem::Corrupt)?;
    Ok(Validated { bytes, header })
}

#[cfg(test)]
mod tests;
