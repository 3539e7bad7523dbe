//! What raft may ask of the log: the entries that are not yet applied, the terms, and the ends.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};

use raft::eraftpb::{Entry as RaftEntry, HardState, Snapshot};
use raft::{Error, GetEntriesContext, RaftState, Storage, StorageError};

use super::{Entry, EntryKind, Fetch, Membership, SnapshotMeta, Start};
use crate::types::{RaftIndex, RaftTerm};

/// Asks of raft for one place of the log that are remembered. One that is dropped is asked again with the next
/// heartbeat.
const WAITING_MAX: usize = 16;

/// The log as raft sees it. Entries up to `applied` are not kept: what a follower still needs of them is fetched.
pub(super) struct LogState {
    hard_state: HardState,
    membership: Membership,
    /// Index of the entry that made the membership.
    membership_index: RaftIndex,
    /// Index and term of the entry before the first.
    before_first: (u64, u64),
    /// Index of the entry before `tail`.
    before_tail: u64,
    /// The entries after the applied one.
    tail: VecDeque<RaftEntry>,
    /// Term and its first index, rising.
    terms: Vec<(u64, u64)>,
    /// Storage is asked by shared reference.
    fetching: RefCell<Fetching>,
}

/// Entries that were applied and that a follower lacks.
#[derive(Default)]
struct Fetching {
    /// By the first index, those who wait for it.
    waiting: BTreeMap<u64, Waiting>,
    /// What was fetched, for the time of one callback.
    fetched: Option<(u64, Vec<RaftEntry>)>,
}

struct Waiting {
    high: u64,
    told: bool,
    contexts: Vec<GetEntriesContext>,
}

impl LogState {
    pub(super) fn new(start: Start) -> Self {
        let mut hard_state = HardState::default();
        let (last_index, last_term) = (start.last.0.0, start.last.1.0);
        // A term that the log shows was entered, whatever the store says; the vote in it is unknown.
        let raised = last_term > start.hard_state.term.0;
        hard_state.term = start.hard_state.term.0.max(last_term).max(start.before_first.1.0);
        hard_state.vote = if raised { 0 } else { start.hard_state.vote.0 };
        // A membership is made by what is committed.
        let known = start.membership_index.max(start.hard_state.commit).0.min(last_index);
        hard_state.commit = known.max(start.applied.0).max(settled(&start.unapplied).0);
        let tail: VecDeque<RaftEntry> = start.unapplied.iter().map(|e| e.to_raft()).collect();
        let before_tail = start.applied.0;
        let log_end = tail.back().map_or(before_tail, |e| e.index);
        assert_eq!(log_end, last_index, "the entries given end where the log ends");
        let terms: Vec<_> = start.terms.iter().map(|(term, index)| (term.0, index.0)).collect();
        assert!(terms.is_sorted(), "terms rise with the index");
        let before_first = (start.before_first.0.0, start.before_first.1.0);
        let fetching = RefCell::default();
        let Start { membership, membership_index, .. } = start;
        Self { hard_state, membership, membership_index, before_first, before_tail, tail, terms, fetching }
    }

    pub(super) fn membership(&self) -> &Membership {
        &self.membership
    }

    /// The log begins later from now on.
    pub(super) fn compacted(&mut self, before_first: (RaftIndex, RaftTerm)) {
        let (index, term) = (before_first.0.0, before_first.1.0);
        assert!(index <= self.before_tail, "entry {index} is not applied yet");
        assert_eq!(self.term(index).ok(), Some(term), "the term of entry {index}");
        self.before_first = (index, term);
        let ended = self.terms.windows(2).take_while(|pair| pair[1].1 <= index + 1).count();
        self.terms.drain(..ended);
    }

    /// Nothing remains but what the snapshot says.
    pub(super) fn install(&mut self, meta: &SnapshotMeta) {
        assert!(meta.index.0 > self.before_tail, "what is applied stays, until {}", self.before_tail);
        self.before_first = (meta.index.0, meta.term.0);
        self.before_tail = meta.index.0;
        self.tail.clear();
        self.terms.clear();
        self.fetching.get_mut().waiting.clear();
        self.set_membership(meta.membership_index, meta.membership.clone());
    }

    pub(super) fn membership_index(&self) -> RaftIndex {
        self.membership_index
    }

    pub(super) fn set_membership(&mut self, index: RaftIndex, membership: Membership) {
        (self.membership_index, self.membership) = (index, membership);
    }

    /// Whether another term or vote is noted than this: the commit index alone may lag.
    pub(super) fn votes_otherwise(&self, than: &HardState) -> bool {
        (self.hard_state.term, self.hard_state.vote) != (than.term, than.vote)
    }

    pub(super) fn set_hard_state(&mut self, hard_state: HardState) {
        self.hard_state = hard_state;
    }

    /// Takes what raft gave out for appending. It may stand in the place of entries that were never committed.
    pub(super) fn append(&mut self, entries: &[Entry]) {
        let Some(first) = entries.first().map(|e| e.index.0) else { return };
        assert!(first > self.before_tail, "entry {first} was applied: it never changes");
        self.tail.truncate((first - self.before_tail - 1) as usize);
        self.terms.retain(|(_, start)| *start < first);
        for e in entries {
            assert_eq!(e.index.0, self.last() + 1, "entries leave no gap");
            if self.terms.last().is_none_or(|(term, _)| *term < e.term.0) {
                self.terms.push((e.term.0, e.index.0));
            }
            self.tail.push_back(e.to_raft());
        }
    }

    pub(super) fn applied(&mut self, index: RaftIndex) {
        while let Some(e) = self.tail.pop_front_if(|e| e.index <= index.0) {
            self.before_tail = e.index;
        }
    }

    fn last(&self) -> u64 {
        self.before_tail + self.tail.len() as u64
    }

    /// What must be read off the log since the last call.
    pub(super) fn fetches(&self) -> Vec<Fetch> {
        let waiting = &mut self.fetching.borrow_mut().waiting;
        let untold = waiting.iter_mut().filter(|(_, waiting)| !waiting.told);
        let tell = |(low, waiting): (&u64, &mut Waiting)| {
            waiting.told = true;
            Fetch { low: RaftIndex(*low), high: RaftIndex(waiting.high) }
        };
        untold.map(tell).collect()
    }

    pub(super) fn has_fetches(&self) -> bool {
        self.fetching.borrow().waiting.values().any(|w| !w.told)
    }

    /// Keeps what was fetched until `forget_fetched`, and gives those who wait for it.
    pub(super) fn fetched(&self, low: RaftIndex, entries: &[Entry]) -> Vec<GetEntriesContext> {
        let mut fetching = self.fetching.borrow_mut();
        let contexts = fetching.waiting.remove(&low.0).map(|w| w.contexts).unwrap_or_default();
        if entries.is_empty() && low.0 > self.before_first.0 {
            // Raft would ask again at once.
            return Vec::new();
        }
        fetching.fetched = Some((low.0, entries.iter().map(|e| e.to_raft()).collect()));
        contexts
    }

    pub(super) fn forget_fetched(&self) {
        self.fetching.borrow_mut().fetched = None;
    }

    fn old_entries(&self, low: u64, high: u64, context: GetEntriesContext) -> raft::Result<Vec<RaftEntry>> {
        let mut fetching = self.fetching.borrow_mut();
        match &fetching.fetched {
            Some((at, entries)) if *at == low && !entries.is_empty() => {
                let count = usize::try_from(high - low).unwrap_or(usize::MAX);
                return Ok(entries.iter().take(count).cloned().collect());
            }
            _ => {}
        }
        if low <= self.before_first.0 || !context.can_async() {
            return Err(Error::Store(StorageError::Compacted));
        }
        let new = || Waiting { high, told: false, contexts: Vec::new() };
        let waiting = fetching.waiting.entry(low).or_insert_with(new);
        if waiting.contexts.len() < WAITING_MAX {
            waiting.contexts.push(context);
        }
        Err(Error::Store(StorageError::LogTemporarilyUnavailable))
    }
}

/// How far the entries themselves tell that they are committed: a leader changes the members, or says that they are
/// settled, only when it has applied every earlier change. The commit index on disk may be older. Without this a
/// replica could stand for election in a membership that is two changes old, whose majority need not meet that of today.
fn settled(unapplied: &[Entry]) -> RaftIndex {
    let is_change = |e: &&Entry| matches!(e.kind, EntryKind::ConfChange(_));
    let tells = |e: &&Entry| matches!(e.kind, EntryKind::ConfChange(_) | EntryKind::ConfSettled);
    let Some(teller) = unapplied.iter().rfind(tells) else { return RaftIndex(0) };
    let told = unapplied.iter().take_while(|e| e.index < teller.index).filter(is_change).last();
    told.map_or(RaftIndex(0), |e| e.index)
}

impl Storage for LogState {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(RaftState { hard_state: self.hard_state.clone(), conf_state: self.membership.to_raft() })
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        context: GetEntriesContext,
    ) -> raft::Result<Vec<RaftEntry>> {
        let mut entries = if low <= self.before_tail {
            self.old_entries(low, high, context)?
        } else {
            let at = usize::try_from(low - self.before_tail - 1).unwrap_or(usize::MAX);
            let count = usize::try_from(high - low).unwrap_or(usize::MAX);
            let entries: Vec<RaftEntry> = self.tail.iter().skip(at).take(count).cloned().collect();
            if entries.len() < count {
                return Err(Error::Store(StorageError::Unavailable));
            }
            entries
        };
        raft::util::limit_size(&mut entries, max_size.into());
        Ok(entries)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        if index == self.before_first.0 {
            return Ok(self.before_first.1);
        }
        if index < self.before_first.0 {
            return Err(Error::Store(StorageError::Compacted));
        }
        if index > self.last() {
            return Err(Error::Store(StorageError::Unavailable));
        }
        let after = self.terms.partition_point(|(_, start)| *start <= index);
        let term =
            after.checked_sub(1).and_then(|at| self.terms.get(at)).map_or(self.before_first.1, |(term, _)| *term);
        Ok(term)
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.before_first.0 + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last())
    }

    fn snapshot(&self, _request_index: u64, _to: u64) -> raft::Result<Snapshot> {
        let meta = SnapshotMeta {
            index: RaftIndex(self.before_first.0),
            term: RaftTerm(self.before_first.1),
            membership: self.membership.clone(),
            membership_index: self.membership_index,
        };
        Ok(meta.to_raft())
    }
}
