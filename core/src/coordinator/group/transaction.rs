//! Offsets that are committed with a transaction (TxnOffsetCommit): they wait for its marker.

use super::command::OffsetCommit;
use super::commit::validate_member;
use super::decision::Decision;
use super::record::{CommittedOffset, DecodeError, KeyRef, OffsetKey, Record};
use super::reply::{CommitError, Reply};
use super::shard::{Applied, Shard};
use super::state::{ClassicGroup, Group, Phase};
use crate::coordinator::undecided::{Held, InTransaction};
use crate::types::{Offset, ProducerId, Timestamp};

impl Shard {
    /// What the members of a group, or anybody while it has none, commit within a transaction. The records are to be
    /// appended as the transaction's, and applied by `apply_in_transaction`.
    pub(super) fn commit_in_transaction(&self, now: Timestamp, commit: &OffsetCommit) -> Decision {
        if let Err(error) = self.validate_in_transaction(commit) {
            return Decision::reply(commit.token, Reply::OffsetCommit(Err(error)));
        }
        let mut decision = Decision::nothing();
        let topics = commit.topics.iter().map(|topic| self.commit_topic(now, commit, topic, &mut decision)).collect();
        decision.replies.push((commit.token, Reply::OffsetCommit(Ok(topics))));
        decision
    }

    fn validate_in_transaction(&self, commit: &OffsetCommit) -> Result<(), CommitError> {
        match self.groups.get(&commit.group) {
            Some(Group { consumer: Some(consumer), .. }) => consumer.validate_in_transaction(commit),
            Some(Group { share: Some(_), .. }) => Err(CommitError::GroupNotFound),
            Some(Group { streams: Some(streams), .. }) => streams.validate_in_transaction(commit),
            Some(group) => validate(&group.classic, commit),
            None if commit.generation.is_given() => Err(CommitError::IllegalGeneration),
            None => Ok(()),
        }
    }

    /// As `apply`, of a decision whose records were appended as a producer's, the first at `base`.
    pub fn apply_in_transaction(&mut self, decision: Decision, producer: ProducerId, base: Offset) -> Applied {
        let Decision { records, replies, timers, again, effects, .. } = decision;
        for (record, at) in records.into_iter().zip(base.0..) {
            if let Record::OffsetCommit { key, value: Some(value) } = record {
                self.hold(key, value, InTransaction { producer, at: Offset(at), is_superseded: false });
            }
        }
        Applied { replies, timers, effects, again }
    }

    /// `replay_encoded` of a record that a transaction wrote.
    pub fn replay_in_transaction(
        &mut self,
        of: InTransaction,
        key: &[u8],
        value: Option<&[u8]>,
    ) -> Result<(), DecodeError> {
        if let (KeyRef::Offset(key), Some(value)) = (KeyRef::decode(key)?, value) {
            let value = CommittedOffset::decode(value)?;
            self.hold(key.to_key()?, value, of);
        }
        Ok(())
    }

    fn hold(&mut self, key: OffsetKey, value: CommittedOffset, of: InTransaction) {
        // It is there from now on, as in Kafka, and as long as it has nothing else.
        self.groups.entry(key.group.clone()).or_default();
        self.undecided.hold(of.producer, key, Held { at: of.at, value, is_superseded: of.is_superseded });
    }

    /// A marker of the log.
    pub fn end_transaction(&mut self, producer: ProducerId, commit: bool) {
        for (key, held) in self.undecided.decide(producer) {
            if !commit || held.is_superseded {
                continue;
            }
            self.undecided.supersede(&key, held.at);
            let offsets = &mut self.groups.entry(key.group.clone()).or_default().offsets;
            offsets.put(key.topic.as_str(), key.partition, held.value).expect("the topic's name is one");
        }
    }
}

/// As Kafka checks it (`ClassicGroup.validateOffsetCommit`, transactional): members of old clients do not say who they
/// are, and a rebalance under way does not matter.
fn validate(group: &ClassicGroup, commit: &OffsetCommit) -> Result<(), CommitError> {
    let OffsetCommit { member, instance, generation, .. } = commit;
    let is_nobody = member.is_none() && instance.is_none();
    if !generation.is_given() && (group.phase == Phase::Empty || is_nobody) {
        return Ok(());
    }
    validate_member(group, member.as_ref(), commit)?;
    if *generation == group.generation { Ok(()) } else { Err(CommitError::IllegalGeneration) }
}
