//! Groups of the consumer protocol (KIP-848): the coordinator assigns, and every member is brought from what it has to
//! what it shall have at its own pace, by its heartbeats.
//!
//! Three epochs: the group's grows with every change of members, subscriptions or topics; the target assignment
//! carries the group's epoch that it was computed for; a member has reached the epoch of the target that it was last
//! brought to. A partition is given to a member only when no other holds it any more.
//!
//! As Kafka's `ConsumerGroup`, `CurrentAssignmentBuilder` and the consumer parts of `GroupMetadataManager` (4.3).
//! Patterns are matched by the caller; assignors are in [`assign`].

mod assign;
mod classic;
mod describe;
mod fence;
mod heartbeat;
mod member;
mod migrate;
mod offsets;
mod pattern;
mod protocol;
mod reconcile;
mod settings;
mod state;
mod target;
#[cfg(test)]
pub(super) mod tests;
mod timers;
mod topics;
mod work;

pub use assign::Assignor;
pub use member::{Assigned, ClassicFace, Current, MemberState, Resolved, Subscription, Target, TopicNames};
pub use settings::{ConsumerConfig, GroupSettings, MigrationPolicy};
pub use state::{ConsumerState, Epoch, TargetEpoch};
pub use topics::{KnownTopic, Surroundings, Topics};

pub(super) use migrate::tombstones;
pub(super) use settings::within;
pub(super) use state::{ConsumerGroup, SoftChange};
pub(super) use target::is_due;
pub(super) use work::not_found;

/// With its own epoch a member says that it leaves.
pub const LEAVE_EPOCH: i32 = -1;
/// A static member leaves for a while and keeps its place.
pub const LEAVE_STATIC_EPOCH: i32 = -2;
