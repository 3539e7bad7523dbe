//! Messages by what they carry: which of them must not wait, and appends cut to a size.

use raft::eraftpb::MessageType;

use super::entry::{Entry, EntryDataError, EntryKind};
use super::message::Message;

impl Message {
    /// Heartbeats, votes, and the word to stand at once: they must not wait behind batches.
    pub fn is_urgent(&self) -> bool {
        !matches!(self.0.msg_type, MessageType::MsgAppend | MessageType::MsgAppendResponse)
    }

    pub fn has_entries(&self) -> bool {
        !self.0.entries.is_empty()
    }

    /// The message in parts that bring batches of at most `bytes_max` each, but for one entry that is larger. The
    /// parts must arrive in order, as messages of a leader do.
    ///
    /// # Errors
    /// An entry that is none of ours.
    pub fn cut(mut self, bytes_max: u64) -> Result<Vec<Message>, EntryDataError> {
        let sizes: Result<Vec<u64>, _> = self.0.entries.iter().map(payload_size).collect();
        let sizes = sizes?;
        if sizes.iter().sum::<u64>() <= bytes_max {
            return Ok(vec![self]);
        }
        let mut rest = std::mem::take(&mut self.0.entries).into_iter();
        let mut sizes = &sizes[..];
        let mut parts = Vec::new();
        while !sizes.is_empty() {
            let mut sum = 0;
            let fits = |size: &&u64| {
                sum += **size;
                sum <= bytes_max
            };
            let count = sizes.iter().take_while(fits).count().max(1);
            let mut part = self.0.clone();
            part.entries = rest.by_ref().take(count).collect::<Vec<_>>().into();
            if let Some(last) = part.entries.last() {
                (self.0.index, self.0.log_term) = (last.index, last.term);
            }
            parts.push(Message(part));
            sizes = &sizes[count..];
        }
        Ok(parts)
    }
}

fn payload_size(entry: &raft::eraftpb::Entry) -> Result<u64, EntryDataError> {
    Ok(match Entry::from_raft(entry)?.kind {
        EntryKind::Batch(descriptor) => u64::from(descriptor.size_bytes),
        _ => 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replica::BatchDescriptor;
    use crate::types::{Offset, RaftIndex, RaftTerm};

    fn append(sizes: &[u32]) -> Message {
        let (index, log_term, commit) = (9, 3, 7);
        let msg_type = MessageType::MsgAppend;
        let mut m = raft::eraftpb::Message { msg_type, index, log_term, commit, ..Default::default() };
        let entry = |(n, size): (usize, &u32)| {
            let base_offset = Offset(n as i64);
            let kind = EntryKind::Batch(BatchDescriptor { base_offset, count: 1, size_bytes: *size, crc: 1 });
            Entry { index: RaftIndex(10 + n as u64), term: RaftTerm(4), kind }.to_raft()
        };
        m.entries = sizes.iter().enumerate().map(entry).collect::<Vec<_>>().into();
        Message(m)
    }

    #[test]
    fn an_append_is_cut_where_its_batches_grow_too_large() {
        assert_eq!(append(&[40, 60]).cut(100).unwrap().len(), 1);
        let parts = append(&[40, 60, 1, 300, 5, 5]).cut(100).unwrap();
        let shape: Vec<_> = parts.iter().map(|p| (p.0.index, p.0.log_term, p.0.entries.len(), p.0.commit)).collect();
        assert_eq!(shape, [(9, 3, 2, 7), (11, 4, 1, 7), (12, 4, 1, 7), (13, 4, 2, 7)]);
        let indexes: Vec<u64> = parts.iter().flat_map(|p| p.0.entries.iter().map(|e| e.index)).collect();
        assert_eq!(indexes, [10, 11, 12, 13, 14, 15]);
        assert!(parts[0].has_entries() && !parts[0].is_urgent());
    }
}
