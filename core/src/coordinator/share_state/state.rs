//! What is kept of one share-partition.

use crate::coordinator::group::GroupId;
use crate::share::StateBatch;
use crate::types::{LeaderEpoch, Offset, Timestamp, TopicId};

/// Nobody said how many records are done with (Kafka's `UNINITIALIZED_DELIVERY_COMPLETE_COUNT`).
pub const NOT_COUNTED: i32 = -1;

/// A group's view of a partition.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShareStateKey {
    pub group: GroupId,
    pub topic: TopicId,
    pub partition: i32,
}

/// A snapshot (Kafka's `ShareGroupOffset`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareState {
    /// One more with each snapshot; changes say which one they are for.
    pub snapshot_epoch: i32,
    /// Of the group, when it began here: whoever writes under an earlier one is fenced.
    pub state_epoch: i32,
    /// Of the partition's leader that last read the state to go on with it.
    pub leader_epoch: LeaderEpoch,
    /// All before are done with. `None`: the group has not begun to read.
    pub start: Option<Offset>,
    /// Records from the start on that are done with; [`NOT_COUNTED`] if nobody said.
    pub delivery_complete: i32,
    pub created_at: Timestamp,
    pub written_at: Timestamp,
    /// In order, disjoint, none before the start.
    pub batches: Vec<StateBatch>,
}

/// A state without its batches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareSummary {
    pub state_epoch: i32,
    pub leader_epoch: LeaderEpoch,
    pub start: Option<Offset>,
    pub delivery_complete: i32,
}

impl ShareState {
    pub(super) fn summary(&self) -> ShareSummary {
        let Self { state_epoch, leader_epoch, start, delivery_complete, .. } = *self;
        ShareSummary { state_epoch, leader_epoch, start, delivery_complete }
    }
}
