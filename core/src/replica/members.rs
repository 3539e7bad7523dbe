//! Changing who belongs to a group.

use raft::{Changer, Error, ProgressState, StateRole};

use super::conf_change::CHANGES_MAX;
use super::{ConfChange, Entry, EntryKind, Membership, NotLeader, PeerChange, Replica};
use crate::types::{PeerId, RaftIndex, RaftTerm};

/// How far a member is, as its leader knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Index of the last entry that it has on disk, as far as it said.
    pub matched: RaftIndex,
    /// Index of the next entry that it is sent.
    pub next: RaftIndex,
    /// What it knows to be committed, as far as it said.
    pub committed: RaftIndex,
    pub is_voter: bool,
    pub is_learner: bool,
    /// It was heard of since the leader last checked its quorum, which is every election timeout.
    pub is_recently_active: bool,
    /// It waits for a snapshot.
    pub is_snapshot_pending: bool,
    /// Nothing is sent to it until it is heard of.
    pub is_paused: bool,
}

/// Why the members were not changed. Nothing has happened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfChangeError {
    #[error(transparent)]
    NotLeader(#[from] NotLeader),
    /// One change after the other: ask again when the one before is applied, and the group is not joint.
    #[error("another change of the members is under way")]
    Pending,
    #[error("the leadership is being handed over")]
    Transferring,
    #[error("the members are so already")]
    NoChange,
    /// It would have to go on without a vote: hand the leadership over first, or go through a joint membership.
    #[error("the leader does not take its own vote away")]
    OfLeader,
    #[error("not a possible change: {0}")]
    Impossible(String),
}

impl Replica {
    pub fn membership(&self) -> &Membership {
        self.node.store().membership()
    }

    /// Index of the entry that made the membership.
    pub fn membership_index(&self) -> RaftIndex {
        self.node.store().membership_index()
    }

    /// Since which entry the voters are those that they are, where that is sure: nothing changes, and every member's log
    /// says that the change was committed. So after a crash a member knows it from its log, if from nothing else.
    pub fn members_settled_at(&self) -> Option<RaftIndex> {
        let is_sure = self.membership().is_settled && !self.is_joint() && !self.node.raft.has_pending_conf();
        is_sure.then(|| self.changed.unwrap_or_else(|| self.membership_index()))
    }

    /// Whether two majorities decide; a leader ends this by itself.
    pub fn is_joint(&self) -> bool {
        self.membership().is_joint()
    }

    /// What this leader knows of every member, itself included.
    pub fn progress(&self) -> impl Iterator<Item = (PeerId, Progress)> + '_ {
        let membership = self.membership();
        let progress = |peer: PeerId| Some((peer, self.node.raft.prs().get(peer.0)?));
        membership.peers().filter_map(progress).map(|(peer, p)| {
            let progress = Progress {
                matched: RaftIndex(p.matched),
                next: RaftIndex(p.next_idx),
                committed: RaftIndex(p.committed_index),
                is_voter: membership.is_voter(peer),
                is_learner: membership.is_learner(peer),
                is_recently_active: p.recent_active || peer == self.peer(),
                is_snapshot_pending: p.state == ProgressState::Snapshot,
                is_paused: p.is_paused(),
            };
            (peer, progress)
        })
    }

    /// Proposes a change of the members. Of a joint group the leader proposes the end by itself, and after every change
    /// an entry that says it is settled.
    pub fn propose_conf_change(&mut self, change: &ConfChange) -> Result<(RaftTerm, RaftIndex), ConfChangeError> {
        self.check(change)?;
        let data = EntryKind::ConfChange(change.clone()).encode();
        let proposed = self.node.propose_conf_change(data, change.to_raft());
        proposed.map_err(|_| NotLeader { term: self.term() })?;
        Ok((self.term(), self.last_index()))
    }

    fn check(&self, change: &ConfChange) -> Result<(), ConfChangeError> {
        if !self.is_leader() {
            return Err(NotLeader { term: self.term() }.into());
        }
        let raft = &self.node.raft;
        if raft.lead_transferee.is_some() {
            return Err(ConfChangeError::Transferring);
        }
        let is_leave = matches!(change, ConfChange::Leave);
        if raft.has_pending_conf() || (self.is_joint() && !is_leave) {
            return Err(ConfChangeError::Pending);
        }
        if change.changes().len() > CHANGES_MAX || change.changes().iter().any(|change| change.peer().0 == 0) {
            return Err(ConfChangeError::Impossible("too many changes, or one of nobody".into()));
        }
        let mut changer = Changer::new(raft.prs());
        let v2 = change.to_raft();
        let changed = match change {
            ConfChange::One(_) => changer.simple(&v2.changes),
            ConfChange::Enter(_) => changer.enter_joint(false, &v2.changes),
            ConfChange::Leave => changer.leave_joint(),
        };
        let (conf, _) = changed.map_err(|e| match e {
            Error::ConfChangeError(reason) => ConfChangeError::Impossible(reason),
            other => ConfChangeError::Impossible(other.to_string()),
        })?;
        let changed = Membership::from_raft(&conf.to_conf_state());
        let is_settled = self.membership().is_settled;
        if *self.membership() == (Membership { is_settled, ..changed.clone() }) {
            return Err(ConfChangeError::NoChange);
        }
        if !changed.is_voter(self.peer()) {
            return Err(ConfChangeError::OfLeader);
        }
        if let ConfChange::Enter(changes) = change {
            let comes_twice = |c: &PeerChange| changes.iter().filter(|other| other.peer() == c.peer()).count() > 1;
            if changes.iter().any(comes_twice) {
                return Err(ConfChangeError::Impossible("a peer is named twice".into()));
            }
        }
        Ok(())
    }

    /// Lets raft know of the conf changes among entries that are committed. A replica that has lost its vote follows.
    pub(super) fn change_membership(&mut self, committed: &[Entry]) -> Option<(RaftIndex, Membership)> {
        let mut is_changed = false;
        for entry in committed.iter().filter(|e| matches!(e.kind, EntryKind::ConfChange(_) | EntryKind::ConfSettled)) {
            // Replayed after a start: the membership given then is at least as new.
            if entry.index <= self.membership_index() {
                continue;
            }
            let membership = match &entry.kind {
                EntryKind::ConfChange(change) => match self.node.apply_conf_change(&change.to_raft()) {
                    Ok(state) => Membership::from_raft(&state),
                    // Refused alike by every replica.
                    Err(_) => continue,
                },
                _ => Membership { is_settled: !self.is_joint(), ..self.membership().clone() },
            };
            if matches!(entry.kind, EntryKind::ConfChange(_)) {
                self.changed = Some(entry.index);
            }
            self.node.mut_store().set_membership(entry.index, membership);
            is_changed = true;
        }
        if !is_changed {
            return None;
        }
        if self.node.raft.state != StateRole::Follower && !self.membership().is_voter(self.peer()) {
            let term = self.node.raft.term;
            self.node.raft.become_follower(term, raft::INVALID_ID);
        }
        self.timeout.hold(&mut self.node.raft);
        self.stand_alone();
        Some((self.membership_index(), self.membership().clone()))
    }

    /// Brings a change of the members to its end: a leader that stays ends a joint membership, one that goes hands the
    /// leadership to one that stays; then the log is told that the change is committed.
    pub(super) fn settle(&mut self) {
        let raft = &self.node.raft;
        let membership = self.node.store().membership();
        if membership.is_settled || !self.is_leader() || raft.has_pending_conf() || raft.lead_transferee.is_some() {
            return;
        }
        if !membership.is_joint() {
            let now = (self.term(), self.membership_index());
            if self.settled != now && self.propose(EntryKind::ConfSettled).is_ok() {
                self.settled = now;
            }
        } else if membership.voters.contains(&self.peer()) {
            // Refused at worst: then the next tick tries again.
            drop(self.propose_conf_change(&ConfChange::Leave));
        } else if let Some(heir) = self.heir() {
            self.transfer_leader(heir);
        }
    }

    /// Of those who stay and know of the change (who does not would not stand), the one with the longest log.
    fn heir(&self) -> Option<PeerId> {
        let stays = |peer: &PeerId| self.membership().voters.contains(peer);
        let knows = |p: &Progress| p.is_recently_active && p.committed >= self.membership_index();
        let heirs = self.progress().filter(|(peer, p)| stays(peer) && knows(p));
        heirs.max_by_key(|(peer, p)| (p.matched, std::cmp::Reverse(*peer))).map(|(peer, _)| peer)
    }
}
