//! All groups of one partition of `__consumer_offsets`.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::command::{Command, Effect, TimerChange, TimerKey};
use super::config::GroupConfig;
use super::consumer::{GroupSettings, SoftChange, Surroundings};
use super::decision::{Decision, Drafted};
use super::ids::{GroupId, ReplyToken};
use super::loader::Loader;
use super::record::{
    CommittedOffset, ConsumerChange, DecodeError, GroupMetadata, KeyRef, OffsetKey, Record, ShareChange, StreamsChange,
};
use super::reply::Reply;
use super::share::ShareSoft;
use super::state::{ClassicGroup, Group, Phase};
use super::streams::StreamsSoft;
use crate::coordinator::undecided::Undecided;
use crate::types::{Offset, Timestamp};

/// What is replayed comes after all that was replayed before.
const NEWEST: Offset = Offset(i64::MAX);

/// The state machine. One owner; dropped when the node no longer leads the partition.
#[derive(Debug)]
pub struct Shard {
    pub(super) config: Arc<GroupConfig>,
    pub(super) groups: BTreeMap<GroupId, Group>,
    /// Offsets that are committed with transactions which are under way.
    pub(super) undecided: Undecided<OffsetKey, CommittedOffset>,
    pub(super) surroundings: Surroundings,
}

/// What remains to be done once a decision is applied.
#[derive(Debug)]
#[must_use]
pub struct Applied {
    pub replies: Vec<(ReplyToken, Reply)>,
    pub timers: Vec<TimerChange>,
    pub effects: Vec<Effect>,
    pub again: Option<Command>,
}

impl Shard {
    pub fn new(config: Arc<GroupConfig>) -> Self {
        Self { config, groups: BTreeMap::new(), undecided: Undecided::default(), surroundings: Surroundings::default() }
    }

    /// A shard from stored entries, the keys and values of records. `Command::Loaded` must follow.
    pub fn load<K: AsRef<[u8]>, V: AsRef<[u8]>>(
        config: Arc<GroupConfig>,
        entries: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Self, DecodeError> {
        let mut loader = Loader::new(config);
        for (key, value) in entries {
            loader.put(key.as_ref(), value.as_ref())?;
        }
        Ok(loader.finish())
    }

    /// Groups in memory.
    pub fn group_count(&self) -> usize {
        self.groups.len()
    }

    /// What `command` leads to. Changes nothing. `now` is the time of day, for records; timers are relative.
    pub fn decide(&self, now: Timestamp, command: &Command) -> Decision {
        match command {
            Command::JoinGroup(join) => self.join(now, join),
            Command::SyncGroup(sync) => self.sync(now, sync),
            Command::Heartbeat(heartbeat) => self.heartbeat(now, heartbeat),
            Command::LeaveGroup(leave) => self.leave(now, leave),
            Command::OffsetCommit(commit) => self.commit_offsets(now, commit),
            Command::TransactionalCommit(commit) => self.commit_in_transaction(now, commit),
            Command::OffsetFetch(fetch) => self.fetch_offsets(fetch),
            Command::OffsetDelete(delete) => self.delete_offsets(delete),
            Command::ListGroups(list) => self.list_groups(list),
            Command::DescribeGroups(describe) => self.describe_groups(describe),
            Command::ConsumerHeartbeat(beat) => self.consumer_heartbeat(now, beat),
            Command::DescribeConsumerGroups(describe) => self.describe_consumer_groups(describe),
            Command::PatternsResolved(result) => self.patterns_resolved(now, result),
            Command::SurroundingsChanged(surroundings) => self.surroundings_changed(surroundings),
            Command::Share(command) => self.decide_share(now, command),
            Command::Streams(command) => self.decide_streams(now, command),
            Command::DeleteGroups(delete) => self.delete_groups(delete),
            Command::TopicsDeleted { topics, after } => self.forget_topics(topics, after.as_ref()),
            Command::Loaded => self.loaded(now),
            Command::TimerFired(TimerKey::Session { group, member }) => self.session_ended(now, group, member),
            Command::TimerFired(TimerKey::Rebalance { group }) => self.join_phase_ended(now, group),
            Command::TimerFired(TimerKey::Sync { group }) => self.sync_phase_ended(now, group),
            Command::TimerFired(TimerKey::Revoke { group, member }) => self.revocation_ended(now, group, member),
            Command::TimerFired(TimerKey::MemberJoin { group, member } | TimerKey::MemberSync { group, member }) => {
                self.consumer_time_ended(now, group, member)
            }
            Command::TimerFired(TimerKey::FirstAssignment { group }) => self.first_assignment(now, group),
            Command::TimerFired(TimerKey::Expiry) => self.expire(now, None),
            Command::Expire { after } => self.expire(now, Some(after)),
        }
    }

    /// Carries a decision out in memory, once its records are appended.
    pub fn apply(&mut self, decision: Decision) -> Applied {
        let Decision {
            records,
            replies,
            timers,
            again,
            drafts,
            soft,
            share_soft,
            streams_soft,
            surroundings,
            effects,
            atomic: _,
        } = decision;
        for record in &records {
            self.replay(record);
        }
        for Drafted { group: id, classic, pending } in drafts {
            let group = self.groups.entry(id).or_default();
            debug_assert!(
                matches!(classic.phase, Phase::PreparingRebalance { .. } | Phase::CompletingRebalance)
                    || !records.iter().any(|record| matches!(record, Record::GroupMetadata { value: Some(_), .. }))
                    || classic.to_record() == group.classic.to_record(),
                "a draft and its record differ: {classic:?}, {:?}",
                group.classic
            );
            group.classic = classic;
            for (member, is_pending) in pending {
                match is_pending {
                    true => group.pending_joins.insert(member),
                    false => group.pending_joins.remove(&member),
                };
            }
        }
        for (group, change) in soft {
            let consumer = self.groups.get_mut(&group).and_then(|group| group.consumer.as_mut());
            if let Some(consumer) = consumer {
                consumer.change_softly(change);
            }
        }
        for (group, change) in share_soft {
            let share = self.groups.get_mut(&group).and_then(|group| group.share.as_mut());
            if let Some(share) = share {
                share.change_softly(change);
            }
        }
        for (group, change) in streams_soft {
            let streams = self.groups.get_mut(&group).and_then(|group| group.streams.as_mut());
            if let Some(streams) = streams {
                streams.change_softly(change);
            }
        }
        self.surroundings = surroundings.unwrap_or(std::mem::take(&mut self.surroundings));
        Applied { replies, timers, effects, again }
    }

    /// What a group has set for itself.
    pub(super) fn settings_of(&self, group: &GroupId) -> GroupSettings {
        self.surroundings.groups.get(group.as_str()).copied().unwrap_or_default()
    }

    /// Groups that subscribe to topics which are not as they were look at them again, with the next heartbeat.
    fn surroundings_changed(&self, now: &Surroundings) -> Decision {
        let mut decision = Decision::nothing();
        decision.surroundings = Some(now.clone());
        let changed: Vec<_> = now.topics.changed_since(&self.surroundings.topics).collect();
        for (id, group) in &self.groups {
            let is_concerned = || changed.iter().any(|topic| group.is_subscribed_to(topic));
            if group.consumer.is_some() && is_concerned() {
                decision.soft.push((id.clone(), SoftChange::TopicsChanged));
            } else if group.share.is_some() && is_concerned() {
                decision.share_soft.push((id.clone(), ShareSoft::TopicsChanged));
            } else if let Some(streams) = &group.streams
                && changed.iter().any(|topic| streams.is_concerned_with(topic))
            {
                decision.streams_soft.push((id.clone(), StreamsSoft::TopicsChanged));
            }
        }
        decision
    }

    /// Takes a committed record in. Cannot fail: a record that could not be taken in was refused at decoding.
    pub fn replay(&mut self, record: &Record) {
        match record {
            Record::OffsetCommit { key, value: Some(value) } => {
                self.undecided.supersede(key, NEWEST);
                let OffsetKey { group, topic, partition } = key;
                let group = self.groups.entry(group.clone()).or_default();
                group.offsets.put(topic.as_str(), *partition, value.clone()).expect("the topic's name is one");
            }
            Record::OffsetCommit { key, value: None } => {
                self.undecided.forget(key);
                self.remove_offset(key.group.as_str(), key.topic.as_str(), key.partition);
            }
            Record::GroupMetadata { group, value: Some(value) } => {
                self.groups.entry(group.clone()).or_default().classic = ClassicGroup::from_record(value);
            }
            Record::GroupMetadata { group, value: None } => self.remove_generation(group.as_str()),
            Record::Consumer { group, change } => {
                self.replay_consumer(group.as_str(), change).expect("the group's name is one");
            }
            Record::Share { group, change } => {
                self.replay_share(group.as_str(), change).expect("the group's name is one");
            }
            Record::Streams { group, change } => {
                self.replay_streams(group.as_str(), change).expect("the group's name is one");
            }
        }
    }

    /// [`replay`](Self::replay) of a record as it stands in the log. Records of other kinds of group are passed over.
    pub fn replay_encoded(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), DecodeError> {
        match (KeyRef::decode(key)?, value) {
            (KeyRef::Offset(key), Some(value)) => {
                let value = CommittedOffset::decode(value)?;
                if !self.undecided.is_empty() {
                    self.undecided.supersede(&key.to_key()?, NEWEST);
                }
                self.group_mut(key.group)?.offsets.put(key.topic, key.partition, value)?;
            }
            (KeyRef::Offset(key), None) => {
                if !self.undecided.is_empty() {
                    self.undecided.forget(&key.to_key()?);
                }
                self.remove_offset(key.group, key.topic, key.partition);
            }
            (KeyRef::Group(group), Some(value)) => {
                let value = GroupMetadata::decode(value)?;
                self.group_mut(group)?.classic = ClassicGroup::from_record(&value);
            }
            (KeyRef::Group(group), None) => self.remove_generation(group),
            (KeyRef::Consumer(key), value) => {
                if let Some(change) = key.change(value)? {
                    self.replay_consumer(key.group, &change)?;
                }
            }
            (KeyRef::Share(key), value) => self.replay_share(key.group, &key.change(value)?)?,
            (KeyRef::Streams(key), value) => self.replay_streams(key.group, &key.change(value)?)?,
            (KeyRef::Other, _) => {}
        }
        Ok(())
    }

    /// Looks twice, so that a name that is known is not copied.
    fn group_mut(&mut self, group: &str) -> Result<&mut Group, DecodeError> {
        if !self.groups.contains_key(group) {
            self.groups.insert(GroupId::new(group)?, Group::default());
        }
        Ok(self.groups.get_mut(group).expect("it was put there"))
    }

    /// The group itself stays, as in Kafka: the next expiry removes it.
    fn remove_offset(&mut self, group: &str, topic: &str, partition: i32) {
        if let Some(group) = self.groups.get_mut(group) {
            group.offsets.remove(topic, partition);
        }
    }

    /// Offsets have tombstones of their own: a group that still has some goes on as one that only keeps offsets.
    fn remove_generation(&mut self, group: &str) {
        match self.groups.get_mut(group) {
            Some(group) if !group.offsets.is_empty() || !group.is_classic() => {
                group.classic = ClassicGroup::default();
                group.pending_joins.clear();
            }
            _ => {
                self.groups.remove(group);
            }
        }
    }

    fn replay_consumer(&mut self, group: &str, change: &ConsumerChange) -> Result<(), DecodeError> {
        if matches!(change, ConsumerChange::Group(None)) {
            self.remove_consumer_group(group);
            return Ok(());
        }
        if !change.is_tombstone() {
            let group = self.group_mut(group)?;
            if group.consumer.is_none() {
                group.classic = ClassicGroup::default();
                group.pending_joins.clear();
            }
            group.consumer.get_or_insert_default().replay(change);
        } else if let Some(consumer) = self.groups.get_mut(group).and_then(|group| group.consumer.as_mut()) {
            consumer.replay(change);
        }
        Ok(())
    }

    fn replay_share(&mut self, group: &str, change: &ShareChange) -> Result<(), DecodeError> {
        if !change.is_tombstone() {
            self.group_mut(group)?.share.get_or_insert_default().replay(change);
        } else if let Some(known) = self.groups.get_mut(group)
            && let Some(share) = &mut known.share
        {
            match change {
                ShareChange::Group(None) => known.share = None,
                change => share.replay(change),
            }
            if known.share.is_none() && known.offsets.is_empty() {
                self.groups.remove(group);
            }
        }
        Ok(())
    }

    fn replay_streams(&mut self, group: &str, change: &StreamsChange) -> Result<(), DecodeError> {
        if !change.is_tombstone() {
            let group = self.group_mut(group)?;
            if group.streams.is_none() {
                group.classic = ClassicGroup::default();
                group.pending_joins.clear();
            }
            group.streams.get_or_insert_default().replay(change);
        } else if let Some(known) = self.groups.get_mut(group)
            && let Some(streams) = &mut known.streams
        {
            match change {
                StreamsChange::Group(None) => known.streams = None,
                change => streams.replay(change),
            }
            if known.streams.is_none() && known.offsets.is_empty() {
                self.groups.remove(group);
            }
        }
        Ok(())
    }

    fn remove_consumer_group(&mut self, group: &str) {
        match self.groups.get_mut(group) {
            Some(group) if !group.offsets.is_empty() => group.consumer = None,
            Some(known) if known.consumer.is_some() => {
                self.groups.remove(group);
            }
            _ => {}
        }
    }
}
