//! Brings the members of a group to what the metadata says: the leader alone does, one change after the other.
//!
//! A newcomer first learns, without a vote; when it has all that was the end of the log a moment ago, all voters change at
//! once through a joint membership. Who is no member any more deletes its replica when the metadata no longer names it.

use millstream_core::replica::{ConfChange, Membership, PeerChange, Progress};
use millstream_core::types::{PartitionId, PeerId, RaftIndex};

use super::shard::{Owned, Shard};

/// Who shall belong to a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members {
    pub voters: Vec<PeerId>,
    pub learners: Vec<PeerId>,
    /// Which change of the replicas this is: the leader says so when it is reached.
    pub moves: u64,
}

impl Members {
    fn has(&self, peer: PeerId) -> bool {
        self.voters.contains(&peer) || self.learners.contains(&peer)
    }

    /// Whether nothing is left to be done.
    fn is_reached(&self, actual: &Membership) -> bool {
        !actual.is_joint()
            && actual.voters.len() == self.voters.len()
            && self.voters.iter().all(|peer| actual.voters.contains(peer))
            && actual.learners.len() == self.learners.len()
            && self.learners.iter().all(|peer| actual.learners.contains(peer))
    }
}

/// The next step, if one can be taken now.
fn next_change(
    actual: &Membership,
    wanted: &Members,
    has_caught_up: impl Fn(PeerId) -> bool,
    own: PeerId,
) -> Option<ConfChange> {
    if actual.is_joint() || !actual.is_settled || wanted.voters.is_empty() {
        return None;
    }
    if let Some(peer) = actual.learners.iter().find(|peer| !wanted.has(**peer)) {
        return Some(ConfChange::One(PeerChange::Remove(*peer)));
    }
    let mut all = wanted.voters.iter().chain(&wanted.learners);
    if let Some(peer) = all.find(|peer| !actual.is_voter(**peer) && !actual.is_learner(**peer)) {
        return Some(ConfChange::One(PeerChange::AddLearner(*peer)));
    }
    let coming: Vec<PeerId> = wanted.voters.iter().copied().filter(|peer| !actual.is_voter(*peer)).collect();
    if !coming.iter().all(|peer| has_caught_up(*peer)) {
        return None;
    }
    let going = actual.voters.iter().filter(|peer| !wanted.voters.contains(peer)).map(|peer| {
        if wanted.learners.contains(peer) { PeerChange::AddLearner(*peer) } else { PeerChange::Remove(*peer) }
    });
    let mut changes: Vec<PeerChange> = coming.into_iter().map(PeerChange::AddVoter).chain(going).collect();
    match changes.len() {
        0 => None,
        // A leader that goes needs the others to be sure of each other first.
        1 if changes[0].peer() != own => changes.pop().map(ConfChange::One),
        _ => Some(ConfChange::Enter(changes)),
    }
}

impl Shard {
    pub(super) fn set_members(&mut self, id: PartitionId, members: Members) {
        if let Some(owned) = self.owned.get_mut(&id)
            && owned.wanted.as_ref() != Some(&members)
        {
            owned.wanted = Some(members);
            owned.members_are_due = true;
            self.awake.insert(id);
        }
    }
}

impl Owned {
    /// A step towards the wanted members. True when one was proposed.
    pub(super) fn reconcile_members(&mut self) -> bool {
        let (Some(wanted), true) = (&self.wanted, self.members_are_due) else { return false };
        let Some(group) = self.group.as_mut().filter(|g| g.is_leader()) else { return false };
        if !self.shared.is_leading() {
            return false;
        }
        let replica = group.replica();
        if wanted.is_reached(replica.membership()) {
            self.members_are_due = !replica.membership().is_settled;
            return false;
        }
        let progress: Vec<(PeerId, Progress)> = replica.progress().collect();
        // Raft takes a newcomer for active before it has said anything.
        let is_there = |p: &Progress| p.is_recently_active && p.matched > RaftIndex(0);
        let end = self.in_sync.end();
        let has_all = |p: &Progress| end.is_some_and(|end| p.matched >= end);
        let is_near = |peer, at: &Progress| has_all(at) || self.in_sync.is_close(peer);
        let has_caught_up = |peer| progress.iter().any(|(p, at)| *p == peer && is_there(at) && is_near(peer, at));
        let change = next_change(replica.membership(), wanted, has_caught_up, replica.peer());
        let Some(change) = change else { return false };
        match group.propose_conf_change(&change) {
            Ok(()) => {
                tracing::info!(partition = %self.shared.name, ?change, "members change");
                true
            }
            Err(e) => {
                tracing::debug!(partition = %self.shared.name, ?change, error = %e, "members do not change yet");
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peers(ids: &[u64]) -> Vec<PeerId> {
        ids.iter().copied().map(PeerId).collect()
    }

    fn actual(voters: &[u64], learners: &[u64]) -> Membership {
        Membership { learners: peers(learners), ..Membership::of_voters(peers(voters)) }
    }

    fn wanted(voters: &[u64], learners: &[u64]) -> Members {
        Members { voters: peers(voters), learners: peers(learners), moves: 0 }
    }

    fn next(actual: &Membership, wanted: &Members, caught_up: &[u64]) -> Option<ConfChange> {
        next_change(actual, wanted, |peer| caught_up.contains(&peer.0), PeerId(1))
    }

    #[test]
    fn newcomers_learn_before_they_vote() {
        let one = |change| Some(ConfChange::One(change));
        let to = wanted(&[1, 2, 4], &[]);
        assert_eq!(next(&actual(&[1, 2, 3], &[]), &to, &[]), one(PeerChange::AddLearner(PeerId(4))));
        assert_eq!(next(&actual(&[1, 2, 3], &[4]), &to, &[]), None, "it has not caught up");
        let swap = vec![PeerChange::AddVoter(PeerId(4)), PeerChange::Remove(PeerId(3))];
        assert_eq!(next(&actual(&[1, 2, 3], &[4]), &to, &[4]), Some(ConfChange::Enter(swap)));
        assert_eq!(next(&actual(&[1, 2, 4], &[]), &to, &[]), None);
        assert!(to.is_reached(&actual(&[4, 2, 1], &[])));
        assert_eq!(next(&actual(&[1, 2, 4], &[9]), &to, &[]), one(PeerChange::Remove(PeerId(9))));
    }

    #[test]
    fn one_voter_more_or_less_needs_no_joint_membership_but_a_leader_that_goes_does() {
        let one = |change| Some(ConfChange::One(change));
        assert_eq!(next(&actual(&[1, 2, 3], &[]), &wanted(&[1, 2], &[]), &[]), one(PeerChange::Remove(PeerId(3))));
        assert_eq!(
            next(&actual(&[1, 2, 3], &[]), &wanted(&[1, 2], &[3]), &[]),
            one(PeerChange::AddLearner(PeerId(3))),
            "it goes on learning"
        );
        let goes = Some(ConfChange::Enter(vec![PeerChange::Remove(PeerId(1))]));
        assert_eq!(next(&actual(&[1, 2, 3], &[]), &wanted(&[2, 3], &[]), &[]), goes);
        let joint = Membership { voters_outgoing: peers(&[3]), ..actual(&[1, 2], &[]) };
        assert_eq!(next(&joint, &wanted(&[1], &[]), &[]), None);
    }
}
