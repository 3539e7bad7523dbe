//! Producers of a partition with an identity: idempotent ones and their transactions (Kafka `ProducerStateManager`,
//! `ProducerAppendInfo`).
//!
//! A fold over committed batches, and on top of it a queue of the batches that were admitted and are not yet
//! committed. A decision looks at both; a commit moves the queue's head, a truncation drops its tail. Where readers of
//! committed records must stop follows from the fold alone, so it is the same on every replica.

mod check;
mod stored;
#[cfg(test)]
mod tests;
mod verification;

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap, VecDeque};

use super::aborted::AbortedTransaction;
use crate::record::{BatchHeader, Marker, marker_of};
use crate::types::{Offset, ProducerEpoch, ProducerId, Sequence, Timestamp};

pub use check::{Admission, ProducerError, TxnEnd};
pub use stored::DecodeError;
pub(super) use stored::take;
pub use verification::Guard;
use verification::Verification;

/// Batches remembered per producer: as many as an idempotent client may have in flight.
pub const PRODUCER_BATCHES_KEPT: usize = 5;
/// Before a producer's first batch; what comes next has sequence 0.
const NO_SEQUENCE: Sequence = Sequence(-1);

/// What the log knows of an appended batch of a producer with an identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchSequence {
    pub producer_id: ProducerId,
    pub epoch: ProducerEpoch,
    pub first_sequence: Sequence,
    pub last_sequence: Sequence,
    pub first_offset: Offset,
    pub last_offset: Offset,
    pub timestamp: Timestamp,
    pub kind: BatchKind,
}

/// What a batch is to its producer's transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchKind {
    /// Not part of any.
    Plain,
    Transactional,
    /// The marker that ends it.
    End {
        commit: bool,
        coordinator_epoch: i32,
    },
}

impl BatchSequence {
    /// A batch as appended at `base_offset`. `batch`: all of it, of which only a marker is looked into. `None` when it has
    /// no producer, or compaction left nothing of a marker.
    pub fn of(header: &BatchHeader, batch: &[u8], base_offset: Offset) -> Option<Self> {
        if !header.is_idempotent() {
            return None;
        }
        let kind = if header.is_control() {
            let (marker, coordinator_epoch) = marker_of(header, batch)?;
            BatchKind::End { commit: marker == Marker::Commit, coordinator_epoch }
        } else if header.is_transactional() {
            BatchKind::Transactional
        } else {
            BatchKind::Plain
        };
        Some(Self {
            producer_id: header.producer_id,
            epoch: header.producer_epoch,
            first_sequence: header.base_sequence,
            last_sequence: header.last_sequence(),
            first_offset: base_offset,
            last_offset: Offset(base_offset.0 + i64::from(header.last_offset_delta)),
            timestamp: header.max_timestamp,
            kind,
        })
    }
}

/// Where a producer stands after a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Standing {
    epoch: ProducerEpoch,
    /// `NO_SEQUENCE`: no batch of this epoch.
    last_sequence: Sequence,
    /// Of the last marker; -1: there was none.
    coordinator_epoch: i32,
    /// The first offset of the transaction that is under way.
    transaction: Option<Offset>,
}

impl Standing {
    const UNKNOWN: Self =
        Self { epoch: ProducerEpoch(-1), last_sequence: NO_SEQUENCE, coordinator_epoch: -1, transaction: None };

    fn after(self, batch: &BatchSequence) -> Self {
        let (epoch, same_epoch) = (batch.epoch, batch.epoch == self.epoch);
        match batch.kind {
            BatchKind::Plain => Self { epoch, last_sequence: batch.last_sequence, ..self },
            BatchKind::Transactional => Self {
                epoch,
                last_sequence: batch.last_sequence,
                transaction: self.transaction.or(Some(batch.first_offset)),
                ..self
            },
            BatchKind::End { coordinator_epoch, .. } => {
                let last_sequence = if same_epoch { self.last_sequence } else { NO_SEQUENCE };
                Self { epoch, last_sequence, coordinator_epoch, transaction: None }
            }
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Producer {
    standing: Standing,
    /// Newest last, all of the present epoch.
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

/// A batch that is admitted and not yet committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Admitted {
    batch: BatchSequence,
    after: Standing,
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Producers {
    committed: HashMap<ProducerId, Producer>,
    /// The batches of each producer, oldest first; none is empty.
    uncommitted: HashMap<ProducerId, VecDeque<Admitted>>,
    /// Whose they are and their last offsets, in the log's order.
    order: VecDeque<(ProducerId, Offset)>,
    /// The transactions that are under way in the fold, by first offset.
    open: BTreeSet<(Offset, ProducerId)>,
    /// The offset after the last batch that is folded in.
    folded_end: Offset,
    /// Aborted since they were last taken.
    aborted: Vec<AbortedTransaction>,
    /// Transactions that the coordinator is asked about. Not of the log: they go with the leadership.
    verifications: HashMap<ProducerId, Verification>,
    /// With so many, old ones are forgotten.
    verifications_max: usize,
}

/// One producer, as DescribeProducers shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerSnapshot {
    pub producer_id: ProducerId,
    pub epoch: ProducerEpoch,
    /// -1: no batch of this epoch.
    pub last_sequence: Sequence,
    pub last_timestamp: Timestamp,
    /// -1: no transaction has ended.
    pub coordinator_epoch: i32,
    /// Where the transaction begins that is under way.
    pub transaction_start: Option<Offset>,
}

/// What must stay of a producer for its successor's sake, whatever compaction does (`LastRecord`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastRecord {
    /// The last offset of its last batch of data. `None`: its last marker stands for it.
    pub data: Option<Offset>,
    pub epoch: ProducerEpoch,
}

impl Producers {
    fn latest(&self, id: ProducerId) -> Option<Standing> {
        if let Some(admitted) = self.uncommitted.get(&id).and_then(VecDeque::back) {
            return Some(admitted.after);
        }
        self.committed.get(&id).map(|producer| producer.standing)
    }

    /// Notes a batch that goes to the log.
    pub fn admit(&mut self, batch: BatchSequence) {
        let after = self.latest(batch.producer_id).unwrap_or(Standing::UNKNOWN).after(&batch);
        if batch.kind != BatchKind::Plain && !self.verifications.is_empty() {
            self.forget_verification(&batch);
        }
        self.order.push_back((batch.producer_id, batch.last_offset));
        self.uncommitted.entry(batch.producer_id).or_default().push_back(Admitted { batch, after });
    }

    /// Everything below `committed` is committed.
    pub fn commit_to(&mut self, committed: Offset) {
        while let Some((id, _)) = self.order.pop_front_if(|(_, last)| *last < committed) {
            if let Some(admitted) = self.take_uncommitted(id, VecDeque::pop_front) {
                self.replay(&admitted.batch);
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
        take: fn(&mut VecDeque<Admitted>) -> Option<Admitted>,
    ) -> Option<Admitted> {
        let Entry::Occupied(mut batches) = self.uncommitted.entry(id) else { return None };
        let taken = take(batches.get_mut());
        if batches.get().is_empty() {
            batches.remove();
        }
        taken
    }

    /// Folds a committed batch in. One that is in already changes nothing: a start may read some of them twice.
    pub fn replay(&mut self, batch: &BatchSequence) {
        if batch.last_offset < self.folded_end {
            return;
        }
        self.folded_end = batch.last_offset.plus(1);
        let id = batch.producer_id;
        let producer = self.committed.entry(id).or_insert_with(|| Producer {
            standing: Standing::UNKNOWN,
            batches: VecDeque::with_capacity(1),
            last_timestamp: Timestamp::NONE,
        });
        let before = producer.standing;
        producer.standing = before.after(batch);
        producer.last_timestamp = batch.timestamp;
        if before.epoch != batch.epoch {
            producer.batches.clear();
        }
        let BatchKind::End { commit, .. } = batch.kind else {
            if producer.batches.len() == PRODUCER_BATCHES_KEPT {
                producer.batches.pop_front();
            }
            producer.batches.push_back(KeptBatch::of(batch));
            if let (None, Some(first)) = (before.transaction, producer.standing.transaction) {
                self.open.insert((first, id));
            }
            return;
        };
        let Some(first_offset) = before.transaction else { return };
        self.open.remove(&(first_offset, id));
        if !commit {
            let last_offset = batch.last_offset;
            let last_stable = self.open.first().map_or(last_offset.plus(1), |(first, _)| *first);
            self.aborted.push(AbortedTransaction { producer_id: id, first_offset, last_offset, last_stable });
        }
    }

    /// The transactions that were found aborted since the last call, in the order of their markers.
    pub fn take_aborted(&mut self) -> Vec<AbortedTransaction> {
        std::mem::take(&mut self.aborted)
    }

    /// Where readers of committed records must stop, if they may go to `high_watermark` otherwise: before the first
    /// transaction that is undecided there. `None`: that is not known, for more than that is folded in.
    pub fn last_stable_offset(&self, high_watermark: Offset) -> Option<Offset> {
        let first = self.open.first().map_or(high_watermark, |(first, _)| *first);
        (self.folded_end <= high_watermark).then(|| first.min(high_watermark))
    }

    /// Whether a transaction is under way in the fold.
    pub fn has_open_transactions(&self) -> bool {
        !self.open.is_empty()
    }

    /// Forgets producers that wrote nothing for `expiration_ms` (`producer.id.expiration.ms`) and have no transaction under
    /// way.
    pub fn expire(&mut self, now: Timestamp, expiration_ms: i64) {
        let is_live = |at: Timestamp| now.0.saturating_sub(at.0) < expiration_ms;
        self.committed.retain(|_, p| p.standing.transaction.is_some() || is_live(p.last_timestamp));
        self.verifications.retain(|_, verification| is_live(verification.since));
    }

    /// The committed producers, in no order.
    pub fn active(&self) -> impl Iterator<Item = ProducerSnapshot> + '_ {
        self.committed.iter().map(|(id, p)| ProducerSnapshot {
            producer_id: *id,
            epoch: p.standing.epoch,
            last_sequence: p.standing.last_sequence,
            last_timestamp: p.last_timestamp,
            coordinator_epoch: p.standing.coordinator_epoch,
            transaction_start: p.standing.transaction,
        })
    }

    /// The last record of each producer.
    pub fn last_records(&self) -> HashMap<ProducerId, LastRecord> {
        let last = |p: &Producer| LastRecord {
            data: p.batches.back().map(|batch| batch.last_offset),
            epoch: p.standing.epoch,
        };
        self.committed.iter().map(|(id, p)| (*id, last(p))).collect()
    }

    /// Committed producers.
    pub fn len(&self) -> usize {
        self.committed.len()
    }

    pub fn is_empty(&self) -> bool {
        self.committed.is_empty() && self.order.is_empty()
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
