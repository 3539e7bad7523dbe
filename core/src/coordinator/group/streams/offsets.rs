//! Who may commit and fetch offsets of a streams group.

use super::super::command::{OffsetCommit, OffsetFetch};
use super::super::reply::{CommitError, FetchError};
use super::member::StreamsMember;
use super::state::StreamsGroup;

impl StreamsGroup {
    /// A member of an earlier epoch may commit for the tasks that it got at that epoch or before, and has not given up.
    pub fn validate_commit(&self, commit: &OffsetCommit) -> Result<(), CommitError> {
        self.validate_member(commit, commit.knows_epochs)
    }

    fn validate_member(&self, commit: &OffsetCommit, knows_epochs: bool) -> Result<(), CommitError> {
        let epoch = commit.generation.0;
        if epoch < 0 && self.members.is_empty() {
            return Ok(());
        }
        let member = commit.member.as_ref().and_then(|id| self.members.get(id)).ok_or(CommitError::UnknownMember)?;
        if !knows_epochs {
            return Err(CommitError::UnsupportedVersion);
        }
        if epoch == member.current.epoch {
            return Ok(());
        }
        if epoch > member.current.epoch || !self.has_since(member, commit, epoch) {
            return Err(CommitError::StaleEpoch);
        }
        Ok(())
    }

    /// Whether all of it belongs to tasks that were active with the member at that epoch.
    fn has_since(&self, member: &StreamsMember, commit: &OffsetCommit, epoch: i32) -> bool {
        let held = [&member.current.assigned.active, &member.current.revoking.active];
        commit.topics.iter().all(|topic| {
            let Some(id) = self.reader_of(topic.name.as_str()) else { return false };
            let since = |partition: i32| held.iter().find_map(|held| held.get(id)?.get(&partition).copied());
            let mut partitions = topic.partitions.iter().map(|committed| committed.partition);
            partitions.all(|partition| since(partition).is_some_and(|since| epoch >= since))
        })
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
        if fetch.epoch == member.current.epoch { Ok(()) } else { Err(FetchError::StaleEpoch) }
    }
}
