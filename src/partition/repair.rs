//! Replicas whose disk lost or damaged what they had: they learn it again from the others, where there are others.

use std::collections::BTreeSet;

use millstream_core::replica::Membership;
use millstream_core::types::{PartitionId, PeerId, RaftTerm, Timestamp};
use tokio::time::Instant;

use super::announce::EVERYTHING_EVERY;
use super::shard::{Owned, Shard};
use super::shared::Shared;
use crate::log::LostPlace;
use crate::raft::{self, Group, RecoverError, Recovered};

/// What is wrong with a replica's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hurt {
    /// It is whole, and shorter than what was acknowledged in terms up to this.
    Short(RaftTerm),
    /// A segment is damaged. Somebody leads in this term, and was first seen to at this time.
    Damaged(Option<(RaftTerm, Instant)>),
    /// A segment is damaged, and the others have what it held: it begins anew.
    Anew,
}

/// How long one of the damaged replicas of a partition may begin anew before it is another's turn: longer than it takes the
/// others to hear of it.
const TURN_MS: i64 = 4_000;

impl Shard {
    /// A leader knows of entries that this replica acknowledged and lacks.
    pub(super) fn is_short(&mut self, id: PartitionId, heard: RaftTerm) {
        self.halt(id);
        self.hurt.insert(id, Hurt::Short(heard));
    }

    /// A segment is damaged, and what it holds may be with others.
    pub(super) fn is_damaged(&mut self, id: PartitionId) {
        let Some(owned) = self.owned.get(&id) else { return };
        if owned.group.as_ref().is_some_and(|group| group.replica().is_held()) {
            // It has begun anew meanwhile; what is damaged in its new log is found the next time.
            return;
        }
        match raft::others_decide(&self.shared.store, id, &owned.member) {
            Ok(true) => drop(self.hurt.entry(id).or_insert(Hurt::Damaged(None))),
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

    /// Once a second: a damaged replica gives its leadership away, and begins anew when another leads and it is its turn; one
    /// that is whole again needs its damaged log no more.
    pub(super) fn look_after_hurt(&mut self, now: Instant) {
        let shared = self.shared.clone();
        let (mut given, mut anew) = (Vec::new(), Vec::new());
        for (id, hurt) in &mut self.hurt {
            let (Some(owned), Hurt::Damaged(led)) = (self.owned.get_mut(id), hurt) else { continue };
            let Some(group) = &owned.group else { continue };
            if group.is_leader() {
                given.extend(owned.give_away(&shared).then_some(*id));
                continue;
            }
            *led = led_in(group).map(|term| led.filter(|(before, _)| *before == term).unwrap_or((term, now)));
            let is_known = led.is_some_and(|(_, since)| is_known(&shared, since, now));
            if is_known && owned.others_are_there(&shared) && owned.has_its_turn((shared.clock)()) {
                tracing::warn!(partition = %owned.shared.name, "a damaged replica learns anew from the others");
                anew.push(*id);
            }
        }
        for id in given {
            self.awake.insert(id);
            self.touch(id);
        }
        for id in anew {
            self.hurt.insert(id, Hurt::Anew);
            self.halt(id);
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

    /// Opens a halted replica again; first of all does what its hurt asks for. One that is damaged, and was halted for something
    /// else, goes on with the log that it has. Blocks for the disk.
    pub(super) fn recover_hurt(&mut self, id: PartitionId) -> Option<Result<Recovered, RecoverError>> {
        let owned = self.owned.get(&id)?;
        let (dir, store) = (&self.shared.dir, &self.shared.store);
        let prepared = match self.hurt.get(&id) {
            Some(Hurt::Short(heard)) => raft::hold(store, id, *heard).map_err(RecoverError::from),
            Some(Hurt::Anew) => raft::begin_anew(dir, store, id),
            Some(Hurt::Damaged(_)) | None => Ok(()),
        };
        let recover = |()| raft::recover_or_begin_anew(dir, store, id, owned.config.clone(), &owned.member);
        let is_prepared = prepared.is_ok();
        let recovered = prepared.and_then(recover);
        let is_held = recovered.as_ref().is_ok_and(|recovered| recovered.group.replica().is_held());
        match self.hurt.get(&id) {
            Some(Hurt::Short(_)) if is_prepared => drop(self.hurt.remove(&id)),
            Some(Hurt::Anew | Hurt::Damaged(_)) if is_held => drop(self.hurt.remove(&id)),
            // It could not: it goes on with what it has, and waits for its turn again.
            Some(Hurt::Anew) => drop(self.hurt.insert(id, Hurt::Damaged(None))),
            _ => {}
        }
        Some(recovered)
    }
}

/// The term in which another replica leads, when its first entry is known to be committed.
fn led_in(group: &Group) -> Option<RaftTerm> {
    let begun = group.epochs().latest().filter(|_| group.leader().is_some())?;
    (begun.term == group.term() && begun.start_index <= group.commit_index()).then_some(begun.term)
}

/// Whether a leader that leads since then knows who is in sync, and has told it. At first it takes all for that, though one of
/// them may have begun anew just before and have nothing yet: of two such replicas neither could elect the third.
fn is_known(shared: &Shared, since: Instant, now: Instant) -> bool {
    now.duration_since(since) > shared.replica_lag_max + EVERYTHING_EVERY
}

/// Whether so many of those in sync, this replica not counted, decide without it. While the members change, two groups of
/// voters decide, and who is in sync does not say how many there are of each: that is over soon.
fn go_on_without_one(others: usize, membership: &Membership) -> bool {
    !membership.is_joint() && others > membership.voters.len() / 2
}

impl Owned {
    /// Whether the others go on without this replica: a majority is in sync, as the leader tells.
    fn others_are_there(&self, shared: &Shared) -> bool {
        let Some(group) = &self.group else { return false };
        let told = shared.leaders.get(self.shared.id);
        let others = told.iter().flat_map(|told| &told.isr).filter(|node| **node != shared.identity.node).count();
        go_on_without_one(others, group.replica().membership())
    }

    /// Whether no other replica may begin anew at this time, by the clocks of the nodes. Of two that do so at once neither could
    /// elect the third if that fell away before one of them has caught up.
    fn has_its_turn(&self, now: Timestamp) -> bool {
        let Some(group) = &self.group else { return false };
        let membership = group.replica().membership();
        let voters = membership.voters.iter().chain(&membership.voters_outgoing).copied().collect::<BTreeSet<PeerId>>();
        let place = voters.iter().position(|voter| *voter == self.member.peer);
        let (turn, into) = (now.0.div_euclid(TURN_MS), now.0.rem_euclid(TURN_MS));
        let turn = usize::try_from(turn).unwrap_or_default().checked_rem(voters.len());
        // The second half of each turn is for clocks that differ, and for the word to get round.
        place.is_some() && place == turn && into < TURN_MS / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_others_go_on_where_they_are_a_majority_of_settled_members() {
        let three = Membership::of_voters([1, 2, 3].map(PeerId));
        assert_eq!([1, 2].map(|others| go_on_without_one(others, &three)), [false, true]);
        // Two of three are no majority of the five before.
        let joint = Membership { voters_outgoing: [1, 2, 3, 4, 5].map(PeerId).to_vec(), ..three };
        assert!(!go_on_without_one(2, &joint));
    }
}
