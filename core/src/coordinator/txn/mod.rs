//! Transactions: which producer a transactional id has, and which partitions its transaction reaches.
//!
//! One [`Shard`] per partition of `__transaction_state`, as Kafka's `TransactionCoordinator` and `TransactionMetadata`
//! (4.3) decide, with both versions of the protocol (KIP-98; KIP-890, where every end of a transaction bumps the
//! producer's epoch). Kafka marks a transaction as pending while a record of it is written; here a decision counts at
//! once for those that follow, and all that rests on it waits for the commit. Knows nothing of API versions, or of how
//! markers get to the partitions.

mod add;
mod command;
mod config;
mod decision;
mod describe;
mod end;
mod expire;
mod init;
mod record;
mod reply;
mod shard;
mod state;
#[cfg(test)]
mod tests;
mod timeout;

pub use command::{
    AddPartitions, Command, DescribeTransactions, EndTransaction, InitProducerId, ListTransactions, Producer, TimerKey,
    VerifyPartitions,
};
pub use config::TransactionConfig;
pub use decision::{Applied, Decision, Effect, Markers};
pub use reply::{
    DescribedTransaction, ListedTransaction, Reply, TransactionCounts, TransactionError, VerifiedPartition,
};
pub use shard::Shard;
pub use state::{Transaction, TransactionState, TransactionVersion, TransactionalId};
