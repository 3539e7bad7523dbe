//! What can be asked of the share coordinator, and what it answers.

use std::sync::Arc;

use super::state::{ShareState, ShareStateKey, ShareSummary};
use crate::coordinator::ids::ReplyToken;
use crate::share::StateBatch;
use crate::types::{LeaderEpoch, Offset, TopicId, TopicName};

/// One command to one shard, about one share-partition of its.
///
/// `is_known`: there is such a partition, as far as this node knows. An epoch that is `None` (-1 on the wire) fences
/// nobody and is fenced by nobody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    Initialize(InitializeState),
    Read(ReadState),
    Write(WriteState),
    Delete(DeleteState),
    ReadSummary(ReadSummary),
    /// The shard was loaded and this node leads its partition.
    Loaded,
    /// These topics are gone, and with them what is kept of their partitions.
    TopicsDeleted {
        topics: Arc<[(TopicName, TopicId)]>,
        /// Goes on behind there.
        after: Option<ShareStateKey>,
    },
}

/// The group begins, or begins anew somewhere else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitializeState {
    pub token: ReplyToken,
    pub key: ShareStateKey,
    pub is_known: bool,
    pub state_epoch: Option<i32>,
    /// `None`: where the group's settings say, when it is first read from.
    pub start: Option<Offset>,
}

/// The partition's leader goes on with the state; those before it are fenced from then on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadState {
    pub token: ReplyToken,
    pub key: ShareStateKey,
    pub is_known: bool,
    pub leader_epoch: Option<LeaderEpoch>,
}

/// The partition's leader says what became of records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriteState {
    pub token: ReplyToken,
    pub key: ShareStateKey,
    pub is_known: bool,
    pub state_epoch: Option<i32>,
    pub leader_epoch: Option<LeaderEpoch>,
    /// `None`, and one that is before the one that is known: as before.
    pub start: Option<Offset>,
    pub delivery_complete: i32,
    pub batches: Vec<StateBatch>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteState {
    pub token: ReplyToken,
    pub key: ShareStateKey,
    pub is_known: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadSummary {
    pub token: ReplyToken,
    pub key: ShareStateKey,
    pub is_known: bool,
}

/// The answer to a command, of the same name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    Initialize(Result<(), ShareStateError>),
    Read(Result<ShareState, ShareStateError>),
    Write(Result<(), ShareStateError>),
    Delete(Result<(), ShareStateError>),
    ReadSummary(Result<ShareSummary, ShareStateError>),
}

/// Why nothing becomes of a command. Texts that begin with a capital are Kafka's, and go to clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShareStateError {
    #[error("The partition id cannot be a negative number.")]
    NegativePartition,
    #[error("Read operation on uninitialized share partition not allowed.")]
    ReadUninitialized,
    #[error("Write operation on uninitialized share partition not allowed.")]
    WriteUninitialized,
    /// Kafka keeps such a batch.
    #[error("a state batch ends before it begins")]
    InvalidBatch,
    #[error("a later leader of the partition has read the state")]
    FencedLeaderEpoch,
    #[error("the group has begun anew")]
    FencedStateEpoch,
    #[error("there is no such partition")]
    UnknownPartition,
}
