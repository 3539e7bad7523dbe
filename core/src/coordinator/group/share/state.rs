//! A share group: all that its records say, and indexes over it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::super::consumer::{Epoch, Target, TargetEpoch, TopicNames, Topics};
use super::super::ids::MemberId;
use super::super::record::ShareChange;
use super::member::{ShareCurrent, ShareMember, ShareSubscription};
use super::partitions::SharePartitions;
use crate::types::{Timestamp, TopicId};

/// The state as clients are told it (`ShareGroup.ShareGroupState`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ShareState {
    Empty,
    Stable,
}

impl ShareState {
    pub const ALL: [Self; 2] = [Self::Empty, Self::Stable];

    pub fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::Stable => "Stable",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct ShareGroup {
    pub epoch: Epoch,
    pub target_epoch: TargetEpoch,
    pub members: BTreeMap<MemberId, ShareMember>,
    pub targets: BTreeMap<MemberId, Arc<Target>>,
    /// `None`: nothing was ever asked of the share coordinators.
    pub partitions: Option<Arc<SharePartitions>>,
    /// How many members subscribe to a topic.
    pub(super) topics: BTreeMap<Arc<str>, usize>,
    pub(super) soft: Soft,
}

/// What is in no record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Soft {
    /// The group's epoch for which the topics were looked at last. `None`: they are to be looked at again.
    pub topics_seen_at: Option<i32>,
    /// When something was last heard of partitions that are being initialized.
    pub initializing_since: Option<Timestamp>,
}

/// A change of what is in no record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) enum ShareSoft {
    TopicsSeen(i32),
    TopicsChanged,
    InitializingSince(Timestamp),
}

impl Default for ShareGroup {
    fn default() -> Self {
        Self {
            epoch: Epoch::default(),
            target_epoch: TargetEpoch { epoch: Epoch::FIRST, at: Timestamp(0) },
            members: BTreeMap::new(),
            targets: BTreeMap::new(),
            partitions: None,
            topics: BTreeMap::new(),
            soft: Soft::default(),
        }
    }
}

impl ShareGroup {
    /// Takes a record in, but for the group's own tombstone.
    pub fn replay(&mut self, change: &ShareChange) {
        match change {
            ShareChange::Group(epoch) => self.epoch = epoch.unwrap_or_default(),
            ShareChange::Member(id, Some(said)) => self.put_subscription(id, said),
            ShareChange::Member(id, None) => {
                self.unindex(id);
                self.members.remove(id);
            }
            ShareChange::TargetEpoch(epoch) => {
                self.target_epoch = epoch.unwrap_or(TargetEpoch { epoch: -1, at: Timestamp(0) });
            }
            ShareChange::Target(id, Some(target)) => {
                self.targets.insert(id.clone(), Arc::clone(target));
            }
            ShareChange::Target(id, None) => {
                self.targets.remove(id);
            }
            ShareChange::Current(id, Some(current)) => self.put_current(id, current.clone()),
            ShareChange::Current(id, None) => {
                if self.members.contains_key(id) {
                    self.put_current(id, ShareCurrent::gone());
                }
            }
            ShareChange::Partitions(partitions) => self.partitions = partitions.clone(),
        }
    }

    pub fn change_softly(&mut self, change: ShareSoft) {
        match change {
            ShareSoft::TopicsSeen(epoch) => self.soft.topics_seen_at = Some(epoch),
            ShareSoft::TopicsChanged => self.soft.topics_seen_at = None,
            ShareSoft::InitializingSince(at) => self.soft.initializing_since = Some(at),
        }
    }

    /// As it is in records only.
    #[cfg(test)]
    pub fn forget_softly(&mut self) {
        self.soft = Soft::default();
    }

    /// Records of one member come in any order when a shard is loaded.
    fn member_mut(&mut self, id: &MemberId) -> &mut ShareMember {
        self.members.entry(id.clone()).or_insert_with(|| ShareMember {
            said: Arc::new(ShareSubscription::nobody()),
            current: ShareCurrent::default(),
        })
    }

    fn put_subscription(&mut self, id: &MemberId, said: &Arc<ShareSubscription>) {
        self.unindex(id);
        for topic in said.topics.iter() {
            *self.topics.entry(topic.clone()).or_default() += 1;
        }
        self.member_mut(id).said = Arc::clone(said);
    }

    fn unindex(&mut self, id: &MemberId) {
        let Some(member) = self.members.get(id) else { return };
        for topic in member.said.topics.iter() {
            decrement(&mut self.topics, topic);
        }
    }

    fn put_current(&mut self, id: &MemberId, current: ShareCurrent) {
        self.member_mut(id).current = current;
    }

    pub fn state(&self) -> ShareState {
        if self.members.is_empty() { ShareState::Empty } else { ShareState::Stable }
    }

    pub fn is_subscribed_to(&self, topic: &str) -> bool {
        self.topics.contains_key(topic)
    }

    pub fn target_of(&self, member: &MemberId) -> Arc<Target> {
        self.targets.get(member).cloned().unwrap_or_default()
    }

    /// Subscriptions by topic once `member` says `after`, or has gone.
    pub(super) fn topics_with(&self, member: &MemberId, after: Option<&TopicNames>) -> BTreeMap<Arc<str>, usize> {
        let mut topics = self.topics.clone();
        if let Some(before) = self.members.get(member) {
            before.said.topics.iter().for_each(|topic| decrement(&mut topics, topic));
        }
        for topic in after.into_iter().flatten() {
            *topics.entry(topic.clone()).or_default() += 1;
        }
        topics
    }

    /// What takes the group away.
    pub fn tombstones(&self) -> Vec<ShareChange> {
        let ids = || self.members.keys().cloned();
        let mut changes: Vec<ShareChange> = ids().map(|id| ShareChange::Current(id, None)).collect();
        changes.extend(ids().map(|id| ShareChange::Target(id, None)));
        changes.push(ShareChange::TargetEpoch(None));
        changes.extend(ids().map(|id| ShareChange::Member(id, None)));
        changes.push(ShareChange::Partitions(None));
        changes.push(ShareChange::Group(None));
        changes
    }
}

/// The topics of these names, as far as there are such.
pub(super) fn topic_ids(names: &TopicNames, topics: &Topics) -> BTreeSet<TopicId> {
    names.iter().filter_map(|name| topics.by_name(name)).map(|topic| topic.id).collect()
}

fn decrement(topics: &mut BTreeMap<Arc<str>, usize>, topic: &str) {
    let Some(count) = topics.get_mut(topic) else { return };
    *count = count.saturating_sub(1);
    if *count == 0 {
        topics.remove(topic);
    }
}
