//! Heartbeat, and what becomes of members that are silent.

use super::command::{Heartbeat, TimerChange, TimerKey};
use super::decision::Decision;
use super::draft::Draft;
use super::ids::{GroupId, MemberId};
use super::reply::{HeartbeatError, Reply};
use super::shard::Shard;
use super::state::{ClassicGroup, NotMember, Phase};
use crate::types::Timestamp;

impl From<NotMember> for HeartbeatError {
    fn from(reason: NotMember) -> Self {
        match reason {
            NotMember::Unknown => Self::UnknownMember,
            NotMember::Fenced => Self::FencedInstance,
        }
    }
}

impl Shard {
    pub(super) fn heartbeat(&self, now: Timestamp, heartbeat: &Heartbeat) -> Decision {
        let Heartbeat { token, group, member, .. } = heartbeat;
        let refuse = |error| Decision::reply(*token, Reply::Heartbeat(Err(error)));
        if group.is_empty() {
            return refuse(HeartbeatError::InvalidGroupId);
        }
        let Some(known) = self.groups.get(group) else { return refuse(HeartbeatError::UnknownMember) };
        if known.consumer.is_some() {
            return self.classic_heartbeat(now, heartbeat);
        }
        if known.share.is_some() || known.streams.is_some() {
            return refuse(HeartbeatError::UnknownMember);
        }
        if let Err(error) = validate(&known.classic, heartbeat) {
            return refuse(error);
        }
        let result = match known.classic.phase {
            Phase::Empty => return refuse(HeartbeatError::UnknownMember),
            Phase::PreparingRebalance { .. } => Err(HeartbeatError::RebalanceInProgress),
            Phase::CompletingRebalance | Phase::Stable => Ok(()),
        };
        let mut decision = Decision::reply(*token, Reply::Heartbeat(result));
        self.restart_session(&mut decision, group, member);
        decision
    }

    /// The member gave a sign of life, and nothing else changes: no draft for this.
    pub(super) fn restart_session(&self, decision: &mut Decision, group: &GroupId, member: &MemberId) {
        let known = self.groups.get(group).and_then(|known| known.classic.members.get(member));
        if let Some(known) = known {
            let key = TimerKey::Session { group: group.clone(), member: member.clone() };
            decision.set_timer(key, known.session_timeout_ms);
        }
    }

    pub(super) fn session_ended(&self, now: Timestamp, group: &GroupId, member: &MemberId) -> Decision {
        let Some(known) = self.groups.get(group) else { return Decision::nothing() };
        if known.consumer.is_some() {
            return self.consumer_time_ended(now, group, member);
        }
        if known.share.is_some() {
            return self.share_session_ended(now, group, member);
        }
        if known.streams.is_some() {
            return self.streams_session_ended(now, group, member);
        }
        let is_pending = known.pending_joins.contains(member);
        let excused = known.classic.members.get(member).is_none_or(|member| member.is_excused());
        if !is_pending && excused {
            return Decision::nothing();
        }
        let mut draft = Draft::new(self, now, group);
        draft.remove_member(member);
        match draft.group.phase {
            Phase::PreparingRebalance { .. } if draft.have_all_joined() => draft.complete_join(),
            Phase::CompletingRebalance | Phase::Stable if !is_pending => draft.prepare_rebalance(),
            _ => {}
        }
        draft.finish()
    }

    pub(super) fn join_phase_ended(&self, now: Timestamp, group: &GroupId) -> Decision {
        if !self.groups.contains_key(group) {
            return Decision::nothing();
        }
        let mut draft = Draft::new(self, now, group);
        draft.join_phase_ended();
        draft.finish()
    }

    /// This node begins to lead the groups: every member has a session's time to be heard of.
    pub(super) fn loaded(&self, now: Timestamp) -> Decision {
        let mut decision = Decision::nothing();
        for (id, group) in &self.groups {
            if let Some(consumer) = &group.consumer {
                self.consumer_loaded(id, consumer, &mut decision);
            }
            if let Some(share) = &group.share {
                self.share_loaded(now, id, share, &mut decision);
            }
            if let Some(streams) = &group.streams {
                self.streams_loaded(id, streams, &mut decision);
            }
            for (member, known) in &group.classic.members {
                let key = TimerKey::Session { group: id.clone(), member: member.clone() };
                decision.set_timer(key, known.session_timeout_ms);
            }
            if group.classic.members.len() > self.config.group_size_max {
                // The limit was lowered: whoever comes back last is out.
                let mut draft = Draft { decision, ..Draft::new(self, now, id) };
                draft.prepare_rebalance();
                decision = draft.finish();
            }
        }
        let expiry = TimerChange::Set { key: TimerKey::Expiry, after_ms: self.config.expiry_interval_ms };
        decision.timers.push(expiry);
        decision
    }
}

fn validate(group: &ClassicGroup, heartbeat: &Heartbeat) -> Result<(), HeartbeatError> {
    group.validate_member(&heartbeat.member, heartbeat.instance.as_ref())?;
    if heartbeat.generation == group.generation { Ok(()) } else { Err(HeartbeatError::IllegalGeneration) }
}
