//! What the leaders of partitions need of the share coordinators.

use std::pin::Pin;
use std::sync::Arc;

use millstream_core::share::{StateBatch, StateWrite};
use millstream_core::types::{LeaderEpoch, Offset, PartitionId};

use super::ShareError;

/// A group's view of a partition.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ShareKey {
    pub group: Arc<str>,
    pub id: PartitionId,
}

/// What a share coordinator keeps of a share-partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadState {
    /// To be given with each write.
    pub state_epoch: i32,
    /// `None`: the group has not begun to read.
    pub start: Option<Offset>,
    pub batches: Vec<StateBatch>,
}

/// An answer that is waited for.
pub type Answer<T> = Pin<Box<dyn Future<Output = Result<T, ShareError>> + Send>>;

/// The way to the share coordinators, on whatever node they are. A coordinator fences leaders older than `epoch`:
/// [`ShareError::NotLeader`] to them.
pub trait ShareStates: Send + Sync {
    fn read(&self, key: ShareKey, epoch: LeaderEpoch) -> Answer<ReadState>;

    /// Ends when the write is replicated, or is known to have failed.
    fn write(&self, key: ShareKey, epoch: LeaderEpoch, state_epoch: i32, write: StateWrite) -> Answer<()>;
}
