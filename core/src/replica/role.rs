//! What part a replica plays among the others.

use super::Replica;
use crate::types::{PeerId, RaftIndex};

/// How far another member is, as the leader knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    pub peer: PeerId,
    /// It has everything up to here on disk.
    pub matched: RaftIndex,
    /// Its word counts in elections and commits.
    pub is_voter: bool,
}

impl Replica {
    /// Whether the group has other members than this replica: a lone one needs no ticks and sends nothing.
    pub fn has_others(&self) -> bool {
        let own = self.node.raft.id;
        self.node.raft.prs().iter().any(|(id, _)| *id != own)
    }

    /// How far each member is, this one included. Only a leader knows.
    pub fn progress(&self) -> impl Iterator<Item = Progress> + '_ {
        let tracker = self.node.raft.prs();
        tracker.iter().map(|(id, progress)| Progress {
            peer: PeerId(*id),
            matched: RaftIndex(progress.matched),
            is_voter: tracker.conf().voters().contains(*id),
        })
    }

    /// Gives the leadership up at once: whoever stood still for longer than an election takes cannot know whether it
    /// still leads.
    pub fn step_down(&mut self) {
        let term = self.node.raft.term;
        self.node.raft.become_follower(term, 0);
        self.timeout.hold(&mut self.node.raft);
    }
}
