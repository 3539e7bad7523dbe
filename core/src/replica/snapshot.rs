//! Snapshots: what stands for the part of the log that is no more. Raft knows where it ends and who the members are; all
//! else of it is its carrier's.

use raft::SnapshotStatus;
use raft::eraftpb::Snapshot;

use super::{Membership, Replica};
use crate::types::{PeerId, RaftIndex, RaftTerm};

/// A snapshot as raft sees it. Its index is always that before the leader's first entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotMeta {
    /// Index and term of the last entry that it stands for.
    pub index: RaftIndex,
    pub term: RaftTerm,
    /// The members, as of the entry at `membership_index`: that may lie beyond `index`, for the leader tells what it
    /// knows. Conf changes up to there are not applied again.
    pub membership: Membership,
    pub membership_index: RaftIndex,
}

impl SnapshotMeta {
    /// Layout, big endian: index, term, membership index u64; membership.
    pub fn encode(&self) -> Vec<u8> {
        let words = [self.index.0, self.term.0, self.membership_index.0];
        let mut out: Vec<u8> = words.into_iter().flat_map(u64::to_be_bytes).collect();
        out.extend(self.membership.encode());
        out
    }

    /// Reads what `encode` wrote; `None`: it is none.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (words, membership) = bytes.split_first_chunk::<24>()?;
        let ([index, term, membership_index], []) = words.as_chunks::<8>() else { return None };
        let membership = Membership::decode(membership).ok()?;
        let meta = Self {
            index: RaftIndex(u64::from_be_bytes(*index)),
            term: RaftTerm(u64::from_be_bytes(*term)),
            membership,
            membership_index: RaftIndex(u64::from_be_bytes(*membership_index)),
        };
        // Raft takes index 0 for no snapshot at all.
        (meta.index.0 != 0).then_some(meta)
    }

    pub(super) fn to_raft(&self) -> Snapshot {
        let mut snapshot = Snapshot::default();
        let metadata = snapshot.mut_metadata();
        metadata.set_index(self.index.0);
        metadata.set_term(self.term.0);
        metadata.set_conf_state(self.membership.to_raft());
        snapshot.set_data(self.encode().into());
        snapshot
    }

    pub(super) fn from_raft(snapshot: &Snapshot) -> Option<Self> {
        Self::decode(&snapshot.data)
    }
}

impl Replica {
    /// Whether a snapshot that was sent has arrived and is installed. Until this is told, or the receiver says so by
    /// itself, the peer is sent nothing: one that is lost must be reported.
    pub fn report_snapshot(&mut self, peer: PeerId, is_installed: bool) {
        let status = if is_installed { SnapshotStatus::Finish } else { SnapshotStatus::Failure };
        self.node.report_snapshot(peer.0, status);
    }

    /// The log has lost its beginning: `before_first` are index and term of the entry before its first now. It is
    /// applied.
    pub fn compacted(&mut self, before_first: (RaftIndex, RaftTerm)) {
        self.node.mut_store().compacted(before_first);
    }

    /// Takes a snapshot that raft gave out for installing.
    pub(super) fn install(&mut self, snapshot: &Snapshot) -> Option<SnapshotMeta> {
        if snapshot.is_empty() {
            return None;
        }
        let meta = SnapshotMeta::from_raft(snapshot).expect("read when it came");
        self.node.mut_store().install(&meta);
        self.installing = Some(meta.index);
        self.changed = None;
        Some(meta)
    }

    /// What a snapshot stands for is applied as soon as it is on disk.
    pub(super) fn apply_installed(&mut self) {
        let Some(index) = self.installing else { return };
        if self.node.raft.raft_log.persisted >= index.0 {
            self.installing = None;
            if self.node.raft.raft_log.applied < index.0 {
                self.node.advance_apply_to(index.0);
            }
        }
    }
}
