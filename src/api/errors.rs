//! Kafka's error codes for the errors of the rooms below. They are chosen here and nowhere else, by matches without
//! `_`, so that a new error cannot be forgotten.
use kafka_protocol::error::ResponseError;
use millstream_core::fetch::SessionError;
use millstream_core::partition::ProducerError;
use millstream_core::record::{BatchError, BatchProblem};

use crate::partition::{AppendError, ListError, ReadRefused};

/// What a produced batch was refused for.
pub fn of_batch_problem(problem: &BatchProblem) -> ResponseError {
    match problem {
        BatchProblem::Corrupt(BatchError::Magic(_)) => ResponseError::InvalidRecord,
        BatchProblem::Corrupt(_) => ResponseError::CorruptMessage,
        BatchProblem::TooLarge { .. } | BatchProblem::InflatesTooLarge { .. } => ResponseError::MessageTooLarge,
        BatchProblem::LargerThanSegment { .. } => ResponseError::RecordListTooLarge,
        BatchProblem::UnsupportedCompression => ResponseError::UnsupportedCompressionType,
        BatchProblem::Invalid(_) | BatchProblem::InvalidRecords { .. } => ResponseError::InvalidRecord,
        BatchProblem::InvalidTimestamps { .. } => ResponseError::InvalidTimestamp,
    }
}

/// Why a batch did not get into the log. Never UNKNOWN_SERVER_ERROR: the Java client would reorder (KAFKA-14034).
pub fn of_append(error: &AppendError) -> ResponseError {
    match error {
        AppendError::NotLeader => ResponseError::NotLeaderOrFollower,
        AppendError::Storage => ResponseError::KafkaStorageError,
        AppendError::Producer(ProducerError::StaleEpoch { .. }) => ResponseError::InvalidProducerEpoch,
        AppendError::Producer(ProducerError::OutOfOrder { .. }) => ResponseError::OutOfOrderSequenceNumber,
        AppendError::OffsetOutOfRange => ResponseError::OffsetOutOfRange,
    }
}

pub fn of_read(refused: &ReadRefused) -> ResponseError {
    match refused {
        ReadRefused::NotLeader => ResponseError::NotLeaderOrFollower,
        // Cold is asked again where waiting is allowed; it does not reach a client.
        ReadRefused::Storage | ReadRefused::Cold => ResponseError::KafkaStorageError,
        ReadRefused::FencedEpoch { .. } => ResponseError::FencedLeaderEpoch,
        ReadRefused::UnknownEpoch { .. } => ResponseError::UnknownLeaderEpoch,
        ReadRefused::OutOfRange { .. } => ResponseError::OffsetOutOfRange,
    }
}

/// ListOffsets before version 5 knows no OFFSET_NOT_AVAILABLE.
pub fn of_list(error: &ListError, version: i16) -> ResponseError {
    match error {
        ListError::Refused(refused) => of_read(refused),
        ListError::NotAvailable if version < 5 => ResponseError::LeaderNotAvailable,
        ListError::NotAvailable => ResponseError::OffsetNotAvailable,
    }
}

pub fn of_fetch_session(error: SessionError) -> ResponseError {
    match error {
        SessionError::IdNotFound => ResponseError::FetchSessionIdNotFound,
        SessionError::InvalidEpoch => ResponseError::InvalidFetchSessionEpoch,
        SessionError::TopicId => ResponseError::FetchSessionTopicIdError,
    }
}
