//! Share groups where records are handed out.

use kafka_protocol::error::ResponseError;
use millstream_core::share::{AcknowledgeError, ShareSessionError};

use crate::share::ShareError;

pub fn of_share_session(error: ShareSessionError) -> ResponseError {
    match error {
        ShareSessionError::NotFound => ResponseError::ShareSessionNotFound,
        ShareSessionError::InvalidEpoch => ResponseError::InvalidShareSessionEpoch,
        ShareSessionError::LimitReached => ResponseError::ShareSessionLimitReached,
        ShareSessionError::AcknowledgesAtOnce => ResponseError::InvalidRequest,
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
