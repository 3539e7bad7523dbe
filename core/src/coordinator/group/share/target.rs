//! A member's step: its subscription is stored, the group's epoch follows from that, the target assignment from the
//! epoch, and what the member has from the target.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::super::consumer::{Epoch, Target, TargetEpoch, Topics, is_due};
use super::super::decision::Decision;
use super::super::ids::{GroupId, MemberId};
use super::super::record::{Record, ShareChange};
use super::super::shard::Shard;
use super::assign::{MemberSpec, assign};
use super::member::{ShareCurrent, ShareMember, ShareSubscription};
use super::partitions::SharePartitions;
use super::settings::{ShareConfig, ShareTimes};
use super::state::{ShareGroup, ShareSoft, topic_ids};
use crate::types::Timestamp;

/// What a decision on a share group works with, and what comes of it.
pub(super) struct ShareWork<'a> {
    pub shard: &'a Shard,
    pub now: Timestamp,
    pub id: &'a GroupId,
    pub group: Cow<'a, ShareGroup>,
    pub decision: Decision,
}

/// What a member comes with.
pub(super) struct Step<'a> {
    pub id: &'a MemberId,
    pub before: &'a ShareMember,
    pub after: &'a Arc<ShareSubscription>,
}

/// The group after a step.
pub(super) struct Stepped {
    pub current: ShareCurrent,
    pub group_epoch: i32,
    /// All that members subscribe to.
    pub topics: BTreeMap<Arc<str>, usize>,
}

impl<'a> ShareWork<'a> {
    pub fn new(shard: &'a Shard, now: Timestamp, id: &'a GroupId, group: Cow<'a, ShareGroup>) -> Self {
        Self { shard, now, id, group, decision: Decision::nothing() }
    }

    pub fn config(&self) -> &'a ShareConfig {
        &self.shard.config.share
    }

    pub fn times(&self) -> ShareTimes {
        self.shard.settings_of(self.id).share
    }

    pub fn topics(&self) -> &'a Arc<Topics> {
        &self.shard.surroundings.topics
    }

    pub fn emit(&mut self, change: ShareChange) {
        self.decision.records.push(Record::Share { group: self.id.clone(), change });
    }

    pub fn change_softly(&mut self, change: ShareSoft) {
        self.decision.share_soft.push((self.id.clone(), change));
    }

    /// Stores what becomes of the group's partitions; those that are being initialized have their time again.
    pub fn emit_partitions(&mut self, partitions: SharePartitions) {
        self.emit(ShareChange::Partitions(Some(Arc::new(partitions))));
        self.change_softly(ShareSoft::InitializingSince(self.now));
    }

    pub fn emit_epoch(&mut self, epoch: i32, metadata_hash: i64) {
        self.emit(ShareChange::Group(Some(Epoch { epoch, metadata_hash })));
    }

    pub fn advance(&mut self, step: &Step<'_>) -> Stepped {
        let mut bump = self.store_subscription(step);
        let topics = self.group.topics_with(step.id, Some(&step.after.topics));
        bump |= self.group.target_epoch.epoch >= self.group.epoch.epoch && self.awaits_assignment();
        let (group_epoch, bumped) = self.bump_epoch(&topics, bump);
        let (target_epoch, target) = self.retarget(step, group_epoch, &topics);
        let current = self.reconcile(step, target_epoch, &target, bumped);
        Stepped { current, group_epoch, topics }
    }

    /// Whether the topics have changed.
    fn store_subscription(&mut self, step: &Step<'_>) -> bool {
        if *step.after == step.before.said {
            return false;
        }
        self.emit(ShareChange::Member(step.id.clone(), Some(Arc::clone(step.after))));
        step.after.topics != step.before.said.topics
    }

    /// Partitions of topics that members subscribe to were initialized, and are nobody's.
    fn awaits_assignment(&self) -> bool {
        let Some(partitions) = &self.group.partitions else { return false };
        if self.group.members.is_empty() {
            return false;
        }
        let mut assigned = Target::new();
        for (topic, indexes) in self.group.targets.values().flat_map(|target| target.iter()) {
            assigned.entry(*topic).or_default().extend(indexes);
        }
        partitions.initialized.iter().any(|(id, topic)| {
            self.group.is_subscribed_to(&topic.name) && assigned.get(id).is_none_or(|has| *has != topic.partitions)
        })
    }

    /// The group's epoch after the step, and whether it grew: if it must, or if the topics are other ones than they were.
    fn bump_epoch(&mut self, topics: &BTreeMap<Arc<str>, usize>, must: bool) -> (i32, bool) {
        let Epoch { mut epoch, metadata_hash } = self.group.epoch;
        if !must && self.group.soft.topics_seen_at.is_some_and(|seen_at| epoch >= seen_at) {
            return (epoch, false);
        }
        let hash = self.topics().hash_of(topics.keys());
        let bump = must || hash != metadata_hash;
        if bump {
            epoch += 1;
            self.emit_epoch(epoch, hash);
        }
        self.change_softly(ShareSoft::TopicsSeen(epoch));
        (epoch, bump)
    }

    /// The member's target: of a new target assignment, where the group's epoch asks for one and the last is old
    /// enough.
    fn retarget(
        &mut self,
        step: &Step<'_>,
        group_epoch: i32,
        topics: &BTreeMap<Arc<str>, usize>,
    ) -> (i32, Arc<Target>) {
        let last = self.group.target_epoch;
        let interval_ms = self.config().assignment_interval_ms(self.times());
        if last.epoch >= group_epoch || !is_due(last, interval_ms, self.now) {
            return (last.epoch, self.group.target_of(step.id));
        }
        let mut said: BTreeMap<&MemberId, &Arc<ShareSubscription>> =
            self.group.members.iter().map(|(id, member)| (id, &member.said)).collect();
        said.insert(step.id, step.after);
        let spec = |(id, said): (&&MemberId, &&Arc<ShareSubscription>)| MemberSpec {
            topics: Arc::new(topic_ids(&said.topics, self.topics())),
            target: self.group.target_of(id),
        };
        let specs: Vec<MemberSpec> = said.iter().map(spec).collect();
        let alike = topics.values().all(|subscribers| *subscribers == said.len());
        let assignable = self.group.partitions.as_ref().map(|known| known.assignable()).unwrap_or_default();
        let ids: Vec<MemberId> = said.into_keys().cloned().collect();
        let mut own = Arc::default();
        for (id, target) in ids.into_iter().zip(assign(&specs, alike, &assignable)) {
            let target = Arc::new(target);
            if id == *step.id {
                own = Arc::clone(&target);
            }
            if *self.group.target_of(&id) != *target {
                self.emit(ShareChange::Target(id, Some(target)));
            }
        }
        self.emit(ShareChange::TargetEpoch(Some(TargetEpoch { epoch: group_epoch, at: self.now })));
        (group_epoch, own)
    }

    /// What the member has after this step: its target, at once, as far as it subscribes to that.
    fn reconcile(&mut self, step: &Step<'_>, target_epoch: i32, target: &Target, changed: bool) -> ShareCurrent {
        let before = &step.before.current;
        if !changed && before.epoch == target_epoch {
            return before.clone();
        }
        let subscribed: BTreeSet<_> = topic_ids(&step.after.topics, self.topics());
        let mut assigned = target.clone();
        assigned.retain(|topic, _| subscribed.contains(topic));
        let (epoch, previous_epoch) = match target_epoch == before.epoch {
            true => (before.epoch, before.previous_epoch),
            false => (target_epoch, before.epoch),
        };
        let next = ShareCurrent { epoch, previous_epoch, assigned };
        if next != *before {
            self.emit(ShareChange::Current(step.id.clone(), Some(next.clone())));
        }
        next
    }
}
