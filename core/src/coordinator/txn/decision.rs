//! What a command leads to.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::command::{Command, Producer, TimerKey};
use super::record::encode;
use super::reply::Reply;
use super::state::{Transaction, TransactionVersion, TransactionalId};
use crate::coordinator::EncodedRecord;
use crate::coordinator::ids::ReplyToken;
use crate::coordinator::timers::TimerChange;
use crate::types::TopicPartition;

/// Decided and not yet done. Append the records, then apply the decision, then set the timers; let replies and effects
/// go when everything that was appended so far is committed. If the append fails nothing has happened.
#[derive(Debug)]
#[must_use]
pub struct Decision {
    /// The level of the feature that it was decided under.
    version: TransactionVersion,
    /// In order. `None`: forgotten.
    pub(super) changes: Vec<(TransactionalId, Option<Transaction>)>,
    pub(super) replies: Vec<(ReplyToken, Reply)>,
    pub(super) timers: Vec<TimerChange<TimerKey>>,
    pub(super) effects: Vec<Effect>,
    pub(super) again: Option<Command>,
}

/// What remains to be done once a decision is applied.
#[derive(Debug)]
#[must_use]
pub struct Applied {
    pub replies: Vec<(ReplyToken, Reply)>,
    pub timers: Vec<TimerChange<TimerKey>>,
    /// To be seen to when the records are committed.
    pub effects: Vec<Effect>,
    /// The work was cut short to bound its size: this command goes on with it.
    pub again: Option<Command>,
}

/// What others have to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Tell the partitions; then `Command::MarkersWritten`.
    WriteMarkers(Markers),
    /// Get a producer id; then `Command::AbortTimedOut`.
    AllocateProducerId { id: TransactionalId, producer: Producer },
}

/// How a transaction ended, for all its partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Markers {
    pub id: TransactionalId,
    pub producer: Producer,
    pub commit: bool,
    pub partitions: Arc<BTreeSet<TopicPartition>>,
    /// Of the client that ended it: from 2 on the epoch is above that of the transaction's records.
    pub client_version: TransactionVersion,
}

impl Decision {
    pub(super) fn nothing(version: TransactionVersion) -> Self {
        Self { version, changes: Vec::new(), replies: Vec::new(), timers: Vec::new(), effects: Vec::new(), again: None }
    }

    pub(super) fn reply(version: TransactionVersion, token: ReplyToken, reply: Reply) -> Self {
        let mut decision = Self::nothing(version);
        decision.replies.push((token, reply));
        decision
    }

    /// The transaction, which is prepared, is the new state; its partitions are told.
    pub(super) fn prepare(&mut self, id: &TransactionalId, prepared: Transaction) {
        self.effects.extend(markers(id, &prepared));
        self.changes.push((id.clone(), Some(prepared)));
    }

    /// The records, in order.
    pub fn records(&self) -> impl Iterator<Item = EncodedRecord> {
        self.changes.iter().map(|(id, to)| encode(id, to.as_ref(), self.version))
    }

    /// Records are one batch only where they belong together: those of many ids do not.
    pub fn is_atomic(&self) -> bool {
        self.changes.len() == 1
    }
}

/// What the partitions of a transaction are to be told. `None`: nothing is decided.
pub(super) fn markers(id: &TransactionalId, transaction: &Transaction) -> Option<Effect> {
    let commit = transaction.state.is_commit().filter(|_| transaction.state.is_prepared())?;
    Some(Effect::WriteMarkers(Markers {
        id: id.clone(),
        producer: Producer { id: transaction.producer_id, epoch: transaction.producer_epoch },
        commit,
        partitions: Arc::clone(&transaction.partitions),
        client_version: transaction.client_version,
    }))
}
