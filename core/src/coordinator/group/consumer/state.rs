//! A group: all that its records say, and indexes over it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::super::ids::{InstanceId, MemberId, ProtocolName};
use super::super::record::ConsumerChange;
use super::member::{Current, MemberState, Resolved, Subscription, Target};
use super::topics::Topics;
use crate::types::{Timestamp, TopicId};

/// The group's epoch, and the hash of the topics that it subscribes to as they were then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Epoch {
    pub epoch: i32,
    pub metadata_hash: i64,
}

impl Epoch {
    /// Of a new group, with a target assignment that gives nobody anything: a member may then have an epoch before the
    /// first target is computed, for 0 is that of who joins (KAFKA-20268).
    pub const FIRST: i32 = 1;
}

impl Default for Epoch {
    fn default() -> Self {
        Self { epoch: Self::FIRST, metadata_hash: 0 }
    }
}

/// The group's epoch that the target assignment was computed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TargetEpoch {
    pub epoch: i32,
    /// Zero: nobody knows.
    pub at: Timestamp,
}

/// The state as clients are told it (`ConsumerGroup.ConsumerGroupState`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConsumerState {
    Empty,
    /// A target assignment is to be computed.
    Assigning,
    /// Members are on their way to it.
    Reconciling,
    Stable,
}

impl ConsumerState {
    pub const ALL: [Self; 4] = [Self::Empty, Self::Assigning, Self::Reconciling, Self::Stable];

    pub fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::Assigning => "Assigning",
            Self::Reconciling => "Reconciling",
            Self::Stable => "Stable",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Member {
    pub subscription: Arc<Subscription>,
    pub current: Current,
}

/// How many subscribe to a topic: members by its name, and patterns that stand for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Subscribers {
    pub by_name: usize,
    pub by_pattern: usize,
}

pub(super) type SubscribedTopics = BTreeMap<Arc<str>, Subscribers>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct ConsumerGroup {
    pub epoch: Epoch,
    pub target_epoch: TargetEpoch,
    pub members: BTreeMap<MemberId, Member>,
    pub targets: BTreeMap<MemberId, Arc<Target>>,
    pub patterns: BTreeMap<Arc<str>, Resolved>,
    pub static_members: BTreeMap<InstanceId, MemberId>,
    /// Who holds which partition.
    pub holders: BTreeMap<TopicId, BTreeMap<i32, MemberId>>,
    pub(super) topics: SubscribedTopics,
    /// Members by their pattern.
    pub pattern_members: BTreeMap<Arc<str>, usize>,
    pub(super) soft: Soft,
}

/// What is in no record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Soft {
    /// The group's epoch for which the topics were looked at last. `None`: they are to be looked at again.
    pub topics_seen_at: Option<i32>,
    /// Patterns are being compared with the topics.
    pub resolving: bool,
    /// Members of the classic protocol that were told to join again.
    pub rejoining: BTreeSet<MemberId>,
}

/// A change of what is in no record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) enum SoftChange {
    TopicsSeen(i32),
    TopicsChanged,
    Resolving(bool),
    Rejoining(MemberId, bool),
}

impl Default for ConsumerGroup {
    fn default() -> Self {
        Self {
            epoch: Epoch::default(),
            target_epoch: TargetEpoch { epoch: Epoch::FIRST, at: Timestamp(0) },
            members: BTreeMap::new(),
            targets: BTreeMap::new(),
            patterns: BTreeMap::new(),
            static_members: BTreeMap::new(),
            holders: BTreeMap::new(),
            topics: SubscribedTopics::new(),
            pattern_members: BTreeMap::new(),
            soft: Soft::default(),
        }
    }
}

impl ConsumerGroup {
    /// Takes a record in, but for the group's own tombstone.
    pub fn replay(&mut self, change: &ConsumerChange) {
        match change {
            ConsumerChange::Group(epoch) => self.epoch = epoch.unwrap_or_default(),
            ConsumerChange::PartitionsGone => {}
            ConsumerChange::Member(id, Some(subscription)) => self.put_subscription(id, subscription),
            ConsumerChange::Member(id, None) => self.remove(id),
            ConsumerChange::TargetEpoch(epoch) => {
                self.target_epoch = epoch.unwrap_or(TargetEpoch { epoch: -1, at: Timestamp(0) });
            }
            ConsumerChange::Target(id, Some(target)) => {
                self.targets.insert(id.clone(), Arc::clone(target));
            }
            ConsumerChange::Target(id, None) => {
                self.targets.remove(id);
            }
            ConsumerChange::Current(id, Some(current)) => self.put_current(id, current.clone()),
            ConsumerChange::Current(id, None) => {
                if self.members.contains_key(id) {
                    self.put_current(id, Current::gone());
                }
            }
            ConsumerChange::Pattern(pattern, resolved) => self.put_pattern(pattern, resolved.as_ref()),
        }
    }

    pub fn change_softly(&mut self, change: SoftChange) {
        match change {
            SoftChange::TopicsSeen(epoch) => self.soft.topics_seen_at = Some(epoch),
            SoftChange::TopicsChanged => self.soft.topics_seen_at = None,
            SoftChange::Resolving(resolving) => self.soft.resolving = resolving,
            SoftChange::Rejoining(member, true) => {
                self.soft.rejoining.insert(member);
            }
            SoftChange::Rejoining(member, false) => {
                self.soft.rejoining.remove(&member);
            }
        }
    }

    /// As it is in records only.
    #[cfg(test)]
    pub fn forget_softly(&mut self) {
        self.soft = Soft::default();
    }

    fn put_subscription(&mut self, id: &MemberId, subscription: &Arc<Subscription>) {
        let current = match self.members.get(id) {
            Some(known) => known.current.clone(),
            None => Current::default(),
        };
        self.unindex(id);
        for topic in subscription.topics.iter() {
            self.topics.entry(topic.clone()).or_default().by_name += 1;
        }
        if let Some(pattern) = subscription.pattern() {
            *self.pattern_members.entry(pattern.clone()).or_default() += 1;
        }
        if let Some(instance) = &subscription.instance {
            self.static_members.insert(instance.clone(), id.clone());
        }
        self.members.insert(id.clone(), Member { subscription: Arc::clone(subscription), current });
    }

    /// Takes what a member said of itself out of the indexes.
    fn unindex(&mut self, id: &MemberId) {
        let Some(Member { subscription, .. }) = self.members.get(id) else { return };
        for topic in subscription.topics.iter() {
            decrement(&mut self.topics, topic, |subscribers| &mut subscribers.by_name);
        }
        if let Some(pattern) = subscription.pattern()
            && let Some(count) = self.pattern_members.get_mut(pattern)
        {
            *count -= 1;
            if *count == 0 {
                self.pattern_members.remove(pattern);
            }
        }
        if let Some(instance) = &subscription.instance
            && self.static_members.get(instance) == Some(id)
        {
            self.static_members.remove(instance);
        }
    }

    fn put_current(&mut self, id: &MemberId, current: Current) {
        self.release(id);
        for (topic, partition) in current.held() {
            self.holders.entry(topic).or_default().insert(partition, id.clone());
        }
        if let Some(member) = self.members.get_mut(id) {
            member.current = current;
        }
    }

    /// Forgets that the member holds what it holds.
    fn release(&mut self, id: &MemberId) {
        let Some(member) = self.members.get(id) else { return };
        for (topic, partition) in member.current.held() {
            let Some(of_topic) = self.holders.get_mut(&topic) else { continue };
            if of_topic.get(&partition) == Some(id) {
                of_topic.remove(&partition);
            }
            if of_topic.is_empty() {
                self.holders.remove(&topic);
            }
        }
    }

    fn remove(&mut self, id: &MemberId) {
        self.release(id);
        self.unindex(id);
        self.members.remove(id);
        self.soft.rejoining.remove(id);
    }

    fn put_pattern(&mut self, pattern: &Arc<str>, resolved: Option<&Resolved>) {
        if let Some(old) = self.patterns.remove(pattern) {
            for topic in old.topics.iter() {
                decrement(&mut self.topics, topic, |subscribers| &mut subscribers.by_pattern);
            }
        }
        if let Some(resolved) = resolved {
            for topic in resolved.topics.iter() {
                self.topics.entry(topic.clone()).or_default().by_pattern += 1;
            }
            self.patterns.insert(pattern.clone(), resolved.clone());
        }
    }

    pub fn state(&self) -> ConsumerState {
        if self.members.is_empty() {
            ConsumerState::Empty
        } else if self.epoch.epoch > self.target_epoch.epoch {
            ConsumerState::Assigning
        } else if self.members.values().all(|member| member.current.is_reconciled_to(self.target_epoch.epoch)) {
            ConsumerState::Stable
        } else {
            ConsumerState::Reconciling
        }
    }

    /// Whether members subscribe to `topic`, by name or by pattern.
    pub fn is_subscribed_to(&self, topic: &str) -> bool {
        self.topics.contains_key(topic)
    }

    pub fn is_held(&self, topic: TopicId, partition: i32) -> bool {
        self.holders.get(&topic).is_some_and(|partitions| partitions.contains_key(&partition))
    }

    pub fn target_of(&self, member: &MemberId) -> Arc<Target> {
        self.targets.get(member).cloned().unwrap_or_default()
    }

    pub fn static_member(&self, instance: &InstanceId) -> Option<(&MemberId, &Member)> {
        let id = self.static_members.get(instance)?;
        self.members.get_key_value(id)
    }

    /// Whether a member with these protocols can be in the group: those of the classic protocol must have one in common.
    pub fn supports<'a>(&self, protocols: impl IntoIterator<Item = &'a ProtocolName>) -> bool {
        let faces = || self.members.values().filter_map(|member| member.subscription.classic.as_ref());
        let is_common = |name: &ProtocolName| faces().all(|face| face.protocols.iter().any(|own| own.name == *name));
        protocols.into_iter().any(is_common)
    }

    /// Whether others hold partitions that the member waits for.
    pub fn waits_for_others(&self, id: &MemberId, member: &Member) -> bool {
        let current = &member.current;
        let has = |topic: &TopicId, partition: &i32| {
            current.assigned.get(topic).is_some_and(|partitions| partitions.contains_key(partition))
        };
        current.state == MemberState::UnreleasedPartitions
            && self.target_of(id).iter().any(|(topic, partitions)| {
                partitions.iter().any(|partition| !has(topic, partition) && self.is_held(*topic, *partition))
            })
    }

    /// The topics that a member subscribes to, by name and by pattern, as far as there are such.
    pub fn topic_ids(&self, subscription: &Subscription, topics: &Topics) -> BTreeSet<TopicId> {
        let by_pattern = subscription.pattern().and_then(|pattern| self.patterns.get(pattern));
        let by_pattern = by_pattern.into_iter().flat_map(|resolved| resolved.topics.iter());
        let names = subscription.topics.iter().chain(by_pattern);
        names.filter_map(|name| topics.by_name(name)).map(|topic| topic.id).collect()
    }
}

pub(super) fn decrement(topics: &mut SubscribedTopics, topic: &str, of: impl Fn(&mut Subscribers) -> &mut usize) {
    let Some(subscribers) = topics.get_mut(topic) else { return };
    let count = of(subscribers);
    *count = count.saturating_sub(1);
    if *subscribers == Subscribers::default() {
        topics.remove(topic);
    }
}
