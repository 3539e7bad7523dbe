//! Members go: they leave, or nobody hears of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::super::command::ConsumerHeartbeat;
use super::super::decision::Decision;
use super::super::ids::{GroupId, MemberId};
use super::super::record::ConsumerChange;
use super::super::reply::{ConsumerBeaten, ConsumerRefused};
use super::super::shard::Shard;
use super::LEAVE_STATIC_EPOCH;
use super::member::{Assigned, Current};
use super::state::decrement;
use super::work::Work;
use crate::types::Timestamp;

impl Shard {
    pub(super) fn consumer_leave(
        &self,
        now: Timestamp,
        beat: &ConsumerHeartbeat,
    ) -> Result<(Decision, ConsumerBeaten), ConsumerRefused> {
        let mut work = Work::on(self, now, &beat.group)?;
        let id = beat.member.clone().unwrap_or_else(|| beat.fresh_member.clone());
        let left = ConsumerBeaten { member: id.clone(), epoch: beat.epoch, heartbeat_interval_ms: 0, assignment: None };
        let member = match &beat.instance {
            None => work.member(&id)?,
            Some(instance) => work.holder(&id, instance)?,
        };
        if beat.instance.is_some() && beat.epoch == LEAVE_STATIC_EPOCH {
            // It keeps its place until its session ends, and whoever takes that gets all anew.
            let assigned = member.current.assigned.into_iter();
            let assigned: Assigned = assigned
                .map(|(topic, partitions)| (topic, partitions.into_keys().map(|partition| (partition, 0)).collect()))
                .collect();
            let current = Current { epoch: LEAVE_STATIC_EPOCH, assigned, revoking: Assigned::new(), ..member.current };
            work.emit(ConsumerChange::Current(id, Some(current)));
            return Ok((work.decision, left));
        }
        Ok((work.fence(&BTreeSet::from([id])), left))
    }

    /// A member whose time is over, for whatever it was given.
    pub(super) fn fence_member(&self, now: Timestamp, group: &GroupId, member: &MemberId) -> Decision {
        match Work::on(self, now, group) {
            Ok(work) if work.group.members.contains_key(member) => work.fence(&BTreeSet::from([member.clone()])),
            _ => Decision::nothing(),
        }
    }
}

impl Work<'_> {
    /// Takes members out. If only members of the classic protocol are left, the group goes back to it.
    pub fn fence(mut self, gone: &BTreeSet<MemberId>) -> Decision {
        if gone.is_empty() {
            return self.decision;
        }
        if self.can_downgrade_without(gone) {
            return self.downgrade(gone, None, true);
        }
        for id in gone {
            self.emit(ConsumerChange::Current(id.clone(), None));
            self.emit(ConsumerChange::Target(id.clone(), None));
            self.emit(ConsumerChange::Member(id.clone(), None));
        }
        let mut topics = self.group.topics.clone();
        let mut pattern_users: BTreeMap<Arc<str>, usize> = BTreeMap::new();
        for member in gone.iter().filter_map(|id| self.group.members.get(id)) {
            member.subscription.topics.iter().for_each(|topic| decrement(&mut topics, topic, |of| &mut of.by_name));
            if let Some(pattern) = member.subscription.pattern() {
                *pattern_users.entry(pattern.clone()).or_default() += 1;
            }
        }
        pattern_users.retain(|pattern, users| self.group.pattern_members.get(pattern) == Some(users));
        for pattern in pattern_users.into_keys() {
            let resolved = self.group.patterns.get(&pattern).map(|resolved| Arc::clone(&resolved.topics));
            for topic in resolved.unwrap_or_default().iter() {
                decrement(&mut topics, topic, |of| &mut of.by_pattern);
            }
            self.emit(ConsumerChange::Pattern(pattern, None));
        }
        let hash = self.topics().hash_of(topics.keys());
        self.emit_epoch(self.group.epoch.epoch + 1, hash);
        gone.iter().for_each(|id| self.cancel_timers(id));
        self.decision
    }
}
