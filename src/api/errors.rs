//! Kafka's error codes for the errors of the rooms below. They are chosen here and nowhere else, by matches without
//! `_`, so that a new error cannot be forgotten.

mod configs;
mod groups;
mod share;
mod telemetry;
mod transactions;

use kafka_protocol::error::ResponseError;
use millstream_core::controller::{CreatePartitionsError, CreateTopicError, DeleteTopicError, MoveError};
use millstream_core::fetch::SessionError;
use millstream_core::partition::ProducerError;
use millstream_core::record::BatchProblem;

use crate::controller::{ControllerError, ProducerIdError};
use crate::partition::{AppendError, ListError, ReadRefused};
use crate::protocol::StrBytes;

pub use configs::*;
pub use groups::*;
pub use share::*;
pub use telemetry::*;
pub use transactions::*;

/// Most bytes of an error's message. Messages repeat what the client sent; a string on the wire has an end.
const MESSAGE_LEN_MAX: usize = 1_000;
/// TOPIC_DELETION_DISABLED came with this version of DeleteTopics.
const DELETION_DISABLED_FROM: i16 = 3;

/// What a produced batch was refused for.
pub fn of_batch_problem(problem: &BatchProblem) -> ResponseError {
    match problem {
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
        AppendError::Producer(refused) => of_producer(refused),
        AppendError::NotEnoughReplicas => ResponseError::NotEnoughReplicas,
        AppendError::NotEnoughReplicasAfterAppend => ResponseError::NotEnoughReplicasAfterAppend,
        AppendError::OffsetOutOfRange => ResponseError::OffsetOutOfRange,
    }
}

/// Why a batch of a producer, or the end of its transaction, did not.
pub fn of_producer(error: &ProducerError) -> ResponseError {
    match error {
        ProducerError::StaleEpoch { .. } => ResponseError::InvalidProducerEpoch,
        ProducerError::OutOfOrder { .. } => ResponseError::OutOfOrderSequenceNumber,
        ProducerError::NotInTransaction { .. } | ProducerError::OutsideTransaction { .. } => {
            ResponseError::InvalidTxnState
        }
        ProducerError::CoordinatorFenced { .. } => ResponseError::TransactionCoordinatorFenced,
    }
}

/// The same where a coordinator was to append it, to its own log (`CoordinatorOperationExceptionHelper`).
pub fn of_append_at_coordinator(error: &AppendError) -> ResponseError {
    match error {
        AppendError::NotLeader | AppendError::Storage => ResponseError::NotCoordinator,
        AppendError::NotEnoughReplicas | AppendError::NotEnoughReplicasAfterAppend => {
            ResponseError::CoordinatorNotAvailable
        }
        AppendError::Producer(_) | AppendError::OffsetOutOfRange => of_append(error),
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

/// The metadata cannot be changed now; the client may try again.
pub fn of_controller(error: &ControllerError) -> ResponseError {
    match error {
        // Kafka's answer when no controller was found in time.
        ControllerError::NotController { leader: None } => ResponseError::RequestTimedOut,
        ControllerError::NotController { leader: Some(_) } | ControllerError::NotAvailable => {
            ResponseError::NotController
        }
    }
}

pub fn of_create_topic(error: &CreateTopicError) -> ResponseError {
    match error {
        CreateTopicError::Duplicate
        | CreateTopicError::Metadata
        | CreateTopicError::AssignedAndReplicationFactor
        | CreateTopicError::AssignedAndPartitions => ResponseError::InvalidRequest,
        CreateTopicError::TooManyPartitions => ResponseError::PolicyViolation,
        CreateTopicError::Name(_) | CreateTopicError::Collision { .. } => ResponseError::InvalidTopicException,
        CreateTopicError::Exists(_) => ResponseError::TopicAlreadyExists,
        CreateTopicError::NullConfigs(_) | CreateTopicError::ConfigTooLong | CreateTopicError::Config(_) => {
            ResponseError::InvalidConfig
        }
        CreateTopicError::Assignment(_) => ResponseError::InvalidReplicaAssignment,
        CreateTopicError::ReplicationFactor | CreateTopicError::Placement { .. } => {
            ResponseError::InvalidReplicationFactor
        }
        CreateTopicError::Partitions => ResponseError::InvalidPartitions,
    }
}

pub fn of_delete_topic(error: &DeleteTopicError, version: i16) -> ResponseError {
    match error {
        DeleteTopicError::Disabled if version < DELETION_DISABLED_FROM => ResponseError::InvalidRequest,
        DeleteTopicError::Disabled => ResponseError::TopicDeletionDisabled,
        DeleteTopicError::NoNameNoId
        | DeleteTopicError::NameAndId
        | DeleteTopicError::DuplicateName
        | DeleteTopicError::DuplicateId
        | DeleteTopicError::NamedById => ResponseError::InvalidRequest,
        DeleteTopicError::UnknownName => ResponseError::UnknownTopicOrPartition,
        DeleteTopicError::UnknownId => ResponseError::UnknownTopicId,
    }
}

pub fn of_create_partitions(error: &CreatePartitionsError) -> ResponseError {
    match error {
        CreatePartitionsError::Duplicate => ResponseError::InvalidRequest,
        CreatePartitionsError::UnknownTopic => ResponseError::UnknownTopicOrPartition,
        CreatePartitionsError::Already(_)
        | CreatePartitionsError::NoIncrease { .. }
        | CreatePartitionsError::GroupsTopic(_) => ResponseError::InvalidPartitions,
        // As for CreateTopics; Kafka has no word for it here.
        CreatePartitionsError::TooManyPartitions => ResponseError::PolicyViolation,
        CreatePartitionsError::AssignmentCount { .. } | CreatePartitionsError::Assignment(_) => {
            ResponseError::InvalidReplicaAssignment
        }
        CreatePartitionsError::Placement(_) => ResponseError::InvalidReplicationFactor,
    }
}

pub fn of_move(error: &MoveError) -> ResponseError {
    match error {
        MoveError::UnknownTopic(_) | MoveError::UnknownPartition(..) => ResponseError::UnknownTopicOrPartition,
        MoveError::Assignment(_) => ResponseError::InvalidReplicaAssignment,
        MoveError::NotInProgress => ResponseError::NoReassignmentInProgress,
        MoveError::ReplicationFactor(..) => ResponseError::InvalidReplicationFactor,
    }
}

/// Why there is no producer id: one may be had later, or never again.
pub fn of_producer_id(error: &ProducerIdError) -> ResponseError {
    match error {
        ProducerIdError::Controller(ControllerError::NotController { .. } | ControllerError::NotAvailable) => {
            ResponseError::CoordinatorLoadInProgress
        }
        ProducerIdError::Exhausted(_) => ResponseError::UnknownServerError,
    }
}

/// Kafka's own words for what comes of an election (`Errors`).
pub fn words(error: ResponseError) -> String {
    match error {
        ResponseError::ElectionNotNeeded => "Leader election not needed for topic partition.".to_owned(),
        ResponseError::PreferredLeaderNotAvailable => "The preferred leader was not available.".to_owned(),
        ResponseError::EligibleLeadersNotAvailable => "Eligible topic partition leaders are not available.".to_owned(),
        ResponseError::RequestTimedOut => "The request timed out.".to_owned(),
        other => other.to_string(),
    }
}

/// An error's words, as far as they fit.
pub fn message(error: &impl std::fmt::Display) -> StrBytes {
    let mut text = error.to_string();
    if let Some(end) = (0..=MESSAGE_LEN_MAX).rev().find(|end| text.is_char_boundary(*end)) {
        text.truncate(end);
    }
    StrBytes::from_string(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_has_an_end_and_is_whole_text() {
        assert_eq!(&*message(&"short"), "short");
        assert_eq!(message(&"x".repeat(40_000)).len(), MESSAGE_LEN_MAX);
        assert_eq!(message(&"\u{20ac}".repeat(1_000)).len(), MESSAGE_LEN_MAX - 1);
    }
}
