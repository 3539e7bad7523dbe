//! Names and numbers. A number with a meaning has a type, and types with different meanings do not convert.
//!
//! Ranges are half-open: `first`, `start`, `base` and `last` are inclusive, `end` and `next` exclusive.

mod names;
mod numbers;

pub use names::{InvalidTopicName, TOPIC_NAME_LEN_MAX, TopicName};
pub use numbers::{
    LeaderEpoch, NodeId, Offset, PeerId, ProducerEpoch, ProducerId, RaftIndex, RaftTerm, Sequence, Timestamp,
};

use uuid::Uuid;

/// Identity of a topic over renames and re-creations. Never zero on the wire for a topic that exists.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct TopicId(pub Uuid);

impl TopicId {
    pub const ZERO: Self = Self(Uuid::nil());
}

impl std::fmt::Display for TopicId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// A place in a raft log. The greater one is the later: of two logs that one's is newer whose end is greater.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct LogMark {
    pub term: RaftTerm,
    pub index: RaftIndex,
}

/// Identity of a data directory, given at its birth. A directory that lost part of its identity gets a new one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct DirectoryId(pub Uuid);

impl std::fmt::Display for DirectoryId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Identity of a partition's log and raft group. Stable over the life of the topic.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct PartitionId {
    pub topic: TopicId,
    /// Partition number in its topic, from 0.
    pub partition: i32,
}

impl std::fmt::Display for PartitionId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}

/// A partition as people name it.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct TopicPartition {
    pub topic: TopicName,
    pub partition: i32,
}

impl std::fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}
