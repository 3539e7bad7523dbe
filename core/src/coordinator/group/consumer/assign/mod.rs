//! Assignors on the broker's side: which member shall have which partitions.

mod mixed;
mod range;
#[cfg(test)]
mod tests;
mod uniform;

use std::collections::BTreeSet;
use std::sync::Arc;

use super::super::ids::{InstanceId, MemberId};
use super::member::Target;
use super::topics::Topics;
use crate::types::TopicId;

/// How partitions are dealt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Assignor {
    /// As many to each member as to any other, and as few moves as possible.
    Uniform,
    /// Of each topic the same range to the same member, so that topics alike are dealt alike.
    Range,
}

/// What is dealt, and to whom. Members are in the order of their ids.
pub(super) struct Spec<'a> {
    pub members: Vec<MemberSpec>,
    /// All subscribe to the same topics.
    pub alike: bool,
    pub topics: &'a Topics,
}

pub(super) struct MemberSpec {
    pub id: MemberId,
    pub instance: Option<InstanceId>,
    /// Topics that there are.
    pub topics: Arc<BTreeSet<TopicId>>,
    /// What it was to have before.
    pub target: Arc<Target>,
}

impl Assignor {
    pub const ALL: [Self; 2] = [Self::Uniform, Self::Range];

    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|assignor| assignor.name() == name)
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Range => "range",
        }
    }

    /// What every member shall have, in the order of the members.
    pub(super) fn assign(self, spec: &Spec<'_>) -> Vec<Arc<Target>> {
        match self {
            _ if spec.members.is_empty() => Vec::new(),
            Self::Range => range::assign(spec),
            Self::Uniform if spec.alike => uniform::assign(spec),
            Self::Uniform => mixed::assign(spec),
        }
    }
}

impl Spec<'_> {
    fn partition_count(&self, topic: TopicId) -> i32 {
        self.topics.partition_count(topic).unwrap_or(0)
    }
}

fn count_of(partition_count: i32) -> usize {
    usize::try_from(partition_count).unwrap_or(0)
}
