//! Replicas whose disk lost or damaged what they had: they learn it again from the others, where there are others.

use millstream_core::types::{PartitionId, RaftTerm};

use super::shard::{Owned, Shard};
use super::shared::Shared;
use crate::log::LostPlace;
use crate::raft::{self, Group, RecoverError, Recovered};

/// What is wrong with a replica's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hurt {
    /// It is whole, and shorter than what was acknowledged in terms up to this.
    Short(RaftTerm),
    /// A segment is damaged.
    Damaged,
}

impl Shard {
    /// A leader knows of entries that this replica acknowledged and lacks.
    pub(super) fn is_short(&mut self, id: PartitionId, heard: RaftTerm) {
        self.halt(id);
        self.hurt.insert(id, Hurt::Short(heard));
    }

    /// A segment is damaged, and what it holds may be with others.
    pub(super) fn is_damaged(&mut self, id: PartitionId) {
        let Some(owned) = self.owned.get(&id) else { return };
        match raft::others_decide(&self.shared.store, id, &owned.member) {
            Ok(true) => drop(self.hurt.entry(id).or_insert(Hurt::Damaged)),
            Ok(false) => {}
            Err(e) => tracing::error!(partition = %owned.shared.name, error = %e, "damage is not repaired yet"),
        }
    }

    /// A follower lacks what cannot be read here: it asks again and again, which is told once.
    pub(super) fn found_damage(&mut self, id: PartitionId, place: &LostPlace) {
        if !self.hurt.contains_key(&id) {
            tracing::error!(partition = %id, damage = %place, "what a follower lacks is damaged here");
            self.is_damaged(id);
        }
    }

    /// Once a second: a damaged replica gives its leadership away, and begins anew when another leads; one that is whole
    /// again needs its damaged log no more.
    pub(super) fn look_after_hurt(&mut self) {
        let shared = self.shared.clone();
        let damaged = self.hurt.iter().filter(|(_, hurt)| **hurt == Hurt::Damaged).map(|(id, _)| *id);
        for id in damaged.collect::<Vec<_>>() {
            let Some(owned) = self.owned.get_mut(&id) else { continue };
            let Some(group) = &owned.group else { continue };
            if group.is_leader() {
                if owned.give_away(&shared) {
                    self.awake.insert(id);
                    self.touch(id);
                }
            } else if group.leader().is_some() && owned.others_are_there(&shared) {
                tracing::warn!(partition = %owned.shared.name, "a damaged replica learns anew from the others");
                self.halt(id);
            }
        }
        let is_held = |owned: &Owned| owned.group.as_ref().is_none_or(|group| group.replica().is_held());
        let whole = self.learning.extract_if(|id| self.owned.get(id).is_none_or(|owned| !is_held(owned)));
        for id in whole {
            tracing::info!(partition = %id, "a replica that learnt anew is whole again");
            let dir = shared.dir.clone();
            tokio::task::spawn_blocking(move || {
                if let Err(error) = dir.discard_damaged(id) {
                    tracing::warn!(partition = %id, %error, "a damaged log stays");
                }
            });
        }
    }

    /// Notes that a replica begins anew, or has done so.
    pub(super) fn note_learning(&mut self, owned: &Owned) {
        let is_held = owned.group.as_ref().is_some_and(|group: &Group| group.replica().is_held());
        if is_held || self.shared.dir.has_damaged(owned.shared.id) {
            self.learning.insert(owned.shared.id);
        }
    }

    /// Opens a halted replica again; first of all does what its hurt asks for. Blocks for the disk.
    pub(super) fn recover_hurt(&mut self, id: PartitionId) -> Option<Result<Recovered, RecoverError>> {
        let owned = self.owned.get(&id)?;
        let (dir, store) = (&self.shared.dir, &self.shared.store);
        let prepared = match self.hurt.get(&id) {
            Some(Hurt::Short(heard)) => raft::hold(store, id, *heard).map_err(RecoverError::from),
            Some(Hurt::Damaged) => raft::begin_anew(dir, store, id),
            None => Ok(()),
        };
        let recover = |()| raft::recover_or_begin_anew(dir, store, id, owned.config.clone(), &owned.member);
        let is_prepared = prepared.is_ok();
        let recovered = prepared.and_then(recover);
        if is_prepared {
            self.hurt.remove(&id);
        }
        Some(recovered)
    }
}

impl Owned {
    /// Whether the others go on without this replica: a majority is in sync, as the leader tells.
    fn others_are_there(&self, shared: &Shared) -> bool {
        let Some(group) = &self.group else { return false };
        let told = shared.leaders.get(self.shared.id);
        let others = told.iter().flat_map(|told| &told.isr).filter(|node| **node != shared.identity.node).count();
        others > group.replica().membership().voters.len() / 2
    }
}
