//! What a replica asks of those who run it.

use millstream_core::partition::BatchSequence;
use millstream_core::replica::{Entry, Fetch, HardState, Membership, Read, SnapshotMeta};
use millstream_core::types::{Offset, PeerId, RaftIndex, RaftTerm};

use super::outgoing::Outgoing;
use crate::log::{self, Checkpoint, LogEvent};

/// A part of the log on its way to the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flight {
    /// To be given to `flushed`.
    pub number: u64,
    pub(super) end: Checkpoint,
    /// A term or a vote goes with it.
    pub(super) must_sync_hard_state: bool,
}

/// Where a proposal stands in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proposed {
    pub term: RaftTerm,
    pub index: RaftIndex,
    pub base_offset: Offset,
}

/// What a follower took from its leader.
#[derive(Debug, PartialEq, Eq)]
pub struct Taken {
    /// What was proposed here at or after this index never comes true.
    pub from_index: RaftIndex,
    /// What stood at or after this offset is gone.
    pub from_offset: Offset,
    /// Batches of producers with an identity, in order.
    pub batches: Vec<BatchSequence>,
}

/// A member lacks entries that the log of its leader no longer has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NeededSnapshot {
    pub peer: PeerId,
    /// Of the leader that gives it.
    pub term: RaftTerm,
    pub meta: SnapshotMeta,
}

/// What became of a turn.
#[derive(Debug, Default)]
pub struct Work {
    /// Raft waits for this: the dirty files and the hard state must reach the disk, then `flushed(number)`.
    pub unsynced: Option<u64>,
    pub hard_state: Option<HardState>,
    /// The hard state must be synced before `flushed`.
    pub must_sync_hard_state: bool,
    pub committed: Vec<Entry>,
    /// What the store has to learn of the log.
    pub events: Vec<LogEvent>,
    /// What the last conf change in `committed` made: to be stored before any applied index of `committed`.
    pub membership: Option<(RaftIndex, Membership)>,
    pub taken: Vec<Taken>,
    /// May leave at once.
    pub outgoing: Vec<Outgoing>,
    /// To be brought to those who need them; the outcome is told by `snapshot_ended`.
    pub snapshots: Vec<NeededSnapshot>,
    /// To be read off the log and given to `fetched`.
    pub fetches: Vec<Fetch>,
    /// Answers to `read_index`.
    pub reads: Vec<Read>,
}

/// The replica takes no more work. It is opened again from disk.
#[derive(Debug, thiserror::Error)]
pub enum Halted {
    #[error("the log could not be written: {0}")]
    Log(#[from] log::LogError),
    #[error("a leader sent an entry that does not follow the one before it, at index {0}")]
    Gap(RaftIndex),
    /// What the store must know before the log is cut could not be written.
    #[error("the synced end could not be lowered")]
    Store,
}
