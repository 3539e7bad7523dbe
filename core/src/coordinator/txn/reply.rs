//! What the transaction coordinator answers.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::command::Producer;
use super::state::{TransactionState, TransactionalId};
use crate::types::{ProducerId, Timestamp, TopicPartition};

/// The answer to a command, of the same name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    InitProducerId(Result<Producer, TransactionError>),
    AddPartitions(Result<(), TransactionError>),
    VerifyPartitions(Result<Vec<VerifiedPartition>, TransactionError>),
    /// With who the producer is from now on, where the client's version tells it.
    EndTransaction(Result<Option<Producer>, TransactionError>),
    /// `None`: there is none of that id.
    DescribeTransactions(Vec<(TransactionalId, Option<DescribedTransaction>)>),
    ListTransactions(Vec<ListedTransaction>),
    /// Nothing has happened: the same command is to come again with a fresh producer id.
    ProducerIdNeeded,
}

/// Why nothing becomes of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransactionError {
    #[error("the transactional id belongs to another producer id")]
    InvalidProducerIdMapping,
    #[error("a newer instance has the transactional id")]
    ProducerFenced,
    /// The transaction before is not complete: to be tried again.
    #[error("the transaction is being completed")]
    ConcurrentTransactions,
    #[error("the transaction is in no state for that")]
    InvalidState,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedPartition {
    pub partition: TopicPartition,
    pub is_in_transaction: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribedTransaction {
    pub state: TransactionState,
    pub producer: Producer,
    pub timeout_ms: i32,
    pub started_at: Option<Timestamp>,
    pub partitions: Arc<BTreeSet<TopicPartition>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedTransaction {
    pub id: TransactionalId,
    pub producer_id: ProducerId,
    pub state: TransactionState,
}

/// How many there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct TransactionCounts {
    pub ids: usize,
    pub ongoing: usize,
}

impl TransactionCounts {
    pub fn add(&mut self, more: &Self) {
        self.ids += more.ids;
        self.ongoing += more.ongoing;
    }
}
