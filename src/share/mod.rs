//! Share-partitions (KIP-932) on the node that leads their partitions: records are lent to members of share groups, and
//! what becomes of them is kept by the share coordinator.
//!
//! The rules are `core::share`; here are the tasks, clocks and locks around them. Each share-partition is a [`Cell`](cell)
//! behind a lock of its own, with a queue of writes to the share coordinator; one task looks after all locks on records.

mod acknowledge;
mod cell;
mod fetch;
mod lend;
mod load;
mod scan;
mod shares;
mod states;
#[cfg(test)]
mod tests;
mod timers;
mod waiting;

use millstream_core::share::AcknowledgeError;

pub use acknowledge::Acknowledging;
pub use fetch::{FetchAsk, Fetched, Given};
pub use shares::{Connection, SettingsOf, Shares};
pub use states::{Answer, ReadState, ShareKey, ShareStates};

/// Why a share-partition cannot be fetched from, or an acknowledgement does not count.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShareError {
    #[error("this node does not lead the partition, or not any more")]
    NotLeader,
    #[error("nobody has fetched from the partition here, or its state is gone")]
    UnknownPartition,
    #[error("there is no such group")]
    GroupNotFound,
    #[error("the share coordinator cannot be reached, or has not its state yet")]
    CoordinatorNotAvailable,
    #[error("the partition's log is offline")]
    Storage,
    #[error("the offset to begin with is not available yet")]
    OffsetNotAvailable,
    #[error(transparent)]
    Refused(#[from] AcknowledgeError),
    #[error("the share coordinator answered what cannot be")]
    Unsound,
}

impl ShareError {
    /// The share-partition is another's now, or nobody's: what is known of it here is forgotten (Kafka's
    /// `fencedSharePartitionHandler`).
    fn ends_it(&self) -> bool {
        matches!(self, Self::NotLeader | Self::UnknownPartition | Self::GroupNotFound)
    }
}
