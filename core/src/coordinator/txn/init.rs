//! InitProducerId: a producer begins, and whoever had its transactional id before is fenced
//! (`TransactionCoordinator.prepareInitProducerIdTransit`).

use super::command::{InitProducerId, Producer};
use super::decision::Decision;
use super::end::Needed;
use super::reply::{Reply, TransactionError};
use super::shard::Shard;
use super::state::{EPOCH_EXHAUSTED, Transaction, TransactionState, TransactionVersion};
use crate::types::{ProducerEpoch, Timestamp};

/// Why a producer does not begin.
enum Held {
    Refused(TransactionError),
    ProducerIdNeeded,
    /// It may begin once the transaction of the one before is aborted.
    Behind(Box<Transaction>),
}

impl From<Needed> for Held {
    fn from(Needed: Needed) -> Self {
        Self::ProducerIdNeeded
    }
}

impl Shard {
    pub(super) fn init_producer_id(
        &self,
        now: Timestamp,
        version: TransactionVersion,
        init: &InitProducerId,
    ) -> Decision {
        let begun = match self.transactions.get(&init.id) {
            None => {
                init.fresh.map(|fresh| Transaction::first(fresh, init.timeout_ms, now)).ok_or(Held::ProducerIdNeeded)
            }
            Some(transaction) => begin(now, version, init, transaction),
        };
        let mut decision = Decision::nothing(version);
        let reply = match begun {
            Ok(begun) => {
                let producer = Producer { id: begun.producer_id, epoch: begun.producer_epoch };
                decision.changes.push((init.id.clone(), Some(begun)));
                Reply::InitProducerId(Ok(producer))
            }
            Err(Held::Refused(error)) => Reply::InitProducerId(Err(error)),
            Err(Held::ProducerIdNeeded) => Reply::ProducerIdNeeded,
            Err(Held::Behind(aborted)) => {
                decision.prepare(&init.id, *aborted);
                Reply::InitProducerId(Err(TransactionError::ConcurrentTransactions))
            }
        };
        decision.replies.push((init.token, reply));
        decision
    }
}

fn begin(
    now: Timestamp,
    version: TransactionVersion,
    init: &InitProducerId,
    transaction: &Transaction,
) -> Result<Transaction, Held> {
    if !init.expected.is_none_or(|expected| is_known(expected, transaction)) {
        return Err(Held::Refused(TransactionError::ProducerFenced));
    }
    match transaction.state {
        TransactionState::PrepareCommit | TransactionState::PrepareAbort => {
            Err(Held::Refused(TransactionError::ConcurrentTransactions))
        }
        TransactionState::Empty | TransactionState::CompleteCommit | TransactionState::CompleteAbort => {
            next_epoch(now, init, transaction)
        }
        // It asks again, and gets the epoch after the one that the abort fences with.
        TransactionState::Ongoing => Err(Held::Behind(Box::new(transaction.fenced(now, version, init.fresh)?))),
    }
}

/// Whether it is the producer, or was it until its epochs were used up and may not know who it is now.
fn is_known(expected: Producer, transaction: &Transaction) -> bool {
    expected.id == transaction.producer_id
        || (Some(expected.id) == transaction.previous_producer_id && expected.epoch >= EPOCH_EXHAUSTED)
}

fn next_epoch(now: Timestamp, init: &InitProducerId, transaction: &Transaction) -> Result<Transaction, Held> {
    let current = transaction.producer_epoch;
    let expected = init.expected.map(|expected| expected.epoch);
    let begin = |producer, last| Ok(transaction.initialized(now, init.timeout_ms, producer, last));
    match expected {
        Some(epoch) if epoch != current => match transaction.last_producer_epoch == Some(epoch) {
            // It did not hear the answer: here it is again. Had there been another producer since, the last epoch
            // would be unknown.
            true => begin((transaction.producer_id, current), transaction.last_producer_epoch),
            false => Err(Held::Refused(TransactionError::ProducerFenced)),
        },
        _ if transaction.has_used_up_its_epochs() => {
            let fresh = init.fresh.ok_or(Held::ProducerIdNeeded)?;
            begin((fresh, ProducerEpoch(0)), expected)
        }
        _ => begin((transaction.producer_id, ProducerEpoch(current.0.saturating_add(1))), expected),
    }
}
