//! Which leader epoch began where (Kafka `LeaderEpochFileCache`, KIP-101/320).

use crate::types::{LeaderEpoch, Offset, RaftIndex, RaftTerm};

/// The start of a term in a partition's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochStart {
    pub term: RaftTerm,
    /// Index of the term's first entry.
    pub start_index: RaftIndex,
    /// Offset that the term's first record has or would have.
    pub start_offset: Offset,
}

/// The terms of a log, oldest first. Terms, indexes and offsets rise; offsets not strictly.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeaderEpochs {
    starts: Vec<EpochStart>,
}

impl LeaderEpochs {
    /// Notes an entry: a term not seen before begins here.
    pub fn note(&mut self, term: RaftTerm, index: RaftIndex, offset: Offset) {
        if let Some(last) = self.starts.last() {
            assert!(term >= last.term, "term {term} after {}", last.term);
            if term == last.term {
                return;
            }
        }
        self.starts.push(EpochStart { term, start_index: index, start_offset: offset });
    }

    /// Forgets what lies at or after `index` (a truncation).
    pub fn truncate_from(&mut self, index: RaftIndex) {
        self.starts.retain(|s| s.start_index < index);
    }

    /// Forgets epochs that end at or before both the log start and the entry at `first_index`, the first that raft may
    /// still ask for; the one which holds the log start begins there from now on.
    pub fn trim_to(&mut self, log_start: Offset, first_index: RaftIndex) {
        let holder = self.starts.iter().rposition(|s| s.start_offset <= log_start).unwrap_or(0);
        let holds_first = self.starts.iter().rposition(|s| s.start_index <= first_index).unwrap_or(0);
        self.starts.drain(..holder.min(holds_first));
        if let Some(first) = self.starts.first_mut().filter(|_| holder <= holds_first) {
            first.start_offset = first.start_offset.max(log_start);
        }
    }

    pub fn latest(&self) -> Option<EpochStart> {
        self.starts.last().copied()
    }

    pub fn starts(&self) -> &[EpochStart] {
        &self.starts
    }

    /// The term of the entry at `index`, if the table reaches back that far.
    pub fn term_of(&self, index: RaftIndex) -> Option<RaftTerm> {
        self.starts.iter().rev().find(|s| s.start_index <= index).map(|s| s.term)
    }

    /// The epoch of the record at `offset`. Epochs without records never own an offset.
    pub fn epoch_of(&self, offset: Offset) -> Option<LeaderEpoch> {
        self.starts.iter().rev().find(|s| s.start_offset <= offset).map(|s| LeaderEpoch::of_term(s.term))
    }

    /// The largest epoch at or below the one asked for, and the offset where it ends: OffsetForLeaderEpoch's answer.
    /// `None`: nothing so old is known, the epoch is above all that we know, or is none (Kafka answers -1, -1).
    pub fn end_offset_for(&self, epoch: LeaderEpoch, log_end: Offset) -> Option<(LeaderEpoch, Offset)> {
        let latest = self.latest()?;
        if epoch.0 < 0 || epoch > LeaderEpoch::of_term(latest.term) {
            return None;
        }
        let at = self.starts.iter().rposition(|s| LeaderEpoch::of_term(s.term) <= epoch);
        let Some(at) = at else {
            // Older than the table: Kafka answers the epoch asked for, ending where the oldest known one begins.
            return self.starts.first().map(|first| (epoch, first.start_offset));
        };
        let end = self.starts.get(at + 1).map_or(log_end, |next| next.start_offset);
        Some((LeaderEpoch::of_term(self.starts[at].term), end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> LeaderEpochs {
        let mut t = LeaderEpochs::default();
        t.note(RaftTerm(2), RaftIndex(2), Offset(0));
        t.note(RaftTerm(2), RaftIndex(3), Offset(0));
        t.note(RaftTerm(4), RaftIndex(9), Offset(50));
        t.note(RaftTerm(5), RaftIndex(10), Offset(50));
        t
    }

    #[test]
    fn an_epoch_ends_where_the_next_begins() {
        let t = table();
        assert_eq!(t.end_offset_for(LeaderEpoch(2), Offset(80)), Some((LeaderEpoch(2), Offset(50))));
        assert_eq!(t.end_offset_for(LeaderEpoch(3), Offset(80)), Some((LeaderEpoch(2), Offset(50))));
        assert_eq!(t.end_offset_for(LeaderEpoch(5), Offset(80)), Some((LeaderEpoch(5), Offset(80))));
        assert_eq!(t.end_offset_for(LeaderEpoch(6), Offset(80)), None);
        assert_eq!(t.end_offset_for(LeaderEpoch(-1), Offset(80)), None);
        assert_eq!(t.end_offset_for(LeaderEpoch(1), Offset(80)), Some((LeaderEpoch(1), Offset(0))));
        assert_eq!(LeaderEpochs::default().end_offset_for(LeaderEpoch(0), Offset(0)), None);
    }

    #[test]
    fn an_epoch_without_records_owns_no_offset() {
        let t = table();
        assert_eq!(t.epoch_of(Offset(49)), Some(LeaderEpoch(2)));
        assert_eq!(t.epoch_of(Offset(50)), Some(LeaderEpoch(5)));
        assert_eq!(t.term_of(RaftIndex(8)), Some(RaftTerm(2)));
        assert_eq!(t.term_of(RaftIndex(9)), Some(RaftTerm(4)));
        assert_eq!(t.term_of(RaftIndex(1)), None);
    }

    #[test]
    fn truncation_cuts_by_index_and_trimming_by_offset() {
        let mut t = table();
        t.truncate_from(RaftIndex(10));
        assert_eq!(t.latest().unwrap().term, RaftTerm(4));
        let mut t = table();
        t.trim_to(Offset(60), RaftIndex(11));
        assert_eq!(
            t.starts(),
            [EpochStart { term: RaftTerm(5), start_index: RaftIndex(10), start_offset: Offset(60) }]
        );
        let mut t = table();
        t.trim_to(Offset(7), RaftIndex(11));
        assert_eq!(t.starts()[0].start_offset, Offset(7));
        assert_eq!(t.term_of(RaftIndex(9)), Some(RaftTerm(4)));
        assert_eq!(t.starts().len(), 3);
        // Entries before the log start may still be there, and raft asks for their terms.
        let mut t = table();
        t.trim_to(Offset(60), RaftIndex(9));
        assert_eq!(t.starts(), &table().starts()[1..]);
    }
}
