//! What comes of a timer of a streams group.

use std::borrow::Cow;

use super::super::command::TimerKey;
use super::super::decision::Decision;
use super::super::ids::{GroupId, MemberId};
use super::super::shard::Shard;
use super::configure::configure;
use super::heartbeat::session_of;
use super::member::StreamsMemberState;
use super::state::{StreamsGroup, StreamsSoft};
use super::target::StreamsWork;
use crate::types::Timestamp;

impl Shard {
    /// A member was silent.
    pub(in super::super) fn streams_session_ended(&self, now: Timestamp, id: &GroupId, member: &MemberId) -> Decision {
        match self.streams_group(id) {
            Ok(group) if group.members.contains_key(member) => {
                StreamsWork::new(self, now, id, Cow::Borrowed(group)).fence(member)
            }
            _ => Decision::nothing(),
        }
    }

    /// The member did not give up its tasks in time.
    pub(in super::super) fn streams_revocation_ended(
        &self,
        now: Timestamp,
        id: &GroupId,
        member: &MemberId,
    ) -> Decision {
        let known = self.streams_group(id).ok().and_then(|group| group.members.get(member));
        match known {
            Some(known) if known.current.state == StreamsMemberState::UnrevokedTasks => {
                self.streams_session_ended(now, id, member)
            }
            _ => Decision::nothing(),
        }
    }

    /// Members had their time to come: the group gets its first assignment.
    pub(in super::super) fn first_assignment(&self, now: Timestamp, id: &GroupId) -> Decision {
        let Ok(group) = self.streams_group(id) else { return Decision::nothing() };
        let mut work = StreamsWork::new(self, now, id, Cow::Borrowed(group));
        work.change_softly(StreamsSoft::Delayed(false));
        let configured = group.topology.as_ref().map(|topology| configure(topology, work.topics()));
        if let Some(Ok(configured)) = configured.filter(|_| !group.members.is_empty()) {
            // As the group is: whether anything has changed is looked at with the next heartbeat.
            work.retarget(None, &group.epoch, &configured);
        }
        work.decision
    }

    /// This node begins to lead the group: every member has a session's time to be heard of.
    pub(in super::super) fn streams_loaded(&self, id: &GroupId, group: &StreamsGroup, decision: &mut Decision) {
        let session_ms = self.config.streams.session_timeout_ms(self.settings_of(id).streams);
        for (member, known) in &group.members {
            decision.set_timer(session_of(id, member), session_ms);
            if known.current.state == StreamsMemberState::UnrevokedTasks {
                let key = TimerKey::Revoke { group: id.clone(), member: member.clone() };
                decision.set_timer(key, known.said.rebalance_timeout_ms);
            }
        }
    }
}
