//! What can be asked of the transaction coordinator.

use std::collections::BTreeSet;

use super::state::{TransactionState, TransactionVersion, TransactionalId};
use crate::coordinator::ids::ReplyToken;
use crate::types::{ProducerEpoch, ProducerId, Timestamp, TopicPartition};

/// One command to one shard. All transactional ids in it belong to the shard's partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    InitProducerId(InitProducerId),
    AddPartitions(AddPartitions),
    VerifyPartitions(VerifyPartitions),
    EndTransaction(EndTransaction),
    DescribeTransactions(DescribeTransactions),
    ListTransactions(ListTransactions),
    /// Every partition of a transaction has its marker.
    MarkersWritten {
        id: TransactionalId,
        /// As in the markers.
        producer: Producer,
    },
    /// A transaction that took too long, whose producer's epochs are used up: here is the id to go on with.
    AbortTimedOut {
        id: TransactionalId,
        producer: Producer,
        fresh: ProducerId,
    },
    /// The shard was loaded and this node leads its partition: what was decided is carried on.
    Loaded,
    /// A timer that a decision set is due.
    TimerFired(TimerKey),
    /// Goes on with the transactions that took too long.
    Timeout {
        after: (Timestamp, TransactionalId),
    },
    /// Goes on with those that are forgotten.
    Expire {
        after: TransactionalId,
    },
}

/// What a timer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TimerKey {
    /// Time to look for transactions that take too long.
    Timeouts,
    /// Time to look for transactional ids that nobody uses.
    Expiry,
}

/// Who says it is a transactional id's producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Producer {
    pub id: ProducerId,
    pub epoch: ProducerEpoch,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitProducerId {
    pub token: ReplyToken,
    pub id: TransactionalId,
    /// Checked against what the broker allows.
    pub timeout_ms: i32,
    /// Who it was before, where it goes on after an error (KIP-360).
    pub expected: Option<Producer>,
    /// An id that nobody has. Most commands need none: without it the answer may be that one is needed.
    pub fresh: Option<ProducerId>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddPartitions {
    pub token: ReplyToken,
    pub id: TransactionalId,
    pub producer: Producer,
    /// They exist.
    pub partitions: BTreeSet<TopicPartition>,
    pub client_version: TransactionVersion,
}

/// Asks whether partitions belong to the transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifyPartitions {
    pub token: ReplyToken,
    pub id: TransactionalId,
    pub producer: Producer,
    pub partitions: BTreeSet<TopicPartition>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndTransaction {
    pub token: ReplyToken,
    pub id: TransactionalId,
    pub producer: Producer,
    pub commit: bool,
    pub client_version: TransactionVersion,
    /// As for [`InitProducerId`].
    pub fresh: Option<ProducerId>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribeTransactions {
    pub token: ReplyToken,
    pub ids: Vec<TransactionalId>,
}

/// `None`, and a negative duration, let everything pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListTransactions {
    pub token: ReplyToken,
    pub producer_ids: Option<BTreeSet<ProducerId>>,
    pub states: Option<BTreeSet<TransactionState>>,
    /// Only those that have gone on for longer, in ms.
    pub longer_than_ms: i64,
}
