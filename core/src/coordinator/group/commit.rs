//! OffsetCommit: by members of the present generation, or by anybody while a group is empty.

use super::command::{CommitPartition, CommitTopic, OffsetCommit};
use super::decision::Decision;
use super::ids::{MemberId, TEXT_LEN_MAX};
use super::record::{CommittedOffset, OffsetKey, Record};
use super::reply::{CommitError, CommitPartitionError, CommittedTopic, Reply};
use super::shard::Shard;
use super::state::{ClassicGroup, Group, NotMember, Phase};
use crate::types::{Timestamp, TopicId};

impl From<NotMember> for CommitError {
    fn from(reason: NotMember) -> Self {
        match reason {
            NotMember::Unknown => Self::UnknownMember,
            NotMember::Fenced => Self::FencedInstance,
        }
    }
}

impl Shard {
    pub(super) fn commit_offsets(&self, now: Timestamp, commit: &OffsetCommit) -> Decision {
        if let Err(error) = self.validate_commit(commit) {
            return Decision::reply(commit.token, Reply::OffsetCommit(Err(error)));
        }
        let mut decision = Decision::nothing();
        let topics = commit.topics.iter().map(|topic| self.commit_topic(now, commit, topic, &mut decision)).collect();
        decision.replies.push((commit.token, Reply::OffsetCommit(Ok(topics))));
        let phase = self.groups.get(&commit.group).map(|group| &group.classic.phase);
        if let (Some(Phase::Stable | Phase::PreparingRebalance { .. }), Some(member)) = (phase, &commit.member) {
            // A commit is as good as a heartbeat.
            self.restart_session(&mut decision, &commit.group, member);
        }
        decision
    }

    fn validate_commit(&self, commit: &OffsetCommit) -> Result<(), CommitError> {
        match self.groups.get(&commit.group) {
            Some(Group { consumer: Some(consumer), .. }) => consumer.validate_commit(commit),
            Some(Group { share: Some(_), .. }) => Err(CommitError::GroupNotFound),
            Some(Group { streams: Some(streams), .. }) => streams.validate_commit(commit),
            Some(group) => validate(&group.classic, commit),
            None if commit.generation.is_given() => Err(CommitError::GroupNotFound),
            // The first commit of a consumer without group management makes the group.
            None => Ok(()),
        }
    }

    pub(super) fn commit_topic(
        &self,
        now: Timestamp,
        commit: &OffsetCommit,
        topic: &CommitTopic,
        decision: &mut Decision,
    ) -> CommittedTopic {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for committed in &topic.partitions {
            let result = if self.is_metadata_too_large(&committed.metadata) {
                Err(CommitPartitionError::MetadataTooLarge)
            } else {
                let key = OffsetKey {
                    group: commit.group.clone(),
                    topic: topic.name.clone(),
                    partition: committed.partition,
                };
                let value = Some(committed_offset(now, topic.id, committed, commit.retention_ms));
                decision.records.push(Record::OffsetCommit { key, value });
                Ok(())
            };
            partitions.push((committed.partition, result));
        }
        CommittedTopic { name: topic.name.clone(), id: topic.id, partitions }
    }

    fn is_metadata_too_large(&self, metadata: &str) -> bool {
        let max = self.config.offset_metadata_len_max;
        // A text has no more UTF-16 units than bytes: most need no counting.
        metadata.len() > TEXT_LEN_MAX || metadata.len() > max && metadata.encode_utf16().count() > max
    }
}

fn validate(group: &ClassicGroup, commit: &OffsetCommit) -> Result<(), CommitError> {
    let OffsetCommit { member, instance, generation, .. } = commit;
    if !generation.is_given() && group.phase == Phase::Empty {
        return Ok(());
    }
    if !generation.is_given() && member.is_none() && instance.is_none() {
        // No member, and the group has some.
        return Err(CommitError::UnknownMember);
    }
    validate_member(group, member.as_ref(), commit)?;
    if *generation != group.generation {
        return Err(CommitError::IllegalGeneration);
    }
    match group.phase {
        // It has the generation from its join, so it will sync next.
        Phase::CompletingRebalance => Err(CommitError::RebalanceInProgress),
        Phase::Empty | Phase::PreparingRebalance { .. } | Phase::Stable => Ok(()),
    }
}

pub(super) fn validate_member(
    group: &ClassicGroup,
    member: Option<&MemberId>,
    commit: &OffsetCommit,
) -> Result<(), CommitError> {
    let instance = commit.instance.as_ref();
    match (member, instance) {
        (Some(member), _) => Ok(group.validate_member(member, instance)?),
        // An instance id that somebody holds, without that member's id.
        (None, Some(instance)) if group.static_members.contains_key(instance) => Err(CommitError::FencedInstance),
        (None, _) => Err(CommitError::UnknownMember),
    }
}

fn committed_offset(
    now: Timestamp,
    topic_id: TopicId,
    committed: &CommitPartition,
    retention_ms: Option<i64>,
) -> CommittedOffset {
    CommittedOffset {
        offset: committed.offset,
        leader_epoch: committed.leader_epoch,
        metadata: committed.metadata.clone(),
        committed_at: now,
        expires_at: retention_ms.map(|retention_ms| now.plus_ms(retention_ms)),
        topic_id,
    }
}
