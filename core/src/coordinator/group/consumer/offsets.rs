//! Who may commit and fetch offsets of a consumer group.

use super::super::command::{OffsetCommit, OffsetFetch};
use super::super::reply::{CommitError, FetchError};
use super::state::{ConsumerGroup, Member};

impl ConsumerGroup {
    /// A member of an earlier epoch may commit what it got at that epoch or before, and has not given up.
    pub fn validate_commit(&self, commit: &OffsetCommit) -> Result<(), CommitError> {
        self.validate_member(commit, commit.knows_epochs)
    }

    fn validate_member(&self, commit: &OffsetCommit, knows_epochs: bool) -> Result<(), CommitError> {
        let epoch = commit.generation.0;
        if epoch < 0 && self.members.is_empty() {
            return Ok(());
        }
        let member = commit.member.as_ref().and_then(|id| self.members.get(id)).ok_or(CommitError::UnknownMember)?;
        let is_classic = member.subscription.classic.is_some();
        if !is_classic && !knows_epochs {
            return Err(CommitError::UnsupportedVersion);
        }
        let stale = if is_classic { CommitError::IllegalGeneration } else { CommitError::StaleEpoch };
        if epoch == member.current.epoch {
            return Ok(());
        }
        if epoch > member.current.epoch || !has_since(member, commit, epoch) {
            return Err(stale);
        }
        Ok(())
    }

    /// The same with a transaction. Whoever names no member is not asked for one; an old epoch is an old generation.
    pub fn validate_in_transaction(&self, commit: &OffsetCommit) -> Result<(), CommitError> {
        if commit.generation.0 == -1 && commit.member.is_none() && commit.instance.is_none() {
            return Ok(());
        }
        self.validate_member(commit, true).map_err(|error| match error {
            CommitError::StaleEpoch => CommitError::IllegalGeneration,
            error => error,
        })
    }

    pub fn validate_fetch(&self, fetch: &OffsetFetch) -> Result<(), FetchError> {
        if fetch.member.is_none() && fetch.epoch < 0 {
            return Ok(());
        }
        let member = fetch.member.as_ref().and_then(|id| self.members.get(id)).ok_or(FetchError::UnknownMember)?;
        match &member.subscription.classic {
            _ if fetch.epoch == member.current.epoch => Ok(()),
            Some(_) => Err(FetchError::IllegalGeneration),
            None => Err(FetchError::StaleEpoch),
        }
    }
}

/// Whether the member had all of it at that epoch.
fn has_since(member: &Member, commit: &OffsetCommit, epoch: i32) -> bool {
    commit.topics.iter().all(|topic| {
        let mut partitions = topic.partitions.iter().map(|committed| committed.partition);
        partitions.all(|partition| member.current.epoch_of(topic.id, partition).is_some_and(|since| epoch >= since))
    })
}
