//! Share groups (KIP-932): members share the records of partitions among them instead of partitions alone. Membership is
//! that of consumer groups without the waiting: any number of members may have a partition, so nobody has to give one up
//! before another gets it.
//!
//! Besides, a group knows which of its partitions the share coordinators keep state of: only those are assigned. A
//! partition is first initializing (the share coordinator is asked), then initialized, and deleting while its state is
//! being deleted.
//!
//! As Kafka's `ShareGroup` and the share parts of `GroupMetadataManager` (4.3). What records become of is `core::share`.

mod assign;
mod command;
mod describe;
mod heartbeat;
mod initialize;
mod member;
mod offsets;
mod partitions;
mod settings;
mod state;
mod target;
#[cfg(test)]
mod tests;

pub use command::{
    AlterShareOffsets, AlterShareTopic, AlteredTopic, DeleteShareOffsets, DescribedShareGroup, DescribedShareMember,
    InitializeShares, InitializedTopic, ShareCommand, ShareHeartbeat, ShareOffsetsAltered, ShareOffsetsError,
    ShareOffsetsToDelete, ShareReply,
};
pub use member::{ShareCurrent, ShareSubscription};
pub use partitions::{SharePartitions, TopicPartitions};
pub use settings::{ShareConfig, ShareTimes};
pub use state::ShareState;

pub(super) use state::{ShareGroup, ShareSoft};

/// The one assignor of share groups.
pub const ASSIGNOR: &str = "simple";
