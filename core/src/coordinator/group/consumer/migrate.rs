//! Groups change the protocol while they have members: to this one when the first member comes that speaks it, back to
//! the classic one when the last has gone.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use super::super::command::TimerKey;
use super::super::decision::Decision;
use super::super::draft::Draft;
use super::super::ids::{Generation, GroupId, MemberId, ProtocolType};
use super::super::pending::PendingDraft;
use super::super::record::{ConsumerChange, Record};
use super::super::reply::{ConsumerRefused, JoinError, JoinRefused, Reply, SyncError};
use super::super::shard::Shard;
use super::super::state::{ClassicGroup, Group, Member as ClassicMember, Phase};
use super::member::{Assigned, ClassicFace, Current, MemberState, Subscription, Target};
use super::protocol::{NotTaken, read_assignment, read_subscription, version_of, write_assignment};
use super::state::{ConsumerGroup, Epoch, TargetEpoch};
use super::work::{Work, not_found};
use crate::types::Timestamp;

impl Shard {
    /// A classic group, as one of the new protocol.
    pub(super) fn upgrade<'a>(
        &'a self,
        now: Timestamp,
        id: &'a GroupId,
        group: &'a Group,
    ) -> Result<Work<'a>, ConsumerRefused> {
        let classic = &group.classic;
        let mut work = Work::new(self, now, id, Cow::Owned(ConsumerGroup::default()));
        work.decision.records.push(Record::GroupMetadata { group: id.clone(), value: None });
        for member in &group.pending_joins {
            work.cancel(TimerKey::Session { group: id.clone(), member: member.clone() });
        }
        if classic.phase == Phase::Empty {
            return Ok(work);
        }
        work.check_upgrade(classic)?;
        work.end_waits(classic);
        work.cancel(TimerKey::Rebalance { group: id.clone() });
        work.cancel(TimerKey::Sync { group: id.clone() });
        work.take_over(classic)?;
        Ok(work)
    }
}

impl Work<'_> {
    fn check_upgrade(&self, classic: &ClassicGroup) -> Result<(), ConsumerRefused> {
        let refuse = |why: &str| {
            Err(not_found(&format!("Cannot upgrade classic group {} to consumer group because {why}.", self.id)))
        };
        if !self.config().migration.upgrade {
            return refuse("online upgrade is disabled");
        }
        if !classic.protocol_type.as_ref().is_some_and(ProtocolType::is_consumer) {
            return refuse("the group does not use the consumer embedded protocol");
        }
        if classic.members.len() > self.config().group_size_max {
            return refuse("the group size exceeds the consumer group maximum size");
        }
        Ok(())
    }

    /// Those who wait for the rebalance join again, and find the new group.
    fn end_waits(&mut self, classic: &ClassicGroup) {
        for (id, member) in &classic.members {
            if let Some(token) = member.awaiting_join {
                let refused = JoinRefused { error: JoinError::Superseded, member: Some(id.clone()) };
                self.decision.replies.push((token, Reply::JoinGroup(Err(refused))));
            }
            if let Some(token) = member.awaiting_sync {
                self.decision.replies.push((token, Reply::SyncGroup(Err(SyncError::RebalanceInProgress))));
            }
        }
    }

    /// Members with what they have, under the generation as their epoch.
    fn take_over(&mut self, classic: &ClassicGroup) -> Result<(), ConsumerRefused> {
        let epoch = classic.generation.0;
        let mut targets: BTreeMap<MemberId, Target> = BTreeMap::new();
        for (id, member) in &classic.members {
            let target = self.take_over_member(classic, id, member)?;
            targets.insert(id.clone(), target);
        }
        let metadata_hash = self.topics().hash_of(self.group.topics.keys());
        self.change_now(ConsumerChange::Group(Some(Epoch { epoch, metadata_hash })));
        for (id, target) in &targets {
            self.change_now(ConsumerChange::Target(id.clone(), Some(Arc::new(target.clone()))));
        }
        self.change_now(ConsumerChange::TargetEpoch(Some(TargetEpoch { epoch, at: Timestamp(0) })));
        for (id, target) in targets {
            let with_epoch = |partitions: BTreeSet<i32>| partitions.into_iter().map(|index| (index, epoch)).collect();
            let assigned = target.into_iter().map(|(topic, partitions)| (topic, with_epoch(partitions))).collect();
            let revoking = Assigned::new();
            let state = MemberState::Stable;
            let current = Current { epoch, previous_epoch: epoch, state, assigned, revoking };
            self.change_now(ConsumerChange::Current(id, Some(current)));
        }
        Ok(())
    }

    /// What the member shall have. A partition that its leader gave to two stays with the first.
    fn take_over_member(
        &mut self,
        classic: &ClassicGroup,
        id: &MemberId,
        member: &ClassicMember,
    ) -> Result<Target, ConsumerRefused> {
        let refuse = |why: &str| {
            not_found(&format!("Cannot upgrade classic group {} to consumer group because {why}.", self.id))
        };
        let malformed = || refuse("the embedded consumer protocol is malformed");
        let target = read_assignment(&member.assignment, self.topics()).map_err(|reason| match reason {
            NotTaken::Malformed => malformed(),
            NotTaken::UserData => refuse(
                "an unsupported custom assignor is in use. Please refer to the documentation or switch to a default \
                 assignor before re-attempting the upgrade",
            ),
        })?;
        let metadata = match &classic.protocol {
            Some(protocol) => member.metadata(Some(protocol)),
            None => member.protocols.first().map(|own| own.metadata.clone()).unwrap_or_default(),
        };
        let said = read_subscription(&metadata, self.topics()).map_err(|_| malformed())?;
        let subscription = Subscription {
            instance: member.instance.clone(),
            rack: said.rack,
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            topics: Arc::new(said.topics),
            pattern: Some(Arc::from("")),
            rebalance_timeout_ms: member.rebalance_timeout_ms,
            assignor: None,
            classic: Some(ClassicFace {
                session_timeout_ms: member.session_timeout_ms,
                protocols: Arc::clone(&member.protocols),
            }),
        };
        self.change_now(ConsumerChange::Member(id.clone(), Some(Arc::new(subscription))));
        self.restart_session(id, member.session_timeout_ms);
        Ok(target)
    }

    pub fn can_downgrade_without(&self, gone: &BTreeSet<MemberId>) -> bool {
        let mut left = self.group.members.iter().filter(|(id, _)| !gone.contains(*id));
        let count = self.group.members.len() - gone.iter().filter(|id| self.group.members.contains_key(*id)).count();
        self.may_downgrade_to(count) && left.all(|(_, member)| member.subscription.classic.is_some())
    }

    /// Whether a member of the classic protocol in the place of `replaced` leaves nobody who speaks the new one.
    pub fn can_downgrade_replacing(&self, replaced: &MemberId) -> bool {
        let others = self.group.members.iter().filter(|(id, _)| *id != replaced);
        let is_new = self.group.members.get(replaced).is_some_and(|member| member.subscription.classic.is_none());
        is_new
            && self.may_downgrade_to(self.group.members.len())
            && others.map(|(_, member)| member).all(|member| member.subscription.classic.is_some())
    }

    fn may_downgrade_to(&self, members: usize) -> bool {
        self.config().migration.downgrade && members > 0 && members <= self.shard.config.group_size_max
    }

    /// Goes back to the classic protocol with all but `gone`. `joining` has taken the place of the last member of this one.
    pub fn downgrade(
        mut self,
        gone: &BTreeSet<MemberId>,
        joining: Option<(&MemberId, &Arc<Subscription>)>,
        rebalance: bool,
    ) -> Decision {
        let classic = self.as_classic(gone, joining);
        for change in tombstones(&self.group) {
            self.emit(change);
        }
        let ids: Vec<MemberId> = self.group.members.keys().cloned().collect();
        ids.iter().for_each(|id| self.cancel_timers(id));
        let value = Some(classic.to_record());
        self.decision.records.push(Record::GroupMetadata { group: self.id.clone(), value });
        let mut draft = Draft {
            config: &self.shard.config,
            now: self.now,
            id: self.id,
            group: classic,
            pending: PendingDraft::new(None),
            decision: self.decision,
        };
        let members: Vec<MemberId> = draft.group.members.keys().cloned().collect();
        members.iter().for_each(|id| draft.restart_session(id));
        if rebalance {
            draft.prepare_rebalance();
        }
        draft.finish()
    }

    fn as_classic(&self, gone: &BTreeSet<MemberId>, joining: Option<(&MemberId, &Arc<Subscription>)>) -> ClassicGroup {
        let mut classic = ClassicGroup::new(self.now);
        classic.phase = Phase::Stable;
        classic.generation = Generation(self.group.epoch.epoch);
        let consumer = ProtocolType::new(ProtocolType::CONSUMER).expect("it is short");
        let members = self.group.members.iter().filter(|(id, _)| !gone.contains(*id));
        for (id, member) in members {
            let subscription = match joining {
                Some((joining, subscription)) if joining == id => subscription,
                _ => &member.subscription,
            };
            let Some(face) = &subscription.classic else { continue };
            classic.add(id.clone(), classic_member(subscription, face), &consumer);
        }
        classic.protocol = classic.select_protocol();
        let ids: Vec<MemberId> = classic.members.keys().cloned().collect();
        for id in &ids {
            let target = self.group.target_of(id);
            let protocol = classic.protocol.clone();
            let member = classic.member_mut(id);
            let version = version_of(&member.metadata(protocol.as_ref())).unwrap_or(0);
            member.assignment = write_assignment(&target, version, self.topics());
        }
        classic.subscribed = classic.compute_subscribed();
        classic
    }
}

fn classic_member(subscription: &Subscription, face: &ClassicFace) -> ClassicMember {
    ClassicMember {
        instance: subscription.instance.clone(),
        client_id: subscription.client_id.clone(),
        client_host: subscription.client_host.clone(),
        rebalance_timeout_ms: subscription.rebalance_timeout_ms,
        session_timeout_ms: face.session_timeout_ms,
        protocols: Arc::clone(&face.protocols),
        assignment: Bytes::new(),
        awaiting_join: None,
        awaiting_sync: None,
        is_new: false,
    }
}

/// What takes a group away.
pub(in super::super) fn tombstones(group: &ConsumerGroup) -> Vec<ConsumerChange> {
    let ids = || group.members.keys().cloned();
    let mut changes: Vec<ConsumerChange> = ids().map(|id| ConsumerChange::Current(id, None)).collect();
    changes.extend(ids().map(|id| ConsumerChange::Target(id, None)));
    changes.push(ConsumerChange::TargetEpoch(None));
    changes.extend(ids().map(|id| ConsumerChange::Member(id, None)));
    changes.extend(group.patterns.keys().map(|pattern| ConsumerChange::Pattern(pattern.clone(), None)));
    changes.push(ConsumerChange::PartitionsGone);
    changes.push(ConsumerChange::Group(None));
    changes
}
