//! What must hold whatever happens.

use std::collections::BTreeMap;

use millstream_core::partition::Producers;
use millstream_core::replica::{Entry, EntryKind, Membership, SnapshotMeta};
use millstream_core::types::{Offset, PeerId, RaftIndex, RaftTerm};

use super::log::{Log, end_after};
use super::writers::sequences;

#[derive(Default)]
pub struct Checks {
    /// Every entry that any replica saw committed; the first has index 2.
    committed: Vec<Entry>,
    /// The offset after each.
    ends: Vec<Offset>,
    leaders: BTreeMap<RaftTerm, PeerId>,
    pub founders: Membership,
    /// Who the members were, by the entry that made them so.
    memberships: BTreeMap<RaftIndex, Membership>,
    /// Numbers of the batches that were acknowledged, by index.
    acknowledged: BTreeMap<RaftIndex, u32>,
    reads: usize,
}

impl Checks {
    /// At most one leader a term.
    pub fn leads(&mut self, term: RaftTerm, peer: PeerId) {
        let leader = *self.leaders.entry(term).or_insert(peer);
        assert_eq!(leader, peer, "two leaders in term {term}");
    }

    /// A change makes the same members of the group, whoever applies it.
    pub fn changes(&mut self, index: RaftIndex, membership: Membership) {
        let before = self.memberships.entry(index).or_insert_with(|| membership.clone());
        assert_eq!(*before, membership, "the entry at {index} made two memberships");
    }

    /// The same entry is committed everywhere, and its majority has it on disk when it is first seen. Which members
    /// decide is known when a change is applied: those before, or those after the last change. True when nobody saw it
    /// committed before.
    pub fn commits(&mut self, entry: &Entry, has_majority: impl Fn(&Membership) -> bool) -> bool {
        let place = entry.index.0 as usize - 2;
        match self.committed.get(place) {
            Some(before) => {
                assert_eq!(before, entry, "two entries are committed at one index");
                false
            }
            None => {
                assert_eq!(self.committed.len(), place, "commits leave no hole");
                // What settles a change leaves the members as they are.
                let before = self.memberships.range(..entry.index).rev().map(|(_, membership)| membership);
                let is_decided = before.filter(|m| !m.is_settled).chain([&self.founders]).take(2).any(has_majority);
                assert!(is_decided, "{entry:?} is committed without a majority");
                let at = self.ends.last().copied().unwrap_or(Offset::ZERO);
                self.ends.push(end_after(at, entry));
                self.committed.push(entry.clone());
                true
            }
        }
    }

    /// A snapshot stands for what is committed, and gives where that ends and what it knows of producers.
    pub fn installs(&self, meta: &SnapshotMeta) -> (Offset, Producers) {
        let place = meta.index.0.checked_sub(2).map(|place| place as usize);
        let Some(place) = place else { return (Offset::ZERO, Producers::default()) };
        assert_eq!(self.committed.get(place).map(|e| e.term), Some(meta.term), "{meta:?} is of what is committed");
        let mut producers = Producers::default();
        sequences(&self.committed[..=place]).for_each(|batch| producers.replay(&batch));
        (self.ends[place], producers)
    }

    /// What is acknowledged is committed.
    pub fn acknowledge(&mut self, index: RaftIndex, number: u32) {
        let entry = self.committed.get(index.0 as usize - 2);
        let crc = entry.and_then(|e| if let EntryKind::Batch(d) = e.kind { Some(d.crc) } else { None });
        assert_eq!(crc, Some(number), "acknowledged batch at {index}");
        self.acknowledged.insert(index, number);
    }

    pub fn last_acknowledged(&self) -> RaftIndex {
        self.acknowledged.last_key_value().map_or(RaftIndex(0), |(index, _)| *index)
    }

    /// Who asks sees what was acknowledged before.
    pub fn reads(&mut self, index: RaftIndex, acknowledged: RaftIndex) {
        assert!(index >= acknowledged, "a read at {index} after {acknowledged} was acknowledged");
        self.reads += 1;
    }

    /// All that is committed is in this log, at its place.
    pub fn assert_holds_all(&self, log: &Log) {
        assert!(self.committed.iter().all(|entry| log.holds(entry)), "the log lacks something that is committed");
        assert_eq!(self.ends.last().copied(), self.committed.last().and_then(|e| log.end_at(e.index)));
    }

    pub fn assert_progress(&self, batches: usize, reads: usize) {
        assert!(self.acknowledged.len() >= batches, "only {} batches were acknowledged", self.acknowledged.len());
        assert!(self.reads >= reads, "only {} reads were answered", self.reads);
    }

    /// Terms that had a leader.
    pub fn leaders(&self) -> usize {
        self.leaders.len()
    }

    pub fn committed(&self) -> &[Entry] {
        &self.committed
    }
}
