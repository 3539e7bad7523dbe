//! What goes into the log and what scanning yields.

use bytes::Bytes;
use millstream_core::record::BatchHeader;
use millstream_core::types::{Offset, RaftIndex, RaftTerm, Timestamp};

/// What an entry carries.
#[derive(Clone, Debug)]
pub enum Payload {
    /// A whole, validated record batch as the client sent it. Base offset, length and epoch are written from a
    /// scratch array, the rest from these bytes: nothing is copied, nothing shared is changed.
    Batch { base_offset: Offset, bytes: Bytes },
    /// One of raft's own entries: it takes no Kafka offset.
    Own { entry_type: u8, data: Bytes },
}

/// One raft entry to append.
#[derive(Clone, Debug)]
pub struct Entry {
    pub index: RaftIndex,
    pub term: RaftTerm,
    /// The log's next Kafka offset before this entry: a batch's base offset, an own entry's copy.
    pub next_offset: Offset,
    pub payload: Payload,
}

/// A frame without its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// In a compacted segment, which holds no indexes: 0.
    pub index: RaftIndex,
    pub term: RaftTerm,
    pub base_offset: Offset,
    /// Offsets the frame spans; 0 for an own entry.
    pub count: i64,
    /// Whole size of the frame in bytes.
    pub size_bytes: u32,
    /// The batch's CRC, or the own frame's.
    pub crc: u32,
    /// `None`: a record batch. Else the entry type of an own entry.
    pub own_kind: Option<u8>,
    /// Of a batch; `Timestamp::NONE` for an own entry.
    pub max_timestamp: Timestamp,
}

impl Descriptor {
    /// The offset after the frame; the highest there is when bytes that are not checked yet say more.
    pub fn next_offset(&self) -> Offset {
        Offset(self.base_offset.0.saturating_add(self.count))
    }
}

/// A frame that was read and checked.
#[derive(Debug)]
pub struct ScannedFrame<'a> {
    pub descriptor: Descriptor,
    /// Of a batch.
    pub header: Option<BatchHeader>,
    /// The whole batch, or an own entry's data.
    pub bytes: &'a [u8],
}
