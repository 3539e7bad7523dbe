//! The fold as bytes.
//!
//! Version 2, big endian: folded end i64, count u32, then per producer: id i64, epoch i16, last sequence i32, coordinator
//! epoch i32, first offset of its transaction i64 (-1: none), last timestamp i64, batches u8, then per batch: first
//! sequence i32, last sequence i32, first offset i64, last offset i64. Version 1, written before there were transactions:
//! the same from the count on, without last sequence, coordinator epoch and transaction.

use std::collections::VecDeque;

use super::{KeptBatch, NO_SEQUENCE, PRODUCER_BATCHES_KEPT, Producer, Producers, Standing};
use crate::types::{Offset, ProducerEpoch, ProducerId, Sequence, Timestamp};

/// A snapshot that does not decode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("producer snapshot is damaged")]
pub struct DecodeError;

impl Producers {
    /// The committed state as bytes, in version 2.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.folded_end.0.to_be_bytes());
        // More than 2^32 producers do not fit into memory.
        out.extend_from_slice(&(self.committed.len() as u32).to_be_bytes());
        for (id, p) in &self.committed {
            let Standing { epoch, last_sequence, coordinator_epoch, transaction } = p.standing;
            out.extend_from_slice(&id.0.to_be_bytes());
            out.extend_from_slice(&epoch.0.to_be_bytes());
            out.extend_from_slice(&last_sequence.0.to_be_bytes());
            out.extend_from_slice(&coordinator_epoch.to_be_bytes());
            out.extend_from_slice(&transaction.map_or(-1, |first| first.0).to_be_bytes());
            out.extend_from_slice(&p.last_timestamp.0.to_be_bytes());
            out.push(p.batches.len() as u8);
            for b in &p.batches {
                out.extend_from_slice(&b.first_sequence.0.to_be_bytes());
                out.extend_from_slice(&b.last_sequence.0.to_be_bytes());
                out.extend_from_slice(&b.first_offset.0.to_be_bytes());
                out.extend_from_slice(&b.last_offset.0.to_be_bytes());
            }
        }
    }

    /// The inverse of `encode`; `input` must end with the snapshot.
    pub fn decode(input: &[u8]) -> Result<Self, DecodeError> {
        Self::decode_version(2, input)
    }

    /// Reads version 1 or 2.
    pub fn decode_version(version: u8, mut input: &[u8]) -> Result<Self, DecodeError> {
        let input = &mut input;
        let mut producers = Self::default();
        if version >= 2 {
            producers.folded_end = Offset(take_i64(input)?);
        }
        for _ in 0..u32::from_be_bytes(take(input)?) {
            let id = ProducerId(take_i64(input)?);
            let producer = decode_producer(version, input)?;
            if let Some(last) = producer.batches.back().filter(|_| version == 1) {
                producers.folded_end = producers.folded_end.max(last.last_offset.plus(1));
            }
            if let Some(first) = producer.standing.transaction {
                producers.open.insert((first, id));
            }
            producers.committed.insert(id, producer);
        }
        if input.is_empty() { Ok(producers) } else { Err(DecodeError) }
    }
}

fn decode_producer(version: u8, input: &mut &[u8]) -> Result<Producer, DecodeError> {
    let mut standing = Standing { epoch: ProducerEpoch(i16::from_be_bytes(take(input)?)), ..Standing::UNKNOWN };
    if version >= 2 {
        standing.last_sequence = Sequence(take_i32(input)?);
        standing.coordinator_epoch = take_i32(input)?;
        standing.transaction = Some(take_i64(input)?).filter(|first| *first >= 0).map(Offset);
    }
    let last_timestamp = Timestamp(take_i64(input)?);
    let [kept] = take(input)?;
    let mut batches = VecDeque::with_capacity(PRODUCER_BATCHES_KEPT);
    for _ in 0..kept {
        batches.push_back(KeptBatch {
            first_sequence: Sequence(take_i32(input)?),
            last_sequence: Sequence(take_i32(input)?),
            first_offset: Offset(take_i64(input)?),
            last_offset: Offset(take_i64(input)?),
        });
    }
    if batches.len() > PRODUCER_BATCHES_KEPT || version == 1 && batches.is_empty() {
        return Err(DecodeError);
    }
    if version == 1 {
        standing.last_sequence = batches.back().map_or(NO_SEQUENCE, |last| last.last_sequence);
    }
    Ok(Producer { standing, batches, last_timestamp })
}

pub(in super::super) fn take<const N: usize>(input: &mut &[u8]) -> Result<[u8; N], DecodeError> {
    let (head, rest) = input.split_first_chunk::<N>().ok_or(DecodeError)?;
    *input = rest;
    Ok(*head)
}

fn take_i32(input: &mut &[u8]) -> Result<i32, DecodeError> {
    take(input).map(i32::from_be_bytes)
}

fn take_i64(input: &mut &[u8]) -> Result<i64, DecodeError> {
    take(input).map(i64::from_be_bytes)
}
