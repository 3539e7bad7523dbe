//! The bytes of batches whose descriptors are with raft.

use std::collections::VecDeque;

use bytes::Bytes;
use millstream_core::types::{RaftIndex, RaftTerm};

/// Batches by index and term, rising: an index alone is ambiguous after a leader was deposed.
#[derive(Default)]
pub(super) struct Payloads {
    kept: VecDeque<Kept>,
    /// Bytes of those that are not yet written.
    unwritten_bytes: u64,
}

struct Kept {
    index: RaftIndex,
    term: RaftTerm,
    bytes: Bytes,
    is_written: bool,
}

impl Payloads {
    /// Keeps a batch on its way to the log.
    pub fn put(&mut self, term: RaftTerm, index: RaftIndex, bytes: Bytes) {
        self.unwritten_bytes += bytes.len() as u64;
        self.insert(Kept { index, term, bytes, is_written: false });
    }

    /// Keeps a batch that was read off the log, for the messages that follow.
    pub fn put_written(&mut self, term: RaftTerm, index: RaftIndex, bytes: Bytes) {
        self.insert(Kept { index, term, bytes, is_written: true });
    }

    fn insert(&mut self, new: Kept) {
        let at = self.kept.partition_point(|k| (k.index, k.term) < (new.index, new.term));
        match self.kept.get_mut(at).filter(|k| (k.index, k.term) == (new.index, new.term)) {
            // It came twice: the first is as good.
            Some(known) => {
                if !new.is_written && !known.is_written {
                    self.unwritten_bytes -= new.bytes.len() as u64;
                } else if !new.is_written {
                    self.unwritten_bytes -= new.bytes.len() as u64;
                    known.is_written = true;
                }
            }
            None => self.kept.insert(at, new),
        }
    }

    fn find(&mut self, term: RaftTerm, index: RaftIndex) -> Option<&mut Kept> {
        let at = self.kept.partition_point(|k| (k.index, k.term) < (index, term));
        self.kept.get_mut(at).filter(|k| (k.index, k.term) == (index, term))
    }

    pub fn get(&mut self, term: RaftTerm, index: RaftIndex) -> Option<Bytes> {
        self.find(term, index).map(|k| k.bytes.clone())
    }

    /// Gives a batch to be written; it stays for those it must be sent to.
    pub fn write(&mut self, term: RaftTerm, index: RaftIndex) -> Option<Bytes> {
        let kept = self.find(term, index)?;
        let bytes = kept.bytes.clone();
        let was_written = std::mem::replace(&mut kept.is_written, true);
        self.unwritten_bytes -= if was_written { 0 } else { bytes.len() as u64 };
        Some(bytes)
    }

    pub fn unwritten_bytes(&self) -> u64 {
        self.unwritten_bytes
    }

    /// Forgets what lies at or before `index`.
    pub fn forget_to(&mut self, index: RaftIndex) {
        while let Some(gone) = self.kept.pop_front_if(|k| k.index <= index) {
            self.unwritten_bytes -= if gone.is_written { 0 } else { gone.bytes.len() as u64 };
        }
    }

    pub fn clear(&mut self) {
        self.kept.clear();
        self.unwritten_bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_told_apart_by_term_and_counted_until_they_are_written() {
        let (mut payloads, at) = (Payloads::default(), RaftIndex);
        payloads.put(RaftTerm(3), at(7), Bytes::from_static(b"old"));
        payloads.put(RaftTerm(4), at(7), Bytes::from_static(b"newer"));
        payloads.put(RaftTerm(4), at(7), Bytes::from_static(b"newer"));
        payloads.put(RaftTerm(4), at(8), Bytes::from_static(b"x"));
        payloads.put_written(RaftTerm(2), at(5), Bytes::from_static(b"read"));
        assert_eq!(payloads.unwritten_bytes(), 9);
        assert_eq!(payloads.write(RaftTerm(4), at(7)).unwrap(), "newer");
        assert_eq!(payloads.write(RaftTerm(4), at(7)).unwrap(), "newer", "it stays");
        assert_eq!(payloads.unwritten_bytes(), 4);
        assert_eq!(payloads.get(RaftTerm(2), at(5)).unwrap(), "read");
        assert_eq!(payloads.get(RaftTerm(4), at(6)), None);
        payloads.forget_to(at(7));
        assert_eq!(payloads.unwritten_bytes(), 1);
        assert_eq!(payloads.get(RaftTerm(3), at(7)), None);
        payloads.clear();
        assert_eq!(payloads.unwritten_bytes(), 0);
    }
}
