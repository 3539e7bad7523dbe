//! What the partitions of one node say to those of another, as bytes.
//!
//! Raft: length of the head u32, head, then the batches one after the other. Head: count u32, and for each message topic
//! id 16 bytes, partition i32, message length u32, message, batch count u32, and the length u32 of each batch.
//! Leaders: the sender's boot id 16 bytes, count u32, and for each partition topic id 16 bytes, partition i32, leader's
//! node i32, whether it leads still u8, epoch i32, count u16
//! and ids i32 of the nodes in sync, count u16 and peer ids u64 of the voters,
//! index u64 of the entry that made them voters, number u64 of the change of the replicas. All big endian.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use millstream_core::record::BatchHeader;
use millstream_core::replica::{EntryKind, Message, MessageError};
use millstream_core::types::{LeaderEpoch, NodeId, PartitionId, PeerId, RaftIndex, TopicId};
use uuid::Uuid;

use super::leaders::LeaderInfo;
use crate::raft::Outgoing;

/// Bytes of batches from which on a row of messages goes in another frame.
const FRAME_BATCH_BYTES: usize = 4 << 20;
/// The same for the messages themselves.
const FRAME_HEAD_BYTES: usize = 1 << 20;

/// A message that came in, its batches checked.
pub(super) struct Incoming {
    pub id: PartitionId,
    pub message: Message,
    pub batches: Vec<Bytes>,
}

/// Bytes of another node that are none of ours: the connection is not to be trusted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    #[error("it ends before its fields do, or goes on after them")]
    Length,
    #[error(transparent)]
    Message(#[from] MessageError),
    #[error("a message and its batches do not belong together")]
    Batch,
}

/// Messages on their way to one node.
#[derive(Default)]
pub(super) struct Frames {
    done: Vec<Vec<Bytes>>,
    head: Vec<u8>,
    count: u32,
    batches: Vec<Bytes>,
    batch_bytes: usize,
}

impl Frames {
    pub fn push(&mut self, id: PartitionId, outgoing: Outgoing) {
        let Outgoing { message, payloads, .. } = outgoing;
        let start = self.head.len();
        put_id(&mut self.head, id);
        let len_at = self.head.len();
        put_len(&mut self.head, 0);
        let message_at = self.head.len();
        if let Err(e) = message.encode_into(&mut self.head) {
            tracing::debug!(partition = %id, error = %e, "a message does not travel");
            return self.head.truncate(start);
        }
        let len = u32::try_from(self.head.len() - message_at).expect("smaller than a frame");
        self.head[len_at..message_at].copy_from_slice(&len.to_be_bytes());
        put_len(&mut self.head, payloads.len());
        for batch in payloads {
            put_len(&mut self.head, batch.len());
            self.batch_bytes += batch.len();
            self.batches.push(batch);
        }
        self.count += 1;
        if self.batch_bytes >= FRAME_BATCH_BYTES || self.head.len() >= FRAME_HEAD_BYTES {
            self.close();
        }
    }

    fn close(&mut self) {
        let head = Bytes::from(std::mem::take(&mut self.head));
        let mut lengths = BytesMut::with_capacity(8);
        put_len(&mut lengths, head.len() + 4);
        lengths.put_u32(self.count);
        let mut parts = vec![lengths.freeze(), head];
        parts.append(&mut self.batches);
        self.done.push(parts);
        (self.count, self.batch_bytes) = (0, 0);
    }

    /// The frames, each in parts.
    pub fn finish(mut self) -> Vec<Vec<Bytes>> {
        if self.count > 0 {
            self.close();
        }
        self.done
    }
}

pub(super) fn put_id(out: &mut impl BufMut, id: PartitionId) {
    out.put_slice(id.topic.0.as_bytes());
    out.put_i32(id.partition);
}

fn put_len(out: &mut impl BufMut, len: usize) {
    out.put_u32(u32::try_from(len).expect("smaller than a frame"));
}

pub(super) fn take_id(from: &mut Bytes) -> Result<PartitionId, WireError> {
    Ok(PartitionId { topic: TopicId(take_uuid(from)?), partition: take_i32(from)? })
}

fn take_uuid(from: &mut Bytes) -> Result<Uuid, WireError> {
    let bytes: [u8; 16] = take(from, 16)?.as_ref().try_into().map_err(|_| WireError::Length)?;
    Ok(Uuid::from_bytes(bytes))
}

fn take(from: &mut Bytes, len: usize) -> Result<Bytes, WireError> {
    if from.len() < len { Err(WireError::Length) } else { Ok(from.split_to(len)) }
}

fn take_len(from: &mut Bytes) -> Result<usize, WireError> {
    Ok(from.try_get_u32().map_err(|_| WireError::Length)? as usize)
}

fn take_i32(from: &mut Bytes) -> Result<i32, WireError> {
    from.try_get_i32().map_err(|_| WireError::Length)
}

/// Reads a frame of raft messages, and checks every batch against what raft is told of it.
pub(super) fn decode_raft(mut frame: Bytes) -> Result<Vec<Incoming>, WireError> {
    let head_len = take_len(&mut frame)?;
    let mut head = take(&mut frame, head_len)?;
    let mut batches = frame;
    let count = take_len(&mut head)?;
    let mut incoming = Vec::new();
    for _ in 0..count {
        let id = take_id(&mut head)?;
        let len = take_len(&mut head)?;
        let message = Message::decode(&take(&mut head, len)?)?;
        let mut own = Vec::new();
        for _ in 0..take_len(&mut head)? {
            let len = take_len(&mut head)?;
            own.push(take(&mut batches, len)?);
        }
        check(&message, &own)?;
        incoming.push(Incoming { id, message, batches: own });
    }
    if head.is_empty() && batches.is_empty() { Ok(incoming) } else { Err(WireError::Length) }
}

fn check(message: &Message, batches: &[Bytes]) -> Result<(), WireError> {
    let mut batches = batches.iter();
    for entry in message.entries() {
        if let EntryKind::Batch(told) = entry.map_err(MessageError::from)?.kind {
            let bytes = batches.next().ok_or(WireError::Batch)?;
            let header = BatchHeader::parse_checked(bytes).map_err(|_| WireError::Batch)?;
            let is_it = header.size_bytes() == bytes.len()
                && bytes.len() == told.size_bytes as usize
                && header.crc == told.crc
                && header.last_offset_delta + 1 == told.count;
            if !is_it {
                return Err(WireError::Batch);
            }
        }
    }
    if batches.next().is_none() { Ok(()) } else { Err(WireError::Batch) }
}

/// Who leads what, as one frame; `boot`: of the node that says so.
pub(super) fn encode_leaders<'a>(
    boot: Uuid,
    told: impl ExactSizeIterator<Item = (PartitionId, &'a LeaderInfo)>,
) -> Bytes {
    let mut out = BytesMut::with_capacity(20 + told.len() * 64);
    out.put_slice(boot.as_bytes());
    put_len(&mut out, told.len());
    for (id, info) in told {
        put_id(&mut out, id);
        out.put_i32(info.node.0);
        out.put_u8(u8::from(info.leads));
        out.put_i32(info.epoch.0);
        out.put_u16(u16::try_from(info.isr.len()).expect("as many as replicas"));
        info.isr.iter().for_each(|node| out.put_i32(node.0));
        out.put_u16(u16::try_from(info.voters.len()).expect("as many as replicas"));
        info.voters.iter().for_each(|peer| out.put_u64(peer.0));
        out.put_u64(info.members_index.0);
        out.put_u64(info.moves);
    }
    out.freeze()
}

pub(super) fn decode_leaders(mut from: Bytes) -> Result<(Uuid, Vec<(PartitionId, LeaderInfo)>), WireError> {
    let boot = take_uuid(&mut from)?;
    let count = take_len(&mut from)?;
    let mut told = Vec::new();
    for _ in 0..count {
        let id = take_id(&mut from)?;
        let node = NodeId(take_i32(&mut from)?);
        let leads = from.try_get_u8().map_err(|_| WireError::Length)? != 0;
        let epoch = LeaderEpoch(take_i32(&mut from)?);
        let isr_count = from.try_get_u16().map_err(|_| WireError::Length)?;
        let isr: Result<Vec<NodeId>, _> = (0..isr_count).map(|_| take_i32(&mut from).map(NodeId)).collect();
        let voter_count = from.try_get_u16().map_err(|_| WireError::Length)?;
        let voter = |_| from.try_get_u64().map(PeerId).map_err(|_| WireError::Length);
        let voters: Result<Vec<PeerId>, _> = (0..voter_count).map(voter).collect();
        let (isr, voters) = (isr?, voters?);
        let mut number = || from.try_get_u64().map_err(|_| WireError::Length);
        let (members_index, moves) = (RaftIndex(number()?), number()?);
        told.push((id, LeaderInfo { node, leads, epoch, isr, voters, members_index, moves }));
    }
    if from.is_empty() { Ok((boot, told)) } else { Err(WireError::Length) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(partition: i32) -> PartitionId {
        PartitionId { topic: TopicId(Uuid::from_u128(7)), partition }
    }

    #[test]
    fn leaders_come_back_as_they_went_and_a_cut_frame_is_refused() {
        let info = |node, isr: &[i32]| LeaderInfo {
            node: NodeId(node),
            leads: node > 1,
            epoch: LeaderEpoch(9),
            isr: isr.iter().map(|n| NodeId(*n)).collect(),
            voters: vec![PeerId(node as u64)],
            members_index: RaftIndex(12),
            moves: 3,
        };
        let told = [(id(0), info(1, &[1, 2, 3])), (id(4), info(2, &[]))];
        let boot = Uuid::from_u128(5);
        let bytes = encode_leaders(boot, told.iter().map(|(id, info)| (*id, info)));
        assert_eq!(decode_leaders(bytes.clone()).unwrap(), (boot, told.to_vec()));
        for len in 0..bytes.len() {
            assert_eq!(decode_leaders(bytes.slice(..len)), Err(WireError::Length));
        }
        assert!(decode_leaders([&bytes[..], &[0]].concat().into()).is_err());
    }

    #[test]
    fn garbage_is_refused_as_raft() {
        for bytes in [&b""[..], b"\0\0\0\x04\0\0\0\x01", b"\xff\xff\xff\xff", b"\0\0\0\x04\xff\xff\xff\xff"] {
            assert!(decode_raft(Bytes::copy_from_slice(bytes)).is_err());
        }
        assert_eq!(decode_raft(Bytes::from_static(b"\0\0\0\x04\0\0\0\0")).unwrap().len(), 0);
    }
}
