//! One replica and its log.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use millstream_core::partition::{BatchSequence, LeaderEpochs};
use millstream_core::record::BatchHeader;
use millstream_core::replica::{
    BatchDescriptor, ConfChange, ConfChangeError, Effects, Entry, EntryKind, Message, NotLeader, Replica, StepError,
};
use millstream_core::types::{Offset, PeerId, RaftIndex, RaftTerm, Timestamp};

use super::outgoing::{self, Outgoing};
use super::payloads::Payloads;
use super::work::{Flight, Halted, NeededSnapshot, Proposed, Taken, Work};
use crate::log::{self, Checkpoint, Log, LogView, Payload};

/// One replica: raft, its log, and the batches on their way from the one to the other.
pub struct Group {
    replica: Replica,
    pub(super) log: Log,
    payloads: Payloads,
    /// The offset after all that is proposed.
    end: Offset,
    /// The last term that this replica led: its entries were proposed here. None once it takes another's entries: what
    /// comes back of its own after that was forgotten with those that stood there.
    led: Option<RaftTerm>,
    epochs: LeaderEpochs,
    /// Ends of the log by the flight that makes them durable, oldest first.
    flights: VecDeque<Flight>,
    /// Messages that may leave when everything up to a number is on disk.
    held: VecDeque<(u64, Vec<Message>)>,
    /// Messages that may leave now.
    outgoing: Vec<Outgoing>,
    snapshots: Vec<NeededSnapshot>,
    /// Something happened since the last `work` that must not wait for a flush: raft may commit, or has to answer.
    has_news: bool,
    /// End of the log that is known to be on disk.
    synced: Option<Checkpoint>,
    /// Such ends, from the last one on that is applied as well.
    settled: VecDeque<Checkpoint>,
    scratch: Vec<log::Entry>,
}

impl Group {
    pub(super) fn new(replica: Replica, log: Log, epochs: LeaderEpochs) -> Self {
        let end = log.next_offset();
        Self {
            replica,
            log,
            payloads: Payloads::default(),
            end,
            led: None,
            epochs,
            flights: VecDeque::new(),
            held: VecDeque::new(),
            outgoing: Vec::new(),
            snapshots: Vec::new(),
            has_news: false,
            synced: None,
            settled: VecDeque::new(),
            scratch: Vec::new(),
        }
    }

    pub fn campaign(&mut self) {
        self.replica.campaign();
        self.has_news = true;
    }

    /// A tenth of a second has passed.
    pub fn tick(&mut self) {
        self.replica.tick();
        self.has_news = true;
    }

    /// Takes what another replica says, and the batches of its entries, which were checked.
    pub fn step(&mut self, message: Message, batches: Vec<Bytes>) -> Result<(), StepError> {
        if message.snapshot().is_some() {
            // Raft never installs one here: whoever brings a snapshot opens the replica again on it.
            return Ok(());
        }
        // Entries may gather while a flush is under way; all else is answered at once.
        self.has_news |= !message.has_entries();
        let with_batches = message.entries().filter_map(|e| e.ok().filter(|e| matches!(e.kind, EntryKind::Batch(_))));
        for (entry, bytes) in with_batches.zip(batches) {
            self.payloads.put(entry.term, entry.index, bytes);
        }
        self.replica.step(message)
    }

    /// Gives the leadership up.
    pub fn step_down(&mut self) {
        self.replica.step_down();
        self.has_news = true;
    }

    /// Asks the others whether this replica leads still (`Replica::read_index`); `Work::reads` has the answer.
    pub fn read_index(&mut self) -> Result<u64, NotLeader> {
        let number = self.replica.read_index()?;
        self.has_news = true;
        Ok(number)
    }

    /// Hands the leadership to another voter.
    pub fn transfer_leader(&mut self, to: PeerId) {
        self.replica.transfer_leader(to);
        self.has_news = true;
    }

    pub fn is_leader(&self) -> bool {
        self.replica.is_leader()
    }

    /// Who leads, as far as this replica knows.
    pub fn leader(&self) -> Option<PeerId> {
        self.replica.leader()
    }

    /// Whether the group has other members, as far as this replica can tell: its own membership may be of long ago.
    pub fn has_others(&self) -> bool {
        self.replica.has_others() || self.replica.is_held()
    }

    pub fn replica(&self) -> &Replica {
        &self.replica
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

    /// Bytes of batches that are not yet written.
    pub fn unwritten_bytes(&self) -> u64 {
        self.payloads.unwritten_bytes()
    }

    /// The end of the log that is known to be on disk, since the start.
    pub fn synced(&self) -> Option<Checkpoint> {
        self.synced
    }

    /// Makes room on disk for one more batch. Refused: the disk is full, nothing has changed.
    pub fn reserve(&mut self, size_bytes: u64) -> Result<(), log::LogError> {
        self.log.reserve(self.payloads.unwritten_bytes() + size_bytes)
    }

    /// Proposes a validated batch for which room is reserved; it gets the offsets from `end_offset` on.
    pub fn propose_batch(&mut self, header: &BatchHeader, bytes: Bytes) -> Result<Proposed, NotLeader> {
        let base_offset = self.end;
        let count = header.last_offset_delta + 1;
        let size_bytes = u32::try_from(bytes.len()).expect("a batch is smaller than a frame");
        let descriptor = BatchDescriptor { base_offset, count, size_bytes, crc: header.crc };
        let (term, index) = self.replica.propose(EntryKind::Batch(descriptor))?;
        self.payloads.put(term, index, bytes);
        self.end = base_offset.plus(i64::from(count));
        Ok(Proposed { term, index, base_offset })
    }

    /// Proposes that the log starts at `offset`.
    pub fn propose_trim(&mut self, offset: Offset) -> Result<Proposed, NotLeader> {
        let (term, index) = self.replica.propose(EntryKind::TrimPrefix(offset))?;
        Ok(Proposed { term, index, base_offset: self.end })
    }

    /// Proposes a change of the members.
    pub fn propose_conf_change(&mut self, change: &ConfChange) -> Result<(), ConfChangeError> {
        self.has_news = true;
        self.replica.propose_conf_change(change).map(drop)
    }

    /// Writes what raft wants written and says what is committed and what is to be sent. `before_cut` is called before
    /// the log is cut from an index on: the store must not know a synced end beyond it any more, durably. False: it
    /// could not be told.
    pub fn work(
        &mut self,
        now: Timestamp,
        before_cut: &mut dyn FnMut(RaftIndex, Offset) -> bool,
    ) -> Result<Work, Halted> {
        self.has_news = false;
        let mut work = Work::default();
        if self.replica.is_leader() {
            self.led = Some(self.replica.term());
        }
        while let Some(effects) = self.replica.effects() {
            self.carry_out(effects, now, before_cut, &mut work)?;
        }
        if !self.replica.is_leader() {
            self.end = self.log.next_offset();
            // What was not taken is void, or comes again.
            self.payloads.clear();
        } else if self.replica.has_others() {
            self.payloads.forget_to(self.replica.commit_index());
        } else {
            self.payloads.forget_to(self.log.last_index());
        }
        work.outgoing = std::mem::take(&mut self.outgoing);
        work.snapshots = std::mem::take(&mut self.snapshots);
        Ok(work)
    }

    fn carry_out(
        &mut self,
        effects: Effects,
        now: Timestamp,
        before_cut: &mut dyn FnMut(RaftIndex, Offset) -> bool,
        work: &mut Work,
    ) -> Result<(), Halted> {
        let Effects {
            number,
            membership,
            append,
            hard_state,
            must_sync_hard_state,
            messages,
            persisted_messages,
            committed,
            fetches,
            reads,
            snapshot: _,
        } = effects;
        let wrote = !append.is_empty();
        if wrote {
            self.cut(&append, before_cut, work)?;
            self.write(append, now, work)?;
        }
        if let Some(hard_state) = hard_state {
            work.hard_state = Some(hard_state);
            work.must_sync_hard_state |= must_sync_hard_state;
        }
        if wrote || must_sync_hard_state {
            self.flights.push_back(Flight { number, end: self.log.checkpoint(), must_sync_hard_state });
            work.unsynced = Some(number);
        }
        if !messages.is_empty() {
            self.send(messages);
        }
        if !persisted_messages.is_empty() {
            self.held.push_back((number, persisted_messages));
            self.release();
        }
        if membership.is_some() {
            work.membership = membership;
        }
        work.committed.extend(committed);
        work.fetches.extend(fetches);
        work.reads.extend(reads);
        Ok(())
    }

    fn send(&mut self, messages: Vec<Message>) {
        let view = self.log.view();
        for message in messages {
            if let Some(meta) = message.snapshot() {
                self.snapshots.push(NeededSnapshot { peer: message.to(), term: message.term(), meta });
                continue;
            }
            outgoing::add(&mut self.outgoing, message, &mut self.payloads, &view);
        }
    }

    /// Sends what no flight holds back any more.
    fn release(&mut self) {
        let first = self.flights.front().map_or(u64::MAX, |f| f.number);
        while let Some((_, messages)) = self.held.pop_front_if(|(number, _)| *number < first) {
            self.send(messages);
        }
    }

    /// Makes room for entries that stand where others do, which were never committed.
    fn cut(
        &mut self,
        append: &[Entry],
        before_cut: &mut dyn FnMut(RaftIndex, Offset) -> bool,
        work: &mut Work,
    ) -> Result<(), Halted> {
        let Some(first) = append.first().map(|e| e.index).filter(|first| *first <= self.log.last_index()) else {
            return Ok(());
        };
        let offset = self.epochs_offset(first)?;
        if !before_cut(first, offset) {
            return Err(Halted::Store);
        }
        work.events.extend(self.log.truncate_from(first)?);
        self.epochs.truncate_from(first);
        let end = self.log.checkpoint();
        for flight in self.flights.iter_mut().filter(|f| f.end.next_index > first) {
            flight.end = end;
        }
        if self.synced.is_some_and(|synced| synced.next_index > first) {
            self.synced = Some(end);
        }
        self.settled.retain(|settled| settled.next_index <= first);
        Ok(())
    }

    /// The offset that the entry at `index`, which is in the log, has or would have.
    fn epochs_offset(&self, index: RaftIndex) -> Result<Offset, Halted> {
        let (descriptor, _) = self.log.view().payload(index).map_err(log::LogError::from)?;
        Ok(descriptor.base_offset)
    }

    fn write(&mut self, entries: Vec<Entry>, now: Timestamp, work: &mut Work) -> Result<(), Halted> {
        let mut next_offset = self.log.next_offset();
        self.scratch.clear();
        let mut taken: Option<Taken> = None;
        let mut bytes_taken = 0;
        for entry in entries {
            self.epochs.note(entry.term, entry.index, next_offset);
            // From the first that is not own on all are taken: who takes them over forgets what stood there.
            let is_own = taken.is_none() && Some(entry.term) == self.led;
            if !is_own && taken.is_none() {
                taken = Some(Taken { from_index: entry.index, from_offset: next_offset, batches: Vec::new() });
            }
            let before = next_offset;
            let payload = match entry.kind {
                EntryKind::Batch(d) => {
                    if d.base_offset != next_offset {
                        return Err(Halted::Gap(entry.index));
                    }
                    let bytes = self.payloads.write(entry.term, entry.index).ok_or(Halted::Gap(entry.index))?;
                    next_offset = next_offset.plus(i64::from(d.count));
                    if let Some(taken) = taken.as_mut().filter(|_| !is_own) {
                        bytes_taken += bytes.len() as u64;
                        let header = BatchHeader::parse(&bytes).map_err(|_| Halted::Gap(entry.index))?;
                        taken.batches.extend(BatchSequence::of(&header, &bytes, d.base_offset));
                    }
                    Payload::Batch { base_offset: d.base_offset, bytes }
                }
                EntryKind::Empty | EntryKind::TrimPrefix(_) | EntryKind::ConfChange(_) | EntryKind::ConfSettled => {
                    let (entry_type, data) = entry.kind.own_frame().expect("not a batch");
                    Payload::Own { entry_type, data }
                }
            };
            self.scratch.push(log::Entry { index: entry.index, term: entry.term, next_offset: before, payload });
        }
        if bytes_taken > 0 {
            // A leader has reserved room before it proposed.
            self.log.reserve(bytes_taken)?;
        }
        work.events.extend(self.log.append(&self.scratch, now)?);
        if taken.is_some() && !self.replica.is_leader() {
            self.led = None;
        }
        work.taken.extend(taken);
        self.scratch.clear();
        if !self.replica.is_leader() {
            self.end = next_offset;
        } else {
            self.end = self.end.max(next_offset);
        }
        Ok(())
    }

    /// All that was unsynced when `work` gave `number` is on disk.
    pub fn flushed(&mut self, number: u64) {
        while let Some(flight) = self.flights.front().filter(|f| f.number <= number) {
            self.synced = Some(flight.end);
            self.settled.push_back(flight.end);
            self.flights.pop_front();
        }
        self.release();
        self.replica.persisted(number);
        self.has_news = true;
    }

    /// Entries that effects asked for, from `low` on, and the batches of those that have one.
    pub fn fetched(&mut self, low: RaftIndex, entries: &[Entry], batches: Vec<Bytes>) {
        let with_batches = entries.iter().filter(|e| matches!(e.kind, EntryKind::Batch(_)));
        for (entry, bytes) in with_batches.zip(batches) {
            self.payloads.put_written(entry.term, entry.index, bytes);
        }
        self.replica.fetched(low, entries);
        self.has_news = true;
    }

    /// Segments were deleted or compacted: the log has lost its beginning for raft.
    pub fn log_was_cut(&mut self) {
        self.replica.compacted(self.log.before_first());
    }

    /// What became of the snapshot for a peer.
    pub fn snapshot_ended(&mut self, peer: PeerId, is_installed: bool) {
        self.replica.report_snapshot(peer, is_installed);
        self.has_news = true;
    }

    /// Everything up to `index` is applied. True: there is more work now, as for one that had to apply a change of the
    /// members before it could stand for election.
    pub fn applied(&mut self, index: RaftIndex) -> bool {
        self.replica.applied(index);
        while self.settled.get(1).is_some_and(|next| next.next_index <= index.next()) {
            self.settled.pop_front();
        }
        self.replica.has_effects()
    }

    /// An end of the log that is on disk, with nothing before it that is not applied: a start may read on from there.
    pub fn settled(&self, applied: RaftIndex) -> Option<Checkpoint> {
        self.settled.front().copied().filter(|settled| settled.next_index <= applied.next())
    }
}

#[cfg(test)]
mod tests;
