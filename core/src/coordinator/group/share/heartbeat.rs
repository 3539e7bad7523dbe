//! ShareGroupHeartbeat: members come, change, hear what they have, and leave.

use std::borrow::Cow;
use std::sync::Arc;

use super::super::command::TimerKey;
use super::super::consumer::{LEAVE_EPOCH, not_found};
use super::super::decision::Decision;
use super::super::ids::{GroupId, MemberId};
use super::super::record::ShareChange;
use super::super::reply::{ConsumerBeaten, ConsumerError, ConsumerRefused, Reply};
use super::super::shard::Shard;
use super::command::{ShareHeartbeat, ShareReply};
use super::member::{ShareCurrent, ShareMember, ShareSubscription};
use super::state::{ShareGroup, ShareSoft};
use super::target::{ShareWork, Step};
use crate::types::Timestamp;

impl Shard {
    pub(super) fn share_heartbeat(&self, now: Timestamp, beat: &ShareHeartbeat) -> Decision {
        let outcome = match beat.epoch {
            LEAVE_EPOCH => self.share_leave(now, beat),
            _ => self.share_beat(now, beat),
        };
        let answer = |answer| Reply::Share(ShareReply::Heartbeat(answer));
        match outcome {
            Ok((mut decision, beaten)) => {
                decision.replies.push((beat.token, answer(Ok(beaten))));
                decision
            }
            Err(refused) => Decision::reply(beat.token, answer(Err(refused))),
        }
    }

    fn share_beat(&self, now: Timestamp, beat: &ShareHeartbeat) -> Result<(Decision, ConsumerBeaten), ConsumerRefused> {
        let joins = beat.epoch == 0;
        let group = match self.groups.contains_key(&beat.group) {
            false if joins => Cow::Owned(ShareGroup::default()),
            false => return Err(not_found(&format!("Share group {} not found.", beat.group))),
            true => Cow::Borrowed(self.share_group(&beat.group)?),
        };
        let mut work = ShareWork::new(self, now, &beat.group, group);
        work.refuse_if_full(&beat.member)?;
        let before = match work.member(&beat.member) {
            Err(_) if joins => new_member(),
            known => known?,
        };
        check_epoch(&before.current, beat.epoch)?;
        let after = Arc::new(subscription(&before.said, beat));
        let stepped = work.advance(&Step { id: &beat.member, before: &before, after: &after });
        work.initialize(stepped.group_epoch, &stepped.topics);
        let session_ms = work.config().session_timeout_ms(work.times());
        work.decision.set_timer(session_of(&beat.group, &beat.member), session_ms);
        let current = stepped.current;
        // A member that names its topics says all that there is to say.
        let is_told = joins || beat.topics.is_some() || current.assigned != before.current.assigned;
        let beaten = ConsumerBeaten {
            member: beat.member.clone(),
            epoch: current.epoch,
            heartbeat_interval_ms: work.config().heartbeat_interval_ms(work.times()),
            assignment: is_told.then_some(current.assigned),
        };
        Ok((work.decision, beaten))
    }

    fn share_leave(
        &self,
        now: Timestamp,
        beat: &ShareHeartbeat,
    ) -> Result<(Decision, ConsumerBeaten), ConsumerRefused> {
        let group = self.share_group(&beat.group)?;
        let work = ShareWork::new(self, now, &beat.group, Cow::Borrowed(group));
        work.member(&beat.member)?;
        let left = ConsumerBeaten {
            member: beat.member.clone(),
            epoch: beat.epoch,
            heartbeat_interval_ms: 0,
            assignment: None,
        };
        Ok((work.fence(&beat.member), left))
    }

    /// A group that is there, and is a share group.
    pub(super) fn share_group(&self, id: &GroupId) -> Result<&ShareGroup, ConsumerRefused> {
        let group = self.groups.get(id).ok_or_else(|| not_found(&format!("Group {id} not found.")))?;
        group.share.as_deref().ok_or_else(|| not_found(&format!("Group {id} is not a share group.")))
    }

    /// A member was silent.
    pub(in super::super) fn share_session_ended(&self, now: Timestamp, id: &GroupId, member: &MemberId) -> Decision {
        match self.share_group(id) {
            Ok(group) if group.members.contains_key(member) => {
                ShareWork::new(self, now, id, Cow::Borrowed(group)).fence(member)
            }
            _ => Decision::nothing(),
        }
    }

    /// This node begins to lead the group: every member has a session's time to be heard of, and the share coordinators
    /// have theirs to answer whoever asked them before.
    pub(in super::super) fn share_loaded(
        &self,
        now: Timestamp,
        id: &GroupId,
        group: &ShareGroup,
        decision: &mut Decision,
    ) {
        let session_ms = self.config.share.session_timeout_ms(self.settings_of(id).share);
        for member in group.members.keys() {
            decision.set_timer(session_of(id, member), session_ms);
        }
        decision.share_soft.push((id.clone(), ShareSoft::InitializingSince(now)));
    }
}

fn session_of(group: &GroupId, member: &MemberId) -> TimerKey {
    TimerKey::Session { group: group.clone(), member: member.clone() }
}

fn new_member() -> ShareMember {
    let current = ShareCurrent { previous_epoch: -1, ..ShareCurrent::default() };
    ShareMember { said: Arc::new(ShareSubscription::nobody()), current }
}

/// What is left out stays as it was.
fn subscription(before: &ShareSubscription, beat: &ShareHeartbeat) -> ShareSubscription {
    ShareSubscription {
        rack: beat.rack.clone().or_else(|| before.rack.clone()),
        client_id: beat.client_id.clone(),
        client_host: beat.client_host.clone(),
        topics: beat.topics.clone().unwrap_or_else(|| before.topics.clone()),
    }
}

/// A member may be one epoch behind: it missed our answer.
fn check_epoch(current: &ShareCurrent, epoch: i32) -> Result<(), ConsumerRefused> {
    let ShareCurrent { epoch: known, previous_epoch: previous, .. } = *current;
    let fenced = |message| Err(ConsumerRefused { error: ConsumerError::FencedEpoch, message });
    if epoch == 0 || epoch == known {
        return Ok(());
    }
    if epoch > known {
        return fenced(format!(
            "The share group member has a greater member epoch ({epoch}) than the one known by the group coordinator \
             ({known}). The member must abandon all its partitions and rejoin."
        ));
    }
    if epoch == previous {
        return Ok(());
    }
    fenced(format!(
        "The share group member has a smaller member epoch ({epoch}) than the one known by the group coordinator \
         ({known}), and it does not match the previous member epoch ({previous}). The member must abandon all its \
         partitions and rejoin."
    ))
}

impl ShareWork<'_> {
    fn refuse_if_full(&self, id: &MemberId) -> Result<(), ConsumerRefused> {
        let max = self.config().group_size_max;
        if self.group.members.len() < max || self.group.members.contains_key(id) {
            return Ok(());
        }
        let message = format!("The share group has reached its maximum capacity of {max} members.");
        Err(ConsumerRefused { error: ConsumerError::GroupFull, message })
    }

    fn member(&self, id: &MemberId) -> Result<ShareMember, ConsumerRefused> {
        self.group.members.get(id).cloned().ok_or_else(|| {
            let message = format!("Member {id} is not a member of group {}.", self.id);
            ConsumerRefused { error: ConsumerError::UnknownMember, message }
        })
    }

    /// Takes a member out.
    fn fence(mut self, id: &MemberId) -> Decision {
        self.emit(ShareChange::Current(id.clone(), None));
        self.emit(ShareChange::Target(id.clone(), None));
        self.emit(ShareChange::Member(id.clone(), None));
        let topics = self.group.topics_with(id, None);
        let hash = self.topics().hash_of(topics.keys());
        self.emit_epoch(self.group.epoch.epoch + 1, hash);
        self.decision.cancel_timer(session_of(self.id, id));
        self.decision
    }
}
