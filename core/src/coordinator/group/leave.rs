//! LeaveGroup: members go, or an operator removes static ones.

use super::command::{LeaveGroup, LeavingMember};
use super::decision::Decision;
use super::draft::Draft;
use super::reply::{LeaveError, LeaveMemberError, Left, Reply};
use super::shard::Shard;
use super::state::{NotMember, Phase};
use crate::types::Timestamp;

impl From<NotMember> for LeaveMemberError {
    fn from(reason: NotMember) -> Self {
        match reason {
            NotMember::Unknown => Self::UnknownMember,
            NotMember::Fenced => Self::FencedInstance,
        }
    }
}

impl Shard {
    pub(super) fn leave(&self, now: Timestamp, leave: &LeaveGroup) -> Decision {
        if leave.group.is_empty() {
            return Decision::reply(leave.token, Reply::LeaveGroup(Err(LeaveError::InvalidGroupId)));
        }
        let left = |leaving: &LeavingMember, result| Left {
            member: leaving.member.clone(),
            instance: leaving.instance.clone(),
            result,
        };
        if self.groups.get(&leave.group).is_none_or(|group| group.share.is_some() || group.streams.is_some()) {
            let unknown = |leaving| left(leaving, Err(LeaveMemberError::UnknownMember));
            let reply = Reply::LeaveGroup(Ok(leave.members.iter().map(unknown).collect()));
            return Decision::reply(leave.token, reply);
        }
        if self.groups.get(&leave.group).is_some_and(|group| group.consumer.is_some()) {
            return self.classic_leave(now, leave);
        }
        let mut draft = Draft::new(self, now, &leave.group);
        let results: Vec<Left> = leave.members.iter().map(|leaving| left(leaving, draft.leave(leaving))).collect();
        if results.iter().any(|left| left.result.is_ok()) && draft.group.phase != Phase::Empty {
            draft.rebalance();
        }
        draft.decision.replies.push((leave.token, Reply::LeaveGroup(Ok(results))));
        draft.finish()
    }
}

impl Draft<'_> {
    fn leave(&mut self, leaving: &LeavingMember) -> Result<(), LeaveMemberError> {
        let member = match &leaving.member {
            Some(member) => {
                if !self.pending.contains(member) {
                    self.group.validate_member(member, leaving.instance.as_ref())?;
                }
                member.clone()
            }
            None => leaving
                .instance
                .as_ref()
                .and_then(|instance| self.group.static_members.get(instance))
                .cloned()
                .ok_or(LeaveMemberError::UnknownMember)?,
        };
        self.remove_member(&member);
        Ok(())
    }
}
