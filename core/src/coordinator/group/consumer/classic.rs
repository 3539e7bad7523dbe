//! Members that speak the classic protocol, in a group that does not: each is brought to its target by its joins, and
//! told by its heartbeats when to join again. Nobody leads.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::super::command::{Heartbeat, JoinGroup, LeaveGroup, LeavingMember, SyncGroup, TimerKey};
use super::super::decision::Decision;
use super::super::ids::{Generation, InstanceId, MemberId, ProtocolType};
use super::super::reply::{
    ConsumerError, ConsumerRefused, HeartbeatError, JoinError, JoinRefused, Joined, LeaveMemberError, Left, Reply,
    SyncError, Synced,
};
use super::super::shard::Shard;
use super::heartbeat::without_epochs;
use super::member::{ClassicFace, MemberState, Subscription};
use super::pattern::PatternChange;
use super::protocol::{ClassicSubscription, read_subscription, version_of, write_assignment};
use super::state::{Member, SoftChange};
use super::target::Step;
use super::work::Work;
use crate::types::Timestamp;

impl Shard {
    /// JoinGroup to a consumer group that has members.
    pub(in super::super) fn classic_join(&self, now: Timestamp, join: &JoinGroup) -> Decision {
        let refuse = |error, member| Decision::reply(join.token, Reply::JoinGroup(Err(JoinRefused { error, member })));
        let Ok(mut work) = Work::on(self, now, &join.group) else { return refuse(JoinError::UnknownMember, None) };
        let id = join.member.clone().unwrap_or_else(|| join.fresh_member.clone());
        let names = join.protocols.iter().map(|protocol| &protocol.name);
        if work.config().migration.is_disabled() {
            return refuse(JoinError::GroupNotFound, join.member.clone());
        }
        if work.refuse_if_full(&id).is_err() {
            return refuse(JoinError::GroupFull, None);
        }
        if !join.protocol_type.is_consumer() || !work.group.supports(names) {
            return refuse(JoinError::InconsistentProtocol, join.member.clone());
        }
        if join.member.is_none() && join.instance.is_none() && join.known_member_required {
            return refuse(JoinError::MemberIdRequired, Some(id));
        }
        let said = join.protocols.first().and_then(|own| read_subscription(&own.metadata, work.topics()).ok());
        let Some(said) = said else { return refuse(JoinError::InconsistentProtocol, join.member.clone()) };
        match work.join_classic(join, &id, said) {
            Ok(Joining::Done) => work.decision,
            Ok(Joining::Downgrades { after, rebalance }) => {
                work.downgrade(&BTreeSet::new(), Some((&id, &after)), rebalance)
            }
            Err(refused) => refuse(refused.error.into(), Some(id)),
        }
    }

    pub(in super::super) fn classic_sync(&self, now: Timestamp, sync: &SyncGroup) -> Decision {
        let refuse = |error| Decision::reply(sync.token, Reply::SyncGroup(Err(error)));
        let Ok(mut work) = Work::on(self, now, &sync.group) else { return refuse(SyncError::UnknownMember) };
        let (id, instance) = (&sync.member, sync.instance.as_ref());
        let (member, face) = match work.classic_member(id, instance, sync.generation) {
            Ok(known) => known,
            Err(error) => return refuse(error.into()),
        };
        let Some(own) = face.protocols.first() else { return refuse(SyncError::InconsistentProtocol) };
        let is_other_type = sync.protocol_type.as_ref().is_some_and(|name| !name.is_consumer());
        if is_other_type || sync.protocol.as_ref().is_some_and(|name| *name != own.name) {
            return refuse(SyncError::InconsistentProtocol);
        }
        let current = &member.current;
        if work.group.target_epoch.epoch > current.epoch && current.state != MemberState::UnrevokedPartitions {
            work.await_join(id, &member);
            let reply = Reply::SyncGroup(Err(SyncError::RebalanceInProgress));
            work.decision.replies.push((sync.token, reply));
            return work.decision;
        }
        let version = version_of(&own.metadata).unwrap_or(0);
        let assignment = write_assignment(&without_epochs(&current.assigned), version, work.topics());
        work.cancel(TimerKey::MemberSync { group: sync.group.clone(), member: id.clone() });
        work.restart_session(id, face.session_timeout_ms);
        let (protocol_type, protocol) = (sync.protocol_type.clone(), sync.protocol.clone());
        let synced = Synced { protocol_type, protocol, assignment };
        work.decision.replies.push((sync.token, Reply::SyncGroup(Ok(synced))));
        work.decision
    }

    pub(in super::super) fn classic_heartbeat(&self, now: Timestamp, beat: &Heartbeat) -> Decision {
        let refuse = |error| Decision::reply(beat.token, Reply::Heartbeat(Err(error)));
        let Ok(mut work) = Work::on(self, now, &beat.group) else { return refuse(HeartbeatError::UnknownMember) };
        let id = &beat.member;
        let (member, face) = match work.classic_member(id, beat.instance.as_ref(), beat.generation) {
            Ok(known) => known,
            Err(error) => return refuse(error.into()),
        };
        work.restart_session(id, face.session_timeout_ms);
        let is_behind = member.current.epoch < work.group.target_epoch.epoch;
        let may_go_on = match member.current.state {
            MemberState::UnrevokedPartitions => true,
            MemberState::UnreleasedPartitions => !work.group.waits_for_others(id, &member),
            MemberState::Stable | MemberState::Unknown => false,
        };
        let result = if is_behind || may_go_on {
            work.await_join(id, &member);
            Err(HeartbeatError::RebalanceInProgress)
        } else {
            Ok(())
        };
        work.decision.replies.push((beat.token, Reply::Heartbeat(result)));
        work.decision
    }

    pub(in super::super) fn classic_leave(&self, now: Timestamp, leave: &LeaveGroup) -> Decision {
        let Ok(mut work) = Work::on(self, now, &leave.group) else { return Decision::nothing() };
        let mut gone = BTreeSet::new();
        let mut results = Vec::with_capacity(leave.members.len());
        for leaving in &leave.members {
            let result = work.leaving(leaving).map(|id| {
                gone.insert(id);
            });
            results.push(Left { member: leaving.member.clone(), instance: leaving.instance.clone(), result });
        }
        work.decision.replies.push((leave.token, Reply::LeaveGroup(Ok(results))));
        work.fence(&gone)
    }
}

/// What becomes of a join.
enum Joining {
    Done,
    /// The last member of the new protocol was replaced by it: the group is to be a classic one.
    Downgrades {
        after: Arc<Subscription>,
        rebalance: bool,
    },
}

impl From<ConsumerError> for JoinError {
    fn from(error: ConsumerError) -> Self {
        match error {
            ConsumerError::GroupNotFound => Self::GroupNotFound,
            ConsumerError::GroupFull => Self::GroupFull,
            ConsumerError::FencedInstance | ConsumerError::UnreleasedInstance => Self::FencedInstance,
            ConsumerError::UnknownMember | ConsumerError::FencedEpoch | ConsumerError::InvalidPattern => {
                Self::UnknownMember
            }
        }
    }
}

/// Why a member's request is not heard.
enum Unheard {
    Unknown,
    Fenced,
    Generation,
}

impl From<Unheard> for SyncError {
    fn from(reason: Unheard) -> Self {
        match reason {
            Unheard::Unknown => Self::UnknownMember,
            Unheard::Fenced => Self::FencedInstance,
            Unheard::Generation => Self::IllegalGeneration,
        }
    }
}

impl From<Unheard> for HeartbeatError {
    fn from(reason: Unheard) -> Self {
        match reason {
            Unheard::Unknown => Self::UnknownMember,
            Unheard::Fenced => Self::FencedInstance,
            Unheard::Generation => Self::IllegalGeneration,
        }
    }
}

impl Work<'_> {
    fn join_classic(
        &mut self,
        join: &JoinGroup,
        id: &MemberId,
        said: ClassicSubscription,
    ) -> Result<Joining, ConsumerRefused> {
        let holder = join.instance.as_ref().and_then(|instance| self.group.static_member(instance));
        let replaces = holder.map(|(id, _)| id.clone());
        let downgrades = replaces.as_ref().is_some_and(|holder| self.can_downgrade_replacing(holder));
        let before = match (&join.instance, &replaces) {
            (None, _) => self.dynamic_member(id, true)?,
            (Some(_), None) if join.member.is_none() => self.dynamic_member(id, true)?,
            (Some(_), Some(old)) if join.member.is_none() => self.replace_static_member(old, id),
            (Some(instance), _) => self.holder(id, instance)?,
        };
        let owned = said.owned.clone();
        let after = Arc::new(subscription(&before.subscription, join, said));
        let pattern = self.change_pattern(&before.subscription, &after, None)?;
        let step = Step { id, before: &before, after: &after, owned: Some(&owned), pattern };
        let changed = self.store_subscription(&step) || pattern != PatternChange::None;
        let epoch = self.bump_epoch(&step, changed);
        let last = self.group.target_epoch.epoch;
        let rebalance = downgrades && last < epoch;
        let current = if rebalance {
            before.current.clone()
        } else {
            let (target_epoch, target) = match downgrades {
                true => (last, self.group.target_of(id)),
                false => self.retarget(&step, epoch),
            };
            self.reconcile(&step, target_epoch, &target, changed)?
        };
        let joined = Joined {
            member: id.clone(),
            generation: Generation(current.epoch),
            protocol_type: ProtocolType::new(ProtocolType::CONSUMER).ok(),
            protocol: join.protocols.first().map(|own| own.name.clone()),
            leader: None,
            members: Vec::new(),
            skip_assignment: false,
        };
        self.decision.replies.push((join.token, Reply::JoinGroup(Ok(joined))));
        self.cancel(TimerKey::MemberJoin { group: self.id.clone(), member: id.clone() });
        if downgrades {
            return Ok(Joining::Downgrades { after, rebalance });
        }
        self.change_softly(SoftChange::Rejoining(id.clone(), false));
        self.restart_session(id, join.session_timeout_ms);
        let key = TimerKey::MemberSync { group: self.id.clone(), member: id.clone() };
        self.set_timer(key, join.rebalance_timeout_ms);
        Ok(Joining::Done)
    }

    fn classic_member(
        &self,
        id: &MemberId,
        instance: Option<&InstanceId>,
        generation: Generation,
    ) -> Result<(Member, ClassicFace), Unheard> {
        let member = match instance {
            None => self.member(id),
            Some(instance) => self.holder(id, instance),
        };
        let member = member.map_err(|refused| match refused.error {
            ConsumerError::FencedInstance => Unheard::Fenced,
            _ => Unheard::Unknown,
        })?;
        let face = member.subscription.classic.clone().ok_or(Unheard::Unknown)?;
        if generation.0 == member.current.epoch { Ok((member, face)) } else { Err(Unheard::Generation) }
    }

    /// It is told to join again, and has the time of a rebalance for it.
    fn await_join(&mut self, id: &MemberId, member: &Member) {
        if self.group.soft.rejoining.contains(id) {
            return;
        }
        self.change_softly(SoftChange::Rejoining(id.clone(), true));
        let key = TimerKey::MemberJoin { group: self.id.clone(), member: id.clone() };
        self.set_timer(key, member.subscription.rebalance_timeout_ms);
    }

    fn leaving(&self, leaving: &LeavingMember) -> Result<MemberId, LeaveMemberError> {
        let holder = match &leaving.instance {
            None => leaving.member.as_ref().and_then(|id| self.group.members.get_key_value(id)),
            Some(instance) => self.group.static_member(instance),
        };
        let (holder, _) = holder.ok_or(LeaveMemberError::UnknownMember)?;
        match &leaving.member {
            Some(member) if member != holder => Err(LeaveMemberError::FencedInstance),
            _ => Ok(holder.clone()),
        }
    }
}

fn subscription(before: &Subscription, join: &JoinGroup, said: ClassicSubscription) -> Subscription {
    Subscription {
        instance: join.instance.clone().or_else(|| before.instance.clone()),
        rack: said.rack.or_else(|| before.rack.clone()),
        client_id: join.client_id.clone(),
        client_host: join.client_host.clone(),
        topics: Arc::new(said.topics),
        // Not to be had in the classic protocol.
        pattern: Some(Arc::from("")),
        rebalance_timeout_ms: join.rebalance_timeout_ms,
        assignor: before.assignor.clone(),
        classic: Some(ClassicFace {
            session_timeout_ms: join.session_timeout_ms,
            protocols: Arc::clone(&join.protocols),
        }),
    }
}
