//! All transactional ids of one partition of `__transaction_state`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::command::{Command, Producer, TimerKey};
use super::config::TransactionConfig;
use super::decision::{Applied, Decision, markers};
use super::record::decode;
use super::reply::{TransactionCounts, TransactionError};
use super::state::{Transaction, TransactionState, TransactionVersion, TransactionalId};
use crate::coordinator::DecodeError;
use crate::coordinator::timers::TimerChange;
use crate::types::Timestamp;

/// The state machine. One owner; dropped when the node no longer leads the partition.
#[derive(Debug)]
pub struct Shard {
    pub(super) config: Arc<TransactionConfig>,
    pub(super) transactions: BTreeMap<TransactionalId, Transaction>,
    /// Those that are ongoing, by when they are to be aborted.
    pub(super) deadlines: BTreeSet<(Timestamp, TransactionalId)>,
}

impl Shard {
    pub fn new(config: Arc<TransactionConfig>) -> Self {
        Self { config, transactions: BTreeMap::new(), deadlines: BTreeSet::new() }
    }

    /// Transactional ids in memory.
    pub fn len(&self) -> usize {
        self.transactions.len()
    }

    pub fn is_empty(&self) -> bool {
        self.transactions.is_empty()
    }

    pub fn counts(&self) -> TransactionCounts {
        let is_ongoing = |transaction: &&Transaction| transaction.state == TransactionState::Ongoing;
        TransactionCounts { ids: self.len(), ongoing: self.transactions.values().filter(is_ongoing).count() }
    }

    /// What `command` leads to. Changes nothing. `version`: the cluster's level of `transaction.version` now.
    pub fn decide(&self, now: Timestamp, version: TransactionVersion, command: &Command) -> Decision {
        match command {
            Command::InitProducerId(init) => self.init_producer_id(now, version, init),
            Command::AddPartitions(add) => self.add_partitions(now, version, add),
            Command::VerifyPartitions(verify) => self.verify_partitions(version, verify),
            Command::EndTransaction(end) => self.end_transaction(now, version, end),
            Command::DescribeTransactions(describe) => self.describe(version, describe),
            Command::ListTransactions(list) => self.list(now, version, list),
            Command::MarkersWritten { id, producer } => self.complete(now, version, id, *producer),
            Command::AbortTimedOut { id, producer, fresh } => self.abort(now, version, id, *producer, *fresh),
            Command::Loaded => self.loaded(version),
            Command::TimerFired(TimerKey::Timeouts) => self.time_out(now, version, None),
            Command::Timeout { after } => self.time_out(now, version, Some(after)),
            Command::TimerFired(TimerKey::Expiry) => self.expire(now, version, None),
            Command::Expire { after } => self.expire(now, version, Some(after)),
        }
    }

    /// Carries a decision out in memory, once its records are appended.
    pub fn apply(&mut self, decision: Decision) -> Applied {
        let Decision { changes, replies, timers, effects, again, .. } = decision;
        for (id, to) in changes {
            self.put(id, to);
        }
        Applied { replies, timers, effects, again }
    }

    /// Takes a committed record in, as it stands in the log. One of another kind is passed over.
    pub fn replay_encoded(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), DecodeError> {
        if let Some((id, to)) = decode(key, value)? {
            self.put(id, to);
        }
        Ok(())
    }

    fn put(&mut self, id: TransactionalId, to: Option<Transaction>) {
        if let Some(deadline) = to.as_ref().and_then(Transaction::deadline) {
            self.deadlines.insert((deadline, id.clone()));
        }
        let (before, kept) = match to {
            Some(to) => {
                let deadline = to.deadline();
                (self.transactions.insert(id.clone(), to), deadline)
            }
            None => (self.transactions.remove(&id), None),
        };
        if let Some(deadline) = before.and_then(|before| before.deadline()).filter(|before| Some(*before) != kept) {
            self.deadlines.remove(&(deadline, id));
        }
    }

    /// A transaction whose producer it is. Its epoch is for the caller to check.
    pub(super) fn of_producer(
        &self,
        id: &TransactionalId,
        producer: Producer,
    ) -> Result<&Transaction, TransactionError> {
        let found = self.transactions.get(id).filter(|transaction| transaction.producer_id == producer.id);
        found.ok_or(TransactionError::InvalidProducerIdMapping)
    }

    /// What was decided before is carried on: whoever was told of it may be gone.
    fn loaded(&self, version: TransactionVersion) -> Decision {
        let mut decision = Decision::nothing(version);
        decision.effects = self.transactions.iter().filter_map(|(id, transaction)| markers(id, transaction)).collect();
        for (key, after_ms) in
            [(TimerKey::Timeouts, self.config.timeout_interval_ms), (TimerKey::Expiry, self.config.expiry_interval_ms)]
        {
            decision.timers.push(TimerChange::Set { key, after_ms: after_ms.max(1) });
        }
        decision
    }
}
