//! What becomes of a batch, and of a marker (Kafka `UnifiedLog.analyzeAndValidateProducerState`).

use super::verification::Guard;
use super::{KeptBatch, NO_SEQUENCE, PRODUCER_BATCHES_KEPT, Producers, Standing};
use crate::record::BatchHeader;
use crate::types::{Offset, ProducerEpoch, ProducerId, Sequence};

/// What becomes of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Append it.
    New,
    /// It is in the log already, at these offsets; answer as then, once that offset is committed.
    Duplicate { first_offset: Offset, last_offset: Offset },
}

/// Why a batch or a marker is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProducerError {
    #[error("epoch {epoch} of producer {producer_id} is older than the last seen epoch {current}")]
    StaleEpoch { producer_id: ProducerId, epoch: ProducerEpoch, current: ProducerEpoch },
    #[error("out of order sequence number for producer {producer_id}: {got} (incoming), {last} (last in the log)")]
    OutOfOrder { producer_id: ProducerId, got: Sequence, last: Sequence },
    /// INVALID_TXN_STATE.
    #[error("record of producer {producer_id} was not part of an ongoing transaction")]
    NotInTransaction { producer_id: ProducerId },
    /// INVALID_TXN_STATE.
    #[error("expected transactional write from producer {producer_id}")]
    OutsideTransaction { producer_id: ProducerId },
    /// TRANSACTION_COORDINATOR_FENCED.
    #[error("coordinator epoch {epoch} for producer {producer_id} is older than the last seen one, {current}")]
    CoordinatorFenced { producer_id: ProducerId, epoch: i32, current: i32 },
}

/// The end of a producer's transaction, as its coordinator tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TxnEnd {
    pub producer_id: ProducerId,
    pub producer_epoch: ProducerEpoch,
    pub commit: bool,
    pub coordinator_epoch: i32,
    /// `transaction.version` of the transaction. From 2 on its marker has a newer epoch than its records.
    pub transaction_version: i8,
}

impl Producers {
    /// What becomes of a batch of a client. Changes nothing: `admit` notes a batch that was `New`. `guard`: under which its
    /// transaction was verified.
    pub fn check(&self, batch: &BatchHeader, guard: Option<Guard>) -> Result<Admission, ProducerError> {
        let id = batch.producer_id;
        if let Some(duplicate) = self.duplicate_of(batch) {
            return Ok(Admission::Duplicate {
                first_offset: duplicate.first_offset,
                last_offset: duplicate.last_offset,
            });
        }
        let known = self.latest(id);
        if batch.is_transactional() {
            self.check_transaction(batch, known, guard)?;
            self.check_verified_sequence(batch, known)?;
        }
        let Some(known) = known else {
            // Nothing known, perhaps because it expired: any sequence may begin (Kafka 2.5 and newer).
            return Ok(Admission::New);
        };
        check_epoch(batch, known)?;
        let in_order = if batch.producer_epoch > known.epoch {
            batch.base_sequence == Sequence(0)
        } else {
            batch.base_sequence == known.last_sequence.plus(1)
        };
        if !in_order {
            return Err(out_of_order(batch, known.last_sequence));
        }
        if known.transaction.is_some() && !batch.is_transactional() {
            return Err(ProducerError::OutsideTransaction { producer_id: id });
        }
        Ok(Admission::New)
    }

    /// Whether a transactional batch of a coordinator may be appended: it has no sequence.
    pub fn check_coordinators(&self, batch: &BatchHeader, guard: Option<Guard>) -> Result<(), ProducerError> {
        let known = self.latest(batch.producer_id);
        self.check_transaction(batch, known, guard)?;
        known.map_or(Ok(()), |known| check_epoch(batch, known))
    }

    /// Whether a marker may be appended. One that comes again may: it ends nothing.
    pub fn check_end(&self, end: &TxnEnd) -> Result<(), ProducerError> {
        let TxnEnd { producer_id, producer_epoch: epoch, coordinator_epoch, transaction_version, .. } = *end;
        let Some(known) = self.latest(producer_id) else { return Ok(()) };
        let has_ended = known.transaction.is_none() || epoch == ProducerEpoch(i16::MAX);
        let is_stale = match transaction_version {
            2.. => epoch < known.epoch || epoch == known.epoch && !has_ended,
            _ => epoch < known.epoch,
        };
        if is_stale {
            return Err(ProducerError::StaleEpoch { producer_id, epoch, current: known.epoch });
        }
        if coordinator_epoch < known.coordinator_epoch {
            let current = known.coordinator_epoch;
            return Err(ProducerError::CoordinatorFenced { producer_id, epoch: coordinator_epoch, current });
        }
        Ok(())
    }

    /// A transactional batch either goes on with a transaction, or begins one that the coordinator knows of.
    fn check_transaction(
        &self,
        batch: &BatchHeader,
        known: Option<Standing>,
        guard: Option<Guard>,
    ) -> Result<(), ProducerError> {
        let id = batch.producer_id;
        if known.is_some_and(|known| known.transaction.is_some() && known.epoch == batch.producer_epoch) {
            return Ok(());
        }
        known.map_or(Ok(()), |known| check_epoch(batch, known))?;
        let is_verified = guard.is_some() && self.verification(id).map(|verification| verification.guard) == guard;
        if is_verified { Ok(()) } else { Err(ProducerError::NotInTransaction { producer_id: id }) }
    }

    /// Of the batches that are in flight while the coordinator is asked the first comes first.
    fn check_verified_sequence(&self, batch: &BatchHeader, known: Option<Standing>) -> Result<(), ProducerError> {
        let Some(verification) = self.verification(batch.producer_id) else { return Ok(()) };
        let is_new = known.is_none();
        if verification.bumps_epoch && batch.base_sequence != Sequence(0) && is_new {
            return Err(out_of_order(batch, NO_SEQUENCE));
        }
        if batch.base_sequence > verification.lowest_sequence {
            return Err(out_of_order(batch, verification.lowest_sequence));
        }
        Ok(())
    }

    fn duplicate_of(&self, batch: &BatchHeader) -> Option<KeptBatch> {
        let (first, last) = (batch.base_sequence, batch.last_sequence());
        let mut newer = 0;
        for admitted in self.uncommitted.get(&batch.producer_id).into_iter().flatten().rev() {
            let u = &admitted.batch;
            if u.epoch != batch.producer_epoch || newer == PRODUCER_BATCHES_KEPT {
                return None;
            }
            if matches!(u.kind, super::BatchKind::End { .. }) {
                continue;
            }
            newer += 1;
            if u.first_sequence == first && u.last_sequence == last {
                return Some(KeptBatch::of(u));
            }
        }
        let producer = self.committed.get(&batch.producer_id).filter(|p| p.standing.epoch == batch.producer_epoch)?;
        let kept = producer.batches.iter().rev().take(PRODUCER_BATCHES_KEPT - newer);
        kept.copied().find(|k| k.first_sequence == first && k.last_sequence == last)
    }
}

fn check_epoch(batch: &BatchHeader, known: Standing) -> Result<(), ProducerError> {
    let (producer_id, epoch, current) = (batch.producer_id, batch.producer_epoch, known.epoch);
    if epoch < current { Err(ProducerError::StaleEpoch { producer_id, epoch, current }) } else { Ok(()) }
}

fn out_of_order(batch: &BatchHeader, last: Sequence) -> ProducerError {
    ProducerError::OutOfOrder { producer_id: batch.producer_id, got: batch.base_sequence, last }
}
