//! A member: what it said of itself, and what it has.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::super::command::Protocol;
use super::super::ids::{ClientHost, ClientId, InstanceId};
use crate::types::{Timestamp, TopicId};

/// Partitions by topic, each with the member's epoch at which it got it. No topic without partitions.
pub type Assigned = BTreeMap<TopicId, BTreeMap<i32, i32>>;
/// Partitions that a member shall have. No topic without partitions.
pub type Target = BTreeMap<TopicId, BTreeSet<i32>>;

/// Names of topics as members say them: any texts, for nobody checked them.
pub type TopicNames = BTreeSet<Arc<str>>;

/// What a member said of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    pub instance: Option<InstanceId>,
    pub rack: Option<Arc<str>>,
    pub client_id: ClientId,
    pub client_host: ClientHost,
    pub topics: Arc<TopicNames>,
    /// A pattern in RE2 syntax; empty for none any more.
    pub pattern: Option<Arc<str>>,
    pub rebalance_timeout_ms: i32,
    /// The assignor it wants; all members vote.
    pub assignor: Option<Arc<str>>,
    /// Given by members that speak the classic protocol.
    pub classic: Option<ClassicFace>,
}

/// What a member that speaks the classic protocol said when it joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassicFace {
    pub session_timeout_ms: i32,
    pub protocols: Arc<[Protocol]>,
}

impl Subscription {
    /// The pattern, if there is one.
    pub fn pattern(&self) -> Option<&Arc<str>> {
        self.pattern.as_ref().filter(|pattern| !pattern.is_empty())
    }
}

/// What a member has, and how far it is on the way to its target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Current {
    pub epoch: i32,
    /// It may not have heard of the newer one.
    pub previous_epoch: i32,
    pub state: MemberState,
    pub assigned: Assigned,
    /// It was told to give these up, and has not said that it did.
    pub revoking: Assigned,
}

impl Current {
    /// Of a member that has left: it has nothing.
    pub(super) fn gone() -> Self {
        Self { epoch: super::LEAVE_EPOCH, previous_epoch: super::LEAVE_EPOCH, ..Self::default() }
    }

    pub fn is_reconciled_to(&self, target_epoch: i32) -> bool {
        self.state == MemberState::Stable && self.epoch == target_epoch
    }

    /// The member's epoch at which it got a partition, that it still holds.
    pub fn epoch_of(&self, topic: TopicId, partition: i32) -> Option<i32> {
        let of = |held: &Assigned| held.get(&topic).and_then(|partitions| partitions.get(&partition)).copied();
        of(&self.assigned).or_else(|| of(&self.revoking))
    }

    /// All that it holds: also what it is to give up.
    pub fn held(&self) -> impl Iterator<Item = (TopicId, i32)> {
        let all = self.assigned.iter().chain(&self.revoking);
        all.flat_map(|(topic, partitions)| partitions.keys().map(|partition| (*topic, *partition)))
    }
}

/// How far a member is. The numbers are in records (`MemberState`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MemberState {
    /// It has its target, or had the one before.
    #[default]
    Stable,
    /// It must give partitions up before it can go on.
    UnrevokedPartitions,
    /// It has reached the epoch, but others still hold partitions of its target.
    UnreleasedPartitions,
    /// Of a later version of the protocol.
    Unknown,
}

impl MemberState {
    pub fn to_wire(self) -> i8 {
        match self {
            Self::Stable => 0,
            Self::UnrevokedPartitions => 1,
            Self::UnreleasedPartitions => 2,
            Self::Unknown => 127,
        }
    }

    pub fn from_wire(state: i8) -> Self {
        match state {
            0 => Self::Stable,
            1 => Self::UnrevokedPartitions,
            2 => Self::UnreleasedPartitions,
            _ => Self::Unknown,
        }
    }
}

/// The topics that a pattern stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    pub topics: Arc<TopicNames>,
    /// Of the metadata that it was compared with.
    pub version: i64,
    pub at: Timestamp,
}
