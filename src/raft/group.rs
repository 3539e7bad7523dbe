//! One replica and its log.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use millstream_core::partition::LeaderEpochs;
use millstream_core::record::BatchHeader;
use millstream_core::replica::{BatchDescriptor, Effects, Entry, EntryKind, HardState, NotLeader, Replica};
use millstream_core::types::{Offset, RaftIndex, RaftTerm, Timestamp};

use crate::log::{self, Checkpoint, Log, LogEvent, LogView, Payload};

/// One replica: raft, its log, and the batches on their way from the one to the other.
pub struct Group {
    replica: Replica,
    pub(super) log: Log,
    /// Bytes of proposed batches that raft has not yet given out for writing, oldest first.
    proposed: VecDeque<(RaftTerm, RaftIndex, Bytes)>,
    proposed_size_bytes: u64,
    /// The offset after all that is proposed.
    end: Offset,
    epochs: LeaderEpochs,
    /// Ends of the log by the flight that makes them durable, oldest first.
    flights: VecDeque<Flight>,
    /// Something reached the disk since the last `work`: raft may commit.
    has_news: bool,
    /// End of the log that is known to be on disk.
    synced: Option<Checkpoint>,
    scratch: Vec<log::Entry>,
}

/// A part of the log on its way to the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flight {
    /// To be given to `flushed`.
    pub number: u64,
    end: Checkpoint,
    /// A term or a vote goes with it.
    must_sync_hard_state: bool,
}

/// Where a proposal stands in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proposed {
    pub term: RaftTerm,
    pub index: RaftIndex,
    pub base_offset: Offset,
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
}

/// The replica takes no more work: its log could not be written. It is opened again from disk.
#[derive(Debug, thiserror::Error)]
#[error("the log could not be written: {0}")]
pub struct Halted(#[from] pub log::LogError);

impl Group {
    pub(super) fn new(replica: Replica, log: Log, epochs: LeaderEpochs) -> Self {
        let end = log.next_offset();
        Self {
            replica,
            log,
            proposed: VecDeque::new(),
            proposed_size_bytes: 0,
            end,
            epochs,
            flights: VecDeque::new(),
            has_news: false,
            synced: None,
            scratch: Vec::new(),
        }
    }

    pub fn campaign(&mut self) {
        self.replica.campaign();
    }

    pub fn is_leader(&self) -> bool {
        self.replica.is_leader()
    }

    pub fn term(&self) -> RaftTerm {
        self.replica.term()
    }

    pub fn commit_index(&self) -> RaftIndex {
        self.replica.commit_index()
    }

    /// The offset that the next proposed batch gets.
    pub fn end_offset(&self) -> Offset {
        self.end
    }

    pub fn epochs(&self) -> &LeaderEpochs {
        &self.epochs
    }

    pub fn log(&self) -> &Log {
        &self.log
    }

    pub fn log_mut(&mut self) -> &mut Log {
        &mut self.log
    }

    pub fn view(&self) -> Arc<LogView> {
        self.log.view()
    }

    /// Whether something written is on its way to the disk, and nothing has arrived there since the last `work`.
    pub fn is_flushing(&self) -> bool {
        !self.flights.is_empty() && !self.has_news
    }

    /// Whether a term or a vote is on its way to the disk: nothing that is written after it may be there first.
    pub fn is_syncing_hard_state(&self) -> bool {
        self.flights.iter().any(|f| f.must_sync_hard_state)
    }

    /// Bytes that are proposed and not yet written.
    pub fn proposed_bytes(&self) -> u64 {
        self.proposed_size_bytes
    }

    /// The end of the log that is known to be on disk, since the start.
    pub fn synced(&self) -> Option<Checkpoint> {
        self.synced
    }

    /// Makes room on disk for one more batch. Refused: the disk is full, nothing has changed.
    pub fn reserve(&mut self, size_bytes: u64) -> Result<(), log::LogError> {
        self.log.reserve(self.proposed_size_bytes + size_bytes)
    }

    /// Proposes a validated batch for which room is reserved; it gets the offsets from `end_offset` on.
    pub fn propose_batch(&mut self, header: &BatchHeader, bytes: Bytes) -> Result<Proposed, NotLeader> {
        let base_offset = self.end;
        let count = header.last_offset_delta + 1;
        let size_bytes = u32::try_from(bytes.len()).expect("a batch is smaller than a frame");
        let descriptor = BatchDescriptor { base_offset, count, size_bytes, crc: header.crc };
        let (term, index) = self.replica.propose(EntryKind::Batch(descriptor))?;
        self.proposed.push_back((term, index, bytes));
        self.proposed_size_bytes += u64::from(size_bytes);
        self.end = base_offset.plus(i64::from(count));
        Ok(Proposed { term, index, base_offset })
    }

    /// Proposes that the log starts at `offset`.
    pub fn propose_trim(&mut self, offset: Offset) -> Result<Proposed, NotLeader> {
        let (term, index) = self.replica.propose(EntryKind::TrimPrefix(offset))?;
        Ok(Proposed { term, index, base_offset: self.end })
    }

    /// Writes what raft wants written and says what is committed.
    pub fn work(&mut self, now: Timestamp) -> Result<Work, Halted> {
        self.has_news = false;
        let mut work = Work::default();
        while let Some(effects) = self.replica.effects() {
            self.carry_out(effects, now, &mut work)?;
        }
        Ok(work)
    }

    fn carry_out(&mut self, effects: Effects, now: Timestamp, work: &mut Work) -> Result<(), Halted> {
        let Effects { number, append, hard_state, must_sync_hard_state, committed, .. } = effects;
        let wrote = !append.is_empty();
        if wrote {
            work.events.extend(self.write(append, now)?);
        }
        if let Some(hard_state) = hard_state {
            work.hard_state = Some(hard_state);
            work.must_sync_hard_state |= must_sync_hard_state;
        }
        if wrote || must_sync_hard_state {
            self.flights.push_back(Flight { number, end: self.log.checkpoint(), must_sync_hard_state });
            work.unsynced = Some(number);
        }
        work.committed.extend(committed);
        Ok(())
    }

    fn write(&mut self, entries: Vec<Entry>, now: Timestamp) -> Result<Vec<LogEvent>, Halted> {
        let mut next_offset = self.log.next_offset();
        self.scratch.clear();
        for entry in entries {
            self.epochs.note(entry.term, entry.index, next_offset);
            let payload = match entry.kind {
                EntryKind::Batch(d) => {
                    assert_eq!(d.base_offset, next_offset, "offsets have no holes at {}", entry.index);
                    next_offset = next_offset.plus(i64::from(d.count));
                    Payload::Batch { base_offset: d.base_offset, bytes: self.take_proposed(&entry) }
                }
                EntryKind::Empty | EntryKind::TrimPrefix(_) | EntryKind::ConfChange(_) | EntryKind::ConfSettled => {
                    let (entry_type, data) = entry.kind.own_frame().expect("not a batch");
                    Payload::Own { entry_type, data }
                }
            };
            let before = match &payload {
                Payload::Batch { base_offset, .. } => *base_offset,
                Payload::Own { .. } => next_offset,
            };
            self.scratch.push(log::Entry { index: entry.index, term: entry.term, next_offset: before, payload });
        }
        let events = self.log.append(&self.scratch, now)?;
        self.scratch.clear();
        Ok(events)
    }

    fn take_proposed(&mut self, entry: &Entry) -> Bytes {
        let (term, index, bytes) = self.proposed.pop_front().expect("every batch entry was proposed here");
        assert_eq!((term, index), (entry.term, entry.index), "payloads leave in the order of their entries");
        self.proposed_size_bytes -= bytes.len() as u64;
        bytes
    }

    /// All that was unsynced when `work` gave `number` is on disk.
    pub fn flushed(&mut self, number: u64) {
        while let Some(flight) = self.flights.front().filter(|f| f.number <= number) {
            self.synced = Some(flight.end);
            self.flights.pop_front();
        }
        self.replica.persisted(number);
        self.has_news = true;
    }

    /// Everything up to `index` is applied.
    pub fn applied(&mut self, index: RaftIndex) {
        self.replica.applied(index);
    }
}
