//! Share groups: where records are handed out, and where their state is kept.

use kafka_protocol::error::ResponseError;
use millstream_core::coordinator::group::share::ShareOffsetsError;
use millstream_core::coordinator::share_state::ShareStateError;
use millstream_core::share::{AcknowledgeError, ShareSessionError};

use super::of_coordinator;
use crate::coordinator::CoordinatorError;
use crate::share::ShareError;

pub fn of_share_session(error: ShareSessionError) -> ResponseError {
    match error {
        ShareSessionError::NotFound => ResponseError::ShareSessionNotFound,
        ShareSessionError::InvalidEpoch => ResponseError::InvalidShareSessionEpoch,
        ShareSessionError::LimitReached => ResponseError::ShareSessionLimitReached,
        ShareSessionError::AcknowledgesAtOnce => ResponseError::InvalidRequest,
    }
}

/// Why the offsets of a group are not changed, and what is said of it where Kafka says more than the code does.
pub fn of_share_offsets(error: &ShareOffsetsError) -> (ResponseError, Option<String>) {
    match error {
        ShareOffsetsError::GroupNotFound(message) => (ResponseError::GroupIdNotFound, Some(message.clone())),
        ShareOffsetsError::NonEmpty => (ResponseError::NonEmptyGroup, None),
    }
}

pub fn of_share(error: &ShareError) -> ResponseError {
    match error {
        ShareError::NotLeader => ResponseError::NotLeaderOrFollower,
        ShareError::UnknownPartition => ResponseError::UnknownTopicOrPartition,
        ShareError::GroupNotFound => ResponseError::GroupIdNotFound,
        ShareError::CoordinatorNotAvailable => ResponseError::CoordinatorNotAvailable,
        ShareError::Storage => ResponseError::KafkaStorageError,
        ShareError::OffsetNotAvailable => ResponseError::OffsetNotAvailable,
        ShareError::Refused(AcknowledgeError::NotAcquired | AcknowledgeError::RenewDisabled) => {
            ResponseError::InvalidRecordState
        }
        ShareError::Refused(AcknowledgeError::OutOfRange) => ResponseError::InvalidRequest,
        ShareError::Unsound => ResponseError::UnknownServerError,
    }
}

/// With the text that goes along.
pub fn of_share_coordinator(error: CoordinatorError) -> (ResponseError, String) {
    (of_coordinator(error), error.to_string())
}

/// The same of what a share coordinator decided (Kafka's `ShareCoordinatorShard`).
pub fn of_share_state(error: ShareStateError) -> (ResponseError, String) {
    let code = match error {
        ShareStateError::NegativePartition
        | ShareStateError::ReadUninitialized
        | ShareStateError::WriteUninitialized
        | ShareStateError::InvalidBatch => ResponseError::InvalidRequest,
        ShareStateError::FencedLeaderEpoch => ResponseError::FencedLeaderEpoch,
        ShareStateError::FencedStateEpoch => ResponseError::FencedStateEpoch,
        ShareStateError::UnknownPartition => ResponseError::UnknownTopicOrPartition,
    };
    (code, error.to_string())
}
