//! What nodes say to each other of snapshots, as bytes, big endian.
//!
//! Version u8 and kind u8; then an offer (kind 1): topic id 16 bytes, partition i32, number 16 bytes, term u64, leader's
//! peer u64, receiver's peer u64, raft's facts (length u32), count u32 of the compacted segments and the facts of each
//! (length u32), checkpoint to the end; or a piece that is asked for (kind 2): number 16 bytes, ordinal of the segment
//! u32, position u64, length u32; or a question for room for entries that a throttled replica lacks (kind 3): bytes u32.
//! An offer is answered by nothing, a piece by its bytes, room by nothing when there is some.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use millstream_core::replica::SnapshotMeta;
use millstream_core::types::{Offset, PartitionId, PeerId, RaftIndex, RaftTerm, TopicId};
use uuid::Uuid;

use crate::log::{self, LogStart, SegmentMeta};
use crate::store::Checkpoint;

const VERSION: u8 = 1;
const OFFER: u8 = 1;
const PIECE: u8 = 2;
const ROOM: u8 = 3;

/// Bytes that are nothing of this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("what is said of a snapshot is malformed")]
pub(super) struct Malformed;

/// A snapshot that a leader offers.
#[derive(Debug)]
pub(in super::super) struct Offer<'a> {
    pub id: PartitionId,
    /// Drawn at random: what is fetched names it.
    pub number: Uuid,
    /// Of the leader.
    pub term: RaftTerm,
    pub from: PeerId,
    pub to: PeerId,
    pub meta: SnapshotMeta,
    /// The compacted ones, which end where raft's first entry begins.
    pub segments: Vec<SegmentMeta>,
    /// To be the receiver's.
    pub checkpoint: Checkpoint<'a>,
}

/// A piece of a segment that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub number: Uuid,
    /// Among those of the offer.
    pub segment: u32,
    pub position: u64,
    pub len: u32,
}

/// What a node may be told.
#[derive(Debug)]
pub(super) enum Said {
    Offer(Box<Offer<'static>>),
    Piece(Piece),
    /// For so many bytes.
    Room(u32),
}

/// The start of the log whose first entry follows the snapshot.
pub(super) fn start_of(meta: &SnapshotMeta, base_offset: Offset) -> LogStart {
    LogStart { next_index: meta.index.next(), prev_term: meta.term, base_offset }
}

impl Offer<'_> {
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        out.put_slice(&[VERSION, OFFER]);
        out.put_slice(self.id.topic.0.as_bytes());
        out.put_i32(self.id.partition);
        out.put_slice(self.number.as_bytes());
        out.put_u64(self.term.0);
        out.put_u64(self.from.0);
        out.put_u64(self.to.0);
        put_bytes(&mut out, &self.meta.encode());
        // As many as there are files.
        out.put_u32(self.segments.len() as u32);
        for segment in &self.segments {
            put_bytes(&mut out, &segment.encode());
        }
        out.put_slice(&self.checkpoint.encode());
        out.freeze()
    }

    /// Where the log begins that is put together from it.
    pub fn start(&self) -> LogStart {
        let base_offset = self.segments.last().map(|last| last.end_offset);
        let position = || log::Checkpoint::decode(&self.checkpoint.log).map(|position| position.base_offset);
        start_of(&self.meta, base_offset.unwrap_or_else(|| position().unwrap_or_default()))
    }

    /// Bytes to be fetched.
    pub fn size_bytes(&self) -> u64 {
        self.segments.iter().fold(0, |sum, segment| sum.saturating_add(segment.length))
    }

    /// Whether it fits together: a replica could be opened on it.
    fn is_sound(&self) -> bool {
        if !(1..u64::MAX / 2).contains(&self.meta.index.0) {
            return false;
        }
        let start = self.start();
        let position = log::Checkpoint::decode(&self.checkpoint.log);
        let first_offset = self.segments.first().map_or(start.base_offset, |first| first.base_offset);
        let offsets = 0..=i64::MAX / 2;
        let epochs_fit = self
            .checkpoint
            .epochs
            .starts()
            .last()
            .is_none_or(|last| last.term <= self.meta.term && last.start_index <= self.meta.index);
        position == Ok(start.checkpoint())
            && (1..i32::MAX as u64).contains(&self.meta.term.0)
            && (self.meta.term.0..i32::MAX as u64).contains(&self.term.0)
            && !self.meta.membership.voters.is_empty()
            && [first_offset, start.base_offset, self.checkpoint.log_start].iter().all(|o| offsets.contains(&o.0))
            && first_offset <= self.checkpoint.log_start
            && self.checkpoint.applied == self.meta.index
            && epochs_fit
            && self.segments_follow(&start)
    }

    /// Whether each segment begins where the one before it ends, and the last where the entries begin.
    fn segments_follow(&self, start: &LogStart) -> bool {
        let of_start = (start.base_offset, start.next_index, start.prev_term);
        let begins = self.segments.iter().map(|next| (next.base_offset, next.base_index, next.prev_term));
        let ends = begins.skip(1).chain([of_start]);
        self.segments.iter().zip(ends).all(|(segment, next)| {
            (1..u32::MAX / 2).contains(&segment.generation)
                && segment.base_offset <= segment.end_offset
                && RaftIndex(1) <= segment.base_index
                && segment.base_index <= segment.end_index
                && segment.prev_term <= segment.last_term
                && (segment.end_offset, segment.end_index, segment.last_term) == next
        })
    }
}

/// Asks for room for so many bytes.
pub(in super::super) fn room(bytes: usize) -> Bytes {
    let mut out = BytesMut::with_capacity(6);
    out.put_slice(&[VERSION, ROOM]);
    // More than a message holds is none.
    out.put_u32(u32::try_from(bytes).unwrap_or(u32::MAX));
    out.freeze()
}

impl Piece {
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(34);
        out.put_slice(&[VERSION, PIECE]);
        out.put_slice(self.number.as_bytes());
        out.put_u32(self.segment);
        out.put_u64(self.position);
        out.put_u32(self.len);
        out.freeze()
    }
}

impl Said {
    /// Reads what the `encode`s wrote, and nothing that a replica could not be opened on.
    pub fn decode(mut bytes: Bytes) -> Result<Self, Malformed> {
        let cut = |_| Malformed;
        let (version, kind) = (bytes.try_get_u8().map_err(cut)?, bytes.try_get_u8().map_err(cut)?);
        match (version, kind) {
            (VERSION, OFFER) => decode_offer(&mut bytes).map(|offer| Self::Offer(Box::new(offer))),
            (VERSION, PIECE) => {
                let piece = Piece {
                    number: take_uuid(&mut bytes)?,
                    segment: bytes.try_get_u32().map_err(cut)?,
                    position: bytes.try_get_u64().map_err(cut)?,
                    len: bytes.try_get_u32().map_err(cut)?,
                };
                if bytes.is_empty() { Ok(Self::Piece(piece)) } else { Err(Malformed) }
            }
            (VERSION, ROOM) if bytes.len() == 4 => Ok(Self::Room(bytes.get_u32())),
            _ => Err(Malformed),
        }
    }
}

fn decode_offer(bytes: &mut Bytes) -> Result<Offer<'static>, Malformed> {
    let cut = |_| Malformed;
    let topic = TopicId(take_uuid(bytes)?);
    let id = PartitionId { topic, partition: bytes.try_get_i32().map_err(cut)? };
    let number = take_uuid(bytes)?;
    let mut word = || bytes.try_get_u64().map_err(cut);
    let (term, from, to) = (RaftTerm(word()?), PeerId(word()?), PeerId(word()?));
    let meta = SnapshotMeta::decode(&take_bytes(bytes)?).ok_or(Malformed)?;
    let count = bytes.try_get_u32().map_err(cut)?;
    let mut segments = Vec::new();
    for _ in 0..count {
        segments.push(SegmentMeta::decode(&take_bytes(bytes)?).map_err(|_| Malformed)?);
    }
    let checkpoint = Checkpoint::decode(bytes).map_err(|_| Malformed)?;
    let offer = Offer { id, number, term, from, to, meta, segments, checkpoint };
    if offer.is_sound() { Ok(offer) } else { Err(Malformed) }
}

fn put_bytes(out: &mut BytesMut, bytes: &[u8]) {
    // Facts of a few hundred bytes.
    out.put_u32(bytes.len() as u32);
    out.put_slice(bytes);
}

fn take_bytes(bytes: &mut Bytes) -> Result<Bytes, Malformed> {
    let len = bytes.try_get_u32().map_err(|_| Malformed)? as usize;
    if len > bytes.len() { Err(Malformed) } else { Ok(bytes.split_to(len)) }
}

fn take_uuid(bytes: &mut Bytes) -> Result<Uuid, Malformed> {
    bytes.try_get_u128().map(Uuid::from_u128).map_err(|_| Malformed)
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use millstream_core::partition::{LeaderEpochs, Producers};
    use millstream_core::replica::Membership;
    use millstream_core::types::Timestamp;

    use super::*;

    fn segment(base: i64, end: i64, base_index: u64, end_index: u64) -> SegmentMeta {
        SegmentMeta {
            base_offset: Offset(base),
            generation: 2,
            end_offset: Offset(end),
            base_index: RaftIndex(base_index),
            end_index: RaftIndex(end_index),
            prev_term: RaftTerm(1),
            last_term: RaftTerm(1),
            length: 1000,
            max_timestamp: Timestamp(5),
            first_timestamp: Timestamp(5),
            cleaned_end: Offset(end),
        }
    }

    fn offer() -> Offer<'static> {
        let membership = Membership::of_voters([PeerId(1), PeerId(2), PeerId(3)]);
        let meta =
            SnapshotMeta { index: RaftIndex(20), term: RaftTerm(1), membership, membership_index: RaftIndex(30) };
        let mut epochs = LeaderEpochs::default();
        epochs.note(RaftTerm(1), RaftIndex(2), Offset(0));
        let checkpoint = Checkpoint {
            log: start_of(&meta, Offset(90)).checkpoint().encode(),
            log_start: Offset(0),
            applied: RaftIndex(20),
            epochs,
            producers: Cow::Owned(Producers::default()),
            aborted: Cow::default(),
        };
        Offer {
            id: PartitionId { topic: TopicId(Uuid::from_u128(7)), partition: 3 },
            number: Uuid::from_u128(99),
            term: RaftTerm(4),
            from: PeerId(1),
            to: PeerId(3),
            meta,
            segments: vec![segment(0, 50, 2, 12), segment(50, 90, 12, 21)],
            checkpoint,
        }
    }

    #[test]
    fn an_offer_and_a_piece_come_back_and_cut_ones_are_refused() {
        let told = offer();
        let bytes = told.encode();
        let Said::Offer(read) = Said::decode(bytes.clone()).unwrap() else { panic!("an offer") };
        assert_eq!(read.encode(), bytes);
        assert_eq!((read.id, read.segments.len(), read.size_bytes()), (told.id, 2, 2000));
        assert_eq!(read.start().base_offset, Offset(90));
        assert!((0..bytes.len()).all(|len| Said::decode(bytes.slice(..len)).is_err()));
        assert!(Said::decode([&bytes[..], &[0]].concat().into()).is_err());

        let piece = Piece { number: Uuid::from_u128(99), segment: 1, position: 1 << 40, len: 1 << 20 };
        let bytes = piece.encode();
        assert!(matches!(Said::decode(bytes.clone()), Ok(Said::Piece(read)) if read == piece));
        assert!((0..bytes.len()).all(|len| Said::decode(bytes.slice(..len)).is_err()));
        assert!(Said::decode([&bytes[..], &[0]].concat().into()).is_err());
        assert!(matches!(Said::decode(room(77)), Ok(Said::Room(77))));
        assert!(Said::decode(room(77).slice(..5)).is_err());
    }

    #[test]
    fn an_offer_that_contradicts_itself_is_refused() {
        let refused = |what: &str, change: fn(&mut Offer<'static>)| {
            let mut offer = offer();
            change(&mut offer);
            assert!(Said::decode(offer.encode()).is_err(), "{what}");
        };
        refused("a hole between segments", |o| o.segments[1].base_offset = Offset(51));
        refused("a hole before the entries", |o| o.segments[1].end_index = RaftIndex(20));
        refused("segments that raft wrote", |o| o.segments[0].generation = 0);
        refused("segments that end before they begin", |o| o.segments[0].base_offset = Offset(60));
        refused("a log that begins after its start", |o| o.segments[0].base_offset = Offset(10));
        refused("a term after the leader's", |o| o.term = RaftTerm(0));
        refused("a term that no epoch shows", |o| o.term = RaftTerm(1 << 40));
        refused("another index", |o| o.checkpoint.applied = RaftIndex(21));
        refused("an index out of range", |o| o.meta.index = RaftIndex(u64::MAX));
        refused("another position", |o| o.checkpoint.log = start_of(&o.meta, Offset(91)).checkpoint().encode());
        refused("bytes for a position", |o| o.checkpoint.log = vec![1, 2, 3]);
        refused("epochs from after the snapshot", |o| o.checkpoint.epochs.note(RaftTerm(2), RaftIndex(21), Offset(90)));
        refused("nobody who votes", |o| o.meta.membership = Membership::default());
        refused("a generation without a next", |o| o.segments[0].generation = u32::MAX);
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_cause_a_panic(at in 0_usize..600, to: u8, more in proptest::collection::vec(0_u8.., 0..20)) {
            let mut bytes = offer().encode().to_vec();
            let len = bytes.len();
            bytes[at % len] = to;
            drop(Said::decode(bytes.into()));
            drop(Said::decode([&[VERSION, OFFER][..], &more].concat().into()));
        }
    }
}
