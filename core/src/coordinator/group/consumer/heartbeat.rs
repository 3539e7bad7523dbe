//! ConsumerGroupHeartbeat: members come, change, give up and get partitions, and leave.

use std::borrow::Cow;
use std::sync::Arc;

use super::super::command::ConsumerHeartbeat;
use super::super::decision::Decision;
use super::super::ids::{InstanceId, MemberId};
use super::super::record::ConsumerChange;
use super::super::reply::{ConsumerBeaten, ConsumerError, ConsumerRefused, Reply};
use super::super::shard::Shard;
use super::member::{Assigned, Current, Subscription, Target};
use super::state::{ConsumerGroup, Member};
use super::target::Step;
use super::work::{Work, not_found};
use super::{LEAVE_EPOCH, LEAVE_STATIC_EPOCH};
use crate::types::Timestamp;

impl Shard {
    pub(in super::super) fn consumer_heartbeat(&self, now: Timestamp, beat: &ConsumerHeartbeat) -> Decision {
        let outcome = match beat.epoch {
            LEAVE_EPOCH | LEAVE_STATIC_EPOCH => self.consumer_leave(now, beat),
            _ => self.consumer_beat(now, beat),
        };
        match outcome {
            Ok((mut decision, beaten)) => {
                decision.replies.push((beat.token, Reply::ConsumerHeartbeat(Ok(beaten))));
                decision
            }
            Err(refused) => Decision::reply(beat.token, Reply::ConsumerHeartbeat(Err(refused))),
        }
    }

    fn consumer_beat(
        &self,
        now: Timestamp,
        beat: &ConsumerHeartbeat,
    ) -> Result<(Decision, ConsumerBeaten), ConsumerRefused> {
        let joins = beat.epoch == 0;
        let mut work = self.consumer_group_for(now, beat, joins)?;
        let id = beat.member.clone().unwrap_or_else(|| beat.fresh_member.clone());
        work.refuse_if_full(&id)?;
        let before = match &beat.instance {
            None => work.dynamic_member(&id, joins)?,
            Some(instance) => work.static_member(&id, instance, joins)?,
        };
        check_epoch(&before.current, beat.epoch, beat.owned.as_ref())?;
        let after = Arc::new(subscription(&before.subscription, beat));
        let pattern = work.change_pattern(&before.subscription, &after, beat.pattern.as_ref())?;
        let mut step = Step { id: &id, before: &before, after: &after, owned: beat.owned.as_ref(), pattern };
        let current = work.advance(&mut step)?;
        work.restart_session(&id, work.config().session_timeout_ms(work.settings()));
        let is_full = beat.rebalance_timeout_ms.is_some()
            && (beat.topics.is_some() || beat.pattern.is_some())
            && beat.owned.is_some();
        let is_told = joins || is_full || current.assigned != before.current.assigned;
        let beaten = ConsumerBeaten {
            member: id.clone(),
            epoch: current.epoch,
            heartbeat_interval_ms: work.config().heartbeat_interval_ms(work.settings()),
            assignment: is_told.then(|| without_epochs(&current.assigned)),
        };
        Ok((work.decision, beaten))
    }

    /// The group, a new one, or one that comes over from the classic protocol.
    fn consumer_group_for<'a>(
        &'a self,
        now: Timestamp,
        beat: &'a ConsumerHeartbeat,
        joins: bool,
    ) -> Result<Work<'a>, ConsumerRefused> {
        let id = &beat.group;
        let new = || Work::new(self, now, id, Cow::Owned(ConsumerGroup::default()));
        match self.groups.get(id) {
            None if joins => Ok(new()),
            None => Err(not_found(&format!("Consumer group {id} not found."))),
            Some(group) => match &group.consumer {
                Some(consumer) => Ok(Work::new(self, now, id, Cow::Borrowed(&**consumer))),
                None if joins && group.is_classic() => self.upgrade(now, id, group),
                None => Err(not_found(&format!("Group {id} is not a consumer group."))),
            },
        }
    }
}

pub(super) fn without_epochs(assigned: &Assigned) -> Target {
    assigned.iter().map(|(topic, partitions)| (*topic, partitions.keys().copied().collect())).collect()
}

/// Of a member that is not there yet.
pub(super) fn new_member() -> Member {
    let nobody = Subscription {
        instance: None,
        rack: None,
        client_id: super::super::ids::ClientId::new("").expect("it is short"),
        client_host: super::super::ids::ClientHost::new("").expect("it is short"),
        topics: Arc::default(),
        pattern: Some(Arc::from("")),
        rebalance_timeout_ms: -1,
        assignor: None,
        classic: None,
    };
    Member { subscription: Arc::new(nobody), current: Current { previous_epoch: -1, ..Current::default() } }
}

/// What is left out stays as it was.
fn subscription(before: &Subscription, beat: &ConsumerHeartbeat) -> Subscription {
    Subscription {
        instance: beat.instance.clone().or_else(|| before.instance.clone()),
        rack: beat.rack.clone().or_else(|| before.rack.clone()),
        client_id: beat.client_id.clone(),
        client_host: beat.client_host.clone(),
        topics: beat.topics.clone().unwrap_or_else(|| before.topics.clone()),
        pattern: beat.pattern.as_ref().map(|pattern| pattern.text.clone()).or_else(|| before.pattern.clone()),
        rebalance_timeout_ms: beat.rebalance_timeout_ms.unwrap_or(before.rebalance_timeout_ms),
        assignor: beat.assignor.clone().or_else(|| before.assignor.clone()),
        classic: None,
    }
}

/// A member may be one epoch behind, if it missed our answer and has nothing that it must not have.
fn check_epoch(current: &Current, epoch: i32, owned: Option<&Target>) -> Result<(), ConsumerRefused> {
    let fenced = |what: &str| ConsumerRefused {
        error: ConsumerError::FencedEpoch,
        message: format!(
            "The consumer group member has a {what} member epoch ({epoch}) than the one known by the group coordinator \
             ({}). The member must abandon all its partitions and rejoin.",
            current.epoch
        ),
    };
    let is_assigned = |owned: &Target| {
        owned.iter().all(|(topic, partitions)| {
            let assigned = current.assigned.get(topic);
            assigned.is_some_and(|assigned| partitions.iter().all(|partition| assigned.contains_key(partition)))
        })
    };
    match epoch {
        0 => Ok(()),
        _ if epoch > current.epoch => Err(fenced("greater")),
        _ if epoch == current.epoch => Ok(()),
        _ if epoch == current.previous_epoch && owned.is_some_and(is_assigned) => Ok(()),
        _ => Err(fenced("smaller")),
    }
}

impl Work<'_> {
    pub fn refuse_if_full(&self, id: &MemberId) -> Result<(), ConsumerRefused> {
        let max = self.config().group_size_max;
        if self.group.members.len() < max || self.group.members.contains_key(id) {
            return Ok(());
        }
        let message = format!("The consumer group has reached its maximum capacity of {max} members.");
        Err(ConsumerRefused { error: ConsumerError::GroupFull, message })
    }

    pub fn dynamic_member(&self, id: &MemberId, joins: bool) -> Result<Member, ConsumerRefused> {
        match self.member(id) {
            Err(_) if joins => Ok(new_member()),
            member => member,
        }
    }

    fn static_member(&mut self, id: &MemberId, instance: &InstanceId, joins: bool) -> Result<Member, ConsumerRefused> {
        if !joins {
            return self.holder(id, instance);
        }
        let Some((old, holder)) = self.group.static_member(instance) else { return self.dynamic_member(id, true) };
        let is_released = holder.current.epoch == LEAVE_STATIC_EPOCH || holder.subscription.classic.is_some();
        if !is_released {
            let message = format!(
                "Static member {id} with instance id {instance} cannot join the group because the instance id is owned \
                 by member {old}."
            );
            return Err(ConsumerRefused { error: ConsumerError::UnreleasedInstance, message });
        }
        let old = old.clone();
        Ok(self.replace_static_member(&old, id))
    }

    /// The member of an instance, if it is this one.
    pub fn holder(&self, id: &MemberId, instance: &InstanceId) -> Result<Member, ConsumerRefused> {
        let Some((holder, member)) = self.group.static_member(instance) else {
            let message = format!("Instance id {instance} is unknown.");
            return Err(ConsumerRefused { error: ConsumerError::UnknownMember, message });
        };
        if holder != id {
            let message = format!("Static member {id} with instance id {instance} was fenced by member {holder}.");
            return Err(ConsumerRefused { error: ConsumerError::FencedInstance, message });
        }
        Ok(member.clone())
    }

    /// A static member has started anew: under its new id it gets what the old one had.
    pub fn replace_static_member(&mut self, old: &MemberId, new: &MemberId) -> Member {
        let Some(holder) = self.group.members.get(old).cloned() else { return new_member() };
        let target = self.group.target_of(old);
        self.remove_now(old);
        if old != new {
            self.cancel_timers(old);
        }
        let current = Current { epoch: 0, previous_epoch: 0, ..holder.current };
        self.change_now(ConsumerChange::Member(new.clone(), Some(Arc::clone(&holder.subscription))));
        self.change_now(ConsumerChange::Target(new.clone(), Some(target)));
        self.change_now(ConsumerChange::Current(new.clone(), Some(current.clone())));
        Member { subscription: holder.subscription, current }
    }

    fn remove_now(&mut self, id: &MemberId) {
        self.change_now(ConsumerChange::Current(id.clone(), None));
        self.change_now(ConsumerChange::Target(id.clone(), None));
        self.change_now(ConsumerChange::Member(id.clone(), None));
    }
}
