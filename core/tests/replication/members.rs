//! Who changes the members: a controller that knows the newest leader, and forgets nothing.

use millstream_core::replica::{BIRTH, ConfChange, ConfChangeError, Membership, PeerChange};
use millstream_core::types::{LogMark, PeerId};

use super::cluster::{Cluster, Event, Faults};
use super::moves::next_towards;
use super::node::{Crash, Node};

/// Replicas that ever were.
const NODES_MAX: usize = 18;
/// How far behind a learner may be that gets a vote.
const NEAR: u64 = 10;

impl Cluster {
    pub(super) fn change(&mut self) {
        if !self.story.changes {
            return;
        }
        let next = 50 + self.chance.below(600);
        self.at(next, Event::Change);
        let Some(leader) = self.leader() else { return };
        let membership = self.membership(leader).clone();
        if membership.peers().any(|peer| self.nodes[self.place(peer)].is_held()) {
            // Its vote may be needed: it gets its log first.
            return;
        }
        if self.chance.percent(20) {
            let heir = self.chance.pick(&membership.voters).expect("there are voters");
            let replica = self.nodes[leader].replica.as_mut().expect("it leads");
            replica.transfer_leader(heir);
            return self.work(leader);
        }
        self.want_members(&membership);
        let Some(change) = self.next_change(leader, &membership) else { return };
        let replica = self.nodes[leader].replica.as_mut().expect("it leads");
        match replica.propose_conf_change(&change) {
            Ok(_) => {
                self.changes += 1;
                let removed = |c: &PeerChange| if let PeerChange::Remove(peer) = c { Some(*peer) } else { None };
                self.leaving.extend(change.changes().iter().filter_map(removed));
                self.work(leader);
            }
            Err(ConfChangeError::Impossible(reason)) => panic!("{change:?} of {membership:?}: {reason}"),
            Err(_) => {}
        }
    }

    /// The replicas of those who were removed are deleted as soon as the log says that the change is settled; the disks of
    /// some are there, and may get a replica again. At times that is when the power fails, and who led comes back last.
    pub(super) fn delete_who_left(&mut self, leader: usize) {
        let membership = self.membership(leader).clone();
        if !membership.is_settled {
            return;
        }
        let left: Vec<PeerId> =
            self.leaving.iter().copied().filter(|left| membership.peers().all(|p| p != *left)).collect();
        let is_bad_moment = self.story.faults == Faults::All && !left.is_empty() && self.chance.percent(20);
        for peer in left {
            self.leaving.remove(&peer);
            let node = self.place(peer);
            if !self.nodes[node].is_gone {
                self.crash(node, Crash::Kill);
                let replica = self.nodes[leader].replica.as_ref().filter(|_| self.chance.percent(50));
                let settled_at = replica.and_then(|replica| Some((replica.term(), replica.members_settled_at()?)));
                if let Some((term, index)) = settled_at {
                    self.delete(node, LogMark { term, index });
                } else {
                    self.nodes[node].is_gone = true;
                }
            }
        }
        let all = (0..self.nodes.len()).filter(|node| is_bad_moment && !self.nodes[*node].is_gone);
        for node in all.collect::<Vec<_>>() {
            self.crash(node, Crash::Power);
            let lasts = if node == leader { 5_000 } else { 50 + self.chance.below(500) };
            self.at(lasts, Event::Restart(node));
        }
    }

    fn delete(&mut self, node: usize, since: LogMark) {
        let founders = self.checks.founders.clone();
        self.nodes[node].delete(&founders, since);
        self.returned += 1;
        let lasts = self.chance.below(300);
        self.at(lasts, Event::Restart(node));
    }

    fn next_change(&mut self, leader: usize, membership: &Membership) -> Option<ConfChange> {
        let is_gone = |peer: &PeerId| self.nodes[peer.0 as usize - 1].is_gone;
        let (lost_voter, lost_learner) =
            (membership.voters.iter().copied().find(is_gone), membership.learners.iter().copied().find(is_gone));
        let replica = self.nodes[leader].replica.as_ref().expect("it leads");
        let is_near = |peer: PeerId, matched: u64| !is_gone(&peer) && matched + NEAR >= replica.last_index().0;
        let near = replica.progress().find(|(peer, p)| p.is_learner && is_near(*peer, p.matched.0));
        let near = near.map(|(peer, _)| peer);
        let one = |change| Some(ConfChange::One(change));
        if let Some(lost) = lost_learner {
            return one(PeerChange::Remove(lost));
        }
        if let Some(lost) = lost_voter {
            return match near {
                Some(near) => Some(ConfChange::Enter(vec![PeerChange::AddVoter(near), PeerChange::Remove(lost)])),
                None if membership.learners.is_empty() => self.newcomer(membership).and_then(one),
                None => None,
            };
        }
        if let Some(wanted) = &self.wanted {
            let replica = self.nodes[leader].replica.as_ref().expect("it leads");
            return next_towards(wanted, membership, |peer| {
                replica.progress().any(|(learner, p)| learner == peer && is_near(peer, p.matched.0))
            });
        }
        let (count, own) = (membership.voters.len(), self.nodes[leader].peer);
        let some = self.chance.pick(&membership.voters)?;
        match (self.chance.below(10), near) {
            (0..3, Some(near)) if count < 5 => one(PeerChange::AddVoter(near)),
            (0..6, Some(near)) => Some(ConfChange::Enter(vec![PeerChange::AddVoter(near), PeerChange::Remove(some)])),
            (6, _) if count > 1 && some != own => one(PeerChange::Remove(some)),
            (7, _) if count > 2 => Some(ConfChange::Enter(vec![PeerChange::Remove(some)])),
            (8, _) if count > 2 && membership.learners.len() < 2 => {
                let mut changes = vec![PeerChange::AddLearner(some)];
                changes.extend(near.map(PeerChange::AddVoter));
                Some(ConfChange::Enter(changes))
            }
            (9, Some(near)) => one(PeerChange::Remove(near)),
            _ => self.newcomer(membership).and_then(one),
        }
    }

    /// A replica with an empty disk, under a peer id that was never used.
    fn newcomer(&mut self, membership: &Membership) -> Option<PeerChange> {
        if membership.learners.len() >= 2 {
            return None;
        }
        self.idle(membership, &[]).map(PeerChange::AddLearner)
    }

    pub(super) fn idle(&mut self, membership: &Membership, taken: &[PeerId]) -> Option<PeerId> {
        // One whose coming was forgotten with the leader that proposed it has not begun yet, for anybody; or one that was
        // deleted.
        let is_member = |peer: PeerId| membership.peers().any(|p| p == peer) || self.leaving.contains(&peer);
        let is_idle =
            |n: &&Node| !n.is_gone && n.log.last().0 <= BIRTH.0 && !is_member(n.peer) && !taken.contains(&n.peer);
        if let Some(idle) = self.nodes.iter().find(is_idle) {
            return Some(idle.peer);
        }
        if self.nodes.len() >= NODES_MAX {
            return None;
        }
        let peer = PeerId(self.nodes.len() as u64 + 1);
        self.nodes.push(Node::empty(peer));
        self.begin(self.nodes.len() - 1);
        Some(peer)
    }
}
