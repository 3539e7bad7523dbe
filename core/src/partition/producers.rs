//! Idempotent producers of a partition (Kafka `ProducerStateManager`, `ProducerAppendInfo`).
//!
//! A fold over committed batches, and on top of it a queue of the batches that were admitted and are not yet
//! committed. A decision looks at both; a commit moves the queue's head, a truncation drops its tail.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};

use crate::record::BatchHeader;
use crate::types::{Offset, ProducerEpoch, ProducerId, Sequence, Timestamp};

/// Batches remembered per producer: as many as an idempotent client may have in flight.
pub const PRODUCER_BATCHES_KEPT: usize = 5;

/// What the log knows of an appended batch of an idempotent producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchSequence {
    pub producer_id: ProducerId,
    pub epoch: ProducerEpoch,
    pub first_sequence: Sequence,
    pub last_sequence: Sequence,
    pub first_offset: Offset,
    pub last_offset: Offset,
    pub timestamp: Timestamp,
}

impl BatchSequence {
    /// The sequence of a batch as appended at `base_offset`; `None` when the batch is not idempotent.
    pub fn of(header: &BatchHeader, base_offset: Offset) -> Option<Self> {
        if !header.is_idempotent() || header.is_control() {
            return None;
        }
        Some(Self {
            producer_id: header.producer_id,
            epoch: header.producer_epoch,
            first_sequence: header.base_sequence,
            last_sequence: header.last_sequence(),
            first_offset: base_offset,
            last_offset: Offset(base_offset.0 + i64::from(header.last_offset_delta)),
            timestamp: header.max_timestamp,
        })
    }
}

/// What becomes of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Append it.
    New,
    /// It is in the log already, at these offsets; answer as then, once that offset is committed.
    Duplicate { first_offset: Offset, last_offset: Offset },
}

/// Why a batch is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProducerError {
    #[error("epoch {epoch} of producer {producer_id} is older than the last seen epoch {current}")]
    StaleEpoch { producer_id: ProducerId, epoch: ProducerEpoch, current: ProducerEpoch },
    #[error("out of order sequence number for producer {producer_id}: {got} (incoming), {last} (last in the log)")]
    OutOfOrder { producer_id: ProducerId, got: Sequence, last: Sequence },
}

/// A snapshot that does not decode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("producer snapshot is damaged")]
pub struct DecodeError;

#[derive(Clone, Debug, PartialEq, Eq)]
struct Producer {
    epoch: ProducerEpoch,
    /// Newest last; never empty.
    batches: VecDeque<KeptBatch>,
    last_timestamp: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct KeptBatch {
    first_sequence: Sequence,
    last_sequence: Sequence,
    first_offset: Offset,
    last_offset: Offset,
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Producers {
    committed: HashMap<ProducerId, Producer>,
    /// The batches of each producer, oldest first; none is empty.
    uncommitted: HashMap<ProducerId, VecDeque<BatchSequence>>,
    /// Whose they are and their last offsets, in the log's order.
    order: VecDeque<(ProducerId, Offset)>,
}

/// One producer, as DescribeProducers shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerSnapshot {
    pub producer_id: ProducerId,
    pub epoch: ProducerEpoch,
    pub last_sequence: Sequence,
    pub last_timestamp: Timestamp,
}

impl Producers {
    /// What becomes of a batch. Changes nothing: `admit` notes a batch that was `New`.
    pub fn check(&self, batch: &BatchHeader) -> Result<Admission, ProducerError> {
        let id = batch.producer_id;
        if let Some(duplicate) = self.duplicate_of(batch) {
            return Ok(Admission::Duplicate {
                first_offset: duplicate.first_offset,
                last_offset: duplicate.last_offset,
            });
        }
        let Some((epoch, last_sequence)) = self.last(id) else {
            // Nothing known, perhaps because it expired: any sequence may begin (Kafka 2.5 and newer).
            return Ok(Admission::New);
        };
        if batch.producer_epoch < epoch {
            return Err(ProducerError::StaleEpoch { producer_id: id, epoch: batch.producer_epoch, current: epoch });
        }
        let in_order = if batch.producer_epoch > epoch {
            batch.base_sequence == Sequence(0)
        } else {
            batch.base_sequence == last_sequence.plus(1)
        };
        if in_order {
            Ok(Admission::New)
        } else {
            Err(ProducerError::OutOfOrder { producer_id: id, got: batch.base_sequence, last: last_sequence })
        }
    }

    fn duplicate_of(&self, batch: &BatchHeader) -> Option<KeptBatch> {
        let (first, last) = (batch.base_sequence, batch.last_sequence());
        let mut newer = 0;
        for u in self.uncommitted.get(&batch.producer_id).into_iter().flatten().rev() {
            if u.epoch != batch.producer_epoch || newer == PRODUCER_BATCHES_KEPT {
                return None;
            }
            newer += 1;
            if u.first_sequence == first && u.last_sequence == last {
                return Some(KeptBatch::of(u));
            }
        }
        let producer = self.committed.get(&batch.producer_id).filter(|p| p.epoch == batch.producer_epoch)?;
        let kept = producer.batches.iter().rev().take(PRODUCER_BATCHES_KEPT - newer);
        kept.copied().find(|k| k.first_sequence == first && k.last_sequence == last)
    }

    fn last(&self, id: ProducerId) -> Option<(ProducerEpoch, Sequence)> {
        if let Some(u) = self.uncommitted.get(&id).and_then(VecDeque::back) {
            return Some((u.epoch, u.last_sequence));
        }
        self.committed.get(&id).and_then(|p| p.batches.back().map(|b| (p.epoch, b.last_sequence)))
    }

    /// Notes a batch that goes to the log.
    pub fn admit(&mut self, batch: BatchSequence) {
        self.order.push_back((batch.producer_id, batch.last_offset));
        self.uncommitted.entry(batch.producer_id).or_default().push_back(batch);
    }

    /// Everything below `committed` is committed.
    pub fn commit_to(&mut self, committed: Offset) {
        while let Some((id, _)) = self.order.pop_front_if(|(_, last)| *last < committed) {
            if let Some(batch) = self.take_uncommitted(id, VecDeque::pop_front) {
                self.replay(&batch);
            }
        }
    }

    /// Everything from `offset` on was cut from the log.
    pub fn truncate_from(&mut self, offset: Offset) {
        while let Some((id, _)) = self.order.pop_back_if(|(_, last)| *last >= offset) {
            self.take_uncommitted(id, VecDeque::pop_back);
        }
    }

    fn take_uncommitted(
        &mut self,
        id: ProducerId,
        take: fn(&mut VecDeque<BatchSequence>) -> Option<BatchSequence>,
    ) -> Option<BatchSequence> {
        let Entry::Occupied(mut batches) = self.uncommitted.entry(id) else { return None };
        let taken = take(batches.get_mut());
        if batches.get().is_empty() {
            batches.remove();
        }
        taken
    }

    /// Folds a committed batch in. One that is in already changes nothing: a start may read some of them twice.
    pub fn replay(&mut self, batch: &BatchSequence) {
        let known = self.committed.get(&batch.producer_id).and_then(|p| p.batches.back());
        if known.is_some_and(|newest| newest.last_offset >= batch.last_offset) {
            return;
        }
        let producer = self.committed.entry(batch.producer_id).or_insert_with(|| Producer {
            epoch: batch.epoch,
            batches: VecDeque::with_capacity(1),
            last_timestamp: Timestamp::NONE,
        });
        if producer.epoch != batch.epoch {
            producer.epoch = batch.epoch;
            producer.batches.clear();
        }
        if producer.batches.len() == PRODUCER_BATCHES_KEPT {
            producer.batches.pop_front();
        }
        producer.batches.push_back(KeptBatch::of(batch));
        producer.last_timestamp = batch.timestamp;
    }

    /// Forgets producers that wrote nothing for `expiration_ms` (`producer.id.expiration.ms`).
    pub fn expire(&mut self, now: Timestamp, expiration_ms: i64) {
        self.committed.retain(|_, p| now.0.saturating_sub(p.last_timestamp.0) < expiration_ms);
    }

    /// The committed producers, in no order.
    pub fn active(&self) -> impl Iterator<Item = ProducerSnapshot> + '_ {
        self.committed.iter().filter_map(|(id, p)| {
            let last = p.batches.back()?;
            Some(ProducerSnapshot {
                producer_id: *id,
                epoch: p.epoch,
                last_sequence: last.last_sequence,
                last_timestamp: p.last_timestamp,
            })
        })
    }

    /// The last offset of the last committed batch of each producer.
    pub fn last_offsets(&self) -> HashMap<ProducerId, Offset> {
        let last = |(id, p): (&ProducerId, &Producer)| Some((*id, p.batches.back()?.last_offset));
        self.committed.iter().filter_map(last).collect()
    }

    /// Committed producers.
    pub fn len(&self) -> usize {
        self.committed.len()
    }

    pub fn is_empty(&self) -> bool {
        self.committed.is_empty() && self.order.is_empty()
    }

    /// The committed state as bytes. Layout, big endian: count u32, then per producer: id i64, epoch i16, last
    /// timestamp i64, batches u8, then per batch: first sequence i32, last sequence i32, first offset i64, last
    /// offset i64.
    pub fn encode(&self, out: &mut Vec<u8>) {
        // More than 2^32 producers do not fit into memory.
        out.extend_from_slice(&(self.committed.len() as u32).to_be_bytes());
        for (id, p) in &self.committed {
            out.extend_from_slice(&id.0.to_be_bytes());
            out.extend_from_slice(&p.epoch.0.to_be_bytes());
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
    pub fn decode(mut input: &[u8]) -> Result<Self, DecodeError> {
        let mut producers = Self::default();
        let count = u32::from_be_bytes(take(&mut input)?);
        for _ in 0..count {
            let id = ProducerId(i64::from_be_bytes(take(&mut input)?));
            let epoch = ProducerEpoch(i16::from_be_bytes(take(&mut input)?));
            let last_timestamp = Timestamp(i64::from_be_bytes(take(&mut input)?));
            let [kept] = take(&mut input)?;
            let mut batches = VecDeque::with_capacity(PRODUCER_BATCHES_KEPT);
            for _ in 0..kept {
                batches.push_back(KeptBatch {
                    first_sequence: Sequence(i32::from_be_bytes(take(&mut input)?)),
                    last_sequence: Sequence(i32::from_be_bytes(take(&mut input)?)),
                    first_offset: Offset(i64::from_be_bytes(take(&mut input)?)),
                    last_offset: Offset(i64::from_be_bytes(take(&mut input)?)),
                });
            }
            if batches.is_empty() || batches.len() > PRODUCER_BATCHES_KEPT {
                return Err(DecodeError);
            }
            producers.committed.insert(id, Producer { epoch, batches, last_timestamp });
        }
        if input.is_empty() { Ok(producers) } else { Err(DecodeError) }
    }
}

impl KeptBatch {
    fn of(batch: &BatchSequence) -> Self {
        Self {
            first_sequence: batch.first_sequence,
            last_sequence: batch.last_sequence,
            first_offset: batch.first_offset,
            last_offset: batch.last_offset,
        }
    }
}

fn take<const N: usize>(input: &mut &[u8]) -> Result<[u8; N], DecodeError> {
    let (head, rest) = input.split_first_chunk::<N>().ok_or(DecodeError)?;
    *input = rest;
    Ok(*head)
}

#[cfg(test)]
mod tests;
