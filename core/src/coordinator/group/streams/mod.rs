//! Streams groups (KIP-1071): members run the tasks of one topology, and the coordinator assigns them.
//!
//! As with consumer groups there are three epochs: the group's, the target assignment's and each member's. A task is
//! active with one member at a time; others may keep a copy of its state (standby). Members of one process share
//! their state on disk, so a process has a task only once, whatever it does with it.
//!
//! The group keeps the topology that its first member brought. It is configured with the topics that there are: how
//! many tasks each subtopology has, which topics of the application's own are missing. While they are, or do not fit,
//! nothing is assigned.
//!
//! As Kafka's `StreamsGroup`, `CurrentAssignmentBuilder` and the streams parts of `GroupMetadataManager` (4.3). That has
//! no static members, no patterns of topics and no warmup tasks yet; those of records are kept.

mod assign;
mod command;
mod configure;
mod describe;
mod endpoints;
mod heartbeat;
mod holders;
mod member;
mod offsets;
mod partitions;
mod reconcile;
mod settings;
mod state;
mod target;
mod tasks;
#[cfg(test)]
mod tests;
mod timers;
mod topology;

pub use command::{
    DescribedStreamsGroup, DescribedStreamsMember, DescribedSubtopology, DescribedTopology, EndpointPartitions,
    InternalTopic, StreamsBeaten, StreamsCommand, StreamsError, StreamsHeartbeat, StreamsRefused, StreamsReply,
    StreamsStatus, StreamsStatusKind,
};
pub use member::{ClientTags, Endpoint, StreamsCurrent, StreamsMemberState, StreamsSubscription};
pub use settings::{StreamsConfig, StreamsSettings};
pub use state::{AssignmentConfigs, NOT_VALIDATED, StreamsEpoch, StreamsState};
pub use tasks::{HeldTasks, TaskSet, Tasks, TasksSince};
pub use topology::{CopartitionGroup, Subtopology, TopicInfo, Topology};

pub(super) use state::{StreamsGroup, StreamsSoft};
