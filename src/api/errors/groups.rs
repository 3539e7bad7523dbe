//! Those of groups and their coordinators.

use kafka_protocol::error::ResponseError;
use millstream_core::coordinator::group::{
    CommitError, CommitPartitionError, ConsumerError, DeleteGroupError, DeletePartitionError, FetchError,
    HeartbeatError, JoinError, LeaveError, LeaveMemberError, OffsetDeleteError, SyncError,
};

use millstream_core::coordinator::group::streams::StreamsError;

use crate::coordinator::CoordinatorError;

/// Why a coordinator gave no reply (Kafka `CoordinatorOperationExceptionHelper`).
pub fn of_coordinator(error: CoordinatorError) -> ResponseError {
    match error {
        CoordinatorError::NotCoordinator => ResponseError::NotCoordinator,
        CoordinatorError::LoadInProgress => ResponseError::CoordinatorLoadInProgress,
        CoordinatorError::NotAvailable => ResponseError::CoordinatorNotAvailable,
        CoordinatorError::TooLarge => ResponseError::UnknownServerError,
        CoordinatorError::Producer(refused) => super::of_producer(&refused),
    }
}

/// The same for OffsetFetch: consumers before 3.9 know no COORDINATOR_NOT_AVAILABLE there and would fail.
pub fn of_coordinator_at_fetch(error: CoordinatorError) -> ResponseError {
    match error {
        CoordinatorError::NotAvailable => ResponseError::NotCoordinator,
        CoordinatorError::NotCoordinator
        | CoordinatorError::LoadInProgress
        | CoordinatorError::TooLarge
        | CoordinatorError::Producer(_) => of_coordinator(error),
    }
}

/// The same for OffsetCommit, which has a code of its own for what is too large.
pub fn of_coordinator_at_commit(error: CoordinatorError) -> ResponseError {
    match error {
        CoordinatorError::TooLarge => ResponseError::InvalidCommitOffsetSize,
        CoordinatorError::NotCoordinator
        | CoordinatorError::LoadInProgress
        | CoordinatorError::NotAvailable
        | CoordinatorError::Producer(_) => of_coordinator(error),
    }
}

/// The same for TxnOffsetCommit.
pub fn of_coordinator_at_transactional_commit(error: &CoordinatorError) -> ResponseError {
    of_coordinator_at_commit(*error)
}

/// The same for a marker: its writer knows leaders only, and writes it again.
pub fn of_coordinator_at_marker(error: &CoordinatorError) -> ResponseError {
    match error {
        CoordinatorError::NotCoordinator | CoordinatorError::LoadInProgress | CoordinatorError::NotAvailable => {
            ResponseError::NotLeaderOrFollower
        }
        CoordinatorError::TooLarge | CoordinatorError::Producer(_) => of_coordinator(*error),
    }
}

pub fn of_join(error: JoinError) -> ResponseError {
    match error {
        JoinError::InvalidGroupId => ResponseError::InvalidGroupId,
        JoinError::InvalidSessionTimeout => ResponseError::InvalidSessionTimeout,
        JoinError::MemberIdRequired => ResponseError::MemberIdRequired,
        JoinError::UnknownMember => ResponseError::UnknownMemberId,
        JoinError::FencedInstance => ResponseError::FencedInstanceId,
        JoinError::GroupFull => ResponseError::GroupMaxSizeReached,
        JoinError::InconsistentProtocol => ResponseError::InconsistentGroupProtocol,
        JoinError::GroupNotFound => ResponseError::GroupIdNotFound,
        JoinError::Superseded => ResponseError::RebalanceInProgress,
    }
}

pub fn of_streams_group(error: StreamsError) -> ResponseError {
    match error {
        StreamsError::GroupNotFound => ResponseError::GroupIdNotFound,
        StreamsError::GroupFull => ResponseError::GroupMaxSizeReached,
        StreamsError::UnknownMember => ResponseError::UnknownMemberId,
        StreamsError::FencedEpoch => ResponseError::FencedMemberEpoch,
        StreamsError::InvalidRequest => ResponseError::InvalidRequest,
        StreamsError::InvalidTopology => ResponseError::StreamsInvalidTopology,
    }
}

pub fn of_sync(error: SyncError) -> ResponseError {
    match error {
        SyncError::InvalidGroupId => ResponseError::InvalidGroupId,
        SyncError::UnknownMember => ResponseError::UnknownMemberId,
        SyncError::FencedInstance => ResponseError::FencedInstanceId,
        SyncError::IllegalGeneration => ResponseError::IllegalGeneration,
        SyncError::InconsistentProtocol => ResponseError::InconsistentGroupProtocol,
        SyncError::RebalanceInProgress => ResponseError::RebalanceInProgress,
    }
}

pub fn of_heartbeat(error: HeartbeatError) -> ResponseError {
    match error {
        HeartbeatError::InvalidGroupId => ResponseError::InvalidGroupId,
        HeartbeatError::UnknownMember => ResponseError::UnknownMemberId,
        HeartbeatError::FencedInstance => ResponseError::FencedInstanceId,
        HeartbeatError::IllegalGeneration => ResponseError::IllegalGeneration,
        HeartbeatError::RebalanceInProgress => ResponseError::RebalanceInProgress,
    }
}

pub fn of_leave(error: LeaveError) -> ResponseError {
    match error {
        LeaveError::InvalidGroupId => ResponseError::InvalidGroupId,
    }
}

pub fn of_leave_member(error: LeaveMemberError) -> ResponseError {
    match error {
        LeaveMemberError::UnknownMember => ResponseError::UnknownMemberId,
        LeaveMemberError::FencedInstance => ResponseError::FencedInstanceId,
    }
}

/// GROUP_ID_NOT_FOUND is known to clients of OffsetCommit from version 9 on.
pub fn of_commit(error: CommitError, version: i16) -> ResponseError {
    match error {
        CommitError::GroupNotFound if version >= 9 => ResponseError::GroupIdNotFound,
        CommitError::GroupNotFound | CommitError::IllegalGeneration => ResponseError::IllegalGeneration,
        CommitError::UnknownMember => ResponseError::UnknownMemberId,
        CommitError::FencedInstance => ResponseError::FencedInstanceId,
        CommitError::RebalanceInProgress => ResponseError::RebalanceInProgress,
        CommitError::StaleEpoch => ResponseError::StaleMemberEpoch,
        CommitError::UnsupportedVersion => ResponseError::UnsupportedVersion,
    }
}

pub fn of_commit_partition(error: CommitPartitionError) -> ResponseError {
    match error {
        CommitPartitionError::MetadataTooLarge => ResponseError::OffsetMetadataTooLarge,
    }
}

pub fn of_offset_delete(error: OffsetDeleteError) -> ResponseError {
    match error {
        OffsetDeleteError::InvalidGroupId => ResponseError::InvalidGroupId,
        OffsetDeleteError::GroupNotFound => ResponseError::GroupIdNotFound,
        OffsetDeleteError::NonEmpty => ResponseError::NonEmptyGroup,
    }
}

pub fn of_delete_partition(error: DeletePartitionError) -> ResponseError {
    match error {
        DeletePartitionError::Subscribed => ResponseError::GroupSubscribedToTopic,
    }
}

pub fn of_delete_group(error: DeleteGroupError) -> ResponseError {
    match error {
        DeleteGroupError::GroupNotFound => ResponseError::GroupIdNotFound,
        DeleteGroupError::NonEmpty => ResponseError::NonEmptyGroup,
    }
}

/// The same for FindCoordinator: a coordinator that is nowhere yet is looked for again.
pub fn of_coordinator_at_find(error: CoordinatorError) -> ResponseError {
    match error {
        CoordinatorError::NotCoordinator
        | CoordinatorError::LoadInProgress
        | CoordinatorError::NotAvailable
        | CoordinatorError::TooLarge
        | CoordinatorError::Producer(_) => ResponseError::CoordinatorNotAvailable,
    }
}

pub fn of_offset_fetch(error: FetchError) -> ResponseError {
    match error {
        FetchError::UnknownMember => ResponseError::UnknownMemberId,
        FetchError::StaleEpoch => ResponseError::StaleMemberEpoch,
        FetchError::IllegalGeneration => ResponseError::IllegalGeneration,
    }
}

pub fn of_consumer_group(error: ConsumerError) -> ResponseError {
    match error {
        ConsumerError::GroupNotFound => ResponseError::GroupIdNotFound,
        ConsumerError::GroupFull => ResponseError::GroupMaxSizeReached,
        ConsumerError::UnknownMember => ResponseError::UnknownMemberId,
        ConsumerError::FencedEpoch => ResponseError::FencedMemberEpoch,
        ConsumerError::UnreleasedInstance => ResponseError::UnreleasedInstanceId,
        ConsumerError::FencedInstance => ResponseError::FencedInstanceId,
        ConsumerError::InvalidPattern => ResponseError::InvalidRegularExpression,
    }
}
