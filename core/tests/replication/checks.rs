//! What must hold whatever happens.

use std::collections::BTreeMap;

use millstream_core::replica::{Entry, EntryKind};
use millstream_core::types::{Offset, PeerId, RaftIndex, RaftTerm};

#[derive(Default)]
pub struct Checks {
    /// Every entry that any replica saw committed; the first has index 2.
    committed: Vec<Entry>,
    leaders: BTreeMap<RaftTerm, PeerId>,
    /// Numbers of the batches that were acknowledged, by index.
    acknowledged: BTreeMap<RaftIndex, u32>,
}

/// The offset after an entry.
fn end_after(end: Offset, entry: &Entry) -> Offset {
    match entry.kind {
        EntryKind::Batch(d) => {
            assert_eq!(d.base_offset, end, "a batch begins where the one before ends, {entry:?}");
            end.plus(i64::from(d.count))
        }
        EntryKind::Empty | EntryKind::TrimPrefix(_) | EntryKind::ConfChange(_) | EntryKind::ConfSettled => end,
    }
}

/// The end offset of a log; offsets have no holes, indexes neither, and terms rise.
pub fn log_end(log: &[Entry]) -> Offset {
    let mut end = Offset::ZERO;
    for (position, entry) in log.iter().enumerate() {
        assert_eq!(entry.index.0, position as u64 + 2, "indexes have no holes");
        assert!(position == 0 || log[position - 1].term <= entry.term, "terms rise");
        end = end_after(end, entry);
    }
    end
}

impl Checks {
    /// At most one leader a term.
    pub fn leads(&mut self, term: RaftTerm, peer: PeerId) {
        let leader = *self.leaders.entry(term).or_insert(peer);
        assert_eq!(leader, peer, "two leaders in term {term}");
    }

    /// The same entry is committed everywhere, and a majority has it on disk.
    pub fn commits(&mut self, entry: Entry, on_disk: usize, voters: usize) {
        let place = entry.index.0 as usize - 2;
        match self.committed.get(place) {
            Some(before) => assert_eq!(before, &entry, "two entries are committed at one index"),
            None => {
                assert_eq!(self.committed.len(), place, "commits leave no hole");
                assert!(on_disk * 2 > voters, "{entry:?} is committed with {on_disk} of {voters} disks");
                self.committed.push(entry);
            }
        }
    }

    pub fn acknowledge(&mut self, index: RaftIndex, number: u32) {
        self.acknowledged.insert(index, number);
    }

    /// All that was acknowledged is in this log, at its place.
    pub fn assert_holds_all(&self, log: &[Entry]) {
        log_end(log);
        for (index, number) in &self.acknowledged {
            let entry = log.get(index.0 as usize - 2);
            let crc = entry.and_then(|e| if let EntryKind::Batch(d) = e.kind { Some(d.crc) } else { None });
            assert_eq!(crc, Some(*number), "acknowledged batch at {index}");
        }
        assert!(log.len() >= self.committed.len() && log[..self.committed.len()] == self.committed[..]);
    }

    pub fn assert_progress(&self, batches: usize) {
        assert!(self.acknowledged.len() >= batches, "only {} batches were acknowledged", self.acknowledged.len());
    }

    /// Terms that had a leader.
    pub fn leaders(&self) -> usize {
        self.leaders.len()
    }

    /// All that happened, to be compared.
    pub fn story(&self) -> (Vec<Entry>, BTreeMap<RaftTerm, PeerId>, BTreeMap<RaftIndex, u32>) {
        (self.committed.clone(), self.leaders.clone(), self.acknowledged.clone())
    }
}
