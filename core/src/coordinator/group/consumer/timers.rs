//! What comes of a timer of a consumer group.

use super::super::command::TimerKey;
use super::super::decision::Decision;
use super::super::ids::{GroupId, MemberId};
use super::super::shard::Shard;
use super::member::MemberState;
use super::state::ConsumerGroup;
use crate::types::Timestamp;

impl Shard {
    /// The member did not give up its partitions in time.
    pub(in super::super) fn revocation_ended(&self, now: Timestamp, group: &GroupId, member: &MemberId) -> Decision {
        let known = self.groups.get(group);
        if known.is_some_and(|group| group.streams.is_some()) {
            return self.streams_revocation_ended(now, group, member);
        }
        match known.and_then(|group| group.consumer.as_ref()?.members.get(member)) {
            Some(known) if known.current.state == MemberState::UnrevokedPartitions => {
                self.fence_member(now, group, member)
            }
            _ => Decision::nothing(),
        }
    }

    /// A member was silent, or did not come back to join or to ask for its assignment.
    pub(in super::super) fn consumer_time_ended(&self, now: Timestamp, group: &GroupId, member: &MemberId) -> Decision {
        self.fence_member(now, group, member)
    }

    /// This node begins to lead the group: every member has a session's time to be heard of.
    pub(in super::super) fn consumer_loaded(&self, id: &GroupId, group: &ConsumerGroup, decision: &mut Decision) {
        let session_ms = self.config.consumer.session_timeout_ms(self.settings_of(id));
        for (member, known) in &group.members {
            decision.set_timer(TimerKey::Session { group: id.clone(), member: member.clone() }, session_ms);
            if known.current.state == MemberState::UnrevokedPartitions && known.subscription.classic.is_none() {
                let key = TimerKey::Revoke { group: id.clone(), member: member.clone() };
                decision.set_timer(key, known.subscription.rebalance_timeout_ms);
            }
        }
    }
}
