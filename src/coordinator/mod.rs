//! Runs coordinators: one task per partition of their topic loads its state machine, carries commands to it, appends
//! what it decides, and lets replies go when that is committed. The state machines themselves are in core.

mod follower;
mod group_effects;
mod in_transaction;
mod load;
mod machine;
mod markers;
mod materialise;
pub mod patterns;
mod registry;
mod runtime;
mod share_keepers;
mod share_states;
#[cfg(test)]
mod tests;
mod transactions;
mod turn;

use millstream_core::partition::ProducerError;

pub use in_transaction::Transaction;
pub use machine::Machine;
pub use registry::{Asked, Coordinators, Groups, partition_of};
pub use share_keepers::{
    InitializedShares, Kept, KeptPartitions, ShareKeepers, ShareKeeping, ShareSummaries, ShareSummary,
};
pub use share_states::{ShareStateConfig, ShareStateCoordinators, coordinator_key, key_of};
pub use transactions::{End, Outcome, Outside, Place, TransactionMachine, Transactions, Written};
pub use turn::{Effects, Origin};

/// Why a coordinator gave no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CoordinatorError {
    /// The partition is not this node's, or there is none.
    #[error("this node is not the coordinator")]
    NotCoordinator,
    #[error("the coordinator is loading")]
    LoadInProgress,
    /// Its log cannot be written or read now, or takes too long. What was asked may still come true.
    #[error("the coordinator is not available")]
    NotAvailable,
    /// The command would take more than one batch may hold. Nothing has happened.
    #[error("the records of the command are too large")]
    TooLarge,
    /// The partition does not take the batch of a transaction, or its end. Nothing has happened.
    #[error(transparent)]
    Producer(ProducerError),
}
