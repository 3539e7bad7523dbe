//! Moves: replicas leave a node that is decommissioned, or all of them go to other nodes at once.

use millstream_core::replica::{ConfChange, Membership, PeerChange};
use millstream_core::types::PeerId;

use super::cluster::Cluster;

impl Cluster {
    /// Now and then the voters shall be elsewhere, until they are, or that is taken back.
    pub(super) fn want_members(&mut self, membership: &Membership) {
        if let Some(wanted) = &self.wanted {
            let is_there =
                wanted.len() == membership.voters.len() && wanted.iter().all(|p| membership.voters.contains(p));
            let is_any_lost = wanted.iter().any(|peer| self.nodes[self.place(*peer)].is_gone);
            self.moved += usize::from(is_there);
            if is_there || is_any_lost || self.chance.percent(3) {
                self.wanted = None;
            }
        } else if membership.is_settled && self.chance.percent(15) {
            let all = membership.voters.clone();
            let leaving = self.chance.pick(&all).filter(|_| self.chance.percent(60));
            let mut wanted: Vec<PeerId> = all.iter().copied().filter(|p| leaving.is_some_and(|l| l != *p)).collect();
            while wanted.len() < all.len() {
                let Some(newcomer) = self.idle(membership, &wanted) else { return };
                wanted.push(newcomer);
            }
            self.wanted = Some(wanted);
        }
    }
}

/// Who comes learns first; when all are near, they and those who leave change places in one step.
pub fn next_towards(
    wanted: &[PeerId],
    membership: &Membership,
    is_near: impl Fn(PeerId) -> bool,
) -> Option<ConfChange> {
    if let Some(newcomer) = wanted.iter().find(|peer| membership.peers().all(|member| member != **peer)) {
        return Some(ConfChange::One(PeerChange::AddLearner(*newcomer)));
    }
    let come = wanted.iter().copied().filter(|peer| !membership.voters.contains(peer));
    let leave = membership.voters.iter().copied().filter(|peer| !wanted.contains(peer));
    if !come.clone().all(is_near) {
        return None;
    }
    let changes: Vec<PeerChange> = come.map(PeerChange::AddVoter).chain(leave.map(PeerChange::Remove)).collect();
    (!changes.is_empty()).then_some(ConfChange::Enter(changes))
}
