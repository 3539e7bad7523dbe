//! What a decision on a consumer group works with, and what comes of it.

use std::borrow::Cow;
use std::sync::Arc;

use super::super::command::{Effect, TimerChange, TimerKey};
use super::super::decision::Decision;
use super::super::ids::{GroupId, MemberId};
use super::super::record::{ConsumerChange, Record};
use super::super::reply::{ConsumerError, ConsumerRefused};
use super::super::shard::Shard;
use super::settings::{ConsumerConfig, GroupSettings};
use super::state::{ConsumerGroup, Epoch, Member, SoftChange};
use super::topics::Topics;
use crate::types::Timestamp;

pub(super) struct Work<'a> {
    pub shard: &'a Shard,
    pub now: Timestamp,
    pub id: &'a GroupId,
    /// As it was, but for changes that were made at once.
    pub group: Cow<'a, ConsumerGroup>,
    pub decision: Decision,
}

impl<'a> Work<'a> {
    pub fn new(shard: &'a Shard, now: Timestamp, id: &'a GroupId, group: Cow<'a, ConsumerGroup>) -> Self {
        Self { shard, now, id, group, decision: Decision::nothing() }
    }

    /// On a group that is there, and is of this protocol.
    pub fn on(shard: &'a Shard, now: Timestamp, id: &'a GroupId) -> Result<Self, ConsumerRefused> {
        let group = shard.groups.get(id).ok_or_else(|| not_found(&format!("Group {id} not found.")))?;
        let group = group.consumer.as_deref();
        let group = group.ok_or_else(|| not_found(&format!("Group {id} is not a consumer group.")))?;
        Ok(Self::new(shard, now, id, Cow::Borrowed(group)))
    }

    pub fn config(&self) -> &'a ConsumerConfig {
        &self.shard.config.consumer
    }

    pub fn settings(&self) -> GroupSettings {
        self.shard.settings_of(self.id)
    }

    pub fn topics(&self) -> &'a Arc<Topics> {
        &self.shard.surroundings.topics
    }

    pub fn emit(&mut self, change: ConsumerChange) {
        self.decision.records.push(Record::Consumer { group: self.id.clone(), change });
    }

    /// The same, and the group counts as changed from now on.
    pub fn change_now(&mut self, change: ConsumerChange) {
        self.group.to_mut().replay(&change);
        self.emit(change);
    }

    pub fn change_softly(&mut self, change: SoftChange) {
        self.decision.soft.push((self.id.clone(), change));
    }

    pub fn effect(&mut self, effect: Effect) {
        self.decision.effects.push(effect);
    }

    pub fn emit_epoch(&mut self, epoch: i32, metadata_hash: i64) {
        self.emit(ConsumerChange::Group(Some(Epoch { epoch, metadata_hash })));
    }

    /// A member that is there.
    pub fn member(&self, id: &MemberId) -> Result<Member, ConsumerRefused> {
        self.group.members.get(id).cloned().ok_or_else(|| {
            let message = format!("Member {id} is not a member of group {}.", self.id);
            ConsumerRefused { error: ConsumerError::UnknownMember, message }
        })
    }

    pub fn set_timer(&mut self, key: TimerKey, after_ms: i32) {
        self.decision.set_timer(key, after_ms);
    }

    /// The end of the member's session is put off.
    pub fn restart_session(&mut self, member: &MemberId, timeout_ms: i32) {
        self.set_timer(TimerKey::Session { group: self.id.clone(), member: member.clone() }, timeout_ms);
    }

    pub fn cancel(&mut self, key: TimerKey) {
        self.decision.timers.push(TimerChange::Cancel(key));
    }

    pub fn cancel_timers(&mut self, member: &MemberId) {
        for key in member_keys(self.id, member) {
            self.cancel(key);
        }
    }
}

/// The timers that a member may have.
pub(super) fn member_keys(group: &GroupId, member: &MemberId) -> [TimerKey; 4] {
    let (group, member) = (|| group.clone(), || member.clone());
    [
        TimerKey::Session { group: group(), member: member() },
        TimerKey::Revoke { group: group(), member: member() },
        TimerKey::MemberJoin { group: group(), member: member() },
        TimerKey::MemberSync { group: group(), member: member() },
    ]
}

pub(in super::super) fn not_found(message: &str) -> ConsumerRefused {
    ConsumerRefused { error: ConsumerError::GroupNotFound, message: message.to_owned() }
}
