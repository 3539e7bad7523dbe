//! The log of a node, in memory or on its disk.

use millstream_core::partition::Producers;
use millstream_core::replica::{Entry, EntryKind};
use millstream_core::types::{Offset, RaftIndex, RaftTerm};

use super::writers::sequences;

#[derive(Clone)]
pub struct Log {
    /// Index and term of the entry before the first.
    pub before_first: (RaftIndex, RaftTerm),
    /// The offset at which the first entry begins.
    base: Offset,
    /// What came before it knows of producers.
    producers: Producers,
    entries: Vec<Entry>,
    /// The offset after each entry.
    ends: Vec<Offset>,
}

/// The offset after an entry that begins at `at`.
pub fn end_after(at: Offset, entry: &Entry) -> Offset {
    match entry.kind {
        EntryKind::Batch(d) => {
            assert_eq!(d.base_offset, at, "a batch begins where the one before ends, {entry:?}");
            at.plus(i64::from(d.count))
        }
        EntryKind::Empty | EntryKind::TrimPrefix(_) | EntryKind::ConfChange(_) | EntryKind::ConfSettled => at,
    }
}

impl Log {
    pub fn after(before_first: (RaftIndex, RaftTerm), base: Offset, producers: Producers) -> Self {
        Self { before_first, base, producers, entries: Vec::new(), ends: Vec::new() }
    }

    /// What a start knows of producers when everything up to the entry `applied` is committed.
    pub fn producers(&self, applied: RaftIndex) -> Producers {
        let mut producers = self.producers.clone();
        sequences(&self.entries).for_each(|batch| producers.admit(batch));
        producers.commit_to(self.end_at(applied).expect("what is applied is there"));
        producers
    }

    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    pub fn last(&self) -> (RaftIndex, RaftTerm) {
        self.entries.last().map_or(self.before_first, |e| (e.index, e.term))
    }

    pub fn end(&self) -> Offset {
        self.ends.last().copied().unwrap_or(self.base)
    }

    /// The offset after the entry `index`, or after what is no more.
    pub fn end_at(&self, index: RaftIndex) -> Option<Offset> {
        if index == self.before_first.0 { Some(self.base) } else { self.ends.get(self.place(index)?).copied() }
    }

    fn place(&self, index: RaftIndex) -> Option<usize> {
        index.0.checked_sub(self.before_first.0.0 + 1).map(|place| place as usize)
    }

    pub fn get(&self, index: RaftIndex) -> Option<&Entry> {
        self.entries.get(self.place(index)?)
    }

    /// From `low` to before `high`, as far as there is something.
    pub fn range(&self, low: RaftIndex, high: RaftIndex) -> Vec<Entry> {
        let (Some(low), Some(high)) = (self.place(low), self.place(high)) else { return Vec::new() };
        self.entries.get(low..high.min(self.entries.len())).unwrap_or_default().to_vec()
    }

    /// From its first index on what was here is void. Indexes and offsets have no holes, and terms rise.
    pub fn append(&mut self, entries: &[Entry]) {
        let Some(first) = entries.first() else { return };
        let place = self.place(first.index).expect("what is no more is not written again");
        self.entries.truncate(place);
        self.ends.truncate(place);
        for entry in entries {
            let (index, term) = self.last();
            assert_eq!(entry.index, index.next(), "indexes have no holes");
            assert!(term <= entry.term, "terms rise, {entry:?}");
            self.ends.push(end_after(self.end(), entry));
            self.entries.push(entry.clone());
        }
    }

    /// Whether the entry is here, or was before it was compacted away.
    pub fn holds(&self, entry: &Entry) -> bool {
        entry.index <= self.before_first.0 || self.get(entry.index) == Some(entry)
    }

    /// Drops everything after the entry `to`.
    pub fn cut(&mut self, to: RaftIndex) {
        let kept = self.place(to).map_or(0, |place| place + 1);
        self.entries.truncate(kept);
        self.ends.truncate(kept);
    }

    /// Drops everything up to the entry `to`.
    pub fn compact(&mut self, to: RaftIndex) {
        let Some(term) = self.get(to).map(|e| e.term) else { return };
        let dropped = self.place(to).map_or(0, |place| place + 1);
        self.base = self.ends[dropped - 1];
        sequences(&self.entries[..dropped]).for_each(|batch| self.producers.replay(&batch));
        self.before_first = (to, term);
        self.entries.drain(..dropped);
        self.ends.drain(..dropped);
    }

    /// Terms and their first indexes.
    pub fn terms(&self) -> Vec<(RaftTerm, RaftIndex)> {
        let mut terms: Vec<(RaftTerm, RaftIndex)> = self.entries.iter().map(|e| (e.term, e.index)).collect();
        terms.dedup_by_key(|(term, _)| *term);
        terms
    }
}
