//! Raft behind `campaign / propose / persisted / applied -> Effects`.
//!
//! Raft sees descriptors of batches, never their bytes: whoever carries the effects out keeps the bytes by
//! (term, index). One entry is one record batch, or one of raft's own, which takes no offset.

mod entry;
mod state;

pub use entry::{BatchDescriptor, Entry, EntryDataError, EntryKind, OWN_CONF_CHANGE, OWN_EMPTY, OWN_TRIM_PREFIX};
use raft::{Config, RawNode, StateRole};
use state::LogState;

use crate::types::{PeerId, RaftIndex, RaftTerm};

/// Index and term of the virtual snapshot that every group is born with; its first entry follows.
pub const BIRTH: (RaftIndex, RaftTerm) = (RaftIndex(1), RaftTerm(1));

/// What a replica must never forget. Synced when term or vote change; the commit index may lag.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    pub term: RaftTerm,
    /// Whom this replica voted for in `term`; `PeerId(0)`: nobody.
    pub vote: PeerId,
    pub commit: RaftIndex,
}

/// What a replica starts from: all of it read from disk, and all of it synced.
#[derive(Clone, Debug)]
pub struct Start {
    pub peer: PeerId,
    pub voters: Vec<PeerId>,
    pub hard_state: HardState,
    /// Index and term of the entry before the first in the log.
    pub before_first: (RaftIndex, RaftTerm),
    /// Index and term of the last entry; `before_first` when the log is empty.
    pub last: (RaftIndex, RaftTerm),
    /// Index and term of the entry up to which nothing needs to be applied.
    pub applied: (RaftIndex, RaftTerm),
    /// The entries after `applied`, up to `last`.
    pub unapplied: Vec<Entry>,
}

/// What must be done, in this order: `append` to the log and `hard_state` to the store, both synced before
/// `persisted(number)` is called; `committed` may be applied at once.
#[derive(Debug, Default)]
pub struct Effects {
    pub number: u64,
    pub append: Vec<Entry>,
    /// To be stored; synced when `must_sync`.
    pub hard_state: Option<HardState>,
    pub must_sync_hard_state: bool,
    pub committed: Vec<Entry>,
}

/// The proposal was refused: this replica does not lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the leader of term {term}")]
pub struct NotLeader {
    pub term: RaftTerm,
}

/// One replica of one raft group.
pub struct Replica {
    node: RawNode<LogState>,
}

impl Replica {
    /// # Panics
    /// When `start` contradicts itself: that is a bug of recovery, and no replica may run on it.
    pub fn new(start: Start) -> Self {
        let config = Config {
            id: start.peer.0,
            election_tick: 10,
            heartbeat_tick: 3,
            applied: start.applied.0.0,
            pre_vote: true,
            check_quorum: true,
            batch_append: true,
            // Bytes are limited by who holds them; raft counts descriptors only.
            max_uncommitted_size: raft::NO_LIMIT,
            max_size_per_msg: 64 * entry::DESCRIPTOR_LEN as u64,
            max_inflight_msgs: 32,
            ..Config::default()
        };
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let node = RawNode::new(&config, LogState::new(start), &logger).expect("the state given is consistent");
        Self { node }
    }

    /// Stands for election. A sole voter has won when this returns; its effects say so.
    pub fn campaign(&mut self) {
        self.node.campaign().expect("a local message is never refused");
    }

    pub fn is_leader(&self) -> bool {
        self.node.raft.state == StateRole::Leader
    }

    pub fn term(&self) -> RaftTerm {
        RaftTerm(self.node.raft.term)
    }

    pub fn last_index(&self) -> RaftIndex {
        RaftIndex(self.node.raft.raft_log.last_index())
    }

    pub fn commit_index(&self) -> RaftIndex {
        RaftIndex(self.node.raft.raft_log.committed)
    }

    /// Appends to the leader's log; the entry shows in the next effects.
    pub fn propose(&mut self, kind: EntryKind) -> Result<(RaftTerm, RaftIndex), NotLeader> {
        if !self.is_leader() {
            return Err(NotLeader { term: self.term() });
        }
        self.node.propose(Vec::new(), kind.encode()).map_err(|_| NotLeader { term: self.term() })?;
        Ok((self.term(), self.last_index()))
    }

    /// What is to be done now, if anything.
    pub fn effects(&mut self) -> Option<Effects> {
        if !self.node.has_ready() {
            return None;
        }
        let mut ready = self.node.ready();
        let decode = |e: raft::eraftpb::Entry| Entry::from_raft(&e).expect("raft gives back what was proposed");
        let append: Vec<Entry> = ready.take_entries().into_iter().map(decode).collect();
        let committed = ready.take_committed_entries().into_iter().map(decode).collect();
        let hard_state = ready.hs().map(|hs| HardState {
            term: RaftTerm(hs.term),
            vote: PeerId(hs.vote),
            commit: RaftIndex(hs.commit),
        });
        let effects = Effects {
            number: ready.number(),
            // Raft's own `must_sync` says yes whenever there are entries: those lie in the log.
            must_sync_hard_state: ready.hs().is_some_and(|hs| self.node.store().votes_otherwise(hs)),
            hard_state,
            committed,
            append,
        };
        self.node.mut_store().append(ready.entries(), &effects.append);
        if let Some(hs) = ready.hs() {
            self.node.mut_store().set_hard_state(hs.clone());
        }
        self.node.advance_append_async(ready);
        Some(effects)
    }

    /// Everything of the effects up to `number` is on disk.
    pub fn persisted(&mut self, number: u64) {
        self.node.on_persist_ready(number);
    }

    /// Everything up to `index` is applied: the descriptors up to there are dropped.
    pub fn applied(&mut self, index: RaftIndex) {
        self.node.advance_apply_to(index.0);
        self.node.mut_store().applied(index);
    }
}

#[cfg(test)]
mod tests;
