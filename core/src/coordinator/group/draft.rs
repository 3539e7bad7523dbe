//! A classic group as it is to be: a copy that a decision works on, with all that this brings about.

use std::sync::Arc;

use bytes::Bytes;

use super::command::{JoinGroup, TimerKey};
use super::config::GroupConfig;
use super::decision::{Decision, Drafted};
use super::ids::{GroupId, MemberId};
use super::pending::PendingDraft;
use super::record::Record;
use super::reply::{JoinError, JoinRefused, Joined, Reply, SyncError, Synced};
use super::shard::Shard;
use super::state::{ClassicGroup, Member, Phase};
use crate::types::Timestamp;

pub(super) struct Draft<'a> {
    pub config: &'a GroupConfig,
    pub now: Timestamp,
    pub id: &'a GroupId,
    pub group: ClassicGroup,
    pub pending: PendingDraft<'a>,
    pub decision: Decision,
}

impl<'a> Draft<'a> {
    /// A draft of the group, or of a new one.
    pub fn new(shard: &'a Shard, now: Timestamp, id: &'a GroupId) -> Self {
        let known = shard.groups.get(id).filter(|known| known.is_classic());
        let group = known.map_or_else(|| ClassicGroup::new(now), |known| known.classic.clone());
        let pending = PendingDraft::new(known.map(|known| &known.pending_joins));
        Self { config: &shard.config, now, id, group, pending, decision: Decision::nothing() }
    }

    pub fn finish(mut self) -> Decision {
        let drafted = Drafted { group: self.id.clone(), classic: self.group, pending: self.pending.finish() };
        self.decision.drafts.push(drafted);
        self.decision
    }

    pub fn have_all_joined(&self) -> bool {
        self.pending.is_empty() && self.group.members.values().all(|member| member.awaiting_join.is_some())
    }

    pub fn enter(&mut self, phase: Phase) {
        self.group.phase = phase;
        self.group.state_since = Some(self.now);
    }

    /// Records the group as it stands now.
    pub fn record_generation(&mut self) {
        let value = Some(self.group.to_record());
        self.decision.records.push(Record::GroupMetadata { group: self.id.clone(), value });
    }

    pub fn session_key(&self, member: &MemberId) -> TimerKey {
        TimerKey::Session { group: self.id.clone(), member: member.clone() }
    }

    pub fn rebalance_key(&self) -> TimerKey {
        TimerKey::Rebalance { group: self.id.clone() }
    }

    pub fn sync_key(&self) -> TimerKey {
        TimerKey::Sync { group: self.id.clone() }
    }

    /// The member gave a sign of life.
    pub fn restart_session(&mut self, member: &MemberId) {
        let timeout = self.group.members.get(member).map_or(0, |member| member.session_timeout_ms);
        self.decision.set_timer(self.session_key(member), timeout);
    }

    pub fn refuse_join(&mut self, join: &JoinGroup, error: JoinError, member: Option<MemberId>) {
        self.decision.replies.push((join.token, Reply::JoinGroup(Err(JoinRefused { error, member }))));
    }

    /// The present generation, as a member's join is answered with it.
    pub fn joined(&self, member: &MemberId) -> Joined {
        Joined {
            member: member.clone(),
            generation: self.group.generation,
            protocol_type: self.group.protocol_type.clone(),
            protocol: self.group.protocol.clone(),
            leader: self.group.leader.clone(),
            members: if self.group.is_leader(member) { self.group.joined_members() } else { Vec::new() },
            skip_assignment: false,
        }
    }

    /// Answers the member's parked join, if there is one.
    pub fn answer_join(&mut self, member: &MemberId, result: Result<Joined, JoinRefused>) {
        if let Some(token) = self.group.member_mut(member).awaiting_join.take() {
            self.decision.replies.push((token, Reply::JoinGroup(result)));
        }
    }

    /// Hands every member that waits for it its assignment, or `error`.
    pub fn answer_syncs(&mut self, error: Option<SyncError>) {
        let waiting: Vec<MemberId> = self
            .group
            .members
            .iter()
            .filter(|(_, member)| member.awaiting_sync.is_some())
            .map(|(id, _)| id.clone())
            .collect();
        for id in waiting {
            let member = self.group.member_mut(&id);
            let Some(token) = member.awaiting_sync.take() else { continue };
            let result = match error {
                Some(error) => Err(error),
                None => {
                    let assignment = member.assignment.clone();
                    Ok(self.synced(assignment))
                }
            };
            self.decision.replies.push((token, Reply::SyncGroup(result)));
            // Its silence was excused while it waited.
            self.restart_session(&id);
        }
    }

    pub fn synced(&self, assignment: Bytes) -> Synced {
        Synced { protocol_type: self.group.protocol_type.clone(), protocol: self.group.protocol.clone(), assignment }
    }

    /// Takes the member out of the group. What it waits for ends as UNKNOWN_MEMBER_ID, so that it joins anew if it
    /// is alive after all.
    pub fn remove_member(&mut self, id: &MemberId) {
        self.decision.cancel_timer(self.session_key(id));
        self.pending.remove(id);
        if let Some(member) = self.group.remove(id) {
            self.end_waits(&member, JoinError::UnknownMember, None, SyncError::UnknownMember);
        }
    }

    /// Answers what a member that is no more waits for.
    pub fn end_waits(&mut self, member: &Arc<Member>, join: JoinError, id: Option<MemberId>, sync: SyncError) {
        if let Some(token) = member.awaiting_join {
            let refused = JoinRefused { error: join, member: id };
            self.decision.replies.push((token, Reply::JoinGroup(Err(refused))));
        }
        if let Some(token) = member.awaiting_sync {
            self.decision.replies.push((token, Reply::SyncGroup(Err(sync))));
        }
    }
}
