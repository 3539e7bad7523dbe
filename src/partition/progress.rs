//! How far the replicas of a partition are, as its leader knows it.

use millstream_core::types::{Offset, PartitionId, PeerId, RaftIndex};

use super::shard::{Owned, Shard};

/// One replica, seen from the leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplicaProgress {
    pub peer: PeerId,
    /// While the members change: before and after.
    pub is_voter: bool,
    /// The offset after the last record that it has on disk, as far as it said.
    pub log_end: Offset,
    /// It was heard of lately.
    pub is_active: bool,
}

impl Shard {
    /// Empty where this node does not lead.
    pub(super) fn progress(&self, id: PartitionId) -> Vec<ReplicaProgress> {
        let owned = self.owned.get(&id).filter(|owned| owned.shared.is_leading());
        owned.map(Owned::progress).unwrap_or_default()
    }
}

impl Owned {
    fn progress(&self) -> Vec<ReplicaProgress> {
        let Some(group) = &self.group else { return Vec::new() };
        let log = group.log();
        let end_of = |matched: RaftIndex| {
            if matched >= log.last_index() {
                return group.end_offset();
            }
            // Before the first entry that is still there, or of one that cannot be read now: the start is not too far.
            let entry = log.entries(matched, matched.next(), 1).ok().and_then(|entries| entries.into_iter().next());
            entry.map_or_else(|| log.first_offset().min(group.end_offset()), |entry| entry.next_offset())
        };
        let membership = group.replica().membership();
        let is_settled = |peer| !membership.is_joint() || membership.voters_outgoing.contains(&peer);
        let replicas = group.replica().progress().map(|(peer, progress)| ReplicaProgress {
            peer,
            is_voter: membership.voters.contains(&peer) && is_settled(peer),
            log_end: end_of(progress.matched),
            is_active: progress.is_recently_active,
        });
        replicas.collect()
    }
}
