//! What part a replica plays among the others.

use super::Replica;

impl Replica {
    /// Whether the group has other members than this replica: a lone one needs no ticks and sends nothing.
    pub fn has_others(&self) -> bool {
        self.membership().peers().any(|peer| peer != self.peer())
    }

    /// Gives the leadership up at once: whoever stood still for longer than an election takes cannot know whether it
    /// still leads. Who is alone does know, and leads again in a new term.
    pub fn step_down(&mut self) {
        let term = self.node.raft.term;
        self.node.raft.become_follower(term, 0);
        self.timeout.hold(&mut self.node.raft);
        self.stand_alone();
        self.stand();
    }
}
