//! EndTxn: a transaction is committed or aborted (`TransactionCoordinator.endTransaction`); and completed when all
//! partitions know.

use super::command::{EndTransaction, Producer};
use super::decision::Decision;
use super::reply::{Reply, TransactionError};
use super::shard::Shard;
use super::state::{EPOCH_EXHAUSTED, Transaction, TransactionState, TransactionVersion, TransactionalId};
use crate::types::{ProducerEpoch, ProducerId, Timestamp};

/// It takes a producer id that nobody has.
#[derive(Debug)]
pub(super) struct Needed;

/// What becomes of an end.
enum End {
    /// It was ended so before: the answer is told again.
    Done(Producer),
    Now,
}

impl Transaction {
    /// Aborted by the coordinator: whoever has the epoch now can do nothing any more, in either version.
    pub(super) fn fenced(
        &self,
        now: Timestamp,
        version: TransactionVersion,
        fresh: Option<ProducerId>,
    ) -> Result<Self, Needed> {
        if version.bumps_epoch() {
            return self.ended(now, false, version, fresh);
        }
        let producer_epoch = ProducerEpoch(self.producer_epoch.0.saturating_add(1));
        let bumped = Self { producer_epoch, last_producer_epoch: None, ..self.clone() };
        Ok(bumped.prepared(now, false, version, None))
    }

    fn ended(
        &self,
        now: Timestamp,
        commit: bool,
        version: TransactionVersion,
        fresh: Option<ProducerId>,
    ) -> Result<Self, Needed> {
        let next = match version.bumps_epoch() && self.has_used_up_its_epochs() {
            true => Some(fresh.ok_or(Needed)?),
            false => None,
        };
        Ok(self.prepared(now, commit, version, next))
    }
}

impl Shard {
    pub(super) fn end_transaction(
        &self,
        now: Timestamp,
        version: TransactionVersion,
        end: &EndTransaction,
    ) -> Decision {
        let bumps_epoch = end.client_version.bumps_epoch();
        let found = match bumps_epoch {
            true => self.to_end_with_bump(end),
            false => self.to_end(end),
        };
        let mut decision = Decision::nothing(version);
        let told = |producer| Reply::EndTransaction(Ok(Some(producer).filter(|_| bumps_epoch)));
        let reply = match found {
            Err(error) => Reply::EndTransaction(Err(error)),
            Ok((_, End::Done(producer))) => told(producer),
            Ok((transaction, End::Now)) => match transaction.ended(now, end.commit, end.client_version, end.fresh) {
                Err(Needed) => Reply::ProducerIdNeeded,
                Ok(prepared) => {
                    let (id, epoch) = prepared.producer_when_complete();
                    decision.prepare(&end.id, prepared);
                    told(Producer { id, epoch })
                }
            },
        };
        decision.replies.push((end.token, reply));
        decision
    }

    /// For clients whose epoch stays the same from one transaction to the next: what came before tells a retry.
    fn to_end(&self, end: &EndTransaction) -> Result<(&Transaction, End), TransactionError> {
        let transaction = self.of_producer(&end.id, end.producer)?;
        if transaction.producer_epoch != end.producer.epoch {
            return Err(TransactionError::ProducerFenced);
        }
        match (transaction.state, transaction.state.is_commit() == Some(end.commit)) {
            (TransactionState::Ongoing, _) => Ok((transaction, End::Now)),
            (TransactionState::CompleteCommit | TransactionState::CompleteAbort, true) => {
                Ok((transaction, End::Done(end.producer)))
            }
            (state, _) if state.is_prepared() => Err(TransactionError::ConcurrentTransactions),
            _ => Err(TransactionError::InvalidState),
        }
    }

    /// For clients whose every transaction has an epoch of its own: a retry comes with the epoch before.
    fn to_end_with_bump(&self, end: &EndTransaction) -> Result<(&Transaction, End), TransactionError> {
        let transaction = self.transactions.get(&end.id).ok_or(TransactionError::InvalidProducerIdMapping)?;
        if transaction.state.is_prepared() {
            // Before anything else: its producer may be at the next transaction already, under a new epoch or id.
            return Err(TransactionError::ConcurrentTransactions);
        }
        let Producer { id, epoch } = end.producer;
        let is_current = transaction.producer_epoch == epoch;
        // Only what was ended with an epoch of its own can have left the one before behind. Otherwise the epoch before is
        // that of a producer that somebody new has fenced.
        let was_bumped = transaction.client_version.bumps_epoch();
        let is_retry_of_bump = was_bumped && i32::from(transaction.producer_epoch.0) == i32::from(epoch.0) + 1;
        // The producer got another id with its answer, which it did not hear.
        let is_retry_of_overflow = was_bumped
            && transaction.previous_producer_id == Some(id)
            && epoch == EPOCH_EXHAUSTED
            && transaction.producer_epoch == ProducerEpoch(0);
        if transaction.producer_id != id && !is_retry_of_overflow {
            return Err(TransactionError::InvalidProducerIdMapping);
        }
        let is_retry = is_retry_of_bump || is_retry_of_overflow;
        let is_valid = match transaction.state {
            TransactionState::CompleteCommit | TransactionState::CompleteAbort => is_retry || is_current,
            _ => is_current,
        };
        if !is_valid {
            return Err(TransactionError::ProducerFenced);
        }
        let is_same = transaction.state.is_commit() == Some(end.commit);
        match transaction.state {
            TransactionState::Ongoing => Ok((transaction, End::Now)),
            TransactionState::CompleteCommit | TransactionState::CompleteAbort if is_retry && is_same => {
                let now = Producer { id: transaction.producer_id, epoch: transaction.producer_epoch };
                Ok((transaction, End::Done(now)))
            }
            // A transaction may be given up before any partition belongs to it.
            TransactionState::Empty | TransactionState::CompleteCommit | TransactionState::CompleteAbort
                if !end.commit && !is_retry =>
            {
                Ok((transaction, End::Now))
            }
            _ => Err(TransactionError::InvalidState),
        }
    }

    /// All partitions have their markers. Whatever does not fit is of an earlier time.
    pub(super) fn complete(
        &self,
        now: Timestamp,
        version: TransactionVersion,
        id: &TransactionalId,
        producer: Producer,
    ) -> Decision {
        let mut decision = Decision::nothing(version);
        if let Ok(transaction) = self.of_producer(id, producer)
            && transaction.producer_epoch == producer.epoch
            && transaction.state.is_prepared()
        {
            decision.changes.push((id.clone(), Some(transaction.completed(now))));
        }
        decision
    }
}
