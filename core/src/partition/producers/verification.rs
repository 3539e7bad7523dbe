//! Does a transaction of the coordinator's know this partition? (KIP-890, Kafka `VerificationStateEntry`)
//!
//! Before the first batch of a transaction is appended the coordinator is asked. What it says counts only while nothing
//! has ended the transaction meanwhile: a marker takes the guard away that was given when the question was put.

use super::{BatchKind, BatchSequence, ProducerError, Producers};
use crate::types::{ProducerEpoch, ProducerId, Sequence, Timestamp};

/// So many are kept at least, however old: clients may name any producer ids.
const KEPT_MIN: usize = 10_000;
/// Nobody waits longer for the coordinator.
const ASKED_FOR_MS: i64 = 60_000;

/// Names one question to the coordinator; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guard(pub u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Verification {
    pub guard: Guard,
    pub since: Timestamp,
    pub epoch: ProducerEpoch,
    /// The lowest that was seen: no later batch may come before it.
    pub lowest_sequence: Sequence,
    /// The producer's epoch rises with each transaction (transaction version 2).
    pub bumps_epoch: bool,
}

impl Producers {
    /// Begins to verify that the transaction of a batch knows this partition. `None`: it does, for it is under way here.
    /// `fresh`: a guard that was never used.
    pub fn begin_verification(
        &mut self,
        (id, epoch, sequence): (ProducerId, ProducerEpoch, Sequence),
        bumps_epoch: bool,
        now: Timestamp,
        fresh: Guard,
    ) -> Result<Option<Guard>, ProducerError> {
        let latest = self.latest(id);
        if let Some(known) = latest.filter(|known| epoch < known.epoch) {
            return Err(ProducerError::StaleEpoch { producer_id: id, epoch, current: known.epoch });
        }
        if latest.is_some_and(|known| known.transaction.is_some() && known.epoch == epoch) {
            return Ok(None);
        }
        if self.verifications.len() >= self.verifications_max.max(KEPT_MIN) {
            self.verifications.retain(|_, v| now.0.saturating_sub(v.since.0) < ASKED_FOR_MS);
            self.verifications_max = self.verifications.len() * 2;
        }
        let new = Verification { guard: fresh, since: now, epoch, lowest_sequence: sequence, bumps_epoch };
        let verification = self.verifications.entry(id).or_insert(new);
        if epoch > verification.epoch {
            verification.epoch = epoch;
            verification.lowest_sequence = sequence;
        } else if epoch == verification.epoch {
            verification.lowest_sequence = verification.lowest_sequence.min(sequence);
        }
        Ok(Some(verification.guard))
    }

    /// A batch or a marker of a transaction goes to the log: what was asked before is answered, or void. Not where the marker
    /// ends the transaction before the one that is asked about: its producer goes on, with the epoch that the marker has,
    /// as soon as the coordinator has decided (`UnifiedLog.updateProducers`).
    pub(super) fn forget_verification(&mut self, by: &BatchSequence) {
        let is_of_the_next = |verification: &Verification| {
            matches!(by.kind, BatchKind::End { .. }) && verification.bumps_epoch && verification.epoch == by.epoch
        };
        if self.verification(by.producer_id).is_some_and(|verification| !is_of_the_next(verification)) {
            self.verifications.remove(&by.producer_id);
        }
    }

    /// This replica leads no more: what was asked was asked for an append here.
    pub fn end_verifications(&mut self) {
        self.verifications.clear();
    }

    pub(super) fn verification(&self, id: ProducerId) -> Option<&Verification> {
        self.verifications.get(&id)
    }
}
