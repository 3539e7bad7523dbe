//! Entries as raft sees them: a kind byte and a few numbers.

use bytes::Bytes;
use raft::eraftpb;

use super::conf_change::ConfChange;
use crate::types::{Offset, RaftIndex, RaftTerm};

/// Bytes of an encoded batch descriptor, kind byte included.
pub(super) const DESCRIPTOR_LEN: usize = 21;

/// Entry types of raft's own frames in the log. Never reused.
pub const OWN_EMPTY: u8 = 0;
pub const OWN_TRIM_PREFIX: u8 = 2;
pub const OWN_CONF_CHANGE: u8 = 3;
pub const OWN_CONF_SETTLED: u8 = 4;

const KIND_BATCH: u8 = 1;

/// What stands in for a record batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchDescriptor {
    pub base_offset: Offset,
    /// Offsets that the batch spans, at least 1.
    pub count: i32,
    /// Whole size of the batch.
    pub size_bytes: u32,
    /// The batch's own CRC.
    pub crc: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A new leader's first entry.
    Empty,
    Batch(BatchDescriptor),
    /// The log starts at this offset from now on (DeleteRecords, retention).
    TrimPrefix(Offset),
    /// The members change.
    ConfChange(ConfChange),
    /// Every change of the members before this entry is committed.
    ConfSettled,
}

/// One entry of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub index: RaftIndex,
    pub term: RaftTerm,
    pub kind: EntryKind,
}

/// Data that is no entry of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("entry data of {len} bytes, kind {kind:?}, is not known")]
pub struct EntryDataError {
    pub len: usize,
    pub kind: Option<u8>,
}

impl EntryKind {
    /// Layout, big endian: kind u8; 1 batch: base offset i64, count i32, size u32, crc u32; 2 trim: offset i64; 3 conf
    /// change: step u8, changes (what u8, peer id u64); 4 conf settled.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Empty => Vec::new(),
            Self::Batch(d) => {
                let mut out = Vec::with_capacity(DESCRIPTOR_LEN);
                out.push(KIND_BATCH);
                out.extend_from_slice(&d.base_offset.0.to_be_bytes());
                out.extend_from_slice(&d.count.to_be_bytes());
                out.extend_from_slice(&d.size_bytes.to_be_bytes());
                out.extend_from_slice(&d.crc.to_be_bytes());
                out
            }
            Self::TrimPrefix(offset) => {
                let mut out = vec![OWN_TRIM_PREFIX];
                out.extend_from_slice(&offset.0.to_be_bytes());
                out
            }
            Self::ConfChange(change) => {
                let mut out = vec![OWN_CONF_CHANGE];
                change.encode(&mut out);
                out
            }
            Self::ConfSettled => vec![OWN_CONF_SETTLED],
        }
    }

    pub fn decode(data: &[u8]) -> Result<Self, EntryDataError> {
        let unknown = EntryDataError { len: data.len(), kind: data.first().copied() };
        match data {
            [] => Ok(Self::Empty),
            [KIND_BATCH, d @ ..] if d.len() == DESCRIPTOR_LEN - 1 => {
                let word = |at: usize| [d[at], d[at + 1], d[at + 2], d[at + 3]];
                Ok(Self::Batch(BatchDescriptor {
                    base_offset: Offset(i64::from_be_bytes(*d.first_chunk().ok_or(unknown)?)),
                    count: i32::from_be_bytes(word(8)),
                    size_bytes: u32::from_be_bytes(word(12)),
                    crc: u32::from_be_bytes(word(16)),
                }))
            }
            [OWN_TRIM_PREFIX, offset @ ..] => {
                let offset: [u8; 8] = offset.try_into().map_err(|_| unknown)?;
                Ok(Self::TrimPrefix(Offset(i64::from_be_bytes(offset))))
            }
            [OWN_CONF_CHANGE, change @ ..] => ConfChange::decode(change).map(Self::ConfChange).ok_or(unknown),
            [OWN_CONF_SETTLED] => Ok(Self::ConfSettled),
            _ => Err(unknown),
        }
    }

    /// The entry type and data of the own frame that holds this in the log; `None` for a batch.
    pub fn own_frame(&self) -> Option<(u8, Bytes)> {
        match self {
            Self::Empty => Some((OWN_EMPTY, Bytes::new())),
            Self::Batch(_) => None,
            Self::TrimPrefix(_) => Some((OWN_TRIM_PREFIX, Bytes::from(self.encode()))),
            Self::ConfChange(_) => Some((OWN_CONF_CHANGE, Bytes::from(self.encode()))),
            Self::ConfSettled => Some((OWN_CONF_SETTLED, Bytes::from(self.encode()))),
        }
    }

    /// Reads what `own_frame` gave.
    pub fn of_own_frame(entry_type: u8, data: &[u8]) -> Result<Self, EntryDataError> {
        let kind = Self::decode(data)?;
        let is_own = kind.own_frame().is_some_and(|(own, _)| own == entry_type);
        if is_own { Ok(kind) } else { Err(EntryDataError { len: data.len(), kind: Some(entry_type) }) }
    }
}

impl Entry {
    pub(super) fn from_raft(e: &eraftpb::Entry) -> Result<Self, EntryDataError> {
        Ok(Self { index: RaftIndex(e.index), term: RaftTerm(e.term), kind: EntryKind::decode(entry_data(e))? })
    }

    pub(super) fn to_raft(&self) -> eraftpb::Entry {
        raft_entry(self.index.0, self.term.0, self.kind.encode())
    }
}

/// Our own encoding of what an entry of raft holds. A conf change has it as its context: its data is what raft itself
/// reads when one is proposed, and never again.
pub(super) fn entry_data(e: &eraftpb::Entry) -> &[u8] {
    match e.get_entry_type() {
        eraftpb::EntryType::EntryNormal => &e.data,
        eraftpb::EntryType::EntryConfChange | eraftpb::EntryType::EntryConfChangeV2 => &e.context,
    }
}

/// `data` is in our encoding.
pub(super) fn raft_entry(index: u64, term: u64, data: Vec<u8>) -> eraftpb::Entry {
    let mut e = eraftpb::Entry { index, term, ..Default::default() };
    if data.first() == Some(&OWN_CONF_CHANGE) {
        e.set_entry_type(eraftpb::EntryType::EntryConfChangeV2);
        e.set_context(data.into());
    } else {
        e.set_data(data.into());
    }
    e
}
