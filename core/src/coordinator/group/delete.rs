//! What takes groups and offsets away: DeleteGroups, deleted topics, and time.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;

use super::command::{Command, DeleteGroups, TimerChange, TimerKey};
use super::decision::Decision;
use super::ids::GroupId;
use super::record::{CommittedOffset, OffsetKey, Record};
use super::reply::{DeleteGroupError, Reply};
use super::shard::Shard;
use super::state::{Group, Phase};
use crate::types::{Timestamp, TopicId, TopicName};

/// Tombstones after which a pass over all groups pauses, so that other commands get their turn.
const RECORDS_PER_PASS: usize = 10_000;
/// Groups after which it pauses.
const GROUPS_PER_PASS: usize = 100_000;

impl Shard {
    /// One result a group, however often it is named.
    pub(super) fn delete_groups(&self, delete: &DeleteGroups) -> Decision {
        let mut decision = Decision::nothing();
        decision.atomic = false;
        let mut results = Vec::new();
        for id in delete.groups.iter().collect::<BTreeSet<_>>() {
            let result = match self.groups.get(id) {
                None => Err(DeleteGroupError::GroupNotFound),
                Some(group) if !group.is_empty() => Err(DeleteGroupError::NonEmpty),
                Some(group) => {
                    self.delete_group(id, group, &mut decision);
                    Ok(())
                }
            };
            results.push((id.clone(), result));
        }
        decision.replies.push((delete.token, Reply::DeleteGroups(results)));
        decision
    }

    pub(super) fn forget_topics(&self, topics: &Arc<[(TopicName, TopicId)]>, after: Option<&GroupId>) -> Decision {
        let mut decision = Decision::nothing();
        decision.atomic = false;
        let last = self.for_each_group(after, &mut decision, |id, group, decision| {
            if let Some(share) = &group.share {
                self.forget_share_topics(id, share, topics, decision);
            }
            for (topic, topic_id) in topics.iter() {
                // Commits of old clients do not say which topic of that name they are for.
                let is_of_topic = |committed: &CommittedOffset| {
                    committed.topic_id == TopicId::ZERO || committed.topic_id == *topic_id
                };
                delete_offsets(id, group, topic, decision, is_of_topic);
                let undecided = self
                    .undecided
                    .iter()
                    .filter(|(key, held)| key.group == *id && key.topic == *topic && is_of_topic(&held.value));
                let keys: BTreeSet<&OffsetKey> = undecided.map(|(key, _)| key).collect();
                decision
                    .delete(keys.into_iter().filter(|key| group.offsets.get(topic.as_str(), key.partition).is_none()));
            }
        });
        decision.again = last.map(|last| Command::TopicsDeleted { topics: topics.clone(), after: Some(last) });
        decision
    }

    /// Removes offsets that have outlived their retention, and groups that have nothing left.
    pub(super) fn expire(&self, now: Timestamp, after: Option<&GroupId>) -> Decision {
        let mut decision = Decision::nothing();
        decision.atomic = false;
        let retention_ms = self.config.offsets_retention_ms;
        // Neither they nor their offsets go while a transaction is under way that may commit some.
        let waiting: BTreeSet<&GroupId> = self.undecided.keys().map(|key| &key.group).collect();
        let waits = |group: &GroupId, topic: &TopicName, partition: i32| {
            waiting.contains(group) && {
                let (group, topic) = (group.clone(), topic.clone());
                self.undecided.contains(&OffsetKey { group, topic, partition })
            }
        };
        let last = self.for_each_group(after, &mut decision, |id, group, decision| {
            if group.share.is_some() {
                // It goes when somebody deletes it.
                return;
            }
            let before = decision.records.len();
            if let Some(retention) = Retention::of(group) {
                for topic in group.offsets.topics().filter(|topic| !group.is_subscribed_to(topic.as_str())) {
                    delete_partitions(id, group, topic, decision, |partition, committed| {
                        retention.is_over(committed, now, retention_ms) && !waits(id, topic, partition)
                    });
                }
            }
            let all_gone = decision.records.len() - before == group.offsets.len();
            let is_idle = group.is_empty() && group.pending_joins.is_empty();
            if all_gone && is_idle && !waiting.contains(id) {
                decision.records.extend(group.tombstones(id));
            }
        });
        match last {
            Some(after) => decision.again = Some(Command::Expire { after }),
            None => decision
                .timers
                .push(TimerChange::Set { key: TimerKey::Expiry, after_ms: self.config.expiry_interval_ms }),
        }
        decision
    }

    /// Calls `each` with the groups after `after`, until the decision is large. Then: the group it came to.
    fn for_each_group(
        &self,
        after: Option<&GroupId>,
        decision: &mut Decision,
        mut each: impl FnMut(&GroupId, &Group, &mut Decision),
    ) -> Option<GroupId> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        for (visited, (id, group)) in self.groups.range::<GroupId, _>((start, Bound::Unbounded)).enumerate() {
            each(id, group, decision);
            if decision.records.len() >= RECORDS_PER_PASS || visited + 1 == GROUPS_PER_PASS {
                return Some(id.clone());
            }
        }
        None
    }
}

impl Shard {
    /// Offsets first: whoever sees the group gone sees them gone too. Those that wait for the end of a transaction go as well.
    fn delete_group(&self, id: &GroupId, group: &Group, decision: &mut Decision) {
        for topic in group.offsets.topics() {
            delete_offsets(id, group, topic, decision, |_| true);
        }
        let undecided = self.undecided.keys().filter(|key| key.group == *id);
        decision.delete(undecided.filter(|key| group.offsets.get(key.topic.as_str(), key.partition).is_none()));
        decision.records.extend(group.tombstones(id));
        for member in &group.pending_joins {
            decision.cancel_timer(TimerKey::Session { group: id.clone(), member: member.clone() });
        }
    }
}

impl Decision {
    fn delete<'a>(&mut self, keys: impl Iterator<Item = &'a OffsetKey>) {
        self.records.extend(keys.map(|key| Record::OffsetCommit { key: key.clone(), value: None }));
    }
}

fn delete_offsets(
    id: &GroupId,
    group: &Group,
    topic: &TopicName,
    decision: &mut Decision,
    is_deleted: impl Fn(&CommittedOffset) -> bool,
) {
    delete_partitions(id, group, topic, decision, |_, committed| is_deleted(committed));
}

fn delete_partitions(
    id: &GroupId,
    group: &Group,
    topic: &TopicName,
    decision: &mut Decision,
    is_deleted: impl Fn(i32, &CommittedOffset) -> bool,
) {
    for (partition, committed) in group.offsets.of_topic(topic.as_str()) {
        if is_deleted(partition, &committed) {
            let key = OffsetKey { group: id.clone(), topic: topic.clone(), partition };
            decision.records.push(Record::OffsetCommit { key, value: None });
        }
    }
}

/// From when the retention of a group's offsets counts (KIP-211).
enum Retention {
    /// Since the last member left.
    SinceEmpty(Timestamp),
    /// Since each offset was committed.
    SinceCommit,
}

impl Retention {
    /// `None`: the group's offsets do not expire now.
    fn of(group: &Group) -> Option<Self> {
        let classic = &group.classic;
        match (&classic.protocol_type, &classic.phase) {
            // Only offsets, no members ever.
            (None, _) => Some(Self::SinceCommit),
            (Some(_), Phase::Empty) => Some(classic.state_since.map_or(Self::SinceCommit, Self::SinceEmpty)),
            // Of topics that nobody subscribes to any more.
            (Some(_), Phase::Stable) if classic.subscribed.is_some() => Some(Self::SinceCommit),
            (Some(_), _) => None,
        }
    }

    fn is_over(&self, committed: &CommittedOffset, now: Timestamp, retention_ms: i64) -> bool {
        if let Some(expires_at) = committed.expires_at {
            return now >= expires_at;
        }
        let since = match self {
            Self::SinceEmpty(since) => *since,
            Self::SinceCommit => committed.committed_at,
        };
        now.0.saturating_sub(since.0) >= retention_ms
    }
}
