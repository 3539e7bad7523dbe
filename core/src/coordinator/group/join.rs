//! JoinGroup: a member comes, comes back, or comes anew under its instance id.

use bytes::Bytes;

use super::command::JoinGroup;
use super::decision::Decision;
use super::draft::Draft;
use super::ids::{InstanceId, MemberId};
use super::record::Record;
use super::reply::{JoinError, JoinRefused, Joined, Reply, SyncError};
use super::shard::Shard;
use super::state::{ClassicGroup, Member, NotMember, Phase};
use crate::types::Timestamp;

impl From<NotMember> for JoinError {
    fn from(reason: NotMember) -> Self {
        match reason {
            NotMember::Unknown => Self::UnknownMember,
            NotMember::Fenced => Self::FencedInstance,
        }
    }
}

impl Shard {
    pub(super) fn join(&self, now: Timestamp, join: &JoinGroup) -> Decision {
        let refuse = |error| {
            let refused = JoinRefused { error, member: join.member.clone() };
            Decision::reply(join.token, Reply::JoinGroup(Err(refused)))
        };
        let timeouts = self.config.session_timeout_ms_min..=self.config.session_timeout_ms_max;
        let known = self.groups.get(&join.group);
        let other = known.filter(|group| group.consumer.is_some() || group.streams.is_some());
        let exists = known.is_some() && other.is_none();
        if join.group.is_empty() {
            return refuse(JoinError::InvalidGroupId);
        }
        if !timeouts.contains(&join.session_timeout_ms) {
            return refuse(JoinError::InvalidSessionTimeout);
        }
        if known.is_some_and(|group| group.share.is_some() || group.streams.is_some() && !group.is_empty()) {
            let refused = JoinRefused { error: JoinError::InconsistentProtocol, member: None };
            return Decision::reply(join.token, Reply::JoinGroup(Err(refused)));
        }
        if other.is_some_and(|group| !group.is_empty()) {
            return self.classic_join(now, join);
        }
        if !exists && join.member.is_some() {
            return refuse(JoinError::UnknownMember);
        }
        let mut draft = Draft::new(self, now, &join.group);
        draft.join(join);
        if exists {
            return draft.finish();
        }
        if draft.group.members.is_empty() && draft.pending.is_empty() {
            // Refused: no group comes of it.
            return draft.decision;
        }
        // One of the consumer or the streams protocol that has no members becomes a classic one.
        let records = &mut draft.decision.records;
        records.extend(other.into_iter().flat_map(|group| group.tombstones(&join.group)));
        // A group that is there must be there after a failover too.
        let value = Some(ClassicGroup::new(now).to_record());
        records.push(Record::GroupMetadata { group: join.group.clone(), value });
        draft.finish()
    }
}

impl Draft<'_> {
    fn join(&mut self, join: &JoinGroup) {
        if !self.has_room_for(join.member.as_ref()) {
            if let Some(member) = &join.member {
                self.remove_member(member);
            }
            self.refuse_join(join, JoinError::GroupFull, None);
        } else if !self.group.supports(&join.protocol_type, &join.protocols) {
            self.refuse_join(join, JoinError::InconsistentProtocol, join.member.clone());
        } else {
            match &join.member {
                Some(member) => self.join_with_id(join, member),
                None => self.join_without_id(join),
            }
        }
    }

    /// While members join, those who wait are counted, so that a group above its limit loses the last to come back.
    fn has_room_for(&self, member: Option<&MemberId>) -> bool {
        let known = member.and_then(|member| self.group.members.get(member));
        match self.group.phase {
            Phase::Empty => true,
            Phase::PreparingRebalance { .. } => {
                known.is_some_and(|member| member.awaiting_join.is_some())
                    || self.group.awaiting_joins() < self.config.group_size_max
            }
            Phase::CompletingRebalance | Phase::Stable => {
                known.is_some() || self.group.members.len() < self.config.group_size_max
            }
        }
    }

    fn join_without_id(&mut self, join: &JoinGroup) {
        match &join.instance {
            Some(instance) => match self.group.static_members.get(instance).cloned() {
                Some(old) => self.replace_static_member(join, instance, &old),
                None => self.add_member(join, &join.fresh_member),
            },
            None if join.known_member_required => {
                self.pending.insert(&join.fresh_member);
                self.decision.set_timer(self.session_key(&join.fresh_member), join.session_timeout_ms);
                self.refuse_join(join, JoinError::MemberIdRequired, Some(join.fresh_member.clone()));
            }
            None => self.add_member(join, &join.fresh_member),
        }
    }

    fn join_with_id(&mut self, join: &JoinGroup, member: &MemberId) {
        if self.pending.contains(member) && join.instance.is_none() {
            return self.add_member(join, member);
        }
        if let Err(reason) = self.group.validate_member(member, join.instance.as_ref()) {
            return self.refuse_join(join, reason.into(), Some(member.clone()));
        }
        let unchanged = self.group.members.get(member).is_some_and(|known| known.protocols == join.protocols);
        match self.group.phase {
            // Members are told before they can be in an empty group.
            Phase::Empty => self.refuse_join(join, JoinError::UnknownMember, Some(member.clone())),
            // It may have missed our answer.
            Phase::CompletingRebalance if unchanged => self.answer_with_present(join, member),
            // The leader's join asks for a rebalance: what it assigns by has changed.
            Phase::Stable if unchanged && !self.group.is_leader(member) => self.answer_with_present(join, member),
            _ => {
                self.update_member(join, member);
                self.rebalance();
            }
        }
    }

    fn answer_with_present(&mut self, join: &JoinGroup, member: &MemberId) {
        // The leader of a stable group never comes here.
        let joined = self.joined(member);
        self.decision.replies.push((join.token, Reply::JoinGroup(Ok(joined))));
    }

    fn add_member(&mut self, join: &JoinGroup, id: &MemberId) {
        let member = Member {
            instance: join.instance.clone(),
            client_id: join.client_id.clone(),
            client_host: join.client_host.clone(),
            rebalance_timeout_ms: join.rebalance_timeout_ms,
            session_timeout_ms: join.session_timeout_ms,
            protocols: join.protocols.clone(),
            assignment: Bytes::new(),
            awaiting_join: Some(join.token),
            awaiting_sync: None,
            is_new: true,
        };
        if let Phase::PreparingRebalance { initial: Some(initial) } = &mut self.group.phase {
            initial.member_added = true;
        }
        self.pending.remove(id);
        self.group.add(id.clone(), member, &join.protocol_type);
        // It cannot send heartbeats before it has our answer, and a lost connection goes unseen while the join is
        // parked: so a first join has a time limit of its own.
        self.decision.set_timer(self.session_key(id), self.config.new_member_join_timeout_ms);
        self.rebalance();
    }

    /// Parks the join with the member as it is now. An older join of the same member, which nobody can be waiting
    /// for any more, ends.
    fn update_member(&mut self, join: &JoinGroup, id: &MemberId) {
        let refused = JoinRefused { error: JoinError::Superseded, member: Some(id.clone()) };
        self.answer_join(id, Err(refused));
        let member = self.group.member_mut(id);
        member.protocols = join.protocols.clone();
        member.rebalance_timeout_ms = join.rebalance_timeout_ms;
        member.session_timeout_ms = join.session_timeout_ms;
        member.awaiting_join = Some(join.token);
    }

    /// A static member has started anew: it takes its old place, and whoever still uses the old id is fenced.
    fn replace_static_member(&mut self, join: &JoinGroup, instance: &InstanceId, old: &MemberId) {
        let new = &join.fresh_member;
        let old_leader = self.group.leader.clone();
        self.rename_static_member(instance, old, new);
        self.update_member(join, new);
        self.restart_session(new);
        match self.group.phase {
            Phase::Stable => {
                if self.group.protocol.is_some() && self.group.protocol == self.group.select_protocol() {
                    self.keep_generation(join, old_leader);
                } else {
                    self.rebalance();
                }
            }
            // The leader may be assigning to the old id just now.
            Phase::CompletingRebalance => self.prepare_rebalance(),
            Phase::PreparingRebalance { .. } | Phase::Empty => self.complete_join_if_ready(),
        }
    }

    fn rename_static_member(&mut self, instance: &InstanceId, old: &MemberId, new: &MemberId) {
        let was_leader = self.group.is_leader(old);
        let Some(member) = self.group.members.remove(old) else { return };
        self.end_waits(&member, JoinError::FencedInstance, Some(old.clone()), SyncError::FencedInstance);
        self.decision.cancel_timer(self.session_key(old));
        let mut renamed = member.as_ref().clone();
        renamed.awaiting_join = None;
        renamed.awaiting_sync = None;
        renamed.is_new = false;
        self.group.members.insert(new.clone(), renamed.into());
        self.group.static_members.insert(instance.clone(), new.clone());
        self.group.pending_syncs.remove(old);
        if was_leader {
            self.group.leader = Some(new.clone());
        }
    }

    /// Nothing that the others depend on has changed: the generation goes on with the member's new id.
    fn keep_generation(&mut self, join: &JoinGroup, old_leader: Option<MemberId>) {
        let new = &join.fresh_member;
        let joined = if join.skips_assignment {
            Joined { skip_assignment: self.group.is_leader(new), ..self.joined(new) }
        } else {
            // Named by its old id, the leader does not know that it leads, and does not assign.
            Joined { leader: old_leader, members: Vec::new(), ..self.joined(new) }
        };
        self.answer_join(new, Ok(joined));
        self.record_generation();
    }
}
