//! Which partitions of a share group the share coordinators keep state of.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::super::consumer::Target;
use crate::types::TopicId;

/// Partitions of a topic, with the name that it had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicPartitions {
    pub name: Arc<str>,
    pub partitions: BTreeSet<i32>,
}

/// Topics by what becomes of their state (`ShareGroupStatePartitionMetadataValue`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SharePartitions {
    /// A share coordinator was asked, and has not answered.
    pub initializing: BTreeMap<TopicId, TopicPartitions>,
    /// These are assigned.
    pub initialized: BTreeMap<TopicId, TopicPartitions>,
    /// Topics, with their names, whose state is being deleted.
    pub deleting: BTreeMap<TopicId, Arc<str>>,
}

/// What a topic is called that is not there any more.
pub(super) const UNKNOWN_NAME: &str = "<UNKNOWN>";

impl SharePartitions {
    /// These are asked for. Topics whose state was being deleted begin anew.
    pub(super) fn begin(&mut self, topics: &BTreeMap<TopicId, TopicPartitions>) {
        add(&mut self.initializing, topics);
        self.deleting.retain(|topic, _| !self.initializing.contains_key(topic));
    }

    /// The share coordinators have these.
    pub(super) fn done(&mut self, topics: &BTreeMap<TopicId, TopicPartitions>) {
        add(&mut self.initialized, topics);
        let plain = topics.iter().map(|(id, topic)| (*id, topic.partitions.clone())).collect();
        self.give_up(&plain);
    }

    /// These are not being asked for any more.
    pub(super) fn give_up(&mut self, topics: &Target) {
        for (topic, partitions) in topics {
            if let Some(asked) = self.initializing.get_mut(topic) {
                asked.partitions.retain(|index| !partitions.contains(index));
            }
        }
        self.initializing.retain(|_, topic| !topic.partitions.is_empty());
    }

    /// Topics are gone. Whether anything was known of them.
    pub(super) fn forget(&mut self, topics: &BTreeSet<TopicId>) -> bool {
        let before = self.initializing.len() + self.initialized.len() + self.deleting.len();
        self.initializing.retain(|id, _| !topics.contains(id));
        self.initialized.retain(|id, _| !topics.contains(id));
        self.deleting.retain(|id, _| !topics.contains(id));
        before != self.initializing.len() + self.initialized.len() + self.deleting.len()
    }

    /// Everything that share coordinators have, or may have.
    pub(super) fn all(&self) -> BTreeMap<TopicId, TopicPartitions> {
        let mut all = self.initialized.clone();
        add(&mut all, &self.initializing);
        all
    }

    /// The initialized partitions.
    pub fn assignable(&self) -> Target {
        self.initialized.iter().map(|(id, topic)| (*id, topic.partitions.clone())).collect()
    }
}

/// The newer name counts.
pub(super) fn add(to: &mut BTreeMap<TopicId, TopicPartitions>, more: &BTreeMap<TopicId, TopicPartitions>) {
    for (id, topic) in more {
        let known =
            to.entry(*id).or_insert_with(|| TopicPartitions { name: topic.name.clone(), partitions: BTreeSet::new() });
        known.name = topic.name.clone();
        known.partitions.extend(&topic.partitions);
    }
}
