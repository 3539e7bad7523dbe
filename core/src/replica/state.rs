//! What raft may ask of the log: the entries that are not yet applied, and the ends.

use std::collections::VecDeque;

use raft::eraftpb::{ConfState, Entry as RaftEntry, HardState, Snapshot};
use raft::{Error, GetEntriesContext, RaftState, Storage, StorageError};

use super::{Entry, Start};
use crate::types::RaftIndex;

/// The log as raft sees it. Entries up to `applied` are not kept: a sole voter never asks for them.
pub(super) struct LogState {
    hard_state: HardState,
    conf_state: ConfState,
    /// Index and term of the entry before the first.
    before_first: (u64, u64),
    /// Index and term of the entry before `tail`.
    before_tail: (u64, u64),
    /// The entries after the applied one.
    tail: VecDeque<RaftEntry>,
}

impl LogState {
    pub(super) fn new(start: Start) -> Self {
        let mut hard_state = HardState::default();
        let (last_index, last_term) = (start.last.0.0, start.last.1.0);
        // A term that the log shows was entered, whatever the store says; the vote in it is unknown.
        let raised = last_term > start.hard_state.term.0;
        hard_state.term = start.hard_state.term.0.max(last_term).max(start.before_first.1.0);
        hard_state.vote = if raised { 0 } else { start.hard_state.vote.0 };
        hard_state.commit = start.applied.0.0.max(start.hard_state.commit.0.min(last_index));
        let mut conf_state = ConfState::default();
        conf_state.set_voters(start.voters.iter().map(|p| p.0).collect());
        let tail: VecDeque<RaftEntry> = start.unapplied.iter().map(|e| e.to_raft()).collect();
        let before_tail = (start.applied.0.0, start.applied.1.0);
        let log_end = tail.back().map_or(before_tail.0, |e| e.index);
        assert_eq!(log_end, last_index, "the entries given end where the log ends");
        Self {
            hard_state,
            conf_state,
            before_first: (start.before_first.0.0, start.before_first.1.0),
            before_tail,
            tail,
        }
    }

    /// Whether another term or vote is noted than this: the commit index alone may lag.
    pub(super) fn votes_otherwise(&self, than: &HardState) -> bool {
        (self.hard_state.term, self.hard_state.vote) != (than.term, than.vote)
    }

    pub(super) fn set_hard_state(&mut self, hard_state: HardState) {
        self.hard_state = hard_state;
    }

    /// Adds what raft gave out for appending. `kept` are raft's own entries if it still holds them.
    pub(super) fn append(&mut self, kept: &[RaftEntry], entries: &[Entry]) {
        debug_assert!(kept.is_empty(), "the entries were taken out");
        for e in entries {
            let expected = self.last() + 1;
            assert_eq!(e.index.0, expected, "a sole voter's log never goes back");
            self.tail.push_back(e.to_raft());
        }
    }

    pub(super) fn applied(&mut self, index: RaftIndex) {
        while self.tail.front().is_some_and(|e| e.index <= index.0) {
            if let Some(e) = self.tail.pop_front() {
                self.before_tail = (e.index, e.term);
            }
        }
    }

    fn last(&self) -> u64 {
        self.tail.back().map_or(self.before_tail.0, |e| e.index)
    }
}

impl Storage for LogState {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(RaftState { hard_state: self.hard_state.clone(), conf_state: self.conf_state.clone() })
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> raft::Result<Vec<RaftEntry>> {
        if low <= self.before_tail.0 {
            return Err(Error::Store(StorageError::Compacted));
        }
        let first = self.before_tail.0 + 1;
        let at = usize::try_from(low - first).map_err(|_| Error::Store(StorageError::Unavailable))?;
        let count = usize::try_from(high - low).map_err(|_| Error::Store(StorageError::Unavailable))?;
        let mut entries: Vec<RaftEntry> = self.tail.iter().skip(at).take(count).cloned().collect();
        if entries.len() < count {
            return Err(Error::Store(StorageError::Unavailable));
        }
        raft::util::limit_size(&mut entries, max_size.into());
        Ok(entries)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        if index == self.before_tail.0 {
            return Ok(self.before_tail.1);
        }
        if index == self.before_first.0 {
            return Ok(self.before_first.1);
        }
        if index < self.before_tail.0 {
            return Err(Error::Store(StorageError::Compacted));
        }
        let at = usize::try_from(index - self.before_tail.0 - 1).unwrap_or(usize::MAX);
        self.tail.get(at).map(|e| e.term).ok_or(Error::Store(StorageError::Unavailable))
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.before_first.0 + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last())
    }

    fn snapshot(&self, _request_index: u64, _to: u64) -> raft::Result<Snapshot> {
        // Only a leader with followers asks.
        Err(Error::Store(StorageError::SnapshotTemporarilyUnavailable))
    }
}
