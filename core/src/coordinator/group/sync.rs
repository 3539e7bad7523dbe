//! SyncGroup: the leader brings the assignments, everybody gets theirs.

use bytes::Bytes;

use super::command::SyncGroup;
use super::decision::Decision;
use super::draft::Draft;
use super::ids::{GroupId, MemberId};
use super::reply::{Reply, SyncError};
use super::shard::Shard;
use super::state::{ClassicGroup, NotMember, Phase};
use crate::types::Timestamp;

impl From<NotMember> for SyncError {
    fn from(reason: NotMember) -> Self {
        match reason {
            NotMember::Unknown => Self::UnknownMember,
            NotMember::Fenced => Self::FencedInstance,
        }
    }
}

impl Shard {
    pub(super) fn sync(&self, now: Timestamp, sync: &SyncGroup) -> Decision {
        let refuse = |error| Decision::reply(sync.token, Reply::SyncGroup(Err(error)));
        if sync.group.is_empty() {
            return refuse(SyncError::InvalidGroupId);
        }
        let Some(group) = self.groups.get(&sync.group) else { return refuse(SyncError::UnknownMember) };
        if group.consumer.is_some() {
            return self.classic_sync(now, sync);
        }
        if group.share.is_some() || group.streams.is_some() {
            return refuse(SyncError::UnknownMember);
        }
        if let Err(error) = validate(&group.classic, sync) {
            return refuse(error);
        }
        let mut draft = Draft::new(self, now, &sync.group);
        draft.sync(sync);
        draft.finish()
    }

    /// The members had the time of a rebalance to ask for their assignments: those who did not are gone.
    pub(super) fn sync_phase_ended(&self, now: Timestamp, group: &GroupId) -> Decision {
        let Some(known) = self.groups.get(group) else { return Decision::nothing() };
        let syncing = matches!(known.classic.phase, Phase::CompletingRebalance | Phase::Stable);
        if !syncing || known.classic.pending_syncs.is_empty() {
            return Decision::nothing();
        }
        let mut draft = Draft::new(self, now, group);
        let gone: Vec<MemberId> = draft.group.pending_syncs.iter().cloned().collect();
        for member in &gone {
            draft.remove_member(member);
        }
        draft.prepare_rebalance();
        draft.finish()
    }
}

fn validate(group: &ClassicGroup, sync: &SyncGroup) -> Result<(), SyncError> {
    group.validate_member(&sync.member, sync.instance.as_ref())?;
    if sync.generation != group.generation {
        return Err(SyncError::IllegalGeneration);
    }
    let differs = sync.protocol_type.is_some() && sync.protocol_type != group.protocol_type
        || sync.protocol.is_some() && sync.protocol != group.protocol;
    if differs {
        return Err(SyncError::InconsistentProtocol);
    }
    match group.phase {
        Phase::Empty => Err(SyncError::UnknownMember),
        Phase::PreparingRebalance { .. } => Err(SyncError::RebalanceInProgress),
        Phase::CompletingRebalance | Phase::Stable => Ok(()),
    }
}

impl Draft<'_> {
    fn sync(&mut self, sync: &SyncGroup) {
        self.group.pending_syncs.remove(&sync.member);
        if self.group.pending_syncs.is_empty() {
            self.decision.cancel_timer(self.sync_key());
        }
        if self.group.phase == Phase::Stable {
            let assignment = self.group.member_mut(&sync.member).assignment.clone();
            let reply = Reply::SyncGroup(Ok(self.synced(assignment)));
            self.decision.replies.push((sync.token, reply));
            return;
        }
        let member = self.group.member_mut(&sync.member);
        if let Some(older) = member.awaiting_sync.replace(sync.token) {
            // Nobody can be waiting for it any more.
            self.decision.replies.push((older, Reply::SyncGroup(Err(SyncError::RebalanceInProgress))));
        }
        if self.group.is_leader(&sync.member) {
            self.assign(&sync.assignments);
        }
    }

    /// Makes the generation stable. A member that the leader left out gets nothing.
    fn assign(&mut self, assignments: &[(MemberId, Bytes)]) {
        let ids: Vec<MemberId> = self.group.members.keys().cloned().collect();
        for id in &ids {
            self.group.member_mut(id).assignment = Bytes::new();
        }
        for (id, assignment) in assignments {
            if self.group.members.contains_key(id) {
                self.group.member_mut(id).assignment = assignment.clone();
            }
        }
        self.enter(Phase::Stable);
        self.record_generation();
        self.answer_syncs(None);
    }
}
