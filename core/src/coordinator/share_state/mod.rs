//! What is kept of share-partitions (KIP-932): where a group stands in a partition, and what became of the records from
//! there on.
//!
//! One [`Shard`] per partition of `__share_group_state`, as Kafka's `ShareCoordinatorShard` (4.3) decides. Kafka writes
//! changes (`ShareUpdate`) between whole snapshots and cuts off what is redundant; here each record is a snapshot and the
//! topic is compacted, so that nothing is ever to be cut. Changes are read where a log has them. Knows nothing of API
//! versions, and of topics only what it is told.

mod command;
mod decision;
mod merge;
mod record;
mod shard;
mod state;
#[cfg(test)]
mod tests;

pub use command::{Command, DeleteState, InitializeState, ReadState, ReadSummary, Reply, ShareStateError, WriteState};
pub use decision::{Applied, Decision};
pub use shard::Shard;
pub use state::{NOT_COUNTED, ShareState, ShareStateKey, ShareSummary};
