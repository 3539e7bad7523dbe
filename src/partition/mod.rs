//! The partitions of this node. Each is owned by one of a few event loops (shards): appends go through its mailbox,
//! reads do not. A shard turn drains the mailbox, proposes, writes, asks for a flush; the flush commits, and the commit
//! wakes those who wait.

mod announce;
mod append;
mod apply;
mod ask;
mod cleaner;
mod come_and_go;
mod confirm;
mod hand_over;
mod handle;
mod in_sync;
mod keep;
mod leaders;
mod log_config;
mod marker;
mod members;
mod open;
mod others;
mod peers;
mod progress;
mod quiet;
mod read;
mod registry;
mod repair;
mod replicate;
mod scrub;
mod shard;
mod shared;
mod snapshot;
mod throttle;
mod waiters;
mod wire;

pub use append::{Acks, Append, AppendError, AppendOutcome, Appended, InternalAppend, InternalKind, Ticket};
pub use cleaner::CleanerConfig;
pub use come_and_go::{Gone, OpenOutcome, ToOpen};
pub use confirm::confirm_leaderships;
pub use handle::{Leadership, Partition};
pub use leaders::{LeaderInfo, Leaders};
pub use members::Members;
pub use open::Removed;
pub use progress::ReplicaProgress;
pub use read::{Isolation, ListError, ListSpec, Listed, Read, ReadAsk, ReadRefused};
pub use registry::{Partitions, PartitionsConfig};
pub use scrub::{ScrubConfig, ScrubMetrics};
pub use shared::{Identity, Links, Outlet, Post};
pub use snapshot::{Answer, Caller};
pub use waiters::FetchWait;
pub use wire::WireError;

#[cfg(test)]
mod tests;
