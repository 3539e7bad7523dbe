//! What the caller keeps of a log in its store, so that a start opens no closed segment.

use millstream_core::types::{Offset, RaftIndex, RaftTerm, Timestamp};

/// A closed segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentMeta {
    /// The key: no two segments of a log have the same.
    pub base_offset: Offset,
    /// How often its bytes went through compaction: 0 is as raft wrote it. Part of the file's name.
    pub generation: u32,
    pub end_offset: Offset,
    /// Index of the first entry (of a compacted segment: of those it stands for).
    pub base_index: RaftIndex,
    pub end_index: RaftIndex,
    /// Term of the entry before the first.
    pub prev_term: RaftTerm,
    pub last_term: RaftTerm,
    /// Bytes of the file.
    pub length: u64,
    /// `Timestamp::NONE` when no record has one.
    pub max_timestamp: Timestamp,
    /// Greatest of the first batch: since when the segment waits for `max.compaction.lag.ms`.
    pub first_timestamp: Timestamp,
    /// Offset up to which keys were known when a compacted segment was written; of others the base offset.
    pub cleaned_end: Offset,
}

/// A place between two frames, known to be synced when it was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The segment that holds the place.
    pub base_offset: Offset,
    /// Byte in its file.
    pub position: u64,
    /// Index of the entry that follows.
    pub next_index: RaftIndex,
    pub next_offset: Offset,
    /// Term of the entry before.
    pub last_term: RaftTerm,
    /// Greatest timestamp in the segment so far.
    pub max_timestamp: Timestamp,
}

/// Bytes of the store are not what was written there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("stored {what} is malformed")]
pub struct MetaError {
    what: &'static str,
}

/// Version of both layouts.
const VERSION: u8 = 1;

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_be_bytes)
    }

    fn i64(&mut self) -> Option<i64> {
        self.take().map(i64::from_be_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_be_bytes)
    }

    fn version(&mut self) -> Option<()> {
        (self.take::<1>()? == [VERSION]).then_some(())
    }

    fn end(&self) -> Option<()> {
        self.0.is_empty().then_some(())
    }
}

impl SegmentMeta {
    /// Layout, big-endian: version u8 = 1, base offset i64, generation u32, end offset i64, base index u64, end
    /// index u64, previous term u64, last term u64, length u64, max timestamp i64, first timestamp i64, cleaned end i64.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        out.extend(self.base_offset.0.to_be_bytes());
        out.extend(self.generation.to_be_bytes());
        out.extend(self.end_offset.0.to_be_bytes());
        for n in [self.base_index.0, self.end_index.0, self.prev_term.0, self.last_term.0, self.length] {
            out.extend(n.to_be_bytes());
        }
        out.extend(self.max_timestamp.0.to_be_bytes());
        out.extend(self.first_timestamp.0.to_be_bytes());
        out.extend(self.cleaned_end.0.to_be_bytes());
        out
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, MetaError> {
        Self::read(Reader(bytes)).ok_or(MetaError { what: "segment" })
    }

    fn read(mut r: Reader<'_>) -> Option<Self> {
        r.version()?;
        let meta = Self {
            base_offset: Offset(r.i64()?),
            generation: r.u32()?,
            end_offset: Offset(r.i64()?),
            base_index: RaftIndex(r.u64()?),
            end_index: RaftIndex(r.u64()?),
            prev_term: RaftTerm(r.u64()?),
            last_term: RaftTerm(r.u64()?),
            length: r.u64()?,
            max_timestamp: Timestamp(r.i64()?),
            first_timestamp: Timestamp(r.i64()?),
            cleaned_end: Offset(r.i64()?),
        };
        r.end()?;
        Some(meta)
    }

    /// Went through compaction: holds no raft indexes.
    pub fn is_compacted(&self) -> bool {
        self.generation > 0
    }
}

impl Checkpoint {
    /// Layout, big-endian: version u8 = 1, base offset i64, position u64, next index u64, next offset i64, last term
    /// u64, max timestamp i64.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        out.extend(self.base_offset.0.to_be_bytes());
        out.extend(self.position.to_be_bytes());
        out.extend(self.next_index.0.to_be_bytes());
        out.extend(self.next_offset.0.to_be_bytes());
        out.extend(self.last_term.0.to_be_bytes());
        out.extend(self.max_timestamp.0.to_be_bytes());
        out
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, MetaError> {
        Self::read(Reader(bytes)).ok_or(MetaError { what: "checkpoint" })
    }

    fn read(mut r: Reader<'_>) -> Option<Self> {
        r.version()?;
        let checkpoint = Self {
            base_offset: Offset(r.i64()?),
            position: r.u64()?,
            next_index: RaftIndex(r.u64()?),
            next_offset: Offset(r.i64()?),
            last_term: RaftTerm(r.u64()?),
            max_timestamp: Timestamp(r.i64()?),
        };
        r.end()?;
        Some(checkpoint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_stored_comes_back(n in any::<[i64; 4]>(), u in any::<[u64; 5]>(), generation in any::<u32>()) {
            let meta = SegmentMeta {
                base_offset: Offset(n[0]),
                generation,
                end_offset: Offset(n[1]),
                base_index: RaftIndex(u[0]),
                end_index: RaftIndex(u[1]),
                prev_term: RaftTerm(u[2]),
                last_term: RaftTerm(u[3]),
                length: u[4],
                max_timestamp: Timestamp(n[2]),
                first_timestamp: Timestamp(n[0]),
                cleaned_end: Offset(n[3]),
            };
            let bytes = meta.encode();
            prop_assert_eq!(SegmentMeta::decode(&bytes).unwrap(), meta);
            prop_assert!(SegmentMeta::decode(&bytes[1..]).is_err());
            let checkpoint = Checkpoint {
                base_offset: Offset(n[0]),
                position: u[0],
                next_index: RaftIndex(u[1]),
                next_offset: Offset(n[1]),
                last_term: RaftTerm(u[2]),
                max_timestamp: Timestamp(n[2]),
            };
            let mut bytes = checkpoint.encode();
            prop_assert_eq!(Checkpoint::decode(&bytes).unwrap(), checkpoint);
            bytes.push(0);
            prop_assert!(Checkpoint::decode(&bytes).is_err());
        }
    }
}
