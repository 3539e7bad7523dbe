//! Snapshots: how a replica catches up whose leader's log no longer reaches back to where it ends.
//!
//! Raft of the leader says who needs one. The leader offers it by a call: what is known of the log before its first
//! entry, and which compacted segments stand for it. The receiver fetches those by further calls, a piece at a time,
//! puts its new log together beside the old one, exchanges the two between two turns of its shard, and only then
//! answers. Raft of the receiver sees nothing of it: it is opened again on the new log. All entries from the leader's
//! first on go as ordinary appends.
//!
//! A fetch has a bound of its own, and is throttled like the entries for those who catch up (`throttle`).

mod give;
mod take;
mod wire;

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use millstream_core::types::{NodeId, PartitionId, PeerId, RaftTerm};
use uuid::Uuid;

use crate::log::CompactedSegment;

pub(super) use give::SnapshotEnded;
pub(super) use take::Verdict;
pub(super) use wire::{Offer, room};

/// The answer of another node, or why there is none.
pub type Answer = Pin<Box<dyn Future<Output = Result<Bytes, String>> + Send>>;

/// Asks another node's partitions (`Partitions::answer`). Ends by itself when no answer comes.
pub type Caller = Arc<dyn Fn(NodeId, Bytes) -> Answer + Send + Sync>;

/// Snapshots that a node gives, and such that it takes, at a time. More: raft asks again.
const AT_ONCE_MAX: usize = 4;

/// What a node has under way.
#[derive(Default)]
pub(super) struct Snapshots {
    inner: Mutex<UnderWay>,
}

#[derive(Default)]
struct UnderWay {
    offered: HashMap<Uuid, Offered>,
    /// Who gives it, and in which term.
    taking: HashMap<PartitionId, (PeerId, RaftTerm)>,
    /// Whose compacted segments were fetched in part since the start: generations count within a term of a leader.
    fetched: HashMap<PartitionId, (PeerId, RaftTerm)>,
}

/// A snapshot that was offered and not yet answered.
struct Offered {
    id: PartitionId,
    to: PeerId,
    segments: Arc<Vec<CompactedSegment>>,
}

/// An offer's place; given up when it is dropped.
struct Given {
    number: Uuid,
    snapshots: Arc<Snapshots>,
}

impl Drop for Given {
    fn drop(&mut self) {
        self.snapshots.lock().offered.remove(&self.number);
    }
}

/// The place of one that is taken; given up when it is dropped.
struct Taking {
    id: PartitionId,
    snapshots: Arc<Snapshots>,
}

impl Drop for Taking {
    fn drop(&mut self) {
        self.snapshots.lock().taking.remove(&self.id);
    }
}

impl Snapshots {
    fn lock(&self) -> MutexGuard<'_, UnderWay> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the partition's compacted segments are being fetched: they should stay.
    pub fn is_offered(&self, id: PartitionId) -> bool {
        self.lock().offered.values().any(|offered| offered.id == id)
    }

    /// `None`: the peer is offered one already, or too many others are.
    fn give(self: &Arc<Self>, number: Uuid, offered: Offered) -> Option<Given> {
        let mut under_way = self.lock();
        let is_same = |other: &Offered| other.id == offered.id && other.to == offered.to;
        if under_way.offered.len() >= AT_ONCE_MAX || under_way.offered.values().any(is_same) {
            return None;
        }
        under_way.offered.insert(number, offered);
        Some(Given { number, snapshots: self.clone() })
    }

    /// The peer and the segments of an offer.
    fn offered(&self, number: Uuid) -> Option<(PeerId, Arc<Vec<CompactedSegment>>)> {
        self.lock().offered.get(&number).map(|offered| (offered.to, offered.segments.clone()))
    }

    /// The partition of an offer.
    fn partition_of(&self, number: Uuid) -> Option<PartitionId> {
        self.lock().offered.get(&number).map(|offered| offered.id)
    }

    /// `None`: one is being taken already, or too many others are.
    fn take(self: &Arc<Self>, id: PartitionId, from: (PeerId, RaftTerm)) -> Option<Taking> {
        let mut under_way = self.lock();
        if under_way.taking.len() >= AT_ONCE_MAX || under_way.taking.contains_key(&id) {
            return None;
        }
        under_way.taking.insert(id, from);
        Some(Taking { id, snapshots: self.clone() })
    }

    /// What is fetched from now on is of this leader. True: so is what was fetched before.
    fn fetch_from(&self, id: PartitionId, from: (PeerId, RaftTerm)) -> bool {
        self.lock().fetched.insert(id, from) == Some(from)
    }

    /// Nothing that was fetched is left. True: something was.
    fn forget_fetched(&self, id: PartitionId) -> bool {
        self.lock().fetched.remove(&id).is_some()
    }
}
