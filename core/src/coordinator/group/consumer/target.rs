//! A member's step: its subscription is stored, the group's epoch follows from that, the target assignment from the
//! epoch, and what the member has from the target.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::super::command::TimerKey;
use super::super::ids::MemberId;
use super::super::record::ConsumerChange;
use super::super::reply::{ConsumerError, ConsumerRefused};
use super::assign::{Assignor, MemberSpec, Spec};
use super::member::{Current, MemberState, Subscription, Target, TopicNames};
use super::pattern::PatternChange;
use super::reconcile::Way;
use super::state::{Epoch, Member, SoftChange, SubscribedTopics, TargetEpoch, decrement};
use super::work::Work;
use crate::types::{Timestamp, TopicId};

/// What a member comes with.
pub(super) struct Step<'a> {
    pub id: &'a MemberId,
    pub before: &'a Member,
    pub after: &'a Arc<Subscription>,
    /// What it says that it has, if it says.
    pub owned: Option<&'a Target>,
    pub pattern: PatternChange,
}

/// All that a member subscribes to: names, and a pattern.
type Subscribed<'a> = (&'a TopicNames, Option<&'a Arc<str>>);

impl Work<'_> {
    /// The whole step of a member that speaks this protocol. What it has then.
    pub fn advance(&mut self, step: &mut Step<'_>) -> Result<Current, ConsumerRefused> {
        let names_changed = self.store_subscription(step);
        let has_changed = names_changed || step.pattern != PatternChange::None;
        // A pattern that is not resolved yet brings its own change when it is.
        let bump = names_changed || step.pattern == PatternChange::Resolved;
        let epoch = self.bump_epoch(step, bump);
        let (target_epoch, target) = self.retarget(step, epoch);
        self.reconcile(step, target_epoch, &target, has_changed)
    }

    /// Whether the names of topics have changed.
    pub fn store_subscription(&mut self, step: &Step<'_>) -> bool {
        if *step.after == step.before.subscription {
            return false;
        }
        self.emit(ConsumerChange::Member(step.id.clone(), Some(Arc::clone(step.after))));
        step.after.topics != step.before.subscription.topics
    }

    /// The group's epoch after the step: it grows if it must, or if the topics are other ones than they were.
    pub fn bump_epoch(&mut self, step: &Step<'_>, must: bool) -> i32 {
        let Epoch { mut epoch, metadata_hash } = self.group.epoch;
        if !must && self.group.soft.topics_seen_at.is_some_and(|seen_at| epoch >= seen_at) {
            return epoch;
        }
        let (topics, _) = self.subscribed_after(step);
        let hash = self.topics().hash_of(topics.keys());
        if must || hash != metadata_hash {
            epoch += 1;
            self.emit_epoch(epoch, hash);
        }
        self.change_softly(SoftChange::TopicsSeen(epoch));
        epoch
    }

    fn subscribed_after(&self, step: &Step<'_>) -> (SubscribedTopics, BTreeMap<Arc<str>, usize>) {
        let mut topics = self.group.topics.clone();
        let mut patterns = self.group.pattern_members.clone();
        let before = self.group.members.get(step.id).map(|member| &member.subscription);
        if let Some(before) = before {
            before.topics.iter().for_each(|topic| decrement(&mut topics, topic, |of| &mut of.by_name));
        }
        step.after.topics.iter().for_each(|topic| topics.entry(topic.clone()).or_default().by_name += 1);
        let (old, new) = (before.and_then(|before| before.pattern()), step.after.pattern());
        if old == new {
            return (topics, patterns);
        }
        if let Some(old) = old
            && let Some(count) = patterns.get_mut(old)
        {
            *count -= 1;
            if *count == 0 {
                patterns.remove(old);
                let resolved = self.group.patterns.get(old).into_iter().flat_map(|resolved| resolved.topics.iter());
                resolved.for_each(|topic| decrement(&mut topics, topic, |of| &mut of.by_pattern));
            }
        }
        if let Some(new) = new {
            *patterns.entry(new.clone()).or_default() += 1;
        }
        (topics, patterns)
    }

    /// The member's target: of a new target assignment, where the group's epoch asks for one and the last is old
    /// enough.
    pub fn retarget(&mut self, step: &Step<'_>, group_epoch: i32) -> (i32, Arc<Target>) {
        let last = self.group.target_epoch;
        let interval_ms = self.config().assignment_interval_ms(self.settings());
        if last.epoch >= group_epoch || !is_due(last, interval_ms, self.now) {
            return (last.epoch, self.group.target_of(step.id));
        }
        let members = self.specs(step);
        let (topics, patterns) = self.subscribed_after(step);
        let alike = are_alike(&topics, &patterns, members.len());
        let assignor = self.assignor(step);
        let spec = Spec { members, alike, topics: self.topics() };
        let targets = assignor.assign(&spec);
        let mut own = Arc::default();
        for (member, target) in spec.members.iter().zip(targets) {
            if member.id == *step.id {
                own = Arc::clone(&target);
            }
            if self.group.targets.get(&member.id) != Some(&target) {
                self.emit(ConsumerChange::Target(member.id.clone(), Some(target)));
            }
        }
        self.emit(ConsumerChange::TargetEpoch(Some(TargetEpoch { epoch: group_epoch, at: self.now })));
        (group_epoch, own)
    }

    fn specs(&self, step: &Step<'_>) -> Vec<MemberSpec> {
        let mut subscriptions: BTreeMap<&MemberId, &Arc<Subscription>> =
            self.group.members.iter().map(|(id, member)| (id, &member.subscription)).collect();
        subscriptions.insert(step.id, step.after);
        // Most members subscribe to the same.
        let mut known: BTreeMap<Subscribed<'_>, Arc<BTreeSet<TopicId>>> = BTreeMap::new();
        let spec = |(id, subscription): (&MemberId, &'_ Arc<Subscription>)| (id.clone(), Arc::clone(subscription));
        let all: Vec<(MemberId, Arc<Subscription>)> = subscriptions.into_iter().map(spec).collect();
        let mut specs = Vec::with_capacity(all.len());
        for (id, subscription) in &all {
            let topics = known
                .entry((&*subscription.topics, subscription.pattern()))
                .or_insert_with(|| Arc::new(self.group.topic_ids(subscription, self.topics())));
            let (topics, target) = (Arc::clone(topics), self.group.target_of(id));
            specs.push(MemberSpec { id: id.clone(), instance: subscription.instance.clone(), topics, target });
        }
        specs
    }

    /// The one that most members want.
    fn assignor(&self, step: &Step<'_>) -> Assignor {
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        let others = self.group.members.iter().filter(|(id, _)| *id != step.id).map(|(_, member)| &member.subscription);
        for name in others.chain([step.after]).filter_map(|subscription| subscription.assignor.as_deref()) {
            *votes.entry(name).or_default() += 1;
        }
        let most = votes.into_iter().max_by_key(|(_, votes)| *votes);
        most.and_then(|(name, _)| Assignor::of(name)).unwrap_or_else(|| self.config().default_assignor())
    }

    /// What the member has after this step.
    pub fn reconcile(
        &mut self,
        step: &Step<'_>,
        target_epoch: i32,
        target: &Target,
        subscription_changed: bool,
    ) -> Result<Current, ConsumerRefused> {
        let before = &step.before.current;
        if !subscription_changed && before.is_reconciled_to(target_epoch) {
            return Ok(before.clone());
        }
        let subscribed = self.group.topic_ids(step.after, self.topics());
        let way = Way { target_epoch, target, subscribed: &subscribed, subscription_changed, owned: step.owned };
        let next = way.next(before, |topic, partition| self.group.is_held(topic, partition));
        let next = next.map_err(|_| ConsumerRefused {
            error: ConsumerError::FencedEpoch,
            message: "The consumer group member is in a unknown state. The member must abandon all its partitions and \
                      rejoin."
                .to_owned(),
        })?;
        if next == *before {
            return Ok(next);
        }
        self.emit(ConsumerChange::Current(step.id.clone(), Some(next.clone())));
        if step.after.classic.is_none() {
            let key = TimerKey::Revoke { group: self.id.clone(), member: step.id.clone() };
            if next.state == MemberState::UnrevokedPartitions {
                self.set_timer(key, step.after.rebalance_timeout_ms);
            } else {
                self.cancel(key);
            }
        }
        Ok(next)
    }
}

/// Whether the last target assignment is old enough for the next.
pub(in super::super) fn is_due(last: TargetEpoch, interval_ms: i32, now: Timestamp) -> bool {
    last.at.0 == 0 || interval_ms == 0 || now.0 >= last.at.0.saturating_add(i64::from(interval_ms))
}

fn are_alike(topics: &SubscribedTopics, patterns: &BTreeMap<Arc<str>, usize>, members: usize) -> bool {
    match patterns.values().next() {
        None => topics.values().all(|of| of.by_name == members),
        Some(count) if *count == members => topics.values().all(|of| of.by_pattern == 1 && of.by_name == 0),
        Some(_) => false,
    }
}
