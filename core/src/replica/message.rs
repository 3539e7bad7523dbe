//! What replicas of one group say to each other: raft's messages, in an encoding of our own. No byte of a peer reaches
//! protobuf, and an entry travels as its descriptor: the batch's bytes go beside it.

use raft::eraftpb;

use super::entry::{Entry, EntryDataError, EntryKind, entry_data, raft_entry};
use super::snapshot::SnapshotMeta;
use crate::types::{PeerId, RaftIndex, RaftTerm};

/// The type with which a snapshot's facts travel; what it stands for goes another way.
const SNAPSHOT: u8 = 11;
/// Longest facts of a snapshot.
const SNAPSHOT_MAX: usize = 64 * 1024;
/// Entries that one message may hold; raft is told to send fewer.
const ENTRIES_MAX: usize = 4096;
/// Longest data of an entry.
const ENTRY_DATA_MAX: usize = 64 * 1024;
/// Longest context: raft puts a word or a read's number there.
const CONTEXT_MAX: usize = 64;
/// Type, to, from, term, log term, index, commit, commit term, request snapshot, reject hint, priority, reject, lengths.
const FIXED_LEN: usize = 1 + 10 * 8 + 1 + 4 + 4;

/// Types that travel, by their number on the wire. Never reused. Reads are asked of leaders only, whose heartbeats carry
/// the question.
const KINDS: [(u8, eraftpb::MessageType); 10] = {
    use eraftpb::MessageType::*;
    [
        (1, MsgAppend),
        (2, MsgAppendResponse),
        (3, MsgRequestVote),
        (4, MsgRequestVoteResponse),
        (5, MsgRequestPreVote),
        (6, MsgRequestPreVoteResponse),
        (7, MsgHeartbeat),
        (8, MsgHeartbeatResponse),
        (9, MsgTimeoutNow),
        (SNAPSHOT, MsgSnapshot),
    ]
};

/// One message of a replica to another.
#[derive(Clone, Debug, PartialEq)]
pub struct Message(pub(super) eraftpb::Message);

/// Bytes that are no message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    #[error("the message ends before its fields do, or goes on after them")]
    Length,
    #[error("message type {0} is not known")]
    Type(u8),
    #[error("a message of this type does not travel")]
    Local,
    #[error("{0} is neither yes nor no")]
    Bool(u8),
    #[error("{what} of {len} is more than a message may hold")]
    TooMuch { what: &'static str, len: usize },
    #[error(transparent)]
    Entry(#[from] EntryDataError),
    #[error("the facts of a snapshot are not sound")]
    Snapshot,
}

impl Message {
    pub fn to(&self) -> PeerId {
        PeerId(self.0.to)
    }

    pub fn from(&self) -> PeerId {
        PeerId(self.0.from)
    }

    pub fn term(&self) -> RaftTerm {
        RaftTerm(self.0.term)
    }

    /// The commit index that the sender tells. A heartbeat never tells more than the receiver has acknowledged.
    pub fn commit(&self) -> RaftIndex {
        RaftIndex(self.0.commit)
    }

    pub fn is_heartbeat(&self) -> bool {
        self.0.msg_type == eraftpb::MessageType::MsgHeartbeat
    }

    /// The snapshot that it tells of, if it does. What that stands for must be here before the message is stepped.
    pub fn snapshot(&self) -> Option<SnapshotMeta> {
        let is_snapshot = self.0.msg_type == eraftpb::MessageType::MsgSnapshot;
        is_snapshot.then(|| SnapshotMeta::from_raft(self.0.get_snapshot()))?
    }

    /// Says nothing but that the sender is there, in this term.
    pub(super) fn presence(from: PeerId, to: PeerId, term: u64) -> Self {
        let msg_type = eraftpb::MessageType::MsgHeartbeatResponse;
        Self(eraftpb::Message { msg_type, from: from.0, to: to.0, term, ..eraftpb::Message::default() })
    }

    pub(super) fn asks_for_vote(&self) -> bool {
        use eraftpb::MessageType::{MsgRequestPreVote, MsgRequestVote};
        matches!(self.0.msg_type, MsgRequestVote | MsgRequestPreVote)
    }

    pub(super) fn is_timeout_now(&self) -> bool {
        self.0.msg_type == eraftpb::MessageType::MsgTimeoutNow
    }

    /// The entries that it brings, in order.
    pub fn entries(&self) -> impl Iterator<Item = Result<Entry, EntryDataError>> + '_ {
        self.0.entries.iter().map(Entry::from_raft)
    }

    /// Layout, big endian: type u8; to, from, term, log term, index, commit, commit term, request snapshot, reject
    /// hint, priority u64; reject u8; context length u32, bytes; entry count u32, and for each: index u64, term u64,
    /// data length u32, bytes; of a snapshot: length u32, its facts.
    pub fn encode(&self) -> Result<Vec<u8>, MessageError> {
        let mut out = Vec::with_capacity(FIXED_LEN + self.0.context.len() + self.0.entries.len() * 48);
        self.write(&mut out)?;
        Ok(out)
    }

    /// The same behind what is there. On an error nothing is added.
    pub fn encode_into(&self, out: &mut Vec<u8>) -> Result<(), MessageError> {
        let start = out.len();
        let written = self.write(out);
        if written.is_err() {
            out.truncate(start);
        }
        written
    }

    fn write(&self, out: &mut Vec<u8>) -> Result<(), MessageError> {
        let m = &self.0;
        let kind = KINDS.iter().find(|(_, t)| *t == m.msg_type).ok_or(MessageError::Local)?.0;
        out.push(kind);
        let words =
            [m.to, m.from, m.term, m.log_term, m.index, m.commit, m.commit_term, m.request_snapshot, m.reject_hint];
        for word in words.into_iter().chain([m.priority.cast_unsigned()]) {
            out.extend_from_slice(&word.to_be_bytes());
        }
        out.push(u8::from(m.reject));
        put_bytes(out, "context", &m.context, CONTEXT_MAX)?;
        out.extend_from_slice(&count("entries", m.entries.len(), ENTRIES_MAX)?.to_be_bytes());
        for e in &m.entries {
            out.extend_from_slice(&e.index.to_be_bytes());
            out.extend_from_slice(&e.term.to_be_bytes());
            put_bytes(out, "entry data", entry_data(e), ENTRY_DATA_MAX)?;
        }
        if kind == SNAPSHOT {
            let meta = self.snapshot().ok_or(MessageError::Snapshot)?;
            put_bytes(out, "snapshot", &meta.encode(), SNAPSHOT_MAX)?;
        }
        Ok(())
    }

    /// Reads what `encode` wrote; nothing is allocated for what has not arrived.
    pub fn decode(mut bytes: &[u8]) -> Result<Self, MessageError> {
        let bytes = &mut bytes;
        let kind = take::<1>(bytes)?[0];
        let msg_type = KINDS.iter().find(|(k, _)| *k == kind).ok_or(MessageError::Type(kind))?.1;
        // In the order of the wire.
        let mut m = eraftpb::Message {
            msg_type,
            to: take_u64(bytes)?,
            from: take_u64(bytes)?,
            term: take_u64(bytes)?,
            log_term: take_u64(bytes)?,
            index: take_u64(bytes)?,
            commit: take_u64(bytes)?,
            commit_term: take_u64(bytes)?,
            request_snapshot: take_u64(bytes)?,
            reject_hint: take_u64(bytes)?,
            priority: take_u64(bytes)?.cast_signed(),
            reject: take_bool(bytes)?,
            context: take_bytes(bytes, "context", CONTEXT_MAX)?.to_vec().into(),
            ..Default::default()
        };
        let entries = u32::from_be_bytes(take(bytes)?) as usize;
        count("entries", entries, ENTRIES_MAX)?;
        for _ in 0..entries {
            let (index, term) = (take_u64(bytes)?, take_u64(bytes)?);
            let data = take_bytes(bytes, "entry data", ENTRY_DATA_MAX)?;
            EntryKind::decode(data)?;
            m.entries.push(raft_entry(index, term, data.to_vec()));
        }
        if kind == SNAPSHOT {
            let meta = SnapshotMeta::decode(take_bytes(bytes, "snapshot", SNAPSHOT_MAX)?);
            m.set_snapshot(meta.ok_or(MessageError::Snapshot)?.to_raft());
        }
        if bytes.is_empty() { Ok(Self(m)) } else { Err(MessageError::Length) }
    }
}

fn count(what: &'static str, len: usize, max: usize) -> Result<u32, MessageError> {
    let fits = u32::try_from(len).ok().filter(|_| len <= max);
    fits.ok_or(MessageError::TooMuch { what, len })
}

fn put_bytes(out: &mut Vec<u8>, what: &'static str, bytes: &[u8], max: usize) -> Result<(), MessageError> {
    out.extend_from_slice(&count(what, bytes.len(), max)?.to_be_bytes());
    out.extend_from_slice(bytes);
    Ok(())
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N], MessageError> {
    let (head, rest) = bytes.split_first_chunk::<N>().ok_or(MessageError::Length)?;
    *bytes = rest;
    Ok(*head)
}

fn take_bool(bytes: &mut &[u8]) -> Result<bool, MessageError> {
    match take(bytes)? {
        [0] => Ok(false),
        [1] => Ok(true),
        [other] => Err(MessageError::Bool(other)),
    }
}

fn take_u64(bytes: &mut &[u8]) -> Result<u64, MessageError> {
    take(bytes).map(u64::from_be_bytes)
}

fn take_bytes<'a>(bytes: &mut &'a [u8], what: &'static str, max: usize) -> Result<&'a [u8], MessageError> {
    let len = u32::from_be_bytes(take(bytes)?) as usize;
    count(what, len, max)?;
    let (head, rest) = bytes.split_at_checked(len).ok_or(MessageError::Length)?;
    *bytes = rest;
    Ok(head)
}
